//! What a copy knows of its source: what each name was when it was copied.

use std::collections::HashMap;
use std::ffi::{CStr, CString};

use rustix::fs::{FileType, Statx};

use crate::store::Time;

/// An inode. The birth time, which nobody can set, tells a number that was used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::layer::tree) struct Inode {
    device: (u32, u32),
    number: u64,
    born: (i64, u32),
}

/// An inode as it was when somebody looked: where it looks the same, and did not look [fresh](Self::changed), it is
/// the same. Its last change is the kernel's own time: no process can set it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// None for a whiteout: all of them are the same, and overlay makes each a link to one, which changes with each.
    inode: Option<(Inode, Time)>,
    size: u64,
    mode: u16,
}

/// What a name was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// A directory, which has a record of its own.
    Directory(usize),
    /// Anything else; `settled` where a change after it was copied would show.
    Other { seen: Seen, settled: bool },
}

pub(super) type Entries = HashMap<CString, Entry>;

/// A directory of the copy.
#[derive(Debug, Default)]
pub(super) struct Directory {
    above: usize,
    name: CString,
    pub(super) depth: usize,
    /// What the source's was when the copy got its attributes; none where it has to get them.
    pub(super) seen: Option<Seen>,
    /// It got some once.
    pub(super) made: bool,
    pub(super) entries: Entries,
}

/// The directories of the copy, by number; the root is the first. Flat, so that no depth is a stack's.
#[derive(Debug)]
pub(super) struct Record(Vec<Directory>);

impl Inode {
    pub(in crate::layer::tree) fn of(status: &Statx) -> Self {
        Self {
            device: (status.stx_dev_major, status.stx_dev_minor),
            number: status.stx_ino,
            born: (status.stx_btime.tv_sec, status.stx_btime.tv_nsec),
        }
    }
}

impl Seen {
    pub(super) fn of(status: &Statx) -> Self {
        let whiteout = FileType::from_raw_mode(status.stx_mode.into()) == FileType::CharacterDevice
            && (status.stx_rdev_major, status.stx_rdev_minor) == (0, 0)
            && status.stx_nlink > 1;
        let time = &status.stx_ctime;
        let changed = Time(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into()));
        Self {
            inode: (!whiteout).then(|| (Inode::of(status), changed)),
            size: status.stx_size,
            mode: status.stx_mode,
        }
    }

    /// True where it was changed last before a moment.
    pub(super) fn changed_before(&self, moment: Time) -> bool {
        self.inode.is_none_or(|(_, changed)| changed < moment)
    }
}

impl Record {
    pub(super) fn new() -> Self {
        Self(vec![Directory::default()])
    }

    pub(super) fn get(&mut self, number: usize) -> Option<&mut Directory> {
        self.0.get_mut(number)
    }

    /// Adds an empty directory.
    pub(super) fn add(&mut self, above: usize, name: &CStr) -> usize {
        let depth = self.0.get(above).map_or(0, |above| above.depth) + 1;
        self.0.push(Directory { above, name: name.to_owned(), depth, ..Directory::default() });
        self.0.len() - 1
    }

    /// Forgets what is in a directory, and below it. Their numbers are not used again.
    pub(super) fn forget(&mut self, number: usize) {
        let mut ahead = vec![number];
        while let Some(directory) = ahead.pop().and_then(|number| self.0.get_mut(number)) {
            let entries = std::mem::take(&mut directory.entries);
            ahead.extend(entries.into_values().filter_map(|entry| match entry {
                Entry::Directory(number) => Some(number),
                Entry::Other { .. } => None,
            }));
        }
    }

    /// The names from the directory `from`, which is above it, to a directory.
    pub(super) fn names(&self, from: usize, mut number: usize) -> Vec<CString> {
        let mut names = Vec::new();
        while number != from
            && let Some(directory) = self.0.get(number)
        {
            names.push(directory.name.clone());
            number = directory.above;
        }
        names.reverse();
        names
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_deep_record_is_walked_without_a_stack() {
        let mut record = Record::new();
        let mut number = 0;
        for depth in 1..=200_000 {
            let below = record.add(number, c"d");
            record.get(number).unwrap().entries.insert(c"d".to_owned(), Entry::Directory(below));
            assert_eq!(record.get(below).unwrap().depth, depth);
            number = below;
        }
        assert_eq!(record.names(0, number).len(), 200_000);
        assert_eq!(record.names(number - 2, number), [c"d".to_owned(), c"d".to_owned()]);
        record.forget(0);
        assert!(record.get(number - 1).unwrap().entries.is_empty());
    }
}
