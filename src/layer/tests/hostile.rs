//! A process that swaps names while they are walked.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Swaps directories, files, links and FIFOs while `work` runs.
pub(super) fn under_attack(fs: &Path, outside: &Path, work: impl FnOnce()) {
    sh(
        fs,
        "for n in $(seq 0 39); do mkdir -p d$n/sub; echo inside > d$n/secret; echo inside > d$n/sub/secret; done",
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for attacker in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                // Each has directories of its own: it must not go through the other's links.
                let mut n = attacker;
                while !stop.load(Ordering::Relaxed) {
                    n = (n + 2) % 40;
                    let (dir, aside) = (fs.join(format!("d{n}")), fs.join(format!("aside{n}")));
                    // Each may fail where a removal is at work.
                    let _ = std::fs::rename(&dir, &aside);
                    let _ = std::os::unix::fs::symlink(outside, &dir);
                    let _ = std::fs::remove_file(&dir);
                    let _ = std::fs::rename(&aside, &dir);
                    let (file, aside) = (dir.join("secret"), dir.join("aside"));
                    let _ = std::fs::rename(&file, &aside);
                    let _ = std::os::unix::fs::symlink(outside.join("secret"), &file);
                    let _ = std::fs::remove_file(&file);
                    let mode = Mode::from_raw_mode(0o600);
                    let _ = rustix::fs::mknodat(CWD, &file, rustix::fs::FileType::Fifo, mode, 0);
                    let _ = std::fs::remove_file(&file);
                    let _ = std::fs::rename(&aside, &file);
                }
            });
        }
        // Whatever happens, the attackers must end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn nothing_outside_a_live_tree_is_read_or_removed() {
    let place = Place::new("xfs", false);
    let source = place.create(Home::Plain);
    let outside = tempfile::tempdir().unwrap();
    sh(outside.path(), "mkdir sub; echo OUTSIDE > secret; echo OUTSIDE > sub/secret");
    let fs = place.fs(&source);
    under_attack(&fs, outside.path(), || {
        for _ in 0..60 {
            let target = layer(Home::Plain, place.layers.next_id().0);
            let mut copying = place.layers.begin(&source, target.id).unwrap();
            copying.catch_up().unwrap();
            copying.finish().unwrap();
            copying.keep().unwrap();
            let leaked = sh(&place.fs(&target), "grep -r OUTSIDE . || true");
            assert!(leaked.is_empty(), "{}", String::from_utf8_lossy(&leaked));
            place.layers.measure(&source).unwrap();
            let changed = place.layers.changed_since(&source, Time(0), 100_000).unwrap();
            assert!(changed.iter().all(|path| path.matches('/').count() <= 2), "{changed:?}");
            let mut compared = 0;
            place
                .layers
                .compare(&[], std::slice::from_ref(&source), &mut |change| {
                    compared += 1;
                    let after = change.after.unwrap();
                    // What is outside is one byte longer.
                    assert!(change.path.components().count() <= 3 && after.size <= 7, "{:?}", change.path);
                    Ok(())
                })
                .unwrap();
            assert!(compared > 40);
            for path in ["d1/secret", "d1/sub/secret"] {
                let found = place.layers.read(std::slice::from_ref(&source), Path::new(path), 100).unwrap();
                assert!(found.is_none_or(|found| found == b"inside\n"));
            }
            let volume = place.layers.root().join("volume");
            std::fs::create_dir(&volume).unwrap();
            place.layers.copy_tree(&fs, &volume).unwrap();
            let leaked = sh(&volume, "grep -r OUTSIDE . || true");
            assert!(leaked.is_empty(), "{}", String::from_utf8_lossy(&leaked));
            std::fs::remove_dir_all(&volume).unwrap();
            place.layers.discard(Home::Plain, target.id).unwrap();
        }
        assert_eq!(place.layers.reclaim().unwrap(), 0);
    });
    // Removal too, while the names are swapped: it may fail, but not reach outside.
    under_attack(&fs, outside.path(), || {
        for n in 0..40 {
            let name = std::ffi::CString::new(format!("d{n}")).unwrap();
            let parent = std::fs::File::open(&fs).unwrap();
            let _ = tree::remove(parent.as_fd(), &name, &fs);
        }
    });
    assert_eq!(sh(outside.path(), "cat secret sub/secret"), b"OUTSIDE\nOUTSIDE\n");
}
