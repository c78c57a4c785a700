//! Messages, servers and clients generated from `protos/`, for ttrpc.
//!
//! - `admin`, `admin_ttrpc`: `loom.admin.v1`
//! - `snapshots`, `snapshots_ttrpc`: `containerd.services.snapshots.v1`
//! - `mount`: `containerd.types`

// Nobody writes this code, so our lints have nothing to say about it.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_imports,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used
)]

include!(concat!(env!("OUT_DIR"), "/mod.rs"));
