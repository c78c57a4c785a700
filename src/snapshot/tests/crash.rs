//! What a start finds, and what it makes of it.

use std::collections::BTreeMap;
use std::fs;

use super::super::{Keep, Still, Take};
use super::{House, open, top};
use crate::store::{Kind, Stage};

#[test]
fn a_directory_without_a_row_goes_unless_it_was_sealed() {
    let house = House::new();
    house.image("base", "");
    let layers = house.root().join("layers");
    fs::create_dir_all(layers.join("77/fs")).unwrap();
    let house = house.reopen();
    assert_eq!(house.directories().len(), 1);
    // Its id is not used again all the same.
    house.prepare("a", "base");
    assert!(house.directories()[1] > 77);

    fs::create_dir_all(layers.join("500/fs")).unwrap();
    fs::write(layers.join("500/layer.json"), "{}").unwrap();
    let House { core, dir, .. } = house;
    drop(core);
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("layer 500") && error.contains("Nothing was changed"), "{error}");
    assert!(layers.join("500/layer.json").exists());
    fs::remove_dir_all(layers.join("500")).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn a_commit_that_was_cut_off_is_undone() {
    let house = House::new();
    let mounts = house.prepare("key", "");
    fs::write(top(&mounts).join("file"), "kept").unwrap();
    let row = house.core.by_key("key").unwrap().unwrap();
    let layer = house.core.get(row.id).unwrap().chain.remove(0);
    house.core.layers().seal(&layer, &house.core.manifest(&row, &layer).unwrap()).unwrap();
    let house = house.reopen();
    assert_eq!(house.core.stat("key").unwrap().kind, Kind::Active);
    assert!(!house.root().join(format!("layers/{}/layer.json", layer.id)).exists());
    assert!(house.root().join(format!("layers/{}/work", layer.id)).exists());
    house.core.commit("name", "key", BTreeMap::new()).unwrap();
    let house = house.reopen();
    assert_eq!(
        fs::read_to_string(house.root().join(format!("layers/{}/fs/file", layer.id))).unwrap(),
        "kept"
    );
}

#[test]
fn requests_that_were_cut_off_leave_nothing() {
    let house = House::new();
    house.image("default/1/base", "");
    house.prepare("default/2/web", "default/1/base");
    let web = house.core.by_key("default/2/web").unwrap().unwrap().id;
    for keep in [Keep::ForOne, Keep::ForClones] {
        let take = Take { keep, labels: BTreeMap::new(), captured: None, operation: None, expires: None };
        house.core.snapshot(web, &take, &mut Still).unwrap();
    }
    // As a crash in the middle of filling leaves it.
    let top = house.core.get(web).unwrap().chain.remove(0);
    let id = house.core.layers().next_id();
    let filling = crate::store::Layer { id, stage: Stage::Filling, ..top.clone() };
    house.core.store().write(move |rows| rows.insert_layer(&filling)).unwrap();
    house.core.layers().materialize(&top, id).unwrap();
    assert_eq!(house.directories().len(), 5);
    let house = house.reopen();
    assert_eq!(house.directories().len(), 2);
    assert_eq!(house.core.all().unwrap().len(), 2);
    house.settle(2);
}

#[test]
fn a_removal_that_was_cut_off_is_finished() {
    let house = House::new();
    house.image("base", "");
    let row = house.core.by_key("base").unwrap().unwrap();
    let layer = row.layer.unwrap();
    // The rows have changed, the directory has not.
    house
        .core
        .store()
        .write(move |rows| {
            rows.delete(row.id)?;
            let layer = rows.layer(layer)?.unwrap();
            rows.update_layer(&crate::store::Layer { stage: Stage::Doomed, ..layer })
        })
        .unwrap();
    let house = house.reopen();
    assert!(house.empties());
    house.settle(0);
}

#[test]
fn a_core_that_is_closed_leaves_nothing_in_the_log() {
    let house = House::new();
    house.image("base", "");
    let House { core, dir, .. } = house;
    assert!(dir.path().join("loom.db-wal").exists());
    super::super::Snapshots::close(core, std::time::Duration::from_mins(1));
    assert!(!dir.path().join("loom.db-wal").exists());
    assert_eq!(open(dir.path()).unwrap().counts().unwrap().listed, 1);
}

#[test]
fn a_replace_that_was_cut_off_before_its_swap_is_undone() {
    let (house, web, state) = super::replace::rolled(House::new());
    let before = house.core.all().unwrap();
    // As a death behind the seal leaves it: the new layer has no row, the old one says that it is sealed.
    let old = house.core.get(web).unwrap().chain.remove(0);
    let below = house.core.get(state).unwrap().chain.remove(0);
    let new = house.core.layers().next_id();
    house.core.layers().create(below.home, new, Some(&below)).unwrap();
    let row = house.core.get(web).unwrap().snapshot;
    house.core.layers().seal(&old, &house.core.manifest(&row, &old).unwrap()).unwrap();
    let house = house.reopen();
    assert_eq!(house.core.all().unwrap(), before);
    assert!(!house.directories().contains(&new.0));
    assert_eq!(house.text(web, "log"), b"two");
    house.write("default/2/web", "log", "three");
    assert!(house.root().join(format!("layers/{}/work", old.id)).exists());
}
