//! How long forks and images take to make, beside what else makes them. These measure, so they are asked for by name, of a
//! release build, on a machine that does nothing else: `integration/run --measure`; `target/integration/speed.log`
//! has what they print.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::process::run;
use support::stage::Stage;

/// Runs `work` once and prints how long it took.
fn timed(what: &str, work: impl FnOnce()) {
    let begun = Instant::now();
    work();
    println!("speed | {what} | {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
}

/// Makes `count` files of `size` bytes each; half of each compresses, as most trees do.
fn fill(dir: &Path, count: u32, size: usize) {
    let half = size / 2;
    let mut random = vec![0; half];
    getrandom::fill(&mut random).unwrap();
    for number in 0..count {
        let sub = dir.join((number % 100).to_string());
        fs::create_dir_all(&sub).unwrap();
        random[..4].copy_from_slice(&number.to_le_bytes());
        random.rotate_left(4);
        let text = format!("line {number}\n").repeat(half / 7 + 1);
        fs::write(sub.join(number.to_string()), [random.as_slice(), &text.as_bytes()[..half]].concat())
            .unwrap();
    }
    rustix::fs::sync();
}

/// A running container with these files on loom, and one with the same of nerdctl's on overlayfs.
struct Pair {
    stage: Stage,
    files: PathBuf,
}

impl Pair {
    fn new(layout: Layout) -> Self {
        let stage = Stage::new(layout, Version::Debian);
        let image = stage.import(&small());
        stage.containerd.import("overlayfs", &small().archive);
        stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "ours", "sleep", "10000"]);
        stage.containerd.nerdctl(&[
            "--snapshotter",
            "overlayfs",
            "run",
            "-d",
            "--name",
            "theirs",
            "--net",
            "none",
            "--pull",
            "never",
            &image,
            "sleep",
            "10000",
        ]);
        let pid = stage.containerd.pid_of("ours");
        Self { files: PathBuf::from(format!("/proc/{pid}/root/root/files")), stage }
    }

    /// Gives both these files instead of what they had.
    fn fill(&self, count: u32, size: usize) {
        let pid = self.stage.containerd.nerdctl(&["inspect", "-f", "{{.State.Pid}}", "theirs"]);
        let theirs = format!("/proc/{}/root/root/files", pid.trim());
        for dir in [self.files.to_str().unwrap(), &theirs] {
            run("rm", &["-rf", dir]);
        }
        fill(&self.files, count, size);
        run("cp", &["-a", self.files.to_str().unwrap(), &theirs]);
        rustix::fs::sync();
    }

    fn nerdctl_commit(&self, image: &str) {
        self.stage.containerd.nerdctl(&["--snapshotter", "overlayfs", "commit", "theirs", image]);
    }
}

/// A commit of 1 MB, 100 MB and 1 GB, beside nerdctl's of the same.
fn commits(layout: Layout) {
    let pair = Pair::new(layout);
    for (what, count, size) in [("1 MB", 10, 100_000), ("100 MB", 1000, 100_000), ("1 GB", 10_000, 100_000)] {
        pair.fill(count, size);
        for round in 0..3 {
            timed(&format!("loom commit, {what}"), || {
                let made =
                    pair.stage.loom_json(&["commit", "ours", &format!("loom.test/ours:{count}-{round}")]);
                println!(
                    "speed | its pause | {:.1} ms",
                    made["cost"]["paused_us"].as_f64().unwrap() / 1000.0
                );
            });
        }
        timed(&format!("nerdctl commit, {what}"), || {
            pair.nerdctl_commit(&format!("loom.test/theirs:{count}"));
        });
    }
}

