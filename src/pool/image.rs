//! The image: a file with a btrfs in it.
//!
//! ```text
//!  pool.img   ├─────────────── given by the host (fallocate) ───────────────┤
//!  loop       ├─────────────── its capacity ────────────────────────────────┤
//!  btrfs      ├─────────────── what it spans ───────────────────────────────┤
//! ```
//!
//! The three end at the same byte, and whatever a crash does, none of them behind the one above: to grow, the file goes
//! first, to shrink, the filesystem. Nothing may give the file holes: the filesystem does not discard, and the loop
//! device is told not to, or a trim of all that is mounted would reach the host. What has got one all the same is filled
//! at the next look.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, IFlags};
use rustix::io::Errno;

use super::mount::{self, IMAGE};
use super::program::LOSETUP;
use crate::bytes::about;
use crate::error::{Error, Result};
use crate::fault;
use crate::layer::ioctl;

/// The bytes that `st_blocks` counts in.
const BLOCK: u64 = 512;

/// The image of a root, there or not.
#[derive(Debug)]
pub(super) struct Image {
    root: PathBuf,
    file: PathBuf,
}

impl Image {
    pub(super) fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), file: root.join("pool.img") }
    }

    /// Its file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Refuses where a file is in its place: it may hold a pool that a lost record told of.
    pub(super) fn check(&self) -> Result<()> {
        if fs::symlink_metadata(&self.file).is_ok() {
            return Err(Error::precondition(
                self.file.display().to_string(),
                "it is there, and no pool.json tells of it; put that back if this is a pool, else remove the file",
            ));
        }
        Ok(())
    }

    /// Makes the file, of so many bytes that the host has given, and the filesystem in it.
    pub(super) fn make(&self, span: u64, uuid: &str) -> Result<()> {
        fault::point("pool.create.file")?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
        let file = file.map_err(Error::io("create", &self.file))?;
        // Where the host is a btrfs too: what is written to must stay where it was given. Others know no such flag.
        match rustix::fs::ioctl_setflags(&file, IFlags::NOCOW) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL) => {}
            Err(e) => return Err(Error::io("create", &self.file)(e)),
        }
        fault::point("pool.create.allocate")?;
        self.allocate(&file, span)?;
        mount::format(&self.file, uuid)?;
        fault::point("pool.create.sync")?;
        file.sync_all()
            .and_then(|()| File::open(&self.root)?.sync_all())
            .map_err(Error::io("sync", &self.file))
    }

    /// Mounts it.
    pub(super) fn mount(&self, place: &Path, uuid: &str) -> Result<()> {
        if !mount::has(&self.file, uuid) {
            let why = if self.file.exists() { "is another one" } else { "is missing" };
            return Err(Error::Config(format!(
                "the pool is the btrfs {uuid} in {}, and that file {why}; put it back, and start loomd again",
                self.file.display()
            )));
        }
        self.fill();
        fault::point("pool.mount.attach")?;
        let device = self.attach()?;
        let mounted = mount::mount_device(&device, place, uuid, IMAGE);
        // While it is mounted it stays, and goes with the last unmount; where that has failed it goes now.
        fault::point("pool.mount.detach")?;
        LOSETUP.run(&["--detach".as_ref(), device.as_os_str()])?;
        mounted?;
        self.catch_up(place)
    }

    /// Takes over what is mounted already.
    pub(super) fn adopt(&self, device: &Path, place: &Path) -> Result<()> {
        let backing = backing_file(device);
        if backing.as_ref().is_none_or(|file| file.ends_with(" (deleted)")) || !self.file.exists() {
            return Err(Error::Config(format!(
                "what is mounted at {} is not {}, which was removed or replaced; put that file back if you have it, \
                 unmount {0}, and start loomd again",
                place.display(),
                self.file.display()
            )));
        }
        self.fill();
        forbid_discard(device);
        self.catch_up(place)
    }

    /// Gives the image more: the host's bytes, then the loop device's capacity, then what the filesystem spans.
    pub(super) fn grow(&self, place: &Path, to: u64) -> Result<()> {
        let file = self.open()?;
        let before = file.metadata().map_err(Error::io("inspect", &self.file))?.len();
        fault::point("pool.grow.allocate")?;
        if to > before
            && let Err(error) = self.allocate(&file, to)
        {
            // What it got of it is not kept: the host is short.
            let _ = file.set_len(before);
            return Err(error);
        }
        self.catch_up(place)
    }

    /// Takes the end of the image from it: the filesystem first, then the file.
    pub(super) fn shrink(&self, place: &Path, to: u64) -> Result<()> {
        let on = File::open(place).map_err(Error::io("open pool", place))?;
        fault::point("pool.shrink.resize")?;
        ioctl::btrfs_resize(&on, Some(to)).map_err(Error::io("shrink pool", place))?;
        let device = ioctl::btrfs_device(&on).map_err(Error::io("inspect pool", place))?;
        if device.span != to {
            return Err(Error::Internal(format!("the pool spans {} after a resize to {to}", device.span)));
        }
        fault::point("pool.shrink.truncate")?;
        self.open()?.set_len(to).map_err(Error::io("shrink", &self.file))?;
        fault::point("pool.shrink.capacity")?;
        set_capacity(&device.node)
    }

    /// The bytes that the host has given it.
    pub(super) fn allocated(&self) -> Result<u64> {
        let meta = fs::metadata(&self.file).map_err(Error::io("inspect", &self.file))?;
        Ok(meta.blocks() * BLOCK)
    }

    /// Fills holes, if it has any. Where the host is too full for that, it is tried again: the pool is there all the
    /// same, and what was written to it is in no hole.
    pub(super) fn fill(&self) {
        let filled = self.open().and_then(|file| {
            let meta = file.metadata().map_err(Error::io("inspect", &self.file))?;
            if meta.blocks() * BLOCK >= meta.len() { Ok(()) } else { self.allocate(&file, meta.len()) }
        });
        if let Err(error) = filled {
            tracing::error!(%error, "the pool's image has holes that its host cannot fill: free some space there");
        }
    }

    /// Removes it, with the loop devices that it is attached to.
    pub(super) fn remove(&self) -> Result<()> {
        fault::point("pool.clear.file")?;
        if !self.file.exists() {
            return Ok(());
        }
        for device in self.attached()? {
            let detached = LOSETUP.run(&["--detach".as_ref(), device.as_os_str()]);
            // One that goes with its last unmount may have gone meanwhile.
            if detached.is_err() && self.attached()?.contains(&device) {
                detached?;
            }
        }
        match fs::remove_file(&self.file) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", &self.file)(e)),
            _ => Ok(()),
        }
    }

    pub(super) fn open(&self) -> Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.file).map_err(Error::io("open", &self.file))
    }

    /// Has the host give the file its first `bytes`, and makes it as long as that.
    fn allocate(&self, file: &File, bytes: u64) -> Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(Error::precondition(
                format!("the filesystem of {}", self.root.display()),
                "it cannot promise a file its bytes (fallocate), and a pool in a file that fills it would lose data; \
                 give the pool a device with `loom pool create --device`, or a directory with --path",
            )),
            Err(Errno::NOSPC) => Err(Error::NoRoom(format!(
                "the filesystem of {} has no {} left for the pool's image; free some space there",
                self.root.display(),
                about(bytes)
            ))),
            Err(e) => Err(Error::io("allocate", &self.file)(e)),
        }
    }

    /// Has the loop device and the filesystem follow a file that is longer.
    fn catch_up(&self, place: &Path) -> Result<()> {
        let on = File::open(place).map_err(Error::io("open pool", place))?;
        let device = ioctl::btrfs_device(&on).map_err(Error::io("inspect pool", place))?;
        let long = fs::metadata(&self.file).map_err(Error::io("inspect", &self.file))?.len();
        if long <= device.span {
            return Ok(());
        }
        fault::point("pool.grow.capacity")?;
        set_capacity(&device.node)?;
        fault::point("pool.grow.resize")?;
        ioctl::btrfs_resize(&on, None).map_err(Error::io("grow pool", place))
    }

    /// Attaches it to a loop device: one that a crash left, else a new one.
    fn attach(&self) -> Result<PathBuf> {
        let device = if let Some(device) = self.attached()?.into_iter().next() {
            device
        } else {
            let direct = self.losetup(&["--find", "--show", "--direct-io=on"]);
            let device = direct.or_else(|error| {
                // What cannot write directly goes through the cache, once more than need be.
                tracing::warn!(%error, "the pool's image is not written to directly");
                for left in self.attached()? {
                    LOSETUP.run(&["--detach".as_ref(), left.as_os_str()])?;
                }
                self.losetup(&["--find", "--show"])
            })?;
            PathBuf::from(device)
        };
        set_capacity(&device)?;
        forbid_discard(&device);
        Ok(device)
    }

    /// The loop devices that it is attached to.
    fn attached(&self) -> Result<Vec<PathBuf>> {
        let listed = self.losetup(&["--noheadings", "--output", "NAME", "--associated"])?;
        Ok(listed.split_whitespace().map(PathBuf::from).collect())
    }

    fn losetup(&self, args: &[&str]) -> Result<String> {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).chain([self.file.as_os_str()]).collect();
        LOSETUP.run(&args)
    }
}

fn set_capacity(device: &Path) -> Result<()> {
    let node = File::open(device).map_err(Error::io("open", device))?;
    ioctl::loop_set_capacity(&node).map_err(Error::io("resize", device))
}

/// A file of the kernel's about a block device.
fn about_device(device: &Path, what: &str) -> Option<PathBuf> {
    Some(Path::new("/sys/block").join(device.file_name()?).join(what))
}

/// The file below a loop device, as the kernel names it now.
fn backing_file(device: &Path) -> Option<String> {
    Some(fs::read_to_string(about_device(device, "loop/backing_file")?).ok()?.trim_end().to_owned())
}

/// A trim of the filesystem ends at the device from here on.
fn forbid_discard(device: &Path) {
    let forbidden = about_device(device, "queue/discard_max_bytes").map(|file| fs::write(file, "0"));
    if let Some(Err(error)) = forbidden {
        tracing::warn!(
            device = %device.display(), %error,
            "a trim of the pool cannot be forbidden: do not run fstrim on it, its image would get holes"
        );
    }
}
