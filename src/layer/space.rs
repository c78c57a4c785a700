//! What a home takes together, each byte once, and what its filesystem says.
//!
//! Where layers share extents the sum of their sizes says nothing: here each shared extent of all files counts once.
//! What filesystems keep beside files (directories of ext4 are files; trees and checksums of btrfs, journals) is in
//! none of the figures but the filesystem's own.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::area::{Area, numbers};
use super::tree;
use crate::error::{Error, Result};
use crate::store::LayerId;

/// What lies in a home, and what its filesystem has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of all layers, each once.
    pub layers: u64,
    /// Bytes that only what waits in the trash has.
    pub trash: u64,
    /// False where the time was not enough: then these two are of what was reached.
    pub whole: bool,
    /// Bytes that the filesystem has, uses, and has left for us.
    pub size: u64,
    /// Those in use.
    pub used: u64,
    /// Those that are left.
    pub free: u64,
}

/// Measures a home; where its layers share nothing, those that `known` has are not looked at.
pub(super) fn space(
    area: &Area,
    shares: bool,
    known: &HashMap<LayerId, i64>,
    until: Instant,
) -> Result<Space> {
    let inspect = || Error::io("inspect", area.path());
    let (mut alone, mut extents, mut whole) = (0, shares.then(tree::Extents::default), true);
    let mut sums = [0; 2];
    for (place, sum) in [area.layers(), area.trash()].into_iter().zip(&mut sums) {
        for id in numbers(place).map_err(inspect())? {
            if let Some(size) = known.get(&id).filter(|_| !shares) {
                alone += size;
                continue;
            }
            let Some(root) = open(area, place, id)? else { continue };
            match tree::measure_extents(root, &area.directory(id), extents.as_mut(), until) {
                Ok(Some(measured)) => alone += measured.usage.size - measured.shared,
                Ok(None) => whole = false,
                // It is on its way out.
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let covered = extents.as_mut().map_or(0, tree::Extents::cover);
        *sum = u64::try_from(alone).unwrap_or(0) + covered;
    }
    let stat = rustix::fs::fstatvfs(area.layers()).map_err(inspect())?;
    let [layers, all] = sums;
    Ok(Space {
        layers,
        trash: all - layers.min(all),
        whole,
        size: stat.f_blocks * stat.f_frsize,
        used: (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
        free: stat.f_bavail * stat.f_frsize,
    })
}

/// The tree of a layer, wherever it lies; none where it has gone meanwhile, or has none.
fn open(area: &Area, place: &OwnedFd, id: LayerId) -> Result<Option<OwnedFd>> {
    use std::os::fd::AsFd;
    let opened = tree::directory(place.as_fd(), &super::area::name(id))
        .and_then(|layer| tree::directory(layer.as_fd(), super::area::FS));
    match opened {
        Ok(root) => Ok(Some(root)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Error::io("measure layer", area.directory(id))(e)),
    }
}
