//! What is told of a snapshot, or of several that are one line.

use super::Forest;
use super::fold::{Item, Told};
use crate::cli::json::kind;
use crate::cli::show::{Look, is_gone, title};
use crate::cli::units::{age, bytes, clean, time, until};
use crate::protos::admin::Snapshot;

/// What a snapshot is to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Word {
    /// What a container writes to.
    Container,
    /// A state that is kept.
    Snapshot,
    /// The top of an image.
    Image,
    /// What lies below one.
    Layer,
    /// What containerd looks at.
    View,
    /// What containerd is making a layer of.
    Unpacking,
    /// What only lineage remembers.
    Gone,
}

/// What a snapshot is.
pub(super) fn word(snapshot: &Snapshot) -> Word {
    if is_gone(snapshot) {
        return Word::Gone;
    }
    match (snapshot.image_layer, kind(snapshot)) {
        (true, "committed") if snapshot.images.is_empty() => Word::Layer,
        (true, "committed") => Word::Image,
        (true, _) => Word::Unpacking,
        (false, "active") => Word::Container,
        (false, "view") => Word::View,
        (false, _) => Word::Snapshot,
    }
}

impl Word {
    /// So many of them, in words.
    fn counted(self, count: usize) -> String {
        match (self, count) {
            (_, 1) => self.name().to_owned(),
            (Self::Gone | Self::Unpacking, _) => format!("{} {}", thousands(count), self.name()),
            _ => format!("{} {}s", thousands(count), self.name()),
        }
    }

    /// One of them; also its class in a drawing.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Snapshot => "snapshot",
            Self::Image => "image",
            Self::Layer => "layer",
            Self::View => "view",
            Self::Unpacking => "unpacking",
            Self::Gone => "gone",
        }
    }
}

