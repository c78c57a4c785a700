//! States of what nothing writes to are sealed as they lie: at one cost whatever the size, and never while
//! anything writes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use containerd_client::types::Mount;
use loom_snapshotter::layer::{Layers, Method};
use loom_snapshotter::snapshot::{Keep, Rules, Snapshots, Still, Take};
use loom_snapshotter::store::{Id, Store};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use support::changes::Random;
use support::containerd::Version;
use support::fault::{Action, Fault, passed};
use support::image::small;
use support::layout::Layout;
use support::process::{run, said};
use support::scratch::{Filesystem, Scratch};
use support::stage::Stage;
use support::wait::wait_until;

/// The attempts on sources that are started and stopped all the time.
const ATTEMPTS: usize = 1200;
/// Those sources.
const SOURCES: usize = 8;

/// A source, and what is known of it from outside.
struct Source {
    key: String,
    id: Id,
    /// Odd from when its mounts are asked for until nothing of them is left.
    turns: AtomicU64,
    /// What was found in it at the end of each session, and not there before.
    sessions: AtomicU64,
}

/// How often each thing happened.
#[derive(Default)]
struct Counts {
    sessions: AtomicU64,
    detached: AtomicU64,
    stale: AtomicU64,
}

fn core(root: &Path) -> Arc<Snapshots> {
    let layers = Layers::open(root, None).unwrap();
    let store = Store::open(&root.join("loom.db")).unwrap();
    Snapshots::open(store, layers, Rules::default()).unwrap()
}

/// What a session has written, as one who comes behind it finds it: the same everywhere.
fn written(directories: &[PathBuf]) -> [Option<String>; 3] {
    ["first", "log", "last"].map(|name| {
        let found = directories.iter().find_map(|directory| fs::read_to_string(directory.join(name)).ok());
        found.map(|text| text.lines().last().unwrap_or_default().to_owned())
    })
}

fn upper(options: &str) -> PathBuf {
    options.split(',').find_map(|option| option.strip_prefix("upperdir=")).unwrap().into()
}

/// An option with the names of lowers as seen from the directory of layers.
fn shortened(core: &Snapshots, option: &str) -> String {
    let layers = format!("{}/layers/", core.layers().root().display());
    if option.starts_with("lowerdir=") { option.replace(&layers, "") } else { option.to_owned() }
}

/// Starts and stops a source at random: a mount in a namespace of this thread's own, and writes to it.
fn start_and_stop(core: &Snapshots, source: &Source, place: &Path, stop: &AtomicBool, counts: &Counts) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    // This thread's own too: the names of layers are told from here, as containerd does it, to have room for many.
    std::env::set_current_dir(core.layers().root().join("layers")).unwrap();
    let mut random = Random::seeded(&source.key);
    while !stop.load(Ordering::SeqCst) {
        source.turns.fetch_add(1, Ordering::SeqCst);
        session(core, source, place, &mut random, counts);
        source.turns.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(random.below(250) as u64));
    }
}

fn session(core: &Snapshots, source: &Source, place: &Path, random: &mut Random, counts: &Counts) {
    let options = loop {
        let told = core.mounts(&source.key).unwrap().remove(0).options;
        let told: Vec<_> = told.iter().map(|option| shortened(core, option)).collect();
        let told = told.join(",");
        // Whoever got them may take its time.
        std::thread::sleep(Duration::from_millis(random.below(40) as u64));
        match mount(Some("overlay"), place, Some("overlay"), MsFlags::empty(), Some(told.as_str())) {
            Ok(()) => break told,
            Err(Errno::ENOENT) => _ = counts.stale.fetch_add(1, Ordering::SeqCst),
            Err(e) => panic!("{told}: {e}"),
        }
    };
    let top = || {
        let chain = core.get(source.id).unwrap().chain;
        core.layers().fs(chain[0].home, chain[0].id)
    };
    let upper = upper(&options);
    assert_eq!(top(), upper, "what was sealed is mounted");
    let number = source.sessions.fetch_add(1, Ordering::SeqCst) + 1;
    // By descriptor: it goes on when the mount has gone out of sight.
    let open = fs::File::open(place).unwrap();
    let root = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    fs::write(root.join("first"), format!("{number}\n")).unwrap();
    let mut log = fs::read_to_string(root.join("log")).unwrap_or_default();
    writeln!(log, "{number}").unwrap();
    assert_eq!(log.lines().count() as u64, number, "a session was lost: {log:?}");
    fs::write(root.join("log"), &log).unwrap();
    let detached = random.chance(30);
    if detached {
        umount2(place, MntFlags::MNT_DETACH).unwrap();
        counts.detached.fetch_add(1, Ordering::SeqCst);
    }
    std::thread::sleep(Duration::from_millis(random.below(60) as u64));
    fs::write(root.join("last"), format!("{number}\n")).unwrap();
    assert_eq!(top(), upper, "what is written to was sealed");
    drop(open);
    if !detached {
        // Whoever looks at it just now ends that.
        wait_until("the mount to end", || umount2(place, MntFlags::empty()) != Err(Errno::EBUSY));
    }
    counts.sessions.fetch_add(1, Ordering::SeqCst);
}

