//! What a drawing has a line for: a snapshot, or several that say no more than one.
//!
//! - The layers of an image, where nothing branches from them on the way, are one line: the image.
//! - More than [`MANY`] siblings that are alike are one line, `try-1 … try-998`. Alike are two of one kind, called
//!   alike (`try-1`, `try-2`), with alike ones below them.
//! - More than [`CROWD`] siblings of one kind with nothing below them are one line, whatever they are called.
//! - More than [`MANY`] generations that are alike, each with one child, are one line too.
//!
//! What someone pinned is never hidden among what nobody did.

use std::collections::HashMap;

use super::line::{Word, stem, word};
use super::{Edge, Forest};
use crate::cli::show::{Look, title};

/// So many alike are still a line each.
const MANY: usize = 16;
/// So many of one kind are still a line each.
const CROWD: usize = 64;

/// A line of a drawing.
#[derive(Debug)]
pub(super) struct Item {
    /// Whom it is about, oldest first; never empty.
    pub(super) members: Vec<usize>,
    /// Why they are one.
    pub(super) told: Told,
    /// How many more hang below each of them and are drawn nowhere.
    pub(super) hidden: usize,
    /// How many lines are on the way up to its root.
    pub(super) level: usize,
    /// Whether a sibling follows it.
    pub(super) more: bool,
    /// The line that it hangs below, and why.
    pub(super) above: Option<(usize, Edge)>,
    /// The line of its parent, where that is elsewhere.
    pub(super) parent: Option<usize>,
}

/// Why several snapshots are one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// They are layers of one image, or it is one snapshot only.
    Whole,
    /// They are siblings.
    Alike,
    /// Each hangs below the one before.
    Generations,
}

/// What makes two snapshots alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Traits {
    word: Word,
    stem: String,
    pinned: bool,
    expires: bool,
    elsewhere: Option<usize>,
}

/// Everyone's traits, and a number that is the same for those with alike ones below them.
struct Shapes {
    traits: Vec<Traits>,
    shape: Vec<usize>,
}

impl Shapes {
    fn of(forest: &Forest<'_>, look: &Look) -> Self {
        let traits = |at: usize| {
            let snapshot = &forest.snapshots[at];
            Traits {
                word: word(snapshot),
                stem: stem(&title(snapshot, &look.namespace)).to_owned(),
                pinned: snapshot.pinned,
                expires: snapshot.expires.is_some(),
                elsewhere: forest.parent_elsewhere(at),
            }
        };
        let traits: Vec<Traits> = (0..forest.snapshots.len()).map(traits).collect();
        let mut known: HashMap<(&Traits, Vec<usize>), usize> = HashMap::new();
        let mut shape = vec![0; traits.len()];
        let order: Vec<usize> = forest.order().collect();
        for at in order.into_iter().rev() {
            let mut below: Vec<usize> = forest.children[at].iter().map(|child| shape[*child]).collect();
            below.sort_unstable();
            let next = known.len();
            shape[at] = *known.entry((&traits[at], below)).or_insert(next);
        }
        drop(known);
        Self { traits, shape }
    }
}

/// A place in the drawing that is not a line yet.
struct Place {
    members: Vec<usize>,
    level: usize,
    more: bool,
    above: Option<usize>,
}

