//! Leases: what keeps containerd's collector away from things that nothing refers to yet. Each is an
//! operation's, and called after it.

use std::path::Path;
use std::time::Duration;

use containerd_client::services::v1::{
    AbortRequest, AddResourceRequest, CreateRequest, DeleteRequest, Lease as Record, ListRequest,
    ListResourcesRequest, Resource,
};

use super::client::{Client, or_missing};
use super::undo;
use crate::error::Result;
use crate::store::{Id, Time};

/// How long containerd keeps a lease whose maker died, and does not come back to end it: longer than the longest
/// operation, since a layer may be written for hours.
const LIFE: Duration = Duration::from_hours(24);
/// How often content that was begun is taken back, and the time between two tries.
const TRIES: u32 = 20;
const BREATH: Duration = Duration::from_millis(100);
/// The label that says whose it is: the daemon of this root.
const ROOT: &str = "loom/root";
/// What the ids of leases begin with.
const PREFIX: &str = "loom-";
/// What the type of a resource begins with that is a snapshot; the snapshotter follows.
const SNAPSHOTS: &str = "snapshots/";
/// The type of one that is content.
const CONTENT: &str = "content";
/// The type of content that is not whole yet.
const INGESTS: &str = "ingests";

/// A lease. It is ended by [`Lease::end`], or by containerd once it expires.
#[derive(Debug)]
pub(super) struct Lease {
    client: Client,
    id: String,
}

impl Lease {
    /// Takes that of an operation, for the daemon of this root.
    pub(super) async fn take(client: &Client, root: &Path, operation: Id) -> Result<Self> {
        crate::fault::point("containerd.lease.create")?;
        let id = of_operation(operation);
        let expires = Time::from(std::time::SystemTime::now() + LIFE).to_string();
        let owner = root.to_string_lossy().into_owned();
        let request = CreateRequest {
            id: id.clone(),
            labels: [("containerd.io/gc.expire".to_owned(), expires), (ROOT.to_owned(), owner)].into(),
        };
        client.leases().create(client.request(request)).await.map_err(client.failed("take a lease"))?;
        Ok(Self { client: client.under_lease(&id)?, id })
    }

    /// A client whose makings the lease keeps.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Has it keep a snapshot that is there already.
    pub(super) async fn keep_snapshot(&self, snapshotter: &str, key: &str) -> Result<()> {
        self.keep(format!("{SNAPSHOTS}{snapshotter}"), key).await
    }

    /// Has it keep content that is there already, and all that refers to.
    pub(super) async fn keep_content(&self, digest: &str) -> Result<()> {
        self.keep(CONTENT.to_owned(), digest).await
    }

    async fn keep(&self, kind: String, id: &str) -> Result<()> {
        let resource = Some(Resource { id: id.to_owned(), r#type: kind });
        let request = self.client.request(AddResourceRequest { id: self.id.clone(), resource });
        let answer = self.client.leases().add_resource(request).await;
        answer.map_err(self.client.failed(format!("keep {id:?} by lease {:?}", self.id)))?;
        Ok(())
    }

    /// Ends it: what was made under it is kept by what refers to it.
    pub(super) async fn end(&self) -> Result<()> {
        end_at_once(&self.client, &self.id).await
    }
}

/// Ends that of an operation, as [`Lease::end`]. Where that fails, once more: one that stays keeps nothing any more,
/// but is there until it expires.
pub(super) async fn close(client: &Client, operation: Id) -> Result<()> {
    let lease = of_operation(operation);
    match end_at_once(client, &lease).await {
        Ok(()) => Ok(()),
        Err(_) => end_at_once(client, &lease).await,
    }
}

async fn end_at_once(client: &Client, lease: &str) -> Result<()> {
    crate::fault::point("containerd.lease.end")?;
    end(client, lease, false).await
}

/// The lease of an operation.
pub(super) fn of_operation(operation: Id) -> String {
    format!("{PREFIX}{operation}")
}

/// The operation whose lease this is.
pub(super) fn operation(lease: &str) -> Option<Id> {
    lease.strip_prefix(PREFIX)?.parse().ok()
}

/// The leases of a root's daemon, in this namespace.
pub(super) async fn of_root(client: &Client, root: &Path) -> Result<Vec<String>> {
    let owner = root.to_string_lossy();
    let request = client.look(ListRequest { filters: vec![format!("id~=\"^{PREFIX}\"")] });
    let answer = client.leases().list(request).await.map_err(client.failed("list leases"))?;
    let ours = |lease: &Record| lease.labels.get(ROOT).is_some_and(|root| *root == owner);
    Ok(answer.into_inner().leases.into_iter().filter(ours).map(|lease| lease.id).collect())
}

/// The snapshots that a lease keeps: snapshotter and key.
pub(super) async fn snapshots(client: &Client, lease: &str) -> Result<Vec<(String, String)>> {
    let snapshot = |resource: Resource| {
        let snapshotter = resource.r#type.strip_prefix(SNAPSHOTS)?.to_owned();
        Some((snapshotter, resource.id))
    };
    Ok(resources(client, lease).await?.into_iter().filter_map(snapshot).collect())
}

/// Ends a lease; one that has expired has ended. `collect` waits for containerd to collect what it kept, and takes
/// back content that was begun under it, which would stay for a day.
pub(super) async fn end(client: &Client, lease: &str, collect: bool) -> Result<()> {
    if collect {
        for begun in resources(client, lease).await?.into_iter().filter(|resource| resource.r#type == INGESTS)
        {
            take_back(client, &begun.id).await?;
        }
    }
    let request = client.request(DeleteRequest { id: lease.to_owned(), sync: collect });
    or_missing(client.leases().delete(request).await)
        .map_err(client.failed(format!("end lease {lease:?}")))?;
    Ok(())
}

/// Takes back content that was begun. containerd fails to while it still writes of the last part that it was sent: that
/// ends soon.
async fn take_back(client: &Client, begun: &str) -> Result<()> {
    let abort = || async {
        let request = client.request(AbortRequest { r#ref: begun.to_owned() });
        or_missing(client.content().abort(request).await)
            .map_err(client.failed(format!("take back content {begun:?}")))?;
        Ok(())
    };
    undo::again(TRIES, BREATH, |_| true, abort).await
}

async fn resources(client: &Client, lease: &str) -> Result<Vec<Resource>> {
    let request = client.look(ListResourcesRequest { id: lease.to_owned() });
    let answer = or_missing(client.leases().list_resources(request).await)
        .map_err(client.failed(format!("look at lease {lease:?}")))?;
    Ok(answer.map(|answer| answer.into_inner().resources).unwrap_or_default())
}
