//! What stands still: `loom resume`, containers that their users have paused, and those that a crash
//! of loomd would leave paused.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use support::containerd::Containerd;
use support::counter::{self, Counter};
use support::image::small;
use support::stage::{Stage, on_every_stage};
use support::wait::wait_until;

on_every_stage!(resumed, thawed);

fn wait_for_status(containerd: &Containerd, container: &str, status: &str) {
    wait_until(&format!("{container} to be {status}"), || {
        containerd.status_of(container).as_deref() == Some(status)
    });
}

fn resumed(stage: Stage) {
    let image = stage.import(&small());
    let containerd = &stage.containerd;
    let source = counter::start(&stage, &image, "still", &[]);

    // A fork that was not started, and one that runs already.
    let answer = stage.loom_json(&["fork", "still", "--name", "idle", "--no-start"]);
    assert_eq!(answer["forks"][0]["pid"], serde_json::Value::Null, "{answer}");
    assert_eq!(containerd.status_of("idle"), None);
    let pid = stage.loom_json(&["resume", "idle"])["pid"].clone();
    let idle = Counter::of(&stage, "idle");
    assert_eq!(pid, idle.pid);
    idle.found(2);
    idle.assert_advances();
    assert_eq!(stage.loom_json(&["resume", "idle"])["pid"], pid, "it is left alone");

    // What its user has paused stays paused, and what is made of it runs.
    containerd.ctr(&["tasks", "pause", "still"]);
    wait_for_status(containerd, "still", "PAUSED");
    let before = source.count();
    stage.loom_json(&["snapshot", "still", "--name", "state"]);
    wait_for_status(containerd, "still", "PAUSED");
    stage.loom_json(&["fork", "still", "--name", "awake"]);
    wait_for_status(containerd, "still", "PAUSED");
    let awake = Counter::of(&stage, "awake");
    assert_eq!(awake.found(2).log, before);
    awake.assert_advances();
    stage.loom_json(&["clone", "state", "--name", "cloned"]);
    assert_eq!(Counter::of(&stage, "cloned").found(2).log, before);
    assert_eq!(source.count(), before, "it was not continued in between");
    assert_eq!(stage.loom_json(&["resume", "still"])["pid"], source.pid);
    wait_for_status(containerd, "still", "RUNNING");
    source.assert_advances();
    source.assert_alone();

    // One whose process has ended can be forked without a pause, and starts again.
    containerd.ctr(&["tasks", "kill", "-s", "SIGKILL", "awake"]);
    wait_for_status(containerd, "awake", "STOPPED");
    stage.loom_json(&["fork", "awake", "--name", "of-ended"]);
    Counter::of(&stage, "of-ended").found(3);
    stage.loom_json(&["resume", "awake"]);
    let again = Counter::of(&stage, "awake");
    again.found(3);
    again.assert_advances();

    stage.loom_fails(3, &["resume", "nobody"]);
    stage.loom_json(&["rm", "state"]);
    stage.end(&image);
}

/// loomd dies while it holds a container still: the next one lets it go on.
fn thawed(mut stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "victim", &[]);
    let verbs: [&[&str]; 3] =
        [&["fork", "victim"], &["fork", "victim", "--count", "2"], &["snapshot", "victim"]];
    for (turn, verb) in verbs.into_iter().enumerate() {
        stage.loomd.stop();
        stage.loomd.fail_at("snapshot.frozen:abort");
        stage.start_again();
        stage.loom_fails(5, verb);
        wait_until("loomd to die", || !stage.loomd.daemon().is_running());
        assert_eq!(stage.containerd.status_of("victim").as_deref(), Some("PAUSED"), "{verb:?}");
        let before = source.count();
        stage.loomd.fail_nowhere();
        if turn == 1 {
            // containerd may come up after loomd.
            stage.containerd.kill();
            stage.loomd.start();
            assert_eq!(source.count(), before);
            stage.containerd.start();
        } else {
            stage.loomd.start();
        }
        wait_for_status(&stage.containerd, "victim", "RUNNING");
        source.assert_advances();
        assert!(source.count() > before);
        assert_eq!(stage.containerd.containers(), ["victim"], "{verb:?}");
        assert_eq!(stage.loom_json(&["ls"]).as_array().unwrap().len(), 1, "{verb:?}");
    }
    // Its pauses are its user's own again.
    stage.containerd.ctr(&["tasks", "pause", "victim"]);
    stage.loomd.stop();
    stage.start_again();
    stage.loom_json(&["fork", "victim", "--name", "survivor"]);
    wait_for_status(&stage.containerd, "victim", "PAUSED");
    let survivor = Counter::of(&stage, "survivor");
    survivor.found(2);
    survivor.assert_advances();
    stage.end(&image);
}
