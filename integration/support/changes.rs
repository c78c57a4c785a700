//! Random changes to a tree: every kind of thing that a container can do to its files.
//!
//! What is done goes by a seed alone, so that a failure can be had again, as long as the tree is the same.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, RenameFlags, Timespec, Timestamps};

use super::tree::OVERLAY;

/// More entries than this, and things are rather removed than made.
const MANY: usize = 250;
/// Bytes of a path below which nothing more is made: a walk by paths cannot follow for ever.
const LONG: usize = 1000;

/// Numbers that are always the same for one seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The seed in `LOOM_TEST_SEED`, or one of the clock's; it is printed.
    pub fn seeded(what: &str) -> Random {
        let given = std::env::var("LOOM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
        let seed = given.unwrap_or_else(clock);
        println!("seed | {what} | LOOM_TEST_SEED={seed}");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    /// True so often in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them, where there is any.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// Changes that are made, and how often each was done.
#[derive(Debug)]
pub struct Changes {
    pub random: Random,
    /// By what was done: how often it was, and how often it could not be.
    pub done: BTreeMap<&'static str, (usize, usize)>,
    /// What was done last, for the one who looks for the cause of a failure.
    pub last: Vec<String>,
}

/// A tree as it is found before a change.
struct Found {
    root: PathBuf,
    /// It is the mount of one.
    overlay: bool,
    files: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
    /// All but the root.
    all: Vec<PathBuf>,
}

type Change = fn(&Found, &mut Random) -> io::Result<String>;

/// Each with how much of a thousand it is.
const CHANGES: &[(&str, usize, Change)] = &[
    ("create a file", 120, create),
    ("make a directory", 50, |found, random| {
        let path = found.free(random);
        fs::create_dir(&path).and(said(&path))
    }),
    ("write into a file", 70, write_into),
    ("append", 40, |found, random| {
        let path = found.file(random)?;
        OpenOptions::new().append(true).open(&path)?.write_all(&content(random)).and(said(&path))
    }),
    ("truncate", 30, |found, random| {
        let path = found.file(random)?;
        let size = random.below(30_000) as u64;
        OpenOptions::new().write(true).open(&path)?.set_len(size).and(said(&path))
    }),
    ("punch a hole", 20, |found, random| {
        let path = found.file(random)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, random.below(4) as u64 * 4096, 4096)?;
        said(&path)
    }),
    ("write the same again", 30, |found, random| {
        let path = found.file(random)?;
        let bytes = fs::read(&path)?;
        fs::write(&path, bytes).and(said(&path))
    }),
    ("make the same anew", 30, anew),
    ("put a file in another's place", 30, |found, random| {
        let (path, new) = (found.file(random)?, found.root.join(".new"));
        fs::write(&new, content(random))?;
        fs::rename(new, &path).and(said(&path))
    }),
    ("set the time back", 30, |found, random| {
        let path = found.any(random)?;
        let time = Timespec { tv_sec: random.below(1 << 30) as i64, tv_nsec: random.below(1 << 29) as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        said(&path)
    }),
    ("chmod", 40, |found, random| {
        let path = found.no_link(random)?;
        let mode = [0o644, 0o600, 0o755, 0o4755, 0o2770, 0o1777, 0][random.below(7)];
        fs::set_permissions(&path, Permissions::from_mode(mode)).and(said(&path))
    }),
    ("chown", 30, |found, random| {
        let path = found.any(random)?;
        let mut id = || [None, Some(0), Some(1000), Some(4_000_000)][random.below(4)];
        lchown(&path, id(), id()).and(said(&path))
    }),
    ("chown and chmod the root", 4, |found, random| {
        lchown(&found.root, Some(random.below(3) as u32), None)?;
        let mode = [0o755, 0o711, 0o1777][random.below(3)];
        fs::set_permissions(&found.root, Permissions::from_mode(mode)).and(said(&found.root))
    }),
    ("set an attribute", 50, set_attribute),
    ("remove an attribute", 20, |found, random| {
        let path = found.any(random)?;
        let own = |name: &OsString| !name.as_bytes().starts_with(b"system.");
        let name = xattr::list(&path)?.find(own).ok_or(io::ErrorKind::NotFound)?;
        xattr::remove(&path, name).and(said(&path))
    }),
    ("rename", 60, |found, random| {
        let (from, to) = (found.any(random)?, found.free(random));
        moved(&from, &to)
    }),
    ("rename over another", 20, |found, random| {
        let (from, to) = (found.any(random)?, found.any(random)?);
        fs::rename(&from, &to).and(said(&to))
    }),
    ("rename a directory", 30, |found, random| {
        let (from, to) = (found.dir(random)?, found.free(random));
        moved(&from, &to)
    }),
    ("swap", 20, |found, random| {
        let (one, other) = (found.any(random)?, found.any(random)?);
        rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE)?;
        said(&one)
    }),
    ("swap directories", 15, |found, random| {
        let (one, other, aside) = (found.dir(random)?, found.dir(random)?, found.root.join(".aside"));
        if one.starts_with(&other) || other.starts_with(&one) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        moved(&one, &aside)?;
        moved(&other, &one)?;
        moved(&aside, &other)
    }),
    ("link", 30, |found, random| {
        let (from, to) = (found.file(random)?, found.free(random));
        fs::hard_link(&from, &to).and(said(&to))
    }),
    ("unlink", 60, |found, random| {
        let path = found.file(random)?;
        fs::remove_file(&path).and(said(&path))
    }),
    ("remove a tree", 25, |found, random| {
        let path = found.dir(random)?;
        fs::remove_dir_all(&path).and(said(&path))
    }),
    ("make a tree in a tree's place", 30, |found, random| {
        let path = found.dir(random)?;
        fs::remove_dir_all(&path)?;
        fill(&path, random).and(said(&path))
    }),
    ("make a tree in a file's place", 25, |found, random| {
        let path = found.file(random)?;
        fs::remove_file(&path)?;
        fill(&path, random).and(said(&path))
    }),
    ("make a file in a tree's place", 20, |found, random| {
        let path = found.dir(random)?;
        fs::remove_dir_all(&path)?;
        fs::write(&path, content(random)).and(said(&path))
    }),
    ("make or retarget a link", 40, |found, random| {
        let links: Vec<_> = found.all.iter().filter(|path| path.is_symlink()).collect();
        let path = match random.pick(&links) {
            Some(path) if random.chance(60) => (*path).clone(),
            _ => found.free(random),
        };
        let _ = fs::remove_file(&path);
        let target = if random.chance(50) { found.any(random)? } else { PathBuf::from(name(random)) };
        symlink(target, &path).and(said(&path))
    }),
    ("make a device", 25, |found, random| {
        let is_device = |path: &&PathBuf| {
            let kind = path.symlink_metadata().map(|meta| meta.file_type());
            kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device())
        };
        let devices: Vec<_> = found.all.iter().filter(is_device).collect();
        let path = match random.pick(&devices) {
            Some(path) if random.chance(50) => (*path).clone(),
            _ => found.free(random),
        };
        let _ = fs::remove_file(&path);
        let kind = [FileType::CharacterDevice, FileType::BlockDevice][random.below(2)];
        let device = rustix::fs::makedev(1 + random.below(3) as u32, random.below(3) as u32);
        rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o640), device)?;
        said(&path)
    }),
    ("make a pipe", 10, |found, random| {
        let path = found.free(random);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        said(&path)
    }),
    ("make a socket", 10, |found, random| {
        let path = found.free(random);
        UnixListener::bind(&path).map(drop).and(said(&path))
    }),
    ("make a deep path", 10, |found, random| {
        let mut path = found.free(random);
        for _ in 0..12 {
            path.push(name(random));
        }
        fs::create_dir_all(path.parent().unwrap())?;
        fs::write(&path, content(random)).and(said(&path))
    }),
];

