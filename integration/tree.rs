//! The session in the README, and what `loom tree` and `loom lineage` tell of it: its shape, and sizes that are the
//! filesystem's.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::process::run;
use support::stage::{Stage, on_stages};
use support::wait::wait_until;

on_stages! {
    on_ext4: session(Ext4, Debian);
    on_xfs: session(Xfs, Debian);
    with_a_pool: session(Ext4Pool, Debian);
    with_a_pool_and_the_current_containerd: session(Ext4Pool, Current);
    many_on_ext4: many(Ext4, Debian);
    many_in_a_pool: many(Ext4Pool, Debian);
}

const MB: u64 = 1_000_000;
/// Writes once, and then nothing more.
const SCRIPT: &str = "cd /root; if [ ! -e done ]; then dd if=/dev/urandom of=data bs=1000000 count=100; \
    sync; touch done; fi; while :; do sleep 60; done";

/// What a person sees of a session, and what programs read.
fn session(stage: Stage) {
    let image = stage.import(&small());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "web", "sh", "-c", SCRIPT]);
    let root = |name: &str| PathBuf::from(format!("/proc/{}/root/root", stage.containerd.pid_of(name)));
    wait_until("the container to have written", || root("web").join("done").exists());
    stage.loom(&["snapshot", "web", "--name", "before"]);
    stage.fork(&["web", "--name", "try", "--count", "3"]);
    write(&stage, "try-2", 20);
    stage.fork(&["try-2", "--name", "again"]);
    write(&stage, "again", 5);
    stage.loom(&["pin", "before"]);

    let text = stage.loom(&["tree"]);
    println!("# loom tree\n{text}");
    println!("# loom lineage again\n{}", stage.loom(&["lineage", "again"]));
    let (head, top) = (text.lines().next().unwrap(), text.lines().nth(1).unwrap());
    assert!(head.starts_with("NAME ") && top.starts_with(&image) && top.contains("  image  "), "{text}");
    // Those of one moment were made at once, in any order.
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
    for (name, lead) in [
        ("web", "└─ web "),
        ("before", "   ├─ before "),
        ("try-1", "   "),
        ("try-2", "   "),
        ("try-3", "   "),
        ("again", "└─ again "),
    ] {
        let found = text.lines().find(|line| line.split_whitespace().any(|word| word == name)).unwrap();
        assert!(found.contains(lead), "{name} in\n{text}");
        let kind = if name == "before" { " snapshot " } else { " container " };
        assert!(found.contains(kind), "{name} in\n{text}");
    }
    assert!(line("before").ends_with("pinned"), "{text}");
    let below = text.lines().skip_while(|line| !line.contains("try-2 ")).nth(1).unwrap();
    assert!(below.contains("└─ again "), "{text}");
    assert_eq!(stage.loom(&["tree", "try-2"]).lines().count(), 3);
    assert_eq!(stage.loom(&["tree", "before"]).lines().count(), 2);

    let tree = stage.loom_json(&["tree"]);
    let nodes: BTreeMap<String, &Value> = tree
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            (node["name"].as_str().or(node["container"].as_str()).unwrap_or("image").to_owned(), node)
        })
        .collect();
    assert_eq!(nodes["image"]["images"][0], image.as_str());
    assert_eq!(
        (&nodes["again"]["source"], &nodes["try-2"]["source"]),
        (&nodes["try-2"]["id"], &nodes["web"]["id"])
    );
    for name in ["web", "try-1", "try-2", "try-3", "again"] {
        sizes(&stage, name, &nodes[name]["size"]);
    }
    let own = |name: &str| nodes[name]["size"]["exclusive"].as_u64().unwrap() / MB;
    assert_eq!((own("image"), own("try-1"), own("try-3")), (0, 0, 0));
    // A copy has for its own what its source had written, too.
    assert_eq!(own("again"), if stage.layout == Layout::Ext4 { 25 } else { 5 });
    let shared = |name: &str| nodes[name]["size"]["shared"].as_u64().unwrap() / MB;
    assert_eq!(own("again") + shared("again") - shared("image"), 125, "{tree:#}");
    if stage.layout == Layout::Ext4Pool {
        assert_eq!((own("web"), own("before"), own("try-2")), (0, 0, 0), "{tree:#}");
    }
    let way = stage.loom_json(&["lineage", "again"]);
    assert_eq!(way[0], *nodes["again"], "a lineage tells what a tree does");

    let svg = stage.loom(&["tree", "--format", "svg"]);
    let dot = stage.loom(&["tree", "--format", "dot"]);
    let mermaid = stage.loom(&["tree", "--format", "mermaid"]);
    for name in nodes.keys().filter(|name| *name != "image").chain([&image]) {
        assert!([&svg, &dot, &mermaid].iter().all(|drawn| drawn.contains(name)), "{name}");
    }
    // For the README, and for the eye.
    if let Some(kept) = std::env::var_os("LOOM_TEST_KEEP") {
        for (text, ending) in [(&svg, "svg"), (&dot, "dot"), (&mermaid, "mmd")] {
            fs::write(PathBuf::from(&kept).join("tree").with_extension(ending), text).unwrap();
        }
    }
    stage.loom(&["unpin", "before"]);
    stage.loom(&["rm", "before"]);
    stage.end(&image);
}

