//! The forest of what was branched from what.
//!
//! A snapshot hangs below its source, else below its parent, else it is a root. Siblings and roots go
//! oldest first. Nothing here recurses: a chain of forks may be as long as memory.
//!
//! ```text
//! sha256:1f2e3d4c5b6a  image, 5 layers  2 days ago
//! ├─ web  active  3 hours ago
//! │  ├─ try-1  active  2 minutes ago
//! │  └─ try-2  active, pinned  2 minutes ago
//! └─ db  active  1 hour ago
//! ```

use std::collections::HashMap;

use super::json::kind;
use super::show::{Look, is_gone, title};
use super::units::{age, clean, cut, time, width};
use crate::protos::admin::Snapshot;

/// The levels of a drawing that goes to no terminal: a deeper one begins with `…`. It keeps the size
/// of a long chain's drawing in proportion to its length.
const LEVELS: usize = 64;
/// The columns of one level.
const LEVEL: usize = 3;
/// A title is not cut below this.
const LEAST: usize = 10;

/// Snapshots, and who hangs below whom.
#[derive(Debug)]
pub(super) struct Forest<'a> {
    snapshots: &'a [Snapshot],
    /// Indices into `snapshots`, oldest first.
    roots: Vec<usize>,
    /// The same, for each snapshot.
    children: Vec<Vec<usize>>,
}

impl<'a> Forest<'a> {
    /// Finds everyone's place. A source or parent that is not among `snapshots` counts as none.
    pub(super) fn new(snapshots: &'a [Snapshot]) -> Self {
        let index: HashMap<&str, usize> =
            snapshots.iter().enumerate().map(|(at, snapshot)| (snapshot.id.as_str(), at)).collect();
        let above = |at: usize| {
            let snapshot = &snapshots[at];
            let known = |id: &&String| !id.is_empty() && **id != snapshot.id;
            let mut ids = [&snapshot.source, &snapshot.parent].into_iter().filter(known);
            ids.find_map(|id| index.get(id.as_str()).copied())
        };
        let mut oldest_first: Vec<usize> = (0..snapshots.len()).collect();
        // Stable, so snapshots of one moment keep loomd's order.
        oldest_first.sort_by_key(|at| time(&snapshots[*at].created));
        let mut forest = Self { snapshots, roots: Vec::new(), children: vec![Vec::new(); snapshots.len()] };
        for at in &oldest_first {
            match above(*at) {
                Some(above) => forest.children[above].push(*at),
                None => forest.roots.push(*at),
            }
        }
        forest.break_circles(&oldest_first);
        forest
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

    /// Everyone, in the order of the drawing.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &'a Snapshot> {
        let mut todo: Vec<usize> = self.roots.iter().rev().copied().collect();
        std::iter::from_fn(move || {
            let at = todo.pop()?;
            todo.extend(self.children[at].iter().rev());
            Some(&self.snapshots[at])
        })
    }

    /// A line each; a run of image layers is one line unless `all`.
    pub(super) fn draw(&self, look: &Look, all: bool) -> String {
        let mut text = String::new();
        // For each level above the line that is drawn: does a branch go on there?
        let mut open: Vec<bool> = Vec::new();
        let mut todo: Vec<(usize, usize, bool)> =
            self.roots.iter().rev().map(|root| (*root, 0, false)).collect();
        while let Some((at, level, more)) = todo.pop() {
            let (at, layers) = if all { (at, 1) } else { self.top_of_image(at) };
            open.truncate(level.saturating_sub(1));
            if level > 0 {
                open.push(more);
            }
            self.line(look, &indent(look, &open), at, layers, &mut text);
            let children = &self.children[at];
            let last = children.last();
            todo.extend(children.iter().rev().map(|child| (*child, level + 1, Some(child) != last)));
        }
        text
    }

    /// The top of a run of image layers that nothing branches from on the way, and their number.
    fn top_of_image(&self, bottom: usize) -> (usize, usize) {
        let (mut top, mut layers) = (bottom, 1);
        while let ([above], true) = (self.children[top].as_slice(), self.folds(top)) {
            if !self.snapshots[*above].image_layer {
                break;
            }
            (top, layers) = (*above, layers + 1);
        }
        (top, layers)
    }

