//! loom: a containerd snapshotter whose container state can be branched.
//!
//! The map of the house. Calls go down this list only:
//!
//! - [`cli`]: the verbs of the `loom` command and what they print
//! - [`server`]: gRPC and ttrpc: translate, call the core
//! - [`containerd`]: a client of containerd: containers, tasks, leases, pauses; forks as containers
//! - [`operation`]: work that is tracked: ids, steps, results, idempotency keys, over restarts
//! - [`check`]: what is on disk, in the database, mounted and known to containerd, compared and put right
//! - [`snapshot`]: the core: what a snapshot is, and every rule. No SQL, no sockets, no ioctls
//! - [`pool`]: what the pool is: an image, a device or a directory; mounted, grown, and kept from a full host
//! - [`store`]: SQLite, the only place with SQL
//! - [`layer`]: bytes on disk, the only place with ioctls
//! - [`config`], [`error`], [`bytes`], [`mapping`], `durable`, `fault`: what all of them use
//! - [`protos`]: code generated from `protos/`

pub mod bytes;
pub mod check;
pub mod cli;
pub mod config;
pub mod containerd;
mod durable;
pub mod error;
mod fault;
pub mod layer;
pub mod mapping;
pub mod operation;
pub mod pool;
pub mod protos;
pub mod server;
pub mod snapshot;
pub mod store;
