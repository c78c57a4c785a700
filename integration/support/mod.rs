//! What the tests against the real thing stand on.
//!
//! A [`stage::Stage`] is a scratch directory with a filesystem image, a loomd on it and a containerd
//! of its own beside it. Everything waits for conditions, nothing for time, and dropping a stage ends
//! every process and undoes every mount that it made, after a panic too. Each test program is run by
//! `integration/run` in namespaces of its own; by hand it runs as root without them as well.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)] // Each program uses its own part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)] // Tests panic.
#![allow(clippy::format_push_string, clippy::format_collect)] // Short texts, rarely made.

pub mod api;
pub mod changes;
pub mod containerd;
pub mod counter;
pub mod difference;
pub mod doors;
pub mod fault;
pub mod image;
pub mod kinds;
pub mod layout;
pub mod loom;
pub mod loomd;
pub mod peer;
pub mod pool;
pub mod process;
pub mod registry;
pub mod scratch;
pub mod stage;
pub mod tree;
pub mod verb;
pub mod wait;
pub mod world;
