//! Snapshot, the verb: a committed state of an active snapshot, which lives on.

use std::time::{Duration, Instant};

use super::chores::Chore;
use super::commit::set_sealed;
use super::moment;
use super::prepare::standing;
use super::remove::end_layers;
use super::{Cost, Freezer, Keep, Snapshots, Take, key};
use crate::error::{Error, Result};
use crate::layer::Method;
use crate::mapping::Mapping;
use crate::store::{Id, Kind, Layer, LayerId, Snapshot, Stage, Time};

/// What the copy of a live layer came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub(super) method: Method,
    /// How long the source stood still; nothing where nothing ran.
    pub(super) paused: Duration,
    /// `Snapshot::taken` of what is made of the copy.
    pub(super) taken: Time,
}

impl Snapshots {
    /// Makes a committed snapshot of an active one. Its container, if `freezer` knows one, is stopped only
    /// around the last step, after what is dirty was written out.
    pub fn snapshot(&self, source: Id, take: &Take, freezer: &mut dyn Freezer) -> Result<(Snapshot, Cost)> {
        let began = Instant::now();
        key::check_labels(&take.labels)?;
        self.admit()?;
        let name = match &take.keep {
            Keep::Named(name) => {
                key::check_name(name)?;
                Some(name.clone())
            }
            Keep::ForClones | Keep::ForOne => None,
        };
        let _taken = name.as_deref().map(|name| self.take_name(name)).transpose()?;
        let source = self.store.read(|rows| {
            if let Some(name) = &name
                && rows.by_name(name)?.is_some()
            {
                return Err(Error::NameExists(name.clone()));
            }
            rows.snapshot(source)?.ok_or_else(|| Error::SnapshotNotFound(source.to_string()))
        })?;
        if source.kind != Kind::Active {
            return Err(Error::WrongKind {
                key: source.title(),
                kind: source.kind,
                needs: "only an active one can be snapshotted; a committed one is a state already",
            });
        }
        let mut state = self.new_state(&source, take, name)?;
        let copied = match self.seal_as_it_lies(&mut state, &source, &take.keep, freezer)? {
            Some(sealed) => sealed,
            None => {
                let gone = || Error::SnapshotNotFound(source.title());
                let (_reading, top) = self.read_top(source.id)?.ok_or_else(gone)?;
                let mut copy = |top: &Layer, id| self.copy_live(top, id, freezer);
                self.state_of(&mut state, &top, &take.keep, &mut copy)?
            }
        };
        Ok((state, Cost { method: copied.method, paused: copied.paused, total: began.elapsed() }))
    }

    /// The row of a state that is about to be taken.
    pub(super) fn new_state(&self, source: &Snapshot, take: &Take, name: Option<String>) -> Result<Snapshot> {
        let now = Time::now();
        Ok(Snapshot {
            id: Id::random()?,
            key: None,
            transient: name.is_none(),
            name,
            kind: Kind::Committed,
            parent: source.parent,
            source: Some(source.id),
            layer: Some(self.layers.next_id()),
            pinned: false,
            labels: take.labels.clone(),
            created: now,
            updated: now,
            captured: take.captured.clone(),
            operation: take.operation,
            expires: take.expires,
            taken: None,
        })
    }

    /// Makes the rows and the layer of a state, whose bytes `copy` puts in place.
    pub(super) fn state_of(
        &self,
        state: &mut Snapshot,
        top: &Layer,
        keep: &Keep,
        copy: &mut dyn FnMut(&Layer, LayerId) -> Result<Copied>,
    ) -> Result<Copied> {
        if *keep == Keep::ForOne {
            self.state_for_one(state, top, copy)
        } else {
            self.state_to_keep(state, top, copy)
        }
    }

    /// A state whose bytes the one clone takes over: never sealed, so that it costs one copy and no sync.
    fn state_for_one(
        &self,
        state: &mut Snapshot,
        top: &Layer,
        copy: &mut dyn FnMut(&Layer, LayerId) -> Result<Copied>,
    ) -> Result<Copied> {
        let id = layer_of(state)?;
        let copied = copy(top, id)?;
        state.taken = Some(copied.taken);
        let layer = Layer {
            max_size: top.max_size,
            mapping: top.mapping.clone(),
            ..Layer::new(id, top.home, top.base, Stage::Writable)
        };
        self.insert(layer, state.clone())?;
        Ok(copied)
    }

    /// A sealed state. Its layer's row comes first: a crash between `layer.json` and the snapshot's row
    /// must not leave a directory that looks like a lost layer.
    fn state_to_keep(
        &self,
        state: &mut Snapshot,
        top: &Layer,
        copy: &mut dyn FnMut(&Layer, LayerId) -> Result<Copied>,
    ) -> Result<Copied> {
        self.fill(state, top, top.mapping.as_ref(), copy)
    }

