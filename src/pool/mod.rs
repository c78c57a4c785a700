//! The pool: the btrfs on which writable layers lie, so that a branch of one costs the same at any size.
//!
//! ```text
//! <root>/pool.json     what the pool is, once `loom pool create` was asked (`record`)
//! <root>/pool.img      the image, where it is one: a file with a btrfs in it (`image`)
//! <root>/pool/         where an image or a device is mounted
//! ```
//!
//! A pool is an *image* that loom makes, a *device* that loom formats, or a *directory* on a btrfs that is there. It is
//! mounted when loomd starts, unless it is already, and stays so when loomd stops: containers run on. `pool.path` in
//! the configuration names a directory too, and needs no record.
//!
//! A pool comes to be in this order, so that a crash leaves all of it or nothing:
//!
//! | step                                             | what a start makes of it behind a crash |
//! |--------------------------------------------------|-----------------------------------------|
//! | the record, which says that it is being made      | nothing is there yet: the record goes   |
//! | the file and the filesystem in it; it is mounted  | unmounted and removed, then the record  |
//! | the record, which says that it is made            | it is the pool                          |
//! | layers may lie there                              |                                         |
//!
//! **An image never meets a full host.** The filesystem in it spans only bytes that its host has really given to the
//! file. A thread (`watch`) gives it more ahead of what is written, up to its size, as long as the host keeps its
//! reserve. So what a full host means to a container is at most an ordinary "no space left", never an error of the
//! device that would turn the pool read-only. Bytes of the image that a copy or a snapshot of the host's has too lie on
//! none of its own, and get some again (`shared`). While the host has less than the reserve, no branch is made
//! ([`Pool::admit`]): a branch holds on to bytes that its source goes on to write anew.

mod image;
mod mount;
mod program;
mod record;
mod shared;
mod space;
mod watch;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, Mode, OFlags};

use self::image::Image;
use self::mount::Mounted;
use self::record::{Kind, Record};
use self::space::Host;
use crate::bytes::{Bytes, about};
use crate::config;
use crate::error::{Error, Result};
use crate::fault;
use crate::store::Id;

/// A size that `auto` means, at least and at most.
const AUTO: (u64, u64) = (5 << 30, 30 << 30);
/// The least that an image can be.
const SMALLEST: u64 = 256 << 20;
/// The reserve that is kept unless told otherwise; a tenth of the host's filesystem where that is less.
const RESERVE: u64 = 1 << 30;
/// A pool that has less than this left is full: a branch takes metadata, and what frees space does too.
const FULL: u64 = 16 << 20;

/// What a pool is to be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Make {
    /// An image in the root that may grow to so many bytes; none for a fifth of what is free, 5 to 30 GiB.
    Image(Option<u64>),
    /// A block device without a filesystem.
    Device(PathBuf),
    /// A directory on a btrfs.
    Directory(PathBuf),
}

/// What is told of a pool. All numbers are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its directory.
    pub path: PathBuf,
    /// `image`, `device` or `directory`.
    pub kind: &'static str,
    /// The image's file, or the device.
    pub source: Option<PathBuf>,
    /// What it may hold.
    pub size: u64,
    /// What it holds.
    pub used: u64,
    /// What it has left.
    pub free: u64,
    /// Of an image: how its host stands to it.
    pub host: Option<OnHost>,
    /// Why no branch is made now.
    pub refuses: Option<String>,
}

/// How the filesystem that an image lies on stands to it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnHost {
    /// What it has given to the image.
    pub allocated: u64,
    /// What it has left.
    pub free: u64,
    /// What it is to keep.
    pub reserve: u64,
}

/// The pool of a root, made or not.
#[derive(Debug)]
pub struct Pool {
    root: PathBuf,
    /// As configured.
    reserve: Option<u64>,
    /// The pool, once there is one. It is never another.
    made: Mutex<Option<Arc<Made>>>,
    /// Held while the pool is made or its size changes.
    changing: Mutex<()>,
    alarm: Arc<watch::Alarm>,
    /// The bytes of the image that another file has too.
    owed: AtomicU64,
}

/// A pool that is mounted.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    kind: Kind,
    /// Its directory, by which the filesystem is asked.
    on: OwnedFd,
}

