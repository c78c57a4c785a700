//! Damage of each kind, planted in a root.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::layer::Mount;
use crate::layer::tests::image::Image;
use crate::snapshot::{Keep, Rules, Still, Take};
use crate::store::Id;

/// A root, with a pool or without: a base, two states of an active snapshot on it, and an active one on a state.
struct House {
    core: Arc<Snapshots>,
    pool: Option<Image>,
    dir: tempfile::TempDir,
}

impl House {
    fn new(pool: Option<Image>) -> Self {
        let dir = tempfile::Builder::new().prefix("check").tempdir_in("/var/tmp").unwrap();
        let house = Self { core: open(dir.path(), pool.as_ref().map(Image::path)), dir, pool };
        let base = house.core.prepare("default/1/extract-base", "", BTreeMap::new()).unwrap();
        fs::write(upper(&base).join("file"), "base").unwrap();
        house.core.commit("default/2/base", "default/1/extract-base", BTreeMap::new()).unwrap();
        house.core.prepare("default/3/web", "default/2/base", BTreeMap::new()).unwrap();
        for name in ["first", "second"] {
            house.write("default/3/web", name);
            house.snapshot("default/3/web", name);
        }
        house.write("default/3/web", "now");
        house
    }

    /// What it writes to may be another layer after each snapshot.
    fn write(&self, key: &str, text: &str) {
        fs::write(upper(&self.core.mounts(key).unwrap()).join("file"), text).unwrap();
    }

