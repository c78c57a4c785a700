//! The objects of the verbs about the pool.

use serde::Serialize;

use super::{Snapshot, present};
use crate::protos::admin;

/// The pool; sizes are bytes.
#[derive(Serialize)]
pub(in crate::cli) struct Pool<'a> {
    path: &'a str,
    kind: &'a str,
    source: Option<&'a str>,
    size: u64,
    used: u64,
    free: u64,
    /// These three are an image's.
    allocated: Option<u64>,
    host_free: Option<u64>,
    reserve: Option<u64>,
    refuses: Option<&'a str>,
}

impl<'a> From<&'a admin::Pool> for Pool<'a> {
    fn from(pool: &'a admin::Pool) -> Self {
        let of_image = |bytes| (pool.kind == "image").then_some(bytes);
        Self {
            path: &pool.path,
            kind: &pool.kind,
            source: present(&pool.source),
            size: pool.size,
            used: pool.used,
            free: pool.free,
            allocated: of_image(pool.allocated),
            host_free: of_image(pool.host_free),
            reserve: of_image(pool.reserve),
            refuses: present(&pool.refuses),
        }
    }
}

/// A container that was moved into the pool.
#[derive(Serialize)]
pub(in crate::cli) struct Moved<'a> {
    container: &'a str,
    snapshot: Snapshot<'a>,
}

impl<'a> From<&'a admin::MoveToPoolResponse> for Moved<'a> {
    fn from(moved: &'a admin::MoveToPoolResponse) -> Self {
        Self { container: &moved.container, snapshot: Snapshot::from(&*moved.snapshot) }
    }
}