    /// A layer that someone named or pinned is worth a line of its own.
    fn folds(&self, at: usize) -> bool {
        let snapshot = &self.snapshots[at];
        snapshot.image_layer && !snapshot.pinned && snapshot.name.is_empty()
    }

    fn line(&self, look: &Look, indent: &str, at: usize, layers: usize, text: &mut String) {
        let snapshot = &self.snapshots[at];
        let name = clean(&title(snapshot, &look.namespace));
        let mut marks = match (is_gone(snapshot), snapshot.image_layer, layers) {
            (true, _, _) => "gone".to_owned(),
            (_, true, 1) => "image, 1 layer".to_owned(),
            (_, true, layers) => format!("image, {layers} layers"),
            _ => kind(snapshot).to_owned(),
        };
        if snapshot.pinned {
            marks.push_str(", pinned");
        }
        let age = age(time(&snapshot.created), look.now);
        let rest = 2 + width(&marks) + 2 + width(&age);
        let name = match look.width {
            Some(room) => cut(&name, room.saturating_sub(width(indent) + rest).max(LEAST)),
            None => name,
        };
        let line = [&look.faint(indent), &look.bold(&name), "  ", &marks, "  ", &look.faint(&age), "\n"];
        text.extend(line);
    }
}

/// The lines that lead to a snapshot: the nearest levels where not all of them fit.
fn indent(look: &Look, open: &[bool]) -> String {
    let Some((last, above)) = open.split_last() else { return String::new() };
    // Half of a terminal is the name's and what follows it.
    let levels = look.width.map_or(LEVELS, |columns| (columns / 2 / LEVEL).max(2));
    let hidden = open.len().saturating_sub(levels);
    let mut indent = String::new();
    if hidden > 0 {
        indent.push('…');
    }
    for open in &above[hidden..] {
        indent.push_str(if *open { "│  " } else { "   " });
    }
    indent.push_str(if *last { "├─ " } else { "└─ " });
    indent
}

#[cfg(test)]
mod tests {
    use protobuf::MessageField;
    use protobuf::well_known_types::timestamp::Timestamp;

    use super::*;
    use crate::protos::admin::Kind;

    /// A container's active snapshot; `created` counts backwards from the present.
    fn node(id: &str, source: &str, parent: &str, seconds_ago: i64) -> Snapshot {
        Snapshot {
            id: id.into(),
            container: format!("c-{id}"),
            namespace: "default".into(),
            key: format!("default/1/{id}"),
            home: "pool".into(),
            kind: Kind::KIND_ACTIVE.into(),
            source: source.into(),
            parent: parent.into(),
            created: MessageField::some(Timestamp { seconds: -seconds_ago, ..Timestamp::default() }),
            ..Snapshot::default()
        }
    }

    fn layer(id: &str, parent: &str) -> Snapshot {
        Snapshot {
            container: String::new(),
            key: format!("default/2/sha256:{id}{id}0123456789abcdef"),
            kind: Kind::KIND_COMMITTED.into(),
            image_layer: true,
            ..node(id, "", parent, 86_400)
        }
    }

    fn draw(snapshots: &[Snapshot]) -> String {
        Forest::new(snapshots).draw(&Look::plain(), false)
    }

