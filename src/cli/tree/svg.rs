//! The tree as a picture: SVG that needs no script, no font and no other file, for a light and a dark page.
//!
//! A row is a line of the text, in the same columns, so that two thousand are as readable as two. The bar shows how
//! much of what a snapshot has is its own. What a row is about is its tooltip.

use std::fmt::Write as _;

use super::Edge;
use super::fold::Item;
use super::line::{Line, Word};
use crate::cli::units::{bytes, cut, head, width};

/// Around everything.
const PAD: usize = 24;
/// One level further in.
const STEP: usize = 22;
/// Deeper ones stay where this one is.
const LEVELS: usize = 24;
/// From a mark to its name.
const BESIDE: usize = 14;
/// Between two columns.
const GAP: usize = 26;
/// The bar of a size.
const BAR: usize = 56;
/// A name's columns.
const NAME: usize = 64;
/// What else is said, in columns.
const NOTES: usize = 56;
/// The heads of the columns.
const HEAD: usize = 34;
/// What the marks mean.
const FOOT: usize = 44;
/// More rows than these stand closer.
const ROOMY: usize = 100;

const STYLE: &str = "\
text{font:13px ui-sans-serif,system-ui,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2328}
.n{font-weight:600}.s{fill:#59636e;font-size:12px}.h{fill:#59636e;font-size:11px;letter-spacing:.04em}
.e{text-anchor:end}.card{fill:#fff;stroke:#d1d9e0}.rule{stroke:#d1d9e0}.zebra{fill:#f6f8fa}
.edge{fill:none;stroke:#b7bfc8;stroke-width:1.5}.source{stroke:#0969da}.mark{stroke-width:1.5}
.container{fill:#1f883d;stroke:#1f883d}.snapshot{fill:#0969da;stroke:#0969da}.image{fill:#8250df;stroke:#8250df}
.layer,.view,.unpacking{fill:#818b98;stroke:#818b98}.gone{fill:#fff;stroke:#818b98;stroke-dasharray:2 2}
.pin{fill:none;stroke:#bf8700;stroke-width:1.5}.bar{fill:#d1d9e0}.own{fill:#1f883d}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.s,.h{fill:#9198a1}.card{fill:#0d1117;stroke:#3d444d}
.rule{stroke:#3d444d}.zebra{fill:#151b23}.edge{stroke:#656c76}.source{stroke:#4493f8}
.container{fill:#3fb950;stroke:#3fb950}.snapshot{fill:#4493f8;stroke:#4493f8}.image{fill:#ab7df8;stroke:#ab7df8}
.layer,.view,.unpacking{fill:#9198a1;stroke:#9198a1}.gone{fill:#0d1117;stroke:#9198a1}
.pin{stroke:#d29922}.bar{fill:#3d444d}.own{fill:#3fb950}}
";

/// Where things are.
struct Places {
    row: usize,
    kind: usize,
    /// Right ends.
    own: usize,
    bar: usize,
    shared: usize,
    created: usize,
    notes: usize,
    width: usize,
    height: usize,
}

impl Places {
    fn of(items: &[Item], lines: &[Line]) -> Self {
        let row = if lines.len() > ROOMY { 22 } else { 30 };
        let widest = |text: fn(&Line) -> String, head: &str| {
            let cells = lines.iter().map(|line| width(&text(line))).max().unwrap_or(0);
            // A column takes this at most in any of the fonts.
            cells.max(width(head)) * 15 / 2
        };
        let names = items
            .iter()
            .zip(lines)
            .map(|(item, line)| indent(item) + BESIDE + width(&cut(&line.name, NAME)) * 17 / 2);
        let kind = names.max().unwrap_or(0).max(PAD + 60) + GAP;
        let own =
            kind + widest(|line| line.kind.clone(), "KIND") + GAP + widest(|line| size(line.own), "OWN");
        let bar = own + 12;
        let shared = bar + BAR + 12 + widest(|line| size(line.shared), "SHARED");
        let created = shared + GAP;
        let notes = created + widest(|line| line.created.clone(), "CREATED") + GAP;
        let said = widest(|line| head(&line.notes, NOTES), "");
        let width = (if said > 0 { notes + said } else { notes - GAP } + PAD).max(560);
        Self {
            row,
            kind,
            own,
            bar,
            shared,
            created,
            notes,
            width,
            height: HEAD + PAD + lines.len() * row + FOOT,
        }
    }

    /// The middle of a row.
    fn y(&self, at: usize) -> usize {
        PAD / 2 + HEAD + at * self.row + self.row / 2
    }
}

/// The middle of a line's mark.
fn indent(item: &Item) -> usize {
    PAD + 8 + item.level.min(LEVELS) * STEP
}

fn size(size: Option<u64>) -> String {
    size.map_or_else(|| "–".to_owned(), bytes)
}

/// The whole picture.
pub(super) fn draw(items: &[Item], lines: &[Line]) -> String {
    let places = Places::of(items, lines);
    let Places { width, height, .. } = places;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>loom tree</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"card\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"10\"/>\n",
        width - 1,
        height - 1
    );
    let head = PAD / 2 + HEAD / 2 + 2;
    for (x, class, text) in [
        (PAD, "h", "NAME"),
        (places.kind, "h", "KIND"),
        (places.own, "h e", "OWN"),
        (places.shared, "h e", "SHARED"),
        (places.created, "h", "CREATED"),
    ] {
        svg.push_str(&text_at(x, head, class, text));
    }
    for at in (1..lines.len()).step_by(2) {
        let _ = writeln!(
            svg,
            "<rect class=\"zebra\" x=\"8\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\"/>",
            places.y(at) - places.row / 2,
            width - 16,
            places.row
        );
    }
    edges(&mut svg, &places, items);
    for (at, (item, line)) in items.iter().zip(lines).enumerate() {
        row(&mut svg, &places, at, item, line);
    }
    legend(&mut svg, &places, items, lines);
    svg.push_str("</svg>\n");
    svg
}

/// From each line to those that hang below it.
fn edges(svg: &mut String, places: &Places, items: &[Item]) {
    // Those to what was branched lie on top of the others where they run together.
    for wanted in [Edge::Parent, Edge::Source] {
        // How far down each line's trunk is drawn.
        let mut drawn: Vec<usize> = (0..items.len()).map(|at| places.y(at)).collect();
        let class = if wanted == Edge::Source { "edge source" } else { "edge" };
        for (at, item) in items.iter().enumerate() {
            let Some((above, _)) = item.above.filter(|(_, edge)| *edge == wanted) else { continue };
            let (x, y, to) = (indent(&items[above]), places.y(at), indent(item));
            let from = std::mem::replace(&mut drawn[above], y - 8);
            let turn = if to > x {
                format!("V{}Q{x} {y} {} {y}H{}", y - 8, x + 8, to - 6)
            } else {
                format!("V{}", y - 6)
            };
            let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x} {from}{turn}\"/>");
        }
    }
}

fn row(svg: &mut String, places: &Places, at: usize, item: &Item, line: &Line) {
    let (x, y) = (indent(item), places.y(at));
    let base = y + 5;
    let about = [line.name.as_str(), &line.kind, &line.sizes(), &line.created, &line.notes, &line.id];
    let about: Vec<&str> = about.into_iter().filter(|text| !text.is_empty()).collect();
    let _ = writeln!(svg, "<g><title>{}</title>", xml(&about.join("\n")));
    if item.members.len() > 1 && line.id.is_empty() {
        // A heap of them.
        mark(svg, line.word, x + 3, y - 3);
    }
    mark(svg, line.word, x, y);
    if line.pinned {
        let _ = write!(svg, "<circle class=\"pin\" cx=\"{x}\" cy=\"{y}\" r=\"9\"/>");
    }
    svg.push_str(&text_at(x + BESIDE, base, "n", &cut(&line.name, NAME)));
    svg.push_str(&text_at(places.kind, base, "s", &line.kind));
    svg.push_str(&text_at(places.own, base, "e", &size(line.own)));
    if let (Some(own), Some(shared)) = (line.own, line.shared)
        && let Some(all) = own.checked_add(shared).filter(|all| *all > 0)
    {
        let full = BAR as u64;
        // Something is never shown as nothing.
        let part = u64::try_from(u128::from(full) * u128::from(own) / u128::from(all)).unwrap_or(full);
        let part = if own > 0 { part.max(2) } else { 0 };
        let bar = |class: &str, width: u64| {
            format!(
                "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{width}\" height=\"6\" rx=\"3\"/>",
                places.bar,
                y - 3
            )
        };
        svg.push_str(&bar("bar", full));
        if part > 0 {
            svg.push_str(&bar("own", part));
        }
    }
    svg.push_str(&text_at(places.shared, base, "s e", &size(line.shared)));
    svg.push_str(&text_at(places.created, base, "s", &line.created));
    if !line.notes.is_empty() {
        svg.push_str(&text_at(places.notes, base, "s", &head(&line.notes, NOTES)));
    }
    svg.push_str("</g>\n");
}

/// What tells kinds apart, for those too who see no colors.
fn mark(svg: &mut String, word: Word, x: usize, y: usize) {
    let class = word.name();
    let _ = match word {
        Word::Container | Word::View | Word::Gone => {
            write!(svg, "<circle class=\"mark {class}\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/>")
        }
        Word::Snapshot => write!(
            svg,
            "<path class=\"mark {class}\" stroke-linejoin=\"round\" d=\"M{x} {}l6 6l-6 6l-6 -6z\"/>",
            y - 6
        ),
        Word::Image | Word::Layer | Word::Unpacking => write!(
            svg,
            "<rect class=\"mark {class}\" x=\"{}\" y=\"{}\" width=\"10\" height=\"10\" rx=\"2\"/>",
            x - 5,
            y - 5
        ),
    };
}

/// What the marks and lines mean that are there.
fn legend(svg: &mut String, places: &Places, items: &[Item], lines: &[Line]) {
    let y = places.height - FOOT / 2 + 2;
    let _ = writeln!(
        svg,
        "<path class=\"rule\" d=\"M{PAD} {}H{}\"/>",
        places.height - FOOT + 6,
        places.width - PAD
    );
    let mut x = PAD + 8;
    for word in
        [Word::Container, Word::Snapshot, Word::Image, Word::Layer, Word::View, Word::Unpacking, Word::Gone]
    {
        if lines.iter().any(|line| line.word == word) {
            mark(svg, word, x, y);
            svg.push_str(&text_at(x + BESIDE, y + 4, "s", word.name()));
            x += BESIDE + width(word.name()) * 15 / 2 + GAP;
        }
    }
    if lines.iter().any(|line| line.pinned) {
        let _ = write!(svg, "<circle class=\"pin\" cx=\"{x}\" cy=\"{y}\" r=\"8\"/>");
        svg.push_str(&text_at(x + BESIDE, y + 4, "s", "pinned"));
        x += BESIDE + 45 + GAP;
    }
    for (edge, class, text) in
        [(Edge::Source, "edge source", "branched from"), (Edge::Parent, "edge", "stands on")]
    {
        if items.iter().any(|item| item.above.is_some_and(|(_, found)| found == edge)) {
            let _ = write!(svg, "<path class=\"{class}\" d=\"M{} {y}h20\"/>", x - 6);
            svg.push_str(&text_at(x + 20, y + 4, "s", text));
            x += 20 + width(text) * 15 / 2 + GAP;
        }
    }
}

fn text_at(x: usize, y: usize, class: &str, text: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>", xml(text))
}

/// Text in XML, without what XML cannot have.
fn xml(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