impl Pool {
    /// Finds what the pool of a root is, and mounts it where it is not. Puts right what a crash left.
    pub fn open(root: &Path, config: &config::Pool) -> Result<Arc<Self>> {
        std::fs::create_dir_all(root).map_err(Error::io("create", root))?;
        let root = root.canonicalize().map_err(Error::io("open", root))?;
        let pool = Arc::new(Self {
            root,
            reserve: config.reserve.map(|Bytes(bytes)| bytes),
            made: Mutex::default(),
            changing: Mutex::default(),
            alarm: Arc::default(),
            owed: AtomicU64::default(),
        });
        let made = match (&config.path, Record::read(&pool.root)?) {
            (path, Some(record)) if !record.made => {
                if let Err(error) = pool.clear(&record) {
                    tracing::error!(%error, "a pool that was not finished cannot be removed; it is tried again");
                }
                path.as_deref().map(Made::configured).transpose()?
            }
            (Some(path), None) => Some(Made::configured(path)?),
            (Some(path), Some(record)) => Some(pool.same(path, &record)?),
            (None, Some(record)) => Some(pool.mounted(&record)?),
            (None, None) => None,
        };
        if let Some(made) = made {
            pool.set(made)?;
        }
        Ok(pool)
    }

    /// Its directory, where there is one.
    pub fn path(&self) -> Option<PathBuf> {
        self.made().map(|made| made.path.clone())
    }

    /// Makes the pool. `ready` looks at its directory before it is the pool for good; where that fails, or a step
    /// before it, nothing stays.
    pub fn create<T>(self: &Arc<Self>, make: &Make, ready: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let _changing = self.changing();
        if let Some(made) = self.made() {
            return Err(Error::precondition(
                format!("root {}", self.root.display()),
                format!("it has a pool at {}; `loom pool grow` makes an image larger", made.path.display()),
            ));
        }
        if let Some(left) = Record::read(&self.root)? {
            self.clear(&left)?;
        }
        let record = self.plan(make)?;
        fault::point("pool.create.record")?;
        record.write(&self.root)?;
        let built = self.build(&record).and_then(|made| {
            let answer = ready(&made.path)?;
            fault::point("pool.create.made")?;
            Record { made: true, ..record.clone() }.write(&self.root)?;
            Ok((made, answer))
        });
        match built {
            Ok((pool, answer)) => {
                self.set(pool)?;
                Ok(answer)
            }
            Err(error) => {
                if let Err(left) = self.clear(&record) {
                    tracing::warn!(error = %left, "what is left of a pool that was not made goes at the next start");
                }
                Err(error)
            }
        }
    }

    /// Lets the image grow to a larger size.
    pub fn grow(&self, size: u64) -> Result<()> {
        let _changing = self.changing();
        let wrong = |why: String| Error::precondition(format!("the pool of {}", self.root.display()), why);
        let made = self.made().ok_or_else(|| wrong("there is none; `loom pool create` makes one".into()))?;
        let Some(record) = Record::read(&self.root)?.filter(|record| record.made) else {
            return Err(wrong(format!("it is the directory {} of the configuration", made.path.display())));
        };
        let Kind::Image { size: before } = record.kind else {
            return Err(wrong(format!(
                "it is no image but a {}, and has that one's size",
                record.kind.word()
            )));
        };
        let asked = Bytes(size);
        let size = space::whole(size);
        if size <= before {
            return Err(Error::invalid(
                format!("size {asked}"),
                format!("the pool may grow to {} already; name a larger size", about(before)),
            ));
        }
        fault::point("pool.grow.record")?;
        let record = Record { kind: Kind::Image { size }, ..record };
        record.write(&self.root)?;
        *self.lock() = Some(Arc::new(Made::of(&record, made.path.clone())?));
        self.alarm.ring();
        Ok(())
    }

    /// What the pool is and how full; None where there is none.
    pub fn seen(&self) -> Result<Option<Seen>> {
        let Some(made) = self.made() else { return Ok(None) };
        let held = space::held(&made.on).map_err(Error::io("inspect pool", &made.path))?;
        let image = Image::of(&self.root);
        let mut seen = Seen {
            path: made.path.clone(),
            kind: made.kind.word(),
            source: None,
            size: held.size,
            used: held.used,
            free: held.free,
            host: None,
            refuses: self.refuses(),
        };
        match &made.kind {
            Kind::Image { size } => {
                let host = self.host()?;
                let room = host.room();
                seen.source = Some(image.file().to_owned());
                // What it spans now is not what it may hold.
                seen.size = (*size).max(held.size);
                seen.free = (held.free + room).min(seen.size.saturating_sub(seen.used));
                let allocated = image.allocated()?;
                seen.host = Some(OnHost { allocated, free: host.free, reserve: host.reserve });
            }
            Kind::Device { device } => seen.source = Some(device.clone()),
            Kind::Directory { .. } => {}
        }
        Ok(Some(seen))
    }