    #[test]
    fn forks_of_forks_on_an_image() {
        let mut gone = node("g", "", "l3", 1_000);
        (gone.key, gone.home) = (String::new(), String::new());
        let mut pinned = node("b", "a", "l3", 120);
        pinned.pinned = true;
        let mut kept = node("k", "a", "l3", 60);
        (kept.name, kept.kind) = ("before".into(), Kind::KIND_COMMITTED.into());
        let mut elsewhere = node("d", "k", "", 5);
        elsewhere.namespace = "k8s.io".into();
        let all = [
            elsewhere,
            layer("l1", ""),
            layer("l2", "l1"),
            layer("l3", "l2"),
            node("a", "", "l3", 7_200),
            gone,
            node("h", "g", "l3", 30),
            pinned,
            node("c", "b", "l3", 10),
            kept,
            layer("other", ""),
        ];
        assert_eq!(
            draw(&all),
            "\
sha256:l3l301234567  image, 3 layers  1 day ago
├─ c-a  active  2 hours ago
│  ├─ c-b  active, pinned  2 minutes ago
│  │  └─ c-c  active  10 seconds ago
│  └─ before  committed  1 minute ago
│     └─ k8s.io/c-d  active  5 seconds ago
└─ c-g  gone  16 minutes ago
   └─ c-h  active  30 seconds ago
sha256:otherother01  image, 1 layer  1 day ago
"
        );
    }

    #[test]
    fn images_that_share_a_base_part_where_they_do() {
        let all = [layer("1", ""), layer("2", "1"), layer("3", "2"), layer("4", "2"), layer("5", "4")];
        assert_eq!(
            draw(&all),
            "\
sha256:220123456789  image, 2 layers  1 day ago
├─ sha256:330123456789  image, 1 layer  1 day ago
└─ sha256:550123456789  image, 2 layers  1 day ago
"
        );
        assert_eq!(Forest::new(&all).draw(&Look::plain(), true).lines().count(), 5);
    }

    #[test]
    fn a_source_that_is_not_there_leaves_the_parent_or_a_root() {
        let all = [node("p", "", "", 9), node("a", "lost", "p", 8), node("b", "lost", "lost", 7)];
        assert_eq!(
            draw(&all),
            "\
c-p  active  9 seconds ago
└─ c-a  active  8 seconds ago
c-b  active  7 seconds ago
"
        );
        assert_eq!(draw(&[]), "");
    }

    #[test]
    fn a_circle_is_drawn_once_from_its_oldest() {
        let all =
            [node("a", "c", "", 9), node("b", "a", "", 8), node("c", "b", "", 7), node("s", "s", "", 6)];
        assert_eq!(
            draw(&all),
            "\
c-s  active  6 seconds ago
c-a  active  9 seconds ago
└─ c-b  active  8 seconds ago
   └─ c-c  active  7 seconds ago
"
        );
        assert_eq!(Forest::new(&all).in_order().count(), 4);
    }

    #[test]
    fn a_long_chain_and_a_wide_family_end() {
        let chain: Vec<_> = (0_u32..20_000)
            .map(|at| node(&at.to_string(), &at.wrapping_sub(1).to_string(), "", 20_000 - i64::from(at)))
            .collect();
        let text = draw(&chain);
        assert_eq!(text.lines().count(), chain.len());
        assert!(text.lines().last().is_some_and(|line| line.starts_with('…') && width(line) < 300));
        assert_eq!(Forest::new(&chain).in_order().last().map(|last| last.id.as_str()), Some("19999"));

        let family: Vec<_> = (0..2_000)
            .map(|at| node(&at.to_string(), if at == 0 { "" } else { "0" }, "", 2_000 - at))
            .collect();
        let text = draw(&family);
        assert_eq!(text.lines().count(), 2_000);
        assert_eq!(text.matches("├─ ").count(), 1_998);
        assert!(text.lines().last().is_some_and(|line| line.starts_with("└─ c-1999")));
    }

    #[test]
    fn lines_fit_the_terminal() {
        let mut all: Vec<_> =
            (1..40).map(|at| node(&at.to_string(), &(at - 1).to_string(), "", 40 - at)).collect();
        all[0].container = "a-very-long-name-漢字漢字漢字漢字-that-nobody-types-a-very-long-name".into();
        let look = Look { width: Some(60), ..Look::plain() };
        let text = Forest::new(&all).draw(&look, false);
        for line in text.lines() {
            assert!(width(line) <= 60, "{line}");
        }
        assert!(text.starts_with("a-very-long-name-"), "{text}");
        assert!(text.contains('…'));
    }
}
