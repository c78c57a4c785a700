//! Whose the files of a layer are, under a mapping.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::mapping::{Ids, Mapping};

fn mapping(first: u32) -> Mapping {
    let ids: Ids = format!("0:{first}:65536").parse().unwrap();
    Mapping { uids: ids.clone(), gids: ids }
}

#[test]
fn everything_goes_to_another_user_namespace_and_back() {
    for (root, home) in [("ext4", Home::Plain), ("xfs", Home::Plain), ("ext4", Home::Pool)] {
        let place = Place::new(root, home == Home::Pool);
        let mut layer = place.create(home);
        zoo::fill(&place.fs(&layer));
        let before = zoo::describe(&place.fs(&layer));

        layer.mapping = Some(mapping(200_000));
        place.layers.chown(&layer, None).unwrap();
        let said = zoo::describe(&place.fs(&layer));
        assert_ne!(said, before);
        let owned = sh(&place.fs(&layer), "find . ! -name whiteout \\( -uid -200000 -o -gid -200000 \\)");
        assert_eq!(String::from_utf8_lossy(&owned), "");
        let acl =
            sh(&place.fs(&layer), "getfacl -n acl; getfacl -n inherits; getfattr -d -m - -e hex capable");
        let acl = String::from_utf8_lossy(&acl);
        for id in ["user:201234:rw-", "group:200077:r--", "default:user:204321:rwx"] {
            assert!(acl.contains(id), "{acl}");
        }
        // The third version, and the root of the user namespace.
        assert!(acl.contains("security.capability=0x01000003") && acl.contains("400d0300"), "{acl}");

        let other = Layer { mapping: Some(mapping(500_000)), ..layer.clone() };
        place.layers.chown(&other, layer.mapping.as_ref()).unwrap();
        let back = Layer { mapping: None, ..layer.clone() };
        place.layers.chown(&back, other.mapping.as_ref()).unwrap();
        assert_eq!(zoo::describe(&place.fs(&layer)), before, "{root} {home}");
    }
}

#[test]
fn what_has_no_id_is_named() {
    let place = Place::new("ext4", false);
    let mut layer = place.create(Home::Plain);
    sh(&place.fs(&layer), "mkdir in; touch in/far; chown 65536 in/far");
    layer.mapping = Some(mapping(200_000));
    let error = place.layers.chown(&layer, None).unwrap_err().to_string();
    assert!(error.contains("in/far") && error.contains("user 65536"), "{error}");
}

#[test]
fn a_view_has_the_owners_that_the_container_sees() {
    let place = Place::new("ext4", false);
    let base = place.create(Home::Plain);
    let script = "mkdir d; echo a > d/a; chown 33:44 d/a; setfacl -m u:9:r d/a; echo b > d/b";
    sh(&place.fs(&base), script);
    let top = Layer { mapping: Some(mapping(200_000)), base: Some(base.id), ..place.create(Home::Plain) };
    sh(&place.fs(&top), script);
    sh(&place.fs(&top), "touch -r ../../*/fs/d d; chown 7:8 d/b; echo stray > d/stray");
    place.layers.chown(&top, None).unwrap();
    sh(&place.fs(&top), "chown 0:0 d/stray");
    assert_eq!(std::fs::metadata(place.fs(&top).join("d/a")).unwrap().uid(), 200_033);

    let (before, after) = ([base.clone()], [top.clone(), base.clone()]);
    let mut told = Vec::new();
    place
        .layers
        .compare(&before, &after, &mut |change| {
            told.push((change.path, change.differs, change.after.map(|node| (node.uid, node.gid))));
            Ok(())
        })
        .unwrap();
    assert_eq!(
        told,
        [
            (PathBuf::from("d/b"), vec![Aspect::Owner], Some((7, 8))),
            (PathBuf::from("d/stray"), vec![], Some((65534, 65534))),
        ]
    );

    let mut tar = Vec::new();
    place.layers.archive(&after, 1, &mut tar, &mut |_| Ok(())).unwrap();
    let mut entries = tar::Archive::new(&*tar);
    let owners: Vec<_> = entries
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            (entry.path().unwrap().display().to_string(), header.uid().unwrap(), header.gid().unwrap())
        })
        .collect();
    let owner = |path: &str, uid, gid| (path.to_owned(), uid, gid);
    assert_eq!(
        owners,
        [owner("d/", 0, 0), owner("d/a", 33, 44), owner("d/b", 7, 8), owner("d/stray", 65534, 65534)]
    );
}
