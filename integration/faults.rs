//! Every step that touches the disk or the store fails once, and loomd dies once at each, under every
//! verb. Whatever happened, the container that is branched runs on, the request has happened wholly or
//! not at all, nothing half-made stays, and what has not happened can be asked for again.
//!
//! A verb is run once as it should; that shows the world before and behind it, and the points that it
//! passes. Then each of these is made to fail, and the world must come to be one of the two:
//!
//! ```text
//!            set         request (a fault)            request again          unset
//! baseline ─────► before ──────────────────► before ──────────────► after ─────────► baseline
//!                       └──────────────────────────────────────────►
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test panics.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;
use std::time::Instant;

use support::containerd::Version;
use support::fault::{Action, Fault, in_source, passed};
use support::image::{small, tiny};
use support::layout::Layout;
use support::loom::try_loom;
use support::stage::Stage;
use support::verb::{Under, VERBS, Verb};
use support::wait::{DEADLINE, wait_for, wait_until};

/// Points that nothing here passes: where, which and why.
const NEVER: &[(Layout, &str, &str)] = &[
    (Layout::Ext4, "layer.seal.read_only", "a directory cannot be made read-only"),
    (Layout::Ext4, "layer.materialize.cleanse", "what is copied file by file has nothing to cleanse"),
    (Layout::Ext4Pool, "layer.materialize.copy", "a pool layer is a snapshot of another"),
    (Layout::Ext4Pool, "layer.copy.entry", "a pool layer is a snapshot of another"),
];

/// The beginnings of points that are nerdctl's alone: `nerdctl_fork` has them fail.
const ELSEWHERE: [&str; 3] = ["containerd.nerdctl.", "containerd.image.", "containerd.container."];

/// How often each point was passed.
type Passed = BTreeMap<String, usize>;

/// What there is, a line each.
type World = BTreeSet<String>;

/// A source container, a state of it, and what faults have been tried on them.
struct Sweep {
    stage: Stage,
    layer: String,
    source: u32,
    seen: PathBuf,
    /// The fault that loomd runs with.
    armed: Option<Fault>,
    /// For each point, what it did.
    fired: BTreeMap<String, BTreeSet<Action>>,
}

impl Sweep {
    fn new(layout: Layout, version: Version) -> Sweep {
        const COUNT: &str =
            "n=0; while :; do n=$((n+1)); echo $n >/root/new; mv /root/new /root/count; sleep 0.02; done";
        let stage = Stage::new(layout, version);
        let image = stage.import(&small());
        let run = ["run", "-d", "--snapshotter", "loom", &image, "source", "sh", "-c", COUNT];
        stage.containerd.ctr(&run);
        let layer = stage.containerd.snapshots("loom").into_iter().find(|key| key.starts_with("sha256:"));
        let mut sweep = Sweep {
            layer: layer.unwrap(),
            source: stage.containerd.pid_of("source"),
            seen: stage.scratch.path().join("seen"),
            armed: None,
            fired: BTreeMap::new(),
            stage,
        };
        sweep.counts_on("at first");
        sweep.succeed("loom snapshot source --name origin");
        sweep.restart(None);
        sweep
    }

    /// Starts loomd anew, with a fault or none.
    fn restart(&mut self, fault: Option<&Fault>) {
        self.arm(fault);
        self.stage.loomd.start();
        self.reconnect();
    }

    /// Stops loomd; its next start is with a fault or none.
    fn arm(&mut self, fault: Option<&Fault>) {
        self.stage.loomd.stop();
        self.has_fired();
        let loomd = &mut self.stage.loomd;
        self.armed = fault.cloned();
        let _ = fs::remove_file(&self.seen);
        loomd.env("LOOM_FAULT_SEEN", self.seen.to_str().unwrap());
        match fault {
            Some(fault) => loomd.env("LOOM_FAULT", fault.to_string()),
            None => loomd.env_remove("LOOM_FAULT"),
        };
    }

    /// Whether the fault that loomd runs with is behind it; then it is written down.
    fn has_fired(&mut self) -> bool {
        let passed = passed(&self.seen);
        let Some(armed) = self.armed.take_if(|armed| passed.get(&armed.point) >= Some(&armed.nth)) else {
            return false;
        };
        self.fired.entry(armed.point).or_default().insert(armed.action);
        true
    }

