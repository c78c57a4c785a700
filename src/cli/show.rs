//! What people read: each verb's answer as text, and the names that snapshots go by.

use std::collections::HashMap;
use std::env;
use std::io::{IsTerminal as _, stdout};

use jiff::Timestamp;

use super::client::Failure;
use super::json::kind;
use super::table::{Column, draw};
use super::tree::Line;
use super::units::{age, bytes, clean, duration, time, until, width};
use crate::protos::admin::{Cost, Forked, Rolled, Snapshot, StatusResponse};

/// What the output looks like, settled once.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// The terminal's columns; `None` where nothing limits a line.
    pub(super) width: Option<usize>,
    /// Bold, faint and colors.
    pub(super) color: bool,
    /// A person reads it.
    pub(super) terminal: bool,
    /// The time that ages are told from.
    pub(super) now: Timestamp,
    /// The namespace that names are told from: a container in another is shown with its own.
    pub(super) namespace: String,
}

impl Look {
    /// For this process's standard output.
    pub(super) fn of_stdout(namespace: &str) -> Self {
        // What a test prints into is none, whatever the test itself was started from.
        let terminal = stdout().is_terminal() && !cfg!(test);
        let columns = || rustix::termios::tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col));
        Self {
            width: terminal.then(columns).flatten().filter(|columns| *columns > 0),
            color: terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            terminal,
            now: Timestamp::now(),
            namespace: namespace.to_owned(),
        }
    }

    /// Stands out, where there are colors.
    pub(super) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Stands back, where there are colors.
    pub(super) fn faint(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// In a color, by its number, where there are any.
    pub(super) fn paint(&self, color: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\u{1b}[{color}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self {
            width: None,
            color: false,
            terminal: false,
            now: Timestamp::UNIX_EPOCH,
            namespace: "default".into(),
        }
    }
}

/// The digits of an id that people are shown.
pub(super) fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A name that nobody chose, such as nerdctl's id of a container, in as many digits as an id.
fn short_name(name: &str) -> &str {
    if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) { short_id(name) } else { name }
}

/// containerd's key without its namespace and sequence, and with twelve digits of a digest.
pub(super) fn short_key(key: &str) -> &str {
    let client = key.splitn(3, '/').nth(2).unwrap_or(key);
    match client.strip_prefix("sha256:") {
        Some(digest) if digest.len() > 12 => client.get(.."sha256:".len() + 12).unwrap_or(client),
        _ => short_name(client),
    }
}

/// What people call the container of a snapshot; empty for none.
fn called(snapshot: &Snapshot) -> &str {
    let Snapshot { container, container_name, .. } = snapshot;
    if container_name.is_empty() { short_name(container) } else { short_name(container_name) }
}

/// The container of a snapshot, as a reference names it from `namespace`.
fn owner(snapshot: &Snapshot, namespace: &str) -> Option<String> {
    if snapshot.container.is_empty() {
        None
    } else if snapshot.namespace.is_empty() || snapshot.namespace == namespace {
        Some(called(snapshot).to_owned())
    } else {
        Some(format!("{}/{}", snapshot.namespace, called(snapshot)))
    }
}

/// loom's name for a snapshot, else its container's while that writes to it, else that of an image whose top it is,
/// else containerd's.
fn own_name(snapshot: &Snapshot) -> Option<String> {
    let container = if kind(snapshot) == "active" { called(snapshot) } else { "" };
    let image = snapshot.images.first().map_or("", String::as_str);
    [snapshot.name.as_str(), container, image, short_key(&snapshot.key)]
        .into_iter()
        .find(|name| !name.is_empty())
        .map(str::to_owned)
}

/// The one name that says most: a running state's is its container's.
pub(super) fn title(snapshot: &Snapshot, namespace: &str) -> String {
    let container = owner(snapshot, namespace);
    let title = if kind(snapshot) == "active" && snapshot.name.is_empty() {
        container.or_else(|| own_name(snapshot))
    } else {
        own_name(snapshot).or(container)
    };
    title.unwrap_or_else(|| short_id(&snapshot.id).to_owned())
}

/// True for a row that only its descendants' lineage keeps.
pub(super) fn is_gone(snapshot: &Snapshot) -> bool {
    snapshot.home.is_empty() && snapshot.key.is_empty()
}

fn dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

