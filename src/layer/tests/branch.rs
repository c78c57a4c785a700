//! Putting a tree in a second place, by every method.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn every_kind(root: &str, pool: bool, home: Home, method: Method) {
    let place = Place::new(root, pool);
    let source = place.create(home);
    zoo::fill(&place.fs(&source));
    std::fs::create_dir_all(place.dir(&source).join("work/work/#1")).unwrap();
    let before = zoo::describe(&place.fs(&source));
    assert!(before.lines().count() > 120, "{before}");
    let target = layer(home, place.layers.next_id().0);
    assert_eq!(place.layers.materialize(&source, target.id).unwrap(), method);
    assert_eq!(place.layers.method(home), method);
    zoo::same(&before, &zoo::describe(&place.fs(&target)));
    zoo::same(&before, &zoo::describe(&place.fs(&source)));
    // The two are apart, and the source is what it was.
    std::fs::write(place.fs(&target).join("plain"), "changed").unwrap();
    assert_eq!(std::fs::read(place.fs(&source).join("plain")).unwrap(), b"plain\n");
    let work = place.dir(&target).join("work");
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0);
    assert_eq!(work.metadata().unwrap().permissions().mode() & 0o7777, 0o711);
}

#[test]
fn every_kind_is_copied_on_ext4() {
    every_kind("ext4", false, Home::Plain, Method::Copy);
}

#[test]
fn every_kind_is_reflinked_on_xfs() {
    every_kind("xfs", false, Home::Plain, Method::Reflink);
}

#[test]
fn every_kind_is_reflinked_on_btrfs() {
    every_kind("btrfs", false, Home::Plain, Method::Reflink);
}

#[test]
fn every_kind_is_in_a_subvolume_snapshot() {
    every_kind("ext4", true, Home::Pool, Method::Subvolume);
}

#[test]
fn a_deep_tree_and_a_wide_one() {
    let place = Place::new("xfs", false);
    let source = place.create(Home::Plain);
    sh(
        &place.fs(&source),
        r"python3 - <<'E'
import os
here = os.getcwd()
for n in range(2000):
    os.mkdir('d' * 20); os.mkdir('side'); open('side/f', 'w').write(str(n)); os.link('side/f', 'g')
    os.chdir('d' * 20)
os.chdir(here); os.mkdir('wide')
for n in range(20000): open('wide/%d' % n, 'w')
E",
    );
    let count = r"find . | wc -l; find . -type f -links 2 | wc -l; python3 - <<'E'
import os
for n in range(2000):
    assert open('side/f').read() == str(n) and os.path.samefile('side/f', 'g')
    os.chdir('d' * 20)
print(os.listdir('.'))
E";
    let target = layer(Home::Plain, place.layers.next_id().0);
    place.layers.materialize(&source, target.id).unwrap();
    let seen = sh(&place.fs(&target), count);
    assert_eq!(seen, sh(&place.fs(&source), count));
    assert!(seen.starts_with(b"28002\n4000\n"), "{}", String::from_utf8_lossy(&seen));
    let usage = place.layers.measure(&target).unwrap();
    assert_eq!(usage.inodes, 28002 - 2000);
    place.layers.discard(Home::Plain, target.id).unwrap();
    assert_eq!(place.layers.reclaim().unwrap(), 0);
    assert!(!place.layers.root().join(format!("trash/{}", target.id)).exists());
}

#[test]
fn a_clone_of_a_sealed_pool_layer_is_writable_and_not_sealed() {
    let place = Place::new("ext4", true);
    let source = place.create(Home::Pool);
    std::fs::write(place.fs(&source).join("f"), "1").unwrap();
    place.layers.seal(&source, &manifest(source.id)).unwrap();
    assert!(std::fs::write(place.fs(&source).join("f"), "2").is_err());
    let target = layer(Home::Pool, place.layers.next_id().0);
    assert_eq!(place.layers.materialize(&source, target.id).unwrap(), Method::Subvolume);
    std::fs::write(place.fs(&target).join("f"), "2").unwrap();
    let found = place.layers.found().unwrap();
    let seal = |id| found.iter().find(|f| f.id == id).unwrap().seal;
    assert_eq!((seal(source.id), seal(target.id)), (Seal::Own, Seal::Absent));
    assert_eq!(std::fs::read(place.fs(&source).join("f")).unwrap(), b"1");
}

