//! `loom check`: each kind of damage is planted; it is found, put right where that is safe, and refused with the reason
//! elsewhere; a database that is gone is made anew. Afterwards everything works as before.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use support::containerd::Version;
use support::image::small;
use support::layout::Layout;
use support::process::{finish, run};
use support::stage::{Stage, on_stages};
use support::wait::{wait_until, wait_until_none};

/// A finding: its code, whether it can be put right, and all of it.
type Found = (String, String, Value);

/// A container that has written, a state of it, and a fork that does not run.
struct House {
    stage: Stage,
    image: String,
    /// containerd's key of the image's top layer, as clients know it.
    layer: String,
}

impl House {
    fn new(stage: Stage) -> House {
        let image = stage.import(&small());
        let layer = stage.containerd.snapshots("loom").into_iter().find(|key| key.starts_with("sha256:"));
        stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "web", "sleep", "10000"]);
        stage.containerd.exec("web", &["sh", "-c", "echo before >/root/state"]);
        stage.loom(&["snapshot", "web", "--name", "before", "--label", "a=b"]);
        stage.containerd.exec("web", &["sh", "-c", "echo now >/root/state"]);
        stage.loom(&["fork", "web", "--name", "try", "--no-start"]);
        House { stage, image, layer: layer.unwrap() }
    }

    /// Runs `loom check`; its exit status and findings.
    fn check(&self, args: &[&str]) -> (i32, Vec<Found>) {
        let output = finish(&mut self.stage.loom_command(&[&["check", "--json"], args].concat()));
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let all: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{said}"));
        let word = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
        // What was removed just before a stop is reclaimed by a repair.
        let found = all.as_array().unwrap().iter().filter(|one| one["code"] != "trash");
        let found = found.map(|one| (word(one, "code"), word(one, "repair"), one.clone())).collect();
        (output.status.code().unwrap(), found)
    }

    /// What is found is this, each with its repair.
    fn finds(&self, args: &[&str], expected: &[(&str, &str)]) -> Vec<Found> {
        let (status, found) = self.check(args);
        let short: Vec<_> = found.iter().map(|(code, repair, _)| (code.as_str(), repair.as_str())).collect();
        assert_eq!(short, expected, "{args:?}: {found:#?}");
        assert_eq!(status, i32::from(expected.iter().any(|(_, repair)| *repair != "done")), "{found:#?}");
        found
    }

    /// The arguments for the root, which no loomd has.
    fn offline(&self, args: &[&str]) -> Vec<String> {
        let place = &self.stage.place;
        let mut all = vec!["--root".to_owned(), place.root.to_str().unwrap().to_owned()];
        if let Some(pool) = &place.pool {
            all.extend(["--pool".to_owned(), pool.to_str().unwrap().to_owned()]);
        }
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        all
    }

    fn finds_offline(&self, args: &[&str], expected: &[(&str, &str)]) -> Vec<Found> {
        let args = self.offline(args);
        self.finds(&args.iter().map(String::as_str).collect::<Vec<_>>(), expected)
    }

    /// A check of the root dies at a fault point.
    fn dies_at(&self, point: &str, args: &[&str]) {
        const { assert!(cfg!(feature = "fault-points"), "build with --all-features") };
        let args = self.offline(args);
        let mut command = self.stage.loom_command(&["check"]);
        let status = command.args(args).env("LOOM_FAULT", format!("{point}:abort")).status().unwrap();
        assert_eq!(status.signal(), Some(6), "{point}: {status}");
    }

    /// The row of a snapshot, by loom's name or containerd's key.
    fn row(&self, name: &str) -> Value {
        let rows = self.stage.loom_json(&["ls", "--all"]);
        let is = |row: &&Value| {
            row["name"] == name || row["key"].as_str().is_some_and(|key| key.ends_with(&format!("/{name}")))
        };
        rows.as_array().unwrap().iter().find(is).unwrap_or_else(|| panic!("{name}: {rows}")).clone()
    }

    /// The directory of a snapshot's own layer.
    fn directory(&self, name: &str) -> PathBuf {
        let id = self.row(name)["id"].as_str().unwrap().to_owned();
        let layer: i64 = self.query(&format!("SELECT layer FROM snapshots WHERE id = '{id}'"));
        let place = &self.stage.place;
        let homes = [Some(&place.root), place.pool.as_ref()].into_iter().flatten();
        let found = homes.map(|home| home.join("layers").join(layer.to_string())).find(|path| path.exists());
        found.unwrap()
    }

    fn database(&self) -> rusqlite::Connection {
        let database = rusqlite::Connection::open(self.stage.place.root.join("loom.db")).unwrap();
        database.pragma_update(None, "foreign_keys", false).unwrap();
        database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        database
    }

    fn query(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn execute(&self, sql: &str) {
        self.database().execute_batch(sql).unwrap();
    }

    /// loomd does not start, and says this.
    fn refuses_to_start(&mut self, parts: &[&str]) {
        let before = self.stage.loomd.log().len();
        self.stage.loomd.spawn();
        let loomd = &mut self.stage.loomd;
        wait_until("loomd to refuse", || !loomd.daemon().is_running());
        loomd.stop();
        let said = loomd.log()[before..].to_owned();
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }

    /// What was branched is what it was, and simple verbs work.
    fn works(&self) {
        let stage = &self.stage;
        let content = |name: &str| stage.containerd.exec(name, &["cat", "/root/state"]);
        assert_eq!(content("web"), "now");
        stage.loom(&["clone", "before", "--name", "old"]);
        assert_eq!(content("old"), "before");
        stage.loom(&["fork", "web", "--name", "more"]);
        assert_eq!(content("more"), "now");
        stage.loom(&["resume", "try"]);
        assert_eq!(content("try"), "now");
        stage.loom(&["rollback", "try", "before", "--discard"]);
        assert_eq!(content("try"), "before");
        stage.loom(&["snapshot", "web", "--name", "latest"]);
        stage.containerd.remove(&["old", "more"]);
        stage.loom(&["rm", "latest"]);
        // As it was: stopped, with what the container has now.
        stage.containerd.remove(&["try"]);
        stage.loom(&["fork", "web", "--name", "try", "--no-start"]);
        // What containerd's collector is to remove has no record any more, and is there until it does.
        stage.containerd.collect();
        wait_until("all to agree", || self.check(&[]).1.is_empty());
    }

    fn end(self) {
        self.stage.loom(&["rm", "before"]);
        self.stage.end(&self.image);
    }
}

