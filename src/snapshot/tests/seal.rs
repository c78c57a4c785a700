//! States of what nothing writes to.

use std::collections::BTreeMap;
use std::fs;

use super::super::{FORK_LABEL, Freezer, Keep, Made, Still, Take};
use super::{Counting, House, labels, named, top};
use crate::error::Result;
use crate::layer::Method;
use crate::layer::tests::holder::Holder;
use crate::store::{Home, Id, Layer, Stage};

const WEB: &str = "default/2/web";

/// A stopped container with something in its layer.
fn web(house: &House) -> Id {
    house.image("default/1/base", "");
    house.prepare(WEB, "default/1/base");
    house.write(WEB, "log", "one");
    house.id(WEB)
}

fn take(keep: Keep) -> Take {
    Take { keep, labels: BTreeMap::new(), captured: None, operation: None, expires: None }
}

fn chain(house: &House, id: Id) -> Vec<Layer> {
    house.core.get(id).unwrap().chain
}

fn ids(house: &House, id: Id) -> Vec<i64> {
    chain(house, id).iter().map(|layer| layer.id.0).collect()
}

#[test]
fn the_layer_itself_becomes_the_state() {
    let house = House::new();
    let web = web(&house);
    let (before, old) = (ids(&house, web), top(&house.core.mounts(WEB).unwrap()));
    let inode = |path: std::path::PathBuf| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let file = inode(old.join("log"));
    let mut freezer = Counting::default();
    let (state, cost) = house.core.snapshot(web, &named("one"), &mut freezer).unwrap();
    assert_eq!((cost.method, freezer.asked), (Method::Sealed, vec!["ready", "freeze", "still", "thaw"]));
    let (stands, of_state) = (chain(&house, web), chain(&house, state.id));
    assert_eq!((stands.len(), stands[1..].to_vec()), (before.len() + 1, of_state.clone()));
    assert_eq!((stands[0].stage, stands[1].stage), (Stage::Writable, Stage::Sealed));
    assert_eq!((stands[1].was, stands[1].still), (None, state.taken));
    let sealed = house.core.layers().fs(Home::Plain, stands[1].id);
    assert_eq!(inode(sealed.join("log")), file, "nothing was copied");
    assert!(!old.exists(), "a mount that was told before fails");
    assert_eq!(
        house.core.layers().manifest(Home::Plain, stands[1].id).unwrap().snapshot.id,
        state.id.to_string()
    );

    assert!(house.core.changed_since(web, state.taken.unwrap(), 9).unwrap().is_empty());
    house.write(WEB, "log", "two");
    assert_eq!((house.text(web, "log"), house.text(state.id, "log")), (b"two".to_vec(), b"one".to_vec()));
    let house = house.reopen();
    assert_eq!((house.text(web, "log"), house.text(state.id, "log")), (b"two".to_vec(), b"one".to_vec()));
    // And so on: the state goes, and what lies below stays.
    house.core.forget(state.id).unwrap();
    assert_eq!(
        house.core.snapshot(web, &take(Keep::ForClones), &mut Still).unwrap().1.method,
        Method::Sealed
    );
    assert_eq!((house.text(web, "log"), chain(&house, web).len()), (b"two".to_vec(), before.len() + 2));
    house.core.remove(WEB).unwrap();
}

#[test]
fn what_is_changed_before_a_seal_is_told_behind_it() {
    let house = House::new();
    let web = web(&house);
    let (one, _) = house.core.snapshot(web, &named("one"), &mut Still).unwrap();
    house.write(WEB, "log", "two");
    house.write(WEB, "new", "");
    let (two, _) = house.core.snapshot(web, &named("two"), &mut Still).unwrap();
    house.write(WEB, "log", "three");
    let since = |state: &crate::store::Snapshot, limit| {
        let mut paths = house.core.changed_since(web, state.taken.unwrap(), limit).unwrap();
        paths.sort();
        paths
    };
    assert_eq!(since(&one, 9), ["log", "new"]);
    assert_eq!(since(&one, 1).len(), 1);
    assert_eq!(since(&two, 9), ["log"]);
}

