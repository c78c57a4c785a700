//! Fork and clone: containers on new active snapshots that continue from a state.
//!
//! ```text
//! plan ── state of the source ── lease ┬─ Prepare ── Containers.Create ─┬─ state released ── result
//! written        (one pause)           ├─ … a container each …          │  tasks started     written, lease
//!                                      └─ Prepare ── Containers.Create ─┘                    ended
//! ```
//!
//! What fails undoes what it alone made; where all fail, or the operation is cancelled, all of it is undone. The
//! lease keeps a snapshot that no container names yet, and all of it holds once the result is written: what a
//! crash leaves before that is undone (`recover`). Containers of nerdctl's are made by nerdctl (`nerdctl`).

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::birth::Mold;
use super::captured::{Captured, Unlike};
use super::client::Client;
use super::nerdctl::{Order, Origin, Way};
use super::state::Taking;
use super::{
    Branched, Brancher, Changes, Holder, Options, Reference, Target, Volumes, blocking, containers,
    method_of, reference, request, snapshots,
};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::snapshot::{Cost, Keep, key};
use crate::store::{Id, Kind, OperationKind, Snapshot};

/// What a restart needs to undo a fork or a clone; all else it finds by the operation's id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// What containerd calls us.
    pub(super) snapshotter: String,
    /// Whose containers they are, where they are nerdctl's.
    pub(super) way: Option<Way>,
}

/// What a clone needs, for one who names something else.
const CLONED: &str = "a clone is made of a committed one; `loom fork` continues from a container as it is";

/// What is asked of a fork or a clone.
struct Asked<'a> {
    target: &'a Target,
    reference: &'a str,
    count: u32,
    options: Options,
    changes: Changes,
}

impl Brancher {
    /// Makes `count` containers from the state of one, all of one moment, and starts them unless the options say
    /// no. One that fails is undone and reported in its place; where all fail, so does the call. Answers the
    /// operation too.
    ///
    /// A fork has its source's image, runtime, labels and specification, but for the changes, under its own
    /// id. Labels of the restart monitor are not taken over.
    pub async fn fork(
        &self,
        target: &Target,
        reference: &str,
        count: u32,
        options: Options,
        changes: Changes,
    ) -> Result<(Id, Branched)> {
        let asked = Asked { target, reference, count, options, changes };
        let ask = asked.check(OperationKind::Fork)?;
        Box::pin(self.operations.run(ask, |work| self.fork_live(work, asked))).await
    }

    /// Makes a container from a committed snapshot of one, which may be gone, and starts it unless the options
    /// say no. Answers the operation too.
    pub async fn clone_state(
        &self,
        target: &Target,
        reference: &str,
        options: Options,
        changes: Changes,
    ) -> Result<(Id, Branched)> {
        let asked = Asked { target, reference, count: 1, options, changes };
        let ask = asked.check(OperationKind::Clone)?;
        Box::pin(self.operations.run(ask, |work| self.clone_committed(work, asked))).await
    }

    async fn fork_live(&self, work: Work, asked: Asked<'_>) -> Result<Branched> {
        let begun = Instant::now();
        work.step("resolve")?;
        work.progress(0, asked.count.into());
        let holder = self.container(asked.target, asked.reference).await?;
        let Holder { client, container } = &holder;
        let captured = Captured::of(&client.target().namespace, container)?;
        let called = containers::display_name(container);
        let names = reference::fork_names(called, asked.options.name.as_deref(), asked.count)?;
        let source = self.of_container(&holder).await?;
        if source.kind != Kind::Active {
            return Err(Error::WrongKind {
                key: source.title(),
                kind: source.kind,
                needs: "a fork continues from an active one",
            });
        }
        let plan = asked.plan(&captured, called)?;
        blocking(&self.core, |core| core.admit()).await?;
        self.recover_in(client).await?;
        unused(client, &captured.snapshotter, &names).await?;
        let Some(known) = snapshots::stat(client, &captured.snapshotter, &container.snapshot_key).await?
        else {
            return Err(Error::SnapshotNotFound(container.snapshot_key.clone()));
        };
        work.plan(&plan).await?;
        if let Some(way) = &plan.way {
            let origin = Origin::Live(&holder, source);
            let (options, changes) = (&asked.options, &asked.changes);
            let order = Order { client, way, captured: &captured, names: &names, options, changes };
            return self.by_nerdctl(&work, order, origin).await;
        }

        work.step("state")?;
        let keep = if asked.count == 1 { Keep::ForOne } else { Keep::ForClones };
        let taking = Taking::asked(keep, &work, &asked.options);
        let (state, cost) = self.take(source.id, taking, Some(&holder)).await?;
        let mold = asked.mold(&work, captured, known.parent);
        let nest = self.nest(client, &mold).await;
        let made = match &nest {
            Ok(nest) => self.cast(&work, nest, &mold, state.id, &names).await,
            Err(_) => Vec::new(),
        };
        self.release(state.id).await;
        let cost = Cost { total: begun.elapsed(), ..cost };
        self.bear(&work, nest?, made, &names, &asked.options, cost).await
    }

