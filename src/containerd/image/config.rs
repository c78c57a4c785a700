//! What an image says of itself: its manifest, its configuration and history, and the instructions of a Dockerfile
//! that change it.
//!
//! ```text
//! name ─► (index ─►) manifest ─┬─► layers     a blob each, but for those of this node alone
//!                              └─► config     process, history, diff ids ─► chain id ─► snapshot
//! ```
//!
//! Documents are kept as plain JSON: what we do not know of them, we pass on. What is written is of the OCI, whatever
//! was read. A layer of this node alone has no blob: its diff id is the digest of a text that names its state, and
//! nothing but its chain id leads to its bytes.

use std::collections::HashMap;

use containerd_client::types::Descriptor;
use serde_json::{Map, Value, json};

use crate::containerd::client::Client;
use crate::containerd::content;
use crate::error::Result;
use crate::store::{Id, Time};

mod instruction;
mod process;
mod words;

pub(in crate::containerd) use instruction::apply;
pub(in crate::containerd) use process::{args, of_container};

/// The media types of what is written.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(in crate::containerd) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// That of a layer as it is, not compressed.
pub(in crate::containerd) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's own, and what they are called by the OCI.
const DOCKERS: [(&str, &str); 6] = [
    ("application/vnd.docker.distribution.manifest.v2+json", MANIFEST),
    ("application/vnd.docker.distribution.manifest.list.v2+json", INDEX),
    ("application/vnd.docker.container.image.v1+json", CONFIG),
    ("application/vnd.docker.image.rootfs.diff.tar", LAYER),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ),
];
/// The annotation of a layer that is this node's alone: the id of its state.
const STATE: &str = "loom.state";
/// What a collector's reference to a snapshot begins with; the snapshotter follows.
const KEEPS_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";
/// What we are called where nobody chose another name.
const USUAL: &str = "loom";
/// What its references to content begin with.
const KEEPS_CONTENT: &str = "containerd.io/gc.ref.content.";

/// An image for one platform.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::containerd) struct Documents {
    /// Its layers' descriptors, the lowest first.
    pub(in crate::containerd) layers: Vec<Value>,
    /// Its configuration.
    pub(in crate::containerd) config: Value,
}

impl Documents {
    /// Those of an image with these layers' descriptors and this configuration.
    pub(in crate::containerd) fn of(layers: &[Value], config: Value) -> Self {
        let mut layers = layers.to_vec();
        layers.iter_mut().for_each(as_oci);
        Self { layers, config }
    }

