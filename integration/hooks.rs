//! The commands of consistency `app`, where they misbehave (`quiesce` has those that behave): there is no state,
//! the error names them, and the container runs on.
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
    for wrong in ["sync", "\"sync\"", "[]", "[\"\"]", "[1]", "[\"sync\"", "{\"a\":\"b\"}", "[\"a\\u0000b\"]"]
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

/// Each runs once a state, however many stand on that; of a promotion, the fork's do.
fn once(stage: Stage) {
    let image = stage.import(&small());
    let told = Told::start(&stage, &image);
    label(&stage, &tell("quiesce"), &tell("unquiesce"));
    for request in [
        &["snapshot", "db", "--name", "state", "--consistency", "app"][..],
        &FORK,
        &["fork", "db", "--name", "more", "--count", "3", "--consistency", "app"],
        &["promote", "try", "--consistency", "app", "--discard"],
    ] {
        stage.loom_json(request);
        assert_eq!(told.take(), ["quiesce", "unquiesce"], "{request:?}");
    }
    // Without consistency `app`, never.
    stage.loom_json(&["fork", "db", "--name", "crash"]);
    stage.loom_json(&["rollback", "db", "state", "--discard"]);
    assert_eq!(told.take(), Vec::<String>::new());
    stage.loom_json(&["rm", "state"]);
    stage.end(&image);
}

/// loomd is killed while the command runs, which then is nobody's: the next loomd sees to it.
fn death(mut stage: Stage) {
    let image = stage.import(&small());
    let told = Told::start(&stage, &image);
    let before = stage.inventory();
    label(&stage, &sh("echo quiesce >>/told/hooks; exec sleep 9876543"), &tell("unquiesce"));
    let mut fork = stage.loom_command(&FORK).spawn().unwrap();
    wait_until("the command to run", || told.file.exists());
    stage.loomd.kill();
    assert_eq!(fork.wait().unwrap().code(), Some(5));
    stage.start_again();
    wait_until("it to go on", || fs::read_to_string(&told.file).unwrap().ends_with("unquiesce\n"));
    assert_eq!(stage.containerd.status_of("db").as_deref(), Some("RUNNING"));
    wait_until("the command's end", || !runs("9876543"));
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
    once_on_ext4: once(Ext4, Debian);
    once_with_a_pool_and_the_current_containerd: once(Ext4Pool, Current);
    death_on_xfs: death(Xfs, Debian);
    death_with_a_pool_and_the_current_containerd: death(Ext4Pool, Current);
}
