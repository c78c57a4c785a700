//! Copies of containers that run: how long they stand still for one, and that each copy is one moment of theirs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use serde_json::Value;

use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::process::run;
use support::stage::{Stage, on_stages};
use support::wait::wait_until;

on_stages! {
    a_copy_of_much_is_a_short_pause: short(Ext4, Debian);
    each_copy_is_a_moment_on_ext4: moments_of_200(Ext4, Debian);
    each_copy_is_a_moment_on_xfs: moments_of_50(Xfs, Debian);
    a_fork_on_a_pool_costs_the_same_at_any_size: same(Ext4Pool, Debian);
}

/// Starts a container that runs a script; answers its root as it sees it.
fn start(stage: &Stage, name: &str, script: &str) -> PathBuf {
    let image = stage.import(&small());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, name, "sh", "-ec", script]);
    PathBuf::from(format!("/proc/{}/root", stage.containerd.pid_of(name)))
}

fn fill(dir: &Path, count: usize, size: usize) {
    let mut bytes = vec![0; size];
    getrandom::fill(&mut bytes).unwrap();
    for number in 0..count {
        let sub = dir.join((number % 100).to_string());
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(number.to_string()), &bytes).unwrap();
    }
    rustix::fs::sync();
}

/// The time that an answer says something took.
fn cost(answer: &Value, what: &str) -> Duration {
    Duration::from_micros(answer["cost"][what].as_u64().expect("a cost"))
}

/// 1 GB, and a writer of 10 MB a second.
fn short(stage: Stage) {
    const FILES: usize = 10_000;
    const SIZE: u32 = 100_000;
    let root = start(
        &stage,
        "writer",
        // A file of 100,000 bytes for each hundredth of a second: what it falls behind, it makes up for.
        "mkdir -p /root/log /root/files; until [ -e /root/go ]; do sleep 0.1; done; n=0; \
         now() { read -r up idle </proc/uptime; now=${up%.*}${up#*.}; }; now; begun=$now; \
         while :; do now; [ $((now-begun)) -gt $n ] || { usleep 3000; continue; }; \
         n=$((n+1)); cat /root/files/0/0 >/root/log/$((n % 300)); echo $n >/root/count; done",
    );
    fill(&root.join("root/files"), FILES, SIZE as usize);
    let written = || fs::read_to_string(root.join("root/count")).ok()?.trim().parse::<usize>().ok();
    fs::write(root.join("root/go"), "").unwrap();
    wait_until("the writer to have written everything once", || written() > Some(300));

    let (before, began) = (written(), Instant::now());
    let answer = stage.loom_json(&["fork", "writer", "--name", "copy", "--no-start"]);
    let times = u32::try_from(written().unwrap() - before.unwrap()).unwrap();
    let rate = f64::from(times) * f64::from(SIZE) / began.elapsed().as_secs_f64();
    assert_eq!(answer["cost"]["method"], "copy");
    let (paused, whole) = (cost(&answer, "paused_us"), cost(&answer, "total_us"));

    let plain = stage.place.filesystem.join("cp");
    let began = Instant::now();
    run("cp", &["-a", root.join("root").to_str().unwrap(), plain.to_str().unwrap()]);
    println!(
        "rounds | {} MB, {:.1} MB/s | paused {paused:?} | whole {whole:?} | cp -a {:?}",
        FILES * SIZE as usize / 1_000_000,
        rate / 1e6,
        began.elapsed()
    );
    fs::remove_dir_all(plain).unwrap();
    assert!(paused * 10 < whole, "it stood still for {paused:?} of {whole:?}");
    stage.end(&small().name);
}

/// What the container does, one call a step; `log` has a line before and one behind each. Of turn `c`, a file is made,
/// moved into a directory, linked, written to, and its time set back; the directory is renamed; and what earlier
/// turns made changes its mode and its name, and goes.
const STEPS: &str = r"
mkdir -p /root/w/x; cd /root/w
until [ -e /root/go ]; do sleep 0.1; done
n=9
while :; do
    n=$((n+1)); c=$((n/10))
    if [ $((c%2)) = 0 ]; then d=x e=y; else d=y e=x; fi
    echo b $n >>log
    case $((n%10)) in
    0) echo $n >>f$c;;
    1) mv f$c $d/g$c;;
    2) ln $d/g$c h$c;;
    3) echo $n >>h$c;;
    4) touch -d @$n h$c;;
    5) mv $d $e;;
    6) [ $c -le 64 ] || rm i$((c-64));;
    7) [ $c -le 64 ] || rm $e/g$((c-64));;
    8) [ $c -le 32 ] || chmod 600 h$((c-32));;
    9) [ $c -le 32 ] || mv h$((c-32)) i$((c-32));;
    esac
    echo e $n >>log
    usleep 2000
done
";

/// The same steps, done here.
struct Model {
    dir: PathBuf,
    done: u64,
}

impl Model {
    fn new(dir: PathBuf) -> Model {
        // The first turn is odd, and begins as an even one ends.
        fs::create_dir_all(dir.join("y")).unwrap();
        Model { dir, done: 9 }
    }

    /// The first half of the next step, where it has one.
    fn begin(&self) {
        let n = self.done + 1;
        if n.is_multiple_of(10) {
            self.write(&format!("f{}", n / 10), "");
        }
    }

