//! The fork label on Prepare: an active snapshot that continues from another one.
//!
//! The label's value is `id:<loom id>`, a client key in the namespace of the key being prepared, or
//! `grant:<token>` for loom itself. containerd copies the annotations of a stranger's image into
//! Prepare's labels, so without a grant the label reaches only what its own namespace owns, is refused
//! for image layers, and in the namespaces that the configuration denies. With a grant, an image layer is a
//! state that is published (`publish`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::branch::branched;
use super::prepare::{New, below, fresh, place, still_below};
use super::{FORK_LABEL, Freezer, Keep, Made, Snapshots, Still, Take, key, limit, lock};
use crate::error::{Error, Result};
use crate::layer::{Access, Method, Mount};
use crate::mapping::Mapping;
use crate::store::{Id, Kind, Layer, Rows, Snapshot, Stage};

/// Lets the fork label through for one snapshot, in whatever namespace, while it lives.
#[derive(Debug)]
pub struct Grant {
    core: Arc<Snapshots>,
    token: String,
}

impl Grant {
    /// The value of the fork label that uses it.
    pub fn label(&self) -> String {
        format!("grant:{}", self.token)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        lock(&self.core.grants).remove(&self.token);
    }
}

/// What a fork is to be, as its labels say.
struct Asked {
    /// The mapping that its container runs under.
    mapping: Option<Mapping>,
    /// The most bytes that may be written to it.
    max_size: Option<i64>,
}

/// What a fork continues from.
struct Origin {
    snapshot: Snapshot,
    chain: Vec<Layer>,
    granted: bool,
}

impl Snapshots {
    /// Lets the fork label through for a snapshot until the grant is dropped.
    pub fn grant(self: &Arc<Self>, id: Id, made: Made) -> Result<Grant> {
        let token = Id::random()?.to_string();
        lock(&self.grants).insert(token.clone(), (id, made));
        Ok(Grant { core: Arc::clone(self), token })
    }

    /// Prepare with the fork label.
    pub(super) fn prepare_fork(
        &self,
        key: &str,
        parent: &str,
        mut labels: BTreeMap<String, String>,
        of: &str,
    ) -> Result<Vec<Mount>> {
        let refused = |why: String| Error::Refused { what: of.to_owned(), why };
        let granted = of.strip_prefix("grant:");
        let token = granted.map(|token| lock(&self.grants).get(token).copied());
        if let Some(Some((state, made))) = token
            && labels.contains_key(key::REF_LABEL)
        {
            return Err(Error::RefExists(self.publish(key, parent, labels, state, made)?));
        }
        self.admit()?;
        if key::is_unpack(key, &labels) {
            return Err(refused(format!(
                "an image layer (by its label {} or its key {key:?}) cannot be a fork; drop the label {FORK_LABEL}",
                key::REF_LABEL
            )));
        }
        if granted.is_some() {
            // Its token means nothing to anyone later.
            labels.remove(FORK_LABEL);
        } else if let Some((namespace, _)) = key::parts(key)
            && self.rules.deny_fork_label.iter().any(|denied| denied == namespace)
        {
            return Err(refused(format!(
                "the configuration (fork_label.deny) refuses {FORK_LABEL} in namespace {namespace:?}; use `loom fork`"
            )));
        }
        let asked = Asked { mapping: Mapping::of_labels(&labels)?, max_size: limit::asked(&labels)? };
        let snapshot = fresh(key, Kind::Active, labels)?;
        let (mut snapshot, origin) = self.store.read(|rows| {
            let snapshot = below(rows, snapshot, parent)?;
            let origin = match token {
                Some(Some((id, _))) => rows.snapshot(id)?,
                Some(None) => return Err(refused("its grant has ended".to_owned())),
                None => named(rows, key, of)?,
            };
            let origin = origin.ok_or_else(|| Error::SnapshotNotFound(of.to_owned()))?;
            let chain = match origin.layer {
                Some(layer) => rows.chain(layer)?,
                None => return Err(Error::SnapshotNotFound(of.to_owned())),
            };
            let origin = Origin { snapshot: origin, chain, granted: token.is_some() };
            origin.check_parent(rows, snapshot.parent, of)?;
            Ok((snapshot, origin))
        })?;
        if let Some(Some((_, Made { operation, expires }))) = token {
            (snapshot.operation, snapshot.expires) = (operation, expires);
        }
        snapshot.captured.clone_from(&origin.snapshot.captured);
        (snapshot.source, snapshot.taken) = branched(&origin.snapshot);
        let mapping = origin.mapping(asked.mapping, &mut snapshot, of)?;
        let asked = Asked { mapping, ..asked };
        match origin.snapshot.kind {
            Kind::Committed => self.fork_state(snapshot, origin, asked),
            Kind::Active => self.fork_live(snapshot, &origin, asked, of),
            Kind::View => Err(Error::WrongKind {
                key: of.to_owned(),
                kind: Kind::View,
                needs: "a fork continues from an active or a committed one",
            }),
        }
    }

