//! The topmost layers of a chain as the tar of one layer of the OCI, on those below.
//!
//! ```text
//! below          topmost                   the tar
//! etc/two        whiteout etc/two          etc/, etc/.wh.two
//! var/log/       var/ (opaque), var/new    var/, var/.wh..wh..opq, var/new
//! lib            lib/ (a directory)        lib/, and what is in it
//! ```
//!
//! An entry is what the topmost layer that has its name says. A name that they deleted has a whiteout only where the
//! layers below show it, and a directory that they replaced is opaque only where those show a directory: unpacked on
//! them it shows what the chain shows. The mark of an opaque directory is the first thing in it, since some unpackers
//! remove what they find when they come to it. Of all layers of a chain nothing is below, so that the tar of them
//! is a plain one.
//!
//! The root has no entry: unpackers leave it as it is. Nor has a socket, which is of no use without the
//! process that listens. Holes are zeros, which are not read from anywhere: few unpackers know sparse files. In
//! a directory come first the files and then the directories, each by the bytes of their names: the same tree
//! is the same tar.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Advice, FileType};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::copy::Inode;
use super::data;
use super::tar::{self, Unfit, What};
use super::union::{Entry, Pinned, View};
use crate::error::{Error, Result};
use crate::fault;

/// What the name of a whiteout begins with.
const WHITEOUT: &[u8] = b".wh.";
/// What says that a directory hides what is below it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bytes that are read at once.
const READ: usize = 256 << 10;
/// How many files of a directory are on their way from the disk while one is written.
const AHEAD: usize = 16;
/// The longest path that a system call takes.
const PATH: usize = 4095;

/// Writes what the topmost `count` layers of a view make of those below. `tell` hears the bytes of files as they are
/// read, and at every name whether it is to go on.
pub(in crate::layer) fn archive(
    view: View,
    count: usize,
    to: &mut dyn Write,
    tell: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let (head, buffer, zeros) = (Vec::new(), vec![0; READ], vec![0; READ]);
    let mut archive = Archive { view, count, to, tell, links: HashMap::new(), head, buffer, zeros };
    archive.walk()?;
    archive.to.write_all(&tar::END).map_err(unwritten)
}

struct Archive<'a> {
    view: View,
    count: usize,
    to: &'a mut dyn Write,
    tell: &'a mut dyn FnMut(u64) -> Result<()>,
    /// Files that have names still to come.
    links: HashMap<Inode, First>,
    /// What comes before the bytes of an entry.
    head: Vec<u8>,
    buffer: Vec<u8>,
    zeros: Vec<u8>,
}

/// The first name of a file with several.
struct First {
    path: Vec<u8>,
    /// Names that have not been seen; some may be hidden.
    left: u32,
}

