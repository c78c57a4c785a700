//! A client of containerd: containers, tasks, leases, pauses; forks as containers.
//!
//! A container is on loom if its snapshot key resolves in our store, whatever containerd calls our
//! snapshotter. Branches are made outside of our Snapshots handlers: they ask containerd to Prepare a
//! snapshot with the fork label, and so come back to the core by the way that every client goes.
//!
//! - [`reference`]: what people call things, and what containerd takes as a name
//! - [`client`], [`containers`], [`task`], [`snapshots`], [`leases`]: one service of containerd each
//! - [`spec`], [`captured`]: what a branch takes over from its source
//! - [`state`]: the state of a live container
//! - [`freezer`]: the pause around the last step, and its end whatever happens
//! - [`quiesce`]: the commands that make an application ready for it
//! - [`label`]: the same pause for a fork that a client of containerd asks for by label
//! - [`request`]: what can be asked, and what is answered
//! - [`snapshot`], [`resume`]: the verbs of these names
//! - [`branch`], [`birth`]: fork and clone; the containers that they make
//! - [`nerdctl`]: the same for containers of nerdctl's, by nerdctl itself
//! - [`rollback`], [`promote`]: a container's content is replaced; [`swap`]: what they share
//! - [`commit`], [`portable`], [`import`]: images made of states and of archives; [`export`]: archives of both
//! - [`image`]: the images of a namespace, what they are called and say of themselves; [`content`], [`blob`]: their
//!   documents and layers
//! - [`difference`]: how two states differ; [`patch`]: how a text file does
//! - [`stop`]: stop and start of a container, whatever made it
//! - [`retain`]: what expires
//! - [`undo`]: the end of what holds, and of what fails; [`recover`]: what a crash leaves of all these
//! - [`records`]: what containerd knows of our snapshots, for a check
//!
//! Every call that changes something runs to its end only if its future does: a server spawns it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use containerd_client::services::v1::Container;

use crate::error::{Error, Kind, Result};
use crate::layer::Method;
use crate::operation::Operations;
use crate::snapshot::{Freezers, Snapshots, key};
use crate::store::Snapshot;

mod birth;
mod blob;
mod branch;
mod captured;
mod client;
mod commit;
mod containers;
mod content;
mod difference;
mod export;
mod freezer;
mod image;
mod import;
mod label;
mod leases;
mod nerdctl;
mod patch;
mod pool;
mod portable;
mod promote;
mod quiesce;
mod records;
mod recover;
mod reference;
mod request;
mod resume;
mod retain;
mod rollback;
mod snapshot;
mod snapshots;
mod spec;
mod state;
mod stop;
mod swap;
mod task;
mod undo;
mod unpack;

pub use containers::NERDCTL_NAME;
pub use difference::Difference;
pub use image::ImageSeen;
pub use import::Import;
pub use pool::Moved;
pub use request::{
    Archive, Branched, Changes, Commit, Committed, Compression, Consistency, Forked, Options, Portable,
    Resumed, Rolled, Taken, Volumes,
};

use captured::Captured;
use client::Client;
use freezer::Turns;
use label::LiveFreezers;
use nerdctl::OPERATION_LABEL;
use recover::Places;
use reference::Reference;

/// How long what is only shown may take.
const GLANCE: Duration = Duration::from_secs(2);
/// What nerdctl's labels begin with.
const NERDCTL: &str = "nerdctl/";

/// The containerd, and its namespace, that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its socket's path.
    pub address: String,
    /// Its namespace.
    pub namespace: String,
}

/// Makes branches of containers.
#[derive(Debug)]
pub struct Brancher {
    core: Arc<Snapshots>,
    operations: Arc<Operations>,
    turns: Arc<Turns>,
    places: Arc<Places>,
    /// The chain ids of images, by the digests of their targets: content never changes.
    chains: Mutex<HashMap<String, String>>,
}

/// A container and the way to it.
#[derive(Debug)]
struct Holder {
    client: Client,
    container: Container,
}

impl Brancher {
    /// Over this core; what it does is tracked by these operations.
    pub fn new(core: Arc<Snapshots>, operations: Arc<Operations>) -> Self {
        Self { core, operations, turns: Arc::default(), places: Arc::default(), chains: Mutex::default() }
    }

    /// The snapshot that a reference means: that of a container, or one by its name, its id or the
    /// beginning of it.
    pub async fn find(&self, target: &Target, reference: &str) -> Result<Snapshot> {
        Ok(self.locate(target, reference).await?.0)
    }

