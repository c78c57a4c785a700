//! One regular file of the view of a chain.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::FileType;

use super::View;
use crate::error::{Error, Result};
use crate::fault;

/// The bytes of the regular file at a path, at most `limit`; none where there is no such file, or a larger one. The
/// path is the tree's own: no link is followed, and there is nothing above the root.
pub(in crate::layer) fn read(mut view: View, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    fault::point("layer.read.open")?;
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(
                CString::new(name.as_bytes())
                    .map_err(|_| Error::invalid("a path", "no name in it has a zero byte"))?,
            ),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::invalid(
                    format!("path {}", path.display()),
                    "it leads upwards; name it from the root",
                ));
            }
        }
    }
    let Some((last, above)) = names.split_last() else { return Ok(None) };
    for name in above {
        if !view.enter(name)? {
            return Ok(None);
        }
    }
    let Some(found) = view.find(0, last)? else { return Ok(None) };
    if found.kind() != FileType::RegularFile || found.status.stx_size > limit {
        return Ok(None);
    }
    let wrong = view.wrong(found.layer, last);
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    let file = File::from(found.open().map_err(&wrong)?);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(&wrong)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}
