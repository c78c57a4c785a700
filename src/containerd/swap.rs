//! Swap: a container is stopped, its content replaced, and it is started again. What rollback and promote
//! share.
//!
//! ```text
//! plan written ── stopped ── replaced ── started ── result written (it holds) ── what it had is dropped,
//!       │            │          │           │                                    where that was asked
//!       └─ fails: it goes on ◄──┘ ◄─────────┘ fails: what it had is put back, and it goes on with that
//! ```
//!
//! What the container had is kept until the result is written, whatever was asked, and whatever else would end it:
//! so every failure can be undone. A crash in front of the replacement is undone too; one behind it is finished, or
//! undone where the container does not start with its new content. Where containerd does not answer, a failure is
//! left to the recovery, which undoes it once it does.

use std::time::{Duration, Instant, SystemTime};

use containerd_client::services::v1::Container;
use serde::{Deserialize, Serialize};

use super::captured::Captured;
use super::client::Client;
use super::recover::{finished, planned};
use super::stop::Life;
use super::{Brancher, Holder, Options, Rolled, blocking, containers, is_silence, reference};
use crate::error::{Error, Result};
use crate::operation::{Outcome, Work};
use crate::snapshot::{Cost, Kept, Needed, Replaced, key};
use crate::store::{Id, Operation, Rows, Snapshot, Time};

/// How long what is to be dropped stays where a crash keeps it from being dropped.
const UNDROPPED: Duration = Duration::from_hours(1);

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
    /// For the snapshot that keeps it.
    options: Options,
}

