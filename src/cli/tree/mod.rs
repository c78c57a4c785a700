//! The forest of what was branched from what, and its drawings.
//!
//! A snapshot hangs below its source, else below its parent, else it is a root. Siblings and roots go oldest
//! first. A parent that is not on the way up from there is told beside it (`on debian:12`). Nothing here
//! recurses: a chain of forks may be as long as memory.
//!
//! ```text
//! snapshots ── Forest ── fold::Item ── line::Line ──┬─ text    for a terminal of any width
//!  (loomd)    (places)  (what is one  (what is told ├─ graph   Graphviz's DOT, Mermaid
//!                        line)         of it)       └─ svg     a picture that needs nothing else
//! ```
//!
//! Names are other people's: each of the drawings writes out what its reader would obey.

mod fold;
mod graph;
mod line;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;

pub(super) use self::line::Line;
use super::args::Drawing;
use super::show::Look;
use super::units::time;
use crate::protos::admin::Snapshot;

/// Snapshots, and who hangs below whom.
#[derive(Debug)]
pub(super) struct Forest<'a> {
    snapshots: &'a [Snapshot],
    by_id: HashMap<&'a str, usize>,
    /// Indices into `snapshots`, oldest first.
    roots: Vec<usize>,
    /// The same, for each snapshot.
    children: Vec<Vec<usize>>,
    /// The place of each in the order of the drawing, and how many hang below it, itself too.
    places: Vec<(usize, usize)>,
}

/// Why a snapshot hangs where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Edge {
    /// It was branched from what it hangs on.
    Source,
    /// It only stands on it.
    Parent,
}

impl<'a> Forest<'a> {
    /// Finds everyone's place. A source or parent that is not among `snapshots` counts as none.
    pub(super) fn new(snapshots: &'a [Snapshot]) -> Self {
        let by_id: HashMap<&str, usize> =
            snapshots.iter().enumerate().map(|(at, snapshot)| (snapshot.id.as_str(), at)).collect();
        let above = |at: usize| {
            let snapshot = &snapshots[at];
            let known = |id: &&String| !id.is_empty() && **id != snapshot.id;
            let mut ids = [&snapshot.source, &snapshot.parent].into_iter().filter(known);
            ids.find_map(|id| by_id.get(id.as_str()).copied())
        };
        let mut oldest_first: Vec<usize> = (0..snapshots.len()).collect();
        // Stable, so snapshots of one moment keep loomd's order.
        oldest_first.sort_by_key(|at| time(&snapshots[*at].created));
        let (mut roots, mut children) = (Vec::new(), vec![Vec::new(); snapshots.len()]);
        for at in &oldest_first {
            match above(*at) {
                Some(above) => children[above].push(*at),
                None => roots.push(*at),
            }
        }
        let mut forest = Self { snapshots, by_id, roots, children, places: Vec::new() };
        forest.break_circles(&oldest_first);
        forest.number();
        forest
    }

    /// Only what hangs below a snapshot, and that itself; nothing where it is not there.
    pub(super) fn below(mut self, id: &str) -> Self {
        self.roots = self.by_id.get(id).copied().into_iter().collect();
        self
    }

    /// Makes a root of the oldest in every circle. loomd makes none, but a drawing must end.
    fn break_circles(&mut self, oldest_first: &[usize]) {
        let mut seen = vec![false; self.snapshots.len()];
        for at in self.roots.clone() {
            self.mark(at, &mut seen);
        }
        for at in oldest_first {
            if !seen[*at] {
                // Whatever is not below a root is in a circle, or below one.
                for children in &mut self.children {
                    children.retain(|child| child != at);
                }
                self.roots.push(*at);
                self.mark(*at, &mut seen);
            }
        }
    }

    fn mark(&self, root: usize, seen: &mut [bool]) {
        let mut todo = vec![root];
        while let Some(at) = todo.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                todo.extend(&self.children[at]);
            }
        }
    }

    fn number(&mut self) {
        let order: Vec<usize> = self.order().collect();
        self.places = vec![(0, 1); self.snapshots.len()];
        for (place, at) in order.iter().enumerate() {
            self.places[*at].0 = place;
        }
        for at in order.iter().rev() {
            self.places[*at].1 += self.children[*at].iter().map(|child| self.places[*child].1).sum::<usize>();
        }
    }

    fn order(&self) -> impl Iterator<Item = usize> {
        let mut todo: Vec<usize> = self.roots.iter().rev().copied().collect();
        std::iter::from_fn(move || {
            let at = todo.pop()?;
            todo.extend(self.children[at].iter().rev());
            Some(at)
        })
    }

    /// Everyone, in the order of the drawing.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &'a Snapshot> {
        self.order().map(|at| &self.snapshots[at])
    }

    /// A snapshot's parent, where that is neither what it hangs on nor on the way from there to the root.
    fn parent_elsewhere(&self, at: usize) -> Option<usize> {
        let id = Some(self.snapshots[at].parent.as_str()).filter(|id| !id.is_empty())?;
        let parent = *self.by_id.get(id)?;
        let (first, count) = self.places[parent];
        let above = (first..first + count).contains(&self.places[at].0);
        (!above).then_some(parent)
    }

    /// The drawing, in any format but JSON. What is alike is one line unless `all`.
    pub(super) fn draw(&self, look: &Look, format: Drawing, all: bool) -> String {
        let items = fold::items(self, look, all);
        let lines: Vec<Line> = items.iter().map(|item| Line::of_item(self, item, look)).collect();
        match format {
            Drawing::Text | Drawing::Json => text::draw(look, &items, &lines),
            Drawing::Dot => graph::dot(&items, &lines),
            Drawing::Mermaid => graph::mermaid(&items, &lines),
            Drawing::Svg => svg::draw(&items, &lines),
        }
    }
}
