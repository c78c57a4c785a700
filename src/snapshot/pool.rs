//! The core and its pool: made while containers run, and what lies outside of it brought in.
//!
//! Where the pool has no room for branches ([`Pool::admit`]), each door's branch is refused by [`Snapshots::admit`]: a
//! state, a fork by label, a rollback that keeps what was there. An ordinary Prepare is not: a new container takes next
//! to nothing until it writes, and what it writes then the pool has, or it gets "no space left".
//!
//! A writable layer moves in this order, so that a crash leaves all of it or nothing:
//!
//! | step                                    | what a start makes of it behind a crash |
//! |-----------------------------------------|-----------------------------------------|
//! | the copy in the pool, and a sync        | no row knows it: trash                  |
//! | one transaction puts the snapshot on it | done; no row knows the old one: trash   |

use std::sync::Arc;

use super::Snapshots;
use super::prepare::standing;
use super::remove::{Ended, end_layers};
use super::replace::keyed;
use crate::config::PoolSize;
use crate::error::{Error, Result};
use crate::layer::Method;
use crate::pool::{Make, Pool, Seen};
use crate::store::{Home, Id, Layer, Snapshot, Stage, Time};

impl Snapshots {
    /// From now on this is what its pool is asked of. Called once, before anything is served.
    pub fn keep_in(&self, pool: Arc<Pool>) {
        // Set twice only by a defect, and then the first one is as good.
        let _ = self.pool.set(pool);
    }

    /// Makes the pool, and uses it from now on: layers that are there stay where they are.
    pub fn create_pool(&self, make: &Make) -> Result<Option<Seen>> {
        let pool = self.pool()?;
        let area = pool.create(make, |path| self.layers.open_new_pool(path))?;
        self.layers.attach(area)?;
        pool.seen()
    }

    /// Makes the image that the configuration wants where there is no pool. One that cannot be made is a warning:
    /// containers run without, too.
    pub fn want_pool(&self, size: PoolSize) {
        if self.layers.pool().is_some() {
            return;
        }
        let size = match size {
            PoolSize::Auto => None,
            PoolSize::Bytes(bytes) => Some(bytes.0),
        };
        if let Err(error) = self.create_pool(&Make::Image(size)) {
            tracing::warn!(%error, "there is no pool, though pool.size asks for one");
        }
    }

    /// Lets the pool's image grow to so many bytes.
    pub fn grow_pool(&self, size: u64) -> Result<Option<Seen>> {
        let pool = self.pool()?;
        pool.grow(size)?;
        pool.seen()
    }

    /// What the pool is and how full; None where there is none.
    pub fn pool_seen(&self) -> Result<Option<Seen>> {
        self.pool.get().map_or(Ok(None), |pool| pool.seen())
    }

    /// Refuses a branch while the pool has no room for any.
    pub fn admit(&self) -> Result<()> {
        self.pool.get().map_or(Ok(()), |pool| pool.admit())
    }

    /// How new containers will be branched, and why so.
    pub fn how(&self) -> (Method, String) {
        let layers = &self.layers;
        let filesystem = layers.root_filesystem();
        if layers.pool().is_some() {
            let why =
                "writable layers of new containers lie in the pool; `loom pool move` brings older ones in";
            return (Method::Subvolume, why.to_owned());
        }
        let method = layers.method(Home::Plain);
        let why = if method == Method::Copy {
            format!(
                "there is no pool, and {filesystem} cannot share files' bytes, so a fork of what runs copies all that \
                 it has written; with `loom pool create` it costs the same at any size"
            )
        } else {
            format!(
                "there is no pool, and {filesystem} shares files' bytes, so a fork takes the longer the more files \
                 were written; with `loom pool create` it costs the same at any number"
            )
        };
        (method, why)
    }

    /// Brings the writable layer of an active snapshot, which must not be mounted, into the pool. False where it lies
    /// there already. Fails with `Precondition` where it is mounted or cannot lie there, with `Busy` where another
    /// request changes it; nothing has changed then.
    pub fn move_to_pool(&self, id: Id) -> Result<bool> {
        let key = self.store.read(|rows| keyed(rows, id))?;
        let _seal = self.take_seal(&key)?;
        let _swap = self.take_swap(&key)?;
        let seen = self.get(id)?;
        let Some((top, below)) = seen.chain.split_first() else {
            return Err(Error::SnapshotNotFound(seen.snapshot.title()));
        };
        if top.home == Home::Pool {
            return Ok(false);
        }
        let wrong = |why: &str| Err(Error::precondition(format!("snapshot {key:?}"), why));
        if self.layers.pool().is_none() {
            return wrong("there is no pool to move it to; `loom pool create` makes one");
        }
        if below.iter().any(|layer| layer.home == Home::Pool) {
            return wrong("it stands on a layer of the pool, and can not lie in the same one");
        }
        self.admit()?;
        self.unmounted(&key, top)?;
        let Some((_reading, top)) = self.read_layer(top.id)? else {
            return Err(Error::SnapshotNotFound(seen.snapshot.title()));
        };
        let moved = Layer { id: self.layers.next_id(), home: Home::Pool, usage: None, ..top.clone() };
        crate::fault::point("snapshot.move.copy")?;
        self.layers.transfer(&top, moved.id)?;
        let swapped = self.swap_top(&key, &seen.snapshot, &top, &moved);
        if swapped.is_err() {
            self.discard(Ended { home: moved.home, layer: moved.id, row: false });
        }
        self.end(swapped?);
        Ok(true)
    }

    /// Puts an active snapshot on the copy of its layer.
    fn swap_top(&self, key: &str, was: &Snapshot, top: &Layer, moved: &Layer) -> Result<Vec<Ended>> {
        self.note(&Snapshot { layer: Some(moved.id), ..was.clone() }, moved)?;
        self.keep_limit(moved)?;
        // What replaces durable content is durable itself.
        self.layers.flush(moved)?;
        // Whoever got the mounts before the key was taken has mounted them by now, or fails to.
        self.unmounted(key, top)?;
        crate::fault::point("snapshot.move.swap")?;
        let (was, top, moved) = (was.clone(), top.clone(), moved.clone());
        self.store.write(move |rows| {
            let same = |now: &Snapshot| now.key == was.key && now.layer == was.layer && now.kind == was.kind;
            let now = rows.snapshot(was.id)?.filter(same);
            let now = now.ok_or_else(|| Error::Busy(format!("snapshot {:?}", was.title())))?;
            if rows.layer(top.id)?.is_none_or(|layer| layer.stage != Stage::Writable) {
                return Err(Error::Busy(format!("snapshot {:?}", was.title())));
            }
            if let Some(base) = moved.base {
                standing(rows, base)?;
            }
            rows.insert_layer(&moved)?;
            rows.update(&Snapshot { layer: Some(moved.id), updated: Time::now(), ..now })?;
            let mut ended = Vec::new();
            end_layers(rows, top.id, &mut ended)?;
            Ok(ended)
        })
    }

    fn pool(&self) -> Result<&Arc<Pool>> {
        self.pool.get().ok_or_else(|| Error::Internal("the core was given no pool to ask".to_owned()))
    }
}
