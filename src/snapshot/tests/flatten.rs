//! Chains that are made flat: what stands on them shows what it showed, whoever looks meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::flatten::Flat;
use super::super::prepare::{Base, New, below, fresh};
use super::super::{Kept, Rules, Snapshots, Still};
use super::{House, Image, labels, named, open_with};
use crate::layer::Layers;
use crate::snapshot::key::REF_LABEL;
use crate::store::{Home, Id, Kind, Layer, LayerId, Stage, Store};

impl House {
    /// One in which so many layers may lie on each other.
    fn flat(depth: usize) -> Self {
        let rules = Rules { flat_depth: depth, ..Rules::default() };
        let dir = tempfile::Builder::new().prefix("core").tempdir_in("/var/tmp").unwrap();
        let store = Store::open(&dir.path().join("loom.db")).unwrap();
        let core = Snapshots::open(store, Layers::open(dir.path(), None).unwrap(), rules).unwrap();
        Self { core, dir, pool: None }
    }

    /// A generation: the one before with a file of its own name, and its number in another.
    pub(super) fn generation(&self, n: usize) -> Id {
        let (name, key) = (format!("default/{n}/g{n}"), format!("default/{n}/work{n}"));
        let parent = n.checked_sub(1).map(|n| format!("default/{n}/g{n}")).unwrap_or_default();
        self.prepare(&key, &parent);
        self.write(&key, &format!("file{n}"), format!("{n}"));
        self.write(&key, "number", format!("{n}"));
        self.core.commit(&name, &key, BTreeMap::new()).unwrap();
        self.id(&name)
    }

    fn layers_of(&self, id: Id) -> Vec<Layer> {
        self.core.get(id).unwrap().chain
    }

    /// Makes what a snapshot stands on flat, and ends what is not needed for that.
    fn flatten(&self, id: Id) {
        let top = self.layers_of(id).first().unwrap().id;
        self.core.flatten(top).unwrap();
        self.core.end_replaced(Duration::ZERO).unwrap();
    }

    pub(super) fn is_generation(&self, id: Id, n: usize) {
        assert_eq!(self.text(id, "number"), n.to_string().as_bytes());
        for file in 0..=n {
            assert_eq!(self.text(id, &format!("file{file}")), file.to_string().as_bytes(), "{file} of {n}");
        }
        assert!(self.text(id, &format!("file{}", n + 1)).is_empty());
    }
}

#[test]
fn generations_stay_what_they_are_at_little_depth() {
    let house = House::flat(4);
    let mut all = Vec::new();
    for n in 0..70 {
        all.push(house.generation(n));
        house.flatten(all[n]);
        assert!(house.layers_of(all[n]).len() <= 9, "{n}: {:?}", house.layers_of(all[n]));
    }
    for (n, id) in all.iter().enumerate() {
        house.is_generation(*id, n);
        assert_eq!(house.core.lineage(*id).unwrap().len(), n + 1);
    }
    let all_again = all.clone();
    let house = house.reopen();
    for (n, id) in all_again.iter().enumerate() {
        house.is_generation(*id, n);
    }
    // From the last to the first, as containerd's collector goes.
    for n in (0..70).rev() {
        house.core.remove(&format!("default/{n}/g{n}")).unwrap();
    }
    house.settle(0);
    assert!(house.empties());
}

#[test]
fn it_happens_by_itself() {
    let house = House::flat(4);
    let mut last = house.generation(0);
    for n in 1..30 {
        last = house.generation(n);
    }
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while house.layers_of(last).len() > 10 {
        assert!(std::time::Instant::now() < until, "{:?}", house.layers_of(last));
        // A request that finds it deep asks again: one that was made meanwhile may have come first.
        let _ = house.core.view("default/0/look", "default/29/g29", BTreeMap::new());
        house.core.remove("default/0/look").unwrap();
        std::thread::yield_now();
    }
    house.is_generation(last, 29);
}

