//! Consistency `app`: a container's own commands run around its state, whatever becomes of it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::path::Path;

use support::counter::{self, Counter};
use support::image::small;
use support::stage::{Stage, on_every_stage};
use support::wait::wait_until;

on_every_stage!(quiesced, woken);

/// It is quiet while the file is there; the log tells what ran.
const QUIESCE: &str = "touch /root/quiet; echo quiesce >>/root/hooks";
const UNQUIESCE: &str = "rm /root/quiet; echo unquiesce >>/root/hooks";

fn label(stage: &Stage, container: &str, label: &str, script: &str) {
    let command = serde_json::json!(["sh", "-c", script]);
    stage.containerd.ctr(&["containers", "label", container, &format!("{label}={command}")]);
}

/// A counter with both commands.
fn start(stage: &Stage, image: &str, name: &str) -> Counter {
    let counter = counter::start(stage, image, name, &[]);
    label(stage, name, "loom.quiesce", QUIESCE);
    label(stage, name, "loom.unquiesce", UNQUIESCE);
    counter
}

/// Which of its commands ran, in order, since this was asked last.
fn ran(root: &Path) -> Vec<String> {
    let log = root.join("root/hooks");
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(log);
    text.lines().map(str::to_owned).collect()
}

fn is_quiet(root: &Path) -> bool {
    root.join("root/quiet").exists()
}

fn quiesced(stage: Stage) {
    let image = stage.import(&small());
    let containerd = &stage.containerd;
    let app = |name: &'static str| ["snapshot", "db", "--consistency", "app", "--name", name];

    let plain = counter::start(&stage, &image, "plain", &[]);
    let said = stage.loom_fails(4, &["snapshot", "plain", "--consistency", "app"]);
    assert!(said.contains("loom.quiesce"), "{said}");
    plain.assert_advances();

    let source = start(&stage, &image, "db");
    let answer = stage.loom_json(&app("state"));
    assert!(answer["cost"]["paused_us"].as_u64().unwrap() > 0, "{answer}");
    assert_eq!(ran(&source.root()), ["quiesce", "unquiesce"]);
    assert!(!is_quiet(&source.root()));
    source.assert_advances();
    stage.loom_json(&["clone", "state", "--name", "copy"]);
    let copy = Counter::of(&stage, "copy");
    assert!(is_quiet(&copy.root()), "its state is that of a quiet one");
    assert_eq!(ran(&copy.root()), ["quiesce"]);

    stage.loom_json(&["fork", "db", "--consistency", "app", "--name", "try", "--count", "2"]);
    assert_eq!(ran(&source.root()), ["quiesce", "unquiesce"]);
    for name in ["try-1", "try-2"] {
        let fork = Counter::of(&stage, name);
        assert!(is_quiet(&fork.root()));
        fork.found(2);
    }

    // One that cannot get ready goes on, and says why.
    label(&stage, "db", "loom.quiesce", "echo quiesce >>/root/hooks; echo the tables are locked >&2; exit 7");
    label(&stage, "db", "loom.unquiesce", "echo unquiesce >>/root/hooks");
    let said = stage.loom_fails(4, &app("none"));
    assert!(said.contains("status 7") && said.contains("the tables are locked"), "{said}");
    assert_eq!(ran(&source.root()), ["quiesce", "unquiesce"]);
    stage.loom_fails(3, &["inspect", "none"]);
    containerd.ctr(&["containers", "label", "db", "loom.quiesce=[\"nowhere\"]"]);
    let said = stage.loom_fails(4, &app("none"));
    assert!(said.contains("nowhere"), "{said}");
    assert_eq!(ran(&source.root()), ["unquiesce"]);
    source.assert_advances();

    // One that cannot be told to go on is told of.
    label(&stage, "db", "loom.quiesce", QUIESCE);
    label(&stage, "db", "loom.unquiesce", "echo cannot >&2; exit 3");
    stage.loom_json(&app("warned"));
    assert_eq!(ran(&source.root()), ["quiesce"]);
    wait_until("a warning", || stage.loomd.log().contains("cannot"));
    source.assert_advances();

    // What is no command is refused before anything is done.
    containerd.ctr(&["containers", "label", "db", "loom.unquiesce=[]"]);
    stage.loom_fails(2, &app("none"));
    assert_eq!(ran(&source.root()), [""; 0]);
    label(&stage, "db", "loom.unquiesce", UNQUIESCE);

    // In one that its user has paused nothing can run; as after a crash, its state can be taken.
    containerd.ctr(&["tasks", "pause", "db"]);
    let said = stage.loom_fails(4, &app("none"));
    assert!(said.contains("paused"), "{said}");
    stage.loom_json(&["snapshot", "db", "--name", "crash"]);
    assert_eq!(containerd.status_of("db").as_deref(), Some("PAUSED"));
    containerd.ctr(&["tasks", "resume", "db"]);
    source.assert_advances();

    // In one that does not run there is nothing to be run.
    containerd.ctr(&["tasks", "kill", "-s", "SIGKILL", "db"]);
    wait_until("db to end", || containerd.status_of("db").as_deref() == Some("STOPPED"));
    stage.loom_json(&app("ended"));
    for name in ["state", "warned", "crash", "ended"] {
        stage.loom_json(&["rm", name]);
    }
    stage.end(&image);
}

/// loomd dies while an application is quiet, standing still or not: the next one lets it go on.
fn woken(mut stage: Stage) {
    let image = stage.import(&small());
    let source = start(&stage, &image, "db");
    for fault in ["snapshot.frozen:abort", "layer.flush.sync:abort", "containerd.thaw.forget:abort"] {
        stage.loomd.stop();
        stage.loomd.fail_at(fault);
        stage.start_again();
        stage.loom_fails(5, &["fork", "db", "--consistency", "app", "--name", "try"]);
        wait_until("loomd to die", || !stage.loomd.daemon().is_running());
        stage.loomd.fail_nowhere();
        stage.loomd.start();
        wait_until(&format!("it to go on after {fault}"), || !is_quiet(&source.root()));
        source.assert_advances();
        let ran = ran(&source.root());
        assert!(ran.starts_with(&["quiesce".to_owned(), "unquiesce".to_owned()]), "{fault}: {ran:?}");
        wait_until("nothing to be left of it", || {
            stage.containerd.ctr(&["containers", "ls", "-q"]) == "db" && stage.containerd.leases().is_empty()
        });
    }
    stage.end(&image);
}
