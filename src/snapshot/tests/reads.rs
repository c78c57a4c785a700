//! What a state is compared with, and layers that stay while they are read.

use std::collections::BTreeMap;

use super::super::key::REF_LABEL;
use super::super::{FORK_LABEL, Kept, Made, Still};
use super::{House, named};
use crate::error::Kind as Class;
use crate::store::Id;

impl House {
    /// A named state of an active snapshot.
    fn state(&self, key: &str, name: &str) -> Id {
        self.core.snapshot(self.id(key), &named(name), &mut Still).unwrap().0.id
    }

    /// What it is compared with.
    fn made_of(&self, id: Id) -> Option<Id> {
        self.core.made_of(id).unwrap().map(|state| state.id)
    }
}

fn house() -> House {
    let house = House::pooled();
    house.image("default/1/lower", "");
    house.image("default/2/image", "default/1/lower");
    house.prepare("default/3/web", "default/2/image");
    house
}

#[test]
fn a_state_is_compared_with_the_state_that_it_began_as() {
    let house = house();
    let image = house.id("default/2/image");
    let web = house.id("default/3/web");
    assert_eq!(house.made_of(web), Some(image));
    let kept = house.state("default/3/web", "kept");
    assert_eq!(house.made_of(kept), Some(image), "a snapshot shows what its container has changed");
    let clone = house.fork("default/4/clone", "default/2/image", kept);
    assert_eq!(house.made_of(clone), Some(kept));
    let later = house.state("default/4/clone", "later");
    assert_eq!(house.made_of(later), Some(kept));
    // Nobody has kept what a live one was when it was forked.
    let fork = house.fork("default/5/fork", "default/2/image", web);
    assert_eq!(house.made_of(fork), Some(image));
    let of_clone = house.fork("default/6/fork", "default/2/image", clone);
    assert_eq!(house.made_of(of_clone), Some(kept));
    let back = house.core.replace(of_clone, later, &Kept::Discarded, None).unwrap().now;
    assert_eq!(house.made_of(back), Some(later));
    // What is gone is passed by.
    house.core.forget(later).unwrap();
    assert_eq!(house.made_of(back), Some(kept));
}

#[test]
fn an_image_is_compared_with_what_it_is_built_on() {
    let house = house();
    let lower = house.id("default/1/lower");
    assert_eq!(house.made_of(house.id("default/2/image")), Some(lower));
    assert_eq!(house.made_of(lower), None);
    house.prepare("default/4/scratch", "");
    assert_eq!(house.made_of(house.id("default/4/scratch")), None);
}

#[test]
fn what_lies_below_an_image_that_is_gone_is_not_what_a_state_was_made_of() {
    let house = house();
    let kept = house.state("default/3/web", "kept");
    house.core.remove("default/3/web").unwrap();
    house.core.remove("default/2/image").unwrap();
    let refused = house.core.made_of(kept).unwrap_err();
    assert_eq!(refused.kind(), Class::FailedPrecondition);
    assert!(refused.to_string().contains("name a state"), "{refused}");
}

#[test]
fn a_chain_stays_on_disk_while_it_is_read() {
    let house = house();
    let web = house.id("default/3/web");
    let chain = house.core.read_chain(web).unwrap().unwrap();
    assert_eq!(chain.layers().len(), 3);
    for key in ["default/3/web", "default/2/image", "default/1/lower"] {
        house.core.remove(key).unwrap();
    }
    assert_eq!(house.directories().len(), 3);
    assert!(house.core.read_chain(web).is_err() && house.core.all().unwrap().is_empty());
    drop(chain);
    house.settle(0);
    assert!(house.empties());
}

#[test]
fn what_has_no_bytes_has_no_chain() {
    let house = house();
    let web = house.id("default/3/web");
    house.state("default/3/web", "kept");
    house.core.remove("default/3/web").unwrap();
    assert!(house.core.get(web).unwrap().snapshot.layer.is_none());
    assert!(house.core.read_chain(web).unwrap().is_none());
    assert!(house.core.prepare("default/4/next", "default/2/image", BTreeMap::new()).is_ok());
}

#[test]
fn an_image_of_a_state_is_compared_with_what_the_state_was_made_of() {
    let house = house();
    let kept = house.state("default/3/web", "kept");
    let grant = house.core.grant(kept, Made::default()).unwrap();
    let reference = "sha256:of-the-state";
    let labels = [(REF_LABEL, reference), (FORK_LABEL, &grant.label())];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
    let key = format!("default/4/{reference}");
    house.core.prepare(&key, "default/2/image", labels).unwrap_err();
    let published = house.id(&key);
    assert_eq!(house.core.get(published).unwrap().chain, house.core.get(kept).unwrap().chain);
    assert_eq!(house.made_of(published), Some(house.id("default/2/image")));
}
