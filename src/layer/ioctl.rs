//! What the kernel offers for btrfs, for loop devices and for extents anywhere, and no crate has a safe call for: the
//! only unsafe code.
//!
//! Every function takes descriptors and names, never paths. The argument structures are the kernel's
//! own (`linux/btrfs.h`, `linux/fiemap.h`, `linux/loop.h`), and their sizes are part of the request numbers.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::{Errno, Result};

pub(crate) mod quota;

/// The `type` of btrfs's requests.
const MAGIC: u8 = 0x94;
/// `BTRFS_SEND_FLAG_NO_FILE_DATA`.
const SEND_NO_FILE_DATA: u64 = 1;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;
/// What statfs says of a btrfs.
pub(super) const BTRFS_SUPER_MAGIC: u32 = 0x9123_683e;
/// The number of a btrfs's first device, and of the only one of a btrfs that loom made.
const FIRST_DEVICE: u64 = 1;
/// `LOOP_SET_CAPACITY`.
const LOOP_SET_CAPACITY: u16 = 0x4c07;
/// The inode number of the root of every subvolume.
pub(super) const SUBVOLUME_INODE: u64 = 256;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
pub(super) struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
pub(super) struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
pub(super) struct FsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_dev_info_args`.
#[repr(C)]
pub(super) struct DeviceInfo {
    devid: u64,
    uuid: [u8; 16],
    bytes_used: u64,
    total_bytes: u64,
    unused: [u64; 379],
    path: [u8; 1024],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
pub(super) struct InodeLookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_send_args`.
#[repr(C)]
pub(super) struct Send {
    fd: i64,
    clone_sources_count: u64,
    clone_sources: *const u64,
    parent_root: u64,
    flags: u64,
    version: u32,
    reserved: [u8; 28],
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[repr(C)]
pub(super) struct RootRefs {
    min_tree: u64,
    /// The tree of a nested subvolume, and the inode of the directory that it is in.
    refs: [(u64, u64); 255],
    count: u8,
    rest: [u8; 7],
}

/// `struct btrfs_ioctl_ino_lookup_user_args`.
#[repr(C)]
pub(super) struct UserLookup {
    directory: u64,
    tree: u64,
    name: [u8; 256],
    path: [u8; 3824],
}

/// `struct fiemap`, up to its array.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FiemapHead {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    rest: [u32; 3],
}

/// The extents that are asked for at once.
const EXTENTS: u32 = 72;
/// `FIEMAP_EXTENT_LAST`.
const EXTENT_LAST: u32 = 1;
/// `FIEMAP_EXTENT_SHARED`.
const EXTENT_SHARED: u32 = 1 << 13;

/// A `struct fiemap` with room in its array.
#[repr(C)]
struct Fiemap {
    head: FiemapHead,
    extents: [FiemapExtent; EXTENTS as usize],
}

mod request {
    // The macros make public functions.
    #![allow(missing_docs, unreachable_pub, private_interfaces)]
    use super::{
        DeviceInfo, FiemapHead, FsInfo, InodeLookup, LOOP_SET_CAPACITY, MAGIC, RootRefs, Send, UserLookup,
        VolArgs, VolArgsV2,
    };

    nix::ioctl_write_ptr!(resize, MAGIC, 3, VolArgs);
    nix::ioctl_write_ptr!(subvol_create, MAGIC, 14, VolArgs);
    nix::ioctl_write_ptr!(snap_destroy, MAGIC, 15, VolArgs);
    nix::ioctl_readwrite!(ino_lookup, MAGIC, 18, InodeLookup);
    nix::ioctl_write_ptr!(snap_create_v2, MAGIC, 23, VolArgsV2);
    nix::ioctl_read!(subvol_getflags, MAGIC, 25, u64);
    nix::ioctl_write_ptr!(subvol_setflags, MAGIC, 26, u64);
    nix::ioctl_readwrite!(dev_info, MAGIC, 30, DeviceInfo);
    nix::ioctl_read!(fs_info, MAGIC, 31, FsInfo);
    nix::ioctl_write_ptr!(send, MAGIC, 38, Send);
    nix::ioctl_readwrite!(get_subvol_rootref, MAGIC, 61, RootRefs);
    nix::ioctl_readwrite!(ino_lookup_user, MAGIC, 62, UserLookup);
    nix::ioctl_readwrite!(fiemap, b'f', 11, FiemapHead);
    nix::ioctl_none_bad!(loop_set_capacity, LOOP_SET_CAPACITY);
}

