//! Who has which limit.

use std::collections::BTreeMap;

use super::super::{Keep, Kept, LIMIT_LABEL, Made, Still, Take};
use super::*;
use crate::error::Kind;
use crate::store::Stage;

const MIB: i64 = 1 << 20;

impl House {
    /// The limit of what containerd has under a key.
    fn limit(&self, key: &str) -> Option<i64> {
        self.core.get(self.id(key)).unwrap().chain[0].max_size
    }

    fn prepare_limited(&self, key: &str, parent: &str, limit: &str) -> Result<Vec<Mount>> {
        self.core.prepare(key, parent, labels(LIMIT_LABEL, limit))
    }

    /// Writes until it is refused; how much that was.
    fn fill_up(&self, key: &str, file: &str) -> i64 {
        use std::io::Write;
        let path = top(&self.core.mounts(key).unwrap()).join(file);
        let Ok(mut file) = std::fs::File::create(path) else { return 0 };
        let mut written = 0;
        while written < 60 * MIB {
            match file.write(&[7; 1 << 16]) {
                Ok(count) => written += i64::try_from(count).unwrap(),
                Err(_) => break,
            }
        }
        written
    }

    fn is_full_at(&self, key: &str, mib: i64) {
        let written = self.fill_up(key, "full");
        assert!((mib * MIB * 95 / 100..=mib * MIB).contains(&written), "{key}: {written}");
    }
}

#[test]
fn a_limit_goes_with_forks_clones_and_what_replaces_a_container() {
    let house = House::pooled();
    house.image("default/1/base", "");
    house.prepare_limited("default/2/web", "default/1/base", &(20 * MIB).to_string()).unwrap();
    assert_eq!(house.limit("default/2/web"), Some(20 * MIB));
    let (state, _) = house.core.snapshot(house.id("default/2/web"), &named("before"), &mut Still).unwrap();
    house.is_full_at("default/2/web", 20);
    let usage = house.core.usage("default/2/web").unwrap();
    assert!((19 * MIB..=20 * MIB).contains(&usage.size) && usage.inodes > 0, "{usage:?}");

    // A clone, a fork of what runs, one that takes a state over, and one with a limit of its own.
    house.fork("default/3/clone", "default/1/base", state.id);
    house.is_full_at("default/3/clone", 20);
    house.fork("default/4/fork", "default/1/base", house.id("default/2/web"));
    house.is_full_at("default/4/fork", 20);
    let take = |keep| Take { keep, ..named("") };
    let (one, _) = house.core.snapshot(house.id("default/2/web"), &take(Keep::ForOne), &mut Still).unwrap();
    house.fork("default/5/one", "default/1/base", one.id);
    house.is_full_at("default/5/one", 20);
    for (keep, key) in [(Keep::ForOne, "default/6/own"), (Keep::ForClones, "default/7/own")] {
        let (state, _) = house.core.snapshot(house.id("default/2/web"), &take(keep), &mut Still).unwrap();
        let grant = house.core.grant(state.id, Made::default()).unwrap();
        let mut given = labels(FORK_LABEL, &grant.label());
        given.insert(LIMIT_LABEL.to_owned(), (8 * MIB).to_string());
        house.core.prepare(key, "default/1/base", given).unwrap();
        house.is_full_at(key, 8);
        assert_eq!(house.limit(key), Some(8 * MIB));
    }

    // The container keeps its limit, whatever the state has.
    house.core.limit(house.id("default/2/web"), Some(12 * MIB)).unwrap();
    house.core.replace(house.id("default/2/web"), state.id, &Kept::Discarded, None).unwrap();
    assert_eq!(house.limit("default/2/web"), Some(12 * MIB));
    house.is_full_at("default/2/web", 12);
    let (one, _) = house.core.snapshot(house.id("default/3/clone"), &take(Keep::ForOne), &mut Still).unwrap();
    let kept = Kept::Named { name: "was".into(), labels: BTreeMap::new(), expires: None, captured: None };
    let replaced = house.core.replace(house.id("default/2/web"), one.id, &kept, None).unwrap();
    assert_eq!(house.limit("default/2/web"), Some(12 * MIB));
    house.is_full_at("default/2/web", 12);
    house.core.put_back(replaced.now, replaced.kept.unwrap()).unwrap();
    assert_eq!((house.limit("default/2/web"), house.fill_up("default/2/web", "more")), (Some(12 * MIB), 0));
    // A full one is committed.
    house.core.commit("default/8/done", "default/2/web", BTreeMap::new()).unwrap();
    // A container of that image is none of its branches.
    house.prepare("default/9/new", "default/8/done");
    assert_eq!(house.limit("default/9/new"), None);
}

