//! Portable: what of an image is this node's alone is written as a layer of the OCI.
//!
//! ```text
//!  before:  base ── base ── state's ── state's        after:  base ── base ── one layer, a blob
//!           blob    blob    no blob    no blob                blob    blob    └─ the same state, by another chain id
//!
//!  plan ── lease ── layer (long) ── Prepare with a grant and the new chain id ── documents ── images ── result
//!  written                                                                         └─ written in the plan before
//! ```
//!
//! The base is the deepest of the image's own whose layers all have blobs and which the state really stands on.
//! The old chain id goes by containerd's collector, unless containers stand on it: these run on.

use containerd_client::services::v1::Image;
use containerd_client::types::Descriptor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::blob::Blob;
use super::client::Client;
use super::image_config::{Documents, chain_ids};
use super::leases::Lease;
use super::{
    Brancher, Committed, Compression, Options, Portable, Target, blocking, content, image_config, image_store,
    request, snapshots,
};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::snapshot::Made;
use crate::store::{Id, Layer, OperationKind, Snapshot};

/// A state with the documents of the image that it is, or is to be.
#[derive(Debug)]
pub(super) struct Stack {
    /// Its snapshot.
    pub(super) state: Snapshot,
    /// What it stands on, topmost first.
    pub(super) chain: Vec<Layer>,
    /// As the image is with a layer of this node's alone on top.
    pub(super) documents: Documents,
}

/// A stack whose layers all have blobs.
#[derive(Debug)]
pub(super) struct WrittenOut {
    /// Its documents, which are not written yet.
    pub(super) documents: Documents,
    /// The chain id of what is below the layer that was written; empty for nothing.
    pub(super) base: String,
    /// That layer.
    pub(super) layer: Blob,
}

impl Brancher {
    /// Writes the layer, has the image refer to it, and answers the operation too.
    ///
    /// Every name in the namespace that stands for the same image is changed. Of an image of several platforms only
    /// this machine's is here to be written, and is all that the names stand for then.
    pub async fn portable(
        &self,
        target: &Target,
        image: &str,
        compression: Compression,
        options: Options,
    ) -> Result<(Id, Portable)> {
        let subject = format!("image:{image}");
        let ask = request::ask(OperationKind::Portable, target, &subject, &options, &compression)?;
        Box::pin(self.operations.run(ask, |work| self.make_portable(work, target, image, compression))).await
    }

    async fn make_portable(
        &self,
        work: Work,
        target: &Target,
        image: &str,
        compression: Compression,
    ) -> Result<Portable> {
        work.step("resolve")?;
        let client = Client::connect(target).await?;
        self.recover_in(&client).await?;
        let record = image_store::resolve(&client, image).await?;
        let read = record.target.clone().unwrap_or_default();
        let documents = Documents::read(&client, &read).await?.ok_or_else(|| incomplete(&record.name))?;
        let (chain_id, stack) = self.stack(&client, &record.name, documents).await?;
        if lacking(&client, &stack.documents).await? == stack.documents.layers.len() {
            let snapshot = stack.state.id;
            let image = Committed { image: record.name, digest: read.digest, chain_id, snapshot, cost: None };
            return Ok(Portable { image, layer: None });
        }
        let snapshotter = self.snapshotter_of(&client, &chain_id).await?;
        work.plan(&Moved::default()).await?;
        let lease = Lease::take_long(&client, self.core.layers().root(), work.id()).await?;
        let made = async {
            // What is read is not to go meanwhile, whoever removes the image.
            lease.keep_content(&read.digest).await?;
            lease.keep_snapshot(&snapshotter, &chain_id).await?;
            let written = self.write_out(&work, lease.client(), stack, &snapshotter, compression).await?;
            self.refer(&work, lease.client(), record.name.clone(), &read, written).await
        };
        match made.await {
            Ok(made) => {
                lease.close(&work).await;
                Ok(made)
            }
            Err(error) => {
                self.undo_image(&work, &client).await;
                Err(error)
            }
        }
    }

    /// The state that an image is on loom; answers its chain id too.
    async fn stack(&self, client: &Client, name: &str, documents: Documents) -> Result<(String, Stack)> {
        let chain_id = documents.chain_id().ok_or_else(|| incomplete(name))?;
        let (namespace, key) = (client.target().namespace.clone(), chain_id.clone());
        let seen = blocking(&self.core, move |core| {
            core.by_client_key(&namespace, &key)?.map(|state| core.get(state.id)).transpose()
        });
        let seen = seen.await?.ok_or_else(|| {
            Error::precondition(
                format!("image {name:?}"),
                "it is not unpacked on loom; run or pull it with --snapshotter loom first",
            )
        })?;
        Ok((chain_id, Stack { state: seen.snapshot, chain: seen.chain, documents }))
    }

