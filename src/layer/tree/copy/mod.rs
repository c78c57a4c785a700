//! A second tree with everything that a layer can hold, made in rounds while the first is written to.
//!
//! ```text
//!  begin ── flush ── round ── round ── … ── (the source stands still) ── last round
//!                      └──────── Record: what each name was when it was copied ──┘
//! ```
//!
//! Each round walks the whole source and looks at every inode, without opening it. What is not what the record says
//! is copied anew, what is gone is removed, and a directory in which something changed gets its attributes again.
//! So the last round makes the copy what the source is then, whatever happened in between: renames, deletions,
//! links, and times that were set back, since the time of an inode's last change is the kernel's own.
//!
//! That time shows a change made after a file was copied only if the file is *settled*:
//!
//! - A change is stamped with the last tick of the clock, and may have come in the same tick as the copy.
//! - A change is stamped when it begins, and may come a while later: the bytes of a request of direct I/O.
//! - A store to a mapped page is stamped when the page is first written to after it was written out. So what
//!   changed before the flush shows every later change, and what changed behind it is written out by itself.
//!
//! What is not settled is copied again by the last round whether or not it looks changed.
//!
//! The target is new and only we write to it. A directory gets its attributes when every name in it is there: its
//! times would change, and a default ACL would be inherited. The first name of a file with several is linked into a
//! `stage` directory too, as a number, so that the others, in later rounds too, need neither its path nor an open
//! descriptor.

mod crew;
mod directory;
mod links;
mod put;
mod record;

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use self::directory::Task;
use self::links::Links;
pub(super) use self::record::Inode;
use self::record::Record;
use crate::error::{Error, Result};
use crate::fault;
use crate::store::Time;

/// The longest that a change may come behind its stamp, once the call that makes it has come back ([`put`] waits for
/// that): what the kernel was told to write while it does other things.
const LATE: Duration = Duration::from_secs(1);
/// A clock that lost more than this, in nanoseconds, was set back.
const SET_BACK: i64 = 100_000_000;
/// Rounds while the source is written to, at most.
const ROUNDS: u32 = 8;
/// What a round takes when there is no use in another: little changes meanwhile.
const SHORT: Duration = Duration::from_millis(10);

/// A copy of a tree in the making.
pub(in crate::layer) struct Copy {
    source: OwnedFd,
    target: OwnedFd,
    /// The source's path, for messages.
    at: PathBuf,
    reflink: bool,
    /// False once a file was copied that does not share its extents with the source's.
    shared: AtomicBool,
    record: Mutex<Record>,
    links: Links,
    /// What changed before it is written out.
    flushed: Time,
    late: Duration,
    round: u32,
    /// The clock by which changes are stamped, as it went from another at first: below, it was set back.
    clock: i64,
    /// It was set back: no record of what is settled counts.
    set_back: bool,
    /// The source stands still: what is not settled is copied, and nothing changes behind that.
    last: bool,
}

impl Copy {
    /// Begins a copy of the tree below `source` into the empty directory `target`. `stage` is an empty directory
    /// beside it, which may be left with something in it. `at` is the source's path, for messages.
    pub(in crate::layer) fn new(
        source: OwnedFd,
        target: OwnedFd,
        stage: OwnedFd,
        at: &Path,
        reflink: bool,
    ) -> Self {
        Self {
            source,
            target,
            at: at.to_path_buf(),
            reflink,
            shared: AtomicBool::new(true),
            record: Mutex::new(Record::new()),
            links: Links::new(stage),
            flushed: Time(i64::MIN),
            late: LATE,
            round: 0,
            clock: i64::MAX,
            set_back: false,
            last: false,
        }
    }

    /// Copies while the source is written to, until there is little left to do. `flush` writes out what is dirty of
    /// the source's filesystem.
    pub(in crate::layer) fn rounds(&mut self, flush: impl FnOnce() -> Result<()>) -> Result<()> {
        self.clock = clock();
        self.flushed = self.long_ago();
        flush()?;
        let mut before = Duration::MAX;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            self.again()?;
            let took = began.elapsed();
            // What changes in a round is what the next one has to do: it ends where that grows no smaller.
            if took < SHORT || took > before / 4 * 3 {
                break;
            }
            before = took;
        }
        Ok(())
    }

    /// Copies what has changed since the last round.
    pub(in crate::layer) fn again(&mut self) -> Result<()> {
        fault::point("layer.copy.round")?;
        self.walk()
    }

    /// Copies what has changed; the source stands still, and the copy is whole then. Answers true where every file
    /// shares its extents with the source's.
    pub(in crate::layer) fn finish(&mut self) -> Result<bool> {
        self.last = true;
        self.set_back = self.round > 0 && clock() < self.clock.saturating_sub(SET_BACK);
        self.walk()?;
        Ok(self.reflink && self.shared.load(Ordering::Relaxed))
    }

    fn walk(&mut self) -> Result<()> {
        self.round += 1;
        let this = &*self;
        crew::work(Task::root(), |task, crew| this.task(task, crew))
    }

    /// The moment before which no change was stamped that is still to come.
    fn long_ago(&self) -> Time {
        Time(now().0.saturating_sub(i64::try_from(self.late.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Changes come no later than their stamps: the tests write by ordinary calls, and do not wait long.
    #[cfg(test)]
    pub(in crate::layer) fn at_once(mut self) -> Self {
        self.late = Duration::ZERO;
        self
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong at a name in a directory.
    fn wrong(&self, number: usize, name: &CStr, e: io::Error) -> Error {
        Error::io::<io::Error>("copy", self.path(number, name))(e)
    }

    /// The path of a name in a directory, for messages; of the directory where the name is empty.
    fn path(&self, number: usize, name: &CStr) -> PathBuf {
        let above = self.record().names(0, number);
        let names = above.iter().map(|name| name.as_c_str()).chain([name]);
        let mut path = self.at.clone();
        path.extend(names.filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name.to_bytes())));
        path
    }
}

/// The time of the last tick, by which changes are stamped.
/// The clock by which changes are stamped, less one that is never set.
fn clock() -> i64 {
    let steady = clock_gettime(ClockId::Monotonic);
    now().0.saturating_sub(steady.tv_sec.saturating_mul(1_000_000_000).saturating_add(steady.tv_nsec))
}

fn now() -> Time {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    Time(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
}