    /// Refuses a branch while it could take what running containers need.
    pub fn admit(&self) -> Result<()> {
        self.refuses().map_or(Ok(()), |why| Err(Error::NoRoom(why)))
    }

    /// Why no branch is made now. What cannot be asked is no reason.
    fn refuses(&self) -> Option<String> {
        let made = self.made()?;
        if let Kind::Image { size } = made.kind {
            let host = self.host().ok()?;
            if host.free < host.reserve.saturating_add(host.owed) {
                let owed = if host.owed == 0 {
                    String::new()
                } else {
                    let owed = about(host.owed);
                    format!(
                        " and {owed} for what another file, a copy or a snapshot of it, has of the pool's image"
                    )
                };
                return Some(format!(
                    "{} has {} left, less than the reserve of {}{owed} that is kept for what runs; free some space \
                     there, remove containers or snapshots, or set a smaller pool.reserve",
                    self.root.display(),
                    about(host.free),
                    about(host.reserve)
                ));
            }
            let space = space::of(&made.on).ok()?;
            return space.is_full(size, host.room()).then(|| {
                let why = if space.span >= size {
                    format!("it holds the {} that it may; `loom pool grow` gives it more", about(size))
                } else {
                    format!("{} has nothing more for it; free some space there", self.root.display())
                };
                format!("the pool is full: {why}, or remove containers or snapshots")
            });
        }
        let held = space::held(&made.on).ok()?;
        (held.free < FULL).then(|| {
            format!("the pool {} is full; remove containers or snapshots, or enlarge it", made.path.display())
        })
    }

    /// Starts the thread that keeps an image ahead of what is written; once there is one, it is enough.
    fn set(self: &Arc<Self>, made: Made) -> Result<()> {
        let image = matches!(made.kind, Kind::Image { .. });
        *self.lock() = Some(Arc::new(made));
        if image { watch::start(self) } else { Ok(()) }
    }

    /// What is to be made, where it can be.
    fn plan(&self, make: &Make) -> Result<Record> {
        let kind = match make {
            Make::Image(size) => {
                let image = Image::of(&self.root);
                image.check()?;
                let host = self.host()?;
                let room = host.room();
                let size = space::whole(size.unwrap_or_else(|| (host.free / 5).clamp(AUTO.0, AUTO.1)));
                if size < SMALLEST {
                    return Err(Error::invalid(
                        format!("size {}", Bytes(size)),
                        format!("a pool needs {} at least", about(SMALLEST)),
                    ));
                }
                // An explicit size may be more than there is now: it is what the image grows to.
                let least = if *make == Make::Image(None) { AUTO.0 } else { SMALLEST };
                if room < least {
                    return Err(Error::NoRoom(format!(
                        "{} has {} left, and a pool there needs {} beside the reserve of {}; free some space, or \
                         give it a device with `loom pool create --device`",
                        self.root.display(),
                        about(host.free),
                        about(least),
                        about(host.reserve)
                    )));
                }
                Kind::Image { size }
            }
            Make::Device(device) => {
                mount::check_device(device)?;
                Kind::Device { device: device.clone() }
            }
            Make::Directory(path) => {
                let path = path.canonicalize().map_err(Error::io("open", path))?;
                Kind::Directory { path }
            }
        };
        let uuid = match &kind {
            Kind::Directory { path } => mount::uuid_of(&open_directory(path)?, path)?,
            Kind::Image { .. } | Kind::Device { .. } => record::uuid(Id::random()?),
        };
        Ok(Record { version: record::VERSION, made: false, uuid, kind })
    }