    /// Waits until containerd has found loomd again.
    fn reconnect(&self) {
        let look = ["snapshots", "--snapshotter", "loom", "info", &self.layer];
        wait_until("containerd to find loomd again", || {
            self.stage.containerd.try_ctr(&look).status.success()
        });
    }

    /// Runs one command, however it ends.
    fn run(&self, command: &str) -> Output {
        let pinned = if command.contains("$pinned") { self.pinned() } else { String::new() };
        let tiny = tiny().archive;
        let words: Vec<&str> = command
            .split(' ')
            .map(|word| match word {
                "$layer" => &self.layer,
                "$archive" => tiny.to_str().unwrap(),
                "$pinned" => &pinned,
                word => word,
            })
            .collect();
        let ctr = |args: &[&str]| self.stage.containerd.try_ctr(args);
        let snap = |args: &[&str]| ctr(&[&["snapshots", "--snapshotter", "loom"], args].concat());
        match (words[0], &words[1..]) {
            ("ctr", args) => ctr(args),
            ("snap", args) => snap(args),
            ("loom", args) => try_loom(&self.stage.loomd.ttrpc_socket(), args),
            ("drop", name) => {
                ctr(&["tasks", "rm", "-f", name[0]]);
                ctr(&["containers", "rm", name[0]])
            }
            // containerd's collector looks at a snapshotter only after a removal on it.
            ("collect", _) => {
                snap(&["prepare", "collect", &self.layer]);
                snap(&["rm", "collect"]);
                ctr(&["leases", "create", "--id", "collect"]);
                ctr(&["leases", "rm", "--sync", "collect"])
            }
            other => panic!("{other:?}"),
        }
    }

    /// # Panics
    /// With what it printed, where it fails.
    fn succeed(&self, command: &str) {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", said(&output));
    }

    /// The id of the one pinned snapshot.
    fn pinned(&self) -> String {
        let rows = self.stage.loom_json(&["ls", "--all"]);
        let row = rows.as_array().unwrap().iter().find(|row| row["pinned"] == true).expect("a pinned one");
        row["id"].as_str().unwrap().to_owned()
    }

