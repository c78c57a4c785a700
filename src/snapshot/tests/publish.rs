//! A state under a key of containerd's.

use std::collections::BTreeMap;

use super::super::filter::Filters;
use super::super::{FORK_LABEL, Keep, Made, Still, Take, key};
use super::{House, labels, named};
use crate::error::{Error, Kind as Class};
use crate::store::{Id, Kind, Snapshot};

const REF: &str = "sha256:0";

/// A container's snapshot on an image, and a state of it.
fn state(house: &House, keep: Keep) -> Snapshot {
    house.image("default/1/base", "");
    house.prepare("default/2/web", "default/1/base");
    house.write("default/2/web", "state", "one");
    let captured = Some("{\"id\":\"web\"}".to_owned());
    let take = Take { keep, labels: BTreeMap::new(), captured, operation: None, expires: None };
    // What is sealed as it lies is nobody's alone.
    let _runs = house.runs("default/2/web");
    house.core.snapshot(house.id("default/2/web"), &take, &mut Still).unwrap().0
}

/// Prepare as loom asks containerd for it.
fn publish(house: &House, key: &str, parent: &str, state: Id) -> crate::error::Result<()> {
    let made = Made { operation: Some(Id::random().unwrap()), expires: None };
    let grant = house.core.grant(state, made).unwrap();
    let mut labels = labels(FORK_LABEL, &grant.label());
    labels.insert(key::REF_LABEL.to_owned(), REF.to_owned());
    house.core.prepare(key, parent, labels).map(drop)
}

fn published(house: &House, key: &str, parent: &str, state: Id) -> Snapshot {
    let Err(Error::RefExists(adopted)) = publish(house, key, parent, state) else { panic!("{key}") };
    assert_eq!(adopted, REF);
    house.core.by_key(key).unwrap().unwrap()
}

#[test]
fn containerd_finds_it_by_its_ref_and_its_parent() {
    for house in [House::new(), House::pooled()] {
        let state = state(&house, Keep::ForClones);
        let directories = house.directories();
        let row = published(&house, "default/3/sha256:0", "default/1/base", state.id);
        assert_eq!(house.directories(), directories, "nothing was made or moved");
        assert_eq!((row.kind, row.layer), (Kind::Committed, state.layer));
        assert_eq!((row.source, row.taken), (Some(house.id("default/2/web")), state.taken));
        assert_eq!(row.captured, state.captured);
        assert_eq!(row.labels, labels(key::REF_LABEL, REF), "a grant's token stays nowhere");
        let filter = format!("labels.{:?}=={REF},parent==\"default/1/base\"", key::REF_LABEL);
        let (found, _) = house.core.list(&Filters::parse(&[filter]).unwrap(), None).unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.key.as_str(), it.parent.as_str())).collect();
        assert_eq!(found, [("default/3/sha256:0", "default/1/base")]);

        // The state goes, and so does what it was taken of; a container has the image's files.
        house.core.release(state.id).unwrap();
        house.core.remove("default/2/web").unwrap();
        house.prepare("default/4/again", "default/3/sha256:0");
        assert_eq!(house.text(house.id("default/4/again"), "state"), b"one");
        house.core.remove("default/4/again").unwrap();
        house.core.remove("default/3/sha256:0").unwrap();
        house.core.remove("default/1/base").unwrap();
        house.settle(0);
    }
}

#[test]
fn two_names_of_one_layer_go_one_by_one() {
    for first in ["default/3/sha256:0", "kept"] {
        let house = House::new();
        let state = state(&house, Keep::Named("kept".to_owned()));
        let row = published(&house, "default/3/sha256:0", "default/1/base", state.id);
        assert_eq!(row.source, Some(state.id));
        let remove = |name: &str| match name {
            "kept" => house.core.forget(state.id).unwrap(),
            key => house.core.remove(key).unwrap(),
        };
        let (other, left) =
            if first == "kept" { (row.key.as_deref().unwrap(), row.id) } else { ("kept", state.id) };
        remove(first);
        assert_eq!(house.text(left, "state"), b"one");
        remove(other);
        house.core.remove("default/2/web").unwrap();
        house.core.remove("default/1/base").unwrap();
        house.settle(0);
    }
}

