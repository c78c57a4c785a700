//! One directory of the source, compared with what the record says of it.
//!
//! Directories are tasks of their own, and the names in a large one are several, so that all threads have something
//! to do whatever shape the tree has. A directory is opened beneath the nearest one above it that is open; which
//! of those that wait for others stay open is chosen so that neither the number of descriptors nor the way to a
//! directory grows with the depth of a tree.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::super::attributes::{self, Attributes};
use super::super::{READ, directory, is_directory, pin, remove, status, vanished};
use super::Copy;
use super::crew::Crew;
use super::record::{Entries, Entry, Seen};
use crate::error::{Error, Result};
use crate::fault;

/// Names that are one task.
const PART: usize = 256;
/// Directories in a row that all stay open while others below them wait; deeper down it is one in so many more.
const NEAR: usize = 16;
/// Bytes of a path that is resolved at once, at most: a page has to hold it, with one name more.
const FAR: usize = 3500;

/// A part of the work.
pub(super) enum Task {
    /// A directory, beneath one that is open or the root.
    Directory { number: usize, near: Option<Arc<Open>> },
    /// Names in one.
    Names { of: Arc<Open>, names: Vec<Listed> },
}

/// A name as the source's directory tells it.
pub(super) struct Listed {
    inode: u64,
    kind: FileType,
    name: CString,
}

/// A directory that is being compared, or whose directories are.
pub(super) struct Open {
    number: usize,
    depth: usize,
    /// The nearest one above it that stays open.
    near: Option<Arc<Open>>,
    source: OwnedFd,
    found: Statx,
    /// What it was when the copy got its attributes.
    known: Option<Seen>,
    settled: bool,
    /// We have made it in this round, with nothing of its own.
    new: bool,
    old: Entries,
    work: Mutex<Work>,
}

struct Work {
    /// Opened where something is to be changed in it.
    target: Option<Arc<OwnedFd>>,
    changed: bool,
    entries: Entries,
    /// The parts that are not done.
    parts: usize,
}

impl Task {
    pub(super) fn root() -> Self {
        Self::Directory { number: 0, near: None }
    }
}

impl Open {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stays open for the directories in this one.
    fn near(self: &Arc<Self>) -> Option<Arc<Self>> {
        if self.depth.is_multiple_of(self.depth / NEAR + 1) {
            Some(Arc::clone(self))
        } else {
            self.near.clone()
        }
    }
}

impl Copy {
    pub(super) fn task(&self, task: Task, crew: &Crew<Task, Error>) -> Result<()> {
        match task {
            Task::Directory { number, near } => self.directory(number, near, crew),
            Task::Names { of, names } => self.part(&of, &names, crew),
        }
    }

    fn directory(&self, number: usize, near: Option<Arc<Open>>, crew: &Crew<Task, Error>) -> Result<()> {
        let wrong = |e: io::Error| self.wrong(number, c"", e);
        let source = match self.open(number, near.as_deref()) {
            Ok(source) => source,
            // It is no longer there: the next round finds what became of it.
            Err(e) if vanished(e) => return Ok(()),
            Err(e) => return Err(wrong(e.into())),
        };
        let before = self.long_ago();
        let found = status(source.as_fd()).map_err(|e| wrong(e.into()))?;
        let names = list(source.as_fd()).map_err(|e| wrong(e.into()))?;
        let mut record = self.record();
        let Some(known) = record.get(number) else { return Ok(()) };
        let open = Arc::new(Open {
            number,
            depth: known.depth,
            near,
            source,
            known: known.seen,
            new: !known.made && number != 0,
            settled: Seen::of(&found).changed_before(before),
            found,
            old: std::mem::take(&mut known.entries),
            work: Mutex::new(Work {
                target: None,
                changed: false,
                entries: Entries::with_capacity(names.len()),
                parts: names.len().div_ceil(PART).max(1),
            }),
        });
        drop(record);
        if names.len() <= PART {
            return self.part(&open, &names, crew);
        }
        let mut names = names.into_iter();
        crew.add(std::iter::from_fn(|| {
            let part: Vec<Listed> = names.by_ref().take(PART).collect();
            (!part.is_empty()).then(|| Task::Names { of: Arc::clone(&open), names: part })
        }));
        Ok(())
    }

