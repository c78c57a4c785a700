//! Replace: a key's content becomes a committed snapshot's. Rollback, promote and forks of containers that
//! another tool made are this one step.
//!
//! ```text
//!  before   key ──► old row (active) ──► its layer          state row (committed) ──► its layer
//!  after    key ──► new row (active) ──► new layer, of the state's     old row (committed, loom's) ──► its layer
//! ```
//!
//! The key moves to a new row; what had it keeps its id and lineage. Nothing may be running on the key's layer,
//! and nobody gets its mounts meanwhile. In this order, so that a crash leaves all of it or nothing:
//!
//! | step                                    | what a start makes of it behind a crash       |
//! |-----------------------------------------|-----------------------------------------------|
//! | the new layer's directory, and a sync   | no row knows it: trash                        |
//! | the old layer sealed, where it is kept  | its row says it is written to: unsealed       |
//! | one transaction swaps the rows          | done; an old layer that is not kept is trash  |

use super::branch::branched;
use super::commit::set_sealed;
use super::prepare::{Laid, fresh, place, standing, still_below};
use super::remove::{Ended, collect};
use super::{Kept, Replaced, Snapshots, key};
use crate::error::{Error, Result};
use crate::layer::{Access, Method};
use crate::store::{Id, Kind, Layer, Rows, Snapshot, Stage, Time};

/// What is there before.
pub(super) struct Looked {
    key: String,
    /// The row that has the key, and its layer.
    old: Snapshot,
    layer: Layer,
    /// What the key is to have, and its layers, topmost first.
    state: Snapshot,
    chain: Vec<Layer>,
}

/// What the new row stands on.
pub(super) struct Top {
    layer: Layer,
    /// False where it is the state's own, which has a row already.
    made: bool,
    method: Method,
}

impl Snapshots {
    /// Makes the content of the active snapshot `target`, which must not be mounted, that of the committed
    /// `state`: a new row with `target`'s key, parent, labels and `captured`, whose source is `state` (or, of a transient
    /// state, what that was taken of), made by `operation`, which expires when `target` did.
    ///
    /// A state that was taken for one (`Keep::ForOne`) is taken over. A pin stays with what it was set on,
    /// which is then kept, nameless, even where `kept` says otherwise. Fails with `Precondition` where
    /// `target` is mounted somewhere, with `Busy` where another request changes it; nothing has changed then.
    pub fn replace(&self, target: Id, state: Id, kept: &Kept, operation: Option<Id>) -> Result<Replaced> {
        let _name = match kept {
            Kept::Named { name, labels, .. } => {
                self.admit()?;
                key::check_name(name)?;
                key::check_labels(labels)?;
                Some(self.take_name(name)?)
            }
            Kept::Discarded => None,
        };
        let key = self.store.read(|rows| keyed(rows, target))?;
        let _seal = self.take_seal(&key)?;
        let _swap = self.take_swap(&key)?;
        let looked = self.store.read(|rows| Looked::at(rows, target, state, kept))?;
        if looked.key != key {
            return Err(Error::Busy(format!("snapshot {key:?}")));
        }
        self.unmounted(&looked.key, &looked.layer)?;
        let top = self.top_of(&looked)?;
        let replaced = self.swap(&looked, &top, kept, operation);
        if replaced.is_err() && top.made {
            self.discard(Ended { home: top.layer.home, layer: top.layer.id, row: false });
        }
        replaced
    }

    /// Makes what the new row is to stand on, or takes over what was made for it alone.
    pub(super) fn top_of(&self, looked: &Looked) -> Result<Top> {
        let Looked { key, state, chain, layer: Layer { max_size, mapping, .. }, .. } = looked;
        let (max_size, mapping) = (*max_size, mapping.clone());
        let Some(first) = chain.first() else { return Err(Error::SnapshotNotFound(state.title())) };
        if first.stage == Stage::Writable {
            if first.mapping != mapping {
                return Err(Error::precondition(
                    format!("snapshot {key:?}"),
                    format!(
                        "its container runs in another user namespace than that of {:?}; make a snapshot of that \
                         one, and roll back to it",
                        state.title()
                    ),
                ));
            }
            self.mounts_of(key, chain, Access::Write)?;
            let method = self.layers.method(first.home);
            return Ok(Top { layer: Layer { max_size, ..first.clone() }, made: false, method });
        }
        crate::fault::point("snapshot.replace.lay")?;
        let (home, base) = place(chain.clone(), false, self.layers.pool().is_some())?;
        let Laid { layer, method, .. } = self.lay(key, (home, max_size), &base, mapping, Access::Write)?;
        Ok(Top { layer, made: true, method })
    }

