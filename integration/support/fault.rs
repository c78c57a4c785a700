//! Fault points: which there are, which are passed, which is to fail (`src/fault.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::layout::Layout;

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The step fails.
    Error,
    /// The daemon dies there.
    Abort,
}

/// One fault: what happens at which passage of which point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub point: String,
    pub action: Action,
    /// Counted from the start of the daemon; the first is 1.
    pub nth: usize,
}

impl fmt::Display for Fault {
    /// As `LOOM_FAULT` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Error => "error",
            Action::Abort => "abort",
        };
        write!(f, "{}:{action}:{}", self.point, self.nth)
    }
}

/// Points that no verb passes: where, which and why.
pub const NEVER: &[(Layout, &str, &str)] = &[
    (Layout::Ext4, "layer.seal.read_only", "a directory cannot be made read-only"),
    (Layout::Ext4, "layer.materialize.cleanse", "what is copied file by file has nothing to cleanse"),
    (Layout::Ext4Pool, "layer.materialize.copy", "a pool layer is a snapshot of another"),
    (Layout::Ext4Pool, "layer.copy.entry", "a pool layer is a snapshot of another"),
    (
        Layout::Ext4,
        "layer.chown.entry",
        "containerd 1.6, with which this layout is swept, mounts nothing under a mapping",
    ),
    (Layout::Ext4Pool, "layer.probe", STACKS),
    (Layout::Ext4Pool, "layer.rename.begin", STACKS),
    (Layout::Ext4Pool, "layer.rename.end", STACKS),
    (Layout::Ext4Pool, "layer.reopen.begin", STACKS),
    (Layout::Ext4Pool, "snapshot.at_rest", STACKS),
    (Layout::Ext4Pool, "snapshot.seal.back", STACKS),
    (Layout::Ext4Pool, "snapshot.seal.swap", STACKS),
    (Layout::Ext4Pool, "layer.copy.round", "a pool layer is a snapshot of another"),
    (Layout::Ext4, "layer.compare.hold", BTRFS),
    (Layout::Ext4, "layer.compare.send", BTRFS),
    (Layout::Ext4, "containerd.image.create", NERDCTL),
    (Layout::Ext4, "containerd.container.update", NERDCTL),
    (Layout::Ext4, "containerd.nerdctl.create", NERDCTL),
    (Layout::Ext4, "containerd.nerdctl.fill", NERDCTL),
    (Layout::Ext4, "containerd.nerdctl.place", NERDCTL),
    (Layout::Ext4, "containerd.nerdctl.start", NERDCTL),
    (Layout::Ext4, "containerd.nerdctl.stop", NERDCTL),
    (Layout::Ext4, "containerd.nerdctl.trail", NERDCTL),
    (Layout::Ext4, "containerd.nerdctl.volume", NERDCTL),
    (Layout::Ext4, "layer.copy_tree.begin", NERDCTL),
    (Layout::Ext4, "layer.quota.limit", LIMIT),
    (Layout::Ext4, "snapshot.limit.keep", LIMIT),
    (Layout::Ext4, "snapshot.limit.set", LIMIT),
    (Layout::Ext4, "snapshot.limit.write", LIMIT),
    (Layout::Ext4, "layer.copy_tree.sync", NERDCTL),
];
/// What the points begin with that another program walks through, since no sweep can take back what they do.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("pool.", POOL),
    ("layer.pair.", POOL),
    ("layer.transfer.", POOL),
    ("snapshot.move.", POOL),
    ("check.rebuild.", CHECK),
    ("layer.stray.", CHECK),
    ("layer.quota.enable", ONCE),
    ("layer.quota.adopt", PROJECTS),
    ("layer.quota.project", PROJECTS),
    ("layer.flatten.", FLAT),
    ("snapshot.flatten.", FLAT),
];
/// Chains become flat in the background, and a minute behind that what they were of goes.
const FLAT: &str = "src/snapshot/tests/flatten_faults.rs";
/// A root's pool is made once.
const POOL: &str = "integration/pool.rs";
/// No loomd runs while a database is made anew, and what lies in `layers/` by another hand every verb would count.
const CHECK: &str = "integration/check.rs";
/// Without project quotas nothing keeps a limit there.
const LIMIT: &str = "it has no project quotas, so that a limit is refused";
/// A filesystem's quota groups are enabled once.
const ONCE: &str = "integration/limits.rs";
/// Only XFS and ext4 with project quotas have them.
const PROJECTS: &str = "no kernel that the tests are run on has project quotas";

/// nerdctl has one namespace, and its containers one bridge.
const NERDCTL: &str = "nerdctl and its volumes know nothing of layouts, and are with the pool";

/// Only a layer that stacks can be sealed as it lies.
const STACKS: &str = "a pool layer is never stacked, and is cloned in a moment anyway";

/// Two pool layers are copies of one another, and btrfs tells how they differ.
const BTRFS: &str = "only of pool layers btrfs knows how they differ";

/// How often each point was passed, from what `LOOM_FAULT_SEEN` names.
pub fn passed(seen: &Path) -> BTreeMap<String, usize> {
    let mut passed = BTreeMap::new();
    for name in fs::read_to_string(seen).unwrap_or_default().lines() {
        *passed.entry(name.to_owned()).or_default() += 1;
    }
    passed
}

/// The names of all points in the source, but for those in its tests.
pub fn in_source() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut todo = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for before in ["fault::point(\"", "const POINT: &'static str = \""] {
            let found = text.split(before).skip(1).filter_map(|rest| rest.split('"').next());
            names.extend(found.map(ToOwned::to_owned));
        }
    }
    names
}
