//! Opening the homes of layers: what a root and a pool must be.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;

use rustix::fs::{CWD, Mode, OFlags};

use super::area::{self, Area};
use super::probe::Probe;
use super::{Layers, Method, ioctl, mounts, pair, reclaim};
use crate::error::{Error, Result};
use crate::store::Home;

/// A pool without layers, to be attached.
#[derive(Debug)]
pub struct NewPool(Area);

impl Layers {
    /// Opens or makes `layers/` and `trash/` under the root and, where one is given, in the pool. A
    /// pool must be an existing directory on a btrfs that is not the root's filesystem.
    pub fn open(root: &Path, pool: Option<&Path>) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(Error::io("create", root))?;
        let root = root.canonicalize().map_err(Error::io("open", root))?;
        fit("root", &root)?;
        let plain = Area::open(Home::Plain, &root)?;
        let pool = pool.map(|pool| open_pool(&plain, pool)).transpose()?;
        if let Some(pool) = &pool {
            pair::pair(&root, pool.path())?;
        }
        let method = copying(plain.layers().as_fd());
        let highest = plain.highest()?.max(pool.as_ref().map_or(Ok(0), Area::highest)?);
        let (highest, opened) = (AtomicI64::new(highest), AtomicI64::new(highest));
        let pool = pool.map_or_else(OnceLock::new, OnceLock::from);
        let probe = Probe::open(&root).inspect_err(|error| {
            tracing::warn!(%error, "stopped containers are copied for their branches, not sealed as they lie");
        });
        Ok(Self {
            plain,
            pool,
            method,
            probe: probe.ok(),
            highest,
            opened,
            throttle: reclaim::Throttle::default(),
        })
    }

    /// Opens a pool that is new, with the same conditions as `open`, for `attach`.
    pub fn open_new_pool(&self, path: &Path) -> Result<NewPool> {
        let area = open_pool(&self.plain, path)?;
        if area.highest()? > 0 {
            return Err(Error::precondition(
                format!("pool {}", path.display()),
                "it has layers of another root in it; name an empty directory, or restart loomd with pool.path \
                 where they are this root's",
            ));
        }
        pair::pair(self.plain.path(), area.path())?;
        Ok(NewPool(area))
    }

    /// Has writable layers lie in this pool from now on. A pool that there is already stays the one.
    pub fn attach(&self, pool: NewPool) -> Result<()> {
        self.pool.set(pool.0).map_err(|_| Error::Internal("a second pool was attached".to_owned()))
    }
}

/// Opens the pool, or says what is wrong with it.
fn open_pool(plain: &Area, path: &Path) -> Result<Area> {
    let wrong = |why: String| Error::Config(format!("pool {}: {why}", path.display()));
    let path = match path.canonicalize() {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(wrong(
                "it does not exist; create it and mount a btrfs there, or unset pool.path".into(),
            ));
        }
        Err(e) => return Err(Error::io("open pool", path)(e)),
    };
    fit("pool", &path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let pool = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
        Ok(pool) => pool,
        Err(rustix::io::Errno::NOTDIR) => {
            return Err(wrong("it is not a directory; name the directory where a btrfs is mounted".into()));
        }
        Err(e) => return Err(Error::io("open pool", &path)(e)),
    };
    let on = area::magic_number(&pool).map_err(Error::io("inspect pool", &path))?;
    if on != ioctl::BTRFS_SUPER_MAGIC {
        return Err(wrong(format!(
            "it is on {}, and a pool must be on btrfs; if its filesystem is not mounted, mount it, \
             else name a directory on a btrfs or unset pool.path",
            filesystem(on)
        )));
    }
    let inspect = || Error::io("inspect pool", &path);
    if area::is_btrfs(plain.layers()).map_err(inspect())?
        && ioctl::btrfs_uuid(plain.layers()).map_err(inspect())?
            == ioctl::btrfs_uuid(&pool).map_err(inspect())?
    {
        return Err(wrong(format!(
            "it is on the same btrfs as the root {}, which overlayfs cannot tell apart; \
             name a directory on another btrfs or unset pool.path",
            plain.path().display()
        )));
    }
    Area::open(Home::Pool, &path)
}

/// Refuses a directory that no overlay mount can name.
fn fit(what: &str, path: &Path) -> Result<()> {
    mounts::unfit(path).map_or(Ok(()), |why| {
        Err(Error::Config(format!("{what} {}: {why}; choose another directory", path.display())))
    })
}

/// Tries how files can be copied here.
pub(super) fn copying(directory: BorrowedFd<'_>) -> Method {
    let scratch = || {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR)
    };
    let cloned = || {
        let (source, target) = (scratch()?, scratch()?);
        rustix::io::write(&source, &[1; 4096])?;
        rustix::fs::ioctl_ficlone(&target, &source)
    };
    if cloned().is_ok() { Method::Reflink } else { Method::Copy }
}

/// The name of a filesystem type by its number.
pub(super) fn filesystem(magic: u32) -> String {
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        ioctl::BTRFS_SUPER_MAGIC => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x6969 => "nfs",
        other => return format!("filesystem {other:#x}"),
    };
    name.to_owned()
}
