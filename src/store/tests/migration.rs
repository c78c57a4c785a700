//! Databases of older looms.

use std::collections::BTreeMap;

use super::{id, layer, snapshot};
use crate::store::*;

/// A database as the first version wrote it, with rows in it.
fn version_1(path: &Path) {
    let conn = Connection::open(path).unwrap();
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    conn.execute_batch(include_str!("../schema-1.sql")).unwrap();
    conn.execute_batch(&format!(
        "INSERT INTO layers VALUES (1, 'plain', NULL, 'sealed', NULL, NULL), (2, 'plain', 1, 'writable', 5, 6);
         INSERT INTO snapshots (id, key, name, kind, parent, source, layer, pinned, transient, labels, created, updated,
             captured, namespace, client_key) VALUES
             ('{}', 'ns/1/base', NULL, 'committed', NULL, NULL, 1, 0, 0, '{{\"a\":\"b\"}}', 1, 7, NULL, 'ns', 'base'),
             ('{}', 'ns/2/web', NULL, 'active', '{}', NULL, 2, 1, 0, '{{}}', 2, 7, '{{}}', 'ns', 'web');
         INSERT INTO pauses VALUES ('/run/c.sock', 'ns', 'web');
         PRAGMA user_version = 1",
        id(1),
        id(2),
        id(1)
    ))
    .unwrap();
}

#[test]
fn a_database_of_the_first_version_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loom.db");
    version_1(&path);
    // Twice: what is up to date stays as it is.
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        let base = Snapshot {
            kind: Kind::Committed,
            layer: Some(LayerId(1)),
            labels: BTreeMap::from([("a".into(), "b".into())]),
            ..snapshot(1, Some("ns/1/base"))
        };
        let web = Snapshot {
            parent: Some(id(1)),
            layer: Some(LayerId(2)),
            pinned: true,
            captured: Some("{}".into()),
            ..snapshot(2, Some("ns/2/web"))
        };
        let usage = Some(Usage { size: 5, inodes: 6 });
        let layers = [layer(1, None), Layer { stage: Stage::Writable, usage, ..layer(2, Some(1)) }];
        store
            .read(|rows| {
                assert_eq!(rows.snapshots()?, [base, web.clone()]);
                assert_eq!(rows.by_client_key("ns", "web")?, [web]);
                assert_eq!(rows.layers()?, layers);
                assert_eq!((rows.operations(9)?.len(), rows.next_expiry()?), (0, None));
                let [pause] = &rows.pauses()?[..] else { panic!("one pause") };
                assert_eq!((pause.container.as_str(), pause.unquiesce.as_deref()), ("web", None));
                Ok(())
            })
            .unwrap();
    }
    let store = Store::open(&path).unwrap();
    let made = Snapshot { operation: Some(id(9)), expires: Some(Time(3)), ..snapshot(3, None) };
    store.write(move |rows| rows.insert(&made)).unwrap();
    assert_eq!(store.read(|rows| rows.by_operation(id(9))).unwrap().len(), 1);
}

#[test]
fn one_that_cannot_be_brought_up_to_date_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loom.db");
    version_1(&path);
    // As a hand that meddled leaves it.
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE operations (a)").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, Error::Store { full: false, .. }), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    let conn = Connection::open(&path).unwrap();
    let rows: i64 = conn.query_row("SELECT count(*) FROM snapshots", [], |row| row.get(0)).unwrap();
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!((rows, version), (2, 1));
}
