//! The paths at which the trees of two pool layers may differ.
//!
//! What the kernel tells is turned into the names that a walk of both trees meets:
//!
//! - A directory of which both trees have the same inode at a path is the same one, and nothing in it differs but
//!   what is named. One that came, went or moved is named at the places where it was and is; a path below it may be
//!   named by any place on its way. So below such a place the walk looks at everything.
//! - What is changed of a file with several names is told of one of them. The others are found here: where too few of
//!   them are named, by a walk of the tree that opens nothing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, Statx};

use super::{area, send, tree};
use crate::error::{Error, Result};

/// Two read-only pool layers that nobody else knows.
pub(super) struct Pair<'a> {
    /// Their directories.
    pub(super) before: &'a OwnedFd,
    pub(super) after: &'a OwnedFd,
    /// The path of the tree of `after`, for messages.
    pub(super) at: &'a Path,
}

impl Pair<'_> {
    /// The paths in the trees at which, or below which, they may differ.
    pub(super) fn touched(&self) -> Result<tree::Touched> {
        let wrong = |e: std::io::Error| Error::io::<std::io::Error>("compare", self.at)(e);
        let told = send::paths(self.before.as_fd(), self.after.as_fd()).map_err(wrong)?;
        // Whatever else lies in a layer is no part of its tree.
        let mut paths: Vec<PathBuf> = told
            .iter()
            .filter_map(|path| Path::new(OsStr::from_bytes(path)).strip_prefix("fs").ok())
            .map(Path::to_path_buf)
            .collect();
        // Name by name: what is below a path follows it.
        paths.sort_unstable();
        let linked = self.linked(&paths)?;
        paths.extend(linked);
        Ok(tree::Touched::new(paths.into_iter().map(|path| path.into_os_string().into_encoded_bytes())))
    }

    /// The names in `after` of all files with several of which one is among the paths.
    fn linked(&self, paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let mut files: HashMap<u64, Links> = HashMap::new();
        let mut met = |inode: u64, all: u64| files.entry(inode).or_insert(Links { all, met: 0 }).met += 1;
        let mut walked: Option<&Path> = None;
        for path in paths {
            if walked.is_some_and(|walked| path.starts_with(walked)) {
                continue;
            }
            let Some((found, status)) = self.find(self.after, path)? else { continue };
            if tree::is_directory(&status) {
                let before = self.find(self.before, path)?;
                if before.is_none_or(|(_, before)| tree::identity(&before) != tree::identity(&status)) {
                    walked = Some(path);
                    let root = tree::directory(found.as_fd(), c".").map_err(Error::io("compare", self.at))?;
                    let at = self.at.join(path);
                    tree::links(root, &at, &mut |_, link| met(link.st_ino, link.st_nlink))?;
                }
            } else if status.stx_nlink > 1 {
                met(status.stx_ino, status.stx_nlink.into());
            }
        }
        files.retain(|_, links| links.met < links.all);
        let mut names = Vec::new();
        if !files.is_empty() {
            let root =
                tree::directory(self.after.as_fd(), area::FS).map_err(Error::io("compare", self.at))?;
            tree::links(root, self.at, &mut |path, link| {
                if files.contains_key(&link.st_ino) {
                    names.push(path.to_path_buf());
                }
            })?;
        }
        Ok(names)
    }

    /// What a layer's tree has at a path, through no link.
    fn find(&self, layer: &OwnedFd, path: &Path) -> Result<Option<(OwnedFd, Statx)>> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat2(layer, Path::new("fs").join(path), flags, Mode::empty(), beneath);
        let found = found.and_then(|found| tree::status(found.as_fd()).map(|status| (found, status)));
        match found {
            Ok(found) => Ok(Some(found)),
            Err(e) if tree::vanished(e) => Ok(None),
            Err(e) => Err(Error::io("compare", self.at.join(path))(e)),
        }
    }
}

/// How many names a file has, and how many of them were met.
struct Links {
    all: u64,
    met: u64,
}
