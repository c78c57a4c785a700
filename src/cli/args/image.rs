//! The arguments of the verbs about images, archives and differences.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum, ValueHint};

use super::{Once, Whole, reference};

/// What a Dockerfile's instructions begin with, of those that change an image's configuration.
const INSTRUCTIONS: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// `loom commit`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Commit {
    /// A container, or a snapshot
    #[arg(value_name = "CONTAINER|SNAPSHOT", value_parser = reference)]
    pub reference: String,
    /// The image's name
    #[arg(value_name = "IMAGE", value_parser = image)]
    pub image: String,
    /// What its configuration is to be.
    #[command(flatten)]
    pub described: Described,
    /// Its author, such as "Jane Doe <jane@example.com>"
    #[arg(long, short, value_name = "AUTHOR")]
    pub author: Option<String>,
    /// Write its layer too, so that any tool can save and push it
    #[arg(long)]
    pub portable: bool,
    /// How a portable one's layer is compressed
    #[arg(long, value_enum, default_value_t, value_name = "HOW", requires = "portable")]
    pub compression: Compression,
    /// Take over an image that has the name
    #[arg(long)]
    pub replace: bool,
    /// How whole the state is.
    #[command(flatten)]
    pub whole: Whole,
    /// So that the request can be repeated.
    #[command(flatten)]
    pub once: Once,
}

/// What an image says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Described {
    /// Change its configuration by an instruction of a Dockerfile; may be given more than once
    #[arg(long = "change", short, value_name = "INSTRUCTION", value_parser = instruction)]
    pub changes: Vec<String>,
    /// What its history says of it
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
}

/// `loom portable`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Portable {
    /// An image
    #[arg(value_name = "IMAGE", value_parser = image)]
    pub image: String,
    /// How its layer is compressed
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub compression: Compression,
    /// So that the request can be repeated.
    #[command(flatten)]
    pub once: Once,
}

/// `loom tag`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Tag {
    /// An image
    #[arg(value_name = "IMAGE", value_parser = image)]
    pub image: String,
    /// Its other name; an image that has it loses it
    #[arg(value_name = "NEW", value_parser = image)]
    pub name: String,
}

/// `loom save`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Save {
    /// An image
    #[arg(value_name = "IMAGE", value_parser = image)]
    pub image: String,
    /// How a layer that only this node has is compressed
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub compression: Compression,
    /// Where to.
    #[command(flatten)]
    pub to: Output,
}

/// `loom push`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Push {
    /// An image
    #[arg(value_name = "IMAGE", value_parser = image)]
    pub image: String,
    /// How a layer that only this node has is compressed
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub compression: Compression,
    /// What `nerdctl push` is given too
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

/// `loom diff`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Diff {
    /// A container, a snapshot or an image
    #[arg(value_name = "A", value_parser = reference)]
    pub from: String,
    /// Another, which came later; without it, what A has changed since what it was made of
    #[arg(value_name = "B", value_parser = reference)]
    pub to: Option<String>,
    /// Print how text files differ, as `diff -u` does
    #[arg(long, short)]
    pub patch: bool,
}

/// `loom export`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Export {
    /// A container, a snapshot or an image
    #[arg(value_name = "REF", value_parser = reference)]
    pub reference: String,
    /// What the archive is
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub format: Format,
    /// The image's name in an OCI archive; needed where REF is no image
    #[arg(long, value_name = "NAME", value_parser = image)]
    pub image: Option<String>,
    /// How the layers of an OCI archive are compressed that only this node has
    #[arg(long, value_enum, value_name = "HOW")]
    pub compression: Option<Compression>,
    /// Where to.
    #[command(flatten)]
    pub to: Output,
    /// How whole the state is.
    #[command(flatten)]
    pub whole: Whole,
}

impl Export {
    /// Refuses what only an OCI archive has.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match (self.format, &self.image, self.compression) {
            (Format::Tar, Some(_), _) => Err("a plain tar has no --image; did you mean --format oci?"),
            (Format::Tar, _, Some(_)) => {
                Err("a plain tar has no --compression: pipe it through zstd or gzip, or use --format oci")
            }
            _ => Ok(()),
        }
    }
}

/// `loom import`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Import {
    /// A tar of files, or an OCI archive; "-" is standard input
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The image's name; an OCI archive may have one of its own
    #[arg(value_name = "IMAGE", value_parser = image)]
    pub image: Option<String>,
    /// What its configuration is to be.
    #[command(flatten)]
    pub described: Described,
    /// What containerd calls loom
    #[arg(long, value_name = "NAME", default_value = "loom")]
    pub snapshotter: String,
    /// So that the request can be repeated.
    #[command(flatten)]
    pub once: Once,
}

/// Where an archive is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub struct Output {
    /// A file; without it, standard output, where that is no terminal
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Small and fast; every containerd reads it, and docker from 23.0
    #[default]
    Zstd,
    /// What everything reads
    Gzip,
}

/// What an archive is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The files, as they are
    #[default]
    Tar,
    /// An image, as `docker load` and `nerdctl load` take it
    Oci,
}

/// loomd says what an image's name means; only what can be none is refused here.
fn image(text: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
    if text.is_empty() {
        Err("it is empty".into())
    } else if let Some(c) = text.chars().find(|c| !known(*c)) {
        Err(format!(
            "an image's name has no {c:?}; one is such as app:v2 or registry.example.com/team/app:v2"
        ))
    } else if text.starts_with(['/', ':', '@', '-', '.']) || text.ends_with(['/', ':', '@']) {
        Err("an image's name is such as app:v2 or registry.example.com/team/app:v2".into())
    } else {
        Ok(text.to_owned())
    }
}

fn instruction(text: &str) -> Result<String, String> {
    let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let known = INSTRUCTIONS.iter().any(|instruction| instruction.eq_ignore_ascii_case(word));
    match (known, rest.trim()) {
        (false, _) => Err(format!("{word:?} is none of {}", INSTRUCTIONS.join(", "))),
        (true, "") => Err(format!("something must follow {word}")),
        (true, _) => Ok(text.to_owned()),
    }
}
