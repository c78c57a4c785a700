//! The most that may be written to a container's layer (`Layer::max_size`), and who says so.
//!
//! ```text
//!  the label on Prepare, else ─► that of the layer it is a branch of, else ─► the configuration's default
//! ```
//!
//! The row has it and the filesystem keeps it (`layer`): set before a layer's row is written, lifted while a layer is
//! sealed, and set anew by each start, whatever a crash left. A limit that nothing keeps is refused. A rollback and a
//! promotion leave a container the limit that it has.

use std::collections::BTreeMap;

use super::{Snapshots, key};
use crate::error::{Error, Result};
use crate::store::{Home, Id, Kind, Layer, Stage};

/// The label on Prepare that says how many bytes may be written to the snapshot.
pub const LIMIT_LABEL: &str = "containerd.io/snapshot/max-size";

/// What a change of a limit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// The most bytes that may be written now.
    pub max_size: Option<i64>,
    /// Those that were written already and count, where the filesystem has counted from the layer's beginning. Else
    /// what is written from now on counts.
    pub written: Option<i64>,
}

/// The limit that labels ask for.
pub(super) fn asked(labels: &BTreeMap<String, String>) -> Result<Option<i64>> {
    let Some(text) = labels.get(LIMIT_LABEL) else { return Ok(None) };
    match text.parse() {
        Ok(bytes) if bytes > 0 => Ok(Some(bytes)),
        _ => Err(Error::invalid(
            format!("label {LIMIT_LABEL}={text:?}"),
            "it is a number of bytes, such as 10737418240, and more than nothing",
        )),
    }
}

impl Snapshots {
    /// Sets or ends the limit of what may be written to an active snapshot, from now on. One below what it has
    /// written already is no error: it can write again when it has deleted enough.
    pub fn limit(&self, id: Id, max_size: Option<i64>) -> Result<Limited> {
        let row = self.get(id)?.snapshot;
        let (Kind::Active, Some(key), Some(layer)) = (row.kind, &row.key, row.layer) else {
            return Err(Error::WrongKind {
                key: row.title(),
                kind: row.kind,
                needs: "only what a container writes to has a limit",
            });
        };
        if key::is_unpack(key, &row.labels) {
            return Err(Error::invalid(
                format!("snapshot {key:?}"),
                "an image that is unpacked has no limit",
            ));
        }
        // Neither a seal nor another change of it comes between what is set and what is written down.
        let _seal = self.take_seal(key)?;
        let gone = || Error::SnapshotNotFound(row.title());
        let (_reading, layer) = self.read_layer(layer)?.ok_or_else(gone)?;
        if layer.stage != Stage::Writable {
            return Err(Error::Busy(format!("snapshot {key:?}")));
        }
        crate::fault::point("snapshot.limit.set")?;
        let limited = Layer { max_size, ..layer.clone() };
        self.layers.limit(&limited)?;
        let written = crate::fault::point("snapshot.limit.write").and_then(|()| {
            self.store.write(move |rows| match rows.layer(limited.id)? {
                Some(now) if now.stage == Stage::Writable => rows.update_layer(&Layer { max_size, ..now }),
                _ => Err(Error::SnapshotNotFound(id.to_string())),
            })
        });
        if written.is_err()
            && let Err(error) = self.layers.limit(&layer)
        {
            tracing::warn!(layer = %layer.id, %error, "a limit that was refused stays until the next start");
        }
        written?;
        self.tell_later(Some(layer.id));
        let counted = self.layers.written(&layer).ok().flatten().map(|(bytes, _)| bytes);
        Ok(Limited { max_size, written: counted })
    }

    /// The limit of a branch of a layer: what its request asks for, else the layer's, else the default.
    pub(super) fn limit_of(&self, branched: Option<&Layer>, asked: Option<i64>) -> Option<i64> {
        asked.or(branched.and_then(|layer| layer.max_size)).or(self.rules.limit)
    }

    /// Sets the limit of a new writable layer, which has no row yet.
    pub(super) fn keep_limit(&self, layer: &Layer) -> Result<()> {
        if layer.max_size.is_none() {
            return Ok(());
        }
        crate::fault::point("snapshot.limit.keep")?;
        self.layers.limit(layer)
    }

    /// Refuses to serve with a default that nothing keeps.
    pub fn check_default_limit(&self) -> Result<()> {
        let Some(limit) = self.rules.limit else { return Ok(()) };
        let home = if self.layers.pool().is_some() { Home::Pool } else { Home::Plain };
        self.layers.ready_for_limits(home).map_err(|why| {
            Error::Config(format!(
                "limit.default is {}, and cannot be kept: {why}. Or let loomd make a pool, with pool.size = \"auto\", \
                 or unset limit.default",
                crate::bytes::Bytes(limit.unsigned_abs())
            ))
        })
    }

    /// Sets all limits anew: a crash may have left one that no row has, or one lifted.
    pub(super) fn keep_limits(&self, rows: &[Layer]) {
        for layer in rows.iter().filter(|layer| layer.stage == Stage::Writable) {
            if let Err(error) = self.layers.limit(layer) {
                tracing::error!(layer = %layer.id, %error, "the limit of a layer is not kept");
            }
        }
    }
}
