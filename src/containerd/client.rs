//! The way to containerd: one connection to its socket, and the headers and limits of every request.

use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::tonic::metadata::{Ascii, MetadataValue};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request, Status};

use super::{Target, reference};
use crate::error::{Error, Kind, Result};

/// How long the socket may take to answer.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take. Starting a task on a busy machine is the slowest of them.
const ANSWER: Duration = Duration::from_mins(1);
/// How long a look-up may take, which is answered from memory.
const LOOK: Duration = Duration::from_secs(10);
/// The largest answer that is read; what containerd itself lets through is 16 MiB.
const RECEIVE: usize = 16 << 20;

/// A connection to containerd that speaks for one namespace, and under a lease where it has one.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
    target: Target,
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects; `Unavailable` where nothing answers.
    pub(super) async fn connect(target: &Target) -> Result<Self> {
        reference::identifier("namespace", &target.namespace)?;
        let namespace = header("namespace", &target.namespace)?;
        let socket = target.address.strip_prefix("unix://").unwrap_or(&target.address);
        let unreachable = |why: String| Error::Containerd {
            action: format!("connect to {socket}"),
            message: format!("{why}; start containerd, or name its socket with --containerd"),
            kind: Kind::Unavailable,
        };
        let channel = match tokio::time::timeout(CONNECT, containerd_client::connect(socket)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(unreachable(innermost(&error))),
            Err(_) => return Err(unreachable(format!("no answer in {} s", CONNECT.as_secs()))),
        };
        Ok(Self { channel, target: target.clone(), namespace, lease: None })
    }

    /// The containerd and namespace that it speaks to.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The same connection; what it makes is kept from containerd's collector by this lease.
    pub(super) fn under_lease(&self, lease: &str) -> Result<Self> {
        Ok(Self { lease: Some(header("lease", lease)?), ..self.clone() })
    }

    /// The same connection, for another namespace.
    pub(super) fn of(&self, target: &Target) -> Result<Self> {
        reference::identifier("namespace", &target.namespace)?;
        let namespace = header("namespace", &target.namespace)?;
        Ok(Self { channel: self.channel.clone(), target: target.clone(), namespace, lease: None })
    }

    /// A request with the headers that containerd wants.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        self.within(ANSWER, message)
    }

    /// A request that only looks something up: one that is stopped or stuck is found out soon.
    pub(super) fn look<T>(&self, message: T) -> Request<T> {
        self.within(LOOK, message)
    }

    /// A request that takes as long as its bytes do, such as a stream of messages.
    pub(super) fn stream<T>(&self, messages: T) -> Request<T> {
        self.addressed(messages)
    }

    fn within<T>(&self, limit: Duration, message: T) -> Request<T> {
        let mut request = self.addressed(message);
        request.set_timeout(limit);
        request
    }

    fn addressed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            headers.insert("containerd-lease", lease.clone());
        }
        request
    }

    /// containerd's Containers.
    pub(super) fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// containerd's Tasks.
    pub(super) fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// containerd's Snapshots. Never to be called from a handler of our own Snapshots service.
    pub(super) fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// containerd's Images.
    pub(super) fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// containerd's Content.
    pub(super) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// containerd's Diff, which unpacks layers.
    pub(super) fn diff(&self) -> DiffClient<Channel> {
        DiffClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// containerd's Introspection.
    pub(super) fn introspection(&self) -> IntrospectionClient<Channel> {
        IntrospectionClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// containerd's Leases.
    pub(super) fn leases(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// containerd's Namespaces.
    pub(super) fn namespaces(&self) -> NamespacesClient<Channel> {
        NamespacesClient::new(self.channel.clone()).max_decoding_message_size(RECEIVE)
    }

    /// For `map_err`: what was asked of containerd, and what it said.
    pub(super) fn failed(&self, action: impl Into<String>) -> impl FnOnce(Status) -> Error {
        let action = action.into();
        let address = self.target.address.clone();
        move |status| {
            let kind = kind(&status);
            let message = match kind {
                Kind::Unavailable => {
                    format!("{} does not answer ({}); is containerd running?", address, status.message())
                }
                Kind::ResourceExhausted => {
                    format!("{}; free some space where containerd keeps its content", status.message())
                }
                _ => status.message().to_owned(),
            };
            Error::Containerd { action, message, kind }
        }
    }
}

/// `None` for what containerd does not have.
pub(super) fn or_missing<T>(
    answer: std::result::Result<T, Status>,
) -> std::result::Result<Option<T>, Status> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

fn header(what: &str, value: &str) -> Result<MetadataValue<Ascii>> {
    value.parse().map_err(|_| Error::invalid(format!("{what} {value:?}"), "it cannot be sent to containerd"))
}

/// The cause at the bottom: a transport error says nothing by itself.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// True where containerd says that its disk, or its quota there, is full: it has no code for that.
fn full(message: &str) -> bool {
    ["no space left on device", "disk quota exceeded"].iter().any(|words| message.contains(words))
}

fn kind(status: &Status) -> Kind {
    match status.code() {
        // containerd has no code for it.
        Code::Unknown | Code::Internal if full(status.message()) => Kind::ResourceExhausted,
        // What containerd answers has no cause that we know: this is its connection, which broke off.
        Code::Unknown if std::error::Error::source(status).is_some() => Kind::Unavailable,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::InvalidArgument | Code::OutOfRange => Kind::InvalidArgument,
        Code::FailedPrecondition => Kind::FailedPrecondition,
        Code::Aborted => Kind::Aborted,
        Code::PermissionDenied | Code::Unauthenticated => Kind::PermissionDenied,
        Code::ResourceExhausted => Kind::ResourceExhausted,
        // The client's own clock ends a late request as cancelled; nobody here cancels one.
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Kind::Unavailable,
        Code::Unimplemented => Kind::Unimplemented,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn target(address: &str, namespace: &str) -> Target {
        Target { address: address.into(), namespace: namespace.into() }
    }

    #[tokio::test]
    async fn a_dead_containerd_is_unavailable_and_named() {
        let error = Client::connect(&target("/nonexistent/containerd.sock", "default")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        let text = error.to_string();
        assert!(text.contains("/nonexistent/containerd.sock") && text.contains("--containerd"), "{text}");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_unavailable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = Client::connect(&target(path.to_str().unwrap(), "default")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
    }

    /// Reads an HTTP/2 connection up to the headers of a first request.
    async fn read_request(connection: &mut tokio::net::UnixStream) {
        let mut frame = [0; 9];
        connection.read_exact(&mut [0; 24]).await.unwrap();
        loop {
            connection.read_exact(&mut frame).await.unwrap();
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
            connection.read_exact(&mut vec![0; length as usize]).await.unwrap();
            if frame[3] == 1 {
                return;
            }
        }
    }

    #[tokio::test]
    async fn a_containerd_that_dies_before_it_answers_is_unavailable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("containerd.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let dies = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            read_request(&mut connection).await;
        });
        let client = Client::connect(&target(path.to_str().unwrap(), "default")).await.unwrap();
        let error = crate::containerd::containers::get(&client, "web").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        dies.await.unwrap();
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors() {
        let said = |text: &str| kind(&Status::unknown(text));
        assert_eq!(said("write /c/ingest/1/data: no space left on device"), Kind::ResourceExhausted);
        assert_eq!(said("failed to copy: disk quota exceeded"), Kind::ResourceExhausted);
        assert_eq!(said("write /c/ingest/1/data: input/output error"), Kind::Internal);
    }

    #[tokio::test]
    async fn a_namespace_that_is_none_is_refused_before_anything_is_asked() {
        for namespace in ["", "a/b", "a\nb", "ä"] {
            let error = Client::connect(&target("/nonexistent", namespace)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{namespace:?}");
        }
    }
}
