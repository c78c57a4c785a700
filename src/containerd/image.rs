//! The images of a namespace: containerd's records of them, and those that are on loom.
//!
//! - [`name`]: what an image is called
//! - [`manifest`], [`config`]: its documents, as they lie in the content store and as they are changed
//! - [`empty`]: that of nothing

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ListImagesRequest, UpdateImageRequest,
};
use containerd_client::tonic::Code;
use containerd_client::types::Descriptor;

use self::config::Documents;
use self::manifest::Manifest;
use super::birth::some_at_once;
use super::client::{Client, or_missing};
use super::{Brancher, OPERATION_LABEL, Target, blocking, is_silence};
use crate::error::{Error, Kind, Result};
use crate::snapshot::Snapshots;
use crate::store::{Id, Snapshot, Time};

pub(super) mod config;
pub(super) mod empty;
pub(super) mod manifest;
pub(super) mod name;

/// Chain ids that are remembered. A node has fewer images.
const REMEMBERED: usize = 10_000;
/// What is longer names no image, and is too much for a request. Bytes.
const LONGEST: usize = 4096;

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
    /// The images of a namespace whose top snapshot is on loom, by name. One that cannot be read is left out.
    pub async fn images(&self, target: &Target) -> Result<Vec<ImageSeen>> {
        let client = Client::connect(target).await?;
        let all = list(&client, Vec::new()).await?;
        let looks = all.iter().map(|image| async {
            match self.seen(&client, image).await {
                Err(error) if is_silence(&error) => Err(error),
                Err(error) => {
                    tracing::debug!(image = image.name, %error, "an image that cannot be read is left out");
                    Ok(None)
                }
                seen => seen,
            }
        });
        let seen: Result<Vec<_>> = some_at_once(looks.collect()).await.into_iter().collect();
        let mut seen: Vec<_> = seen?.into_iter().flatten().collect();
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seen)
    }

    /// One image, by its name.
    pub async fn image(&self, target: &Target, name: &str) -> Result<ImageSeen> {
        let client = Client::connect(target).await?;
        let image = resolve(&client, name).await?;
        self.seen(&client, &image).await?.ok_or_else(|| not_on_loom(&image.name))
    }

    /// The tops of a namespace's images that are on loom, with the images' names, by name. One that cannot be read
    /// is left out. Nothing is measured for it.
    pub(super) async fn tops(&self, target: &Target) -> Result<Vec<(Id, String)>> {
        let client = Client::connect(target).await?;
        let all = list(&client, Vec::new()).await?;
        let looks = all.iter().map(|image| async {
            let chain = self.chain_of(&client, image).await?;
            Some((chain, image.name.clone()))
        });
        let mut chains: Vec<_> = some_at_once(looks.collect()).await.into_iter().flatten().collect();
        chains.sort_by(|(_, a), (_, b)| a.cmp(b));
        let namespace = target.namespace.clone();
        blocking(&self.core, move |core| {
            let top = |(chain, name): (String, _)| {
                Some((top(core, &namespace, &chain).transpose()?.map(|top| top.id), name))
            };
            chains.into_iter().filter_map(top).map(|(top, name)| Ok((top?, name))).collect()
        })
        .await
    }

    /// The chain id of an image, which is read once; none where it cannot be read.
    async fn chain_of(&self, client: &Client, image: &Image) -> Option<String> {
        let digest = &image.target.as_ref()?.digest;
        let chains = || self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = chains().get(digest).cloned() {
            return Some(known);
        }
        let chain = documents(client, image).await.ok()??.chain_id()?;
        let mut chains = chains();
        if chains.len() >= REMEMBERED {
            chains.clear();
        }
        chains.insert(digest.clone(), chain.clone());
        Some(chain)
    }

    /// Gives an image another name, which one that has it loses.
    pub async fn tag(&self, target: &Target, image: &str, name: &str) -> Result<ImageSeen> {
        let name = name::whole(name)?;
        let client = Client::connect(target).await?;
        let from = resolve(&client, image).await?;
        let seen = self.seen(&client, &from).await?.ok_or_else(|| not_on_loom(&from.name))?;
        let mut labels = from.labels;
        // The operation made the other name.
        labels.remove(OPERATION_LABEL);
        let tagged = Image { name: name.clone(), labels, target: from.target, ..Image::default() };
        crate::fault::point("containerd.image.tag")?;
        match create(&client, tagged.clone()).await {
            Err(Error::ImageExists { .. }) => replace(&client, tagged).await?,
            made => made?,
        }
        Ok(ImageSeen { name, created: Time::now(), ..seen })
    }

    /// The snapshot that an image's name means.
    pub(super) async fn of_image(&self, target: &Target, name: &str) -> Result<Snapshot> {
        let client = Client::connect(target).await?;
        let image = resolve(&client, name).await?;
        let documents = documents(&client, &image).await?;
        let found = match &documents {
            Some(documents) => self.top_of(&client, documents).await?,
            None => None,
        };
        found.ok_or_else(|| not_on_loom(&image.name))
    }

    /// The snapshot of all layers of an image; none where it is not on loom.
    pub(super) async fn top_of(&self, client: &Client, documents: &Documents) -> Result<Option<Snapshot>> {
        let Some(chain) = documents.chain_id() else { return Ok(None) };
        let namespace = client.target().namespace.clone();
        blocking(&self.core, move |core| top(core, &namespace, &chain)).await
    }

    async fn seen(&self, client: &Client, image: &Image) -> Result<Option<ImageSeen>> {
        let Some(documents) = documents(client, image).await? else { return Ok(None) };
        let Some(snapshot) = self.top_of(client, &documents).await? else { return Ok(None) };
        let id = snapshot.id;
        let size = blocking(&self.core, move |core| core.whole_usage(id)).await?;
        let created = image.created_at.as_ref();
        Ok(Some(ImageSeen {
            name: image.name.clone(),
            namespace: client.target().namespace.clone(),
            digest: image.target.as_ref().map(|target| target.digest.clone()).unwrap_or_default(),
            chain_id: documents.chain_id().unwrap_or_default(),
            snapshot: id,
            portable: documents.is_portable(client).await?,
            created: created.map_or(Time(0), |at| {
                Time(at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into()))
            }),
            size: u64::try_from(size.size).unwrap_or_default(),
            platform: documents.platform(),
        }))
    }
}

