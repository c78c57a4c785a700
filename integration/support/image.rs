//! Images made here, without a registry.
//!
//! An archive is an OCI image layout in a tar: `oci-layout`, `index.json` and the blobs. It is made
//! once and kept in `target/images`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::containerd::architecture;

/// An image's archive, and the name that it is imported under.
#[derive(Clone, Debug)]
pub struct Image {
    pub name: String,
    pub archive: PathBuf,
}

/// One layer with a static busybox, and all its applets in /bin.
pub fn small() -> Image {
    cached("small", |_| {
        let mut layer = Layer::new();
        for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            layer.dir(dir, if dir == "tmp" { 0o1777 } else { 0o755 });
        }
        layer.file("bin/busybox", 0o755, &fs::read("/bin/busybox").unwrap());
        let applets = super::process::run("/bin/busybox", &["--list"]);
        for applet in applets.lines().filter(|name| *name != "busybox") {
            layer.symlink(&format!("bin/{applet}"), "busybox");
        }
        layer.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
        layer.file("etc/group", 0o644, b"root:x:0:\n");
        vec![layer.finish()]
    })
}

/// One layer with one file: nothing but something to unpack.
pub fn tiny() -> Image {
    cached("tiny", |_| {
        let mut layer = Layer::new();
        layer.file("one", 0o644, b"file\n");
        vec![layer.finish()]
    })
}

/// Debian in four layers: the system as mmdebstrap makes it, then changed and deleted files, then
/// an opaque directory, hard links, xattrs, setuid, devices and odd times, and at last a file in each
/// of many directories.
pub fn debian() -> Image {
    cached("debian", |dir| vec![fetched(&dir.join("debian-base.tar")), changed(), odd(), spread()])
}

/// Debian with databases and what it takes to build a program, in one layer.
pub fn workshop() -> Image {
    cached("workshop", |dir| vec![fetched(&dir.join("debian-tools.tar"))])
}

/// A layer that `integration/tools/fetch` made.
fn fetched(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("run integration/tools/fetch: {}: {error}", path.display()))
}

/// Changes, deletions and a file that becomes a directory.
fn changed() -> Vec<u8> {
    let mut layer = Layer::new();
    layer.file("etc/motd", 0o644, b"changed in the second layer\n");
    layer.file("etc/.wh.issue", 0o600, b"");
    layer.file("usr/share/.wh.doc", 0o600, b"");
    layer.file("etc/.wh.issue.net", 0o600, b"");
    layer.dir("etc/issue.net", 0o750);
    layer.file("etc/issue.net/now-a-directory", 0o640, b"");
    layer.finish()
}

/// All that a layer can hold.
fn odd() -> Vec<u8> {
    let mut layer = Layer::new();
    layer.dir("usr/share/common-licenses", 0o755);
    layer.file("usr/share/common-licenses/.wh..wh..opq", 0o600, b"");
    layer.file("usr/share/common-licenses/only", 0o644, b"the others are hidden\n");
    layer.dir("srv/odd", 0o2775);
    layer.file("srv/odd/first", 0o644, b"one file, three names\n");
    layer.hard_link("srv/odd/second", "srv/odd/first");
    layer.hard_link("srv/odd/third", "srv/odd/first");
    layer.file("srv/odd/setuid", 0o6755, b"#!/bin/true\n");
    layer.attributes(&[("SCHILY.xattr.user.loom", b"kept".as_slice())]);
    layer.file("srv/odd/xattr", 0o644, b"with an attribute\n");
    // cap_net_raw+ep, version 2.
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    layer.attributes(&[("SCHILY.xattr.security.capability", capability.as_slice())]);
    layer.file("srv/odd/capability", 0o755, b"#!/bin/true\n");
    layer.attributes(&[("mtime", b"1234567890.123456789".as_slice())]);
    layer.file("srv/odd/nanoseconds", 0o644, b"");
    layer.file("srv/odd/name with spaces, \"quotes\" and \\", 0o644, b"");
    layer.file("srv/odd/\u{1f9f5}", 0o644, b"");
    layer.symlink("srv/odd/dangling", "/nowhere/\u{e9}");
    layer.device("srv/odd/fifo", EntryType::Fifo, 0, 0);
    layer.device("srv/odd/null", EntryType::Char, 1, 3);
    layer.device("srv/odd/block", EntryType::Block, 7, 200);
    layer.finish()
}

