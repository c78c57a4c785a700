//! Commit: an image of a state, in a moment and with nothing moved.
//!
//! ```text
//! plan ── state (one pause) ── lease ── Prepare with a grant and the chain id as its ref ── config, manifest ── image
//! written                               (a key on the state's own layer)                     (a few documents)
//! ```
//!
//! The image's top layer has no blob: its diff id is made of the state's id, and its snapshot is there under the
//! chain id, which is all that containerd's clients look at before they run a container of it.
//!
//! It stands on the layers of the image that the source was made of, where containerd has these and the state's bytes
//! lie on them; else the whole tree is its one layer. The record of the image comes last and shows all of it at once.
//! What fails, and what a crash cuts off before the result is written, is undone: the record goes by its label or its
//! old content comes back, and all else goes with the lease.

use std::collections::BTreeMap;
use std::time::Instant;

use containerd_client::services::v1::Image;
use containerd_client::types::Descriptor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::captured::Captured;
use super::client::Client;
use super::image::config::{self, Documents};
use super::leases::{self, Lease};
use super::recover::planned;
use super::state::Taking;
use super::{
    Brancher, Commit, Committed, Holder, Options, Target, blocking, bytes_gone, container_of, image, request,
    snapshots, undo,
};
use crate::error::{Error, Result};
use crate::operation::{Outcome, Work};
use crate::snapshot::{Cost, Keep, Made, key};
use crate::store::{Id, Kind, Operation, OperationKind, Snapshot, Time};

/// What a restart needs to undo the making of an image; its record is found by the operation's label.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// What containerd calls us.
    pub(super) snapshotter: String,
    /// What has the image's names before, and loses them.
    pub(super) replaces: Vec<Replaced>,
}

/// An image's record, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Replaced {
    name: String,
    labels: BTreeMap<String, String>,
    media: String,
    digest: String,
    size: i64,
}

/// What an image is made of.
struct Source {
    state: Snapshot,
    captured: Captured,
    /// What the state cost, where it was taken for this.
    cost: Option<Cost>,
}

/// What a new layer stands on.
struct Base {
    documents: Documents,
    /// What containerd calls the snapshot of its layers; empty for none.
    parent: String,
}

impl Brancher {
    /// Makes an image of a container, as it is now, or of a committed snapshot. Answers the operation too.
    pub async fn commit(
        &self,
        target: &Target,
        reference: &str,
        mut commit: Commit,
        options: Options,
    ) -> Result<(Id, Committed)> {
        commit.image = image::name::whole(&commit.image)?;
        config::apply(&mut json!({}), &commit.changes)?;
        let ask = request::ask(OperationKind::Commit, target, reference, &options, &commit)?;
        let target = Target { namespace: ask.namespace.clone(), ..target.clone() };
        Box::pin(self.operations.run(ask, |work| self.commit_state(work, target, reference, commit, options)))
            .await
    }

    async fn commit_state(
        &self,
        work: Work,
        target: Target,
        reference: &str,
        commit: Commit,
        options: Options,
    ) -> Result<Committed> {
        let begun = Instant::now();
        work.step("resolve")?;
        work.progress(0, 1);
        let (found, holder, captured) = self.source(&target, reference).await?;
        let client = Client::connect(&target).await?;
        self.recover_in(&client).await?;
        let plan = Plan {
            snapshotter: captured.snapshotter.clone(),
            replaces: match image::get(&client, &commit.image).await? {
                Some(_) if !commit.replace => return Err(image::exists(&client, &commit.image)),
                old => old.and_then(Replaced::of).into_iter().collect(),
            },
        };
        work.plan(&plan).await?;
        // Nobody removes a state that was asked for meanwhile.
        let _needed = self.core.need(found.id);
        let source = if found.kind == Kind::Committed {
            if found.layer.is_none() {
                return Err(bytes_gone(&found));
            }
            Source { state: found, captured, cost: None }
        } else {
            work.step("state")?;
            let taking = Taking::asked(Keep::ForClones, &work, &options);
            let (state, cost) = self.take(found.id, taking, holder.as_ref()).await?;
            Source { state, captured, cost: Some(cost) }
        };
        let (state, transient) = (source.state.id, source.state.transient);
        let made = async {
            work.step("image")?;
            // An image has the owners that its containers see, whatever user namespace its source runs in.
            let operation = Some(work.id());
            let unmapped = blocking(&self.core, move |core| core.unmapped(state, operation)).await?;
            let image = async {
                let lease = Lease::take(&client, self.core.layers().root(), work.id()).await?;
                let source = Source { state: unmapped.clone(), ..source };
                self.make_image(&work, &lease, &commit, source, begun).await
            };
            let image = image.await;
            if unmapped.id != state {
                self.release(unmapped.id).await;
            }
            image
        };
        let made = self.close_image(&work, &client, &plan, made.await).await;
        if transient {
            // The image stands on its layer by itself.
            self.release(state).await;
        }
        work.progress(1, 1);
        made
    }

