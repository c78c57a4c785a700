//! Leases: what keeps containerd's collector away from things that nothing refers to yet.

use std::time::Duration;

use containerd_client::services::v1::{CreateRequest, DeleteRequest};

use super::client::Client;
use crate::error::Result;
use crate::store::{Id, Time};

/// How long containerd keeps a lease whose maker died.
const LIFE: Duration = Duration::from_mins(10);

/// A lease. It is ended by [`Lease::end`], or by containerd once it expires.
#[derive(Debug)]
pub(super) struct Lease {
    client: Client,
    id: String,
}

impl Lease {
    /// Takes one.
    pub(super) async fn take(client: &Client) -> Result<Self> {
        crate::fault::point("containerd.lease.create")?;
        let id = format!("loom-{}", Id::random()?);
        let expires = Time::from(std::time::SystemTime::now() + LIFE).to_string();
        let request = CreateRequest {
            id: id.clone(),
            labels: [("containerd.io/gc.expire".to_owned(), expires)].into(),
        };
        client.leases().create(client.request(request)).await.map_err(client.failed("take a lease"))?;
        Ok(Self { client: client.under_lease(&id)?, id })
    }

    /// A client whose makings the lease keeps.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Ends it. One that cannot be ended expires.
    pub(super) async fn end(self) {
        let request = self.client.request(DeleteRequest { id: self.id.clone(), sync: false });
        if let Err(status) = self.client.leases().delete(request).await {
            tracing::warn!(lease = self.id, error = status.message(), "a lease is left to expire");
        }
    }
}
