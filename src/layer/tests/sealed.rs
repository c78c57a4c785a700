//! What the kernel and the mount tables tell of a layer that is to be sealed as it lies.

use super::holder::Holder;
use super::*;

/// A writable layer on another one, and its mount.
fn stacked(place: &Place) -> (Layer, Mount) {
    let base = place.create(Home::Plain);
    let top = Layer { base: Some(base.id), ..place.create(Home::Plain) };
    let mount = place.layers.mounts(&[top.clone(), base], Access::Write).unwrap().remove(0);
    (top, mount)
}

/// Renames a layer's directory, asks, and renames it back.
fn is_written(place: &Place, layer: &Layer) -> bool {
    let other = place.layers.next_id();
    let written = place.layers.rename(layer.id, other).unwrap();
    place.layers.rename_back(other, layer.id).unwrap();
    place.layers.rename_back(other, layer.id).unwrap();
    assert!(place.fs(layer).exists() && place.dir(layer).join("work").exists());
    assert!(!place.layers.root().join("probe").exists());
    written
}

#[test]
fn who_writes_is_told_on_every_filesystem() {
    for root in ["ext4", "xfs", "btrfs"] {
        let place = Place::new(root, false);
        assert!(place.layers.seals(), "{root}");
        let (top, mount) = stacked(&place);
        assert!(!is_written(&place, &top), "{root}: nobody");
        let noted = "getfattr -m- -d -h --absolute-names . | grep -c overlay || true";
        assert_eq!(sh(&place.fs(&top), noted), b"0\n", "{root}: no trace of the question stays");

        let holder = Holder::new(&mount, "");
        assert!(is_written(&place, &top), "{root}: mounted in another namespace");
        drop(holder);
        assert!(!is_written(&place, &top), "{root}: not any more");

        let holder = Holder::detached(&mount);
        assert!(!place.layers.in_use(&top).unwrap(), "{root}: it is in no mount table");
        assert!(is_written(&place, &top), "{root}: detached, with an open file");
        drop(holder);
        assert!(!is_written(&place, &top), "{root}: not any more");

        // The kernel forgets the first of two when the second ends; its table does not.
        let first = Holder::new(&mount, "");
        drop(Holder::new(&mount, ""));
        assert!(is_written(&place, &top), "{root}: the first of two");
        drop(first);
        let bind =
            Mount { kind: "bind", source: place.fs(&top).display().to_string(), options: vec!["rw".into()] };
        let holder = Holder::new(&bind, "");
        assert!(is_written(&place, &top), "{root}: bound");
        drop(holder);
    }
}

#[test]
fn a_mount_that_was_told_before_fails() {
    let place = Place::new("ext4", false);
    let (top, mount) = stacked(&place);
    let other = place.layers.next_id();
    assert!(!place.layers.rename(top.id, other).unwrap());
    let at = tempfile::tempdir().unwrap();
    let out = std::process::Command::new("mount")
        .args(["-t", "overlay", "-o", &mount.options.join(","), "overlay"])
        .arg(at.path())
        .output()
        .unwrap();
    assert!(!out.status.success());
    assert!(place.layers.seal_renamed(other, top.id, &manifest(other)).unwrap());
    let sealed = layer(Home::Plain, other.0);
    assert_eq!(place.layers.found().unwrap().iter().find(|found| found.id == other).unwrap().seal, Seal::Own);
    assert!(!place.dir(&sealed).join("work").exists());
    place.layers.rename_back(other, top.id).unwrap();
    assert!(place.dir(&top).join("work").exists() && !place.dir(&top).join("layer.json").exists());
}

#[test]
fn what_was_mounted_behind_the_rename_is_seen_before_anything_of_it_goes() {
    let place = Place::new("ext4", false);
    let (top, mount) = stacked(&place);
    let other = place.layers.next_id();
    assert!(!place.layers.rename(top.id, other).unwrap());
    // As one that had found the directory, and not yet taken it.
    let renamed = |part: &str| part.replace(&format!("/{}/", top.id), &format!("/{other}/"));
    let late = Mount { options: mount.options.iter().map(|option| renamed(option)).collect(), ..mount };
    let holder = Holder::new(&late, "");
    assert!(!place.layers.seal_renamed(other, top.id, &manifest(other)).unwrap());
    place.layers.rename_back(other, top.id).unwrap();
    drop(holder);
    assert!(!is_written(&place, &top));
}

#[test]
fn where_the_kernel_does_not_tell_nothing_is_sealed() {
    // On an overlay there can be no other.
    let image = Image::new("ext4", 64);
    sh(image.path(), "mkdir l u w m; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay m");
    let layers = Layers::open(&image.path().join("m/root"), None).unwrap();
    let seals = layers.seals();
    drop(layers);
    sh(image.path(), "umount m");
    assert!(!seals);
}
