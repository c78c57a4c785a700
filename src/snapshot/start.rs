//! Opening the core: what a crash left is put right before anything is served.
//!
//! | found                                   | becomes                                            |
//! |-----------------------------------------|----------------------------------------------------|
//! | a directory without a row               | trash, if it was never sealed; else start is refused |
//! | a row `Filling` or `Doomed`             | its directory goes to the trash, then the row goes |
//! | a row `Writable`, with a `layer.json`   | unsealed: the commit was never answered            |
//! | a state that only a request kept        | released                                           |
//! | a row without a directory               | reported; its mounts fail, nothing is guessed      |

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use super::flatten::Flat;
use super::remove::{collect, end_layers};
use super::{Rules, Snapshots};
use crate::error::{Error, Result};
use crate::layer::{Layers, Seal};
use crate::store::{Home, LayerId, Stage, Store};

impl Snapshots {
    /// Opens the core over a store and layers, and puts right what a crash left.
    pub fn open(store: Store, layers: Layers, rules: Rules) -> Result<Arc<Self>> {
        let (chores, left) = mpsc::channel();
        let (ask, asked) = mpsc::channel();
        let core = Arc::new(Self {
            store: Arc::new(store),
            layers,
            flat: Flat::new(rules.flat_depth, ask),
            rules,
            freezers: OnceLock::new(),
            taking: Mutex::default(),
            reading: Mutex::default(),
            grants: Mutex::default(),
            needs: Arc::default(),
            sharing: Mutex::default(),
            chores,
            chores_ended: Mutex::default(),
        });
        core.put_right()?;
        Self::do_chores(&core, left)?;
        Self::make_flat(&core, asked)?;
        Ok(core)
    }

    fn put_right(&self) -> Result<()> {
        let rows = self.store.read(|rows| rows.layers())?;
        if let Some(highest) = rows.iter().map(|layer| layer.id).max() {
            self.layers.start_above(highest);
        }
        if self.layers.pool().is_none()
            && let Some(layer) = rows.iter().find(|layer| layer.home == Home::Pool)
        {
            return Err(Error::Config(format!(
                "layer {} of {} lies in a pool, and no pool is configured; set pool.path to the directory that it was",
                layer.id,
                self.layers.root().display()
            )));
        }
        let found: HashMap<(Home, LayerId), Seal> =
            self.layers.found()?.into_iter().map(|found| ((found.home, found.id), found.seal)).collect();
        let known: HashSet<_> = rows.iter().map(|layer| (layer.home, layer.id)).collect();
        let mut strays = Vec::new();
        for (&(home, id), &seal) in &found {
            if known.contains(&(home, id)) {
                continue;
            }
            if seal == Seal::Own {
                strays.push(format!("{home} layer {id}"));
            } else {
                self.layers.discard(home, id)?;
            }
        }
        if !strays.is_empty() {
            strays.sort();
            return Err(Error::Config(format!(
                "{} under {} hold committed bytes, but the database does not know them: it is older than they \
                 are, or belongs to another root. Nothing was changed. Put the loom.db back that belongs to \
                 them, or move these directories away",
                strays.join(", "),
                self.layers.root().display()
            )));
        }
        let mut doomed = Vec::new();
        for layer in &rows {
            match (layer.stage, found.get(&(layer.home, layer.id))) {
                (Stage::Filling | Stage::Doomed, _) => {
                    self.layers.discard(layer.home, layer.id)?;
                    doomed.push(layer.id);
                }
                (Stage::Writable, Some(Seal::Own | Seal::Copied)) => self.layers.unseal(layer)?,
                (_, None) => tracing::error!(
                    layer = %layer.id, home = %layer.home,
                    "the directory of a layer is missing; what stands on it cannot be mounted"
                ),
                _ => {}
            }
        }
        self.forget_doomed(doomed)?;
        self.release_left()
    }

    /// Ends the holds of requests that a crash cut off, and layers that nothing stands on.
    fn release_left(&self) -> Result<()> {
        let ended = self.store.write(|rows| {
            let mut ended = Vec::new();
            for mut row in rows.snapshots()?.into_iter().filter(|row| row.transient) {
                row.transient = false;
                rows.update(&row)?;
                ended.extend(collect(rows, row)?);
            }
            for layer in rows.layers()? {
                end_layers(rows, layer.id, &mut ended)?;
            }
            Ok(ended)
        })?;
        self.end(ended);
        Ok(())
    }
}
