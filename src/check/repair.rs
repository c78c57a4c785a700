//! Putting right what needs no guess. Every step looks again at what it is about.

use super::Fix;
use crate::error::{Error, Result};
use crate::layer::{Layers, Seal};
use crate::snapshot::tell;
use crate::store::{Home, LayerId, Stage, Store};

/// Does what puts something right.
pub(super) fn put_right(store: &Store, layers: &Layers, fix: &Fix) -> Result<()> {
    crate::fault::point("check.repair")?;
    match *fix {
        Fix::Discard(home, id) => discard(store, layers, home, id),
        Fix::ThrowAway(ref stray) => layers.throw_away(stray),
        Fix::Tell(id) => tell::again(store, layers, id),
        Fix::Unseal(id) => match store.read(|rows| rows.layer(id))? {
            Some(layer) if layer.stage == Stage::Writable => layers.unseal(&layer),
            _ => Ok(()),
        },
        Fix::Forget(id) => store.write(move |rows| {
            if rows.standing_on(id)? > 0 {
                return Err(Error::precondition(format!("layer {id}"), "something stands on it by now"));
            }
            rows.delete_layer(id)
        }),
        Fix::Reclaim(id) => {
            layers.reclaim()?;
            if layers.trashed()?.iter().any(|(_, left)| *left == id) {
                return Err(Error::precondition(format!("layer {id}"), "it could not be removed"));
            }
            Ok(())
        }
    }
}

/// Moves a directory to the trash that no row knows, or whose row nothing stands on.
fn discard(store: &Store, layers: &Layers, home: Home, id: LayerId) -> Result<()> {
    let changed = move || Error::precondition(format!("layer {id}"), "something refers to it by now");
    if layers.mounted_layers()?.iter().any(|mount| mount.home == home && mount.layer == id) {
        return Err(changed());
    }
    let row = store.read(|rows| rows.layer(id))?.filter(|row| row.home == home);
    if let Some(row) = row {
        store.write(move |rows| {
            if rows.standing_on(id)? > 0 {
                return Err(changed());
            }
            rows.update_layer(&crate::store::Layer { stage: Stage::Doomed, base: None, ..row })
        })?;
        layers.discard(home, id)?;
        layers.settle()?;
        return store.write(move |rows| rows.delete_layer(id));
    }
    let seal = layers.found()?.into_iter().find(|found| found.home == home && found.id == id).map(|f| f.seal);
    if seal == Some(Seal::Own) {
        return Err(changed());
    }
    layers.discard(home, id)
}
