//! What containerd asks for: Prepare to Remove.

use std::collections::BTreeMap;

use super::super::filter::Filters;
use super::super::{FORK_LABEL, key::REF_LABEL};
use super::{House, labels, top};
use crate::error::Kind as Class;
use crate::store::Kind;

fn class<T: std::fmt::Debug>(result: crate::error::Result<T>) -> Class {
    result.unwrap_err().kind()
}

#[test]
fn errors_are_the_kinds_that_containerd_expects() {
    let house = House::new();
    let core = &house.core;
    house.image("base", "");
    house.prepare("live", "base");
    let none = BTreeMap::new;
    assert_eq!(class(core.stat("missing")), Class::NotFound);
    assert_eq!(class(core.remove("missing")), Class::NotFound);
    assert_eq!(class(core.mounts("missing")), Class::NotFound);
    assert_eq!(class(core.usage("missing")), Class::NotFound);
    assert_eq!(class(core.prepare("new", "missing", none())), Class::NotFound);
    assert_eq!(class(core.prepare("live", "base", none())), Class::AlreadyExists);
    assert_eq!(class(core.view("base", "base", none())), Class::AlreadyExists);
    assert_eq!(class(core.prepare("new", "live", none())), Class::InvalidArgument);
    assert_eq!(class(core.commit("base", "live", none())), Class::AlreadyExists);
    assert_eq!(class(core.commit("new", "base", none())), Class::FailedPrecondition);
    assert_eq!(class(core.mounts("base")), Class::FailedPrecondition);
    assert_eq!(class(core.remove("base")), Class::FailedPrecondition);
    assert!(core.remove("base").unwrap_err().to_string().contains("remove"));
    assert_eq!(class(core.update("base", none(), &["kind".to_owned()])), Class::InvalidArgument);
    assert_eq!(class(core.prepare("../x", "", none())), Class::InvalidArgument);
    assert_eq!(house.directories().len(), 2, "a refusal leaves nothing");
}

#[test]
fn a_commit_replaces_labels_and_key() {
    let house = House::new();
    house.core.prepare("key", "", labels("a", "1")).unwrap();
    house.core.commit("name", "key", labels("b", "2")).unwrap();
    let stat = house.core.stat("name").unwrap();
    assert_eq!((stat.kind, stat.labels, stat.created), (Kind::Committed, labels("b", "2"), stat.updated));
    assert_eq!(house.keys(), ["name"]);
    assert!(house.core.stat("key").is_err());
    // The key is free again.
    house.prepare("key", "name");
}

#[test]
fn updates_take_field_paths() {
    let house = House::new();
    house.core.prepare("key", "", labels("a", "1")).unwrap();
    let update = |labels: BTreeMap<String, String>, fields: &[&str]| {
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        house.core.update("key", labels, &fields).unwrap().labels
    };
    let two = BTreeMap::from([("a".to_owned(), "x".to_owned()), ("b".to_owned(), "2".to_owned())]);
    assert_eq!(update(two.clone(), &["labels.b"]).len(), 2);
    assert_eq!(house.core.stat("key").unwrap().labels["a"], "1");
    assert_eq!(update(labels("a", ""), &["labels.a"]), labels("b", "2"));
    assert_eq!(update(BTreeMap::new(), &["labels.b"]), BTreeMap::new());
    assert_eq!(update(two.clone(), &["labels"]), two);
    assert_eq!(update(labels("c", "3"), &[]), labels("c", "3"));
}

#[test]
fn an_unpacker_adopts_what_is_there() {
    let house = House::new();
    let reference = || labels(REF_LABEL, "sha256:chain");
    house.core.prepare("default/1/extract-1 sha256:chain", "", reference()).unwrap();
    // Not committed yet: a second unpacker makes its own.
    house.core.prepare("default/2/extract-2 sha256:chain", "", reference()).unwrap();
    house.core.commit("default/3/sha256:chain", "default/1/extract-1 sha256:chain", reference()).unwrap();
    let error = house.core.prepare("default/4/extract-3 sha256:chain", "", reference()).unwrap_err();
    assert_eq!(error.kind(), Class::AlreadyExists);
    // Another parent is another layer.
    house.image("base", "");
    house.core.prepare("default/5/extract-4 sha256:chain", "base", reference()).unwrap();
}

