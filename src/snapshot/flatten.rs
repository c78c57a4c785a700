//! Flat chains: at any depth a mount works, and reading does not slow down.
//!
//! Plain layers stack, so each generation lies one deeper. Where more of loom's own lie on each other than the
//! configuration allows (`flat.depth`), neighbours become one, from the bottom up:
//!
//! ```text
//!  17 generations    1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1     (the topmost to the right)
//!  flat              16 1                                  four of one size are one of the next
//!  64 generations    16 16 16 4 4 4 1 1 1 1  ──►  64
//! ```
//!
//! So no byte is written more often than a logarithm of the generations, and they lie no deeper than three times that.
//! What is chosen depends on what lies below alone: all that is stacked on the same layers shares the flat ones.
//! The layers of images that containerd unpacked stay as they are, and shared, unless the whole chain is deeper than
//! [`choice::DEEPEST`] or than a mount can name. A layer that is asked for at such a depth waits until that has been mended;
//! everything else is done in the background.
//!
//! The new layer takes the place of the topmost of those it is made of: what stood on that stands on it. The others
//! stay while something stands on them. In this order, so that a crash leaves all of it or nothing:
//!
//! | step                                          | what a start makes of it behind a crash         |
//! |-----------------------------------------------|-------------------------------------------------|
//! | a row `Filling`; the directory filled, sealed | both go                                         |
//! | one transaction has all stand on the new one  | done; nothing stands on the old one, which ends |
//! | the old one ends, [`GRACE`] later             | the old one ends                                |
//!
//! No key, row of lineage or live mount changes. Who was told how to mount the old layer can do so while it is there,
//! and who looked at it before builds on it ([`Snapshots::instead`]). What lies on disk says in its `layer.json` on
//! which layer it was stacked; that of the new one says of which layers it has the place.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::chores::Chore;
use super::prepare::standing;
use super::remove::{Ended, end_layers};
use super::tell::telling;
use super::{Snapshots, lock};
use crate::error::{Error, Result};
use crate::layer::{Access, Manifest, Mount};
use crate::store::{Home, Layer, LayerId, Rows, Stage};

mod choice;

use choice::{next, parts, stacks};

/// How long a layer stays of which another has taken the place: so long a mount that was handed out can be made.
const GRACE: Duration = Duration::from_mins(1);
/// How long nothing is done in the background behind a failure.
const AGAIN: Duration = Duration::from_secs(30);
/// The priority of what is done in the background, of processor and disk: the lowest.
const NICE: i32 = 19;
/// The tops of flat chains that are remembered.
const REMEMBERED: usize = 10_000;

/// What is known of flat chains, and of those that are to be.
#[derive(Debug)]
pub(super) struct Flat {
    depth: usize,
    /// To the thread that makes chains flat; it ends when this does.
    asked: Sender<LayerId>,
    /// Layers are made one in one place at a time.
    alone: Mutex<()>,
    /// Requests that wait for that.
    waiting: AtomicUsize,
    /// Nothing more is begun.
    closing: AtomicBool,
    /// Tops of chains that were found to be flat.
    known: Mutex<HashSet<LayerId>>,
    replaced: Mutex<Replaced>,
}

/// Layers of which another has taken the place.
#[derive(Debug, Default)]
struct Replaced {
    by: HashMap<LayerId, LayerId>,
    /// Those that have not ended, in the order of time.
    left: VecDeque<(Instant, LayerId)>,
}

impl Flat {
    pub(super) fn new(depth: usize, asked: Sender<LayerId>) -> Self {
        Self {
            depth: depth.max(2),
            asked,
            alone: Mutex::default(),
            waiting: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            known: Mutex::default(),
            replaced: Mutex::default(),
        }
    }

    /// Has a deep chain, topmost first, made flat in the background.
    pub(super) fn look_at(&self, chain: &[Layer]) {
        if chain.len() > self.depth
            && let Some(top) = chain.iter().find(|layer| stacks(layer))
            && !lock(&self.known).contains(&top.id)
        {
            // Fails only while the core itself goes.
            let _ = self.asked.send(top.id);
        }
    }

    /// What is made ends at its next step; nothing more is begun.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    fn know(&self, top: LayerId) {
        let mut known = lock(&self.known);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(top);
    }

    /// Asked at every step: whether it is to go on.
    fn go_on(&self, urgent: bool) -> Result<()> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(Error::Busy("loomd: it is about to stop".to_owned()));
        }
        if !urgent && self.waiting.load(Ordering::SeqCst) > 0 {
            return Err(Error::Busy("the chain: a request cannot wait for it".to_owned()));
        }
        Ok(())
    }
}

