//! What expires, what a prune is about, and what has changed since.

use std::collections::BTreeMap;

use super::super::{FORK_LABEL, Keep, Made, Pruned, Still, Take};
use super::{House, labels, named};
use crate::error::Kind as Class;
use crate::store::{Id, Kind, Time};

const WEB: &str = "default/2/web";

fn live() -> (House, Id) {
    let house = House::new();
    house.image("default/1/base", "");
    house.prepare(WEB, "default/1/base");
    let web = house.id(WEB);
    (house, web)
}

fn expiring(house: &House, source: Id, name: &str, expires: i64) -> Id {
    let take = Take { expires: Some(Time(expires)), ..named(name) };
    house.core.snapshot(source, &take, &mut Still).unwrap().0.id
}

fn expired(house: &House, now: i64) -> Vec<Id> {
    house.core.expired(Time(now)).unwrap().into_iter().map(|row| row.id).collect()
}

#[test]
fn what_has_expired_goes_and_nothing_else() {
    let (house, web) = live();
    let (early, late) = (expiring(&house, web, "early", 10), expiring(&house, web, "late", 20));
    house.core.snapshot(web, &named("always"), &mut Still).unwrap();
    let house = house.reopen();
    assert_eq!(house.core.next_expiry().unwrap(), Some(Time(10)));
    assert_eq!(
        (expired(&house, 9), expired(&house, 10), expired(&house, 20)),
        (vec![], vec![early], vec![early, late])
    );
    // Before its time nothing happens.
    house.core.expire(late, Time(19)).unwrap();
    assert!(house.core.resolve("late").is_ok());
    house.core.expire(early, Time(10)).unwrap();
    assert!(house.core.resolve("early").is_err());
    assert_eq!(house.core.next_expiry().unwrap(), Some(Time(20)));
    // Twice is once, and so is what never was.
    house.core.expire(early, Time(10)).unwrap();
    house.core.forget(late).unwrap();
    house.core.expire(late, Time(20)).unwrap();
    assert_eq!((expired(&house, i64::MAX), house.core.next_expiry().unwrap()), (vec![], None));
    assert_eq!(house.directories().len(), 3, "image, container and the one that stays");
}

#[test]
fn what_a_request_may_come_back_to_stays_until_it_does_not() {
    let (house, web) = live();
    let state = expiring(&house, web, "state", 10);
    let (first, second) = (house.core.need(state), house.core.need(state));
    for needed in [Some(first), Some(second)] {
        assert_eq!(house.core.expire(state, Time(10)).unwrap_err().kind(), Class::Aborted);
        assert_eq!(house.core.forget(state).unwrap_err().kind(), Class::Aborted);
        assert!(house.core.resolve("state").is_ok());
        drop(needed);
    }
    // What was to expire may be kept for good after all.
    house.core.keep(state).unwrap();
    house.core.expire(state, Time(i64::MAX)).unwrap();
    assert!(house.core.resolve("state").is_ok());
    house.core.forget(state).unwrap();
    assert_eq!(house.core.keep(state).unwrap_err().kind(), Class::NotFound);
}

#[test]
fn what_is_pinned_stays_until_it_is_unpinned() {
    let (house, web) = live();
    let state = expiring(&house, web, "state", 10);
    let seen = expired(&house, 10);
    house.core.pin(state, None).unwrap();
    assert_eq!((seen, expired(&house, 10), house.core.next_expiry().unwrap()), (vec![state], vec![], None));
    // The look was before the pin.
    house.core.expire(state, Time(10)).unwrap();
    assert!(house.core.resolve("state").is_ok());
    house.core.unpin(state).unwrap();
    assert_eq!(expired(&house, 10), [state]);
    house.core.expire(state, Time(10)).unwrap();
    assert!(house.core.get(state).is_err());
}

#[test]
fn a_container_that_expires_is_removed_by_its_key() {
    let (house, web) = live();
    let state = expiring(&house, web, "state", 10);
    let made = Made { operation: None, expires: Some(Time(5)) };
    let grant = house.core.grant(state, made).unwrap();
    house.core.prepare("default/3/fork", "default/1/base", labels(FORK_LABEL, &grant.label())).unwrap();
    let fork = house.id("default/3/fork");
    assert_eq!(expired(&house, 10), [fork, state]);
    // containerd has it: only its key can end it.
    house.core.expire(fork, Time(10)).unwrap();
    assert_eq!(expired(&house, 10), [fork, state]);
    // What stands on a state keeps its bytes and its row, not its name.
    house.core.expire(state, Time(10)).unwrap();
    assert!(house.core.resolve("state").is_err());
    assert_eq!((house.core.get(state).unwrap().chain.len(), expired(&house, 10)), (0, vec![fork]));
    assert_eq!(house.core.get(fork).unwrap().chain.len(), 3);
    house.core.remove("default/3/fork").unwrap();
    assert!(house.core.get(state).is_err() && expired(&house, 10).is_empty());
    // A pinned one becomes loom's own, and has no name that could expire.
    let grant = house.core.grant(expiring(&house, web, "again", 10), made).unwrap();
    house.core.prepare("default/4/fork", "default/1/base", labels(FORK_LABEL, &grant.label())).unwrap();
    let fork = house.id("default/4/fork");
    house.core.pin(fork, None).unwrap();
    house.core.remove("default/4/fork").unwrap();
    assert_eq!(house.core.get(fork).unwrap().snapshot.kind, Kind::Committed);
    house.core.unpin(fork).unwrap();
    assert!(house.core.get(fork).is_err());
}