    /// Deals with some of the names in a directory, and where they are the last ones, with the directory.
    fn part(&self, open: &Arc<Open>, names: &[Listed], crew: &Crew<Task, Error>) -> Result<()> {
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            fault::point("layer.copy.entry")?;
            let entry = self.name(open, name)?;
            entries.extend(entry.map(|entry| (name.name.clone(), entry)));
        }
        let mut work = open.work();
        work.entries.extend(entries);
        work.parts -= 1;
        if work.parts > 0 {
            return Ok(());
        }
        drop(work);
        let directories = self.close(open)?;
        let near = open.near();
        crew.add(directories.into_iter().map(|number| Task::Directory { number, near: near.clone() }));
        Ok(())
    }

    /// Makes a name in the copy what it is in the source; none where it is no longer there.
    fn name(&self, open: &Open, name: &Listed) -> Result<Option<Entry>> {
        let wrong = |e: io::Error| self.wrong(open.number, &name.name, e);
        let old = open.old.get(&name.name).copied();
        let (pinned, found) = match self.look(open, name, old).map_err(wrong)? {
            Look::Same(entry) => return Ok(entry),
            Look::Other(pinned, found) => (pinned, found),
        };
        let target = self.change(open).map_err(wrong)?;
        if let Some(old) = old {
            self.take_away(open, target.as_fd(), &name.name, old)?;
        }
        if is_directory(&found) {
            rustix::fs::mkdirat(&target, &name.name, Mode::RWXU).map_err(|e| wrong(e.into()))?;
            return Ok(Some(Entry::Directory(self.record().add(open.number, &name.name))));
        }
        self.put(pinned.as_fd(), &found, target.as_fd(), &name.name).map(Some).map_err(wrong)
    }

    fn look(&self, open: &Open, Listed { kind, name, .. }: &Listed, old: Option<Entry>) -> io::Result<Look> {
        match old {
            // What it is shows when it is opened.
            Some(Entry::Directory(_)) if *kind == FileType::Directory => return Ok(Look::Same(old)),
            Some(Entry::Other { seen, settled }) if self.stays(&seen, settled) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
                let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
                match rustix::fs::statx(&open.source, name, flags, wanted) {
                    Ok(found) if Seen::of(&found) == seen => return Ok(Look::Same(old)),
                    Ok(_) => {}
                    Err(e) if vanished(e) => return Ok(Look::Same(None)),
                    Err(e) => return Err(e.into()),
                }
            }
            _ => {}
        }
        let pinned = match pin(open.source.as_fd(), name) {
            Ok(pinned) => pinned,
            Err(e) if vanished(e) => return Ok(Look::Same(None)),
            Err(e) => return Err(e.into()),
        };
        let found = status(pinned.as_fd())?;
        match old {
            Some(Entry::Directory(_)) if is_directory(&found) => Ok(Look::Same(old)),
            _ => Ok(Look::Other(pinned, found)),
        }
    }

    /// Has dealt with all names in a directory; answers the directories in it.
    fn close(&self, open: &Open) -> Result<Vec<usize>> {
        let wrong = |e: io::Error| self.wrong(open.number, c"", e);
        let entries = std::mem::take(&mut open.work().entries);
        for (name, old) in open.old.iter().filter(|(name, _)| !entries.contains_key(*name)) {
            let target = self.change(open).map_err(wrong)?;
            self.take_away(open, target.as_fd(), name, *old)?;
        }
        let seen = Seen::of(&open.found);
        if open.work().changed || open.known != Some(seen) {
            self.dress(open).map_err(wrong)?;
        }
        let directories = entries.values().filter_map(|entry| match entry {
            Entry::Directory(number) => Some(*number),
            Entry::Other { .. } => None,
        });
        let directories = directories.collect();
        if let Some(known) = self.record().get(open.number) {
            known.entries = entries;
            known.seen = open.settled.then_some(seen);
            known.made = true;
        }
        Ok(directories)
    }

    /// Gives the copy of a directory its attributes.
    fn dress(&self, open: &Open) -> io::Result<()> {
        let target = self.target(open)?;
        let attributes = Attributes::of_open(open.source.as_fd(), open.found)?;
        if open.new { attributes.set_open(target.as_fd()) } else { attributes.replace_open(target.as_fd()) }
    }

    /// Removes a name from the copy.
    fn take_away(&self, open: &Open, target: BorrowedFd<'_>, name: &CStr, old: Entry) -> Result<()> {
        match old {
            Entry::Other { .. } => rustix::fs::unlinkat(target, name, AtFlags::empty())
                .map_err(|e| self.wrong(open.number, name, e.into())),
            Entry::Directory(number) => {
                self.record().forget(number);
                remove(target, name, &self.path(open.number, name))
            }
        }
    }

    /// The copy of a directory, in which something is to be changed.
    fn change(&self, open: &Open) -> io::Result<Arc<OwnedFd>> {
        let target = self.target(open)?;
        let mut work = open.work();
        if !work.changed && !open.new {
            // What is made in it would inherit this.
            attributes::remove(target.as_fd(), OsStr::new("system.posix_acl_default"))?;
        }
        work.changed = true;
        Ok(target)
    }

    /// The copy of a directory.
    fn target(&self, open: &Open) -> io::Result<Arc<OwnedFd>> {
        let mut work = open.work();
        if let Some(target) = &work.target {
            return Ok(Arc::clone(target));
        }
        let names = self.record().names(open.near.as_ref().map_or(0, |near| near.number), open.number);
        let target = Arc::new(match &open.near {
            Some(near) => beneath(self.target(near)?.as_fd(), &names)?,
            None => beneath(self.target.as_fd(), &names)?,
        });
        work.target = Some(Arc::clone(&target));
        Ok(target)
    }

    /// Opens a directory of the source.
    fn open(&self, number: usize, near: Option<&Open>) -> rustix::io::Result<OwnedFd> {
        let (from, at) = near.map_or((0, self.source.as_fd()), |near| (near.number, near.source.as_fd()));
        let names = self.record().names(from, number);
        beneath(at, &names)
    }
}

