//! What differs between two chains, case by case.

use super::difference::{check, lines, told};
use super::*;
use crate::layer::{send, touched};

const BASE: &str = "mkdir -p d/e; echo 1 > d/f; echo 2 > d/g; echo 3 > d/e/h; echo 4 > one; ln one two
    ln -s one link; mkfifo fifo; mknod null c 1 3; chmod 4755 one; setfattr -n user.x -v 1 one";

/// What is done in a layer above, and what differs then.
const CASES: &[(&str, &[&str])] = &[
    ("true", &[]),
    ("mkdir d; mknod d/f c 0 0", &["Deleted d/f"]),
    ("mknod d c 0 0", &["Deleted d", "Deleted d/e", "Deleted d/e/h", "Deleted d/f", "Deleted d/g"]),
    ("mknod missing c 0 0; mkdir d; mknod d/missing c 0 0", &[]),
    (
        "mkdir d; setfattr -n trusted.overlay.opaque -v y d; echo 2 > d/g",
        &["Deleted d/e", "Deleted d/e/h", "Deleted d/f"],
    ),
    ("mkdir -p d/e; setfattr -n trusted.overlay.opaque -v y d/e", &["Deleted d/e/h"]),
    ("echo 5 > d", &["Modified d Type", "Deleted d/e", "Deleted d/e/h", "Deleted d/f", "Deleted d/g"]),
    ("mkdir -p one/in; echo > one/in/x", &["Modified one Type", "Added one/in", "Added one/in/x"]),
    ("ln -s d/f fifo", &["Modified fifo Type"]),
    ("mknod fifo p; mknod null c 1 5", &["Modified null Device"]),
    ("ln -s two link", &["Modified link Target"]),
    ("ln -s one link; chown -h 5:6 link", &["Modified link Owner"]),
    // A file that was copied up, of which another name stays what it was.
    ("echo 5 > one; chmod 4755 one; setfattr -n user.x -v 1 one", &["Modified one Content"]),
    ("echo 45 > two; chmod 600 two", &["Modified two Content,Mode,Xattrs"]),
    ("echo 4 > one; chmod 755 one; setfattr -n user.x -v 2 one", &["Modified one Mode,Xattrs"]),
    ("echo 4 > one; ln one three; chmod 4755 one; setfattr -n user.x -v 1 one", &["Added three"]),
    // Times, and what overlay notes.
    ("mkdir d; echo 1 > d/f; touch -d @7 d/f d; setfattr -n trusted.overlay.origin -v 1 d", &[]),
    ("mkdir d; setfattr -n trusted.overlay.overlay.opaque -v y d", &["Modified d Xattrs"]),
    ("chmod 700 .; chown 1 .", &["Modified  Mode,Owner"]),
    // Name by name, though "d!" is before "d/" and "d-" behind it.
    (
        "mkdir d d! d-; echo > d/x; echo > d!/x; echo > d-/x",
        &["Added d/x", "Added d!", "Added d!/x", "Added d-", "Added d-/x"],
    ),
    ("truncate -s 3G large; mkdir d; : > d/f", &["Modified d/f Content", "Added large"]),
];

#[test]
fn what_a_layer_changes_is_told() {
    let place = Place::new("ext4", true);
    let base = place.create(Home::Plain);
    sh(&place.fs(&base), BASE);
    for home in [Home::Plain, Home::Pool] {
        let empty = [place.create(home), base.clone()];
        for (script, wanted) in CASES {
            let top = if home == Home::Pool { place.clone_of(&empty[0]) } else { place.create(home) };
            sh(&place.fs(&top), script);
            let chain = [top, base.clone()];
            for before in [&empty[..], &empty[1..]] {
                assert_eq!(lines(&told(&place, before, &chain)), *wanted, "{script}");
            }
            let back = lines(&told(&place, &chain, &empty));
            assert_eq!(back.len(), wanted.len(), "{script}: {back:?}");
            if !script.contains("large") {
                check(&place, &[chain.to_vec(), empty.to_vec()]);
            }
        }
    }
}

