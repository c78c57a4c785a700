//! The trash: layers that nothing stands on, until their bytes are gone.
//!
//! It is emptied by two: in the background, slowly, since what removes a hundred thousand files makes everybody else's
//! fsync wait for the journal; and at once where someone asked for the space and waits. Both may be at the same tree:
//! what one has removed the other passes over. Neither holds anything that a request needs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::area::{Area, name, numbers};
use super::{manifest, mounted, tree};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::LayerId;

/// How long it works before it rests.
const TURN: Duration = Duration::from_millis(3);
/// How many times as long it rests.
const REST: u32 = 6;
/// The names between two looks at the clock.
const NAMES: u32 = 16;

/// What those that empty the trash have to know of each other.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// How many wait for it.
    hurry: AtomicUsize,
    /// Nothing more is to be begun.
    stopped: AtomicBool,
}

impl Throttle {
    /// Ends what is under way, for good.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

/// One that rests now and then while it removes.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    throttle: &'a Throttle,
    since: Instant,
    names: u32,
}

impl<'a> Pace<'a> {
    fn new(throttle: &'a Throttle) -> Self {
        Self { throttle, since: Instant::now(), names: 0 }
    }

    /// Passed with each name. Fails once nothing more is to be done.
    pub(super) fn step(&mut self) -> io::Result<()> {
        self.names += 1;
        if self.names.is_multiple_of(NAMES) { self.turn() } else { Ok(()) }
    }

    /// Rests where it is time to. Fails once nothing more is to be done.
    fn turn(&mut self) -> io::Result<()> {
        if self.throttle.stopped.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let worked = self.since.elapsed();
        if worked >= TURN {
            if self.throttle.hurry.load(Ordering::SeqCst) == 0 {
                // A step that took long, such as a large file, is not made up for by a rest as long.
                std::thread::sleep(worked.min(TURN * 4) * REST);
            }
            self.since = Instant::now();
        }
        Ok(())
    }
}

/// Removes what is in the trash now, but for what is mounted somewhere; answers how many are left. A layer that cannot
/// be removed does not keep the others.
pub(super) fn slowly<'a>(areas: impl Iterator<Item = &'a Area>, throttle: &Throttle) -> Result<usize> {
    let mut pace = Pace::new(throttle);
    reclaim(areas, Some(&mut pace))
}

/// The same as fast as it goes; who is at it slowly hurries too.
pub(super) fn at_once<'a>(areas: impl Iterator<Item = &'a Area>, throttle: &Throttle) -> Result<usize> {
    throttle.hurry.fetch_add(1, Ordering::SeqCst);
    let done = reclaim(areas, None);
    throttle.hurry.fetch_sub(1, Ordering::SeqCst);
    done
}

fn reclaim<'a>(areas: impl Iterator<Item = &'a Area>, mut pace: Option<&mut Pace<'_>>) -> Result<usize> {
    let mut trash = Vec::new();
    for area in areas {
        for (directory, sub) in area.trashes() {
            let ids = numbers(directory).map_err(Error::io("list", area.path().join(sub)))?;
            trash.extend(ids.into_iter().map(|id| (area, directory, id)));
        }
    }
    if trash.is_empty() {
        return Ok(0);
    }
    // Looked at after the list: a stale mount of what is renamed already fails.
    let mounted = mounted::layers()?;
    let mut left = 0;
    for (area, directory, id) in trash {
        if mounted.contains(id, || oldest(directory, id)) {
            left += 1;
            continue;
        }
        // A subvolume goes without a name being passed.
        if pace.as_deref_mut().is_some_and(|pace| pace.turn().is_err()) {
            return Ok(left + 1);
        }
        let removed = fault::point("layer.reclaim.remove").and_then(|()| {
            let (directory, path) = area.to_reclaim(id).map_err(Error::io("reclaim", area.trashed(id)))?;
            tree::remove_at(directory.as_fd(), &name(id), &path, pace.as_deref_mut())
        });
        match removed {
            Ok(()) => {}
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::Interrupted => {
                return Ok(left + 1);
            }
            Err(e) => {
                tracing::warn!(layer = %id, error = %e, "cannot reclaim a layer; it is tried again later");
                left += 1;
            }
        }
    }
    Ok(left)
}

/// The oldest layer that one in the trash has the place of, as it says itself.
fn oldest(trash: &OwnedFd, id: LayerId) -> Option<LayerId> {
    let layer = tree::directory(trash.as_fd(), &name(id)).ok()?;
    manifest::read(layer.as_fd(), Path::new("trash")).ok()?.instead_of.into_iter().min()
}
