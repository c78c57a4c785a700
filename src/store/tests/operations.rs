//! Operations, and what they and time leave on snapshots.

use super::{Class, id, layer, put, snapshot, store};
use crate::store::*;

fn operation(n: u128, state: OperationState) -> Operation {
    Operation {
        id: id(n),
        kind: OperationKind::Fork,
        subject: "web".into(),
        address: "/run/containerd.sock".into(),
        namespace: "default".into(),
        state,
        done: 0,
        total: 0,
        steps: Vec::new(),
        warnings: Vec::new(),
        error: None,
        key: None,
        request: "{}".into(),
        plan: None,
        result: None,
        created: Time(i64::try_from(n).unwrap_or(0)),
        ended: state.ended().then_some(Time(i64::try_from(n).unwrap_or(0))),
    }
}

fn put_all(store: &Store, operations: Vec<Operation>) -> Result<()> {
    store.write(move |rows| operations.iter().try_for_each(|o| rows.put_operation(o)))
}

fn ids(operations: &[Operation]) -> Vec<Id> {
    operations.iter().map(|o| o.id).collect()
}

#[test]
fn every_column_comes_back() {
    let (dir, store) = store();
    let new = operation(1, OperationState::Accepted);
    put_all(&store, vec![new.clone()]).unwrap();
    assert_eq!(store.read(|rows| rows.operation(id(1))).unwrap(), Some(new.clone()));
    let full = Operation {
        subject: "container:größe".into(),
        state: OperationState::Failed,
        done: 3,
        total: u64::try_from(i64::MAX).unwrap(),
        steps: vec![
            Step { name: "freeze".into(), took_us: Some(17) },
            Step { name: "start".into(), took_us: None },
        ],
        warnings: vec!["\"quoted\"".into(), String::new()],
        error: Some(Failure {
            kind: Class::Unavailable,
            code: "CONTAINERD".into(),
            message: "gone 🧵".into(),
        }),
        plan: Some("{\"a\":1}".into()),
        result: Some("[]".into()),
        ended: Some(Time(i64::MAX)),
        ..new.clone()
    };
    put_all(&store, vec![full.clone()]).unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("loom.db")).unwrap();
    assert_eq!(store.read(|rows| rows.operation(id(1))).unwrap(), Some(full));
    assert_eq!(store.read(|rows| rows.operation(id(2))).unwrap(), None);
}

#[test]
fn every_kind_and_state_has_a_word() {
    use OperationKind::{Clone, Fork, Promote, Resume, Rollback, Snapshot};
    use OperationState::{Accepted, Cancelled, Failed, Running, Succeeded};
    let (_dir, store) = store();
    let mut all = Vec::new();
    for kind in [Snapshot, Fork, Clone, Rollback, Promote, Resume] {
        for state in [Accepted, Running, Succeeded, Failed, Cancelled] {
            all.push(Operation { kind, ..operation(all.len() as u128 + 1, state) });
        }
    }
    put_all(&store, all.clone()).unwrap();
    all.reverse();
    assert_eq!(store.read(|rows| rows.operations(100)).unwrap(), all);
    assert_eq!(store.read(|rows| rows.operations(2)).unwrap(), all[..2]);
    // What has ended says when, and nothing else does.
    let error = put_all(&store, vec![Operation { ended: None, ..operation(99, Succeeded) }]).unwrap_err();
    assert_eq!(error.kind(), Class::Internal);
    put_all(&store, vec![Operation { ended: Some(Time(1)), ..operation(99, Running) }]).unwrap_err();
}

#[test]
fn what_was_asked_never_changes() {
    let (_dir, store) = store();
    let first = Operation { key: Some("k".into()), ..operation(1, OperationState::Accepted) };
    let other = Operation {
        kind: OperationKind::Clone,
        address: "other".into(),
        namespace: "other".into(),
        key: None,
        request: "other".into(),
        created: Time(99),
        state: OperationState::Running,
        ..first.clone()
    };
    put_all(&store, vec![first.clone(), other]).unwrap();
    let seen = store.read(|rows| rows.operation(id(1))).unwrap().unwrap();
    assert_eq!(seen, Operation { state: OperationState::Running, ..first });
}