#[test]
fn a_clone_that_was_cut_off_is_not_taken_for_a_sealed_layer() {
    let place = Place::new("ext4", true);
    let source = place.create(Home::Pool);
    place.layers.seal(&source, &manifest(source.id)).unwrap();
    let seal = |id| place.layers.found().unwrap().into_iter().find(|f| f.id == id).unwrap().seal;
    // As a death right behind the snapshot leaves it.
    let target = place.layers.next_id();
    sh(
        place.layers.pool().unwrap(),
        &format!("btrfs -q subvolume snapshot layers/{} layers/{target}", source.id),
    );
    assert_eq!(seal(target), Seal::Copied);
    // What cannot be read is not thrown away.
    std::fs::write(place.layers.pool().unwrap().join(format!("layers/{target}/layer.json")), "{").unwrap();
    assert_eq!(seal(target), Seal::Own);
}

#[test]
fn without_space_nothing_stays() {
    for (home, pool) in [(Home::Plain, false), (Home::Plain, true)] {
        let root = Image::new("ext4", 24);
        let pool = pool.then(|| Image::new("btrfs", 128));
        let layers = Layers::open(root.path(), pool.as_ref().map(Image::path)).unwrap();
        let source = layer(home, layers.next_id().0);
        layers.create(home, source.id, None).unwrap();
        sh(&layers.fs(home, source.id), "mkdir a; head -c 12000000 /dev/urandom > a/big; echo > b");
        let target = layers.next_id();
        let error = layers.materialize(&source, target).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::ResourceExhausted, "{error}");
        assert!(error.to_string().contains("a/big"), "{error}");
        assert!(!layers.fs(home, target).parent().unwrap().exists());
        // The space came back at once.
        sh(layers.root(), "head -c 4000000 /dev/zero > more");
    }
}

#[test]
fn a_failure_removes_only_what_it_made() {
    let place = Place::new("ext4", true);
    for home in [Home::Plain, Home::Pool] {
        let (source, other) = (place.create(home), place.create(home));
        std::fs::write(place.fs(&other).join("kept"), "").unwrap();
        place.layers.materialize(&source, other.id).unwrap_err();
        place.layers.create(home, other.id, None).unwrap_err();
        assert!(place.fs(&other).join("kept").exists());
        let gone = layer(home, 4711);
        let target = place.layers.next_id();
        place.layers.materialize(&gone, target).unwrap_err();
        place.layers.create(home, target, Some(&gone)).unwrap_err();
        assert!(!place.layers.fs(home, target).parent().unwrap().exists());
    }
}

#[test]
fn a_new_layer_is_like_the_one_below() {
    let place = Place::new("ext4", true);
    let below = place.create(Home::Plain);
    assert_eq!(place.fs(&below).metadata().unwrap().mode() & 0o7777, 0o755);
    sh(&place.fs(&below), "chown 12:34 .; chmod 1770 .; touch -d @-5.000000007 .");
    let attributes =
        [("user.a", true), ("trusted.overlay.overlay.a", true), ("trusted.overlay.opaque", false)];
    for (name, _) in attributes {
        xattr::set(place.fs(&below), name, b"y").unwrap();
    }
    for home in [Home::Plain, Home::Pool] {
        let id = place.layers.next_id();
        place.layers.create(home, id, Some(&below)).unwrap();
        let made = place.layers.fs(home, id).metadata().unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (12, 34, 0o1770));
        assert_eq!((made.mtime(), made.mtime_nsec()), (-6, 999_999_993));
        for (name, kept) in attributes {
            let value = xattr::get(place.layers.fs(home, id), name).unwrap();
            assert_eq!(value.is_some(), kept, "{name} in the {home}");
        }
    }
}