/// None of many attempts on sources that start and stop at random gives two writers one directory, or a state that
/// the source never had; and what is stopped is sealed.
#[test]
fn no_two_write_to_one_directory() {
    let scratch = Scratch::new();
    let root = scratch.filesystem("fs", Filesystem::Ext4, 4).join("loom");
    let core = core(&root);
    assert!(core.layers().seals());
    let prepare = |key: &str, parent: &str| core.prepare(key, parent, BTreeMap::new()).unwrap();
    prepare("default/1/extract-1", "");
    core.commit("default/2/base", "default/1/extract-1", BTreeMap::new()).unwrap();
    let sources: Vec<Source> = (0..SOURCES)
        .map(|n| {
            let key = format!("default/{}/web-{n}", n + 10);
            prepare(&key, "default/2/base");
            let id = core.by_key(&key).unwrap().unwrap().id;
            Source { key, id, turns: AtomicU64::new(0), sessions: AtomicU64::new(0) }
        })
        .collect();
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let (stopped, sealed, sealed_in_all) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (n, source) in sources.iter().enumerate() {
            let (core, stop, counts) = (&core, &stop, &counts);
            let place = scratch.dir(&format!("mounted-{n}"));
            scope.spawn(move || start_and_stop(core, source, &place, stop, counts));
        }
        let attempts: Vec<_> = (0..2)
            .map(|turn| {
                let (core, sources) = (&core, &sources);
                let (stopped, sealed, in_all) = (&stopped, &sealed, &sealed_in_all);
                scope.spawn(move || {
                    let mut random = Random::seeded(&format!("attempts {turn}"));
                    for _ in 0..ATTEMPTS / 2 {
                        let source = random.pick(sources).unwrap();
                        let before = source.turns.load(Ordering::SeqCst);
                        let keep = if random.chance(50) { Keep::ForOne } else { Keep::ForClones };
                        let take = Take {
                            keep,
                            labels: BTreeMap::new(),
                            captured: None,
                            operation: None,
                            expires: None,
                        };
                        let (state, cost) = core.snapshot(source.id, &take, &mut Still).unwrap();
                        let rested =
                            before.is_multiple_of(2) && source.turns.load(Ordering::SeqCst) == before;
                        let is_sealed = cost.method == Method::Sealed;
                        if rested {
                            stopped.fetch_add(1, Ordering::SeqCst);
                            sealed.fetch_add(u64::from(is_sealed), Ordering::SeqCst);
                        }
                        if is_sealed {
                            in_all.fetch_add(1, Ordering::SeqCst);
                            let chain = core.get(state.id).unwrap().chain;
                            let fs: Vec<_> =
                                chain.iter().map(|layer| core.layers().fs(layer.home, layer.id)).collect();
                            let [first, log, last] = written(&fs);
                            assert!(
                                first == log && log == last,
                                "{first:?} {log:?} {last:?}: no moment of rest"
                            );
                        }
                        core.release(state.id).unwrap();
                    }
                })
            })
            .collect();
        let ended: Vec<_> = attempts.into_iter().map(|attempt| attempt.join()).collect();
        stop.store(true, Ordering::SeqCst);
        for ended in ended {
            ended.unwrap();
        }
    });
    let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
    println!(
        "sealed | {ATTEMPTS} attempts, {} sealed | of {} on a stopped source {} | {} sessions, {} detached with a \
         file open | {} mounts that were told before failed",
        of(&sealed_in_all),
        of(&stopped),
        of(&sealed),
        of(&counts.sessions),
        of(&counts.detached),
        of(&counts.stale)
    );
    assert!(of(&counts.sessions) > 50 && of(&counts.detached) > 10 && of(&stopped) > ATTEMPTS as u64 / 10);
    assert!(of(&sealed) * 10 >= of(&stopped) * 9);
}

/// A container that does not run, with `one` in a file of its own.
fn still(stage: &Stage) -> String {
    let image = stage.import(&small());
    stage.containerd.ctr(&[
        "run",
        "--snapshotter",
        "loom",
        &image,
        "still",
        "sh",
        "-c",
        "echo one >/root/log",
    ]);
    stage.containerd.try_ctr(&["tasks", "rm", "still"]);
    assert_eq!(stage.containerd.status_of("still"), None);
    image
}

