//! Archives: trees and images out of loom, and into it, whole or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use support::containerd::{Version, architecture};
use support::image::{Image, debian, small};
use support::layout::Layout;
use support::peer::image_tree;
use support::process::{run, succeed};
use support::stage::{Stage, on_stages};
use support::tree::Tree;
use support::wait::{wait_until, wait_until_none};

/// A name for what is imported.
const MADE: &str = "loom.test/made:1";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The tree of an image, as the stage's containerd mounts it.
fn tree(stage: &Stage, image: &str) -> Tree {
    image_tree(&stage.containerd, &stage.scratch.dir("mounted"), image).into_layer()
}

/// The blobs of the stage's containerd, in order.
fn content(stage: &Stage) -> Vec<String> {
    let digests = stage.containerd.ctr(&["content", "ls", "-q"]);
    let mut digests: Vec<String> = digests.lines().map(ToOwned::to_owned).collect();
    digests.sort();
    digests
}

/// What an import could leave: all that a request can, blobs, and what is on its way to be one.
fn everything(stage: &Stage) -> Vec<String> {
    // What containerd's own import of an archive leaves goes first.
    stage.containerd.collect();
    let mut found = stage.inventory();
    found.retain(|line| !line.starts_with("trash"));
    found.extend(content(stage).into_iter().map(|digest| format!("blob: {digest}")));
    found.extend(stage.containerd.images().into_iter().map(|image| format!("image: {image}")));
    let ingest = stage.place.filesystem.join("containerd/io.containerd.content.v1.content/ingest");
    let parts = fs::read_dir(ingest).into_iter().flatten().filter_map(Result::ok);
    found.extend(parts.map(|part| format!("ingest: {}", part.path().display())));
    found
}

/// Waits until there is what there was.
fn wait_until_again(stage: &Stage, before: &[String], after: &str) {
    wait_until_none(&format!("differences after {after}"), || {
        stage.containerd.collect();
        let now = everything(stage);
        let more = now.iter().filter(|each| !before.contains(each)).map(|each| format!("more: {each}"));
        let less = before.iter().filter(|each| !now.contains(each)).map(|each| format!("less: {each}"));
        more.chain(less).collect()
    });
}

fn a_tree_goes_out_and_comes_in(stage: Stage) {
    let image = stage.import(&debian());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"]);
    stage.containerd.exec("origin", &["sh", "-c", "rm -r /srv/many/1; echo own > /srv/own"]);
    let before = stage.inventory();
    let dir = stage.scratch.dir("archives");
    let tar = dir.join("tree.tar");
    stage.loom(&["export", "origin", "-o", text(&tar)]);
    stage.wait_until_again(&before, "an export");
    stage.loom(&["snapshot", "origin", "--name", "state"]);
    let of_state = dir.join("state.tar");
    stage.loom(&["export", "snapshot:state", "-o", text(&of_state)]);
    assert!(fs::read(&tar).unwrap() == fs::read(&of_state).unwrap(), "the same state is the same archive");
    stage.loom_json(&["commit", "snapshot:state", "loom.test/state:1"]);
    let was = tree(&stage, "loom.test/state:1");

    // As GNU tar reads it.
    let unpacked = dir.join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    run(
        "tar",
        &["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", text(&tar), "-C", text(&unpacked)],
    );
    Tree::read(&unpacked).into_layer().assert_same(&was, "unpacked by tar");

    // And back: plain, and compressed by others.
    for (suffix, by) in [("tar", None), ("gz", Some("gzip")), ("zst", Some("zstd"))] {
        let file = dir.join(format!("in.{suffix}"));
        match by {
            None => _ = fs::copy(&tar, &file).unwrap(),
            Some(by) => {
                let out = File::create(&file).unwrap();
                succeed(Command::new(by).args(["-c", "-q", text(&tar)]).stdout(out));
            }
        }
        let made = stage.loom_json(&[
            "import",
            text(&file),
            MADE,
            "--change",
            "CMD [\"sleep\", \"10000\"]",
            "--change",
            "ENV WAS=imported",
            "-m",
            "from a tar",
        ]);
        assert_eq!(made["image"]["name"], MADE, "{made}");
        assert_eq!(made["image"]["portable"], true, "{made}");
        tree(&stage, MADE).assert_same(&was, suffix);
        stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", MADE, "made"]);
        let said =
            stage.containerd.exec("made", &["sh", "-c", "cat /srv/own; tr '\\0' '\\n' < /proc/1/environ"]);
        assert!(said.contains("own") && said.contains("WAS=imported"), "{said}");
        stage.containerd.remove(&["made"]);
        // It can be saved like any other.
        let saved = dir.join("saved.tar");
        match stage.containerd.version {
            // nerdctl's own asks for a service that 1.6 has not.
            Version::Debian => stage.containerd.ctr(&["images", "export", text(&saved), MADE]),
            Version::Current => stage.containerd.nerdctl(&["save", "-o", text(&saved), MADE]),
        };
        stage.containerd.ctr(&["images", "rm", "--sync", MADE]);
    }
    stage.loom(&["rm", "state"]);
    stage.containerd.ctr(&["images", "rm", "loom.test/state:1"]);
    stage.end(&image);
}

