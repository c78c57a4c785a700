//! What snapshots take on disk: what would come free with one, and what others have too.
//!
//! ```text
//!  web ──── pool layer 7 ┐         web alone goes: what of 7 is in no other layer's extents
//!  try-1 ── pool layer 9 ┴ plain 3 ─ plain 2     3 and 2 stay, for 7 and 9 stand on them
//! ```
//!
//! With a snapshot go the layers of its chain, from the top, on which nothing else stands; and of those, the
//! bytes in extents that are theirs alone. The rest of the chain is shared. That is what a filesystem can tell:
//! two layers that go together and share extents only with each other free more than is told here.
//!
//! A sealed layer is measured once for its whole size (its row has it). What of it is shared changes when others
//! come, go or write: that is measured anew, but not within [`FRESH`] of the last time while the same layers are
//! there. What is written to is measured each time. All of it together takes no longer than the caller allows;
//! what was not reached by then is not known, and the next request, which finds the others done, comes further.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Seen, Snapshots, lock};
use crate::error::Result;
use crate::layer::{Measured, Space};
use crate::store::{Home, Layer, LayerId, Stage, Usage};

/// How long what a sealed layer shares is taken for what it was.
const FRESH: Duration = Duration::from_mins(1);

/// Bytes on disk, of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// What would come free were it alone removed.
    pub exclusive: u64,
    /// The rest of its chain.
    pub shared: u64,
}

/// What sealed layers shared when they were last measured.
pub(super) type Sharing = HashMap<LayerId, (Instant, Layers, Measured)>;

/// Which layers there were: a new one has a higher id, and one that went leaves fewer.
type Layers = (Option<LayerId>, usize);

/// What a request has found out so far.
struct Look<'a> {
    core: &'a Snapshots,
    until: Instant,
    /// How many snapshots and layers stand on a layer.
    standing: HashMap<LayerId, usize>,
    layers: Layers,
    /// What was measured in this request; None where that came to nothing.
    measured: HashMap<LayerId, Option<Measured>>,
    /// Whole sizes that rows are to have.
    found: Vec<(LayerId, Usage)>,
}

impl Snapshots {
    /// What snapshots take on disk, in their order; None for one whose bytes are gone, or were not measured within
    /// the time that is allowed.
    pub fn sizes(&self, of: &[Seen], allowed: Duration) -> Result<Vec<Option<Size>>> {
        let until = Instant::now() + allowed;
        let (standing, layers) = self.store.read(|rows| {
            let mut standing = HashMap::new();
            let layers = rows.layers()?;
            let above = layers.iter().filter(|layer| layer.stage != Stage::Doomed).filter_map(|l| l.base);
            let on = rows.snapshots()?.into_iter().filter_map(|snapshot| snapshot.layer);
            for layer in above.chain(on) {
                *standing.entry(layer).or_insert(0) += 1;
            }
            Ok((standing, layers.into_iter().map(|layer| layer.id).collect::<HashSet<_>>()))
        })?;
        lock(&self.sharing).retain(|id, _| layers.contains(id));
        let layers = (layers.iter().max().copied(), layers.len());
        let (measured, found) = (HashMap::new(), Vec::new());
        let mut look = Look { core: self, until, standing, layers, measured, found };
        let sizes = of.iter().map(|seen| look.size(&seen.chain)).collect();
        self.write_usages(look.found)?;
        Ok(sizes)
    }
}

impl Snapshots {
    /// What a home takes, each byte once, as far as that is measured within the time, and what its filesystem says.
    pub fn space(&self, home: Home, until: Instant) -> Result<Space> {
        let sealed = self.store.read(|rows| rows.layers())?;
        let sealed = sealed.into_iter().filter(|layer| layer.home == home);
        let known = sealed.filter_map(|layer| Some((layer.id, layer.usage?.size))).collect();
        self.layers.space(home, &known, until)
    }
}

impl Look<'_> {
    fn size(&mut self, chain: &[Layer]) -> Option<Size> {
        if chain.is_empty() {
            return None;
        }
        // Whoever asks stands on the topmost, and each layer on the next.
        let alone = chain.iter().take_while(|layer| self.standing.get(&layer.id) == Some(&1)).count();
        let (mut whole, mut exclusive) = (0, 0);
        for (depth, layer) in chain.iter().enumerate() {
            match (layer.usage, depth < alone) {
                (Some(usage), false) => whole += usage.size,
                (Some(usage), true) if !self.core.layers().shares(layer.home) => {
                    whole += usage.size;
                    exclusive += usage.size;
                }
                (_, goes) => {
                    let Measured { usage, shared } = self.measure(layer)?;
                    whole += usage.size;
                    exclusive += if goes { usage.size - shared } else { 0 };
                }
            }
        }
        let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
        Some(Size { exclusive: bytes(exclusive), shared: bytes(whole - exclusive) })
    }

    fn measure(&mut self, layer: &Layer) -> Option<Measured> {
        if let Some(measured) = self.measured.get(&layer.id) {
            return *measured;
        }
        let measured = self.remembered(layer).or_else(|| self.measure_now(layer));
        self.measured.insert(layer.id, measured);
        measured
    }

    fn remembered(&self, layer: &Layer) -> Option<Measured> {
        let sharing = lock(&self.core.sharing);
        let (then, layers, measured) = sharing.get(&layer.id)?;
        (then.elapsed() < FRESH && *layers == self.layers).then_some(*measured)
    }

    fn measure_now(&mut self, layer: &Layer) -> Option<Measured> {
        if Instant::now() >= self.until {
            return None;
        }
        let began = Instant::now();
        let measure = || match self.core.read_layer(layer.id)? {
            Some((_reading, layer)) => {
                Ok(self.core.layers().measure_shared(&layer, self.until)?.map(|measured| (layer, measured)))
            }
            None => Ok(None),
        };
        let measured = measure().unwrap_or_else(|error: crate::error::Error| {
            // The others are worth showing.
            tracing::warn!(layer = %layer.id, %error, "a layer cannot be measured");
            None
        });
        let (layer, measured) = measured?;
        if layer.stage == Stage::Sealed {
            lock(&self.core.sharing).insert(layer.id, (Instant::now(), self.layers, measured));
            if layer.usage.is_none() {
                self.found.push((layer.id, measured.usage));
            }
        } else {
            self.core.remember(layer.id, measured.usage, began.elapsed());
        }
        Some(measured)
    }
}
