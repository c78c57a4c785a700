//! Every kind of file, made in a running container, is in a fork, and in a clone of a snapshot, what it
//! was in the container: with each way of putting a tree in a second place. What compares is a walk that
//! shares nothing with loom's own.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use support::containerd::{Containerd, Version};
use support::image::debian;
use support::kinds::{HUGE, SPARSE, change_image, huge_holes, make_all};
use support::layout::Layout;
use support::process::run;
use support::stage::Stage;
use support::tree::Tree;

/// The root of a running container, as it sees it.
fn root(containerd: &Containerd, container: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", containerd.pid_of(container)))
}

/// The bytes that are used on the filesystem at a path.
fn used(path: &Path) -> u64 {
    rustix::fs::syncfs(File::open(path).unwrap()).unwrap();
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

fn assert_all_there(stage: &Stage, container: &str, expected: &Tree) {
    let root = root(&stage.containerd, container);
    expected.assert_same(&Tree::read(&root), container);
    let at = |name: &str| root.join("srv/kinds").join(name);
    // What the walk leaves out, and what another tool says of the rest.
    for (name, size) in [("sparse", SPARSE), ("huge", HUGE), ("all hole", 1 << 20)] {
        let meta = fs::metadata(at(name)).unwrap();
        assert_eq!(meta.size(), size, "{name}");
        assert!(meta.blocks() * 512 < 1 << 20, "{name} has {} blocks in {container}", meta.blocks());
    }
    let dir = at("directory with attributes");
    assert_eq!(xattr::get(&dir, "trusted.overlay.opaque").unwrap().as_deref(), Some(b"y".as_slice()));
    let said = run("getcap", &[at("capable")]);
    assert!(said.ends_with("cap_net_raw,cap_sys_admin=ep") && said.contains("cap_sys_admin"), "{said}");
    let said = run("getfacl", &[OsStr::new("-npc"), dir.as_os_str()]);
    for line in ["user:1234:rwx", "default:user:77:rw-", "default:group:88:---", "default:other::---"] {
        assert!(said.lines().any(|found| found.starts_with(line)), "{line} is not in {container}:\n{said}");
    }
    // The container itself sees it too.
    let look = "test \"$(cat '/srv/kinds/other/directory/third name')\" = content && test ! -e /srv/many/1";
    stage.containerd.exec(container, &["sh", "-c", look]);
}

fn no_error(answer: &Value, of: &Value) {
    assert_eq!(of["error"], Value::Null, "{answer}");
}

fn kinds(layout: Layout, method: &str) {
    let stage = Stage::new(layout, Version::Current);
    let image = stage.import(&debian());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"]);
    let origin = root(&stage.containerd, "origin");
    change_image(&origin);
    make_all(&origin.join("srv/kinds"));
    huge_holes(&origin.join("srv/kinds"));
    let was = Tree::read(&origin);
    let home = stage.place.pool.clone().unwrap_or_else(|| stage.place.root.clone());
    let before = used(&home);

    let forked = stage.loom_json(&["fork", "origin", "--name", "fork"]);
    no_error(&forked, &forked["forks"][0]);
    assert_eq!(forked["cost"]["method"], method);
    assert_all_there(&stage, "fork", &was);

    let taken = stage.loom_json(&["snapshot", "origin", "--name", "state"]);
    assert_eq!(taken["cost"]["method"], method);
    let grown = used(&home).saturating_sub(before);
    assert!(grown < 128 << 20, "two copies of the state took {grown} bytes");

    // Neither the fork nor the snapshot knows what becomes of the other two.
    fs::remove_dir_all(origin.join("srv/many")).unwrap();
    fs::write(origin.join("srv/kinds/file"), "CONTENT").unwrap();
    let of_fork = root(&stage.containerd, "fork");
    fs::write(of_fork.join("srv/kinds/file"), "changed").unwrap();
    fs::remove_file(of_fork.join("srv/kinds/fifo")).unwrap();
    let of_fork_was = Tree::read(&of_fork);
    for clone in ["first", "second"] {
        let cloned = stage.loom_json(&["clone", "state", "--name", clone]);
        no_error(&cloned, &cloned["clone"]);
        assert_all_there(&stage, clone, &was);
    }
    of_fork_was.assert_same(&Tree::read(&of_fork), "the fork after all that");
    assert_eq!(fs::read(origin.join("srv/kinds/file")).unwrap(), b"CONTENT");

    // And all of it can be removed again.
    for container in ["origin", "fork", "first", "second"] {
        stage.containerd.ctr(&["tasks", "rm", "-f", container]);
        stage.containerd.ctr(&["containers", "rm", container]);
    }
    stage.loom_json(&["rm", "state"]);
    stage.containerd.ctr(&["images", "rm", "--sync", &image]);
    stage.wait_until_empty();
}

#[test]
fn copied_on_ext4() {
    kinds(Layout::Ext4, "copy");
}

#[test]
fn reflinked_on_xfs() {
    kinds(Layout::Xfs, "reflink");
}

#[test]
fn reflinked_on_btrfs() {
    kinds(Layout::Btrfs, "reflink");
}

#[test]
fn as_a_subvolume_in_a_pool() {
    kinds(Layout::Ext4Pool, "subvolume");
}
