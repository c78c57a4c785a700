//! Every kind of file, made in the tree of a running container.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps};

use super::process::run;

/// More than there is room for, so that whoever writes out its holes fails.
pub const SPARSE: u64 = 10 << 30;
/// So much that whoever reads its holes is still at it at the deadline.
pub const HUGE: u64 = 8 << 40;

/// Makes one of everything in the directory `dir` of a container's root.
///
/// # Panics
/// Where the filesystem refuses one of them.
pub fn make_all(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let at = |name: &str| dir.join(name);
    fs::write(at("file"), "content").unwrap();
    links(&at);
    special_files(&at);
    modes_and_owners(&at);
    attributes(&at);
    holes(&at);
    names(dir);
    times(&at);
    fs::create_dir_all(at("empty/within/within")).unwrap();
}

fn links(at: &dyn Fn(&str) -> PathBuf) {
    fs::create_dir_all(at("other/directory")).unwrap();
    fs::hard_link(at("file"), at("second name")).unwrap();
    fs::hard_link(at("file"), at("other/directory/third name")).unwrap();
    let targets = [
        ("to-file", "file"),
        ("dangling", "/nowhere/at/all"),
        ("out", "../../../../../.."),
        ("loop", "loop"),
    ];
    for (name, target) in targets {
        symlink(target, at(name)).unwrap();
    }
    symlink("x/".repeat(500), at("long")).unwrap();
    symlink(OsString::from_vec(b"\xff\n\xfe".to_vec()), at("odd")).unwrap();
    fs::hard_link(at("to-file"), at("to-file, again")).unwrap();
}

fn special_files(at: &dyn Fn(&str) -> PathBuf) {
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    make("fifo", FileType::Fifo, 0);
    make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    make("tty", FileType::CharacterDevice, rustix::fs::makedev(511, 200_000));
    make("disk", FileType::BlockDevice, rustix::fs::makedev(7, 200));
    drop(UnixListener::bind(at("socket")).unwrap());
    for name in ["fifo", "null", "socket"] {
        fs::hard_link(at(name), at(&format!("{name}, again"))).unwrap();
    }
}

fn modes_and_owners(at: &dyn Fn(&str) -> PathBuf) {
    for (number, mode) in [0o0, 0o4755, 0o2755, 0o6711, 0o1777, 0o7777, 0o444].into_iter().enumerate() {
        for (kind, path) in [("file", at(&format!("file-{mode:o}"))), ("dir", at(&format!("dir-{mode:o}")))] {
            if kind == "file" {
                fs::write(&path, mode.to_string()).unwrap();
            } else {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("within"), "").unwrap();
            }
            // The owner first: a new one takes setuid away.
            let owner = u32::try_from(number).unwrap() * 1000;
            std::os::unix::fs::chown(&path, Some(owner), Some(owner + 1)).unwrap();
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).unwrap();
        }
    }
    std::os::unix::fs::lchown(at("to-file"), Some(4_294_967_294), Some(65_534)).unwrap();
}

fn attributes(at: &dyn Fn(&str) -> PathBuf) {
    let (file, dir) = (at("attributes"), at("directory with attributes"));
    fs::write(&file, "").unwrap();
    fs::create_dir(&dir).unwrap();
    for path in [&file, &dir] {
        xattr::set(path, "user.text", b"value").unwrap();
        xattr::set(path, "user.empty", b"").unwrap();
        xattr::set(path, "user.binary", &[0, 255, 10, 0]).unwrap();
        xattr::set(path, "user.long", &[b'x'; 2000]).unwrap();
        xattr::set(path, "trusted.text", b"root's").unwrap();
    }
    // What looks like overlay's own is the container's: the kernel gives it another name below.
    xattr::set(&dir, "trusted.overlay.opaque", b"y").unwrap();
    xattr::set(at("dangling"), "trusted.of.link", b"of the link itself").unwrap();
    xattr::set(at("fifo"), "trusted.of.fifo", b"of a fifo").unwrap();
    xattr::set(at("null"), "trusted.of.device", b"of a device").unwrap();
    fs::copy("/bin/true", at("capable")).unwrap();
    run("setcap", &[OsStr::new("cap_net_raw,cap_sys_admin=ep"), at("capable").as_os_str()]);
    let acl = |args: &[&str], path: &Path| {
        let mut args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        args.push(path.as_os_str());
        run("setfacl", &args);
    };
    acl(&["-m", "u:1234:rwx,g:4321:r,m:rx"], &file);
    acl(&["-m", "u:1234:rwx"], &dir);
    acl(&["-d", "-m", "u:77:rw,g:88:---,o::-"], &dir);
    fs::write(dir.join("inherits"), "").unwrap();
    fs::create_dir(dir.join("inherits too")).unwrap();
}

