//! Layers of the content store, unpacked on loom by containerd, as its own clients do it.
//!
//! ```text
//! Prepare (key "extract-…", ref = chain id) ── Diff.Apply ── Commit under the chain id
//!     └─ the chain id is there: nothing to do     └─ a bad layer: the key goes
//! ```

use std::time::Duration;

use containerd_client::services::v1::ApplyRequest;
use containerd_client::types::{Descriptor, Mount};

use super::client::Client;
use super::image::config::chain_id;
use super::snapshots;
use crate::error::{Error, Kind, Result};
use crate::operation::Work;
use crate::store::Id;

/// How often it is asked whether the operation was cancelled while containerd unpacks.
const LOOK: Duration = Duration::from_millis(200);

/// Where layers are unpacked: for an operation, under its lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unpack<'a> {
    /// Whose they are.
    pub(super) work: &'a Work,
    /// A client with the operation's lease.
    pub(super) leased: &'a Client,
    /// What containerd calls us.
    pub(super) snapshotter: &'a str,
}

impl Unpack<'_> {
    /// Unpacks a layer on those of the chain id `below`, unless it is there, and answers the diff id and the chain
    /// id that it has. Where `diff_id` says what its tar is, another one is refused.
    pub(super) async fn layer(
        self,
        below: &str,
        layer: &Descriptor,
        diff_id: Option<&str>,
    ) -> Result<(String, String)> {
        self.work.check()?;
        let known = diff_id.map(|diff_id| chain_id(below, diff_id));
        if let (Some(diff_id), Some(chain_id)) = (diff_id, &known)
            && snapshots::stat(self.leased, self.snapshotter, chain_id).await?.is_some()
        {
            return Ok((diff_id.to_owned(), chain_id.clone()));
        }
        let name = known.as_deref().unwrap_or("layer");
        let key = format!("extract-{} {name}", Id::random()?);
        let Some(mounts) =
            snapshots::prepare_layer(self.leased, self.snapshotter, &key, below, known.as_deref()).await?
        else {
            // Who has unpacked it meanwhile left it under this name.
            return Ok((diff_id.unwrap_or_default().to_owned(), known.unwrap_or_default()));
        };
        let unpacked = self.fill(below, layer, diff_id, &key, mounts).await;
        if !matches!(unpacked, Ok((_, _, true)))
            && let Err(error) = snapshots::remove(self.leased, self.snapshotter, &key).await
        {
            // It goes with the lease.
            tracing::debug!(key, %error, "a layer that was not unpacked is not removed yet");
        }
        unpacked.map(|(diff_id, chain_id, _)| (diff_id, chain_id))
    }

    /// Answers true where the key has become the layer.
    async fn fill(
        self,
        below: &str,
        layer: &Descriptor,
        diff_id: Option<&str>,
        key: &str,
        mounts: Vec<Mount>,
    ) -> Result<(String, String, bool)> {
        let found = self.apply(layer, mounts).await?;
        if let Some(diff_id) = diff_id.filter(|diff_id| *diff_id != found) {
            return Err(Error::invalid(
                format!("layer {}", layer.digest),
                format!("its tar has the digest {found}, and the image's configuration says {diff_id}"),
            ));
        }
        let chain_id = chain_id(below, &found);
        let ours = snapshots::commit(self.leased, self.snapshotter, &chain_id, key).await?;
        Ok((found, chain_id, ours))
    }

    /// Has containerd extract a blob; answers the digest of its tar.
    async fn apply(self, layer: &Descriptor, mounts: Vec<Mount>) -> Result<String> {
        crate::fault::point("containerd.layer.apply")?;
        let message = ApplyRequest { diff: Some(layer.clone()), mounts, ..ApplyRequest::default() };
        let mut diff = self.leased.diff();
        // Dropped, the call is cancelled, and containerd stops.
        let mut applied = Box::pin(diff.apply(self.leased.stream(message)));
        let answer = loop {
            match tokio::time::timeout(LOOK, &mut applied).await {
                Ok(answer) => break answer,
                Err(_) => self.work.check()?,
            }
        };
        let action = format!("unpack layer {}", layer.digest);
        match answer.map_err(self.leased.failed(action)) {
            Ok(answer) => Ok(answer.into_inner().applied.map(|found| found.digest).unwrap_or_default()),
            // What has no class of its own is what it found in the tar.
            Err(Error::Containerd { message, kind: Kind::Internal, .. }) => Err(Error::invalid(
                format!("layer {}", layer.digest),
                format!("containerd cannot unpack it: {message}"),
            )),
            Err(error) => Err(error),
        }
    }
}
