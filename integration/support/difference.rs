//! What `loom diff` is to tell of two trees, from the walks of their mounts (`tree`).

use std::collections::BTreeSet;
use std::path::Path;

use loom_snapshotter::protos::admin;

use super::tree::{Entry, Tree};

/// One path that differs, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub path: String,
    pub kind: i32,
    pub before: Option<Node>,
    pub after: Option<Node>,
    pub differs: Vec<String>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: u64,
    pub target: String,
}

impl From<admin::Change> for Told {
    fn from(change: admin::Change) -> Told {
        let node = |node: admin::Node| Node {
            kind: node.type_,
            mode: node.mode,
            owner: (node.uid, node.gid),
            size: node.size,
            target: node.target,
        };
        Told {
            path: change.path,
            kind: change.kind.value(),
            before: change.before.into_option().map(node),
            after: change.after.into_option().map(node),
            differs: change.differs,
        }
    }
}

/// What differs between two trees, by path.
pub fn expected(before: &Tree, after: &Tree) -> Vec<Told> {
    // Paths are compared name by name, and names by their bytes.
    let mut paths: BTreeSet<&Path> =
        before.entries.keys().chain(after.entries.keys()).map(|path| &**path).collect();
    if before.entries.is_empty() || after.entries.is_empty() {
        // Nothing has no root.
        paths.remove(Path::new(""));
    }
    let differing = paths.into_iter().filter_map(|path| {
        let (was, is) = (before.entries.get(path), after.entries.get(path));
        let (kind, differs) = match (was, is) {
            (None, _) => (1, Vec::new()),
            (_, None) => (3, Vec::new()),
            (Some(was), Some(is)) => (2, aspects(was, is)),
        };
        let told = Told {
            path: path.to_string_lossy().into_owned(),
            kind,
            before: was.map(node),
            after: is.map(node),
            differs,
        };
        (kind != 2 || !told.differs.is_empty()).then_some(told)
    });
    differing.collect()
}

/// What differs of a path that both have; of two kinds of things nothing else is compared.
fn aspects(was: &Entry, is: &Entry) -> Vec<String> {
    let kind = |entry: &Entry| entry.mode & 0o170_000;
    if kind(was) != kind(is) {
        return vec!["type".to_owned()];
    }
    let differing = [
        ("content", (was.size, &was.digest) != (is.size, &is.digest)),
        ("mode", was.mode != is.mode),
        ("owner", (was.uid, was.gid) != (is.uid, is.gid)),
        ("xattrs", was.xattrs != is.xattrs),
        ("target", was.target != is.target),
        ("device", was.device != is.device),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect.to_owned()).collect()
}

fn node(entry: &Entry) -> Node {
    let kind = match entry.mode & 0o170_000 {
        0o100_000 => "file",
        0o040_000 => "directory",
        0o120_000 => "symlink",
        0o020_000 => "character device",
        0o060_000 => "block device",
        0o010_000 => "fifo",
        0o140_000 => "socket",
        other => panic!("a file of type {other:o}"),
    };
    Node {
        kind: kind.to_owned(),
        mode: entry.mode & 0o7777,
        owner: (entry.uid, entry.gid),
        size: entry.size,
        target: entry.target.as_ref().map(|target| target.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}
