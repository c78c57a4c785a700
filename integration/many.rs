//! A thousand branches of one container: what they take, and that nothing of them stays.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::containerd::Version;
use support::image::small;
use support::layout::{Layout, Place};
use support::stage::{Stage, on_stages};
use support::wait::wait_until;

/// The forks of one container.
const MANY: usize = 1000;
/// Its snapshots, each by a command of its own.
const STATES: usize = 200;

on_stages! {
    on_ext4: a_thousand(Ext4, Debian);
    on_xfs: a_thousand(Xfs, Debian);
    with_a_pool: a_thousand(Ext4Pool, Current);
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

fn a_thousand(stage: Stage) {
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
            "many | {:?} | {what} | {:.1} s | {}",
            stage.layout,
            took.as_secs_f64(),
            more.join(", pool ")
        );
    };

    let began = Instant::now();
    for number in 0..STATES {
        stage.loom(&["snapshot", "web", "--name", &format!("state-{number}"), "--label", "of=test"]);
    }
    tell(&format!("{STATES} snapshots"), began.elapsed());
    let began = Instant::now();
    stage.loom(&["prune", "--label", "of=test"]);
    println!("many | {:?} | the removal answered in {:.1} s", stage.layout, began.elapsed().as_secs_f64());
    gone(&stage, layers);
    back(&stage, &before);
    tell("snapshots removed", began.elapsed());

    let began = Instant::now();
    stage.loom(&["fork", "web", "--name", "fork", "--count", &MANY.to_string(), "--no-start"]);
    tell(&format!("{MANY} containers"), began.elapsed());
    let began = Instant::now();
    let names: Vec<String> = (1..=MANY).map(|number| format!("fork-{number}")).collect();
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
