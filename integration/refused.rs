//! Requests that cannot be met: each says why, with its exit status, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use serde_json::Value;

use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::stage::{Stage, on_stages};
use support::wait::{wait_until, wait_until_none};

/// An exit status, the request, and what is said.
type Case = (i32, &'static [&'static str], &'static str);

/// The id of no operation.
const NONE: &str = "00000000000000000000000000000000";

/// What nobody and nothing is called, or more than one is.
const UNKNOWN: &[Case] = &[
    (3, &["fork", "nobody"], "nobody"),
    (3, &["snapshot", "nobody"], "nobody"),
    (3, &["clone", "nothing"], "nothing"),
    (3, &["rollback", "nobody", "of-web"], "nobody"),
    (3, &["rollback", "web", "nothing"], "nothing"),
    (3, &["promote", "nobody"], "nobody"),
    (3, &["resume", "nobody"], "nobody"),
    (3, &["fork", "container:elsewhere/web"], "elsewhere"),
    (3, &["operation", NONE], NONE),
    (3, &["cancel", NONE], NONE),
    (3, &["operation", "no-hex"], "no-hex"),
    // Too short to mean anything.
    (3, &["inspect", "000"], "000"),
    (2, &["fork", "twin"], "ambiguous"),
    (2, &["snapshot", "twin"], "ambiguous"),
    (2, &["rollback", "twin", "of-web"], "ambiguous"),
];

/// Names that are taken.
const IN_USE: &[Case] = &[
    (4, &["fork", "web", "--name", "other"], "other"),
    (4, &["clone", "of-web", "--name", "other"], "other"),
    (4, &["snapshot", "web", "--name", "of-other"], "of-other"),
    (4, &["rollback", "web", "of-web", "--name", "of-other"], "of-other"),
    (4, &["promote", "branch", "--name", "of-other"], "of-other"),
];

/// What is not as the request needs it.
const UNFIT: &[Case] = &[
    (4, &["fork", "over"], "--snapshotter loom"),
    (4, &["snapshot", "over"], "--snapshotter loom"),
    (4, &["rollback", "over", "of-web"], "--snapshotter loom"),
    (4, &["promote", "over"], "--snapshotter loom"),
    (4, &["rollback", "web", "of-other"], "lineage"),
    (4, &["rollback", "other", "branch"], "loom snapshot"),
    (4, &["promote", "web"], "web"),
    (3, &["promote", "of-web"], "of-web"),
    (4, &["clone", "web"], "loom fork"),
    (4, &["fork", "nerd"], "nerdctl"),
    (4, &["fork", "shop"], "nerdctl"),
    (4, &["fork", "web", "-p", "8080:80"], "nerdctl"),
];

/// What can never work.
const WRONG: &[&[&str]] = &[
    &["fork", "web", "--count", "0"],
    &["fork", "web", "--count", "1001"],
    &["fork", "web", "--name", "a b"],
    &["fork", "web", "--name", "../x"],
    &["fork", "web", "--ttl", "soon"],
    &["fork", "web", "--ttl", "5"],
    &["snapshot", "web", "--ttl", "-1h"],
    &["fork", "web", "--consistency", "best"],
    &["fork", "web", "--resume", "never"],
    &["fork", "web", "--volumes", "some"],
    &["fork", "web", "--env", "=x"],
    &["fork", "web", "--label", "x"],
    &["rollback", "web"],
    &["rollback", "web", "of-web", "--discard", "--name", "x"],
    &["prune"],
    &["prune", "--older-than", "yesterday"],
];

/// A container that does nothing.
fn idle(stage: &Stage, image: &str, name: &str) {
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", image, name, "sleep", "100000"]);
}

/// All processes, and what they do.
fn tasks(stage: &Stage) -> Vec<String> {
    let mut tasks: Vec<_> = stage.containerd.ctr(&["tasks", "ls"]).lines().map(ToOwned::to_owned).collect();
    tasks.sort();
    tasks
}

