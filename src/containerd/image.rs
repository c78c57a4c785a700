//! An image of nothing: what another tool makes a container of whose content is then replaced.
//!
//! It has no layers, so that it is unpacked everywhere and nothing is copied out of it. It is an operation's,
//! and called after it.

use std::path::Path;

use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, Image, WriteAction, WriteContentRequest,
};
use containerd_client::tonic::Code;
use containerd_client::types::Descriptor;
use futures::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::client::{Client, or_missing};
use super::leases::Lease;
use crate::error::Result;
use crate::store::Id;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What the image of an operation is called.
fn name(operation: Id) -> String {
    // A name that no registry has.
    format!("loom.invalid/empty:{operation}")
}

/// Makes that of an operation, for a platform such as `linux/arm/v7` or for this machine's; answers its name.
pub(super) async fn empty(
    client: &Client,
    operation: Id,
    platform: Option<&str>,
    root: &Path,
) -> Result<String> {
    crate::fault::point("containerd.image.create")?;
    // What nothing names yet would be collected.
    let lease = Lease::take(client, root, operation).await?;
    let made = make(lease.client(), &name(operation), platform).await;
    lease.end().await?;
    made?;
    Ok(name(operation))
}

async fn make(client: &Client, name: &str, platform: Option<&str>) -> Result<()> {
    let config = write(client, CONFIG, &config(platform), None).await?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
        "layers": [],
    });
    let target = write(client, MANIFEST, &manifest, Some(&config.digest)).await?;
    let image = Image { name: name.to_owned(), target: Some(target), ..Image::default() };
    let request = client.request(CreateImageRequest { image: Some(image), ..CreateImageRequest::default() });
    match client.images().create(request).await {
        Err(status) if status.code() != Code::AlreadyExists => {
            Err(client.failed(format!("make image {name:?}"))(status))
        }
        _ => Ok(()),
    }
}

/// Removes that of an operation; one that is gone is gone.
pub(super) async fn remove(client: &Client, operation: Id) -> Result<()> {
    let name = name(operation);
    let request = client.request(DeleteImageRequest { name: name.clone(), ..DeleteImageRequest::default() });
    or_missing(client.images().delete(request).await)
        .map_err(client.failed(format!("remove image {name:?}")))?;
    Ok(())
}

fn config(platform: Option<&str>) -> Value {
    let mut parts = platform.unwrap_or_default().split('/');
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let part = |part: Option<&str>, own: &str| part.filter(|part| !part.is_empty()).unwrap_or(own).to_owned();
    let os = part(parts.next(), "linux");
    let architecture = part(parts.next(), own);
    let mut config = json!({
        "os": os,
        "architecture": architecture,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    if let Some(variant) = parts.next() {
        config["variant"] = json!(variant);
    }
    config
}

/// Writes a document, which keeps another one; it may be there already.
async fn write(client: &Client, media: &str, document: &Value, keeps: Option<&str>) -> Result<Descriptor> {
    let data = document.to_string().into_bytes();
    let digest = format!("sha256:{:x}", Sha256::digest(&data));
    let size = i64::try_from(data.len()).unwrap_or(i64::MAX);
    let descriptor =
        Descriptor { media_type: media.to_owned(), digest: digest.clone(), size, ..Descriptor::default() };
    let label = keeps.map(|other| ("containerd.io/gc.ref.content.config".to_owned(), other.to_owned()));
    let message = WriteContentRequest {
        action: WriteAction::Commit.into(),
        // A writer of its own: two that write the same at once would wait for each other.
        r#ref: format!("loom-{}", Id::random()?),
        total: size,
        expected: digest.clone(),
        data,
        labels: label.into_iter().collect(),
        ..WriteContentRequest::default()
    };
    let failed = || client.failed(format!("write {digest}"));
    let request = client.request(futures::stream::iter([message]));
    let mut answers = match client.content().write(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) if status.code() == Code::AlreadyExists => return Ok(descriptor),
        Err(status) => return Err(failed()(status)),
    };
    while let Some(answer) = answers.next().await {
        match answer {
            Err(status) if status.code() == Code::AlreadyExists => return Ok(descriptor),
            answer => answer.map_err(failed())?,
        };
    }
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_is_the_sources_or_the_machines() {
        let arm = config(Some("linux/arm/v7"));
        assert_eq!(
            (&arm["os"], &arm["architecture"], &arm["variant"]),
            (&json!("linux"), &json!("arm"), &json!("v7"))
        );
        for none in [None, Some("")] {
            let own = config(none);
            assert_eq!(own["os"], "linux");
            assert!(own["architecture"] != "" && own.get("variant").is_none());
        }
    }
}
