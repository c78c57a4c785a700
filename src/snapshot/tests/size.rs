//! What snapshots take on disk.

use std::fs;
use std::time::Duration;

use super::super::{Size, Still};
use super::{House, named, top};

const LONG: Duration = Duration::from_mins(1);
const MIB: u64 = 1 << 20;

impl House {
    fn size(&self, key: &str) -> Size {
        self.sizes(&[key])[0].unwrap()
    }

    fn sizes(&self, keys: &[&str]) -> Vec<Option<Size>> {
        let seen: Vec<_> = keys.iter().map(|key| self.core.get(self.id(key)).unwrap()).collect();
        self.core.sizes(&seen, LONG).unwrap()
    }

    /// Writes a file of so many MiB that no filesystem stores smaller, and waits until it is in its extents.
    fn fill(&self, key: &str, file: &str, mib: u64) {
        let path = top(&self.core.mounts(key).unwrap()).join(file);
        fs::write(&path, vec![7; usize::try_from(mib * MIB).unwrap()]).unwrap();
        fs::File::open(path).unwrap().sync_all().unwrap();
    }
}

/// In MiB, but for what the trees themselves take.
fn mib(size: Size) -> (u64, u64) {
    (size.exclusive / MIB, size.shared / MIB)
}

#[test]
fn a_chain_is_its_tops_alone_as_far_as_nothing_else_stands_on_it() {
    let house = House::new();
    house.image("default/1/low", "");
    house.prepare("default/1/extract-base", "default/1/low");
    house.fill("default/1/extract-base", "library", 2);
    house.core.commit("default/1/base", "default/1/extract-base", std::collections::BTreeMap::new()).unwrap();
    assert_eq!(mib(house.size("default/1/base")), (2, 0), "it and the layer below it would go");

    house.prepare("default/2/web", "default/1/base");
    house.fill("default/2/web", "data", 3);
    assert_eq!(mib(house.size("default/2/web")), (3, 2));
    assert_eq!(mib(house.size("default/1/base")), (0, 2));
    house.fill("default/2/web", "more", 1);
    assert_eq!(mib(house.size("default/2/web")), (4, 2), "what is written to is measured each time");
    house.prepare("default/3/db", "default/1/base");
    assert_eq!(mib(house.size("default/3/db")), (0, 2));
}

#[test]
fn a_fork_in_the_pool_has_what_it_writes() {
    let house = House::pooled();
    house.image("default/1/base", "");
    house.prepare("default/2/web", "default/1/base");
    house.fill("default/2/web", "data", 8);
    house.fill("default/2/web", "own", 1);
    let (state, _) = house.core.snapshot(house.id("default/2/web"), &named("before"), &mut Still).unwrap();
    house.fork("default/3/try", "default/1/base", state.id);
    house.fill("default/3/try", "new", 2);
    house.fill("default/3/try", "own", 1);
    assert_eq!(mib(house.size("default/2/web")), (0, 9));
    assert_eq!(mib(house.size("default/3/try")), (3, 8));
    let before = |house: &House| house.core.sizes(&[house.core.get(state.id).unwrap()], LONG).unwrap()[0];
    assert_eq!(before(&house).map(mib), Some((0, 9)));

    // It goes, and with it whoever shared its data; what was told of the state is not taken for true then.
    house.core.remove("default/2/web").unwrap();
    house.core.remove("default/3/try").unwrap();
    house.settle(2);
    let until = std::time::Instant::now() + LONG;
    // The filesystem drops a removed subvolume in its own time, some while behind a sync.
    while before(&house).map(mib) != Some((9, 0)) {
        assert!(std::time::Instant::now() < until, "{:?}", before(&house));
        super::super::lock(&house.core.sharing).clear();
        house.core.layers().reclaim().unwrap();
        house.core.layers().flush(&house.core.get(state.id).unwrap().chain[0]).unwrap();
    }
}

#[test]
fn what_is_not_reached_in_time_is_not_known_and_known_once_it_was() {
    let house = House::pooled();
    house.image("default/1/base", "");
    house.prepare("default/2/web", "default/1/base");
    house.fill("default/2/web", "data", 1);
    let (state, _) = house.core.snapshot(house.id("default/2/web"), &named("before"), &mut Still).unwrap();
    let seen = [house.core.get(house.id("default/2/web")).unwrap(), house.core.get(state.id).unwrap()];
    assert_eq!(house.core.sizes(&seen, Duration::ZERO).unwrap(), [None, None]);
    assert!(house.core.sizes(&seen, LONG).unwrap().iter().all(Option::is_some));
    // The sealed one is remembered, and the image's layer has it in its row.
    let seen = [house.core.get(house.id("default/2/web")).unwrap(), house.core.get(state.id).unwrap()];
    assert!(seen[1].chain.iter().all(|layer| layer.usage.is_some()));
    let sizes = house.core.sizes(&seen, Duration::ZERO).unwrap();
    assert_eq!((sizes[0], sizes[1].map(mib)), (None, Some((0, 1))));
    // Another layer may share what it has, or have shared it.
    house.prepare("default/3/other", "default/1/base");
    assert_eq!(house.core.sizes(&seen, Duration::ZERO).unwrap(), [None, None]);
}

#[test]
fn two_names_of_one_layer_free_nothing_alone_and_what_is_gone_has_no_size() {
    let house = House::new();
    house.image("default/1/base", "");
    house.prepare("default/2/web", "default/1/base");
    house.fill("default/2/web", "data", 1);
    let mut gone = house.core.get(house.id("default/2/web")).unwrap();
    gone.chain.clear();
    assert_eq!(house.core.sizes(&[gone], LONG).unwrap(), [None]);
    house.core.view("default/3/look", "default/1/base", std::collections::BTreeMap::new()).unwrap();
    let sizes = house.sizes(&["default/1/base", "default/3/look"]);
    assert!(sizes.iter().all(|size| size.unwrap().exclusive == 0), "{sizes:?}");
}
