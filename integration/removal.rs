//! Removal: it answers at once, nobody else feels what follows, and nothing of it stays.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use containerd_client::services::v1::snapshots as api;

use support::containerd::Version;
use support::doors::{Doors, prepare_request};
use support::image::small;
use support::layout::{Layout, Place};
use support::stage::{Stage, on_stages};
use support::wait::wait_until;

/// In the layer that is removed.
const FILES: u32 = 100_000;
/// The longest that a removal may take to answer.
const ANSWER: Duration = Duration::from_millis(20);
/// How often a measurement is made on a machine that does other things too: the best counts.
const TRIES: usize = 3;
/// The forks of one container.
const FORKS: usize = 1000;

on_stages! {
    a_large_layer_on_ext4: a_large_layer(Ext4, Debian);
    a_large_layer_on_xfs: a_large_layer(Xfs, Debian);
    a_large_layer_with_a_pool: a_large_layer(Ext4Pool, Debian);
    a_thousand_forks_on_ext4: a_thousand_forks(Ext4, Debian);
    a_thousand_forks_on_xfs: a_thousand_forks(Xfs, Debian);
    a_thousand_forks_with_a_pool: a_thousand_forks(Ext4Pool, Current);
}

/// Makes files in a directory, and has their names in the kernel's cache.
fn fill(upper: &Path) {
    for number in 0..FILES {
        if number % 1000 == 0 {
            fs::create_dir(upper.join((number / 1000).to_string())).unwrap();
        }
        fs::write(upper.join(format!("{}/{number}", number / 1000)), number.to_string()).unwrap();
    }
    for directory in fs::read_dir(upper).unwrap() {
        for file in fs::read_dir(directory.unwrap().path()).unwrap() {
            drop(file.unwrap().metadata());
        }
    }
}

/// The median time of Prepare, while `more` says so, and at least fifty times. What is prepared is removed.
fn prepares(doors: &Doors, parent: &str, mut more: impl FnMut() -> bool) -> Duration {
    let mut took = Vec::new();
    doors.run(async {
        let mut client = doors.grpc().await;
        while took.len() < 50 || more() {
            let key = format!("default/1/probe-{}", took.len());
            let began = Instant::now();
            client.prepare(prepare_request(&key, parent, &[])).await.unwrap();
            took.push(began.elapsed());
            let request = api::RemoveSnapshotRequest { key, ..Default::default() };
            client.remove(request).await.unwrap();
        }
    });
    took.sort();
    took[took.len() / 2]
}

fn a_large_layer(mut stage: Stage) {
    stage.containerd.stop();
    let doors = stage.doors();
    doors.prepare("default/1/extract-base", "", &[]).unwrap();
    doors.commit("default/2/base", "default/1/extract-base", &[]).unwrap();
    let base = "default/2/base";
    let layout = stage.layout;
    let idle = prepares(&doors, base, || false);

    // What was written a moment ago is still to be flushed, and the removal's own record waits for that too: told, no more.
    for (what, committed, flushed) in
        [("written", false, true), ("committed", true, true), ("not flushed", false, false)]
    {
        let (mut best, mut slowest) = (Duration::MAX, f64::MAX);
        for turn in 0..TRIES {
            let key = format!("default/3/large-{what}-{turn}");
            doors.prepare(&key, base, &[]).unwrap();
            fill(&doors.upper(&key).unwrap());
            let mut gone = key.clone();
            if committed {
                // Of the pool it is read-only then.
                gone = format!("default/4/large-{turn}");
                doors.commit(&gone, &key, &[]).unwrap();
            }
            if flushed {
                rustix::fs::sync();
            }
            let took = doors.run(async {
                let mut client = doors.grpc().await;
                let request = api::RemoveSnapshotRequest { key: gone, ..Default::default() };
                let began = Instant::now();
                client.remove(request).await.unwrap();
                began.elapsed()
            });
            let removed = Instant::now();
            let left = || stage.place.trash().len() + stage.place.subvolumes().len().saturating_sub(2);
            let beside = prepares(&doors, base, || left() > 0 && removed.elapsed() < Duration::from_mins(2));
            let ratio = beside.as_secs_f64() / idle.as_secs_f64();
            println!(
                "removal | {layout:?} | {FILES} files, {what} | answered in {:.1} ms | prepare p50 {:.2} ms idle, {:.2} ms beside ({ratio:.2}) | {:.1} s until it is gone",
                took.as_secs_f64() * 1e3,
                idle.as_secs_f64() * 1e3,
                beside.as_secs_f64() * 1e3,
                removed.elapsed().as_secs_f64(),
            );
            (best, slowest) = (best.min(took), slowest.min(ratio));
            if !flushed || (best <= ANSWER && slowest <= 2.0) {
                break;
            }
        }
        assert!(!flushed || best <= ANSWER, "it took {best:?}");
        assert!(slowest <= 2.0, "prepares took {slowest:.2} times as long");
    }

    // A removal that a stop cuts off is finished by the next start; Cleanup waits for nobody's pace.
    doors.prepare("default/5/large", base, &[]).unwrap();
    fill(&doors.upper("default/5/large").unwrap());
    doors.remove("default/5/large").unwrap();
    let began = Instant::now();
    stage.loomd.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "the stop waited {:?}", began.elapsed());
    stage.loomd.start();
    let began = Instant::now();
    stage.doors().run(async {
        let mut client = doors.grpc().await;
        client.cleanup(api::CleanupRequest::default()).await.unwrap();
    });
    println!("removal | {layout:?} | Cleanup took {:.1} s", began.elapsed().as_secs_f64());
    wait_until("the trash to be empty", || stage.place.trash().is_empty());
}

