//! One configuration: the file, then the environment, then flags; what comes later wins.
//!
//! A key that is misspelt, a version that is another one's and a path that depends on where the daemon
//! was started are refused with the place they stand at: a daemon that starts with half of what was
//! asked would keep its snapshots somewhere else.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bytes::Bytes;
use crate::error::{Error, Result};

/// The file that is read where no other is named. It may be missing.
pub const DEFAULT_FILE: &str = "/etc/loom/config.toml";

/// The version of the file's format.
const VERSION: u32 = 1;

/// The environment's name for [`Config::root`].
const ROOT_VARIABLE: &str = "LOOM_DATA_DIR";

/// What the daemon is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The version of the file's format: 1.
    pub version: u32,
    /// The directory of the database and of plain layers; absolute.
    pub root: PathBuf,
    /// The directory of the sockets; absolute.
    pub state: PathBuf,
    /// Where pool layers lie.
    pub pool: Pool,
    /// The containerd that loom serves.
    pub containerd: Containerd,
    /// Limits of the label that forks on Prepare.
    pub fork_label: ForkLabel,
    /// How deep layers lie on each other.
    pub flat: Flat,
    /// What containers may write.
    pub limit: Limit,
    /// What is logged.
    pub log: Log,
}

/// Where pool layers lie.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// A directory on a btrfs that is not the root's filesystem; absolute. None: the pool is what `loom pool create`
    /// made, if it did.
    pub path: Option<PathBuf>,
    /// Where there is no pool yet, a start makes an image of this size. None: it makes none.
    pub size: Option<PoolSize>,
    /// What a pool's image leaves of its host's filesystem. None: 1 GiB, or a tenth of that filesystem where that is
    /// less.
    pub reserve: Option<Bytes>,
}

/// How large a pool's image may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolSize {
    /// A fifth of what is free on the root's filesystem, 5 to 30 GiB.
    Auto,
    /// So many bytes.
    Bytes(Bytes),
}

impl Serialize for PoolSize {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Bytes(bytes) => bytes.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for PoolSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        match String::deserialize(from)?.as_str() {
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::Bytes).map_err(|why| {
                serde::de::Error::custom(format!("the size of a pool is `auto`, or in bytes: {why}"))
            }),
        }
    }
}

/// The containerd that loom serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containerd {
    /// Its gRPC socket; absolute.
    pub address: PathBuf,
}

/// Limits of the label that forks on Prepare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForkLabel {
    /// containerd's namespaces in which it is refused.
    pub deny: Vec<String>,
}

/// How deep layers lie on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flat {
    /// Plain layers of loom's own on each other before neighbours become one, in the background.
    pub depth: u8,
}

/// What containers may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// The most that may be written to a container's layer, where nothing else is said. None: what its filesystem has.
    pub default: Option<Bytes>,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least that is.
    pub level: Level,
}

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    #[default]
    Warn,
    /// What the daemon does.
    Info,
    /// How it does it.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|level| level.to_string() == text).ok_or_else(|| {
            Error::invalid(format!("log level {text:?}"), "it is one of error, warn, info, debug, trace")
        })
    }
}

/// What the command line says; None leaves a value as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--log-level`.
    pub log_level: Option<Level>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: VERSION,
            root: "/var/lib/loom".into(),
            state: "/run/loom".into(),
            pool: Pool::default(),
            containerd: Containerd::default(),
            fork_label: ForkLabel::default(),
            flat: Flat::default(),
            limit: Limit::default(),
            log: Log::default(),
        }
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Self { address: "/run/containerd/containerd.sock".into() }
    }
}

impl Default for Flat {
    fn default() -> Self {
        // A mount looks a name up in each layer until one has it.
        Self { depth: 16 }
    }
}

impl Default for ForkLabel {
    fn default() -> Self {
        // Whoever may run a pod names its image, and an image carries labels to Prepare.
        Self { deny: vec!["k8s.io".into()] }
    }
}

impl Config {
    /// Reads `file`, or [`DEFAULT_FILE`] where none is named and it exists, then the environment through
    /// `env`, then takes the command line's `flags`.
    pub fn load(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
        flags: Overrides,
    ) -> Result<Self> {
        let mut config = match file {
            Some(file) => Self::read(file)?
                .ok_or_else(|| Error::Config(format!("configuration {} does not exist", file.display())))?,
            None => Self::read(Path::new(DEFAULT_FILE))?.unwrap_or_default(),
        };
        // An empty variable is how a shell or a unit file unsets one.
        if let Some(root) = env(ROOT_VARIABLE).filter(|root| !root.is_empty()) {
            config.root = absolute(ROOT_VARIABLE, root.into())?;
        }
        if let Some(root) = flags.root {
            config.root = absolute("--root", root)?;
        }
        if let Some(state) = flags.state {
            config.state = absolute("--state", state)?;
        }
        if let Some(level) = flags.log_level {
            config.log.level = level;
        }
        Ok(config)
    }