/// `loom ls`.
pub(super) fn list(look: &Look, snapshots: &[Snapshot]) -> String {
    let by_id: HashMap<&str, &Snapshot> = snapshots.iter().map(|s| (s.id.as_str(), s)).collect();
    let from = |snapshot: &Snapshot| {
        let id = [&snapshot.source, &snapshot.parent].into_iter().find(|id| !id.is_empty())?;
        let known = by_id.get(id.as_str()).map(|from| title(from, &look.namespace));
        Some(known.unwrap_or_else(|| short_id(id).to_owned()))
    };
    let mut columns = vec![
        Column::Whole("ID"),
        Column::Title("NAME"),
        Column::Whole("KIND"),
        Column::Name("CONTAINER"),
        Column::Name("FROM"),
        Column::Faint("CREATED"),
        Column::Whole("PINNED"),
    ];
    // Few use a ttl, and a line has little room.
    let some_expire = snapshots.iter().any(|snapshot| snapshot.expires.is_some());
    if some_expire {
        columns.push(Column::Whole("EXPIRES"));
    }
    let rows = snapshots.iter().map(|snapshot| {
        let mut row = vec![
            short_id(&snapshot.id).to_owned(),
            dash(own_name(snapshot)),
            kind(snapshot).to_owned(),
            dash(owner(snapshot, &look.namespace)),
            dash(from(snapshot)),
            age(time(&snapshot.created), look.now),
            if snapshot.pinned { "pinned" } else { "" }.to_owned(),
        ];
        if some_expire {
            row.push(until(time(&snapshot.expires), look.now));
        }
        row
    });
    draw(look, &columns, rows.collect())
}

/// `loom ls -q`.
pub(super) fn ids(snapshots: &[Snapshot]) -> String {
    snapshots.iter().flat_map(|snapshot| [snapshot.id.as_str(), "\n"]).collect()
}

/// `loom lineage`: each line says what the next one is to it.
pub(super) fn lineage(look: &Look, way: &[Snapshot]) -> String {
    let columns = [
        Column::Whole("ID"),
        Column::Title("NAME"),
        Column::Whole("KIND"),
        Column::Whole("NEXT IS"),
        Column::Size("OWN"),
        Column::Size("SHARED"),
        Column::Spare("CREATED"),
        Column::Whole("NOTES"),
    ];
    let lines: Vec<Line> = way.iter().map(|snapshot| Line::of(snapshot, look)).collect();
    let noted = lines.iter().any(|line| !line.notes.is_empty());
    let columns = if noted { &columns[..] } else { &columns[..columns.len() - 1] };
    let size = |size: Option<u64>| dash(size.map(bytes));
    let rows = way.iter().zip(lines).enumerate().map(|(at, (snapshot, line))| {
        let next = way.get(at + 1).map(|next| next.id.as_str());
        let step = match next {
            Some(next) if next == snapshot.source => "its source",
            Some(next) if next == snapshot.parent => "its parent",
            Some(_) => "unknown",
            None => "-",
        };
        vec![
            short_id(&snapshot.id).to_owned(),
            line.name,
            line.kind,
            step.to_owned(),
            size(line.own),
            size(line.shared),
            line.created,
            line.notes,
        ]
    });
    draw(look, columns, rows.collect())
}

/// `loom status`.
pub(super) fn status(look: &Look, status: &StatusResponse) -> String {
    let started = time(&status.started);
    let lines = [
        ("version", status.version.clone()),
        ("pid", status.pid.to_string()),
        ("started", age(started, look.now)),
        ("root", format!("{} ({})", status.root, status.root_filesystem)),
        (
            "pool",
            match status.pool_state.as_ref() {
                Some(pool) => super::pool::short(pool),
                None if status.pool.is_empty() => "none".into(),
                None => status.pool.clone(),
            },
        ),
        ("method", [status.method.as_str(), &status.method_why].join(": ")),
        ("stopped", if status.seals { "sealed as they lie" } else { "as those that run" }.to_owned()),
        ("containerd", status.containerd.clone()),
        ("listed", status.listed.to_string()),
        ("held", status.held.to_string()),
        ("layers", status.layers.to_string()),
    ];
    lines.into_iter().fold(String::new(), |mut text, (key, value)| {
        text.extend([key, ": ", &clean(&value), "\n"]);
        text
    })
}

/// A refusal for standard error. Its lines stay lines; the names in it are other people's.
pub(super) fn failure(failure: &Failure) -> String {
    let lines: Vec<String> = failure.message.lines().map(clean).collect();
    format!("loom: {}\n", lines.join("\n"))
}

/// `paused 2.1 ms, 14 ms in all (subvolume)`.
pub(super) fn cost(cost: &Cost) -> String {
    spent("paused", cost)
}

/// `stopped 310 ms, 420 ms in all (subvolume)`.
pub(super) fn outage(cost: &Cost) -> String {
    spent("stopped", cost)
}

