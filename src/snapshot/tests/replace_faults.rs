//! Every step of a replace fails once, and the daemon dies once at each: the whole of it holds, or nothing. It
//! runs in a child, this test program again, since faults are set by environment.

use std::process::Command;

use super::super::{Keep, Kept, Still, Take};
use super::replace::{keep, rolled};
use super::{House, open_with, top};
use crate::layer::tests::image::Image;
use crate::store::{Kind, Stage};

const WEB: &str = "default/2/web";

/// What the child does: a rollback that keeps, one that discards, and one that takes a state over.
#[test]
#[ignore = "runs as a child of the tests below"]
fn child() {
    let Ok(root) = std::env::var("LOOM_TEST_ROOT") else { return };
    let pool = std::env::var("LOOM_TEST_POOL").ok();
    let core = open_with(root.as_ref(), pool.as_deref().map(AsRef::as_ref));
    let Ok(core) = core else { return println!("failed: to open") };
    let id = |key: &str| core.by_key(key).unwrap().unwrap().id;
    let state = core.resolve("one").unwrap().id;
    let steps = || -> crate::error::Result<()> {
        core.replace(id(WEB), state, &keep("two"), None)?;
        core.replace(id(WEB), core.resolve("two")?.id, &Kept::Discarded, None)?;
        let taken = Take {
            keep: Keep::ForOne,
            labels: std::collections::BTreeMap::new(),
            captured: None,
            operation: None,
            expires: None,
        };
        let (taken, _) = core.snapshot(id(WEB), &taken, &mut Still)?;
        core.replace(id("default/3/new"), taken.id, &Kept::Discarded, None)?;
        Ok(())
    };
    match steps() {
        Ok(()) => println!("done:"),
        Err(e) => {
            println!("failed: {e}");
            // Nobody need start it again for that.
            for key in [WEB, "default/3/new"] {
                let top = top(&core.mounts(key).unwrap());
                std::fs::write(top.join("goes-on"), "").unwrap();
                assert!(top.parent().unwrap().join("work").exists());
            }
        }
    }
}

/// Runs the child on a house; answers what it printed and the points that it passed.
fn run(house: House, fault: &str) -> (House, String, Vec<String>) {
    let House { core, dir, pool } = house;
    drop(core);
    let seen = dir.path().join("seen");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "snapshot::tests::replace_faults::child", "--ignored", "--nocapture"]);
    command.env("LOOM_TEST_ROOT", dir.path()).env("LOOM_FAULT_SEEN", &seen).env("LOOM_FAULT", fault);
    if let Some(pool) = &pool {
        command.env("LOOM_TEST_POOL", pool.path());
    }
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() || fault.contains(":abort"), "{fault}: {text}");
    let seen = std::fs::read_to_string(&seen).unwrap_or_default();
    let core = open_with(dir.path(), pool.as_ref().map(Image::path)).unwrap();
    (House { core, dir, pool }, text, seen.lines().map(ToOwned::to_owned).collect())
}

/// A house as the child expects it.
fn made(pool: bool) -> House {
    let (house, _, _) = rolled(if pool { House::pooled() } else { House::new() });
    house.prepare("default/3/new", "default/1/base");
    house
}

/// What every stop leaves is one of the states between two requests.
fn check(house: &House, at: &str) {
    let web = house.core.by_key(WEB).unwrap().unwrap();
    let text = house.text(web.id, "log");
    match house.core.resolve("two") {
        // Kept: it has the content that the container had.
        Ok(two) => {
            assert_eq!((two.kind, house.text(two.id, "log")), (Kind::Committed, b"two".to_vec()), "{at}");
            assert_eq!(house.core.get(two.id).unwrap().chain[0].stage, Stage::Sealed, "{at}");
            assert!(text == b"one" || text == b"two", "{at}");
        }
        Err(_) => assert_eq!(text, b"two", "{at}"),
    }
    let new = house.core.by_key("default/3/new").unwrap().unwrap();
    let text = house.text(new.id, "log");
    assert_eq!(text.is_empty(), new.source.is_none(), "{at}");
    assert!(text.is_empty() || text == b"two", "{at}");
    for key in [WEB, "default/3/new"] {
        house.write(key, "later", "x");
    }
    // Rows and directories agree.
    let layers = house.core.store().read(|rows| rows.layers()).unwrap();
    let rows: Vec<i64> = layers.iter().filter(|l| l.stage != Stage::Doomed).map(|l| l.id.0).collect();
    assert_eq!(house.directories(), rows, "{at}");
}

fn every_step(pool: bool) {
    let (house, text, passed) = run(made(pool), "");
    assert!(text.contains("done:"), "{text}");
    check(&house, "nothing");
    drop(house);
    let mut count = std::collections::BTreeMap::<&str, usize>::new();
    for point in &passed {
        *count.entry(point.as_str()).or_default() += 1;
    }
    assert!(count.keys().any(|point| *point == "snapshot.replace.swap"), "{count:?}");
    for (point, times) in count {
        // What is in the background passes as often as it happens to.
        let ours = ["snapshot.", "layer.seal", "layer.create", "layer.materialize", "store.commit"];
        if !ours.iter().any(|ours| point.starts_with(ours)) {
            continue;
        }
        for nth in 1..=times {
            for action in ["error", "abort"] {
                let fault = format!("{point}:{action}:{nth}");
                let (house, _, _) = run(made(pool), &fault);
                check(&house, &fault);
            }
        }
    }
}

#[test]
fn every_step_on_plain_layers_can_fail() {
    every_step(false);
}

#[test]
fn every_step_in_a_pool_can_fail() {
    every_step(true);
}
