//! A source and its image go while branches of it live: the branches run on, what is pinned stays, and
//! the bytes go with the last that stands on them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use serde_json::Value;

use support::counter::{self, Counter, Moment};
use support::image::small;
use support::process::run;
use support::stage::{Stage, on_every_stage};
use support::wait::wait_until_none;

on_every_stage!(branches_outlive_their_source);

/// Makes a container of a state without starting it, and reads its files.
fn look(stage: &Stage, of: &str, name: &str) -> (Moment, support::tree::Tree) {
    stage.loom_json(&["clone", of, "--name", name, "--no-start"]);
    let place = stage.scratch.dir(name);
    stage.containerd.mount("loom", name, &place);
    let seen = Moment::read(&place);
    run("umount", &[&place]);
    stage.containerd.remove(&[name]);
    seen
}

fn clone(stage: &Stage, of: &str, name: &str) -> Counter {
    let answer = stage.loom_json(&["clone", of, "--name", name]);
    assert_eq!(answer["clone"]["container"], name, "{answer}");
    Counter::of(stage, name)
}

fn branches_outlive_their_source(mut stage: Stage) {
    let image = stage.import(&small());
    let source = counter::start(&stage, &image, "mortal", &[]);
    let steady = source.steady();
    let id = stage.loom_json(&["inspect", "mortal"])["id"].as_str().unwrap().to_owned();
    stage.loom_json(&["snapshot", "mortal", "--name", "base"]);
    assert_eq!(stage.loom_json(&["pin", "base"])["pinned"], true);
    stage.loom_json(&["pin", "base"]);
    let (moment, files) = look(&stage, "base", "before");
    steady.assert_same(&files, "the snapshot");
    stage.loom_json(&["fork", "mortal", "--name", "heir", "--count", "2"]);
    let heirs = ["heir-1", "heir-2"].map(|name| Counter::of(&stage, name));
    stage.loom_json(&["pin", "mortal"]);

    // By containerd's own means.
    stage.containerd.ctr(&["tasks", "rm", "-f", "mortal"]);
    stage.containerd.ctr(&["containers", "rm", "mortal"]);
    stage.containerd.ctr(&["images", "rm", "--sync", &image]);
    stage.containerd.collect();
    assert!(!stage.containerd.snapshots("loom").contains(&"mortal".to_owned()));
    stage.loomd.stop();
    stage.start_again();
    for heir in &heirs {
        heir.found(2);
        heir.assert_advances();
        heir.assert_alone();
        steady.assert_same(&heir.steady(), &heir.name);
    }
    let kept = stage.loom_json(&["inspect", &id]);
    assert_eq!(
        (&kept["kind"], &kept["pinned"], &kept["key"]),
        (&"committed".into(), &true.into(), &Value::Null)
    );

    // Both that are pinned can be cloned; so can the clone's own fork.
    let of_base = clone(&stage, "base", "of-base");
    assert_eq!(of_base.found(2), moment);
    let of_mortal = clone(&stage, &id, "of-mortal");
    let end = of_mortal.found(2);
    assert!(end.b > moment.a, "{end:?} is its end, {moment:?} was before");
    stage.loom_json(&["fork", "of-mortal", "--name", "grandchild"]);
    let grandchild = Counter::of(&stage, "grandchild");
    grandchild.found(3);
    for counter in [&of_base, &of_mortal, &grandchild] {
        counter.assert_advances();
        counter.assert_alone();
        steady.assert_same(&counter.steady(), &counter.name);
    }

    // containerd forgets all of it; loom keeps what is pinned, down to the image's bytes.
    stage.containerd.remove(&["heir-1", "heir-2", "of-base", "of-mortal", "grandchild"]);
    wait_until_none("snapshots that containerd lists", || {
        stage.containerd.collect();
        stage.containerd.snapshots("loom")
    });
    assert_eq!(stage.loom_json(&["status"])["held"], 2);
    let (now, files) = look(&stage, "base", "after");
    assert_eq!(now, moment);
    steady.assert_same(&files, "the snapshot, without its image");
    let (now, files) = look(&stage, &id, "after-all");
    assert_eq!(now, end);
    steady.assert_same(&files, "the container, without its image");
    let last = clone(&stage, "base", "last");
    last.found(2);
    last.assert_advances();
    stage.containerd.remove(&["last"]);

    // Each goes when nobody keeps it any more.
    let said = stage.loom_fails(4, &["rm", "base"]);
    assert!(said.contains("unpin"), "{said}");
    stage.loom_json(&["unpin", &id]);
    let said = stage.loom_fails(4, &["clone", &id]);
    assert!(said.contains("lineage"), "the snapshot is a state of it: {said}");
    stage.loom_json(&["unpin", "base"]);
    let (now, _) = look(&stage, "base", "still");
    assert_eq!(now, moment, "its name keeps it");
    stage.loom_json(&["rm", "base"]);
    stage.loom_fails(3, &["inspect", "base"]);
    stage.wait_until_empty();
    assert_eq!(stage.loom_json(&["ls", "--all"]), Value::Array(Vec::new()), "no lineage is left to keep");
}
