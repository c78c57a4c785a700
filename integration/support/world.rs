//! All that there is on a stage, a line each, so that two moments can be compared: what differs is what a
//! request has done, or has left behind.
//!
//! Ids that are made at random are not in it; a container of nerdctl's is called by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::api::{Snapshot, Task};
use super::process::{finish, printed};
use super::stage::Stage;

/// What there is, a line each.
pub type World = BTreeSet<String>;

/// A container's files that its work changes all the time.
const CHANGING: [&str; 2] = ["count", "new"];
/// Where CNI keeps whose an address is.
const ADDRESSES: &str = "/var/lib/cni/networks/bridge";

/// Which containers the restart monitor watches.
const WATCHED: &str = "labels.\"containerd.io/restart.status\"==running";

/// What loom is asked.
const COMMANDS: [&[&str]; 3] = [&["ls", "--all"], &["status"], &["operations", "--limit", "10"]];

/// The same with one layer, and its directory, more.
pub fn with_a_layer_more(world: &World) -> World {
    let more = |line: &String| {
        let Some(("layers: ", count)) = line.split_at_checked("layers: ".len()) else { return line.clone() };
        let (layers, directories) = count.split_once(", directories: ").unwrap();
        let more = |count: &str| count.parse::<usize>().unwrap() + 1;
        format!("layers: {}, directories: {}", more(layers), more(directories))
    };
    world.iter().map(more).collect()
}

/// Reads it; None where loomd, or containerd's way to it, is not there.
pub fn read(stage: &Stage) -> Option<World> {
    let [rows, status, operations] = std::thread::scope(|scope| {
        COMMANDS.map(|command| scope.spawn(|| ask(stage, command))).map(|thread| thread.join().unwrap())
    });
    let (rows, status, operations) = (rows?, status?, operations?);
    let containerd = stage.containerd.api();
    let mut world = World::new();
    let mut names = names(stage);
    names.extend(published(&rows));
    let mut add = |what: &str, each: &str| {
        let mut line = format!("{what} {}", each.split_whitespace().collect::<Vec<_>>().join(" "));
        for (id, name) in &names {
            line = line.replace(id, name);
        }
        world.insert(line);
    };
    for Snapshot { key, parent, kind } in containerd.snapshots("loom")? {
        add("containerd's snapshot", &format!("{key} {parent} {kind}"));
    }
    for name in containerd.containers("")? {
        add("container", &name);
    }
    for name in containerd.containers(WATCHED)? {
        add("watched by the restart monitor:", &name);
    }
    for Task { name, pid, status } in containerd.tasks()? {
        if status == "CREATED" {
            continue; // Nothing of it runs yet, and whoever starts it finds it made.
        }
        let files = names_in(&PathBuf::from(format!("/proc/{pid}/root/root")));
        let files: Vec<_> = files.into_iter().filter(|file| !CHANGING.contains(&file.as_str())).collect();
        add("task", &format!("{name} {status} with {}", files.join(",")));
    }
    for name in containerd.leases()? {
        add("lease", &name);
    }
    // Of other images containerd decides: that of an import which fails late is kept.
    let ours = |name: &String| name.starts_with("loom.invalid/") || name.starts_with("docker.io/");
    for name in containerd.images()?.into_iter().filter(ours) {
        add("image", &name);
    }
    for operation in operations.as_array().unwrap() {
        if operation["ended"].is_null() {
            add("operation under way:", &operation.to_string());
        }
    }
    let mut lineage = 0;
    for row in rows.as_array().unwrap() {
        let text = |field: &str| row[field].as_str().unwrap_or("-").to_owned();
        let key = row["key"].as_str().map(|key| key.splitn(3, '/').nth(2).unwrap_or(key));
        if row["key"].is_null() && row["name"].is_null() && row["pinned"] == false {
            lineage += 1;
            continue;
        }
        let (name, kind, home) = (text("name"), text("kind"), text("home"));
        let pinned = if row["pinned"] == true { "pinned" } else { "" };
        let limit = row["limit"].as_u64().map(|limit| format!("limit {limit}")).unwrap_or_default();
        add("loom's snapshot", &format!("{} {name} {kind} {home} {pinned} {limit}", key.unwrap_or("-")));
    }
    add("rows that only lineage keeps:", &lineage.to_string());
    add("pauses:", &pauses(stage).to_string());
    let place = &stage.place;
    add("layers:", &format!("{}, directories: {}", status["layers"], place.layers().len()));
    add("subvolumes:", &place.subvolumes().len().to_string());
    for path in place.trash() {
        add("trash", &path.display().to_string());
    }
    for trail in names_in(&place.root.join("nerdctl")) {
        add("trail of nerdctl's", &trail);
    }
    for store in stores(stage) {
        for kind in ["containers", "etchosts", "names", "volumes"] {
            for each in names_in(&store.join(kind).join("default")) {
                add(&format!("nerdctl's {kind}:"), &each);
            }
        }
    }
    let uses_nerdctl = !stores(stage).is_empty();
    for address in names_in(Path::new(ADDRESSES)).into_iter().filter(|_| uses_nerdctl) {
        // Of the other files there, one is a lock and one says which address was given last.
        if address.starts_with(|first: char| first.is_ascii_digit()) {
            add("address of", &fs::read_to_string(Path::new(ADDRESSES).join(address)).unwrap_or_default());
        }
    }
    Some(world)
}

/// What `loom … --json` answers.
fn ask(stage: &Stage, command: &[&str]) -> Option<Value> {
    let output = finish(&mut stage.loom_command(&[command, &["--json"]].concat()));
    printed(output).map(|text| serde_json::from_str(&text).unwrap())
}

/// What one world has and the other has not, for people.
pub fn difference(wanted: &World, found: &World) -> String {
    let without = wanted.difference(found).map(|line| format!("without {line}"));
    let with = found.difference(wanted).map(|line| format!("with    {line}"));
    let lines: Vec<String> = without.chain(with).collect();
    format!("\n  it would be:\n    {}", lines.join("\n    "))
}

/// The states that are layers of images, whose chain ids are made of random ones.
fn published(rows: &Value) -> BTreeMap<String, String> {
    let published =
        rows.as_array().unwrap().iter().filter(|row| row["kind"] == "committed" && !row["source"].is_null());
    let keys = published.filter_map(|row| row["key"].as_str()?.splitn(3, '/').nth(2));
    keys.filter(|key| key.starts_with("sha256:"))
        .map(|key| (key.to_owned(), "PUBLISHED".to_owned()))
        .collect()
}

/// What nerdctl calls its containers, by their ids.
fn names(stage: &Stage) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for store in stores(stage) {
        let dir = store.join("names/default");
        for name in names_in(&dir) {
            let id = fs::read_to_string(dir.join(&name)).unwrap_or_default();
            names.insert(id.trim().to_owned(), name);
        }
    }
    names.remove("");
    names
}

/// Where nerdctl keeps what it knows.
fn stores(stage: &Stage) -> Vec<PathBuf> {
    let data = stage.scratch.path().join("run/nerdctl");
    names_in(&data).into_iter().map(|name| data.join(name)).collect()
}

/// How many containers loom has written down as paused.
fn pauses(stage: &Stage) -> i64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = rusqlite::Connection::open_with_flags(stage.place.root.join("loom.db"), flags).unwrap();
    store.query_row("SELECT count(*) FROM pauses", [], |row| row.get(0)).unwrap()
}

/// The names in a directory but for hidden ones, in order; none where it is not there.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}