#[test]
fn what_is_mounted_is_copied() {
    let house = House::new();
    let web = web(&house);
    let before = ids(&house, web);
    let mount = house.core.mounts(WEB).unwrap().remove(0);
    for (n, holder) in [Holder::new, |mount: &_, _: &str| Holder::detached(mount)].into_iter().enumerate() {
        let holder = holder(&mount, "");
        let (state, cost) = house.core.snapshot(web, &named(&format!("{n}")), &mut Still).unwrap();
        assert_ne!(cost.method, Method::Sealed);
        assert_eq!((ids(&house, web), house.text(state.id, "log")), (before.clone(), b"one".to_vec()));
        drop(holder);
    }
    assert_eq!(house.core.mounts(WEB).unwrap(), [mount], "it is where it was");
    let (_, cost) = house.core.snapshot(web, &named("x"), &mut Still).unwrap();
    assert_eq!(cost.method, Method::Sealed);
}

#[test]
fn what_is_handed_out_as_a_bind_or_to_an_unpacker_is_copied() {
    let house = House::new();
    house.image("default/1/base", "");
    for (key, parent) in [("default/2/alone", ""), ("default/3/extract-1", "default/1/base")] {
        house.prepare(key, parent);
        house.write(key, "log", "one");
        let (id, before) = (house.id(key), house.core.mounts(key).unwrap());
        let (_, cost) = house.core.snapshot(id, &take(Keep::ForClones), &mut Still).unwrap();
        assert_ne!(cost.method, Method::Sealed, "{key}");
        assert_eq!(house.core.mounts(key).unwrap(), before);
    }
}

#[test]
fn what_lies_in_a_pool_is_cloned() {
    let house = House::pooled();
    let web = web(&house);
    let (_, cost) = house.core.snapshot(web, &named("x"), &mut Still).unwrap();
    assert_eq!(cost.method, Method::Subvolume);
}

#[test]
fn an_empty_layer_is_not_sealed_again() {
    let house = House::new();
    let web = web(&house);
    house.core.snapshot(web, &named("first"), &mut Still).unwrap();
    let (stands, directories) = (ids(&house, web), house.directories().len());
    for n in 0..100 {
        let (state, cost) = house.core.snapshot(web, &take(Keep::ForOne), &mut Still).unwrap();
        assert_eq!(cost.method, Method::Sealed);
        let grant = house.core.grant(state.id, Made::default()).unwrap();
        let key = format!("default/{}/fork", 10 + n);
        house.core.prepare(&key, "default/1/base", labels(FORK_LABEL, &grant.label())).unwrap();
        house.core.release(state.id).unwrap();
        assert_eq!(ids(&house, web), stands);
        let fork = house.id(&key);
        assert_eq!(ids(&house, fork)[1..], stands[1..], "each has a layer of its own, and no more");
    }
    assert_eq!(house.directories().len(), directories + 100);
    // A state that is kept has a layer, and with it a `layer.json`, of its own.
    let (state, cost) = house.core.snapshot(web, &named("again"), &mut Still).unwrap();
    assert_eq!((cost.method, ids(&house, web)), (Method::Sealed, stands.clone()));
    assert_eq!(
        (ids(&house, state.id)[1..].to_vec(), house.text(state.id, "log")),
        (stands[1..].to_vec(), b"one".to_vec())
    );
    let own = chain(&house, state.id).remove(0);
    assert_eq!(
        house.core.layers().manifest(Home::Plain, own.id).unwrap().snapshot.name.as_deref(),
        Some("again")
    );
}

#[test]
fn a_stopped_one_is_forked_by_label_where_every_byte_would_be_copied() {
    let house = House::new();
    let web = web(&house);
    let fork = |key: &str| {
        house.core.prepare(key, "default/1/base", labels(FORK_LABEL, WEB.split('/').next_back().unwrap()))
    };
    if house.core.layers().method(Home::Plain) == Method::Copy {
        let holder = Holder::new(&house.core.mounts(WEB).unwrap()[0], "");
        assert!(fork("default/3/fork").unwrap_err().to_string().contains("`loom snapshot`"));
        drop(holder);
    }
    for key in ["default/4/fork", "default/5/fork"] {
        let mounts = fork(key).unwrap();
        assert_eq!(mounts, house.core.mounts(key).unwrap());
        let row = house.core.by_key(key).unwrap().unwrap();
        assert_eq!(
            (row.source, row.taken.is_some(), house.text(row.id, "log")),
            (Some(web), true, b"one".to_vec())
        );
    }
    assert_eq!(chain(&house, web).len(), 3, "the second found nothing new");
    let rows = house.core.all().unwrap();
    assert!(rows.iter().all(|row| !row.snapshot.transient && row.snapshot.key.is_some()), "{rows:?}");
}

