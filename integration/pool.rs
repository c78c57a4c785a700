//! The pool that loom makes: at run time, at a first start, under faults, behind a restart of the machine; and an image
//! whose host is full.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use support::containerd::Version;
use support::counter::{self, Counter};
use support::fault::in_source;
use support::image::small;
use support::layout::Layout;
use support::process::{finish, run};
use support::stage::Stage;
use support::wait::{wait_for, wait_until, wait_until_none};

const GIB: u64 = 1 << 30;
/// Less than an image has ahead.
const PART: u64 = GIB * 3 / 4;

/// A stage on ext4 without a pool.
fn stage(version: Version) -> Stage {
    Stage::new(Layout::Ext4, version)
}

/// What `loom pool status` tells; None where there is no pool.
fn pool(stage: &Stage) -> Option<Value> {
    let told = stage.loom_json(&["pool", "status"]);
    (!told.is_null()).then_some(told)
}

fn number(stage: &Stage, field: &str) -> u64 {
    pool(stage).unwrap()[field].as_u64().unwrap()
}

/// Where the pool is mounted, and its image.
fn places(stage: &Stage) -> (PathBuf, PathBuf) {
    (stage.place.root.join("pool"), stage.place.root.join("pool.img"))
}

/// The loop devices that an image is attached to.
fn loops(image: &Path) -> Vec<String> {
    let listed = run("losetup", &["--noheadings", "--output", "NAME,BACK-FILE", "--list"]);
    let ours = listed.lines().filter(|line| line.contains(image.to_str().unwrap()));
    ours.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

fn is_mounted(place: &Path) -> bool {
    finish(Command::new("mountpoint").arg("-q").arg(place)).status.success()
}

/// What a pool that was not made has left.
fn left(stage: &Stage) -> Vec<String> {
    let (place, image) = places(stage);
    let mut left = loops(&image);
    for path in [place, image, stage.place.root.join("pool.json"), stage.place.root.join("pool.json.tmp")] {
        if path.exists() {
            left.push(path.display().to_string());
        }
    }
    left
}

/// How a container is forked; the fork is ended again.
fn method(stage: &Stage, container: &str) -> String {
    let answer = stage.loom_json(&["fork", container, "--name", "probe"]);
    stage.containerd.remove(&["probe"]);
    answer["cost"]["method"].as_str().unwrap().to_owned()
}

/// Stops a container's process, and starts it again on the same files.
fn start_again(stage: &Stage, name: &str) -> Counter {
    stage.containerd.ctr(&["tasks", "start", "--detach", name]);
    Counter::of(stage, name)
}

fn stop(stage: &Stage, name: &str) {
    stage.containerd.ctr(&["tasks", "rm", "--force", name]);
}

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
    let making: Vec<_> = [of("pool.create."), of("pool.mount.")].concat();
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

/// Takes space in the pool, all at once, without writing it.
fn take(place: &Path, name: &str, bytes: u64) -> bool {
    let file = place.join(name);
    finish(Command::new("fallocate").args(["--length", &bytes.to_string()]).arg(file)).status.success()
}

/// What the filesystem of the pool spans: its device's capacity, but for what it leaves of that.
fn span(stage: &Stage) -> u64 {
    let show = run("btrfs", &["device", "usage", "--raw", places(stage).0.to_str().unwrap()]);
    let number = |what: &str| -> u64 {
        let line = show.lines().find_map(|line| line.trim().strip_prefix(what)).unwrap();
        line.trim().parse().unwrap()
    };
    number("Device size:") - number("Device slack:")
}

/// The host has given the image every byte that its filesystem spans.
fn assert_backed(stage: &Stage) {
    let (span, (_, file)) = (span(stage), places(stage));
    let meta = fs::metadata(&file).unwrap();
    let given = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
    assert!(meta.len() >= span && given >= span, "{span} of {} with {given}", meta.len());
}

/// An image grows ahead of what is written, whatever fails meanwhile, no further than it may; and gives back.
#[test]
fn grows_and_shrinks() {
    let mut stage = stage(Version::Debian);
    stage.loom(&["pool", "create", "--size", "3G"]);
    let (place, _) = places(&stage);
    assert_eq!(span(&stage), 2 * GIB, "what is ahead, and a step");

    // More than it had at first; then all that it may.
    assert!(take(&place, "a", GIB * 5 / 4));
    wait_until("the image to grow", || take(&place, "b", PART));
    wait_until("the image to grow to its size", || span(&stage) == 3 * GIB);
    assert_backed(&stage);
    assert!(!take(&place, "c", GIB * 2));
    assert!(stage.loom_fails(2, &["pool", "grow", "3G"]).contains("may grow to 3.0 GiB already"));

    for point in in_source().into_iter().filter(|point| point.starts_with("pool.grow.")) {
        for action in ["error", "abort"] {
            assert!(take(&place, &format!("{point}:{action}"), 120 << 20));
            let size = number(&stage, "size") + (128 << 20);
            stage.loomd.stop();
            stage.loomd.fail_at(&format!("{point}:{action}"));
            stage.start_again();
            let grown = finish(&mut stage.loom_command(&["pool", "grow", &size.to_string()]));
            if action == "abort" {
                wait_until("loomd to die", || !stage.loomd.daemon().is_running());
                stage.loomd.fail_nowhere();
                stage.start_again();
            }
            if number(&stage, "size") != size {
                assert!(!grown.status.success(), "{point}:{action}");
                stage.loom(&["pool", "grow", &size.to_string()]);
            }
            wait_until(&format!("the image to grow behind {point}:{action}"), || span(&stage) == size);
            assert_backed(&stage);
        }
    }
    stage.loom(&["pool", "grow", "7G"]);
    wait_until("the image to be ahead again", || take(&place, "d", PART));
    for name in ["e", "f"] {
        wait_until("the image to be ahead again", || take(&place, name, PART));
    }
    wait_until("the image to be ahead again", || number(&stage, "allocated") > 5 * GIB);
    stage.loomd.stop();
    for entry in fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_file() {
            fs::remove_file(entry).unwrap();
        }
    }
    // What is unused is unparted once its cleaner has come by.
    for point in in_source().into_iter().filter(|point| point.starts_with("pool.shrink.")) {
        stage.loomd.fail_at(&format!("{point}:abort"));
        stage.start_again();
        wait_until("loomd to die at the step", || {
            run("btrfs", &["filesystem", "sync", place.to_str().unwrap()]);
            !stage.loomd.daemon().is_running()
        });
        stage.loomd.fail_nowhere();
        stage.start_again();
        assert_backed(&stage);
        stage.loomd.stop();
    }
    stage.loomd.fail_at("pool.shrink.resize:error");
    stage.start_again();
    wait_until("it to give back", || number(&stage, "allocated") < 5 * GIB);
    assert_backed(&stage);
    run("btrfs", &["scrub", "start", "-B", place.to_str().unwrap()]);
}

