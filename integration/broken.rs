//! Surroundings that are broken: another daemon on the root, a pool that is none, a database that is
//! damaged, a disk that is full, a containerd that is dead or says nothing. What is refused is refused
//! with a reason and changes nothing; what was there is there afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::Signal;

use support::containerd::{Version, socket};
use support::image::small;
use support::layout::{Layout, Place};
use support::loom::try_loom;
use support::loomd::Loomd;
use support::process::{run, said};
use support::scratch::{Filesystem, Scratch};
use support::stage::Stage;
use support::tree::digest;
use support::wait::{DEADLINE, wait_until};

const NO_SPACE: i32 = 8;

/// Starts a daemon that must not come up, and returns what it says.
fn fails_to_start(loomd: &mut Loomd) -> String {
    let before = loomd.log().len();
    loomd.spawn();
    wait_until("loomd to refuse", || !loomd.daemon().is_running());
    let status = loomd.stop().unwrap();
    assert_eq!(status.code(), Some(1), "{}", loomd.log());
    loomd.log()[before..].to_owned()
}

/// `said` names all of these things.
fn names(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

/// The files below a directory with their digests; without those that a start rewrites by itself.
fn files(root: &Path) -> BTreeMap<PathBuf, Option<String>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                todo.push(path.clone());
                found.insert(path, None);
            } else if !["lock", "loom.db-wal", "loom.db-shm"].contains(&name) {
                let digest = digest(&path);
                found.insert(path, Some(digest));
            }
        }
    }
    found
}

/// A loomd without containerd that has a committed and an active snapshot.
fn with_snapshots(layout: Layout) -> Stage {
    let mut stage = Stage::prepared(layout, Version::Current);
    stage.loomd.start();
    let doors = stage.doors();
    doors.prepare("default/1/first", "", &[]).unwrap();
    fs::write(doors.upper("default/1/first").unwrap().join("file"), "content").unwrap();
    doors.commit("default/2/base", "default/1/first", &[]).unwrap();
    doors.prepare("default/3/active", "default/2/base", &[]).unwrap();
    fs::write(doors.upper("default/3/active").unwrap().join("file"), "changed").unwrap();
    stage
}

/// All of that is still there.
fn assert_snapshots(stage: &Stage) {
    let doors = stage.doors();
    assert_eq!(doors.list().unwrap(), ["default/2/base", "default/3/active"]);
    let active = doors.upper("default/3/active").unwrap();
    assert_eq!(fs::read_to_string(active.join("file")).unwrap(), "changed");
    doors.view("default/4/view", "default/2/base").unwrap();
    let base = doors.upper("default/4/view").unwrap();
    assert_eq!(fs::read_to_string(base.join("file")).unwrap(), "content");
    doors.remove("default/4/view").unwrap();
}

#[test]
fn a_second_daemon_is_refused() {
    let mut stage = with_snapshots(Layout::Ext4);
    let pid = stage.loomd.daemon().pid();
    let other = stage.scratch.dir("other");
    let nowhere = socket(&other);
    let mut second = Loomd::new(&other, &stage.place, &nowhere);
    let said = fails_to_start(&mut second);
    names(&said, &[&format!("pid {pid}"), stage.place.root.to_str().unwrap(), "--root"]);

    // Nor may one with a root of its own take the first one's sockets.
    let root = stage.place.filesystem.join("other");
    let mut third = Loomd::new(&other, &Place { root, ..stage.place.clone() }, &nowhere);
    third.state.clone_from(&stage.loomd.state);
    let said = fails_to_start(&mut third);
    names(&said, &[stage.loomd.socket().to_str().unwrap(), "--state"]);
    assert!(stage.loomd.daemon().is_running());
    assert_snapshots(&stage);
}

#[test]
fn a_pool_that_is_none_is_refused() {
    let scratch = Scratch::new();
    let filesystem = scratch.filesystem("fs", Filesystem::Btrfs, 1);
    let refused = |name: &str, pool: PathBuf, parts: &[&str]| {
        let run = scratch.dir(name);
        let place =
            Place { filesystem: filesystem.clone(), root: filesystem.join(name), pool: Some(pool.clone()) };
        let said = fails_to_start(&mut Loomd::new(&run, &place, &socket(&run)));
        names(&said, &["pool", pool.to_str().unwrap()]);
        names(&said, parts);
        assert!(!pool.join("layers").exists() && !pool.join("trash").exists());
    };
    let ext4 = scratch.filesystem("ext4", Filesystem::Ext4, 1);
    refused("one", ext4, &["ext4", "btrfs", "pool.path"]);
    let same = filesystem.join("pool");
    run("btrfs", &["subvolume", "create", same.to_str().unwrap()]);
    refused("two", same, &["the root", "another btrfs"]);
    refused("three", scratch.path().join("missing"), &["does not exist"]);
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    refused("four", file, &["not a directory"]);
}