fn bad_input(mut stage: Stage) {
    let image = stage.import(&small());
    stage.containerd.import("overlayfs", &small().archive);
    for name in ["web", "other", "twin1", "twin2", "dead"] {
        idle(&stage, &image, name);
    }
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "overlayfs", &image, "over", "sleep", "100000"]);
    // What nerdctl would be, had it been removed from the machine.
    let nerd = ["run", "-d", "--snapshotter", "loom", "--label", "nerdctl/name=shop", &image, "nerd"];
    stage.containerd.ctr(&[&nerd[..], &["sleep", "100000"]].concat());
    // A container whose snapshot somebody has taken away.
    stage.containerd.ctr(&["tasks", "rm", "-f", "dead"]);
    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "rm", "dead"]);
    stage.loom_json(&["snapshot", "web", "--name", "of-web"]);
    stage.loom_json(&["snapshot", "other", "--name", "of-other"]);
    stage.loom_json(&["fork", "web", "--name", "branch"]);
    // A fork whose source is gone.
    idle(&stage, &image, "gone");
    stage.loom_json(&["fork", "gone", "--name", "orphan"]);
    stage.containerd.remove(&["gone"]);
    stage.containerd.collect();
    wait_until_none("files in the trash", || {
        stage.place.trash().iter().map(|path| path.display().to_string()).collect()
    });
    let before = stage.inventory();
    let running = tasks(&stage);

    said(&stage);
    stage.wait_until_again(&before, "bad input");
    assert_eq!(tasks(&stage), running, "every process is what it was");
    let operations = stage.loom_json(&["operations"]);
    let under_way = |each: &&Value| each["state"] == "accepted" || each["state"] == "running";
    assert_eq!(operations.as_array().unwrap().iter().find(under_way), None);

    nobody_answers(&mut stage);
    stage.wait_until_again(&before, "nobody's answer");

    // What has stopped can be forked, and stays stopped.
    stage.containerd.ctr(&["tasks", "kill", "-s", "SIGKILL", "other"]);
    wait_until("other to stop", || stage.containerd.status_of("other").as_deref() == Some("STOPPED"));
    let answer = stage.loom_json(&["fork", "other", "--name", "of-stopped"]);
    assert_eq!(answer["cost"]["paused_us"], 0, "{answer}");
    stage.containerd.pid_of("of-stopped");
    let answer = stage.loom_json(&["rollback", "other", "of-other", "--discard"]);
    assert_eq!(answer["container"]["pid"], Value::Null, "{answer}");
    assert_ne!(stage.containerd.status_of("other").as_deref(), Some("RUNNING"));

    stage.loom_json(&["rm", "of-web", "of-other"]);
    stage.containerd.ctr(&["containers", "rm", "dead"]);
    stage.containerd.remove(&["over"]);
    stage.end(&image);
}

/// Makes all of these requests.
fn said(stage: &Stage) {
    let usage: Vec<Case> = WRONG.iter().map(|args| (2, *args, "")).collect();
    let mut others = Vec::new();
    for (status, args, says) in [UNKNOWN, IN_USE, UNFIT, &usage].concat() {
        let output = support::loom::try_loom(&stage.loomd.ttrpc_socket(), args);
        let said = support::process::said(&output);
        if output.status.code() != Some(status) || !said.contains(says) || said.contains("Error {") {
            others.push(format!("loom {args:?}: not {status} and {says:?}, but {}: {said}", output.status));
        }
    }
    assert!(others.is_empty(), "{}", others.concat());
    // What is gone under a container or a fork is said, whatever it is called.
    for args in [
        &["fork", "dead"][..],
        &["snapshot", "dead"],
        &["rollback", "dead", "of-web"],
        &["promote", "orphan"],
    ] {
        let output = support::loom::try_loom(&stage.loomd.ttrpc_socket(), args);
        let said = support::process::said(&output);
        assert!(matches!(output.status.code(), Some(3 | 4)), "loom {args:?}: {said}");
        assert!(said.contains(args[1]) || said.contains("gone"), "loom {args:?}: {said}");
    }
}

/// Without containerd, and without loomd.
fn nobody_answers(stage: &mut Stage) {
    stage.containerd.kill();
    let said = stage.loom_fails(5, &["fork", "web"]);
    assert!(said.contains("containerd"), "{said}");
    stage.containerd.start();
    stage.loomd.stop();
    let said = stage.loom_fails(5, &["fork", "web"]);
    assert!(said.contains("loomd"), "{said}");
    stage.start_again();
}

on_stages! {
    bad_input_on_ext4: bad_input(Ext4, Debian);
    bad_input_with_a_pool: bad_input(Ext4Pool, Debian);
    bad_input_with_a_pool_and_the_current_containerd: bad_input(Ext4Pool, Current);
}
