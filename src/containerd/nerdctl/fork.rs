//! A fork of a container of nerdctl's, from the first call to the last.

use std::time::{Duration, Instant};

use containerd_client::services::v1::Container;

use super::trail::Trail;
use super::volume::{self, Volume};
use super::{Order, Origin, create, merge};
use crate::containerd::birth::some_at_once;
use crate::containerd::state::Taking;
use crate::containerd::{
    Branched, Brancher, Forked, blocking, containers, image, method_of, snapshots, undo,
};
use crate::error::{Error, Kind, Result};
use crate::operation::Work;
use crate::snapshot::{Cost, Keep, Made};
use crate::store::Snapshot;

/// What all forks of one request share.
#[derive(Clone, Copy)]
struct Mold<'a> {
    work: &'a Work,
    order: Order<'a>,
    trail: &'a Trail,
    /// The empty image that nerdctl makes them of.
    image: &'a str,
    /// What containerd calls the snapshot that they report as their parent; empty for none.
    parent: &'a str,
    /// The fork label's value.
    grant: &'a str,
}

/// One fork, as far as it is made.
struct One<'a> {
    at: usize,
    name: &'a str,
    volumes: &'a [Volume],
}

impl Brancher {
    /// Makes containers of nerdctl's, one for each name, all of one state, and starts them unless the options say
    /// no. One that fails is undone and reported in its place; where all fail, or the operation is cancelled,
    /// nothing stays. The plan is written already, with the way.
    pub(in crate::containerd) async fn fork_by_nerdctl(
        &self,
        work: &Work,
        order: Order<'_>,
        origin: Origin<'_>,
    ) -> Result<Branched> {
        let begun = Instant::now();
        check(order)?;
        if order.changes.publish.is_empty() && create::publishes(order.captured) {
            work.warn("the source's published ports are not published again; give the fork its own with -p");
        }
        let made = self.make_all(work, order, origin).await;
        let failed = match made {
            Ok((mut forks, cost)) => {
                if forks.iter().any(|fork| fork.error.is_none()) {
                    return Ok(Branched { forks, cost: Cost { total: begun.elapsed(), ..cost } });
                }
                match forks.iter_mut().find_map(|fork| fork.error.take()) {
                    Some(first) => Error::from(first),
                    None => Error::Internal("a fork made nothing".to_owned()),
                }
            }
            Err(error) => error,
        };
        self.undo_by_nerdctl(work, order).await;
        Err(failed)
    }

    /// Has nerdctl take away all that it made. What cannot be is told, and does not hide why it had to be.
    pub(in crate::containerd) async fn undo_by_nerdctl(&self, work: &Work, order: Order<'_>) {
        undo::tell(work, order.way.undo(order.client, work.id(), self.core.layers().root()).await);
    }

    async fn make_all(
        &self,
        work: &Work,
        order: Order<'_>,
        origin: Origin<'_>,
    ) -> Result<(Vec<Forked>, Cost)> {
        let trail = Trail::begin(self.core.layers().root(), work.id())?;
        work.step("volumes")?;
        let volumes = volume::make(order, work.id(), &trail).await?;

        work.step("state")?;
        let parent = self.parent_of(order, &origin).await?;
        let transient = matches!(origin, Origin::Live(..));
        let (state, cost) = self.state_for(work, order, origin, &volumes).await?;
        let forks = self.cast_by_nerdctl(work, order, (&state, &parent), &volumes, &trail).await;
        if transient {
            self.release(state.id).await;
        }
        let forks = forks?;
        // From here on the containers' labels are enough to undo it.
        if forks.iter().any(|fork| fork.error.is_none()) {
            image::empty::remove(order.client, work.id()).await?;
            trail.end()?;
        }
        Ok((forks, cost))
    }

    /// The state that the forks are made from, and their volumes filled.
    async fn state_for(
        &self,
        work: &Work,
        order: Order<'_>,
        origin: Origin<'_>,
        volumes: &[Vec<Volume>],
    ) -> Result<(Snapshot, Cost)> {
        let first = volumes.first().cloned().unwrap_or_default();
        let core = self.core.clone();
        let also = move || volume::fill(&core, &first);
        let (state, cost) = match origin {
            Origin::Live(holder, source) => {
                let keep = if order.names.len() == 1 { Keep::ForOne } else { Keep::ForClones };
                let taking =
                    Taking { also: Some(Box::new(also)), ..Taking::asked(keep, work, order.options) };
                self.take(source.id, taking, Some(holder)).await?
            }
            Origin::State(state) => {
                volume::warn_of_now(work, volumes);
                blocking(&self.core, move |_| also()).await?;
                let method = method_of(&self.core, &state).await?;
                (state, Cost { method, paused: Duration::ZERO, total: Duration::ZERO })
            }
        };
        if let Err(error) = volume::spread(&self.core, volumes).await {
            self.release(state.id).await;
            return Err(error);
        }
        Ok((state, cost))
    }

    /// What containerd calls the snapshot that the forks are to report as their parent.
    async fn parent_of(&self, order: Order<'_>, origin: &Origin<'_>) -> Result<String> {
        let snapshotter = &order.captured.snapshotter;
        match origin {
            Origin::Live(holder, _) => {
                let key = &holder.container.snapshot_key;
                let known = snapshots::stat(order.client, snapshotter, key).await?;
                known.map(|known| known.parent).ok_or_else(|| Error::SnapshotNotFound(key.clone()))
            }
            Origin::State(state) => self.parent_known(order.client, snapshotter, state).await,
        }
    }