fn spent(stood: &str, cost: &Cost) -> String {
    let paused = match cost.paused_us {
        0 => format!("not {stood}"),
        us => format!("{stood} {}", duration(us)),
    };
    let method = if cost.method.is_empty() { String::new() } else { format!(" ({})", cost.method) };
    format!("{paused}, {} in all{method}\n", duration(cost.total_us))
}

/// How to go back from a rollback or a promotion.
pub(super) fn kept(rolled: &Rolled) -> String {
    let kept = if rolled.kept_name.is_empty() { &rolled.kept } else { &rolled.kept_name };
    if kept.is_empty() {
        return "what it had is gone\n".to_owned();
    }
    let (name, kept) = (clean(rolled.called()), clean(kept));
    format!("what it had is kept as {kept}; `loom rollback {name} {kept}` goes back to it\n")
}

/// What did not go as it should, a line each.
pub(super) fn warnings(warnings: &[String]) -> String {
    warnings
        .iter()
        .flat_map(|warning| ["loom: warning: ".to_owned(), clean(warning), "\n".to_owned()])
        .collect()
}

/// A container and its process.
pub(super) fn container(look: &Look, name: &str, pid: u32) -> String {
    format!("{}   {}\n", look.bold(&clean(name)), process(pid))
}

fn process(pid: u32) -> String {
    match pid {
        0 => "stopped".to_owned(),
        pid => format!("pid {pid}"),
    }
}

/// The containers that were made, a line each: name and process.
pub(super) fn forks<'a>(look: &Look, forks: impl Iterator<Item = &'a Forked> + Clone) -> String {
    let made = forks.filter(|fork| fork.error.is_empty());
    let widest = made.clone().map(|fork| width(&clean(fork.called()))).max().unwrap_or(0);
    let line = |fork: &Forked| {
        let name = clean(fork.called());
        let gap = widest.saturating_sub(width(&name)) + 3;
        format!("{}{:gap$}{}\n", look.bold(&name), "", process(fork.pid))
    };
    made.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_its_client_knows_it() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(short_key("default/12/web"), "web");
        assert_eq!(short_key("default/12/extract-1/2 x"), "extract-1/2 x");
        assert_eq!(short_key(&format!("default/3/sha256:{hex}")), "sha256:0123456789ab");
        assert_eq!(short_key(&format!("k8s.io/3/{hex}")), "0123456789ab");
        assert_eq!(short_key("default/3/sha256:é€€€€€"), "sha256:é€€€€€");
        assert_eq!(short_key("odd"), "odd");
        assert_eq!(short_id("é€€€€€"), "é€€€€€");
    }

    #[test]
    fn the_title_is_what_a_reference_would_say() {
        let mut snapshot = Snapshot { id: "0123456789abcdef".into(), ..Snapshot::default() };
        assert_eq!(title(&snapshot, "default"), "0123456789ab");
        (snapshot.container, snapshot.namespace) = ("a".repeat(64), "ci".into());
        assert_eq!(title(&snapshot, "ci"), "aaaaaaaaaaaa");
        assert_eq!(title(&snapshot, "default"), "ci/aaaaaaaaaaaa");
        snapshot.container_name = "shop".into();
        assert_eq!(title(&snapshot, "default"), "ci/shop");
        snapshot.name = "before".into();
        assert_eq!(title(&snapshot, "default"), "before");
    }

    #[test]
    fn a_source_that_did_not_run_was_not_paused() {
        let cost = |paused_us, method: &str| {
            super::cost(&Cost { paused_us, total_us: 14_000, method: method.into(), ..Cost::default() })
        };
        assert_eq!(cost(2_100, "subvolume"), "paused 2.1 ms, 14 ms in all (subvolume)\n");
        assert_eq!(cost(0, ""), "not paused, 14 ms in all\n");
    }

    #[test]
    fn a_refusal_cannot_drive_the_terminal() {
        let refused = Failure::new(ttrpc::Code::INTERNAL, "it could be a\u{1b}[2Jb\r\n  or\u{202e}c");
        assert_eq!(failure(&refused), "loom: it could be a\\u{1b}[2Jb\n  or\\u{202e}c\n");
    }

    #[test]
    fn what_nobody_listed_is_shown_by_its_id() {
        let from = Snapshot { id: "a".repeat(32), source: "b".repeat(32), ..Snapshot::default() };
        let text = list(&Look::plain(), &[from]);
        assert!(text.contains("   bbbbbbbbbbbb   -"), "{text}");
    }
}