#[test]
fn a_limit_is_set_raised_lowered_and_ended_and_outlives_a_restart() {
    let house = House::pooled();
    house.image("default/1/base", "");
    house.prepare("default/2/old", "default/1/base");
    house.prepare("default/3/web", "default/1/base");
    let web = house.id("default/3/web");
    assert_eq!(house.core.limit(web, Some(10 * MIB)).unwrap().max_size, Some(10 * MIB));
    house.is_full_at("default/3/web", 10);
    house.core.limit(web, Some(20 * MIB)).unwrap();
    let more = house.fill_up("default/3/web", "more");
    assert!((9 * MIB..=10 * MIB).contains(&more), "{more}");
    let limited = house.core.limit(web, Some(MIB)).unwrap();
    assert!(limited.written > Some(19 * MIB), "{limited:?}");

    let house = house.reopen();
    assert_eq!((house.limit("default/3/web"), house.fill_up("default/3/web", "again")), (Some(MIB), 0));
    assert_eq!(house.core.limit(web, None).unwrap().max_size, None);
    assert_eq!(house.fill_up("default/3/web", "free"), 60 * MIB);

    let base = house.core.limit(house.id("default/1/base"), Some(MIB)).unwrap_err();
    assert_eq!(base.kind(), Kind::FailedPrecondition);
}

#[test]
fn a_limit_that_nothing_keeps_is_refused_and_leaves_nothing() {
    let house = House::new();
    house.image("default/1/base", "");
    let before = house.directories();
    let refused = house.prepare_limited("default/2/web", "default/1/base", "1048576").unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    assert!(refused.to_string().contains("loom pool create"), "{refused}");
    for wrong in ["", "0", "-1", "10G", "1e9", "99999999999999999999"] {
        let refused = house.prepare_limited("default/2/web", "default/1/base", wrong).unwrap_err();
        assert_eq!(refused.kind(), Kind::InvalidArgument, "{wrong}");
    }
    assert_eq!(house.directories(), before);
    house.prepare("default/2/web", "default/1/base");
    assert!(house.core.limit(house.id("default/2/web"), Some(MIB)).is_err());
    assert_eq!(house.limit("default/2/web"), None);
    house.core.limit(house.id("default/2/web"), None).unwrap();
}

#[test]
fn the_default_is_for_containers_and_needs_someone_to_keep_it() {
    let dir = tempfile::Builder::new().prefix("core").tempdir_in("/var/tmp").unwrap();
    let pool = Image::new("btrfs", 256);
    let core = open_limited(dir.path(), Some(pool.path()), Some(10 * MIB)).unwrap();
    core.check_default_limit().unwrap();
    let house = House { core, dir, pool: Some(pool) };
    house.image("default/1/base", "");
    assert_eq!(house.limit("default/1/base"), None, "an image has none");
    house.prepare("default/2/web", "default/1/base");
    house.is_full_at("default/2/web", 10);
    house.prepare_limited("default/3/own", "default/1/base", &(5 * MIB).to_string()).unwrap();
    house.is_full_at("default/3/own", 5);
    let layers = house.core.store().read(|rows| rows.layers()).unwrap();
    assert!(layers.iter().all(|layer| layer.stage == Stage::Sealed || layer.max_size.is_some()));

    let dir = tempfile::Builder::new().prefix("core").tempdir_in("/var/tmp").unwrap();
    let core = open_limited(dir.path(), None, Some(10 * MIB)).unwrap();
    let refused = core.check_default_limit().unwrap_err().to_string();
    assert!(refused.contains("limit.default is 10M") && refused.contains("pool.size"), "{refused}");
}