#[test]
fn whoever_comes_meanwhile_waits() {
    struct Meeting<'a>(&'a House, Vec<std::thread::JoinHandle<()>>);
    impl Freezer for Meeting<'_> {
        fn freeze(&mut self) -> Result<bool> {
            Ok(false)
        }
        fn still(&mut self) -> Result<()> {
            let (began, begins) = std::sync::mpsc::channel();
            let mut spawn = |work: Box<dyn FnOnce(&super::super::Snapshots) + Send>| {
                let (core, began) = (self.0.core.clone(), began.clone());
                self.1.push(std::thread::spawn(move || {
                    began.send(()).unwrap();
                    work(&core);
                }));
            };
            spawn(Box::new(|core| {
                // What is told is there.
                assert!(top(&core.mounts(WEB).unwrap()).exists());
            }));
            spawn(Box::new(|core| {
                let web = core.by_key(WEB).unwrap().unwrap().id;
                let (state, cost) = core.snapshot(web, &take(Keep::ForClones), &mut Still).unwrap();
                assert_eq!(cost.method, Method::Sealed);
                assert_eq!(core.get(state.id).unwrap().chain.len(), 3);
            }));
            spawn(Box::new(|core| core.usage(WEB).map(drop).unwrap()));
            (0..3).for_each(|_| begins.recv().unwrap());
            Ok(())
        }
        fn thaw(&mut self) -> Result<()> {
            Ok(())
        }
    }
    let house = House::new();
    let web = web(&house);
    let mut meeting = Meeting(&house, Vec::new());
    let (state, cost) = house.core.snapshot(web, &named("x"), &mut meeting).unwrap();
    assert_eq!(cost.method, Method::Sealed);
    meeting.1.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(house.text(state.id, "log"), b"one");
    house.core.remove(WEB).unwrap();
}

#[test]
fn a_seal_that_was_cut_off_is_undone() {
    // How far it came: the row, the rename, the empty layer, the files and `layer.json`.
    for steps in 1..=4 {
        let house = House::new();
        let web = web(&house);
        let before = (house.core.all().unwrap(), chain(&house, web), house.directories());
        let layers = house.core.layers();
        let (was, base, empty) = (before.1[0].clone(), layers.next_id(), layers.next_id());
        let filling = Layer::new(base, Home::Plain, was.base, Stage::Filling);
        let filling = Layer { was: Some(was.id), ..filling };
        house
            .core
            .store()
            .write({
                let filling = filling.clone();
                move |rows| rows.insert_layer(&filling)
            })
            .unwrap();
        if steps > 1 {
            assert!(!layers.rename(was.id, base).unwrap());
        }
        if steps > 2 {
            layers.create(Home::Plain, empty, Some(&filling)).unwrap();
        }
        if steps > 3 {
            let row = house.core.get(web).unwrap().snapshot;
            let manifest = house.core.manifest(&row, &filling).unwrap();
            assert!(layers.seal_renamed(base, was.id, &manifest).unwrap());
        }
        let house = house.reopen();
        assert_eq!((house.core.all().unwrap(), chain(&house, web), house.directories()), before, "{steps}");
        assert_eq!(house.text(web, "log"), b"one");
        let directory = house.root().join(format!("layers/{}", was.id));
        assert!(directory.join("work").exists() && !directory.join("layer.json").exists());
        drop(Holder::new(&house.core.mounts(WEB).unwrap()[0], "test $(cat $at/log) = one"));
        assert!(fs::read_dir(house.root().join("layers")).unwrap().count() == 2);
    }
}
