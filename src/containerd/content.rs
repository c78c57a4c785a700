//! containerd's content store: the documents of images.

use containerd_client::types::Descriptor;
use serde_json::Value;

use super::client::Client;
use crate::error::Result;

/// A document by its digest; none where it is not here.
pub(super) async fn read(client: &Client, digest: &str) -> Result<Option<Vec<u8>>> {
    let _ = (client, digest);
    todo!()
}

/// True where a blob is here, whole.
pub(super) async fn has(client: &Client, digest: &str) -> Result<bool> {
    let _ = (client, digest);
    todo!()
}

/// Writes a document with labels (a collector's references); it may be there already, and then gets the labels too.
pub(super) async fn write(
    client: &Client,
    media: &str,
    document: &Value,
    labels: &[(String, String)],
) -> Result<Descriptor> {
    let _ = (client, media, document, labels);
    todo!()
}
