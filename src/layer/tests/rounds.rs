//! A copy that is made while its source changes is, in the end, what the source is then.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use rustix::fs::{FallocateFlags, FileType, RenameFlags, Timespec, Timestamps};

use super::*;

/// Two trees and a stage, in a directory of their own.
struct Trees {
    directory: tempfile::TempDir,
    copy: tree::Copy,
}

impl Trees {
    fn new(image: &Image, reflink: bool) -> Self {
        let directory = tempfile::tempdir_in(image.path()).unwrap();
        let open = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::File::open(path).unwrap().into()
        };
        let (source, target, stage) = (open("source"), open("target"), open("stage"));
        let copy = tree::Copy::new(source, target, stage, &directory.path().join("source"), reflink);
        Self { directory, copy: copy.at_once() }
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    fn finish(&mut self) {
        self.copy.finish().unwrap();
        // It has the names of the stage besides.
        std::fs::remove_dir_all(self.directory.path().join("stage")).unwrap();
        let (source, target) = (picture(&self.source()), picture(&self.directory.path().join("target")));
        zoo::same(&source, &target);
    }
}

/// All that a tree is, a line each.
fn picture(root: &Path) -> String {
    let (mut lines, mut first, mut ahead) = (Vec::new(), HashMap::new(), vec![root.to_path_buf()]);
    while let Some(path) = ahead.pop() {
        let found = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().to_path_buf();
        let mut line = format!(
            "{name:?} {:o} {}:{} {} {}.{:09} {}",
            found.mode(),
            found.uid(),
            found.gid(),
            found.rdev(),
            found.mtime(),
            found.mtime_nsec(),
            if found.is_dir() { 0 } else { found.size() },
        );
        let mut attributes: Vec<_> =
            xattr::list(&path).unwrap().map(|name| (xattr::get(&path, &name).unwrap(), name)).collect();
        attributes.sort();
        write!(line, " {attributes:?}").unwrap();
        if found.is_dir() {
            ahead.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if found.is_file() {
            write!(line, " {:?}", std::fs::read(&path).unwrap()).unwrap();
        } else if found.is_symlink() {
            write!(line, " {:?}", std::fs::read_link(&path).unwrap()).unwrap();
        }
        lines.push((name, found.ino(), found.is_dir(), found.nlink(), line));
    }
    lines.sort();
    let mut text = String::new();
    for (name, inode, directory, links, line) in lines {
        let same = if directory { &name } else { first.entry(inode).or_insert_with(|| name.clone()) };
        writeln!(text, "{line} {} {same:?}", if directory { 0 } else { links }).unwrap();
    }
    text
}

/// What a process does to a tree: which change, to which of the paths, and how.
type Step = (u8, usize, usize, u8);

/// `a` to `c`, and the same below each, twice.
fn path(root: &Path, number: usize) -> PathBuf {
    let (mut path, mut number) = (root.to_path_buf(), number % 39);
    loop {
        path.push(["a", "b", "c"][number % 3]);
        if number < 3 {
            return path;
        }
        number = number / 3 - 1;
    }
}

/// Does it; what does not fit the tree as it is does nothing.
fn change(root: &Path, (what, one, other, how): Step) -> std::io::Result<()> {
    let (one, other) = (path(root, one), path(root, other));
    let mode = Mode::from_raw_mode(u32::from(how) << 4);
    // Nobody reads from the FIFOs.
    let open = |options: &mut std::fs::OpenOptions| {
        options.write(true).custom_flags(nix::libc::O_NONBLOCK).open(&one)
    };
    let file = || open(&mut std::fs::File::options());
    let acl: Vec<u8> = [
        &[2, 0, 0, 0][..],
        &[1, 0, 7, 0, 255, 255, 255, 255],
        &[2, 0, how % 8, 0, 7, 0, 0, 0],
        &[4, 0, 5, 0, 255, 255, 255, 255],
        &[16, 0, 7, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    match what {
        0..=2 => open(std::fs::File::options().create(true).truncate(true))?
            .write_all_at(&[how].repeat(usize::from(how) * 40), 0),
        3 => file()?.write_all_at(&[how; 100], u64::from(how) * 10),
        4 => file()?.set_len(u64::from(how) * 100),
        5..=7 => std::fs::create_dir(&one),
        8 | 9 => std::fs::rename(&one, &other),
        10 => Ok(rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE)?),
        11 | 12 => std::fs::hard_link(&one, &other),
        13 => std::fs::remove_file(&one),
        14 if how < 100 => std::fs::remove_dir_all(&one),
        15 => Ok(rustix::fs::chmod(&one, mode)?),
        16 => std::os::unix::fs::lchown(&one, Some(how.into()), Some(how.into())),
        17 => xattr::set(&one, "user.note", &[how; 3]),
        18 => xattr::remove(&one, "user.note"),
        19 => symlink(how.to_string(), &one),
        20 => Ok(rustix::fs::mknodat(CWD, &one, FileType::Fifo, mode, 0)?),
        // A whiteout.
        21 => Ok(rustix::fs::mknodat(CWD, &one, FileType::CharacterDevice, Mode::empty(), 0)?),
        22 => {
            let time = Timespec { tv_sec: i64::from(how), tv_nsec: 5 };
            let times = Timestamps { last_access: time, last_modification: time };
            Ok(rustix::fs::utimensat(CWD, &one, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
        }
        23 => xattr::set(&one, "system.posix_acl_default", &acl),
        24 => xattr::set(&one, "trusted.overlay.opaque", b"y"),
        25 => {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            Ok(rustix::fs::fallocate(file()?, hole, u64::from(how), 4096)?)
        }
        // Its inode's number is used again.
        26 => std::fs::remove_file(&one).and_then(|()| std::fs::write(&one, [how])),
        _ => Ok(()),
    }
}

fn wait_for_a_tick() {
    std::thread::sleep(std::time::Duration::from_millis(12));
}

fn every_change_is_followed(kind: &str, reflink: bool) {
    let image = Image::new(kind, 512);
    let step = (0..28_u8, 0..39_usize, 0..39_usize, any::<u8>());
    let rounds = prop::collection::vec((prop::collection::vec(step, 0..40), any::<bool>()), 2..5);
    proptest!(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() }, |(rounds in rounds)| {
        let mut trees = Trees::new(&image, reflink);
        let root = trees.source();
        let last = rounds.len() - 1;
        for (number, (steps, waits)) in rounds.into_iter().enumerate() {
            for step in steps {
                let _ = change(&root, step);
            }
            if waits {
                wait_for_a_tick();
            }
            match number {
                0 => trees.copy.rounds(|| Ok(())).unwrap(),
                _ if number < last => trees.copy.again().unwrap(),
                _ => trees.finish(),
            }
        }
    });
}

#[test]
fn every_change_is_followed_on_ext4() {
    every_change_is_followed("ext4", false);
}

#[test]
fn every_change_is_followed_on_xfs() {
    every_change_is_followed("xfs", true);
}

#[test]
fn every_change_is_followed_on_btrfs() {
    every_change_is_followed("btrfs", true);
}

#[test]
fn the_zoo_is_copied_again_where_it_changes() {
    let image = Image::new("ext4", 512);
    let mut trees = Trees::new(&image, false);
    let root = trees.source();
    zoo::fill(&root);
    wait_for_a_tick();
    trees.copy.rounds(|| Ok(())).unwrap();
    sh(
        &root,
        "rm -rf opaque; mkdir opaque; ln three four; mv a moved; mkdir a; chmod 700 locked; setfacl -b acl; \
         setfattr -x user.note plain; rm suid; mknod suid c 0 0; rm -r setgid; echo > setgid; \
         fallocate -p -o 4096 -l 1000000 big; truncate -s 11G sparse",
    );
    trees.copy.again().unwrap();
    sh(
        &root,
        "mv moved/b a/b; rm three; setfacl -b inherits; touch -d @7 big; rm sparse; truncate -s 1M sparse",
    );
    trees.finish();
}

#[test]
fn what_is_attacked_is_whole_when_it_stands_still() {
    let image = Image::new("ext4", 512);
    let outside = tempfile::tempdir().unwrap();
    sh(outside.path(), "mkdir sub; echo OUTSIDE > secret; echo OUTSIDE > sub/secret");
    for _ in 0..5 {
        let mut trees = Trees::new(&image, false);
        hostile::under_attack(&trees.source(), outside.path(), || {
            trees.copy.rounds(|| Ok(())).unwrap();
            for _ in 0..20 {
                trees.copy.again().unwrap();
            }
        });
        trees.finish();
    }
}

#[test]
fn stores_to_a_mapped_file_are_seen() {
    for (kind, reflink) in [("ext4", false), ("xfs", true), ("btrfs", true)] {
        let image = Image::new(kind, 512);
        let mut trees = Trees::new(&image, reflink);
        let root = trees.source();
        std::fs::write(root.join("mapped"), [0; 8192]).unwrap();
        let mut process = Command::new("python3")
            .args([
                "-uc",
                "import mmap, sys\nfile = open('mapped', 'r+b')\nmapped = mmap.mmap(file.fileno(), 0)\n\
                 for line in sys.stdin: mapped[0] = int(line); print(line)",
            ])
            .current_dir(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut store = |value: u8| {
            writeln!(stdin, "{value}").unwrap();
            for _ in 0..2 {
                stdout.read_line(&mut String::new()).unwrap();
            }
            wait_for_a_tick();
        };
        store(1);
        let flush = || {
            rustix::fs::syncfs(std::fs::File::open(&root).unwrap()).unwrap();
            Ok(())
        };
        trees.copy.rounds(flush).unwrap();
        for value in 2..6 {
            store(value);
            trees.copy.again().unwrap();
        }
        store(6);
        trees.finish();
        drop(stdin);
        process.wait().unwrap();
    }
}

#[test]
fn a_large_directory_that_changes() {
    let image = Image::new("xfs", 512);
    let mut trees = Trees::new(&image, true);
    let root = trees.source();
    sh(
        &root,
        "mkdir d; seq 3000 | split -l 1 -a 4 - d/; mkdir d/sub; for n in $(seq 300); do ln d/aaaa d/sub/$n; done",
    );
    wait_for_a_tick();
    trees.copy.rounds(|| Ok(())).unwrap();
    sh(&root, "rm d/aab*; mv d e; echo > e/aaaa; mkdir d; mv e/sub d");
    trees.copy.again().unwrap();
    sh(&root, "mv d f; mv e d; mv f e; setfattr -n user.x -v y e/sub/7");
    trees.finish();
}
