//! `loom diff`: what differs, a line a path, or as a patch.

use std::io::ErrorKind;

use ttrpc::Code;

use super::args::Diff;
use super::client::Failure;
use super::show::Look;
use super::units::{bytes, clean};
use super::{Answer, Run, ask, json};
use crate::protos::admin::{Change, ChangeKind, Node};

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Run<'_> {
    /// `loom diff`. Lines are printed as they come.
    pub(super) async fn diff(&mut self, args: Diff) -> Result<Answer, Failure> {
        let mut changes = self.client.diff(ask::diff(args)).await?;
        let (mut all, mut count) = (Vec::new(), Count::default());
        while let Some(batch) = changes.next().await? {
            if self.json {
                all.extend(batch);
                continue;
            }
            let mut text = String::new();
            for change in &batch {
                count.add(change);
                text += &told(&self.look, change);
            }
            match self.out.write_all(text.as_bytes()) {
                Ok(()) => {}
                // The reader has seen enough: that is its right.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Answer::default()),
                Err(error) => {
                    let message = format!("cannot write to standard output: {error}");
                    return Err(Failure::new(Code::INTERNAL, message));
                }
            }
        }
        if self.json {
            return json::answer(&all.iter().map(json::Change::from).collect::<Vec<_>>());
        }
        Ok(Answer { note: count.told(), ..Answer::default() })
    }
}

/// How many paths differ.
#[derive(Debug, Default)]
struct Count {
    added: u64,
    modified: u64,
    deleted: u64,
}

impl Count {
    fn add(&mut self, change: &Change) {
        match change.kind.enum_value() {
            Ok(ChangeKind::CHANGE_KIND_ADDED) => self.added += 1,
            Ok(ChangeKind::CHANGE_KIND_DELETED) => self.deleted += 1,
            _ => self.modified += 1,
        }
    }

    fn told(&self) -> String {
        match self {
            Self { added: 0, modified: 0, deleted: 0 } => "no difference\n".to_owned(),
            Self { added, modified, deleted } => {
                format!("{added} added, {modified} modified, {deleted} deleted\n")
            }
        }
    }
}

/// A path that differs: its line, which `patch` and `git apply` pass over, and its patch where it has one.
fn told(look: &Look, change: &Change) -> String {
    line(look, change) + &patch(look, &change.patch)
}

/// `M /etc/motd (mode 644 → 755, 12 KB → 15 KB)`.
fn line(look: &Look, change: &Change) -> String {
    let (letter, color) = match change.kind.enum_value() {
        Ok(ChangeKind::CHANGE_KIND_ADDED) => ("A", GREEN),
        Ok(ChangeKind::CHANGE_KIND_DELETED) => ("D", RED),
        _ => ("M", YELLOW),
    };
    let node = change.after.as_ref().or(change.before.as_ref());
    let slash = match node {
        Some(node) if node.type_ == "directory" && !change.path.is_empty() => "/",
        _ => "",
    };
    let details = match (letter, change.before.as_ref(), change.after.as_ref()) {
        ("M", Some(before), Some(after)) => {
            let differs = change.differs.iter().map(|aspect| differs(aspect, before, after));
            let differs = differs.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
            if differs.is_empty() { String::new() } else { format!(" ({differs})") }
        }
        _ => node.map(there).unwrap_or_default(),
    };
    let path = look.paint(color, &format!("{letter} /{}{slash}", clean(&change.path)));
    format!("{path}{}\n", look.faint(&clean(&details)))
}

/// What is, or was, at a path.
fn there(node: &Node) -> String {
    match node.type_.as_str() {
        "file" => format!(" ({})", bytes(node.size)),
        "symlink" => format!(" → {}", node.target),
        "directory" => String::new(),
        other => format!(" ({other})"),
    }
}

/// How one aspect of a path differs.
fn differs(aspect: &str, before: &Node, after: &Node) -> String {
    let pair = |what: &str, before: String, after: String| format!("{what}{before} → {after}");
    match aspect {
        "type" => pair("", before.type_.clone(), after.type_.clone()),
        "mode" => pair("mode ", format!("{:o}", before.mode), format!("{:o}", after.mode)),
        "owner" => {
            pair("owner ", format!("{}:{}", before.uid, before.gid), format!("{}:{}", after.uid, after.gid))
        }
        "target" => pair("", before.target.clone(), after.target.clone()),
        // Of what was no file, or is none any more, the type says it all.
        "content" if before.type_ != after.type_ => String::new(),
        "content" if before.size == after.size => format!("{}, other content", bytes(after.size)),
        "content" if bytes(before.size) == bytes(after.size) => {
            pair("", format!("{} B", before.size), format!("{} B", after.size))
        }
        "content" => pair("", bytes(before.size), bytes(after.size)),
        other => other.to_owned(),
    }
}

