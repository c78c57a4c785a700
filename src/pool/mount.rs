//! Mounts of the pool, and the devices below them.
//!
//! A btrfs is known by its UUID: what is mounted where the pool belongs is the pool only if it has the recorded one, and
//! a device is found by it whatever it is called now.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::program::{BLKID, MKFS_BTRFS};
use crate::error::{Error, Result};
use crate::fault;
use crate::layer::ioctl;

/// The options of a mount: of an image, which must never be given holes, and of a device, which may discard as the
/// kernel sees fit.
pub(super) const IMAGE: &str = "nodiscard";
pub(super) const DEVICE: &str = "";

/// Where btrfs has its first superblock, and in it its UUID and its magic.
const SUPERBLOCK: u64 = 64 << 10;
const UUID: u64 = SUPERBLOCK + 0x20;
const MAGIC: (u64, [u8; 8]) = (SUPERBLOCK + 0x40, *b"_BHRfS_M");

/// What is mounted at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mounted {
    /// Nothing.
    No,
    /// The btrfs that was asked for, from this device.
    Ours(PathBuf),
    /// Something else.
    Other(String),
}

/// What is mounted at `place`, seen by whoever asks for the btrfs `uuid`.
pub(super) fn at(place: &Path, uuid: &str) -> Result<Mounted> {
    let wrong = || Error::io("inspect", place);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let on = match rustix::fs::openat(CWD, place, flags, Mode::empty()) {
        Ok(on) => on,
        Err(Errno::NOENT) => return Ok(Mounted::No),
        Err(e) => return Err(wrong()(e)),
    };
    let stat = rustix::fs::statx(&on, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()).map_err(wrong())?;
    if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(Mounted::No);
    }
    match ioctl::btrfs_uuid(&on) {
        Ok(found) if text(&found) == uuid => {
            Ok(Mounted::Ours(ioctl::btrfs_device(&on).map_err(wrong())?.node))
        }
        Ok(found) => Ok(Mounted::Other(format!("another btrfs, {},", text(&found)))),
        Err(_) => Ok(Mounted::Other("something that is no btrfs".to_owned())),
    }
}

/// True where a directory lies on the btrfs `uuid`.
pub(super) fn is_on(path: &Path, uuid: &str) -> bool {
    File::open(path).is_ok_and(|on| ioctl::btrfs_uuid(&on).is_ok_and(|found| text(&found) == uuid))
}

/// The UUID of the btrfs that a directory lies on, which must be one.
pub(super) fn uuid_of(on: &OwnedFd, path: &Path) -> Result<String> {
    ioctl::btrfs_uuid(on.as_fd()).map(|uuid| text(&uuid)).map_err(|_| {
        Error::precondition(
            format!("pool {}", path.display()),
            "it is not on a btrfs; mount one there, or have loom make one with `loom pool create`",
        )
    })
}

/// Mounts the btrfs of a device, wherever that is now.
pub(super) fn mount_device(device: &Path, place: &Path, uuid: &str, options: &str) -> Result<()> {
    let device = find(device, uuid).ok_or_else(|| {
        Error::Config(format!(
            "the pool is the btrfs {uuid} on {}, and that is not there; attach the device, and start loomd again",
            device.display()
        ))
    })?;
    // Root's alone, as the root itself is.
    DirBuilder::new().recursive(true).mode(0o700).create(place).map_err(Error::io("create", place))?;
    fault::point("pool.mount.mount")?;
    let options = std::ffi::CString::new(options).unwrap_or_default();
    rustix::mount::mount(&device, place, c"btrfs", MountFlags::NOATIME, options.as_c_str())
        .map_err(Error::io("mount the pool at", place))?;
    fault::point("pool.mount.mode")?;
    let mode = Mode::from_raw_mode(0o700);
    rustix::fs::chmodat(CWD, place, mode, AtFlags::empty()).map_err(Error::io("mount the pool at", place))
}

/// Unmounts the btrfs `uuid` where it is mounted at `place`, and removes that.
pub(super) fn unmount(place: &Path, uuid: &str) -> Result<()> {
    fault::point("pool.clear.unmount")?;
    if let Mounted::Ours(_) = at(place, uuid)? {
        rustix::mount::unmount(place, UnmountFlags::NOFOLLOW).map_err(Error::io("unmount", place))?;
    }
    match fs::remove_dir(place) {
        // Something else's.
        Err(e)
            if !matches!(
                e.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy
            ) =>
        {
            Err(Error::io("remove", place)(e))
        }
        _ => Ok(()),
    }
}

