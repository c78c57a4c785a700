//! The tree in a terminal, in columns: what has no room is left out, the least important first.
//!
//! ```text
//! NAME                 KIND         OWN   SHARED  CREATED
//! localhost/counter:1  image        0 B   8.1 MB  2 days ago      1 layer
//! └─ web               container  82 KB   1.1 GB  3 hours ago
//!    └─ before         snapshot     0 B   1.1 GB  2 minutes ago   pinned
//! ```

use super::fold::Item;
use super::line::Line;
use crate::cli::show::Look;
use crate::cli::units::{bytes, cut, head, width};

/// The levels of a drawing that goes to no terminal: a deeper one begins with `…`. It keeps the size
/// of a long chain's drawing in proportion to its length.
const LEVELS: usize = 24;
/// The columns of one level.
const LEVEL: usize = 3;
/// A name is not cut below this.
const LEAST: usize = 10;
/// A column of names is not made narrower than this while there is another that can go.
const NAMES: usize = 20;
/// What is said of a snapshot is not cut below this.
const NOTES: usize = 12;
/// Between two columns.
const GAP: usize = 2;

/// A column beside the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Kind,
    Own,
    Shared,
    Created,
    Notes,
}

/// As they are drawn.
const COLUMNS: [Column; 5] = [Column::Kind, Column::Own, Column::Shared, Column::Created, Column::Notes];
/// As they are left out.
const LEAVE: [Column; 5] = [Column::Shared, Column::Created, Column::Notes, Column::Own, Column::Kind];

impl Column {
    fn head(self) -> &'static str {
        match self {
            Self::Kind => "KIND",
            Self::Own => "OWN",
            Self::Shared => "SHARED",
            Self::Created => "CREATED",
            Self::Notes => "",
        }
    }

    fn cell(self, line: &Line) -> String {
        let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), bytes);
        match self {
            Self::Kind => line.kind.clone(),
            Self::Own => size(line.own),
            Self::Shared => size(line.shared),
            Self::Created => line.created.clone(),
            Self::Notes => line.notes.clone(),
        }
    }
}

/// A head and a line each.
pub(super) fn draw(look: &Look, items: &[Item], lines: &[Line]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let levels = |columns: Option<usize>| columns.map_or(LEVELS, |columns| (columns / 2 / LEVEL).max(2));
    let mut leads = leads(items, levels(look.width));
    let cells: Vec<Vec<String>> =
        lines.iter().map(|line| COLUMNS.iter().map(|column| column.cell(line)).collect()).collect();
    let widest = |at: usize| {
        let cells = cells.iter().map(|row| width(&row[at])).max().unwrap_or(0);
        // A column with nothing in it is none.
        if cells == 0 { 0 } else { cells.max(width(COLUMNS[at].head())) }
    };
    let mut widths: Vec<usize> = (0..COLUMNS.len()).map(widest).collect();
    let names = leads.iter().zip(lines).map(|(lead, line)| width(lead) + width(&line.name));
    let mut names = names.max().unwrap_or(0).max(width("NAME"));
    if let Some(room) = look.width {
        names = fit(room, names, &mut widths);
        leads = self::leads(items, levels(Some(names)).min(levels(Some(room))));
    }
    let head: Vec<String> = COLUMNS.iter().map(|column| column.head().to_owned()).collect();
    let mut text = look.faint(&row("", "NAME", names, &head, &widths).concat());
    text.push('\n');
    for ((lead, line), cells) in leads.iter().zip(lines).zip(&cells) {
        let name = match look.width {
            Some(_) => cut(&line.name, names.saturating_sub(width(lead)).max(LEAST)),
            None => line.name.clone(),
        };
        let [lead, name, rest] = row(lead, &name, names, cells, &widths);
        text.extend([look.faint(&lead), look.bold(&name), rest, "\n".to_owned()]);
    }
    text
}

/// Leaves columns out until the rest fits; answers what is left for the names.
fn fit(room: usize, names: usize, widths: &mut [usize]) -> usize {
    let taken = |widths: &[usize]| -> usize {
        widths.iter().filter(|width| **width > 0).map(|width| width + GAP).sum()
    };
    let notes = COLUMNS.len() - 1;
    for leave in LEAVE {
        let least = widths[notes].min(NOTES);
        let whole = taken(widths) - (widths[notes] - least);
        if names.min(NAMES) + whole <= room {
            break;
        }
        if let Some(at) = COLUMNS.iter().position(|column| *column == leave) {
            widths[at] = 0;
        }
    }
    // Names go before notes, which are cut before names are.
    let others = taken(widths);
    let least = widths[notes].min(NOTES);
    let over = (names + others).saturating_sub(room).min(widths[notes] - least);
    widths[notes] -= over;
    names.min(room.saturating_sub(taken(widths)))
}

/// The lead, the name, and the rest, filled up to the columns' widths.
fn row(lead: &str, name: &str, names: usize, cells: &[String], widths: &[usize]) -> [String; 3] {
    let mut rest = " ".repeat(names.saturating_sub(width(lead) + width(name)));
    for ((column, cell), room) in COLUMNS.iter().zip(cells).zip(widths).filter(|(_, room)| **room > 0) {
        let cell = if *column == Column::Notes { head(cell, *room) } else { cut(cell, *room) };
        let blank = " ".repeat(room - width(&cell));
        rest.push_str(&" ".repeat(GAP));
        if matches!(column, Column::Own | Column::Shared) {
            rest.extend([blank, cell]);
        } else {
            rest.extend([cell, blank]);
        }
    }
    rest.truncate(rest.trim_end().len());
    [lead.to_owned(), name.to_owned(), rest]
}

/// What leads to each line: the nearest levels where not all of them fit.
fn leads(items: &[Item], levels: usize) -> Vec<String> {
    // For each level above the line: does a branch go on there?
    let mut open: Vec<bool> = Vec::new();
    let lead = |item: &Item| {
        open.truncate(item.level.saturating_sub(1));
        if item.level > 0 {
            open.push(item.more);
        }
        let Some((last, above)) = open.split_last() else { return String::new() };
        let hidden = open.len().saturating_sub(levels);
        let mut lead = String::new();
        if hidden > 0 {
            lead.push('…');
        }
        for open in &above[hidden..] {
            lead.push_str(if *open { "│  " } else { "   " });
        }
        lead.push_str(if *last { "├─ " } else { "└─ " });
        lead
    };
    items.iter().map(lead).collect()
}