#[test]
fn a_copy_of_every_kind_of_thing_differs_in_nothing() {
    let place = Place::new("xfs", true);
    for home in [Home::Plain, Home::Pool] {
        let one = place.create(home);
        zoo::fill(&place.fs(&one));
        let copy = place.clone_of(&one);
        let differ = |one: &Layer, copy: &Layer| {
            lines(&told(&place, std::slice::from_ref(one), std::slice::from_ref(copy)))
        };
        assert_eq!(differ(&one, &copy), [""; 0]);
        for (script, wanted) in [
            ("printf more | dd of=sparse bs=1 seek=7G conv=notrunc status=none", "Modified sparse Content"),
            ("setcap cap_net_admin+ep capable", "Modified capable Xattrs"),
            ("setfacl -m u:99:r acl", "Modified acl Xattrs"),
            ("rm block; mknod -m 600 block b 7 201; chown 5:6 block", "Modified block Device"),
        ] {
            let changed = place.clone_of(&copy);
            sh(&place.fs(&changed), script);
            assert_eq!(differ(&one, &changed), [wanted], "{script}");
            assert_eq!(differ(&changed, &copy), [wanted], "{script}");
        }
    }
}

/// What is done in a copy of a pool layer, and what differs then.
const GENERATIONS: &[(&str, &[&str])] = &[
    (
        "mv d n",
        &[
            "Deleted d/e",
            "Deleted d/e/h",
            "Deleted d/f",
            "Deleted d/g",
            "Added n",
            "Added n/e",
            "Added n/e/h",
            "Added n/f",
            "Added n/g",
        ],
    ),
    ("mv d n; mv n d; touch d/f", &[]),
    ("mkdir new; mv d/e new/; mv new/e d/; rmdir new", &[]),
    ("mv d/f x; mv d/g d/f; mv x d/g", &["Modified d/f Content", "Modified d/g Content"]),
    (
        "mv d x; mv s d; mv x s",
        &[
            "Added d/b",
            "Deleted d/e",
            "Deleted d/e/h",
            "Modified d/f Content",
            "Deleted d/g",
            "Added d/two",
            "Deleted s/b",
            "Added s/e",
            "Added s/e/h",
            "Modified s/f Content",
            "Added s/g",
            "Deleted s/two",
        ],
    ),
    // Told of one name, changed in all.
    ("echo 5 > s/two", &["Modified one Content", "Modified s/two Content"]),
    ("mv s t; echo 5 > one; mv t s", &["Modified one Content", "Modified s/two Content"]),
    ("mv s/two d/two; chmod 600 d/two", &["Added d/two", "Modified one Mode", "Deleted s/two"]),
    (
        "mv s q; mkdir s; mv q s/q; echo 5 >> s/q/two",
        &[
            "Modified one Content",
            "Deleted s/b",
            "Deleted s/f",
            "Added s/q",
            "Added s/q/b",
            "Added s/q/f",
            "Added s/q/two",
            "Deleted s/two",
        ],
    ),
    // Another directory of the same name, with the same in it.
    ("cp -a d x; rm -r d; mv x d", &[]),
    ("cp -a d x; rm -r d; mv x d; echo 7 > d/e/h", &["Modified d/e/h Content"]),
    (
        "rm -r d; echo > d; rm d; mkdir -p d/e; echo 3 > d/e/h; touch -d @1 d/e d",
        &["Deleted d/f", "Deleted d/g"],
    ),
    ("mkdir -p n/n/n; mv d n/n/n/; mv n/n/n/d d; rm -r n; echo 8 > d/e/h", &["Modified d/e/h Content"]),
    // The base shows through, or does no more.
    ("setfattr -n trusted.overlay.opaque -v y d", &["Deleted d/below"]),
    ("rm -r d", &["Deleted d/e", "Deleted d/e/h", "Deleted d/f", "Deleted d/g"]),
    ("mkdir b; mknod b/c c 0 0", &["Deleted b/c"]),
    (
        "mv d n; mknod d c 0 0",
        &[
            "Deleted d",
            "Deleted d/below",
            "Deleted d/e",
            "Deleted d/e/h",
            "Deleted d/f",
            "Deleted d/g",
            "Added n",
            "Added n/e",
            "Added n/e/h",
            "Added n/f",
            "Added n/g",
        ],
    ),
];

