//! `root.json`: which root a pool is of, and where a root has its pool.
//!
//! ```text
//!  <root>/root.json    {"root": ID, "pool": PATH}
//!  <pool>/root.json    {"root": ID}
//! ```
//!
//! To each of two roots with one pool the other's layers would be what a crash left. And without its pool, what a root
//! says is half of it: a check that is told of none looks here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Error, Result};
use crate::fault;
use crate::store::Id;

const NAME: &str = "root.json";

/// What one of the two says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// The root, as no other is called.
    root: String,
    /// In the root: where its pool is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<PathBuf>,
}

/// Makes a pool this root's, or refuses one that is another's. Both are absolute.
pub(super) fn pair(root: &Path, pool: &Path) -> Result<()> {
    let (own, its) = (Mark::read(root)?, Mark::read(pool)?);
    let named = own.as_ref().map(|own| own.root.clone());
    if its.as_ref().is_some_and(|its| named.as_ref() != Some(&its.root)) {
        return Err(Error::Config(format!(
            "pool {} is another root's than {}, by what {} says; each would take the other's layers for what a crash \
             left. Name a directory of its own as pool.path. Where that other root is gone for good, or this one has \
             lost its root.json, remove that file",
            pool.display(),
            root.display(),
            pool.join(NAME).display()
        )));
    }
    let name = named.map_or_else(|| Id::random().map(|id| id.to_string()), Ok)?;
    let wanted = Mark { root: name.clone(), pool: Some(pool.to_path_buf()) };
    if own.as_ref() != Some(&wanted) {
        wanted.write(root)?;
    }
    let wanted = Mark { root: name, pool: None };
    if its.as_ref() == Some(&wanted) { Ok(()) } else { wanted.write(pool) }
}

/// Where a root had its pool when it was last served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Its directory.
    pub pool: PathBuf,
    /// True where it is there, as far as it says itself.
    pub is_there: bool,
}

/// Where a root had its pool; None where it never had one.
pub fn pool_of(root: &Path) -> Result<Option<Last>> {
    let Some(Mark { root, pool: Some(pool) }) = Mark::read(root)? else { return Ok(None) };
    let is_there = Mark::read(&pool)?.is_some_and(|its| its.root == root);
    Ok(Some(Last { pool, is_there }))
}

impl Mark {
    fn read(directory: &Path) -> Result<Option<Self>> {
        let Some(text) = durable::read(directory, NAME)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            let path = directory.join(NAME);
            let path = path.display();
            Error::Config(format!("{path} cannot be read: {e}; put the right one back, or remove it"))
        })
    }

    fn write(&self, directory: &Path) -> Result<()> {
        fault::point("layer.pair.write")?;
        durable::write(directory, NAME, self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn a_pool_is_one_roots() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, pool] = ["one", "two", "pool"].map(|name| {
            fs::create_dir(dir.path().join(name)).unwrap();
            dir.path().join(name)
        });
        assert_eq!(pool_of(&one).unwrap(), None);
        pair(&one, &pool).unwrap();
        pair(&one, &pool).unwrap();
        assert_eq!(pool_of(&one).unwrap(), Some(Last { pool: pool.clone(), is_there: true }));
        // What is mounted elsewhere is the same pool.
        let moved = dir.path().join("moved");
        fs::rename(&pool, &moved).unwrap();
        assert_eq!(pool_of(&one).unwrap(), Some(Last { pool, is_there: false }));
        pair(&one, &moved).unwrap();
        assert_eq!(pool_of(&one).unwrap(), Some(Last { pool: moved.clone(), is_there: true }));
        let refused = pair(&two, &moved).unwrap_err().to_string();
        assert!(refused.contains(&moved.display().to_string()) && refused.contains(NAME), "{refused}");
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        pair(&two, &other).unwrap();
        pair(&two, &moved).unwrap_err();
        fs::write(one.join(NAME), "{").unwrap();
        assert!(pair(&one, &moved).unwrap_err().to_string().contains("one/root.json"));
    }
}