/// What a name turned out to be.
enum Look {
    /// What it was; none where it is no longer there.
    Same(Option<Entry>),
    /// Something else.
    Other(OwnedFd, Statx),
}

/// Opens the directory at the end of these names, through no link.
fn beneath(at: BorrowedFd<'_>, names: &[CString]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut opened = directory(at, names.first().map_or(c".", |name| name))?;
    let mut path = Vec::new();
    for (number, name) in names.iter().enumerate().skip(1) {
        path.extend_from_slice(name.to_bytes());
        if path.len() >= FAR || number + 1 == names.len() {
            opened = rustix::fs::openat2(&opened, path.as_slice(), flags, Mode::empty(), within)?;
            path.clear();
        } else {
            path.push(b'/');
        }
    }
    Ok(opened)
}

/// The names in a directory, each once, in the order in which their inodes lie on disk.
fn list(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Listed>> {
    let mut buffer = vec![MaybeUninit::uninit(); READ];
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // The directory itself was removed.
            Err(Errno::NOENT) => break,
            Err(e) => return Err(e),
        };
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(Listed { inode: entry.ino(), kind: entry.file_type(), name: name.to_owned() });
        }
    }
    // A directory that changes while it is read may show one name twice.
    names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    names.dedup_by(|one, other| one.name == other.name);
    names.sort_unstable_by_key(|name| name.inode);
    Ok(names)
}