/// Runs a container that has no task, until it ends; answers what it printed.
fn says(stage: &Stage, container: &str) -> String {
    let printed = stage.containerd.ctr(&["tasks", "start", container]);
    stage.containerd.try_ctr(&["tasks", "rm", container]);
    printed
}

/// A real container's states, with all that starts it in between.
#[test]
fn a_container_that_is_started_and_stopped() {
    let stage = Stage::new(Layout::Ext4, Version::Debian);
    let image = stage.import(&small());
    let grows = "echo more >>/root/log; wc -l </root/log";
    let first = stage.containerd.ctr(&["run", "--snapshotter", "loom", &image, "web", "sh", "-c", grows]);
    assert_eq!(first.trim(), "1");
    stage.containerd.try_ctr(&["tasks", "rm", "web"]);
    let mut sealed = 0;
    for n in 1..=12 {
        if n > 1 {
            assert_eq!(says(&stage, "web").trim(), n.to_string(), "nothing is lost below a new layer");
        }
        let taken = stage.loom_json(&["snapshot", "web", "--name", &format!("state-{n}")]);
        sealed += u32::from(taken["cost"]["method"] == "sealed");
    }
    assert_eq!(sealed, 12);
    for n in [1, 7, 12] {
        stage.loom_json(&["clone", &format!("state-{n}"), "--name", &format!("clone-{n}"), "--no-start"]);
        assert_eq!(says(&stage, &format!("clone-{n}")).trim(), (n + 1).to_string());
    }
    // One fork by each way that there is.
    let forked = stage.loom_json(&["fork", "web", "--name", "fork", "--no-start"]);
    assert_eq!(forked["cost"]["method"], "sealed");
    assert_eq!(says(&stage, "fork").trim(), "13");
    let three = stage.loom_json(&["fork", "web", "--count", "3", "--no-start"]);
    assert_eq!(three["cost"]["method"], "sealed");
    for n in 1..=12 {
        stage.loom_json(&["rm", &format!("state-{n}")]);
    }
    stage.end(&image);
}

/// Whichever step of a seal is the last, the container has what it had, and starts.
#[test]
fn the_daemon_dies_at_each_step() {
    let mut stage = Stage::new(Layout::Ext4, Version::Current);
    let image = still(&stage);
    let seen = stage.scratch.path().join("seen");
    stage.loomd.env("LOOM_FAULT_SEEN", seen.to_str().unwrap());
    stage.loomd.stop();
    let _ = fs::remove_file(&seen);
    stage.start_again();
    let before = passed(&seen);
    stage.loom_json(&["snapshot", "still", "--name", "first"]);
    let points = passed(&seen).into_iter();
    // Those that a start passes too are the sweep's.
    let points: Vec<_> = points.filter(|(point, _)| !before.contains_key(point)).collect();
    println!("sealed | the daemon dies at {} points", points.len());
    for (turn, (point, _)) in points.iter().enumerate() {
        // Something in the layer, so that there is something to seal.
        let says = format!("{turn}");
        let key = key_of(&stage, "still");
        let doors = stage.doors();
        fs::write(doors.upper(&key).unwrap().join("said"), &says).unwrap();
        stage.loomd.stop();
        stage.loomd.fail_at(&Fault { point: point.clone(), action: Action::Abort, nth: 1 }.to_string());
        stage.start_again();
        let name = format!("state-{turn}");
        let asked = stage.loom_command(&["snapshot", "still", "--name", &name]).output().unwrap();
        wait_until("the daemon to die", || !stage.loomd.daemon().is_running());
        stage.loomd.fail_nowhere();
        stage.start_again();
        let doors = stage.doors();
        let mounted = Mounted::new(&doors.mounts(&key).unwrap()[0], &stage.scratch.dir("at"), "");
        assert_eq!(
            fs::read_to_string(mounted.root().join("said")).unwrap(),
            says,
            "{point}: {}",
            said(&asked)
        );
        drop(mounted);
        if stage.loom_command(&["inspect", &name]).output().unwrap().status.success() {
            stage.loom_json(&["rm", &name]);
        }
    }
    stage.containerd.ctr(&["tasks", "start", "still"]);
    stage.containerd.try_ctr(&["tasks", "rm", "still"]);
    stage.loom_json(&["rm", "first"]);
    stage.end(&image);
}

/// containerd's whole key of a container's snapshot.
fn key_of(stage: &Stage, container: &str) -> String {
    stage.loom_json(&["inspect", container])["key"].as_str().unwrap().to_owned()
}

