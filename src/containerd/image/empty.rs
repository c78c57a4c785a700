//! An image of nothing: what another tool makes a container of whose content is then replaced.
//!
//! It has no layers, so that it is unpacked everywhere and nothing is copied out of it. It is an operation's,
//! and called after it.

use std::path::Path;

use containerd_client::services::v1::Image;

use super::config::Documents;
use crate::containerd::client::Client;
use crate::containerd::leases::Lease;
use crate::error::{Error, Result};
use crate::store::Id;

/// What the image of an operation is called.
fn name(operation: Id) -> String {
    // A name that no registry has.
    format!("loom.invalid/empty:{operation}")
}

/// Makes that of an operation, for a platform such as `linux/arm/v7` or for this machine's; answers its name.
pub(in crate::containerd) async fn create(
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
    // Nothing has no snapshot, so it matters to no snapshotter.
    let target = Documents::bare(platform).write(client, "").await?;
    let image = Image { name: name.to_owned(), target: Some(target), ..Image::default() };
    match super::create(client, image).await {
        Err(Error::ImageExists { .. }) => Ok(()),
        made => made,
    }
}

/// Removes that of an operation; one that is gone is gone.
pub(in crate::containerd) async fn remove(client: &Client, operation: Id) -> Result<()> {
    super::remove(client, &name(operation)).await
}
