//! The entries of a tar, as every reader of OCI layers takes them.
//!
//! A ustar header, and before it a PAX header with what that cannot hold: times below a second, names beyond
//! 100 bytes, large numbers, extended attributes (`SCHILY.xattr.`). Names are the bytes that they are, whatever
//! their encoding. Nothing is written of who writes it and when, so that the same entry has the same bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Statx};
use tar::{EntryType, Header};

use super::attributes::{Attributes, XFS_ACL, mode};

/// Everything in a tar begins on a multiple of this.
const BLOCK: usize = 512;
/// What ends a tar.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The bytes of a name that a header holds.
const NAME: usize = 100;
/// The first number that an owner's field does not hold, and the first that those of sizes and times do not.
const OWNER: u32 = 1 << 21;
const LARGE: u64 = 1 << 33;
/// What Go's reader takes of one PAX header.
const EXTENDED: usize = 1 << 20;
/// What a PAX header is called: it is no file, and has no name of its own.
const PAX: &[u8] = b"././@PaxHeader";
/// Overlay's own notes, and what it has made of those of an overlay in a container: an unpacker that set them would
/// have the layer's overlay follow them. containerd's sets nothing that is called `trusted`.
const OVERLAYS: &[u8] = b"trusted.overlay.";

/// What an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// A file of so many bytes, which follow.
    File(u64),
    /// Another name of the file that has this path.
    Link(&'a [u8]),
    /// A symbolic link.
    Symlink(&'a [u8]),
    /// A directory, device or FIFO.
    Other(FileType),
}

/// Why no tar holds something.
#[derive(Debug)]
pub(super) struct Unfit(pub(super) String);

/// Adds what comes before the bytes of an entry. A directory's path ends with a slash.
pub(super) fn entry(
    to: &mut Vec<u8>,
    path: &[u8],
    what: What<'_>,
    attributes: &Attributes,
) -> Result<(), Unfit> {
    let status = attributes.status();
    let (mut header, mut more) = (blank(), Extended::default());
    name(&mut header.as_old_mut().name, "path", path, &mut more);
    header.set_mode(mode(status).bits());
    let kind = match what {
        What::File(size) if size >= LARGE => {
            more.number("size", size);
            EntryType::Regular
        }
        What::File(size) => {
            header.set_size(size);
            EntryType::Regular
        }
        What::Link(first) => {
            name(&mut header.as_old_mut().linkname, "linkpath", first, &mut more);
            EntryType::Link
        }
        What::Symlink(target) => {
            name(&mut header.as_old_mut().linkname, "linkpath", target, &mut more);
            EntryType::Symlink
        }
        What::Other(FileType::Directory) => EntryType::Directory,
        What::Other(FileType::Fifo) => EntryType::Fifo,
        What::Other(kind @ (FileType::CharacterDevice | FileType::BlockDevice)) => {
            let (major, minor) = (status.stx_rdev_major, status.stx_rdev_minor);
            let set = header.set_device_major(major).and_then(|()| header.set_device_minor(minor));
            set.map_err(|e| Unfit(format!("its device number {major}:{minor}: {e}")))?;
            if kind == FileType::BlockDevice { EntryType::Block } else { EntryType::Char }
        }
        What::Other(_) => return Err(Unfit("a tar has nothing of its kind".into())),
    };
    header.set_entry_type(kind);
    let (owner, group) = (status.stx_uid, status.stx_gid);
    if owner < OWNER {
        header.set_uid(owner.into());
    } else {
        more.number("uid", owner.into());
    }
    if group < OWNER {
        header.set_gid(group.into());
    } else {
        more.number("gid", group.into());
    }
    modified(&mut header, status, &mut more);
    more.attributes(attributes.extended())?;
    more.put(to);
    put(to, &mut header);
    Ok(())
}

/// Adds an empty file that is a sign for whoever unpacks the layer.
pub(super) fn mark(to: &mut Vec<u8>, path: &[u8]) {
    let (mut header, mut more) = (blank(), Extended::default());
    name(&mut header.as_old_mut().name, "path", path, &mut more);
    header.set_entry_type(EntryType::Regular);
    more.put(to);
    put(to, &mut header);
}

/// What comes behind so many bytes of a file.
pub(super) fn padding(size: u64) -> &'static [u8] {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    END.get(..(BLOCK - over) % BLOCK).unwrap_or_default()
}

/// A header in which every number is one: GNU's tar takes no empty field for 0.
fn blank() -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

fn put(to: &mut Vec<u8>, header: &mut Header) {
    header.set_cksum();
    to.extend_from_slice(header.as_bytes());
}

fn name(field: &mut [u8; NAME], key: &str, bytes: &[u8], more: &mut Extended) {
    if bytes.len() > NAME {
        more.add(key, bytes);
    }
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn modified(header: &mut Header, status: &Statx, more: &mut Extended) {
    let (seconds, nanos) = (status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec);
    let fits = u64::try_from(seconds).ok().filter(|seconds| *seconds < LARGE);
    header.set_mtime(fits.unwrap_or_default());
    if fits.is_some() && nanos == 0 {
        return;
    }
    // Nanoseconds count forward in a time before 1970 too, and decimals do not.
    let (sign, seconds, nanos) = match (seconds < 0, nanos) {
        (false, _) => ("", seconds.unsigned_abs(), nanos),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, _) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    more.add("mtime", text.trim_end_matches('0').trim_end_matches('.').as_bytes());
}

/// The records of a PAX header.
#[derive(Default)]
struct Extended {
    records: Vec<u8>,
}

impl Extended {
    fn add(&mut self, key: &str, value: &[u8]) {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + digits(length) {
            length = rest + digits(length);
        }
        self.records.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }

    fn number(&mut self, key: &str, value: u64) {
        self.add(key, value.to_string().as_bytes());
    }

    fn attributes(&mut self, extended: &[(OsString, Vec<u8>)]) -> Result<(), Unfit> {
        let notes = |name: &OsString| [OVERLAYS, XFS_ACL].iter().any(|of| name.as_bytes().starts_with(of));
        let mut sorted: Vec<_> = extended.iter().filter(|(name, _)| !notes(name)).collect();
        // A filesystem lists them as it likes.
        sorted.sort_unstable();
        for (name, value) in sorted {
            let key = name.to_str().filter(|name| !name.contains('='));
            let key =
                key.ok_or_else(|| Unfit(format!("the name of its extended attribute {}", name.display())))?;
            self.add(&format!("SCHILY.xattr.{key}"), value);
        }
        if self.records.len() > EXTENDED {
            return Err(Unfit("more than 1 MiB of extended attributes".into()));
        }
        Ok(())
    }

    fn put(&self, to: &mut Vec<u8>) {
        if self.records.is_empty() {
            return;
        }
        let mut header = blank();
        name(&mut header.as_old_mut().name, "path", PAX, &mut Self::default());
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        let size = self.records.len() as u64;
        header.set_size(size);
        put(to, &mut header);
        to.extend_from_slice(&self.records);
        to.extend_from_slice(padding(size));
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for (value, length) in [(0, 5), (4, 9), (5, 11), (93, 99), (94, 101), (992, 999), (993, 1001)] {
            let mut more = Extended::default();
            more.add("k", &vec![b'v'; value]);
            let text = String::from_utf8_lossy(&more.records).into_owned();
            assert!(text.len() == length && text.starts_with(&format!("{length} k=")), "{value}: {text}");
        }
    }

    #[test]
    fn only_what_no_block_holds_is_padded() {
        for (size, left) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
            assert_eq!(padding(size).len(), left, "{size}");
        }
    }
}
