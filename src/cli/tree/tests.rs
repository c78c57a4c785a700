//! The drawings.

use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp;

use super::*;
use crate::cli::units::width;
use crate::protos::admin::{Kind, Size};

fn at(seconds: i64) -> MessageField<Timestamp> {
    MessageField::some(Timestamp { seconds, ..Timestamp::default() })
}

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
        created: at(-seconds_ago),
        ..Snapshot::default()
    }
}

/// A snapshot that loom keeps.
fn kept(name: &str, source: &str, seconds_ago: i64) -> Snapshot {
    Snapshot {
        name: name.into(),
        kind: Kind::KIND_COMMITTED.into(),
        key: String::new(),
        ..node(name, source, "", seconds_ago)
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

fn image(id: &str, parent: &str, names: &[&str]) -> Snapshot {
    Snapshot { images: names.iter().map(|name| (*name).to_owned()).collect(), ..layer(id, parent) }
}

fn sized(snapshot: Snapshot, exclusive: u64, shared: u64) -> Snapshot {
    let size = Size { exclusive, shared, ..Size::default() };
    Snapshot { size: MessageField::some(size), ..snapshot }
}

/// What a day's work leaves.
fn work() -> Vec<Snapshot> {
    let mut gone = node("g", "", "l3", 1_000);
    (gone.key, gone.home) = (String::new(), String::new());
    let mut pinned = kept("before", "a", 120);
    pinned.pinned = true;
    let mut elsewhere = sized(node("d", "before", "l3", 5), 4_096, 1_200_000_000);
    elsewhere.namespace = "k8s.io".into();
    elsewhere.expires = at(7 * 86_400);
    vec![
        elsewhere,
        layer("l1", ""),
        layer("l2", "l1"),
        sized(image("l3", "l2", &["docker.io/library/debian:12"]), 0, 124_000_000),
        sized(node("a", "", "l3", 7_200), 82_000, 1_200_000_000),
        gone,
        sized(node("h", "g", "l3", 30), 9_000_000, 124_000_000),
        sized(pinned, 0, 1_200_000_000),
        sized(node("c", "a", "other", 60), 1_000_000, 1_200_000_000),
        sized(image("i", "l3", &["localhost/web:1", "localhost/web:2", "localhost/web:3"]), 0, 1_200_000_000),
        sized(layer("other", ""), 3_000_000, 0),
    ]
}

fn draw(snapshots: &[Snapshot]) -> String {
    drawn(snapshots, Drawing::Text, false)
}

fn drawn(snapshots: &[Snapshot], format: Drawing, all: bool) -> String {
    Forest::new(snapshots).draw(&Look::plain(), format, all)
}

fn narrow(snapshots: &[Snapshot], columns: usize) -> String {
    let look = Look { width: Some(columns), ..Look::plain() };
    Forest::new(snapshots).draw(&look, Drawing::Text, false)
}

/// Names and leads only.
fn names(text: &str) -> Vec<&str> {
    let name = |line: &str| {
        let lead = line.find(|c| !" │├└─…".contains(c)).unwrap_or(0);
        lead + line[lead..].find("  ").unwrap_or(line.len() - lead)
    };
    text.lines().skip(1).map(|line| &line[..name(line)]).collect()
}

#[test]
fn forks_of_forks_on_an_image() {
    assert_eq!(
        draw(&work()),
        "\
NAME                                            KIND          OWN  SHARED  CREATED
docker.io/library/debian:12                     image         0 B  124 MB  1 day ago       3 layers
├─ localhost/web:1, localhost/web:2 and 1 more  image         0 B  1.2 GB  1 day ago
├─ c-a                                          container   82 KB  1.2 GB  2 hours ago
│  ├─ before                                    snapshot      0 B  1.2 GB  2 minutes ago   pinned
│  │  └─ k8s.io/c-d                             container  4.0 KB  1.2 GB  5 seconds ago   expires in 7 days
│  └─ c-c                                       container  1.0 MB  1.2 GB  1 minute ago    on sha256:otherother01
└─ c-g                                          gone            -       -  16 minutes ago
   └─ c-h                                       container  9.0 MB  124 MB  30 seconds ago
sha256:otherother01                             layer      3.0 MB     0 B  1 day ago
"
    );
}

#[test]
fn a_narrow_terminal_is_shown_the_most_important() {
    for (columns, wanted) in [
        (
            80,
            "\
NAME                     KIND          OWN  SHARED  CREATED
docker.io/l…y/debian:12  image         0 B  124 MB  1 day ago       3 layers
├─ localhost/…nd 1 more  image         0 B  1.2 GB  1 day ago
├─ c-a                   container   82 KB  1.2 GB  2 hours ago
│  ├─ before             snapshot      0 B  1.2 GB  2 minutes ago   pinned
│  │  └─ k8s.io/c-d      container  4.0 KB  1.2 GB  5 seconds ago   expires in …
│  └─ c-c                container  1.0 MB  1.2 GB  1 minute ago    on sha256:o…
└─ c-g                   gone            -       -  16 minutes ago
   └─ c-h                container  9.0 MB  124 MB  30 seconds ago
sha256:otherother01      layer      3.0 MB     0 B  1 day ago
",
        ),
        (
            40,
            "\
NAME                   KIND          OWN
docker.io/…/debian:12  image         0 B
├─ localhost…d 1 more  image         0 B
├─ c-a                 container   82 KB
│  ├─ before           snapshot      0 B
│  │  └─ k8s.io/c-d    container  4.0 KB
│  └─ c-c              container  1.0 MB
└─ c-g                 gone            -
   └─ c-h              container  9.0 MB
sha256:otherother01    layer      3.0 MB
",
        ),
    ] {
        assert_eq!(narrow(&work(), columns), wanted, "{columns}");
    }
    assert_eq!(narrow(&work(), 200), draw(&work()));
}

#[test]
fn images_that_share_a_base_part_where_they_do() {
    let all = [
        layer("1", ""),
        layer("2", "1"),
        image("3", "2", &["a:1"]),
        layer("4", "2"),
        image("5", "4", &["b:1"]),
    ];
    assert_eq!(
        draw(&all),
        "\
NAME                 KIND   OWN  SHARED  CREATED
sha256:220123456789  layer    -       -  1 day ago  2 layers
├─ a:1               image    -       -  1 day ago
└─ b:1               image    -       -  1 day ago  2 layers
"
    );
    assert_eq!(drawn(&all, Drawing::Text, true).lines().count(), 6);
}

#[test]
fn a_source_that_is_not_there_leaves_the_parent_or_a_root() {
    let all = [node("p", "", "", 9), node("a", "lost", "p", 8), node("b", "lost", "lost", 7)];
    assert_eq!(names(&draw(&all)), ["c-p", "└─ c-a", "c-b"]);
    assert_eq!(draw(&[]), "");
}

#[test]
fn a_circle_is_drawn_once_from_its_oldest() {
    let all = [node("a", "c", "", 9), node("b", "a", "", 8), node("c", "b", "", 7), node("s", "s", "", 6)];
    assert_eq!(Forest::new(&all).in_order().count(), 4);
    for format in [Drawing::Text, Drawing::Dot, Drawing::Mermaid, Drawing::Svg] {
        let text = drawn(&all, format, false);
        for name in ["c-s", "c-a", "c-b", "c-c"] {
            assert!(text.contains(name), "{format:?} {name}: {text}");
        }
    }
    assert_eq!(draw(&all).lines().nth(2).map(|line| &line[..3]), Some("c-a"));
}

#[test]
fn only_what_comes_from_one() {
    let all = work();
    let text = Forest::new(&all).below("a").draw(&Look::plain(), Drawing::Text, false);
    assert_eq!(names(&text), ["c-a", "├─ before", "│  └─ k8s.io/c-d", "└─ c-c"]);
    assert_eq!(Forest::new(&all).below("a").in_order().count(), 4);
    assert_eq!(Forest::new(&all).below("nobody").in_order().count(), 0);
}

#[test]
fn many_that_are_alike_are_one_line() {
    let mut all = vec![node("web", "", "", 9_000)];
    for n in 1..=998 {
        let mut fork = sized(node(&format!("try-{n}"), "web", "", 1_000 - n), 12_000, 1_000_000);
        fork.container = format!("try-{n}");
        all.push(fork);
    }
    // These are not: pinned, with something below it, called otherwise.
    all[5].pinned = true;
    all.push(kept("of-7", "try-7", 1));
    all.push(node("other", "web", "", 1));
    let text = draw(&all);
    assert_eq!(
        names(&text),
        ["c-web", "├─ try-1 … try-998", "├─ try-5", "├─ try-7", "│  └─ of-7", "└─ c-other"],
        "{text}"
    );
    let fold = text.lines().nth(2).unwrap_or_default();
    assert!(fold.contains("  996 containers  "), "{fold}");
    assert!(fold.contains("  11 MB  "), "{fold}");
    assert_eq!(drawn(&all, Drawing::Text, true).lines().count(), 1 + all.len());
    for format in [Drawing::Dot, Drawing::Mermaid, Drawing::Svg] {
        assert!(drawn(&all, format, false).contains("try-1 … try-998"), "{format:?}");
        assert!(drawn(&all, format, true).contains("try-500"), "{format:?}");
    }
}

#[test]
fn alike_are_those_with_alike_ones_below_them() {
    let mut all = Vec::new();
    for n in 0..20 {
        let mut fork = sized(node(&format!("job-{n}"), "", "", 1_000 - n), 1_000_000, 0);
        fork.container = format!("job-{n}");
        all.push(fork);
        all.push(sized(kept(&format!("warm-{n}"), &format!("job-{n}"), 100), 500_000, 0));
    }
    let text = draw(&all);
    assert_eq!(names(&text), ["job-0 … job-19"]);
    assert!(text.contains("20 containers  30 MB") && text.ends_with("each with 1 more\n"), "{text}");
    // A crowd of one kind is one line whatever they are called; eight are not many.
    let crowd: Vec<_> = ('a'..='z').flat_map(|a| ('l'..='q').map(move |b| format!("{a}{b}"))).collect();
    let crowd: Vec<_> = crowd.iter().map(|name| kept(name, "", 1)).collect();
    assert_eq!(names(&draw(&crowd)), ["al … zq"]);
    let few: Vec<_> = (0..8).map(|n| kept(&format!("few-{n}"), "", 9 - n)).collect();
    assert_eq!(names(&draw(&few)).len(), 8);
}

#[test]
fn long_chains_end_and_are_one_line() {
    let chain: Vec<_> = (0_u32..20_000)
        .map(|at| node(&at.to_string(), &at.wrapping_sub(1).to_string(), "", 20_000 - i64::from(at)))
        .collect();
    let text = drawn(&chain, Drawing::Text, true);
    assert_eq!(text.lines().count(), 1 + chain.len());
    assert!(text.lines().last().is_some_and(|line| line.starts_with('…') && width(line) < 200));
    assert_eq!(Forest::new(&chain).in_order().last().map(|last| last.id.as_str()), Some("19999"));
    let text = draw(&chain);
    assert_eq!(names(&text), ["c-0 … c-19999"]);
    assert!(text.contains("20,000 containers") && text.ends_with("each from the one before\n"), "{text}");
    for format in [Drawing::Dot, Drawing::Mermaid, Drawing::Svg] {
        let text = drawn(&chain, format, true);
        assert!(text.len() < 20_000 * 1_200, "{format:?} {}", text.len());
    }
}

#[test]
fn two_thousand_of_any_shape_are_drawn_in_no_time_and_fit() {
    let all: Vec<_> = (0..2_000_u32)
        .map(|at| node(&at.to_string(), &(at / 3).to_string(), "", 2_000 - i64::from(at)))
        .collect();
    let begun = std::time::Instant::now();
    for columns in [40, 80, 200] {
        let text = narrow(&all, columns);
        assert!(text.lines().all(|line| width(line) <= columns), "{columns}");
    }
    for format in [Drawing::Dot, Drawing::Mermaid, Drawing::Svg] {
        drawn(&all, format, true);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn lines_fit_the_terminal() {
    let mut all: Vec<_> =
        (1..40).map(|at| node(&at.to_string(), &(at - 1).to_string(), "", 40 - at)).collect();
    all[0].container = "a-very-long-name-漢字漢字漢字漢字-that-nobody-types-a-very-long-name".into();
    all[7].pinned = true;
    for columns in [20, 40, 60, 80, 200] {
        let look = Look { width: Some(columns), ..Look::plain() };
        for draw_all in [false, true] {
            let text = Forest::new(&all).draw(&look, Drawing::Text, draw_all);
            for line in text.lines() {
                assert!(width(line) <= columns, "{columns}: {line}");
            }
            assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("a-ve")), "{text}");
        }
    }
    assert!(narrow(&all, 60).contains('…'));
}

/// What the readers of the formats would obey, and a terminal.
const HOSTILE: &str =
    "\"]; x --> y\n\u{1b}[2J</text><script>alert(1)</script>\\\"&amp;\\N`#quot;\u{202e}%% {end}";

#[test]
fn a_name_is_never_more_than_a_name() {
    let mut all = [image("i", "", &[HOSTILE]), node("n", "", "i", 5), kept(HOSTILE, "n", 4)];
    (all[1].container, all[1].namespace, all[1].pinned) = (HOSTILE.into(), HOSTILE.into(), true);
    for format in [Drawing::Text, Drawing::Dot, Drawing::Mermaid, Drawing::Svg] {
        let text = drawn(&all, format, false);
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{format:?}: {text}");
        assert!(
            !text.contains("<script") || format == Drawing::Text || format == Drawing::Dot,
            "{format:?}: {text}"
        );
        let plain = [image("i", "", &["x"]), node("n", "", "i", 5), kept("k", "n", 4)];
        let lines = |text: &str| text.lines().count();
        if format != Drawing::Svg {
            assert_eq!(lines(&text), lines(&drawn(&plain, format, false)), "{format:?}: {text}");
        }
    }
    let mermaid = drawn(&all, Drawing::Mermaid, false);
    // In a label there is nothing but letters, and what is written by its number.
    for label in mermaid.lines().filter_map(|line| line.split_once('"')?.1.rsplit_once('"')) {
        let rest = label.0.replace("<br>", "");
        assert!(!rest.contains(['"', '<', '>', '`', '\\', '&', '%', '[', '{']), "{rest}");
    }
}

#[test]
fn a_graph_of_each_language() {
    let all = work();
    let text = drawn(&all, Drawing::Dot, false);
    assert!(text.starts_with("digraph loom {\n") && text.ends_with("}\n"), "{text}");
    assert_eq!(text.matches(" -> ").count(), 8, "{text}");
    assert_eq!(text.matches("constraint=false").count(), 1, "the parent of one that hangs elsewhere");
    assert_eq!(
        drawn(&all[..5], Drawing::Mermaid, false),
        "\
flowchart LR
  n0[(\"docker.io/library/debian:12<br>image, 0 B own, 124 MB shared, 3 layers, 1 day ago\")]:::image
  n1([\"c-a<br>container, 82 KB own, 1.2 GB shared, 2 hours ago\"]):::container
  n2([\"k8s.io/c-d<br>container, 4.0 KB own, 1.2 GB shared, expires in 7 days, 5 seconds ago\"]):::container
  n0 -.-> n1
  n0 -.-> n2
  classDef container fill:#dafbe1,stroke:#1a7f37,color:#1f2328
  classDef image fill:#fbefff,stroke:#8250df,color:#1f2328
"
    );
}

#[test]
fn a_picture_needs_nothing_else() {
    let text = drawn(&work(), Drawing::Svg, false);
    assert!(
        text.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"") && text.ends_with("</svg>\n")
    );
    for other in ["<script", "href", "url(", "<image", "@import", "on="] {
        assert!(!text.contains(other), "{other}");
    }
    assert_eq!(text.matches("<g>").count(), text.matches("</g>").count());
    assert_eq!(text.matches("<g>").count(), draw(&work()).lines().count() - 1);
    assert_eq!((text.matches("\"edge source\"").count(), text.matches("\"edge\"").count()), (4 + 1, 3 + 1));
    // As wide for many as for few.
    let width = |text: &str| -> usize {
        let width = text.split_once("width=\"").and_then(|(_, rest)| rest.split_once('"'));
        width.and_then(|(width, _)| width.parse().ok()).unwrap_or(0)
    };
    let many: Vec<_> = (0..2_000_u32).map(|at| node(&at.to_string(), &(at / 3).to_string(), "", 5)).collect();
    assert!((560..1_200).contains(&width(&text)), "{}", width(&text));
    assert!((560..1_200).contains(&width(&drawn(&many, Drawing::Svg, true))));
    assert!(drawn(&[], Drawing::Svg, false).ends_with("</svg>\n"));
}