/// A name in a kernel structure, ended by a zero byte.
fn name_in<const N: usize>(name: &CStr) -> Result<[u8; N]> {
    let bytes = name.to_bytes_with_nul();
    let mut array = [0; N];
    array.get_mut(..bytes.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(bytes);
    Ok(array)
}

fn vol_args(name: &CStr) -> Result<VolArgs> {
    Ok(VolArgs { fd: 0, name: name_in(name)? })
}

/// nix's errors are rustix's by number.
fn done(answer: nix::Result<i32>) -> Result<()> {
    answer.map(drop).map_err(|e| Errno::from_raw_os_error(e as i32))
}

/// Makes an empty subvolume `name` in `parent`.
pub(super) fn subvolume_create(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let args = vol_args(name)?;
    // SAFETY: `args` is the structure the request is numbered for and lives through the call; the
    // kernel only reads it.
    done(unsafe { request::subvol_create(parent.as_raw_fd(), &raw const args) })
}

/// Makes a snapshot `name` in `parent` of the subvolume `source`.
pub(super) fn subvolume_snapshot(
    parent: BorrowedFd<'_>,
    name: &CStr,
    source: impl AsFd,
    read_only: bool,
) -> Result<()> {
    let args = VolArgsV2 {
        fd: i64::from(source.as_fd().as_raw_fd()),
        transid: 0,
        flags: if read_only { READ_ONLY } else { 0 },
        unused: [0; 4],
        name: name_in(name)?,
    };
    // SAFETY: `args` is the structure the request is numbered for and lives through the call, as does
    // the descriptor in it; the kernel only reads it.
    done(unsafe { request::snap_create_v2(parent.as_raw_fd(), &raw const args) })
}

/// Removes the subvolume `name` in `parent`, with everything in it but nested subvolumes (ENOTEMPTY).
pub(super) fn subvolume_destroy(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let args = vol_args(name)?;
    // SAFETY: `args` is the structure the request is numbered for and lives through the call; the
    // kernel only reads it.
    done(unsafe { request::snap_destroy(parent.as_raw_fd(), &raw const args) })
}

/// True where the subvolume is read-only.
pub(super) fn subvolume_is_read_only(subvolume: impl AsFd) -> Result<bool> {
    let mut flags = 0;
    // SAFETY: the kernel writes one u64, and `flags` is one that lives through the call.
    done(unsafe { request::subvol_getflags(subvolume.as_fd().as_raw_fd(), &raw mut flags) })?;
    Ok(flags & READ_ONLY != 0)
}

/// Sets a subvolume read-only or writable. The kernel commits the change before it answers.
pub(super) fn subvolume_set_read_only(subvolume: impl AsFd, read_only: bool) -> Result<()> {
    let flags = if read_only { READ_ONLY } else { 0 };
    // SAFETY: the kernel reads one u64, and `flags` is one that lives through the call.
    done(unsafe { request::subvol_setflags(subvolume.as_fd().as_raw_fd(), &raw const flags) })
}

/// The UUID of the btrfs that a descriptor lies on.
pub(crate) fn btrfs_uuid(on: impl AsFd) -> Result<[u8; 16]> {
    let mut info = FsInfo { max_id: 0, num_devices: 0, fsid: [0; 16], rest: [0; 992] };
    // SAFETY: the kernel reads and writes the structure that the request is numbered for, and `info`
    // is one that lives through the call.
    done(unsafe { request::fs_info(on.as_fd().as_raw_fd(), &raw mut info) })?;
    Ok(info.fsid)
}

/// The first device of the btrfs that a descriptor lies on, as that btrfs has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// The bytes of it that the filesystem spans.
    pub(crate) span: u64,
    /// Those of them that it has parted out to data and metadata.
    pub(crate) parted: u64,
    /// Its node, such as `/dev/loop0`.
    pub(crate) node: PathBuf,
}

/// Looks at the first device of the btrfs that a descriptor lies on.
pub(crate) fn btrfs_device(on: impl AsFd) -> Result<Device> {
    let mut info = DeviceInfo {
        devid: FIRST_DEVICE,
        uuid: [0; 16],
        bytes_used: 0,
        total_bytes: 0,
        unused: [0; 379],
        path: [0; 1024],
    };
    // SAFETY: the kernel reads and writes the structure that the request is numbered for, and `info`
    // is one that lives through the call.
    done(unsafe { request::dev_info(on.as_fd().as_raw_fd(), &raw mut info) })?;
    let node = info.path.split(|byte| *byte == 0).next().unwrap_or_default();
    let node = PathBuf::from(OsStr::from_bytes(node));
    Ok(Device { span: info.total_bytes, parted: info.bytes_used, node })
}

/// Has the btrfs that a descriptor lies on span so many bytes of its first device; none for all that are there. What
/// lies behind a smaller span is moved first. `BUSY` while another such operation is under way.
pub(crate) fn btrfs_resize(on: impl AsFd, span: Option<u64>) -> Result<()> {
    let span = span.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
    let name = CString::new(format!("{FIRST_DEVICE}:{span}")).map_err(|_| Errno::INVAL)?;
    let args = vol_args(&name)?;
    // SAFETY: `args` is the structure the request is numbered for and lives through the call; the
    // kernel only reads it.
    let answer = unsafe { request::resize(on.as_fd().as_raw_fd(), &raw const args) };
    match answer {
        Ok(0) => Ok(()),
        // One of btrfs's own numbers: another exclusive operation runs.
        Ok(_) => Err(Errno::BUSY),
        Err(e) => done(Err(e)),
    }
}

/// Has a loop device see how long its file is now.
pub(crate) fn loop_set_capacity(device: impl AsFd) -> Result<()> {
    // SAFETY: the request takes no argument.
    done(unsafe { request::loop_set_capacity(device.as_fd().as_raw_fd()) })
}

