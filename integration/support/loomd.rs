//! A loomd of the test's own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::layout::Place;
use super::process::Daemon;

/// loomd on a place. It can be stopped, killed and started again; dropped, it is killed.
#[derive(Debug)]
pub struct Loomd {
    /// Where its sockets are.
    pub state: PathBuf,
    config: PathBuf,
    log: PathBuf,
    root: PathBuf,
    env: Vec<(String, String)>,
    daemon: Option<Daemon>,
}

impl Loomd {
    /// Describes a loomd on `place` with its sockets, configuration and log in `dir`, which serves the
    /// containerd at `containerd`. It is not started yet.
    pub fn new(dir: &Path, place: &Place, containerd: &Path) -> Loomd {
        let state = dir.join("loom");
        fs::create_dir_all(&state).unwrap();
        let mut text = String::from("version = 1\n");
        if let Some(pool) = &place.pool {
            text += &format!("\n[pool]\npath = {:?}\n", pool.to_str().unwrap());
        }
        text += &format!("\n[containerd]\naddress = {:?}\n", containerd.to_str().unwrap());
        let config = dir.join("loom.toml");
        fs::write(&config, text).unwrap();
        Loomd {
            state,
            config,
            log: dir.join("loomd.log"),
            root: place.root.clone(),
            env: vec![("LOOM_HTTP_ADDR".into(), "off".into()), ("RUST_BACKTRACE".into(), "1".into())],
            daemon: None,
        }
    }

    /// Sets a variable for its environment, from the next start on.
    pub fn env(&mut self, name: &str, value: impl Into<String>) -> &mut Loomd {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// Takes a variable out of its environment, from the next start on.
    pub fn env_remove(&mut self, name: &str) -> &mut Loomd {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// Adds lines to its configuration, such as a section of their own, from the next start on.
    pub fn configure(&mut self, lines: &str) -> &mut Loomd {
        let text = fs::read_to_string(&self.config).unwrap();
        fs::write(&self.config, text + "\n" + lines + "\n").unwrap();
        self
    }

    /// Takes lines out of it that were added.
    pub fn deconfigure(&mut self, lines: &str) -> &mut Loomd {
        let text = fs::read_to_string(&self.config).unwrap();
        fs::write(&self.config, text.replace(lines, "")).unwrap();
        self
    }

    /// Makes it fail or die at a fault point, from the next start on: "POINT:abort".
    ///
    /// # Panics
    /// Where loomd is built without fault points.
    pub fn fail_at(&mut self, fault: &str) {
        let built = cfg!(feature = "fault-points");
        assert!(built, "a loomd with fault points is needed: build with --all-features");
        self.env("LOOM_FAULT", fault);
    }

    /// Ends that, from the next start on.
    pub fn fail_nowhere(&mut self) {
        self.env_remove("LOOM_FAULT");
    }

    /// Its gRPC socket.
    pub fn socket(&self) -> PathBuf {
        self.state.join("loom.sock")
    }

    /// Its ttrpc socket: what `loom --address` is given.
    pub fn ttrpc_socket(&self) -> PathBuf {
        self.state.join("loom.sock.ttrpc")
    }

    /// Starts it without waiting for it.
    pub fn spawn(&mut self) -> &mut Daemon {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let args = [
            "--config".to_owned(),
            text(&self.config),
            "--root".to_owned(),
            text(&self.root),
            "--state".to_owned(),
            text(&self.state),
        ];
        let program = Path::new(env!("CARGO_BIN_EXE_loomd"));
        self.daemon.insert(Daemon::start(program, &args, &self.env, &self.log))
    }

    /// Starts it and waits until it accepts connections on both sockets.
    ///
    /// # Panics
    /// With its log, where it does not get there.
    pub fn start(&mut self) {
        let sockets = [self.socket(), self.ttrpc_socket()];
        self.spawn().wait_ready(|| sockets.iter().all(|socket| UnixStream::connect(socket).is_ok()));
    }

    /// Stops it by SIGTERM.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.daemon.as_mut().and_then(Daemon::terminate)
    }

    /// Kills it as the kernel's `kill -9` does.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        self.daemon.as_mut().and_then(Daemon::kill)
    }

    /// Stops it by SIGTERM and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// The process.
    ///
    /// # Panics
    /// Where it was not started.
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("loomd was started")
    }

    /// All that it wrote, over all starts.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
