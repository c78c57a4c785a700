//! How the view of one chain differs from that of another.
//!
//! Both views are walked side by side. Of a directory only those layers are listed that are part of it in one view
//! and not in the other: what comes from the layers below both is the same. Which layers these are differs from
//! directory to directory, since one that is opaque, or that was removed and made again, hides what is below it.
//!
//! Where the topmost layers are known to differ in certain paths only, the names are theirs, for as long as a
//! directory is the same one on both sides; below one that is not, everything is looked at.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::FileType;

use super::data::Comparer;
use super::identity;
use super::touched::{Branch, Touched};
use super::union::{Pinned, View};
use crate::error::Result;
use crate::fault;
use crate::layer::{Aspect, Change, ChangeKind, Node};

/// Tells how `after` differs from `before`, whose chains have the lowest `shared` layers in common. With `touched`,
/// the topmost layers are all else that the chains have, copies of one another, and differ at these paths or below
/// them only.
pub(in crate::layer) fn compare(
    before: View,
    after: View,
    shared: usize,
    touched: Option<Touched>,
    tell: &mut dyn FnMut(Change) -> Result<()>,
) -> Result<()> {
    let own = |view: &View| view.parts().len().saturating_sub(shared);
    let (before, after) = (Side { own: own(&before), view: before }, Side { own: own(&after), view: after });
    let mut compare = Compare { before, after, touched, bytes: Comparer::new(), tell };
    compare.walk()
}

struct Compare<'a> {
    before: Side,
    after: Side,
    touched: Option<Touched>,
    bytes: Comparer,
    tell: &'a mut dyn FnMut(Change) -> Result<()>,
}

/// One of the two views.
struct Side {
    view: View,
    /// How many layers, from the top, are not the other's too.
    own: usize,
}

/// A directory that is being walked, on the sides that have it.
struct Level {
    names: std::vec::IntoIter<Name>,
    before: bool,
    after: bool,
}

/// A name to be looked at; with what is known to be touched at and below it, if that is.
type Name = (CString, Option<Branch>);

impl Compare<'_> {
    fn walk(&mut self) -> Result<()> {
        let (before, after) = (self.before.view.here()?, self.after.view.here()?);
        // An empty chain has no root to speak of.
        if before.is_some() && after.is_some() {
            self.pair(c"", before.as_ref(), after.as_ref())?;
        }
        let touched = self.touched.as_ref().map(Touched::root);
        // Files of both roots are marked as whiteouts by the same means, or others differ too.
        let alike = self.before.view.marks(0) == self.after.view.marks(0);
        let touched = touched.filter(|_| alike && same_directory(before.as_ref(), after.as_ref()));
        let names = self.names(true, true, touched)?;
        let mut levels = vec![Level { names: names.into_iter(), before: true, after: true }];
        while let Some(level) = levels.last_mut() {
            if let Some((name, touched)) = level.names.next() {
                let (in_before, in_after) = (level.before, level.after);
                levels.extend(self.name(&name, touched, in_before, in_after)?);
            } else if let Some(level) = levels.pop() {
                if level.before {
                    self.before.view.leave()?;
                }
                if level.after {
                    self.after.view.leave()?;
                }
            }
        }
        Ok(())
    }

    /// Compares what the sides have at a name, and enters it where that is a directory.
    fn name(
        &mut self,
        name: &CStr,
        touched: Option<Branch>,
        in_before: bool,
        in_after: bool,
    ) -> Result<Option<Level>> {
        fault::point("layer.compare.entry")?;
        let before = if in_before { self.before.view.find(0, name)? } else { None };
        let after = if in_after { self.after.view.find(0, name)? } else { None };
        self.pair(name, before.as_ref(), after.as_ref())?;
        let before_enters =
            before.as_ref().is_some_and(Pinned::is_directory) && self.before.view.enter(name)?;
        let after_enters = after.as_ref().is_some_and(Pinned::is_directory) && self.after.view.enter(name)?;
        if !before_enters && !after_enters {
            return Ok(None);
        }
        let touched = touched.filter(|_| same_directory(before.as_ref(), after.as_ref()));
        let names = self.names(before_enters, after_enters, touched)?.into_iter();
        Ok(Some(Level { names, before: before_enters, after: after_enters }))
    }

    /// The names to be looked at in the directory where the views stand, or one of them.
    fn names(&self, in_before: bool, in_after: bool, touched: Option<Branch>) -> Result<Vec<Name>> {
        let mut before: Vec<usize> = self.before.view.parts().filter(|_| in_before).collect();
        let mut after: Vec<usize> = self.after.view.parts().filter(|_| in_after).collect();
        while let (Some(one), Some(other)) = (before.last(), after.last())
            && one.checked_sub(self.before.own).is_some_and(|n| other.checked_sub(self.after.own) == Some(n))
        {
            before.pop();
            after.pop();
        }
        if let (Some(touched), [0], [0], Some(paths)) = (touched, &*before, &*after, &self.touched) {
            let names = paths.names(&touched);
            return Ok(names.into_iter().map(|(name, below)| (name, Some(below))).collect());
        }
        let count = |parts: &[usize]| parts.last().map_or(0, |lowest| lowest + 1);
        let mut names = self.before.view.list(count(&before))?;
        names.extend(self.after.view.list(count(&after))?);
        names.sort_by(|one, other| one.name.cmp(&other.name));
        names.dedup_by(|one, other| one.name == other.name);
        Ok(names.into_iter().map(|entry| (entry.name, None)).collect())
    }

    /// Tells how what is at a name differs, if it does.
    fn pair(&mut self, name: &CStr, before: Option<&Pinned>, after: Option<&Pinned>) -> Result<()> {
        let view = if before.is_some() { &self.before.view } else { &self.after.view };
        let node = |view: &View, found: Option<&Pinned>| {
            found.map(|found| node(found).map_err(|e| view.wrong(found.layer, name)(e))).transpose()
        };
        let mut differs = Vec::new();
        let kind = match (before, after) {
            (None, None) => return Ok(()),
            (None, Some(_)) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Deleted,
            (Some(one), Some(other)) => {
                differs = differences(one, other, &mut self.bytes)
                    .map_err(|e| self.after.view.wrong(other.layer, name)(e))?;
                if differs.is_empty() {
                    return Ok(());
                }
                ChangeKind::Modified
            }
        };
        let mut path: PathBuf = view.path().to_path_buf();
        if !name.is_empty() {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        let (before, after) = (node(&self.before.view, before)?, node(&self.after.view, after)?);
        (self.tell)(Change { path, kind, before, after, differs })
    }
}

