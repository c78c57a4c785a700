//! The bytes of regular files.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Bytes that one call is asked to copy: a pause of the walk stays short.
const STEP: u64 = 1 << 30;
/// Bytes of the buffer where the kernel cannot copy by itself.
const BUFFER: usize = 1 << 20;
/// Bytes of each of two files that are compared at once.
const COMPARED: usize = 128 * 1024;

/// Copies `len` bytes with their holes; answers true where the copy shares the source's extents.
pub(super) fn copy(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    len: u64,
    reflink: bool,
) -> io::Result<bool> {
    if reflink {
        match rustix::fs::ioctl_ficlone(target, source) {
            Ok(()) => return Ok(true),
            Err(e @ (Errno::NOSPC | Errno::DQUOT)) => return Err(e.into()),
            // A swap file, a file without checksums beside one that has them, another filesystem.
            Err(_) => {}
        }
    }
    rustix::fs::ftruncate(target, len)?;
    let mut at = 0;
    while let Some(Range { start, end }) = next(source, at, len)? {
        range(source, target, start, end)?;
        at = end;
    }
    Ok(false)
}

/// The next range of a file's first `len` bytes, from `at` on, that is no hole.
pub(super) fn next(file: BorrowedFd<'_>, at: u64, len: u64) -> io::Result<Option<Range<u64>>> {
    if at >= len {
        return Ok(None);
    }
    let start = data(file, at, len)?;
    if start == len {
        // Nothing but a hole is left.
        return Ok(None);
    }
    let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) => end.min(len),
        // Cut shorter by its owner meanwhile, or a filesystem that knows no holes.
        Err(Errno::NXIO | Errno::INVAL) => len,
        Err(e) => return Err(e.into()),
    };
    Ok(Some(start..end.max(start + 1)))
}

/// Copies one range, in the kernel where that works.
fn range(source: BorrowedFd<'_>, target: BorrowedFd<'_>, from: u64, to: u64) -> io::Result<()> {
    let (mut read, mut written) = (from, from);
    while read < to {
        let step = usize::try_from((to - read).min(STEP)).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut read), target, Some(&mut written), step) {
            // Cut shorter by its owner meanwhile.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                return by_hand(source, target, read, to);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn by_hand(source: BorrowedFd<'_>, target: BorrowedFd<'_>, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut at = from;
    while at < to {
        let wanted = usize::try_from(to - at).map_or(BUFFER, |left| left.min(BUFFER));
        let Some(space) = buffer.get_mut(..wanted) else { break };
        let got = match rustix::io::pread(source, &mut *space, at) {
            Ok(0) => break,
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        let mut rest = space.get(..got).unwrap_or_default();
        while !rest.is_empty() {
            match rustix::io::pwrite(target, rest, at) {
                Ok(put) => {
                    rest = rest.get(put..).unwrap_or_default();
                    at += put as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// What two files are compared by.
pub(super) struct Comparer {
    one: Vec<u8>,
    other: Vec<u8>,
}

impl Comparer {
    pub(super) fn new() -> Self {
        Self { one: vec![0; COMPARED], other: vec![0; COMPARED] }
    }

    /// True where two files have the same `len` bytes. Holes that both have are not read.
    pub(super) fn same(&mut self, one: BorrowedFd<'_>, other: BorrowedFd<'_>, len: u64) -> io::Result<bool> {
        let mut at = 0;
        while at < len {
            if len > COMPARED as u64 {
                at = data(one, at, len)?.min(data(other, at, len)?);
            }
            let wanted = usize::try_from(len - at).map_or(COMPARED, |left| left.min(COMPARED));
            let (Some(left), Some(right)) = (self.one.get_mut(..wanted), self.other.get_mut(..wanted)) else {
                break;
            };
            // Cut shorter by its owner meanwhile: it is not the same any more.
            if !fill(one, left, at)? || !fill(other, right, at)? || left != right {
                return Ok(false);
            }
            at += wanted as u64;
        }
        Ok(true)
    }
}

/// Where there is data from a position on, `len` where there is none.
fn data(file: BorrowedFd<'_>, at: u64, len: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(from) => Ok(from.min(len)),
        Err(Errno::NXIO) => Ok(len),
        // A filesystem that knows no holes: all is data.
        Err(Errno::INVAL) => Ok(at),
        Err(e) => Err(e.into()),
    }
}

/// Reads all of `into`; false where the file ends before.
fn fill(file: BorrowedFd<'_>, mut into: &mut [u8], mut at: u64) -> io::Result<bool> {
    while !into.is_empty() {
        match rustix::io::pread(file, &mut *into, at) {
            Ok(0) => return Ok(false),
            Ok(got) => {
                into = into.get_mut(got..).unwrap_or_default();
                at += got as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}
