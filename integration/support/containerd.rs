//! A containerd of the test's own, with the ctr and the nerdctl that go with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::api::{Api, Task};
use super::process::{Daemon, finish, succeed};

/// Which containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Debian's: 1.6.
    Debian,
    /// The current 2.x, built by `integration/tools/fetch`.
    Current,
}

/// A containerd with its own root, state, socket and configuration, that knows loom as a proxy
/// plugin. Dropped, it is killed; its shims and containers are the [`super::scratch::Scratch`]'s.
#[derive(Debug)]
pub struct Containerd {
    /// Which one.
    pub version: Version,
    /// The snapshotter that the helpers use: "loom".
    pub snapshotter: String,
    /// The namespace that the helpers use: "default".
    pub namespace: String,
    dir: PathBuf,
    log: PathBuf,
    daemon: Option<Daemon>,
}

/// Where `integration/tools/fetch` puts what it builds.
pub fn tools() -> PathBuf {
    let dir = std::env::var_os("LOOM_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
    assert!(dir.join("nerdctl").exists(), "run integration/tools/fetch: nothing in {}", dir.display());
    dir
}

/// Its socket, where its files are in `dir`: known before it is made, since loomd is told of it.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("containerd/c.sock")
}

impl Containerd {
    /// Describes a containerd with its sockets, configuration and log in `dir`, its root at `root`
    /// and loom at `loom`. It is not started yet.
    pub fn new(version: Version, dir: &Path, root: &Path, loom: &Path) -> Containerd {
        let state = dir.join("containerd");
        for path in [state.as_path(), root, &dir.join("nerdctl"), &dir.join("cni")] {
            fs::create_dir_all(path).unwrap();
        }
        let quoted = |path: &Path| format!("{:?}", path.to_str().unwrap());
        // opt's default is a directory of the machine's.
        let mut text = format!(
            "version = {}\nroot = {}\nstate = {}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.nri.v1.nri\"]\n\n\
             [debug]\nlevel = \"warn\"\n\n\
             [grpc]\naddress = {}\n\n\
             [proxy_plugins.loom]\ntype = \"snapshot\"\naddress = {}\ncapabilities = [\"remap-ids\"]\n\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {}\n",
            if version == Version::Debian { 2 } else { 3 },
            quoted(root),
            quoted(&state),
            quoted(&socket(dir)),
            quoted(loom),
            quoted(&dir.join("opt")),
        );
        if version == Version::Current {
            // The transfer service unpacks only what is listed, and a list replaces its default.
            for snapshotter in ["overlayfs", "loom"] {
                text += &format!(
                    "\n[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n\
                     platform = \"linux/{}\"\nsnapshotter = \"{snapshotter}\"\n",
                    architecture()
                );
            }
        }
        fs::write(dir.join("containerd.toml"), text).unwrap();
        Containerd {
            version,
            snapshotter: "loom".into(),
            namespace: "default".into(),
            dir: dir.to_owned(),
            log: dir.join("containerd.log"),
            daemon: None,
        }
    }

    /// Before it is started: it collects only when it is asked to, not after so many changes.
    pub fn collect_when_asked(&self) {
        let path = self.dir.join("containerd.toml");
        let mut text = fs::read_to_string(&path).unwrap();
        text += "\n[plugins.\"io.containerd.gc.v1.scheduler\"]\nmutation_threshold = 0\n";
        fs::write(path, text).unwrap();
    }

    /// Before it is started: its configuration does not say that loom maps owners.
    pub fn knows_no_mapping(&self) {
        let path = self.dir.join("containerd.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("capabilities = [\"remap-ids\"]\n", "")).unwrap();
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// With its log, where it does not get there.
    pub fn start(&mut self) {
        let program = match self.version {
            Version::Debian => PathBuf::from("/usr/bin/containerd"),
            Version::Current => tools().join("containerd"),
        };
        let config = self.dir.join("containerd.toml").to_str().unwrap().to_owned();
        let env = [("PATH".to_owned(), self.path())];
        let mut daemon = Daemon::start(&program, &["--config".into(), config], &env, &self.log);
        daemon.wait_ready(|| self.api().answers());
        self.daemon = Some(daemon);
    }

    /// What it has, in the namespace.
    pub fn api(&self) -> Api {
        Api { socket: self.socket(), namespace: self.namespace.clone() }
    }

    /// Stops it by SIGTERM. Containers run on.
    pub fn stop(&mut self) {
        self.daemon.as_mut().and_then(Daemon::terminate);
    }

    /// Kills it. Containers run on.
    pub fn kill(&mut self) {
        self.daemon.as_mut().and_then(Daemon::kill);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn signal(&self, signal: Signal) {
        let pid = self.daemon.as_ref().expect("containerd was started").pid();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    /// Runs ctr in the namespace and returns what it printed.
    ///
    /// # Panics
    /// With all that it printed, where it fails.
    pub fn ctr(&self, args: &[&str]) -> String {
        succeed(&mut self.ctr_command(args))
    }

    /// Runs ctr in the namespace, however it ends.
    pub fn try_ctr(&self, args: &[&str]) -> Output {
        finish(&mut self.ctr_command(args))
    }

    /// The command for ctr in the namespace.
    pub fn ctr_command(&self, args: &[&str]) -> Command {
        let program = match self.version {
            Version::Debian => PathBuf::from("/usr/bin/ctr"),
            Version::Current => tools().join("ctr"),
        };
        let mut command = Command::new(program);
        command.env("PATH", self.path()).arg("--address").arg(self.socket());
        command.args(["--namespace", &self.namespace]).args(args);
        command
    }

    /// Runs nerdctl on loom in the namespace "default" and returns what it printed.
    ///
    /// # Panics
    /// With all that it printed, where it fails.
    pub fn nerdctl(&self, args: &[&str]) -> String {
        succeed(&mut self.nerdctl_command(&self.snapshotter, args))
    }

    /// Runs nerdctl on loom in the namespace "default", however it ends.
    pub fn try_nerdctl(&self, args: &[&str]) -> Output {
        finish(&mut self.nerdctl_command(&self.snapshotter, args))
    }

    /// The command for nerdctl on a snapshotter, in the namespace "default".
    pub fn nerdctl_command(&self, snapshotter: &str, args: &[&str]) -> Command {
        let mut command = Command::new(tools().join("nerdctl"));
        command
            .env("PATH", self.path())
            .env("NERDCTL_TOML", self.dir.join("nerdctl.toml")) // There is none: not the machine's.
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "default", "--snapshotter", snapshotter])
            .args(["--cgroup-manager", "cgroupfs", "--cni-path", "/usr/lib/cni"])
            .arg("--cni-netconfpath")
            .arg(self.dir.join("cni"))
            .arg("--data-root")
            .arg(self.dir.join("nerdctl"))
            .args(args);
        command
    }

    /// Imports an image and unpacks it on `snapshotter`.
    pub fn import(&self, snapshotter: &str, archive: &Path) {
        let archive = archive.to_str().unwrap();
        let mut args = vec!["images", "import", "--snapshotter", snapshotter];
        if self.version == Version::Current {
            args.push("--local"); // The other way does not unpack with every snapshotter.
        }
        args.push(archive);
        self.ctr(&args);
    }

    /// The process of a running container.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn pid_of(&self, container: &str) -> u32 {
        let tasks = self.tasks();
        let running = |task: &&Task| task.name == container && task.status == "RUNNING";
        tasks.iter().find(running).unwrap_or_else(|| panic!("{container} does not run: {tasks:?}")).pid
    }

