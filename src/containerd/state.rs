//! The state of a live container: how it is asked to be ready for it, and what stands still meanwhile.
//!
//! ```text
//!            app: loom.quiesce ── what is dirty is written ── pause ── app: the rest is written ── the copy, and
//!                    └───── whatever fails ─────────────────────┴──────────────────────┴── what is done beside it
//!                                      └──► continued ── app: loom.unquiesce ◄───────────────────────────┘
//! ```

use std::collections::BTreeMap;

use super::captured::Captured;
use super::freezer::TaskFreezer;
use super::quiesce::Hooks;
use super::{Brancher, Consistency, Holder, Options, blocking};
use crate::error::Result;
use crate::operation::Work;
use crate::snapshot::{Cost, Freezer, Keep, Snapshots, Take};
use crate::store::{Id, Layer, Snapshot, Time};

/// What is done beside the core's own step while the container stands still. It may block.
pub(super) type Also = Box<dyn FnOnce() -> Result<()> + Send>;

/// A state to take.
pub(super) struct Taking {
    /// What becomes of it.
    pub(super) keep: Keep,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// When it goes by itself.
    pub(super) expires: Option<Time>,
    /// The operation that it is taken for.
    pub(super) operation: Option<Id>,
    /// How whole it is to be.
    pub(super) consistency: Consistency,
    /// What is done beside it.
    pub(super) also: Option<Also>,
    /// Who is told what does not make it fail.
    pub(super) work: Option<Work>,
}

impl Taking {
    /// As every state is taken that is asked for nothing.
    pub(super) fn of(keep: Keep) -> Self {
        Self {
            keep,
            labels: BTreeMap::new(),
            expires: None,
            operation: None,
            consistency: Consistency::Crash,
            also: None,
            work: None,
        }
    }

    /// As an operation takes it that was asked for with these options.
    pub(super) fn asked(keep: Keep, work: &Work, options: &Options) -> Self {
        Self {
            operation: Some(work.id()),
            consistency: options.consistency,
            work: Some(work.clone()),
            ..Self::of(keep)
        }
    }
}

impl Brancher {
    /// Takes the state of an active snapshot, whose container stands still for the last step.
    pub(super) async fn take(
        &self,
        source: Id,
        taking: Taking,
        holder: Option<&Holder>,
    ) -> Result<(Snapshot, Cost)> {
        let Taking { keep, labels, expires, operation, consistency, also, work } = taking;
        let mut take = Take { keep, labels, captured: None, operation, expires };
        let mut shutter = Shutter { container: None, flushed: None, also };
        if let Some(Holder { client, container }) = holder {
            let captured = Captured::of(&client.target().namespace, container)?;
            let hooks = (consistency == Consistency::App).then(|| Hooks::of(&captured)).transpose()?;
            if hooks.is_some() {
                let top = blocking(&self.core, move |core| Ok(core.get(source)?.chain.into_iter().next()));
                shutter.flushed = top.await?.map(|top| (self.core.clone(), top));
            }
            take.captured = Some(captured.to_json()?);
            let (core, turns) = (self.core.clone(), self.turns.clone());
            let freezer = TaskFreezer::of(core, turns, client.clone(), &container.id).await;
            shutter.container = Some(freezer.with(hooks));
        }
        let (taken, container) = blocking(&self.core, move |core| {
            let taken = core.snapshot(source, &take, &mut shutter);
            Ok((taken, shutter.container))
        })
        .await?;
        if let Some(warning) = async { container?.gone_on().await }.await {
            if let Some(work) = work {
                work.warn(warning);
            } else {
                tracing::warn!("{warning}");
            }
        }
        taken
    }
}

/// All that happens around the core's own step.
struct Shutter {
    /// The container that stands still, where one runs.
    container: Option<TaskFreezer>,
    /// What is written out once more while it does.
    flushed: Option<(std::sync::Arc<Snapshots>, Layer)>,
    also: Option<Also>,
}

impl Freezer for Shutter {
    fn ready(&mut self) -> Result<()> {
        self.container.as_mut().map_or(Ok(()), Freezer::ready)
    }

    fn freeze(&mut self) -> Result<bool> {
        let Some(container) = &mut self.container else { return Ok(false) };
        let ran = container.freeze()?;
        // All but the last of it was written while it ran, so that this is short.
        if let Some((core, layer)) = self.flushed.as_ref().filter(|_| ran) {
            core.layers().flush(layer)?;
        }
        Ok(ran)
    }

    fn still(&mut self) -> Result<()> {
        self.also.take().map_or(Ok(()), |also| also())
    }

    fn thaw(&mut self) -> Result<()> {
        self.container.as_mut().map_or(Ok(()), Freezer::thaw)
    }
}
