//! Limits, kept by the filesystem.

use std::fs::{self, File};
use std::io::{self, Write};

use super::*;
use crate::error::Kind;

const MIB: i64 = 1 << 20;

fn limited(layer: &Layer, mib: Option<i64>) -> Layer {
    Layer { max_size: mib.map(|mib| mib * MIB), ..layer.clone() }
}

/// Writes to a file until the filesystem refuses or so many MiB are in it; answers how many bytes are.
fn fill(file: &Path, mib: i64) -> io::Result<i64> {
    let block = vec![7; 1 << 16];
    let mut file = File::create(file)?;
    let mut written = 0;
    while written < mib * MIB {
        match file.write(&block) {
            Ok(count) => written += i64::try_from(count).unwrap(),
            Err(e) if e.kind() == io::ErrorKind::QuotaExceeded => break,
            Err(e) => return Err(e),
        }
    }
    // What is full cannot always be written out at once; what was taken is there.
    let _ = file.sync_all();
    Ok(written)
}

fn full(written: i64, mib: i64) -> bool {
    (mib * MIB * 95 / 100..=mib * MIB).contains(&written)
}

#[test]
fn a_pool_layer_is_stopped_at_its_limit_and_all_else_goes_on() {
    let place = Place::new("ext4", true);
    let before = place.create(Home::Pool);
    fs::write(place.fs(&before).join("old"), vec![1; 3 << 20]).unwrap();
    place.layers.settle().unwrap();
    assert_eq!(place.layers.written(&before).unwrap(), None, "nobody counts yet");
    place.layers.limit(&limited(&before, None)).unwrap();

    place.layers.ready_for_limits(Home::Pool).unwrap();
    let layer = limited(&place.create(Home::Pool), Some(32));
    place.layers.limit(&layer).unwrap();
    let written = fill(&place.fs(&layer).join("a"), 100).unwrap();
    assert!(full(written, 32), "{written}");
    let (counted, inodes) = place.layers.written(&layer).unwrap().unwrap();
    assert!(full(counted, 32) && inodes.is_none(), "{counted}");
    assert_eq!(place.layers.written(&before).unwrap(), None, "what was written before counts for nobody");

    // It is sealed and unsealed though it is full, and is limited again then.
    place.layers.seal(&layer, &manifest(layer.id)).unwrap();
    place.layers.unseal(&layer).unwrap();
    assert!(fill(&place.fs(&layer).join("b"), 100).unwrap_or(0) < MIB);
    // A clone is charged with its own, and has no limit until it gets one.
    let clone = limited(&place.clone_of(&layer), Some(16));
    place.layers.limit(&clone).unwrap();
    let written = fill(&place.fs(&clone).join("c"), 100).unwrap();
    assert!(full(written, 16), "{written}");
    // More, and none.
    place.layers.limit(&limited(&clone, Some(24))).unwrap();
    let written = fill(&place.fs(&clone).join("d"), 100).unwrap();
    assert!((7 * MIB..=8 * MIB).contains(&written), "{written}");
    place.layers.limit(&limited(&clone, Some(1))).unwrap();
    assert_eq!(fill(&place.fs(&clone).join("e"), 1).unwrap_or(0), 0);
    place.layers.limit(&limited(&clone, None)).unwrap();
    assert_eq!(fill(&place.fs(&clone).join("e"), 40).unwrap(), 40 * MIB);
    // What is deleted can be written again.
    fs::remove_file(place.fs(&layer).join("a")).unwrap();
    place.layers.discard(Home::Pool, clone.id).unwrap();
    place.layers.reclaim().unwrap();
    sh(&place.dir(&layer), "btrfs subvolume sync . >/dev/null; sync .");
    let written = fill(&place.fs(&layer).join("f"), 20).unwrap();
    assert_eq!(written, 20 * MIB);
    place.layers.discard(Home::Pool, layer.id).unwrap();
    assert_eq!(place.layers.reclaim().unwrap(), 0);
}

