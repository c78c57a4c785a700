//! The pool that loom makes: at run time, at a first start, under faults, behind a restart of the machine. `full` has the image
//! whose host is full.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use support::containerd::Version;
use support::counter;
use support::fault::in_source;
use support::image::small;
use support::layout::Layout;
use support::pool::*;
use support::process::{finish, run};
use support::stage::Stage;
use support::wait::{wait_until, wait_until_none};

/// A pool is made under running containers; loomd comes and goes; what was there before is brought in.
#[test]
fn made_while_containers_run() {
    let mut stage = stage(Version::Debian);
    let image = stage.import(&small());
    let old = counter::start(&stage, &image, "old", &[]);
    let steady = old.steady();
    let status = stage.loom_json(&["status"]);
    assert_eq!((&status["method"], &status["pool_state"]), (&"copy".into(), &Value::Null));
    assert!(status["method_why"].as_str().unwrap().contains("loom pool create"), "{status}");
    assert_eq!(stage.loomd.log().matches("forks will copy").count(), 1);
    assert!(stage.loom_fails(3, &["pool", "status"]).contains("there is no pool"));
    assert!(stage.loom_fails(4, &["pool", "grow", "9G"]).contains("loom pool create"));
    assert!(stage.loom_fails(4, &["pool", "move", "old"]).contains("old was not moved"));
    assert_eq!(method(&stage, "old"), "copy");

    assert!(stage.loom_fails(2, &["pool", "create", "--size", "100M"]).contains("256 MiB"));
    let made = stage.loom_json(&["pool", "create", "--size", "1G"]);
    let (place, file) = places(&stage);
    assert_eq!((&made["kind"], &made["path"]), (&"image".into(), &place.to_str().unwrap().into()));
    assert_eq!((made["size"].as_u64(), &made["refuses"]), (Some(GIB), &Value::Null), "{made}");
    assert!(stage.loom_fails(4, &["pool", "create"]).contains("it has a pool at"));
    let told = stage.loom(&["pool", "status"]);
    assert!(told.contains("kind: image ") && told.contains("branches: yes"), "{told}");
    assert!(stage.loom(&["status"]).contains("method: subvolume: "), "{}", stage.loom(&["status"]));

    // What ran runs on where it was; what comes lies in the pool.
    old.assert_advances();
    let new = counter::start(&stage, &image, "new", &[]);
    assert_eq!((method(&stage, "old"), method(&stage, "new")), ("copy".into(), "subvolume".into()));

    // loomd ends in both ways, and finds the pool mounted.
    let before = loops(&file);
    assert_eq!(before.len(), 1, "{before:?}");
    for kill in [false, true] {
        if kill {
            stage.loomd.kill();
        } else {
            stage.loomd.stop();
        }
        assert!(is_mounted(&place), "it stays mounted");
        new.assert_advances();
        stage.start_again();
        assert_eq!((loops(&file), method(&stage, "new")), (before.clone(), "subvolume".into()));
    }
    for counter in [&old, &new] {
        counter.assert_advances();
    }

    // One that runs is not moved. One that does not is the same afterwards, and branches at once.
    assert!(stage.loom_fails(4, &["pool", "move"]).contains("it is mounted"));
    stop(&stage, "old");
    assert_eq!(stage.loom(&["pool", "move"]), "old");
    assert_eq!(stage.loom_json(&["pool", "move"]), serde_json::json!([]));
    assert!(stage.loom_fails(4, &["pool", "move", "old"]).contains("in the pool already"));
    let old = start_again(&stage, "old");
    old.assert_advances();
    steady.assert_same(&old.steady(), "old");
    assert_eq!(method(&stage, "old"), "subvolume");

    // Nothing may trim holes into the image.
    assert!(!finish(Command::new("fstrim").arg(&place)).status.success());
    stage.place.pool = Some(place);
    stage.containerd.remove(&["old", "new"]);
    stage.containerd.ctr(&["images", "rm", "--sync", &image]);
    wait_until_none("layers", || {
        stage.containerd.collect();
        stage.place.layers().iter().map(|path| path.display().to_string()).collect()
    });
}

