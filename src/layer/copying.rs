//! Putting a layer's tree in a second place, in steps, so that its source stands still for the least of them.
//!
//! ```text
//!            begin          catch_up           finish            keep
//! files:     rounds         one round more     the last round    work is made anew
//! subvolume: nothing        flush              the snapshot      what is another's goes
//!            └─── the source is written to ──┘ └ stands still ┘
//! ```
//!
//! Without `keep` the target is removed.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::Mode;

use super::area::{Area, FS, WORK, magic_number, name};
use super::{Method, ioctl, manifest, tree};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::LayerId;

/// A round that ended so lately needs no other behind it.
const LATELY: Duration = Duration::from_millis(20);
/// What statfs says of an ext4 and of an XFS.
const EXT4: u32 = 0xef53;
const XFS: u32 = 0x5846_5342;

/// A layer that is being put in a second place. Dropped before it is kept, it goes.
#[derive(Debug)]
pub struct Copying<'a> {
    area: &'a Area,
    source: LayerId,
    target: LayerId,
    how: How,
    /// There is something at the target, and it is not kept.
    made: bool,
}

enum How {
    Subvolume { from: OwnedFd },
    Files(Box<Files>),
}

struct Files {
    layer: OwnedFd,
    copy: tree::Copy,
    /// When the last round ended, where there are rounds.
    caught_up: Option<Instant>,
    shared: bool,
}

impl<'a> Copying<'a> {
    /// Makes an empty target; `method` is how the home does that.
    pub(super) fn new(area: &'a Area, source: LayerId, target: LayerId, method: Method) -> Result<Self> {
        fault::point("layer.materialize.begin")?;
        let from = area.open_layer(source)?;
        if method == Method::Subvolume {
            return Ok(Self { area, source, target, how: How::Subvolume { from }, made: false });
        }
        area.make(target)?;
        let files = area.or_undo(target, || {
            let layer = area.open_layer(target)?;
            let wrong = || Error::io("create", area.directory(target));
            // The stage of the copy is what becomes of `work` when it is empty again.
            for name in [FS, WORK] {
                rustix::fs::mkdirat(&layer, name, Mode::RWXU).map_err(wrong())?;
            }
            let copy = tree::directory(layer.as_fd(), FS).map_err(wrong())?;
            let stage = tree::directory(layer.as_fd(), WORK).map_err(wrong())?;
            fault::point("layer.materialize.copy")?;
            let at = area.directory(source).join("fs");
            let copy = tree::Copy::new(area.open_tree(source)?, copy, stage, &at, method == Method::Reflink);
            Ok(Files { layer, copy, caught_up: None, shared: false })
        })?;
        Ok(Self { area, source, target, how: How::Files(Box::new(files)), made: true })
    }

    /// Copies what can be copied while the source is written to.
    pub(super) fn rounds(&mut self) -> Result<()> {
        if let How::Files(files) = &mut self.how
            && shows_changes(self.area)?
        {
            files.copy.rounds(|| self.area.flush())?;
            files.caught_up = Some(Instant::now());
        }
        Ok(())
    }

    /// The last that is done while the source is written to: what is left for `finish` is little then.
    pub fn catch_up(&mut self) -> Result<()> {
        match &mut self.how {
            How::Files(files) => match files.caught_up {
                Some(last) if last.elapsed() < LATELY => Ok(()),
                Some(_) => files.copy.again(),
                None => self.area.flush(),
            },
            How::Subvolume { .. } => self.area.flush(),
        }
    }

    /// Makes the target what the source is, which must stand still.
    pub fn finish(&mut self) -> Result<()> {
        fault::point("layer.materialize.finish")?;
        match &mut self.how {
            How::Files(files) => files.shared = files.copy.finish()?,
            How::Subvolume { from } => {
                ioctl::subvolume_snapshot(self.area.layers().as_fd(), &name(self.target), from, false)
                    .map_err(Error::io("snapshot layer", self.area.directory(self.source)))?;
                self.made = true;
            }
        }
        Ok(())
    }

    /// Makes a writable layer of what is finished, with an empty work directory; nothing of the source is needed for
    /// that. Answers how it was copied.
    pub fn keep(mut self) -> Result<Method> {
        let method = match &self.how {
            How::Files(files) => {
                self.area.remake_work(self.target, &files.layer)?;
                if files.shared { Method::Reflink } else { Method::Copy }
            }
            How::Subvolume { .. } => {
                // What overlay left in the work directory and what the source's seal said go.
                let layer = self.area.open_layer(self.target)?;
                fault::point("layer.materialize.cleanse")?;
                manifest::forget(layer.as_fd(), &self.area.directory(self.target))?;
                self.area.remake_work(self.target, &layer)?;
                Method::Subvolume
            }
        };
        fault::point("layer.materialize.end")?;
        self.made = false;
        Ok(method)
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        if self.made {
            self.area.undo(self.target);
        }
    }
}

impl std::fmt::Debug for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Subvolume { .. } => "Subvolume",
            Self::Files(_) => "Files",
        })
    }
}

/// True where an inode's times show every change to it, one through a mapping too. On a tmpfs, for one, they do not.
fn shows_changes(area: &Area) -> Result<bool> {
    let on = magic_number(area.layers()).map_err(Error::io("inspect", area.path()))?;
    Ok(matches!(on, EXT4 | XFS | ioctl::BTRFS_SUPER_MAGIC))
}
