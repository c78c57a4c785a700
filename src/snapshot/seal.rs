//! Seal as it lies: the state of a snapshot that nothing writes to is its own layer, and an empty one goes on top.
//!
//! ```text
//! before   web (active) ──► 7 (writable) ──► 3
//! after    web (active) ──► 9 (writable, empty) ──► 8 (sealed: the directory that 7 had) ──► 3
//!          state (committed) ───────────────────────┘
//! ```
//!
//! It costs the same whatever is in the layer. Nobody else gets the snapshot's mounts meanwhile, but somebody may
//! have got them before and be about to mount them. So the directory takes another name first: from then on such a
//! mount fails, and one that came before is seen. Only what is handed out as the upper of an overlay can be seen
//! so: a layer without a base is handed out as a bind, and is never sealed like this.
//!
//! | step                                    | what a start makes of it behind a crash                   |
//! |-----------------------------------------|-----------------------------------------------------------|
//! | the row of the sealed layer, `Filling`, | the row goes                                              |
//! | with what it `was`                      |                                                           |
//! | its directory is renamed                | renamed back; the row goes                                |
//! | the empty layer's directory             | the same; what has no row is trash                        |
//! | files, `layer.json`; both synced        | the same, and `layer.json` is forgotten                   |
//! | one transaction: the layer is sealed,   | done                                                      |
//! | the snapshot stands on the empty one,   |                                                           |
//! | the state is there, the old row is not  |                                                           |
//!
//! A layer with nothing in it is not sealed again and again, one below the other: its state is another empty layer
//! beside it.

use std::time::{Duration, Instant};

use super::branch::{Copied, layer_of};
use super::chores::Chore;
use super::remove::Ended;
use super::{Freezer, Keep, Snapshots, key, moment};
use crate::error::{Error, Result};
use crate::layer::{Access, Method};
use crate::store::{Home, Kind, Layer, LayerId, Snapshot, Stage, Time};

impl Snapshots {
    /// Makes the row and the layer of a state of an active snapshot by sealing that one's layer as it lies. None
    /// where something may write to it, or it cannot be sealed so: nothing has changed then, and the freezer has
    /// not been asked.
    pub(super) fn seal_as_it_lies(
        &self,
        state: &mut Snapshot,
        source: &Snapshot,
        keep: &Keep,
        freezer: &mut dyn Freezer,
    ) -> Result<Option<Copied>> {
        // An unpacker keeps the mounts that it got, and mounts them whenever it comes to it.
        let container = |key: &&str| !key::is_unpack(key, &source.labels);
        let Some(key) = source.key.as_deref().filter(container) else { return Ok(None) };
        if !self.layers.seals() {
            return Ok(None);
        }
        let Some(_still) = self.take_still(key) else { return Ok(None) };
        let chain = self.store.read(|rows| {
            let row = rows.snapshot(source.id)?.filter(|row| row.kind == Kind::Active);
            row.and_then(|row| row.layer).map_or(Ok(Vec::new()), |layer| rows.chain(layer))
        })?;
        let Some((top, below)) = chain.split_first() else { return Ok(None) };
        // What is written under a mapping is nothing's base: a mount would map it once more.
        let stacks = top.home == Home::Plain
            && top.stage == Stage::Writable
            && top.base.is_some()
            && top.mapping.is_none();
        // A look that changes nothing comes first: what runs is left alone.
        if !stacks || self.layers.in_use(top)? {
            return Ok(None);
        }
        let Some(_moving) = self.take_moving(top.id) else { return Ok(None) };
        if self.layers.is_empty(top)? {
            let mut beside = |top: &Layer, id| self.lay_beside(top, id, freezer);
            return self.state_of(state, top, keep, &mut beside).map(Some);
        }
        let limit = top.max_size;
        let base = Layer::new(layer_of(state)?, Home::Plain, top.base, Stage::Filling);
        let base = Layer { was: Some(top.id), max_size: limit, ..base };
        let empty = Layer::new(self.layers.next_id(), Home::Plain, Some(base.id), Stage::Writable);
        let empty = Layer { max_size: limit, ..empty };
        let deeper: Vec<_> = [&empty, &base].into_iter().chain(below).cloned().collect();
        // At a depth that no mount can name it would have to be made flat first: where that fails, the source would not
        // start any more.
        if self.mounts_of(key, &deeper, Access::Write).is_err() {
            return Ok(None);
        }
        // Which may have been made flat for that.
        let base = self.on_flat(base);
        self.store.write({
            let base = base.clone();
            move |rows| rows.insert_layer(&base)
        })?;
        let sealed = self.rename_and_seal(state, &base, &empty, freezer);
        if !matches!(sealed, Ok(Some(_))) {
            // Neither it nor what is in it was ever told of.
            self.discard(Ended { home: Home::Plain, layer: empty.id, row: false });
            if let Err(error) = self.give_back(base.id) {
                tracing::warn!(layer = %top.id, %error, "a layer that was not sealed after all is not in its place yet");
                self.leave(Chore::GiveBack(base.id));
            }
        }
        sealed
    }

