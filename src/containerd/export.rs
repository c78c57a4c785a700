//! Export: a state, or an image, as an archive.
//!
//! ```text
//!  tar   state (of a container: taken, and released behind it) ──► its tree
//!  oci   image, whole ─────────────────────────────────────────► its blobs
//!        image, in part this node's alone ── made portable ────►
//!        state ── lease ── written as a layer, documents ──────►  all of which goes with the lease
//! ```
//!
//! What is sent is sent as it is read: a receiver that is slow is waited for, and one that is gone ends it.

use tokio::sync::mpsc::Sender;

use super::client::Client;
use super::commit::Plan;
use super::image::manifest::Manifest;
use super::leases::Lease;
use super::reference::Reference;
use super::state::Taking;
use super::{
    Archive, Brancher, Commit, Committed, Compression, Holder, Options, Portable, Target, blob, blocking,
    image, request,
};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::snapshot::Keep;
use crate::store::{Id, Kind, OperationKind, Snapshot};

mod layout;

/// What an export sends to.
#[derive(Debug, Clone)]
struct Receiver(Sender<Vec<u8>>);

impl Receiver {
    /// Sends a part; false where nobody wants it any more.
    async fn send(&self, part: Vec<u8>) -> bool {
        part.is_empty() || self.0.send(part).await.is_ok()
    }
}

/// What is exported.
struct Request<'a> {
    target: &'a Target,
    reference: &'a str,
    compression: Compression,
    image: Option<String>,
    options: Options,
}

impl Brancher {
    /// Sends the archive in parts; one that its receiver does not want any more ends without an error.
    ///
    /// A container is exported as it is now. An image of which a part is this node's alone is made portable, as
    /// `portable` does it, before it goes into an OCI archive; of a state nothing stays.
    #[allow(clippy::too_many_arguments)] // As it is asked for.
    pub async fn export(
        &self,
        target: &Target,
        reference: &str,
        archive: Archive,
        compression: Compression,
        image: Option<String>,
        options: Options,
        to: Sender<Vec<u8>>,
    ) -> Result<()> {
        options.check()?;
        let image = image.as_deref().map(image::name::whole).transpose()?;
        let request = Request { target, reference, compression, image, options };
        let to = Receiver(to);
        match archive {
            Archive::Tar => self.export_tree(request, to).await,
            Archive::Oci => self.export_image(request, to).await,
        }
    }

    async fn export_tree(&self, request: Request<'_>, to: Receiver) -> Result<()> {
        let (found, holder) = self.locate(request.target, request.reference).await?;
        let holder = match holder {
            None if found.kind == Kind::Active => Self::holder(&self.core, request.target, &found).await?,
            holder => holder,
        };
        let consistency = request.options.consistency;
        let taking = Taking { consistency, ..Taking::of(Keep::ForClones) };
        let (state, taken) = self.exported(found, holder.as_ref(), taking).await?;
        // Where it is in use nobody removes it, and its layers stay while they are read.
        let _needed = self.core.need(state.id);
        let id = state.id;
        let sent = async {
            let chain = blocking(&self.core, move |core| Ok(core.get(id)?.chain)).await?;
            blob::send_tree(&self.core, chain, to.0, |_| Ok(())).await
        };
        let sent = sent.await;
        if taken {
            self.release(id).await;
        }
        sent
    }

    /// The committed state that a snapshot is, or that is taken of it; true where it was taken.
    async fn exported(
        &self,
        found: Snapshot,
        holder: Option<&Holder>,
        taking: Taking,
    ) -> Result<(Snapshot, bool)> {
        match found.kind {
            Kind::Committed => Ok((found, false)),
            Kind::Active => Ok((self.take(found.id, taking, holder).await?.0, true)),
            Kind::View => Err(Error::WrongKind {
                key: found.title(),
                kind: found.kind,
                needs: "an active or a committed one is exported",
            }),
        }
    }
}

impl Brancher {
    async fn export_image(&self, request: Request<'_>, to: Receiver) -> Result<()> {
        // By its id it can be called off.
        let operation = match request.options.operation {
            Some(id) => id,
            None => Id::random()?,
        };
        let options = Options { operation: Some(operation), ..request.options.clone() };
        let mut request = Request { options, ..request };
        let whole = match self.image_meant(&request).await? {
            Some(name) => self.whole_image(&mut request, &name, &to).await?,
            None => return self.until_gone(operation, &to, self.export_state(&request, &to)).await.map(drop),
        };
        let Some((client, manifest)) = whole else { return Ok(()) };
        let lease = Lease::take(&client, self.core.layers().root(), Id::random()?).await?;
        let sent = async {
            // Whoever removes the image meanwhile.
            lease.keep_content(&manifest.descriptor.digest).await?;
            layout::send(lease.client(), &manifest, request.image.as_deref(), &to).await
        };
        let sent = sent.await;
        if let Err(error) = lease.end().await {
            tracing::warn!(%error, "a lease of an export is left to expire");
        }
        sent
    }

