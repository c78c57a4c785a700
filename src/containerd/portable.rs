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
use serde_json::Value;

use super::blob::Blob;
use super::client::Client;
use super::commit::{Plan, Replaced};
use super::image::config::{self, Documents, chain_ids};
use super::image::manifest::Manifest;
use super::leases::Lease;
use super::{
    Brancher, Committed, Compression, OPERATION_LABEL, Options, Portable, Target, blocking, content, image,
    request,
};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::store::{Id, Layer, OperationKind};

/// An image that is on loom.
struct Found {
    record: Image,
    /// The digest of its target.
    digest: String,
    documents: Documents,
    chain_id: String,
    /// The snapshot of that.
    state: Id,
    /// What containerd calls us there.
    snapshotter: String,
}

/// An image's layers, all of which have blobs.
#[derive(Debug)]
pub(super) struct Composed {
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
        let image = image.strip_prefix("image:").unwrap_or(image);
        let subject = format!("image:{image}");
        let ask = request::ask(OperationKind::Portable, target, &subject, &options, &compression)?;
        Box::pin(self.operations.run(ask, |work| self.portable_image(work, target, image, compression))).await
    }

    async fn portable_image(
        &self,
        work: Work,
        target: &Target,
        image: &str,
        compression: Compression,
    ) -> Result<Portable> {
        work.step("resolve")?;
        let client = Client::connect(target).await?;
        self.recover_in(&client).await?;
        let record = image::resolve(&client, image).await?;
        let found = self.image_here(&client, record).await?;
        if found.documents.is_portable(&client).await? {
            return Ok(found.unchanged());
        }
        let records = image::of_target(&client, &found.digest).await?;
        let replaces = records.iter().cloned().filter_map(Replaced::of).collect();
        let plan = Plan { snapshotter: found.snapshotter.clone(), replaces };
        work.plan(&plan).await?;
        let made = async {
            let lease = Lease::take(&client, self.core.layers().root(), work.id()).await?;
            let made = self.write_out(&work, &lease, found, records, compression).await?;
            work.decided(&made).await?;
            Ok(made)
        };
        self.close_image(&work, &client, &plan, made.await).await
    }

    /// The same for one name within another operation, which has a lease and undoes what it made.
    pub(super) async fn make_portable(
        &self,
        work: &Work,
        lease: &Lease,
        image: &str,
        compression: Compression,
    ) -> Result<Portable> {
        let record = image::resolve(lease.client(), image).await?;
        let found = self.image_here(lease.client(), record.clone()).await?;
        if found.documents.is_portable(lease.client()).await? {
            return Ok(found.unchanged());
        }
        self.write_out(work, lease, found, vec![record], compression).await
    }

    /// What there is of an image on loom.
    async fn image_here(&self, client: &Client, record: Image) -> Result<Found> {
        let incomplete = || {
            let why = "its documents are not here for this machine; pull it again";
            Error::precondition(format!("image {:?}", record.name), why)
        };
        let digest = record.target.as_ref().map(|target| target.digest.clone()).ok_or_else(incomplete)?;
        let manifest = image::manifest(client, &record).await?.ok_or_else(incomplete)?;
        let Manifest { config, documents, .. } = manifest;
        let chain_id = documents.chain_id().ok_or_else(incomplete)?;
        let state = self.top_of(client, &documents).await?.ok_or_else(|| image::not_on_loom(&record.name))?;
        let labels = content::labels(client, &config.digest).await?;
        let snapshotter =
            config::snapshotter(&labels, &chain_id).ok_or_else(|| image::not_on_loom(&record.name))?;
        Ok(Found { record, digest, documents, chain_id, state: state.id, snapshotter })
    }

    /// Writes what has no blob of an image, publishes its state with that, and has the records, of which one is the
    /// image's own, stand for it.
    async fn write_out(
        &self,
        work: &Work,
        lease: &Lease,
        found: Found,
        records: Vec<Image>,
        compression: Compression,
    ) -> Result<Portable> {
        let Found { record, digest, documents, chain_id, state, snapshotter } = found;
        // What is read, and may have to come back, is not to go meanwhile, whoever removes the image.
        lease.keep_content(&digest).await?;
        lease.keep_snapshot(&snapshotter, &chain_id).await?;
        let composed = self.compose(work, lease.client(), state, documents, compression).await?;
        let Composed { documents, base, layer } = composed;
        work.step("image")?;
        let chain_id = documents.chain_id().unwrap_or_default();
        self.publish(work.id(), lease, &snapshotter, &chain_id, &base, state).await?;
        let namespace = lease.client().target().namespace.clone();
        let snapshot = self.snapshot_of(&namespace, &chain_id).await;
        let snapshot = snapshot.ok_or_else(|| Error::SnapshotNotFound(chain_id.clone()))?;
        let target = documents.write(lease.client(), &snapshotter).await?;
        work.check()?;
        let named = refer(lease.client(), &record.name, records, &digest, &target, work.id());
        named.await?;
        let image = Committed { image: record.name, digest: target.digest, chain_id, snapshot, cost: None };
        let size = u64::try_from(layer.size).unwrap_or_default();
        Ok(Portable { image, layer: Some((layer.digest, size)) })
    }

    /// Writes what has no blob of the image of a state as one layer. Nothing but the client's lease knows of it then.
    pub(super) async fn compose(
        &self,
        work: &Work,
        leased: &Client,
        state: Id,
        mut documents: Documents,
        compression: Compression,
    ) -> Result<Composed> {
        work.step("write")?;
        let chain = blocking(&self.core, move |core| Ok(core.get(state)?.chain)).await?;
        let whole = documents.blobs(leased).await?;
        let (kept, count) = self.base(leased, &documents, whole, &chain).await?;
        let below = chain_ids(&documents.diff_ids()).into_iter().take(kept).next_back().unwrap_or_default();
        let layer = self.write_layer(work, leased, chain, count, compression).await?;
        let described = config::descriptor(layer.media, &layer.digest, layer.size);
        collapse(&mut documents, kept, described, &layer.diff_id);
        Ok(Composed { documents, base: below, layer })
    }

    /// How many of an image's lowest `whole` layers stay, and how many of the chain are above them.
    async fn base(
        &self,
        client: &Client,
        documents: &Documents,
        whole: usize,
        chain: &[Layer],
    ) -> Result<(usize, usize)> {
        for kept in (1..=whole).rev() {
            let mut below = documents.clone();
            below.keep_layers(kept);
            let base = self.top_of(client, &below).await?.and_then(|base| base.layer);
            // On the pool a state's layer has all in it that is above the plain ones, and stands on no other state's.
            if let Some(above) = chain.iter().position(|layer| Some(layer.id) == base) {
                return Ok((kept, above));
            }
        }
        Ok((0, chain.len()))
    }
}

