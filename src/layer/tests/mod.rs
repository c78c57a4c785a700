//! Layers on real filesystems: loop images of ext4, XFS and btrfs. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive;
mod branch;
mod changed;
mod compare;
mod difference;
#[cfg(feature = "fault-points")]
mod faults;
mod flatten;
pub(crate) mod holder;
mod hostile;
pub(crate) mod image;
mod life;
mod outside;
mod owners;
mod quota;
mod rounds;
mod sealed;
mod shape;
mod zoo;

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode};

use super::*;
use image::Image;

/// A root and, where wanted, a pool, on images of their own.
struct Place {
    layers: Layers,
    // Dropped after the layers, whose descriptors keep the images busy.
    _images: Vec<Image>,
}

impl Place {
    fn new(root: &str, pool: bool) -> Self {
        Self::sized(root, pool, 512)
    }

    /// On images of a number of MiB.
    fn sized(root: &str, pool: bool, size: u64) -> Self {
        let root = Image::new(root, size);
        let mut images = vec![root];
        if pool {
            images.push(Image::new("btrfs", size));
        }
        let pool = images.get(1).map(Image::path);
        let layers = Layers::open(images[0].path(), pool).unwrap();
        layers.start_above(LayerId(unused_id()));
        Self { layers, _images: images }
    }

    fn create(&self, home: Home) -> Layer {
        let layer = layer(home, self.layers.next_id().0);
        self.layers.create(home, layer.id, None).unwrap();
        layer
    }

    fn clone_of(&self, source: &Layer) -> Layer {
        let clone = layer(source.home, self.layers.next_id().0);
        self.layers.materialize(source, clone.id).unwrap();
        clone
    }

    fn fs(&self, layer: &Layer) -> PathBuf {
        self.layers.fs(layer.home, layer.id)
    }

    fn dir(&self, layer: &Layer) -> PathBuf {
        self.fs(layer).parent().unwrap().to_path_buf()
    }
}

/// An id from which on no other root has layers: mount tables are the whole machine's.
fn unused_id() -> i64 {
    let mut random = [0; 4];
    getrandom::fill(&mut random).unwrap();
    i64::from(u32::from_le_bytes(random)) << 8
}

fn layer(home: Home, id: i64) -> Layer {
    Layer::new(LayerId(id), home, None, crate::store::Stage::Writable)
}

fn manifest(id: LayerId) -> Manifest {
    Manifest {
        layer: id.0,
        base: Some(1),
        snapshot: Told {
            id: "0123".into(),
            key: Some("default/1/key".into()),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            created: "2026-01-01T00:00:00Z".into(),
            ..Told::default()
        },
        others: Vec::new(),
        path: Vec::new(),
        instead_of: Vec::new(),
        max_size: None,
        mapping: None,
    }
}

/// Runs a shell script in a directory; answers what it printed.
fn sh(directory: &Path, script: &str) -> Vec<u8> {
    let out = std::process::Command::new("bash")
        .args(["-euc", script])
        .current_dir(directory)
        .output()
        .expect("bash runs");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}
