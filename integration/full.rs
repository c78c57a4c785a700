//! A pool in an image whose host becomes full: it grows ahead of what is written, refuses branches in time, and loses
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use support::containerd::Version;
use support::counter::{self, Counter};
use support::fault::in_source;
use support::image::small;
use support::layout::Layout;
use support::pool::*;
use support::process::{finish, run};
use support::stage::Stage;
use support::wait::wait_until;

/// Less than an image has ahead.
const PART: u64 = GIB * 3 / 4;

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

    fill_up(&fill);
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
    assert_sound(&stage);
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

    // One that is started on a full host may come up or not; a host with space is all that it takes.
    stage.loomd.kill();
    let _ = stage.loomd.spawn();
    fs::remove_file(&fill).unwrap();
    stage.loomd.stop();
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

/// Fills the host to its last byte, root's share too.
fn fill_up(fill: &Path) {
    let dd = ["if=/dev/zero", "bs=1M", "oflag=append", "conv=notrunc"];
    while finish(Command::new("dd").args(dd).arg(format!("of={}", fill.display()))).status.success() {}
}

/// Nothing of the pool has met an error, or turned read-only.
fn assert_sound(stage: &Stage) {
    let (place, _) = places(stage);
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounted.lines().find(|line| line.contains(&format!(" {} ", place.display()))).unwrap();
    assert!(!line.rsplit(' ').next().unwrap().split(',').any(|option| option == "ro"), "{line}");
    let errors = run("btrfs", &["device", "stats", place.to_str().unwrap()]);
    assert!(errors.lines().all(|line| line.ends_with(" 0")), "{errors}");
}

/// Branches take metadata, and what frees space does too: a pool that has all that it may refuses them before nothing is
/// left.
#[test]
fn a_pool_that_is_full() {
    let stage = stage(Version::Debian);
    let image = stage.import(&small());
    // Its filesystem spans whole parts of 64 MiB only.
    stage.loom(&["pool", "create", "--size", "600M"]);
    let (place, _) = places(&stage);
    let counter = counter::start(&stage, &image, "web", &[]);
    assert_eq!(method(&stage, "web"), "subvolume");
    let mut files = 0;
    for bytes in [32 << 20, 4 << 20, 1 << 20] {
        while take(&place, &format!("file{files}"), bytes) {
            files += 1;
        }
    }
    let said = stage.loom_fails(1, &["fork", "web", "--name", "no"]);
    assert!(said.contains("the pool is full") && said.contains("loom pool grow"), "{said}");
    assert!(pool(&stage).unwrap()["refuses"].as_str().unwrap().contains("the pool is full"));
    counter.assert_advances();
    stage.loom(&["pool", "grow", "1G"]);
    wait_until("branches to be made again", || pool(&stage).unwrap()["refuses"].is_null());
    assert_eq!(method(&stage, "web"), "subvolume");
    counter.assert_advances();
    assert_sound(&stage);
}

/// True where another file has bytes of the image.
fn is_shared(image: &Path) -> bool {
    run("filefrag", &["-v", image.to_str().unwrap()]).contains("shared")
}

/// A backup by reference takes from an image the places that its host has given to it; it gets others, before the host is
/// full.
#[test]
fn a_copy_by_reference() {
    let stage = Stage::new(Layout::Xfs, Version::Debian);
    let image = stage.import(&small());
    stage.loom(&["pool", "create", "--size", "3G"]);
    let (place, file) = places(&stage);
    let counter = counter::start(&stage, &image, "web", &[]);
    let write = "dd if=/dev/urandom of=/root/data bs=1M count=300 && sync";
    stage.containerd.exec("web", &["sh", "-c", write]);
    let copy = stage.place.filesystem.join("copy.img");
    run("cp", &["--reflink=always", file.to_str().unwrap(), copy.to_str().unwrap()]);
    let before = run("sha256sum", &[&copy]);
    let told = |what: &str| stage.loomd.log().contains(what);
    wait_until("loomd to see it", || told("another file's too"));
    wait_until("the image to have places of its own", || told("nobody else's any more") && !is_shared(&file));

    let fill = stage.place.filesystem.join("fill");
    let most = number(&stage, "host_free") - GIB / 4;
    run("fallocate", &["--length", &most.to_string(), fill.to_str().unwrap()]);
    fill_up(&fill);
    // All of it is written anew.
    let write =
        "dd if=/dev/urandom of=/root/data bs=1M count=300 conv=notrunc && sync && sha256sum /root/data";
    let told = stage.containerd.exec("web", &["sh", "-c", write]);
    counter.assert_advances();
    assert_sound(&stage);
    run("btrfs", &["scrub", "start", "-B", place.to_str().unwrap()]);
    assert!(told.contains(&stage.containerd.exec("web", &["sha256sum", "/root/data"])), "{told}");
    assert_eq!(run("sha256sum", &[&copy]), before, "the copy stays as it was");
}

/// Where the host cannot do that, so much of it is kept free.
#[test]
fn a_snapshot_of_the_host() {
    let stage = Stage::new(Layout::Btrfs, Version::Debian);
    let image = stage.import(&small());
    stage.loom(&["pool", "create", "--size", "3G"]);
    let counter = counter::start(&stage, &image, "web", &[]);
    let host = stage.place.filesystem.to_str().unwrap();
    let snapshot = stage.place.filesystem.join("snapshot");
    run("btrfs", &["subvolume", "snapshot", "-r", host, snapshot.to_str().unwrap()]);
    // Enough for what is usual.
    let left = number(&stage, "reserve") + GIB / 2;
    let fill = stage.place.filesystem.join("fill");
    run(
        "fallocate",
        &["--length", &(number(&stage, "host_free") - left).to_string(), fill.to_str().unwrap()],
    );
    let mut said = String::new();
    wait_until("branches to be refused", || {
        said = pool(&stage).unwrap()["refuses"].as_str().unwrap_or_default().to_owned();
        !said.is_empty()
    });
    assert!(said.contains("a snapshot of it, has of the pool's image"), "{said}");
    assert!(stage.loom_fails(1, &["fork", "web", "--name", "no"]).contains(&said));
    counter.assert_advances();
    run("btrfs", &["subvolume", "delete", "--commit-after", snapshot.to_str().unwrap()]);
    wait_until("branches to be made again", || pool(&stage).unwrap()["refuses"].is_null());
    assert_eq!(method(&stage, "web"), "subvolume");
    assert_sound(&stage);
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
