//! A directory for one test, with filesystem images in it, of which nothing stays.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::{finish, run};

/// A filesystem to put into an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    Ext4,
    /// With reflinks.
    Xfs,
    Btrfs,
}

/// A temporary directory. Dropped, it ends every process that holds it, undoes every mount in it or
/// of it, and goes.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Makes one in `$LOOM_TEST_WORK`, or in /var/tmp. The name is short, for the sake of sockets.
    pub fn new() -> Scratch {
        let base = std::env::var_os("LOOM_TEST_WORK").unwrap_or_else(|| "/var/tmp".into());
        let dir = tempfile::Builder::new().prefix("loom-").tempdir_in(base).unwrap().keep();
        Scratch { dir }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// A new directory in it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A new filesystem of `gib` GiB (sparse), mounted at the directory `name`.
    pub fn filesystem(&self, name: &str, filesystem: Filesystem, gib: u64) -> PathBuf {
        let image = self.dir.join(format!("{name}.img"));
        fs::File::create(&image).unwrap().set_len(gib << 30).unwrap();
        let mkfs: &[&str] = match filesystem {
            Filesystem::Ext4 => &["mkfs.ext4", "-q", "-F"],
            Filesystem::Xfs => &["mkfs.xfs", "-q", "-m", "reflink=1"],
            Filesystem::Btrfs => &["mkfs.btrfs", "-q"],
        };
        run(mkfs[0], &[&mkfs[1..], &[image.to_str().unwrap()]].concat());
        let place = self.dir(name);
        // mount's own loop device detaches itself with the last unmount; btrfs drops what was removed once so many seconds.
        let options = if matches!(filesystem, Filesystem::Btrfs) { "loop,commit=1" } else { "loop" };
        run("mount", &["-o", options, image.to_str().unwrap(), place.to_str().unwrap()]);
        place
    }

    /// The mounts of this namespace that lie in the directory, or show something of it.
    pub fn mounts(&self) -> Vec<PathBuf> {
        mounts_naming(&self.dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        delete_containers(&self.dir);
        loop {
            end_processes(&self.dir);
            for mount in mounts_naming(&self.dir).iter().rev() {
                // What is busy is tried again; at last it is detached.
                let flags = if Instant::now() < end { MntFlags::empty() } else { MntFlags::MNT_DETACH };
                let _ = umount2(mount, flags | MntFlags::UMOUNT_NOFOLLOW);
            }
            let left = mounts_naming(&self.dir);
            if left.is_empty() {
                break;
            }
            if Instant::now() > end + Duration::from_secs(5) {
                eprintln!("scratch: these mounts stay: {left:?}");
                return; // Removing now would remove what lies in them.
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::env::var_os("LOOM_TEST_KEEP").is_some() && std::thread::panicking() {
            eprintln!("scratch: {} is kept", self.dir.display());
            return;
        }
        // By rm: it also takes directories that are too deep, or have odd modes.
        let _ = Command::new("rm").args(["-rf", "--one-file-system"]).arg(&self.dir).status();
    }
}

/// Mount points of this namespace whose line names `dir`: mounts in it, and overlays and binds of it
/// anywhere. In the order in which they were made.
fn mounts_naming(dir: &Path) -> Vec<PathBuf> {
    mount_lines("self", dir).into_iter().map(|(place, _)| place).collect()
}

/// The mounts of process `pid` whose line names `dir`, as place and line.
pub fn mount_lines(pid: &str, dir: &Path) -> Vec<(PathBuf, String)> {
    let dir = dir.to_str().unwrap();
    let table = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    String::from_utf8_lossy(&table)
        .lines()
        .filter(|line| line.contains(dir))
        .filter_map(|line| {
            Some((PathBuf::from(line.split(' ').nth(4)?.replace("\\040", " ")), line.to_owned()))
        })
        .collect()
}

/// Lets runc end the containers whose bundle is in `dir`, with their cgroups and its own record of
/// them, which is not in `dir`.
fn delete_containers(dir: &Path) {
    for namespace in list(Path::new("/run/containerd/runc")) {
        for container in list(&namespace) {
            let state = fs::read(container.join("state.json")).unwrap_or_default();
            if String::from_utf8_lossy(&state).contains(dir.to_str().unwrap()) {
                let mut runc = Command::new("runc");
                runc.arg("--root").arg(&namespace).args(["delete", "--force"]);
                let _ = finish(runc.arg(container.file_name().unwrap()));
            }
        }
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Kills what has `dir` on its command line, is in it, has a file of it open or stands on it as its
/// root, with all that these started; never this process or one that it stems from.
fn end_processes(dir: &Path) {
    let mut spared = HashSet::new();
    let mut pid = std::process::id();
    while pid > 1 && spared.insert(pid) {
        pid = parent(pid).unwrap_or(1);
    }
    let pids: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid > 1 && !spared.contains(pid))
        .collect();
    let mut doomed: HashSet<u32> = pids.iter().copied().filter(|pid| holds(*pid, dir)).collect();
    // What a shim started is the container.
    loop {
        let before = doomed.len();
        for pid in &pids {
            if parent(*pid).is_some_and(|parent| doomed.contains(&parent)) {
                doomed.insert(*pid);
            }
        }
        if doomed.len() == before {
            break;
        }
    }
    for pid in doomed {
        let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses can hold anything; the parent is the second field behind it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn holds(pid: u32, dir: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let command = fs::read(proc.join("cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&command).contains(dir.to_str().unwrap()) {
        return true;
    }
    let in_dir = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(dir));
    ["cwd", "root", "exe"].iter().any(|link| in_dir(&proc.join(link)))
        || list(&proc.join("fd")).iter().any(|link| in_dir(link))
        || mount_lines(&pid.to_string(), dir).iter().any(|(place, _)| place == Path::new("/"))
}
