//! A fork without the admin service: a client of containerd's own API asks for a snapshot with a label.
//! The client is in Go, as containerd's are.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use support::containerd::{Version, tools};
use support::counter::{self, Counter, Moment};
use support::image::small;
use support::layout::Layout;
use support::process::{run, succeed};
use support::stage::{Stage, on_every_stage};
use support::tree::Tree;
use support::wait::wait_until;

on_every_stage!(live, refused);

const LABEL: &str = "containerd.io/snapshot/loom.fork-of";

/// What the client asks for.
#[derive(Clone, Copy, Default)]
struct Ask<'a> {
    key: &'a str,
    /// The label's value.
    of: &'a str,
    /// The key of the snapshot whose parent is taken; empty for no parent.
    like: &'a str,
    /// One more label.
    label: Option<&'a str>,
}

/// Asks containerd, in the stage's namespace: a lease's id, or a code and a message.
fn ask(stage: &Stage, ask: Ask<'_>, at: &Path) -> Result<String, (String, String)> {
    let mut labels = format!("{LABEL}={}", ask.of);
    labels.extend(ask.label.map(|label| format!(",{label}")));
    let mut command = Command::new(tools().join("label"));
    command.arg("-address").arg(stage.containerd.socket());
    command.args(["-namespace", &stage.containerd.namespace, "-key", ask.key, "-like", ask.like]);
    command.args(["-labels", &labels, "-at"]).arg(at);
    let answer: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
    let text = |name: &str| answer[name].as_str().map(ToOwned::to_owned);
    text("lease").ok_or_else(|| (text("code").unwrap(), text("message").unwrap()))
}

/// Asks for what there must be, and looks at it: a lease, and files of one moment, which are overwritten
/// then, since they are the client's own.
fn granted(stage: &Stage, what: Ask<'_>) -> (String, Moment, Tree) {
    let place = stage.scratch.dir(what.key);
    let lease = ask(stage, what, &place).unwrap_or_else(|refused| panic!("{}: {refused:?}", what.key));
    let (moment, files) = Moment::read(&place);
    std::fs::write(place.join("root/log"), "overwritten\n").unwrap();
    run("umount", &[&place]);
    (lease, moment, files)
}

/// All that a refusal must leave as it was.
fn inventory(stage: &Stage) -> Vec<String> {
    let mut found = stage.containerd.snapshots("loom");
    found.extend(stage.containerd.leases());
    found.extend(stage.place.layers().iter().map(|path| path.display().to_string()));
    found.extend(stage.place.trash().iter().map(|path| path.display().to_string()));
    found.extend(stage.place.subvolumes());
    found
}

/// Asks for what there cannot be: a code, what the message says, and nothing is left of it.
fn denied(stage: &Stage, what: Ask<'_>, code: &str, says: &str) {
    let before = inventory(stage);
    let (got, message) = ask(stage, what, Path::new("/nowhere")).expect_err(what.of);
    assert_eq!(got, code, "{}: {message}", what.of);
    assert!(message.contains(says), "{}: {message}", what.of);
    assert_eq!(inventory(stage), before, "{} leaves something behind", what.of);
}

/// A writing container's snapshot is forked by its key, and a state of it by its id.
fn live(stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "labelled", &[]);
    let steady = source.steady();
    let key_of_source = Ask { key: "by-key", of: "labelled", like: "labelled", label: None };
    let mut leases = Vec::new();
    let copies = stage.loom_json(&["status"])["method"] == "copy";
    if copies {
        denied(&stage, key_of_source, "FailedPrecondition", "`loom snapshot`");
    } else {
        let mut last = 0;
        for key in ["by-key", "by-key-again", "and-again"] {
            source.assert_advances();
            let (lease, moment, files) = granted(&stage, Ask { key, ..key_of_source });
            assert!(moment.b > last, "{moment:?} after {last}");
            last = moment.b;
            steady.assert_same(&files, key);
            leases.push(lease);
        }
        let rows = stage.loom_json(&["ls"]);
        let source_id = stage.loom_json(&["inspect", "labelled"])["id"].clone();
        let of_source = |row: &&Value| row["source"] == source_id && row["kind"] == "active";
        assert_eq!(rows.as_array().unwrap().iter().filter(of_source).count(), 3, "{rows}");
    }
    assert_eq!(stage.containerd.status_of("labelled").as_deref(), Some("RUNNING"));
    source.assert_advances();
    source.assert_alone();

    // What a refusal says to do works everywhere.
    let kept = stage.loom_json(&["snapshot", "labelled", "--name", "state"]);
    let of = format!("id:{}", kept["snapshot"]["id"].as_str().unwrap());
    let by_id = Ask { key: "by-id", of: &of, ..key_of_source };
    let (lease, moment, files) = granted(&stage, by_id);
    steady.assert_same(&files, "by-id");
    leases.push(lease);
    let (lease, same, _) = granted(&stage, Ask { key: "by-id-again", ..by_id });
    leases.push(lease);
    assert_eq!(moment, same, "a state does not change");

    // Without their leases the collector takes them.
    for lease in &leases {
        stage.containerd.ctr(&["leases", "rm", lease]);
    }
    stage.loom_json(&["rm", "state"]);
    stage.end(&image);
}