    /// The snapshot that an image is to be made of, the container that has it where it is active, and what is known of
    /// the container that it is a state of.
    pub(super) async fn source(
        &self,
        target: &Target,
        reference: &str,
    ) -> Result<(Snapshot, Option<Holder>, Captured)> {
        let (found, holder) = self.locate(target, reference).await?;
        let holder = match holder {
            None if found.kind == Kind::Active => container_of(target, &found).await?,
            holder => holder,
        };
        let captured = captured(&found, holder.as_ref())?;
        Ok((found, holder, captured))
    }

    /// Publishes a state, and makes an image of it.
    async fn make_image(
        &self,
        work: &Work,
        lease: &Lease,
        commit: &Commit,
        source: Source,
        begun: Instant,
    ) -> Result<Committed> {
        let leased = lease.client();
        let Source { state, captured, cost } = source;
        let (documents, parent) = self.describe(work, leased, &state, &captured, commit).await?;
        let snapshotter = &captured.snapshotter;
        let chain_id = documents.chain_id().unwrap_or_default();
        self.publish(work.id(), lease, snapshotter, &chain_id, &parent, state.id).await?;
        let target = documents.write(leased, snapshotter).await?;
        work.check()?;
        let digest = target.digest.clone();
        self.name_image(lease, &commit.image, target, work.id(), commit.replace).await?;
        let namespace = leased.target().namespace.clone();
        let snapshot = self.snapshot_of(&namespace, &chain_id).await;
        let snapshot = snapshot.ok_or_else(|| Error::SnapshotNotFound(chain_id.clone()))?;
        let cost = cost.map(|cost| Cost { total: begun.elapsed(), ..cost });
        let mut made = Committed { image: commit.image.clone(), digest, chain_id, snapshot, cost };
        if let Some(compression) = commit.portable {
            let cost = made.cost.take();
            made = self.make_portable(work, lease, &commit.image, compression).await?.image;
            made.cost = cost;
        }
        work.decided(&made).await?;
        Ok(made)
    }

    /// The documents of an image of a state, whose own layer is on top and this node's alone; and the chain id of what
    /// that stands on.
    pub(super) async fn describe(
        &self,
        work: &Work,
        client: &Client,
        state: &Snapshot,
        captured: &Captured,
        commit: &Commit,
    ) -> Result<(Documents, String)> {
        let Base { mut documents, parent } = self.base_of(work, client, state, captured).await?;
        let (layer, diff_id) = config::of_node(state.id, &client.target().namespace);
        documents.push(layer, &diff_id);
        config::of_container(&mut documents.config, &captured.spec);
        config::apply(&mut documents.config, &commit.changes)?;
        let created_by = config::args(&captured.spec).join(" ");
        documents.record(Time::now(), &created_by, &commit.author, &commit.message);
        Ok((documents, parent))
    }

    /// What the layer of a state stands on: the layers of the image that its container was made of, where these
    /// are its own; nothing where they are not. That image's configuration holds in both cases.
    async fn base_of(
        &self,
        work: &Work,
        client: &Client,
        state: &Snapshot,
        captured: &Captured,
    ) -> Result<Base> {
        let image = match captured.image.as_str() {
            "" => None,
            name => image::get(client, name).await?,
        };
        let documents = match &image {
            Some(image) => image::documents(client, image).await?,
            None => None,
        };
        let state = state.id;
        let chain = documents.as_ref().and_then(Documents::chain_id);
        // A name may stand for another image by now. One without layers has nothing that could tell.
        let own = match chain.clone() {
            Some(chain) => blocking(&self.core, move |core| core.descends(state, &chain)).await?,
            None => true,
        };
        let Some(mut documents) = documents.filter(|_| own) else {
            work.warn(format!(
                "image {:?} is gone, or is another one by now: the new one has the configuration of the container's \
                 own process, and its whole tree as one layer",
                captured.image
            ));
            return Ok(Base { documents: Documents::bare(None), parent: String::new() });
        };
        let top = self.top_of(client, &documents).await?.map(|top| top.id);
        if let (Some(top), Some(chain)) = (top, chain)
            && blocking(&self.core, move |core| core.stands_on(state, top)).await?
            && snapshots::stat(client, &captured.snapshotter, &chain).await?.is_some()
        {
            return Ok(Base { documents, parent: chain });
        }
        documents.keep_layers(0);
        Ok(Base { documents, parent: String::new() })
    }

