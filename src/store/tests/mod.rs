#![allow(clippy::unwrap_used)]
// A method path of `Rows` is not general enough over its lifetime for `Store::read`.
#![allow(clippy::redundant_closure_for_method_calls)]

mod files;
mod lookups;
mod migration;
mod operations;
mod writer;

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::error::Kind as Class;

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("loom.db")).unwrap();
    (dir, store)
}

fn id(n: u128) -> Id {
    format!("{n:032x}").parse().unwrap()
}

fn snapshot(n: u128, key: Option<&str>) -> Snapshot {
    Snapshot {
        id: id(n),
        key: key.map(Into::into),
        name: None,
        kind: Kind::Active,
        parent: None,
        source: None,
        layer: None,
        pinned: false,
        transient: false,
        labels: BTreeMap::new(),
        created: Time(i64::try_from(n).unwrap_or(0)),
        updated: Time(7),
        captured: None,
        operation: None,
        expires: None,
        taken: None,
    }
}

fn layer(n: i64, base: Option<i64>) -> Layer {
    Layer::new(LayerId(n), Home::Plain, base.map(LayerId), Stage::Sealed)
}

/// Writes these rows, then looks.
fn put(store: &Store, snapshots: Vec<Snapshot>) {
    store.write(move |rows| snapshots.iter().try_for_each(|s| rows.insert(s))).unwrap();
}

fn keys(snapshots: &[Snapshot]) -> Vec<&str> {
    snapshots.iter().map(|s| s.key.as_deref().unwrap()).collect()
}

