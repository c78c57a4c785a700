//! What nerdctl has made goes again, by nerdctl itself as far as it can.
//!
//! `nerdctl rm -f` answers success whatever happens, so what counts is what is there behind it. What is left of
//! a `nerdctl create` that was killed, before there was a container, nerdctl has no command for: three files,
//! known by the id in the operation's trail.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use containerd_client::services::v1::Container;

use super::trail::Trail;
use super::{OPERATION_LABEL, Way, volume};
use crate::containerd::client::Client;
use crate::containerd::{containers, image, leases, snapshots};
use crate::error::{Error, Kind, Result};
use crate::store::Id;

impl Way {
    /// Removes one that has expired, whatever it is doing, with its anonymous volumes and the copies of others that
    /// were made for it. One that is gone is gone.
    pub(in crate::containerd) async fn remove(&self, client: &Client, container: &Container) -> Result<()> {
        self.remove_under(client, None, container).await?;
        volume::remove_copies(self, client, container).await;
        Ok(())
    }

    async fn remove_under(&self, client: &Client, lock: Option<&File>, container: &Container) -> Result<()> {
        let id = &container.id;
        let called = self.call(client, lock, &["rm", "--force", "--volumes", id]).await;
        if containers::get(client, id).await?.is_some() {
            called?;
            return Err(Error::Nerdctl {
                action: "rm".to_owned(),
                message: format!("container {id:?} is still there; look at `nerdctl inspect {id}` for why"),
                kind: Kind::FailedPrecondition,
            });
        }
        // nerdctl leaves the snapshot of a container whose image is gone to containerd.
        snapshots::remove(client, &container.snapshotter, &container.snapshot_key).await?;
        self.sweep(client, id)
    }

    /// Undoes what an operation of the daemon of this root made, as far as it came: containers, volumes, image,
    /// names. It waits for calls of nerdctl that an earlier daemon left running.
    pub(in crate::containerd) async fn undo(
        &self,
        client: &Client,
        operation: Id,
        root: &Path,
    ) -> Result<()> {
        let trail = Trail::ended(root, operation).await?;
        let wanted = operation.to_string();
        for container in containers::of_operation(client, operation).await? {
            self.remove_under(client, None, &container).await?;
        }
        if let Some(trail) = &trail {
            for id in trail.ids()? {
                self.undo_create(client, &id).await?;
            }
        }
        let filter = format!("label={OPERATION_LABEL}={wanted}");
        let volumes = self.call(client, None, &["volume", "ls", "--quiet", "--filter", &filter]).await?;
        for volume in volumes.lines().map(str::trim).filter(|name| !name.is_empty()) {
            volume_rm(self, client, None, volume).await?;
        }
        image::empty::remove(client, operation).await?;
        leases::end(client, &leases::of_operation(operation), false).await?;
        trail.map_or(Ok(()), Trail::end)
    }

    /// Undoes a `nerdctl create` that began a container of this id, however far it came.
    pub(super) async fn undo_create(&self, client: &Client, id: &str) -> Result<()> {
        match containers::get(client, id).await? {
            Some(container) => self.remove_under(client, None, &container).await,
            None => self.sweep(client, id),
        }
    }

    /// Takes away the files of a container that is gone, or never was.
    fn sweep(&self, client: &Client, id: &str) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let namespace = &client.target().namespace;
        for kind in ["containers", "etchosts"] {
            let dir = store.join(kind).join(namespace).join(id);
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &dir)(error));
                }
                _ => {}
            }
        }
        let names = store.join("names").join(namespace);
        let entries = match fs::read_dir(&names) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("read directory", &names)(error)),
        };
        for entry in entries.filter_map(std::result::Result::ok) {
            let path = entry.path();
            if fs::read_to_string(&path).is_ok_and(|owner| owner.trim() == id) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Removes a volume; one that is gone is gone. Why it stays nerdctl only warns of, so what counts is again what
/// is there behind it.
pub(super) async fn volume_rm(way: &Way, client: &Client, lock: Option<&File>, name: &str) -> Result<()> {
    if way.call(client, lock, &["volume", "rm", name]).await.is_ok() {
        return Ok(());
    }
    let there = way.call(client, lock, &["volume", "ls", "--quiet"]).await?;
    if there.lines().any(|line| line.trim() == name) {
        return Err(Error::precondition(
            format!("volume {name:?}"),
            "nerdctl does not remove it; look at `nerdctl volume rm` of it for why: a container may use it",
        ));
    }
    Ok(())
}
