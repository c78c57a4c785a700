//! Layers as blobs of containerd's content store: read from a state, compressed, and written as they come.

use super::client::Client;
use super::{Brancher, Compression};
use crate::error::Result;
use crate::operation::Work;
use crate::store::Layer;

/// A layer that is in the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// Its media type.
    pub(super) media: &'static str,
    /// Its digest, as it is stored.
    pub(super) digest: String,
    /// Its bytes, as it is stored.
    pub(super) size: i64,
    /// The digest of its tar.
    pub(super) diff_id: String,
}

impl Brancher {
    /// Writes what the topmost `count` layers of a sealed chain make of those below. The client's lease keeps it.
    pub(super) async fn write_layer(
        &self,
        work: &Work,
        leased: &Client,
        chain: Vec<Layer>,
        count: usize,
        compression: Compression,
    ) -> Result<Blob> {
        let _ = (work, leased, chain, count, compression);
        todo!()
    }
}