/// Behind a restart of the machine nothing is attached or mounted; loomd does both.
#[test]
fn behind_a_restart_of_the_machine() {
    let mut stage = stage(Version::Current);
    let image = stage.import(&small());
    stage.loom(&["pool", "create", "--size", "600M"]);
    let counter = counter::start(&stage, &image, "web", &[]);
    let steady = counter.steady();
    let (place, file) = places(&stage);
    stop(&stage, "web");
    stage.loomd.stop();
    run("umount", &[&place]);
    wait_until("the loop device to go with the mount", || loops(&file).is_empty());
    stage.start_again();
    let counter = start_again(&stage, "web");
    counter.assert_advances();
    steady.assert_same(&counter.steady(), "web");
    assert_eq!(method(&stage, "web"), "subvolume");
    stop(&stage, "web");

    let elsewhere = format!("[pool]\npath = {:?}", stage.scratch.dir("elsewhere").to_str().unwrap());
    // What is not the pool is not taken for it, and the pool is not guessed.
    let mut refused = |change: &dyn Fn(&mut Stage), undo: &dyn Fn(&mut Stage), words: &[&str]| {
        stage.loomd.stop();
        change(&mut stage);
        stage.loomd.spawn();
        wait_until("loomd to refuse", || !stage.loomd.daemon().is_running());
        undo(&mut stage);
        let log = stage.loomd.log();
        let last = log.lines().last().unwrap().to_owned();
        assert!(words.iter().all(|word| last.contains(word)), "{last} lacks one of {words:?}");
        stage.start_again();
    };
    let other = |stage: &mut Stage| {
        run("umount", &[&stage.place.root.join("pool")]);
        run("mount", &["-t", "tmpfs", "tmpfs", stage.place.root.join("pool").to_str().unwrap()]);
    };
    let no_other = |stage: &mut Stage| drop(run("umount", &[&stage.place.root.join("pool")]));
    refused(&other, &no_other, &["is mounted there", "unmount"]);
    let rename = |from: &'static str, to: &'static str| {
        move |stage: &mut Stage| {
            let root = &stage.place.root;
            let _ = finish(Command::new("umount").arg(root.join("pool")));
            fs::rename(root.join(from), root.join(to)).unwrap();
        }
    };
    refused(
        &rename("pool.img", "away"),
        &rename("away", "pool.img"),
        &["pool.img", "is missing", "put it back"],
    );
    refused(&rename("pool.json", "away"), &rename("away", "pool.json"), &["lies in a pool", "pool.json"]);
    refused(
        &|stage| {
            stage.loomd.configure(&elsewhere);
        },
        &|stage| {
            stage.loomd.deconfigure(&elsewhere);
        },
        &["take pool.path out"],
    );
    start_again(&stage, "web").assert_advances();
}