    /// Makes the filesystem and mounts it.
    fn build(&self, record: &Record) -> Result<Made> {
        let image = Image::of(&self.root);
        match &record.kind {
            Kind::Image { size } => {
                let host = self.host()?;
                let span = space::first(*size, host.room());
                image.make(span, &record.uuid)?;
                image.mount(&self.place(), &record.uuid)?;
            }
            Kind::Device { device } => {
                fault::point("pool.create.device")?;
                mount::format(device, &record.uuid)?;
                mount::mount_device(device, &self.place(), &record.uuid, mount::DEVICE)?;
            }
            Kind::Directory { .. } => {}
        }
        Made::of(record, self.directory(record))
    }

    /// The pool of a record, mounted.
    fn mounted(&self, record: &Record) -> Result<Made> {
        let place = self.place();
        match (&record.kind, mount::at(&place, &record.uuid)?) {
            (Kind::Image { .. }, Mounted::Ours(device)) => Image::of(&self.root).adopt(&device, &place)?,
            (Kind::Image { .. }, Mounted::No) => Image::of(&self.root).mount(&place, &record.uuid)?,
            (Kind::Device { .. }, Mounted::Ours(_)) | (Kind::Directory { .. }, _) => {}
            (Kind::Device { device }, Mounted::No) => {
                mount::mount_device(device, &place, &record.uuid, mount::DEVICE)?;
            }
            (_, Mounted::Other(what)) => {
                return Err(Error::Config(format!(
                    "{} is where the pool belongs, and {what} is mounted there; unmount that, and start loomd again",
                    place.display()
                )));
            }
        }
        let path = self.directory(record);
        if let Kind::Directory { .. } = record.kind
            && !mount::is_on(&path, &record.uuid)
        {
            return Err(Error::Config(format!(
                "the pool {} is not on the btrfs {} on which it was made; mount that there, and start loomd again",
                path.display(),
                record.uuid
            )));
        }
        Made::of(record, path)
    }

    /// The pool that both the configuration and the record name.
    fn same(&self, path: &Path, record: &Record) -> Result<Made> {
        let made = self.mounted(record)?;
        if path.canonicalize().is_ok_and(|path| path == made.path) {
            return Ok(made);
        }
        Err(Error::Config(format!(
            "pool.path is {}, but the pool of {} was made by `loom pool create`, at {}; take pool.path out of the \
             configuration",
            path.display(),
            self.root.display(),
            made.path.display()
        )))
    }

    /// Removes what there is of a pool that was not finished, and its record last.
    fn clear(&self, record: &Record) -> Result<()> {
        let place = self.place();
        match &record.kind {
            Kind::Image { .. } => {
                mount::unmount(&place, &record.uuid)?;
                Image::of(&self.root).remove()?;
            }
            Kind::Device { device } => {
                mount::unmount(&place, &record.uuid)?;
                mount::wipe(device, &record.uuid)?;
            }
            Kind::Directory { .. } => {}
        }
        fault::point("pool.clear.record")?;
        Record::remove(&self.root)
    }

    /// Where an image or a device is mounted.
    fn place(&self) -> PathBuf {
        self.root.join("pool")
    }

    fn directory(&self, record: &Record) -> PathBuf {
        match &record.kind {
            Kind::Image { .. } | Kind::Device { .. } => self.place(),
            Kind::Directory { path } => path.clone(),
        }
    }

    /// The filesystem that the root, and with it an image, lies on.
    fn host(&self) -> Result<Host> {
        let owed = self.owed.load(Ordering::Relaxed);
        space::host(&self.root, self.reserve, owed).map_err(Error::io("inspect", &self.root))
    }

    fn made(&self) -> Option<Arc<Made>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Made>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Its thread waits for nothing else.
        self.alarm.ring();
    }
}

impl Made {
    fn of(record: &Record, path: PathBuf) -> Result<Self> {
        let on = open_directory(&path)?;
        Ok(Self { path, kind: record.kind.clone(), on })
    }

    /// The directory that the configuration names. What it must be `Layers` says.
    fn configured(path: &Path) -> Result<Self> {
        let missing = |_| {
            Error::Config(format!(
                "pool {}: it does not exist; create it and mount a btrfs there, or unset pool.path",
                path.display()
            ))
        };
        let path = path.canonicalize().map_err(missing)?;
        let on = open_directory(&path)?;
        Ok(Self { kind: Kind::Directory { path: path.clone() }, path, on })
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOTDIR) => Err(Error::Config(format!(
            "pool {}: it is not a directory; name the directory where a btrfs is mounted",
            path.display()
        ))),
        opened => opened.map_err(Error::io("open pool", path)),
    }
}