on_stages! {
    what_lies_wrong_on_ext4: what_lies_wrong(Ext4, Debian);
    what_lies_wrong_with_a_pool: what_lies_wrong(Ext4Pool, Current);
    what_containerd_knows_with_debians: what_containerd_knows(Ext4, Debian);
    what_containerd_knows_with_the_current: what_containerd_knows(Ext4Pool, Current);
    a_lost_database_on_ext4: a_lost_database(Ext4, Debian);
    a_lost_database_with_a_pool: a_lost_database(Ext4Pool, Current);
}

/// Directories, subvolumes and mounts.
fn what_lies_wrong(stage: Stage) {
    let house = House::new(stage);
    let stage = &house.stage;
    house.finds(&[], &[]);
    assert_eq!(stage.loom(&["check"]), "");

    // What a loomd has is not checked behind its back.
    let args = house.offline(&[]);
    let args: Vec<&str> = std::iter::once("check").chain(args.iter().map(String::as_str)).collect();
    let said = stage.loom_fails(4, &args);
    assert!(said.contains("loomd is running on it"), "{said}");

    // Extra directories; a leaked subvolume.
    let plain = stage.place.root.join("layers");
    fs::create_dir_all(plain.join("1000000/fs")).unwrap();
    fs::write(plain.join("1000000/fs/file"), vec![1; 100_000]).unwrap();
    fs::create_dir_all(plain.join("copy of 7/fs")).unwrap();
    let (unknown, stray) = ("layer-unknown", "name-unknown");
    let found = house.finds(&[], &[(unknown, "possible"), (stray, "possible")]);
    assert!(found[0].2["bytes"].as_u64().unwrap() >= 100_000, "{found:?}");
    house.finds(&["--repair"], &[(unknown, "done"), (stray, "done")]);
    house.finds(&[], &[]);
    if let Some(pool) = &stage.place.pool {
        let (layers, state) = (pool.join("layers"), house.directory("before"));
        btrfs(&["subvolume", "snapshot", "-r"], &[&state, &layers.join("1000001")]);
        btrfs(&["subvolume", "create"], &[&layers.join("leaked")]);
        let expected = |repair| [("subvolume-leaked", repair), (stray, repair)];
        house.finds(&[], &expected("possible"));
        house.finds(&["--repair"], &expected("done"));
        house.finds(&[], &[]);
        let subvolumes = || stage.place.subvolumes().into_iter().filter(|path| !path.contains("/layers/"));
        wait_until_none("leaked subvolumes", || subvolumes().collect());
    }

    // A directory that is gone: what stands on it is named, and stays until it is removed.
    stage.loom(&["snapshot", "web", "--name", "lost"]);
    let directory = house.directory("lost");
    destroy(&directory);
    let found = house.finds(&["--repair"], &[("layer-missing", "none")]);
    let message = found[0].2["message"].as_str().unwrap();
    assert!(message.contains("snapshot lost"), "{message}");
    stage.loom(&["rm", "lost"]);
    wait_until("the row to go", || house.check(&[]).1.is_empty());

    // A mount of what was removed: told with its place, and its bytes stay until it goes.
    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "prepare", "stale", &house.layer]);
    let place = stage.scratch.dir("stale");
    stage.containerd.mount("loom", "stale", &place);
    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "rm", "stale"]);
    stage.containerd.collect();
    wait_until("the stale mount to be found", || house.check(&[]).1.len() == 1);
    let found = house.finds(&["--repair"], &[("mount-stale", "none")]);
    assert_eq!(found[0].2["what"], place.to_str().unwrap());
    run("umount", &[&place]);
    wait_until("the mount's end to be seen", || house.check(&[]).1.is_empty());
    wait_until_none("trash", || stage.place.trash().iter().map(|path| path.display().to_string()).collect());

    // Two mounts that write to one layer.
    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "prepare", "twice", &house.layer]);
    let places = [stage.scratch.dir("one"), stage.scratch.dir("two")];
    for place in &places {
        stage.containerd.mount("loom", "twice", place);
    }
    house.finds(&["--repair"], &[("mount-shared", "none")]);
    for place in &places {
        run("umount", &[place]);
    }
    stage.containerd.ctr(&["snapshots", "--snapshotter", "loom", "rm", "twice"]);
    house.works();
    wait_until("all to agree", || house.check(&[]).1.is_empty());
    house.end();
}