/// A mount in a namespace of its own.
struct Mounted(Child, PathBuf);

impl Mounted {
    fn new(told: &Mount, at: &Path, script: &str) -> Mounted {
        let kind = if told.r#type == "bind" { "--bind" } else { "-t overlay" };
        let (options, source) = (told.options.join(",").replace(",rbind", ""), &told.source);
        let script = format!(
            "mount {kind} -o {options} {source} {0}; cd {0}; {script}\necho ready; exec cat",
            at.display()
        );
        let mut child = Command::new("unshare")
            .args(["-m", "bash", "-euc", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).expect(&script);
        let root = PathBuf::from(format!("/proc/{}/cwd", child.id()));
        Mounted(child, root)
    }

    fn root(&self) -> &Path {
        &self.1
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Mounts that were told before a seal fail, new ones work; what is mounted out of sight, and what was handed out as
/// a bind, is left alone.
#[test]
fn what_was_handed_out_decides() {
    let stage = Stage::new(Layout::Ext4, Version::Current);
    let image = still(&stage);
    let (key, doors) = (key_of(&stage, "still"), stage.doors());
    let method = |name: &str, of: &str| {
        let taken = stage.loom_json(&["snapshot", of, "--name", name]);
        taken["cost"]["method"].as_str().unwrap().to_owned()
    };
    let told = doors.mounts(&key).unwrap().remove(0);
    let at = stage.scratch.dir("at");
    let detached =
        Mounted::new(&told, &at, &format!("exec 3<>open; cd /; umount -l {}; echo late >&3", at.display()));
    assert_ne!(method("while-detached", "still"), "sealed");
    assert_eq!(doors.mounts(&key).unwrap()[0], told, "its directory is where it was");
    drop(detached);
    assert_eq!(method("behind", "still"), "sealed");
    let options = told.options.join(",");
    let stale = mount(Some("overlay"), &at, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    assert_eq!(stale, Err(Errno::ENOENT));
    let mounted = Mounted::new(&doors.mounts(&key).unwrap()[0], &at, "test $(cat root/log) = one; cat open");
    assert_eq!(fs::read_to_string(mounted.root().join("open")).unwrap(), "late\n");
    drop(mounted);

    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "prepare", "alone", ""]);
    let alone = doors.list().unwrap().into_iter().find(|key| key.ends_with("/alone")).unwrap();
    let bind = doors.mounts(&alone).unwrap();
    fs::write(Path::new(&bind[0].source).join("file"), "").unwrap();
    assert_ne!(method("of-alone", &alone), "sealed");
    assert_eq!(doors.mounts(&alone).unwrap(), bind);
    for name in ["while-detached", "behind", "of-alone"] {
        stage.loom_json(&["rm", name]);
    }
    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "rm", "alone"]);
    stage.end(&image);
}

/// The time of a state does not follow the size of what is in it.
#[test]
fn a_state_costs_the_same_whatever_the_size() {
    let stage = Stage::new(Layout::Ext4, Version::Current);
    let image = still(&stage);
    let (key, doors) = (key_of(&stage, "still"), stage.doors());
    let mut times = Vec::new();
    for (files, bytes) in [(10_u64, 1_u64 << 20), (10_000, 100 << 20), (100_000, 1 << 30)] {
        let once = |turn: usize| {
            fill(&doors.upper(&key).unwrap().join(format!("{files}-{turn}")), files, bytes / files);
            run("sync", &["-f", stage.place.root.to_str().unwrap()]);
            let (began, name) = (Instant::now(), format!("state-{files}-{turn}"));
            let taken = stage.loom_json(&["snapshot", "still", "--name", &name]);
            let elapsed = began.elapsed();
            assert_eq!(taken["cost"]["method"], "sealed");
            let cost = taken["cost"]["total_us"].as_u64().unwrap();
            println!("sealed | {files} files, {} MB | {cost} us | the command {elapsed:?}", bytes >> 20);
            stage.loom_json(&["rm", &name]);
            cost
        };
        // The machine does other things too.
        times.push((0..3).map(once).min().unwrap());
    }
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    println!("sealed | the largest takes {}% of the smallest", most * 100 / least);
    assert!(most <= &(least * 2), "{times:?}");
    stage.end(&image);
}

fn fill(dir: &Path, files: u64, each: u64) {
    let content = vec![b'x'; usize::try_from(each).unwrap()];
    for n in 0..files {
        let sub = dir.join((n / 1000).to_string());
        if n % 1000 == 0 {
            fs::create_dir_all(&sub).unwrap();
        }
        fs::write(sub.join(n.to_string()), &content).unwrap();
    }
}
