//! The objects of images, archives and differences.

use serde::Serialize;

use super::{Cost, present};
use crate::cli::units::time;
use crate::protos::admin;

/// An image.
#[derive(Serialize)]
pub(in crate::cli) struct Image<'a> {
    name: &'a str,
    digest: &'a str,
    chain_id: &'a str,
    snapshot: Option<&'a str>,
    portable: bool,
    created: Option<String>,
    size: u64,
    platform: Option<&'a str>,
    namespace: Option<&'a str>,
}

impl<'a> From<&'a admin::Image> for Image<'a> {
    fn from(image: &'a admin::Image) -> Self {
        Self {
            name: &image.name,
            digest: &image.digest,
            chain_id: &image.chain_id,
            snapshot: present(&image.snapshot),
            portable: image.portable,
            created: time(&image.created).map(|time| time.to_string()),
            size: image.size,
            platform: present(&image.platform),
            namespace: present(&image.namespace),
        }
    }
}

/// What `loom commit` made.
#[derive(Serialize)]
pub(in crate::cli) struct Committed<'a> {
    pub(in crate::cli) operation: &'a str,
    pub(in crate::cli) image: Image<'a>,
    pub(in crate::cli) cost: Option<Cost<'a>>,
}

/// What `loom portable` wrote.
#[derive(Serialize)]
pub(in crate::cli) struct Portable<'a> {
    pub(in crate::cli) operation: &'a str,
    pub(in crate::cli) image: Image<'a>,
    pub(in crate::cli) layer: Option<&'a str>,
    pub(in crate::cli) layer_size: u64,
}

/// What `loom import` made.
#[derive(Serialize)]
pub(in crate::cli) struct Imported<'a> {
    pub(in crate::cli) operation: &'a str,
    pub(in crate::cli) image: Image<'a>,
}

/// That an image was pushed.
#[derive(Serialize)]
pub(in crate::cli) struct Pushed<'a> {
    pub(in crate::cli) image: &'a str,
    pub(in crate::cli) pushed: bool,
}

/// What `loom save` or `loom export` wrote.
#[derive(Serialize)]
pub(in crate::cli) struct Written<'a> {
    pub(in crate::cli) file: &'a str,
    pub(in crate::cli) size: u64,
}

/// What is at a path.
#[derive(Serialize)]
struct Node<'a> {
    r#type: &'a str,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    target: Option<&'a str>,
}

impl<'a> From<&'a admin::Node> for Node<'a> {
    fn from(node: &'a admin::Node) -> Self {
        Self {
            r#type: &node.type_,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            size: node.size,
            target: present(&node.target),
        }
    }
}

/// A path that differs.
#[derive(Serialize)]
pub(in crate::cli) struct Change<'a> {
    path: &'a str,
    kind: &'static str,
    before: Option<Node<'a>>,
    after: Option<Node<'a>>,
    differs: &'a [String],
    patch: Option<&'a str>,
}

impl<'a> From<&'a admin::Change> for Change<'a> {
    fn from(change: &'a admin::Change) -> Self {
        Self {
            path: &change.path,
            kind: match change.kind.enum_value() {
                Ok(admin::ChangeKind::CHANGE_KIND_ADDED) => "added",
                Ok(admin::ChangeKind::CHANGE_KIND_MODIFIED) => "modified",
                Ok(admin::ChangeKind::CHANGE_KIND_DELETED) => "deleted",
                Ok(admin::ChangeKind::CHANGE_KIND_UNSPECIFIED) | Err(_) => "unknown",
            },
            before: change.before.as_ref().map(Into::into),
            after: change.after.as_ref().map(Into::into),
            differs: &change.differs,
            patch: present(&change.patch),
        }
    }
}
