//! The mount of a chain of layers.
//!
//! ```text
//! one layer          bind     <home>/layers/7/fs            rw,rbind or ro,rbind
//! several, to write  overlay  workdir=…,upperdir=…/9/fs,lowerdir=…/8/fs:…/7/fs
//! several, to read   overlay  lowerdir=…/9/fs:…/8/fs:…/7/fs
//! the same under a mapping:
//! to write           overlay  uidmap=…,gidmap=…,workdir=…,upperdir=…/9/fs,lowerdir=…/8/fs:…/7/fs
//! to read            overlay  ro,uidmap=…,gidmap=…,workdir=…,upperdir=…/9/fs,lowerdir=…/8/fs:…/7/fs
//! ```
//!
//! containerd takes `uidmap` and `gidmap` for itself and shows overlay each lower as that user namespace sees it. The
//! topmost layer has the owners of that namespace already, and so has a bind of it: neither is shown so.
//!
//! mount(2) cuts its options at a page without a word. containerd moves into the parent directory
//! that all lowers share when they come near to that, and names them from there; we reckon what is
//! left then, and offer no mount that would be cut.

use std::path::Path;

use super::{Access, Mount};
use crate::store::{Home, Layer};

/// The bytes of options from which containerd shortens them; what we fill at most.
const ROOM: usize = 4096 - 512;
/// The lowers that the kernel takes.
const LOWERS: usize = 500;

/// The mount of `chain`, topmost first; none where it is deeper than a mount can name. `directory`
/// answers a layer's directory.
pub(super) fn mounts(
    chain: &[Layer],
    access: Access,
    directory: impl Fn(&Layer) -> String,
) -> Option<Vec<Mount>> {
    let (top, below) = chain.split_first()?;
    if below.is_empty() {
        let rights = if access == Access::Write { "rw" } else { "ro" };
        let options = vec![rights.to_owned(), "rbind".to_owned()];
        return Some(vec![Mount { kind: "bind", source: format!("{}/fs", directory(top)), options }]);
    }
    let fixed = ["index=off", "redirect_dir=off", "metacopy=off"];
    let mut options: Vec<String> = fixed.iter().map(ToString::to_string).collect();
    let on = |home| chain.iter().any(|layer| layer.home == home);
    if on(Home::Pool) && on(Home::Plain) {
        // Two filesystems number their inodes apart; this keeps the numbers of one mount apart too.
        options.push("xino=on".to_owned());
    }
    if let Some(mapping) = &top.mapping {
        options.extend([format!("uidmap={}", mapping.uids), format!("gidmap={}", mapping.gids)]);
        if access == Access::Read {
            options.push("ro".to_owned());
        }
    }
    let lowers = if access == Access::Write || top.mapping.is_some() {
        let top = directory(top);
        options.push(format!("workdir={top}/work"));
        options.push(format!("upperdir={top}/fs"));
        below
    } else {
        chain
    };
    let lowers: Vec<String> = lowers.iter().map(|layer| format!("{}/fs", directory(layer))).collect();
    let others: usize = options.iter().map(|option| option.len() + 1).sum();
    let long = others + named(&lowers, 0);
    if lowers.len() > LOWERS || (long >= ROOM && others + named(&lowers, shared(&lowers)) >= ROOM) {
        return None;
    }
    options.push(format!("lowerdir={}", lowers.join(":")));
    Some(vec![Mount { kind: "overlay", source: "overlay".to_owned(), options }])
}

/// The bytes of the option that names the lowers, each less `cut`.
fn named(lowers: &[String], cut: usize) -> usize {
    "lowerdir=".len() + lowers.iter().map(|lower| lower.len() + 1 - cut).sum::<usize>()
}

/// The bytes of the parent directory that containerd moves into, with its slash: that of what the
/// names have in common as strings. The root directory shortens nothing.
fn shared(lowers: &[String]) -> usize {
    let Some((first, others)) = lowers.split_first() else { return 0 };
    if others.is_empty() {
        return 0;
    }
    let common = others.iter().fold(first.len(), |common, other| {
        first.bytes().zip(other.bytes()).take(common).take_while(|(a, b)| a == b).count()
    });
    let slash = first.as_bytes().iter().take(common).rposition(|b| *b == b'/').unwrap_or(0);
    if slash == 0 { 0 } else { slash + 1 }
}

/// What keeps a directory from being named in an overlay's options, if anything does.
pub(super) fn unfit(path: &Path) -> Option<&'static str> {
    match path.to_str() {
        None => Some("it is not UTF-8"),
        Some(text) if text.contains([',', ':', '\\', '"']) => {
            Some("it has one of the characters , : \\ \" in it, which mean something else in mount options")
        }
        Some(_) => None,
    }
}