    /// Writes what has no blob of an image as one layer, and has its state known by the chain id that it has with
    /// that. `stack` has at least one layer without a blob.
    pub(super) async fn write_out(
        &self,
        work: &Work,
        leased: &Client,
        stack: Stack,
        snapshotter: &str,
        compression: Compression,
    ) -> Result<(Id, Documents, Descriptor, Blob)> {
        let state = stack.state.id;
        let WrittenOut { documents, base, layer } = self.compose(work, leased, stack, compression).await?;
        work.step("publish")?;
        let chain_id = documents.chain_id().unwrap_or_default();
        let made = Made { operation: Some(work.id()), expires: None };
        let grant = self.core.grant(state, made)?;
        snapshots::publish(leased, snapshotter, &chain_id, &base, &grant.label()).await?;
        let namespace = leased.target().namespace.clone();
        let snapshot = self.snapshot_of(&namespace, &chain_id).await;
        let snapshot = snapshot.ok_or_else(|| Error::SnapshotNotFound(chain_id))?;
        let target = documents.write(leased, snapshotter).await?;
        Ok((snapshot, documents, target, layer))
    }

    /// Writes what has no blob of an image as one layer. Nothing but the lease knows of it then.
    pub(super) async fn compose(
        &self,
        work: &Work,
        leased: &Client,
        stack: Stack,
        compression: Compression,
    ) -> Result<WrittenOut> {
        work.step("write")?;
        let Stack { state: _, chain, mut documents } = stack;
        let chain_ids = chain_ids(&documents.diff_ids());
        let whole = lacking(leased, &documents).await?;
        let (kept, count) = self.base(leased, &chain_ids[..whole], &chain).await?;
        let layer = self.write_layer(work, leased, chain, count, compression).await?;
        let described = json!({"mediaType": layer.media, "digest": layer.digest, "size": layer.size});
        collapse(&mut documents, kept, described, &layer.diff_id);
        let base = kept.checked_sub(1).map(|top| chain_ids[top].clone()).unwrap_or_default();
        Ok(WrittenOut { documents, base, layer })
    }

    /// How many of these layers stay, and how many of the chain are above them.
    async fn base(&self, client: &Client, chain_ids: &[String], chain: &[Layer]) -> Result<(usize, usize)> {
        for (below, chain_id) in chain_ids.iter().enumerate().rev() {
            let (namespace, key) = (client.target().namespace.clone(), chain_id.clone());
            let base = blocking(&self.core, move |core| core.by_client_key(&namespace, &key)).await?;
            // On the pool one state's layer has all that is above the plain ones in it, and stands on no other's.
            let standing = base.and_then(|base| base.layer);
            if let Some(above) = chain.iter().position(|layer| Some(layer.id) == standing) {
                return Ok((below + 1, above));
            }
        }
        Ok((0, chain.len()))
    }

    /// Has every name that stands for an image stand for the new one.
    async fn refer(
        &self,
        work: &Work,
        leased: &Client,
        name: String,
        before: &Descriptor,
        written: (Id, Documents, Descriptor, Blob),
    ) -> Result<Portable> {
        let (snapshot, documents, target, layer) = written;
        work.step("image")?;
        let all = image_store::list(leased).await?;
        let is_before = |image: &Image| image.target.as_ref().is_some_and(|now| now.digest == before.digest);
        let records: Vec<Image> = all.into_iter().filter(is_before).collect();
        if !records.iter().any(|record| record.name == name) {
            return Err(Error::Busy(format!("image {name:?}")));
        }
        work.plan(&Moved {
            names: records.iter().map(|record| record.name.clone()).collect(),
            before: Some(Place::of(before)),
            after: target.digest.clone(),
        })
        .await?;
        for record in records {
            image_store::replace(leased, Image { target: Some(target.clone()), ..record }).await?;
        }
        let chain_id = documents.chain_id().unwrap_or_default();
        let image = Committed { image: name, digest: target.digest, chain_id, snapshot, cost: None };
        let size = u64::try_from(layer.size).unwrap_or_default();
        let made = Portable { image, layer: Some((layer.digest, size)) };
        work.decided(&made).await?;
        Ok(made)
    }
}

