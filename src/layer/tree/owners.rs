//! Whose the files of a tree are, told by the ids of another user namespace.
//!
//! ```text
//!              a container writes       on disk under 0:200000:65536    without a mapping
//! owner        33                       200033                          33
//! an ACL's     user:33:rw-              user:200033:rw-                 user:33:rw-
//! capability   version 3, root 0        version 3, root 200000          version 2
//! ```
//!
//! What belongs to nobody in the one namespace does so in the other. What has no id in the other is refused: it would
//! be somebody else's there.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Statx};

use super::attributes::Attributes;
use super::copy::Inode;
use super::{Entry, Visit, pin, status, walk};
use crate::error::{Error, Result};
use crate::mapping::{Ids, Mapping, NOBODY};

/// Those of ACLs.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// The bytes before an ACL's entries, and those of each: tag, permissions, id.
const ACL_HEAD: usize = 4;
const ACL_ENTRY: usize = 8;
/// The tags of entries that name a user, and a group.
const ACL_USER: u16 = 2;
const ACL_GROUP: u16 = 8;
/// File capabilities, whose version is in the highest byte of their first word; the third ends with the root's id.
const CAPABILITY: &[u8] = b"security.capability";
const VERSION_2: u8 = 2;
const VERSION_3: u8 = 3;
const VERSION_2_BYTES: usize = 20;
const VERSION_3_BYTES: usize = 24;

/// From whose ids to whose: none are the container's own.
#[derive(Debug, Clone, Copy)]
pub(in crate::layer) struct Owners<'a> {
    /// The mapping that they are written with.
    pub(in crate::layer) from: Option<&'a Mapping>,
    /// The one that they are to be written with.
    pub(in crate::layer) to: Option<&'a Mapping>,
}

impl Owners<'_> {
    /// A user.
    pub(super) fn user(self, id: u32) -> io::Result<u32> {
        moved(id, "user", self.from.map(|from| &from.uids), self.to.map(|to| &to.uids))
    }

    /// A group.
    pub(super) fn group(self, id: u32) -> io::Result<u32> {
        moved(id, "group", self.from.map(|from| &from.gids), self.to.map(|to| &to.gids))
    }

    /// The owner and group in what `statx` says.
    pub(super) fn of(self, status: &Statx) -> io::Result<(u32, u32)> {
        Ok((self.user(status.stx_uid)?, self.group(status.stx_gid)?))
    }

    /// An extended attribute.
    pub(super) fn attribute(self, name: &OsStr, value: &mut Vec<u8>) -> io::Result<()> {
        if ACLS.contains(&name.as_bytes()) {
            return self.acl(value);
        }
        if name.as_bytes() == CAPABILITY {
            return self.capability(value);
        }
        Ok(())
    }

    fn acl(self, value: &mut [u8]) -> io::Result<()> {
        let entries = value.get_mut(ACL_HEAD..).unwrap_or_default();
        for entry in entries.chunks_exact_mut(ACL_ENTRY) {
            let [tag, other, _, _, id @ ..] = entry else { continue };
            let Ok(bytes) = <[u8; 4]>::try_from(&*id) else { continue };
            let old = u32::from_le_bytes(bytes);
            let new = match u16::from_le_bytes([*tag, *other]) {
                ACL_USER => self.user(old)?,
                ACL_GROUP => self.group(old)?,
                _ => continue,
            };
            id.copy_from_slice(&new.to_le_bytes());
        }
        Ok(())
    }

    /// Those of the second version are for the root of the host, or of whoever reads it through a mapped mount.
    fn capability(self, value: &mut Vec<u8>) -> io::Result<()> {
        let root = match (value.get(3), value.len()) {
            (Some(&VERSION_2), VERSION_2_BYTES) if self.from.is_none() => 0,
            (Some(&VERSION_3), VERSION_3_BYTES) => {
                let bytes = value.get(VERSION_2_BYTES..).and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u32::from_le_bytes)
            }
            _ => return Ok(()),
        };
        let root = self.user(root)?;
        value.truncate(VERSION_2_BYTES);
        let version = if root == 0 { VERSION_2 } else { VERSION_3 };
        if let Some(byte) = value.get_mut(3) {
            *byte = version;
        }
        if version == VERSION_3 {
            value.extend_from_slice(&root.to_le_bytes());
        }
        Ok(())
    }
}

