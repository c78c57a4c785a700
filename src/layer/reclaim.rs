//! The trash: layers that nothing stands on, until their bytes are gone.

use std::os::fd::AsFd;

use super::area::{Area, name, numbers};
use super::{mounted, tree};
use crate::error::{Error, Result};
use crate::fault;

/// Removes what is in the trash now, but for what is mounted somewhere; answers how many are left. A
/// layer that cannot be removed does not keep the others.
pub(super) fn reclaim<'a>(areas: impl Iterator<Item = &'a Area>) -> Result<usize> {
    let mut trash = Vec::new();
    for area in areas {
        let ids = numbers(area.trash()).map_err(Error::io("list", area.path().join("trash")))?;
        trash.extend(ids.into_iter().map(|id| (area, id)));
    }
    if trash.is_empty() {
        return Ok(0);
    }
    // Looked at after the list: a stale mount of what is renamed already fails.
    let mounted = mounted::layers()?;
    let mut left = 0;
    for (area, id) in trash {
        if mounted.contains(&id) {
            left += 1;
            continue;
        }
        let path = area.trashed(id);
        let removed = fault::point("layer.reclaim.remove")
            .and_then(|()| tree::remove(area.trash().as_fd(), &name(id), &path));
        if let Err(e) = removed {
            tracing::warn!(layer = %id, error = %e, "cannot reclaim a layer; it is tried again later");
            left += 1;
        }
    }
    Ok(left)
}