/// What a restart needs to undo it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Moved {
    /// The names that are to stand for another image.
    names: Vec<String>,
    /// What they stood for.
    before: Option<Place>,
    /// The digest of what they are to stand for.
    after: String,
}

/// A descriptor, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    media: String,
    digest: String,
    size: i64,
    annotations: std::collections::BTreeMap<String, String>,
}

impl Place {
    fn of(target: &Descriptor) -> Self {
        Self {
            media: target.media_type.clone(),
            digest: target.digest.clone(),
            size: target.size,
            annotations: target.annotations.clone().into_iter().collect(),
        }
    }
}

impl Moved {
    /// Has the names stand for what they stood for, but for those that stand for something else by now.
    pub(super) async fn undo(self, client: &Client) -> Result<()> {
        let Some(Place { media, digest, size, annotations }) = self.before else { return Ok(()) };
        let annotations = annotations.into_iter().collect();
        let before = Descriptor { media_type: media, digest, size, annotations };
        for name in self.names {
            let Some(record) = image_store::get(client, &name).await? else { continue };
            if record.target.as_ref().is_some_and(|now| now.digest == self.after) {
                image_store::replace(client, Image { target: Some(before.clone()), ..record }).await?;
            }
        }
        Ok(())
    }
}

/// How many of an image's layers, from the lowest on, have blobs here.
pub(super) async fn lacking(client: &Client, documents: &Documents) -> Result<usize> {
    for (below, layer) in documents.layers.iter().enumerate() {
        let digest = layer["digest"].as_str().unwrap_or_default();
        if image_config::is_of_node(layer) || !content::has(client, digest).await? {
            return Ok(below);
        }
    }
    Ok(documents.layers.len())
}

fn incomplete(name: &str) -> Error {
    Error::precondition(format!("image {name:?}"), "its documents are not here for this machine; pull it again")
}

/// Puts one layer in place of all but the lowest `kept`. Of what history tells of them, the last stands for it.
fn collapse(documents: &mut Documents, kept: usize, layer: Value, diff_id: &str) {
    let layered = |entry: &Value| entry["empty_layer"] != true;
    let history = |documents: &Documents| documents.config["history"].as_array().cloned().unwrap_or_default();
    let last = history(documents).iter().rposition(layered);
    let all = history(documents).iter().filter(|entry| layered(entry)).count();
    documents.keep_layers(kept);
    documents.push(layer, diff_id);
    if let Some(last) = last.filter(|_| all > kept)
        && let Some(entry) = documents.config["history"][last].as_object_mut()
    {
        entry.remove("empty_layer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(history: &[(&str, bool)]) -> Documents {
        let entry = |(by, empty): &(&str, bool)| {
            if *empty { json!({"created_by": by, "empty_layer": true}) } else { json!({"created_by": by}) }
        };
        let layers: Vec<_> = history.iter().filter(|(_, empty)| !empty).map(|(by, _)| json!({"digest": by})).collect();
        let ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
        let history: Vec<_> = history.iter().map(entry).collect();
        let config = json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}, "history": history});
        Documents { layers, config }
    }

    #[test]
    fn history_has_an_entry_with_a_layer_for_each_layer() {
        let whole = [("a", false), ("env", true), ("b", false), ("c", false), ("cmd", true)];
        for (kept, left) in [
            (0, vec!["c"]),
            (1, vec!["a", "c"]),
            (2, vec!["a", "b", "c"]),
        ] {
            let mut image = image(&whole);
            collapse(&mut image, kept, json!({"digest": "new"}), "diff");
            let entries = image.config["history"].as_array().cloned().unwrap_or_default();
            assert_eq!(entries.len(), whole.len());
            let layered: Vec<_> = entries
                .iter()
                .filter(|entry| entry["empty_layer"] != true)
                .filter_map(|entry| entry["created_by"].as_str())
                .collect();
            assert_eq!(layered, left);
            assert_eq!((image.layers.len(), image.diff_ids().len()), (kept + 1, kept + 1));
            assert_eq!(image.diff_ids().last(), Some(&"diff"));
        }
        let mut bare = image(&[]);
        collapse(&mut bare, 0, json!({"digest": "new"}), "diff");
        assert_eq!(bare.layers.len(), 1);
    }
}
