//! A registry: Debian's docker-registry, on the test's own loopback.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use super::process::Daemon;

/// A registry that keeps what it is given in a directory. Dropped, it is killed.
#[derive(Debug)]
pub struct Registry {
    /// What the names of its images begin with.
    pub address: String,
    daemon: Daemon,
}

impl Registry {
    /// Starts one whose files are in `dir`.
    ///
    /// # Panics
    /// With its log, where it does not get ready.
    pub fn start(dir: &Path) -> Registry {
        let address = "localhost:5000".to_owned();
        let storage = dir.join("registry");
        fs::create_dir_all(&storage).unwrap();
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:5000\n",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let args = ["serve".to_owned(), config.to_str().unwrap().to_owned()];
        let log = dir.join("registry.log");
        let mut daemon = Daemon::start(Path::new("/usr/bin/docker-registry"), &args, &[], &log);
        daemon.wait_ready(|| TcpStream::connect("127.0.0.1:5000").is_ok());
        Registry { address, daemon }
    }
}