impl Changes {
    /// None yet.
    pub fn new(random: Random) -> Changes {
        Changes { random, done: BTreeMap::new(), last: Vec::new() }
    }

    /// Makes so many of them in a tree. What cannot be done there is passed over.
    pub fn make(&mut self, root: &Path, count: usize) {
        self.last.clear();
        let whole: usize = CHANGES.iter().map(|(_, share, _)| share).sum();
        for _ in 0..count {
            let found = Found::read(root);
            let mut at = self.random.below(whole);
            let chosen = CHANGES.iter().find(|(_, share, _)| {
                let is = at < *share;
                at = at.saturating_sub(*share);
                is
            });
            let (what, _, change) = chosen.unwrap();
            let removed = ["remove a tree", "unlink", "make a file in a tree's place"];
            if found.all.len() > MANY && !removed.contains(what) && self.random.chance(60) {
                continue;
            }
            let done = self.done.entry(what).or_default();
            match change(&found, &mut self.random) {
                Ok(path) => {
                    done.0 += 1;
                    self.last.push(format!("{what}: {path}"));
                }
                Err(error) => {
                    done.1 += 1;
                    self.last.push(format!("{what}: {error}"));
                }
            }
        }
    }

    /// # Panics
    /// Where something was never done.
    pub fn assert_all_done(&self) {
        let never: Vec<_> = CHANGES
            .iter()
            .filter(|(what, ..)| self.done.get(what).is_none_or(|(done, _)| *done == 0))
            .collect();
        assert!(never.is_empty(), "never done: {never:?} of {:?}", self.done);
    }
}

