//! How much may be written to a layer, and how much was: both kept by the filesystem, and neither by walking.
//!
//! | home | kept by | what counts |
//! |---|---|---|
//! | pool | a simple quota group a subvolume | what was written to the layer and still lies on disk, in it or in what was branched from it; with what the filesystem needs for it |
//! | plain, with project quotas (XFS, ext4) | a project a layer | what lies in it |
//! | plain, elsewhere | nothing | a limit is refused |
//!
//! Simple quota groups cost a clone nothing and charge it with its own extents only. They are enabled when the first
//! limit is asked for, not before: a kernel before 6.7 does not mount a filesystem that has them. What was written
//! until then counts for nobody, so only of subvolumes that were made since is the figure told.
//!
//! A layer that is full can neither be sealed nor given another limit through itself: each change of a subvolume is
//! charged to it. So a limit is lifted before a seal, and set through the pool's own directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::io::Errno;

use super::Layers;
use super::area::Area;
use super::ioctl::{self, quota};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::{Home, Layer, LayerId};

/// Where the kernel shows the quota groups of a btrfs.
const GROUPS: &str = "/sys/fs/btrfs";
/// The project of the layer 0: those of other tools begin at 1.
const FIRST_PROJECT: u32 = 1 << 30;

impl Layers {
    /// Makes ready for limits of what may be written to layers of this home; refuses where nothing keeps them.
    pub fn ready_for_limits(&self, home: Home) -> Result<()> {
        ready(self.area(home)?)
    }

    /// Has the filesystem keep the limit of a writable layer, `Layer::max_size`, or none where that is none.
    pub fn limit(&self, layer: &Layer) -> Result<()> {
        limit(self.area(layer.home)?, layer.id, layer.max_size)
    }

    /// The bytes that were written to a layer and still lie on disk, and its inodes where they are counted, without a
    /// look at its files; none where the filesystem has not counted from the layer's beginning.
    pub fn written(&self, layer: &Layer) -> Result<Option<(i64, Option<i64>)>> {
        let written = written(self.area(layer.home)?, layer.id)?;
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(written.map(|written| (signed(written.bytes), written.inodes.map(signed))))
    }

    /// Forgets what limits were kept of layers that are gone.
    pub fn forget_limits(&self) -> Result<()> {
        self.areas().try_for_each(forget_gone)
    }
}

/// What keeps the limits of an area.
#[derive(Debug)]
pub(super) struct Quotas {
    /// Simple quota groups, once they are known to be enabled.
    groups: OnceLock<Groups>,
    /// True where the filesystem limits projects.
    projects: bool,
}

/// Simple quota groups.
#[derive(Debug, Clone)]
struct Groups {
    /// The directory with one for each.
    shown: PathBuf,
    /// The generation from which on they count.
    since: u64,
}

/// What was written to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    /// None where only bytes are counted.
    pub(super) inodes: Option<u64>,
}

impl Quotas {
    /// Of the home in this directory.
    pub(super) fn of(home: Home, layers: impl std::os::fd::AsFd) -> Self {
        Self { groups: OnceLock::new(), projects: home == Home::Plain && quota::projects_enforced(layers) }
    }
}

/// Makes ready for limits in this area, or says why there can be none.
pub(super) fn ready(area: &Area) -> Result<()> {
    if area.quotas().projects {
        return Ok(());
    }
    if area.home() == Home::Plain {
        let on = super::area::magic_number(area.layers())
            .map_or_else(|_| "its filesystem".into(), super::open::filesystem);
        return Err(refused(
            area,
            format!(
                "{on} keeps no limit here without project quotas; make a pool with `loom pool create`, or mount \
                     it with prjquota where the kernel has that"
            ),
        ));
    }
    if groups(area)?.is_some() {
        return Ok(());
    }
    fault::point("layer.quota.enable")?;
    quota::enable_groups(area.layers()).map_err(|e| match e {
        Errno::INVAL | Errno::NOTTY | Errno::OPNOTSUPP => {
            refused(area, "this kernel has no simple quota groups for btrfs; 6.7 or newer has".into())
        }
        e => Error::io("enable quotas of pool", area.path())(e),
    })?;
    tracing::info!(pool = %area.path().display(), "simple quota groups are enabled");
    match groups(area)? {
        Some(_) => Ok(()),
        None => Err(refused(area, "its quota groups were disabled a moment ago; try again".into())),
    }
}

/// Limits what may be written to a layer, in bytes; none for no limit.
pub(super) fn limit(area: &Area, id: LayerId, bytes: Option<i64>) -> Result<()> {
    let at = area.directory(id);
    let limit = bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0));
    if limit.is_some() {
        ready(area)?;
    }
    if area.quotas().projects {
        let project = quota::project(area.open_layer(id)?).map_err(Error::io("limit layer", &at))?;
        let Some(project) = project else {
            if limit.is_none() {
                return Ok(());
            }
            return Err(refused(
                area,
                format!("layer {id} was made before its filesystem had project quotas"),
            ));
        };
        fault::point("layer.quota.project")?;
        return quota::limit_project(area.layers(), project, limit).map_err(Error::io("limit layer", &at));
    }
    if area.home() == Home::Plain || groups(area)?.is_none() {
        return Ok(());
    }
    let subvolume = quota::subvolume(area.open_layer(id)?).map_err(Error::io("limit layer", &at))?;
    fault::point("layer.quota.limit")?;
    quota::limit_group(area.layers(), subvolume.tree, limit).map_err(Error::io("limit layer", &at))
}

