//! Every step that touches the disk or the store fails once, and loomd dies once at each, under every
//! verb. Whatever happened, the container that is branched runs on, the request has happened wholly or
//! not at all, nothing half-made stays, no operation is left open, and the request can be made again: what has
//! happened answers the same then, what has not happens.
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
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;
use support::containerd::Version;
use support::fault::{Action, ELSEWHERE, Fault, NEVER, in_source, passed};
use support::image::{small, tiny};
use support::layout::Layout;
use support::loom::try_loom;
use support::process::{finish, printed, wrote};
use support::stage::Stage;
use support::verb::{Answer, Under, VERBS, Verb, result};
use support::wait::{DEADLINE, wait_for, wait_until};
use support::world::{self, World, difference};

/// Where nerdctl's containers are forked.
const NERDCTLS: Layout = Layout::Ext4Pool;

/// How often each point was passed.
type Passed = BTreeMap<String, usize>;

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
    /// How many faults there were.
    faults: usize,
    /// The idempotency key of the requests.
    key: String,
}

impl Sweep {
    fn new(layout: Layout, version: Version) -> Sweep {
        const COUNT: &str = "trap 'exit 0' TERM
            n=0; while :; do n=$((n+1)); echo $n >/root/new; mv /root/new /root/count; sleep 0.05; done";
        let mut stage = Stage::prepared(layout, version);
        if layout != NERDCTLS {
            // Two containers of one name in one namespace would share their control group.
            stage.containerd.namespace = "sweep".into();
        }
        // A snapshot that nothing refers to is to stay until it is removed.
        stage.containerd.collect_when_asked();
        stage.loomd.start();
        stage.containerd.start();
        let image = stage.import(&small());
        let run = ["run", "-d", "--snapshotter", "loom"];
        let labels =
            ["loom.quiesce=[\"touch\",\"/root/quiet\"]", "loom.unquiesce=[\"rm\",\"-f\",\"/root/quiet\"]"];
        let labels = ["--label", labels[0], "--label", labels[1]];
        stage.containerd.ctr(&[&run[..], &labels, &[&image, "source", "sh", "-c", COUNT]].concat());
        if layout == NERDCTLS {
            stage.containerd.nerdctl(&[
                "run",
                "-d",
                "--name",
                "web",
                "-v",
                "data:/data",
                &image,
                "sh",
                "-c",
                COUNT,
            ]);
        }
        let layer = stage.containerd.snapshots("loom").into_iter().find(|key| key.starts_with("sha256:"));
        let mut sweep = Sweep {
            layer: layer.unwrap(),
            source: stage.containerd.pid_of("source"),
            seen: stage.scratch.path().join("seen"),
            armed: None,
            fired: BTreeMap::new(),
            faults: 0,
            key: String::new(),
            stage,
        };
        sweep.counts_on("at first");
        sweep.succeed("loom snapshot source --name origin");
        if layout == Layout::Ext4Pool {
            // What keeps limits is enabled once, and then each start passes it.
            sweep.succeed("loom limit source 1G");
            sweep.succeed("loom limit source none");
        }
        sweep.restart(None);
        sweep
    }

