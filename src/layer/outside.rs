//! Trees that are no layers, such as volumes.
//!
//! ```text
//! <to>/            filled from <from>, with its own attributes last
//! <to>/.loom-<id>  while it is filled: the names of files that have several; gone when it is done
//! ```
//!
//! The stage lies in the target, since nothing beside it need be on its filesystem. Whoever asked for the copy
//! undoes what a crash left of it: the whole target.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RawDir};

use super::open::copying;
use super::{Method, tree};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::Id;

/// Copies everything in `from`, and its own attributes, to the empty directory `to`.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Method> {
    fault::point("layer.copy_tree.begin")?;
    let source = open(from)?;
    let target = open(to)?;
    if !is_empty(&target).map_err(Error::io("list", to))? {
        return Err(Error::precondition(
            format!("directory {}", to.display()),
            "it is not empty, and a tree can be copied to an empty one only",
        ));
    }
    fill(&source, from, &target, to).inspect_err(|_| {
        if let Err(error) = tree::empty(target.as_fd(), to) {
            tracing::warn!(path = %to.display(), %error, "a part of a copy that failed is left");
        }
    })
}

fn fill(source: &OwnedFd, from: &Path, target: &OwnedFd, to: &Path) -> Result<Method> {
    let wrong = || Error::io("create", to);
    let own = |fd: &OwnedFd| tree::directory(fd.as_fd(), c".");
    let reflink = copying(target.as_fd()) == Method::Reflink;
    // A name that is in no source.
    let name = CString::new(format!(".loom-{}", Id::random()?)).unwrap_or_default();
    rustix::fs::mkdirat(target, &name, Mode::RWXU).map_err(wrong())?;
    let stage = tree::directory(target.as_fd(), &name).map_err(wrong())?;
    let source_tree = own(source).map_err(Error::io("copy", from))?;
    let shared =
        tree::Copy::new(source_tree, own(target).map_err(wrong())?, stage, from, reflink).finish()?;
    tree::remove(target.as_fd(), &name, to)?;
    tree::match_times(source.as_fd(), target.as_fd()).map_err(wrong())?;
    fault::point("layer.copy_tree.sync")?;
    rustix::fs::syncfs(target).map_err(Error::io("sync", to))?;
    Ok(if shared { Method::Reflink } else { Method::Copy })
}

/// Opens a directory by its path, whose last part is not followed.
fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(Error::io("open", path))
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    let directory = tree::directory(directory.as_fd(), c".")?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