fn moved(id: u32, what: &str, from: Option<&Ids>, to: Option<&Ids>) -> io::Result<u32> {
    let id = from.map_or(id, |from| from.in_container(id).unwrap_or(NOBODY));
    let Some(to) = to else { return Ok(id) };
    to.on_host(id).ok_or_else(|| {
        let why = format!("the mapping has no id for its {what} {id}; use one with more ids");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

/// Gives everything in a tree that only we write to the owners that it has in another user namespace, its root too.
/// What fails leaves a part of it done.
pub(in crate::layer) fn chown(root: OwnedFd, at: &Path, owners: Owners<'_>) -> Result<()> {
    let mut chown = Chown { owners, done: HashSet::new() };
    let whole = status(root.as_fd()).map_err(io::Error::from);
    let whole = whole.and_then(|status| chown.set(root.as_fd(), c".", root.as_fd(), status));
    let done = whole.map_err(Error::io(Chown::ACTION, at)).and_then(|()| walk(root, at, &mut chown));
    done.map_err(|error| match error {
        // Not the kernel's: it is ours, and says why.
        Error::Io { path, source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
            Error::precondition(path.display().to_string(), source.to_string())
        }
        error => error,
    })
}

struct Chown<'a> {
    owners: Owners<'a>,
    /// Files with several names, under the first of which they were changed.
    done: HashSet<Inode>,
}

impl Chown<'_> {
    fn set(&self, dir: BorrowedFd<'_>, name: &CStr, fd: BorrowedFd<'_>, status: Statx) -> io::Result<()> {
        Attributes::of(fd, status)?.owned(self.owners)?.set(dir, name, fd)
    }
}

impl Visit for Chown<'_> {
    const ACTION: &'static str = "change the owner of";
    const POINT: &'static str = "layer.chown.entry";

    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry> {
        let fd = pin(dir, name)?;
        let status = status(fd.as_fd())?;
        let device = (status.stx_rdev_major, status.stx_rdev_minor);
        match FileType::from_raw_mode(status.stx_mode.into()) {
            FileType::Directory => return Ok(Entry::Directory),
            // A whiteout is overlay's.
            FileType::CharacterDevice if device == (0, 0) => return Ok(Entry::Done),
            _ => {}
        }
        if status.stx_nlink == 1 || self.done.insert(Inode::of(&status)) {
            self.set(dir, name, fd.as_fd(), status)?;
        }
        Ok(Entry::Done)
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr, opened: BorrowedFd<'_>) -> io::Result<bool> {
        self.set(dir, name, opened, status(opened)?)?;
        Ok(true)
    }

    fn leave(&mut self, _: Option<BorrowedFd<'_>>, _: &CStr) -> io::Result<()> {
        Ok(())
    }
}

/// Extended attributes by the ids of another user namespace.
pub(super) fn extended(all: &mut [(OsString, Vec<u8>)], owners: Owners<'_>) -> io::Result<()> {
    all.iter_mut().try_for_each(|(name, value)| owners.attribute(name, value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mapping(first: u32) -> Mapping {
        let ids: Ids = format!("0:{first}:1000").parse().unwrap();
        Mapping { uids: ids.clone(), gids: ids }
    }

    #[test]
    fn ids_go_from_one_namespace_to_the_other() {
        let (one, other) = (mapping(5000), mapping(90_000));
        let go = |from, to, id| Owners { from, to }.user(id).ok();
        assert_eq!(go(None, Some(&one), 7), Some(5007));
        assert_eq!(go(Some(&one), None, 5007), Some(7));
        assert_eq!(go(Some(&one), Some(&other), 5007), Some(90_007));
        assert_eq!(go(Some(&one), None, 3), Some(NOBODY));
        assert_eq!(go(None, Some(&one), 1000), None);
        assert_eq!(go(Some(&one), Some(&other), 3), None);
    }

    #[test]
    fn acls_and_capabilities_name_ids_too() {
        let one = mapping(5000);
        let (to, back) = (Owners { from: None, to: Some(&one) }, Owners { from: Some(&one), to: None });
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[6, 0], &id.to_le_bytes()].concat();
        let acl = |ids: [u32; 2]| {
            [&[2, 0, 0, 0][..], &entry(1, u32::MAX), &entry(ACL_USER, ids[0]), &entry(ACL_GROUP, ids[1])]
                .concat()
        };
        let name = OsStr::from_bytes(ACLS[0]);
        let mut value = acl([33, 44]);
        to.attribute(name, &mut value).unwrap();
        assert_eq!(value, acl([5033, 5044]));
        back.attribute(name, &mut value).unwrap();
        assert_eq!(value, acl([33, 44]));

        let name = OsStr::from_bytes(CAPABILITY);
        let second: Vec<u8> = [&[1, 0, 0, VERSION_2][..], &[9; 16]].concat();
        let mut value = second.clone();
        to.attribute(name, &mut value).unwrap();
        assert_eq!(value, [&[1, 0, 0, VERSION_3][..], &[9; 16], &5000_u32.to_le_bytes()].concat());
        back.attribute(name, &mut value).unwrap();
        assert_eq!(value, second);
        // Of the host's root in a mapped tree, and of another length: left as they are.
        for mut odd in [second.clone(), vec![], vec![1, 2, 3, 4]] {
            let before = odd.clone();
            back.attribute(name, &mut odd).unwrap();
            assert_eq!(odd, before);
        }
    }
}