#[test]
fn a_key_stands_for_one_until_that_fails() {
    let (_dir, store) = store();
    let keyed = |n, state| Operation { key: Some("k".into()), ..operation(n, state) };
    let has_key = || store.read(|rows| rows.operation_by_key("k")).unwrap().map(|o| o.id);
    assert_eq!(has_key(), None);
    for (n, failed) in [(1, OperationState::Failed), (2, OperationState::Cancelled)] {
        put_all(&store, vec![keyed(n, OperationState::Running)]).unwrap();
        assert_eq!(has_key(), Some(id(n)));
        let second = put_all(&store, vec![keyed(9, OperationState::Accepted)]).unwrap_err();
        assert_eq!(second.kind(), Class::Internal, "whoever writes it has looked");
        put_all(&store, vec![keyed(n, failed)]).unwrap();
        assert_eq!(has_key(), None);
    }
    put_all(&store, vec![keyed(3, OperationState::Running), keyed(3, OperationState::Succeeded)]).unwrap();
    assert_eq!(has_key(), Some(id(3)), "what succeeded is its answer");
    put_all(&store, vec![keyed(4, OperationState::Accepted)]).unwrap_err();
    // No key is no one's.
    put_all(&store, (5..8).map(|n| operation(n, OperationState::Running)).collect()).unwrap();
    assert_eq!(store.read(|rows| rows.operation_by_key("")).unwrap(), None);
}

#[test]
fn the_unfinished_are_found_in_order() {
    use OperationState::{Accepted, Cancelled, Failed, Running, Succeeded};
    let (_dir, store) = store();
    let states = [(1, Succeeded), (2, Running), (3, Failed), (4, Cancelled), (6, Running), (5, Accepted)];
    put_all(&store, states.map(|(n, state)| operation(n, state)).to_vec()).unwrap();
    let unfinished = || ids(&store.read(|rows| rows.unfinished_operations()).unwrap());
    assert_eq!(unfinished(), [id(2), id(5), id(6)]);
    put_all(&store, vec![operation(5, Failed)]).unwrap();
    assert_eq!(unfinished(), [id(2), id(6)]);
    let by_prefix = |prefix: &str| ids(&store.read(|rows| rows.operations_by_prefix(prefix)).unwrap());
    assert_eq!(by_prefix(&id(5).to_string()), [id(5)]);
    assert_eq!((by_prefix("0000").len(), by_prefix("%").len(), by_prefix("1").len()), (6, 0, 0));
}

#[test]
fn old_ones_are_forgotten_and_unfinished_never() {
    use OperationState::{Running, Succeeded};
    let (_dir, store) = store();
    put_all(&store, (1..=10).map(|n| operation(n, if n == 3 { Running } else { Succeeded })).collect())
        .unwrap();
    let forget = |before, keep| store.write(move |rows| rows.forget_operations(Time(before), keep)).unwrap();
    let left = || ids(&store.read(|rows| rows.operations(100)).unwrap());
    assert_eq!((forget(0, 10), left().len()), (0, 10));
    assert_eq!((forget(5, 10), left()), (3, [10, 9, 8, 7, 6, 5, 3].map(id).to_vec()));
    assert_eq!((forget(5, 4), left()), (2, [10, 9, 8, 7, 3].map(id).to_vec()));
    assert_eq!((forget(100, 100), left()), (4, vec![id(3)]));
    // What it made outlives it.
    put(&store, vec![Snapshot { operation: Some(id(10)), ..snapshot(1, None) }]);
    assert_eq!(store.read(|rows| rows.by_operation(id(10))).unwrap().len(), 1);
}

#[test]
fn snapshots_are_found_by_their_operation() {
    let (_dir, store) = store();
    let of = |n, operation: Option<u128>| Snapshot { operation: operation.map(id), ..snapshot(n, None) };
    put(&store, vec![of(3, Some(7)), of(1, Some(7)), of(2, Some(8)), of(4, None)]);
    let found = |n| -> Vec<Id> {
        store.read(|rows| rows.by_operation(id(n))).unwrap().into_iter().map(|s| s.id).collect()
    };
    assert_eq!((found(7), found(8), found(9)), (vec![id(1), id(3)], vec![id(2)], vec![]));
}

#[test]
fn what_expires_is_found_in_its_order() {
    let (_dir, store) = store();
    store.write(|rows| rows.insert_layer(&layer(1, None))).unwrap();
    let expiring = |n, expires| Snapshot { expires, layer: Some(LayerId(1)), ..snapshot(n, None) };
    put(
        &store,
        vec![
            expiring(1, Some(Time(30))),
            expiring(2, Some(Time(10))),
            expiring(3, Some(Time(20))),
            expiring(4, None),
            Snapshot { pinned: true, ..expiring(5, Some(Time(5))) },
            Snapshot { layer: None, ..expiring(6, Some(Time(5))) },
        ],
    );
    let expired = |now| -> Vec<Id> {
        store.read(|rows| rows.expired(Time(now))).unwrap().into_iter().map(|s| s.id).collect()
    };
    assert_eq!((expired(9), expired(10)), (vec![], vec![id(2)]));
    assert_eq!(expired(i64::MAX), [id(2), id(3), id(1)]);
    let next = || store.read(|rows| rows.next_expiry()).unwrap();
    assert_eq!(next(), Some(Time(10)));
    for n in 1..=3 {
        store.write(move |rows| rows.delete(id(n))).unwrap();
    }
    assert_eq!(next(), None);
}
