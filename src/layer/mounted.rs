//! Which layers some process has mounted.
//!
//! The kernel lets a directory go that is an upper or lower of a live mount, so we have to look: at
//! the mount table of every mount namespace that a thread is in. A table names a layer by the options
//! of an overlay, as whoever mounted it wrote them (from the common parent directory, containerd
//! writes `12/fs`), and by the root of a bind. Ids are never used twice, so one match too many only
//! delays the reclaim.
//!
//! Of a container in a user namespace the lowers have no names: containerd mounts them in a temporary place under the
//! mapping, and that is gone when the container runs. A layer is younger than all that it was made on, so every
//! layer older than such an upper counts as mounted. One that has the place of others is as old as the oldest of those.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::area::parse;
use crate::error::{Error, Result};
use crate::store::{Home, LayerId};

/// What containerd calls the temporary places of lowers under a mapping.
const MAPPED: &str = "/ovl-idmapped";

/// A mount that names a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where the layer lies, or lay.
    pub home: Home,
    /// The layer.
    pub layer: LayerId,
    /// True where it is named in the trash.
    pub trashed: bool,
    /// What the layer is to it.
    pub role: Role,
    /// Its filesystem: two overlays have two.
    pub device: String,
    /// Where it is mounted.
    pub point: String,
    /// A process that has it.
    pub pid: u32,
}

/// What a layer is to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What an overlay writes to.
    Upper,
    /// What an overlay reads.
    Lower,
    /// It, or a part of it, is what is mounted.
    Bound,
}

/// The layers that mount tables name.
#[derive(Debug, Default)]
pub(super) struct Named {
    ids: HashSet<LayerId>,
    /// The youngest upper whose lowers have no names.
    upper: Option<LayerId>,
}

impl Named {
    /// True where a layer is mounted, as far as is known. `oldest` is asked for the oldest that it has the place of.
    pub(super) fn contains(&self, id: LayerId, oldest: impl FnOnce() -> Option<LayerId>) -> bool {
        let older = |upper| id < upper || oldest().is_some_and(|oldest| oldest < upper);
        self.ids.contains(&id) || self.upper.is_some_and(older)
    }
}

/// Every layer that a mount table names.
pub(super) fn layers() -> Result<Named> {
    let mut found = Named::default();
    tables(|_, line| scan(line, &mut found))?;
    Ok(found)
}

/// True where a mount table has the tree `fs` of a layer as an overlay's upper, or bound. Another root may have a
/// mounted layer of the same id, and what asks here is refused for good: as an upper it is known by its path, `was`
/// if it was another when it could be mounted, bound by its place in its filesystem.
pub(super) fn to_write(fs: &Path, was: &Path) -> Result<bool> {
    let place = Place::of(fs)?;
    let mut found = false;
    tables(|_, line| found |= Line::parse(line).is_some_and(|line| line.writes(was, &place)))?;
    Ok(found)
}

/// Every mount that names a layer of these homes by its whole path, or is of a part of one, once for each mount
/// namespace that has it. Each home is where `layers/` lies.
pub(super) fn all(homes: &[(Home, &Path)]) -> Result<Vec<Mounted>> {
    let places = homes.iter().map(|(home, path)| Ok((*home, *path, Place::of(path)?)));
    let places = places.collect::<Result<Vec<_>>>()?;
    let mut all = Vec::new();
    tables(|pid, line| {
        let Some(line) = Line::parse(line) else { return };
        for (home, path, place) in &places {
            let mut add = |found: Option<(LayerId, bool)>, role| {
                let Some((layer, trashed)) = found else { return };
                let (device, point) = (line.device.clone(), line.point.clone());
                all.push(Mounted { home: *home, layer, trashed, role, device, point, pid });
            };
            for (option, named) in line.paths() {
                let role = match option {
                    "upperdir" => Role::Upper,
                    "lowerdir" | "lowerdir+" => Role::Lower,
                    _ => continue,
                };
                add(below(Path::new(named), path), role);
            }
            if line.device == place.device {
                add(below(Path::new(&line.root), &place.path), Role::Bound);
            }
        }
    })?;
    Ok(all)
}