/// Whatever fails while a pool is made, nothing stays of it, and it can be made then.
#[test]
fn made_wholly_or_not_at_all() {
    let mut stage = stage(Version::Debian);
    let image = stage.import(&small());
    let counter = counter::start(&stage, &image, "web", &[]);
    let points = in_source();
    let of =
        |prefix: &str| points.iter().filter(|point| point.starts_with(prefix)).cloned().collect::<Vec<_>>();
    let create = ["pool", "create", "--size", "300M"];
    let making: Vec<_> = [of("pool.create."), of("pool.mount."), of("layer.pair.")].concat();
    let mut walked = BTreeSet::new();
    for point in making.iter().filter(|point| *point != "pool.create.device") {
        for action in ["error", "abort"] {
            stage.loomd.stop();
            stage.loomd.fail_at(&format!("{point}:{action}"));
            stage.start_again();
            let output = finish(&mut stage.loom_command(&create));
            assert!(!output.status.success(), "{point}:{action}");
            if action == "abort" {
                wait_until("loomd to die", || !stage.loomd.daemon().is_running());
                stage.loomd.fail_nowhere();
                stage.start_again();
            }
            assert_eq!(left(&stage), Vec::<String>::new(), "after {point}:{action}");
            assert_eq!(pool(&stage), None);
            walked.insert(point.clone());
        }
    }
    // What undoes it fails too, and is done at the next start.
    for point in of("pool.clear.").iter().filter(|point| *point != "pool.clear.wipe") {
        for action in ["error", "abort"] {
            stage.loomd.stop();
            stage.loomd.fail_at("pool.create.made:abort");
            stage.start_again();
            finish(&mut stage.loom_command(&create));
            wait_until("loomd to die", || !stage.loomd.daemon().is_running());
            stage.loomd.fail_at(&format!("{point}:{action}"));
            if action == "abort" {
                stage.loomd.spawn();
                wait_until("loomd to die at its start", || !stage.loomd.daemon().is_running());
            } else {
                stage.start_again();
                assert_eq!(pool(&stage), None);
                stage.loomd.stop();
            }
            stage.loomd.fail_nowhere();
            stage.start_again();
            assert_eq!(left(&stage), Vec::<String>::new(), "after {point}:{action}");
            walked.insert(point.clone());
        }
    }
    counter.assert_advances();
    stage.loom(&create);

    // A layer is moved wholly or not at all.
    let steady = counter.steady();
    stop(&stage, "web");
    for point in [of("layer.transfer."), of("snapshot.move.")].concat() {
        for action in ["error", "abort"] {
            stage.loomd.stop();
            stage.loomd.fail_at(&format!("{point}:{action}"));
            stage.start_again();
            finish(&mut stage.loom_command(&["pool", "move"]));
            if action == "abort" {
                wait_until("loomd to die", || !stage.loomd.daemon().is_running());
                stage.loomd.fail_nowhere();
                stage.start_again();
            }
            let rows = stage.loom_json(&["ls"]);
            assert_eq!(rows[0]["home"], "plain", "after {point}:{action}: {rows}");
            let (place, _) = places(&stage);
            wait_until_none("halves", || {
                let found = fs::read_dir(place.join("layers")).unwrap();
                found.map(|each| each.unwrap().path().display().to_string()).collect()
            });
            walked.insert(point.clone());
        }
    }
    stage.loomd.stop();
    stage.loomd.fail_nowhere();
    stage.start_again();
    assert_eq!(stage.loom(&["pool", "move"]), "web");
    let counter = start_again(&stage, "web");
    counter.assert_advances();
    steady.assert_same(&counter.steady(), "web");

    let elsewhere = ["pool.create.device", "pool.clear.wipe"]; // `a_device`
    let others: Vec<_> = of("pool.")
        .into_iter()
        .filter(|point| !walked.contains(point) && !elsewhere.contains(&point.as_str()))
        .filter(|point| !point.starts_with("pool.grow.") && !point.starts_with("pool.shrink.")) // `grows_and_shrinks`
        .collect();
    assert!(others.is_empty(), "nothing walks through {others:?}");
}

/// The configuration asks for a pool; a disk that is too small for it has none, and loomd runs.
#[test]
fn at_a_first_start() {
    let mut stage = Stage::prepared(Layout::Ext4, Version::Debian);
    stage.loomd.configure("[pool]\nsize = \"auto\"\nreserve = \"100M\"");
    let fill = stage.place.filesystem.join("fill");
    run("fallocate", &["--length", &(4 * GIB).to_string(), fill.to_str().unwrap()]);
    stage.loomd.start();
    assert_eq!(pool(&stage), None);
    assert!(
        stage.loomd.log().contains("needs 5.0 GiB beside the reserve of 100 MiB"),
        "{}",
        stage.loomd.log()
    );
    assert_eq!(left(&stage), Vec::<String>::new());

    fs::remove_file(&fill).unwrap();
    stage.loomd.restart();
    let made = pool(&stage).unwrap();
    assert_eq!((made["size"].as_u64(), &made["kind"]), (Some(5 * GIB), &"image".into()));
    stage.loomd.restart();
    assert_eq!(number(&stage, "size"), 5 * GIB);
    stage.containerd.start();
    let image = stage.import(&small());
    counter::start(&stage, &image, "web", &[]);
    assert_eq!(method(&stage, "web"), "subvolume");
}