    /// Publishes a state under its chain id, and has the lease keep that.
    pub(super) async fn publish(
        &self,
        operation: Id,
        lease: &Lease,
        snapshotter: &str,
        chain_id: &str,
        parent: &str,
        state: Id,
    ) -> Result<()> {
        let grant = self.core.grant(state, Made { operation: Some(operation), expires: None })?;
        let leased = lease.client();
        snapshots::publish(leased, snapshotter, chain_id, parent, &grant.label()).await?;
        // It may have been there before, for another image that is removed at this moment.
        lease.keep_snapshot(snapshotter, chain_id).await?;
        if snapshots::stat(leased, snapshotter, chain_id).await?.is_none() {
            snapshots::publish(leased, snapshotter, chain_id, parent, &grant.label()).await?;
        }
        Ok(())
    }

    /// Makes an image's record, or gives that of its name this content.
    pub(super) async fn name_image(
        &self,
        lease: &Lease,
        name: &str,
        target: Descriptor,
        operation: Id,
        replace: bool,
    ) -> Result<()> {
        crate::fault::point("containerd.commit.name")?;
        let (leased, image) = (lease.client(), image::record(name, target, operation));
        if let Some(old) = image::get(leased, name).await?.filter(|_| replace) {
            if let Some(target) = old.target {
                // Until this holds, it may have to come back.
                lease.keep_content(&target.digest).await?;
            }
            return image::replace(leased, image).await;
        }
        image::create(leased, image).await
    }

    /// Ends the lease of an image that holds; of one that does not, nothing stays.
    pub(super) async fn close_image<T>(
        &self,
        work: &Work,
        client: &Client,
        plan: &Plan,
        made: Result<T>,
    ) -> Result<T> {
        undo::settle(work, client, made, || self.unmake_image(client, work.id(), plan)).await
    }

    /// Takes away what an operation made of an image, as far as it came.
    async fn unmake_image(&self, client: &Client, operation: Id, plan: &Plan) -> Result<()> {
        for made in image::of_operation(client, operation).await? {
            match plan.replaces.iter().find(|old| old.name == made.name) {
                Some(old) => image::replace(client, old.record()).await?,
                None => image::remove(client, &made.name).await?,
            }
        }
        leases::end(client, &leases::of_operation(operation), true).await?;
        let rows = blocking(&self.core, move |core| core.store().read(|rows| rows.by_operation(operation)));
        for key in rows.await?.into_iter().filter_map(|row| row.key) {
            let Some((namespace, name)) = key::parts(&key) else { continue };
            // What containerd has not taken over before its end came is nobody's.
            if namespace == client.target().namespace
                && snapshots::stat(client, &plan.snapshotter, name).await?.is_none()
            {
                match blocking(&self.core, move |core| core.remove(&key)).await {
                    Err(Error::SnapshotNotFound(_)) => {}
                    removed => removed?,
                }
            }
        }
        Ok(())
    }

    /// Undoes the making of an image that a crash cut off.
    pub(super) async fn recover_image(&self, client: &Client, operation: &Operation) -> Result<Outcome> {
        // Without a plan nothing was made yet.
        if let Some(plan) = &operation.plan {
            self.unmake_image(client, operation.id, &planned(operation.id, plan)?).await?;
        }
        Ok(Outcome::Undone)
    }
}

impl Replaced {
    /// Of a record that is to be changed.
    pub(super) fn of(image: Image) -> Option<Self> {
        let target = image.target?;
        let labels = image.labels.into_iter().collect();
        let Descriptor { media_type: media, digest, size, .. } = target;
        Some(Self { name: image.name, labels, media, digest, size })
    }

    fn record(&self) -> Image {
        let target = Descriptor {
            media_type: self.media.clone(),
            digest: self.digest.clone(),
            size: self.size,
            ..Descriptor::default()
        };
        Image {
            name: self.name.clone(),
            labels: self.labels.clone().into_iter().collect(),
            target: Some(target),
            ..Image::default()
        }
    }
}

/// The container that an image is made of, as it is or as it was kept with its state.
fn captured(found: &Snapshot, holder: Option<&Holder>) -> Result<Captured> {
    match (holder, &found.captured) {
        (Some(Holder { client, container }), _) => Captured::of(&client.target().namespace, container),
        (None, Some(json)) => Captured::from_json(&found.title(), json),
        (None, None) => Err(Error::precondition(
            format!("snapshot {:?}", found.title()),
            "it is no state of a container, so nothing tells what an image of it would start; commit a container, or \
             a snapshot that `loom snapshot` made of one",
        )),
    }
}