#[test]
fn it_is_published_once_in_a_namespace_and_adopted_in_no_other() {
    let house = House::new();
    let state = state(&house, Keep::Named("kept".to_owned()));
    published(&house, "default/3/sha256:0", "", state.id);
    assert!(matches!(publish(&house, "default/4/sha256:0", "", state.id), Err(Error::RefExists(_))));
    assert!(house.core.by_key("default/4/sha256:0").unwrap().is_none());
    published(&house, "other/5/sha256:0", "", state.id);
    // An unpacker of a stranger's image makes its own layer; at home it takes what is there.
    let unpack = |key: &str| house.core.prepare(key, "", labels(key::REF_LABEL, REF));
    assert!(unpack("third/6/extract-1 sha256:0").is_ok());
    assert!(matches!(unpack("default/6/extract-1 sha256:0"), Err(Error::RefExists(_))));
}

#[test]
fn what_is_no_layer_of_an_image_is_refused() {
    let house = House::new();
    let one = state(&house, Keep::ForOne);
    let web = house.id("default/2/web");
    assert_eq!(
        publish(&house, "default/3/sha256:0", "", one.id).unwrap_err().kind(),
        Class::FailedPrecondition
    );
    assert_eq!(publish(&house, "default/3/sha256:0", "", web).unwrap_err().kind(), Class::FailedPrecondition);
    let (state, _) = house.core.snapshot(web, &named("kept"), &mut Still).unwrap();
    house.image("default/1/other", "");
    for (key, parent) in
        [("default/3/sha256:0", "default/1/other"), ("default/3/web", "default/1/base"), ("sha256:1", "")]
    {
        assert_eq!(
            publish(&house, key, parent, state.id).unwrap_err().kind(),
            Class::InvalidArgument,
            "{key}"
        );
    }
    assert_eq!(
        publish(&house, "default/3/sha256:0", "default/2/web", state.id).unwrap_err().kind(),
        Class::InvalidArgument
    );
    assert_eq!(publish(&house, "default/3/sha256:0", "none", state.id).unwrap_err().kind(), Class::NotFound);
    // Without a grant that lives, both labels together are a stranger's.
    for of in ["grant:none", "default/2/web", "id:00000000000000000000000000000000"] {
        let mut both = labels(FORK_LABEL, of);
        both.insert(key::REF_LABEL.to_owned(), REF.to_owned());
        let refused = house.core.prepare("default/3/sha256:0", "default/1/base", both).unwrap_err();
        assert_eq!(refused.kind(), Class::FailedPrecondition, "{of}");
    }
    assert!(!house.keys().iter().any(|key| key.contains("sha256")));
}

#[test]
fn a_state_descends_from_the_images_that_its_lineage_passes() {
    let house = House::new();
    let state = state(&house, Keep::Named("kept".to_owned()));
    published(&house, "default/3/sha256:0", "default/1/base", state.id);
    house.prepare("default/4/next", "default/3/sha256:0");
    // What the first becomes once it is portable.
    let grant = house.core.grant(state.id, Made::default()).unwrap();
    let mut asked = labels(FORK_LABEL, &grant.label());
    asked.insert(key::REF_LABEL.to_owned(), "sha256:1".to_owned());
    house.core.prepare("default/6/sha256:1", "default/1/base", asked).unwrap_err();
    // A fork without a parent, as containerd has those of other tools.
    let next = house.core.snapshot(house.id("default/4/next"), &named("next"), &mut Still).unwrap().0;
    let grant = house.core.grant(next.id, Made::default()).unwrap();
    house.core.prepare("default/5/fork", "", labels(FORK_LABEL, &grant.label())).unwrap();
    house.image("default/1/sha256:9", "");
    for (key, name, want) in [
        ("default/4/next", REF, true),
        ("default/4/next", "sha256:1", true),
        ("default/5/fork", REF, true),
        ("default/2/web", REF, false),
        ("default/5/fork", "sha256:9", false),
        ("default/1/sha256:9", "sha256:9", true),
    ] {
        assert_eq!(house.core.descends(house.id(key), name).unwrap(), want, "{key} {name}");
    }
    assert!(house.core.stands_on(house.id("default/5/fork"), house.id("default/3/sha256:0")).unwrap());
    assert!(!house.core.stands_on(house.id("default/5/fork"), house.id("default/1/sha256:9")).unwrap());
}