    async fn clone_committed(&self, work: Work, asked: Asked<'_>) -> Result<Branched> {
        let begun = Instant::now();
        work.step("resolve")?;
        work.progress(0, 1);
        let state = self.committed(asked.target, asked.reference, CLONED).await?;
        let Some(json) = &state.captured else {
            return Err(Error::Refused {
                what: state.title(),
                why: "it is no state of a container; make one with `loom snapshot` of a container".to_owned(),
            });
        };
        let captured = Captured::from_json(&state.title(), json)?;
        // loom's names are freer than containerd's ids.
        let called = Some(state.title()).filter(|title| reference::is_identifier(title));
        let called = called.unwrap_or_else(|| captured.id.clone());
        let names = reference::fork_names(&called, asked.options.name.as_deref(), 1)?;
        let plan = asked.plan(&captured, &state.title())?;
        blocking(&self.core, |core| core.admit()).await?;
        let client = Client::connect(asked.target).await?;
        self.recover_in(&client).await?;
        unused(&client, &captured.snapshotter, &names).await?;
        let parent = self.parent_known(&client, &captured.snapshotter, &state).await?;
        let method = method_of(&self.core, &state).await?;
        work.plan(&plan).await?;
        if let Some(way) = &plan.way {
            let origin = Origin::State(state);
            let (client, options, changes) = (&client, &asked.options, &asked.changes);
            let order = Order { client, way, captured: &captured, names: &names, options, changes };
            return self.by_nerdctl(&work, order, origin).await;
        }

        let mold = asked.mold(&work, captured, parent);
        let nest = self.nest(&client, &mold).await?;
        let made = self.cast(&work, &nest, &mold, state.id, &names).await;
        let cost = Cost { method, paused: Duration::ZERO, total: begun.elapsed() };
        self.bear(&work, nest, made, &names, &asked.options, cost).await
    }

    /// Has nerdctl make them; what it made holds once the result is written.
    async fn by_nerdctl(&self, work: &Work, order: Order<'_>, origin: Origin<'_>) -> Result<Branched> {
        let made = self.fork_by_nerdctl(work, order, origin).await?;
        if let Err(error) = work.decided(&made).await {
            self.undo_by_nerdctl(work, order).await;
            return Err(error);
        }
        Ok(made)
    }

    /// The committed snapshot that a reference means where only one will do. containerd is asked only
    /// about what we do not know.
    pub(super) async fn committed(
        &self,
        target: &Target,
        reference: &str,
        needs: &'static str,
    ) -> Result<Snapshot> {
        let found = match Reference::parse(reference)? {
            Reference::Bare(name) => match self.named(name).await {
                Err(Error::SnapshotNotFound(_)) => self.find(target, reference).await?,
                answer => answer?,
            },
            Reference::Container { .. } | Reference::Snapshot(_) | Reference::Image(_) => {
                self.find(target, reference).await?
            }
        };
        if found.kind != Kind::Committed {
            return Err(Error::WrongKind { key: found.title(), kind: found.kind, needs });
        }
        Ok(found)
    }

    /// The nearest parent that containerd knows in this namespace, by its client's name; empty for none.
    /// It is what the new snapshot reports as its parent, and keeps the image's layers from the collector.
    pub(super) async fn parent_known(
        &self,
        client: &Client,
        snapshotter: &str,
        state: &Snapshot,
    ) -> Result<String> {
        let mut next = state.parent;
        while let Some(id) = next {
            let parent = blocking(&self.core, move |core| core.get(id)).await?.snapshot;
            if let Some((namespace, name)) = parent.key.as_deref().and_then(key::parts)
                && namespace == client.target().namespace
                && parent.kind == Kind::Committed
                && snapshots::stat(client, snapshotter, name).await?.is_some()
            {
                return Ok(name.to_owned());
            }
            next = parent.parent;
        }
        Ok(String::new())
    }

    /// Lets a transient state go. One that cannot be let go now goes when the daemon starts again.
    pub(super) async fn release(&self, state: Id) {
        if let Err(error) = blocking(&self.core, move |core| core.release(state)).await {
            tracing::warn!(snapshot = %state, %error, "a state that a fork stood on is not released yet");
        }
    }
}

impl Asked<'_> {
    /// The request, once it is one that can be done: nobody is asked anything before.
    fn check(&self, kind: OperationKind) -> Result<crate::operation::Ask> {
        reference::fork_names("source", self.options.name.as_deref(), self.count)?;
        self.changes.check()?;
        request::ask(kind, self.target, self.reference, &self.options, &(self.count, &self.changes))
    }

    /// What is written down before anything is made. Ports and volumes are nerdctl's alone.
    fn plan(&self, captured: &Captured, called: &str) -> Result<Plan> {
        let way = Way::of(captured)?;
        if way.is_none() && (!self.changes.publish.is_empty() || self.changes.volumes == Volumes::Clone) {
            return Err(Error::precondition(
                format!("container {called:?}"),
                "it is not nerdctl's, so it has no ports or volumes that could be published or cloned; fork it \
                 without",
            ));
        }
        Ok(Plan { snapshotter: captured.snapshotter.clone(), way })
    }

    /// What its containers have in common.
    fn mold(&self, work: &Work, captured: Captured, parent: String) -> Mold {
        let unlike = Unlike {
            operation: work.id(),
            labels: self.options.labels.clone(),
            changes: self.changes.clone(),
        };
        Mold { captured, parent, unlike, expires: self.options.expires() }
    }
}

/// Refuses names that containers or snapshots have, before anything is made. It asks containerd for the
/// snapshots too: what it has let go of already is ours until its collector comes by.
async fn unused(client: &Client, snapshotter: &str, names: &[String]) -> Result<()> {
    let exists = |name: &str| {
        Err(Error::ContainerExists { name: name.to_owned(), namespace: client.target().namespace.clone() })
    };
    if let Some(name) = containers::called_by_nerdctl(client, names).await? {
        return exists(&name);
    }
    let looks = names.iter().map(|name| async move {
        if containers::get(client, name).await?.is_some() {
            return exists(name);
        }
        match snapshots::stat(client, snapshotter, name).await? {
            Some(_) => Err(Error::KeyExists(name.clone())),
            None => Ok(()),
        }
    });
    super::birth::some_at_once(looks.collect()).await.into_iter().collect()
}
