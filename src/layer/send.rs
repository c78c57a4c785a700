//! Which paths btrfs knows to differ between two subvolumes.
//!
//! The kernel compares their trees, of which copies share whatever neither has changed since, and writes what would
//! turn one into the other: a stream of commands, of which we want nothing but the paths.
//!
//! ```text
//! stream   = "btrfs-stream\0" version:u32 command…
//! command  = length:u32 kind:u16 checksum:u32 attribute…      (length: that of the attributes)
//! attribute = kind:u16 length:u16 bytes                       (all little-endian)
//! ```
//!
//! A path is that of the moment in the stream: what was renamed before is at its new place, and what waits for its
//! place is called `o<inode>-<generation>-<n>` at the top of the subvolume meanwhile.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

use super::ioctl;

/// What a stream begins with.
const MAGIC: &[u8; 13] = b"btrfs-stream\0";
/// Bytes of attributes that no command has more of.
const LONGEST: usize = 1 << 20;
/// Paths from which on it is no help to know them.
const MOST: usize = 1 << 20;

/// `BTRFS_SEND_C_SUBVOL` and `BTRFS_SEND_C_SNAPSHOT`, whose path is the name of the subvolume.
const BEGINS: [u16; 2] = [1, 2];
/// `BTRFS_SEND_C_END`.
const END: u16 = 21;
/// `BTRFS_SEND_A_PATH` and `BTRFS_SEND_A_PATH_TO`.
const PATHS: [u16; 2] = [15, 16];

/// Every path that a command names which turns the read-only subvolume `before` into the read-only subvolume
/// `after`, relative to them.
pub(super) fn paths(before: BorrowedFd<'_>, after: BorrowedFd<'_>) -> io::Result<BTreeSet<Vec<u8>>> {
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        // The pipe ends with the thread, and the thread, when nobody reads any more, with the pipe.
        let sent = scope.spawn(move || ioctl::send_difference(before, after, writer.as_fd()));
        let read = parse(BufReader::new(reader));
        match sent.join() {
            Ok(Ok(())) => read,
            Ok(Err(e)) => Err(read.err().filter(|_| e == rustix::io::Errno::PIPE).unwrap_or(e.into())),
            Err(_) => Err(io::Error::other("the thread that sends panicked")),
        }
    })
}

/// The paths in a stream.
fn parse(mut stream: impl Read) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut paths = BTreeSet::new();
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic)?;
    number::<4>(&mut stream)?;
    if magic != *MAGIC {
        return Err(wrong("it does not begin as one"));
    }
    let mut attributes = Vec::new();
    loop {
        let length = number::<4>(&mut stream)?;
        let kind = number::<2>(&mut stream)?;
        number::<4>(&mut stream)?;
        if length > LONGEST {
            return Err(wrong("a command is too long"));
        }
        attributes.resize(length, 0);
        stream.read_exact(&mut attributes)?;
        if kind == usize::from(END) {
            return Ok(paths);
        }
        if BEGINS.map(usize::from).contains(&kind) {
            continue;
        }
        let mut rest = &*attributes;
        while !rest.is_empty() {
            let kind = number::<2>(&mut rest)?;
            let length = number::<2>(&mut rest)?;
            let (value, behind) =
                rest.split_at_checked(length).ok_or_else(|| wrong("an attribute is cut short"))?;
            rest = behind;
            if PATHS.map(usize::from).contains(&kind) && !paths.contains(value) {
                paths.insert(value.to_vec());
            }
        }
        if paths.len() > MOST {
            return Err(wrong("it names too many paths"));
        }
    }
}

/// Reads a number of `N` bytes, which are at most four.
fn number<const N: usize>(from: &mut impl Read) -> io::Result<usize> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the stream of differences is not read: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn command(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_le_bytes());
            body.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            body.extend(*value);
        }
        let length = u32::try_from(body.len()).unwrap();
        [&length.to_le_bytes()[..], &kind.to_le_bytes(), &[0; 4], &body].concat()
    }

    #[test]
    fn paths_of_all_commands_are_read_and_nothing_else() {
        let head = [&MAGIC[..], &[1, 0, 0, 0]].concat();
        let begin = command(2, &[(15, b"12"), (1, &[7; 16])]);
        let rename = command(9, &[(15, b"fs/a"), (16, b"o257-9-0")]);
        let link = command(10, &[(15, b"fs/b"), (17, b"fs/old")]);
        let time = command(20, &[(15, b""), (11, &[0; 12])]);
        let end = command(END, &[]);
        let whole = [&head[..], &begin, &rename, &link, &time, &end].concat();
        let wanted: BTreeSet<Vec<u8>> =
            ["fs/a", "o257-9-0", "fs/b", ""].map(|p| p.as_bytes().to_vec()).into();
        assert_eq!(parse(&*whole).unwrap(), wanted);
        // Whatever is missing of it is an error, never fewer paths.
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "{cut}");
        }
        let mut other = whole;
        other[0] = b'c';
        assert!(parse(&*other).is_err());
        let long = [&head[..], &u32::MAX.to_le_bytes(), &[0; 6]].concat();
        assert!(parse(&*long).is_err());
    }
}
