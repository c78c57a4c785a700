//! The rows against a map that should behave as they do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Id, Snapshot>;

/// One change of one snapshot; ids, keys and names are few, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Insert(Snapshot),
    Update(Snapshot),
    Delete(Id),
}

fn id() -> impl Strategy<Value = Id> {
    (0..8_u128).prop_map(|n| format!("{:032x}", n << 124 | n).parse().unwrap())
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]/[12]/[cé](/d)?", "[ab]", "[ab]/x/c"]
}

prop_compose! {
    fn snapshot()(
        id in id(),
        key in prop::option::of(key()),
        name in prop::option::weighted(0.2, "[mn]"),
        kind in prop::sample::select(vec![Kind::Active, Kind::View, Kind::Committed]),
        parent in prop::option::weighted(0.3, id()),
        source in prop::option::weighted(0.2, id()),
        (pinned, transient) in any::<(bool, bool)>(),
        reference in prop::option::of("[rs]"),
        created in 0..4_i64,
        (operation, expires, taken) in
            (prop::option::weighted(0.3, id()), prop::option::of(0..4_i64), prop::option::of(0..4_i64)),
    ) -> Snapshot {
        let labels = reference.map(|r| ("containerd.io/snapshot.ref".to_string(), r)).into_iter().collect();
        let (created, updated) = (Time(created), Time(-created));
        Snapshot {
            id, key, name, kind, parent, source, layer: None, pinned, transient, labels, created, updated,
            captured: None,
            operation, expires: expires.map(Time), taken: taken.map(Time),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => snapshot().prop_map(Step::Insert),
        2 => snapshot().prop_map(Step::Update),
        1 => id().prop_map(Step::Delete),
    ]
}

/// What the rows should do; the word for how it ends.
fn expect(model: &mut Model, step: &Step) -> &'static str {
    let (new, there) = match step {
        Step::Insert(new) | Step::Update(new) => (new, model.contains_key(&new.id)),
        Step::Delete(id) => {
            let referred = |s: &Snapshot| s.id != *id && (s.parent == Some(*id) || s.source == Some(*id));
            if model.contains_key(id) && model.values().any(referred) {
                return "refused";
            }
            model.remove(id);
            return "done";
        }
    };
    if matches!(step, Step::Update(_)) && !there {
        return "gone";
    }
    let mut others = model.values().filter(|other| other.id != new.id);
    if new.key.is_some() && others.clone().any(|other| other.key == new.key) {
        return "key";
    }
    if new.name.is_some() && others.any(|other| other.name == new.name) {
        return "name";
    }
    let refers = |id: Option<Id>| id.is_none_or(|id| id == new.id || model.contains_key(&id));
    if (matches!(step, Step::Insert(_)) && there) || !refers(new.parent) || !refers(new.source) {
        return "refused";
    }
    model.insert(new.id, new.clone());
    "done"
}

fn apply(store: &Store, step: Step) -> &'static str {
    let done = store.write(move |rows| match step {
        Step::Insert(snapshot) => rows.insert(&snapshot),
        Step::Update(snapshot) => rows.update(&snapshot),
        Step::Delete(id) => rows.delete(id),
    });
    match done {
        Ok(()) => "done",
        Err(Error::SnapshotNotFound(_)) => "gone",
        Err(Error::KeyExists(_)) => "key",
        Err(Error::NameExists(_)) => "name",
        Err(Error::Internal(_)) => "refused",
        Err(other) => panic!("{other}"),
    }
}

/// Every look-up finds what the model has.
fn compare(rows: &Rows<'_>, model: &Model) -> Result<()> {
    let select = |wanted: &dyn Fn(&Snapshot) -> bool| {
        let mut found: Vec<_> = model.values().filter(|s| wanted(s)).cloned().collect();
        found.sort_by_key(|s| (s.created, s.id));
        found
    };
    assert_eq!(rows.snapshots()?, select(&|_| true));
    for snapshot in model.values() {
        assert_eq!(rows.snapshot(snapshot.id)?.as_ref(), Some(snapshot));
        let needs = |s: &Snapshot| s.parent == Some(snapshot.id) || s.source == Some(snapshot.id);
        assert_eq!(rows.lineage_needs(snapshot.id)?, model.values().any(needs));
        let listed = select(&|s| s.parent == Some(snapshot.id) && s.key.is_some());
        let child = rows.listed_child(snapshot.id)?;
        assert!(child.as_ref().map_or(listed.is_empty(), |child| listed.contains(child)));
        let prefix = &snapshot.id.to_string()[..4];
        assert_eq!(rows.by_prefix(prefix)?, std::slice::from_ref(snapshot));
    }
    for operation in model.values().filter_map(|s| s.operation) {
        assert_eq!(rows.by_operation(operation)?, select(&|s| s.operation == Some(operation)));
    }
    for reference in ["r", "s"] {
        let carries = |s: &Snapshot| s.labels.values().any(|value| value == reference);
        let expected = select(&|s| carries(s) && s.kind == Kind::Committed && s.key.is_some());
        assert_eq!(rows.by_ref(reference)?, expected);
    }
    for (namespace, client_key) in [("a", "c"), ("a", "é/d"), ("b", "é"), ("b", "c/d")] {
        let mut expected = select(&|s| {
            let keys = ["1", "2"].map(|n| format!("{namespace}/{n}/{client_key}"));
            s.key.as_ref().is_some_and(|key| keys.contains(key))
        });
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(rows.by_client_key(namespace, client_key)?, expected);
    }
    let mut listed: Vec<_> = model
        .values()
        .filter(|s| s.key.is_some())
        .map(|s| (s.clone(), s.parent.and_then(|parent| model[&parent].key.clone())))
        .collect();
    listed.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    assert_eq!(rows.listed(None, usize::MAX)?, listed);
    if let Some((first, _)) = listed.first() {
        assert_eq!(
            rows.listed(first.key.as_deref(), 3)?,
            listed[1..].iter().take(3).cloned().collect::<Vec<_>>()
        );
    }
    let held = select(&|s| s.pinned || s.name.is_some()).len();
    assert_eq!(rows.counts()?, (listed.len() as u64, held as u64, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn rows_behave_as_a_map(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("loom.db")).unwrap();
        let mut model = Model::new();
        for step in steps {
            let expected = expect(&mut model, &step);
            prop_assert_eq!(apply(&store, step.clone()), expected, "{:?}", step);
        }
        store.read(|rows| compare(rows, &model)).unwrap();
    }
}