    /// The file's configuration; None where there is no such file.
    fn read(file: &Path) -> Result<Option<Self>> {
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::Config(format!("configuration {}: {e}", file.display()))),
        }
    }

    fn parse(text: &str, file: &Path) -> Result<Self> {
        /// The version alone: a later format may have keys that this one does not know.
        #[derive(Deserialize)]
        struct Head {
            version: Option<i64>,
        }

        let wrong = |e: toml::de::Error| {
            let line =
                e.span().and_then(|span| text.get(..span.start)).map_or(1, |t| t.matches('\n').count() + 1);
            Error::Config(format!("configuration {}, line {line}: {}", file.display(), e.message()))
        };
        match toml::from_str::<Head>(text).map_err(wrong)?.version {
            Some(version) if version == i64::from(VERSION) => {}
            Some(version) => {
                return Err(Error::Config(format!(
                    "configuration {} is of version {version}, and this loom reads version {VERSION}; \
                     compare it with `loomd config default`",
                    file.display()
                )));
            }
            None => {
                return Err(Error::Config(format!(
                    "configuration {} does not say its version; put `version = {VERSION}` on its first line",
                    file.display()
                )));
            }
        }
        let config: Self = toml::from_str(text).map_err(wrong)?;
        if config.limit.default == Some(Bytes(0)) {
            return Err(Error::Config(format!(
                "configuration {}: limit.default is nothing; leave it out for no limit",
                file.display()
            )));
        }
        if config.pool.path.is_some() && config.pool.size.is_some() {
            return Err(Error::Config(format!(
                "configuration {}: pool.path names a pool and pool.size asks for another; keep one of them",
                file.display()
            )));
        }
        for (key, path) in [
            ("root", Some(&config.root)),
            ("state", Some(&config.state)),
            ("pool.path", config.pool.path.as_ref()),
            ("containerd.address", Some(&config.containerd.address)),
        ] {
            if let Some(path) = path {
                absolute(&format!("configuration {}: {key}", file.display()), path.clone())?;
            }
        }
        Ok(config)
    }

    /// The defaults as a file with a comment for each key.
    pub fn default_toml() -> &'static str {
        include_str!("config.default.toml")
    }

    /// This configuration as a file.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::Config(format!("the configuration cannot be written as TOML: {e}")))
    }
}