impl Snapshots {
    /// The layer that has taken the place of this one, or this one.
    pub(super) fn instead(&self, layer: LayerId) -> LayerId {
        let replaced = lock(&self.flat.replaced);
        let mut last = layer;
        while let Some(by) = replaced.by.get(&last) {
            last = *by;
        }
        last
    }

    /// A layer that is to be stacked, on what has taken the place of its base.
    pub(super) fn on_flat(&self, layer: Layer) -> Layer {
        Layer { base: layer.base.map(|base| self.instead(base)), ..layer }
    }

    /// Makes a chain flat that is deeper than a mount can name, as far as that goes; answers the mounts then.
    pub(super) fn mounts_of_flat(&self, title: &str, chain: &[Layer], access: Access) -> Result<Vec<Mount>> {
        let too_deep = || Error::TooDeep { key: title.to_owned(), depth: chain.len() };
        let at = chain.iter().position(stacks).ok_or_else(too_deep)?;
        let (above, below) = chain.split_at(at);
        let top = below.first().ok_or_else(too_deep)?.id;
        self.flat.waiting.fetch_add(1, Ordering::SeqCst);
        let alone = lock(&self.flat.alone);
        self.flat.waiting.fetch_sub(1, Ordering::SeqCst);
        loop {
            let now = self.store.read(|rows| rows.chain(self.instead(top)))?;
            if let Some(mounts) = self.layers.mounts(&[above, &now].concat(), access) {
                drop(alone);
                return Ok(mounts);
            }
            if !self.merge_some(self.instead(top), true)? {
                return Err(too_deep());
            }
        }
    }

    /// Makes the chain below a layer flat.
    pub(super) fn flatten(&self, top: LayerId) -> Result<()> {
        let _alone = lock(&self.flat.alone);
        self.flat.go_on(false)?;
        while self.merge_some(self.instead(top), false)? {}
        self.flat.know(self.instead(top));
        Ok(())
    }

    /// Makes the next layers of a chain one; false where it is flat. `urgent` spares no image.
    fn merge_some(&self, top: LayerId, urgent: bool) -> Result<bool> {
        let parts = self.store.read(|rows| parts(rows, top))?;
        let Some(Range { start, end }) = next(&parts, self.flat.depth, urgent) else { return Ok(false) };
        let chain: Vec<Layer> = parts.into_iter().skip(start).map(|part| part.layer).collect();
        self.merge(&chain, end - start, urgent)?;
        Ok(true)
    }

    /// Makes the topmost `count` layers of a chain one, which takes the place of the first.
    pub(crate) fn merge(&self, chain: &[Layer], count: usize, urgent: bool) -> Result<()> {
        let run = chain.get(..count).unwrap_or_default();
        let (Some(top), Some(lowest)) = (run.first(), run.last()) else { return Ok(()) };
        let changed = || Error::Busy(format!("layer {}", run.first().map_or(LayerId(0), |top| top.id)));
        let _reading = self.read_layers(chain)?.ok_or_else(changed)?;
        let id = self.layers.next_id();
        let one = Layer {
            merged: run.iter().map(|layer| layer.merged).sum(),
            own: Some(top.own.map_or_else(|| self.usage_of(top), Ok)?),
            instead_of: top.instead_of.iter().copied().chain([top.id]).collect(),
            // What has changed in one of them counts as changed in all.
            still: run.iter().filter_map(|layer| layer.still).max(),
            max_size: top.max_size,
            mapping: top.mapping.clone(),
            ..Layer::new(id, Home::Plain, lowest.base, Stage::Filling)
        };
        self.store.write({
            let one = one.clone();
            move |rows| {
                if let Some(base) = one.base {
                    standing(rows, base)?;
                }
                rows.insert_layer(&one)
            }
        })?;
        let made = self
            .layers
            .flatten(chain, count, id, &mut || self.flat.go_on(urgent))
            .and_then(|_| self.seal_flat(&one, top))
            .and_then(|()| {
                crate::fault::point("snapshot.flatten.replace")?;
                let was: Vec<LayerId> = run.iter().map(|layer| layer.id).collect();
                let top = top.id;
                self.store.write(move |rows| {
                    let now = rows.chain(top)?;
                    let same = now.iter().map(|layer| layer.id).take(was.len()).eq(was.iter().copied());
                    if !same || now.iter().any(|layer| layer.stage != Stage::Sealed) {
                        return Err(Error::Busy(format!("layer {top}")));
                    }
                    // What it is stacked on may have been flattened meanwhile.
                    let one = rows.layer(id)?.unwrap_or(one);
                    rows.update_layer(&Layer { stage: Stage::Sealed, ..one })?;
                    let above: Vec<_> = rows.above(top)?.into_iter().map(|layer| layer.id).collect();
                    rows.replace_layer(top, id)?;
                    Ok(above)
                })
            });
        if made.is_err()
            && let Err(error) = self.abandon(id)
        {
            tracing::warn!(layer = %id, %error, "what was begun of a flat layer stays for now");
            self.leave(Chore::Abandon(id));
        }
        // It was sealed with what stood on it then; what is stacked on it says what it was stacked on.
        for layer in made?.into_iter().chain([id]) {
            self.tell_later(Some(layer));
        }
        self.measure_later(id);
        let mut replaced = lock(&self.flat.replaced);
        replaced.by.insert(top.id, id);
        replaced.left.push_back((Instant::now(), top.id));
        Ok(())
    }