fn holes(at: &dyn Fn(&str) -> PathBuf) {
    let file = |name: &str, size, data: &[u64]| holey(&at(name), size, data);
    file("all hole", 1 << 20, &[]);
    file("odd hole", 123_457, &[8192]);
    file("hole at the end", 1 << 20, &[0, 4096]);
    file("hole at the start", (1 << 20) + 4096, &[1 << 20]);
    fs::write(at("zeros"), [0; 10_000]).unwrap();
    run("fallocate", &[OsStr::new("-l"), OsStr::new("1M"), at("allocated").as_os_str()]);
}

/// Makes holes that nobody can read or write as zeros in the directory of everything.
///
/// # Panics
/// Where the filesystem refuses them.
pub fn huge_holes(dir: &Path) {
    holey(&dir.join("sparse"), SPARSE, &[0, 5 << 30, SPARSE - 4096]);
    holey(&dir.join("huge"), HUGE, &[HUGE / 3 / 4096 * 4096, HUGE - 4096]);
}

/// A file of `size` bytes that has 4 KiB at each place, and holes elsewhere.
fn holey(path: &Path, size: u64, places: &[u64]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for place in places {
        file.write_all_at(&[b'd'; 4096], *place).unwrap();
    }
}

fn names(dir: &Path) {
    let all = [
        vec![b'n'; 255],
        b"\xff\xfe not utf-8 \x80".to_vec(),
        b"line\nbreak".to_vec(),
        b"\x01\x7f\x1b[31m".to_vec(),
        b"\\ \" ' $(x) `y` *?[".to_vec(),
        b"-rf".to_vec(),
        b" ".to_vec(),
        b"...".to_vec(),
        b".wh.name".to_vec(),
        "\u{1f9f5} \u{e9} e\u{301}".as_bytes().to_vec(),
    ];
    for name in all {
        fs::write(dir.join(OsString::from_vec(name)), "").unwrap();
    }
    // Nearly as deep as a path can name.
    let mut within = rustix::fs::open(dir, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    let name = "d".repeat(255);
    for _ in 0..14 {
        rustix::fs::mkdirat(&within, &name, Mode::RWXU).unwrap();
        within = rustix::fs::openat(&within, &name, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    }
}

fn times(at: &dyn Fn(&str) -> PathBuf) {
    // 1901 to 2446 is what ext4 can hold, the narrowest of them.
    let all = [
        ("1930", -1_262_304_000, 123_456_789),
        ("just before 1970", -1, 999_999_999),
        ("1970", 0, 0),
        ("now", 1_700_000_000, 1),
        ("2038", 2_147_483_648, 999_999_999),
        ("2400", 13_569_465_600, 987_654_321),
    ];
    for (name, seconds, nanoseconds) in all {
        let path = at(name);
        fs::create_dir(&path).unwrap();
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mtime(), seconds, "{name}");
        symlink("x", at(&format!("link of {name}"))).unwrap();
        let link = at(&format!("link of {name}"));
        rustix::fs::utimensat(CWD, &link, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Changes, deletes and replaces what came with Debian's image.
///
/// # Panics
/// Where it is another image's.
pub fn change_image(root: &Path) {
    let at = |path: &str| root.join(path);
    fs::remove_file(at("srv/odd/first")).unwrap(); // One of three hard links.
    fs::remove_file(at("srv/odd/null")).unwrap();
    fs::remove_dir_all(at("srv/many/1")).unwrap();
    fs::remove_dir_all(at("srv/many/2")).unwrap();
    fs::create_dir(at("srv/many/2")).unwrap(); // Opaque.
    fs::write(at("srv/many/2/only"), "").unwrap();
    fs::remove_dir_all(at("srv/many/3")).unwrap();
    fs::write(at("srv/many/3"), "a file now").unwrap();
    fs::remove_file(at("srv/many/4/4")).unwrap();
    fs::create_dir(at("srv/many/4/4")).unwrap();
    fs::rename(at("srv/many/5/5"), at("srv/many/6/moved")).unwrap();
    fs::remove_dir(at("usr/share/common-licenses")).unwrap_err();
    fs::remove_dir_all(at("usr/share/common-licenses")).unwrap(); // Opaque in the image.
    fs::create_dir(at("usr/share/common-licenses")).unwrap();
    rustix::fs::chmod(at("srv/odd/second"), Mode::from_raw_mode(0o604)).unwrap();
    fs::hard_link(at("srv/odd/xattr"), at("srv/odd/xattr, again")).unwrap();
    fs::write(at("etc/motd"), "changed in the container\n").unwrap();
    rustix::fs::chmod(at("tmp"), Mode::from_raw_mode(0o1770)).unwrap();
    // The root itself.
    rustix::fs::chmod(root, Mode::from_raw_mode(0o1711)).unwrap();
    xattr::set(root.join("."), "user.of.root", b"kept").unwrap();
    run("setfacl", &[OsStr::new("-dm"), OsStr::new("u:5:rwx"), root.join(".").as_os_str()]);
}