/// A device with something on it is left alone; an empty one is found again whatever it is called.
#[test]
fn a_device() {
    let mut stage = stage(Version::Debian);
    let image = stage.import(&small());
    let file = stage.scratch.path().join("device");
    fs::File::create(&file).unwrap().set_len(GIB).unwrap();
    run("mkfs.ext4", &["-q", "-F", file.to_str().unwrap()]);
    let attach = || run("losetup", &["--find", "--show", file.to_str().unwrap()]);
    let device = attach();
    let refused = stage.loom_fails(4, &["pool", "create", "--device", &device]);
    assert!(refused.contains("(ext4)") && refused.contains("wipefs"), "{refused}");
    assert!(stage.loom_fails(4, &["pool", "create", "--device", "/dev/null"]).contains("no block device"));
    run("wipefs", &["--all", "--quiet", &device]);
    for point in ["pool.create.device", "pool.create.made"] {
        for action in ["error", "abort"] {
            stage.loomd.stop();
            stage.loomd.fail_at(&format!("{point}:{action}"));
            stage.start_again();
            finish(&mut stage.loom_command(&["pool", "create", "--device", &device]));
            if action == "abort" {
                wait_until("loomd to die", || !stage.loomd.daemon().is_running());
                stage.loomd.fail_nowhere();
                stage.start_again();
            }
            assert_eq!((left(&stage), pool(&stage)), (Vec::new(), None), "after {point}:{action}");
        }
    }
    stage.loomd.stop();
    stage.loomd.fail_nowhere();
    stage.start_again();
    let made = stage.loom_json(&["pool", "create", "--device", &device]);
    assert_eq!((&made["kind"], &made["source"]), (&"device".into(), &device.as_str().into()));
    let counter = counter::start(&stage, &image, "web", &[]);
    let steady = counter.steady();
    assert_eq!(method(&stage, "web"), "subvolume");
    assert!(stage.loom_fails(4, &["pool", "grow", "9G"]).contains("no image but a device"));

    stop(&stage, "web");
    stage.loomd.stop();
    let (place, _) = places(&stage);
    run("umount", &[&place]);
    run("losetup", &["--detach", &device]);
    // Something else is called so now.
    let other = stage.scratch.path().join("other");
    fs::File::create(&other).unwrap().set_len(GIB).unwrap();
    let mut take = Command::new("losetup");
    take.args([&device, other.to_str().unwrap()]);
    wait_until("the device to be free", || finish(&mut take).status.success());
    let device_now = attach();
    stage.start_again();
    let counter = start_again(&stage, "web");
    counter.assert_advances();
    steady.assert_same(&counter.steady(), "web");
    stop(&stage, "web");
    stage.loomd.stop();
    run("umount", &[&place]);
    for each in [&device, &device_now] {
        run("losetup", &["--detach", each]);
    }
}

/// A directory on a btrfs that is there, without a line of configuration.
#[test]
fn a_directory() {
    let mut stage = stage(Version::Debian);
    let btrfs = stage.scratch.filesystem("btrfs", support::scratch::Filesystem::Btrfs, 2);
    let path = btrfs.join("loom");
    let word = path.to_str().unwrap().to_owned();
    fs::create_dir(&path).unwrap();
    let plain = stage.scratch.dir("plain");
    assert!(
        stage
            .loom_fails(4, &["pool", "create", "--path", plain.to_str().unwrap()])
            .contains("not on a btrfs")
    );
    assert_eq!(left(&stage), Vec::<String>::new());
    let made = stage.loom_json(&["pool", "create", "--path", &word]);
    assert_eq!(
        (&made["kind"], &made["source"], &made["path"]),
        (&"directory".into(), &Value::Null, &word.as_str().into())
    );
    let image = stage.import(&small());
    counter::start(&stage, &image, "web", &[]);
    stage.loomd.restart();
    stage.start_again();
    assert_eq!(method(&stage, "web"), "subvolume");
    // The configuration may say the same.
    stage.loomd.stop();
    stage.loomd.configure(&format!("[pool]\npath = {word:?}"));
    stage.start_again();
    assert_eq!(method(&stage, "web"), "subvolume");
}
