//! The writer: what shares a commit, and what readers see.

use std::sync::atomic::Ordering;
use std::sync::mpsc;

use super::{Class, id, put, snapshot, store};
use crate::store::*;

#[test]
fn a_group_shares_one_commit_and_a_failure_is_its_own() {
    let (_dir, store) = store();
    let (entered, has_entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let first = store
        .writer
        .submit(move |_| {
            entered.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        })
        .unwrap();
    has_entered.recv().unwrap();
    // The writer is busy: all of these gather behind it.
    let before = store.writer.groups.load(Ordering::SeqCst);
    let waiting: Vec<_> = (1..=100_u128)
        .map(|n| {
            let change = move |rows: &Rows<'_>| {
                rows.insert(&snapshot(n, Some(&format!("k{n}"))))?;
                assert_ne!(n, 30, "this one panics");
                if n == 50 { Err(Error::precondition("50", "fails")) } else { Ok(n) }
            };
            store.writer.submit(change).unwrap()
        })
        .collect();
    release.send(()).unwrap();
    first.recv().unwrap().unwrap();
    for (n, answer) in (1..).zip(waiting) {
        match (n, answer.recv().unwrap()) {
            (30, Err(Error::Internal(_))) | (50, Err(Error::Precondition { .. })) => {}
            (n, answer) => assert_eq!(answer.unwrap(), n),
        }
    }
    assert_eq!(store.writer.groups.load(Ordering::SeqCst) - before, 2);
    assert_eq!(store.read(|rows| rows.counts()).unwrap().0, 98);
    assert_eq!(store.read(|rows| rows.by_key("k30")).unwrap(), None);
    assert_eq!(store.read(|rows| rows.by_key("k50")).unwrap(), None);
}

#[test]
fn many_clients_lose_nothing() {
    let (dir, store) = store();
    std::thread::scope(|scope| {
        for thread in 0..16_u128 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20 {
                    let n = thread * 1000 + n;
                    store.write(move |rows| rows.insert(&snapshot(n, Some(&format!("k{n}"))))).unwrap();
                    // An answered write is seen at once.
                    assert!(store.read(|rows| rows.snapshot(id(n))).unwrap().is_some());
                }
            });
        }
    });
    drop(store);
    let store = Store::open(&dir.path().join("loom.db")).unwrap();
    assert_eq!(store.read(|rows| rows.counts()).unwrap().0, 320);
}

#[test]
fn a_change_inside_a_change_is_refused() {
    let (_dir, store) = store();
    let store = std::sync::Arc::new(store);
    let inner = std::sync::Arc::clone(&store);
    let answer = store.write(move |_| inner.write(|_| Ok(()))).unwrap_err();
    assert!(answer.to_string().contains("asked for another"), "{answer}");
}

#[test]
fn a_reader_sees_one_state_and_cannot_write() {
    let (_dir, store) = store();
    put(&store, vec![snapshot(1, Some("a"))]);
    store
        .read(|rows| {
            assert_eq!(rows.counts()?.0, 1);
            put(&store, vec![snapshot(2, Some("b"))]);
            assert_eq!(rows.counts()?.0, 1);
            assert!(rows.delete(id(1)).is_err());
            Ok(())
        })
        .unwrap();
    assert_eq!(store.read(|rows| rows.counts()).unwrap().0, 2);
    let error = store.read(|_| Err::<(), _>(Error::precondition("x", "y"))).unwrap_err();
    assert_eq!(error.kind(), Class::FailedPrecondition);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.read(|_| -> Result<()> { panic!("on purpose") })
    }));
    assert!(panicked.is_err());
    assert_eq!(store.read(|rows| rows.counts()).unwrap().0, 2);
}
