//! Tables without borders, as docker's: they fit the terminal by cutting the middle of long names.

use comfy_table::{Attribute, CellAlignment, ContentArrangement, Table, presets};

use super::show::Look;
use super::units::{clean, cut, width};

/// Spaces between two columns.
const GAP: u16 = 3;
/// No column is cut below this: what is left of a name should still be one.
const LEAST: usize = 10;

/// A column's head, and whether its cells may be cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    /// Cut where the terminal is too narrow, and bold where there are colors: what a row is called.
    Title(&'static str),
    /// Always whole, such as an id.
    Whole(&'static str),
    /// Cut where the terminal is too narrow: another row's name.
    Name(&'static str),
    /// As `Whole`, and faint where there are colors.
    Faint(&'static str),
    /// As `Faint`; left out where the terminal is too narrow, the last such column first.
    Spare(&'static str),
    /// Likewise, with its ends one below the other: a number.
    Size(&'static str),
}

impl Column {
    fn head(self) -> &'static str {
        match self {
            Self::Title(head)
            | Self::Whole(head)
            | Self::Name(head)
            | Self::Faint(head)
            | Self::Spare(head)
            | Self::Size(head) => head,
        }
    }

    /// True for one that may be cut.
    fn gives(self) -> bool {
        matches!(self, Self::Title(_) | Self::Name(_))
    }

    /// True for one that may be left out.
    fn spare(self) -> bool {
        matches!(self, Self::Spare(_) | Self::Size(_))
    }
}

/// Draws `rows` of one cell a column under the columns' heads.
pub(super) fn draw(look: &Look, columns: &[Column], mut rows: Vec<Vec<String>>) -> String {
    for cell in rows.iter_mut().flatten() {
        *cell = clean(cell);
    }
    let mut columns = columns.to_vec();
    let mut limits = limits(look, &columns, &rows);
    while let Some(room) = look.width
        && total(&limits) > room
        && let Some(spare) = columns.iter().rposition(|column| column.spare())
    {
        columns.remove(spare);
        for row in &mut rows {
            row.remove(spare);
        }
        limits = self::limits(look, &columns, &rows);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if look.color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(columns.iter().map(|column| column.head()));
    for row in &rows {
        let cells = row.iter().zip(&limits).zip(&columns).map(|((text, limit), column)| {
            let cell = comfy_table::Cell::new(cut(text, *limit));
            match column {
                _ if !look.color => cell,
                Column::Title(_) => cell.add_attribute(Attribute::Bold),
                Column::Faint(_) | Column::Spare(_) => cell.add_attribute(Attribute::Dim),
                _ => cell,
            }
        });
        table.add_row(cells.collect::<Vec<_>>());
    }
    for (drawn, column) in table.column_iter_mut().zip(&columns) {
        drawn.set_padding((0, GAP));
        if matches!(column, Column::Size(_)) {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How wide each column may be: the widest names give way first, and all at once where they are equal.
fn limits(look: &Look, columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    let mut limits: Vec<usize> = columns.iter().map(|column| width(column.head())).collect();
    for row in rows {
        for (limit, cell) in limits.iter_mut().zip(row) {
            *limit = (*limit).max(width(cell));
        }
    }
    let Some(room) = look.width else { return limits };
    while total(&limits) > room {
        let names = limits.iter_mut().zip(columns).filter(|(_, column)| column.gives());
        match names.map(|(limit, _)| limit).max() {
            Some(widest) if *widest > LEAST => *widest -= 1,
            // Nothing left to cut: the terminal wraps the lines.
            _ => break,
        }
    }
    limits
}

/// Columns of the terminal that these take.
fn total(limits: &[usize]) -> usize {
    limits.iter().sum::<usize>() + usize::from(GAP) * limits.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::Whole("ID"), Column::Title("NAME"), Column::Faint("AGE")];

    fn rows() -> Vec<Vec<String>> {
        vec![
            vec!["0a".into(), "a-name-that-is-quite-long".into(), "1 day ago".into()],
            vec!["0b".into(), "短い名前".into(), "-".into()],
        ]
    }

    #[test]
    fn whole_where_nothing_limits_it() {
        let text = draw(&Look::plain(), &COLUMNS, rows());
        assert_eq!(
            text,
            "ID   NAME                        AGE\n\
             0a   a-name-that-is-quite-long   1 day ago\n\
             0b   短い名前                    -\n"
        );
    }

    #[test]
    fn names_are_cut_to_the_terminal() {
        let text = draw(&Look { width: Some(30), ..Look::plain() }, &COLUMNS, rows());
        assert_eq!(
            text,
            "ID   NAME            AGE\n\
             0a   a-name…e-long   1 day ago\n\
             0b   短い名前        -\n"
        );
        for line in draw(&Look { width: Some(5), ..Look::plain() }, &COLUMNS, rows()).lines() {
            assert!(width(line) <= 2 + 3 + LEAST + 3 + 9, "{line}");
        }
    }

    #[test]
    fn colors_are_for_names_and_ages() {
        let text = draw(&Look { color: true, ..Look::plain() }, &COLUMNS, rows());
        assert!(text.contains("\u{1b}[1m") && text.contains("\u{1b}[2m"), "{text:?}");
        assert!(!draw(&Look::plain(), &COLUMNS, rows()).contains('\u{1b}'));
    }
}