    /// An image of nothing, for a platform such as `linux/arm/v7` or for this machine's.
    pub(in crate::containerd) fn bare(platform: Option<&str>) -> Self {
        let mut parts = platform.unwrap_or_default().split('/');
        let part =
            |part: Option<&str>, own: &str| part.filter(|part| !part.is_empty()).unwrap_or(own).to_owned();
        let os = part(parts.next(), "linux");
        let architecture = part(parts.next(), architecture());
        let mut config = json!({
            "os": os,
            "architecture": architecture,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        if let Some(variant) = parts.next() {
            config["variant"] = json!(variant);
        }
        Self { layers: Vec::new(), config }
    }

    /// The digests of its layers' bytes, the lowest first.
    pub(in crate::containerd) fn diff_ids(&self) -> Vec<&str> {
        let ids = self.config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The name of the snapshot of all its layers; none where it has no layer.
    pub(in crate::containerd) fn chain_id(&self) -> Option<String> {
        chain_ids(&self.diff_ids()).pop()
    }

    /// Its platform, such as `linux/amd64`.
    pub(in crate::containerd) fn platform(&self) -> String {
        let parts = ["os", "architecture", "variant"].map(|part| self.config.get(part));
        let parts = parts.into_iter().flatten().filter_map(Value::as_str).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("/")
    }

    /// Adds a layer on top.
    pub(in crate::containerd) fn push(&mut self, layer: Value, diff_id: &str) {
        self.layers.push(layer);
        change_in(&mut self.config, "rootfs", |rootfs| {
            rootfs.insert("type".to_owned(), json!("layers"));
            append(rootfs, "diff_ids", json!(diff_id));
        });
    }

    /// Takes all layers but the lowest `count` away. History goes on telling what was done, and that it has no
    /// layer of its own any more.
    pub(in crate::containerd) fn keep_layers(&mut self, count: usize) {
        self.layers.truncate(count);
        if let Some(Value::Array(ids)) = self.config.pointer_mut("/rootfs/diff_ids") {
            ids.truncate(count);
        }
        let Some(Value::Array(history)) = self.config.get_mut("history") else { return };
        let layered = |entry: &&mut Value| entry.get("empty_layer") != Some(&Value::Bool(true));
        for entry in history.iter_mut().filter(layered).skip(count) {
            change(entry, |entry| entry.insert("empty_layer".to_owned(), Value::Bool(true)));
        }
    }

    /// Adds an entry for the topmost layer to its history; the image is made at this moment, by this author where
    /// one is named.
    pub(in crate::containerd) fn record(
        &mut self,
        created: Time,
        created_by: &str,
        author: &str,
        comment: &str,
    ) {
        let created = created.to_string();
        let mut entry = json!({"created": created, "created_by": created_by});
        for (field, text) in [("author", author), ("comment", comment)] {
            if !text.is_empty() {
                entry[field] = json!(text);
            }
        }
        change(&mut self.config, |config| {
            // nerdctl's history wants to know when of each.
            let before = config.insert("created".to_owned(), json!(created));
            if let Some(Value::Array(history)) = config.get_mut("history") {
                let before = before.unwrap_or_else(|| json!(Time(0).to_string()));
                let unknown = history.iter_mut().filter(|entry| entry.get("created").is_none());
                unknown.for_each(|entry| {
                    change(entry, |entry| _ = entry.insert("created".to_owned(), before.clone()));
                });
            }
            if !author.is_empty() {
                config.insert("author".to_owned(), json!(author));
            }
            append(config, "history", entry);
        });
    }

    /// Writes both documents: the configuration keeps the snapshot of its layers, the manifest keeps it and the
    /// blobs that are here. Answers what an image's record is to name.
    pub(in crate::containerd) async fn write(
        &self,
        leased: &Client,
        snapshotter: &str,
    ) -> Result<Descriptor> {
        let keeps: Vec<_> =
            self.chain_id().map(|chain| keeps_snapshot(snapshotter, &chain)).into_iter().collect();
        let config = content::write(leased, CONFIG, &self.config, &keeps).await?;
        let mut here = Vec::new();
        for layer in &self.layers {
            if let Some(digest) = blob(leased, layer).await? {
                here.push(digest);
            }
        }
        let keeps = keeps_content(&config.digest, here);
        let manifest = manifest(&config.digest, config.size, &self.layers);
        content::write(leased, MANIFEST, &manifest, &keeps).await
    }

    /// How many of its layers, from the lowest on, have blobs here.
    pub(in crate::containerd) async fn blobs(&self, client: &Client) -> Result<usize> {
        for (below, layer) in self.layers.iter().enumerate() {
            if blob(client, layer).await?.is_none() {
                return Ok(below);
            }
        }
        Ok(self.layers.len())
    }

    /// True where all its layers have blobs here.
    pub(in crate::containerd) async fn is_portable(&self, client: &Client) -> Result<bool> {
        Ok(self.blobs(client).await? == self.layers.len())
    }
}

/// The digest of a layer's blob; none where it is not here, or the layer is this node's alone.
async fn blob<'a>(client: &Client, layer: &'a Value) -> Result<Option<&'a str>> {
    let Some(digest) = layer.get("digest").and_then(Value::as_str) else { return Ok(None) };
    let here = !is_of_node(layer) && content::has(client, digest).await?;
    Ok(here.then_some(digest))
}

/// The manifest of an image with this configuration and these layers, which are descriptors.
pub(in crate::containerd) fn manifest(config: &str, size: i64, layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config, size),
        "layers": layers,
    })
}