#[test]
fn a_pool_that_is_away_is_waited_for() {
    let mut stage = with_snapshots(Layout::Ext4Pool);
    stage.loomd.stop();
    let pool = stage.place.pool.clone().unwrap();
    let mounted = pool.parent().unwrap().to_str().unwrap().to_owned();
    let image = format!("{mounted}.img");
    let before = files(&stage.place.root);

    run("umount", &[&mounted]);
    let said = fails_to_start(&mut stage.loomd);
    names(&said, &[pool.to_str().unwrap(), "mount"]);
    // Nor with the empty directory below the mount.
    fs::create_dir(&pool).unwrap();
    let said = fails_to_start(&mut stage.loomd);
    names(&said, &[pool.to_str().unwrap(), "mount"]);
    assert_eq!(fs::read_dir(&pool).unwrap().count(), 0);
    fs::remove_dir(&pool).unwrap();
    // Nor without it.
    let run_dir = stage.scratch.dir("other");
    let place = Place { pool: None, ..stage.place.clone() };
    let said = fails_to_start(&mut Loomd::new(&run_dir, &place, &socket(&run_dir)));
    names(&said, &["pool.path"]);
    assert_eq!(files(&stage.place.root), before);

    run("mount", &["-o", "loop", &image, &mounted]);
    stage.loomd.start();
    assert_snapshots(&stage);
}

#[test]
fn a_damaged_database_is_refused_and_left_alone() {
    let mut stage = with_snapshots(Layout::Ext4);
    stage.loomd.stop();
    let path = stage.place.root.join("loom.db");
    let good = fs::read(&path).unwrap();
    let mut torn = good.clone();
    let half = torn.len() / 2;
    torn[100..half].fill(0xa5);
    let mut foreign = good.clone();
    foreign[68..72].copy_from_slice(b"none"); // The application's id.
    let damages = [
        ("text", b"this is no database\n".repeat(1000)),
        ("torn", torn),
        ("cut", good[..half].to_vec()),
        ("foreign", foreign),
    ];
    for (damage, bytes) in damages {
        fs::write(&path, &bytes).unwrap();
        let before = files(&stage.place.root);
        let said = fails_to_start(&mut stage.loomd);
        names(&said, &[path.to_str().unwrap()]);
        assert!(fs::read(&path).unwrap() == bytes, "{damage}: the file was changed");
        assert!(files(&stage.place.root) == before, "{damage}: something was changed");
    }
    fs::write(&path, &good).unwrap();
    stage.loomd.start();
    assert_snapshots(&stage);

    // A database that is gone is not made anew over layers that hold something.
    stage.loomd.stop();
    fs::remove_file(&path).unwrap();
    let layers = stage.place.layers();
    let said = fails_to_start(&mut stage.loomd);
    names(&said, &["loom.db", stage.place.root.to_str().unwrap()]);
    // What holds committed bytes is not touched.
    let sealed = layers.iter().filter(|layer| layer.join("layer.json").exists());
    for layer in sealed {
        assert_eq!(fs::read_to_string(layer.join("fs/file")).unwrap(), "content");
    }
}

/// Takes all the room of a filesystem: blocks by allocation, the rest by writing.
fn fill(filesystem: &Path) -> PathBuf {
    let ballast = filesystem.join("ballast");
    fs::create_dir(&ballast).unwrap();
    let mut size: u64 = 8 << 30;
    let mut number = 0;
    while size >= 4096 {
        let file = fs::File::create(ballast.join(number.to_string()));
        number += 1;
        let Ok(file) = file else { break };
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).is_err() {
            size /= 2;
        }
    }
    ballast
}

