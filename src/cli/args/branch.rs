//! The arguments of the verbs that branch.

use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use super::{duration, label, reference};

/// `loom snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Snapshot {
    /// A container, or a writable snapshot
    #[arg(value_name = "CONTAINER", value_parser = reference)]
    pub reference: String,
    /// The snapshot's name; without it, "<container>-<6 hex digits>"
    #[arg(long, value_name = "NEW")]
    pub name: Option<String>,
    /// What is asked of every branch.
    #[command(flatten)]
    pub asked: Asked,
    /// How whole the state is.
    #[command(flatten)]
    pub whole: Whole,
}

/// `loom fork`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Fork {
    /// A container
    #[arg(value_name = "CONTAINER", value_parser = reference)]
    pub reference: String,
    /// The fork's name; without it, "<container>-fork-<6 hex digits>"; with a count, "<NEW>-1" and on
    #[arg(long, value_name = "NEW")]
    pub name: Option<String>,
    /// How many, all of one moment: 1 to 1000
    #[arg(long, short, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,
    /// What becomes of its process.
    #[command(flatten)]
    pub start: Start,
    /// How it differs.
    #[command(flatten)]
    pub changes: Changes,
    /// What is asked of every branch.
    #[command(flatten)]
    pub asked: Asked,
    /// How whole the state is.
    #[command(flatten)]
    pub whole: Whole,
}

/// `loom clone`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Clone {
    /// A snapshot of a container
    #[arg(value_name = "SNAPSHOT", value_parser = reference)]
    pub reference: String,
    /// The container's name; without it, "<container>-fork-<6 hex digits>"
    #[arg(long, value_name = "NEW")]
    pub name: Option<String>,
    /// What becomes of its process.
    #[command(flatten)]
    pub start: Start,
    /// How it differs.
    #[command(flatten)]
    pub changes: Changes,
    /// What is asked of every branch.
    #[command(flatten)]
    pub asked: Asked,
}

/// `loom rollback`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Rollback {
    /// A container
    #[arg(value_name = "CONTAINER", value_parser = reference)]
    pub reference: String,
    /// A snapshot of it, of what it was forked from, or of a fork of it
    #[arg(value_name = "SNAPSHOT", value_parser = reference)]
    pub snapshot: String,
    /// What becomes of the content that it had.
    #[command(flatten)]
    pub kept: Kept,
    /// What becomes of its process.
    #[command(flatten)]
    pub start: Start,
    /// What is asked of every branch.
    #[command(flatten)]
    pub asked: Asked,
}

/// `loom promote`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Promote {
    /// A fork, which stays
    #[arg(value_name = "FORK", value_parser = reference)]
    pub reference: String,
    /// Refuse where the container has written since the fork, and say what
    #[arg(long)]
    pub if_unchanged: bool,
    /// What becomes of the content that it had.
    #[command(flatten)]
    pub kept: Kept,
    /// What becomes of its process.
    #[command(flatten)]
    pub start: Start,
    /// What is asked of every branch.
    #[command(flatten)]
    pub asked: Asked,
    /// How whole the state is.
    #[command(flatten)]
    pub whole: Whole,
}

/// `loom resume`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Resume {
    /// A container
    #[arg(value_name = "CONTAINER", value_parser = reference)]
    pub reference: String,
    /// So that the request can be repeated.
    #[command(flatten)]
    pub once: Once,
}

/// What every branch that makes something can be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Asked {
    /// A label for what is made; may be given more than once
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// So that the request can be repeated.
    #[command(flatten)]
    pub once: Once,
}

/// What lets a request be repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Once {
    /// Done once under this key: the same command again prints the same again
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// How whole the state of a live container is.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Whole {
    /// How whole the state is
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub consistency: Consistency,
}

/// How whole a state is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// One point in time, as after a power cut
    #[default]
    Crash,
    /// As agreed with the application: its labels loom.quiesce and loom.unquiesce name commands
    App,
}

/// What becomes of the process of a container that is made or changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Start {
    /// Leave it stopped: --resume manual
    #[arg(long, conflicts_with = "resume")]
    pub no_start: bool,
    /// When its process starts
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub resume: Policy,
}

/// When a process starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// With `loom resume`
    Manual,
    /// At once
    #[default]
    Immediate,
}

/// What becomes of the content that a container had.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Kept {
    /// The name of the snapshot that keeps what it had; without it, "<container>-<6 hex digits>"
    #[arg(long, value_name = "KEEP")]
    pub name: Option<String>,
    /// Keep nothing of what it had
    #[arg(long, conflicts_with_all = ["name", "labels", "ttl"])]
    pub discard: bool,
}

/// What is different in a container that is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Changes {
    /// Set a variable, or drop one by its name alone; may be given more than once
    #[arg(long, short, value_name = "K[=V]", value_parser = variable)]
    pub env: Vec<String>,
    /// Publish a port, as nerdctl does; the source's are not. May be given more than once
    #[arg(long, short, value_name = "PORT")]
    pub publish: Vec<String>,
    /// What becomes of the source's named volumes
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub volumes: Volumes,
    /// A command in place of the source's
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What becomes of named volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Volumes {
    /// It has them too
    #[default]
    Share,
    /// It has copies, of the moment of its state
    Clone,
}

fn variable(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err("a variable is NAME=VALUE, or NAME to drop it".into()),
        Some(_) => Ok(text.to_owned()),
    }
}
