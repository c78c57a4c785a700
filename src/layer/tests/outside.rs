//! Trees that are no layers, put in a second place.

use std::time::{Duration, Instant};

use super::*;

/// Two directories beside the layers, the first full of everything.
fn volumes(place: &Place) -> (PathBuf, PathBuf) {
    let (from, to) = (place.layers.root().join("from"), place.layers.root().join("to"));
    for made in [&from, &to] {
        std::fs::create_dir(made).unwrap();
    }
    zoo::fill(&from);
    (from, to)
}

fn every_kind(root: &str, method: Method) {
    let place = Place::new(root, false);
    let (from, to) = volumes(&place);
    let before = zoo::describe(&from);
    assert_eq!(place.layers.copy_tree(&from, &to).unwrap(), method);
    zoo::same(&before, &zoo::describe(&to));
    zoo::same(&before, &zoo::describe(&from));
    std::fs::write(to.join("plain"), "changed").unwrap();
    assert_eq!(std::fs::read(from.join("plain")).unwrap(), b"plain\n");
    // What is there is not mixed with anything.
    let error = place.layers.copy_tree(&from, &to).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::FailedPrecondition);
    assert!(error.to_string().contains("not empty"), "{error}");
    assert_eq!(std::fs::read(to.join("plain")).unwrap(), b"changed");
}

#[test]
fn every_kind_is_copied_on_ext4() {
    every_kind("ext4", Method::Copy);
}

#[test]
fn every_kind_is_reflinked_on_xfs() {
    every_kind("xfs", Method::Reflink);
}

#[test]
fn every_kind_is_reflinked_on_btrfs() {
    every_kind("btrfs", Method::Reflink);
}

#[test]
fn from_one_filesystem_to_another_it_is_copied() {
    let (place, other) = (Place::new("ext4", false), Image::new("ext4", 512));
    let (from, _) = volumes(&place);
    let to = other.path().join("to");
    std::fs::create_dir(&to).unwrap();
    assert_eq!(place.layers.copy_tree(&from, &to).unwrap(), Method::Copy);
    zoo::same(&zoo::describe(&from), &zoo::describe(&to));
    // The root of a filesystem is a directory as any; a name in the stage outside of it is no link.
    std::fs::remove_dir_all(&to).unwrap();
    std::fs::hard_link(from.join("big"), place.layers.root().join("outside")).unwrap();
    std::fs::create_dir(&to).unwrap();
    place.layers.copy_tree(&from, &to).unwrap();
    let names: Vec<_> = std::fs::read_dir(&to).unwrap().map(|name| name.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".loom")), "{names:?}");
}

#[test]
fn what_fails_leaves_the_target_empty() {
    let (source, small) = (Place::new("ext4", false), Image::new("ext4", 24));
    let (from, to) = (source.layers.root().join("from"), small.path().join("to"));
    for made in [&from, &to] {
        std::fs::create_dir(made).unwrap();
    }
    sh(&from, "mkdir a; echo > a/one; ln a/one two; head -c 30000000 /dev/urandom > z");
    let error = source.layers.copy_tree(&from, &to).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::ResourceExhausted, "{error}");
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
    // The space comes back: at once, but for a program that another test starts at this moment, which has our files
    // open until it runs.
    let (begun, more) = (Instant::now(), vec![0; 4_000_000]);
    while let Err(error) = std::fs::write(small.path().join("more"), &more) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{error}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_no_directory_is_refused() {
    let place = Place::new("ext4", false);
    let root = place.layers.root();
    sh(root, "mkdir from to; ln -s to link; echo > file");
    for (from, to) in [("from", "link"), ("link", "to"), ("file", "to"), ("from", "file"), ("none", "to")] {
        assert!(place.layers.copy_tree(&root.join(from), &root.join(to)).is_err(), "{from} {to}");
    }
    assert_eq!(std::fs::read_dir(root.join("to")).unwrap().count(), 0);
}
