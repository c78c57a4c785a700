//! A manifest as it lies in the content store, byte for byte: the blobs that are its image, and where they go to.

use containerd_client::types::Descriptor;
use serde_json::Value;

use super::client::Client;
use super::content;
use super::image_config::{architecture, for_this_machine};
use crate::error::{Error, Result};

/// How deep indexes may lie in each other.
const DEEPEST: usize = 4;

/// An image's blobs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manifest {
    /// Its own.
    pub(super) descriptor: Descriptor,
    /// That of its configuration.
    pub(super) config: Descriptor,
    /// Those of its layers, the lowest first.
    pub(super) layers: Vec<Descriptor>,
    /// The digests of the layers' tars.
    pub(super) diff_ids: Vec<String>,
    /// Its operating system and architecture.
    pub(super) platform: Value,
}

impl Manifest {
    /// That which a descriptor leads to: its own, or this machine's of an index. Its documents must be here, and
    /// say the same.
    pub(super) async fn read(client: &Client, target: &Descriptor) -> Result<Self> {
        let mut descriptor = target.clone();
        let mut document = document(client, &descriptor.digest).await?;
        for _ in 0..DEEPEST {
            let Some(manifests) = document["manifests"].as_array() else { break };
            let ours = for_this_machine(manifests);
            let chosen = match (
                manifests.iter().find(|one| one["digest"].as_str() == ours.as_deref()),
                &manifests[..],
            ) {
                (Some(ours), _) | (None, [ours]) => described(ours)?,
                _ => {
                    return Err(wrong(
                        &descriptor.digest,
                        &format!("its image is for other platforms than linux/{}", architecture()),
                    ));
                }
            };
            document = self::document(client, &chosen.digest).await?;
            descriptor = chosen;
        }
        let config = described(&document["config"])?;
        let layers = document["layers"].as_array().into_iter().flatten();
        let layers = layers.map(described).collect::<Result<Vec<_>>>()?;
        let mut configured = self::document(client, &config.digest).await?;
        let diff_ids = configured.pointer_mut("/rootfs/diff_ids").map(Value::take).unwrap_or_default();
        let diff_ids: Vec<String> = serde_json::from_value(diff_ids).unwrap_or_default();
        if diff_ids.len() != layers.len() {
            let why = format!("it has {} layers, and its configuration {}", layers.len(), diff_ids.len());
            return Err(wrong(&descriptor.digest, &why));
        }
        let mut platform = serde_json::Map::new();
        for part in ["architecture", "os", "variant"] {
            if let Some(value) =
                configured.get(part).filter(|value| value.as_str().is_some_and(|text| !text.is_empty()))
            {
                platform.insert(part.to_owned(), value.clone());
            }
        }
        Ok(Self { descriptor, config, layers, diff_ids, platform: platform.into() })
    }

    /// The first of its layers that is not here.
    pub(super) async fn missing(&self, client: &Client) -> Result<Option<&str>> {
        for layer in &self.layers {
            if !content::has(client, &layer.digest).await? {
                return Ok(Some(&layer.digest));
            }
        }
        Ok(None)
    }
}

/// Reads a descriptor.
pub(super) fn described(descriptor: &Value) -> Result<Descriptor> {
    let text = |field: &str| descriptor[field].as_str().unwrap_or_default().to_owned();
    let (media_type, digest) = (text("mediaType"), text("digest"));
    match descriptor["size"].as_i64() {
        Some(size) if !digest.is_empty() => {
            Ok(Descriptor { media_type, digest, size, ..Descriptor::default() })
        }
        _ => Err(Error::invalid(format!("descriptor {descriptor}"), "it names no blob")),
    }
}

async fn document(client: &Client, digest: &str) -> Result<Value> {
    let text = content::read(client, digest).await?.ok_or_else(|| absent(digest))?;
    serde_json::from_slice(&text).map_err(|e| wrong(digest, &format!("it is no document of an image: {e}")))
}

/// A blob that an image needs is not here.
pub(super) fn absent(digest: &str) -> Error {
    wrong(digest, "it is not here, and the image is not whole without it")
}

fn wrong(digest: &str, why: &str) -> Error {
    Error::invalid(format!("content {digest}"), why)
}
