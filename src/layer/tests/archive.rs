//! Tars of layers: what comes out of them is what an overlay of the layers shows.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::FileType;

use super::*;

/// Says everything of a tree that a layer holds, but for its root and sockets: a line a name.
const DESCRIBE: &str = r#"
import hashlib, os, stat
names, lines = {}, []
for at, dirs, files in os.walk(b"."):
    for name in dirs + files:
        path = os.path.join(at, name)
        s = os.lstat(path)
        if stat.S_ISSOCK(s.st_mode):
            continue
        said = [path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns, os.major(s.st_rdev), os.minor(s.st_rdev)]
        said += [(x, os.getxattr(path, x, follow_symlinks=False)) for x in sorted(os.listxattr(path, follow_symlinks=False))
                 if not x.startswith("trusted.overlay.")]
        if stat.S_ISLNK(s.st_mode):
            said.append(os.readlink(path))
        if stat.S_ISREG(s.st_mode):
            said += [s.st_size, hashlib.sha256(open(path, "rb").read()).hexdigest()]
        if not stat.S_ISDIR(s.st_mode):
            names.setdefault((s.st_dev, s.st_ino), []).append(path)
        lines.append(repr(said))
lines += [repr(sorted(paths)) for paths in names.values() if len(paths) > 1]
print("\n".join(sorted(lines)))
"#;

/// Changes the tree in which it is run, by a seed.
const CHANGE: &str = r#"
import os, random, shutil, sys
r = random.Random(int(sys.argv[1]))
def place():
    at = "."
    while r.random() < 0.6:
        dirs = [d for d in sorted(os.listdir(at)) if os.path.isdir(f"{at}/{d}") and not os.path.islink(f"{at}/{d}")]
        if not dirs:
            break
        at = f"{at}/{r.choice(dirs)}"
    return at
def some(at):
    names = sorted(os.listdir(at))
    return f"{at}/{r.choice(names)}" if names else None
for n in range(int(sys.argv[2])):
    at, name = place(), r.choice("abcdefgh")
    new, old = f"{at}/{name}", some(at)
    kind = r.choice(["file", "file", "dir", "dir", "link", "hard", "fifo", "remove", "remove", "rename", "write", "mode", "own", "xattr", "again"])
    try:
        if kind == "file":
            open(new, "x").write(f"{n} {r.random()}" * r.randrange(300))
        elif kind == "dir":
            os.mkdir(new)
        elif kind == "link":
            os.symlink(r.choice(["a", "../b", "/nowhere"]), new)
        elif kind == "hard":
            other = some(place())
            if other and not os.path.isdir(other):
                os.link(other, new, follow_symlinks=False)
        elif kind == "fifo":
            os.mkfifo(new)
        elif old is None:
            pass
        elif kind in ("remove", "again"):
            was = os.path.isdir(old) and not os.path.islink(old)
            shutil.rmtree(old) if was else os.remove(old)
            if kind == "again":
                r.choice([os.mkdir, os.mkfifo, lambda path: open(path, "w").write("again")])(old)
                if os.path.isdir(old):
                    open(f"{old}/{r.choice('abcdefgh')}", "w").write("inside")
        elif kind == "rename":
            os.rename(old, new)
        elif kind == "write" and os.path.isfile(old):
            open(old, "a").write("more")
        elif kind == "mode" and not os.path.islink(old):
            os.chmod(old, r.choice([0o600, 0o4755, 0o1777]))
        elif kind == "own":
            os.chown(old, r.randrange(5), 3000000, follow_symlinks=False)
        elif kind == "xattr" and not os.path.islink(old):
            os.setxattr(old, "trusted.note", os.urandom(4))
    except (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, OSError) as e:
        if e.errno in (28, 5, 116):
            raise
"#;

