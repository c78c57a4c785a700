//! Every step fails once, and the daemon dies once at each: what is left must be what the module's
//! doc comment says. The steps run in a child, this test program again, since faults are set by
//! environment.

use std::process::Command;

use super::*;

/// What the child does. The parent says which ids, so that it can look.
#[test]
#[ignore = "runs as a child of the tests below"]
fn child() {
    let Ok(root) = std::env::var("LOOM_TEST_ROOT") else { return };
    let pool = std::env::var("LOOM_TEST_POOL").ok();
    let home = if pool.is_some() { Home::Pool } else { Home::Plain };
    let layers = Layers::open(Path::new(&root), pool.as_deref().map(Path::new)).unwrap();
    let first: i64 = std::env::var("LOOM_TEST_FIRST").unwrap().parse().unwrap();
    let (source, target, clone) = (layer(home, first), layer(home, first + 1), layer(home, first + 2));
    let steps = || -> Result<()> {
        layers.create(home, source.id, None)?;
        std::fs::write(layers.fs(home, source.id).join("f"), "content").unwrap();
        let mut copying = layers.begin(&source, target.id)?;
        copying.catch_up()?;
        copying.finish()?;
        copying.keep()?;
        layers.measure(&target)?;
        layers.seal(&target, &manifest(target.id))?;
        layers.materialize(&target, clone.id)?;
        layers.compare(std::slice::from_ref(&target), std::slice::from_ref(&clone), &mut |_| Ok(()))?;
        layers.read(std::slice::from_ref(&target), Path::new("f"), 100)?;
        layers.changed_since(&target, crate::store::Time(0), 10)?;
        let volume = tempfile::tempdir_in(&root).unwrap();
        layers.copy_tree(&layers.fs(home, source.id), volume.path()).inspect_err(|_| {
            assert_eq!(std::fs::read_dir(volume.path()).unwrap().count(), 0);
        })?;
        layers.unseal(&target)?;
        layers.seal(&target, &manifest(target.id))?;
        layers.discard(home, source.id)?;
        layers.settle()?;
        layers.reclaim()?;
        Ok(())
    };
    if let Err(e) = steps() {
        assert!(matches!(e, Error::Fault(_)), "{e}");
        println!("failed: {e}");
    }
}

/// Runs the child on fresh directories; answers what it printed and the points it passed.
fn run(image: &Image, pool: Option<&Image>, first: i64, fault: &str) -> (String, Vec<String>) {
    for base in [Some(image), pool].into_iter().flatten() {
        sh(
            base.path(),
            "for s in layers/* trash/* reclaim/*; do [ ! -e $s ] || btrfs -q subvolume delete $s 2>/dev/null || rm -rf $s; done",
        );
    }
    let seen = image.path().join("seen");
    let _ = std::fs::remove_file(&seen);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "layer::tests::faults::child", "--ignored", "--nocapture"]);
    command.env("LOOM_TEST_ROOT", image.path()).env("LOOM_FAULT_SEEN", &seen).env("LOOM_FAULT", fault);
    command.env("LOOM_TEST_FIRST", first.to_string());
    if let Some(pool) = pool {
        command.env("LOOM_TEST_POOL", pool.path());
    }
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() || fault.ends_with(":abort"), "{fault}: {text}");
    let seen = std::fs::read_to_string(&seen).unwrap_or_default();
    (text, seen.lines().map(ToOwned::to_owned).collect())
}

fn every_step(pool: bool) {
    let image = Image::new("xfs", 512);
    let pool = pool.then(|| Image::new("btrfs", 256));
    let home = if pool.is_some() { Home::Pool } else { Home::Plain };
    let first = unused_id();
    let (text, mut points) = run(&image, pool.as_ref(), first, "");
    assert!(!text.contains("failed:"), "{text}");
    points.sort();
    points.dedup();
    // A pool becomes a root's once.
    points.retain(|point| !point.starts_with("layer.pair."));
    assert!(points.len() > 15, "{points:?}");
    for point in points {
        for action in ["error", "abort"] {
            let (text, seen) = run(&image, pool.as_ref(), first, &format!("{point}:{action}"));
            assert!(seen.contains(&point));
            let layers = Layers::open(image.path(), pool.as_ref().map(Image::path)).unwrap();
            let whole = |id| {
                let file = layers.fs(home, id).join("f");
                std::fs::read_to_string(file).is_ok_and(|text| text == "content")
            };
            let found = layers.found().unwrap();
            let (source, target, clone) = (LayerId(first), LayerId(first + 1), LayerId(first + 2));
            let at = |id| found.iter().find(|f| f.id == id);
            // A sealed layer is whole, whatever happened.
            for found in found.iter().filter(|f| f.seal == Seal::Own) {
                assert!(whole(found.id), "{point}:{action}");
            }
            // What is made of one is not.
            assert!(at(clone).is_none_or(|clone| clone.seal != Seal::Own), "{point}:{action}");
            if action == "error" {
                let tried = text.contains("failed:");
                // Reclaim goes on over errors; everything else says so.
                let passed = point.starts_with("layer.reclaim") || point.starts_with("layer.remove");
                assert!(tried || passed, "{point}: {text}");
                let place = |verb: &str| point.starts_with(verb);
                if place("layer.create") && !seen.iter().any(|p| p.starts_with("layer.flush")) {
                    assert!(at(source).is_none(), "{point}");
                }
                if (place("layer.materialize") || place("layer.copy"))
                    && !seen.iter().any(|p| p.starts_with("layer.seal"))
                {
                    assert!(at(target).is_none() && whole(source), "{point}");
                }
            }
            // What is left can be taken away.
            for found in found {
                layers.discard(home, found.id).unwrap();
            }
            assert_eq!(layers.reclaim().unwrap(), 0, "{point}:{action}");
        }
    }
}

#[test]
fn every_step_of_a_plain_layer_can_fail() {
    every_step(false);
}

#[test]
fn every_step_of_a_pool_layer_can_fail() {
    every_step(true);
}
