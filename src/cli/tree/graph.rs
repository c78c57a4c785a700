//! The tree as a graph in other programs' languages: Graphviz's DOT, and Mermaid.
//!
//! Arrows go from the older to the newer: a solid one to what was branched, a dotted one to what only stands on it.
//! Nodes are numbered in the order of the drawing: a name is never more than a label.

use std::fmt::Write as _;

use super::Edge;
use super::fold::Item;
use super::line::{Line, Word};

/// What a label says, a line each.
fn label(line: &Line, escape: fn(&str) -> String, br: &str) -> String {
    let about = [line.kind.as_str(), &line.sizes(), &line.notes, &line.created];
    let about: Vec<&str> = about.into_iter().filter(|text| !text.is_empty()).collect();
    format!("{}{br}{}", escape(&line.name), escape(&about.join(", ")))
}

/// A digraph for `dot`.
pub(super) fn dot(items: &[Item], lines: &[Line]) -> String {
    let mut text = String::from(
        "digraph loom {
  graph [rankdir=LR, bgcolor=transparent, nodesep=0.15, ranksep=0.5];
  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica,Arial,sans-serif\", fontsize=11, fillcolor=\"#f6f8fa\", color=\"#57606a\", fontcolor=\"#1f2328\"];
  edge [color=\"#57606a\", arrowsize=0.6];
",
    );
    for (at, line) in lines.iter().enumerate() {
        let look = match line.word {
            Word::Container => "fillcolor=\"#dafbe1\", color=\"#1a7f37\"",
            Word::Snapshot => "shape=note, style=filled, fillcolor=\"#ddf4ff\", color=\"#0969da\"",
            Word::Image => "shape=box3d, style=filled, fillcolor=\"#fbefff\", color=\"#8250df\"",
            Word::Layer | Word::View | Word::Unpacking => "style=filled",
            Word::Gone => "style=\"rounded,dashed\", fontcolor=\"#57606a\"",
        };
        let pinned = if line.pinned { ", penwidth=2" } else { "" };
        let label = label(line, dot_text, "\\n");
        let _ = writeln!(
            text,
            "  n{at} [label=\"{label}\", tooltip=\"{}\", {look}{pinned}];",
            dot_text(&line.id)
        );
    }
    for (at, item) in items.iter().enumerate() {
        match item.above {
            Some((above, Edge::Source)) => _ = writeln!(text, "  n{above} -> n{at};"),
            Some((above, Edge::Parent)) => _ = writeln!(text, "  n{above} -> n{at} [style=dotted];"),
            None => {}
        }
        if let Some(parent) = item.parent {
            let _ = writeln!(text, "  n{parent} -> n{at} [style=dotted, constraint=false];");
        }
    }
    text.push_str("}\n");
    text
}

/// Text in a quoted string of DOT, where `\` begins a sequence and `&` an entity.
fn dot_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '&' => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A flowchart for Mermaid, which draws 500 arrows at most unless it is told otherwise.
pub(super) fn mermaid(items: &[Item], lines: &[Line]) -> String {
    let mut text = String::from("flowchart LR\n");
    for (at, line) in lines.iter().enumerate() {
        let (open, close) = match line.word {
            Word::Container => ("([", "])"),
            Word::Image => ("[(", ")]"),
            _ => ("[", "]"),
        };
        let label = label(line, mermaid_text, "<br>");
        let _ = writeln!(text, "  n{at}{open}\"{label}\"{close}:::{}", line.word.name());
    }
    for (at, item) in items.iter().enumerate() {
        match item.above {
            Some((above, Edge::Source)) => _ = writeln!(text, "  n{above} --> n{at}"),
            Some((above, Edge::Parent)) => _ = writeln!(text, "  n{above} -.-> n{at}"),
            None => {}
        }
        if let Some(parent) = item.parent {
            let _ = writeln!(text, "  n{parent} -.-> n{at}");
        }
    }
    for (word, look) in [
        (Word::Container, "fill:#dafbe1,stroke:#1a7f37,color:#1f2328"),
        (Word::Snapshot, "fill:#ddf4ff,stroke:#0969da,color:#1f2328"),
        (Word::Image, "fill:#fbefff,stroke:#8250df,color:#1f2328"),
        (Word::Layer, "fill:#f6f8fa,stroke:#57606a,color:#1f2328"),
        (Word::View, "fill:#f6f8fa,stroke:#57606a,color:#1f2328"),
        (Word::Unpacking, "fill:#f6f8fa,stroke:#57606a,color:#1f2328"),
        (Word::Gone, "fill:none,stroke:#57606a,stroke-dasharray:4"),
    ] {
        if lines.iter().any(|line| line.word == word) {
            let _ = writeln!(text, "  classDef {} {look}", word.name());
        }
    }
    text
}

/// Text in a quoted string of Mermaid: what is not plainly harmless is written by its number.
fn mermaid_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-' | '/' | ':' | ',' | '…') {
            escaped.push(c);
        } else {
            let _ = write!(escaped, "#{};", u32::from(c));
        }
    }
    escaped
}