    /// The name of the image that a reference means; none where it means a container or a snapshot.
    async fn image_meant(&self, request: &Request<'_>) -> Result<Option<String>> {
        match Reference::parse(request.reference)? {
            Reference::Image(name) => Ok(Some(name.to_owned())),
            Reference::Container { .. } | Reference::Snapshot(_) => Ok(None),
            Reference::Bare(name) => {
                match self.container(request.target, request.reference).await {
                    Err(Error::ContainerNotFound { .. } | Error::Invalid { .. }) => {}
                    Err(error) => return Err(error),
                    Ok(_) => return Ok(None),
                }
                match self.named(name).await {
                    Err(Error::SnapshotNotFound(_)) => Ok(Some(name.to_owned())),
                    found => found.map(|_| None),
                }
            }
        }
    }

    /// An image with all its blobs, for which it may have to be made portable; none where nobody wants it any more.
    async fn whole_image(
        &self,
        request: &mut Request<'_>,
        name: &str,
        to: &Receiver,
    ) -> Result<Option<(Client, Manifest)>> {
        let client = Client::connect(request.target).await?;
        let record = image::resolve(&client, name).await?;
        request.image.get_or_insert(record.name.clone());
        let mut manifest = Manifest::read(&client, &record.target.unwrap_or_default()).await?;
        if manifest.missing(&client).await?.is_some() {
            let options = request.options.clone();
            let operation = options.operation.unwrap_or(Id::random()?);
            let made = self.portable(request.target, &record.name, request.compression, options);
            if self.until_gone(operation, to, made).await?.is_none() {
                return Ok(None);
            }
            let record = image::resolve(&client, &record.name).await?;
            manifest = Manifest::read(&client, &record.target.unwrap_or_default()).await?;
        }
        Ok(Some((client, manifest)))
    }

    /// Writes what is an image of a state for as long as it is sent.
    async fn export_state(&self, request: &Request<'_>, to: &Receiver) -> Result<(Id, Portable)> {
        let more = (request.compression, &request.image);
        let ask = request::ask(
            OperationKind::Portable,
            request.target,
            request.reference,
            &request.options,
            &more,
        )?;
        let target = Target { namespace: ask.namespace.clone(), ..request.target.clone() };
        let run = self.operations.run(ask, |work| self.send_state(work, target, request, to));
        Box::pin(run).await
    }

    async fn send_state(
        &self,
        work: Work,
        target: Target,
        request: &Request<'_>,
        to: &Receiver,
    ) -> Result<Portable> {
        work.step("resolve")?;
        let (found, holder, captured) = self.source(&target, request.reference).await?;
        let client = Client::connect(&target).await?;
        self.recover_in(&client).await?;
        let plan = Plan { snapshotter: captured.snapshotter.clone(), replaces: Vec::new() };
        work.plan(&plan).await?;
        work.step("state")?;
        let taking = Taking::asked(Keep::ForClones, &work, &request.options);
        let (state, taken) = self.exported(found, holder.as_ref(), taking).await?;
        let _needed = self.core.need(state.id);
        let made = async {
            let lease = Lease::take(&client, self.core.layers().root(), work.id()).await?;
            let leased = lease.client();
            let (documents, _) = self.describe(&work, leased, &state, &captured, &Commit::default()).await?;
            let composed = self.compose(&work, leased, state.id, documents, request.compression).await?;
            let target = composed.documents.write(leased, &captured.snapshotter).await?;
            work.step("send")?;
            let manifest = Manifest::read(leased, &target).await?;
            layout::send(leased, &manifest, request.image.as_deref(), to).await?;
            let image = Committed {
                image: request.image.clone().unwrap_or_default(),
                digest: target.digest,
                chain_id: composed.documents.chain_id().unwrap_or_default(),
                snapshot: state.id,
                cost: None,
            };
            let size = u64::try_from(composed.layer.size).unwrap_or_default();
            Ok(Portable { image, layer: Some((composed.layer.digest, size)) })
        };
        let made = self.close_image(&work, &client, &plan, made.await).await;
        if taken {
            self.release(state.id).await;
        }
        made
    }

    /// Waits for an operation's end, and calls it off once nobody wants what it is for; then there is no answer.
    async fn until_gone<T>(
        &self,
        operation: Id,
        to: &Receiver,
        work: impl Future<Output = Result<T>>,
    ) -> Result<Option<T>> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            made = &mut work => return made.map(Some),
            () = to.0.closed() => {}
        }
        // One that is not under way any more has ended.
        let _ = self.operations.cancel(&operation.to_string());
        match work.await {
            Ok(_) | Err(Error::Cancelled(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