/// The snapshot of all layers of a chain id.
fn top(core: &Arc<Snapshots>, namespace: &str, chain: &str) -> Result<Option<Snapshot>> {
    if let Some(found) = core.by_client_key(namespace, chain)? {
        return Ok(Some(found));
    }
    // What stands on nothing containerd may have taken over from another namespace.
    let same = core.store().read(|rows| rows.by_ref(chain))?;
    Ok(same.into_iter().find(|row| row.parent.is_none() && row.source.is_none()))
}

pub(super) fn not_on_loom(image: &str) -> Error {
    Error::precondition(
        format!("image {image:?}"),
        "it is not unpacked on loom; run a container of it with --snapshotter loom",
    )
}

/// The documents of an image; none where one of them is not here.
pub(super) async fn documents(client: &Client, image: &Image) -> Result<Option<Documents>> {
    Ok(manifest(client, image).await?.map(|manifest| manifest.documents))
}

/// The manifest of an image for this machine; none where one of its documents is not here, or is none of an image.
pub(super) async fn manifest(client: &Client, image: &Image) -> Result<Option<Manifest>> {
    let Some(target) = &image.target else { return Ok(None) };
    match Manifest::read(client, target).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) if error.kind() == Kind::InvalidArgument => Ok(None),
        Err(error) => Err(error),
    }
}

/// An image by its name, letter by letter.
pub(super) async fn get(client: &Client, name: &str) -> Result<Option<Image>> {
    let request = client.look(GetImageRequest { name: name.to_owned() });
    let answer = or_missing(client.images().get(request).await)
        .map_err(client.failed(format!("look up image {name:?}")))?;
    Ok(answer.and_then(|answer| answer.into_inner().image))
}

/// The image that people mean by a name: the one that is called so, else the one of the whole name.
pub(super) async fn resolve(client: &Client, name: &str) -> Result<Image> {
    let missing =
        || Error::ImageNotFound { name: name.to_owned(), namespace: client.target().namespace.clone() };
    if name.is_empty() || name.len() > LONGEST {
        return Err(missing());
    }
    if let Some(image) = get(client, name).await? {
        return Ok(image);
    }
    let whole = name::whole(name)?;
    let found = if whole == name { None } else { get(client, &whole).await? };
    found.ok_or_else(missing)
}

/// Those that carry an operation's label.
pub(super) async fn of_operation(client: &Client, operation: Id) -> Result<Vec<Image>> {
    list(client, vec![format!("labels.\"{OPERATION_LABEL}\"==\"{operation}\"")]).await
}

/// Those that stand for this content.
pub(super) async fn of_target(client: &Client, digest: &str) -> Result<Vec<Image>> {
    let all = list(client, vec![format!("target.digest==\"{digest}\"")]).await?;
    let same = |image: &Image| image.target.as_ref().is_some_and(|target| target.digest == digest);
    Ok(all.into_iter().filter(same).collect())
}

/// Those that any filter lets through; all where there is none.
async fn list(client: &Client, filters: Vec<String>) -> Result<Vec<Image>> {
    let request = client.look(ListImagesRequest { filters });
    let answer = client.images().list(request).await.map_err(client.failed("list images"))?;
    Ok(answer.into_inner().images)
}

/// Makes an image's record; `ImageExists` where its name is taken.
pub(super) async fn create(client: &Client, image: Image) -> Result<()> {
    let name = image.name.clone();
    let request = client.request(CreateImageRequest { image: Some(image), ..CreateImageRequest::default() });
    match client.images().create(request).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => Err(exists(client, &name)),
        Err(status) => Err(client.failed(format!("make image {name:?}"))(status)),
    }
}

/// Gives a name that is taken another content, and other labels.
pub(super) async fn replace(client: &Client, image: Image) -> Result<()> {
    let name = image.name.clone();
    let paths = ["target", "labels"].map(str::to_owned).to_vec();
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = client.request(UpdateImageRequest {
        image: Some(image),
        update_mask,
        ..UpdateImageRequest::default()
    });
    client.images().update(request).await.map_err(client.failed(format!("change image {name:?}")))?;
    Ok(())
}

/// Removes an image's record; one that is gone is gone.
pub(super) async fn remove(client: &Client, name: &str) -> Result<()> {
    let request =
        client.request(DeleteImageRequest { name: name.to_owned(), ..DeleteImageRequest::default() });
    or_missing(client.images().delete(request).await)
        .map_err(client.failed(format!("remove image {name:?}")))?;
    Ok(())
}

/// Its name is taken.
pub(super) fn exists(client: &Client, name: &str) -> Error {
    Error::ImageExists { name: name.to_owned(), namespace: client.target().namespace.clone() }
}

/// The record of an image that an operation makes.
pub(super) fn record(name: &str, target: Descriptor, operation: Id) -> Image {
    let labels = HashMap::from([(OPERATION_LABEL.to_owned(), operation.to_string())]);
    Image { name: name.to_owned(), labels, target: Some(target), ..Image::default() }
}
