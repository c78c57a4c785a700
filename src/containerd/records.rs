//! containerd's records of loom's snapshots, in all its namespaces.

use std::collections::BTreeSet;
use std::sync::Arc;

use containerd_client::services::v1::snapshots::ListSnapshotsRequest;
use containerd_client::services::v1::{ListNamespacesRequest, PluginsRequest};

use super::client::Client;
use super::{Brancher, Target, blocking, containers};
use crate::check::{Held, Records};
use crate::error::Result;
use crate::snapshot::Snapshots;

/// What containerd calls loom where it does not say.
const DEFAULT: &str = "loom";
/// How often it is asked, and the time between: a record follows its snapshot.
const TIMES: u32 = 2;
const BETWEEN: std::time::Duration = std::time::Duration::from_millis(700);

impl Brancher {
    /// What the containerd at `address` knows of this loom's snapshots.
    pub async fn records(&self, address: &str) -> Result<Records> {
        let before = blocking(&self.core, |core| {
            let rows = core.store().read(|rows| rows.snapshots())?;
            Ok(rows.into_iter().filter_map(|row| row.key).collect::<BTreeSet<_>>())
        })
        .await?;
        let records = Records { before, ..Records::default() };
        Ok(match asked(&self.core, address).await {
            Ok((keys, containers)) => Records { keys, containers, ..records },
            Err(error) => Records { silent: Some(error.to_string()), ..records },
        })
    }
}

/// The keys of its records, and its containers on loom.
async fn asked(core: &Arc<Snapshots>, address: &str) -> Result<(BTreeSet<String>, Vec<Held>)> {
    crate::fault::point("containerd.records.list")?;
    let target = |namespace: &str| Target { address: address.to_owned(), namespace: namespace.to_owned() };
    let client = Client::connect(&target("default")).await?;
    let names = snapshotters(&client).await?;
    let listening = core.listen();
    let mut held = Vec::new();
    for turn in 0..TIMES {
        if turn > 0 {
            tokio::time::sleep(BETWEEN).await;
        }
        held.clear();
        for namespace in namespaces(&client).await? {
            let client = client.of(&target(&namespace))?;
            for name in &names {
                list(&client, name).await?;
            }
            let on_loom = containers::on(&client, &names).await?.into_iter().map(|container| Held {
                namespace: namespace.clone(),
                name: containers::display_name(&container).to_owned(),
                key: container.snapshot_key,
            });
            held.extend(on_loom);
        }
    }
    Ok((listening.heard(), held))
}

/// Those of its snapshotters that are programs of their own: one of them is this loom.
async fn snapshotters(client: &Client) -> Result<Vec<String>> {
    let filters = vec!["type==io.containerd.snapshotter.v1".to_owned()];
    let answer = client
        .introspection()
        .plugins(client.look(PluginsRequest { filters }))
        .await
        .map_err(client.failed("list plugins"))?;
    let plugins = answer.into_inner().plugins.into_iter();
    let names: Vec<_> =
        plugins.filter(|plugin| plugin.exports.contains_key("address")).map(|plugin| plugin.id).collect();
    Ok(if names.is_empty() { vec![DEFAULT.to_owned()] } else { names })
}

async fn namespaces(client: &Client) -> Result<Vec<String>> {
    let request = client.look(ListNamespacesRequest { filter: String::new() });
    let answer = client.namespaces().list(request).await.map_err(client.failed("list namespaces"))?;
    Ok(answer.into_inner().namespaces.into_iter().map(|namespace| namespace.name).collect())
}

/// Has containerd list a snapshotter's records. It asks the snapshotter for each: that is what matters.
async fn list(client: &Client, snapshotter: &str) -> Result<()> {
    let failed = || client.failed(format!("list the snapshots of {snapshotter}"));
    let request =
        client.request(ListSnapshotsRequest { snapshotter: snapshotter.to_owned(), filters: Vec::new() });
    let mut stream = client.snapshots().list(request).await.map_err(failed())?.into_inner();
    while stream.message().await.map_err(failed())?.is_some() {}
    Ok(())
}
