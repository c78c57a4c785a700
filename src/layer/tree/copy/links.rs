//! The copies of files that have several names.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::record::{Inode, Seen};

/// The files with several names that were met, each held by a name in the stage.
pub(super) struct Links {
    stage: OwnedFd,
    groups: Mutex<HashMap<Inode, Arc<Mutex<Option<Group>>>>>,
    named: AtomicU64,
}

/// The copy of one such file.
#[derive(Debug)]
pub(super) struct Group {
    /// In the stage.
    name: CString,
    /// What the file was when it was copied.
    pub(super) seen: Seen,
    pub(super) settled: bool,
    /// In which round that was.
    pub(super) round: u32,
}

impl Links {
    pub(super) fn new(stage: OwnedFd) -> Self {
        Self { stage, groups: Mutex::default(), named: AtomicU64::new(0) }
    }

    /// The place of a file's copy, if it has one yet. It is held while a name is made, so that only one thread copies.
    pub(super) fn of(&self, inode: Inode) -> Arc<Mutex<Option<Group>>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(groups.entry(inode).or_default())
    }

    /// Gives a copy one name more.
    pub(super) fn link(&self, group: &mut Option<Group>, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let Some(held) = group else { return Err(Errno::STALE.into()) };
        match rustix::fs::linkat(&self.stage, &held.name, dir, name, AtFlags::empty()) {
            // It has as many as it can have; as many as the file has, but for ours.
            Err(Errno::MLINK) => {
                rustix::fs::renameat(&self.stage, &held.name, dir, name)?;
                *group = None;
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// Holds the copy that was made under a name, and no longer the one before.
    pub(super) fn hold(
        &self,
        group: &mut Option<Group>,
        (dir, name): (BorrowedFd<'_>, &CStr),
        (seen, settled, round): (Seen, bool, u32),
    ) -> io::Result<()> {
        if let Some(before) = group.take() {
            rustix::fs::unlinkat(&self.stage, &before.name, AtFlags::empty())?;
        }
        let number = CString::new(self.named.fetch_add(1, Ordering::Relaxed).to_string())?;
        rustix::fs::linkat(dir, name, &self.stage, &number, AtFlags::empty())?;
        *group = Some(Group { name: number, seen, settled, round });
        Ok(())
    }
}