    /// What there is; None while loomd, or containerd's way to it, is not there.
    fn world(&self) -> Option<World> {
        let mut world = World::new();
        let mut add = |what: &str, each: &str| {
            let each = each.split_whitespace().collect::<Vec<_>>().join(" ");
            world.insert(format!("{what} {each}"));
        };
        let commands = [
            "snap ls",
            "ctr containers ls -q",
            "ctr tasks ls",
            "ctr leases ls -q",
            "loom ls --all --json",
            "loom status --json",
        ];
        let [snapshots, containers, tasks, leases, rows, status] = std::thread::scope(|scope| {
            let running = commands.map(|command| scope.spawn(|| printed(self.run(command))));
            running.map(|thread| thread.join().unwrap())
        });
        for line in snapshots?.lines().skip(1) {
            add("containerd's snapshot", line);
        }
        for name in containers?.lines() {
            add("container", name);
        }
        for line in tasks?.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[2] == "CREATED" {
                continue; // Nothing of it runs yet, and whoever starts it finds it made.
            }
            add("task", &format!("{} {}", fields[0], fields[2]));
        }
        for name in leases?.lines() {
            add("lease", name);
        }
        let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let (rows, status) = (json(rows?), json(status?));
        let mut lineage = 0;
        for row in rows.as_array().unwrap() {
            let text = |field: &str| row[field].as_str().unwrap_or("-").to_owned();
            let key = row["key"].as_str().map(|key| key.splitn(3, '/').nth(2).unwrap_or(key));
            if row["key"].is_null() && row["name"].is_null() && row["pinned"] == false {
                lineage += 1;
                continue;
            }
            let (name, kind, home) = (text("name"), text("kind"), text("home"));
            let pinned = if row["pinned"] == true { "pinned" } else { "" };
            add("loom's snapshot", &format!("{} {name} {kind} {home} {pinned}", key.unwrap_or("-")));
        }
        add("rows that only lineage keeps:", &lineage.to_string());
        let place = &self.stage.place;
        add("layers:", &format!("{}, directories: {}", status["layers"], place.layers().len()));
        add("subvolumes:", &place.subvolumes().len().to_string());
        for path in place.trash() {
            add("trash", &path.display().to_string());
        }
        Some(world)
    }

    /// The source is not paused, and does not stay so.
    fn counts_on(&self, when: &str) {
        let path = format!("/proc/{}/root/root/count", self.source);
        let count = || fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let before = count();
        wait_until(&format!("the source to count on {when}"), || count() > before);
    }

    /// Waits until the world is one of those that it may be, and answers which.
    fn settle(&mut self, when: &str, allowed: &[&World]) -> usize {
        let end = Instant::now() + DEADLINE;
        loop {
            // What works in the background may have met the fault only now.
            if !self.stage.loomd.daemon().is_running() {
                self.restart(None);
            }
            let world = self.world();
            let is = |each: &&World| world.as_ref() == Some(*each);
            if let Some(which) = allowed.iter().position(is) {
                return which;
            }
            assert!(
                Instant::now() < end,
                "{when}: the world is none that it may be{}",
                allowed
                    .iter()
                    .map(|each| difference(each, &world.clone().unwrap_or_default()))
                    .collect::<String>()
            );
            self.run("collect");
        }
    }

    /// The faults that a verb is to meet, each at the first passage of its point; the store's at every one,
    /// and where there are many parts, or all is tried, at the last one too.
    fn faults(&self, verb: &Verb, before: &Passed, after: &Passed) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (point, &last) in after {
            let first = before.get(point).copied().unwrap_or(0) + 1;
            let store = point.starts_with("store.");
            let known = |action| self.fired.get(point).is_some_and(|fired| fired.contains(&action));
            let wanted = |action: &Action| match (verb.under, point.as_str(), action) {
                // The one cannot fail; and what fails where a transaction begins fails where it ends.
                (_, "store.answer", Action::Error) | (_, "store.begin", _) => !known(*action),
                (Under::All, ..) => true,
                (Under::New, ..) => store || !known(*action),
                (Under::Deaths, point, Action::Abort) => point.starts_with("containerd."),
                (Under::Deaths, ..) => false,
            };
            let passages: BTreeSet<usize> = match verb.under {
                _ if first > last => continue,
                Under::All | Under::New if store => (first..=last).collect(),
                Under::New => [first].into(),
                Under::All | Under::Deaths => [first, last].into(),
            };
            for action in [Action::Error, Action::Abort].into_iter().filter(wanted) {
                faults.extend(passages.iter().map(|nth| Fault { point: point.clone(), action, nth: *nth }));
            }
        }
        faults
    }

    fn verb(&mut self, verb: &Verb, baseline: &World) {
        let began = Instant::now();
        let set = |sweep: &Sweep| verb.set.iter().for_each(|command| sweep.succeed(command));
        let unset = |sweep: &Sweep| verb.unset.iter().for_each(|command| sweep.succeed(command));
        let request = |sweep: &Sweep| {
            let outputs: Vec<Output> = verb.request.iter().map(|command| sweep.run(command)).collect();
            let failed = outputs.into_iter().find(|output| !output.status.success());
            failed.map_or(Ok(()), |output| Err(said(&output)))
        };
        set(self);
        self.restart(None);
        let before = self.steady();
        let at_start = passed(&self.seen);
        request(self).unwrap();
        let after = self.steady();
        let faults = self.faults(verb, &at_start, &passed(&self.seen));
        unset(self);
        self.settle(verb.name, &[baseline]);

        for fault in &faults {
            let when = format!("{} with {fault}", verb.name);
            set(self);
            self.restart(Some(fault));
            let answer = request(self);
            if !verb.lost.is_empty() && fault.point == "store.answer" {
                self.restart(None);
                verb.lost.iter().for_each(|command| self.succeed(command));
                self.settle(&format!("{when}, taken away"), &[baseline]);
                continue;
            }
            let which = self.settle(&when, &[&before, &after]);
            self.counts_on(&when);
            if self.armed.is_some() && !self.has_fired() {
                self.restart(None);
            }
            if which == 0 && before != after {
                assert!(answer.is_err(), "{when}: it was answered, and did not happen");
                request(self).unwrap_or_else(|error| panic!("{when}: it cannot be repeated: {error}"));
                self.settle(&format!("{when}, repeated"), &[&after]);
            } else if fault.action == Action::Error
                && let Err(error) = answer
                && before != after
            {
                panic!("{when}: it was refused, and happened: {error}");
            }
            unset(self);
            self.settle(&format!("{when}, taken away"), &[baseline]);
        }
        eprintln!("{}: {} faults in {:?}", verb.name, faults.len(), began.elapsed());
    }

    /// Every step of a start that has something to put right fails once, and is the last once.
    fn starts(&mut self, baseline: &World) {
        const PREPARE: &str = "snap prepare work $layer";
        let began = Instant::now();
        self.succeed(PREPARE);
        let before = self.steady();
        self.succeed("snap rm work");
        self.settle("a start", &[baseline]);
        let mut faults = vec![None];
        let mut turn = 0;
        while let Some(fault) = faults.pop() {
            turn += 1;
            let when = format!("a start with {}", fault.as_ref().map_or("no fault".into(), Fault::to_string));
            self.succeed(PREPARE);
            // A commit that is cut off behind its layer.json.
            let cut = Fault { point: "layer.seal.end".into(), action: Action::Abort, nth: 1 };
            self.restart(Some(&cut));
            assert!(!self.run("snap commit done work").status.success());
            // A layer that was being made.
            fs::create_dir_all(self.stage.place.root.join(format!("layers/{}/fs", 1_000_000 + turn)))
                .unwrap();
            self.arm(fault.as_ref());
            let socket = self.stage.loomd.socket();
            let daemon = self.stage.loomd.spawn();
            wait_until("loomd to start or to end", || {
                !daemon.is_running() || UnixStream::connect(&socket).is_ok()
            });
            self.settle(&when, &[&before]);
            if fault.is_none() {
                let points = passed(&self.seen).into_keys();
                let both = |point: String| {
                    [Action::Error, Action::Abort]
                        .map(|action| Some(Fault { point: point.clone(), action, nth: 1 }))
                };
                faults.extend(points.filter(|point| point != "store.answer").flat_map(both));
            }
            self.restart(None);
            self.succeed("snap rm work");
            self.settle(&format!("{when}, taken away"), &[baseline]);
        }
        eprintln!("start: {} faults in {:?}", turn - 1, began.elapsed());
    }

    /// Every point of the source has failed, and was the last, somewhere.
    fn assert_all(&self, layout: Layout) {
        let explained = |point: &str| {
            NEVER.iter().any(|(at, name, _)| (*at, *name) == (layout, point))
                || ELSEWHERE.iter().any(|beginning| point.starts_with(beginning))
        };
        let both = |point: &str| self.fired.get(point).is_some_and(|actions| actions.len() == 2);
        let never: Vec<String> =
            in_source().into_iter().filter(|point| !both(point) && !explained(point)).collect();
        assert!(never.is_empty(), "nothing on {layout:?} makes these both fail and be the last: {never:?}");
        let passed = NEVER.iter().find(|(at, name, _)| *at == layout && self.fired.contains_key(*name));
        assert!(passed.is_none(), "it is passed after all: {passed:?}");
    }

    /// The world, once it is the same twice.
    fn steady(&self) -> World {
        let mut last = World::new();
        wait_for("nothing to change any more", || {
            let world = self.world()?;
            // A row may stay a moment longer than its directory.
            let even = |line: &str| match line
                .strip_prefix("layers: ")
                .and_then(|n| n.split_once(", directories: "))
            {
                Some((rows, directories)) => rows == directories,
                None => !line.starts_with("trash") && !line.starts_with("lease"),
            };
            let clean = world.iter().all(|line| even(line));
            let same = std::mem::replace(&mut last, world) == last;
            (same && clean).then(|| last.clone())
        })
    }
}

fn printed(output: Output) -> Option<String> {
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn said(output: &Output) -> String {
    format!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn difference(wanted: &World, found: &World) -> String {
    let without = wanted.difference(found).map(|line| format!("without {line}"));
    let with = found.difference(wanted).map(|line| format!("with    {line}"));
    let lines: Vec<String> = without.chain(with).collect();
    format!("\n  it would be:\n    {}", lines.join("\n    "))
}

fn sweep(layout: Layout, version: Version) {
    // A few of them, while one looks for a cause.
    let only = std::env::var("LOOM_TEST_VERBS").ok();
    let chosen = |name: &str| only.as_deref().is_none_or(|only| only.split(',').any(|one| one == name));
    let mut sweep = Sweep::new(layout, version);
    let baseline = sweep.steady();
    for verb in VERBS.iter().filter(|verb| chosen(verb.name)) {
        sweep.verb(verb, &baseline);
    }
    if only.is_none() {
        sweep.starts(&baseline);
        sweep.assert_all(layout);
    }
}

#[test]
fn on_ext4() {
    sweep(Layout::Ext4, Version::Debian);
}

#[test]
fn with_a_pool() {
    sweep(Layout::Ext4Pool, Version::Current);
}
