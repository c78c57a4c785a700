//! The file: what is refused, what a full disk does.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;

use super::{Class, put, snapshot};
use crate::store::*;

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
    let latest = i32::try_from(MIGRATIONS.len()).unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", latest).unwrap();
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