    /// Forks a state: on its layers, or with them where it was taken for this one alone. `asked` has the limit that the
    /// request names.
    fn fork_state(&self, snapshot: Snapshot, origin: Origin, asked: Asked) -> Result<Vec<Mount>> {
        let max_size = self.limit_of(origin.chain.first(), asked.max_size);
        if origin.chain.first().is_some_and(|top| top.stage == Stage::Writable) {
            return self.take_over(snapshot, origin, max_size);
        }
        let (home, base) = place(origin.chain, false, self.layers.pool().is_some())?;
        self.make(New { snapshot, home, base, mapping: asked.mapping, max_size })
    }

    /// The new snapshot takes the bytes of a state that was taken for it alone.
    fn take_over(&self, mut snapshot: Snapshot, origin: Origin, max_size: Option<i64>) -> Result<Vec<Mount>> {
        let mounts = self.mounts_of(&snapshot.title(), &origin.chain, Access::Write)?;
        let state = origin.snapshot;
        snapshot.layer = state.layer;
        let top = origin.chain.first().filter(|top| top.max_size != max_size);
        let top = top.map(|top| Layer { max_size, ..top.clone() });
        if let Some(top) = &top {
            self.layers.limit(top)?;
        }
        let made = snapshot.clone();
        self.store.write(move |rows| {
            if rows.snapshot(state.id)?.is_none_or(|row| row.layer != state.layer) {
                return Err(Error::SnapshotNotFound(state.id.to_string()));
            }
            still_below(rows, &snapshot)?;
            if let Some(top) = top.map(|top| rows.layer(top.id)).transpose()?.flatten() {
                rows.update_layer(&Layer { max_size, ..top })?;
            }
            rows.delete(state.id)?;
            rows.insert(&snapshot)
        })?;
        if let Some(layer) = origin.chain.first() {
            self.note_done(&made, layer);
        }
        Ok(mounts)
    }

