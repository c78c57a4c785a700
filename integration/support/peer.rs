//! Another containerd, on overlayfs, which knows nothing of loom: where images go to.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

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

/// The tree of an image that is unpacked, mounted at `place`.
///
/// # Panics
/// Where it is not unpacked.
pub fn image_tree(containerd: &Containerd, place: &Path, image: &str) -> Tree {
    // By hand: `ctr images mount` of 1.6 wants the blobs of layers that are unpacked already.
    let (snapshotter, chain_id) = (containerd.snapshotter.as_str(), chain_id(containerd, image));
    // A view would be collected at once; what is prepared by ctr is not.
    let view = format!("look-{}", place.file_name().unwrap().to_str().unwrap());
    let snapshots =
        |args: &[&str]| containerd.ctr(&[&["snapshots", "--snapshotter", snapshotter], args].concat());
    snapshots(&["prepare", &view, &chain_id]);
    containerd.mount(snapshotter, &view, place);
    let tree = Tree::read(place);
    super::process::run("umount", &[place]);
    snapshots(&["rm", &view]);
    tree
}

/// The name of the snapshot of all layers of an image.
fn chain_id(containerd: &Containerd, image: &str) -> String {
    let document = |digest: &str| -> Value {
        serde_json::from_str(&containerd.ctr(&["content", "get", digest])).unwrap()
    };
    let images = containerd.ctr(&["images", "ls", &format!("name=={image}")]);
    let row = images.lines().nth(1).unwrap_or_else(|| panic!("there is no image {image}"));
    let mut manifest = document(row.split_whitespace().nth(2).unwrap());
    if let Some(digest) = manifest["manifests"][0]["digest"].as_str() {
        manifest = document(digest);
    }
    let config = document(manifest["config"]["digest"].as_str().unwrap());
    let ids =
        config["rootfs"]["diff_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
    ids.reduce(|below, id| format!("sha256:{:x}", Sha256::digest(format!("{below} {id}")))).unwrap()
}
