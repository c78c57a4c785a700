//! Quotas: btrfs's simple quota groups (`linux/btrfs.h`, `linux/btrfs_tree.h`), and project quotas as XFS and ext4 have
//! them (`linux/fs.h`, `linux/dqblk_xfs.h`, `linux/quota.h`).

use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use rustix::io::{Errno, Result};

use super::{MAGIC, done};

/// `BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA`.
const ENABLE_SIMPLE: u64 = 4;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`.
const MAX_REFERENCED: u64 = 1;
/// `BTRFS_QUOTA_TREE_OBJECTID`.
const QUOTA_TREE: u64 = 8;
/// `BTRFS_ROOT_TREE_OBJECTID` and `BTRFS_ROOT_ITEM_KEY`.
const ROOT_TREE: u64 = 1;
const ROOT_KEY: u32 = 132;
/// `BTRFS_QGROUP_STATUS_KEY`.
const STATUS_KEY: u32 = 240;
/// `BTRFS_QGROUP_STATUS_FLAG_ON` and `BTRFS_QGROUP_STATUS_FLAG_SIMPLE_MODE`.
const STATUS_ON: u64 = 1;
const STATUS_SIMPLE: u64 = 1 << 3;
/// The bytes in front of what a search has found.
const SEARCH_HEADER: usize = 32;
/// `FS_XFLAG_PROJINHERIT`.
const INHERIT: u32 = 0x200;
/// `Q_XGETQSTAT`, `Q_GETQUOTA` and `Q_SETQUOTA` for `PRJQUOTA`.
const STATE: u32 = 0x5805 << 8 | 2;
const GET: u32 = 0x80_0007 << 8 | 2;
const SET: u32 = 0x80_0008 << 8 | 2;
/// `FS_QUOTA_PDQ_ACCT` and `FS_QUOTA_PDQ_ENFD`.
const ENFORCED: u16 = 1 << 4 | 1 << 5;
/// `QIF_BLIMITS`, and the bytes in which these limits are counted.
const BLOCK_LIMITS: u32 = 1;
const BLOCK: u64 = 1024;

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
pub(super) struct Control {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
pub(super) struct Create {
    create: u64,
    group: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
pub(super) struct Limit {
    group: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved: [u64; 2],
}

/// `struct btrfs_ioctl_search_args`.
#[repr(C)]
pub(super) struct Search {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    generations: [u64; 2],
    kinds: [u32; 2],
    count: u32,
    unused: [u32; 9],
    found: [u8; 3992],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
pub(super) struct SubvolumeInfo {
    tree: u64,
    name: [u8; 256],
    before: [u64; 4],
    uuids: [u64; 6],
    changed: u64,
    made: u64,
    behind: [u64; 18],
}

/// `struct fsxattr`.
#[repr(C)]
pub(super) struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

mod request {
    // The macros make public functions.
    #![allow(missing_docs, unreachable_pub, private_interfaces)]
    use super::{Attributes, Control, Create, Limit, MAGIC, Search, SubvolumeInfo};

    nix::ioctl_readwrite!(search, MAGIC, 17, Search);
    nix::ioctl_readwrite!(quota_control, MAGIC, 40, Control);
    nix::ioctl_write_ptr!(group_create, MAGIC, 42, Create);
    nix::ioctl_read!(group_limit, MAGIC, 43, Limit);
    nix::ioctl_read!(subvolume_info, MAGIC, 60, SubvolumeInfo);
    nix::ioctl_read!(get_attributes, b'X', 31, Attributes);
    nix::ioctl_write_ptr!(set_attributes, b'X', 32, Attributes);
}

/// A subvolume: the id of its tree, which is that of its quota group, and the generation in which it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subvolume {
    pub(crate) tree: u64,
    pub(crate) made: u64,
}

/// The subvolume that a descriptor lies in.
pub(crate) fn subvolume(inside: impl AsFd) -> Result<Subvolume> {
    let mut info = SubvolumeInfo {
        tree: 0,
        name: [0; 256],
        before: [0; 4],
        uuids: [0; 6],
        changed: 0,
        made: 0,
        behind: [0; 18],
    };
    // SAFETY: the kernel writes the structure that the request is numbered for, and `info` is one that lives
    // through the call.
    done(unsafe { request::subvolume_info(inside.as_fd().as_raw_fd(), &raw mut info) })?;
    Ok(Subvolume { tree: info.tree, made: info.made })
}

/// True where the btrfs that a descriptor lies on has a subvolume of this id, or is still removing it.
pub(crate) fn has_subvolume(on: impl AsFd, tree: u64) -> Result<bool> {
    search(on, ROOT_TREE, tree, ROOT_KEY).map(|found| found.count > 0)
}

/// The first item of this object and kind in a tree of a btrfs. `NOENT` where there is no such tree.
fn search(on: impl AsFd, tree: u64, object: u64, kind: u32) -> Result<Search> {
    let mut args = Search {
        tree,
        objects: [object; 2],
        offsets: [0, u64::MAX],
        generations: [0, u64::MAX],
        kinds: [kind; 2],
        count: 1,
        unused: [0; 9],
        found: [0; 3992],
    };
    // SAFETY: the kernel reads and writes the structure that the request is numbered for, and `args` is one that
    // lives through the call.
    done(unsafe { request::search(on.as_fd().as_raw_fd(), &raw mut args) })?;
    Ok(args)
}

/// Has a btrfs count in simple quota groups what is written from now on. `INVAL` where the kernel has none.
pub(crate) fn enable_groups(on: impl AsFd) -> Result<()> {
    let mut args = Control { command: ENABLE_SIMPLE, status: 0 };
    // SAFETY: the kernel reads and writes the structure that the request is numbered for, and `args` is one that
    // lives through the call.
    done(unsafe { request::quota_control(on.as_fd().as_raw_fd(), &raw mut args) })
}

/// What a btrfs says of its quota groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Groups {
    /// True for simple ones: they charge what is written to whom wrote it.
    pub(crate) simple: bool,
    /// The generation from which on those count.
    pub(crate) since: u64,
}

/// The quota groups of the btrfs that a descriptor lies on; none where they are not enabled.
pub(crate) fn groups(on: impl AsFd) -> Result<Option<Groups>> {
    let args = match search(on, QUOTA_TREE, 0, STATUS_KEY) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e),
    };
    // The item has a version, a generation, the flags, how far a scan has come, and since when simple ones count.
    let number = |nth: usize| {
        let at = SEARCH_HEADER + 8 * nth;
        let bytes = args.found.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    let (flags, since) = (number(2), number(4));
    Ok((args.count == 1 && flags & STATUS_ON != 0)
        .then_some(Groups { simple: flags & STATUS_SIMPLE != 0, since }))
}

/// Limits what the quota group of a subvolume may hold, in bytes; none for no limit. `on` must be in another
/// subvolume: the kernel charges the change to the one that it is asked through, which may be full.
pub(crate) fn limit_group(on: impl AsFd, tree: u64, bytes: Option<u64>) -> Result<()> {
    // All ones end a limit.
    let max_referenced = bytes.unwrap_or(u64::MAX);
    let mut args =
        Limit { group: tree, flags: MAX_REFERENCED, max_referenced, max_exclusive: 0, reserved: [0; 2] };
    // SAFETY: `args` is the structure the request is numbered for and lives through the call; the kernel only
    // reads it.
    done(unsafe { request::group_limit(on.as_fd().as_raw_fd(), &raw mut args) })
}

/// Removes the quota group of a subvolume that is gone. `BUSY` while others have extents that it wrote.
pub(crate) fn remove_group(on: impl AsFd, tree: u64) -> Result<()> {
    let args = Create { create: 0, group: tree };
    // SAFETY: `args` is the structure the request is numbered for and lives through the call; the kernel only
    // reads it.
    done(unsafe { request::group_create(on.as_fd().as_raw_fd(), &raw const args) })
}

/// True where the filesystem counts, and limits, what each project has.
pub(crate) fn projects_enforced(on: impl AsFd) -> bool {
    // `struct fs_quota_stat` has 80 bytes; its flags are behind its version.
    let mut state = [0_u16; 64];
    quota(on, STATE, 0, state.as_mut_ptr().cast()).is_ok() && state[1] & ENFORCED == ENFORCED
}

/// Gives a directory to a project: what is made in it from now on is of that.
pub(crate) fn set_project(directory: impl AsFd, project: u32) -> Result<()> {
    let mut attributes =
        Attributes { flags: 0, extent_size: 0, extents: 0, project: 0, cow_extent_size: 0, padding: [0; 8] };
    // SAFETY: the kernel writes the structure that the request is numbered for, and `attributes` is one that lives
    // through the call.
    done(unsafe { request::get_attributes(directory.as_fd().as_raw_fd(), &raw mut attributes) })?;
    attributes.flags |= INHERIT;
    attributes.project = project;
    // SAFETY: the kernel reads the structure that the request is numbered for, and `attributes` is one that lives
    // through the call.
    done(unsafe { request::set_attributes(directory.as_fd().as_raw_fd(), &raw const attributes) })
}

/// The project of a directory, where what is made in it is of that too.
pub(crate) fn project(directory: impl AsFd) -> Result<Option<u32>> {
    let mut attributes =
        Attributes { flags: 0, extent_size: 0, extents: 0, project: 0, cow_extent_size: 0, padding: [0; 8] };
    // SAFETY: the kernel writes the structure that the request is numbered for, and `attributes` is one that lives
    // through the call.
    done(unsafe { request::get_attributes(directory.as_fd().as_raw_fd(), &raw mut attributes) })?;
    Ok((attributes.flags & INHERIT != 0 && attributes.project != 0).then_some(attributes.project))
}

/// Limits what a project may hold, in bytes; none for no limit.
pub(crate) fn limit_project(on: impl AsFd, project: u32, bytes: Option<u64>) -> Result<()> {
    // SAFETY: all zeros are a sound value of a structure of numbers.
    let mut limits: libc::dqblk = unsafe { std::mem::zeroed() };
    // Nought is no limit.
    limits.dqb_bhardlimit = bytes.map_or(0, |bytes| bytes.div_ceil(BLOCK).max(1));
    limits.dqb_valid = BLOCK_LIMITS;
    quota(on, SET, project, (&raw mut limits).cast())
}

/// The bytes and inodes that a project has.
pub(crate) fn project_usage(on: impl AsFd, project: u32) -> Result<(u64, u64)> {
    // SAFETY: all zeros are a sound value of a structure of numbers.
    let mut usage: libc::dqblk = unsafe { std::mem::zeroed() };
    quota(on, GET, project, (&raw mut usage).cast())?;
    Ok((usage.dqb_curspace, usage.dqb_curinodes))
}

/// `quotactl_fd`.
fn quota(on: impl AsFd, command: u32, id: u32, argument: *mut libc::c_void) -> Result<()> {
    // SAFETY: each command's structure is what `argument` points to in the callers above, at least as large as the
    // kernel's, and lives through the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, on.as_fd().as_raw_fd(), command, id, argument) };
    nix::errno::Errno::result(answer).map(drop).map_err(|e| Errno::from_raw_os_error(e as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Control>(), 16);
        assert_eq!(size_of::<Create>(), 16);
        assert_eq!(size_of::<Limit>(), 48);
        assert_eq!(size_of::<Search>(), 4096);
        assert_eq!(size_of::<SubvolumeInfo>(), 504);
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(std::mem::offset_of!(SubvolumeInfo, made), 352);
        assert_eq!(std::mem::offset_of!(Search, found), 104);
    }
}