#[test]
fn what_containerd_commits_does_not_expire() {
    let (house, web) = live();
    let made = Made { operation: None, expires: Some(Time(5)) };
    let grant = house.core.grant(expiring(&house, web, "state", 99), made).unwrap();
    house.core.prepare("default/3/fork", "default/1/base", labels(FORK_LABEL, &grant.label())).unwrap();
    house.core.commit("default/4/image", "default/3/fork", BTreeMap::new()).unwrap();
    assert!(expired(&house, 10).is_empty());
}

#[test]
fn a_prune_is_about_named_states_that_fit() {
    let (house, web) = live();
    let state = |name: &str, namespace: &str, id: &str, nerdctl: &str, label: &str| {
        let captured = format!(
            r#"{{"namespace": "{namespace}", "id": "{id}", "labels": {{"nerdctl/name": "{nerdctl}"}}}}"#
        );
        let take = Take { labels: labels("for", label), captured: Some(captured), ..named(name) };
        house.core.snapshot(web, &take, &mut Still).unwrap().0
    };
    let a = state("a", "default", "web", "", "ci");
    let b = state("b", "other", "web", "", "dev");
    let c = state("c", "default", "0123", "web", "ci");
    let odd = Take { captured: Some("not JSON".to_owned()), ..named("d") };
    let d = house.core.snapshot(web, &odd, &mut Still).unwrap().0;
    // None of these is pruned.
    let pinned = house.core.snapshot(web, &named("pinned"), &mut Still).unwrap().0;
    house.core.pin(pinned.id, None).unwrap();
    house.core.snapshot(web, &Take { keep: Keep::ForClones, ..named("") }, &mut Still).unwrap();
    house.core.pin(web, None).unwrap();
    let names = |pruned: &Pruned| -> Vec<String> {
        house.core.prunable(pruned).unwrap().into_iter().map(|row| row.name.unwrap()).collect()
    };
    let all = Pruned::default();
    assert_eq!(names(&all), ["a", "b", "c", "d"]);
    let container = Some(("default".to_owned(), "web".to_owned()));
    assert_eq!(names(&Pruned { container: container.clone(), ..all.clone() }), ["a", "c"]);
    assert_eq!(names(&Pruned { before: Some(b.created), ..all.clone() }), ["a"]);
    assert_eq!(names(&Pruned { labels: labels("for", "ci"), ..all.clone() }), ["a", "c"]);
    assert_eq!(names(&Pruned { labels: labels("for", ""), ..all.clone() }), ["a", "b", "c"]);
    assert_eq!(names(&Pruned { labels: labels("missing", ""), ..all.clone() }), [""; 0]);
    let both = Pruned { container, labels: labels("for", "ci"), before: Some(c.created) };
    assert_eq!(names(&both), ["a"]);
    for id in [a.id, b.id, c.id, d.id] {
        house.core.forget(id).unwrap();
    }
    assert!(names(&all).is_empty());
}

#[test]
fn only_the_active_can_change() {
    let (house, web) = live();
    let (state, _) = house.core.snapshot(web, &named("x"), &mut Still).unwrap();
    let taken = state.taken.unwrap();
    let class = |id| house.core.changed_since(id, taken, 1).unwrap_err().kind();
    assert_eq!((class(state.id), class(Id::random().unwrap())), (Class::FailedPrecondition, Class::NotFound));
    for n in 0..5 {
        house.write(WEB, &format!("f{n}"), "");
    }
    assert_eq!(house.core.changed_since(web, taken, 3).unwrap().len(), 3);
    assert_eq!(house.core.changed_since(web, Time::now(), 3).unwrap(), [""; 0]);
    house.core.commit("default/9/done", WEB, BTreeMap::new()).unwrap();
    assert_eq!(class(web), Class::FailedPrecondition);
}