/// What a filesystem has in use.
#[derive(Clone, Copy, Debug)]
struct Used {
    bytes: u64,
    inodes: u64,
}

/// Of the root's filesystem, and of the pool's.
fn used(place: &Place) -> Vec<Used> {
    let of = |path: &Path| {
        rustix::fs::sync();
        let stat = rustix::fs::statvfs(path).unwrap();
        Used {
            bytes: (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
            inodes: stat.f_files.saturating_sub(stat.f_ffree),
        }
    };
    [Some(&place.filesystem), place.pool.as_ref()].into_iter().flatten().map(|path| of(path)).collect()
}

fn a_thousand_forks(stage: Stage) {
    // A number for each is enough where every byte is copied.
    let image = stage.import(&small());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "web", "sleep", "10000"]);
    stage.containerd.exec("web", &["sh", "-c", "for n in 1 2 3 4 5 6 7 8 9 10; do echo $n >/root/$n; done"]);
    // What containerd and the database make once is there already.
    stage.loom(&["fork", "web", "--name", "first", "--no-start"]);
    stage.containerd.remove(&["first"]);
    stage.containerd.collect();
    wait_until("the first to go", || stage.place.trash().is_empty());
    let (before, layers) = (used(&stage.place), stage.place.layers().len());
    let tell = |what: &str, took: Duration| {
        let now = used(&stage.place);
        let more: Vec<_> = now
            .iter()
            .zip(&before)
            .map(|(now, before)| {
                let more = |now: u64, before: u64| i128::from(now) - i128::from(before);
                format!(
                    "{} KiB and {} inodes",
                    more(now.bytes, before.bytes) / 1024,
                    more(now.inodes, before.inodes)
                )
            })
            .collect();
        println!(
            "forks | {:?} | {what} | {:.1} s | {}",
            stage.layout,
            took.as_secs_f64(),
            more.join(", pool ")
        );
    };

    let began = Instant::now();
    for number in 0..FORKS {
        stage.loom(&["snapshot", "web", "--name", &format!("state-{number}"), "--label", "of=test"]);
    }
    tell(&format!("{FORKS} snapshots"), began.elapsed());
    let began = Instant::now();
    stage.loom(&["prune", "--label", "of=test"]);
    println!("forks | {:?} | the removal answered in {:.1} s", stage.layout, began.elapsed().as_secs_f64());
    gone(&stage, layers);
    back(&stage, &before);
    tell("snapshots removed", began.elapsed());

    let began = Instant::now();
    stage.loom(&["fork", "web", "--name", "fork", "--count", &FORKS.to_string(), "--no-start"]);
    tell(&format!("{FORKS} containers"), began.elapsed());
    let began = Instant::now();
    let names: Vec<String> = (1..=FORKS).map(|number| format!("fork-{number}")).collect();
    stage.containerd.remove(&names.iter().map(String::as_str).collect::<Vec<_>>());
    gone(&stage, layers);
    back(&stage, &before);
    tell("containers removed", began.elapsed());
    stage.end(&image);
}

/// Waits until there are as many layers as before, and nothing is in the trash.
fn gone(stage: &Stage, layers: usize) {
    let end = Instant::now() + Duration::from_mins(5);
    loop {
        stage.containerd.collect();
        let subvolumes = stage.place.subvolumes().len();
        if stage.place.layers().len() <= layers && stage.place.trash().is_empty() && subvolumes <= layers {
            return;
        }
        assert!(Instant::now() < end, "{} layers, {subvolumes} subvolumes", stage.place.layers().len());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until the disk is back to where it was, but for what databases keep for later use: btrfs frees what was in a
/// subvolume behind its removal.
fn back(stage: &Stage, before: &[Used]) {
    let end = Instant::now() + Duration::from_mins(2);
    loop {
        let now = used(&stage.place);
        let more = |(before, now): (&Used, &Used)| {
            now.bytes > before.bytes + (24 << 20) || now.inodes > before.inodes + 64
        };
        if !before.iter().zip(&now).any(more) {
            return;
        }
        assert!(Instant::now() < end, "{before:?} became {now:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
