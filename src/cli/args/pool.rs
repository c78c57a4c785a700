//! The verbs about the pool.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueHint};

use super::{bytes, help, reference};

/// `loom pool`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Pool {
    /// Make the pool, and use it from then on; nothing is restarted
    #[command(after_help = help::POOL_CREATE)]
    Create(Create),
    /// Let the pool's image grow to a larger size
    #[command(after_help = help::POOL_GROW)]
    Grow {
        /// The new size, such as 100G
        #[arg(value_name = "SIZE", value_parser = bytes)]
        size: u64,
    },
    /// Show what the pool is, and how full
    #[command(after_help = help::POOL_STATUS)]
    Status,
    /// Bring the files of stopped containers that lie outside of the pool into it
    #[command(after_help = help::POOL_MOVE)]
    Move {
        /// Containers; without any, all of the namespace that are stopped
        #[arg(value_name = "CONTAINER", value_parser = reference)]
        containers: Vec<String>,
    },
}

/// `loom pool create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Create {
    /// An image in loomd's root that may grow to this size, such as 50G [default: a fifth of what is free
    /// there, 5 to 30 GiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes, conflicts_with_all = ["device", "path"])]
    pub size: Option<u64>,
    /// A block device with nothing on it, which is made a btrfs
    #[arg(long, value_name = "DEVICE", value_hint = ValueHint::FilePath, conflicts_with = "path")]
    pub device: Option<PathBuf>,
    /// A directory on a btrfs that is not the one of loomd's root
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub path: Option<PathBuf>,
}
