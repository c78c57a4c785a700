//! How the trees of two chains of layers differ.
//!
//! ```text
//!   before   after         what is read
//!   b  s2 s1  a  s2 s1     names that b or a has, in the views of both chains
//!   P  s2 s1  Q  s2 s1     P and Q pool layers: names at which btrfs knows them to differ
//! ```
//!
//! What btrfs knows, it tells of read-only subvolumes, which cannot be removed while it does. So that nobody has to
//! wait for that, it is asked about snapshots of the two, and they are what is compared: each is one moment. They have
//! ids of their own and are removed in the end; what a crash leaves of them is no sealed layer, which start discards.

use super::area::Area;
use super::{Change, Layers, touched, tree};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::{Home, Layer, LayerId};

/// Tells how the tree of `after` differs from that of `before`.
pub(super) fn compare(
    layers: &Layers,
    before: &[Layer],
    after: &[Layer],
    tell: &mut dyn FnMut(Change) -> Result<()>,
) -> Result<()> {
    let shared = shared(before, after);
    let own = |chain: &[Layer]| chain.len() - shared;
    if own(before) == 0 && own(after) == 0 {
        return Ok(());
    }
    let tops = [before, after].map(|chain| chain.first().filter(|top| top.home == Home::Pool));
    if let [Some(one), Some(other)] = tops
        && own(before) == 1
        && own(after) == 1
    {
        let pool = layers.area(Home::Pool)?;
        if let Some((one, other)) = hold(layers, pool, one, other)? {
            let touched = touched(pool, &one, &other)?;
            let view = |chain: &[Layer], top: &Held<'_>| {
                let mut chain = chain.to_vec();
                chain.iter_mut().take(1).for_each(|layer| layer.id = top.id);
                layers.view(&chain)
            };
            return tree::compare(view(before, &one)?, view(after, &other)?, shared, touched, tell);
        }
    }
    tree::compare(layers.view(before)?, layers.view(after)?, shared, None, tell)
}

/// How many of the lowest layers are the same.
fn shared(before: &[Layer], after: &[Layer]) -> usize {
    let pairs = before.iter().rev().zip(after.iter().rev());
    pairs.take_while(|(one, other)| (one.home, one.id) == (other.home, other.id)).count()
}

/// Holds two pool layers still; none where that cannot be done, as in a full pool.
fn hold<'a>(
    layers: &Layers,
    pool: &'a Area,
    one: &Layer,
    other: &Layer,
) -> Result<Option<(Held<'a>, Held<'a>)>> {
    fault::point("layer.compare.hold")?;
    let held = Held::of(pool, one.id, layers.next_id())
        .and_then(|one| Ok((one, Held::of(pool, other.id, layers.next_id())?)));
    Ok(held.inspect_err(|e| tracing::debug!(error = %e, "comparing pool layers where they lie")).ok())
}

/// What btrfs knows to differ between two layers; none where it does not say.
fn touched(pool: &Area, before: &Held<'_>, after: &Held<'_>) -> Result<Option<tree::Touched>> {
    fault::point("layer.compare.send")?;
    let (one, other) = (pool.open_layer(before.id)?, pool.open_layer(after.id)?);
    let at = pool.directory(after.id).join("fs");
    match (touched::Pair { before: &one, after: &other, at: &at }).touched() {
        Ok(touched) => Ok(Some(touched)),
        Err(fault @ Error::Fault(_)) => Err(fault),
        Err(e) => {
            tracing::debug!(error = %e, "comparing whole pool layers");
            Ok(None)
        }
    }
}

/// A read-only snapshot of a pool layer, which goes with this value.
struct Held<'a> {
    pool: &'a Area,
    id: LayerId,
}

impl<'a> Held<'a> {
    fn of(pool: &'a Area, layer: LayerId, id: LayerId) -> Result<Self> {
        pool.hold(layer, id)?;
        Ok(Self { pool, id })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.pool.let_go(self.id);
    }
}
