//! Replace: rollback, promote, and forks of what another tool made.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};

use super::super::replace::Looked;
use super::super::{FORK_LABEL, Keep, Kept, Made, Still, Take};
use super::{House, labels, named};
use crate::error::{Error, Kind as Class};
use crate::store::{Id, Kind, Snapshot, Stage, Time};

const WEB: &str = "default/2/web";

pub(super) fn keep(name: &str) -> Kept {
    Kept::Named { name: name.to_owned(), labels: BTreeMap::new(), expires: None, captured: None }
}

/// A container that says `two`, and a state of it that says `one`.
pub(super) fn rolled(house: House) -> (House, Id, Id) {
    house.image("default/1/base", "");
    house.core.prepare(WEB, "default/1/base", labels("a", "b")).unwrap();
    house.write(WEB, "log", "one");
    let web = house.id(WEB);
    let (state, _) = house.core.snapshot(web, &named("one"), &mut Still).unwrap();
    house.write(WEB, "log", "two");
    (house, web, state.id)
}

fn row(house: &House, id: Id) -> Snapshot {
    house.core.get(id).unwrap().snapshot
}

fn named_id(house: &House, name: &str) -> Id {
    house.core.resolve(name).unwrap().id
}

/// A state that only a request keeps.
fn state(house: &House, source: Id, keep: Keep) -> Snapshot {
    let captured = Some("{}".to_owned());
    let take = Take { keep, labels: BTreeMap::new(), captured, operation: None, expires: None };
    house.core.snapshot(source, &take, &mut Still).unwrap().0
}

fn put_back(house: House) {
    let (mut house, web, one) = rolled(house);
    let before = row(&house, web);
    let replaced = house.core.replace(web, one, &keep("two"), None).unwrap();
    house.write(WEB, "log", "meanwhile");
    house.core.put_back(replaced.now, web).unwrap();
    for _ in 0..2 {
        let after = row(&house, web);
        assert_eq!(Snapshot { created: before.created, updated: before.updated, ..after }, before);
        assert_eq!(house.core.get(web).unwrap().chain[0].stage, Stage::Writable);
        assert_eq!(house.text(web, "log"), b"two");
        assert!(house.core.get(replaced.now).is_err());
        house.write(WEB, "log", "two");
        house = house.reopen();
    }
}

fn back_and_forward(house: House) {
    let (mut house, web, one) = rolled(house);
    house.core.snapshot(web, &named("two"), &mut Still).unwrap();
    house.write(WEB, "log", "three");
    let operation = Id::random().unwrap();
    let replaced = house.core.replace(web, one, &keep("three"), Some(operation)).unwrap();
    assert_eq!(replaced.kept, Some(web));
    let now = row(&house, replaced.now);
    assert_eq!((now.id, now.kind, now.source), (house.id(WEB), Kind::Active, Some(one)));
    assert_eq!(
        (now.parent, now.operation, now.taken),
        (Some(house.id("default/1/base")), Some(operation), None)
    );
    assert_eq!(
        (now.labels, house.core.stat(WEB).unwrap().parent.as_str()),
        (labels("a", "b"), "default/1/base")
    );
    assert_eq!(house.core.store().read(|rows| rows.by_operation(operation)).unwrap().len(), 1);
    let kept = row(&house, web);
    assert_eq!((kept.kind, kept.key, kept.name.as_deref()), (Kind::Committed, None, Some("three")));
    assert_eq!(house.core.get(web).unwrap().chain[0].stage, Stage::Sealed);
    assert_eq!(house.text(web, "log"), b"three");
    assert_eq!(house.text(replaced.now, "log"), b"one");
    // Forward, to what is between, and over restarts.
    for (n, to) in ["three", "two", "one", "three"].into_iter().enumerate() {
        house.write(WEB, "log", format!("later {n}"));
        let was = house.id(WEB);
        let replaced =
            house.core.replace(was, named_id(&house, to), &keep(&format!("later{n}")), None).unwrap();
        house = house.reopen();
        assert_eq!(house.text(replaced.now, "log"), to.as_bytes());
        assert_eq!(house.text(was, "log"), format!("later {n}").as_bytes());
        house.write(WEB, "own", "x");
    }
    for name in ["one", "two", "three", "later0", "later1", "later2", "later3"] {
        let text = house.text(named_id(&house, name), "log");
        assert_eq!(String::from_utf8(text).unwrap().replace(' ', ""), name);
        assert_eq!(
            house.text(named_id(&house, name), "own").is_empty(),
            !["later1", "later2", "later3"].contains(&name)
        );
    }
    // All of it goes.
    for seen in house.core.all().unwrap().into_iter().filter(|seen| seen.snapshot.name.is_some()) {
        house.core.forget(seen.snapshot.id).unwrap();
    }
    assert_eq!(house.text(house.id(WEB), "log"), b"three");
    house.core.remove(WEB).unwrap();
    house.core.remove("default/1/base").unwrap();
    assert!(house.core.all().unwrap().is_empty() && house.empties());
}