/// The host is filled under a running pool, to the reserve and then to the last byte. No branch is made meanwhile, what
/// runs runs on, nothing is lost, and all is well again when there is space.
#[test]
fn a_host_that_is_full() {
    let mut stage = Stage::prepared(Layout::Ext4, Version::Debian);
    stage.loomd.configure("[pool]\nreserve = \"1G\"");
    stage.loomd.start();
    stage.containerd.start();
    let image = stage.import(&small());
    stage.loom(&["pool", "create", "--size", "6G"]);
    let (place, _) = places(&stage);
    let counter = counter::start(&stage, &image, "web", &[]);
    stage.loom(&["snapshot", "web", "--name", "before"]);
    assert_eq!(method(&stage, "web"), "subvolume");

    // To the reserve.
    let fill = stage.place.filesystem.join("fill");
    let free = number(&stage, "host_free");
    run("fallocate", &["--length", &(free - GIB / 2).to_string(), fill.to_str().unwrap()]);
    let refusals: [&[&str]; 4] = [
        &["fork", "web", "--name", "no"],
        &["snapshot", "web", "--name", "no"],
        &["clone", "before", "--name", "no"],
        &["commit", "web", "no:1"],
    ];
    for refused in refusals {
        let said = stage.loom_fails(1, refused);
        assert!(
            said.contains("less than the reserve of 1.0 GiB") && said.contains("free some space"),
            "{said}"
        );
    }
    assert!(pool(&stage).unwrap()["refuses"].as_str().unwrap().contains("reserve"));
    assert!(stage.loom(&["pool", "status"]).contains("branches: refused: "));
    counter.assert_advances();
    // A new container is no branch.
    let other = counter::start(&stage, &image, "other", &[]);

    other.assert_advances();

    // To the last byte of the host, root's share too.
    while finish(
        Command::new("dd")
            .args(["if=/dev/zero", "bs=1M", "oflag=append", "conv=notrunc"])
            .arg(format!("of={}", fill.display())),
    )
    .status
    .success()
    {}
    counter.assert_advances();
    let write = "dd if=/dev/urandom of=/root/data bs=1M count=64 && sync && sha256sum /root/data";
    let told = stage.containerd.exec("web", &["sh", "-c", write]);
    let steady = counter.steady();
    // And to the last byte of what the pool has. A counter ends at the first write that fails.
    for name in ["web", "other"] {
        stop(&stage, name);
    }
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "filler", "sleep", "10000"]);
    let fill_pool =
        "dd if=/dev/zero of=/root/zero bs=1M count=6000; sync; rm -f /root/none; ls -l /root/zero";
    stage.containerd.exec("filler", &["sh", "-c", fill_pool]);
    let sum =
        told.lines().find(|line| line.contains("/root/data")).unwrap().split_whitespace().next().unwrap();
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounted.lines().find(|line| line.contains(&format!(" {} ", place.display()))).unwrap();
    assert!(!line.rsplit(' ').next().unwrap().split(',').any(|option| option == "ro"), "{line}");
    let errors = run("btrfs", &["device", "stats", place.to_str().unwrap()]);
    assert!(errors.lines().all(|line| line.ends_with(" 0")), "{errors}");
    assert_backed(&stage);

    // Within what the pool has all goes on.
    stage.containerd.exec("filler", &["sh", "-c", "rm /root/zero; sync"]);
    let (counter, other) = (start_again(&stage, "web"), start_again(&stage, "other"));
    counter.assert_advances();
    other.assert_advances();
    wait_until("the pool to have space again", || {
        stage
            .containerd
            .try_ctr(&[
                "tasks",
                "exec",
                "--exec-id",
                "probe",
                "filler",
                "dd",
                "if=/dev/zero",
                "of=/root/probe",
                "bs=1M",
                "count=64",
            ])
            .status
            .success()
    });
    stage.loom_fails(1, &["fork", "web", "--name", "no"]);

    // loomd comes back on a full host too; a host with space is all that it takes.
    stage.loomd.kill();
    let _ = stage.loomd.spawn();
    fs::remove_file(&fill).unwrap();
    stage.start_again();
    wait_until("a branch to be made again", || {
        finish(&mut stage.loom_command(&["fork", "web", "--name", "fork"])).status.success()
    });
    let fork = Counter::of(&stage, "fork");
    for each in [&counter, &other, &fork] {
        each.assert_advances();
    }
    steady.assert_same(&fork.steady(), "fork");
    for name in ["web", "fork"] {
        assert!(stage.containerd.exec(name, &["sha256sum", "/root/data"]).contains(sum), "{name}");
    }
    run("btrfs", &["scrub", "start", "-B", place.to_str().unwrap()]);
}

/// A writer that is as fast as it can be never meets the end of an image that may grow.
#[test]
fn a_burst() {
    let stage = stage(Version::Debian);
    let image = stage.import(&small());
    stage.loom(&["pool", "create", "--size", "6G"]);
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "web", "sleep", "10000"]);
    let begun = Instant::now();
    stage.containerd.exec("web", &["dd", "if=/dev/zero", "of=/root/burst", "bs=1M", "count=3500"]);
    println!("pool | burst of 3.5 GiB | {} ms", begun.elapsed().as_millis());
    assert_backed(&stage);
    assert!(!stage.loomd.log().contains("does not grow"), "{}", stage.loomd.log());
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
    let taken = wait_for("the device to be free", || {
        finish(Command::new("losetup").args([&device, other.to_str().unwrap()]))
            .status
            .success()
            .then_some(())
    });
    let () = taken;
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
