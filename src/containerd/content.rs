//! containerd's content store: the documents of images.
//!
//! What is written is kept by the lease of whoever writes it until something that is kept refers to it: an image to
//! its manifest, a label to whatever else.

use std::collections::HashMap;

use containerd_client::services::v1::{
    Info, InfoRequest, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest,
};
use containerd_client::tonic::Code;
use containerd_client::types::Descriptor;
use futures::StreamExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::client::{Client, or_missing};
use crate::error::{Error, Result};
use crate::store::Id;

/// The most bytes of a document: what containerd takes of a manifest.
const LONGEST: usize = 8 << 20;

/// The digest of these bytes, as containerd writes it.
pub(super) fn digest(data: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(data))
}

/// A document by its digest; none where it is not here.
pub(super) async fn read(client: &Client, digest: &str) -> Result<Option<Vec<u8>>> {
    let failed = || client.failed(format!("read {digest}"));
    let request = client.look(ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 });
    let answer = or_missing(client.content().read(request).await).map_err(failed())?;
    let Some(mut answers) = answer.map(containerd_client::tonic::Response::into_inner) else {
        return Ok(None);
    };
    let mut document = Vec::new();
    // What is missing may be told with the first part only.
    while let Some(part) = or_missing(answers.message().await).map_err(failed())? {
        let Some(part) = part else { return Ok(Some(document)) };
        document.extend_from_slice(&part.data);
        if document.len() > LONGEST {
            return Err(Error::precondition(
                format!("content {digest}"),
                format!("it has more than {LONGEST} bytes, and is no document of an image"),
            ));
        }
    }
    Ok(None)
}

/// True where a blob is here, whole.
pub(super) async fn has(client: &Client, digest: &str) -> Result<bool> {
    Ok(info(client, digest).await?.is_some())
}

/// What is said of a blob for collectors and others; nothing of one that is not here.
pub(super) async fn labels(client: &Client, digest: &str) -> Result<HashMap<String, String>> {
    Ok(info(client, digest).await?.map(|info| info.labels).unwrap_or_default())
}

async fn info(client: &Client, digest: &str) -> Result<Option<Info>> {
    let request = client.look(InfoRequest { digest: digest.to_owned() });
    let answer = or_missing(client.content().info(request).await);
    let answer = answer.map_err(client.failed(format!("look up {digest}")))?;
    Ok(answer.and_then(|answer| answer.into_inner().info))
}

/// Writes a document with labels (a collector's references); it may be there already, and then gets the labels too.
pub(super) async fn write(
    client: &Client,
    media: &str,
    document: &Value,
    labels: &[(String, String)],
) -> Result<Descriptor> {
    crate::fault::point("containerd.content.write")?;
    let data = document.to_string().into_bytes();
    let digest = digest(&data);
    let size = i64::try_from(data.len()).unwrap_or(i64::MAX);
    let descriptor =
        Descriptor { media_type: media.to_owned(), digest: digest.clone(), size, ..Descriptor::default() };
    let message = WriteContentRequest {
        action: WriteAction::Commit.into(),
        // A writer of its own: two that write the same at once would wait for each other.
        r#ref: format!("loom-{}", Id::random()?),
        total: size,
        expected: digest.clone(),
        data,
        labels: labels.iter().cloned().collect(),
        ..WriteContentRequest::default()
    };
    let request = client.request(futures::stream::iter([message]));
    let written = async {
        let mut answers = client.content().write(request).await?.into_inner();
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    };
    match written.await {
        Ok(()) => {}
        Err(status) if Code::AlreadyExists == containerd_client::tonic::Status::code(&status) => {
            label(client, &digest, labels).await?;
        }
        Err(status) => return Err(client.failed(format!("write {digest}"))(status)),
    }
    Ok(descriptor)
}

/// Adds labels to what is there.
pub(super) async fn label(client: &Client, digest: &str, labels: &[(String, String)]) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let paths = labels.iter().map(|(label, _)| format!("labels.{label}")).collect();
    let info =
        Info { digest: digest.to_owned(), labels: labels.iter().cloned().collect(), ..Info::default() };
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = client.request(UpdateRequest { info: Some(info), update_mask });
    client.content().update(request).await.map_err(client.failed(format!("label {digest}")))?;
    Ok(())
}
