//! Publish: a state gets a key of containerd's, as the layer of an image.
//!
//! ```text
//!  Prepare(key of the ref, parent, labels: ref and grant)
//!     └─► a committed row with that key on the state's own layer ──► "it exists"
//!            └─► containerd finds it by its ref and parent, and has it as its own under the ref
//! ```
//!
//! Nothing is copied and no layer is made: several rows stand on one sealed layer, each is held for itself, and
//! the layer stays as long as one of them does. `layer.json` tells of all of them, a little later (`tell`).

use std::collections::BTreeMap;

use super::branch::branched;
use super::prepare::{below, fresh, standing, still_below};
use super::{FORK_LABEL, Made, Snapshots, key};
use crate::error::{Error, Result};
use crate::store::{Home, Id, Kind, Layer, LayerId, Rows, Stage};

impl Snapshots {
    /// True where a state could be published below `parent`: it stands on that one's layers.
    pub fn stands_on(&self, state: Id, parent: Id) -> Result<bool> {
        let gone = || Error::SnapshotNotFound(state.to_string());
        self.store.read(|rows| {
            let top = rows.snapshot(state)?.and_then(|state| state.layer).ok_or_else(gone)?;
            stands_on(rows, top, parent)
        })
    }

    /// Gives the committed `state` the key `key`, whose client's part is the ref in the labels, below `parent`
    /// (empty for none), whose layers must be the state's own too. Answers the ref. What has been published in the
    /// same place already is left as it is.
    pub(super) fn publish(
        &self,
        key: &str,
        parent: &str,
        mut labels: BTreeMap<String, String>,
        state: Id,
        made: Made,
    ) -> Result<String> {
        let reference = labels.get(key::REF_LABEL).cloned().unwrap_or_default();
        if key::client(key) != reference {
            return Err(Error::invalid(
                format!("snapshot key {key:?}"),
                format!("what is published as {reference:?} is prepared under that key"),
            ));
        }
        // A grant's token means nothing to anyone later.
        labels.remove(FORK_LABEL);
        let mut row = fresh(key, Kind::Committed, labels)?;
        (row.operation, row.expires) = (made.operation, made.expires);
        let parent = parent.to_owned();
        crate::fault::point("snapshot.publish")?;
        let (reference, layer) = self.store.write(move |rows| {
            let mut row = below(rows, row, &parent)?;
            let gone = || Error::SnapshotNotFound(state.to_string());
            let state = rows.snapshot(state)?.ok_or_else(gone)?;
            if state.kind != Kind::Committed {
                return Err(Error::WrongKind {
                    key: state.title(),
                    kind: state.kind,
                    needs: "only a committed one can be an image's layer; make a state of it first",
                });
            }
            let layer = state.layer.ok_or_else(gone)?;
            let bytes = rows.layer(layer)?;
            if bytes.as_ref().is_some_and(|layer| layer.mapping.is_some()) {
                return Err(Error::Internal(format!("layer {layer} has the owners of a user namespace")));
            }
            if bytes.is_none_or(|layer| layer.stage != Stage::Sealed) {
                return Err(Error::Refused {
                    what: state.title(),
                    why: "its bytes are one clone's to take over, and no image can stand on them".to_owned(),
                });
            }
            if let Some(parent) = row.parent
                && !stands_on(rows, layer, parent)?
            {
                return Err(Error::invalid(
                    format!("parent snapshot {parent}"),
                    format!("snapshot {:?} does not stand on its layers", state.title()),
                ));
            }
            let namespace = key::namespace(&row);
            let same = rows.by_ref(&reference)?;
            if same.iter().any(|other| other.parent == row.parent && key::namespace(other) == namespace) {
                return Ok((reference, None));
            }
            standing(rows, layer)?;
            row.layer = Some(layer);
            row.captured.clone_from(&state.captured);
            (row.source, row.taken) = branched(&state);
            still_below(rows, &row)?;
            rows.insert(&row)?;
            Ok((reference, row.layer))
        })?;
        self.tell_later(layer);
        Ok(reference)
    }
}

/// True where the plain layers of `parent` are the lowest ones of this chain: a pool layer has in it all that was
/// in the pool layers that it continues, and is stacked on none.
fn stands_on(rows: &Rows<'_>, top: LayerId, parent: Id) -> Result<bool> {
    let plain = |chain: Vec<Layer>| {
        chain.into_iter().filter(|layer| layer.home == Home::Plain).map(|layer| layer.id).collect::<Vec<_>>()
    };
    let Some(base) = rows.snapshot(parent)?.and_then(|parent| parent.layer) else { return Ok(false) };
    Ok(plain(rows.chain(top)?).ends_with(&plain(rows.chain(base)?)))
}