impl Found {
    fn read(root: &Path) -> Found {
        let overlay = rustix::fs::statfs(root).unwrap().f_type == OVERLAY;
        let mut found =
            Found { root: root.to_owned(), overlay, files: Vec::new(), dirs: Vec::new(), all: Vec::new() };
        let mut todo = vec![root.to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    todo.push(path.clone());
                    found.dirs.push(path.clone());
                } else if kind.is_file() {
                    found.files.push(path.clone());
                }
                found.all.push(path);
            }
        }
        // What a directory lists first is its filesystem's affair.
        for list in [&mut found.files, &mut found.dirs, &mut found.all] {
            list.sort();
        }
        found
    }

    fn file(&self, random: &mut Random) -> io::Result<PathBuf> {
        random.pick(&self.files).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn dir(&self, random: &mut Random) -> io::Result<PathBuf> {
        random.pick(&self.dirs).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn any(&self, random: &mut Random) -> io::Result<PathBuf> {
        random.pick(&self.all).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    /// What is no symbolic link.
    fn no_link(&self, random: &mut Random) -> io::Result<PathBuf> {
        self.any(random).and_then(|path| match path.is_symlink() {
            true => Err(io::ErrorKind::InvalidInput.into()),
            false => Ok(path),
        })
    }

    /// A path, most likely a new one, in a directory that is there.
    fn free(&self, random: &mut Random) -> PathBuf {
        let parent = match random.pick(&self.dirs) {
            Some(dir) if random.chance(80) && dir.as_os_str().len() < LONG => dir,
            _ => &self.root,
        };
        parent.join(name(random))
    }
}

fn create(found: &Found, random: &mut Random) -> io::Result<String> {
    let path = found.free(random);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    if random.chance(10) {
        file.seek(SeekFrom::Start(random.below(300) as u64 * 4096))?;
    }
    file.write_all(&content(random)).and(said(&path))
}

/// A byte or two are other ones; the size stays, and now and then the time too.
fn write_into(found: &Found, random: &mut Random) -> io::Result<String> {
    let path = found.file(random)?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let meta = file.metadata()?;
    let at = random.below(usize::try_from(meta.len()).unwrap()) as u64;
    file.write_all_at(&[b'a' + random.below(26) as u8], at)?;
    if random.chance(50) {
        file.set_times(fs::FileTimes::new().set_modified(meta.modified()?).set_accessed(meta.accessed()?))?;
    }
    said(&path)
}

/// A file or a tree goes, and one that is the same in all that is told comes.
fn anew(found: &Found, random: &mut Random) -> io::Result<String> {
    let (path, copy) = (found.any(random)?, found.root.join(".copy"));
    run(Command::new("cp").arg("-a").arg(&path).arg(&copy))?;
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(&path)?
    } else {
        fs::remove_file(&path)?
    }
    fs::rename(copy, &path).and(said(&path))
}

fn set_attribute(found: &Found, random: &mut Random) -> io::Result<String> {
    let path = found.any(random)?;
    // As setfacl -m u:1000:r has it: a version, then tag, permissions and id of each entry.
    const LIST: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 4, u32::MAX)];
    // cap_net_bind_service+ep
    const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (name, value) = match random.below(8) {
        // As a container writes them that mounts overlays itself; they are nothing to the overlay it stands on.
        5 => ("user.overlay.opaque", b"y".to_vec()),
        6 if found.overlay => ("trusted.overlay.opaque", [b"y", b"x"][random.below(2)].to_vec()),
        7 if found.overlay => ("trusted.overlay.whiteout", b"y".to_vec()),
        0 => ("user.one", content(random)),
        1 => ("trusted.two", vec![b'x'; random.below(200)]),
        2 => ("security.capability", CAPABILITY.to_vec()),
        3 => {
            let entry = |(tag, may, id): &(u16, u16, u32)| {
                [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
            };
            (
                "system.posix_acl_access",
                [2_u32.to_le_bytes().to_vec(), LIST.iter().flat_map(entry).collect()].concat(),
            )
        }
        _ => ("trusted.one", Vec::new()),
    };
    xattr::set(&path, name, &value[..value.len().min(1000)]).and(said(&path))
}