#[test]
fn what_was_replaced_is_put_back_on_plain_layers() {
    put_back(House::new());
}

#[test]
fn what_was_replaced_is_put_back_in_a_pool() {
    put_back(House::pooled());
}

#[test]
fn what_somebody_branched_is_not_written_to_again() {
    let (house, web, one) = rolled(House::new());
    house.core.replace(web, one, &keep("two"), None).unwrap();
    let replaced = house.core.replace(house.id(WEB), web, &Kept::Discarded, None).unwrap();
    let error = house.core.put_back(replaced.now, web).unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error}");
    assert_eq!(house.text(replaced.now, "log"), b"two");
}

#[test]
fn back_and_forward_on_plain_layers() {
    back_and_forward(House::new());
}

#[test]
fn back_and_forward_in_a_pool() {
    back_and_forward(House::pooled());
}

#[test]
fn what_is_discarded_leaves_its_row_to_the_lineage_only() {
    for house in [House::new(), House::pooled()] {
        let (house, web, one) = rolled(house);
        let directories = house.directories().len();
        let replaced = house.core.replace(web, one, &Kept::Discarded, None).unwrap();
        assert_eq!(replaced.kept, None);
        // The state was taken of it.
        assert_eq!((row(&house, web).layer, row(&house, web).key), (None, None));
        assert_eq!(
            (house.text(replaced.now, "log"), house.directories().len()),
            (b"one".to_vec(), directories)
        );
        let path: Vec<Id> =
            house.core.lineage(replaced.now).unwrap().iter().map(|seen| seen.snapshot.id).collect();
        assert_eq!(path, [replaced.now, one, web, house.id("default/1/base")]);
        // Nothing needs the next one.
        let again = house.core.replace(replaced.now, one, &Kept::Discarded, None).unwrap();
        assert!(house.core.get(replaced.now).is_err());
        let house = house.reopen();
        assert_eq!((house.text(again.now, "log"), house.directories().len()), (b"one".to_vec(), directories));
    }
}

#[test]
fn a_state_for_one_is_taken_over() {
    for house in [House::new(), House::pooled()] {
        let (house, web, _) = rolled(house);
        house.prepare("default/3/new", "default/1/base");
        let new = house.id("default/3/new");
        let runs = house.runs(WEB);
        let state = state(&house, web, Keep::ForOne);
        drop(runs);
        let replaced = house.core.replace(new, state.id, &Kept::Discarded, None).unwrap();
        let now = row(&house, replaced.now);
        assert_eq!((now.layer, now.source, now.taken), (state.layer, Some(web), state.taken));
        assert_eq!(now.captured.as_deref(), Some("{}"));
        assert!(house.core.get(state.id).is_err() && house.core.get(new).is_err());
        house.core.release(state.id).unwrap();
        assert_eq!(house.text(replaced.now, "log"), b"two");
        house.write("default/3/new", "log", "three");
        assert_eq!(house.text(web, "log"), b"two");
        assert!(house.core.replace(replaced.now, state.id, &Kept::Discarded, None).is_err());
        let house = house.reopen();
        assert_eq!(house.text(replaced.now, "log"), b"three");
    }
}

#[test]
fn one_state_may_replace_several() {
    for house in [House::new(), House::pooled()] {
        let (house, web, _) = rolled(house);
        let state = state(&house, web, Keep::ForClones);
        for n in 3..6 {
            let key = format!("default/{n}/new");
            house.prepare(&key, "default/1/base");
            let now = house.core.replace(house.id(&key), state.id, &Kept::Discarded, None).unwrap().now;
            assert_eq!((row(&house, now).source, row(&house, now).taken), (Some(web), state.taken));
            house.write(&key, "own", &key);
        }
        house.core.release(state.id).unwrap();
        for n in 3..6 {
            let id = house.id(&format!("default/{n}/new"));
            assert_eq!(house.text(id, "own"), format!("default/{n}/new").as_bytes());
            assert_eq!(house.text(id, "log"), b"two");
        }
    }
}