fn write(stage: &Stage, name: &str, megabytes: usize) {
    let dd = format!("dd if=/dev/urandom of=/root/mine-{name} bs=1000000 count={megabytes}; sync");
    stage.containerd.exec(name, &["sh", "-ec", &dd]);
}

/// A container's sizes against those that the filesystem tells of its layers.
fn sizes(stage: &Stage, name: &str, size: &Value) {
    let exclusive = size["exclusive"].as_u64().unwrap();
    let all = exclusive + size["shared"].as_u64().unwrap();
    let (upper, lowers) = layers(stage, name);
    let number = |text: &str| text.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    let du = |path: &PathBuf| number(&run("du", &["-s", "-B1", path.to_str().unwrap()]));
    let near = |a: u64, b: u64| a.abs_diff(b) < MB;
    let on_disk: u64 = lowers.iter().chain([&upper]).map(du).sum();
    assert!(near(all, on_disk), "{name}: {size}, and on disk {on_disk}");
    if stage.layout == Layout::Ext4Pool {
        let path = upper.to_str().unwrap();
        let told = run("btrfs", &["filesystem", "du", "--raw", "-s", path]);
        // A head, then the total, what is exclusive, what is shared, and the name.
        let line = told.lines().nth(1).unwrap();
        let told: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        println!("{name}: exclusive {exclusive}, btrfs {told}");
        assert!(near(exclusive, told), "{name}: {size}, and btrfs tells {told}");
    } else {
        println!("{name}: exclusive {exclusive}, its top layer {}", du(&upper));
        assert!(stage.layout == Layout::Xfs || exclusive + MB > du(&upper), "{name}: {size}");
    }
}

/// Where a running container's writable layer lies, and what that is stacked on.
fn layers(stage: &Stage, name: &str) -> (PathBuf, Vec<PathBuf>) {
    let mounts = stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "mounts", "/nowhere", name]);
    let options = mounts.split_whitespace().find(|word| word.contains("upperdir=")).unwrap();
    let option = |name: &str| {
        let found = options.split(',').find_map(|option| option.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("{name} in {mounts}"))
            .split(':')
            .map(PathBuf::from)
            .collect::<Vec<_>>()
    };
    (option("upperdir=").remove(0), option("lowerdir="))
}

/// Two thousand of them are told in a few seconds, and in few lines.
fn many(stage: Stage) {
    const MANY: usize = 2_000;
    let image = stage.import(&small());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "web", "sh", "-c", SCRIPT]);
    let doors = stage.doors();
    let base = doors.list().unwrap().into_iter().find(|key| key.contains("/sha256:")).unwrap();
    for n in 0..MANY {
        doors.prepare(&format!("default/{}/try-{n}", 1_000 + n), &base, &[]).unwrap();
    }
    for args in [["tree", "--all"], ["tree", "--json"], ["ls", "--json"]] {
        let begun = std::time::Instant::now();
        let text = stage.loom(&args);
        let took = begun.elapsed();
        println!("{args:?}: {} ms", took.as_millis());
        assert!(text.lines().count() > MANY);
        assert!(took.as_secs() < 6, "{args:?}: {took:?}");
    }
    let text = stage.loom(&["tree"]);
    println!("{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains("└─ try-0 … try-1999  2,000 containers "), "{text}");
    let unknown =
        stage.loom_json(&["tree"]).as_array().unwrap().iter().filter(|node| node["size"].is_null()).count();
    println!("sizes that are not known: {unknown}");
    for n in 0..MANY {
        doors.remove(&format!("default/{}/try-{n}", 1_000 + n)).unwrap();
    }
    stage.end(&image);
}