    /// Seals the old layer where it is kept, and swaps the rows. Where that fails the key has what it had.
    pub(super) fn swap(
        &self,
        looked: &Looked,
        top: &Top,
        kept: &Kept,
        operation: Option<Id>,
    ) -> Result<Replaced> {
        // The container keeps the limit that it has; a state that is taken over may have another.
        self.layers.limit(&top.layer)?;
        // What replaces durable content is durable itself.
        self.layers.flush(&top.layer)?;
        let sealing = looked.old.pinned || *kept != Kept::Discarded;
        let when = Time::now();
        let sealed = if sealing { self.seal_old(looked, kept, when) } else { Ok(()) };
        let swapped = sealed.and_then(|()| {
            // Whoever got the mounts before the key was taken has mounted them by now, or fails to.
            self.unmounted(&looked.key, &looked.layer)?;
            crate::fault::point("snapshot.replace.swap")?;
            let (state, old, layer) = (looked.state.clone(), looked.old.clone(), looked.layer.clone());
            let (top, made, kept) = (self.on_flat(top.layer.clone()), top.made, kept.clone());
            self.store.write(move |rows| {
                let now = rows.snapshot(old.id)?.filter(|now| {
                    let same = now.key == old.key && now.layer == old.layer && now.kind == old.kind;
                    // What was pinned meanwhile is not sealed.
                    same && (sealing || !now.pinned)
                });
                let now = now.ok_or_else(|| Error::Busy(format!("snapshot {:?}", old.title())))?;
                // What a state stands on may have been flattened meanwhile; what is taken over was written to.
                let gone = |row: Snapshot| row.layer.is_none() || (!made && row.layer != state.layer);
                if rows.snapshot(state.id)?.is_none_or(gone) {
                    return Err(Error::SnapshotNotFound(state.title()));
                }
                if sealing {
                    set_sealed(rows, layer.id)?;
                }
                if made {
                    if let Some(base) = top.base {
                        standing(rows, base)?;
                    }
                    rows.insert_layer(&top)?;
                } else {
                    rows.update_layer(&top)?;
                }
                let new = successor(&now, &state, &top, operation)?;
                let old = retired(now, &kept, when);
                rows.update(&old)?;
                still_below(rows, &new)?;
                if !made {
                    rows.delete(state.id)?;
                }
                rows.insert(&new)?;
                let held = old.held().then_some(old.id);
                Ok((new, held, collect(rows, old)?))
            })
        });
        if swapped.is_err()
            && sealing
            && let Err(error) = self.layers.unseal(&looked.layer)
        {
            tracing::warn!(
                layer = %looked.layer.id, %error,
                "a replace that failed left its layer sealed; the next start undoes that"
            );
        }
        let (now, kept, ended) = swapped?;
        self.end(ended);
        self.note_done(&now, &top.layer);
        Ok(Replaced { now: now.id, kept, method: top.method })
    }

    /// Undoes a replace that kept what was there: the key goes back to the row that had it, which is written to
    /// again, and what it got is dropped. Fails with `Busy` where something stands on that row's layer by now.
    /// A crash leaves all of it or nothing, as above.
    pub fn put_back(&self, now: Id, kept: Id) -> Result<()> {
        let key = self.store.read(|rows| keyed(rows, now))?;
        let _seal = self.take_seal(&key)?;
        let _swap = self.take_swap(&key)?;
        let looked = self.store.read(|rows| Looked::at(rows, now, kept, &Kept::Discarded))?;
        self.unmounted(&looked.key, &looked.layer)?;
        let (layer, ended) = self.store.write(move |rows| {
            let row = |id: Id| rows.snapshot(id)?.ok_or_else(|| Error::SnapshotNotFound(id.to_string()));
            let (new, old) = (row(now)?, row(kept)?);
            let layer = old.layer.map(|layer| rows.layer(layer)).transpose()?.flatten();
            let layer = layer.ok_or_else(|| Error::SnapshotNotFound(old.title()))?;
            let alone = old.kind == Kind::Committed && old.key.is_none() && rows.standing_on(layer.id)? == 1;
            if new.key.as_ref() != Some(&key) || !alone {
                return Err(Error::Busy(format!("snapshot {:?}", old.title())));
            }
            let gone = Snapshot { key: None, ..new.clone() };
            rows.update(&gone)?;
            rows.update(&Snapshot {
                key: new.key,
                name: None,
                kind: Kind::Active,
                labels: new.labels,
                expires: new.expires,
                updated: Time::now(),
                ..old
            })?;
            rows.update_layer(&Layer { stage: Stage::Writable, ..layer.clone() })?;
            Ok((layer, collect(rows, gone)?))
        })?;
        self.layers.unseal(&layer)?;
        self.end(ended);
        Ok(())
    }

