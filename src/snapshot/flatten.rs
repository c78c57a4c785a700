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
//! [`DEEPEST`] or than a mount can name. A layer that is asked for at such a depth waits until that has been mended;
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
use super::key::{REF_LABEL, client};
use super::prepare::standing;
use super::remove::{Ended, end_layers};
use super::tell::telling;
use super::{Snapshots, lock};
use crate::error::{Error, Result};
use crate::layer::{Access, Manifest, Mount};
use crate::store::{Home, Layer, LayerId, Rows, Snapshot, Stage};

/// Layers of a chain from which on those of images are made one too: no image has more.
const DEEPEST: usize = 128;
/// Layers of one size that become one.
const FAN: usize = 4;
/// The most that become one at once: each is open meanwhile.
const MOST: usize = 128;
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

/// A layer of a chain that may become one with its neighbours.
struct Part {
    layer: Layer,
    /// It is one of an image that containerd unpacked.
    image: bool,
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
    for flat in rows.layers()?.into_iter().filter(|layer| layer.stage == Stage::Sealed) {
        for layer in flat.instead_of {
            ended.extend(end(rows, layer, flat.id)?);
        }
    }
    Ok(ended)
}

/// True for a layer that can become one with others.
fn stacks(layer: &Layer) -> bool {
    layer.home == Home::Plain && layer.stage == Stage::Sealed
}

/// A chain as it is, topmost first.
fn parts(rows: &Rows<'_>, top: LayerId) -> Result<Vec<Part>> {
    let part = |layer: Layer| {
        let image = rows.standing(layer.id)?.iter().any(is_images);
        Ok(Part { layer, image })
    };
    rows.chain(top)?.into_iter().map(part).collect()
}

/// True for a snapshot that containerd unpacked of an image.
fn is_images(row: &Snapshot) -> bool {
    let named = row.key.as_deref().is_some_and(|key| client(key).starts_with("sha256:"));
    row.source.is_none() && (named || row.labels.contains_key(REF_LABEL))
}

/// The lowest layers of a chain, topmost first, that are to be one, where it is deeper than it may be.
fn next(chain: &[Part], depth: usize, urgent: bool) -> Option<Range<usize>> {
    let all = urgent || chain.len() > DEEPEST;
    let together = |above: &Part, below: &Part| {
        stacks(&above.layer)
            && stacks(&below.layer)
            && above.layer.mapping == below.layer.mapping
            && (all || !(above.image || below.image))
    };
    let mut end = chain.len();
    let mut longest = 0..0;
    for run in chain.chunk_by(together).rev() {
        let start = end - run.len();
        if all || run.len() > depth {
            let weights: Vec<i64> = run.iter().map(|part| part.layer.merged).collect();
            if let Some(found) = group(&weights) {
                return Some(start + found.start..start + found.end);
            }
        }
        if run.len() > longest.len() {
            longest = start..end;
        }
        end = start;
    }
    let few = longest.start..longest.end.min(longest.start + MOST);
    (urgent && few.len() > 1).then_some(few)
}