/// Records without snapshots, and snapshots without records.
fn what_containerd_knows(stage: Stage) {
    let house = House::new(stage);
    let stage = &house.stage;
    // Of another namespace too.
    let ctr = |args: &[&str]| stage.containerd.ctr(&[&["snapshots", "--snapshotter", "loom"], args].concat());
    ctr(&["prepare", "orphan", &house.layer]);
    let key = house.row("orphan")["key"].as_str().unwrap().to_owned();
    stage.doors().remove(&key).unwrap();
    let found = house.finds(&["--repair"], &[("snapshot-missing", "none")]);
    assert_eq!(found[0].2["what"], format!("snapshot {key}"));
    ctr(&["rm", "orphan"]);
    house.finds(&[], &[]);

    // A container's: it is named.
    let key = house.row("try")["key"].as_str().unwrap().to_owned();
    stage.doors().remove(&key).unwrap();
    let found = house.finds(&["--repair"], &[("snapshot-missing", "none")]);
    let message = found[0].2["message"].as_str().unwrap();
    assert!(message.contains("container try"), "{message}");
    stage.containerd.ctr(&["containers", "rm", "try"]);
    wait_until("the record to go", || house.check(&[]).1.is_empty());

    let parent = house.row(&house.layer)["key"].as_str().unwrap().to_owned();
    stage.doors().prepare("default/999999/nobody", &parent, &[]).unwrap();
    let found = house.finds(&["--repair"], &[("record-missing", "none")]);
    assert_eq!(found[0].2["what"], "snapshot default/999999/nobody");
    stage.doors().remove("default/999999/nobody").unwrap();
    house.finds(&[], &[]);

    // Without containerd the rest is compared.
    let nowhere = stage.scratch.path().join("nowhere.sock");
    let args = ["check", "--containerd", nowhere.to_str().unwrap(), "--json"];
    let output = finish(&mut stage.loom_command(&args));
    assert!(String::from_utf8(output.stdout).unwrap().contains("containerd-silent"));
    house.end();
}

