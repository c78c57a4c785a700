//! Swap: a container is stopped, its content replaced, and it is started again. What rollback and promote
//! share.
//!
//! ```text
//! plan written ── stopped ── replaced ── started ── result written (it holds) ── what it had is dropped,
//!       │            │          │           │                                    where that was asked
//!       └─ fails: it goes on ◄──┘ ◄─────────┘ fails: what it had is put back, and it goes on with that
//! ```
//!
//! What the container had is kept until the result is written, whatever was asked: so every failure can be
//! undone. A crash in front of the replacement is undone too; one behind it is finished.

use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::captured::Captured;
use super::client::Client;
use super::stop::Life;
use super::{Brancher, Holder, Options, Rolled, blocking, containers, reference};
use crate::error::{Error, Result};
use crate::operation::{Outcome, Work};
use crate::snapshot::{Cost, Kept, Replaced, key};
use crate::store::{Id, Operation, Rows, Snapshot, Time};

/// How long what is to be dropped stays where a crash keeps it from being dropped.
const UNDROPPED: Duration = Duration::from_mins(10);

/// What is put in a container.
pub(super) struct Content {
    /// The committed state.
    pub(super) state: Id,
    /// The row that the container's new one names as its source: the state, or what that was taken of.
    pub(super) source: Id,
}

/// A container whose content is replaced.
pub(super) struct Swap<'a> {
    /// When the request began.
    pub(super) begun: Instant,
    /// The container.
    pub(super) holder: &'a Holder,
    /// Its snapshot.
    pub(super) target: &'a Snapshot,
    /// What it gets.
    pub(super) content: Content,
    /// What becomes of what it had.
    pub(super) keeping: Keeping,
    /// Leave it stopped.
    pub(super) no_start: bool,
}

/// What becomes of what the container had.
pub(super) struct Keeping {
    name: String,
    discard: bool,
    /// The container, as `Snapshot::captured` has it.
    own: String,
    kept: Kept,
}

/// What a restart needs to finish or undo a swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    /// The container's name for people.
    name: String,
    life: Life,
    /// `Content::source`.
    source: Id,
    /// The name of the snapshot that keeps what it had.
    kept: String,
    discard: bool,
    /// Leave it stopped.
    no_start: bool,
}

impl Keeping {
    /// As the options of a request want it for this container. Refuses a name that is taken, before anything
    /// is stopped for it.
    pub(super) async fn of(
        brancher: &Brancher,
        holder: &Holder,
        discard: bool,
        options: &Options,
    ) -> Result<Self> {
        let Holder { client, container } = holder;
        if discard && (options.name.is_some() || options.ttl.is_some() || !options.labels.is_empty()) {
            return Err(Error::invalid(
                "discard",
                "a name, labels and a ttl are for the snapshot that keeps what the container had, and that is \
                 discarded; leave out the one or the other",
            ));
        }
        let name = match &options.name {
            Some(name) => name.clone(),
            None => reference::default_name(containers::display_name(container), "")?,
        };
        key::check_name(&name)?;
        let free = name.clone();
        blocking(&brancher.core, move |core| match core.store().read(|rows| rows.by_name(&free))? {
            Some(_) => Err(Error::NameExists(free)),
            None => Ok(()),
        })
        .await?;
        let unkept = Some(Time::from(SystemTime::now() + UNDROPPED));
        let own = Captured::of(&client.target().namespace, container)?.to_json()?;
        let kept = Kept::Named {
            name: name.clone(),
            labels: options.labels.clone(),
            expires: if discard { unkept } else { options.expires() },
            captured: Some(own.clone()),
        };
        Ok(Self { name, discard, own, kept })
    }
}