    fn seal_old(&self, looked: &Looked, kept: &Kept, when: Time) -> Result<()> {
        crate::fault::point("snapshot.replace.seal")?;
        let retired = retired(looked.old.clone(), kept, when);
        self.layers.seal(&looked.layer, &self.manifest(&retired, &looked.layer)?)
    }

    /// Refuses where something is running on a key's layer, or may be.
    pub(super) fn unmounted(&self, key: &str, layer: &Layer) -> Result<()> {
        if self.layers.in_use(layer)? {
            return Err(Error::precondition(
                format!("snapshot {key:?}"),
                "it is mounted; stop what runs on it and delete its task, or unmount it, then try again",
            ));
        }
        Ok(())
    }
}

impl Looked {
    pub(super) fn at(rows: &Rows<'_>, target: Id, state: Id, kept: &Kept) -> Result<Self> {
        let key = keyed(rows, target)?;
        let gone = |id: Id| Error::SnapshotNotFound(id.to_string());
        if let Kept::Named { name, .. } = kept
            && rows.by_name(name)?.is_some()
        {
            return Err(Error::NameExists(name.clone()));
        }
        let old = rows.snapshot(target)?.ok_or_else(|| gone(target))?;
        let layer = old.layer.map(|layer| rows.layer(layer)).transpose()?.flatten();
        let layer = layer.ok_or_else(|| gone(target))?;
        let state = rows.snapshot(state)?.ok_or_else(|| gone(state))?;
        if state.kind != Kind::Committed {
            return Err(Error::WrongKind {
                key: state.title(),
                kind: state.kind,
                needs: "only a committed one can replace another; make a snapshot of it first",
            });
        }
        let chain = state.layer.map(|layer| rows.chain(layer)).transpose()?.unwrap_or_default();
        Ok(Self { key, old, layer, state, chain })
    }
}

/// The key of a snapshot whose content can be replaced.
pub(super) fn keyed(rows: &Rows<'_>, target: Id) -> Result<String> {
    let row = rows.snapshot(target)?.ok_or_else(|| Error::SnapshotNotFound(target.to_string()))?;
    match (row.kind, &row.key) {
        (Kind::Active, Some(key)) => Ok(key.clone()),
        _ => Err(Error::WrongKind {
            key: row.title(),
            kind: row.kind,
            needs: "only the content of an active one that containerd has can be replaced",
        }),
    }
}

/// The row that has the key from now on.
fn successor(old: &Snapshot, state: &Snapshot, top: &Layer, operation: Option<Id>) -> Result<Snapshot> {
    let key = old.key.as_deref().unwrap_or_default();
    let (source, taken) = branched(state);
    Ok(Snapshot {
        parent: old.parent,
        source,
        layer: Some(top.id),
        captured: old.captured.clone().or_else(|| state.captured.clone()),
        operation,
        expires: old.expires,
        taken,
        ..fresh(key, Kind::Active, old.labels.clone())?
    })
}

/// What had the key, without it since `now`. A pin stays with it.
fn retired(old: Snapshot, kept: &Kept, now: Time) -> Snapshot {
    let old = Snapshot { key: None, kind: Kind::Committed, updated: now, expires: None, ..old };
    match kept.clone() {
        Kept::Discarded => old,
        Kept::Named { name, labels, expires, captured } => Snapshot {
            name: Some(name),
            labels,
            expires,
            captured: captured.or(old.captured),
            created: now,
            ..old
        },
    }
}
