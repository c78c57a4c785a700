//! What everything takes on disk.

use std::time::{Duration, Instant};

use futures::stream;
use ttrpc::r#async::ServerStreamSender;

use super::Admin;
use super::message::shown;
use crate::error::Result;
use crate::layer::Space;
use crate::protos::admin::{DiskUsage, DiskUsageResponse, HomeUsage, Kind, Snapshot};
use crate::server::ttrpc::send_all;
use crate::snapshot::{Seen, Snapshots};
use crate::store::Home;

/// How long what things take is measured, and then how long what the homes take is.
const MEASURING: Duration = Duration::from_secs(20);

impl Admin {
    pub(super) async fn all_disk_usage(
        &self,
        sender: &ServerStreamSender<DiskUsageResponse>,
    ) -> ttrpc::Result<()> {
        let look = |core: &Snapshots| {
            let mut all = core.all()?;
            all.retain(may_be_told);
            let sizes = core.sizes(&all, MEASURING)?;
            Ok((all, sizes, homes(core)?))
        };
        let (all, sizes, homes) = self.core.call(look).await?;
        let told = self.described(all, sizes).await;
        let answer = |rows| DiskUsageResponse { rows, ..Default::default() };
        let rows = told.into_iter().filter_map(row).map(Ok);
        send_all(sender, stream::iter(rows), answer).await?;
        sender.send(&DiskUsageResponse { homes, ..Default::default() }).await
    }
}

/// True for what people know: containers, what loom keeps, and what may be the top of an image.
fn may_be_told(seen: &Seen) -> bool {
    shown(seen) || (seen.snapshot.layer.is_some() && super::image_namespace(&seen.snapshot).is_some())
}

/// A snapshot by what people know it as; none for a layer inside of an image.
fn row(snapshot: Snapshot) -> Option<DiskUsage> {
    let active = snapshot.kind.enum_value() == Ok(Kind::KIND_ACTIVE);
    let image = snapshot.images.into_iter().next();
    let (kind, name) = match (active, image) {
        (true, _) => ("container", snapshot.container_name),
        (false, _) if !snapshot.name.is_empty() => ("snapshot", snapshot.name),
        (false, Some(image)) => ("image", image),
        (false, None) if snapshot.image_layer && !snapshot.pinned => return None,
        (false, None) => ("snapshot", String::new()),
    };
    Some(DiskUsage {
        kind: kind.to_owned(),
        name,
        namespace: snapshot.namespace,
        id: snapshot.id,
        size: snapshot.size,
        limit: snapshot.limit,
        ..Default::default()
    })
}

/// The homes that there are.
fn homes(core: &Snapshots) -> Result<Vec<HomeUsage>> {
    let until = Instant::now() + MEASURING;
    let layers = core.layers();
    let mut homes = vec![(Home::Plain, layers.root())];
    homes.extend(layers.pool().map(|pool| (Home::Pool, pool)));
    let usage = |(home, path): (Home, &std::path::Path)| {
        let Space { layers, trash, whole, size, used, free } = core.space(home, until)?;
        Ok(HomeUsage {
            home: home.to_string(),
            path: path.to_string_lossy().into_owned(),
            layers,
            trash,
            size,
            used,
            free,
            partial: !whole,
            ..Default::default()
        })
    };
    homes.into_iter().map(usage).collect()
}