#[test]
fn what_was_stacked_on_the_topmost_is_stacked_on_the_flat_one() {
    let house = House::new();
    let all: Vec<Id> = (0..4).map(|n| house.generation(n)).collect();
    let top = house.layers_of(all[3]);
    // A snapshot on the same layer, and writable layers on it.
    house.core.pin(all[3], None).unwrap();
    house.prepare("default/9/web", "default/3/g3");
    house.core.view("default/9/view", "default/3/g3", BTreeMap::new()).unwrap();
    let before = house.core.mounts("default/9/web").unwrap();
    house.core.merge(&top, 4, false).unwrap();
    let flat = house.layers_of(all[3]);
    assert_eq!(flat.len(), 1);
    assert_eq!((flat[0].merged, flat[0].stage, flat[0].base), (4, Stage::Sealed, None));
    assert_eq!(house.layers_of(house.id("default/9/web"))[1], flat[0]);
    assert_eq!(house.layers_of(house.id("default/9/view")), flat);
    assert_ne!(house.core.mounts("default/9/web").unwrap(), before);
    // Who has mounts of before can still use them.
    assert!(house.core.layers().fs(Home::Plain, top[0].id).join("file3").exists());
    house.core.end_replaced(Duration::ZERO).unwrap();
    assert!(!house.directories().contains(&top[0].id.0));
    // What stands on those between stands there still.
    assert_eq!(house.layers_of(all[2]), top[1..]);
    let said = house.core.layers().manifest(Home::Plain, flat[0].id).unwrap();
    assert_eq!((said.layer, said.base, said.instead_of), (flat[0].id.0, None, vec![top[0].id]));
    let told = said.snapshot;
    assert_eq!((told.id, told.key.as_deref()), (all[3].to_string(), Some("default/3/g3")));
}

#[test]
fn a_flat_layer_that_ends_takes_with_it_what_it_replaced() {
    for restarts in [[true, false], [false, true]] {
        let mut house = House::new();
        let all: Vec<Id> = (0..3).map(|n| house.generation(n)).collect();
        let top = house.layers_of(all[2]);
        house.core.merge(&top, 3, false).unwrap();
        // Whoever has its mounts may still use it.
        assert!(house.directories().contains(&top[0].id.0));
        if restarts[0] {
            house = house.reopen();
        }
        for n in (0..3).rev() {
            house.core.remove(&format!("default/{n}/g{n}")).unwrap();
        }
        if restarts[1] {
            house = house.reopen();
        }
        house.settle(0);
        assert!(house.empties());
    }
}

#[test]
fn requests_that_looked_before_build_on_what_is_there_now() {
    let house = House::new();
    let last = (0..4).fold(None, |_, n| Some(house.generation(n))).unwrap();
    let chain = house.layers_of(last);
    let looked = |key: &str| {
        let snapshot = fresh(key, Kind::Active, BTreeMap::new()).unwrap();
        let snapshot = house.core.store().read(|rows| below(rows, snapshot, "default/3/g3")).unwrap();
        New {
            snapshot,
            home: Home::Plain,
            base: Base::On(house.layers_of(last)),
            mapping: None,
            max_size: None,
        }
    };
    let (soon, late) = (looked("default/5/soon"), looked("default/5/late"));
    house.prepare("default/5/work", "default/3/g3");
    let work = house.core.by_key("default/5/work").unwrap().unwrap();
    let mut layer = house.layers_of(work.id).remove(0);
    layer.usage = None;
    house.core.merge(&chain, 4, false).unwrap();
    house.core.make(soon).unwrap();
    house.core.end_replaced(Duration::ZERO).unwrap();
    assert!(house.core.make(late).is_err(), "its root is made like that of a layer that is gone");
    // A commit that has read what it is stacked on.
    assert_eq!(layer.base, Some(chain[0].id));
    let committed = crate::store::Snapshot { kind: Kind::Committed, ..work };
    house.core.seal(&committed, &layer).unwrap();
    let flat = house.layers_of(last);
    for key in ["default/5/soon", "default/5/work"] {
        assert_eq!(house.layers_of(house.id(key))[1..], flat, "{key}");
    }
}

#[test]
fn a_chain_that_changed_meanwhile_is_left_as_it_is() {
    let house = House::flat(2);
    let last = (0..4).fold(None, |_, n| Some(house.generation(n))).unwrap();
    let chain = house.layers_of(last);
    house.core.remove("default/3/g3").unwrap();
    assert!(house.core.merge(&chain, 4, false).is_err());
    house.settle(3);
    assert_eq!(house.directories().len(), 3);
    house.core.flat.close();
    assert!(house.core.flatten(chain[1].id).is_err());
    house.settle(3);
    assert_eq!(house.directories().len(), 3);
}

