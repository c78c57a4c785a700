//! A stand-in until the configuration room is merged.

use std::path::{Path, PathBuf};

use crate::error::Result;

/// The configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The format.
    pub version: u32,
    /// Where everything lies.
    pub root: PathBuf,
    /// Where the sockets are.
    pub state: PathBuf,
    /// The pool.
    pub pool: Pool,
    /// containerd.
    pub containerd: Containerd,
    /// The fork label.
    pub fork_label: ForkLabel,
    /// The log.
    pub log: Log,
}
/// The pool.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its directory.
    pub path: Option<PathBuf>,
}
/// containerd.
#[derive(Debug, Clone)]
pub struct Containerd {
    /// Its socket.
    pub address: String,
}
/// The fork label.
#[derive(Debug, Clone)]
pub struct ForkLabel {
    /// Where it is refused.
    pub deny: Vec<String>,
}
/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    /// How much.
    pub level: String,
}
/// Flags.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// --root
    pub root: Option<PathBuf>,
    /// --state
    pub state: Option<PathBuf>,
    /// --log-level
    pub log_level: Option<String>,
}
impl Config {
    /// Loads.
    pub fn load(_file: Option<&Path>, overrides: &Overrides) -> Result<Self> {
        Ok(Self {
            version: 1,
            root: overrides.root.clone().unwrap_or_else(|| "/var/lib/loom".into()),
            state: overrides.state.clone().unwrap_or_else(|| "/run/loom".into()),
            pool: Pool { path: None },
            containerd: Containerd { address: "/run/containerd/containerd.sock".into() },
            fork_label: ForkLabel { deny: vec!["k8s.io".into()] },
            log: Log { level: overrides.log_level.clone().unwrap_or_else(|| "warn".into()) },
        })
    }
    /// The default.
    pub fn default_toml() -> &'static str {
        ""
    }
    /// As TOML.
    pub fn to_toml(&self) -> String {
        String::new()
    }
}
