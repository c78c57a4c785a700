//! What a tree holds, listed by a walk that shares nothing with loom's own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use sha2::{Digest, Sha256};

/// `OVERLAYFS_SUPER_MAGIC`.
pub const OVERLAY: i64 = 0x794c_7630;

/// One file of whatever type, with all that a layer must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The type and the permissions, as stat gives them.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of regular files; a directory's is its filesystem's affair.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Of devices.
    pub device: u64,
    /// Of symbolic links.
    pub target: Option<PathBuf>,
    /// Without overlay's private ones.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// A digest of a regular file's content, which is one whether zeros are holes or not.
    pub digest: Option<String>,
    /// The first path of this file's hard links, where it has several in the tree.
    pub linked: Option<PathBuf>,
}

/// A tree: its files by path, the root as "". The default one is no tree at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// Lists what lies at `root`, without what is mounted into it.
    ///
    /// # Panics
    /// Where something cannot be read: the tree must stand still.
    pub fn read(root: &Path) -> Tree {
        let mut tree = Tree { entries: BTreeMap::new() };
        let mut first_links = BTreeMap::new();
        let device = fs::metadata(root).unwrap().dev(); // A root may be /proc/PID/root.
        // A mount of overlay's shows none of its own attributes: what looks like them there is what a container wrote.
        let hides = rustix::fs::statfs(root).unwrap().f_type == OVERLAY;
        let mut todo = vec![PathBuf::new()];
        while let Some(relative) = todo.pop() {
            let path = root.join(&relative);
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                if meta.dev() != device {
                    continue; // Something is mounted there: what lies below cannot be seen.
                }
                let mut names: Vec<_> =
                    fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                names.sort();
                // From the end, so that they are taken in order, and a first link is the first.
                todo.extend(names.into_iter().rev().map(|name| relative.join(name)));
            }
            let mut entry = read_entry(&path, &meta, hides);
            if !meta.is_dir() && meta.nlink() > 1 {
                let first = first_links.entry((meta.dev(), meta.ino())).or_insert_with(|| relative.clone());
                if *first != relative {
                    entry.linked = Some(first.clone());
                    let of_first = tree.entries.get_mut(first).unwrap();
                    of_first.linked = Some(first.clone());
                }
            }
            tree.entries.insert(relative, entry);
        }
        tree
    }

    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(Path::new(path))
    }

    /// The same tree without some paths and all below them.
    pub fn without(mut self, paths: &[&str]) -> Tree {
        self.entries.retain(|path, _| !paths.iter().any(|gone| path.starts_with(gone)));
        self
    }

    /// What of it a layer of the OCI can hold: no sockets, and of its root only what is in it.
    pub fn into_layer(mut self) -> Tree {
        let (kinds, socket) = (0o170_000, 0o140_000);
        self.entries.retain(|path, entry| entry.mode & kinds != socket && path != Path::new(""));
        self
    }

    /// What of it containerd unpacks of a layer: no times before 1970 or behind 2262, and no attributes that are root's
    /// alone.
    pub fn into_unpacked(mut self) -> Tree {
        for entry in self.entries.values_mut() {
            if !(0..=9_223_372_036).contains(&entry.modified.0) {
                entry.modified = (0, 0);
            }
            entry.xattrs.retain(|name, _| !name.as_bytes().starts_with(b"trusted."));
        }
        self
    }

    /// What is different in `other`, a line for each difference.
    pub fn differences(&self, other: &Tree) -> Vec<String> {
        let mut found = Vec::new();
        for (path, entry) in &self.entries {
            match other.entries.get(path) {
                None => found.push(format!("{}: only on the left", path.display())),
                Some(theirs) if theirs != entry => {
                    let fields = [
                        (entry.mode != theirs.mode)
                            .then(|| format!("mode {:o} / {:o}", entry.mode, theirs.mode)),
                        differs("owner", &(entry.uid, entry.gid), &(theirs.uid, theirs.gid)),
                        differs("size", &entry.size, &theirs.size),
                        differs("modified", &entry.modified, &theirs.modified),
                        differs("device", &entry.device, &theirs.device),
                        differs("target", &entry.target, &theirs.target),
                        differs("xattrs", &entry.xattrs, &theirs.xattrs),
                        differs("content", &entry.digest, &theirs.digest),
                        differs("links", &entry.linked, &theirs.linked),
                    ];
                    let fields: Vec<_> = fields.into_iter().flatten().collect();
                    found.push(format!("{}: {}", path.display(), fields.join("; ")));
                }
                Some(_) => {}
            }
        }
        for path in other.entries.keys().filter(|path| !self.entries.contains_key(*path)) {
            found.push(format!("{}: only on the right", path.display()));
        }
        found
    }

    /// # Panics
    /// With what is different, where the trees are not the same.
    pub fn assert_same(&self, other: &Tree, what: &str) {
        let found = self.differences(other);
        let shown = &found[..found.len().min(20)];
        assert!(found.is_empty(), "{what}: {} differences:\n  {}", found.len(), shown.join("\n  "));
    }
}

