//! A manifest as it lies in the content store, byte for byte: the blobs that are its image, and where they go to.

use containerd_client::types::Descriptor;
use serde_json::Value;

use super::config::{Documents, architecture};
use crate::containerd::client::Client;
use crate::containerd::content;
use crate::error::{Error, Result};

/// How deep indexes may lie in each other.
const DEEPEST: usize = 4;

/// An image's blobs.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::containerd) struct Manifest {
    /// Its own.
    pub(in crate::containerd) descriptor: Descriptor,
    /// That of its configuration.
    pub(in crate::containerd) config: Descriptor,
    /// Those of its layers, the lowest first.
    pub(in crate::containerd) layers: Vec<Descriptor>,
    /// What these say.
    pub(in crate::containerd) documents: Documents,
}

impl Manifest {
    /// That which a descriptor leads to: its own, or this machine's of an index. Its documents must be here, and
    /// say the same.
    pub(in crate::containerd) async fn read(client: &Client, target: &Descriptor) -> Result<Self> {
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
        let layers = document["layers"].as_array().map_or(&[][..], Vec::as_slice);
        let documents = Documents::of(layers, self::document(client, &config.digest).await?);
        let layers = layers.iter().map(described).collect::<Result<Vec<_>>>()?;
        let configured = documents.diff_ids().len();
        if configured != layers.len() {
            let why = format!("it has {} layers, and its configuration {configured}", layers.len());
            return Err(wrong(&descriptor.digest, &why));
        }
        Ok(Self { descriptor, config, layers, documents })
    }

    /// Its operating system and architecture.
    pub(in crate::containerd) fn platform(&self) -> Value {
        let part = |part: &'static str| {
            let value = self.documents.config.get(part).and_then(Value::as_str)?;
            (!value.is_empty()).then(|| (part.to_owned(), value.into()))
        };
        Value::Object(["architecture", "os", "variant"].into_iter().filter_map(part).collect())
    }

    /// The first of its layers that is not here.
    pub(in crate::containerd) async fn missing(&self, client: &Client) -> Result<Option<&str>> {
        for layer in &self.layers {
            if !content::has(client, &layer.digest).await? {
                return Ok(Some(&layer.digest));
            }
        }
        Ok(None)
    }
}

/// The digest of the manifest that containerd takes of several on this machine: its own architecture, newest variant
/// first, then one that it can run too.
fn for_this_machine(all: &[Value]) -> Option<String> {
    let text = |manifest: &Value, at: &str| manifest.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let rank = |manifest: &Value| {
        if text(manifest, "/platform/os").is_some_and(|os| os != "linux") {
            return None;
        }
        let variant = text(manifest, "/platform/variant").unwrap_or_default();
        let variant = variant.trim_start_matches('v').parse().unwrap_or(0_u32);
        match (architecture(), text(manifest, "/platform/architecture").as_deref()) {
            // Newer variants of amd64 may have what this machine has not.
            ("amd64", Some("amd64")) => Some((2, u32::MAX - variant)),
            (own, Some(its)) if own == its => Some((2, variant)),
            ("amd64", Some("386")) | ("arm64", Some("arm")) => Some((1, variant)),
            // It does not say, and may be any.
            (_, None) => Some((0, 0)),
            _ => None,
        }
    };
    let ranked = all.iter().filter_map(|manifest| Some((rank(manifest)?, text(manifest, "/digest")?)));
    // The first of those that are as good.
    ranked.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, digest)| digest)
}

/// Reads a descriptor.
pub(in crate::containerd) fn described(descriptor: &Value) -> Result<Descriptor> {
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
pub(in crate::containerd) fn absent(digest: &str) -> Error {
    wrong(digest, "it is not here, and the image is not whole without it")
}

fn wrong(digest: &str, why: &str) -> Error {
    Error::invalid(format!("content {digest}"), why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_several_manifests_this_machines_is_taken() {
        let manifest = |architecture: &str, variant: &str, digest: &str| json!({"digest": digest, "platform": {"os": "linux", "architecture": architecture, "variant": variant}});
        let other = if architecture() == "amd64" { "s390x" } else { "amd64" };
        let own = [
            manifest("unknown", "", "attestation"),
            manifest(other, "", "other"),
            json!({"digest": "any"}),
            manifest(architecture(), "", "own"),
            manifest(architecture(), "", "second"),
            json!({"digest": "windows", "platform": {"os": "windows", "architecture": architecture()}}),
        ];
        assert_eq!(for_this_machine(&own).as_deref(), Some("own"));
        assert_eq!(for_this_machine(&own[..3]).as_deref(), Some("any"));
        assert_eq!(for_this_machine(&own[..2]), None);
    }
}