impl Archive<'_> {
    fn walk(&mut self) -> Result<()> {
        // The directories still to be entered, of each that the view is in.
        let mut ahead = vec![self.files()?];
        while let Some(directories) = ahead.last_mut() {
            if let Some(directory) = directories.pop() {
                if self.directory(&directory)? {
                    ahead.push(self.files()?);
                }
            } else {
                ahead.pop();
                self.view.leave()?;
            }
        }
        Ok(())
    }

    /// Writes everything where the view stands but the directories, which it answers, the last one first.
    fn files(&mut self) -> Result<Vec<Entry>> {
        let mut directories = Vec::new();
        let entries = self.view.list(self.count)?;
        let mut coming = entries.iter();
        coming.by_ref().take(AHEAD).for_each(|entry| self.fetch(entry));
        for entry in &entries {
            fault::point("layer.archive.entry")?;
            (self.tell)(0)?;
            coming.next().into_iter().for_each(|entry| self.fetch(entry));
            match entry.kind {
                Some(FileType::Directory) => directories.push(entry.clone()),
                None | Some(FileType::Socket) => self.hidden(&entry.name)?,
                Some(_) => self.file(entry)?,
            }
        }
        directories.reverse();
        Ok(directories)
    }

    /// Has the kernel read a file ahead: the snapshot of a subvolume has nothing of it in memory, and disks answer
    /// many requests in the time of one. What cannot be had is told when it is read.
    fn fetch(&self, entry: &Entry) {
        if entry.kind == Some(FileType::RegularFile)
            && let Ok(Some(found)) = self.view.find(entry.layer, &entry.name)
            && let Ok(file) = found.open()
        {
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::WillNeed);
        }
    }

    /// Writes that a name is not there, where those below have it.
    fn hidden(&mut self, name: &CStr) -> Result<()> {
        if self.view.find(self.count, name)?.is_some() {
            self.path(name)?;
            self.mark(&[WHITEOUT, name.to_bytes()].concat())?;
        }
        Ok(())
    }

    /// Writes a directory and goes into it; false where it vanished.
    fn directory(&mut self, entry: &Entry) -> Result<bool> {
        let mut path = self.path(&entry.name)?;
        let below = self.view.find(self.count, &entry.name)?;
        if !self.view.enter(&entry.name)? {
            return Ok(false);
        }
        let Some(here) = self.view.here()? else {
            self.view.leave()?;
            return Ok(false);
        };
        let attributes = self.attributes(&here, &entry.name)?;
        path.push(b'/');
        self.head(&path, What::Other(FileType::Directory), &attributes)?;
        let merged = self.view.parts().any(|layer| layer >= self.count);
        if !merged && below.is_some_and(|below| below.kind() == FileType::Directory) {
            self.mark(OPAQUE)?;
        }
        Ok(true)
    }

    /// Writes anything but a directory.
    fn file(&mut self, entry: &Entry) -> Result<()> {
        let path = self.path(&entry.name)?;
        // None: it vanished since its name was read.
        let Some(found) = self.view.find(entry.layer, &entry.name)? else { return Ok(()) };
        let attributes = self.attributes(&found, &entry.name)?;
        if let Some(first) = self.first(&found, &path) {
            return self.head(&path, What::Link(&first), &attributes);
        }
        let wrong = self.view.wrong(found.layer, &entry.name);
        match found.kind() {
            FileType::RegularFile => {
                let size = found.status.stx_size;
                let file = found.open().map_err(&wrong)?;
                self.head(&path, What::File(size), &attributes)?;
                self.data(file.as_fd(), size, &wrong)?;
                self.to.write_all(tar::padding(size)).map_err(unwritten)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&found.fd, c"", Vec::new());
                let target = target.map_err(|e| wrong(e.into()))?;
                self.head(&path, What::Symlink(target.to_bytes()), &attributes)
            }
            kind => self.head(&path, What::Other(kind), &attributes),
        }
    }

    /// The first name of a file of which this is another; else this is its first.
    fn first(&mut self, found: &Pinned, path: &[u8]) -> Option<Vec<u8>> {
        let names = found.status.stx_nlink;
        if names < 2 {
            return None;
        }
        let inode = Inode::of(&found.status);
        let Some(first) = self.links.get_mut(&inode) else {
            self.links.insert(inode, First { path: path.to_vec(), left: names - 1 });
            return None;
        };
        first.left -= 1;
        if first.left > 0 {
            return Some(first.path.clone());
        }
        self.links.remove(&inode).map(|first| first.path)
    }

    /// Writes the bytes of a file.
    fn data(&mut self, file: BorrowedFd<'_>, size: u64, wrong: &dyn Fn(io::Error) -> Error) -> Result<()> {
        let mut at = 0;
        while at < size {
            let Range { start, end } = data::next(file, at, size).map_err(wrong)?.unwrap_or(size..size);
            while at < start {
                (self.tell)(0)?;
                let part = part(&mut self.zeros, start - at);
                self.to.write_all(part).map_err(unwritten)?;
                at += part.len() as u64;
            }
            while at < end {
                let part = part(&mut self.buffer, end - at);
                let read = match rustix::io::pread(file, &mut *part, at) {
                    Ok(0) => Err(io::Error::other("it became shorter while it was read")),
                    Ok(read) => Ok(read),
                    Err(Errno::INTR) => continue,
                    Err(e) => Err(e.into()),
                };
                let read = read.map_err(wrong)?;
                self.to.write_all(part.get(..read).unwrap_or_default()).map_err(unwritten)?;
                at += read as u64;
                (self.tell)(read as u64)?;
            }
        }
        Ok(())
    }

    fn attributes(&self, found: &Pinned, name: &CStr) -> Result<Attributes> {
        found.attributes().map_err(self.view.wrong(found.layer, name))
    }

    /// The path of a name where the view stands; refused where unpackers would take it for something else.
    fn path(&self, name: &CStr) -> Result<Vec<u8>> {
        let mut path = self.view.path().as_os_str().as_bytes().to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        if name.to_bytes().starts_with(WHITEOUT) {
            return Err(unfit(
                &path,
                "a name that begins with \".wh.\": there it says that something was deleted",
            ));
        }
        if path.len() > PATH {
            return Err(unfit(&path, "a path of more than 4,095 bytes"));
        }
        Ok(path)
    }

    /// Writes a mark into the directory where the view stands.
    fn mark(&mut self, name: &[u8]) -> Result<()> {
        let directory = self.view.path().as_os_str().as_bytes();
        let path = if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') };
        self.head.clear();
        tar::mark(&mut self.head, &path);
        self.to.write_all(&self.head).map_err(unwritten)
    }

    fn head(&mut self, path: &[u8], what: What<'_>, attributes: &Attributes) -> Result<()> {
        self.head.clear();
        tar::entry(&mut self.head, path, what, attributes).map_err(|Unfit(why)| unfit(path, &why))?;
        self.to.write_all(&self.head).map_err(unwritten)
    }
}

/// As much of a buffer as is wanted.
fn part(buffer: &mut [u8], wanted: u64) -> &mut [u8] {
    let length = usize::try_from(wanted).map_or(buffer.len(), |wanted| wanted.min(buffer.len()));
    buffer.get_mut(..length).unwrap_or_default()
}

fn unfit(path: &[u8], what: &str) -> Error {
    let path = String::from_utf8_lossy(path);
    Error::precondition(
        format!("file {path:?} of the state"),
        format!("no layer can hold {what}; rename or remove it, and take the state again"),
    )
}

fn unwritten(e: io::Error) -> Error {
    Error::io::<io::Error>("write", "the archive")(e)
}