/// Runs a program on a mount of a chain.
fn on_mount(place: &Place, chain: &[Layer], access: Access, program: &str) -> String {
    let at = tempfile::tempdir().unwrap();
    let mount = place.layers.mounts(chain, access).unwrap().remove(0);
    let (kind, source, options) = (mount.kind, mount.source, mount.options.join(","));
    let flags = if kind == "bind" { "--bind".to_owned() } else { format!("-t {kind} -o {options}") };
    let script = format!("mount {flags} {source} {at}; cd {at}; {program}", at = at.path().display());
    fs::write(at.path().with_extension("sh"), &script).unwrap();
    let run = format!("unshare -m bash -eu {}", at.path().with_extension("sh").display());
    let said = sh(at.path(), &run);
    fs::remove_file(at.path().with_extension("sh")).unwrap();
    String::from_utf8(said).unwrap()
}

fn python(program: &str, arguments: &str) -> String {
    format!("python3 - {arguments} <<'END'\n{program}\nEND\n")
}

pub(super) fn change(place: &Place, chain: &[Layer], seed: u64, steps: usize) {
    on_mount(place, chain, Access::Write, &python(CHANGE, &format!("{seed} {steps}")));
}

pub(super) fn seen(place: &Place, chain: &[Layer]) -> String {
    on_mount(place, chain, Access::Read, &python(DESCRIBE, ""))
}

fn seen_in(directory: &Path) -> String {
    String::from_utf8(sh(directory, &python(DESCRIBE, ""))).unwrap()
}

fn tar(place: &Place, chain: &[Layer], count: usize) -> Vec<u8> {
    let mut tar = Vec::new();
    place.layers.archive(chain, count, &mut tar, &mut |_| Ok(())).unwrap();
    tar
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut tar = ::tar::Archive::new(tar);
    let name = |entry: std::io::Result<::tar::Entry<'_, &[u8]>>| {
        String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned()
    };
    tar.entries().unwrap().map(name).collect()
}

/// How an unpacker has what is deleted.
#[derive(Clone, Copy, PartialEq)]
enum Unpack {
    /// What is there is removed.
    Over,
    /// The tree is an overlay's upper.
    Upper,
}

/// Unpacks a layer by the rules of the OCI: the marks by hand, everything else by GNU's tar.
fn unpack(tar: &[u8], to: &Path, how: Unpack) {
    for entry in ::tar::Archive::new(tar).entries().unwrap() {
        let entry = entry.unwrap();
        let path = to.join(OsStr::from_bytes(&entry.path_bytes()));
        let (parent, name) = (path.parent().unwrap(), path.file_name().unwrap().as_bytes());
        let there = fs::symlink_metadata(&path);
        match (name.strip_prefix(b".wh."), how) {
            (Some(b".wh..opq"), Unpack::Over) => {
                for entry in fs::read_dir(parent).unwrap() {
                    remove(&entry.unwrap().path());
                }
            }
            (Some(b".wh..opq"), Unpack::Upper) => {
                fs::create_dir_all(parent).unwrap();
                xattr::set(parent, "trusted.overlay.opaque", b"y").unwrap();
            }
            (Some(hidden), Unpack::Over) => {
                // What it hides is there: nothing is hidden that is not.
                remove(&parent.join(OsStr::from_bytes(hidden)));
            }
            (Some(hidden), Unpack::Upper) => {
                fs::create_dir_all(parent).unwrap();
                let path = parent.join(OsStr::from_bytes(hidden));
                rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            }
            (None, _) => {
                let directory = entry.header().entry_type().is_dir();
                match there {
                    Ok(there) if there.is_dir() && directory => {
                        for name in xattr::list(&path).unwrap() {
                            xattr::remove(&path, name).unwrap();
                        }
                    }
                    Ok(_) => remove(&path),
                    Err(_) => {}
                }
            }
        }
    }
    extract(tar, to);
}

fn remove(path: &Path) {
    if path.symlink_metadata().unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// What GNU's tar makes of it.
fn extract(tar: &[u8], to: &Path) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), tar).unwrap();
    let options = "--xattrs --xattrs-include='*' --numeric-owner --wildcards --exclude='.wh.*' -xpf";
    sh(to, &format!("tar {options} {}", file.path().display()));
}