/// The lowest neighbours, of layers of these weights, topmost first, that become one where [`FAN`] of one size do, and
/// again what comes of that.
fn group(weights: &[i64]) -> Option<Range<usize>> {
    let size = |weight: i64| weight.max(1).ilog2() / FAN.ilog2();
    // The weights and numbers of what they become, the lowest first.
    let mut made: Vec<(i64, usize)> = Vec::new();
    for weight in weights.iter().rev() {
        made.push((*weight, 1));
        while let Some(at) = made.len().checked_sub(FAN)
            && let Some(last) = made.get(at..)
            && last
                .iter()
                .all(|(weight, _)| size(*weight) == size(last.first().map_or(0, |(weight, _)| *weight)))
            && last.iter().map(|(_, count)| count).sum::<usize>() <= MOST
        {
            let one = last.iter().fold((0, 0), |(weight, count), (w, c)| (weight + w, count + c));
            made.truncate(at);
            made.push(one);
        }
    }
    let mut end = weights.len();
    for (_, count) in made {
        if count > 1 {
            return Some(end - count..end);
        }
        end -= count;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The weights, topmost first, that become of these.
    fn flat(mut weights: Vec<i64>) -> Vec<i64> {
        while let Some(group) = group(&weights) {
            let sum = weights[group.clone()].iter().sum();
            weights.splice(group, [sum]);
        }
        weights
    }

    #[test]
    fn four_of_one_size_become_one_of_the_next() {
        assert_eq!(flat(vec![1; 3]), [1; 3]);
        assert_eq!(flat(vec![1; 17]), [1, 16]);
        assert_eq!(flat(vec![1, 1, 1, 1, 4, 4, 4, 16, 16, 16]), [64]);
        assert_eq!(flat(vec![1, 1, 1, 1, 100, 1, 1]), [4, 100, 1, 1]);
        assert_eq!(group(&[1; 6]), Some(2..6), "the lowest");
        assert_eq!(group(&[1; 1000]).map(|group| group.len()), Some(64));
    }

    #[test]
    fn a_chain_stays_shallow_and_no_layer_is_written_often() {
        // Each generation's weight, and how often it was written.
        let mut chain: Vec<(i64, usize)> = Vec::new();
        for generation in 1..=10_000 {
            chain.insert(0, (1, 1));
            let weights =
                |chain: &[(i64, usize)]| chain.iter().map(|(weight, _)| *weight).collect::<Vec<_>>();
            if chain.len() > 16 {
                while let Some(group) = group(&weights(&chain)) {
                    let merged = &chain[group.clone()];
                    let one =
                        (merged.iter().map(|m| m.0).sum(), merged.iter().map(|m| m.1).max().unwrap() + 1);
                    chain.splice(group, [one]);
                }
            }
            assert!(chain.len() <= 21, "{generation}: {chain:?}");
            assert!(chain.iter().all(|(_, written)| *written <= 8), "{generation}: {chain:?}");
        }
    }

    fn parts(spec: &str) -> Vec<Part> {
        let part = |(n, kind): (usize, char)| {
            let home = if kind == 'p' { Home::Pool } else { Home::Plain };
            let stage = if kind == 'w' { Stage::Writable } else { Stage::Sealed };
            let layer = Layer::new(LayerId(i64::try_from(n).unwrap()), home, None, stage);
            Part { layer, image: kind == 'i' }
        };
        spec.chars().enumerate().map(part).collect()
    }

    #[test]
    fn images_are_spared_while_that_is_possible() {
        let image = "i".repeat(100);
        assert_eq!(next(&parts(&image), 16, false), None);
        assert_eq!(next(&parts(&format!("{}{image}", "o".repeat(16))), 16, false), None);
        assert_eq!(next(&parts(&format!("w{}{image}", "o".repeat(17))), 16, false), Some(2..18));
        assert_eq!(next(&parts(&format!("ooio{image}")), 2, false), None);
        assert_eq!(next(&parts(&format!("poooooo{image}")), 4, false), Some(3..7));
        // Too deep for that.
        assert_eq!(next(&parts(&"i".repeat(129)), 16, false), Some(65..129));
        assert_eq!(next(&parts("wiii"), 16, true), Some(1..4));
        assert_eq!(next(&parts("wi"), 16, true), None);
    }

    #[test]
    fn owners_that_are_written_otherwise_are_never_mixed() {
        let mut chain = parts("oooooooo");
        for part in &mut chain[..4] {
            let ids: crate::mapping::Ids = "0:100000:65536".parse().unwrap();
            part.layer.mapping = Some(crate::mapping::Mapping { uids: ids.clone(), gids: ids });
        }
        assert_eq!(next(&chain, 3, false), Some(4..8));
        assert_eq!(next(&chain[2..6], 16, true), Some(2..4));
    }
}
