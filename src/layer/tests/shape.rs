//! The mounts that are handed out.

use super::*;
use crate::layer::mounts::mounts;

fn chain(top: Home, below: i64) -> Vec<Layer> {
    let plain = (1..=below).rev().map(|id| layer(Home::Plain, id));
    std::iter::once(layer(top, below + 1)).chain(plain).collect()
}

fn at(plain: &str, pool: &str, chain: &[Layer], access: Access) -> Option<Mount> {
    let directory = |layer: &Layer| {
        let home = if layer.home == Home::Plain { plain } else { pool };
        format!("{home}/layers/{}", layer.id)
    };
    mounts(chain, access, directory).map(|mut mounts| {
        assert_eq!(mounts.len(), 1);
        mounts.remove(0)
    })
}

#[test]
fn one_layer_is_a_bind() {
    for (access, rights) in [(Access::Write, "rw"), (Access::Read, "ro")] {
        for home in [Home::Plain, Home::Pool] {
            let mount = at("/r", "/p", &chain(home, 0), access).unwrap();
            let source = if home == Home::Plain { "/r/layers/1/fs" } else { "/p/layers/1/fs" };
            assert_eq!((mount.kind, mount.source.as_str()), ("bind", source));
            assert_eq!(mount.options, [rights, "rbind"]);
        }
    }
    assert_eq!(at("/r", "/p", &[], Access::Read), None);
}

#[test]
fn several_are_an_overlay() {
    let mount = at("/r", "/p", &chain(Home::Plain, 2), Access::Write).unwrap();
    assert_eq!((mount.kind, mount.source.as_str()), ("overlay", "overlay"));
    assert_eq!(
        mount.options.join(","),
        "index=off,redirect_dir=off,metacopy=off,workdir=/r/layers/3/work,upperdir=/r/layers/3/fs,\
         lowerdir=/r/layers/2/fs:/r/layers/1/fs"
    );
    let mount = at("/r", "/p", &chain(Home::Pool, 1), Access::Read).unwrap();
    assert_eq!(
        mount.options.join(","),
        "index=off,redirect_dir=off,metacopy=off,xino=on,lowerdir=/p/layers/2/fs:/r/layers/1/fs"
    );
}

#[test]
fn what_lies_below_is_shown_under_the_mapping_of_the_topmost() {
    let ids = "0:200000:65536,65536:7:2".parse().unwrap();
    let mapping = crate::mapping::Mapping { uids: ids, gids: "0:9:1".parse().unwrap() };
    let mut chain = chain(Home::Pool, 2);
    chain[0].mapping = Some(mapping);
    let options = |access| at("/r", "/p", &chain, access).unwrap().options.join(",");
    let below = "workdir=/p/layers/3/work,upperdir=/p/layers/3/fs,lowerdir=/r/layers/2/fs:/r/layers/1/fs";
    let fixed =
        "index=off,redirect_dir=off,metacopy=off,xino=on,uidmap=0:200000:65536,65536:7:2,gidmap=0:9:1";
    assert_eq!(options(Access::Write), format!("{fixed},{below}"));
    assert_eq!(options(Access::Read), format!("{fixed},ro,{below}"));
    // Alone it is as its own container sees it, and nobody else's.
    assert_eq!(at("/r", "/p", &chain[..1], Access::Write).unwrap().options, ["rw", "rbind"]);
}

#[test]
fn a_chain_is_as_deep_as_containerd_can_mount() {
    let long = format!("/{}", "r".repeat(59));
    let pool = format!("{long}/pool");
    for top in [Home::Plain, Home::Pool] {
        assert!(at(&long, &pool, &chain(top, 128), Access::Write).is_some());
        assert!(at(&long, &pool, &chain(top, 128), Access::Read).is_some());
        assert!(at(&long, &pool, &chain(top, 501), Access::Write).is_none());
    }
    // Lowers with no parent in common are not shortened.
    assert!(at(&long, "/elsewhere", &chain(Home::Pool, 20), Access::Read).is_some());
    assert!(at(&long, "/elsewhere", &chain(Home::Pool, 128), Access::Read).is_none());
    // What passes is below a page, with the names as they are or as containerd cuts them.
    let deepest = (1..501).take_while(|n| at(&long, &pool, &chain(Home::Plain, *n), Access::Write).is_some());
    let deepest = deepest.last().unwrap();
    let mount = at(&long, &pool, &chain(Home::Plain, deepest), Access::Write).unwrap();
    let text = mount.options.join(",").replace(&format!("{long}/layers/"), "");
    assert!(text.len() < 4096 - 512 && deepest >= 400, "{deepest}: {}", text.len());
}