/// Unpacks the layer of the topmost `count` on those below, in both ways; both show what the chain shows.
fn round_trip(place: &Place, chain: &[Layer], count: usize, what: &str) {
    let wanted = seen(place, chain);
    let layer = tar(place, chain, count);
    assert_eq!(layer, tar(place, chain, count), "{what}: twice the same");
    let base = place.create(Home::Plain);
    if count < chain.len() {
        unpack(&tar(place, &chain[count..], chain.len() - count), &place.fs(&base), Unpack::Over);
        let upper = place.create(Home::Plain);
        unpack(&layer, &place.fs(&upper), Unpack::Upper);
        zoo::same(&seen(place, &[upper, base.clone()]), &wanted);
    }
    unpack(&layer, &place.fs(&base), Unpack::Over);
    let got = seen_in(&place.fs(&base));
    if got != wanted {
        eprintln!("{what}: {:#?}", names(&layer));
    }
    zoo::same(&got, &wanted);
}

#[test]
fn a_whole_tree_is_what_gnu_tar_unpacks() {
    for kind in ["ext4", "btrfs"] {
        let place = Place::new(kind, false);
        let one = place.create(Home::Plain);
        zoo::fill(&place.fs(&one));
        let deep = "d".repeat(200);
        sh(
            &place.fs(&one),
            &format!(
                "rm sparse; mkdir -p {deep}/{deep}; echo > {deep}/{deep}/f; ln {deep}/{deep}/f {deep}/g
                 ln -s {deep} deep; echo > rich; chown 3000000:4000000000 rich
                 setfattr -n trusted.long -v 0x$(printf '00ff0a%.0s' {{1..300}}) rich"
            ),
        );
        let tar = tar(&place, std::slice::from_ref(&one), 1);
        let out = place.create(Home::Plain);
        extract(&tar, &place.fs(&out));
        // A single layer has whiteouts too, of nothing: no mount shows them.
        sh(&place.fs(&one), "rm whiteout");
        zoo::same(&seen_in(&place.fs(&out)), &seen_in(&place.fs(&one)));
        assert!(!names(&tar).iter().any(|name| name.contains(".wh.") || name == "socket"));
    }
}

/// Counts what is written, and knows where the data came.
struct Watch {
    written: u64,
    data: u64,
}