/// True where a mount is of something below a path, or in it.
pub(super) fn touches(path: &Path) -> Result<bool> {
    let place = Place::of(path)?;
    let mut found = false;
    tables(|_, line| {
        found |= Line::parse(line).is_some_and(|line| {
            line.paths().any(|(_, named)| Path::new(named).starts_with(path))
                || Path::new(&line.point).starts_with(path)
                || (line.device == place.device && Path::new(&line.root).starts_with(&place.path))
        });
    })?;
    Ok(found)
}

/// The layer of a home in whose directory a path lies, and whether that is in the trash.
fn below(path: &Path, home: &Path) -> Option<(LayerId, bool)> {
    let mut parts = path.strip_prefix(home).ok()?.components().map(|part| part.as_os_str().to_str());
    let trashed = match parts.next()?? {
        "layers" => false,
        "trash" | "reclaim" => true,
        _ => return None,
    };
    Some((parse(parts.next()??)?, trashed))
}

/// Where a path lies, as mount tables tell of binds.
struct Place {
    /// The device of its filesystem. A stat would tell another one of a btrfs subvolume.
    device: String,
    /// Its path from where that filesystem begins.
    path: PathBuf,
}

impl Place {
    /// Of a path without links.
    fn of(path: &Path) -> Result<Self> {
        let flags = (AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID);
        let mount = rustix::fs::statx(CWD, path, flags.0, flags.1).map_err(Error::io("inspect", path))?;
        let table = fs::read("/proc/self/mountinfo").map_err(Error::io("read", "/proc/self/mountinfo"))?;
        let mut lines = table.split(|b| *b == b'\n').filter_map(Line::parse);
        let place = lines.find(|line| line.id == mount.stx_mnt_id).and_then(|line| line.place(path));
        place.ok_or_else(|| Error::Internal(format!("{} lies on no mount", path.display())))
    }
}

/// Hands every line of every mount table to `look`, with a process that has it.
fn tables(mut look: impl FnMut(u32, &[u8])) -> Result<()> {
    let mut seen: HashSet<OsString> = HashSet::new();
    let processes = fs::read_dir("/proc").map_err(Error::io("list", "/proc"))?;
    for process in processes {
        let process = process.map_err(Error::io("list", "/proc"))?;
        let Ok(pid) = process.file_name().to_string_lossy().parse() else { continue };
        // What is not there any more has no mounts.
        let Ok(threads) = fs::read_dir(process.path().join("task")) else { continue };
        for thread in threads.flatten() {
            namespace(&thread.path(), &mut seen, &mut |line| look(pid, line))?;
        }
    }
    Ok(())
}

