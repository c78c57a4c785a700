//! The volumes of a fork that are its own: copies of the source's, of the moment of its state.
//!
//! A source's anonymous volumes are always copied, its named ones where that was asked for. Each is made by
//! nerdctl, with the operation's label, before anything is copied; the first fork's are filled while the source
//! stands still, the others' from those.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_client::services::v1::Container;
use serde_json::Value;

use super::clean::volume_rm;
use super::merge::{ANONYMOUS, mounts, names};
use super::trail::Trail;
use super::{OPERATION_LABEL, Order, Way};
use crate::containerd::client::Client;
use crate::containerd::{Volumes, blocking};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::snapshot::Snapshots;
use crate::store::Id;

/// A volume of a fork's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    /// Its name.
    pub(super) name: String,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// The name of the source's volume that it is a copy of.
    pub(super) of: String,
    /// Where that lies.
    pub(super) of_path: String,
    /// True where it goes with its container.
    pub(super) anonymous: bool,
}

/// A source's volume that each fork has its own of.
#[derive(Debug)]
struct Private {
    name: String,
    path: String,
    anonymous: bool,
}

/// A source's volumes that a fork does not share. Refuses what cannot be given to a fork at all.
fn private(order: Order<'_>) -> Result<Vec<Private>> {
    let captured = order.captured;
    let anonymous = names(&captured.labels, ANONYMOUS);
    let mut found: Vec<Private> = Vec::new();
    for mount in mounts(&captured.labels) {
        let text = |field: &str| mount[field].as_str().unwrap_or_default().to_owned();
        match text("Type").as_str() {
            "volume" => {}
            "image" => {
                return Err(Error::Refused {
                    what: captured.called().to_owned(),
                    why: format!(
                        "an image is mounted at {}, which goes with this container; copy it into the container \
                         or a volume, and run it without",
                        text("Destination")
                    ),
                });
            }
            _ => continue,
        }
        let (name, path) = (text("Name"), text("Source"));
        let anonymous = anonymous.contains(&name);
        let wanted = anonymous || order.changes.volumes == Volumes::Clone;
        if wanted && !name.is_empty() && !found.iter().any(|known| known.name == name) {
            found.push(Private { name, path, anonymous });
        }
    }
    Ok(found)
}

/// Makes the private volumes of every fork, empty, in the order of their names. What it has made when it fails
/// carries the operation's label.
pub(super) async fn make(order: Order<'_>, operation: Id, trail: &Trail) -> Result<Vec<Vec<Volume>>> {
    let private = private(order)?;
    let mut all = Vec::new();
    for fork in order.names {
        let mut volumes = Vec::new();
        for Private { name: of, path: of_path, anonymous } in &private {
            crate::fault::point("containerd.nerdctl.volume")?;
            // Anonymous ones as nerdctl calls them.
            let name = if *anonymous {
                format!("{}{}", Id::random()?, Id::random()?)
            } else {
                format!("{fork}_{of}")
            };
            let path = create(order, operation, trail, &name).await?;
            let (of, of_path, anonymous) = (of.clone(), of_path.clone(), *anonymous);
            volumes.push(Volume { name, path, of, of_path, anonymous });
        }
        all.push(volumes);
    }
    Ok(all)
}

/// Makes a volume; answers where it lies. nerdctl answers with one that is there already, which is refused.
async fn create(order: Order<'_>, operation: Id, trail: &Trail, name: &str) -> Result<PathBuf> {
    let label = format!("{OPERATION_LABEL}={operation}");
    let (client, lock) = (order.client, Some(trail.lock()));
    order.way.call(client, lock, &["volume", "create", "--label", &label, name]).await?;
    let seen = inspect(order.way, client, lock, name).await?;
    if seen["Labels"][OPERATION_LABEL] != operation.to_string() {
        return Err(Error::precondition(
            format!("volume {name:?}"),
            "it exists already; remove it with `nerdctl volume rm`, or choose another name",
        ));
    }
    match seen["Mountpoint"].as_str() {
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(Error::Internal(format!("nerdctl does not say where volume {name:?} lies"))),
    }
}

/// What nerdctl says of a volume.
async fn inspect(way: &Way, client: &Client, lock: Option<&File>, name: &str) -> Result<Value> {
    let json = way.call(client, lock, &["volume", "inspect", name]).await?;
    let all: Vec<Value> = serde_json::from_str(&json).unwrap_or_default();
    Ok(all.into_iter().next().unwrap_or_default())
}

/// Removes the copies that were made for a container which is gone: those of its own operation. One that another
/// container has taken up stays, as nerdctl has it.
pub(super) async fn remove_copies(way: &Way, client: &Client, container: &Container) {
    let Some(operation) = container.labels.get(OPERATION_LABEL) else { return };
    let labels = container.labels.clone().into_iter().collect();
    for mount in mounts(&labels).iter().filter(|mount| mount["Type"] == "volume") {
        let Some(name) = mount["Name"].as_str() else { continue };
        let is_copy = inspect(way, client, None, name)
            .await
            .is_ok_and(|seen| seen["Labels"][OPERATION_LABEL] == **operation);
        if is_copy && let Err(error) = volume_rm(way, client, None, name).await {
            tracing::warn!(volume = name, %error, "the copy that an expired container had stays");
        }
    }
}

/// Copies a source's volumes into a fork's. It blocks.
pub(super) fn fill(core: &Snapshots, volumes: &[Volume]) -> Result<()> {
    for volume in volumes {
        crate::fault::point("containerd.nerdctl.fill")?;
        let from = Path::new(&volume.of_path);
        if from.is_dir() {
            core.layers().copy_tree(from, &volume.path)?;
        }
    }
    Ok(())
}

/// Copies the first fork's volumes into those of all others.
pub(super) async fn spread(core: &Arc<Snapshots>, all: &[Vec<Volume>]) -> Result<()> {
    let Some((first, others)) = all.split_first() else { return Ok(()) };
    let pairs: Vec<_> = others
        .iter()
        .flat_map(|volumes| first.iter().zip(volumes))
        .map(|(from, to)| (from.path.clone(), to.path.clone()))
        .collect();
    blocking(core, move |core| {
        pairs.iter().try_for_each(|(from, to)| core.layers().copy_tree(from, to).map(drop))
    })
    .await
}

/// Says what a state does not hold: the content of volumes is that of now.
pub(super) fn warn_of_now(work: &Work, all: &[Vec<Volume>]) {
    for volume in all.first().into_iter().flatten() {
        work.warn(if Path::new(&volume.of_path).is_dir() {
            format!("snapshots hold no volumes: the copy of volume {:?} is as that is now", volume.of)
        } else {
            format!("volume {:?} is gone: its copy is empty", volume.of)
        });
    }
}

/// Removes a fork's volumes, as far as they are there.
pub(super) async fn remove(order: Order<'_>, trail: &Trail, volumes: &[Volume]) -> Result<()> {
    for volume in volumes.iter().filter(|volume| volume.path.exists()) {
        volume_rm(order.way, order.client, Some(trail.lock()), &volume.name).await?;
    }
    Ok(())
}