/// The lines, in order; each snapshot has its own where `all`.
pub(super) fn items(forest: &Forest<'_>, look: &Look, all: bool) -> Vec<Item> {
    let shapes = Shapes::of(forest, look);
    let mut items: Vec<Item> = Vec::new();
    let mut line_of: HashMap<usize, usize> = HashMap::new();
    let mut todo = places(forest, &shapes, &forest.roots, None, 0, all);
    while let Some(Place { mut members, level, more, above }) = todo.pop() {
        let line = items.len();
        let first = members[0];
        let told = if members.len() > 1 {
            Told::Alike
        } else if all {
            Told::Whole
        } else {
            run(forest, &shapes, &mut members)
        };
        line_of.extend(members.iter().map(|member| (*member, line)));
        let last = members[members.len() - 1];
        let hidden = if told == Told::Alike { forest.places[first].1 - 1 } else { 0 };
        if told != Told::Alike {
            todo.extend(places(forest, &shapes, &forest.children[last], Some(line), level + 1, all));
        }
        let snapshot = &forest.snapshots[first];
        let branched = |above: &usize| {
            items[*above].members.iter().any(|member| forest.snapshots[*member].id == snapshot.source)
        };
        let edge = |above| (above, if branched(&above) { Edge::Source } else { Edge::Parent });
        items.push(Item { above: above.map(edge), members, told, hidden, level, more, parent: None });
    }
    for item in &mut items {
        item.parent =
            forest.parent_elsewhere(item.members[0]).and_then(|parent| line_of.get(&parent).copied());
    }
    items
}

/// Siblings as they are drawn, the last one first.
fn places(
    forest: &Forest<'_>,
    shapes: &Shapes,
    siblings: &[usize],
    above: Option<usize>,
    level: usize,
    all: bool,
) -> Vec<Place> {
    let mut groups: Vec<Vec<usize>> = siblings.iter().map(|at| vec![*at]).collect();
    if !all {
        groups = gather(groups, MANY, |at| Some(shapes.shape[at]));
        groups = gather(groups, CROWD, |at| {
            let Traits { word, pinned, elsewhere, .. } = &shapes.traits[at];
            forest.children[at].is_empty().then_some((*word, *pinned, *elsewhere))
        });
    }
    let last = groups.len().saturating_sub(1);
    let place = |(at, members)| Place { members, level, more: at != last, above };
    groups.into_iter().enumerate().map(place).rev().collect()
}

/// Puts groups of one that have a key in common into one, at the place of the first, where they are more than `many`.
fn gather<K: Eq + std::hash::Hash>(
    groups: Vec<Vec<usize>>,
    many: usize,
    key: impl Fn(usize) -> Option<K>,
) -> Vec<Vec<usize>> {
    if groups.len() <= many {
        return groups;
    }
    let key = |group: &Vec<usize>| if let [one] = group.as_slice() { key(*one) } else { None };
    let mut alike: HashMap<K, Vec<usize>> = HashMap::new();
    for (group, key) in groups.iter().filter_map(|group| Some((group, key(group)?))) {
        alike.entry(key).or_default().extend(group);
    }
    let gathered =
        groups.into_iter().filter_map(|group| match key(&group).and_then(|key| alike.get_mut(&key)) {
            Some(alike) if alike.len() > many => (alike.first() == group.first()).then(|| alike.clone()),
            _ => Some(group),
        });
    gathered.collect()
}

/// Goes on from a snapshot to whoever is one line with it.
fn run(forest: &Forest<'_>, shapes: &Shapes, members: &mut Vec<usize>) -> Told {
    let only_child = |at: usize| match forest.children[at].as_slice() {
        [child] => Some(*child),
        _ => None,
    };
    let first = members[0];
    let mut next = first;
    // A layer that someone named or pinned, or that is an image itself, is worth a line of its own.
    let folds = |at: usize| {
        let snapshot = &forest.snapshots[at];
        shapes.traits[at].word == Word::Layer && !snapshot.pinned && snapshot.name.is_empty()
    };
    while let (true, Some(child)) = (folds(next), only_child(next)) {
        if !matches!(shapes.traits[child].word, Word::Layer | Word::Image) {
            break;
        }
        members.push(child);
        next = child;
    }
    if members.len() > 1 {
        return Told::Whole;
    }
    let mut generations = vec![first];
    while let Some(child) = only_child(next).filter(|child| shapes.traits[*child] == shapes.traits[first]) {
        generations.push(child);
        next = child;
    }
    if generations.len() > MANY {
        *members = generations;
        return Told::Generations;
    }
    Told::Whole
}