    /// As `find`, and what is known of the container that it is a state of, as `Snapshot::captured`
    /// keeps it: what a pin keeps, so that a container can be made of it once that one is gone.
    pub async fn find_captured(
        &self,
        target: &Target,
        reference: &str,
    ) -> Result<(Snapshot, Option<String>)> {
        let (snapshot, holder) = self.locate(target, reference).await?;
        let captured = match &holder {
            Some(Holder { client, container }) => {
                Some(Captured::of(&client.target().namespace, container)?.to_json()?)
            }
            None => snapshot.captured.clone(),
        };
        Ok((snapshot, captured))
    }

    /// What people call the containers of these namespaces that nerdctl has named, by namespace and id. It is for
    /// showing: a containerd that does not answer soon tells none.
    pub async fn names(
        &self,
        address: &str,
        namespaces: BTreeSet<String>,
    ) -> HashMap<(String, String), String> {
        let looks = namespaces.into_iter().map(|namespace| async move {
            let target = Target { address: address.to_owned(), namespace };
            let names = containers::nerdctls_names(&Client::connect(&target).await?).await?;
            Ok::<_, Error>(
                names.into_iter().map(|(id, name)| ((target.namespace.clone(), id), name)).collect(),
            )
        });
        let all = futures::future::join_all(looks);
        let found: Vec<Result<Vec<_>>> = tokio::time::timeout(GLANCE, all).await.unwrap_or_default();
        found.into_iter().flat_map(std::result::Result::unwrap_or_default).collect()
    }

    /// The names of the images of these namespaces, by the snapshot that is their top. It is for showing, likewise.
    pub async fn image_names(
        &self,
        address: &str,
        namespaces: BTreeSet<String>,
    ) -> HashMap<crate::store::Id, Vec<String>> {
        let looks = namespaces.into_iter().map(|namespace| async move {
            self.tops(&Target { address: address.to_owned(), namespace }).await.unwrap_or_default()
        });
        let found = tokio::time::timeout(GLANCE, futures::future::join_all(looks)).await.unwrap_or_default();
        let mut names = HashMap::<_, Vec<String>>::new();
        for (top, name) in found.into_iter().flatten() {
            names.entry(top).or_default().push(name);
        }
        names
    }

    /// What stops the containers of this containerd where a fork is asked for by label
    /// (`Snapshots::freeze_with`). Called in the runtime that the pauses are to wait in.
    pub fn freezers(&self, address: &str) -> Arc<dyn Freezers> {
        Arc::new(LiveFreezers::new(&self.core, &self.turns, address))
    }

    /// Continues every container that a crash left paused by loom, in the background: containerd may
    /// come up after us.
    pub async fn thaw_left(&self) {
        match blocking(&self.core, |core| core.store().read(freezer::written)).await {
            Ok(left) => {
                quiesce::forget_outputs(self.core.layers().root());
                for pause in left {
                    tokio::spawn(freezer::until_thawed(self.core.clone(), self.turns.clone(), pause));
                }
            }
            Err(error) => tracing::error!(%error, "cannot tell which containers a crash left paused"),
        }
    }

    /// Continues what loom has paused, and refuses the states that are being taken meanwhile. For a stop
    /// that cuts requests off: a daemon that nobody starts again must leave nothing paused.
    pub async fn cut_off(&self) {
        if let Err(error) = freezer::cut_off(&self.core, &self.turns).await {
            tracing::error!(%error, "containers that loom paused may stay so until it starts again");
        }
    }

    /// What a reference means, and the container where it is that of one.
    async fn locate(&self, target: &Target, text: &str) -> Result<(Snapshot, Option<Holder>)> {
        let name = match Reference::parse(text)? {
            Reference::Container { .. } => {
                let holder = self.container(target, text).await?;
                return Ok((self.of_container(&holder).await?, Some(holder)));
            }
            Reference::Snapshot(name) => return Ok((self.named(name).await?, None)),
            Reference::Image(name) => return Ok((self.of_image(target, name).await?, None)),
            Reference::Bare(name) => name,
        };
        // containerd's silence matters only where the core does not know the name.
        let container = match self.container(target, text).await {
            Ok(holder) => Ok(Some(holder)),
            Err(Error::ContainerNotFound { .. }) => Ok(None),
            Err(error) if is_silence(&error) => Err(error),
            Err(error) => return Err(error),
        };
        let snapshot = match self.named(name).await {
            Ok(snapshot) => Some(snapshot),
            Err(Error::SnapshotNotFound(_)) => None,
            Err(error) => return Err(error),
        };
        match (container, snapshot) {
            (Ok(Some(holder)), None) => Ok((self.of_container(&holder).await?, Some(holder))),
            (Ok(Some(holder)), Some(snapshot)) => {
                if self.of_container(&holder).await.is_ok_and(|own| own.id == snapshot.id) {
                    return Ok((snapshot, Some(holder)));
                }
                let namespace = &holder.client.target().namespace;
                Err(Error::Ambiguous {
                    what: name.to_owned(),
                    matches: vec![
                        format!("container:{namespace}/{}", holder.container.id),
                        format!("snapshot:{}", snapshot.title()),
                    ],
                })
            }
            (_, Some(snapshot)) => Ok((snapshot, None)),
            (Ok(None), None) => match self.of_image(target, name).await {
                Err(Error::ImageNotFound { .. } | Error::Invalid { .. }) => {
                    Err(Error::NothingFound { what: name.to_owned(), namespace: target.namespace.clone() })
                }
                found => Ok((found?, None)),
            },
            (Err(silent), None) => Err(silent),
        }
    }