/// Many small files, so that layers share directories.
fn spread() -> Vec<u8> {
    let mut layer = Layer::new();
    for number in 0..200 {
        let dir = format!("srv/many/{}", number % 20);
        layer.dir(&dir, 0o755);
        layer.file(&format!("{dir}/{number}"), 0o644, format!("file {number}\n").as_bytes());
    }
    layer.finish()
}

/// A layer's tar in the making. Everything is of one fixed time, so that the result is too.
/// The directories on the way to an entry are entries too, as in every builder's layers: without one,
/// a directory that the layer changes would be of the time of unpacking.
struct Layer {
    tar: Builder<Vec<u8>>,
    dirs: BTreeSet<PathBuf>,
}

impl Layer {
    fn new() -> Layer {
        Layer { tar: Builder::new(Vec::new()), dirs: BTreeSet::new() }
    }

    fn header(kind: EntryType, mode: u32, size: usize) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(1_600_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    /// Adds the directories above `path` that the layer does not have yet.
    fn parents(&mut self, path: &str) {
        let above: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        for dir in above.into_iter().rev() {
            if self.dirs.insert(dir.to_owned()) {
                let mut header = Layer::header(EntryType::Directory, 0o755, 0);
                self.tar.append_data(&mut header, Path::new(".").join(dir), std::io::empty()).unwrap();
            }
        }
    }

    fn dir(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.dirs.insert(path.into());
        let mut header = Layer::header(EntryType::Directory, mode, 0);
        self.tar.append_data(&mut header, path, std::io::empty()).unwrap();
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.parents(path);
        let mut header = Layer::header(EntryType::Regular, mode, content.len());
        self.tar.append_data(&mut header, path, content).unwrap();
    }

    fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        let mut header = Layer::header(EntryType::Symlink, 0o777, 0);
        self.tar.append_link(&mut header, path, target).unwrap();
    }

    fn hard_link(&mut self, path: &str, target: &str) {
        self.parents(path);
        let mut header = Layer::header(EntryType::Link, 0o644, 0);
        self.tar.append_link(&mut header, path, target).unwrap();
    }

    fn device(&mut self, path: &str, kind: EntryType, major: u32, minor: u32) {
        self.parents(path);
        let mut header = Layer::header(kind, 0o640, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.tar.append_data(&mut header, path, std::io::empty()).unwrap();
    }

    /// PAX records for the next entry, whose directory must be there already.
    fn attributes(&mut self, records: &[(&str, &[u8])]) {
        self.tar.append_pax_extensions(records.iter().copied()).unwrap();
    }

    fn finish(self) -> Vec<u8> {
        self.tar.into_inner().unwrap()
    }
}

fn cached(name: &str, layers: impl FnOnce(&Path) -> Vec<Vec<u8>>) -> Image {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images");
    // Named after this file's content: when that changes, the images are made anew.
    let recipe = &sha256(include_bytes!("image.rs"))[..12];
    let archive = dir.join(format!("{name}-{recipe}.tar"));
    let name = format!("loom.test/{name}:1");
    if !archive.exists() {
        fs::create_dir_all(&dir).unwrap();
        let part = dir.join(format!(".{}.part", std::process::id()));
        write_archive(&part, &name, layers(&dir));
        fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(part, &archive).unwrap();
    }
    Image { name, archive }
}

fn write_archive(path: &Path, name: &str, layers: Vec<Vec<u8>>) {
    let mut out = Builder::new(File::create(path).unwrap());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = Layer::header(EntryType::Regular, 0o644, content.len());
        out.append_data(&mut header, path, content).unwrap();
    };
    let mut blob = |media: &str, content: &[u8]| {
        let digest = sha256(content);
        add(&format!("blobs/sha256/{digest}"), content);
        json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": content.len()})
    };
    let oci = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let mut descriptors = Vec::new();
    let mut diffs = Vec::new();
    for layer in layers {
        diffs.push(format!("sha256:{}", sha256(&layer)));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&layer).unwrap();
        descriptors.push(blob(&oci("layer.v1.tar+gzip"), &gzip.finish().unwrap()));
    }
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh"],
        },
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": diffs.iter().map(|_| json!({"created_by": "loom's tests"})).collect::<Vec<_>>(),
    });
    let config = blob(&oci("config.v1+json"), config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": oci("manifest.v1+json"),
        "config": config,
        "layers": descriptors,
    });
    let mut manifest = blob(&oci("manifest.v1+json"), manifest.to_string().as_bytes());
    manifest["platform"] = json!({"architecture": architecture(), "os": "linux"});
    manifest["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    add("index.json", index.to_string().as_bytes());
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    out.finish().unwrap();
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