/// The id of the tree that a descriptor of a subvolume lies in.
fn tree_of(subvolume: BorrowedFd<'_>) -> Result<u64> {
    let mut args = InodeLookup { tree: 0, object: SUBVOLUME_INODE, name: [0; 4080] };
    // SAFETY: the kernel reads and writes the structure that the request is numbered for, and `args`
    // is one that lives through the call.
    done(unsafe { request::ino_lookup(subvolume.as_raw_fd(), &raw mut args) })?;
    Ok(args.tree)
}

/// The paths, from its root, of the subvolumes right below a subvolume.
pub(super) fn nested_subvolumes(subvolume: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    let mut min_tree = 0;
    loop {
        let mut found = RootRefs { min_tree, refs: [(0, 0); 255], count: 0, rest: [0; 7] };
        // SAFETY: the kernel reads and writes the structure that the request is numbered for, and `found` is one
        // that lives through the call.
        let answer = done(unsafe { request::get_subvol_rootref(subvolume.as_raw_fd(), &raw mut found) });
        for &(tree, directory) in found.refs.get(..usize::from(found.count)).unwrap_or_default() {
            all.extend(path_of(subvolume, tree, directory)?);
        }
        match answer {
            // There are more than fit.
            Err(Errno::OVERFLOW) => min_tree = found.min_tree,
            Err(e) => return Err(e),
            Ok(()) => return Ok(all),
        }
    }
}

/// The path of a subvolume nested in another; none where it went meanwhile.
fn path_of(subvolume: BorrowedFd<'_>, tree: u64, directory: u64) -> Result<Option<Vec<u8>>> {
    let mut args = UserLookup { directory, tree, name: [0; 256], path: [0; 3824] };
    // SAFETY: the kernel reads and writes the structure that the request is numbered for, and `args` is one that
    // lives through the call.
    match done(unsafe { request::ino_lookup_user(subvolume.as_raw_fd(), &raw mut args) }) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e),
    }
    let text = |bytes: &[u8]| bytes.iter().copied().take_while(|byte| *byte != 0).collect::<Vec<u8>>();
    Ok(Some([text(&args.path), text(&args.name)].concat()))
}

/// Writes to the pipe `to` what turns the read-only subvolume `before` into the read-only subvolume `after`, without
/// the bytes of files. While that lasts neither of them can be removed or made writable.
pub(super) fn send_difference(
    before: BorrowedFd<'_>,
    after: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
) -> Result<()> {
    let args = Send {
        fd: i64::from(to.as_raw_fd()),
        clone_sources_count: 0,
        clone_sources: std::ptr::null(),
        parent_root: tree_of(before)?,
        flags: SEND_NO_FILE_DATA,
        version: 0,
        reserved: [0; 28],
    };
    // SAFETY: `args` is the structure the request is numbered for and lives through the call, as does the
    // descriptor in it; the kernel only reads it, and no clone sources at all, as their count says.
    done(unsafe { request::send(after.as_raw_fd(), &raw const args) })
}

/// Writes out what is dirty of a file's bytes, without what it takes to find them after a power cut. Behind it the
/// first store to a mapped page is a change of the file again.
pub(super) fn write_out(file: impl AsFd) -> Result<()> {
    use nix::libc::{
        SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE, sync_file_range,
    };
    let all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes no pointers, and the descriptor lives through it.
    done(nix::errno::Errno::result(unsafe { sync_file_range(file.as_fd().as_raw_fd(), 0, 0, all) }))
}

/// Tells the extents of a file which others have too, by place and length in bytes: a clone of it, or of its
/// subvolume, or another place in itself. What is not written out yet lies in no extent. `more` is asked before each
/// look; where it says no, so does the answer.
pub(crate) fn shared_extents(
    file: impl AsFd,
    more: impl Fn() -> bool,
    mut tell: impl FnMut(u64, u64),
) -> Result<bool> {
    let mut start = 0;
    while more() {
        let extent =
            FiemapExtent { logical: 0, physical: 0, length: 0, reserved: [0; 2], flags: 0, rest: [0; 3] };
        let head =
            FiemapHead { start, length: u64::MAX - start, flags: 0, mapped: 0, count: EXTENTS, reserved: 0 };
        let mut map = Fiemap { head, extents: [extent; EXTENTS as usize] };
        // SAFETY: `map` begins with the structure that the request is numbered for, has behind it the array of as
        // many extents as `count` says, and lives through the call; the kernel reads and writes no more than that.
        done(unsafe { request::fiemap(file.as_fd().as_raw_fd(), (&raw mut map).cast()) })?;
        let mapped = map.extents.get(..map.head.mapped as usize).unwrap_or_default();
        mapped.iter().filter(|e| e.flags & EXTENT_SHARED != 0).for_each(|e| tell(e.physical, e.length));
        match mapped.last() {
            Some(last) if last.flags & EXTENT_LAST == 0 => start = last.logical.saturating_add(last.length),
            _ => return Ok(true),
        }
    }
    Ok(false)
}
