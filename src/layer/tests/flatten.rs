//! Flattened layers: a chain with some of its layers as one shows what it showed.

use proptest::prelude::*;

use super::*;

/// Makes one of the `count` layers from `top` on; answers the chain with it in their place.
fn flat(place: &Place, chain: &[Layer], top: usize, count: usize) -> Result<(Vec<Layer>, Method)> {
    let one = layer(Home::Plain, place.layers.next_id().0);
    let method = place.layers.flatten(&chain[top..], count, one.id, &mut || Ok(()))?;
    Ok(([&chain[..top], &[one], &chain[top + count..]].concat(), method))
}

/// Every run of two and more of a chain.
fn runs(chain: &[Layer]) -> Vec<(usize, usize)> {
    let all = |top| (2..=chain.len() - top).map(move |count| (top, count));
    (0..chain.len()).flat_map(all).collect()
}

#[test]
fn random_layers_flattened_show_what_they_showed() {
    let place = Place::new("xfs", false);
    let layers = prop::collection::vec(difference::steps(), 5);
    place.cases(40, &layers, |layers| {
        let made = |steps: &Vec<difference::Step>| {
            let layer = place.create(Home::Plain);
            difference::change(&place, &layer, steps);
            layer
        };
        let chain: Vec<Layer> = layers.iter().map(made).collect();
        let wanted = difference::mounted(&place, &chain);
        for (top, count) in runs(&chain) {
            let (flat, _) = flat(&place, &chain, top, count).unwrap();
            assert_eq!(difference::mounted(&place, &flat), wanted, "{count} from {top} on");
            assert_eq!(difference::told(&place, &chain, &flat), [], "{count} from {top} on");
            assert_eq!(difference::told(&place, &flat, &chain), [], "{count} from {top} on");
        }
    });
}

#[test]
fn generations_that_overlay_wrote_are_the_same_flattened() {
    for (kind, method) in [("ext4", Method::Copy), ("xfs", Method::Reflink), ("btrfs", Method::Reflink)] {
        let place = Place::new(kind, false);
        let mut chain = vec![place.create(Home::Plain)];
        for generation in 0..6 {
            archive::change(&place, &chain, generation, 60);
            if generation < 5 {
                chain.insert(0, place.create(Home::Plain));
            }
        }
        let wanted = archive::seen(&place, &chain);
        for (top, count) in runs(&chain) {
            let (flat, how) = flat(&place, &chain, top, count).unwrap();
            zoo::same(&archive::seen(&place, &flat), &wanted);
            assert_eq!(how, method);
        }
        // Flattened again.
        let (flat_below, _) = flat(&place, &chain, 3, 3).unwrap();
        let (flat_twice, _) = flat(&place, &flat_below, 0, 4).unwrap();
        zoo::same(&archive::seen(&place, &flat_twice), &wanted);
    }
}

#[test]
fn everything_that_a_layer_can_hold_is_kept() {
    for kind in ["ext4", "xfs", "btrfs"] {
        let place = Place::new(kind, false);
        let (top, below) = (place.create(Home::Plain), place.create(Home::Plain));
        zoo::fill(&place.fs(&top));
        // What is opaque hides something; a whiteout has nothing but its name.
        sh(&place.fs(&below), "mkdir opaque; echo hidden > opaque/hidden; echo > seen");
        sh(&place.fs(&top), "setfattr -x trusted.overlay.origin empty; rm whiteout; touch -d @1 .");
        let middle = place.create(Home::Plain);
        let (chain, _) = flat(&place, &[top.clone(), middle, below], 0, 2).unwrap();
        // Until then files with several names have one more.
        place.layers.seal(&chain[0], &manifest(chain[0].id)).unwrap();
        zoo::same(&zoo::describe(&place.fs(&chain[0])), &zoo::describe(&place.fs(&top)));
    }
}

#[test]
fn whiteouts_and_opaque_directories_are_where_they_hide_something() {
    let place = Place::new("ext4", false);
    let [top, middle, base] = [(); 3].map(|()| place.create(Home::Plain));
    sh(&place.fs(&base), "mkdir kept cut again; touch kept/a cut/a again/a file");
    sh(&place.fs(&middle), "mkdir kept new; touch kept/b new/n; mknod again c 0 0; mknod nothing c 0 0");
    sh(
        &place.fs(&top),
        "mkdir kept cut new again; setfattr -n trusted.overlay.opaque -v y cut new; mknod kept/b c 0 0
         mknod kept/a c 0 0; mknod cut/a c 0 0; mknod file c 0 0; touch cut/c again/c",
    );
    let (chain, _) = flat(&place, &[top, middle, base], 0, 2).unwrap();
    let fs = place.fs(&chain[0]);
    let found = sh(
        &fs,
        "find . -mindepth 1 -printf '%y %P\\n' | LC_ALL=C sort -k2; getfattr -d -m - again cut kept new | grep .",
    );
    let wanted = "d again\nf again/c\nd cut\nf cut/c\nc file\nd kept\nc kept/a\nd new\n\
                  # file: again\ntrusted.overlay.opaque=\"y\"\n# file: cut\ntrusted.overlay.opaque=\"y\"\n";
    assert_eq!(String::from_utf8(found).unwrap(), wanted);
    // With nothing below there is nothing to hide.
    let (whole, _) = flat(&place, &chain, 0, 2).unwrap();
    let found = sh(&place.fs(&whole[0]), "find . -type c; getfattr -R -d -m - .");
    assert!(found.is_empty(), "{}", String::from_utf8_lossy(&found));
}

#[test]
fn what_stands_for_something_elsewhere_is_refused() {
    let place = Place::new("ext4", false);
    for note in [
        "mkdir x; setfattr -n trusted.overlay.redirect -v /y x",
        "echo > x; setfattr -n trusted.overlay.metacopy x",
    ] {
        let chain = [(); 2].map(|()| place.create(Home::Plain));
        sh(&place.fs(&chain[0]), note);
        let refused = flat(&place, &chain, 0, 2).unwrap_err().to_string();
        assert!(refused.contains("loom does not read"), "{refused}");
    }
    assert_eq!(place.layers.found().unwrap().len(), 4, "nothing of it stays");
}

#[test]
fn it_ends_when_it_is_told_to() {
    let place = Place::new("ext4", false);
    let chain = [(); 2].map(|()| place.create(Home::Plain));
    sh(&place.fs(&chain[0]), "touch a b c d");
    let mut left = 3;
    let mut tell = || {
        left -= 1;
        if left == 0 { Err(Error::Busy("enough".to_owned())) } else { Ok(()) }
    };
    let one = place.layers.next_id();
    assert!(matches!(place.layers.flatten(&chain, 2, one, &mut tell), Err(Error::Busy(_))));
    assert_eq!(place.layers.found().unwrap().len(), 2);
}
