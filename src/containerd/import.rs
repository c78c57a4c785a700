//! Import: an image of an archive, a plain tar or an image layout of the OCI.
//!
//! ```text
//! plan ── lease ── blobs, as they come ── layers unpacked through containerd ── documents ── image ── result ── lease
//! written          (content store)        (our own plain layers)                (labels)             written    ended
//! ```
//!
//! The image has all its blobs, so it is portable from the start. What fails before the result is written leaves
//! nothing: the image goes by its plan, and all else with the lease.

use containerd_client::types::Descriptor;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc::Receiver;

use super::blob::Blob;
use super::client::Client;
use super::commit::Plan;
use super::image::config::{self, Documents, MANIFEST};
use super::image::manifest::{Manifest, absent, described};
use super::leases::Lease;
use super::unpack::Unpack;
use super::{Brancher, Committed, Compression, Options, Target, blob, content, image, request, snapshots};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::store::{Id, OperationKind, Time};

/// Where programs are in a tree that does not say so, as every tool has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

mod form;
mod incoming;
mod layout;
mod store;

use form::{Coding, Content};
use incoming::Incoming;
use layout::{Layout, What};
use store::{Store, Written};

/// An image that is to be made of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Import {
    /// Its name; none for the one that an OCI archive names.
    pub image: Option<String>,
    /// Changes of its configuration, for a plain tar.
    pub changes: Vec<String>,
    /// What its history says of it.
    pub message: String,
    /// What containerd calls us.
    pub snapshotter: String,
}

/// What was read of an archive, once all its blobs are in the content store.
enum Read {
    /// A tree, which is one layer.
    Tree(Descriptor),
    /// An image's archive.
    Layout(Layout),
}

impl Brancher {
    /// Reads the archive to its end; an error in it is one that its sender had. Answers the operation too.
    ///
    /// A plain tar becomes an image of one layer, for this machine's platform. Of an image's archive that has
    /// several platforms, this machine's is taken; of several image, the one that is named.
    pub async fn import(
        &self,
        target: &Target,
        import: Import,
        options: Options,
        from: Receiver<Result<Vec<u8>>>,
    ) -> Result<(Id, Committed)> {
        let name = import.image.as_deref().map(image::name::whole).transpose()?;
        // What is wrong with them is told before anything is read.
        config::apply(&mut json!({}), &import.changes)?;
        let subject = name.as_ref().map_or_else(|| "archive".to_owned(), |name| format!("image:{name}"));
        let ask = request::ask(OperationKind::Import, target, &subject, &options, &import)?;
        Box::pin(self.operations.run(ask, |work| self.import_archive(work, target, import, name, from))).await
    }

    async fn import_archive(
        &self,
        work: Work,
        target: &Target,
        import: Import,
        name: Option<String>,
        from: Receiver<Result<Vec<u8>>>,
    ) -> Result<Committed> {
        work.step("resolve")?;
        let client = Client::connect(target).await?;
        self.recover_in(&client).await?;
        if let Some(name) = &name {
            unused(&client, name).await?;
        }
        let plan = Plan { snapshotter: import.snapshotter.clone(), replaces: Vec::new() };
        work.plan(&plan).await?;
        let made = async {
            let lease = Lease::take(&client, self.core.layers().root(), work.id()).await?;
            self.import_leased(&work, lease.client(), &import, name, from).await
        };
        self.close_image(&work, &client, &plan, made.await).await
    }

    async fn import_leased(
        &self,
        work: &Work,
        leased: &Client,
        import: &Import,
        name: Option<String>,
        from: Receiver<Result<Vec<u8>>>,
    ) -> Result<Committed> {
        self.ours(leased, &import.snapshotter).await?;
        work.step("read")?;
        let read = read(work, leased, from).await?;
        work.step("unpack")?;
        let unpack = Unpack { work, leased, snapshotter: &import.snapshotter };
        let (name, manifest, chain_id) = match read {
            Read::Tree(layer) => {
                let name = name.ok_or_else(|| {
                    Error::invalid("the image", "a plain tar names none; say how it is to be called")
                })?;
                let (manifest, chain_id) = of_tree(unpack, import, &layer).await?;
                (name, manifest, chain_id)
            }
            Read::Layout(layout) => {
                let found = layout.image(import.image.as_deref().or(name.as_deref()))?;
                let name = name.map_or_else(|| of_archive(found.name.as_deref()), Ok)?;
                unused(leased, &name).await?;
                let whole = whole(leased, found.what).await?;
                let chain_id = unpack_all(unpack, &whole).await?;
                label(leased, &import.snapshotter, &whole, &chain_id).await?;
                (name, whole.descriptor, chain_id)
            }
        };
        let namespace = leased.target().namespace.clone();
        let snapshot = self.snapshot_of(&namespace, &chain_id).await.ok_or_else(|| Error::NotOnLoom {
            name: name.clone(),
            snapshotter: import.snapshotter.clone(),
        })?;
        work.step("image")?;
        let digest = manifest.digest.clone();
        crate::fault::point("containerd.import.name")?;
        image::create(leased, image::record(&name, manifest, work.id())).await?;
        let made = Committed { image: name, digest, chain_id, snapshot, cost: None };
        work.decided(&made).await?;
        Ok(made)
    }
}