#[test]
fn every_column_comes_back() {
    let (dir, store) = store();
    let full = Snapshot {
        name: Some("größe 🧵".into()),
        kind: Kind::Committed,
        parent: Some(id(1)),
        source: Some(id(2)),
        layer: Some(LayerId(4)),
        pinned: true,
        transient: true,
        labels: BTreeMap::from([
            ("ключ".into(), "значение \" \\ \u{1f9f5}\n".into()),
            ("long".into(), "x".repeat(4096)),
            (String::new(), String::new()),
        ]),
        created: Time(i64::MIN),
        updated: Time(i64::MAX),
        captured: Some("{\"a\": 1}".into()),
        operation: Some(id(77)),
        expires: Some(Time(i64::MAX)),
        taken: Some(Time(-1)),
        ..snapshot(3, Some("default/3/c"))
    };
    let layers = [
        layer(3, None),
        Layer {
            id: LayerId(4),
            home: Home::Pool,
            base: Some(LayerId(3)),
            stage: Stage::Writable,
            usage: Some(Usage { size: i64::MAX, inodes: 0 }),
            was: None,
            max_size: Some(i64::MAX),
            mapping: Some(serde_json::from_str(r#"{"uids":"0:9:1","gids":"0:8:2"}"#).unwrap()),
            still: Some(Time(9)),
            merged: 4,
            own: Some(Usage { size: 1, inodes: 2 }),
            instead_of: vec![LayerId(1), LayerId(2)],
        },
        Layer { stage: Stage::Filling, was: Some(LayerId(3)), ..layer(5, None) },
    ];
    let (rows_in, layers_in) = (full.clone(), layers.clone());
    store
        .write(move |rows| {
            layers_in.iter().try_for_each(|l| rows.insert_layer(l))?;
            rows.insert(&snapshot(1, None))?;
            rows.insert(&Snapshot { kind: Kind::View, ..snapshot(2, None) })?;
            rows.insert(&rows_in)
        })
        .unwrap();
    drop(store);
    // The last connection tidied up: the file alone is the database.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let store = Store::open(&dir.path().join("loom.db")).unwrap();
    store
        .read(|rows| {
            assert_eq!(rows.snapshot(id(3))?, Some(full.clone()));
            assert_eq!(rows.by_key("default/3/c")?, Some(full.clone()));
            assert_eq!(rows.by_name("größe 🧵")?, Some(full.clone()));
            assert_eq!(rows.snapshot(id(2))?.map(|s| s.kind), Some(Kind::View));
            assert_eq!(rows.listed_child(id(1))?, Some(full.clone()));
            assert!(rows.lineage_needs(id(2))? && !rows.lineage_needs(id(3))?);
            assert_eq!(rows.layers()?, layers);
            assert_eq!(rows.chain(LayerId(4))?, [layers[1].clone(), layers[0].clone()]);
            assert_eq!(rows.chain(LayerId(9))?, []);
            assert_eq!(rows.standing_on(LayerId(3))?, 1);
            assert_eq!(rows.standing_on(LayerId(4))?, 1);
            assert_eq!(rows.counts()?, (1, 1, 3));
            Ok(())
        })
        .unwrap();
}

#[test]
fn taken_keys_and_names_are_told_apart() {
    let (_dir, store) = store();
    put(
        &store,
        vec![
            Snapshot { name: Some("n".into()), ..snapshot(1, Some("k")) },
            snapshot(2, None),
            snapshot(3, None),
        ],
    );
    let same_key = store.write(|rows| rows.insert(&snapshot(4, Some("k")))).unwrap_err();
    assert!(matches!(same_key, Error::KeyExists(key) if key == "k"));
    let same_name = Snapshot { name: Some("n".into()), ..snapshot(2, Some("other")) };
    let error = store.write(move |rows| rows.update(&same_name)).unwrap_err();
    assert!(matches!(error, Error::NameExists(name) if name == "n"));
    let same_id = store.write(|rows| rows.insert(&snapshot(1, Some("new")))).unwrap_err();
    assert_eq!(same_id.kind(), Class::Internal);
    let gone = store.write(|rows| rows.update(&snapshot(9, Some("gone")))).unwrap_err();
    assert!(matches!(gone, Error::SnapshotNotFound(title) if title == "gone"));
    // Its own key and name are not in its way.
    let own = Snapshot { name: Some("n".into()), pinned: true, ..snapshot(1, Some("k")) };
    store.write(move |rows| rows.update(&own)).unwrap();
}

#[test]
fn a_row_that_others_refer_to_stays() {
    let (_dir, store) = store();
    store
        .write(|rows| {
            rows.insert_layer(&layer(1, None))?;
            rows.insert_layer(&layer(2, Some(1)))?;
            rows.insert(&snapshot(1, None))?;
            rows.insert(&Snapshot { parent: Some(id(1)), layer: Some(LayerId(2)), ..snapshot(2, None) })
        })
        .unwrap();
    assert!(store.write(|rows| rows.delete(id(1))).is_err());
    assert!(store.write(|rows| rows.delete_layer(LayerId(1))).is_err());
    assert!(store.write(|rows| rows.delete_layer(LayerId(2))).is_err());
    assert!(store.write(|rows| rows.insert_layer(&layer(4, Some(3)))).is_err());
    store
        .write(|rows| {
            rows.delete(id(2))?;
            rows.delete(id(1))?;
            rows.delete_layer(LayerId(2))?;
            rows.delete_layer(LayerId(1))?;
            rows.delete_layer(LayerId(1))
        })
        .unwrap();
    assert_eq!(store.read(|rows| rows.counts()).unwrap(), (0, 0, 0));
}

#[test]
fn pauses_are_written_once() {
    let (_dir, store) = store();
    let pause = |container: &str| Pause {
        address: "/run/containerd.sock".into(),
        namespace: "default".into(),
        container: container.into(),
        unquiesce: None,
    };
    let (a, b) = (pause("a"), pause("b"));
    let (c, d) = (a.clone(), b.clone());
    store.write(move |rows| [&d, &c, &c].iter().try_for_each(|p| rows.insert_pause(p))).unwrap();
    assert_eq!(store.read(|rows| rows.pauses()).unwrap(), [a.clone(), b.clone()]);
    store.write(move |rows| rows.delete_pause(&a).and_then(|()| rows.delete_pause(&a))).unwrap();
    assert_eq!(store.read(|rows| rows.pauses()).unwrap(), [b]);
}