/// What a restart needs to finish or undo a swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    /// The container's name for people.
    name: String,
    life: Life,
    /// The row that the container had, and that keeps what it had.
    had: Id,
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
        let own = Captured::of(&client.target().namespace, container)?.to_json()?;
        Ok(Self { name, discard, own, options: options.clone() })
    }

    /// As the core has it. It lasts from now on.
    fn kept(&self) -> Kept {
        let undropped = || Some(Time::from(SystemTime::now() + UNDROPPED));
        Kept::Named {
            name: self.name.clone(),
            labels: self.options.labels.clone(),
            expires: if self.discard { undropped() } else { self.options.expires() },
            captured: Some(self.own.clone()),
        }
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
        let namespace = &holder.client.target().namespace;
        let _turn = self.turns.take(namespace, &holder.container.id).await;
        let holder = &self.looked_again(holder, target.id).await?;
        let Holder { client, container } = holder;
        let life = Life::of(client, container).await?;
        let plan = Plan {
            name: containers::display_name(container).to_owned(),
            life,
            had: target.id,
            source: content.source,
            kept: keeping.name.clone(),
            discard: keeping.discard,
            no_start,
        };
        work.plan(&plan).await?;

        work.step("stop")?;
        let stopped = Instant::now();
        let needed = self.core.need(plan.had);
        let _state = self.core.need(content.state);
        let replaced = async {
            plan.life.stop(client, container).await?;
            settled().await?;
            work.step("replace")?;
            let (from, operation) = (plan.had, work.id());
            blocking(&self.core, move |core| {
                let kept = keeping.kept();
                core.store().write(move |rows| owned(rows, from, keeping.own))?;
                core.replace(from, content.state, &kept, Some(operation))
            })
            .await
        };
        let replaced = match replaced.await {
            Ok(replaced) => replaced,
            Err(error) => {
                go_on_as_it_was(work, client, &plan.life).await;
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
                drop(needed);
                if plan.discard {
                    self.drop_kept(plan.had).await;
                }
                Ok(rolled)
            }
            Err(error) => {
                self.swap_back(work, client, &plan, replaced.now, needed).await;
                Err(error)
            }
        }
    }

    /// A container as it is now that it is our turn on it: another request may have given it another content, or
    /// have been in the middle of that when it was looked at.
    async fn looked_again(&self, holder: &Holder, row: Id) -> Result<Holder> {
        let client = holder.client.clone();
        let name = containers::display_name(&holder.container);
        let Some(container) = containers::get(&client, &holder.container.id).await? else {
            let namespace = client.target().namespace.clone();
            return Err(Error::ContainerNotFound { name: name.to_owned(), namespace });
        };
        let now = Holder { client, container };
        if self.of_container(&now).await?.id != row {
            return Err(Error::Busy(format!("container {name:?}")));
        }
        Ok(now)
    }

    /// Makes a container with its new content do what it did, unless it is to stay stopped.
    async fn start_swapped(
        &self,
        work: &Work,
        client: &Client,
        plan: &Plan,
        container: &Container,
    ) -> Result<Option<u32>> {
        if !plan.no_start {
            return plan.life.go_on(client, container).await;
        }
        if let Some(warning) = plan.life.stay(client).await? {
            work.warn(warning);
        }
        Ok(None)
    }

    /// Puts back what a container had, and has it go on with that. What cannot be put back is told, and does not
    /// hide why it had to be.
    async fn swap_back(&self, work: &Work, client: &Client, plan: &Plan, now: Id, needed: Needed) {
        match self.put_back(client, plan, now, work.id(), needed).await {
            Ok(()) => {}
            Err(error) if is_silence(&error) => return work.leaves(&error),
            Err(error) => work.warn(format!(
                "container {:?} could not be given back what it had; that is snapshot {:?}: {error}",
                plan.name, plan.kept
            )),
        }
        go_on_as_it_was(work, client, &plan.life).await;
    }

    /// Puts back what a container had; it is stopped then. Where that fails, what it had is kept for good: it is
    /// what its user has not given up.
    async fn put_back(
        &self,
        client: &Client,
        plan: &Plan,
        now: Id,
        operation: Id,
        needed: Needed,
    ) -> Result<()> {
        let had = plan.had;
        let back = async {
            if let Some(container) = containers::get(client, plan.life.container()).await? {
                plan.life.stop(client, &container).await?;
            }
            // True where it is the very snapshot again.
            blocking(&self.core, move |core| match core.put_back(now, had) {
                // Somebody has branched it by its name already.
                Err(Error::Busy(_)) => {
                    core.replace(now, had, &Kept::Discarded, Some(operation)).map(|_| false)
                }
                done => done.map(|()| true),
            })
            .await
        };
        match back.await {
            Ok(true) => {}
            Ok(false) => {
                drop(needed);
                self.drop_kept(had).await;
            }
            Err(error) => {
                if let Err(lost) = blocking(&self.core, move |core| core.keep(had)).await {
                    tracing::warn!(snapshot = %had, error = %lost, "what a container had may expire");
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Drops what a container had, once that is not needed any more.
    async fn drop_kept(&self, had: Id) {
        match blocking(&self.core, move |core| core.forget(had)).await {
            // A pin keeps it.
            Ok(()) | Err(Error::SnapshotNotFound(_) | Error::Pinned(_)) => {}
            Err(error) => {
                tracing::warn!(snapshot = %had, %error, "what is to be discarded stays until it expires");
            }
        }
    }

    /// Finishes or undoes a rollback or a promotion that a crash cut off.
    pub(super) async fn recover_replace(&self, client: &Client, operation: &Operation) -> Result<Outcome> {
        let Some(plan) = &operation.plan else { return Ok(Outcome::Undone) };
        let plan: Plan = planned(operation.id, plan)?;
        let _turn = self.turns.take(&client.target().namespace, plan.life.container()).await;
        let (id, had) = (operation.id, plan.had);
        let needed = self.core.need(had);
        let (made, kept) = blocking(&self.core, move |core| {
            core.store().read(|rows| Ok((rows.by_operation(id)?, rows.snapshot(had)?)))
        })
        .await?;
        let kept = kept.is_some_and(|row| row.key.is_none() && row.layer.is_some());
        let with_key = |source| made.iter().find(|row| row.key.is_some() && row.source == Some(source));
        let Some(now) = with_key(plan.source) else {
            drop(needed);
            if kept && with_key(had).is_some() {
                // It was being put back, and this was all that was missing.
                self.drop_kept(had).await;
            }
            plan.life.revive(client).await?;
            return Ok(Outcome::Undone);
        };
        if operation.error.is_none() || !kept {
            match revive_swapped(client, &plan).await {
                Err(error) if kept && !is_silence(&error) => {
                    tracing::warn!(operation = %id, %error, "a container does not start; it gets back what it had");
                }
                pid => return self.finish_swap(client, operation, &plan, now, pid?, needed).await,
            }
        }
        self.put_back(client, &plan, now.id, id, needed).await?;
        plan.life.revive(client).await?;
        Ok(Outcome::Undone)
    }

    /// What a swap that a crash cut off came to, once its container goes on with its new content.
    async fn finish_swap(
        &self,
        client: &Client,
        operation: &Operation,
        plan: &Plan,
        now: &Snapshot,
        pid: Option<u32>,
        needed: Needed,
    ) -> Result<Outcome> {
        drop(needed);
        if plan.discard {
            self.drop_kept(plan.had).await;
        }
        let top = now.id;
        let method = blocking(&self.core, move |core| core.method(top)).await?;
        let Some(method) = method else { return Err(Error::SnapshotNotFound(top.to_string())) };
        // The clock of the daemon that was cut off is gone; this is how long its user has waited.
        let total = SystemTime::now().duration_since(operation.created.into()).unwrap_or_default();
        let paused = if plan.life.runs() { total } else { Duration::ZERO };
        let replaced = Replaced { now: now.id, kept: Some(plan.had), method };
        let cost = Cost { method, paused, total };
        finished(&rolled(client, plan, &replaced, pid, cost))
    }
}

/// Has a container with its new content do what it did, unless it is to stay stopped, whoever has seen to that.
async fn revive_swapped(client: &Client, plan: &Plan) -> Result<Option<u32>> {
    if !plan.no_start {
        return plan.life.revive(client).await;
    }
    plan.life.stay(client).await.map(|_| None)
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
async fn go_on_as_it_was(work: &Work, client: &Client, life: &Life) {
    match life.revive(client).await {
        Ok(_) => {}
        Err(error) if is_silence(&error) => work.leaves(&error),
        Err(error) => {
            work.warn(format!("container {:?} could not be started again: {error}", life.container()));
        }
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
        let [had, source] = [Id::random().unwrap(), Id::random().unwrap()];
        let written = json!({
            "name": "web",
            "life": {
                "container": "0f1e", "doing": "paused", "pid": 77, "way": null,
                "monitor": {"containerd.io/restart.status": "running"},
            },
            "had": had, "source": source, "kept": "web-123456", "discard": true, "no_start": false,
        });
        let plan: Plan = serde_json::from_value(written.clone()).unwrap();
        assert!(plan.life.runs() && plan.life.container() == "0f1e" && plan.source == source);
        assert_eq!(serde_json::to_value(&plan).unwrap(), written);
    }
}