/// A blob, as documents name it.
pub(in crate::containerd) fn descriptor(media: &str, digest: &str, size: i64) -> Value {
    json!({"mediaType": media, "digest": digest, "size": size})
}

/// What has a configuration keep the snapshot of an image's layers.
pub(in crate::containerd) fn keeps_snapshot(snapshotter: &str, chain_id: &str) -> (String, String) {
    (format!("{KEEPS_SNAPSHOT}{snapshotter}"), chain_id.to_owned())
}

/// What has a manifest keep its configuration and these layers.
pub(in crate::containerd) fn keeps_content<'a>(
    config: &str,
    layers: impl IntoIterator<Item = &'a str>,
) -> Vec<(String, String)> {
    let layers = layers.into_iter().enumerate();
    let layers = layers.map(|(n, digest)| (format!("{KEEPS_CONTENT}l.{n}"), digest.to_owned()));
    std::iter::once((format!("{KEEPS_CONTENT}config"), config.to_owned())).chain(layers).collect()
}

/// The snapshotter that these labels of a configuration say has the snapshot of its layers. Of several, our own
/// usual name goes first.
pub(in crate::containerd) fn snapshotter(labels: &HashMap<String, String>, chain_id: &str) -> Option<String> {
    let having = labels.iter().filter(|(_, chain)| *chain == chain_id);
    let mut names: Vec<&str> = having.filter_map(|(label, _)| label.strip_prefix(KEEPS_SNAPSHOT)).collect();
    names.sort_by_key(|name| (*name != USUAL, *name));
    names.first().map(|name| (*name).to_owned())
}

/// The chain ids of these layers, the lowest first: what containerd calls their snapshots.
pub(in crate::containerd) fn chain_ids(diff_ids: &[&str]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(chain_id(chain.last().map_or("", String::as_str), diff_id));
    }
    chain
}

/// The chain id of a layer on those below it (`""` for none).
pub(in crate::containerd) fn chain_id(below: &str, diff_id: &str) -> String {
    if below.is_empty() {
        return diff_id.to_owned();
    }
    content::digest(format!("{below} {diff_id}").as_bytes())
}

/// The layer that a state is on this node alone, and its diff id. It is of one namespace: no other can have it by
/// its name.
pub(in crate::containerd) fn of_node(state: Id, namespace: &str) -> (Value, String) {
    let text = format!("loom: state {state} in namespace {namespace}, on this node alone");
    let digest = content::digest(text.as_bytes());
    let size = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let mut layer = descriptor(LAYER, &digest, size);
    layer["annotations"] = json!({STATE: state.to_string()});
    (layer, digest)
}

/// True for a layer that is this node's alone.
pub(in crate::containerd) fn is_of_node(layer: &Value) -> bool {
    layer.get("annotations").is_some_and(|annotations| annotations.get(STATE).is_some())
}

/// Go's name for this machine's architecture.
pub(in crate::containerd) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Calls a descriptor's media type as the OCI does.
fn as_oci(descriptor: &mut Value) {
    let media = descriptor.get("mediaType").and_then(Value::as_str);
    if let Some((_, ocis)) = DOCKERS.iter().find(|(dockers, _)| Some(*dockers) == media) {
        descriptor["mediaType"] = json!(ocis);
    }
}

/// Changes the members of an object; what is none becomes one.
fn change<T>(value: &mut Value, how: impl FnOnce(&mut Map<String, Value>) -> T) -> T {
    let mut members = match value.take() {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let done = how(&mut members);
    *value = Value::Object(members);
    done
}

/// Changes the members of an object in an object.
fn change_in<T>(value: &mut Value, member: &str, how: impl FnOnce(&mut Map<String, Value>) -> T) -> T {
    change(value, |members| change(members.entry(member).or_insert(Value::Null), how))
}

/// Adds to the list that a member is; what is none becomes one.
fn append(members: &mut Map<String, Value>, member: &str, item: Value) {
    match members.get_mut(member) {
        Some(Value::Array(list)) => list.push(item),
        _ => _ = members.insert(member.to_owned(), Value::Array(vec![item])),
    }
}

#[cfg(test)]
mod tests;