impl Brancher {
    /// Replaces a container's content. `settled` is asked once the container has stopped; where it refuses, the
    /// container goes on as it was.
    pub(super) async fn swap(
        &self,
        work: &Work,
        swap: Swap<'_>,
        settled: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<Rolled> {
        let Swap { begun, holder, target, content, keeping, no_start } = swap;
        let Holder { client, container } = holder;
        let _turn = self.turns.take(&client.target().namespace, &container.id).await;
        let life = Life::of(client, container).await?;
        let plan = Plan {
            name: containers::display_name(container).to_owned(),
            life,
            source: content.source,
            kept: keeping.name,
            discard: keeping.discard,
            no_start,
        };
        work.plan(&plan).await?;

        work.step("stop")?;
        let stopped = Instant::now();
        let replaced = async {
            plan.life.stop(client, container).await?;
            settled().await?;
            work.step("replace")?;
            let (from, operation) = (target.id, work.id());
            blocking(&self.core, move |core| {
                core.store().write(move |rows| owned(rows, from, keeping.own))?;
                core.replace(from, content.state, &keeping.kept, Some(operation))
            })
            .await
        };
        let replaced = match replaced.await {
            Ok(replaced) => replaced,
            Err(error) => {
                go_on_as_it_was(work, holder, &plan.life).await;
                return Err(error);
            }
        };
        let started = async {
            work.step("start")?;
            let pid = self.start_swapped(work, client, &plan, container).await?;
            let paused = if plan.life.runs() { stopped.elapsed() } else { Duration::ZERO };
            let cost = Cost { method: replaced.method, paused, total: begun.elapsed() };
            let rolled = rolled(client, &plan, &replaced, pid, cost);
            work.decided(&rolled).await?;
            Ok(rolled)
        };
        match started.await {
            Ok(rolled) => {
                if plan.discard {
                    self.drop_kept(replaced.kept).await;
                }
                Ok(rolled)
            }
            Err(error) => {
                self.swap_back(work, holder, &plan, &replaced).await;
                Err(error)
            }
        }
    }

    /// Makes a container with its new content do what it did, unless it is to stay stopped.
    async fn start_swapped(
        &self,
        work: &Work,
        client: &Client,
        plan: &Plan,
        container: &containerd_client::services::v1::Container,
    ) -> Result<Option<u32>> {
        if !plan.no_start {
            return plan.life.go_on(client, container).await;
        }
        if let Some(warning) = plan.life.stay(client).await? {
            work.warn(warning);
        }
        Ok(None)
    }

    /// Puts back what a container had. What cannot be put back is told, and does not hide why it had to be.
    async fn swap_back(&self, work: &Work, holder: &Holder, plan: &Plan, replaced: &Replaced) {
        let back = async {
            plan.life.stop(&holder.client, &holder.container).await?;
            let (now, operation) = (replaced.now, work.id());
            let Some(kept) = replaced.kept else { return Ok(()) };
            blocking(&self.core, move |core| {
                match core.put_back(now, kept) {
                    // Somebody has branched it by its name already.
                    Err(Error::Busy(_)) => {
                        core.replace(now, kept, &Kept::Discarded, Some(operation))?;
                        core.forget(kept)
                    }
                    done => done,
                }
            })
            .await
        };
        if let Err(error) = back.await {
            work.warn(format!(
                "container {:?} could not be given back what it had; that is snapshot {:?}: {error}",
                plan.name, plan.kept
            ));
        }
        go_on_as_it_was(work, holder, &plan.life).await;
    }

    /// Drops what a container had, once it has its new content for good.
    async fn drop_kept(&self, kept: Option<Id>) {
        let Some(kept) = kept else { return };
        if let Err(error) = blocking(&self.core, move |core| core.forget(kept)).await {
            tracing::warn!(snapshot = %kept, %error, "what is to be discarded stays until it expires");
        }
    }

    /// Finishes or undoes a rollback or a promotion that a crash cut off.
    pub(super) async fn recover_replace(&self, client: &Client, operation: &Operation) -> Result<Outcome> {
        let Some(plan) = &operation.plan else { return Ok(Outcome::Undone) };
        let plan: Plan = serde_json::from_str(plan)
            .map_err(|e| Error::Internal(format!("plan of operation {}: {e}", operation.id)))?;
        let _turn = self.turns.take(&client.target().namespace, plan.life.container()).await;
        let (id, kept) = (operation.id, plan.kept.clone());
        let (made, kept) = blocking(&self.core, move |core| {
            core.store().read(|rows| Ok((rows.by_operation(id)?, rows.by_name(&kept)?)))
        })
        .await?;
        let kept = kept.map(|kept| kept.id);
        let with_key = |source: Option<Id>| {
            made.iter().find(|row| source.is_some() && row.key.is_some() && row.source == source)
        };
        let Some(now) = with_key(Some(plan.source)) else {
            if with_key(kept).is_some() {
                // It was being put back, and this was all that was missing.
                self.drop_kept(kept).await;
            }
            plan.life.revive(client).await?;
            return Ok(Outcome::Undone);
        };
        let pid = if plan.no_start {
            plan.life.stay(client).await?;
            None
        } else {
            plan.life.revive(client).await?
        };
        if plan.discard {
            self.drop_kept(kept).await;
        }
        let top = now.id;
        let home = blocking(&self.core, move |core| Ok(core.get(top)?.chain.first().map(|layer| layer.home)));
        let Some(home) = home.await? else { return Err(Error::SnapshotNotFound(top.to_string())) };
        // The clock of the daemon that was cut off is gone; this is how long its user has waited.
        let total = SystemTime::now().duration_since(operation.created.into()).unwrap_or_default();
        let paused = if plan.life.runs() { total } else { Duration::ZERO };
        let replaced = Replaced { now: now.id, kept, method: self.core.layers().method(home) };
        let cost = Cost { method: replaced.method, paused, total };
        let rolled = rolled(client, &plan, &replaced, pid, cost);
        let rolled = serde_json::to_string(&rolled).map_err(|e| Error::Internal(format!("result: {e}")))?;
        Ok(Outcome::Finished(rolled))
    }
}

/// Has a row say whose it is that nothing says that of, so that its successor with another's content is not taken
/// for a branch of that.
fn owned(rows: &Rows<'_>, id: Id, own: String) -> Result<()> {
    match rows.snapshot(id)? {
        Some(row) if row.captured.is_none() => rows.update(&Snapshot { captured: Some(own), ..row }),
        _ => Ok(()),
    }
}

/// Makes a container do what it did before a swap that failed.
async fn go_on_as_it_was(work: &Work, holder: &Holder, life: &Life) {
    if let Err(error) = life.revive(&holder.client).await {
        let name = containers::display_name(&holder.container);
        work.warn(format!("container {name:?} could not be started again: {error}"));
    }
}

fn rolled(client: &Client, plan: &Plan, replaced: &Replaced, pid: Option<u32>, cost: Cost) -> Rolled {
    let kept = replaced.kept.filter(|_| !plan.discard);
    Rolled {
        container: plan.life.container().to_owned(),
        name: plan.name.clone(),
        namespace: client.target().namespace.clone(),
        snapshot: replaced.now,
        kept,
        kept_name: kept.map(|_| plan.kept.clone()),
        pid,
        cost,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    /// Plans outlive the loomd that wrote them.
    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let source = Id::random().unwrap();
        let written = json!({
            "name": "web",
            "life": {
                "container": "0f1e", "doing": "paused", "pid": 77, "way": null,
                "monitor": {"containerd.io/restart.status": "running"},
            },
            "source": source, "kept": "web-123456", "discard": true, "no_start": false,
        });
        let plan: Plan = serde_json::from_value(written.clone()).unwrap();
        assert!(plan.life.runs() && plan.life.container() == "0f1e" && plan.source == source);
        assert_eq!(serde_json::to_value(&plan).unwrap(), written);
    }
}
