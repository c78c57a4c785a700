//! Which layers of a chain become one: none of an image unless the chain is deeper than any image, and of each size a
//! few at once.

use std::ops::Range;

use crate::error::Result;
use crate::snapshot::key::{REF_LABEL, client};
use crate::store::{Home, Layer, LayerId, Rows, Snapshot, Stage};

/// Layers of a chain from which on those of images are made one too: no image has more.
pub(super) const DEEPEST: usize = 128;
/// Layers of one size that become one.
const FAN: usize = 4;
/// The most that become one at once: each is open meanwhile.
const MOST: usize = 128;

/// A layer of a chain that may become one with its neighbours.
pub(super) struct Part {
    pub(super) layer: Layer,
    /// It is one of an image that containerd unpacked.
    image: bool,
}

/// True for a layer that can become one with others.
pub(super) fn stacks(layer: &Layer) -> bool {
    layer.home == Home::Plain && layer.stage == Stage::Sealed
}

/// A chain as it is, topmost first.
pub(super) fn parts(rows: &Rows<'_>, top: LayerId) -> Result<Vec<Part>> {
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
pub(super) fn next(chain: &[Part], depth: usize, urgent: bool) -> Option<Range<usize>> {
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
