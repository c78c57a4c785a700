//! Requests that meet: one stands between another's look and its change.

use std::collections::BTreeMap;

use super::super::prepare::{Base, New, below, fresh};
use super::House;
use crate::error::Kind as Class;
use crate::layer::Mount;
use crate::store::{Home, Kind, Snapshot};

/// What Prepare has when it has looked and made nothing yet.
fn looked(house: &House, key: &str, parent: &str) -> New {
    let snapshot = fresh(key, Kind::Active, BTreeMap::new()).unwrap();
    let snapshot = house.core.store().read(|rows| below(rows, snapshot, parent)).unwrap();
    let chain = house.core.get(snapshot.parent.unwrap()).unwrap().chain;
    New { snapshot, home: Home::Plain, base: Base::On(chain), mapping: None, max_size: None }
}

fn class(made: crate::error::Result<Vec<Mount>>) -> Class {
    made.unwrap_err().kind()
}

#[test]
fn a_parent_removed_in_the_middle_of_prepare_is_not_found() {
    let house = House::new();
    house.image("base", "");
    let new = looked(&house, "live", "base");
    house.core.remove("base").unwrap();
    assert_eq!(class(house.core.make(new)), Class::NotFound);
    assert!(house.empties() && house.core.all().unwrap().is_empty());
}

#[test]
fn a_parent_that_loom_keeps_is_removed_for_containerd_all_the_same() {
    let house = House::new();
    house.image("base", "");
    house.core.pin(house.core.by_key("base").unwrap().unwrap().id, None).unwrap();
    let new = looked(&house, "live", "base");
    house.core.remove("base").unwrap();
    assert_eq!(class(house.core.make(new)), Class::NotFound);
    assert_eq!((house.keys().len(), house.directories().len()), (0, 1));
}

#[test]
fn a_removal_does_not_end_what_is_being_committed() {
    let house = House::new();
    house.prepare("key", "");
    let sealing = house.core.take_seal("key").unwrap();
    // Twice: a refusal does not give away what another has.
    for _ in 0..2 {
        assert_eq!(house.core.remove("key").unwrap_err().kind(), Class::Aborted);
    }
    drop(sealing);
    house.core.remove("key").unwrap();
    assert!(house.empties());
}

#[test]
fn a_pin_that_ends_while_its_snapshot_is_removed_leaves_nothing() {
    let house = House::new();
    house.prepare("key", "");
    let row = house.core.by_key("key").unwrap().unwrap();
    let row = house.core.pin(row.id, None).unwrap();
    let layer = house.core.get(row.id).unwrap().chain.remove(0);
    // The removal has seen the pin, and seals.
    house.core.unpin(row.id).unwrap();
    let held = Snapshot { key: None, kind: Kind::Committed, ..row };
    house.core.seal(&held, &layer).unwrap();
    assert!(house.core.all().unwrap().is_empty() && house.empties());
    house.settle(0);
}
