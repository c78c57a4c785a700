//! What differs between two trees.

use std::ffi::OsString;
use std::path::PathBuf;

use rustix::fs::FileType;

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is not what it was.
    Modified,
    /// It is gone.
    Deleted,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// A file, a directory and so on.
    pub kind: FileType,
    /// The permission bits, set-user-id and the like among them.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes, of a regular file.
    pub size: u64,
    /// Where a symbolic link leads.
    pub target: Option<OsString>,
}

/// What of a path can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// A file is a directory now, or the like.
    Type,
    /// A file's bytes.
    Content,
    /// Permission bits.
    Mode,
    /// Owner or group.
    Owner,
    /// Extended attributes, but for overlay's own.
    Xattrs,
    /// Where a symbolic link leads.
    Target,
    /// A device's numbers.
    Device,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the root of the tree; empty for the root itself.
    pub path: PathBuf,
    /// What became of it.
    pub kind: ChangeKind,
    /// What was there.
    pub before: Option<Node>,
    /// What is there.
    pub after: Option<Node>,
    /// What differs, of a modified one.
    pub differs: Vec<Aspect>,
}
