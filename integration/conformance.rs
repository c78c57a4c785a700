//! containerd's own suite for snapshotters, on every layout: over loomd's socket with a fresh daemon
//! for each of its subtests, and through a real containerd.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::containerd::{Version, tools};
use support::layout::Layout;
use support::process::finish;
use support::scratch::Scratch;
use support::stage::Stage;

/// The suite's subtests; one of them, Rename, is passed or skipped by what the mounts can do.
const SUBTESTS: usize = 21;

/// Runs one of the Go program's tests and counts its subtests.
fn suite(test: &str, temporary: PathBuf, env: &[(&str, PathBuf)]) {
    let mut command = Command::new(tools().join("conformance"));
    command
        .args(["-test.v", "-test.root", "-test.parallel=4", "-test.timeout=10m"])
        .arg(format!("-test.run=^{test}$"))
        .current_dir(&temporary)
        .env("TMPDIR", &temporary)
        .envs(env.iter().map(|(name, value)| (*name, value)));
    let output = finish(&mut command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    let subtests = |verdict: &str| -> Vec<String> {
        let start = format!("    --- {verdict}: {test}/");
        let of = text.lines().filter_map(|line| line.strip_prefix(&start));
        of.filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect()
    };
    let (passed, skipped, failed) = (subtests("PASS"), subtests("SKIP"), subtests("FAIL"));
    assert!(output.status.success(), "{failed:?} failed\n{text}\n{error}");
    assert!(skipped.iter().all(|name| name == "Rename"), "skipped: {skipped:?}\n{text}");
    assert_eq!(passed.len() + skipped.len(), SUBTESTS, "{text}");
}

fn direct(layout: Layout) {
    let scratch = Scratch::new();
    let place = layout.make(&scratch);
    let temporary = place.filesystem.join("t");
    std::fs::create_dir(&temporary).unwrap();
    let mut env = vec![("LOOMD", PathBuf::from(env!("CARGO_BIN_EXE_loomd")))];
    if let Some(pool) = &place.pool {
        env.push(("LOOM_POOL_BASE", pool.clone()));
    }
    suite("TestDirect", temporary, &env);
}

#[test]
fn direct_on_ext4() {
    direct(Layout::Ext4);
}

#[test]
fn direct_on_xfs() {
    direct(Layout::Xfs);
}

#[test]
fn direct_on_btrfs() {
    direct(Layout::Btrfs);
}

#[test]
fn direct_with_a_pool() {
    direct(Layout::Ext4Pool);
}

fn through(layout: Layout, version: Version) {
    let stage = Stage::new(layout, version);
    let temporary = stage.scratch.dir("t");
    suite("TestContainerd", temporary, &[("CONTAINERD_ADDRESS", stage.containerd.socket())]);
}

#[test]
fn through_debians_containerd_with_a_pool() {
    through(Layout::Ext4Pool, Version::Debian);
}

#[test]
fn through_the_current_containerd_on_ext4() {
    through(Layout::Ext4, Version::Current);
}

#[test]
fn through_the_current_containerd_with_a_pool() {
    through(Layout::Ext4Pool, Version::Current);
}

/// What the suite says of containerd's own overlayfs, in the same surroundings: where this fails, the
/// surroundings are wrong, not loom.
#[test]
fn through_the_current_containerd_on_its_own_overlayfs() {
    let mut stage = Stage::prepared(Layout::Ext4, Version::Current);
    stage.containerd.start();
    let temporary = stage.scratch.dir("t");
    let socket = stage.containerd.socket();
    let env = [("CONTAINERD_ADDRESS", socket), ("SNAPSHOTTER", PathBuf::from("overlayfs"))];
    suite("TestContainerd", temporary, &env);
}
