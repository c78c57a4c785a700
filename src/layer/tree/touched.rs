//! Paths of a tree that may differ from another's.

use std::ffi::CString;
use std::ops::Range;

/// A set of paths, in the order in which a walk meets them.
///
/// Every path ends each of its names by a zero byte, which no name has: so the order of the bytes is that of the
/// names, and what is below a directory follows it.
#[derive(Debug, Default)]
pub(in crate::layer) struct Touched {
    paths: Vec<Box<[u8]>>,
}

/// Those of them at and below one directory.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    paths: Range<usize>,
    /// The bytes of the directory's own path.
    above: usize,
}

impl Touched {
    /// The set of paths that are written with slashes; the root's is empty.
    pub(in crate::layer) fn new(paths: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let ended = |path: Vec<u8>| {
            let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
            names.flat_map(|name| name.iter().copied().chain([0])).collect()
        };
        let mut paths: Vec<Box<[u8]>> = paths.into_iter().map(ended).collect();
        paths.sort_unstable();
        paths.dedup();
        Self { paths }
    }

    pub(super) fn root(&self) -> Branch {
        Branch { paths: 0..self.paths.len(), above: 0 }
    }

    /// The names in a directory at which, or below which, there are some.
    pub(super) fn names(&self, branch: &Branch) -> Vec<(CString, Branch)> {
        let mut names: Vec<(CString, Branch)> = Vec::new();
        for at in branch.paths.clone() {
            let rest = self.paths.get(at).and_then(|path| path.get(branch.above..)).unwrap_or_default();
            let Some(name) = rest.split(|b| *b == 0).next().filter(|name| !name.is_empty()) else {
                // The directory itself.
                continue;
            };
            match names.last_mut() {
                Some((last, below)) if last.as_bytes() == name => below.paths.end = at + 1,
                _ => {
                    let above = branch.above + name.len() + 1;
                    // It was cut at the first zero byte.
                    let name = CString::new(name).unwrap_or_default();
                    names.push((name, Branch { paths: at..at + 1, above }));
                }
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_met_in_order_with_what_is_below_them() {
        let paths = ["b", "a-/x", "", "a/z/y", "a", "a/b", "a!", "b"];
        let touched = Touched::new(paths.map(|path| path.as_bytes().to_vec()));
        let mut met = Vec::new();
        let mut ahead = vec![(String::new(), touched.root())];
        while let Some((path, branch)) = ahead.pop() {
            let below: Vec<_> = touched
                .names(&branch)
                .into_iter()
                .map(|(name, below)| (format!("{path}/{}", name.to_string_lossy()), below))
                .collect();
            ahead.extend(below.into_iter().rev());
            met.push(path);
        }
        assert_eq!(met, ["", "/a", "/a/b", "/a/z", "/a/z/y", "/a!", "/a-", "/a-/x", "/b"]);
    }
}