fn images_come_in(stage: Stage) {
    let dir = stage.scratch.dir("archives");
    // As containerd wrote it, and through other tools.
    let Image { name, archive } = debian();
    let layout = dir.join("layout");
    let skopeo = |from: &str, to: &str| run("skopeo", &["copy", "-q", "--insecure-policy", from, to]);
    skopeo(&format!("oci-archive:{}", archive.display()), &format!("oci:{}:1", layout.display()));
    let dockers = dir.join("docker.tar");
    skopeo(
        &format!("oci-archive:{}", archive.display()),
        &format!("docker-archive:{}:{name}", dockers.display()),
    );
    let compressed = dir.join("oci.tar.gz");
    succeed(Command::new("gzip").args(["-c", text(&archive)]).stdout(File::create(&compressed).unwrap()));
    let before = everything(&stage);
    let mut was: Option<Tree> = None;
    for archive in [&archive, &compressed, &dockers] {
        // By the name that it has, and by one of ours.
        for given in [None, Some(MADE)] {
            let args = [&["import", text(archive)], given.as_slice()].concat();
            let made = stage.loom_json(&args);
            let made = made["image"]["name"].as_str().unwrap().to_owned();
            assert_eq!(made, given.unwrap_or(&name), "{}", archive.display());
            let now = tree(&stage, &made);
            was.get_or_insert(now.clone()).assert_same(&now, text(archive));
            // The name is taken now.
            let said = stage.loom_fails(4, &args);
            assert!(said.contains(&made), "{said}");
            stage.containerd.ctr(&["run", "--rm", "--snapshotter", "loom", &made, "made", "true"]);
            stage.containerd.ctr(&["images", "rm", "--sync", &made]);
            wait_until_again(&stage, &before, text(archive));
        }
    }
    // Through a pipe, beside containerd's own import of the same.
    stage.import(&debian());
    let mut import = stage.loom_command(&["import", "-", MADE]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::copy(&mut File::open(&archive).unwrap(), &mut import.stdin.take().unwrap()).unwrap();
    assert!(import.wait().unwrap().success());
    assert_eq!(tree(&stage, MADE), tree(&stage, &name));
    stage.containerd.ctr(&["images", "rm", "--sync", MADE]);
    stage.end(&name);
}

/// An archive of an image with one layer, whose parts a test can spoil.
struct Spoilt {
    layer: Vec<u8>,
    diff_id: Option<String>,
    wrong_name: bool,
    without_layer: bool,
}

impl Spoilt {
    fn none() -> Spoilt {
        Spoilt {
            layer: tar_of(&[("file", b"content")]),
            diff_id: None,
            wrong_name: false,
            without_layer: false,
        }
    }

    fn write(&self, to: &Path) {
        let sha256 = |data: &[u8]| format!("{:x}", Sha256::digest(data));
        let diff_id = self.diff_id.clone().unwrap_or_else(|| format!("sha256:{}", sha256(&self.layer)));
        let config = json!({
            "os": "linux", "architecture": architecture(), "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = config.to_string().into_bytes();
        let blob = |media: &str, data: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{media}"), "digest": format!("sha256:{}", sha256(data)), "size": data.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "config": blob("config.v1+json", &config),
            "layers": [blob("layer.v1.tar", &self.layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let index = json!({"schemaVersion": 2, "manifests": [blob("manifest.v1+json", &manifest)]});
        let path = |data: &[u8]| format!("blobs/sha256/{}", sha256(data));
        let of_layer =
            if self.wrong_name { format!("blobs/sha256/{}", "0".repeat(64)) } else { path(&self.layer) };
        let (index, of_config, of_manifest) = (index.to_string(), path(&config), path(&manifest));
        let mut files: Vec<(&str, &[u8])> = vec![("oci-layout", b"{}"), ("index.json", index.as_bytes())];
        files.extend([(of_config.as_str(), config.as_slice()), (&of_manifest, &manifest)]);
        if !self.without_layer {
            files.push((&of_layer, &self.layer));
        }
        fs::write(to, tar_of(&files)).unwrap();
    }
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        // Names that no sound tool writes go in too.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

fn bad_archives_leave_nothing(stage: Stage) {
    let dir = stage.scratch.dir("archives");
    let before = everything(&stage);
    let large = fs::read(small().archive).unwrap();
    let tree = tar_of(&[("a", &[b'a'; 5000]), ("b", &[b'b'; 5000])]);
    let gzip = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tree).unwrap();
        gzip.finish().unwrap()
    };
    let mut flipped = gzip.clone();
    let middle = flipped.len() - 6;
    flipped[middle] ^= 1;
    let spoilt = |name: &str, spoilt: Spoilt| {
        let path = dir.join(name);
        spoilt.write(&path);
        fs::read(path).unwrap()
    };
    let archives: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("text", b"this is no tar, and never was one ".repeat(100)),
        ("a cut tar", tree[..6000].to_vec()),
        ("a tar that is cut between two files", tree[..512 + 5120].to_vec()),
        ("a cut gzip", gzip[..gzip.len() / 2].to_vec()),
        ("a damaged gzip", flipped),
        ("a cut image", large[..large.len() / 2].to_vec()),
        ("an image without its index", tar_of(&[("blobs/sha256/", b"")])),
        (
            "an image whose layer is damaged",
            spoilt("1", Spoilt { layer: b"no tar".repeat(1000), ..Spoilt::none() }),
        ),
        (
            "an image whose layer has another digest",
            spoilt("2", Spoilt { wrong_name: true, ..Spoilt::none() }),
        ),
        ("an image without its layer", spoilt("3", Spoilt { without_layer: true, ..Spoilt::none() })),
        (
            "an image whose configuration says another layer",
            spoilt("4", Spoilt { diff_id: Some(format!("sha256:{}", "1".repeat(64))), ..Spoilt::none() }),
        ),
    ];
    for (what, archive) in archives {
        let path = dir.join("bad");
        fs::write(&path, &archive).unwrap();
        let said = stage.loom_fails(2, &["import", text(&path), MADE]);
        println!("{what}: {}", said.trim());
        assert!(!said.contains("internal error"), "{what}: {said}");
        wait_until_again(&stage, &before, what);
    }
    // A good one of that kind is taken, and what climbs out of its root does not get there.
    let path = dir.join("good");
    Spoilt {
        layer: tar_of(&[("../../escaped", b"x"), ("/absolute", b"y"), ("file", b"z")]),
        ..Spoilt::none()
    }
    .write(&path);
    stage.loom_json(&["import", text(&path), MADE]);
    let inside: Vec<PathBuf> = self::tree(&stage, MADE).entries.into_keys().collect();
    assert_eq!(inside, ["absolute", "escaped", "file"].map(PathBuf::from));
    // Bad requests are told before anything is read.
    for args in [
        vec!["import", text(&path), "Not An Image"],
        vec!["import", text(&path), MADE, "--change", "RUN rm -rf /"],
        vec!["import", text(&path)],
        vec!["import", text(&path), "loom.test/other:1", "--snapshotter", "overlayfs"],
    ] {
        let output = stage.loom_command(&args).output().unwrap();
        println!("{args:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        assert!(!output.status.success(), "{args:?}");
    }
    stage.containerd.ctr(&["images", "rm", "--sync", MADE]);
    wait_until_again(&stage, &before, "all of them");
}

/// An import that waits for more: its process.
fn half_an_import(stage: &Stage, archive: &[u8]) -> std::process::Child {
    let mut import = stage.loom_command(&["import", "-", MADE]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(&archive[..archive.len() / 2]).unwrap();
    import.stdin = Some(stdin);
    wait_until("half of it to come", || everything(stage).iter().any(|line| line.starts_with("ingest")));
    import
}

fn an_import_that_ends_early_leaves_nothing(mut stage: Stage) {
    let before = everything(&stage);
    let mut archive = vec![0; 20 << 20];
    getrandom::fill(&mut archive).unwrap();
    let archive = tar_of(&[("large", &archive)]);
    // Its client dies.
    let mut import = half_an_import(&stage, &archive);
    import.kill().unwrap();
    import.wait().unwrap();
    wait_until_again(&stage, &before, "its client's death");
    // It is called off.
    let mut import = half_an_import(&stage, &archive);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(import.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(!import.wait().unwrap().success());
    wait_until_again(&stage, &before, "an interrupt");
    // loomd dies.
    let mut import = half_an_import(&stage, &archive);
    stage.loomd.kill();
    drop(import.stdin.take());
    assert!(!import.wait().unwrap().success());
    stage.start_again();
    wait_until_again(&stage, &before, "the daemon's death");
    // Without a snapshot in the namespace no listing reaches loomd, and containerd has yet to dial it again.
    let probe = ["snapshots", "--snapshotter", "loom"];
    wait_until("containerd to dial loomd again", || {
        stage.containerd.try_ctr(&[&probe[..], &["prepare", "probe"]].concat()).status.success()
    });
    stage.containerd.ctr(&[&probe[..], &["rm", "probe"]].concat());
    // And it is taken all the same.
    let path = stage.scratch.path().join("whole.tar");
    fs::write(&path, &archive).unwrap();
    stage.loom_json(&["import", text(&path), MADE]);
    assert!(tree(&stage, MADE).get("large").is_some());
    stage.containerd.ctr(&["images", "rm", "--sync", MADE]);
    wait_until_again(&stage, &before, "all of them");
}

/// Commits a container of 60 MiB as `loom.test/large:1`; answers the image that it was made of.
fn large_image(stage: &Stage) -> String {
    let image = stage.import(&small());
    stage.containerd.ctr(&["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"]);
    stage
        .containerd
        .exec("origin", &["sh", "-c", "dd if=/dev/urandom of=/root/large bs=1M count=60 2>/dev/null"]);
    stage.loom_json(&["commit", "origin", "loom.test/large:1"]);
    image
}

fn a_full_content_store(stage: Stage) {
    let image = large_image(&stage);
    let mut large = vec![0; 60 << 20];
    getrandom::fill(&mut large).unwrap();
    let archive = stage.scratch.path().join("large.tar");
    fs::write(&archive, tar_of(&[("large", &large)])).unwrap();
    let before = everything(&stage);
    // All but a little of containerd's filesystem is taken.
    let filler = stage.place.filesystem.join("filler");
    let space = rustix::fs::statvfs(&stage.place.filesystem).unwrap();
    let taken = (space.f_bfree * space.f_frsize).saturating_sub(20 << 20);
    run("fallocate", &["-l", &taken.to_string(), text(&filler)]);
    for (what, args) in [
        ("portable", vec!["portable", "loom.test/large:1"]),
        ("import", vec!["import", text(&archive), MADE]),
        ("commit", vec!["commit", "origin", MADE, "--portable"]),
    ] {
        let said = stage.loom_fails(1, &args);
        println!("{what}: {}", said.trim());
        assert!(said.contains("space"), "{what}: {said}");
    }
    fs::remove_file(&filler).unwrap();
    wait_until_again(&stage, &before, "a full disk");
    stage.loom_json(&["portable", "loom.test/large:1"]);
    stage.loom_json(&["import", text(&archive), MADE]);
    stage.containerd.ctr(&["images", "rm", "loom.test/large:1", MADE]);
    stage.end(&image);
}

fn an_export_that_nobody_reads_leaves_nothing(stage: Stage) {
    let image = large_image(&stage);
    let before = everything(&stage);
    for args in [
        vec!["export", "origin"],
        vec!["export", "image:loom.test/large:1"],
        vec!["export", "origin", "--format", "oci", "--image", MADE],
    ] {
        let mut export = stage.loom_command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut some = [0; 4096];
        std::io::Read::read_exact(export.stdout.as_mut().unwrap(), &mut some).unwrap();
        export.kill().unwrap();
        export.wait().unwrap();
        wait_until_again(&stage, &before, &args.join(" "));
    }
    // A state as an image, of which nothing stays here.
    let archive = stage.scratch.path().join("state.tar");
    stage.loom(&["export", "origin", "--format", "oci", "--image", MADE, "-o", text(&archive)]);
    wait_until_again(&stage, &before, "an export of a state");
    stage.loom_json(&["import", text(&archive)]);
    let own = tree(&stage, MADE);
    assert_eq!(own.get("root/large").unwrap().size, 60 << 20);
    let seen: Value =
        serde_json::from_str(&run("skopeo", &["inspect", &format!("oci-archive:{}", archive.display())]))
            .unwrap();
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2, "{seen}");
    stage.containerd.ctr(&["images", "rm", "loom.test/large:1", MADE]);
    stage.end(&image);
}

on_stages! {
    a_tree_goes_out_and_comes_in_on_a_pool: a_tree_goes_out_and_comes_in(Ext4Pool, Debian);
    a_tree_goes_out_and_comes_in_on_ext4: a_tree_goes_out_and_comes_in(Ext4, Current);
    images_come_in_on_ext4: images_come_in(Ext4, Debian);
    images_come_in_to_the_current_containerd: images_come_in(Ext4Pool, Current);
    bad_archives_leave_nothing_on_ext4: bad_archives_leave_nothing(Ext4, Debian);
    bad_archives_leave_nothing_with_the_current_containerd: bad_archives_leave_nothing(Ext4Pool, Current);
    an_import_that_ends_early_leaves_nothing_on_ext4: an_import_that_ends_early_leaves_nothing(Ext4, Debian);
    a_full_content_store_on_a_pool: a_full_content_store(Ext4Pool, Debian);
    an_export_that_nobody_reads_leaves_nothing_on_a_pool: an_export_that_nobody_reads_leaves_nothing(Ext4Pool, Debian);
}
