//! Open, ids, seal, discard, reclaim.

use std::process::Command;

use super::*;

#[test]
fn open_refuses_what_cannot_be_a_pool() {
    let (root, pool) = (Image::new("ext4", 64), Image::new("btrfs", 128));
    let refused = |root: &Path, pool: &Path, words: &str| {
        let error = Layers::open(root, Some(pool)).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(pool.to_str().unwrap()), "{text}");
        assert!(!pool.join("layers").exists());
    };
    refused(root.path(), &root.path().join("none"), "does not exist");
    let empty = root.path().join("pool");
    std::fs::create_dir(&empty).unwrap();
    refused(root.path(), &empty, "not mounted");
    std::fs::write(root.path().join("file"), "").unwrap();
    refused(root.path(), &root.path().join("file"), "not a directory");
    // One btrfs, two subvolumes: their device numbers differ, their filesystem does not.
    sh(pool.path(), "btrfs -q subvolume create root; btrfs -q subvolume create pool");
    refused(&pool.path().join("root"), &pool.path().join("pool"), "same btrfs");
    let error = Layers::open(&root.path().join("a,b"), None).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    // And one that can be.
    let layers = Layers::open(root.path(), Some(pool.path())).unwrap();
    assert_eq!((layers.root_filesystem().as_str(), layers.pool()), ("ext4", Some(pool.path())));
}

#[test]
fn ids_are_above_every_directory() {
    let (root, pool) = (Image::new("ext4", 64), Image::new("btrfs", 128));
    let open = || Layers::open(root.path(), Some(pool.path())).unwrap();
    assert_eq!(open().next_id(), LayerId(1));
    for (base, name, next) in [
        (root.path(), "layers/7", 8),
        (pool.path(), "layers/9", 10),
        (root.path(), "trash/20", 21),
        (pool.path(), "trash/31", 32),
        (root.path(), "layers/name", 32),
        (root.path(), "layers/0099", 32),
    ] {
        std::fs::create_dir(base.join(name)).unwrap();
        assert_eq!(open().next_id(), LayerId(next), "{name}");
    }
    let layers = open();
    layers.start_above(LayerId(5));
    assert_eq!(layers.next_id(), LayerId(32));
    layers.start_above(LayerId(50));
    assert_eq!((layers.next_id(), layers.next_id()), (LayerId(51), LayerId(52)));
}

#[test]
fn seal_discard_reclaim() {
    let place = Place::new("ext4", true);
    for home in [Home::Plain, Home::Pool] {
        let one = place.create(home);
        let found = |seal| {
            let found = place.layers.found().unwrap();
            assert!(found.contains(&Found { id: one.id, home, seal }), "{found:?}");
        };
        found(Seal::Absent);
        place.layers.flush(&one).unwrap();
        // Twice, as after a crash in between.
        place.layers.seal(&one, &manifest(one.id)).unwrap();
        place.layers.seal(&one, &manifest(one.id)).unwrap();
        found(Seal::Own);
        assert_eq!(place.layers.manifest(home, one.id).unwrap(), manifest(one.id));
        assert_eq!(place.dir(&one).join("work").exists(), home == Home::Pool);
        assert!(!place.dir(&one).join("layer.json.tmp").exists());
        place.layers.discard(home, one.id).unwrap();
        place.layers.discard(home, one.id).unwrap();
        place.layers.settle().unwrap();
        assert!(place.layers.found().unwrap().iter().all(|f| f.id != one.id));
    }
    assert_eq!(place.layers.reclaim().unwrap(), 0);
    for base in [place.layers.root(), place.layers.pool().unwrap()] {
        assert_eq!(std::fs::read_dir(base.join("trash")).unwrap().count(), 0);
    }
}

