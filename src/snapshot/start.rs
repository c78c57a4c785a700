//! Opening the core: what a crash left is put right before anything is served.
//!
//! | found                                   | becomes                                            |
//! |-----------------------------------------|----------------------------------------------------|
//! | a directory without a row               | trash, if it was never sealed; else start is refused |
//! | directories, and no database            | start is refused                                   |
//! | a row `Filling` that `was` another      | the directory is that one's again (`seal`)         |
//! | a row `Filling` or `Doomed`             | its directory goes to the trash, then the row goes |
//! | a row `Writable`, with a `layer.json`   | unsealed: the commit was never answered            |
//! | a state that only a request kept        | released                                           |
//! | a layer that another has the place of   | ended                                              |
//! | a row without a directory               | reported; its mounts fail, nothing is guessed      |

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};

use super::chores::Chore;
use super::flatten::{Flat, end_all_replaced};
use super::reclaimer::Reclaimer;
use super::remove::collect;
use super::{Rules, Snapshots};
use crate::error::{Error, Result};
use crate::layer::{Layers, Seal};
use crate::store::{Home, Layer, LayerId, Stage, Store};

impl Snapshots {
    /// Opens the database of a root, or makes it where there are no layers yet. Layers without one are refused: they
    /// would all look like what a crash left.
    pub fn open_store(layers: &Layers) -> Result<Store> {
        let (root, path) = (layers.root().display(), layers.root().join("loom.db"));
        let found = if path.exists() { Vec::new() } else { layers.found()? };
        if found.is_empty() {
            return Store::open(&path);
        }
        Err(Error::Config(format!(
            "{root} has {} layers and no database. Nothing was changed. Put the loom.db back that belongs to them, or \
             make it anew of what the layers say: `loom check --root {root}{} --rebuild`",
            found.len(),
            pool_flag(layers)
        )))
    }

    /// Opens the core over a store and layers, and puts right what a crash left.
    pub fn open(store: Store, layers: Layers, rules: Rules) -> Result<Arc<Self>> {
        let (chores, left) = mpsc::channel();
        let (ask, asked) = mpsc::channel();
        let (measures, to_measure) = mpsc::channel();
        let layers = Arc::new(layers);
        let reclaimer = Reclaimer::start(&layers)?;
        let core = Arc::new(Self {
            store: Arc::new(store),
            layers,
            flat: Flat::new(rules.flat_depth, ask),
            rules,
            freezers: OnceLock::new(),
            pool: OnceLock::new(),
            taking: Mutex::default(),
            given_back: Condvar::new(),
            reading: Mutex::default(),
            grants: Mutex::default(),
            needs: Arc::default(),
            known: Mutex::default(),
            sharing: Mutex::default(),
            reclaimer,
            asked: Mutex::default(),
            chores,
            chores_ended: Mutex::default(),
            measures,
        });
        core.put_right()?;
        // Not before: where the start is refused, nothing is removed for good.
        core.empty_trash();
        Self::do_chores(&core, left)?;
        Self::make_flat(&core, asked)?;
        Self::do_measures(&core, to_measure)?;
        Ok(core)
    }

    fn put_right(&self) -> Result<()> {
        let mut rows = self.store.read(|rows| rows.layers())?;
        if let Some(highest) = rows.iter().map(|layer| layer.id).max() {
            self.layers.start_above(highest);
        }
        if self.layers.pool().is_none()
            && let Some(layer) = rows.iter().find(|layer| layer.home == Home::Pool)
        {
            return Err(Error::Config(format!(
                "layer {} of {} lies in a pool, and there is none; put its pool.json back, or set pool.path to the directory that it was",
                layer.id,
                self.layers.root().display()
            )));
        }
        let moved = |layer: &Layer| layer.stage == Stage::Filling && layer.was.is_some();
        rows.extract_if(.., |layer| moved(layer)).try_for_each(|layer| self.give_back(layer.id))?;
        let found: HashMap<(Home, LayerId), Seal> =
            self.layers.found()?.into_iter().map(|found| ((found.home, found.id), found.seal)).collect();
        let known: HashSet<_> = rows.iter().map(|layer| (layer.home, layer.id)).collect();
        let unknown = || found.iter().filter(|(place, _)| !known.contains(*place));
        let mut strays: Vec<_> = unknown()
            .filter(|(_, seal)| **seal == Seal::Own)
            .map(|((home, id), _)| format!("{home} layer {id}"))
            .collect();
        let root = self.layers.root().display();
        if !strays.is_empty() {
            strays.sort();
            return Err(Error::Config(format!(
                "{} under {root} hold committed bytes, but the database does not know them: it is older than they \
                 are, or belongs to another root. Nothing was changed. Put the loom.db back that belongs to them, or \
                 make it anew of what the layers say: `loom check --root {root}{} --rebuild`",
                strays.join(", "),
                pool_flag(&self.layers)
            )));
        }
        for &(home, id) in unknown().map(|(place, _)| place) {
            self.layers.discard(home, id)?;
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
                (Stage::Sealed | Stage::Writable, _) => self.leave(Chore::Tell(layer.id)),
            }
        }
        self.forget_doomed(doomed)?;
        self.keep_limits(&rows);
        self.release_left()
    }

    /// Ends the holds of requests that a crash cut off, and layers that others have the place of.
    fn release_left(&self) -> Result<()> {
        let ended = self.store.write(|rows| {
            let mut ended = Vec::new();
            for mut row in rows.snapshots()?.into_iter().filter(|row| row.transient) {
                row.transient = false;
                rows.update(&row)?;
                ended.extend(collect(rows, row)?);
            }
            ended.extend(end_all_replaced(rows)?);
            Ok(ended)
        })?;
        self.end(ended);
        Ok(())
    }
}

/// How a check is told of the pool.
fn pool_flag(layers: &Layers) -> String {
    layers.pool().map(|pool| format!(" --pool {}", pool.display())).unwrap_or_default()
}