/// Renames; where that is not possible, since a part of it lies in an image, as `mv` does it then.
fn moved(from: &Path, to: &Path) -> io::Result<String> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            run(Command::new("mv").arg("-T").arg(from).arg(to)).and(said(to))
        }
        renamed => renamed.and(said(to)),
    }
}

/// A directory with some things in it.
fn fill(path: &Path, random: &mut Random) -> io::Result<()> {
    fs::create_dir(path)?;
    for _ in 0..random.below(4) {
        let inner = path.join(name(random));
        if random.chance(40) {
            fs::create_dir_all(&inner)?;
        } else if !inner.is_dir() {
            fs::write(inner, content(random))?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn said(path: &Path) -> io::Result<String> {
    Ok(format!("{}", path.display()))
}

/// Names that meet each other often, and some that are hard to bear.
fn name(random: &mut Random) -> OsString {
    match random.below(24) {
        0 => OsStr::from_bytes(b"\xff\xfe").to_owned(),
        1 => "new\nline".into(),
        2 => "gr\u{fc}\u{df}e \u{1f9f5}".into(),
        3 => ".wh.a".into(),
        4 => ".wh..wh..opq".into(),
        5 => "a \"b\" \\".into(),
        6 => OsString::from_vec(vec![b'n'; 255]),
        7 => format!("a{}", random.below(40)).into(),
        8 => "a.".into(),
        9 => "a-".into(),
        other => char::from(b'a' + u8::try_from(other - 10).unwrap()).to_string().into(),
    }
}

fn content(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => Vec::new(),
        1 => (0..random.below(20_000)).map(|_| random.next() as u8).collect(),
        2 => vec![0; random.below(10_000)],
        _ => {
            (0..random.below(60)).flat_map(|_| format!("line {}\n", random.below(50)).into_bytes()).collect()
        }
    }
}