/// Mounts a snapshot in a namespace of its own, as a container's, until its input is closed.
fn mounted(house: &House, key: &str, at: &std::path::Path) -> std::process::Child {
    let mount = house.core.mounts(key).unwrap().remove(0);
    let how = if mount.kind == "bind" { "--bind" } else { "-t overlay" };
    let options = mount.options.join(",").replace("rw,rbind", "rw");
    let script =
        format!("mount {how} -o {options} {} {} && echo ready && exec cat", mount.source, at.display());
    let mut holder = Command::new("unshare")
        .args(["-m", "bash", "-euc", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    holder.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    holder
}

#[test]
fn what_is_mounted_is_refused() {
    for house in [House::new(), House::pooled()] {
        let (house, _, one) = rolled(house);
        house.prepare("default/3/bare", "");
        for (key, name) in [(WEB, "two"), ("default/3/bare", "bare")] {
            let id = house.id(key);
            let before = (house.core.all().unwrap(), house.directories());
            let at = tempfile::tempdir().unwrap();
            let mut holder = mounted(&house, key, at.path());
            let error = house.core.replace(id, one, &keep(name), None).unwrap_err();
            assert_eq!(error.kind(), Class::FailedPrecondition);
            assert!(error.to_string().contains("it is mounted; stop what runs on it"), "{error}");
            assert_eq!((house.core.all().unwrap(), house.directories()), before);
            // Mounted behind the first look: the second one sees it.
            let looked = house.core.store().read(|rows| Looked::at(rows, id, one, &keep(name))).unwrap();
            let top = house.core.top_of(&looked).unwrap();
            let error = house.core.swap(&looked, &top, &keep(name), None).unwrap_err();
            assert_eq!(error.kind(), Class::FailedPrecondition);
            assert_eq!(house.core.all().unwrap(), before.0);
            drop(holder.stdin.take());
            holder.wait().unwrap();
            house.write(key, "log", "still written to");
            house.core.replace(id, one, &keep(name), None).unwrap();
            assert_eq!(house.text(id, "log"), b"still written to");
        }
    }
}

#[test]
fn others_wait_while_it_is_replaced() {
    let (house, web, one) = rolled(House::new());
    let core = &house.core;
    let swapping = core.take_swap(WEB).unwrap();
    assert_eq!(core.mounts(WEB).unwrap_err().kind(), Class::Aborted);
    assert_eq!(core.replace(web, one, &Kept::Discarded, None).unwrap_err().kind(), Class::Aborted);
    drop(swapping);
    let sealing = core.take_seal(WEB).unwrap();
    assert_eq!(core.replace(web, one, &Kept::Discarded, None).unwrap_err().kind(), Class::Aborted);
    drop(sealing);
    core.mounts(WEB).unwrap();
    core.replace(web, one, &Kept::Discarded, None).unwrap();
    core.mounts(WEB).unwrap();
}

#[test]
fn a_pin_stays_with_the_state_that_it_keeps() {
    for house in [House::new(), House::pooled()] {
        let (house, web, one) = rolled(house);
        house.core.pin(web, Some("{}".to_owned())).unwrap();
        let replaced = house.core.replace(web, one, &Kept::Discarded, None).unwrap();
        assert_eq!(replaced.kept, Some(web));
        let kept = row(&house, web);
        assert_eq!((kept.kind, kept.pinned, kept.name, kept.key), (Kind::Committed, true, None, None));
        assert!(!row(&house, replaced.now).pinned);
        let house = house.reopen();
        assert_eq!(house.text(web, "log"), b"two");
        house.core.replace(house.id(WEB), web, &Kept::Discarded, None).unwrap();
        assert_eq!(house.text(house.id(WEB), "log"), b"two");
        house.core.unpin(web).unwrap();
        assert!(house.core.get(web).unwrap().chain.is_empty());
    }
}

#[test]
fn what_expires_is_the_container_still() {
    let (house, web, one) = rolled(House::new());
    let grant = house.core.grant(one, Made { operation: None, expires: Some(Time(5)) }).unwrap();
    house.core.prepare("default/3/fork", "", labels(FORK_LABEL, &grant.label())).unwrap();
    let kept = Kept::Named {
        name: "was".to_owned(),
        labels: labels("l", "m"),
        expires: Some(Time(9)),
        captured: Some("c".to_owned()),
    };
    let fork = house.id("default/3/fork");
    let replaced = house.core.replace(fork, one, &kept, None).unwrap();
    assert_eq!(
        (row(&house, replaced.now).expires, row(&house, fork).expires),
        (Some(Time(5)), Some(Time(9)))
    );
    let was = row(&house, fork);
    assert_eq!((was.labels, was.captured.as_deref()), (labels("l", "m"), Some("c")));
    // What was forked from it knows it still.
    assert_eq!((was.source, row(&house, one).source), (Some(one), Some(web)));
}

#[test]
fn what_cannot_be_replaced_is_left_as_it_is() {
    let (house, web, one) = rolled(House::new());
    house.core.view("default/3/look", "default/1/base", BTreeMap::new()).unwrap();
    house.prepare("default/4/other", "default/1/base");
    let (look, base, other) =
        (house.id("default/3/look"), house.id("default/1/base"), house.id("default/4/other"));
    let before = (house.core.all().unwrap(), house.directories());
    let class =
        |target, state, kept: &Kept| house.core.replace(target, state, kept, None).unwrap_err().kind();
    let nobody = Id::random().unwrap();
    assert_eq!(class(look, one, &Kept::Discarded), Class::FailedPrecondition);
    assert_eq!(class(base, one, &Kept::Discarded), Class::FailedPrecondition);
    assert_eq!(class(one, one, &Kept::Discarded), Class::FailedPrecondition);
    assert_eq!(class(web, other, &Kept::Discarded), Class::FailedPrecondition);
    assert_eq!(class(web, look, &Kept::Discarded), Class::FailedPrecondition);
    assert_eq!(class(web, nobody, &Kept::Discarded), Class::NotFound);
    assert_eq!(class(nobody, one, &Kept::Discarded), Class::NotFound);
    assert_eq!(class(web, one, &keep("one")), Class::AlreadyExists);
    assert_eq!(class(web, one, &keep("a/b")), Class::InvalidArgument);
    assert_eq!((house.core.all().unwrap(), house.directories()), before);
    // An image is a state as good as any.
    let now = house.core.replace(web, base, &keep("two"), None).unwrap().now;
    assert!(house.text(now, "log").is_empty());
    house.core.forget(one).unwrap();
    assert_eq!(class(now, one, &Kept::Discarded), Class::NotFound);
}

#[test]
fn a_pin_or_a_removal_in_the_middle_undoes_it() {
    for house in [House::new(), House::pooled()] {
        let (house, web, one) = rolled(house);
        let directories = house.directories();
        let attempt = |kept: &Kept, meanwhile: &dyn Fn()| {
            let looked = house.core.store().read(|rows| Looked::at(rows, web, one, kept)).unwrap();
            let top = house.core.top_of(&looked).unwrap();
            meanwhile();
            house.core.swap(&looked, &top, kept, None).unwrap_err()
        };
        // It would have to be sealed.
        let error = attempt(&Kept::Discarded, &|| drop(house.core.pin(web, None).unwrap()));
        assert_eq!(error.kind(), Class::Aborted);
        house.core.unpin(web).unwrap();
        let error = attempt(&keep("two"), &|| house.core.forget(one).unwrap());
        assert!(matches!(error, Error::SnapshotNotFound(_) | Error::ParentNotFound(_)), "{error}");
        house.write(WEB, "log", "goes on");
        let house = house.reopen();
        assert_eq!(house.text(web, "log"), b"goes on");
        // The state was forgotten; where it was sealed as it lay, the source still stands on its layer.
        let gone = usize::from(house.core.layers().pool().is_some());
        assert_eq!(house.directories().len(), directories.len() - gone);
        assert!(house.core.resolve("two").is_err());
        house.core.commit("default/9/done", WEB, BTreeMap::new()).unwrap();
    }
}

#[test]
fn of_two_at_once_one_waits_or_both_hold() {
    let (house, web, one) = rolled(House::new());
    let other = house.core.snapshot(web, &named("other"), &mut Still).unwrap().0.id;
    let tries: Vec<_> = std::thread::scope(|scope| {
        let attempts = [(one, "a"), (other, "b")].map(|(state, name)| {
            let core = &house.core;
            scope.spawn(move || core.replace(web, state, &keep(name), None))
        });
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
    });
    let done: Vec<_> = tries.iter().flatten().collect();
    let [done] = done[..] else { panic!("{tries:?}") };
    assert_eq!((house.id(WEB), done.kept), (done.now, Some(web)));
    // The other came while it was under way, or behind it: the row has no key any more.
    let error = tries.iter().find_map(|tried| tried.as_ref().err()).unwrap();
    assert!(matches!(error.kind(), Class::Aborted | Class::FailedPrecondition), "{error}");
    assert_eq!(house.text(web, "log"), b"two");
}
