//! Random requests against the core and against a model that knows nothing of layers.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{FORK_LABEL, Kept, Made, Still};
use super::{House, labels, named, top};
use crate::store::{Home, Kind, Stage};

/// A request; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Prepare(usize),
    View(usize),
    Write(usize, u8),
    Commit(usize),
    Remove(usize),
    Snapshot(usize),
    Fork(usize),
    Pin(usize),
    Unpin(usize),
    Forget(usize),
    Replace(usize, usize, bool),
    Flatten(usize, usize),
    Restart,
}

/// What the model knows of a snapshot.
#[derive(Debug, Clone)]
struct Known {
    key: Option<String>,
    name: Option<String>,
    kind: Kind,
    parent: Option<usize>,
    pinned: bool,
    content: Vec<u8>,
    gone: bool,
}

impl Known {
    fn held(&self) -> bool {
        self.key.is_some() || self.name.is_some() || self.pinned
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0..64_usize;
    let step = prop_oneof![
        4 => n.clone().prop_map(Step::Prepare),
        1 => n.clone().prop_map(Step::View),
        4 => (n.clone(), any::<u8>()).prop_map(|(n, byte)| Step::Write(n, byte)),
        3 => n.clone().prop_map(Step::Commit),
        3 => n.clone().prop_map(Step::Remove),
        3 => n.clone().prop_map(Step::Snapshot),
        3 => n.clone().prop_map(Step::Fork),
        1 => n.clone().prop_map(Step::Pin),
        1 => n.clone().prop_map(Step::Unpin),
        2 => n.clone().prop_map(Step::Forget),
        3 => (n.clone(), n.clone(), any::<bool>()).prop_map(|(n, m, keep)| Step::Replace(n, m, keep)),
        3 => (n.clone(), n.clone()).prop_map(|(n, m)| Step::Flatten(n, m)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

#[allow(clippy::too_many_lines)] // One arm a request reads best in one place.
fn run(mut house: House, steps: Vec<Step>) {
    let mut known: Vec<(crate::store::Id, Known)> = Vec::new();
    for (turn, step) in steps.into_iter().enumerate() {
        let pick = |n: usize, which: &dyn Fn(&Known) -> bool| {
            let able: Vec<usize> = (0..known.len()).filter(|&i| which(&known[i].1)).collect();
            (!able.is_empty()).then(|| able[n % able.len()])
        };
        let listed = |k: &Known, kind: Kind| k.key.is_some() && k.kind == kind;
        match step {
            Step::Prepare(n) | Step::View(n) => {
                let view = matches!(step, Step::View(_));
                let parent = pick(n, &|k| listed(k, Kind::Committed));
                let key = format!("default/{turn}/c{turn}");
                let parent_key = parent.and_then(|p| known[p].1.key.clone()).unwrap_or_default();
                if view {
                    house.core.view(&key, &parent_key, BTreeMap::new()).unwrap();
                } else {
                    house.prepare(&key, &parent_key);
                }
                let kind = if view { Kind::View } else { Kind::Active };
                let content = parent.map(|p| known[p].1.content.clone()).unwrap_or_default();
                let id = house.core.by_key(&key).unwrap().unwrap().id;
                let new =
                    Known { key: Some(key), name: None, kind, parent, pinned: false, content, gone: false };
                known.push((id, new));
            }
            Step::Write(n, byte) => {
                let Some(i) = pick(n, &|k| listed(k, Kind::Active)) else { continue };
                let (_, k) = &mut known[i];
                k.content.push(byte);
                let mounts = house.core.mounts(k.key.as_deref().unwrap()).unwrap();
                std::fs::write(top(&mounts).join("log"), &k.content).unwrap();
            }
            Step::Commit(n) => {
                let Some(i) = pick(n, &|k| listed(k, Kind::Active)) else { continue };
                let k = &mut known[i].1;
                let name = format!("default/{turn}/sha{turn}");
                house.core.commit(&name, k.key.as_deref().unwrap(), BTreeMap::new()).unwrap();
                (k.key, k.kind) = (Some(name), Kind::Committed);
            }
            Step::Remove(n) => {
                let Some(i) = pick(n, &|k| k.key.is_some()) else { continue };
                let key = known[i].1.key.clone().unwrap();
                let child = known.iter().any(|(_, k)| k.parent == Some(i) && k.key.is_some());
                assert_eq!(house.core.remove(&key).is_err(), child, "{key}");
                if !child {
                    let k = &mut known[i].1;
                    k.key = None;
                    if k.kind == Kind::Active {
                        k.kind = Kind::Committed;
                    }
                }
            }
            Step::Snapshot(n) => {
                let Some(i) = pick(n, &|k| listed(k, Kind::Active)) else { continue };
                let name = format!("state{turn}");
                let (state, _) = house.core.snapshot(known[i].0, &named(&name), &mut Still).unwrap();
                let source = &known[i].1;
                let new = Known {
                    key: None,
                    name: Some(name),
                    kind: Kind::Committed,
                    pinned: false,
                    ..source.clone()
                };
                known.push((state.id, new));
            }
            Step::Fork(n) => {
                let Some(i) = pick(n, &|k| k.kind == Kind::Committed && k.held()) else { continue };
                let key = format!("default/{turn}/f{turn}");
                let grant = house.core.grant(known[i].0, Made::default()).unwrap();
                house.core.prepare(&key, "", labels(FORK_LABEL, &grant.label())).unwrap();
                let id = house.core.by_key(&key).unwrap().unwrap().id;
                let content = known[i].1.content.clone();
                let new = Known {
                    key: Some(key),
                    name: None,
                    kind: Kind::Active,
                    parent: None,
                    pinned: false,
                    content,
                    gone: false,
                };
                known.push((id, new));
            }
            Step::Pin(n) => {
                let Some(i) = pick(n, &|k| k.held() && k.kind != Kind::View) else { continue };
                house.core.pin(known[i].0, None).unwrap();
                known[i].1.pinned = true;
            }
            Step::Unpin(n) => {
                let Some(i) = pick(n, &|k| k.pinned) else { continue };
                house.core.unpin(known[i].0).unwrap();
                known[i].1.pinned = false;
            }
            Step::Forget(n) => {
                let Some(i) = pick(n, &|k| k.held()) else { continue };
                let k = &mut known[i].1;
                let allowed = k.key.is_none() && !k.pinned;
                assert_eq!(house.core.forget(known[i].0).is_ok(), allowed);
                if allowed {
                    known[i].1.name = None;
                }
            }
            Step::Replace(n, m, keep) => {
                let Some(i) = pick(n, &|k| listed(k, Kind::Active)) else { continue };
                let Some(state) = pick(m, &|k| k.kind == Kind::Committed && k.held()) else { continue };
                let name = keep.then(|| format!("kept{turn}"));
                let kept = name.as_deref().map_or(Kept::Discarded, super::replace::keep);
                let replaced = house.core.replace(known[i].0, known[state].0, &kept, None).unwrap();
                let content = known[state].1.content.clone();
                let old = &mut known[i].1;
                let new = Known { pinned: false, content, ..old.clone() };
                (old.key, old.name, old.kind) = (None, name, Kind::Committed);
                assert_eq!(replaced.kept.is_some(), old.held());
                known.push((replaced.now, new));
            }
            Step::Flatten(n, m) => {
                let Some(i) = pick(n, &Known::held) else { continue };
                let chain = house.core.get(known[i].0).unwrap().chain;
                let sealed: Vec<_> = chain
                    .into_iter()
                    .skip_while(|layer| layer.home != Home::Plain || layer.stage != Stage::Sealed)
                    .collect();
                if sealed.len() > 1 {
                    let start = m % (sealed.len() - 1);
                    house.core.merge(&sealed[start..], 2 + n % (sealed.len() - start - 1), true).unwrap();
                }
                if m % 2 == 0 {
                    house.core.end_replaced(Duration::ZERO).unwrap();
                }
            }
            Step::Restart => house = house.reopen(),
        }
        check(&house, &mut known);
    }
    // Everything goes, and then nothing is left.
    for (id, k) in &known {
        if k.pinned {
            house.core.unpin(*id).unwrap();
        }
        if k.name.is_some() {
            house.core.forget(*id).unwrap();
        }
    }
    let mut keys = house.keys();
    while !keys.is_empty() {
        keys.retain(|key| house.core.remove(key).is_err());
    }
    house.core.end_replaced(Duration::ZERO).unwrap();
    assert!(house.core.all().unwrap().is_empty(), "{:?}", house.core.all().unwrap());
    assert!(house.empties());
}

fn check(house: &House, known: &mut [(crate::store::Id, Known)]) {
    let mut keys: Vec<String> = known.iter().filter_map(|(_, k)| k.key.clone()).collect();
    keys.sort();
    assert_eq!(house.keys(), keys);
    for (id, k) in known.iter_mut() {
        if k.held() {
            assert!(!k.gone);
            assert_eq!(house.text(*id, "log"), k.content);
        } else {
            k.gone = true;
            assert!(
                house.core.get(*id).is_ok_and(|seen| seen.chain.is_empty()) || house.core.get(*id).is_err()
            );
        }
    }
    // Every directory has a row and every row a directory.
    let layers = house.core.counts().unwrap().layers;
    assert!(layers >= house.directories().len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_core_does_what_the_model_does(steps in steps()) {
        run(House::new(), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_core_does_what_the_model_does_in_a_pool(steps in steps()) {
        run(House::pooled(), steps);
    }
}