    /// Starts loomd anew, with a fault or none.
    fn restart(&mut self, fault: Option<&Fault>) {
        self.arm(fault);
        self.stage.start_again();
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

    /// Runs one command, however it ends.
    fn run(&self, command: &str) -> Output {
        let pinned = if command.contains("$pinned") { self.pinned() } else { String::new() };
        let (tiny, image) = (tiny().archive, small().name);
        let words: Vec<&str> = command
            .split(' ')
            .map(|word| match word {
                "$layer" => &self.layer,
                "$archive" => tiny.to_str().unwrap(),
                "$pinned" => &pinned,
                "$key" => &self.key,
                "$image" => &image,
                word => word,
            })
            .collect();
        let ctr = |args: &[&str]| self.stage.containerd.try_ctr(args);
        let snap = |args: &[&str]| ctr(&[&["snapshots", "--snapshotter", "loom"], args].concat());
        match (words[0], &words[1..]) {
            ("ctr", args) => ctr(args),
            ("snap", args) => snap(args),
            ("loom", args) => {
                let namespace = ["--namespace", &self.stage.containerd.namespace];
                try_loom(&self.stage.loomd.ttrpc_socket(), &[&namespace, args].concat())
            }
            ("nerdctl", args) => self.stage.containerd.try_nerdctl(args),
            ("in", args) => ctr(&[&["tasks", "exec", "--exec-id", "in"], args].concat()),
            ("drop", name) => {
                ctr(&["tasks", "rm", "-f", name[0]]);
                ctr(&["containers", "rm", name[0]])
            }
            ("spoil", _) => self.spoil(),
            ("collect", _) => finish(&mut Command::new(if self.collect() { "true" } else { "false" })),
            other => panic!("{other:?}"),
        }
    }

    /// Whether containerd's collector ran. It looks at a snapshotter only after a removal on it.
    fn collect(&self) -> bool {
        let containerd = self.stage.containerd.api();
        let _ = containerd.pass("loom", "collect", &self.layer);
        containerd.collect().is_some()
    }

    /// Takes its `layer.json` from the newest sealed layer.
    fn spoil(&self) -> Output {
        let number = |layer: &PathBuf| layer.file_name()?.to_str()?.parse::<u64>().ok();
        let sealed = self.stage.place.layers().into_iter().filter(|layer| layer.join("layer.json").exists());
        let layer = sealed.max_by_key(number).unwrap();
        // One of the pool is read-only.
        let script = "btrfs property set -ts \"$0\" ro false 2>/dev/null; rm \"$0/layer.json\"";
        finish(Command::new("sh").args(["-c", script]).arg(layer))
    }

    /// # Panics
    /// With what it printed, where it fails.
    fn succeed(&self, command: &str) {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", wrote(&output));
    }

    /// The id of the one pinned snapshot.
    fn pinned(&self) -> String {
        let rows = self.stage.loom_json(&["ls", "--all"]);
        let row = rows.as_array().unwrap().iter().find(|row| row["pinned"] == true).expect("a pinned one");
        row["id"].as_str().unwrap().to_owned()
    }

    /// What there is; None while loomd, or containerd's way to it, is not there.
    fn world(&self) -> Option<World> {
        world::read(&self.stage)
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
            self.collect();
        }
    }