/// A layer of 1 GB in 10,000 files that any tool can take, beside nerdctl's commit of the same and a pipe.
fn layers(layout: Layout) {
    let pair = Pair::new(layout);
    pair.fill(10_000, 104_858);
    let stage = &pair.stage;
    timed("loom commit", || _ = stage.loom_json(&["commit", "ours", "loom.test/zstd:1"]));
    timed("loom portable, zstd", || _ = stage.loom_json(&["portable", "loom.test/zstd:1"]));
    timed("loom commit --portable, gzip", || {
        stage.loom_json(&["commit", "ours", "loom.test/gzip:1", "--portable", "--compression", "gzip"]);
    });
    timed("nerdctl commit, gzip", || pair.nerdctl_commit("loom.test/theirs:1"));
    for (what, program) in [("tar | zstd -T2", "zstd -q -T2"), ("tar | gzip", "gzip")] {
        timed(what, || {
            let out = stage.scratch.path().join("piped");
            let pipe = format!("tar -C {} -c . | {program} >{}", pair.files.display(), out.display());
            run("sh", &["-ec", &pipe]);
            fs::remove_file(&out).unwrap();
        });
    }
}

/// A fork of the running container whose layer is so large, with its pause, beside `cp -a` of its files and nerdctl's
/// commit and run of the same. Answers the least of three for each size.
fn forks(layout: Layout) -> Vec<f64> {
    let pair = Pair::new(layout);
    let sizes = [
        ("10 files, 1 MB", 10, 100_000),
        ("10,000 files, 100 MB", 10_000, 10_000),
        ("100,000 files, 1 GB", 100_000, 10_000),
    ];
    let mut least = Vec::new();
    for (what, count, size) in sizes {
        pair.fill(count, size);
        let mut took = f64::MAX;
        for round in 0..3 {
            let name = format!("fork-{count}-{round}");
            let begun = Instant::now();
            let made = pair.stage.loom_json(&["fork", "ours", "--name", &name]);
            let whole = begun.elapsed().as_secs_f64() * 1000.0;
            let cost = |what: &str| made["cost"][what].as_f64().unwrap() / 1000.0;
            println!(
                "speed | {layout:?} | {what} | fork by {} | {whole:.0} ms to its start | {:.1} ms for the state | {:.1} ms paused",
                made["cost"]["method"],
                cost("total_us"),
                cost("paused_us"),
            );
            took = took.min(cost("total_us"));
            pair.stage.containerd.remove(&[&name]);
        }
        least.push(took);
        let copy = pair.stage.place.filesystem.join("copy");
        timed(&format!("{layout:?} | {what} | cp -a"), || {
            run("cp", &["-a", pair.files.to_str().unwrap(), copy.to_str().unwrap()]);
        });
        fs::remove_dir_all(&copy).unwrap();
        timed(&format!("{layout:?} | {what} | nerdctl commit, run"), || {
            let image = format!("loom.test/theirs:{count}");
            pair.nerdctl_commit(&image);
            let name = format!("theirs-{count}");
            pair.stage.containerd.nerdctl(&[
                "--snapshotter",
                "overlayfs",
                "run",
                "-d",
                "--name",
                &name,
                "--net",
                "none",
                "--pull",
                "never",
                &image,
                "sleep",
                "10000",
            ]);
        });
    }
    least
}

#[test]
#[ignore = "it measures"]
fn forks_on_a_pool() {
    let least = forks(Layout::Ext4Pool);
    assert!(least[2] < least[0] * 2.0, "the largest costs more than twice the smallest: {least:?}");
}

#[test]
#[ignore = "it measures"]
fn forks_on_xfs() {
    forks(Layout::Xfs);
}

#[test]
#[ignore = "it measures"]
fn forks_on_ext4() {
    forks(Layout::Ext4);
}

#[test]
#[ignore = "it measures"]
fn commits_on_a_pool() {
    commits(Layout::Ext4Pool);
}

#[test]
#[ignore = "it measures"]
fn commits_on_xfs() {
    commits(Layout::Xfs);
}

#[test]
#[ignore = "it measures"]
fn commits_on_ext4() {
    commits(Layout::Ext4);
}

#[test]
#[ignore = "it measures"]
fn layers_on_a_pool() {
    layers(Layout::Ext4Pool);
}

#[test]
#[ignore = "it measures"]
fn layers_on_ext4() {
    layers(Layout::Ext4);
}
