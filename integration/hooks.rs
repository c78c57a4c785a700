//! Consistency `app`, where the commands in a container's labels misbehave or somebody dies: there is a state
//! or there is none, and the container runs on.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::containerd::Version;
use support::counter::{self, Counter};
use support::image::small;
use support::layout::Layout;
use support::stage::{Stage, on_stages};
use support::wait::wait_until;

/// A counter with labels. What its commands tell goes to a file outside of it.
struct Told {
    counter: Counter,
    file: PathBuf,
}

impl Told {
    fn start(stage: &Stage, image: &str) -> Told {
        let dir = stage.scratch.dir("told");
        let mount = format!("type=bind,src={},dst=/told,options=rbind:rw", dir.display());
        let counter = counter::start(stage, image, "db", &["--mount", &mount]);
        Told { counter, file: dir.join("hooks") }
    }

    /// What was told since this was asked last.
    fn take(&self) -> Vec<String> {
        let told = fs::read_to_string(&self.file).unwrap_or_default();
        let _ = fs::remove_file(&self.file);
        told.lines().map(ToOwned::to_owned).collect()
    }
}

/// Sets the container's labels, as JSON or what is none.
fn label(stage: &Stage, quiesce: &str, unquiesce: &str) {
    let labels = [format!("loom.quiesce={quiesce}"), format!("loom.unquiesce={unquiesce}")];
    stage.containerd.ctr(&["containers", "label", "db", &labels[0], &labels[1]]);
}

fn sh(script: &str) -> String {
    json!(["sh", "-ec", script]).to_string()
}

fn tell(word: &str) -> String {
    sh(&format!("echo {word} >>/told/hooks"))
}

/// True while a process has this on its command line.
fn runs(what: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    processes.filter_map(|path| fs::read(path).ok()).any(|line| String::from_utf8_lossy(&line).contains(what))
}

const FORK: [&str; 6] = ["fork", "db", "--name", "try", "--consistency", "app"];