#[test]
fn a_hostile_tree_is_reclaimed() {
    let place = Place::new("ext4", true);
    for home in [Home::Plain, Home::Pool] {
        let one = place.create(home);
        zoo::fill(&place.fs(&one));
        sh(
            &place.fs(&one),
            "mkdir fixed; echo > fixed/f; chattr +i fixed/f; chattr +a fixed; chattr +i locked",
        );
        if home == Home::Pool {
            sh(
                &place.fs(&one),
                "btrfs -q subvolume create a/nested; btrfs -q subvolume create a/nested/inner; \
                 echo > a/nested/f; btrfs property set a/nested/inner ro true; btrfs property set a/nested ro true",
            );
            place.layers.seal(&one, &manifest(one.id)).unwrap();
        }
        place.layers.discard(home, one.id).unwrap();
    }
    // What is no layer is not ours to remove.
    std::fs::create_dir(place.layers.root().join("trash/strange")).unwrap();
    assert_eq!(place.layers.reclaim().unwrap(), 0);
    assert_eq!(std::fs::read_dir(place.layers.root().join("trash")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(place.layers.pool().unwrap().join("trash")).unwrap().count(), 0);
}

#[test]
fn what_is_mounted_stays() {
    let place = Place::new("ext4", true);
    let at = tempfile::tempdir().unwrap();
    for access in [Access::Write, Access::Read] {
        for home in [Home::Plain, Home::Pool] {
            for others in 0..2 {
                let base: Vec<_> = (0..others).map(|_| place.create(Home::Plain)).collect();
                let top = place.create(home);
                let free = place.create(home);
                let chain: Vec<_> = std::iter::once(top.clone()).chain(base).collect();
                let mount = place.layers.mounts(&chain, access).unwrap().remove(0);
                // In a namespace of its own, which only the sleeping process shows.
                let script = format!(
                    "mount {} -o {} {} {} && echo ready && exec cat",
                    if mount.kind == "bind" { "--bind" } else { "-t overlay" },
                    mount.options.join(",").replace("rw,rbind", "rw").replace("ro,rbind", "ro"),
                    mount.source,
                    at.path().display()
                );
                let mut holder = Command::new("unshare")
                    .args(["-m", "bash", "-euc", &script])
                    .stdin(std::process::Stdio::piped())
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut ready = [0; 6];
                std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut ready).unwrap();
                assert!(place.layers.mounted(top.id).unwrap(), "{script}");
                assert!(!place.layers.mounted(free.id).unwrap());
                for layer in chain.iter().chain([&free]) {
                    place.layers.discard(layer.home, layer.id).unwrap();
                }
                assert_eq!(place.layers.reclaim().unwrap(), chain.len(), "{script}");
                drop(holder.stdin.take());
                holder.wait().unwrap();
                assert_eq!(place.layers.reclaim().unwrap(), 0);
            }
        }
    }
}

#[test]
fn a_tree_is_measured_as_du_does() {
    for root in ["ext4", "xfs"] {
        let place = Place::new(root, true);
        for home in [Home::Plain, Home::Pool] {
            let one = place.create(home);
            zoo::fill(&place.fs(&one));
            let out = sh(&place.fs(&one), "sync -f .; du -s -B1 . | cut -f1; du -s --inodes . | cut -f1");
            let text = String::from_utf8(out).unwrap();
            let wanted: Vec<i64> = text.lines().map(|l| l.parse().unwrap()).collect();
            let usage = place.layers.measure(&one).unwrap();
            assert_eq!(vec![usage.size, usage.inodes], wanted, "{root} {home}");
        }
    }
}

#[test]
fn what_files_share_is_told_as_the_filesystem_has_it() {
    for (root, home, wanted) in [
        ("ext4", Home::Plain, [0, 0]),
        ("xfs", Home::Plain, [8, 8]),
        ("btrfs", Home::Plain, [8, 8]),
        ("ext4", Home::Pool, [8, 8]),
    ] {
        let place = Place::new(root, home == Home::Pool);
        let source = place.create(home);
        let fill = "dd if=/dev/urandom of=";
        sh(
            &place.fs(&source),
            &format!("mkdir d; {fill}d/8 bs=1M count=8; {fill}1 bs=1M count=1; ln 1 link; sync -f ."),
        );
        let target = layer(home, place.layers.next_id().0);
        place.layers.materialize(&source, target.id).unwrap();
        // What is written, removed or not yet on disk is nobody else's.
        sh(&place.fs(&target), &format!("rm link; {fill}1 bs=1M count=1; {fill}2 bs=1M count=2; sync -f ."));
        sh(&place.fs(&target), &format!("{fill}3 bs=1M count=3; mkfifo fifo; mknod null c 1 3; ln -s 8 l"));
        let measured = [&source, &target].map(|layer| {
            let later = std::time::Instant::now() + std::time::Duration::from_mins(1);
            let measured = place.layers.measure_shared(layer, later).unwrap().unwrap();
            assert_eq!(measured.usage, place.layers.measure(layer).unwrap(), "{root} {home}");
            measured.shared >> 20
        });
        assert_eq!(measured, wanted, "{root} {home}");
        let now = std::time::Instant::now();
        assert_eq!(place.layers.measure_shared(&source, now).unwrap(), None, "there was no time");
    }
}

#[test]
fn a_file_of_many_extents_is_asked_about_in_parts() {
    let place = Place::new("ext4", true);
    let source = place.create(Home::Pool);
    // Each write is on disk before the next one: an extent of its own.
    sh(
        &place.fs(&source),
        "for n in {0..300}; do dd if=/dev/urandom of=f bs=4k count=1 seek=$((n * 2)) oflag=dsync conv=notrunc status=none; done",
    );
    let target = layer(Home::Pool, place.layers.next_id().0);
    place.layers.materialize(&source, target.id).unwrap();
    let later = std::time::Instant::now() + std::time::Duration::from_mins(1);
    let measured = place.layers.measure_shared(&source, later).unwrap().unwrap();
    assert_eq!((measured.usage.size, measured.shared), (301 * 4096, 301 * 4096));
}