#[test]
fn quota_groups_go_when_nothing_is_left_of_a_layer() {
    let place = Place::new("ext4", true);
    let groups = || {
        let uuid = ioctl::btrfs_uuid(place.layers.pool.get().unwrap().layers()).unwrap();
        let shown = format!("/sys/fs/btrfs/{}/qgroups", super::super::quota::hyphened(uuid));
        let names =
            fs::read_dir(shown).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("0_") && name != "0_5").count()
    };
    place.layers.ready_for_limits(Home::Pool).unwrap();
    let source = place.create(Home::Pool);
    fs::write(place.fs(&source).join("data"), vec![1; 8 << 20]).unwrap();
    place.layers.flush(&source).unwrap();
    let clone = place.clone_of(&source);
    let pool = place.layers.pool().unwrap().to_owned();
    let gone = |layer: &Layer| {
        place.layers.discard(Home::Pool, layer.id).unwrap();
        assert_eq!(place.layers.reclaim().unwrap(), 0);
        sh(&pool, "sync -f .; btrfs subvolume sync . >/dev/null; sync -f .");
        place.layers.forget_limits().unwrap();
    };
    assert_eq!(groups(), 2);
    // The clone has what the source wrote: the source's group counts that.
    gone(&source);
    assert_eq!(groups(), 2);
    gone(&clone);
    let until = Instant::now() + std::time::Duration::from_mins(1);
    // The filesystem drops a removed subvolume in its own time.
    while groups() > 0 {
        assert!(Instant::now() < until, "{} groups stay", groups());
        sh(&pool, "sync -f .; btrfs subvolume sync . >/dev/null; sync -f .");
        place.layers.forget_limits().unwrap();
    }
}

#[test]
fn where_nothing_keeps_a_limit_it_is_refused() {
    for root in ["ext4", "xfs", "btrfs"] {
        let place = Place::new(root, false);
        let layer = place.create(Home::Plain);
        for refused in
            [place.layers.ready_for_limits(Home::Plain), place.layers.limit(&limited(&layer, Some(1)))]
        {
            let refused = refused.unwrap_err();
            assert_eq!(refused.kind(), Kind::FailedPrecondition);
            let said = refused.to_string();
            assert!(said.contains(root) && said.contains("loom pool create"), "{said}");
        }
        place.layers.limit(&limited(&layer, None)).unwrap();
        assert_eq!(place.layers.written(&layer).unwrap(), None);
    }
}

#[test]
fn a_home_counts_each_byte_once() {
    for (root, pool, home) in
        [("ext4", false, Home::Plain), ("xfs", false, Home::Plain), ("ext4", true, Home::Pool)]
    {
        let place = Place::new(root, pool);
        let used = || {
            let long = Instant::now() + std::time::Duration::from_mins(1);
            place.layers.flush(&layer(home, 0)).unwrap();
            place.layers.space(home, &HashMap::new(), long).unwrap()
        };
        let before = used();
        assert_eq!((before.layers, before.trash, before.whole), (0, 0, true));
        let source = place.create(home);
        fs::write(place.fs(&source).join("data"), vec![7; 20 << 20]).unwrap();
        place.layers.flush(&source).unwrap();
        let clones: Vec<_> = (0..3).map(|_| place.clone_of(&source)).collect();
        for clone in &clones {
            fs::write(place.fs(clone).join("own"), vec![7; 5 << 20]).unwrap();
        }
        let after = used();
        let copies = if place.layers.shares(home) { 1 } else { 4 };
        let wanted = (copies * 20 + 15) << 20;
        assert!(after.layers.abs_diff(wanted) < 1 << 20, "{root}: {after:?}");
        // The filesystem says the same, but for what it keeps beside files.
        let grown = after.used - before.used;
        assert!(grown.abs_diff(wanted) < 4 << 20, "{root}: {before:?} {after:?}");
        place.layers.discard(home, clones[0].id).unwrap();
        let trashed = used();
        let own = if copies == 1 { 5 } else { 25 };
        assert!(trashed.trash.abs_diff(own << 20) < 1 << 20, "{root}: {trashed:?}");
        assert!((trashed.layers + trashed.trash).abs_diff(wanted) < 1 << 20, "{root}: {trashed:?}");
        let none = place.layers.space(home, &HashMap::new(), Instant::now()).unwrap();
        assert!(!none.whole);
    }
}