    /// Gives the old layer's directory to `base` and its place to `empty`. None where something writes to it.
    fn rename_and_seal(
        &self,
        state: &mut Snapshot,
        base: &Layer,
        empty: &Layer,
        freezer: &mut dyn Freezer,
    ) -> Result<Option<Copied>> {
        let was = base.was.ok_or_else(|| Error::Internal(format!("layer {} was no other", base.id)))?;
        if self.layers.rename(was, base.id)? {
            return Ok(None);
        }
        // Before the moment of the state: what is in it later has come behind that.
        self.layers.create(Home::Plain, empty.id, Some(base))?;
        self.keep_limit(empty)?;
        let copied = at_rest(freezer, |taken| {
            state.taken = Some(taken);
            if self.layers.seal_renamed(base.id, was, &self.manifest(state, base)?)? {
                return Ok(());
            }
            Err(Error::Busy(format!("layer {was}, which was mounted just now,")))
        })?;
        crate::fault::point("snapshot.seal.swap")?;
        let (state, base, empty) = (state.clone(), base.clone(), empty.clone());
        let now = self.store.write(move |rows| {
            let source = state.source.map(|source| rows.snapshot(source)).transpose()?.flatten();
            let source = source.filter(|row| row.kind == Kind::Active && row.layer == Some(was));
            let source = source.ok_or_else(|| Error::SnapshotNotFound(state.title()))?;
            // What it is stacked on may have been flattened meanwhile.
            let base = rows.layer(base.id)?.unwrap_or(base);
            rows.update_layer(&Layer { stage: Stage::Sealed, was: None, still: state.taken, ..base })?;
            rows.insert_layer(&empty)?;
            let source = Snapshot { layer: Some(empty.id), ..source };
            rows.update(&source)?;
            rows.insert(&state)?;
            rows.delete_layer(was)?;
            Ok((source, empty))
        })?;
        self.note_done(&now.0, &now.1);
        Ok(Some(copied))
    }

    /// Gives a layer that was to be sealed as it lies its directory back, which may be mounted. One that is sealed,
    /// or gone, is none.
    pub(super) fn give_back(&self, sealed: LayerId) -> Result<()> {
        let was = self.store.read(|rows| {
            let row = rows.layer(sealed)?.filter(|row| row.stage == Stage::Filling);
            row.and_then(|row| row.was).map(|was| Ok((was, rows.layer(was)?.is_some()))).transpose()
        })?;
        match was {
            Some((was, true)) => {
                self.layers.rename_back(sealed, was)?;
                if let Some(layer) = self.store.read(|rows| rows.layer(was))? {
                    self.keep_limit(&layer)?;
                }
                crate::fault::point("snapshot.seal.back")?;
                self.store.write(move |rows| rows.delete_layer(sealed))
            }
            // What stood on it was removed meanwhile.
            Some((_, false)) => self.abandon(sealed),
            None => Ok(()),
        }
    }

    /// Makes the layer of a state of a snapshot whose own layer has nothing in it.
    fn lay_beside(&self, top: &Layer, id: LayerId, freezer: &mut dyn Freezer) -> Result<Copied> {
        let mut made = false;
        let copied = at_rest(freezer, |_| {
            self.layers.create(top.home, id, Some(top))?;
            made = true;
            Ok(())
        });
        if copied.is_err() && made {
            self.discard(Ended { home: top.home, layer: id, row: false });
        }
        copied
    }
}

/// Takes a step while the source stands still, of which nothing runs.
fn at_rest(freezer: &mut dyn Freezer, step: impl FnOnce(Time) -> Result<()>) -> Result<Copied> {
    let readied = freezer.ready();
    let began = Instant::now();
    let frozen = readied.and_then(|()| freezer.freeze());
    let ran = *frozen.as_ref().unwrap_or(&false);
    let done = frozen.and_then(|_| {
        crate::fault::point("snapshot.at_rest")?;
        let taken = Time::now();
        step(taken)?;
        freezer.still()?;
        moment::pass(taken);
        Ok(taken)
    });
    let thawed = freezer.thaw();
    let paused = if ran { began.elapsed() } else { Duration::ZERO };
    let taken = done.and_then(|taken| thawed.map(|()| taken))?;
    Ok(Copied { method: Method::Sealed, paused, taken })
}
