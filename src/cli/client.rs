//! The connection to loomd, and what its refusals mean for the exit status.

use std::fmt;
use std::io;
use std::path::absolute;
use std::process::ExitCode;

use protobuf::{Message, MessageField};
use tokio::net::UnixStream;
use ttrpc::Code;
use ttrpc::asynchronous::transport::Socket;
use ttrpc::asynchronous::{Client as Connection, ClientStreamReceiver};
use ttrpc::context::Context;

use super::args::Global;
use crate::protos::admin::{self, Containerd, Operation, Snapshot};
use crate::protos::admin_ttrpc::AdminClient;

mod archive;

/// What the command ends with; `loom --help` explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2
    Usage,
    /// 3
    NotFound,
    /// 4
    Conflict,
    /// 5
    Unavailable,
    /// 130
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unavailable => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.status().into()
    }
}

/// Why a verb was not done: a status code, and a message that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The same code on every transport.
    pub code: Code,
    /// For the person at the terminal; names the thing.
    pub message: String,
    /// Where that is not what the code means.
    exit: Option<Exit>,
}

impl Failure {
    /// A failure of this side of the socket.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exit: None }
    }

    /// The same with another exit status.
    pub(super) fn exits(self, exit: Exit) -> Self {
        Self { exit: Some(exit), ..self }
    }

    /// The exit status that tells a script the same.
    pub fn exit(&self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        match self.code {
            Code::INVALID_ARGUMENT => Exit::Usage,
            Code::NOT_FOUND => Exit::NotFound,
            Code::ALREADY_EXISTS | Code::FAILED_PRECONDITION | Code::ABORTED => Exit::Conflict,
            Code::UNAVAILABLE => Exit::Unavailable,
            _ => Exit::Failed,
        }
    }

    fn unreachable(address: &str, why: &io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::PermissionDenied => Self::new(
                Code::UNAVAILABLE,
                format!("cannot reach loomd at {address}: permission denied: its socket is root's; use sudo"),
            ),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::new(
                Code::UNAVAILABLE,
                format!("cannot reach loomd at {address}: is it running? systemctl start loomd"),
            ),
            _ => Self::new(Code::UNAVAILABLE, format!("cannot reach loomd at {address}: {why}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A connection to one loomd, for requests about one containerd.
pub struct Client {
    admin: AdminClient,
    address: String,
    containerd: Containerd,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A call: `call!(client, pin, PinRequest { reference, .. })` with the containerd filled in.
macro_rules! call {
    ($client:expr, $method:ident, $request:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        let mut request = admin::$request::new();
        request.containerd = MessageField::some($client.containerd.clone());
        $(request.$field = $value;)*
        $client.admin.$method(Context::default(), &request).await.map_err(|e| $client.failure(e))
    }};
}

/// Calls whose requests are made by whoever calls, but for the containerd.
macro_rules! branches {
    ($($(#[$doc:meta])* $name:ident = $method:ident($request:ident) -> $response:ident;)*) => {$(
        $(#[$doc])*
        pub async fn $name(&self, mut request: admin::$request) -> Result<admin::$response, Failure> {
            request.containerd = MessageField::some(self.containerd.clone());
            self.admin.$method(Context::default(), &request).await.map_err(|e| self.failure(e))
        }
    )*};
}

impl Client {
    /// Connects to the loomd that the arguments name.
    pub async fn connect(global: &Global) -> Result<Self, Failure> {
        let address = global.address.clone();
        let socket =
            UnixStream::connect(&address).await.map_err(|why| Failure::unreachable(&address, &why))?;
        // loomd would take a relative path from its own directory.
        let containerd = match global.containerd.as_str() {
            "" => String::new(),
            path => absolute(path).map_or_else(|_| path.into(), |path| path.display().to_string()),
        };
        Ok(Self {
            admin: AdminClient::new(Connection::new(Socket::new(socket))),
            address,
            containerd: Containerd {
                address: containerd,
                namespace: global.namespace.clone(),
                ..Default::default()
            },
        })
    }

    fn failure(&self, error: ttrpc::Error) -> Failure {
        match error {
            ttrpc::Error::RpcStatus(status) => Failure::new(status.code(), status.message),
            // Whether the request was carried out is not known, so nothing is tried again.
            lost => Failure::new(
                Code::UNAVAILABLE,
                format!(
                    "loomd at {} went away before it answered ({lost}); see `journalctl -u loomd`",
                    self.address
                ),
            ),
        }
    }

    /// The daemon.
    pub async fn status(&self) -> Result<admin::StatusResponse, Failure> {
        let request = admin::StatusRequest::new();
        self.admin.status(Context::default(), &request).await.map_err(|e| self.failure(e))
    }

    /// Makes the pool.
    pub async fn create_pool(&self, request: admin::CreatePoolRequest) -> Result<admin::Pool, Failure> {
        let response = self.admin.create_pool(Context::default(), &request).await;
        Ok(response.map_err(|e| self.failure(e))?.pool.unwrap_or_default())
    }

    /// Lets the pool grow to so many bytes.
    pub async fn grow_pool(&self, size: u64) -> Result<admin::Pool, Failure> {
        let request = admin::GrowPoolRequest { size, ..Default::default() };
        let response = self.admin.grow_pool(Context::default(), &request).await;
        Ok(response.map_err(|e| self.failure(e))?.pool.unwrap_or_default())
    }

    /// Brings containers into the pool; all that are stopped where none are named.
    pub async fn move_to_pool(
        &self,
        references: Vec<String>,
    ) -> Result<Vec<admin::MoveToPoolResponse>, Failure> {
        let stream = call!(self, move_to_pool, MoveToPoolRequest { references: references })?;
        self.gather(stream, |one| vec![one]).await
    }

    /// All snapshots, oldest first.
    pub async fn list(&self, all: bool, sizes: bool) -> Result<Vec<Snapshot>, Failure> {
        let request = admin::ListRequest { all, sizes, ..Default::default() };
        let stream = self.admin.list(Context::default(), &request).await.map_err(|e| self.failure(e))?;
        self.gather(stream, |batch| batch.snapshots).await
    }

    /// One snapshot.
    pub async fn get(&self, reference: String) -> Result<Snapshot, Failure> {
        let response = call!(self, get, GetRequest { reference: reference })?;
        Ok(response.snapshot.unwrap_or_default())
    }

    /// From a snapshot to its root.
    pub async fn lineage(&self, reference: String) -> Result<Vec<Snapshot>, Failure> {
        let stream = call!(self, lineage, LineageRequest { reference: reference, sizes: true })?;
        self.gather(stream, |batch| batch.snapshots).await
    }

    /// Keeps a snapshot.
    pub async fn pin(&self, reference: String) -> Result<Snapshot, Failure> {
        let response = call!(self, pin, PinRequest { reference: reference })?;
        Ok(response.snapshot.unwrap_or_default())
    }

    /// Ends a pin.
    pub async fn unpin(&self, reference: String) -> Result<(), Failure> {
        call!(self, unpin, UnpinRequest { reference: reference }).map(drop)
    }

    /// Removes a snapshot.
    pub async fn remove(&self, reference: String) -> Result<(), Failure> {
        call!(self, remove, RemoveRequest { reference: reference }).map(drop)
    }

    /// Removes snapshots, or only tells which; answers them.
    pub async fn prune(&self, mut request: admin::PruneRequest) -> Result<Vec<Snapshot>, Failure> {
        request.containerd = MessageField::some(self.containerd.clone());
        let stream = self.admin.prune(Context::default(), &request).await.map_err(|e| self.failure(e))?;
        self.gather(stream, |batch| batch.snapshots).await
    }

    /// What does not agree.
    pub async fn check(&self, repair: bool) -> Result<Vec<admin::Finding>, Failure> {
        let stream = call!(self, check, CheckRequest { repair: repair })?;
        self.gather(stream, |batch| batch.findings).await
    }

    branches! {
        /// Makes a snapshot.
        snapshot = snapshot(SnapshotRequest) -> SnapshotResponse;
        /// Makes containers that continue from a live one.
        fork = fork(ForkRequest) -> ForkResponse;
        /// Makes a container from a snapshot.
        clone_state = clone(CloneRequest) -> CloneResponse;
        /// Makes a container's content a snapshot's.
        rollback = rollback(RollbackRequest) -> RollbackResponse;
        /// Makes the content of a fork that of its source.
        promote = promote(PromoteRequest) -> PromoteResponse;
        /// Starts or continues a container.
        resume = resume(ResumeRequest) -> ResumeResponse;
        /// Makes an image of a state.
        commit = commit(CommitRequest) -> CommitResponse;
        /// Writes what of an image is this node's alone.
        portable = portable(PortableRequest) -> PortableResponse;
        /// Sets or ends the limit of what a container may write.
        limit = limit(LimitRequest) -> LimitResponse;
        /// Gives an image another name.
        tag = tag(TagRequest) -> TagResponse;
    }

    /// The images that are on loom, by name.
    pub async fn images(&self) -> Result<Vec<admin::Image>, Failure> {
        let stream = call!(self, images, ImagesRequest {})?;
        self.gather(stream, |batch| batch.images).await
    }

    /// What everything takes on disk, and the homes that it lies in.
    pub async fn disk_usage(&self) -> Result<(Vec<admin::DiskUsage>, Vec<admin::HomeUsage>), Failure> {
        let mut stream = call!(self, disk_usage, DiskUsageRequest {})?;
        let (mut rows, mut homes) = (Vec::new(), Vec::new());
        while let Some(batch) = stream.recv().await.map_err(|e| self.failure(e))? {
            rows.extend(batch.rows);
            homes.extend(batch.homes);
        }
        Ok((rows, homes))
    }

    /// The containerd that requests are about: its socket, and its namespace.
    pub async fn containerd(&self) -> Result<(String, String), Failure> {
        let address = match self.containerd.address.as_str() {
            "" => self.status().await?.containerd,
            given => given.to_owned(),
        };
        Ok((address, self.containerd.namespace.clone()))
    }

    /// The newest operations, newest first.
    pub async fn operations(&self, limit: u32) -> Result<Vec<Operation>, Failure> {
        let request = admin::ListOperationsRequest { limit, ..Default::default() };
        let stream = self.admin.list_operations(Context::default(), &request).await;
        self.gather(stream.map_err(|e| self.failure(e))?, |batch| batch.operations).await
    }

    /// One operation.
    pub async fn operation(&self, id: String) -> Result<Operation, Failure> {
        let request = admin::GetOperationRequest { id, ..Default::default() };
        let response = self.admin.get_operation(Context::default(), &request).await;
        Ok(response.map_err(|e| self.failure(e))?.operation.unwrap_or_default())
    }

    /// Asks an operation to stop.
    pub async fn cancel(&self, id: String) -> Result<Operation, Failure> {
        let request = admin::CancelOperationRequest { id, ..Default::default() };
        let response = self.admin.cancel_operation(Context::default(), &request).await;
        Ok(response.map_err(|e| self.failure(e))?.operation.unwrap_or_default())
    }

    /// An operation, or all where `id` is empty, and every change from now on.
    pub async fn watch(&self, id: String) -> Result<Watch<'_>, Failure> {
        let request = admin::WatchOperationsRequest { id, ..Default::default() };
        let stream = self.admin.watch_operations(Context::default(), &request).await;
        Ok(Watch { client: self, stream: stream.map_err(|e| self.failure(e))? })
    }

    /// Reads a stream of batches to its end. Only the end that loomd announces is one: a list that broke
    /// off is no list.
    async fn gather<P: Message + Default, T>(
        &self,
        mut stream: ClientStreamReceiver<P>,
        parts: impl Fn(P) -> Vec<T>,
    ) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        while let Some(batch) = stream.recv().await.map_err(|e| self.failure(e))? {
            all.extend(parts(batch));
        }
        Ok(all)
    }
}

/// Operations as they change.
pub struct Watch<'a> {
    client: &'a Client,
    stream: ClientStreamReceiver<admin::WatchOperationsResponse>,
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Watch<'_> {
    /// Waits for the next change; none once the operation that is watched has ended.
    pub async fn next(&mut self) -> Result<Option<Operation>, Failure> {
        let change = self.stream.recv().await.map_err(|e| self.client.failure(e))?;
        Ok(change.map(|change| change.operation.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_exit_status() {
        let table = [
            (Code::OK, 1),
            (Code::CANCELLED, 1),
            (Code::UNKNOWN, 1),
            (Code::INVALID_ARGUMENT, 2),
            (Code::DEADLINE_EXCEEDED, 1),
            (Code::NOT_FOUND, 3),
            (Code::ALREADY_EXISTS, 4),
            (Code::PERMISSION_DENIED, 1),
            (Code::UNAUTHENTICATED, 1),
            (Code::RESOURCE_EXHAUSTED, 1),
            (Code::FAILED_PRECONDITION, 4),
            (Code::ABORTED, 4),
            (Code::UNIMPLEMENTED, 1),
            (Code::INTERNAL, 1),
            (Code::UNAVAILABLE, 5),
        ];
        for (code, status) in table {
            assert_eq!(Failure::new(code, "").exit().status(), status, "{code:?}");
        }
    }

    #[test]
    fn a_socket_that_is_not_there_says_what_to_do() {
        let failure = Failure::unreachable("/run/x", &io::ErrorKind::NotFound.into());
        assert_eq!(failure.exit(), Exit::Unavailable);
        assert_eq!(failure.to_string(), "cannot reach loomd at /run/x: is it running? systemctl start loomd");
    }
}