#[test]
fn a_chain_that_no_mount_can_name_is_made_flat_at_once() {
    // A view names its layers whole where the pool's and the root's have no parent directory in common.
    let prefix = format!("core-{}", "long".repeat(25));
    let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in("/var/tmp").unwrap();
    let pool = Image::new("btrfs", 256);
    let house = House { core: open_with(dir.path(), Some(pool.path())).unwrap(), dir, pool: Some(pool) };
    let mut parent = String::new();
    for n in 0..40 {
        let name = format!("default/{n}/sha256:{n}");
        house.image(&name, &parent);
        parent = name;
    }
    house.prepare("default/1/web", &parent);
    house.core.commit("default/1/state", "default/1/web", BTreeMap::new()).unwrap();
    let deep = house.id("default/1/state");
    assert_eq!(house.layers_of(deep).len(), 41);
    house.core.view("default/1/view", "default/1/state", BTreeMap::new()).unwrap();
    let now = house.layers_of(deep);
    assert!(now.len() < 30 && now[0].home == Home::Pool, "{now:?}");
    assert_eq!(house.text(deep, "default_7_sha256:7"), b"default/7/sha256:7");
    assert!(house.core.mounts("default/1/view").is_ok());
}

#[test]
fn images_keep_their_layers() {
    let house = House::flat(2);
    let mut parent = String::new();
    for n in 0..6 {
        let (name, key) = (format!("default/{n}/layer{n}"), format!("default/{n}/extract-{n}"));
        let labels = labels(REF_LABEL, &format!("layer{n}"));
        house.core.prepare(&key, &parent, labels.clone()).unwrap();
        house.core.commit(&name, &key, labels).unwrap();
        parent = name;
    }
    let image = house.id(&parent);
    let before = house.layers_of(image);
    house.flatten(image);
    assert_eq!(house.layers_of(image), before);
    // What is above them becomes one.
    for n in 0..4 {
        house.prepare("default/7/work", &parent);
        parent = format!("default/7/above{n}");
        house.core.commit(&parent, "default/7/work", BTreeMap::new()).unwrap();
    }
    let above = house.id(&parent);
    house.flatten(above);
    assert_eq!(house.layers_of(above).len(), 7);
    assert!(house.core.stands_on(above, image).unwrap());
}

#[test]
fn a_replace_and_its_undoing_go_on_with_flat_layers() {
    let house = House::flat(2);
    let last = (0..4).fold(None, |_, n| Some(house.generation(n))).unwrap();
    house.prepare("default/5/web", "default/3/g3");
    house.write("default/5/web", "own", "web");
    let web = house.id("default/5/web");
    let kept =
        Kept::Named { name: "kept".to_owned(), labels: BTreeMap::new(), expires: None, captured: None };
    let replaced = house.core.replace(web, last, &kept, None).unwrap();
    assert_eq!(replaced.kept, Some(web));
    house.flatten(web);
    assert!(house.layers_of(web).len() < 5);
    assert_eq!((house.text(web, "own"), house.text(web, "number")), (b"web".to_vec(), b"3".to_vec()));
    house.core.put_back(replaced.now, web).unwrap();
    assert_eq!(house.id("default/5/web"), web);
    house.write("default/5/web", "own", "again");
    assert_eq!(house.text(web, "own"), b"again");
    let (state, _) = house.core.snapshot(web, &named("again"), &mut Still).unwrap();
    assert_eq!(house.text(state.id, "file0"), b"0");
}

#[test]
fn usage_is_what_a_snapshot_adds_to_its_parent() {
    let house = House::new();
    let all: Vec<Id> = (0..9).map(|n| house.generation(n)).collect();
    let usage = |n: usize| house.core.usage(&format!("default/{n}/g{n}")).unwrap();
    let before: Vec<_> = (0..9).map(usage).collect();
    let whole = house.core.whole_usage(all[8]).unwrap();
    house.core.merge(&house.layers_of(all[5]), 4, false).unwrap();
    house.core.merge(&house.layers_of(all[7]), 3, false).unwrap();
    assert_eq!((0..9).map(usage).collect::<Vec<_>>(), before);
    assert!(house.core.whole_usage(all[8]).unwrap().inodes < whole.inodes);
    house.core.merge(&house.layers_of(all[7]), 2, false).unwrap();
    assert_eq!((0..9).map(usage).collect::<Vec<_>>(), before, "flattened again");
}

#[test]
fn nothing_is_known_of_what_does_not_exist() {
    let (ask, asked) = std::sync::mpsc::channel();
    let flat = Flat::new(0, ask);
    let chain: Vec<Layer> =
        (0..3).map(|n| Layer::new(LayerId(n), Home::Plain, None, Stage::Sealed)).collect();
    flat.look_at(&chain);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [LayerId(0)]);
}
