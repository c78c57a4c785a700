//! Every step of making layers one fails once, and the daemon dies once at each: every snapshot is what it was, and
//! nothing half-made stays. It runs in a child, this test program again, since faults are set by environment.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use super::super::Snapshots;
use super::{House, open_with};
use crate::store::Stage;

/// The last generation there is.
const LAST: usize = 6;

/// What the child does: some layers in the middle become one, then that and others.
#[test]
#[ignore = "runs as a child of the test below"]
fn child() {
    let Ok(root) = std::env::var("LOOM_TEST_ROOT") else { return };
    let Ok(core) = open_with(root.as_ref(), None) else { return println!("failed: to open") };
    let chain = |n: usize| {
        let id = core.by_key(&format!("default/{n}/g{n}")).unwrap().unwrap().id;
        core.get(id).unwrap().chain
    };
    let steps = || -> crate::error::Result<()> {
        core.merge(&chain(LAST - 2), 3, false)?;
        core.end_replaced(Duration::ZERO)?;
        core.merge(&chain(LAST - 2), 2, false)?;
        core.end_replaced(Duration::ZERO)
    };
    match steps() {
        Ok(()) => println!("done:"),
        Err(e) => println!("failed: {e}"),
    }
    Snapshots::close(core, Duration::from_secs(30));
}

fn made() -> House {
    let house = House::new();
    for n in 0..=LAST {
        house.generation(n);
    }
    house.prepare("default/7/web", &format!("default/{LAST}/g{LAST}"));
    house
}

/// Runs the child on a house; answers what it printed and the points that it passed.
fn run(house: House, fault: &str) -> (House, String, Vec<String>) {
    let House { core, dir, pool } = house;
    drop(core);
    let seen = dir.path().join("seen");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "snapshot::tests::flatten_faults::child", "--ignored", "--nocapture"]);
    command.env("LOOM_TEST_ROOT", dir.path()).env("LOOM_FAULT_SEEN", &seen).env("LOOM_FAULT", fault);
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() || fault.contains(":abort"), "{fault}: {text}");
    let seen = std::fs::read_to_string(&seen).unwrap_or_default();
    let core = open_with(dir.path(), None).unwrap();
    (House { core, dir, pool }, text, seen.lines().map(ToOwned::to_owned).collect())
}

fn check(house: &House, at: &str) {
    for n in 0..=LAST {
        house.is_generation(house.id(&format!("default/{n}/g{n}")), n);
    }
    house.is_generation(house.id("default/7/web"), LAST);
    // Rows and directories agree, and everything stands on something.
    let layers = house.core.store().read(|rows| rows.layers()).unwrap();
    let rows: Vec<_> = layers.iter().filter(|layer| layer.stage != Stage::Doomed).collect();
    let ids: Vec<i64> = rows.iter().map(|layer| layer.id.0).collect();
    assert_eq!(house.directories(), ids, "{at}");
    for layer in rows {
        let standing = house.core.store().read(|rows| rows.standing_on(layer.id)).unwrap();
        assert!(standing > 0 && layer.stage != Stage::Filling, "{at}: {layer:?}");
    }
}

#[test]
fn every_step_can_fail() {
    let (house, text, passed) = run(made(), "");
    assert!(text.contains("done:"), "{text}");
    check(&house, "nothing");
    let mut count = BTreeMap::<&str, usize>::new();
    for point in &passed {
        *count.entry(point.as_str()).or_default() += 1;
    }
    for point in ["layer.flatten.begin", "layer.flatten.entry", "layer.flatten.end"] {
        assert!(count.contains_key(point), "{count:?}");
    }
    for (point, times) in count {
        // What is in the background passes as often as it happens to.
        let ours = ["snapshot.flatten.", "layer.flatten.", "layer.seal.", "layer.discard.", "store."];
        if !ours.iter().any(|ours| point.starts_with(ours)) {
            continue;
        }
        // Of many entries one at the beginning, and one at the end.
        for nth in (1..=times).filter(|nth| *nth < 4 || *nth == times) {
            for action in ["error", "abort"] {
                let fault = format!("{point}:{action}:{nth}");
                let (house, _, _) = run(made(), &fault);
                check(&house, &fault);
            }
        }
    }
}