    fn snapshot(&self, key: &str, name: &str) -> Id {
        let source = self.core.by_key(key).unwrap().unwrap().id;
        let keep = Keep::Named(name.to_owned());
        let labels = BTreeMap::from([("of".to_owned(), key.to_owned())]);
        let take = Take { keep, labels, captured: None, operation: None, expires: None };
        self.core.snapshot(source, &take, &mut Still).unwrap().0.id
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn at(&self) -> (&Path, Option<&Path>) {
        (self.dir.path(), self.pool.as_ref().map(Image::path))
    }

    /// Ends the core, as a stop of loomd does, and has the root checked.
    fn offline(self, how: How) -> (Self, Vec<Finding>) {
        let Self { core, pool, dir } = self;
        Snapshots::close(core, Duration::from_secs(30));
        let found = offline(dir.path(), pool.as_ref().map(Image::path), how).unwrap();
        let core = open(dir.path(), pool.as_ref().map(Image::path));
        (Self { core, pool, dir }, found)
    }

    /// The same, and its core is not opened again.
    fn offline_only(self, how: How) -> (tempfile::TempDir, Vec<Finding>) {
        let Self { core, pool, dir } = self;
        Snapshots::close(core, Duration::from_secs(30));
        let found = offline(dir.path(), pool.as_ref().map(Image::path), how).unwrap();
        (dir, found)
    }

    /// A state on which nothing else stands, called "leaf": its source has nothing of its own.
    fn leaf(&self) {
        for name in ["third", "leaf"] {
            self.snapshot("default/3/web", name);
        }
    }

    fn layer(&self, name: &str) -> (Home, LayerId, PathBuf) {
        let row = self.core.resolve(name).unwrap();
        let layer = self.core.get(row.id).unwrap().chain.remove(0);
        let mut path = self.core.layers().fs(layer.home, layer.id);
        path.pop();
        (layer.home, layer.id, path)
    }

    fn sql(&self, text: &str) {
        let db = rusqlite::Connection::open(self.root().join("loom.db")).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.pragma_update(None, "foreign_keys", false).unwrap();
        db.execute_batch(text).unwrap();
    }

    fn running(&self, repair: bool) -> Vec<Finding> {
        running(&self.core, None, repair).unwrap()
    }

    /// What a container on this snapshot would see.
    fn text(&self, id: Id) -> String {
        let chain = self.core.get(id).unwrap().chain;
        let file = |layer: &crate::store::Layer| {
            fs::read_to_string(self.core.layers().fs(layer.home, layer.id).join("file")).ok()
        };
        chain.iter().find_map(file).unwrap()
    }
}

fn open(root: &Path, pool: Option<&Path>) -> Arc<Snapshots> {
    let layers = Layers::open(root, pool).unwrap();
    Snapshots::open(Store::open(&root.join("loom.db")).unwrap(), layers, Rules::default()).unwrap()
}

fn upper(mounts: &[Mount]) -> PathBuf {
    match mounts[0].kind {
        "bind" => PathBuf::from(&mounts[0].source),
        _ => mounts[0].options.iter().find_map(|o| o.strip_prefix("upperdir=")).unwrap().into(),
    }
}

fn codes(found: &[Finding]) -> Vec<(Code, Repair)> {
    found.iter().map(|one| (one.code, one.repair)).collect()
}

#[test]
fn a_sound_root_has_no_findings() {
    for pool in [None, Some(Image::new("btrfs", 256))] {
        let house = House::new(pool);
        assert_eq!(house.running(false), []);
        let (_house, found) = house.offline(How::Look);
        assert_eq!(found, []);
    }
}

#[test]
fn what_nothing_refers_to_is_removed() {
    let house = House::new(None);
    let layers = house.root().join("layers");
    fs::create_dir_all(layers.join("900/fs")).unwrap();
    fs::write(layers.join("900/fs/file"), vec![1; 100_000]).unwrap();
    fs::create_dir_all(layers.join("stray/fs")).unwrap();
    fs::create_dir_all(layers.join("old copy")).unwrap();
    fs::write(layers.join("old copy/layer.json"), "{}").unwrap();
    let (unknown, strays) = (Code::LayerUnknown, Code::NameUnknown);
    let found = house.running(false);
    assert_eq!(
        codes(&found),
        [(unknown, Repair::Possible), (strays, Repair::None), (strays, Repair::Possible)]
    );
    assert!(found[0].bytes >= 100_000 && found[0].what.ends_with("layers/900)"), "{found:?}");
    let found = house.running(true);
    assert_eq!(codes(&found), [(unknown, Repair::Done), (strays, Repair::None), (strays, Repair::Done)]);
    assert_eq!(codes(&house.running(false)), [(strays, Repair::None)]);
    assert!(
        !layers.join("900").exists() && !layers.join("stray").exists() && layers.join("old copy").exists()
    );
}

#[test]
fn what_a_request_is_making_is_no_finding() {
    let house = House::new(None);
    let id = house.core.layers().next_id();
    house.core.layers().create(Home::Plain, id, None).unwrap();
    assert_eq!(house.running(true), []);
    // Without the daemon nobody is making it.
    let (_house, found) = house.offline(How::Look);
    assert_eq!(codes(&found), [(Code::LayerUnknown, Repair::Possible)]);
}

#[test]
fn a_missing_directory_is_told_with_what_stands_on_it() {
    let house = House::new(None);
    house.leaf();
    let (.., path) = house.layer("leaf");
    fs::remove_dir_all(path).unwrap();
    let found = house.running(true);
    assert_eq!(codes(&found), [(Code::LayerMissing, Repair::None)]);
    assert!(found[0].message.contains("snapshot leaf"), "{found:?}");
    house.core.forget(house.core.resolve("leaf").unwrap().id).unwrap();
    assert_eq!(house.running(false), []);
}

#[test]
fn a_lost_row_is_left_to_a_rebuild() {
    let house = House::new(None);
    house.leaf();
    let (_, id, path) = house.layer("leaf");
    house.sql(&format!("DELETE FROM snapshots WHERE name = 'leaf'; DELETE FROM layers WHERE id = {id}"));
    let found = house.running(true);
    assert_eq!(codes(&found), [(Code::LayerLost, Repair::None)]);
    assert!(
        found[0].message.contains("snapshot leaf") && found[0].message.contains("--rebuild"),
        "{found:?}"
    );
    assert!(path.exists());

    let (house, found) = house.offline(How::Rebuild);
    assert_eq!(codes(&found), [(Code::DatabaseRebuilt, Repair::Done)]);
    assert_eq!(house.text(house.core.resolve("leaf").unwrap().id), "now");

    // The snapshot alone: its layer is not taken for garbage.
    house.sql("DELETE FROM snapshots WHERE name = 'leaf'");
    let (house, found) = house.offline(How::Repair);
    assert_eq!(codes(&found), [(Code::LayerUnused, Repair::None)]);
    assert!(path.exists());
    let (house, _) = house.offline(How::Rebuild);
    assert_eq!(house.text(house.core.resolve("leaf").unwrap().id), "now");
}

#[test]
fn what_layer_json_says_is_compared() {
    let house = House::new(None);
    let (.., path) = house.layer("first");
    let json = path.join("layer.json");
    let text = fs::read_to_string(&json).unwrap();
    fs::remove_file(&json).unwrap();
    assert_eq!(codes(&house.running(true)), [(Code::ManifestMissing, Repair::Done)]);
    assert_eq!(fs::read_to_string(&json).unwrap(), text);
    fs::write(&json, "{").unwrap();
    assert_eq!(codes(&house.running(true)), [(Code::ManifestUnreadable, Repair::Done)]);
    assert_eq!(fs::read_to_string(&json).unwrap(), text);
    // Another parent: nobody knows which is right.
    let parent = house.core.resolve("first").unwrap().parent.unwrap().to_string();
    let wrong = text.replace(&parent, &"a".repeat(32));
    fs::write(&json, &wrong).unwrap();
    let found = house.running(true);
    assert_eq!(codes(&found), [(Code::ManifestDiffers, Repair::None)]);
    assert!(found[0].message.contains(&parent), "{found:?}");
    assert_eq!(fs::read_to_string(&json).unwrap(), wrong);
}

#[test]
fn rows_that_refer_to_nothing_or_to_each_other_are_told() {
    let house = House::new(None);
    let (first, second) = (house.core.resolve("first").unwrap().id, house.core.resolve("second").unwrap().id);
    house.sql(&format!(
        "UPDATE snapshots SET source = '{second}' WHERE id = '{first}';
         UPDATE snapshots SET source = '{first}' WHERE id = '{second}'"
    ));
    let found = house.running(true);
    assert!(codes(&found).contains(&(Code::Circle, Repair::None)), "{found:?}");
    house.sql(&format!("UPDATE snapshots SET source = '{}' WHERE id = '{first}'", "b".repeat(32)));
    let found = house.running(true);
    assert!(codes(&found).contains(&(Code::RowMissing, Repair::None)), "{found:?}");
    let (house, _) = house.offline(How::Rebuild);
    assert_eq!(house.running(false), []);
}

#[test]
fn leaked_subvolumes_are_found() {
    let house = House::new(Some(Image::new("btrfs", 256)));
    let pool = house.at().1.unwrap().to_owned();
    let (_, first, path) = house.layer("first");
    let btrfs = |args: &[&str]| {
        assert!(
            std::process::Command::new("btrfs").args(args).output().unwrap().status.success(),
            "{args:?}"
        );
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    // As a comparison that was cut off leaves it, one of another name, and one within a container's layer.
    btrfs(&["subvolume", "snapshot", "-r", &text(&path), &text(&pool.join("layers/990"))]);
    btrfs(&["subvolume", "create", &text(&pool.join("layers/leaked"))]);
    let (.., web) = house.layer(&house.core.by_key("default/3/web").unwrap().unwrap().id.to_string());
    btrfs(&["subvolume", "create", &text(&web.join("fs/nested"))]);
    let expected = |repair| {
        [(Code::SubvolumeLeaked, repair), (Code::NameUnknown, repair), (Code::SubvolumeNested, Repair::None)]
    };
    assert_eq!(codes(&house.running(false)), expected(Repair::Possible));
    assert_eq!(codes(&house.running(true)), expected(Repair::Done));
    assert_eq!(codes(&house.running(false)), [(Code::SubvolumeNested, Repair::None)]);
    assert!(house.core.layers().found().unwrap().iter().any(|found| found.id == first));
}

#[test]
fn a_deleted_database_is_made_anew() {
    for pool in [None, Some(Image::new("btrfs", 256))] {
        let house = House::new(pool);
        let first = house.core.resolve("first").unwrap();
        house.core.pin(first.id, None).unwrap();
        let before = house.core.all().unwrap();
        let House { core, pool, dir } = house;
        Snapshots::close(core, Duration::from_secs(30));
        for name in ["loom.db", "loom.db-wal", "loom.db-shm"] {
            let _ = fs::remove_file(dir.path().join(name));
        }
        let at = pool.as_ref().map(Image::path);
        let found = offline(dir.path(), at, How::Repair).unwrap();
        assert_eq!(codes(&found), [(Code::DatabaseMissing, Repair::None)]);
        // A start that finds no database beside layers changes nothing.
        let refused = Snapshots::open_store(&Layers::open(dir.path(), at).unwrap()).unwrap_err().to_string();
        assert!(refused.contains("--rebuild") && refused.contains("Nothing was changed"), "{refused}");

        let found = offline(dir.path(), at, How::Rebuild).unwrap();
        assert_eq!(codes(&found), [(Code::DatabaseRebuilt, Repair::Done)], "{found:?}");
        let house = House { core: open(dir.path(), at), pool, dir };
        let strip = |seen: Vec<crate::snapshot::Seen>| {
            let row = |seen: crate::snapshot::Seen| {
                let updated = seen.snapshot.created;
                (crate::store::Snapshot { updated, ..seen.snapshot }, seen.chain.len())
            };
            seen.into_iter().map(row).collect::<Vec<_>>()
        };
        assert_eq!(strip(house.core.all().unwrap()), strip(before));
        assert_eq!(house.text(first.id), "first");
        let web = house.core.by_key("default/3/web").unwrap().unwrap().id;
        assert_eq!(house.text(web), "now");
        // What the container changed since is known, also of what was sealed as it lay meanwhile.
        assert_eq!(house.core.changed_since(web, first.taken.unwrap(), 9).unwrap(), ["file"]);
        assert_eq!(house.running(false), []);
        // It goes on as before.
        house.snapshot("default/3/web", "third");
        house.core.remove("default/3/web").unwrap();
        assert_eq!(house.text(house.core.resolve("third").unwrap().id), "now");
    }
}

#[test]
fn what_nobody_knows_is_kept_under_a_name() {
    let house = House::new(None);
    let (.., path) = house.layer(&house.core.by_key("default/3/web").unwrap().unwrap().id.to_string());
    xattr::remove(&path, "trusted.loom.layer").unwrap();
    let (house, found) = house.offline(How::Rebuild);
    assert_eq!(codes(&found), [(Code::DatabaseRebuilt, Repair::Done), (Code::LayerRecovered, Repair::None)]);
    let name = format!("recovered-{}", path.file_name().unwrap().to_str().unwrap());
    assert_eq!(house.text(house.core.resolve(&name).unwrap().id), "now");
    let kept =
        fs::read_dir(house.root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|name| name.starts_with("loom.db.")).count(), 1);
}

#[test]
fn a_flat_chain_is_made_anew_of_what_it_says() {
    let house = House::new(None);
    let id = |key: &str| house.core.by_key(key).unwrap().unwrap().id;
    let web = id("default/3/web");
    let chain = house.core.get(web).unwrap().chain;
    assert_eq!(chain.len(), 4, "each state was sealed as it lay");
    house.core.merge(&chain[1..], 2, false).unwrap();
    let (texts, names) = (["first", "second", "now"], ["first", "second", "default/3/web"]);
    let read = |house: &House| names.map(|name| house.text(house.core.resolve(name).unwrap().id));
    assert_eq!(read(&house), texts);
    let before = house.core.get(web).unwrap().chain.len();
    // What was replaced is still there: it is none of the new database's.
    let (house, found) = house.offline(How::Look);
    assert_eq!(found, []);
    let House { core, pool, dir } = house;
    Snapshots::close(core, Duration::from_secs(30));
    let found = offline(dir.path(), None, How::Rebuild).unwrap();
    assert_eq!(codes(&found), [(Code::DatabaseRebuilt, Repair::Done)], "{found:?}");
    let house = House { core: open(dir.path(), None), pool, dir };
    assert_eq!(read(&house), texts);
    assert_eq!(house.core.get(web).unwrap().chain.len(), before);
    assert_eq!(house.core.all().unwrap().len(), 4, "no state is told twice");
    assert_eq!(house.running(false), []);
}

#[test]
fn what_a_lost_layer_is_stacked_on_is_kept() {
    let house = House::new(None);
    let (.., below) = house.layer("first");
    let (_, second, _) = house.layer("second");
    let web = house.core.get(house.core.by_key("default/3/web").unwrap().unwrap().id).unwrap().chain[0].id;
    // Nobody stands on it then, and it says so.
    house.core.forget(house.core.resolve("first").unwrap().id).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(below.join("layer.json")).unwrap().contains("\"first\"") {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    house.sql(&format!(
        "DELETE FROM snapshots WHERE name = 'second' OR key = 'default/3/web';
         DELETE FROM layers WHERE id IN ({second}, {web})"
    ));
    let (dir, found) = house.offline_only(How::Repair);
    let codes = codes(&found);
    assert!(
        codes.contains(&(Code::LayerLost, Repair::None))
            && codes.contains(&(Code::LayerUnused, Repair::None)),
        "{found:?}"
    );
    assert!(below.exists());
    offline(dir.path(), None, How::Rebuild).unwrap();
    let house = House { core: open(dir.path(), None), pool: None, dir };
    assert_eq!(house.text(house.core.resolve("second").unwrap().id), "second");
}

#[test]
fn what_cannot_say_what_it_is_stacked_on_is_not_taken_for_a_base() {
    let house = House::new(None);
    let (.., path) = house.layer("first");
    let (dir, _) = house.offline_only(How::Look);
    let json = path.join("layer.json");
    let text = fs::read_to_string(&json).unwrap();
    fs::write(&json, "{").unwrap();
    let before = fs::read(dir.path().join("loom.db")).unwrap();
    let refused = offline(dir.path(), None, How::Rebuild).unwrap_err().to_string();
    assert!(refused.contains(path.to_str().unwrap()) && refused.contains("Nothing was changed"), "{refused}");
    assert_eq!(fs::read(dir.path().join("loom.db")).unwrap(), before);
    fs::write(&json, text).unwrap();
    offline(dir.path(), None, How::Rebuild).unwrap();
}

#[test]
fn lineage_is_found_behind_what_was_removed() {
    let house = House::new(None);
    let first = house.core.resolve("first").unwrap();
    let grant = house.core.grant(first.id, crate::snapshot::Made::default()).unwrap();
    let labels = BTreeMap::from([(crate::snapshot::FORK_LABEL.to_owned(), grant.label())]);
    house.core.prepare("default/4/clone", "default/2/base", labels).unwrap();
    drop(grant);
    house.snapshot("default/4/clone", "of-clone");
    house.core.forget(first.id).unwrap();
    let way = |house: &House| {
        let rows = house.core.all().unwrap();
        let row = |id: Id| rows.iter().find(|seen| seen.snapshot.id == id).map(|seen| seen.snapshot.clone());
        let mut way = Vec::new();
        let mut next = house.core.resolve("of-clone").ok();
        while let Some(one) = next {
            way.push((one.id, one.parent, one.source));
            next = one.source.or(one.parent).and_then(row);
        }
        way
    };
    let before = way(&house);
    assert!(before.len() > 4, "{before:?}");
    let (dir, _) = house.offline_only(How::Look);
    fs::remove_file(dir.path().join("loom.db")).unwrap();
    offline(dir.path(), None, How::Rebuild).unwrap();
    assert_eq!(way(&House { core: open(dir.path(), None), pool: None, dir }), before);
}

#[test]
fn a_rebuild_knows_where_the_pool_is_and_what_was_said_of_what_is_written_to() {
    let house = House::new(Some(Image::new("btrfs", 256)));
    let web = house.core.by_key("default/3/web").unwrap().unwrap().id;
    house.core.pin(web, None).unwrap();
    let (core, pool, dir) = (house.core, house.pool, house.dir);
    Snapshots::close(core, Duration::from_secs(30));
    fs::remove_file(dir.path().join("loom.db")).unwrap();
    // Nobody names it.
    let found = offline(dir.path(), None, How::Rebuild).unwrap();
    assert_eq!(codes(&found), [(Code::DatabaseRebuilt, Repair::Done)], "{found:?}");
    let house = House { core: open(dir.path(), pool.as_ref().map(Image::path)), pool, dir };
    assert_eq!(house.text(web), "now");
    assert!(house.core.get(web).unwrap().snapshot.pinned);
    // A pool that is not there is missed.
    let House { core, pool, dir } = house;
    Snapshots::close(core, Duration::from_secs(30));
    fs::remove_file(pool.as_ref().unwrap().path().join("root.json")).unwrap();
    let refused = offline(dir.path(), None, How::Rebuild).unwrap_err().to_string();
    assert!(refused.contains("--pool") && refused.contains("root.json"), "{refused}");
    // Another root does not get it.
    let other = tempfile::tempdir_in("/var/tmp").unwrap();
    drop(open(dir.path(), pool.as_ref().map(Image::path)));
    let refused = Layers::open(other.path(), pool.as_ref().map(Image::path)).unwrap_err().to_string();
    assert!(refused.contains("another root"), "{refused}");
}