    /// The faults that a verb is to meet, each at the first passage of its point; the store's at every one,
    /// and where there are many parts, at the last one too.
    fn faults(&self, verb: &Verb, before: &Passed, after: &Passed) -> Vec<Fault> {
        let mut faults = Vec::new();
        let here = verb.on.is_none_or(|layout| layout == self.stage.layout);
        let under = if here { verb.under } else { Under::Unmet };
        for (point, &last) in after {
            let first = before.get(point).copied().unwrap_or(0) + 1;
            let store = point.starts_with("store.");
            let known = |action| self.fired.get(point).is_some_and(|fired| fired.contains(&action));
            let wanted = |action: &Action| match (under, point.as_str(), action) {
                // The one cannot fail; what fails where a transaction begins fails where it ends; and a death
                // before a change is on disk finds what one behind the change before it does.
                (_, "store.answer", Action::Error)
                | (_, "store.begin", _)
                | (Under::Each, "store.commit", Action::Abort)
                | (Under::Unmet, ..) => !known(*action),
                (Under::Each, ..) => true,
                (Under::New, ..) => store || !known(*action),
                (Under::Deaths, point, Action::Abort) => point.starts_with("containerd."),
                (Under::Deaths, ..) => false,
            };
            let passages: BTreeSet<usize> = match under {
                _ if first > last => continue,
                Under::Each | Under::New if store => (first..=last).collect(),
                Under::New | Under::Unmet | Under::Each => [first].into(),
                Under::Deaths => [first, last].into(),
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
        let request = |sweep: &Sweep| -> Answer {
            let outputs: Vec<Output> = verb.request.iter().map(|command| sweep.run(command)).collect();
            match outputs.iter().find(|output| !output.status.success()) {
                Some(failed) => Err(wrote(failed)),
                None => Ok(outputs.iter().map(|output| String::from_utf8_lossy(&output.stdout)).collect()),
            }
        };
        set(self);
        self.restart(None);
        let before = self.steady(verb.leaves());
        let at_start = passed(&self.seen);
        verb.name.clone_into(&mut self.key);
        let answer = request(self);
        answer.as_ref().unwrap();
        let after = self.steady(verb.leaves());
        let faults = self.faults(verb, &at_start, &passed(&self.seen));
        self.assert_told(verb, None, &answer, true);
        unset(self);
        self.settle(verb.name, &[baseline]);
        // Undone, or done again behind that.
        let deeper = [&before, &after].map(world::with_a_layer_more);
        let mut allowed = vec![&before, &after];
        allowed.extend(deeper.iter().filter(|_| verb.seals));
        let done: Vec<&World> = allowed.iter().copied().skip(1).step_by(2).collect();

        for (turn, fault) in faults.iter().enumerate() {
            let when = format!("{} with {fault}", verb.name);
            self.key = format!("{} {turn}", verb.name);
            set(self);
            self.restart(Some(fault));
            let answer = request(self);
            if !verb.lost.is_empty() && fault.point == "store.answer" {
                self.restart(None);
                verb.lost.iter().for_each(|command| self.succeed(command));
                self.settle(&format!("{when}, taken away"), &[baseline]);
                continue;
            }
            let which = self.settle(&when, &allowed);
            self.counts_on(&when);
            // A death may come only now, in the background.
            if self.armed.is_some() && !(self.has_fired() && fault.action == Action::Error) {
                self.restart(None);
            }
            let happened = which % 2 == 1;
            if before != after {
                assert!(happened || answer.is_err(), "{when}: it was answered, and did not happen");
                self.assert_told(verb, Some(fault), &answer, happened);
                if happened && fault.action == Action::Error {
                    assert!(answer.is_ok(), "{when}: it was refused, and happened: {answer:?}");
                }
                if !happened || verb.has_key() {
                    let again = request(self);
                    assert!(again.is_ok(), "{when}: it cannot be repeated: {again:?}");
                    if happened && answer.is_ok() {
                        let (again, answer) = (result(&again), result(&answer));
                        assert_eq!(again, answer, "{when}: repeated, it answers something else");
                    }
                    self.settle(&format!("{when}, repeated"), &done);
                    self.assert_told(verb, None, &again, true);
                }
            }
            unset(self);
            self.settle(&format!("{when}, taken away"), &[baseline]);
        }
        self.faults += faults.len();
        let layout = self.stage.layout;
        eprintln!("{layout:?}, {}: {} faults in {:?}", verb.name, faults.len(), began.elapsed());
    }

    /// What loom tells of the newest operation with the request's key is what has become of it, and it says
    /// so where it was cut off.
    fn assert_told(&self, verb: &Verb, fault: Option<&Fault>, answer: &Answer, happened: bool) {
        if !verb.has_key() {
            return;
        }
        let all: Value = serde_json::from_str(&printed(self.run("loom operations --json")).unwrap()).unwrap();
        let told = all.as_array().unwrap().iter().find(|one| one["idempotency_key"] == *self.key);
        let when = format!("{} with {fault:?}: {answer:?}: {told:?}", verb.name);
        let Some(told) = told else {
            assert!(!happened, "no operation did it: {when}");
            return;
        };
        let died = fault.is_some_and(|fault| fault.action == Action::Abort);
        assert!(!told["ended"].is_null(), "it is left open: {when}");
        if happened {
            assert_eq!(told["state"], "succeeded", "{when}");
            // What containerd was asked for last is behind the result.
            let early = fault.is_some_and(|fault| {
                fault.point.starts_with("containerd.") && fault.point != "containerd.lease.end"
            });
            let says = told["warnings"].to_string().contains("finished later");
            assert!(!died || !early || says, "it does not say that it was cut off: {when}");
        } else {
            assert_eq!(told["state"], "failed", "{when}");
            assert!(
                !died || told["error"]["code"] == "CUT_OFF",
                "it does not say that it was cut off: {when}"
            );
        }
        if let Ok(answer) = answer {
            let answer: Value = serde_json::from_str(answer).unwrap();
            assert_eq!(answer["operation"], told["id"], "it was another one: {when}");
        }
    }

    /// Every step of a start that has something to put right fails once, and is the last once.
    fn starts(&mut self, baseline: &World) {
        let began = Instant::now();
        let prepare = |sweep: &Sweep| {
            for key in ["work", "still"] {
                sweep.succeed(&format!("snap prepare {key} $layer"));
            }
        };
        let remove =
            |sweep: &Sweep| ["work", "still"].iter().for_each(|key| sweep.succeed(&format!("snap rm {key}")));
        prepare(self);
        let before = self.steady(false);
        remove(self);
        self.settle("a start", &[baseline]);
        let mut faults = vec![None];
        let mut turn = 0;
        while let Some(fault) = faults.pop() {
            turn += 1;
            let when = format!("a start with {}", fault.as_ref().map_or("no fault".into(), Fault::to_string));
            prepare(self);
            // A commit that is cut off behind its layer.json.
            let cut = Fault { point: "layer.seal.end".into(), action: Action::Abort, nth: 1 };
            self.restart(Some(&cut));
            assert!(!self.run("snap commit done work").status.success());
            // A layer that was being made.
            fs::create_dir_all(self.stage.place.root.join(format!("layers/{}/fs", 1_000_000 + turn)))
                .unwrap();
            self.cut_seal(2_000_000 + i64::try_from(turn).unwrap());
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
            remove(self);
            self.settle(&format!("{when}, taken away"), &[baseline]);
        }
        self.faults += turn - 1;
        eprintln!("{:?}, start: {} faults in {:?}", self.stage.layout, turn - 1, began.elapsed());
    }

    /// What a death behind the rename of a layer that is sealed as it lies leaves, where layers stack.
    fn cut_seal(&self, id: i64) {
        let root = &self.stage.place.root;
        let store = rusqlite::Connection::open(root.join("loom.db")).unwrap();
        let still = "SELECT l.id, l.base FROM layers l JOIN snapshots s ON s.layer = l.id \
                     WHERE s.client_key = 'still' AND l.home = 'plain'";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let Ok((was, base)) = store.query_row(still, [], read) else { return };
        let insert =
            "INSERT INTO layers (id, home, base, stage, was) VALUES (?1, 'plain', ?2, 'filling', ?3)";
        store.execute(insert, [id, base, was]).unwrap();
        let layers = root.join("layers");
        fs::rename(layers.join(was.to_string()), layers.join(id.to_string())).unwrap();
    }

    /// Every point of the source has failed, and was the last, somewhere.
    fn assert_all(&self, layout: Layout) {
        let explained = |point: &str| {
            NEVER.iter().any(|(at, name, _)| (*at, *name) == (layout, point))
                || ELSEWHERE.iter().any(|(begins, _)| point.starts_with(begins))
        };
        let both = |point: &str| self.fired.get(point).is_some_and(|actions| actions.len() == 2);
        let never: Vec<String> =
            in_source().into_iter().filter(|point| !both(point) && !explained(point)).collect();
        assert!(never.is_empty(), "nothing on {layout:?} makes these both fail and be the last: {never:?}");
        let passed = NEVER.iter().find(|(at, name, _)| *at == layout && self.fired.contains_key(*name));
        assert!(passed.is_none(), "it is passed after all: {passed:?}");
    }

    /// The world, once it is the same twice; where something is left to containerd's collector, behind that.
    fn steady(&self, leaves: bool) -> World {
        let mut last = World::new();
        wait_for("nothing to change any more", || {
            if leaves {
                self.collect();
            }
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

/// Makes all faults on one layout; answers how many.
fn sweep(layout: Layout, version: Version) -> usize {
    // A few of them, while one looks for a cause.
    let only = std::env::var("LOOM_TEST_VERBS").ok();
    let chosen = |name: &str| only.as_deref().is_none_or(|only| only.split(',').any(|one| one == name));
    let mut sweep = Sweep::new(layout, version);
    let baseline = sweep.steady(true);
    let here =
        |verb: &&Verb| (!verb.nerdctls || layout == NERDCTLS) && (!verb.pool || layout == Layout::Ext4Pool);
    for verb in VERBS.iter().filter(here).filter(|verb| chosen(verb.name)) {
        sweep.verb(verb, &baseline);
    }
    if only.is_none() || chosen("start") {
        sweep.starts(&baseline);
    }
    if only.is_none() {
        sweep.assert_all(layout);
    }
    sweep.faults
}

/// Both at once: most of a sweep is waiting, and neither knows of the other.
#[test]
fn on_ext4_and_with_a_pool() {
    let began = Instant::now();
    // Made once, and not by both at the same time.
    drop((small(), tiny()));
    let faults: usize = std::thread::scope(|scope| {
        let sweeps = [(Layout::Ext4, Version::Debian), (Layout::Ext4Pool, Version::Current)];
        let running = sweeps.map(|(layout, version)| scope.spawn(move || sweep(layout, version)));
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("faults | {} points | {faults} faults | {:?}", in_source().len(), began.elapsed());
}