    async fn cast_by_nerdctl(
        &self,
        work: &Work,
        order: Order<'_>,
        (state, parent): (&Snapshot, &str),
        volumes: &[Vec<Volume>],
        trail: &Trail,
    ) -> Result<Vec<Forked>> {
        work.step("containers")?;
        let platform = order.captured.labels.get("nerdctl/platform").map(String::as_str);
        let image =
            image::empty::create(order.client, work.id(), platform, self.core.layers().root()).await?;
        let made = Made { operation: Some(work.id()), expires: order.options.expires() };
        let grant = self.core.grant(state.id, made)?;
        let label = grant.label();
        let mold = Mold { work, order, trail, image: &image, parent, grant: &label };
        let ones = order.names.iter().zip(volumes).enumerate();
        let ones = ones.map(|(at, (name, volumes))| One { at, name, volumes });
        let done = std::sync::atomic::AtomicU64::new(0);
        let total = order.names.len() as u64;
        let births = ones.map(|one| async {
            let born = self.born(mold, one).await;
            // What is undone soon is not done.
            if work.check().is_ok() {
                work.progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1, total);
            }
            born
        });
        // A port that nerdctl has chosen is taken only once its container runs.
        let forks = if order.changes.publish.is_empty() {
            some_at_once(births.collect()).await
        } else {
            let mut forks = Vec::new();
            for birth in births {
                forks.push(birth.await);
            }
            forks
        };
        work.check()?;
        Ok(forks)
    }

    /// Makes one, or nothing of it.
    async fn born(&self, mold: Mold<'_>, one: One<'_>) -> Forked {
        let Mold { order, trail, .. } = mold;
        let namespace = order.client.target().namespace.clone();
        let name = one.name.to_owned();
        match make(mold, &one).await {
            Ok((id, pid)) => {
                let snapshot = self.snapshot_of(&namespace, &id).await;
                Forked { container: id, name, namespace, snapshot, pid, error: None }
            }
            Err(error) => {
                let undone = async {
                    if let Some(id) = trail.id(one.at)? {
                        order.way.undo_create(order.client, &id).await?;
                    }
                    volume::remove(order, trail, one.volumes).await
                };
                if let Err(left) = undone.await {
                    tracing::warn!(name, error = %left, "a fork that failed leaves something behind");
                    mold.work.warn(format!("fork {name:?} failed and leaves something behind: {left}"));
                }
                let error = Some(error.into());
                Forked { container: name.clone(), name, namespace, snapshot: None, pid: None, error }
            }
        }
    }
}

/// Refuses what can be known to fail before anything is made or stands still.
fn check(order: Order<'_>) -> Result<()> {
    if order.options.no_start && order.names.len() > 1 && !order.changes.publish.is_empty() {
        return Err(Error::invalid(
            "publish",
            "containers that are not started do not take their ports, and several would be given the same; \
             start them, or fork one at a time",
        ));
    }
    if let Some(label) = order.options.labels.keys().find(|label| label.starts_with(super::NERDCTL)) {
        return Err(Error::invalid(format!("label {label:?}"), "labels of this name are nerdctl's own"));
    }
    Ok(())
}

/// Makes one container, and starts it unless that is not wanted: its id and process.
async fn make(mold: Mold<'_>, one: &One<'_>) -> Result<(String, Option<u32>)> {
    let Mold { work, order, trail, .. } = mold;
    let (client, lock) = (order.client, Some(trail.lock()));
    work.check()?;
    crate::fault::point("containerd.nerdctl.create")?;
    let args = create::args(order, work.id(), one.name, mold.image, &trail.id_file(one.at));
    order.way.call(client, lock, &args.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let Some(id) = trail.id(one.at)? else {
        return Err(Error::Internal(format!("nerdctl made {:?} and does not say its id", one.name)));
    };
    let Some(made) = containers::get(client, &id).await? else {
        return Err(Error::ContainerNotFound { name: id, namespace: client.target().namespace.clone() });
    };
    place(mold, &made).await?;
    let merged = merge::merged(order.captured, &made, one.volumes, &order.options.labels, order.changes)?;
    containers::update(client, merged).await?;
    if order.options.no_start {
        return Ok((id, None));
    }
    work.check()?;
    let pid = order.way.start_under(client, lock, &id).await?;
    Ok((id, Some(pid)))
}

/// Puts the state under the container's snapshot key. Its record names that key, which keeps the snapshot from
/// containerd's collector.
async fn place(mold: Mold<'_>, made: &Container) -> Result<()> {
    crate::fault::point("containerd.nerdctl.place")?;
    let Container { snapshotter, snapshot_key, .. } = made;
    snapshots::remove(mold.order.client, snapshotter, snapshot_key).await?;
    let prepare =
        |parent| snapshots::prepare(mold.order.client, snapshotter, snapshot_key, parent, mold.grant);
    match prepare(mold.parent).await {
        // Where nothing else stood on it, containerd may have collected the parent since it was looked up.
        Err(error) if error.kind() == Kind::NotFound && !mold.parent.is_empty() => prepare("").await,
        answer => answer,
    }
}
