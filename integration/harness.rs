//! The harness itself, on a containerd with its own overlayfs: what the other programs stand on.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::ffi::OsStr;
use std::path::PathBuf;

use support::containerd::{Containerd, Version};
use support::image::{debian, small};
use support::layout::Layout;
use support::scratch::Scratch;
use support::tree::{Tree, confused};

/// Runs a container on overlayfs, and leaves everything for the scratch to end.
fn overlayfs(version: Version) {
    let scratch = Scratch::new();
    let dir = scratch.path().to_owned();
    {
        let place = Layout::Ext4.make(&scratch);
        let run = scratch.dir("run");
        let root = place.filesystem.join("containerd");
        let mut containerd = Containerd::new(version, &run, &root, &run.join("nobody.sock"));
        containerd.start();
        containerd.import("overlayfs", &small().archive);
        let image = small().name;
        containerd.ctr(&["run", "-d", "--snapshotter", "overlayfs", &image, "one", "sleep", "1000"]);
        assert_eq!(containerd.exec("one", &["echo", "hello"]), "hello");
        let root = PathBuf::from(format!("/proc/{}/root", containerd.pid_of("one")));
        let tree = Tree::read(&root);
        assert!(tree.get("bin/busybox").is_some());
        tree.assert_same(&Tree::read(&root), "one tree, read twice");
        assert_eq!(confused(&root), Vec::<String>::new());
    }
    drop(scratch);
    assert!(!dir.exists(), "{} stays", dir.display());
}

#[test]
fn debians_containerd_runs_a_container_and_nothing_stays() {
    overlayfs(Version::Debian);
}

#[test]
fn the_current_containerd_runs_a_container_and_nothing_stays() {
    overlayfs(Version::Current);
}

#[test]
fn filesystems_are_made_and_nothing_stays() {
    for layout in Layout::ALL {
        let scratch = Scratch::new();
        let dir = scratch.path().to_owned();
        let place = layout.make(&scratch);
        assert_eq!(place.pool.is_some(), layout == Layout::Ext4Pool);
        assert!(!scratch.mounts().is_empty());
        drop(scratch);
        assert!(!dir.exists(), "{} stays", dir.display());
    }
}

/// All that an image's layers hold arrives, as overlayfs shows it.
#[test]
fn the_debian_image_holds_what_a_layer_can_hold() {
    let scratch = Scratch::new();
    let place = Layout::Ext4.make(&scratch);
    let run = scratch.dir("run");
    let root = place.filesystem.join("containerd");
    let mut containerd = Containerd::new(Version::Current, &run, &root, &run.join("nobody.sock"));
    containerd.start();
    containerd.import("overlayfs", &debian().archive);
    let target = scratch.dir("tree");
    let image = debian().name;
    containerd.ctr(&["images", "mount", "--snapshotter", "overlayfs", &image, target.to_str().unwrap()]);
    let tree = Tree::read(&target);
    let entry = |path: &str| tree.get(path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(entry("srv/odd/setuid").mode & 0o7777, 0o6755);
    assert_eq!(entry("srv/odd/third").linked, Some("srv/odd/first".into()));
    assert_eq!(entry("srv/odd/nanoseconds").modified, (1_234_567_890, 123_456_789));
    assert_eq!(entry("srv/odd/xattr").xattrs[OsStr::new("user.loom")], b"kept");
    assert_eq!(entry("srv/odd/capability").xattrs.len(), 1);
    assert!(tree.get("etc/issue").is_none());
    assert!(tree.get("usr/share/doc").is_none());
    assert!(tree.get("etc/issue.net/now-a-directory").is_some());
    let licenses = |path: &&PathBuf| path.starts_with("usr/share/common-licenses");
    assert_eq!(tree.entries.keys().filter(licenses).count(), 2);
}
