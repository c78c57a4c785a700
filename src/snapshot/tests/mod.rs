//! The rules of the core, on a real store and real directories.
#![allow(clippy::unwrap_used)]

mod branch;
mod crash;
mod lifecycle;
mod model;
mod races;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::filter::Filters;
use super::{Freezer, Keep, Rules, Snapshots, Take};
use crate::error::Result;
use crate::layer::{Layers, Mount};
use crate::store::Store;

/// A core on a directory of its own.
pub(super) struct House {
    pub(super) core: Arc<Snapshots>,
    dir: tempfile::TempDir,
}

impl House {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("core").tempdir_in("/var/tmp").unwrap();
        Self { core: open(dir.path()).unwrap(), dir }
    }

    /// Closes the core and opens it again, as a restart does.
    pub(super) fn reopen(self) -> Self {
        let Self { core, dir } = self;
        drop(core);
        Self { core: open(dir.path()).unwrap(), dir }
    }

    pub(super) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn prepare(&self, key: &str, parent: &str) -> Vec<Mount> {
        self.core.prepare(key, parent, BTreeMap::new()).unwrap()
    }

    /// A committed snapshot with one file of its own name.
    pub(super) fn image(&self, name: &str, parent: &str) {
        let key = format!("{name}-key");
        let mounts = self.prepare(&key, parent);
        std::fs::write(top(&mounts).join(name.replace('/', "_")), name).unwrap();
        self.core.commit(name, &key, BTreeMap::new()).unwrap();
    }

    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let (page, next) = self.core.list(&Filters::default(), after.as_deref()).unwrap();
            keys.extend(page.into_iter().map(|listed| listed.key));
            after = next;
            if after.is_none() {
                return keys;
            }
        }
    }

    /// Waits until the rows of layers that have ended are forgotten and so many are left.
    pub(super) fn settle(&self, layers: u64) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while self.core.counts().unwrap().layers != layers {
            assert!(std::time::Instant::now() < until, "{:?}", self.core.counts().unwrap());
            std::thread::yield_now();
        }
    }

    /// The ids of the directories in `layers/`, in order.
    pub(super) fn directories(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = std::fs::read_dir(self.root().join("layers"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    }
}

pub(super) fn open(root: &Path) -> Result<Arc<Snapshots>> {
    let layers = Layers::open(root, None)?;
    let rules = Rules { deny_fork_label: vec!["k8s.io".to_owned()] };
    Snapshots::open(Store::open(&root.join("loom.db"))?, layers, rules)
}

/// The directory that a writable mount writes to.
pub(super) fn top(mounts: &[Mount]) -> PathBuf {
    let [mount] = mounts else { panic!("{mounts:?}") };
    match mount.kind {
        "bind" => PathBuf::from(&mount.source),
        _ => mount.options.iter().find_map(|o| o.strip_prefix("upperdir=")).unwrap().into(),
    }
}

pub(super) fn named(name: &str) -> Take {
    Take {
        keep: Keep::Named(name.to_owned()),
        labels: BTreeMap::new(),
        captured: None,
        operation: None,
        expires: None,
    }
}

pub(super) fn labels(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

/// Counts what is asked of it, and fails where it was told to.
#[derive(Default)]
pub(super) struct Counting {
    pub(super) frozen: usize,
    pub(super) thawed: usize,
    pub(super) fail: bool,
}

impl Freezer for Counting {
    fn freeze(&mut self) -> Result<bool> {
        self.frozen += 1;
        if self.fail { Err(crate::error::Error::Busy("the container".to_owned())) } else { Ok(true) }
    }

    fn thaw(&mut self) -> Result<()> {
        self.thawed += 1;
        Ok(())
    }
}