/// Rows that are gone or wrong, up to all of them.
fn a_lost_database(stage: Stage) {
    let mut house = House::new(stage);
    let lineage = house.lineage();
    let root = house.stage.place.root.to_str().unwrap().to_owned();

    // A wrong parent: nobody but the layers can say which is right.
    house.stage.loomd.stop();
    house.execute("UPDATE snapshots SET source = parent WHERE name = 'before'");
    house.stage.start_again();
    let found = house.finds(&["--repair"], &[("manifest-differs", "none")]);
    assert!(found[0].2["message"].as_str().unwrap().contains("source"), "{found:?}");
    house.stage.loomd.stop();
    house.finds_offline(&["--repair"], &[("manifest-differs", "none")]);
    fs::create_dir(Path::new(&root).join("layers/other")).unwrap();
    house.dies_at("layer.stray.rename", &["--repair"]);
    house.finds_offline(&["--repair"], &[("manifest-differs", "none"), ("name-unknown", "done")]);
    house.finds_offline(&["--rebuild"], &[("database-rebuilt", "done")]);
    house.stage.start_again();
    assert_eq!(house.lineage(), lineage);
    house.finds(&[], &[]);

    // A lost row: loomd does not start, and says what to do.
    let layer = house.directory("before").file_name().unwrap().to_str().unwrap().to_owned();
    house.stage.loomd.stop();
    house.execute(&format!(
        "DELETE FROM snapshots WHERE name = 'before'; DELETE FROM layers WHERE id = {layer}"
    ));
    house.refuses_to_start(&[&format!("layer {layer}"), &format!("loom check --root {root}"), "--rebuild"]);
    let found = house.finds_offline(&["--repair"], &[("layer-lost", "none")]);
    assert!(found[0].2["message"].as_str().unwrap().contains("snapshot before"), "{found:?}");
    house.finds_offline(&["--rebuild"], &[("database-rebuilt", "done")]);
    house.stage.start_again();
    assert_eq!(house.lineage(), lineage);
    house.works();

    // All of them.
    let lineage = house.lineage();
    house.stage.loomd.stop();
    for name in ["loom.db", "loom.db-wal", "loom.db-shm"] {
        let _ = fs::remove_file(Path::new(&root).join(name));
    }
    let layers = house.stage.place.layers();
    house.refuses_to_start(&["no database", &format!("loom check --root {root}"), "--rebuild"]);
    house.finds_offline(&["--repair"], &[("database-missing", "none")]);
    fs::write(
        Path::new(&root).join("loom.db"),
        "this is no database at all, and longer than a header is".repeat(50),
    )
    .unwrap();
    house.finds_offline(&["--repair"], &[("database-damaged", "none")]);
    assert_eq!(house.stage.place.layers(), layers);
    // One that dies on the way is made again.
    for point in ["check.rebuild.write", "check.rebuild.keep", "check.rebuild.rename"] {
        house.dies_at(point, &["--rebuild"]);
        assert_eq!(house.stage.place.layers(), layers);
    }
    house.refuses_to_start(&["no database"]);
    house.finds_offline(&["--rebuild"], &[("database-rebuilt", "done")]);
    let kept = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(kept.filter(|name| name.starts_with("loom.db.")).count() >= 3);
    house.stage.start_again();
    assert_eq!(house.lineage(), lineage);
    house.finds(&[], &[]);
    house.works();
    house.end();
}

impl House {
    /// All snapshots that containerd or loom keeps: what they are, of what, and where they come from.
    fn lineage(&self) -> Vec<String> {
        let rows = self.stage.loom_json(&["ls", "--all"]);
        let fields = [
            "id",
            "key",
            "name",
            "kind",
            "parent",
            "source",
            "labels",
            "pinned",
            "home",
            "depth",
            "container",
        ];
        let row = |row: &Value| fields.map(|field| row[field].to_string()).join(" ");
        let mut all: Vec<_> = rows.as_array().unwrap().iter().map(row).collect();
        all.sort();
        all
    }
}

fn btrfs(verb: &[&str], paths: &[&Path]) {
    let paths = paths.iter().map(|path| path.to_str().unwrap());
    run("btrfs", &verb.iter().copied().chain(paths).collect::<Vec<_>>());
}

/// Removes a layer's directory, as someone would by mistake.
fn destroy(directory: &Path) {
    let deleted = Command::new("btrfs").args(["subvolume", "delete"]).arg(directory).output();
    if !deleted.is_ok_and(|deleted| deleted.status.success()) {
        fs::remove_dir_all(directory).unwrap();
    }
}
