//! What layers take, without a walk for each who asks.

use std::time::{Duration, Instant};

use super::super::usage::{FRESH, STALE};
use super::*;

const MIB: i64 = 1 << 20;

impl House {
    fn used(&self, key: &str) -> i64 {
        self.core.usage(key).unwrap().size / MIB
    }

    fn add(&self, key: &str, file: &str, mib: usize) {
        let path = top(&self.core.mounts(key).unwrap()).join(file);
        std::fs::write(&path, vec![7; mib << 20]).unwrap();
        std::fs::File::open(path).unwrap().sync_all().unwrap();
    }

    /// Has what is remembered of a snapshot's layer be so much older.
    fn age(&self, key: &str, by: Duration) {
        let layer = self.core.get(self.id(key)).unwrap().chain[0].id;
        super::super::lock(&self.core.known).get_mut(&layer).unwrap().age(by);
    }
}

fn soon(what: &str, is: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_written_to_is_measured_at_first_then_behind_the_answers() {
    let house = House::new();
    house.image("default/1/base", "");
    house.prepare("default/2/web", "default/1/base");
    house.add("default/2/web", "a", 2);
    assert_eq!(house.used("default/2/web"), 2);
    house.add("default/2/web", "b", 3);
    assert_eq!(house.used("default/2/web"), 2, "it is fresh");
    house.age("default/2/web", FRESH);
    assert_eq!(house.used("default/2/web"), 2, "nobody waits for a walk");
    soon("a new figure", || house.used("default/2/web") == 5);
    // Whoever asks seldom is told no old figure.
    house.add("default/2/web", "c", 1);
    house.age("default/2/web", STALE);
    assert_eq!(house.used("default/2/web"), 6);
}

#[test]
fn what_is_committed_is_measured_behind_the_answer_and_kept() {
    let house = House::new();
    house.prepare("default/1/work", "");
    house.add("default/1/work", "a", 2);
    house.core.commit("default/1/done", "default/1/work", BTreeMap::new()).unwrap();
    let row = |house: &House| house.core.get(house.id("default/1/done")).unwrap().chain[0].usage;
    soon("the row to have it", || row(&house).is_some());
    assert_eq!(row(&house).unwrap().size / MIB, 2);
    assert_eq!(house.used("default/1/done"), 2);
}
