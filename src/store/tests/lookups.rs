//! Look-ups: which rows they find, in which order, by which index.

use std::collections::BTreeMap;

use super::{id, keys, put, snapshot, store};
use crate::store::*;

const REF: &str = "containerd.io/snapshot.ref";

#[test]
fn pages_follow_the_order_of_keys() {
    let (_dir, store) = store();
    put(
        &store,
        vec![
            snapshot(9, Some("ns/1/é")),
            Snapshot { parent: Some(id(9)), ..snapshot(1, Some("ns/2/b")) },
            snapshot(2, None),
            Snapshot { parent: Some(id(2)), ..snapshot(3, Some("Z")) },
            snapshot(4, Some("a")),
        ],
    );
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.read(|rows| rows.listed(after.as_deref(), 2)).unwrap();
        let Some((last, _)) = page.last() else { break };
        after.clone_from(&last.key);
        seen.extend(page.into_iter().map(|(s, parent)| (s.key.unwrap(), parent)));
    }
    let expected = [("Z", None), ("a", None), ("ns/1/é", None), ("ns/2/b", Some("ns/1/é"))];
    assert_eq!(seen, expected.map(|(key, parent)| (key.to_string(), parent.map(str::to_string))));
}

#[test]
fn prefixes_are_no_patterns() {
    let (_dir, store) = store();
    put(&store, vec![snapshot(0xab << 120, None), snapshot(0xac << 120, None), snapshot(u128::MAX, None)]);
    for (prefix, found) in [
        ("a", 2),
        ("ab", 1),
        ("f", 1),
        (&"f".repeat(32), 1),
        ("", 3),
        ("%", 0),
        ("*", 0),
        ("b", 0),
        ("A", 0),
        ("g", 0),
    ] {
        assert_eq!(store.read(|rows| rows.by_prefix(prefix)).unwrap().len(), found, "{prefix:?}");
    }
}

#[test]
fn client_keys_may_hold_slashes() {
    let (_dir, store) = store();
    let all = ["ns/1/c", "ns/22/c", "ns/3/a/b/c", "ns/x/c", "ns//c", "ns/4/", "/5/c", "other/6/c", "plain"];
    put(&store, (1..).zip(all).map(|(n, key)| snapshot(n, Some(key))).collect());
    for (namespace, client_key, found) in [
        ("ns", "c", &["ns/1/c", "ns/22/c"][..]),
        ("ns", "a/b/c", &["ns/3/a/b/c"]),
        ("ns", "b/c", &[]),
        ("other", "c", &["other/6/c"]),
        ("", "c", &[]),
        ("ns", "", &[]),
    ] {
        let rows = store.read(|rows| rows.by_client_key(namespace, client_key)).unwrap();
        assert_eq!(keys(&rows), found, "{namespace} {client_key}");
    }
    // A new key has new parts, none has none.
    store
        .write(|rows| {
            rows.update(&snapshot(1, Some("ns/1/new")))?;
            rows.update(&snapshot(2, None))
        })
        .unwrap();
    assert_eq!(keys(&store.read(|rows| rows.by_client_key("ns", "new")).unwrap()), ["ns/1/new"]);
    assert_eq!(store.read(|rows| rows.by_client_key("ns", "c")).unwrap(), []);
}

#[test]
fn refs_find_what_is_committed_and_listed() {
    let (_dir, store) = store();
    let labelled = |n, key: Option<&str>, kind, reference: &str| Snapshot {
        kind,
        labels: BTreeMap::from([(REF.into(), reference.into())]),
        ..snapshot(n, key)
    };
    put(
        &store,
        vec![
            labelled(1, Some("a"), Kind::Committed, "sha256:1"),
            labelled(2, Some("b"), Kind::Active, "sha256:1"),
            labelled(3, None, Kind::Committed, "sha256:1"),
            labelled(4, Some("c"), Kind::Committed, "sha256:\"ö"),
        ],
    );
    let by_ref = |reference: &str| {
        let found = store.read(|rows| rows.by_ref(reference)).unwrap();
        found.into_iter().map(|s| s.key.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(by_ref("sha256:1"), ["a"]);
    assert_eq!(by_ref("sha256:\"ö"), ["c"]);
    store.write(|rows| rows.update(&Snapshot { kind: Kind::Committed, ..snapshot(1, Some("a")) })).unwrap();
    assert!(by_ref("sha256:1").is_empty());
}

#[test]
fn look_ups_use_their_indexes() {
    let (_dir, store) = store();
    let conn = store.reader().unwrap();
    for (condition, index) in [
        ("s.key > '' ORDER BY s.key", "autoindex_snapshots_2"),
        ("s.client_key = ?1 AND s.namespace = ?2", "snapshots_client_key"),
        ("s.ref = ?1 AND s.kind = 'committed' AND s.key IS NOT NULL", "snapshots_ref"),
        ("s.id >= ?1 AND s.id < ?1 || 'g'", "autoindex_snapshots_1"),
        ("s.parent = ?1", "snapshots_parent"),
        ("s.parent = ?1 AND s.key IS NOT NULL LIMIT 1", "snapshots_parent"),
        ("s.source = ?1", "snapshots_source"),
        ("s.layer = ?1", "snapshots_layer"),
        ("s.operation = ?1", "snapshots_operation"),
        ("s.expires <= ?1", "snapshots_expires"),
    ] {
        let sql = format!("EXPLAIN QUERY PLAN SELECT s.labels FROM snapshots s WHERE {condition}");
        let mut statement = conn.prepare(&sql).unwrap();
        for parameter in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(parameter, "x").unwrap();
        }
        let plan: String = statement.raw_query().next().unwrap().unwrap().get(3).unwrap();
        assert!(plan.starts_with("SEARCH") && plan.contains(index), "{condition}: {plan}");
    }
}