impl Brancher {
    /// Refuses a snapshotter of containerd's that is not this one, before anything is read for it: what is prepared
    /// there does not come here.
    async fn ours(&self, leased: &Client, snapshotter: &str) -> Result<()> {
        let key = format!("extract-{} none", Id::random()?);
        snapshots::prepare_layer(leased, snapshotter, &key, "", None).await?;
        let came = self.snapshot_of(&leased.target().namespace, &key).await.is_some();
        snapshots::remove(leased, snapshotter, &key).await?;
        if came {
            return Ok(());
        }
        let why = "it is not this loomd; name what containerd calls it in its proxy_plugins";
        Err(Error::precondition(format!("snapshotter {snapshotter:?}"), why))
    }
}

/// Has all blobs of an archive in the content store. A tree is compressed, where it is not yet.
async fn read(work: &Work, leased: &Client, from: Receiver<Result<Vec<u8>>>) -> Result<Read> {
    let (incoming, failed) = Incoming::new(from, work);
    let looked = blocking_read(move || form::look(incoming)).await;
    let archive = looked.map_err(|error| failed.or(error))?;
    let store = Store::new(leased, work, failed.clone());
    match (archive.content, archive.coding) {
        (Content::Tree, Coding::None) => {
            let mut tar = form::Ended::new(archive.bytes);
            let read = move |parts: &mut blob::Parts| {
                std::io::copy(&mut tar, parts).map_err(|e| failed.or(form::bad(&e)))?;
                tar.check()
            };
            let Blob { media, digest, size, .. } =
                blob::write_tar(work, leased, Compression::default(), read).await?;
            Ok(Read::Tree(descriptor(media, digest, size)))
        }
        (Content::Tree, coding) => {
            let mut tar = archive.bytes;
            let Written { digest, size } = blocking_read(move || store.put(&mut tar)).await?;
            Ok(Read::Tree(descriptor(coding.layer(), digest, size)))
        }
        (Content::Image, coding) => {
            let files = move || {
                let mut files = coding.open(archive.bytes)?;
                let layout = Layout::read(&mut files, &mut |file| store.put(file))
                    .map_err(|error| failed.or(error))?;
                // What is behind the end is the sender's to be rid of: an error in it is one too.
                std::io::copy(&mut files, &mut std::io::sink()).map_err(|e| failed.or(form::bad(&e)))?;
                Ok(Read::Layout(layout))
            };
            blocking_read(files).await
        }
    }
}

/// Reads on a thread that may block.
async fn blocking_read<T: Send + 'static>(read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|died| Error::Internal(format!("the reader of an archive died: {died}")))?
}

fn descriptor(media: &str, digest: String, size: i64) -> Descriptor {
    Descriptor { media_type: media.to_owned(), digest, size, ..Descriptor::default() }
}

/// The name that an archive gives its image.
fn of_archive(name: Option<&str>) -> Result<String> {
    let name =
        name.ok_or_else(|| Error::invalid("the archive", "it does not say how its image is called; say it"))?;
    image::name::whole(name)
}

/// Refuses a name that an image has.
async fn unused(client: &Client, name: &str) -> Result<()> {
    match image::get(client, name).await? {
        Some(_) => Err(image::exists(client, name)),
        None => Ok(()),
    }
}

/// Makes an image of one layer; answers its manifest and its chain id.
async fn of_tree(unpack: Unpack<'_>, import: &Import, layer: &Descriptor) -> Result<(Descriptor, String)> {
    let (diff_id, chain_id) = unpack.layer("", layer, None).await?;
    let mut image = Documents::bare(None);
    // Where a change adds another variable, nobody else would say where programs are.
    image.config["config"]["Env"] = json!([PATH]);
    let described = config::descriptor(&layer.media_type, &layer.digest, layer.size);
    image.push(described, &diff_id);
    image.record(Time::now(), "loom import", "", &import.message);
    config::apply(&mut image.config, &import.changes)?;
    Ok((image.write(unpack.leased, unpack.snapshotter).await?, chain_id))
}

/// Finds this machine's manifest, and whether all that it names is there.
async fn whole(leased: &Client, what: What) -> Result<Manifest> {
    let target = match what {
        What::Manifest(document) => content::write(leased, MANIFEST, &document, &[]).await?,
        What::Target(target) => described(&target)?,
    };
    let manifest = Manifest::read(leased, &target).await?;
    if manifest.layers.is_empty() {
        return Err(Error::invalid("the archive", "its image has no layers"));
    }
    match manifest.missing(leased).await? {
        Some(digest) => Err(absent(digest)),
        None => Ok(manifest),
    }
}

/// Unpacks an image's layers; answers its chain id.
async fn unpack_all(unpack: Unpack<'_>, image: &Manifest) -> Result<String> {
    let mut chain_id = String::new();
    // In bytes, as all that is told of an import.
    let size = |layer: &Descriptor| u64::try_from(layer.size).unwrap_or(0);
    let total = image.layers.iter().map(size).sum();
    let mut done = 0;
    for (layer, diff_id) in image.layers.iter().zip(image.documents.diff_ids()) {
        unpack.work.progress(done, total);
        (_, chain_id) = unpack.layer(&chain_id, layer, Some(diff_id)).await?;
        done += size(layer);
    }
    unpack.work.progress(done, total);
    Ok(chain_id)
}

/// Has an image's documents, which stay as they are, keep what they name.
async fn label(leased: &Client, snapshotter: &str, image: &Manifest, chain_id: &str) -> Result<()> {
    let keeps = [config::keeps_snapshot(snapshotter, chain_id)];
    content::label(leased, &image.config.digest, &keeps).await?;
    let layers = image.layers.iter().map(|layer| layer.digest.as_str());
    let keeps = config::keeps_content(&image.config.digest, layers);
    content::label(leased, &image.descriptor.digest, &keeps).await
}
