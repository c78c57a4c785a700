//! The bytes of one regular file.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Bytes that one call is asked to copy: a pause of the walk stays short.
const STEP: u64 = 1 << 30;
/// Bytes of the buffer where the kernel cannot copy by itself.
const BUFFER: usize = 1 << 20;

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
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) if start < len => start,
        // Nothing but a hole is left.
        Ok(_) | Err(Errno::NXIO) => return Ok(None),
        // A filesystem that knows no holes: all is data.
        Err(Errno::INVAL) => at,
        Err(e) => return Err(e.into()),
    };
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