/// True where both are one directory of the topmost layers, of which one is a copy of the other.
fn same_directory(before: Option<&Pinned>, after: Option<&Pinned>) -> bool {
    let (Some(one), Some(other)) = (before, after) else { return false };
    [one, other].iter().all(|found| found.layer == 0 && found.is_directory())
        && identity(&one.status) == identity(&other.status)
}

fn node(found: &Pinned) -> io::Result<Node> {
    let (kind, status) = (found.kind(), &found.status);
    let target = if kind == FileType::Symlink {
        Some(OsString::from_vec(rustix::fs::readlinkat(&found.fd, c"", Vec::new())?.into_bytes()))
    } else {
        None
    };
    let (uid, gid) = found.owner()?;
    Ok(Node {
        kind,
        mode: u32::from(status.stx_mode) & 0o7777,
        uid,
        gid,
        size: if kind == FileType::RegularFile { status.stx_size } else { 0 },
        target,
    })
}

/// What differs between two things. Of two kinds of things nothing else is compared.
fn differences(before: &Pinned, after: &Pinned, bytes: &mut Comparer) -> io::Result<Vec<Aspect>> {
    let (one, other) = (&before.status, &after.status);
    let inode = |found: &Pinned| {
        (found.status.stx_dev_major, found.status.stx_dev_minor, found.status.stx_ino, found.kind())
    };
    let mut differs = Vec::new();
    if inode(before) == inode(after) {
        return Ok(differs);
    }
    if before.kind() != after.kind() {
        return Ok(vec![Aspect::Type]);
    }
    if before.kind() == FileType::RegularFile
        && (one.stx_size != other.stx_size
            || (one.stx_size > 0
                && !bytes.same(before.open()?.as_fd(), after.open()?.as_fd(), one.stx_size)?))
    {
        differs.push(Aspect::Content);
    }
    if one.stx_mode != other.stx_mode {
        differs.push(Aspect::Mode);
    }
    if before.owner()? != after.owner()? {
        differs.push(Aspect::Owner);
    }
    let extended = |found: &Pinned| Ok::<_, io::Error>(found.attributes()?.without_notes().into_extended());
    if extended(before)? != extended(after)? {
        differs.push(Aspect::Xattrs);
    }
    if before.kind() == FileType::Symlink && node(before)?.target != node(after)?.target {
        differs.push(Aspect::Target);
    }
    if (one.stx_rdev_major, one.stx_rdev_minor) != (other.stx_rdev_major, other.stx_rdev_minor) {
        differs.push(Aspect::Device);
    }
    Ok(differs)
}