    /// Forks an active snapshot in one step, its container standing still meanwhile.
    fn fork_live(
        &self,
        mut snapshot: Snapshot,
        origin: &Origin,
        asked: Asked,
        of: &str,
    ) -> Result<Vec<Mount>> {
        let mut freezer: Box<dyn Freezer> =
            match (self.freezers.get(), origin.snapshot.key.as_deref().and_then(key::parts)) {
                (Some(freezers), Some((namespace, client))) => freezers.of(namespace, client)?,
                _ => Box::new(Still),
            };
        let take = Take {
            keep: Keep::ForOne,
            labels: BTreeMap::new(),
            captured: None,
            operation: None,
            expires: None,
        };
        let mut state = self.new_state(&origin.snapshot, &take, None)?;
        let sealed =
            self.seal_as_it_lies(&mut state, &origin.snapshot, &take.keep, freezer.as_mut())?.is_some();
        // The source may have come to stand on another layer.
        let stands = if sealed { state.id } else { origin.snapshot.id };
        let chain = self.get(stands)?.chain;
        if sealed {
            let id = state.id;
            (snapshot.source, snapshot.taken) = branched(&state);
            let origin = Origin { snapshot: state, chain, granted: true };
            let forked = self.fork_state(snapshot, origin, asked);
            self.release(id)?;
            return forked;
        }
        let Some((top, rest)) = chain.split_first() else {
            return Err(Error::Internal(format!("{of} has no layer")));
        };
        if self.layers.method(top.home) == Method::Copy {
            return Err(Error::Refused {
                what: of.to_owned(),
                why: "it is mounted, and every byte would be copied while containerd waits; make a state of \
                      it first with `loom snapshot`, and fork that"
                    .to_owned(),
            });
        }
        let max_size = self.limit_of(Some(top), asked.max_size);
        if max_size.is_some() {
            self.layers.ready_for_limits(top.home)?;
        }
        let id = self.layers.next_id();
        let layer = Layer {
            max_size,
            mapping: top.mapping.clone(),
            ..Layer::new(id, top.home, top.base, Stage::Writable)
        };
        let mut chain = vec![layer.clone()];
        chain.extend_from_slice(rest);
        let mounts = self.mounts_of(&snapshot.title(), &chain, Access::Write)?;
        let Some((_reading, top)) = self.read_layer(top.id)? else {
            return Err(Error::SnapshotNotFound(of.to_owned()));
        };
        let copied = self.copy_live(&top, id, freezer.as_mut())?;
        (snapshot.layer, snapshot.taken) = (Some(id), Some(copied.taken));
        self.insert(layer, snapshot)?;
        Ok(mounts)
    }
}

impl Origin {
    /// The mapping that a fork's container runs under, also in its labels: the one that was asked for, else its
    /// source's. What takes over or copies the bytes of something live has that one's own.
    fn mapping(&self, asked: Option<Mapping>, fork: &mut Snapshot, of: &str) -> Result<Option<Mapping>> {
        let top = self.chain.first();
        let own = top.and_then(|top| top.mapping.clone());
        let sealed = top.is_some_and(|top| top.stage == Stage::Sealed);
        if !sealed && asked.is_some() && asked != own {
            return Err(Error::Refused {
                what: of.to_owned(),
                why: "its owners are those of another user namespace; make a state of it with `loom snapshot`, and \
                      fork that"
                    .to_owned(),
            });
        }
        let mapping = asked.or(own);
        if let Some(mapping) = &mapping {
            mapping.label(&mut fork.labels);
        }
        Ok(mapping)
    }

    /// A fork reports its source's own parent or, of what no longer lives, one further up or none:
    /// anything else would make containerd keep the wrong images for it.
    fn check_parent(&self, rows: &Rows<'_>, parent: Option<Id>, of: &str) -> Result<()> {
        if self.granted || parent == self.snapshot.parent {
            return Ok(());
        }
        let mut above = self.snapshot.parent;
        if self.snapshot.kind == Kind::Committed {
            while let Some(id) = above {
                if parent == Some(id) {
                    return Ok(());
                }
                above = rows.snapshot(id)?.and_then(|row| row.parent);
            }
            if parent.is_none() || parent == Some(self.snapshot.id) {
                return Ok(());
            }
        }
        Err(Error::invalid("the parent", format!("a fork of {of:?} has the parent that {of:?} has")))
    }
}

/// The snapshot that a label without a grant names, if the namespace of `key` owns it.
fn named(rows: &Rows<'_>, key: &str, of: &str) -> Result<Option<Snapshot>> {
    let namespace = key::parts(key).map(|(namespace, _)| namespace);
    if let Some(id) = of.strip_prefix("id:") {
        let found = rows.snapshot(id.parse()?)?;
        return match found {
            Some(found) if key::namespace(&found).as_deref() != namespace => {
                Err(Error::Refused { what: of.to_owned(), why: "it belongs to another namespace".to_owned() })
            }
            found => Ok(found),
        };
    }
    match namespace {
        Some(namespace) => Ok(rows.by_client_key(namespace, of)?.pop()),
        None => rows.by_key(of),
    }
}
