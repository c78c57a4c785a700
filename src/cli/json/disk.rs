//! What things take on disk, and what they may.

use serde::Serialize;

use super::present;
use crate::protos::admin;

/// What everything takes.
#[derive(Serialize)]
pub(in crate::cli) struct Disk<'a> {
    usage: Vec<Usage<'a>>,
    places: Vec<Place<'a>>,
}

#[derive(Serialize)]
struct Usage<'a> {
    kind: &'a str,
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    id: &'a str,
    exclusive: Option<u64>,
    shared: Option<u64>,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct Place<'a> {
    home: &'a str,
    path: &'a str,
    layers: u64,
    trash: u64,
    /// True where `layers` and `trash` are of what was reached in time.
    partial: bool,
    size: u64,
    used: u64,
    free: u64,
}

impl<'a> Disk<'a> {
    pub(in crate::cli) fn new(rows: &'a [admin::DiskUsage], homes: &'a [admin::HomeUsage]) -> Self {
        let usage = |row: &'a admin::DiskUsage| Usage {
            kind: &row.kind,
            name: present(&row.name),
            namespace: present(&row.namespace),
            id: &row.id,
            exclusive: row.size.as_ref().map(|size| size.exclusive),
            shared: row.size.as_ref().map(|size| size.shared),
            limit: limit(row.limit),
        };
        let place = |home: &'a admin::HomeUsage| Place {
            home: &home.home,
            path: &home.path,
            layers: home.layers,
            trash: home.trash,
            partial: home.partial,
            size: home.size,
            used: home.used,
            free: home.free,
        };
        Self { usage: rows.iter().map(usage).collect(), places: homes.iter().map(place).collect() }
    }
}

/// What `loom limit` set.
#[derive(Serialize)]
pub(in crate::cli) struct Limited<'a> {
    snapshot: &'a str,
    limit: Option<u64>,
    written: u64,
}

impl<'a> From<&'a admin::LimitResponse> for Limited<'a> {
    fn from(limited: &'a admin::LimitResponse) -> Self {
        Self { snapshot: &limited.snapshot.id, limit: limit(limited.bytes), written: limited.written }
    }
}

/// Nought is none.
fn limit(bytes: u64) -> Option<u64> {
    (bytes > 0).then_some(bytes)
}