/// Refuses what is no block device, or has something on it.
pub(super) fn check_device(device: &Path) -> Result<()> {
    let what = || format!("device {}", device.display());
    let kind = fs::metadata(device).map_err(Error::io("open", device))?.file_type();
    if !kind.is_block_device() {
        return Err(Error::precondition(what(), "it is no block device; name one such as /dev/vdb"));
    }
    let args: [&OsStr; 7] = [
        "-p".as_ref(),
        "-o".as_ref(),
        "value".as_ref(),
        "-s".as_ref(),
        "TYPE".as_ref(),
        "-sPTTYPE".as_ref(),
        device.as_os_str(),
    ];
    let found = BLKID.try_run(&args)?;
    let found = String::from_utf8_lossy(&found.stdout).split_whitespace().collect::<Vec<_>>().join(", ");
    if !found.is_empty() {
        return Err(Error::precondition(
            what(),
            format!(
                "it has something on it ({found}), which would be lost; choose another one, or clear it with \
                 `wipefs --all {}` if nobody needs that",
                device.display()
            ),
        ));
    }
    Ok(())
}

/// Makes a btrfs. What has another filesystem on it is refused.
pub(super) fn format(device: &Path, uuid: &str) -> Result<()> {
    fault::point("pool.create.format")?;
    let args: [&OsStr; 7] = [
        "--quiet".as_ref(),
        // A discard would give holes to an image.
        "--nodiscard".as_ref(),
        "--label".as_ref(),
        "loom-pool".as_ref(),
        "--uuid".as_ref(),
        uuid.as_ref(),
        device.as_os_str(),
    ];
    MKFS_BTRFS.run(&args).map(drop)
}

/// Takes the btrfs `uuid` from a device, if it has that.
pub(super) fn wipe(device: &Path, uuid: &str) -> Result<()> {
    fault::point("pool.clear.wipe")?;
    if !has(device, uuid) {
        return Ok(());
    }
    let wiped = OpenOptions::new().write(true).open(device).and_then(|file| {
        file.write_all_at(&[0; 8], MAGIC.0)?;
        file.sync_all()
    });
    wiped.map_err(Error::io("clear", device))
}

/// The device that has the btrfs `uuid`: what it was called, else what the machine calls it now.
fn find(device: &Path, uuid: &str) -> Option<PathBuf> {
    if has(device, uuid) {
        return Some(device.to_owned());
    }
    let found = BLKID.run(&["--uuid".as_ref(), uuid.as_ref()]).ok().map(PathBuf::from)?;
    has(&found, uuid).then_some(found)
}

/// True where a device or file has the btrfs `uuid` in it.
pub(super) fn has(device: &Path, uuid: &str) -> bool {
    let (mut found, mut magic) = ([0; 16], [0; 8]);
    File::open(device).is_ok_and(|file| {
        file.read_exact_at(&mut found, UUID).is_ok()
            && file.read_exact_at(&mut magic, MAGIC.0).is_ok()
            && magic == MAGIC.1
            && text(&found) == uuid
    })
}

/// A UUID as it is written.
pub(super) fn text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_uuid_is_written_as_everywhere() {
        let uuid: [u8; 16] = std::array::from_fn(|at| u8::try_from(at * 17).unwrap());
        assert_eq!(text(&uuid), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn a_file_is_known_by_its_btrfs() {
        let dir = tempfile::tempdir().unwrap();
        let (file, uuid) = (dir.path().join("x.img"), "01234567-89ab-cdef-0123-456789abcdef");
        File::create(&file).unwrap().set_len(256 << 20).unwrap();
        assert!(!has(&file, uuid) && !has(&dir.path().join("none"), uuid));
        format(&file, uuid).unwrap();
        assert!(has(&file, uuid) && !has(&file, "00000000-89ab-cdef-0123-456789abcdef"));
        // Another one is not made over it.
        assert!(format(&file, uuid).unwrap_err().to_string().contains("btrfs"));
        wipe(&file, "00000000-89ab-cdef-0123-456789abcdef").unwrap();
        assert!(has(&file, uuid));
        wipe(&file, uuid).unwrap();
        assert!(!has(&file, uuid));
        format(&file, uuid).unwrap();
    }

    #[test]
    fn what_is_no_free_device_is_refused() {
        let error = check_device(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(error.contains("no block device"), "{error}");
        assert_eq!(at(Path::new("/nonexistent"), "x").unwrap(), Mounted::No);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(at(dir.path(), "x").unwrap(), Mounted::No);
        assert!(matches!(at(Path::new("/proc"), "x").unwrap(), Mounted::Other(_)));
    }
}