    /// Ends containers, with their processes and snapshots.
    ///
    /// # Panics
    /// Where one cannot be removed.
    pub fn remove(&self, containers: &[&str]) {
        if !containers.is_empty() {
            // One that was never started has no task.
            self.try_ctr(&[&["tasks", "rm", "-f"], containers].concat());
            self.ctr(&[&["containers", "rm"], containers].concat());
        }
    }

    /// Ends all containers of the namespace, with their processes and snapshots.
    pub fn remove_all(&self) {
        self.remove(&self.containers().iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// What containerd says that a container's process does, such as "RUNNING"; None where it has none.
    pub fn status_of(&self, container: &str) -> Option<String> {
        self.tasks().into_iter().find(|task| task.name == container).map(|task| task.status)
    }

    /// Runs a command in a running container and returns what it printed.
    ///
    /// # Panics
    /// With all that it printed, where it fails.
    pub fn exec(&self, container: &str, command: &[&str]) -> String {
        // Names of processes are unique in a task, and tests exec at the same time.
        let id = format!("exec-{:08x}", rand());
        said(|to| {
            self.ctr(&[&["tasks", "exec", "--log-uri", to, "--exec-id", &id, container], command].concat());
        })
    }

    /// What a command says in a container of an image that goes when it ends.
    pub fn once(&self, image: &str, command: &[&str]) -> String {
        said(|to| {
            let run = ["run", "--rm", "--log-uri", to, "--snapshotter", &self.snapshotter, image, "once"];
            self.ctr(&[&run, command].concat());
        })
    }

    /// The names of the containers.
    pub fn containers(&self) -> Vec<String> {
        self.api().containers("").expect("containerd lists containers")
    }

    /// The names of the images.
    pub fn images(&self) -> Vec<String> {
        self.api().images().expect("containerd lists images")
    }

    /// The tasks.
    pub fn tasks(&self) -> Vec<Task> {
        self.api().tasks().expect("containerd lists tasks")
    }

    /// The keys of a snapshotter's snapshots.
    pub fn snapshots(&self, snapshotter: &str) -> Vec<String> {
        let all = self.api().snapshots(snapshotter).expect("containerd lists snapshots");
        all.into_iter().map(|snapshot| snapshot.key).collect()
    }

    /// The ids of the leases.
    pub fn leases(&self) -> Vec<String> {
        self.api().leases().expect("containerd lists leases")
    }

    /// Lets the collector run now. By itself it waits, after a run that was slow, for minutes.
    ///
    /// It looks only at snapshotters on which something was removed since it ran.
    pub fn collect(&self) {
        self.api().collect().expect("containerd's collector runs");
    }

    /// Mounts a snapshot as containerd would, at `place`.
    ///
    /// # Panics
    /// Where there is no such snapshot, or the mount fails.
    pub fn mount(&self, snapshotter: &str, key: &str, place: &Path) {
        fs::create_dir_all(place).unwrap();
        let place = place.to_str().unwrap();
        let command = self.ctr(&["snapshots", "--snapshotter", snapshotter, "mounts", place, key]);
        succeed(Command::new("sh").args(["-ec", &command]));
    }

    /// Its own programs come first, so that its shim is found.
    fn path(&self) -> String {
        let machine = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        match self.version {
            Version::Debian => machine.into(),
            Version::Current => format!("{}:{machine}", tools().display()),
        }
    }
}

/// Go's name for this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn rand() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}

/// What a process says that `run` has ctr wait for. The shim writes it where `run` is told, and all of it before
/// ctr ends; what goes through ctr itself, ctr may lose where the process ends at once.
fn said(run: impl FnOnce(&str)) -> String {
    let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    run(&format!("file://{}", file.path().display()));
    fs::read_to_string(file.path()).unwrap().trim_end_matches('\n').to_owned()
}
