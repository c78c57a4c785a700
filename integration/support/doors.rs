//! loomd's two sockets, as clients of their own see them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use containerd_client::services::v1::snapshots as api;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::tonic::Status;
use containerd_client::tonic::transport::Channel;
use containerd_client::types::Mount;
use tokio::runtime::Runtime;

/// Why a request was refused: its code, which is one on all transports, and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: i32,
    pub message: String,
}

impl Refusal {
    /// # Panics
    /// Where the refusal is another one.
    pub fn assert(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.message);
        for part in parts {
            assert!(self.message.contains(part), "{part:?} is not in: {}", self.message);
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Refusal { code: status.code() as i32, message: status.message().to_owned() }
    }
}

impl From<ttrpc::Error> for Refusal {
    fn from(error: ttrpc::Error) -> Self {
        match error {
            ttrpc::Error::RpcStatus(status) => Refusal { code: status.code.value(), message: status.message },
            other => panic!("{other} is no answer"),
        }
    }
}

/// What a request came to.
pub type Answer<T> = Result<T, Refusal>;

/// The way to both sockets, and to containerd's Snapshots service by the first.
#[derive(Debug)]
pub struct Doors {
    runtime: Runtime,
    grpc: PathBuf,
    ttrpc: PathBuf,
}

impl Doors {
    /// To these sockets. Nothing is connected yet.
    pub fn new(grpc: PathBuf, ttrpc: PathBuf) -> Doors {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Doors { runtime: runtime.worker_threads(2).enable_all().build().unwrap(), grpc, ttrpc }
    }

    /// Runs requests to their end.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A connection of its own by gRPC.
    pub async fn grpc(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(containerd_client::connect(&self.grpc).await.unwrap())
    }

    /// A connection of its own by ttrpc.
    pub async fn ttrpc(&self) -> ttrpc::r#async::Client {
        ttrpc::r#async::Client::connect(&format!("unix://{}", self.ttrpc.display())).await.unwrap()
    }

    /// Prepares a snapshot by gRPC.
    pub fn prepare(&self, key: &str, parent: &str, labels: &[(&str, &str)]) -> Answer<()> {
        self.run(async {
            let request = prepare_request(key, parent, labels);
            Ok(self.grpc().await.prepare(request).await.map(drop)?)
        })
    }

    /// Makes a view by gRPC.
    pub fn view(&self, key: &str, parent: &str) -> Answer<()> {
        let (key, parent) = (key.to_owned(), parent.to_owned());
        let request = api::ViewSnapshotRequest { key, parent, ..Default::default() };
        self.run(async { Ok(self.grpc().await.view(request).await.map(drop)?) })
    }

    /// Commits a snapshot by gRPC.
    pub fn commit(&self, name: &str, key: &str, labels: &[(&str, &str)]) -> Answer<()> {
        let (name, key) = (name.to_owned(), key.to_owned());
        let request = api::CommitSnapshotRequest { name, key, labels: map(labels), ..Default::default() };
        self.run(async { Ok(self.grpc().await.commit(request).await.map(drop)?) })
    }

    /// Replaces a snapshot's labels by gRPC.
    pub fn update(&self, name: &str, labels: &[(&str, &str)]) -> Answer<()> {
        let info = api::Info { name: name.to_owned(), labels: map(labels), ..Default::default() };
        let request = api::UpdateSnapshotRequest { info: Some(info), ..Default::default() };
        self.run(async { Ok(self.grpc().await.update(request).await.map(drop)?) })
    }

    /// Looks at a snapshot by gRPC.
    pub fn stat(&self, key: &str) -> Answer<api::Info> {
        let request = api::StatSnapshotRequest { key: key.to_owned(), ..Default::default() };
        self.run(async { Ok(self.grpc().await.stat(request).await?.into_inner().info.unwrap()) })
    }

    /// How a snapshot is mounted, by gRPC.
    pub fn mounts(&self, key: &str) -> Answer<Vec<Mount>> {
        let request = api::MountsRequest { key: key.to_owned(), ..Default::default() };
        Ok(self.run(async { self.grpc().await.mounts(request).await })?.into_inner().mounts)
    }

    /// The directory that a snapshot's writes go to, by gRPC.
    pub fn upper(&self, key: &str) -> Answer<PathBuf> {
        let mounts = self.mounts(key)?;
        let upper = mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir="));
        Ok(upper.map_or_else(|| Path::new(&mounts[0].source).to_owned(), PathBuf::from))
    }

    /// Measures a snapshot by gRPC.
    pub fn usage(&self, key: &str) -> Answer<u64> {
        let request = api::UsageRequest { key: key.to_owned(), ..Default::default() };
        let answer = self.run(async { self.grpc().await.usage(request).await })?;
        Ok(u64::try_from(answer.into_inner().size).unwrap())
    }

    /// Removes a snapshot by gRPC.
    pub fn remove(&self, key: &str) -> Answer<()> {
        let request = api::RemoveSnapshotRequest { key: key.to_owned(), ..Default::default() };
        self.run(async { Ok(self.grpc().await.remove(request).await.map(drop)?) })
    }

    /// The keys of all snapshots by gRPC.
    pub fn list(&self) -> Answer<Vec<String>> {
        self.run(async {
            let mut stream = self.grpc().await.list(api::ListSnapshotsRequest::default()).await?.into_inner();
            let mut keys = Vec::new();
            while let Some(batch) = stream.message().await? {
                keys.extend(batch.info.into_iter().map(|info| info.name));
            }
            Ok(keys)
        })
    }
}

/// A request to prepare a snapshot.
pub fn prepare_request(key: &str, parent: &str, labels: &[(&str, &str)]) -> api::PrepareSnapshotRequest {
    api::PrepareSnapshotRequest {
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: map(labels),
        ..Default::default()
    }
}

fn map(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