    /// Makes a flat layer durable; it says of itself what the one says whose place it takes.
    fn seal_flat(&self, one: &Layer, top: &Layer) -> Result<()> {
        let said = self.store.read(|rows| telling(rows, top))?;
        let (layer, base, instead_of) = (one.id.0, one.base.map(|base| base.0), one.instead_of.clone());
        self.layers.seal(one, &Manifest { layer, base, instead_of, ..said })
    }

    /// Ends layers of which another took the place so long ago.
    pub(super) fn end_replaced(&self, grace: Duration) -> Result<()> {
        loop {
            let first = lock(&self.flat.replaced).left.front().copied();
            let Some((_, layer)) = first.filter(|(since, _)| since.elapsed() >= grace) else { return Ok(()) };
            let by = self.instead(layer);
            crate::fault::point("snapshot.flatten.end")?;
            let ended = self.store.write(move |rows| end(rows, layer, by))?;
            self.end(ended);
            lock(&self.flat.replaced).left.pop_front();
        }
    }

    /// How long until a layer is to end of which another took the place; none where there is none.
    fn next_end(&self) -> Option<Duration> {
        let first = lock(&self.flat.replaced).left.front().copied();
        first.map(|(since, _)| GRACE.saturating_sub(since.elapsed()))
    }

    /// Starts the thread that makes chains flat; it ends with the core.
    pub(super) fn make_flat(core: &Arc<Self>, asked: Receiver<LayerId>) -> Result<()> {
        let weak = Arc::downgrade(core);
        let spawned = std::thread::Builder::new().name("flatten".to_owned()).spawn(move || {
            // Of a thread, and through it its disk's; where it is refused it runs as all others.
            let _ = rustix::process::setpriority_process(None, NICE);
            until_dropped(&weak, &asked);
        });
        spawned.map(drop).map_err(Error::io("start a thread for", core.layers.root()))
    }
}

fn until_dropped(core: &Weak<Snapshots>, asked: &Receiver<LayerId>) {
    /// A wait without an end.
    const LONG: Duration = Duration::from_hours(1);
    let mut failed: Option<Instant> = None;
    let mut wait = LONG;
    loop {
        let first = match asked.recv_timeout(wait) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(core) = core.upgrade() else { return };
        // Those below first: what is flat there is flat for all above.
        let tops: BTreeSet<LayerId> = first.into_iter().chain(asked.try_iter()).collect();
        failed = failed.filter(|since| since.elapsed() < AGAIN);
        for top in tops {
            if failed.is_some() {
                break;
            }
            match core.flatten(top) {
                // It is no longer what it was, or a request comes first: it will be asked for again.
                Ok(()) | Err(Error::Busy(_) | Error::ParentNotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(layer = %top, %error, "a deep chain is not made flat for now");
                    failed = Some(Instant::now());
                }
            }
        }
        if let Err(error) = core.end_replaced(GRACE) {
            tracing::warn!(%error, "layers that others took the place of stay for now");
        }
        wait = core.next_end().map_or(LONG, |end| end.max(Duration::from_secs(1)));
    }
}

/// Ends a layer that another has the place of.
fn end(rows: &Rows<'_>, layer: LayerId, by: LayerId) -> Result<Vec<Ended>> {
    // A request that had looked before may have come to stand on it meanwhile.
    if rows.layer(by)?.is_some_and(|by| by.stage == Stage::Sealed) {
        rows.replace_layer(layer, by)?;
    }
    let mut ended = Vec::new();
    end_layers(rows, layer, &mut ended)?;
    Ok(ended)
}

/// Ends all layers that others have the place of, when nothing is under way.
pub(super) fn end_all_replaced(rows: &Rows<'_>) -> Result<Vec<Ended>> {
    let mut ended = Vec::new();
    for flat in rows.layers()? {
        for layer in flat.instead_of {
            ended.extend(end(rows, layer, flat.id)?);
        }
    }
    Ok(ended)
}