/// Reads the table of a thread's namespace, unless another thread has shown it.
fn namespace(thread: &Path, seen: &mut HashSet<OsString>, look: &mut impl FnMut(&[u8])) -> Result<()> {
    let Ok(namespace) = fs::read_link(thread.join("ns/mnt")) else { return Ok(()) };
    if seen.contains(namespace.as_os_str()) {
        return Ok(());
    }
    let path = thread.join("mountinfo");
    match fs::read(&path) {
        Ok(table) => {
            seen.insert(namespace.into_os_string());
            table.split(|b| *b == b'\n').for_each(look);
            Ok(())
        }
        // It ended meanwhile; if others are in its namespace, one of them shows it.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(()),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

/// What a line of a mount table says.
struct Line {
    /// The mount's number in its namespace.
    id: u64,
    /// The device of its filesystem.
    device: String,
    /// The directory of its filesystem that is mounted.
    root: String,
    /// Where it is mounted.
    point: String,
    /// The options of an overlay; empty for every other type.
    options: String,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        // ID, parent, device, root, mount point, options, then optional fields up to a dash, then the
        // filesystem's type, its source and its own options.
        let id = std::str::from_utf8(fields.first()?).ok()?.parse().ok()?;
        let [device, root, point] =
            [unescape(fields.get(2)?), unescape(fields.get(3)?), unescape(fields.get(4)?)];
        let mut rest = fields.iter().skip(6).skip_while(|field| **field != b"-").skip(1);
        let overlay = rest.next().is_some_and(|kind| *kind == b"overlay");
        let options = rest.nth(1).filter(|_| overlay).map(|options| unescape(options));
        Some(Self { id, device, root, point, options: options.unwrap_or_default() })
    }

    /// The paths that its options name, each with the option.
    fn paths(&self) -> impl Iterator<Item = (&str, &str)> {
        let options = self.options.split(',').filter_map(|option| option.split_once('='));
        options.flat_map(|(name, paths)| paths.split(':').map(move |path| (name, path)))
    }

    /// The place of a path that lies on this mount.
    fn place(&self, path: &Path) -> Option<Place> {
        let within = path.strip_prefix(&self.point).ok()?;
        Some(Place { device: self.device.clone(), path: Path::new(&self.root).join(within) })
    }

    /// True where it is a mount of the tree `fs`, which lies at `place`, to write to, or one of a part of it.
    fn writes(&self, fs: &Path, place: &Place) -> bool {
        self.paths().any(|(name, path)| name == "upperdir" && Path::new(path) == fs)
            || (self.device == place.device && Path::new(&self.root).starts_with(&place.path))
    }
}

/// Adds the layers that one line of a mount table names.
fn scan(line: &[u8], found: &mut Named) {
    let Some(line) = Line::parse(line) else { return };
    found.ids.extend(whole(&line.root));
    found.ids.extend(line.paths().filter_map(|(_, path)| whole(path).or_else(|| relative(path))));
    if line.paths().any(|(name, path)| name.starts_with("lowerdir") && path.contains(MAPPED)) {
        let uppers = line.paths().filter(|(name, _)| *name == "upperdir");
        found.upper = uppers.filter_map(|(_, path)| whole(path)).chain(found.upper).max();
    }
}

/// The layer in whose directory an absolute path lies.
fn whole(path: &str) -> Option<LayerId> {
    let mut parts = path.split('/');
    while let Some(part) = parts.next() {
        if matches!(part, "layers" | "trash" | "reclaim")
            && let Some(id) = parts.clone().next().and_then(parse)
        {
            return Some(id);
        }
    }
    None
}

/// The layer of a name like `12/fs`.
fn relative(path: &str) -> Option<LayerId> {
    let (id, rest) = path.split_once('/')?;
    parse(id).filter(|_| matches!(rest, "fs" | "work"))
}

/// Undoes the octal escapes of a mount table. What is not UTF-8 cannot be a path of ours.
fn unescape(field: &[u8]) -> String {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = escaped {
            plain.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            plain.push(*first);
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ids(line: &str) -> Vec<i64> {
        let mut found = Named::default();
        scan(line.as_bytes(), &mut found);
        let mut ids: Vec<_> = found.ids.into_iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn an_overlay_names_all_its_layers() {
        let line = "50 30 0:45 / /run/c/rootfs rw shared:5 master:2 - overlay overlay \
                    rw,lowerdir=/r/layers/3/fs:/r/layers/2/fs,upperdir=/r\\040x/trash/4/fs,workdir=/r/layers/4/work";
        assert_eq!(ids(line), [2, 3, 4]);
    }

    #[test]
    fn relative_names_count_in_overlays_only() {
        let overlay = "50 30 0:45 / /x rw - overlay overlay rw,lowerdir=12/fs:layers/13/fs,upperdir=/a/14/fs";
        assert_eq!(ids(overlay), [12, 13]);
        assert!(ids("50 30 0:45 /12/fs /x rw - ext4 /dev/sda rw").is_empty());
    }

    #[test]
    fn lowers_under_a_mapping_are_whatever_is_older_than_the_upper() {
        let mut found = Named::default();
        for (upper, lower) in
            [(7, "/tmp/ovl-idmapped34/fs"), (5, "/run/x/ovl-idmapped9/0"), (9, "/r/layers/1/fs")]
        {
            let options =
                format!("rw,lowerdir={lower},upperdir=/r/layers/{upper}/fs,workdir=/r/layers/{upper}/work");
            scan(format!("50 30 0:45 / /x rw - overlay overlay {options}").as_bytes(), &mut found);
        }
        let mounted: Vec<i64> = (0..12).filter(|id| found.contains(LayerId(*id), || None)).collect();
        assert_eq!(mounted, [0, 1, 2, 3, 4, 5, 6, 7, 9]);
        // What has the place of others was there when the oldest of them was.
        let oldest = |id| move || Some(LayerId(id));
        assert!(found.contains(LayerId(30), oldest(4)) && !found.contains(LayerId(30), oldest(8)));
    }

    #[test]
    fn a_bind_is_known_by_its_root() {
        assert_eq!(ids("1 2 8:1 /var/lib/loom/layers/12/fs /x rw - ext4 /dev/sda1 rw"), [12]);
        assert_eq!(ids("1 2 8:1 /layers/7/fs/deep /x rw - btrfs /dev/loop0 rw,subvol=/layers/7"), [7]);
        assert_eq!(ids("1 2 8:1 /trash/9/fs//deleted /x rw - btrfs /dev/loop0 rw"), [9]);
    }

    #[test]
    fn what_is_written_to_is_known_by_its_place() {
        let fs = Path::new("/data/r/layers/4/fs");
        // The root lies behind a bind of another name.
        let lies = Line::parse(b"9 2 8:1 /srv/loom /data rw - ext4 /dev/sda1 rw").unwrap();
        let place = lies.place(fs).unwrap();
        assert_eq!(
            (place.device.as_str(), place.path.as_path()),
            ("8:1", Path::new("/srv/loom/r/layers/4/fs"))
        );
        assert!(lies.place(Path::new("/other/layers/4/fs")).is_none());
        let writes = |line: &str| Line::parse(line.as_bytes()).is_some_and(|line| line.writes(fs, &place));
        let upper = |path: &str| {
            writes(&format!(
                "5 3 0:45 / /x rw - overlay overlay rw,lowerdir=/data/r/layers/3/fs,upperdir={path}"
            ))
        };
        assert!(upper("/data/r/layers/4/fs"));
        assert!(!upper("/other/r/layers/4/fs") && !upper("/data/r/layers/3/fs"));
        let bind =
            |device: &str, root: &str| writes(&format!("1 2 {device} {root} /x rw - ext4 /dev/sda1 rw"));
        assert!(bind("8:1", "/srv/loom/r/layers/4/fs") && bind("8:1", "/srv/loom/r/layers/4/fs/deep"));
        assert!(!bind("8:2", "/srv/loom/r/layers/4/fs"), "another filesystem's");
        assert!(!bind("8:1", "/r/layers/4/fs") && !bind("8:1", "/srv/loom/r/layers/5/fs"), "another layer");
        assert!(!bind("8:1", "/"), "what it lies on");
        assert!(!writes(""));
    }

    #[test]
    fn other_lines_name_nothing() {
        for line in [
            "",
            "garbage",
            "1 2 8:1 / / rw - ext4 /dev/sda1 rw",
            "1 2 8:1 /layers/x/fs /x rw - ext4 /dev/sda1 rw",
            "1 2 8:1 /layers/012/fs /x rw - ext4 /dev/sda1 rw",
            "1 2 8:1 / /x rw - overlay",
            "1 2 0:4 / /x rw - tmpfs layers/5/fs rw,lowerdir=/r/layers/3/fs",
        ] {
            assert!(ids(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(b"a\\040b\\134c\\"), "a b\\c\\");
        assert_eq!(unescape(b"\\9zz\\777"), "\\9zz\\777");
    }
}