/// A patch: whole for programs, safe and in colors for people.
fn patch(look: &Look, patch: &str) -> String {
    if !look.terminal && !look.color {
        return patch.to_owned();
    }
    let line = |line: &str| {
        let text = line.split('\t').map(clean).collect::<Vec<_>>().join("\t");
        let text = match line.get(..1) {
            _ if line.starts_with("--- ") || line.starts_with("+++ ") => look.bold(&text),
            Some("-") => look.paint(RED, &text),
            Some("+") => look.paint(GREEN, &text),
            Some("@") => look.paint(CYAN, &text),
            _ => text,
        };
        text + "\n"
    };
    patch.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: &str, size: u64) -> Node {
        Node { type_: kind.into(), mode: 0o644, size, ..Node::default() }
    }

    fn modified(differs: &[&str], before: Node, after: Node) -> String {
        let change = Change {
            path: "x".into(),
            kind: ChangeKind::CHANGE_KIND_MODIFIED.into(),
            before: Some(before).into(),
            after: Some(after).into(),
            differs: differs.iter().map(|&aspect| aspect.into()).collect(),
            ..Change::default()
        };
        line(&Look::plain(), &change)
    }

    #[test]
    fn what_differs_is_told_in_brackets() {
        let file = |size| node("file", size);
        let link = |target: &str| Node { target: target.into(), ..node("symlink", 0) };
        let tool = Node { mode: 0o4755, uid: 1, gid: 2, ..file(15_000) };
        for (line, told) in [
            (modified(&["content"], file(12_000), file(15_000)), "M /x (12 KB → 15 KB)\n"),
            (modified(&["content"], file(12_001), file(12_002)), "M /x (12001 B → 12002 B)\n"),
            (modified(&["content"], file(7), file(7)), "M /x (7 B, other content)\n"),
            (modified(&["mode", "owner"], file(15_000), tool), "M /x (mode 644 → 4755, owner 0:0 → 1:2)\n"),
            (modified(&["target"], link("a"), link("b")), "M /x (a → b)\n"),
            (modified(&["type", "content"], file(1), node("directory", 0)), "M /x/ (file → directory)\n"),
            (modified(&["xattrs"], node("directory", 0), node("directory", 0)), "M /x/ (xattrs)\n"),
        ] {
            assert_eq!(line, told);
        }
    }

    #[test]
    fn what_came_or_went_is_told_by_what_it_is() {
        let told = |kind: ChangeKind, path: &str, node: Node| {
            let change = Change { path: path.into(), kind: kind.into(), ..Change::default() };
            let change = match kind {
                ChangeKind::CHANGE_KIND_ADDED => Change { after: Some(node).into(), ..change },
                _ => Change { before: Some(node).into(), ..change },
            };
            line(&Look::plain(), &change)
        };
        let (added, deleted) = (ChangeKind::CHANGE_KIND_ADDED, ChangeKind::CHANGE_KIND_DELETED);
        assert_eq!(told(added, "etc/motd", node("file", 5)), "A /etc/motd (5 B)\n");
        assert_eq!(told(deleted, "var", node("directory", 0)), "D /var/\n");
        assert_eq!(told(added, "pipe", node("fifo", 0)), "A /pipe (fifo)\n");
        let link = Node { target: "a\u{1b}b".into(), ..node("symlink", 0) };
        assert_eq!(told(added, "l\nl", link), "A /l\\nl → a\\u{1b}b\n");
        assert_eq!(told(added, "", node("directory", 0)), "A /\n");
    }

    #[test]
    fn a_patch_is_whole_for_programs_and_cannot_drive_a_terminal() {
        let text = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\tb\u{1b}[2J\n+c\r\n";
        assert_eq!(patch(&Look::plain(), text), text);
        let terminal = Look { terminal: true, ..Look::plain() };
        assert_eq!(patch(&terminal, text), "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\tb\\u{1b}[2J\n+c\n");
        let colors = patch(&Look { color: true, ..terminal }, text);
        assert!(colors.contains("\u{1b}[32m+c\u{1b}[0m\n"), "{colors:?}");
    }
}
