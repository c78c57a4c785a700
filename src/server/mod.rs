//! The doors: they translate between a transport and the core, and own nothing but the sockets.
//!
//! ```text
//! <state>/loom.sock         gRPC    containerd.services.snapshots.v1.Snapshots   (containerd)
//! <state>/loom.sock.ttrpc   ttrpc   the same, and loom.admin.v1.Admin            (loom, programs)
//! ```
//!
//! A request runs to its end even where its client hangs up (`calls`). A [`Server`] that stops lets no
//! one in any more, waits for the requests under way, and leaves every mount alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::containerd::Brancher;
use crate::error::{Error, Result};
use crate::operation::Operations;
use crate::snapshot::Snapshots;
use crate::store::Time;

mod admin;
mod calls;
mod convert;
mod grpc;
mod listen;
#[cfg(test)]
mod tests;
mod ttrpc;

pub use listen::Sockets;

/// What is served.
#[derive(Debug)]
pub struct Served {
    /// The core.
    pub core: Arc<Snapshots>,
    /// The work that is tracked.
    pub operations: Arc<Operations>,
    /// What makes containers of its snapshots.
    pub brancher: Arc<Brancher>,
    /// The socket of the containerd that a request is about where it names none.
    pub containerd: String,
}

/// The doors while they are open.
pub struct Server {
    stop: CancellationToken,
    tasks: TaskTracker,
    grpc: JoinHandle<std::result::Result<(), tonic::transport::Error>>,
    ttrpc: ::ttrpc::r#async::Server,
    files: Vec<listen::File>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("tasks", &self.tasks)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the doors.
    pub async fn start(sockets: Sockets, served: Served) -> Result<Self> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let core = calls::Core::new(Arc::clone(&served.core), tasks.clone());

        let (connections, ttrpc_file) = sockets.ttrpc.accept();
        let admin = admin::Admin::new(core.clone(), served, Time::now(), stop.clone());
        let mut ttrpc = ::ttrpc::r#async::Server::new()
            .add_listener(::ttrpc::r#async::transport::Listener::new(connections))
            .register_service(crate::protos::snapshots_ttrpc::create_snapshots(Arc::new(ttrpc::Ttrpc::new(
                core.clone(),
            ))))
            .register_service(crate::protos::admin_ttrpc::create_admin(Arc::new(admin)));
        ttrpc.start().await.map_err(|e| Error::Internal(format!("ttrpc does not start: {e}")))?;

        let (connections, grpc_file) = sockets.grpc.accept();
        let service = containerd_snapshots::server(Arc::new(grpc::Grpc::new(core)));
        let grpc = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        let files = [grpc_file, ttrpc_file].into_iter().flatten().collect();
        Ok(Self { stop, tasks, grpc: tokio::spawn(grpc), ttrpc, files })
    }

    /// Waits for a door to close by itself, which only a defect can make it do.
    pub async fn fails(&mut self) -> Error {
        match (&mut self.grpc).await {
            Ok(Ok(())) => Error::Internal("the gRPC server ended".into()),
            Ok(Err(e)) => Error::Internal(format!("the gRPC server ended: {e}")),
            Err(e) => Error::Internal(format!("the gRPC server ended: {e}")),
        }
    }

    /// Closes the doors and waits, at most so long, for the requests under way; answers how many of them
    /// are left.
    pub async fn stop(mut self, patience: Duration) -> usize {
        // New clients should fail at once, not wait in a queue that nobody reads.
        self.files.clear();
        self.stop.cancel();
        self.tasks.close();
        let drained = async {
            let grpc = async {
                // One that has ended by itself was waited for already.
                if !self.grpc.is_finished() {
                    let _ = (&mut self.grpc).await;
                }
            };
            let _ = tokio::join!(self.ttrpc.shutdown(), grpc);
            self.tasks.wait().await;
        };
        if tokio::time::timeout(patience, drained).await.is_err() {
            self.grpc.abort();
        }
        self.tasks.len()
    }
}
