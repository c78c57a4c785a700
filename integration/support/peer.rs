//! Another containerd, on overlayfs, which knows nothing of loom: where images go to.

use std::path::Path;

use super::containerd::{Containerd, Version};
use super::stage::Stage;
use super::tree::Tree;

/// Another containerd of a stage, with its root on the stage's filesystem.
#[derive(Debug)]
pub struct Peer {
    /// It.
    pub containerd: Containerd,
}

impl Peer {
    /// Starts it; `name` is a short word of its own.
    pub fn start(stage: &Stage, name: &str, version: Version) -> Peer {
        let dir = stage.scratch.dir(name);
        let root = stage.place.filesystem.join(name);
        // There is no loom for it.
        let mut containerd = Containerd::new(version, &dir, &root, &dir.join("none.sock"));
        containerd.snapshotter = "overlayfs".into();
        containerd.start();
        Peer { containerd }
    }

    /// The tree of an image of its.
    pub fn tree(&self, stage: &Stage, image: &str) -> Tree {
        image_tree(&self.containerd, &stage.scratch.dir("mounted"), image)
    }
}

/// The tree of an image, as a containerd mounts it at `place`.
///
/// # Panics
/// Where it cannot be mounted.
pub fn image_tree(containerd: &Containerd, place: &Path, image: &str) -> Tree {
    let at = place.to_str().unwrap();
    containerd.ctr(&["images", "mount", "--snapshotter", &containerd.snapshotter, image, at]);
    let tree = Tree::read(place);
    containerd.ctr(&["images", "unmount", "--rm", at]);
    tree
}