/// A stranger's image must not be able to fork a container.
fn refused(mut stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "labelled", &[]);
    let fork = Ask { key: "fork", of: "labelled", like: "labelled", label: None };
    let with_ref = Ask { label: Some("containerd.io/snapshot.ref=sha256:0123"), ..fork };
    denied(&stage, with_ref, "FailedPrecondition", "snapshot.ref");
    denied(&stage, Ask { of: "nobody", ..fork }, "NotFound", "nobody");
    denied(&stage, Ask { of: "id:00000000000000000000000000000000", ..fork }, "NotFound", "0000");
    denied(&stage, Ask { of: "id:short", ..fork }, "InvalidArgument", "short");
    denied(&stage, Ask { of: "grant:00000000", ..fork }, "FailedPrecondition", "grant");
    denied(&stage, Ask { like: "", ..fork }, "InvalidArgument", "parent");

    let id = stage.loom_json(&["inspect", "labelled"])["id"].as_str().unwrap().to_owned();
    let of_id = format!("id:{id}");
    stage.containerd.namespace = "other".into();
    let elsewhere = Ask { like: "", ..fork };
    denied(&stage, elsewhere, "NotFound", "labelled");
    denied(&stage, Ask { of: &of_id, ..elsewhere }, "FailedPrecondition", "another namespace");
    denied(&stage, Ask { of: "default/labelled", ..elsewhere }, "NotFound", "labelled");

    stage.containerd.namespace = "k8s.io".into();
    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "prepare", "own"]);
    denied(&stage, Ask { of: "own", like: "own", ..fork }, "FailedPrecondition", "fork_label.deny");
    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "rm", "own"]);

    stage.containerd.namespace = "default".into();
    source.assert_advances();
    stage.end(&image);
}

/// Forks by label and by `loom` of one container at once, while the collector runs: containerd holds
/// its lock on the snapshotter through the former, and waits for it in the collector.
fn at_once(stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "labelled", &[]);
    let (labels, forks) = (["l0", "l1", "l2", "l3"], ["f0", "f1", "f2", "f3"]);
    let leases = std::thread::scope(|scope| {
        let stage = &stage;
        let granted = labels.map(|key| {
            scope.spawn(move || {
                let what = Ask { key, of: "labelled", like: "labelled", label: None };
                let (lease, ..) = granted(stage, what);
                lease
            })
        });
        let forked = forks.map(|name| {
            scope.spawn(move || {
                stage.loom_json(&["fork", "labelled", "--name", name]);
                stage.loom_json(&["snapshot", "labelled", "--name", &format!("of-{name}")]);
            })
        });
        // One that failed has finished too.
        while granted.iter().any(|each| !each.is_finished()) || forked.iter().any(|each| !each.is_finished())
        {
            stage.collect();
        }
        granted.map(|each| each.join().unwrap())
    });
    for name in forks {
        let fork = Counter::of(&stage, name);
        fork.found(2);
        fork.assert_advances();
        stage.loom_json(&["rm", &format!("of-{name}")]);
    }
    assert_eq!(stage.containerd.status_of("labelled").as_deref(), Some("RUNNING"));
    source.assert_advances();
    source.assert_alone();
    for lease in &leases {
        stage.containerd.ctr(&["leases", "rm", lease]);
    }
    stage.end(&image);
}

/// loomd dies while it holds a container still for a client's Prepare.
fn crashed(mut stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "labelled", &[]);
    stage.loomd.stop();
    stage.loomd.fail_at("snapshot.frozen:abort");
    stage.start_again();
    let fork = Ask { key: "fork", of: "labelled", like: "labelled", label: None };
    let (code, _) = ask(&stage, fork, Path::new("/nowhere")).unwrap_err();
    assert_eq!(code, "Unavailable");
    assert_eq!(stage.containerd.status_of("labelled").as_deref(), Some("PAUSED"));
    stage.loomd.fail_nowhere();
    stage.start_again();
    wait_until("the source to go on", || {
        stage.containerd.status_of("labelled").as_deref() == Some("RUNNING")
    });
    source.assert_advances();
    let (lease, ..) = granted(&stage, fork);
    stage.containerd.ctr(&["leases", "rm", &lease]);
    stage.end(&image);
}

#[test]
fn at_once_on_xfs() {
    at_once(Stage::new(Layout::Xfs, Version::Debian));
}

#[test]
fn at_once_with_a_pool() {
    at_once(Stage::new(Layout::Ext4Pool, Version::Debian));
}

#[test]
fn at_once_with_a_pool_and_the_current_containerd() {
    at_once(Stage::new(Layout::Ext4Pool, Version::Current));
}

#[test]
fn crashed_with_a_pool() {
    crashed(Stage::new(Layout::Ext4Pool, Version::Debian));
}

#[test]
fn crashed_with_a_pool_and_the_current_containerd() {
    crashed(Stage::new(Layout::Ext4Pool, Version::Current));
}