/// Commands that fail, are none, or never end: no fork, the error names them, and the container runs on.
fn misbehave(stage: Stage) {
    let image = stage.import(&small());
    let told = Told::start(&stage, &image);
    let before = stage.inventory();
    let refuse = |status: i32, says: &[&str]| {
        let said = stage.loom_fails(status, &FORK);
        for part in says {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        assert_eq!(stage.containerd.status_of("db").as_deref(), Some("RUNNING"), "{said}");
        told.counter.assert_advances();
        stage.wait_until_again(&before, &said);
    };

    // None.
    refuse(4, &["db", "loom.quiesce"]);
    // What is no command.
    for wrong in
        ["", "sync", "\"sync\"", "[]", "[\"\"]", "[1]", "[\"sync\"", "{\"a\":\"b\"}", "[\"a\\u0000b\"]"]
    {
        label(&stage, wrong, &tell("unquiesce"));
        refuse(2, &["loom.quiesce"]);
        label(&stage, &tell("quiesce"), wrong);
        refuse(2, &["loom.unquiesce"]);
    }
    assert_eq!(told.take(), Vec::<String>::new(), "nothing was run");

    // It fails: the other one runs all the same, since half of it may be done.
    label(&stage, &sh("echo quiesce >>/told/hooks; echo not now >&2; exit 7"), &tell("unquiesce"));
    refuse(4, &["db", "loom.quiesce", "7", "not now"]);
    wait_until("what lets it go on", || told.file.exists());
    wait_until("both", || fs::read_to_string(&told.file).unwrap().lines().count() == 2);
    assert_eq!(told.take(), ["quiesce", "unquiesce"]);
    label(&stage, "[\"/no/such/program\"]", &tell("unquiesce"));
    refuse(4, &["loom.quiesce", "/no/such/program"]);
    // It never ends.
    told.take();
    label(&stage, &sh("echo quiesce >>/told/hooks; exec sleep 9876543"), &tell("unquiesce"));
    let begun = Instant::now();
    refuse(4, &["db", "loom.quiesce"]);
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    wait_until("its end", || !runs("9876543"));
    // What it prints is no command to a terminal.
    label(&stage, &sh("printf '\\033[2Jgone'; exit 1"), &tell("unquiesce"));
    let said = stage.loom_fails(4, &FORK);
    assert!(said.contains("gone") && !said.contains('\u{1b}'), "{said:?}");

    // The other one fails: the fork is there, and it is said.
    told.take();
    label(&stage, &tell("quiesce"), &sh("echo unquiesce >>/told/hooks; exit 8"));
    assert_eq!(stage.fork(&FORK[1..]), ["try"]);
    assert_eq!(told.take(), ["quiesce", "unquiesce"]);
    let operation = stage.loom_json(&["operations", "--limit", "1"])[0].clone();
    let warnings = operation["warnings"].to_string();
    assert!(warnings.contains("loom.unquiesce") && warnings.contains('8'), "{operation}");
    Counter::of(&stage, "try").found(2);
    told.counter.assert_advances();
    told.counter.assert_alone();
    stage.end(&image);
}

/// What its user has paused stays paused; a snapshot needs no process; and each hook is run once a state.
fn odd_states(stage: Stage) {
    let image = stage.import(&small());
    let told = Told::start(&stage, &image);
    label(&stage, &tell("quiesce"), &tell("unquiesce"));
    for verb in [&["snapshot", "db", "--name", "state", "--consistency", "app"][..], &FORK] {
        stage.loom_json(verb);
        assert_eq!(told.take(), ["quiesce", "unquiesce"], "{verb:?}");
    }
    stage.loom_json(&["fork", "db", "--name", "more", "--count", "3", "--consistency", "app"]);
    assert_eq!(told.take(), ["quiesce", "unquiesce"], "one moment for all");
    // A promotion is of the fork's state.
    stage.loom_json(&["promote", "try", "--consistency", "app", "--discard"]);
    assert_eq!(told.take(), ["quiesce", "unquiesce"], "the fork's");

    let is = |status: &str| assert_eq!(stage.containerd.status_of("db").as_deref(), Some(status));
    stage.containerd.ctr(&["tasks", "pause", "db"]);
    wait_until("the pause", || stage.containerd.status_of("db").as_deref() == Some("PAUSED"));
    let said = stage.loom_fails(4, &["fork", "db", "--consistency", "app"]);
    assert!(said.contains("db") && said.contains("paused"), "{said}");
    is("PAUSED");
    stage.loom_json(&["fork", "db", "--name", "of-paused"]);
    is("PAUSED");
    assert_eq!(told.take(), Vec::<String>::new());
    stage.loom_json(&["resume", "db"]);
    is("RUNNING");
    Counter::of(&stage, "db").assert_advances();

    // Where nothing runs, nothing is to be got ready.
    stage.containerd.ctr(&["tasks", "kill", "-s", "SIGKILL", "db"]);
    wait_until("its end", || stage.containerd.status_of("db").as_deref() == Some("STOPPED"));
    stage.loom_json(&["fork", "db", "--name", "of-stopped", "--consistency", "app"]);
    assert_eq!(told.take(), Vec::<String>::new());
    stage.loom_json(&["rm", "state"]);
    stage.end(&image);
}

/// loomd dies while the command runs, while the container stands still, and before it is told to go on: the
/// next loomd sees to all of it.
fn death(mut stage: Stage) {
    let image = stage.import(&small());
    let told = Told::start(&stage, &image);
    let before = stage.inventory();
    label(&stage, &tell("quiesce"), &tell("unquiesce"));
    for point in ["containerd.freeze.pause", "snapshot.frozen", "containerd.thaw.resume"] {
        stage.loomd.stop();
        stage.loomd.fail_at(&format!("{point}:abort"));
        stage.start_again();
        stage.loom_fails(5, &FORK);
        wait_until("loomd to die", || !stage.loomd.daemon().is_running());
        assert_eq!(told.take(), ["quiesce"], "{point}");
        stage.loomd.fail_nowhere();
        stage.start_again();
        wait_until("it to go on", || fs::read_to_string(&told.file).is_ok_and(|told| told == "unquiesce\n"));
        assert_eq!(stage.containerd.status_of("db").as_deref(), Some("RUNNING"), "{point}");
        told.counter.assert_advances();
        stage.wait_until_again(&before, point);
        told.take();
    }
    // Killed while the command runs, which then is nobody's.
    label(&stage, &sh("echo quiesce >>/told/hooks; exec sleep 9876543"), &tell("unquiesce"));
    let mut fork = stage.loom_command(&FORK).spawn().unwrap();
    wait_until("the command to run", || told.file.exists());
    stage.loomd.kill();
    assert_eq!(fork.wait().unwrap().code(), Some(5));
    stage.start_again();
    wait_until("it to go on", || fs::read_to_string(&told.file).unwrap().ends_with("unquiesce\n"));
    stage.wait_until_again(&before, "a command that hung");
    label(&stage, &tell("quiesce"), &tell("unquiesce"));
    told.take();
    assert_eq!(stage.fork(&FORK[1..]), ["try"]);
    assert_eq!(told.take(), ["quiesce", "unquiesce"]);
    assert_eq!(stage.loom_json(&["operations", "--limit", "1"])[0]["warnings"], Value::Array(Vec::new()));
    told.counter.assert_alone();
    stage.end(&image);
}

on_stages! {
    misbehave_on_xfs: misbehave(Xfs, Debian);
    misbehave_with_a_pool_and_the_current_containerd: misbehave(Ext4Pool, Current);
    odd_states_on_ext4: odd_states(Ext4, Debian);
    odd_states_with_a_pool: odd_states(Ext4Pool, Debian);
    odd_states_with_a_pool_and_the_current_containerd: odd_states(Ext4Pool, Current);
    death_on_xfs: death(Xfs, Debian);
    death_with_a_pool: death(Ext4Pool, Debian);
    death_with_a_pool_and_the_current_containerd: death(Ext4Pool, Current);
}