fn differs<T: PartialEq + std::fmt::Debug>(what: &str, left: &T, right: &T) -> Option<String> {
    (left != right).then(|| format!("{what} {left:?} / {right:?}"))
}

fn read_entry(path: &Path, meta: &Metadata, hides: bool) -> Entry {
    let kind = meta.file_type();
    let xattrs = xattr::list(path)
        .unwrap()
        .filter(|name| hides || !name.as_bytes().starts_with(b"trusted.overlay."))
        .map(|name| {
            let value = xattr::get(path, &name).unwrap().unwrap_or_default();
            (name, value)
        })
        .collect();
    Entry {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        size: if kind.is_file() { meta.size() } else { 0 },
        modified: (meta.mtime(), meta.mtime_nsec()),
        device: if kind.is_block_device() || kind.is_char_device() { meta.rdev() } else { 0 },
        target: kind.is_symlink().then(|| fs::read_link(path).unwrap()),
        xattrs,
        digest: kind.is_file().then(|| content(path)),
        linked: None,
    }
}

/// A digest of a file's content: of the blocks that are not zero, with their places. A hole is not read,
/// so that a file of any size can be looked at.
fn content(path: &Path) -> String {
    const BLOCK: usize = 4096;
    let file = File::open(path).unwrap();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * BLOCK];
    let mut place = 0;
    // The end of the data from here on is an error: there is none.
    while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(place)) {
        let end = rustix::fs::seek(&file, SeekFrom::Hole(data)).unwrap();
        // Whatever the filesystem says, blocks are counted from the beginning of the file.
        place = data - data % BLOCK as u64;
        while place < end {
            let read = fill(&file, &mut buffer, place);
            for (number, block) in buffer[..read].chunks(BLOCK).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    hash.update((place + (number * BLOCK) as u64).to_le_bytes());
                    hash.update(block);
                }
            }
            place += read as u64;
            if read < buffer.len() {
                break; // The end of the file.
            }
        }
    }
    hex(&hash.finalize())
}

/// Reads at `place` until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], place: u64) -> usize {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], place + read as u64).unwrap() {
            0 => break,
            more => read += more,
        }
    }
    read
}

/// The SHA-256 of a file, in hexadecimal digits.
pub fn digest(path: &Path) -> String {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path).unwrap(), &mut hash).unwrap();
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of a tree, other than directories, that show the same `st_dev` and `st_ino` without being
/// hard links of each other: what no mount may have. Hard links are told by their count: a file with
/// one link has no second name.
pub fn confused(root: &Path) -> Vec<String> {
    let mut seen: BTreeMap<(u64, u64), (PathBuf, u64, String)> = BTreeMap::new();
    let mut found = Vec::new();
    let mut todo = vec![root.join("")]; // A root may be /proc/PID/root: the slash follows it.
    let device = fs::metadata(root).unwrap().dev();
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            if meta.dev() != device {
                continue;
            }
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        // Two links of one file agree in all of this.
        let about = format!(
            "{:o} {}:{} {} {:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.size(),
            (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
        );
        let id = (meta.dev(), meta.ino());
        if let Some((other, links, theirs)) = seen.get(&id) {
            if *links < 2 || meta.nlink() < 2 || meta.is_dir() || *theirs != about {
                found.push(format!("{} and {}: {id:?}", other.display(), path.display()));
            }
        } else {
            seen.insert(id, (path, meta.nlink(), about));
        }
    }
    found
}