    fn step(&mut self) {
        self.done += 1;
        let (n, c) = (self.done, self.done / 10);
        let at = |name: String| self.dir.join(name);
        let (d, e) = if c.is_multiple_of(2) { ("x", "y") } else { ("y", "x") };
        let set = |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        match n % 10 {
            0 => self.write(&format!("f{c}"), &format!("{n}\n")),
            1 => fs::rename(at(format!("f{c}")), at(format!("{d}/g{c}"))).unwrap(),
            2 => fs::hard_link(at(format!("{d}/g{c}")), at(format!("h{c}"))).unwrap(),
            3 => {
                let before = fs::read_to_string(at(format!("h{c}"))).unwrap();
                self.write(&format!("h{c}"), &format!("{before}{n}\n"));
            }
            4 => {
                let time = Timespec { tv_sec: i64::try_from(n).unwrap(), tv_nsec: 0 };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, at(format!("h{c}")), &times, AtFlags::empty()).unwrap();
            }
            5 => fs::rename(at(d.into()), at(e.into())).unwrap(),
            6 if c > 64 => fs::remove_file(at(format!("i{}", c - 64))).unwrap(),
            7 if c > 64 => fs::remove_file(at(format!("{e}/g{}", c - 64))).unwrap(),
            8 if c > 32 => set(at(format!("h{}", c - 32)), 0o600),
            9 if c > 32 => fs::rename(at(format!("h{}", c - 32)), at(format!("i{}", c - 32))).unwrap(),
            _ => {}
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

/// What is in a directory but for the log, a line each. Times that nobody set are left out.
fn picture(root: &Path) -> String {
    let (mut lines, mut first, mut ahead) = (Vec::new(), HashMap::new(), vec![root.to_path_buf()]);
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            let found = path.symlink_metadata().unwrap();
            if found.is_dir() {
                lines.push((name, found.ino(), String::new()));
                ahead.push(path);
            } else if name != Path::new("log") {
                let set = if found.mtime() < 1_000_000_000 { found.mtime() } else { 0 };
                let text = fs::read_to_string(&path).unwrap();
                lines.push((name, found.ino(), format!("{:o} {set} {text:?}", found.mode())));
            }
        }
    }
    lines.sort();
    let mut all = String::new();
    for (name, inode, line) in lines {
        let same = first.entry(inode).or_insert_with(|| name.clone());
        writeln!(all, "{} {} {line}", name.display(), same.display()).unwrap();
    }
    all
}

fn moments_of_200(stage: Stage) {
    moments(stage, 200);
}

fn moments_of_50(stage: Stage) {
    moments(stage, 50);
}

fn moments(stage: Stage, states: usize) {
    let root = start(&stage, "writer", STEPS);
    fill(&root.join("root/files"), 300, 2000);
    wait_until("the writer to wait", || root.join("root/w/x").exists());
    fs::rename(root.join("root/w/x"), root.join("root/w/y")).unwrap();
    fs::write(root.join("root/go"), "").unwrap();
    let mut model = Model::new(stage.scratch.dir("model"));
    let (mut longest, mut whole) = (Duration::ZERO, Duration::ZERO);
    for number in 0..states {
        let before = stage.place.layers();
        let answer = stage.loom_json(&["snapshot", "writer", "--name", "state"]);
        longest = longest.max(cost(&answer, "paused_us"));
        whole += cost(&answer, "total_us");
        let layers = stage.place.layers();
        let [layer] = &layers.iter().filter(|layer| !before.contains(layer)).collect::<Vec<_>>()[..] else {
            panic!("one layer more than {before:?}: {layers:?}")
        };
        let state = layer.join("fs/root/w");
        let log = fs::read_to_string(state.join("log")).unwrap_or_default();
        assert!(log.is_empty() || log.ends_with('\n'), "{log:?}");
        for (at, line) in (20..).zip(log.lines()) {
            assert_eq!(line, format!("{} {}", if at % 2 == 0 { "b" } else { "e" }, at / 2));
        }
        let last = log.lines().last().unwrap_or("e 9");
        let (kind, step) = last.split_once(' ').unwrap();
        let step: u64 = step.parse().unwrap();
        while model.done < if kind == "e" { step } else { step - 1 } {
            model.step();
        }
        let found = picture(&state);
        let mut had = vec![picture(&model.dir)];
        if kind == "b" && found != had[0] {
            model.begin();
            had.push(picture(&model.dir));
            model.step();
            had.push(picture(&model.dir));
        }
        assert!(
            had.contains(&found),
            "state {number}, {last}: it has\n{found}\nand the source had\n{}",
            had.concat()
        );
        assert_eq!(fs::read_dir(layer.join("fs/root/files")).unwrap().count(), 100);
        stage.loom_json(&["rm", "state"]);
    }
    println!(
        "rounds | {:?} | {states} states, each one that was | {} steps | longest pause {longest:?} | {:?} each",
        stage.layout,
        model.done,
        whole / u32::try_from(states).unwrap()
    );
    assert!(model.done > 1000, "the writer went on");
    stage.end(&small().name);
}

/// The least of several forks, so that what the machine does besides is left out.
fn same(stage: Stage) {
    let root = start(&stage, "source", "mkdir /root/files; sleep 10000");
    let mut forks = Vec::new();
    for files in [10, 5000] {
        fill(&root.join("root/files"), files, 10_000);
        let answers: Vec<Value> = (0..6)
            .map(|number| {
                let name = format!("fork-{files}-{number}");
                stage.loom_json(&["fork", "source", "--name", &name, "--no-start"])
            })
            .collect();
        let least = |what: &str| answers.iter().map(|answer| cost(answer, what)).min().unwrap();
        println!(
            "rounds | pool, {files} files | paused {:?} | whole {:?}",
            least("paused_us"),
            least("total_us")
        );
        forks.push(least("total_us"));
    }
    assert!(forks[1] < forks[0] * 2, "the larger costs more: {forks:?}");
    stage.end(&small().name);
}
