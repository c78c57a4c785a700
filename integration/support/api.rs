//! What containerd has, by its own API: what the tests ask again and again, and what would cost a process of ctr's each
//! time.

use std::path::PathBuf;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{self, Kind};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{
    CreateRequest, DeleteRequest, ListContainersRequest, ListImagesRequest, ListRequest, ListTasksRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Request, Status};

/// A task: a container's process.
#[derive(Debug)]
pub struct Task {
    /// The container's name.
    pub name: String,
    /// Its first process.
    pub pid: u32,
    /// What it does, such as "RUNNING".
    pub status: String,
}

/// A snapshot as containerd knows it.
#[derive(Debug)]
pub struct Snapshot {
    pub key: String,
    pub parent: String,
    pub kind: String,
}

/// The way to a containerd's services, in one namespace. Every call connects anew, since containerd may have been started
/// anew; each answers None where it is not there, or refuses.
#[derive(Debug)]
pub struct Api {
    /// containerd's socket.
    pub socket: PathBuf,
    /// The namespace.
    pub namespace: String,
}

impl Api {
    /// Whether it answers.
    pub fn answers(&self) -> bool {
        self.call(async |channel| VersionClient::new(channel).version(()).await).is_some()
    }

    /// The tasks.
    pub fn tasks(&self) -> Option<Vec<Task>> {
        let request = self.request(ListTasksRequest::default());
        let listed = self.call(async |channel| TasksClient::new(channel).list(request).await)?.into_inner();
        let task = |task: containerd_client::types::v1::Process| Task {
            status: task.status().as_str_name().to_owned(),
            name: task.id,
            pid: task.pid,
        };
        Some(listed.tasks.into_iter().map(task).collect())
    }

    /// The names of the containers that a filter lets pass; of all where it is empty.
    pub fn containers(&self, filter: &str) -> Option<Vec<String>> {
        let filters = Vec::from_iter((!filter.is_empty()).then(|| filter.to_owned()));
        let request = self.request(ListContainersRequest { filters });
        let listed =
            self.call(async |channel| ContainersClient::new(channel).list(request).await)?.into_inner();
        Some(listed.containers.into_iter().map(|container| container.id).collect())
    }

    /// The names of the images.
    pub fn images(&self) -> Option<Vec<String>> {
        let request = self.request(ListImagesRequest::default());
        let listed = self.call(async |channel| ImagesClient::new(channel).list(request).await)?.into_inner();
        Some(listed.images.into_iter().map(|image| image.name).collect())
    }

    /// The ids of the leases.
    pub fn leases(&self) -> Option<Vec<String>> {
        let request = self.request(ListRequest::default());
        let listed = self.call(async |channel| LeasesClient::new(channel).list(request).await)?.into_inner();
        Some(listed.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// A snapshotter's snapshots, by their keys.
    pub fn snapshots(&self, snapshotter: &str) -> Option<Vec<Snapshot>> {
        let snapshotter = snapshotter.to_owned();
        let request = self.request(snapshots::ListSnapshotsRequest { snapshotter, ..Default::default() });
        let mut found = self.call(async |channel| {
            let mut stream = SnapshotsClient::new(channel).list(request).await?.into_inner();
            let mut found = Vec::new();
            while let Some(batch) = stream.message().await? {
                found.extend(batch.info);
            }
            Ok(found)
        })?;
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let snapshot = |info: snapshots::Info| Snapshot {
            kind: Kind::as_str_name(&info.kind()).to_owned(),
            key: info.name,
            parent: info.parent,
        };
        Some(found.into_iter().map(snapshot).collect())
    }

    /// Makes a snapshot, if it is not there, and removes it.
    pub fn pass(&self, snapshotter: &str, key: &str, parent: &str) -> Option<()> {
        let (snapshotter, key, parent) = (snapshotter.to_owned(), key.to_owned(), parent.to_owned());
        let remove = self
            .request(snapshots::RemoveSnapshotRequest { snapshotter: snapshotter.clone(), key: key.clone() });
        // The collector, which may run at any time, leaves it alone.
        let labels = [("containerd.io/gc.root".to_owned(), "now".to_owned())].into();
        let prepare = snapshots::PrepareSnapshotRequest { snapshotter, key, parent, labels };
        let prepare = self.request(prepare);
        self.call(async |channel| {
            let mut client = SnapshotsClient::new(channel);
            let _ = client.prepare(prepare).await;
            client.remove(remove).await
        })?;
        Some(())
    }

    /// Lets the collector run: it does when a lease ends by a request that waits for it.
    pub fn collect(&self) -> Option<()> {
        let id = format!("collect-{:08x}", super::containerd::rand());
        let create = self.request(CreateRequest { id: id.clone(), ..Default::default() });
        let delete = self.request(DeleteRequest { id, sync: true });
        self.call(async |channel| {
            let mut client = LeasesClient::new(channel);
            client.create(create).await?;
            client.delete(delete).await
        })?;
        Some(())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.parse().unwrap());
        request
    }

    /// Makes a call, on a thread of its own: the caller's may be a runtime's.
    fn call<T: Send>(&self, work: impl AsyncFnOnce(Channel) -> Result<T, Status> + Send) -> Option<T> {
        let call = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { work(containerd_client::connect(&self.socket).await.ok()?).await.ok() })
        };
        std::thread::scope(|scope| scope.spawn(call).join().unwrap())
    }
}
