//! Times, durations and texts as people read them, and times as programs do.

use jiff::Timestamp;
use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp as Wire;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A time from the wire; `None` where it is absent or no time at all.
pub(super) fn time(wire: &MessageField<Wire>) -> Option<Timestamp> {
    let wire = wire.as_ref()?;
    Timestamp::new(wire.seconds, wire.nanos).ok()
}

/// How long ago `then` was, in the largest unit that fills: `3 minutes ago`.
pub(super) fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else { return "-".into() };
    let seconds = now.as_second().saturating_sub(then.as_second());
    // Another machine's clock, or one that was set back, is no reason to show a negative age.
    if seconds < 1 {
        return "just now".into();
    }
    format!("{} ago", largest(seconds))
}

/// When `then` comes, likewise: `in 3 minutes`.
pub(super) fn until(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else { return "-".into() };
    match then.as_second().saturating_sub(now.as_second()) {
        ..1 => "now".into(),
        seconds => format!("in {}", largest(seconds)),
    }
}

/// Seconds in the largest unit that fills.
fn largest(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        86_400..1_209_600 => (seconds / 86_400, "day"),
        1_209_600..5_184_000 => (seconds / 604_800, "week"),
        5_184_000..63_072_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// A duration in microseconds with two or three significant digits: `2.1 ms`.
pub(super) fn duration(us: u64) -> String {
    match us {
        ..1_000 => format!("{us} µs"),
        1_000..10_000 => tenths(us / 100, "ms"),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => tenths(us / 100_000, "s"),
        _ => format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
    }
}

fn tenths(count: u64, unit: &str) -> String {
    format!("{}.{} {unit}", count / 10, count % 10)
}

/// Bytes with two or three significant digits, in powers of 1000 as nerdctl has them: `1.2 MB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    // In tenths of the unit, so that nothing is rounded up into the next.
    let (mut tenths_of, mut unit) = (count / 100, 0);
    while tenths_of >= 10_000 {
        (tenths_of, unit) = (tenths_of / 1_000, unit + 1);
    }
    match tenths_of {
        ..100 => tenths(tenths_of, UNITS[unit]),
        _ => format!("{} {}", tenths_of / 10, UNITS[unit]),
    }
}

/// `text` with what a terminal would obey written out: names come from other people's clients.
pub(super) fn clean(text: &str) -> String {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return text.to_owned();
    }
    let mut clean = String::new();
    for c in text.chars() {
        if hostile(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// The columns that `text` fills in a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text` in at most `columns`: its middle gives way to `…`, for a name's both ends tell it apart.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let tail_room = room / 2;
    let head = fit(text.chars(), room - tail_room);
    let tail = fit(text.chars().rev(), tail_room);
    head.into_iter().chain(['…']).chain(tail.into_iter().rev()).collect()
}

/// `text` in at most `columns`: its end gives way to `…`, for what is said first matters most.
pub(super) fn head(text: &str, columns: usize) -> String {
    match columns.checked_sub(1) {
        _ if width(text) <= columns => text.to_owned(),
        Some(room) => fit(text.chars(), room).into_iter().chain(['…']).collect(),
        None => String::new(),
    }
}

/// As many characters as fit `columns`.
fn fit(chars: impl Iterator<Item = char>, columns: usize) -> Vec<char> {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_age_is_in_the_largest_unit_that_fills() {
        let now = Timestamp::new(2_000_000_000, 0).unwrap();
        let table = [
            (-5, "just now"),
            (0, "just now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (185, "3 minutes ago"),
            (3_600, "1 hour ago"),
            (86_400, "1 day ago"),
            (86_400 * 13, "13 days ago"),
            (86_400 * 14, "2 weeks ago"),
            (86_400 * 61, "2 months ago"),
            (86_400 * 800, "2 years ago"),
        ];
        for (seconds, text) in table {
            let then = Timestamp::new(2_000_000_000 - seconds, 0).unwrap();
            assert_eq!(age(Some(then), now), text, "{seconds} s");
        }
        assert_eq!(age(None, now), "-");
    }

    #[test]
    fn what_comes_is_told_likewise() {
        let now = Timestamp::new(2_000_000_000, 0).unwrap();
        for (seconds, text) in
            [(-5, "now"), (0, "now"), (1, "in 1 second"), (3_600, "in 1 hour"), (86_400 * 7, "in 7 days")]
        {
            let then = Timestamp::new(2_000_000_000 + seconds, 0).unwrap();
            assert_eq!(until(Some(then), now), text, "{seconds} s");
        }
        assert_eq!(until(None, now), "-");
    }

    #[test]
    fn a_duration_keeps_what_can_be_felt() {
        let table = [
            (0, "0 µs"),
            (999, "999 µs"),
            (2_149, "2.1 ms"),
            (9_999, "9.9 ms"),
            (14_000, "14 ms"),
            (1_250_000, "1.2 s"),
            (65_000_000, "1 min 5 s"),
        ];
        for (us, text) in table {
            assert_eq!(duration(us), text);
        }
    }

    #[test]
    fn bytes_are_told_in_powers_of_a_thousand() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 KB"),
            (9_999, "9.9 KB"),
            (12_345, "12 KB"),
            (999_999, "999 KB"),
            (1_000_000, "1.0 MB"),
            (1_100_000_000, "1.1 GB"),
            (u64::MAX, "18 EB"),
        ];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn cutting_keeps_both_ends_and_never_passes_the_width() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("abcdefghij", 7), "abc…hij");
        assert_eq!(cut("abcdefghij", 6), "abc…ij");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(
            (head("abc", 0), head("abcd", 3), head("abc", 3)),
            (String::new(), "ab…".into(), "abc".into())
        );
        // Two columns each: an odd room leaves one free rather than half a character.
        assert_eq!(cut("漢字漢字漢字", 7), "漢…字");
        for text in ["漢字漢字漢字", "e\u{301}e\u{301}e\u{301}e\u{301}", "a漢b字c", "👩‍👩‍👧‍👦 family"]
        {
            for columns in 0..14 {
                assert!(width(&cut(text, columns)) <= columns, "{text:?} in {columns}");
            }
        }
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        assert_eq!(clean("web-1 é 漢"), "web-1 é 漢");
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(clean("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn a_time_that_is_none_is_not_shown() {
        assert_eq!(time(&MessageField::none()), None);
        let wire = Wire { seconds: i64::MAX, ..Wire::default() };
        assert_eq!(time(&MessageField::some(wire)), None);
    }
}