#[test]
fn generations_of_a_pool_layer_differ_where_btrfs_says() {
    let place = Place::new("ext4", true);
    let base = place.create(Home::Plain);
    sh(&place.fs(&base), "mkdir d b; echo > d/below; echo > b/c; chmod 755 d b");
    let one = place.create(Home::Pool);
    sh(
        &place.fs(&one),
        "mkdir -p d/e s; echo 1 > d/f; echo 2 > d/g; echo 3 > d/e/h; echo 4 > one; ln one s/two; echo > s/b
         echo 9 > s/f; mkdir many; for n in $(seq 500); do echo > many/$n; done",
    );
    for sealed in [false, true] {
        if sealed {
            place.layers.seal(&one, &manifest(one.id)).unwrap();
        }
        for (script, wanted) in GENERATIONS {
            let two = place.clone_of(&one);
            sh(&place.fs(&two), script);
            let (before, after) = ([one.clone(), base.clone()], [two.clone(), base.clone()]);
            let told = lines(&told(&place, &before, &after));
            assert_eq!(told, *wanted, "{script}");
            check(&place, &[before.to_vec(), after.to_vec()]);
        }
    }
    let pool = place.layers.area(Home::Pool).unwrap();
    // Nothing of what was made to compare with is left.
    assert_eq!(pool.found().unwrap().len(), 1 + 2 * GENERATIONS.len());
}

#[test]
fn btrfs_is_asked_for_no_more_than_what_changed() {
    let place = Place::new("ext4", true);
    let pool = place.layers.area(Home::Pool).unwrap();
    let one = place.create(Home::Pool);
    sh(&place.fs(&one), "mkdir d; for n in $(seq 500); do echo > d/$n; done; echo > x; ln x y");
    let two = place.clone_of(&one);
    sh(&place.fs(&two), "echo 1 > d/7; rm d/8; mkdir n; echo > n/f; echo >> x; mv d/9 d/nine");
    let held = [(one.id, place.layers.next_id()), (two.id, place.layers.next_id())];
    for (layer, id) in held {
        pool.hold(layer, id).unwrap();
    }
    let [before, after] = held.map(|(_, id)| pool.open_layer(id).unwrap());
    let paths = send::paths(before.as_fd(), after.as_fd()).unwrap();
    assert!(paths.contains(&b"fs/d/7"[..]) && paths.len() < 20, "{paths:?}");
    touched::Pair { before: &before, after: &after, at: Path::new("fs") }.touched().unwrap();
    // A writable layer is none that btrfs compares.
    let live = pool.open_layer(two.id).unwrap();
    assert!(send::paths(before.as_fd(), live.as_fd()).is_err());
    for (_, id) in held {
        pool.let_go(id);
    }
    assert_eq!(pool.found().unwrap().len(), 2);
}

#[test]
fn a_tree_may_be_deeper_than_a_path_or_a_stack() {
    let place = Place::new("xfs", true);
    let deep = r#"python3 -c '
import os
for _ in range(2000): os.mkdir("d" * 60); os.chdir("d" * 60)
open("bottom", "w").write("%s")'"#;
    for home in [Home::Plain, Home::Pool] {
        let one = place.create(home);
        let two = place.clone_of(&one);
        for (layer, text) in [(&one, "one"), (&two, "two")] {
            sh(&place.fs(layer), &deep.replace("%s", text));
        }
        let (one, two) = ([one], [two]);
        let all = told(&place, &[], &one);
        assert_eq!(all.len(), 2001);
        assert_eq!(all[2000].path.components().count(), 2001);
        // Longer than a path that btrfs tells of, too.
        let changes = told(&place, &one, &two);
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].path.components().count(), &*changes[0].differs),
            (2001, &[Aspect::Content][..])
        );
        let read = place.layers.read(&two, &changes[0].path, 3).unwrap();
        assert_eq!(read.as_deref(), Some(&b"two"[..]));
    }
}

