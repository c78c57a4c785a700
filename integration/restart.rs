//! loomd stops, or dies, under running containers and under clients: containers run on, the next
//! request is answered, and the directories agree with what loomd says.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::containerd::{Containerd, Version};
use support::image::small;
use support::layout::Layout;
use support::stage::Stage;
use support::wait::{wait_until, wait_until_none};

/// How loomd ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Terminate,
    Kill,
}

fn end(stage: &mut Stage, how: End) {
    let status = match how {
        End::Terminate => stage.loomd.stop(),
        End::Kill => stage.loomd.kill(),
    };
    let status = status.expect("loomd ran");
    if matches!(how, End::Terminate) {
        assert!(status.success(), "SIGTERM is a normal end, not {status}");
    }
}

/// What `loom ls` says, what containerd says and what lies on disk is the same.
fn assert_agreement(stage: &Stage) {
    stage.collect();
    wait_until_none("differences", || {
        let rows = stage.loom_json(&["ls", "--all"]);
        let rows = rows.as_array().unwrap();
        let listed: BTreeSet<String> = rows
            .iter()
            .filter_map(|row| row["key"].as_str()?.splitn(3, '/').nth(2).map(ToOwned::to_owned))
            .collect();
        let theirs: BTreeSet<String> = stage.containerd.snapshots("loom").into_iter().collect();
        let mut found: Vec<String> = listed
            .symmetric_difference(&theirs)
            .map(|key| format!("{key}: containerd and loom do not agree on it"))
            .collect();
        // Nothing was branched here: each snapshot has a layer of its own.
        let layers = stage.place.layers().len();
        let standing = rows.iter().filter(|row| !row["home"].is_null()).count();
        let status = stage.loom_json(&["status"]);
        if layers != standing || status["layers"] != layers {
            found.push(format!("{standing} snapshots, {layers} directories, {status}"));
        }
        found.extend(stage.place.trash().iter().map(|path| path.display().to_string()));
        found
    });
}

/// The key of the image's one layer.
fn committed(containerd: &Containerd) -> String {
    let keys = containerd.snapshots("loom");
    keys.into_iter().find(|key| key.starts_with("sha256:")).unwrap()
}

/// The number that a container counts up in a file, seen from outside.
fn count(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/root/root/count");
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn assert_counts(pids: &[u32]) {
    for pid in pids {
        let before = count(*pid);
        wait_until("a container to count on", || count(*pid) > before);
    }
}

fn under_containers(layout: Layout, version: Version) {
    const COUNT: &str =
        "n=0; while :; do n=$((n+1)); echo $n >/root/new; mv /root/new /root/count; sleep 0.05; done";
    let mut stage = Stage::new(layout, version);
    let image = stage.import(&small());
    let pids: Vec<u32> = ["one", "two", "three"]
        .iter()
        .map(|name| {
            let containerd = &stage.containerd;
            containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, name, "sh", "-c", COUNT]);
            containerd.pid_of(name)
        })
        .collect();
    for how in [End::Terminate, End::Kill] {
        end(&mut stage, how);
        assert_counts(&pids);
        assert_eq!(stage.containerd.exec("two", &["echo", "alive"]), "alive", "without loomd");
        stage.start_again();
        // The very next command.
        let said =
            stage.containerd.ctr(&["run", "--rm", "--snapshotter", "loom", &image, "next", "echo", "works"]);
        assert_eq!(said, "works", "after {how:?}");
        assert_counts(&pids);
        assert_agreement(&stage);
    }
    for name in ["one", "two", "three"] {
        stage.containerd.ctr(&["tasks", "rm", "-f", name]);
        stage.containerd.ctr(&["containers", "rm", name]);
    }
    stage.containerd.ctr(&["images", "rm", "--sync", &image]);
    stage.wait_until_empty();
}

#[test]
fn under_containers_on_ext4_with_debians_containerd() {
    under_containers(Layout::Ext4, Version::Debian);
}

#[test]
fn under_containers_on_ext4_with_the_current_containerd() {
    under_containers(Layout::Ext4, Version::Current);
}

#[test]
fn under_containers_with_a_pool_and_debians_containerd() {
    under_containers(Layout::Ext4Pool, Version::Debian);
}

#[test]
fn under_containers_with_a_pool_and_the_current_containerd() {
    under_containers(Layout::Ext4Pool, Version::Current);
}

/// Ends loomd in the middle of 32 clients' Prepares. What was answered is there afterwards; of the
/// rest nothing stays half done.
fn under_prepares(layout: Layout, how: End) {
    const CLIENTS: usize = 32;
    let mut stage = Stage::new(layout, Version::Current);
    let image = stage.import(&small());
    let parent = committed(&stage.containerd);

    let answered = Mutex::new(Vec::new());
    let ended = AtomicUsize::new(0);
    let Stage { containerd, loomd, .. } = &mut stage;
    let containerd = &*containerd;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (answered, ended, parent) = (&answered, &ended, &parent);
            scope.spawn(move || {
                for turn in 0..1000 {
                    let key = format!("client-{client}-{turn}");
                    let args = ["snapshots", "--snapshotter", "loom", "prepare", &key, parent];
                    if !containerd.try_ctr(&args).status.success() {
                        break; // loomd is gone.
                    }
                    answered.lock().unwrap().push(key);
                }
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        wait_until("some answers", || answered.lock().unwrap().len() >= CLIENTS);
        assert_eq!(ended.load(Ordering::SeqCst), 0, "no client failed before");
        match how {
            End::Terminate => loomd.stop(),
            End::Kill => loomd.kill(),
        };
    });
    let answered = answered.into_inner().unwrap();

    stage.start_again();
    let said =
        stage.containerd.ctr(&["run", "--rm", "--snapshotter", "loom", &image, "next", "echo", "works"]);
    assert_eq!(said, "works", "after {how:?}");
    let there: BTreeSet<String> = stage.containerd.snapshots("loom").into_iter().collect();
    let lost: Vec<&String> = answered.iter().filter(|key| !there.contains(*key)).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    assert_agreement(&stage);
    // One that was answered can be mounted.
    let place = stage.scratch.dir("answered");
    stage.containerd.mount("loom", &answered[0], &place);
    assert!(place.join("bin/busybox").exists());
    support::process::run("umount", &[&place]);
    for key in there.iter().filter(|key| key.starts_with("client-")) {
        stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "rm", key]);
    }
    stage.containerd.ctr(&["images", "rm", "--sync", &image]);
    stage.wait_until_empty();
}

#[test]
fn terminated_under_prepares_on_ext4() {
    under_prepares(Layout::Ext4, End::Terminate);
}

#[test]
fn killed_under_prepares_on_ext4() {
    under_prepares(Layout::Ext4, End::Kill);
}

#[test]
fn terminated_under_prepares_with_a_pool() {
    under_prepares(Layout::Ext4Pool, End::Terminate);
}

#[test]
fn killed_under_prepares_with_a_pool() {
    under_prepares(Layout::Ext4Pool, End::Kill);
}
