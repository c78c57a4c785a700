//! A root that no loomd has: also one that loomd refuses to start on, and one whose database is gone.

use std::path::{Path, PathBuf};

use super::{Case, Code, Finding, Repair, compare, conclude, rebuild};
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::layer::{Layers, Seal, lock, pool_of};
use crate::pool::Pool;
use crate::store::{Home, Store};

/// What is to be done about what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing.
    Look,
    /// What can be put right without a guess is.
    Repair,
    /// The database is made anew of what the layers say of themselves; the one that is there is kept beside it.
    Rebuild,
}

/// Checks a root. `pool` is where its pool layers lie, where that is not the pool that loom made for it or that the
/// last start found. `Precondition` where a loomd has the root.
pub fn offline(root: &Path, pool: Option<&Path>, how: How) -> Result<Vec<Finding>> {
    if !root.join("layers").is_dir() {
        return Err(Error::Config(format!(
            "{} is no root of loom's: it has no directory layers; name the one that loomd has as its root",
            root.display()
        )));
    }
    let _lock = lock(root).map_err(|error| match error.kind() {
        Kind::FailedPrecondition => Error::precondition(
            format!("root {}", root.display()),
            "loomd is running on it: run `loom check` without --root, which asks it; or stop it first, for --rebuild",
        ),
        _ => error,
    })?;
    // Where loom made the pool, it is mounted as a start does it.
    let made = pool.is_none().then(|| Pool::open(root, &config::Pool::default())).transpose()?;
    let pool = pool.map(Path::to_path_buf).or_else(|| made.as_ref().and_then(|made| made.path()));
    let pool = pool.map_or_else(|| last(root, how), |pool| Ok(Some(pool)))?;
    let layers = Layers::open(root, pool.as_deref())?;
    let path = root.join("loom.db");
    let mut cases = Vec::new();
    if how == How::Rebuild {
        cases.extend(rebuild::rebuild(&layers, &path)?);
    } else if !path.exists() {
        return without(
            &layers,
            Case::told(
                Code::DatabaseMissing,
                path.display().to_string(),
                "it is not there. Put it back from a backup, or make it anew of what the layers say with --rebuild",
            ),
        );
    }
    let store = match Store::open(&path) {
        Ok(store) => store,
        Err(error @ Error::Store { full: false, .. }) => {
            let message = format!("{error}; or make it anew of what the layers say with --rebuild");
            return without(&layers, Case::told(Code::DatabaseDamaged, path.display().to_string(), message));
        }
        Err(error) => return Err(error),
    };
    let highest = store.read(|rows| rows.layers())?;
    if layers.pool().is_none()
        && let Some(layer) = highest.iter().find(|layer| layer.home == Home::Pool)
    {
        return Err(Error::Config(format!(
            "layer {} lies in a pool; name the pool's directory with --pool",
            layer.id
        )));
    }
    if let Some(highest) = highest.last() {
        layers.start_above(highest.id);
    }
    cases.extend(compare::look(&store, &layers, false)?);
    if how != How::Repair {
        // What waits in the trash is no damage: a start of loomd goes on with it.
        cases.retain(|case| case.finding.code != Code::Trash || case.fix.is_none());
    }
    conclude(&store, &layers, cases, how == How::Repair)
}

/// Where the last start had the pool. A database without what lies there would have the next one take it for what a
/// crash left.
fn last(root: &Path, how: How) -> Result<Option<PathBuf>> {
    match pool_of(root)? {
        Some(last) if last.is_there => Ok(Some(last.pool)),
        Some(last) if how == How::Rebuild => Err(Error::Config(format!(
            "the pool of {} was {}, and is not there: mount it, or name where it is now with --pool. Where it is gone \
             for good, remove {0}/root.json",
            root.display(),
            last.pool.display()
        ))),
        _ => Ok(None),
    }
}

/// What is told where nothing can be compared: nothing is put right either.
fn without(layers: &Layers, database: Case) -> Result<Vec<Finding>> {
    let found = layers.found()?;
    let sealed = found.iter().filter(|found| found.seal == Seal::Own).count();
    let mut finding = database.finding;
    if found.is_empty() && finding.code == Code::DatabaseMissing {
        return Ok(Vec::new());
    }
    finding.message = format!(
        "{}. There are {} layers, of which {sealed} are committed; nothing else was compared",
        finding.message,
        found.len()
    );
    Ok(vec![Finding { repair: Repair::None, ..finding }])
}