fn full_disk(layout: Layout) {
    const TRIES: usize = 300;
    let stage = with_snapshots(layout);
    let doors = stage.doors();
    let active = doors.upper("default/3/active").unwrap();
    fs::write(active.join("more"), vec![7; 1 << 20]).unwrap();
    rustix::fs::syncfs(fs::File::open(&active).unwrap()).unwrap();
    // Where writable layers lie, and where the database lies.
    let mut ballast = vec![fill(&stage.place.filesystem)];
    ballast.extend(stage.place.pool.as_ref().map(|pool| fill(pool.parent().unwrap())));

    let (mut made, mut refused) = (Vec::new(), None);
    for number in 0..TRIES {
        let key = format!("default/{}/full", number + 10);
        match doors.prepare(&key, "default/2/base", &[]) {
            Ok(()) => made.push(key),
            Err(refusal) => {
                refused = Some(refusal);
                break;
            }
        }
    }
    let refused = refused.expect("a full disk takes no more snapshots");
    assert_eq!(refused.code, NO_SPACE, "{}", refused.message);
    let path = stage.place.filesystem.parent().unwrap().to_str().unwrap();
    names(&refused.message, &[path]); // A file of loom's.
    let snapshot = try_loom(&stage.loomd.ttrpc_socket(), &["snapshot", "default/3/active", "--name", "full"]);
    let committed = doors.commit("default/5/full", "default/3/active", &[]);
    if let Err(refusal) = &committed {
        assert_eq!(refusal.code, NO_SPACE, "{}", refusal.message);
    }
    // What only looks goes on.
    assert!(doors.stat("default/2/base").is_ok());
    assert!(doors.list().unwrap().len() >= made.len() + 2);

    for ballast in ballast {
        fs::remove_dir_all(ballast).unwrap();
    }
    // btrfs gives room back with its next transaction.
    wait_until("room", || {
        let made = doors.prepare("default/6/after", "default/2/base", &[]);
        if let Err(refusal) = &made {
            assert_eq!(refusal.code, NO_SPACE, "{}", refusal.message);
        }
        made.is_ok()
    });
    doors.remove("default/6/after").unwrap();
    for key in &made {
        assert!(doors.upper(key).unwrap().is_dir(), "{key}");
        doors.remove(key).unwrap();
    }
    if committed.is_err() {
        doors.commit("default/5/full", "default/3/active", &[]).unwrap();
    }
    assert_eq!(fs::read(active.join("more")).unwrap(), vec![7; 1 << 20]);
    assert_eq!(fs::read_to_string(active.join("file")).unwrap(), "changed");
    if snapshot.status.success() {
        assert_ne!(layout, Layout::Ext4, "a copy needs room");
        stage.loom_json(&["rm", "full"]);
    } else {
        let said = said(&snapshot);
        assert_eq!(snapshot.status.code(), Some(1), "{said}");
        assert!(!said.contains("defect"), "{said}");
    }
    stage.wait_until_agreed();
}

#[test]
fn a_full_ext4() {
    full_disk(Layout::Ext4);
}

#[test]
fn a_full_xfs() {
    full_disk(Layout::Xfs);
}

#[test]
fn a_full_disk_and_a_full_pool() {
    full_disk(Layout::Ext4Pool);
}

/// containerd is stopped in its tracks, or gone: the answer comes in bounded time, and says so.
#[test]
fn a_containerd_that_says_nothing() {
    let mut stage = Stage::new(Layout::Ext4Pool, Version::Current);
    let image = stage.import(&small());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"]);
    stage.loom_json(&["snapshot", "origin", "--name", "state"]);
    let before = stage.place.layers();
    let address = stage.containerd.socket();
    let unavailable = |stage: &Stage| {
        for args in [&["fork", "origin"][..], &["clone", "state"], &["resume", "origin"]] {
            let began = Instant::now();
            let output = try_loom(&stage.loomd.ttrpc_socket(), args);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(5), "loom {args:?}: {said}");
            names(&said, &["containerd", address.to_str().unwrap()]);
            assert!(began.elapsed() < DEADLINE, "loom {args:?} took {:?}", began.elapsed());
        }
        // What needs no containerd goes on.
        assert!(try_loom(&stage.loomd.ttrpc_socket(), &["inspect", "snapshot:state"]).status.success());
        assert_eq!(stage.place.layers(), before);
    };
    stage.containerd.signal(Signal::SIGSTOP);
    unavailable(&stage);
    stage.containerd.signal(Signal::SIGCONT);
    stage.containerd.kill();
    unavailable(&stage); // The socket stays, and nobody listens.
    fs::remove_file(&address).unwrap();
    unavailable(&stage);

    stage.containerd.start();
    let forked = stage.loom_json(&["fork", "origin", "--name", "again"]);
    assert_eq!(forked["forks"][0]["error"], serde_json::Value::Null);
    assert_eq!(stage.containerd.exec("again", &["echo", "alive"]), "alive");
}