/// `2,000`.
fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What names like this one begin with: it without a number, or a random end, that tells it from others.
pub(super) fn stem(name: &str) -> &str {
    let hex = name.trim_end_matches(|c: char| c.is_ascii_digit() || ('a'..='f').contains(&c));
    if hex.is_empty() || hex.ends_with(['-', '_', ':', '.', '/']) {
        return hex;
    }
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// What is told of a line of a drawing. Nothing in it drives a terminal.
#[derive(Debug)]
pub(in crate::cli) struct Line {
    pub(super) word: Word,
    /// One snapshot's id; empty for several.
    pub(super) id: String,
    pub(super) pinned: bool,
    /// What it is called.
    pub(in crate::cli) name: String,
    /// What it is, and how many.
    pub(in crate::cli) kind: String,
    /// What would come free with it, in bytes.
    pub(in crate::cli) own: Option<u64>,
    /// What it has beside that.
    pub(in crate::cli) shared: Option<u64>,
    /// How long ago it was made.
    pub(in crate::cli) created: String,
    /// What else is worth knowing.
    pub(in crate::cli) notes: String,
}

impl Line {
    /// Of one snapshot.
    pub(in crate::cli) fn of(snapshot: &Snapshot, look: &Look) -> Self {
        let word = word(snapshot);
        let notes =
            Notes { pinned: snapshot.pinned, elsewhere: elsewhere_of(snapshot, look), ..Notes::default() };
        Self {
            word,
            id: clean(&snapshot.id),
            pinned: snapshot.pinned,
            name: clean(&name(snapshot, look)),
            kind: word.counted(1),
            own: snapshot.size.as_ref().map(|size| size.exclusive),
            shared: snapshot.size.as_ref().map(|size| size.shared),
            created: age(time(&snapshot.created), look.now),
            notes: notes.text(&[snapshot], look),
        }
    }

    /// Of a line of a drawing.
    pub(super) fn of_item(forest: &Forest<'_>, item: &Item, look: &Look) -> Self {
        let members: Vec<&Snapshot> = item.members.iter().map(|at| &forest.snapshots[*at]).collect();
        // Of an image, it is its top that says all.
        let shown = if item.told == Told::Whole { members[members.len() - 1] } else { members[0] };
        let elsewhere = forest.parent_elsewhere(item.members[0]);
        let mut notes = Notes {
            pinned: shown.pinned,
            on: elsewhere.map(|parent| name(&forest.snapshots[parent], look)),
            ..Notes::default()
        };
        let mut line = Self::of(shown, look);
        match item.told {
            Told::Whole => {
                let layers = members.len();
                notes.layers = if matches!(line.word, Word::Image | Word::Layer) { layers } else { 0 };
                notes.elsewhere = elsewhere_of(shown, look);
                line.notes = notes.text(&[shown], look);
                return line;
            }
            Told::Alike => notes.hidden = item.hidden,
            Told::Generations => notes.generations = true,
        }
        // The name with the lowest number, and that with the highest.
        let mut names: Vec<String> = members.iter().map(|member| clean(&name(member, look))).collect();
        names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        if let [first, .., last] = names.as_slice() {
            line.name = format!("{first} … {last}");
        }
        line.id = String::new();
        line.kind = line.word.counted(members.len());
        line.own = own(forest, item);
        line.shared = None;
        line.notes = notes.text(&members, look);
        line
    }

    /// Its sizes in words; empty where none is known.
    pub(super) fn sizes(&self) -> String {
        match (self.own, self.shared) {
            (Some(own), Some(shared)) => format!("{} own, {} shared", bytes(own), bytes(shared)),
            (Some(own), None) => format!("{} own", bytes(own)),
            (None, _) => String::new(),
        }
    }
}

/// What a snapshot is called: an image by all its names, as far as they are few.
fn name(snapshot: &Snapshot, look: &Look) -> String {
    match snapshot.images.as_slice() {
        [_, _, ..] if snapshot.name.is_empty() && snapshot.image_layer => {
            let (few, rest) = snapshot.images.split_at(2);
            let rest = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            few.join(", ") + &rest
        }
        _ => title(snapshot, &look.namespace),
    }
}

/// The namespace of an image's name, where that is not the one that names are told from.
fn elsewhere_of(snapshot: &Snapshot, look: &Look) -> Option<String> {
    let namespace = snapshot.key.split('/').next()?;
    (!snapshot.images.is_empty() && namespace != look.namespace).then(|| namespace.to_owned())
}

/// What would come free with all of a line's snapshots, and all that hangs below them and is not drawn; none where
/// that is not known of one of them.
fn own(forest: &Forest<'_>, item: &Item) -> Option<u64> {
    let mut todo = item.members.clone();
    let mut sum = 0_u64;
    while let Some(at) = todo.pop() {
        let snapshot = &forest.snapshots[at];
        if item.told == Told::Alike {
            todo.extend(&forest.children[at]);
        }
        match snapshot.size.as_ref() {
            Some(size) => sum = sum.saturating_add(size.exclusive),
            None if is_gone(snapshot) => {}
            None => return None,
        }
    }
    Some(sum)
}

/// What is worth a word.
#[derive(Debug, Default)]
struct Notes {
    pinned: bool,
    layers: usize,
    hidden: usize,
    generations: bool,
    on: Option<String>,
    elsewhere: Option<String>,
}

impl Notes {
    fn text(self, members: &[&Snapshot], look: &Look) -> String {
        let mut notes = Vec::new();
        if self.pinned {
            notes.push("pinned".to_owned());
        }
        match self.layers {
            0 | 1 => {}
            layers => notes.push(format!("{layers} layers")),
        }
        if self.generations {
            notes.push("each from the one before".to_owned());
        }
        if self.hidden > 0 {
            notes.push(format!("each with {} more", thousands(self.hidden)));
        }
        if let Some(on) = self.on {
            notes.push(format!("on {}", clean(&on)));
        }
        if let Some(namespace) = self.elsewhere {
            notes.push(format!("in {}", clean(&namespace)));
        }
        let soonest = members.iter().filter_map(|member| time(&member.expires)).min();
        if let Some(soonest) = soonest.filter(|_| !self.pinned) {
            let first = if members.len() > 1 { "the first expires" } else { "expires" };
            notes.push(format!("{first} {}", until(Some(soonest), look.now)));
        }
        notes.join(", ")
    }
}
