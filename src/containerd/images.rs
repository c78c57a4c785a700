//! The images of a namespace that are on loom.

use super::{Brancher, Target};
use crate::error::Result;
use crate::store::{Id, Time};

/// An image that is on loom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSeen {
    /// As containerd has it.
    pub name: String,
    /// containerd's namespace.
    pub namespace: String,
    /// Its target's.
    pub digest: String,
    /// The chain id of its layers.
    pub chain_id: String,
    /// The snapshot of that name.
    pub snapshot: Id,
    /// True where all its content is here.
    pub portable: bool,
    /// When its record was made.
    pub created: Time,
    /// Bytes of its tree on disk.
    pub size: u64,
    /// Its platform, such as `linux/amd64`.
    pub platform: String,
}

impl Brancher {
    /// The images of a namespace whose top snapshot is on loom, by name.
    pub async fn images(&self, target: &Target) -> Result<Vec<ImageSeen>> {
        let _ = target;
        Ok(Vec::new())
    }

    /// Gives an image another name, which one that has it loses.
    pub async fn tag(&self, target: &Target, image: &str, name: &str) -> Result<ImageSeen> {
        let _ = (target, image, name);
        todo!()
    }
}
