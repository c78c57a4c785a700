//! The rules of the core, on a real store and real directories.
#![allow(clippy::unwrap_used)]

mod branch;
mod crash;
mod flatten;
#[cfg(feature = "fault-points")]
mod flatten_faults;
mod lifecycle;
mod limit;
mod mapped;
mod model;
mod publish;
mod races;
mod reads;
mod replace;
#[cfg(feature = "fault-points")]
mod replace_faults;
mod retain;
mod seal;
mod size;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::filter::Filters;
use super::{FORK_LABEL, Freezer, Keep, Made, Rules, Snapshots, Take};
use crate::error::Result;
use crate::layer::tests::holder::Holder;
use crate::layer::tests::image::Image;
use crate::layer::{Layers, Mount};
use crate::store::{Id, Store};

/// A core on a directory of its own.
pub(super) struct House {
    pub(super) core: Arc<Snapshots>,
    dir: tempfile::TempDir,
    /// Dropped last: the core keeps it busy.
    pool: Option<Image>,
}

impl House {
    /// A snapshot that continues from another one.
    fn fork(&self, key: &str, parent: &str, of: Id) -> Id {
        let grant = self.core.grant(of, Made::default()).unwrap();
        self.core.prepare(key, parent, labels(FORK_LABEL, &grant.label())).unwrap();
        self.id(key)
    }

    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("core").tempdir_in("/var/tmp").unwrap();
        Self { core: open(dir.path()).unwrap(), dir, pool: None }
    }

    /// One with a pool, a btrfs of its own.
    pub(super) fn pooled() -> Self {
        let dir = tempfile::Builder::new().prefix("core").tempdir_in("/var/tmp").unwrap();
        let pool = Image::new("btrfs", 256);
        Self { core: open_with(dir.path(), Some(pool.path())).unwrap(), dir, pool: Some(pool) }
    }

    /// Closes the core and opens it again, as a restart does.
    pub(super) fn reopen(self) -> Self {
        let Self { core, dir, pool } = self;
        drop(core);
        Self { core: open_with(dir.path(), pool.as_ref().map(Image::path)).unwrap(), dir, pool }
    }

    pub(super) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn prepare(&self, key: &str, parent: &str) -> Vec<Mount> {
        self.core.prepare(key, parent, BTreeMap::new()).unwrap()
    }

    /// Mounts an active snapshot as a running container does: its states are copied until that ends.
    pub(super) fn runs(&self, key: &str) -> Holder {
        Holder::new(&self.core.mounts(key).unwrap()[0], "")
    }

    /// The id of what containerd has under a key.
    pub(super) fn id(&self, key: &str) -> Id {
        self.core.by_key(key).unwrap().unwrap().id
    }

    /// Writes a file of an active snapshot, as its container would.
    pub(super) fn write(&self, key: &str, file: &str, text: impl AsRef<[u8]>) {
        std::fs::write(top(&self.core.mounts(key).unwrap()).join(file), text).unwrap();
    }

    /// A file as a container on this snapshot would see it; empty where there is none.
    pub(super) fn text(&self, id: Id, file: &str) -> Vec<u8> {
        let chain = self.core.get(id).unwrap().chain;
        let mut files = chain.iter().map(|layer| self.core.layers().fs(layer.home, layer.id).join(file));
        files.find_map(|file| std::fs::read(file).ok()).unwrap_or_default()
    }

    /// A committed snapshot with one file of its own name.
    pub(super) fn image(&self, name: &str, parent: &str) {
        // As an unpacker calls it: it is a plain layer also where there is a pool.
        let key = format!("default/1/extract-{name}");
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
        let homes = [Some(self.root()), self.pool.as_ref().map(Image::path)];
        let mut ids: Vec<i64> = homes
            .into_iter()
            .flatten()
            .flat_map(|home| std::fs::read_dir(home.join("layers")).unwrap())
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// True once nothing is left in `layers/`: a sealed pool layer leaves it behind the answer.
    pub(super) fn empties(&self) -> bool {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !self.directories().is_empty() && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        self.directories().is_empty()
    }
}

pub(super) fn open(root: &Path) -> Result<Arc<Snapshots>> {
    open_with(root, None)
}

fn open_with(root: &Path, pool: Option<&Path>) -> Result<Arc<Snapshots>> {
    open_limited(root, pool, None)
}

/// With a default of what may be written to a layer.
fn open_limited(root: &Path, pool: Option<&Path>, limit: Option<i64>) -> Result<Arc<Snapshots>> {
    let layers = Layers::open(root, pool)?;
    let deny_fork_label = vec!["k8s.io".to_owned()];
    let rules = Rules { deny_fork_label, limit, ..Rules::default() };
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
    /// What was asked, in order.
    pub(super) asked: Vec<&'static str>,
    /// What is to fail.
    pub(super) fails: &'static str,
}

impl Counting {
    fn ask(&mut self, what: &'static str) -> Result<()> {
        self.asked.push(what);
        if self.fails == what { Err(crate::error::Error::Busy(what.to_owned())) } else { Ok(()) }
    }
}

impl Freezer for Counting {
    fn ready(&mut self) -> Result<()> {
        self.ask("ready")
    }

    fn still(&mut self) -> Result<()> {
        self.ask("still")
    }

    fn freeze(&mut self) -> Result<bool> {
        self.frozen += 1;
        self.ask("freeze").map(|()| true)
    }

    fn thaw(&mut self) -> Result<()> {
        self.thawed += 1;
        self.ask("thaw")
    }
}
