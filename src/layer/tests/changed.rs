//! What has changed since a moment.

use super::*;

/// A moment that every change so far is before, and every later one behind.
fn moment() -> Time {
    let now = Time::now();
    // More than a tick of any kernel.
    let until = std::time::Instant::now() + std::time::Duration::from_millis(12);
    while std::time::Instant::now() < until {
        std::thread::yield_now();
    }
    now
}

fn changed(place: &Place, layer: &Layer, since: Time) -> Vec<String> {
    let mut paths = place.layers.changed_since(layer, since, 100).unwrap();
    paths.sort();
    paths
}

#[test]
fn every_change_is_told_once_and_nothing_else() {
    for (root, pool, home) in [("ext4", false, Home::Plain), ("xfs", true, Home::Pool)] {
        let place = Place::new(root, pool);
        let one = place.create(home);
        zoo::fill(&place.fs(&one));
        let mut since = moment();
        assert!(changed(&place, &one, since).is_empty());
        assert!(!changed(&place, &one, Time(0)).is_empty());
        for (script, told) in [
            ("echo >> plain", &["plain"][..]),
            ("chmod 600 big", &["big"]),
            ("touch -d @1 empty", &["empty"]),
            ("setfattr -n user.x -v y a/b", &["a/b"]),
            ("chown -h 3:3 link", &["a/link2", "link"]),
            // What is renamed is new where it came to; what was left behind has only lost a name.
            ("mkdir here; echo > here/f", &["here", "here/f"]),
            ("rm here/f", &["here"]),
            ("mv big here/", &["here/big"]),
            ("rmdir opaque 2>/dev/null || rm -r opaque", &["."]),
            ("mknod here/w c 0 0", &["here/w"]),
            ("setfattr -n trusted.overlay.opaque -v y locked", &["locked"]),
            ("echo > a/b/c/new; echo >> plain", &["a/b/c/new", "plain"]),
            // Read, or told to be older.
            ("cat plain suid > /dev/null; ls a > /dev/null", &[]),
        ] {
            sh(&place.fs(&one), script);
            let paths = changed(&place, &one, since);
            // A directory is told only where nothing in it is.
            let wanted: Vec<_> =
                told.iter().filter(|path| !told.iter().any(|t| t.starts_with(&format!("{path}/")))).collect();
            assert_eq!(paths.iter().collect::<Vec<_>>(), wanted, "{script}");
            since = moment();
        }
        let first = place.layers.changed_since(&one, Time(0), 7).unwrap();
        assert_eq!(first.len(), 7);
        assert!(place.layers.changed_since(&one, Time(0), 0).unwrap().is_empty());
    }
}

#[test]
fn a_copy_of_a_subvolume_has_changed_in_nothing() {
    let place = Place::new("ext4", true);
    let one = place.create(Home::Pool);
    zoo::fill(&place.fs(&one));
    let since = moment();
    let two = layer(Home::Pool, place.layers.next_id().0);
    place.layers.materialize(&one, two.id).unwrap();
    place.layers.seal(&one, &manifest(one.id)).unwrap();
    assert!(changed(&place, &one, since).is_empty() && changed(&place, &two, since).is_empty());
    sh(&place.fs(&two), "echo >> plain");
    assert_eq!(changed(&place, &two, since), ["plain"]);
}

#[test]
fn what_a_container_deletes_is_a_whiteout() {
    let place = Place::new("ext4", true);
    let base = place.create(Home::Plain);
    sh(
        &place.fs(&base),
        "mkdir etc; echo 1 > etc/one; echo 2 > etc/two; mkdir var; echo > var/log; echo > top",
    );
    let top = place.create(Home::Pool);
    let chain = [top.clone(), base];
    let mount = place.layers.mounts(&chain, Access::Write).unwrap().remove(0);
    let at = tempfile::tempdir().unwrap();
    // Each on a mount of its own, as a container that is started again.
    let run = |script: &str| {
        let mounts =
            format!("mount -t overlay -o {} overlay {}", mount.options.join(","), at.path().display());
        let inside = format!("{mounts}; cd {}; {script}", at.path().display());
        sh(at.path(), &format!("unshare -m bash -euc '{inside}'"));
    };
    run("rm etc/one; echo >> top");
    let mut since = moment();
    for (script, told) in [
        ("cat top var/log > /dev/null", &[][..]),
        // A mount unlinks its spare whiteout, which changes those that are links to it: they are not told again.
        ("rm var/log", &["var/log"]),
        ("rm etc/two", &["etc/two"]),
        ("rm -r etc; mkdir etc", &["etc"]),
        ("echo > var/log", &["var/log"]),
        ("chmod 700 var", &["var"]),
    ] {
        run(script);
        assert_eq!(changed(&place, &top, since), told, "{script}");
        since = moment();
    }
}