impl Found {
    /// There is nothing to write.
    fn unchanged(self) -> Portable {
        let Self { record, digest, chain_id, state, .. } = self;
        let image = Committed { image: record.name, digest, chain_id, snapshot: state, cost: None };
        Portable { image, layer: None }
    }
}

/// Has the records that still stand for `before` stand for `target`; that of `name` must be one of them.
async fn refer(
    leased: &Client,
    name: &str,
    records: Vec<Image>,
    before: &str,
    target: &Descriptor,
    operation: Id,
) -> Result<()> {
    let now = image::of_target(leased, before).await?;
    if !now.iter().any(|record| record.name == name) {
        // Whoever made it another one meanwhile is not to lose that.
        return Err(Error::Busy(format!("image {name:?}")));
    }
    for record in now.into_iter().filter(|now| records.iter().any(|record| record.name == now.name)) {
        crate::fault::point("containerd.portable.name")?;
        let mut labels = record.labels;
        labels.insert(OPERATION_LABEL.to_owned(), operation.to_string());
        let target = Some(target.clone());
        image::replace(leased, Image { name: record.name, labels, target, ..Image::default() }).await?;
    }
    Ok(())
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
    use serde_json::json;

    use super::*;

    fn image(history: &[(&str, bool)]) -> Documents {
        let entry = |(by, empty): &(&str, bool)| {
            if *empty { json!({"created_by": by, "empty_layer": true}) } else { json!({"created_by": by}) }
        };
        let layers: Vec<_> =
            history.iter().filter(|(_, empty)| !empty).map(|(by, _)| json!({"digest": by})).collect();
        let ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
        let history: Vec<_> = history.iter().map(entry).collect();
        let config =
            json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}, "history": history});
        Documents { layers, config }
    }

    #[test]
    fn history_has_an_entry_with_a_layer_for_each_layer() {
        let whole = [("a", false), ("env", true), ("b", false), ("c", false), ("cmd", true)];
        for (kept, left) in [(0, vec!["c"]), (1, vec!["a", "c"]), (2, vec!["a", "b", "c"])] {
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
