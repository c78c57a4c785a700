#![allow(clippy::unwrap_used)]
// A method path of `Rows` is not general enough over its lifetime for `Store::read`.
#![allow(clippy::redundant_closure_for_method_calls)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use tempfile::TempDir;

use super::*;
use crate::error::Kind as Class;

const REF: &str = "containerd.io/snapshot.ref";

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
    Layer { id: LayerId(n), home: Home::Plain, base: base.map(LayerId), stage: Stage::Sealed, usage: None }
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
        operation: None,
        expires: None,
        taken: None,
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
        },
        Layer { stage: Stage::Filling, ..layer(5, None) },
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

/// Opening this is refused with these words, and leaves every byte as it is.
fn assert_refused(path: &Path, words: &[&str]) {
    let before = std::fs::read(path).unwrap();
    let error = Store::open(path).unwrap_err();
    assert!(matches!(error, Error::Store { full: false, .. }), "{error:?}");
    for word in words.iter().chain([&path.to_str().unwrap()]) {
        assert!(error.to_string().contains(word), "{error} lacks {word}");
    }
    assert_eq!(std::fs::read(path).unwrap(), before);
}

#[test]
fn files_that_are_not_ours_are_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loom.db");

    std::fs::write(&path, b"not a database, and longer than SQLite's header is ".repeat(40)).unwrap();
    assert_refused(&path, &["damaged", "restore it from a backup"]);

    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert_refused(&path, &["another program's"]);

    std::fs::remove_file(&path).unwrap();
    drop(Store::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_refused(&path, &["newer loom's", "schema 99", "upgrade loom"]);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", -1).unwrap();
    assert_refused(&path, &["newer loom's"]);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
    drop(Store::open(&path).unwrap());

    let store = Store::open(&path).unwrap();
    put(&store, (0..500).map(|n| snapshot(n, Some(&format!("k{n}")))).collect());
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    assert_refused(&path, &["damaged"]);
}

#[test]
fn places_that_cannot_be_opened_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(&dir.path().join("none/loom.db")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("none/loom.db"), "{error}");
    let error = Store::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
}

/// A filesystem of one MiB, unmounted when dropped.
struct Small(TempDir);

impl Small {
    /// None without the right to mount.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), dir.path(), Some("tmpfs"), flags, Some("size=1m")).ok()?;
        Some(Self(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_loses_only_what_did_not_fit() {
    let Some(small) = Small::mount() else {
        eprintln!("not root: nothing was tested");
        return;
    };
    let path = small.0.path().join("loom.db");
    let store = Store::open(&path).unwrap();
    put(&store, vec![snapshot(1, Some("k1"))]);
    let ballast = small.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 300 << 10]).unwrap();
    let big = |n: u128| Snapshot {
        labels: BTreeMap::from([("big".into(), "x".repeat(4096))]),
        ..snapshot(n, Some(&format!("k{n}")))
    };
    let mut kept = 1;
    let error = loop {
        match store.write(move |rows| rows.insert(&big(kept + 1))) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000, "it never got full");
    };
    assert_eq!(error.kind(), Class::ResourceExhausted, "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    let count = |store: &Store| u128::from(store.read(|rows| rows.counts()).unwrap().0);
    assert_eq!(count(&store), kept);
    std::fs::remove_file(&ballast).unwrap();
    store.write(move |rows| rows.insert(&big(kept + 1))).unwrap();
    assert_eq!(count(&store), kept + 1);
    drop(store);
    assert_eq!(count(&Store::open(&path).unwrap()), kept + 1);
}
