//! Whether an overlay, of whatever mount namespace, writes to a layer.
//!
//! Mount tables do not tell: an overlay that was detached is in none of them while a file of it is open, and
//! tables of processes that we cannot see are no use. The kernel knows, and answers an overlay that has the layer
//! as a lower with EBUSY while another one has it as its upper, if that overlay is to keep an index. So one is
//! made, over a scratch directory, and given up at once; it never is mounted, and leaves nothing on the layer.
//!
//! Where the filesystem cannot hold an index the kernel goes on without one and says nothing. So what it answers
//! is tried at open, on a layer of which we know; where it does not tell, nothing is ever sealed as it lies.
//!
//! It does not know of binds, nor of the second of two overlays on one upper whose first has gone: mount tables
//! are looked at too.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsopen};

use super::tree;
use crate::error::{Error, Result};
use crate::fault;

/// What is beside `layers/` while it is asked.
const SCRATCH: &CStr = c"probe";
/// What an overlay keeps in step with its lowers: the question.
const ASKING: [(&str, &str); 3] = [("index", "on"), ("redirect_dir", "off"), ("metacopy", "off")];
/// As layers are mounted.
const MOUNTED: [(&str, &str); 3] = [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")];

/// Asks the kernel.
#[derive(Debug)]
pub(super) struct Probe {
    /// The directory of the home that layers are asked about.
    home: OwnedFd,
    path: PathBuf,
    /// One scratch directory, one question at a time.
    turn: Mutex<()>,
}

impl Probe {
    /// One for the layers in the home at `path`; an error says why the kernel's answers mean nothing here.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let home = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(Error::io("open", path))?;
        let probe = Self { home, path: path.to_path_buf(), turn: Mutex::default() };
        if probe.tells()? {
            return Ok(probe);
        }
        Err(Error::precondition(
            format!("the filesystem of {}", path.display()),
            "the kernel does not tell there whether an overlay is mounted on a directory",
        ))
    }

    /// True where one of these directories, a layer's tree or what overlay keeps beside it, is written to by an
    /// overlay.
    pub(super) fn in_use(&self, directories: &[BorrowedFd<'_>]) -> Result<bool> {
        fault::point("layer.probe")?;
        self.with_scratch(|scratch| asked(scratch, c"question", directories))
    }

    /// Tries it on a layer that is free, and then mounted.
    fn tells(&self) -> Result<bool> {
        self.with_scratch(|scratch| {
            let base = make(scratch, c"base")?;
            let (fs, work) = (make(scratch, c"fs")?, make(scratch, c"work")?);
            let each = |tree, beside| {
                Ok::<_, Errno>([
                    asked(scratch, tree, &[fs.as_fd()])?,
                    asked(scratch, beside, &[work.as_fd()])?,
                ])
            };
            let free = each(c"1", c"2")?;
            // As one that was detached: it is in no mount table.
            let _overlay = overlay(&[base.as_fd()], fs.as_fd(), work.as_fd(), MOUNTED)?;
            let mounted = each(c"3", c"4")?;
            Ok((free, mounted) == ([false; 2], [true; 2]))
        })
    }

    /// Runs `ask` with an empty directory, of which nothing stays.
    fn with_scratch<T>(&self, ask: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<T>) -> Result<T> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.path.join("probe");
        tree::remove(self.home.as_fd(), SCRATCH, &at)?;
        let scratch = make(self.home.as_fd(), SCRATCH).map_err(Error::io("create", &at))?;
        let answer = ask(scratch.as_fd()).map_err(Error::io("ask for overlays by", &at));
        tree::remove(self.home.as_fd(), SCRATCH, &at)?;
        answer
    }
}

/// Asks once, in a directory of its own: an upper remembers its lowers.
fn asked(scratch: BorrowedFd<'_>, name: &CStr, directories: &[BorrowedFd<'_>]) -> rustix::io::Result<bool> {
    let own = make(scratch, name)?;
    let (upper, work) = (make(own.as_fd(), c"upper")?, make(own.as_fd(), c"work")?);
    match overlay(directories, upper.as_fd(), work.as_fd(), ASKING) {
        Ok(_) => Ok(false),
        Err(Errno::BUSY) => Ok(true),
        Err(e) => Err(e),
    }
}

fn make(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    tree::directory(parent, name)
}

/// An overlay that is mounted nowhere; it goes with its descriptor.
fn overlay(
    lowers: &[BorrowedFd<'_>],
    upper: BorrowedFd<'_>,
    work: BorrowedFd<'_>,
    options: [(&str, &str); 3],
) -> rustix::io::Result<OwnedFd> {
    // Of any length, and nothing in it means anything else in an option.
    let path = |fd: &BorrowedFd<'_>| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lowers: Vec<String> = lowers.iter().map(path).collect();
    let overlay = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, value) in options {
        fsconfig_set_string(&overlay, option, value)?;
    }
    fsconfig_set_string(&overlay, "lowerdir", lowers.join(":"))?;
    fsconfig_set_string(&overlay, "upperdir", path(&upper))?;
    fsconfig_set_string(&overlay, "workdir", path(&work))?;
    // Else its end would write out everything that is dirty on the filesystem.
    fsconfig_set_flag(&overlay, "volatile")?;
    fsconfig_create(&overlay)?;
    Ok(overlay)
}
