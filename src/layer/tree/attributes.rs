//! What an inode is besides its data: owner, mode, extended attributes, times.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Statx, StatxTimestamp, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::magic;
use super::owners::{self, Owners};

/// What XFS calls its own form of a POSIX ACL, which it shows beside that.
pub(super) const XFS_ACL: &[u8] = b"trusted.SGI_ACL_";

/// Everything that is set on a copy once its data is in place.
pub(super) struct Attributes {
    status: Statx,
    extended: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// Those of what a descriptor, an `O_PATH` one too, is open on.
    pub(super) fn of(fd: BorrowedFd<'_>, status: Statx) -> io::Result<Self> {
        let path = magic(fd);
        let mut extended = Vec::new();
        let names = match xattr::list_deref(&path) {
            Ok(names) => names,
            Err(e) if unsupported(&e) => return Ok(Self { status, extended }),
            Err(e) => return Err(e),
        };
        for name in names {
            // None: removed since it was listed.
            if let Some(value) = xattr::get_deref(&path, &name)? {
                extended.push((name, value));
            }
        }
        Ok(Self { status, extended })
    }

    /// The same of a descriptor that is not an `O_PATH` one, in fewer calls.
    pub(super) fn of_open(fd: BorrowedFd<'_>, status: Statx) -> io::Result<Self> {
        let names = match whole(|room| rustix::fs::flistxattr(fd, room)) {
            Ok(names) => names,
            Err(Errno::OPNOTSUPP) => Vec::new(),
            Err(e) => return Err(e.into()),
        };
        let mut extended = Vec::new();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            match whole(|room| rustix::fs::fgetxattr(fd, name, room)) {
                Ok(value) => extended.push((OsStr::from_bytes(name).to_owned(), value)),
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Self { status, extended })
    }

    /// What `statx` says of it.
    pub(super) fn status(&self) -> &Statx {
        &self.status
    }

    /// The extended ones.
    pub(super) fn extended(&self) -> &[(OsString, Vec<u8>)] {
        &self.extended
    }

    /// The same without what overlay and XFS wrote about the inode: that holds in the tree where it lies only.
    pub(super) fn without_notes(mut self) -> Self {
        // What a container calls so is escaped by overlay, and its own.
        let overlays = |name: &[u8]| {
            name.starts_with(b"trusted.overlay.") && !name.starts_with(b"trusted.overlay.overlay.")
        };
        self.extended.retain(|(name, _)| !overlays(name.as_bytes()) && !name.as_bytes().starts_with(XFS_ACL));
        self
    }

    /// The same as they are in another user namespace. An ACL is in them once, as every filesystem calls it.
    pub(super) fn owned(mut self, owners: Owners<'_>) -> io::Result<Self> {
        (self.status.stx_uid, self.status.stx_gid) = owners.of(&self.status)?;
        self.extended.retain(|(name, _)| !name.as_bytes().starts_with(XFS_ACL));
        owners::extended(&mut self.extended, owners)?;
        Ok(self)
    }

    /// The extended ones, in the order of their names.
    pub(super) fn into_extended(mut self) -> Vec<(OsString, Vec<u8>)> {
        self.extended.sort();
        self.extended
    }

    /// Sets them on `name` in `dir`, which is `fd`; the name is in a tree that only we write to.
    ///
    /// The order matters: a change of owner takes away `security.capability` and the setuid bit, and
    /// a change of mode is a change of the ACL's mask.
    pub(super) fn set(&self, dir: BorrowedFd<'_>, name: &CStr, fd: BorrowedFd<'_>) -> io::Result<()> {
        let status = &self.status;
        let (owner, group) = (Uid::from_raw(status.stx_uid), Gid::from_raw(status.stx_gid));
        rustix::fs::chownat(fd, c"", Some(owner), Some(group), AtFlags::EMPTY_PATH)?;
        if !self.extended.is_empty() {
            let path = magic(fd);
            for (attribute, value) in &self.extended {
                xattr::set_deref(&path, attribute, value)?;
            }
        }
        if FileType::from_raw_mode(status.stx_mode.into()) != FileType::Symlink {
            // A symbolic link has no mode of its own.
            rustix::fs::chmodat(dir, name, mode(status), AtFlags::empty())?;
        }
        set_times(status, dir, name)?;
        Ok(())
    }

    /// Sets them on an open file or directory, which is no symbolic link and no `O_PATH` descriptor.
    pub(super) fn set_open(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let status = &self.status;
        let (owner, group) = (Uid::from_raw(status.stx_uid), Gid::from_raw(status.stx_gid));
        rustix::fs::fchown(fd, Some(owner), Some(group))?;
        for (attribute, value) in &self.extended {
            rustix::fs::fsetxattr(fd, attribute.as_os_str(), value, XattrFlags::empty())?;
        }
        rustix::fs::fchmod(fd, mode(status))?;
        rustix::fs::futimens(fd, &times(status))?;
        Ok(())
    }

    /// The same where there may be others, which go.
    pub(super) fn replace_open(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let before = Self::of_open(fd, self.status)?;
        for (attribute, _) in &before.extended {
            if !self.extended.iter().any(|(kept, _)| kept == attribute) {
                remove(fd, attribute)?;
            }
        }
        self.set_open(fd)
    }
}

/// Removes an extended attribute, which may not be there.
pub(super) fn remove(fd: BorrowedFd<'_>, attribute: &OsStr) -> io::Result<()> {
    match rustix::fs::fremovexattr(fd, attribute) {
        // That of a change of another: XFS shows an ACL twice.
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// All that a call has to tell, however much that is.
fn whole(mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut little = [0; 512];
    match call(&mut little) {
        Ok(len) => Ok(little.get(..len).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            // The most that the kernel gives.
            let mut room = vec![0; 64 * 1024];
            let len = call(&mut room)?;
            room.truncate(len);
            Ok(room)
        }
        Err(e) => Err(e),
    }
}

/// Sets the times of a name, which is not followed.
pub(super) fn set_times(status: &Statx, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    rustix::fs::utimensat(dir, name, &times(status), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(status: &Statx) -> Timestamps {
    Timestamps { last_access: timespec(&status.stx_atime), last_modification: timespec(&status.stx_mtime) }
}

/// The permissions, with setuid, setgid and sticky.
pub(super) fn mode(status: &Statx) -> Mode {
    Mode::from_raw_mode(u32::from(status.stx_mode) & 0o7777)
}

fn timespec(time: &StatxTimestamp) -> Timespec {
    Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() }
}

fn unsupported(e: &io::Error) -> bool {
    e.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}