    /// The container that a reference means where only a container will do.
    async fn container(&self, target: &Target, reference: &str) -> Result<Holder> {
        let (target, name) = match Reference::parse(reference)? {
            Reference::Container { namespace: Some(namespace), name } => {
                (Target { namespace: namespace.to_owned(), ..target.clone() }, name)
            }
            Reference::Container { namespace: None, name } | Reference::Bare(name) => (target.clone(), name),
            Reference::Snapshot(_) | Reference::Image(_) => {
                return Err(Error::invalid(
                    format!("reference {reference:?}"),
                    "a container is needed here; `loom clone` makes one of a committed snapshot",
                ));
            }
        };
        let client = Client::connect(&target).await?;
        let container = containers::resolve(&client, name).await?;
        Ok(Holder { client, container })
    }

    /// A container's snapshot; `NotOnLoom` where we do not have it.
    async fn of_container(&self, holder: &Holder) -> Result<Snapshot> {
        let namespace = holder.client.target().namespace.clone();
        let key = holder.container.snapshot_key.clone();
        let found = blocking(&self.core, move |core| core.by_client_key(&namespace, &key)).await?;
        found.ok_or_else(|| Error::NotOnLoom {
            name: containers::display_name(&holder.container).to_owned(),
            snapshotter: match holder.container.snapshotter.as_str() {
                "" => "no snapshotter".to_owned(),
                name => name.to_owned(),
            },
        })
    }

    /// A snapshot by name, id or the beginning of one.
    async fn named(&self, name: &str) -> Result<Snapshot> {
        let name = name.to_owned();
        blocking(&self.core, move |core| core.resolve(&name)).await
    }

    /// The container that may be writing to an active snapshot. What is not mounted nobody writes to,
    /// so containerd need not even run for that.
    async fn holder(core: &Arc<Snapshots>, target: &Target, snapshot: &Snapshot) -> Result<Option<Holder>> {
        let id = snapshot.id;
        let mounted = blocking(core, move |core| match core.get(id)?.chain.first() {
            Some(top) => core.layers().mounted(top.id),
            None => Ok(false),
        });
        if mounted.await? { container_of(target, snapshot).await } else { Ok(None) }
    }
}

/// The container that has an active snapshot, running or not.
async fn container_of(target: &Target, active: &Snapshot) -> Result<Option<Holder>> {
    let Some((namespace, key)) = active.key.as_deref().and_then(key::parts) else { return Ok(None) };
    if !reference::is_identifier(namespace) {
        return Ok(None);
    }
    let client = Client::connect(&Target { namespace: namespace.to_owned(), ..target.clone() }).await?;
    let container = containers::of_snapshot(&client, key).await?;
    Ok(container.map(|container| Holder { client, container }))
}

/// Runs a call of the core on a thread that may block.
async fn blocking<T: Send + 'static>(
    core: &Arc<Snapshots>,
    call: impl FnOnce(&Arc<Snapshots>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let core = core.clone();
    match tokio::task::spawn_blocking(move || call(&core)).await {
        Ok(answer) => answer,
        Err(died) => Err(Error::Internal(format!("a call of the core died: {died}"))),
    }
}

/// How a committed state's bytes are put in a second place; refused once they are gone.
async fn method_of(core: &Arc<Snapshots>, state: &Snapshot) -> Result<Method> {
    let id = state.id;
    blocking(core, move |core| core.method(id)).await?.ok_or_else(|| bytes_gone(state))
}

/// Why nothing can be made of a state that is only a row any more.
fn bytes_gone(state: &Snapshot) -> Error {
    Error::precondition(
        format!("snapshot {:?}", state.title()),
        "its bytes are gone, and only its lineage is kept; choose a later snapshot",
    )
}

/// True where containerd did not answer: what it would have said, or has done, is not known.
fn is_silence(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::DeadlineExceeded)
}

#[cfg(test)]
mod tests;
