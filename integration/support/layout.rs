//! The places loom can be given.

use std::path::{Path, PathBuf};

use super::scratch::{Filesystem, Scratch};

/// A filesystem for the root, with a pool or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Ext4,
    Xfs,
    Btrfs,
    /// The root on ext4 and the pool on a btrfs.
    Ext4Pool,
}

/// A layout, made.
#[derive(Clone, Debug)]
pub struct Place {
    /// The filesystem of the root; containerd's own directory lies on it too.
    pub filesystem: PathBuf,
    /// loom's root.
    pub root: PathBuf,
    /// loom's pool.
    pub pool: Option<PathBuf>,
}

impl Layout {
    /// All of them.
    pub const ALL: [Layout; 4] = [Layout::Ext4, Layout::Xfs, Layout::Btrfs, Layout::Ext4Pool];

    /// Makes the filesystems.
    pub fn make(self, scratch: &Scratch) -> Place {
        let of_root = match self {
            Layout::Ext4 | Layout::Ext4Pool => Filesystem::Ext4,
            Layout::Xfs => Filesystem::Xfs,
            Layout::Btrfs => Filesystem::Btrfs,
        };
        let filesystem = scratch.filesystem("fs", of_root, 8);
        let pool =
            (self == Layout::Ext4Pool).then(|| scratch.filesystem("pool", Filesystem::Btrfs, 8).join("loom"));
        if let Some(pool) = &pool {
            std::fs::create_dir(pool).unwrap(); // loomd makes none: one that is missing is not mounted.
        }
        Place { root: filesystem.join("loom"), filesystem, pool }
    }
}

impl Place {
    /// The directories of all layers and of what is being removed: what must be empty, or agree with
    /// the database.
    pub fn layers(&self) -> Vec<PathBuf> {
        self.entries("layers")
    }

    /// What lies in the trash.
    pub fn trash(&self) -> Vec<PathBuf> {
        self.entries("trash")
    }

    /// The subvolumes of the pool, by btrfs's own count.
    pub fn subvolumes(&self) -> Vec<String> {
        let Some(pool) = &self.pool else {
            return Vec::new();
        };
        let pool = pool.parent().unwrap().to_str().unwrap();
        super::process::run("btrfs", &["subvolume", "list", pool]).lines().map(ToOwned::to_owned).collect()
    }

    fn entries(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for dir in [Some(&self.root), self.pool.as_ref()].into_iter().flatten() {
            found.extend(entries(&dir.join(name)));
        }
        found.sort();
        found
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(dir).into_iter().flatten();
    found.map(|entry| entry.unwrap().path()).collect()
}