#[test]
fn a_file_is_read_where_the_chain_shows_it() {
    let place = Place::new("ext4", true);
    let (base, top) = (place.create(Home::Plain), place.create(Home::Pool));
    sh(
        &place.fs(&base),
        "mkdir a b; echo base > a/f; echo base > a/g; echo base > b/f; ln -s a link; mkfifo fifo",
    );
    sh(
        &place.fs(&top),
        "mkdir a b; echo top > a/f; mknod a/g c 0 0; setfattr -n trusted.overlay.opaque -v y b",
    );
    let chain = [top, base.clone()];
    let read = |chain: &[Layer], path: &str, limit| {
        let found = place.layers.read(chain, Path::new(path), limit).unwrap();
        found.map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(read(&chain, "a/f", 4).as_deref(), Some("top\n"));
    assert_eq!(read(&chain, "/a/./f", 4).as_deref(), Some("top\n"));
    assert_eq!(read(&[base], "a/g", 5).as_deref(), Some("base\n"));
    for path in ["a/g", "b/f", "link/f", "link", "fifo", "a", "", "none", "a/none/f", "a/f/x"] {
        assert_eq!(read(&chain, path, 1000), None, "{path}");
    }
    assert_eq!(read(&chain, "a/f", 3), None);
    assert_eq!(read(&[], "a/f", 3), None);
    assert!(place.layers.read(&chain, Path::new("a/../a/f"), 9).is_err());
}

#[test]
fn what_overlay_would_look_for_elsewhere_is_refused() {
    let place = Place::new("ext4", false);
    for (script, named) in [
        ("mkdir d; setfattr -n trusted.overlay.redirect -v /x d", "redirect"),
        ("echo > f; setfattr -n trusted.overlay.metacopy f", "metacopy"),
    ] {
        let (one, other) = (place.create(Home::Plain), place.create(Home::Plain));
        sh(&place.fs(&one), script);
        sh(&place.fs(&other), "mkdir d; echo > f");
        let refused = place.layers.compare(&[other], &[one], &mut |_| Ok(())).unwrap_err().to_string();
        assert!(refused.contains(named) && refused.contains("/fs/"), "{refused}");
    }
}

/// Prints how long it takes to tell ten changes among 100,000 files.
#[test]
#[ignore = "a measurement"]
fn ten_changes_in_a_hundred_thousand_files() {
    let place = Place::sized("xfs", true, 4096);
    let many =
        "for d in $(seq 100); do mkdir $d; (cd $d; for n in $(seq 1000); do echo $d $n > $n; done); done";
    let ten = "mkdir -p 1 new; for n in 1 2 3 4 5; do echo changed > 1/$n; done; for n in 1 2 3 4; do echo > new/$n; done";
    let measure = |what: &str, before: &[Layer], after: &[Layer]| {
        let begun = std::time::Instant::now();
        let changes = told(&place, before, after);
        println!("{what}: {} changes in {:.1?}", changes.len(), begun.elapsed());
        assert_eq!(changes.len(), 10);
    };
    let (base, top) = (place.create(Home::Plain), place.create(Home::Plain));
    sh(&place.fs(&base), many);
    sh(&place.fs(&top), ten);
    measure("a plain layer on the files", std::slice::from_ref(&base), &[top, base.clone()]);
    let copy = place.clone_of(&base);
    sh(&place.fs(&copy), ten);
    measure("a plain copy of the files", std::slice::from_ref(&base), std::slice::from_ref(&copy));
    let one = place.create(Home::Pool);
    sh(&place.fs(&one), many);
    let two = place.clone_of(&one);
    sh(&place.fs(&two), ten);
    place.layers.flush(&two).unwrap();
    for _ in 0..3 {
        measure("a pool layer and its copy", std::slice::from_ref(&one), std::slice::from_ref(&two));
    }
}
