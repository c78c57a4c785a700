//! The bytes of one regular file.

use std::io;
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
    while at < len {
        let from = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(from) => from.min(len),
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            // A filesystem that knows no holes: all is data.
            Err(Errno::INVAL) => at,
            Err(e) => return Err(e.into()),
        };
        let to = match rustix::fs::seek(source, SeekFrom::Hole(from)) {
            Ok(to) => to.min(len),
            // Cut shorter by its owner meanwhile, or a filesystem that knows no holes.
            Err(Errno::NXIO | Errno::INVAL) => len,
            Err(e) => return Err(e.into()),
        };
        range(source, target, from, to)?;
        at = to.max(at + 1);
    }
    Ok(false)
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