#[test]
fn a_layer_goes_when_nothing_stands_on_it() {
    let house = House::new();
    house.image("one", "");
    house.image("two", "one");
    house.prepare("live", "two");
    house.core.view("look", "two", BTreeMap::new()).unwrap();
    assert_eq!(house.directories().len(), 3, "a view has no layer of its own");
    house.core.remove("look").unwrap();
    house.core.remove("live").unwrap();
    house.core.remove("two").unwrap();
    assert_eq!(house.directories().len(), 1);
    house.core.remove("one").unwrap();
    assert!(house.empties());
    assert!(house.core.all().unwrap().is_empty());
    house.settle(0);
    let house = house.reopen();
    assert_eq!(house.core.counts().unwrap(), super::super::Counts::default());
}

#[test]
fn ids_are_never_used_twice() {
    let house = House::new();
    house.prepare("a", "");
    let first = house.directories();
    house.core.remove("a").unwrap();
    house.core.cleanup().unwrap();
    house.prepare("b", "");
    assert!(house.directories() > first);
}

#[test]
fn usage_stops_at_the_parent() {
    let house = House::new();
    let mounts = house.prepare("base-key", "");
    std::fs::write(top(&mounts).join("big"), vec![1; 1 << 20]).unwrap();
    house.core.commit("base", "base-key", BTreeMap::new()).unwrap();
    let mounts = house.prepare("live", "base");
    std::fs::write(top(&mounts).join("small"), vec![1; 1 << 14]).unwrap();
    let base = house.core.usage("base").unwrap();
    let live = house.core.usage("live").unwrap();
    assert!(base.size >= 1 << 20 && base.inodes == 2, "{base:?}");
    assert!((1 << 14..1 << 19).contains(&live.size) && live.inodes == 2, "{live:?}");
    house.core.view("look", "base", BTreeMap::new()).unwrap();
    assert_eq!(house.core.usage("look").unwrap().size, 0);
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let house = House::new();
    for n in 0..250 {
        house.prepare(&format!("default/{n}/c{n:03}"), "");
    }
    let keys = house.keys();
    assert_eq!(keys.len(), 250);
    assert!(keys.is_sorted());
    let (page, next) = house.core.list(&Filters::default(), None).unwrap();
    assert_eq!(page.len(), 100);
    // What goes meanwhile is no trouble, also where the page ended.
    house.core.remove(&next.clone().unwrap()).unwrap();
    let (rest, _) = house.core.list(&Filters::default(), next.as_deref()).unwrap();
    assert_eq!(rest[0].key, keys[100]);
}

#[test]
fn the_fork_label_has_its_refusals() {
    let house = House::new();
    house.image("default/1/base", "");
    house.prepare("default/2/web", "default/1/base");
    house.image("other/3/base", "");
    house.image("k8s.io/4/base", "");
    house.prepare("k8s.io/5/pod", "k8s.io/4/base");
    let fork = |key: &str, parent: &str, of: &str| house.core.prepare(key, parent, labels(FORK_LABEL, of));
    // Copy is the method here or Reflink, by the filesystem of the test; the refusals come first.
    assert_eq!(class(fork("other/6/x", "other/3/base", "web")), Class::NotFound);
    let id = house.core.by_key("default/2/web").unwrap().unwrap().id;
    let error = fork("other/7/x", "other/3/base", &format!("id:{id}")).unwrap_err();
    assert!(error.to_string().contains("another namespace"), "{error}");
    let error = fork("k8s.io/8/x", "k8s.io/4/base", "pod").unwrap_err();
    assert!(error.to_string().contains("fork_label.deny"), "{error}");
    assert_eq!(class(fork("default/9/x", "", "web")), Class::InvalidArgument);
    assert_eq!(class(fork("default/10/x", "default/1/base", "id:zz")), Class::InvalidArgument);
    assert_eq!(class(fork("default/11/x", "default/1/base", "grant:zz")), Class::FailedPrecondition);
    let mut both = labels(FORK_LABEL, "web");
    both.insert(REF_LABEL.to_owned(), "sha256:x".to_owned());
    assert_eq!(class(house.core.prepare("default/12/x", "default/1/base", both)), Class::FailedPrecondition);
    // Image layers by their key alone.
    let unpack = fork("default/14/extract-1 sha256:x", "default/1/base", "web");
    assert_eq!(class(unpack), Class::FailedPrecondition);
    assert!(house.core.view("default/13/x", "default/1/base", labels(FORK_LABEL, "web")).is_err());
    assert_eq!(house.keys().len(), 5);
}