/// The path where it is absolute; `what` says where it comes from.
fn absolute(what: &str, path: PathBuf) -> Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path);
    }
    let path = path.display();
    Err(Error::Config(format!("{what} is \"{path}\", and must be an absolute path: one that begins with /")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn no_env(_: &str) -> Option<OsString> {
        None
    }

    /// Loads a file of this text.
    fn load(text: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), no_env, Overrides::default())
    }

    #[test]
    fn the_default_file_says_the_defaults() {
        assert_eq!(load(Config::default_toml()).unwrap(), Config::default());
        // Every key is in it, the optional one as a comment.
        let mut every = Config::default();
        every.limit.default = Some(Bytes(10 << 30));
        every.pool.reserve = Some(Bytes(1 << 30));
        every.pool.size = Some(PoolSize::Auto);
        let uncommented = Config::default_toml().replace("# reserve =", "reserve =");
        let uncommented = uncommented.replace("# default =", "default =");
        assert_eq!(load(&uncommented.replace("# size =", "size =")).unwrap(), every);
        (every.pool.size, every.pool.path) = (None, Some("/srv/loom-pool".into()));
        let uncommented = uncommented.replace("# path =", "path =");
        assert_eq!(load(&uncommented).unwrap(), every);
        // Of these two only one can be there.
        every.pool.size = Some(PoolSize::Auto);
        let uncommented = uncommented.replace("# size =", "size =");
        let keys = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
        assert_eq!(keys(&uncommented), keys(&every.to_toml().unwrap()));
    }

    #[test]
    fn what_is_written_reads_back() {
        let config = Config {
            root: "/data/größe \"x\"".into(),
            state: "/run/other".into(),
            pool: Pool {
                path: None,
                size: Some(PoolSize::Bytes(Bytes(50 << 30))),
                reserve: Some(Bytes(1 << 20)),
            },
            containerd: Containerd { address: "/run/k3s/containerd.sock".into() },
            fork_label: ForkLabel { deny: Vec::new() },
            limit: Limit { default: Some(Bytes(3 << 29)) },
            log: Log { level: Level::Trace },
            ..Config::default()
        };
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        assert_eq!(load(&Config::default().to_toml().unwrap()).unwrap(), Config::default());
    }

    #[test]
    fn what_comes_later_wins() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "version = 1\nroot = \"/file\"\nstate = \"/file\"\n[log]\nlevel = \"info\"\n",
        )
        .unwrap();
        let env = |name: &str| (name == "LOOM_DATA_DIR").then(|| "/env".into());
        let load = |env: &dyn Fn(&str) -> Option<OsString>, flags| {
            Config::load(Some(file.path()), env, flags).unwrap()
        };

        let config = load(&no_env, Overrides::default());
        assert_eq!((config.root, config.log.level), ("/file".into(), Level::Info));
        // What the file does not say is the default.
        assert_eq!(config.containerd, Containerd::default());
        assert_eq!(load(&env, Overrides::default()).root, Path::new("/env"));
        assert_eq!(load(&|_| Some(OsString::new()), Overrides::default()).root, Path::new("/file"));
        let flags = Overrides {
            root: Some("/flag".into()),
            state: Some("/flag-state".into()),
            log_level: Some(Level::Debug),
        };
        let config = load(&env, flags);
        assert_eq!(config.root, Path::new("/flag"));
        assert_eq!(config.state, Path::new("/flag-state"));
        assert_eq!(config.log.level, Level::Debug);
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_with_its_place() {
        for (text, words) in [
            ("version = 1\nrot = \"/x\"\n", &["line 2", "`rot`"][..]),
            ("version = 1\n\n[log]\nlevel = \"info\"\ncolour = 1\n", &["line 5", "`colour`"]),
            ("version = 1\n[http]\naddress = \"x\"\n", &["line 2", "`http`"]),
            ("version = 1\n[log]\nlevel = \"loud\"\n", &["line 3", "`loud`", "`warn`"]),
            ("version = 1\nroot = 7\n", &["line 2"]),
            ("version = 1\nroot =\n", &["line 2"]),
            ("version = 1\nroot = \"/a\"\nroot = \"/b\"\n", &["line 3"]),
            ("version = \"1\"\n", &["line 1"]),
            ("version = 2\nnew = true\n", &["version 2", "reads version 1"]),
            ("version = 0\n", &["version 0"]),
            ("", &["`version = 1`"]),
            ("root = \"/x\"\n", &["`version = 1`"]),
            ("version = 1\nroot = \"x\"\n", &["root is \"x\"", "absolute"]),
            ("version = 1\nroot = \"\"\n", &["root is \"\"", "absolute"]),
            ("version = 1\nstate = \"./x\"\n", &["state is", "absolute"]),
            ("version = 1\n[pool]\npath = \"x\"\n", &["pool.path is", "absolute"]),
            ("version = 1\n[limit]\ndefault = \"0\"\n", &["limit.default"]),
            ("version = 1\n[limit]\ndefault = \"much\"\n", &["line 3", "512M"]),
            ("version = 1\n[pool]\npath = \"/x\"\nsize = \"auto\"\n", &["pool.path", "pool.size"]),
            ("version = 1\n[pool]\nsize = \"much\"\n", &["line 3", "`auto`", "512M"]),
            ("version = 1\n[pool]\nreserve = 7\n", &["line 3"]),
            ("version = 1\n[containerd]\naddress = \"x\"\n", &["containerd.address is", "absolute"]),
        ] {
            let error = load(text).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            for word in words.iter().chain([&"configuration /"]) {
                assert!(error.to_string().contains(word), "{text:?}: {error} lacks {word}");
            }
        }
    }

    #[test]
    fn relative_paths_are_refused_wherever_they_come_from() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "version = 1").unwrap();
        let load = |env: &dyn Fn(&str) -> Option<OsString>, flags| {
            Config::load(Some(file.path()), env, flags).unwrap_err().to_string()
        };
        assert!(load(&|_| Some("x".into()), Overrides::default()).contains("LOOM_DATA_DIR is \"x\""));
        let root = Overrides { root: Some("x".into()), ..Overrides::default() };
        assert!(load(&no_env, root).contains("--root is \"x\""));
        let state = Overrides { state: Some("x".into()), ..Overrides::default() };
        assert!(load(&no_env, state).contains("--state is \"x\""));
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none.toml");
        let error = Config::load(Some(&missing), no_env, Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("none.toml does not exist"), "{error}");
        assert_eq!(Config::read(&missing).unwrap(), None);
        // What is there and cannot be read is not missing.
        let error = Config::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
        std::fs::write(&missing, [0xff, 0xfe]).unwrap();
        assert!(Config::read(&missing).is_err());
    }

    #[test]
    fn levels_read_as_they_are_written() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
        }
        assert!("WARN".parse::<Level>().unwrap_err().to_string().contains("error, warn, info"));
    }
}