    /// A state with the content of a committed one that is written under a mapping, but with the container's own
    /// owners: an image of it is anybody's, whatever its containers run under. A request keeps it. One that has
    /// them already is answered as it is.
    pub fn unmapped(&self, state: Id, operation: Option<Id>) -> Result<Snapshot> {
        let gone = || Error::SnapshotNotFound(state.to_string());
        let state = self.store.read(|rows| rows.snapshot(state))?.ok_or_else(gone)?;
        let (_reading, top) = self.read_layer(state.layer.ok_or_else(gone)?)?.ok_or_else(gone)?;
        if top.mapping.is_none() {
            return Ok(state);
        }
        let now = Time::now();
        let (source, taken) = branched(&state);
        let taken = taken.unwrap_or(now);
        let mut plain = Snapshot {
            id: Id::random()?,
            key: None,
            name: None,
            kind: Kind::Committed,
            source,
            layer: Some(self.layers.next_id()),
            pinned: false,
            transient: true,
            created: now,
            updated: now,
            operation,
            expires: None,
            ..state
        };
        self.fill(&mut plain, &top, None, &mut |top, id| {
            let method = self.layers.materialize(top, id)?;
            Ok(Copied { method, paused: Duration::ZERO, taken })
        })?;
        Ok(plain)
    }

    /// Has the layer of a committed state filled with a copy of `top`, whose owners are then those under `mapping`.
    fn fill(
        &self,
        state: &mut Snapshot,
        top: &Layer,
        mapping: Option<&Mapping>,
        copy: &mut dyn FnMut(&Layer, LayerId) -> Result<Copied>,
    ) -> Result<Copied> {
        let id = layer_of(state)?;
        // Nothing is written to it; what is made of it later has the same limit.
        let filling = Layer {
            max_size: top.max_size,
            mapping: mapping.cloned(),
            ..Layer::new(id, top.home, top.base, Stage::Filling)
        };
        self.store.write({
            let filling = filling.clone();
            move |rows| {
                if let Some(base) = filling.base {
                    standing(rows, base)?;
                }
                rows.insert_layer(&filling)
            }
        })?;
        let sealed = copy(top, id).and_then(|copied| {
            state.taken = Some(copied.taken);
            if filling.mapping != top.mapping {
                self.layers.chown(&filling, top.mapping.as_ref())?;
            }
            self.layers.seal(&filling, &self.manifest(state, &filling)?)?;
            crate::fault::point("snapshot.state.insert")?;
            let (state, filling) = (state.clone(), filling.clone());
            self.store.write(move |rows| {
                if let Some(source) = state.source
                    && rows.snapshot(source)?.is_none()
                {
                    return Err(Error::SnapshotNotFound(source.to_string()));
                }
                set_sealed(rows, filling.id)?;
                rows.insert(&state)
            })?;
            Ok(copied)
        });
        if sealed.is_err()
            && let Err(error) = self.abandon(id)
        {
            tracing::warn!(layer = %id, %error, "what a branch that failed began to fill stays for now");
            self.leave(Chore::Abandon(id));
        }
        sealed
    }

    /// Copies what can be copied meanwhile, makes ready, stops, copies the rest and continues. The source goes on
    /// whatever happens.
    pub(super) fn copy_live(
        &self,
        top: &Layer,
        target: LayerId,
        freezer: &mut dyn Freezer,
    ) -> Result<Copied> {
        let mut copying = self.layers.begin(top, target)?;
        let readied = freezer.ready().and_then(|()| copying.catch_up());
        let began = Instant::now();
        let frozen = readied.and_then(|()| freezer.freeze());
        let ran = *frozen.as_ref().unwrap_or(&false);
        let finished = frozen.and_then(|_| {
            crate::fault::point("snapshot.frozen")?;
            let taken = Time::now();
            copying.finish()?;
            freezer.still()?;
            moment::pass(taken);
            Ok(taken)
        });
        let thawed = freezer.thaw();
        let paused = if ran { began.elapsed() } else { Duration::ZERO };
        let taken = finished.and_then(|taken| thawed.map(|()| taken))?;
        Ok(Copied { method: copying.keep()?, paused, taken })
    }

    /// Ends a layer that was being filled.
    pub(super) fn abandon(&self, filling: LayerId) -> Result<()> {
        let ended = self.store.write(move |rows| {
            let mut ended = Vec::new();
            end_layers(rows, filling, &mut ended)?;
            Ok(ended)
        })?;
        self.end(ended);
        Ok(())
    }
}

pub(super) fn layer_of(state: &Snapshot) -> Result<LayerId> {
    state.layer.ok_or_else(|| Error::Internal(format!("snapshot {} was given no layer", state.id)))
}

/// The source that a branch of a state has, and the moment that it stood still. A state that only a request
/// keeps goes with that: the lineage names what it was taken from.
pub(super) fn branched(state: &Snapshot) -> (Option<Id>, Option<Time>) {
    if state.transient { (state.source, state.taken) } else { (Some(state.id), None) }
}