/// What was written to a layer; none where nobody counts that, or has not from its beginning.
pub(super) fn written(area: &Area, id: LayerId) -> Result<Option<Written>> {
    let inspect = || Error::io("inspect layer", area.directory(id));
    if area.quotas().projects {
        let Some(project) = quota::project(area.open_layer(id)?).map_err(inspect())? else { return Ok(None) };
        let (bytes, inodes) = quota::project_usage(area.layers(), project).map_err(inspect())?;
        return Ok(Some(Written { bytes, inodes: Some(inodes) }));
    }
    if area.home() == Home::Plain {
        return Ok(None);
    }
    let Some(groups) = groups(area)? else { return Ok(None) };
    let subvolume = quota::subvolume(area.open_layer(id)?).map_err(inspect())?;
    if subvolume.made < groups.since {
        return Ok(None);
    }
    let group = groups.shown.join(format!("0_{}", subvolume.tree));
    // What is still in memory only is reserved.
    Ok(number(&group, "referenced")
        .map(|bytes| Written { bytes: bytes + number(&group, "rsv_data").unwrap_or(0), inodes: None }))
}

/// Gives the directory of a new plain layer to a project of its own, where its filesystem limits those.
pub(super) fn adopt(area: &Area, id: LayerId) -> Result<()> {
    let number = u32::try_from(id.0).ok().filter(|number| *number < FIRST_PROJECT);
    match number {
        Some(number) if area.quotas().projects => {
            fault::point("layer.quota.adopt")?;
            quota::set_project(area.open_layer(id)?, FIRST_PROJECT + number)
                .map_err(Error::io("create", area.directory(id)))
        }
        _ => Ok(()),
    }
}

/// Removes the quota groups of subvolumes that are gone and of which nothing is left. The kernel does that itself
/// only where nothing was left of one when it went.
pub(super) fn forget_gone(area: &Area) -> Result<()> {
    if area.home() == Home::Plain {
        return Ok(());
    }
    let Some(groups) = groups(area)? else { return Ok(()) };
    let Ok(shown) = fs::read_dir(&groups.shown) else { return Ok(()) };
    for group in shown.flatten() {
        let name = group.file_name();
        let tree = name.to_str().and_then(|name| name.strip_prefix("0_")?.parse::<u64>().ok());
        let Some(tree) = tree.filter(|tree| *tree >= ioctl::SUBVOLUME_INODE) else { continue };
        if number(&group.path(), "referenced") != Some(0) {
            continue;
        }
        let gone = quota::has_subvolume(area.layers(), tree).map(|is_there| !is_there);
        match gone.and_then(|gone| if gone { quota::remove_group(area.layers(), tree) } else { Ok(()) }) {
            Ok(()) | Err(Errno::BUSY | Errno::NOENT) => {}
            Err(e) => return Err(Error::io("tidy the quotas of pool", area.path())(e)),
        }
    }
    Ok(())
}

/// The simple quota groups of an area, where they are enabled.
fn groups(area: &Area) -> Result<Option<Groups>> {
    if let Some(groups) = area.quotas().groups.get() {
        return Ok(Some(groups.clone()));
    }
    let inspect = || Error::io("inspect the quotas of pool", area.path());
    match quota::groups(area.layers()).map_err(inspect())? {
        None => Ok(None),
        Some(quota::Groups { simple: true, since }) => {
            let uuid = ioctl::btrfs_uuid(area.layers()).map_err(inspect())?;
            let groups = Groups { shown: Path::new(GROUPS).join(hyphened(uuid)).join("qgroups"), since };
            Ok(Some(area.quotas().groups.get_or_init(|| groups).clone()))
        }
        Some(quota::Groups { simple: false, .. }) => Err(refused(
            area,
            "full quota groups are enabled there, which slow each branch by all that there are; disable them with \
             `btrfs quota disable`, and loom enables simple ones"
                .into(),
        )),
    }
}

fn refused(area: &Area, why: String) -> Error {
    Error::precondition(format!("a limit in {}", area.path().display()), why)
}

/// A file with one number.
fn number(directory: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
}

/// A UUID as it is written.
pub(super) fn hyphened(uuid: [u8; 16]) -> String {
    let all = u128::from_be_bytes(uuid);
    let part = |from: u32, bits: u32| (all >> from) & ((1 << bits) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 32),
        part(80, 16),
        part(64, 16),
        part(48, 16),
        part(0, 48)
    )
}