impl std::io::Write for Watch {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written += bytes.len() as u64;
        if bytes.windows(4).next().is_some_and(|start| start == b"data")
            || bytes.len() > 5 && &bytes[1..5] == b"data"
        {
            self.data = self.written;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_large_file_has_its_holes_and_its_size() {
    let place = Place::new("xfs", false);
    let one = place.create(Home::Plain);
    sh(
        &place.fs(&one),
        "truncate -s 9G f; printf data | dd of=f bs=1 seek=8589934593 conv=notrunc status=none; truncate -s 1M hole",
    );
    let (mut watch, mut read) = (Watch { written: 0, data: 0 }, 0);
    let mut tell = |bytes| {
        read += bytes;
        Ok(())
    };
    place.layers.archive(&[one], 1, &mut watch, &mut tell).unwrap();
    // Two headers, a PAX header of two blocks for each, the files, the end.
    assert_eq!(watch.written, (9 << 30) + (1 << 20) + 6 * 512 + 1024);
    assert!(watch.data > 8 << 30 && read < 1 << 20, "{read}");
}

#[test]
fn what_is_deleted_or_replaced_is_marked_where_those_below_have_it() {
    let place = Place::new("ext4", true);
    let base = place.create(Home::Plain);
    sh(
        &place.fs(&base),
        "mkdir -p etc gone/deep swap kept/x again; echo 1 > etc/one; echo 2 > etc/two; ln etc/two etc/three
         echo > file; echo > swap/s; echo > kept/k; echo > again/a; echo > listens; echo > gone/g",
    );
    for home in [Home::Plain, Home::Pool] {
        let top = place.create(home);
        let chain = [top, base.clone()];
        let program =
            "rm etc/one; echo more >> etc/two; rm -r gone; rm -r swap; echo f > swap; rm file; mkdir file
            echo in > file/in; rm -r again; mkdir again; echo b > again/b; mkdir again/new; chmod 700 kept
            echo > never; rm never; mkfifo -m 600 fifo; ln fifo fifo2; mknod dev c 1 3
            rm listens; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('listens')\"\n";
        on_mount(&place, &chain, Access::Write, program);
        let names = names(&tar(&place, &chain, 1));
        let wanted = [
            "dev",
            "fifo",
            "fifo2",
            ".wh.gone",
            ".wh.listens",
            "swap",
            "again/",
            "again/.wh..wh..opq",
            "again/b",
            "again/new/",
            "etc/",
            "etc/.wh.one",
            "etc/two",
            "file/",
            "file/in",
            "kept/",
        ];
        assert_eq!(names, wanted);
        round_trip(&place, &chain, 1, "marks");
        round_trip(&place, &chain, 2, "whole");
    }
}

#[test]
fn layers_between_are_merged() {
    let place = Place::new("ext4", false);
    let mut chain = vec![place.create(Home::Plain)];
    for program in [
        "mkdir -p a/b c; echo 1 > a/b/one; echo 2 > c/two; echo 3 > three",
        "rm -r a; mkdir -p a/b; echo 4 > a/b/four; rm three; mkdir three; echo > three/in; echo x > hidden; ln hidden shown",
        "echo 5 > a/b/five; rm a/b/four; rm -r three; echo 6 > three; rm hidden; rm -r c",
    ] {
        chain.insert(0, place.create(Home::Plain));
        let layers = if chain.len() == 2 { &chain[..1] } else { &chain[..chain.len() - 1] };
        on_mount(&place, layers, Access::Write, program);
    }
    chain.pop();
    assert_eq!(
        names(&tar(&place, &chain, 2)),
        [".wh.c", "shown", "three", "a/", "a/.wh..wh..opq", "a/b/", "a/b/five"]
    );
    for count in 1..=chain.len() {
        round_trip(&place, &chain, count, "between");
    }
}

#[test]
fn random_trees_come_out_as_their_mounts_show_them() {
    for seed in 0..24 {
        let place = Place::new(if seed % 2 == 0 { "ext4" } else { "xfs" }, seed % 3 == 0);
        let mut chain = vec![place.create(Home::Plain)];
        change(&place, &chain, seed, 60);
        for below in 1..4 {
            let home = if below == 3 && seed % 3 == 0 { Home::Pool } else { Home::Plain };
            chain.insert(0, place.create(home));
            change(&place, &chain, seed * 10 + below, 30);
        }
        for count in 1..=chain.len() {
            round_trip(&place, &chain, count, &format!("seed {seed}, {count} of {}", chain.len()));
        }
    }
}

#[test]
fn what_no_layer_can_hold_is_refused_by_name() {
    let place = Place::new("ext4", false);
    for (script, said) in [
        ("echo > .wh.x", "\".wh.x\""),
        ("mkdir -p a/.wh..wh..opq", "\"a/.wh..wh..opq\""),
        ("echo > f; setfattr -n user.a=b -v c f", "user.a=b"),
    ] {
        let one = place.create(Home::Plain);
        sh(&place.fs(&one), script);
        let error = place.layers.archive(&[one], 1, &mut Vec::new(), &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::FailedPrecondition, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn it_ends_when_it_is_told_to() {
    let place = Place::new("ext4", false);
    let one = place.create(Home::Plain);
    sh(&place.fs(&one), "head -c 3000000 /dev/zero > f");
    let mut told = 0;
    let mut tell = |bytes| {
        told += bytes;
        if told > 1 << 20 { Err(Error::Busy("a test".into())) } else { Ok(()) }
    };
    let mut tar = Vec::new();
    let error = place.layers.archive(&[one], 1, &mut tar, &mut tell).unwrap_err();
    assert!(matches!(error, Error::Busy(_)) && tar.len() < 2 << 20);
}
