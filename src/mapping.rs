//! A user namespace's mapping: which ids the users and groups of a container have on the host.
//!
//! Containers write it as `container:host:size`, several ranges separated by commas; so it is in containerd's labels,
//! in the options of a mount and, as JSON of two such texts, wherever loom keeps it. A mapping says whose the
//! files of a layer are: one that a mapped container writes to has the host's ids on disk, an image's the container's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// containerd's label with the users of a snapshot's mapping.
pub const UIDS_LABEL: &str = "containerd.io/snapshot/uidmapping";
/// containerd's label with its groups.
pub const GIDS_LABEL: &str = "containerd.io/snapshot/gidmapping";

/// Who owns what belongs to nobody in a container: what the kernel shows for an id without a mapping.
pub const NOBODY: u32 = 65534;

/// The ranges that the kernel takes.
const RANGES: usize = 340;

/// The users and the groups of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Its users.
    pub uids: Ids,
    /// Its groups.
    pub gids: Ids,
}

/// Ranges of ids, by those in the container. Root is always one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ids(Vec<Range>);

/// Ids in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    container: u32,
    host: u32,
    size: u32,
}

impl Mapping {
    /// What the labels of a snapshot say; none where they say nothing. `InvalidArgument` where only one of the two
    /// is there, or what it says is no mapping.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let read = |label: &str| {
            let text = labels.get(label).map(|text| text.parse::<Ids>());
            text.transpose().map_err(|why| Error::invalid(format!("label {label}"), why))
        };
        match (read(UIDS_LABEL)?, read(GIDS_LABEL)?) {
            (None, None) => Ok(None),
            (Some(uids), Some(gids)) => Ok(Some(Self { uids, gids })),
            (uids, _) => {
                let missing = if uids.is_some() { GIDS_LABEL } else { UIDS_LABEL };
                Err(Error::invalid(
                    format!("label {missing}"),
                    "it is missing; users and groups are mapped together",
                ))
            }
        }
    }

    /// Writes it into the labels of a snapshot.
    pub fn label(&self, labels: &mut BTreeMap<String, String>) {
        labels.insert(UIDS_LABEL.to_owned(), self.uids.to_string());
        labels.insert(GIDS_LABEL.to_owned(), self.gids.to_string());
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "users {}, groups {}", self.uids, self.gids)
    }
}

impl Ids {
    /// What an id of the container is on the host.
    pub fn on_host(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| shifted(id, range.container, range.host, range.size))
    }

    /// What an id of the host is in the container.
    pub fn in_container(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| shifted(id, range.host, range.container, range.size))
    }
}

fn shifted(id: u32, from: u32, to: u32, size: u32) -> Option<u32> {
    id.checked_sub(from).filter(|at| *at < size).map(|at| to + at)
}

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut ranges = text.split(',').map(str::parse).collect::<std::result::Result<Vec<Range>, _>>()?;
        if ranges.len() > RANGES {
            return Err(format!("it has {} ranges, and the kernel takes at most {RANGES}", ranges.len()));
        }
        let ends: [fn(&Range) -> u32; 2] = [|range| range.host, |range| range.container];
        for begin in ends {
            ranges.sort_unstable_by_key(begin);
            let meet = ranges
                .windows(2)
                .find(|two| matches!(two, [one, next] if begin(next) - begin(one) < one.size));
            if let Some([one, next]) = meet {
                return Err(format!("its ranges {one} and {next} overlap"));
            }
        }
        // By the container's ids now.
        match ranges.first() {
            Some(first) if first.container == 0 => Ok(Self(ranges)),
            _ => Err(format!("{text:?} has no id for the container's root, 0")),
        }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("{text:?} is no range of ids; write CONTAINER:HOST:SIZE");
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let mut parts =
            text.split(':').map(|part| part.parse().ok().filter(|_| digits(part)).ok_or_else(wrong));
        let mut part = || parts.next().unwrap_or_else(|| Err(wrong()));
        let range = Self { container: part()?, host: part()?, size: part()? };
        // The highest number is nobody's id: for the kernel it says that there is none.
        let fits = |begin: u32| begin.checked_add(range.size).is_some();
        if parts.next().is_some() || range.size == 0 {
            return Err(wrong());
        }
        if !fits(range.container) || !fits(range.host) {
            return Err(format!("{text:?} goes beyond the highest id, {}", u32::MAX - 1));
        }
        Ok(range)
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, range)| {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{range}")
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.container, self.host, self.size)
    }
}

impl TryFrom<String> for Ids {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Ids> for String {
    fn from(ids: Ids) -> Self {
        ids.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn labels(uids: Option<&str>, gids: Option<&str>) -> BTreeMap<String, String> {
        let all = [(UIDS_LABEL, uids), (GIDS_LABEL, gids)];
        all.into_iter().filter_map(|(label, text)| Some((label.to_owned(), text?.to_owned()))).collect()
    }

    #[test]
    fn ids_go_both_ways() {
        let ids: Ids = "1000:5000:10,0:200000:1000".parse().unwrap();
        for (container, host) in [(0, 200_000), (999, 200_999), (1000, 5000), (1009, 5009)] {
            assert_eq!(ids.on_host(container), Some(host));
            assert_eq!(ids.in_container(host), Some(container));
        }
        assert_eq!((ids.on_host(1010), ids.in_container(0), ids.in_container(201_000)), (None, None, None));
        assert_eq!(ids.to_string(), "0:200000:1000,1000:5000:10");
        let most: Ids = "0:0:4294967295".parse().unwrap();
        assert_eq!((most.on_host(u32::MAX - 1), most.on_host(u32::MAX)), (Some(u32::MAX - 1), None));
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for text in [
            "",
            ",",
            "0",
            "0:1",
            "0:1:2:3",
            "0:1:2,",
            "a:1:2",
            "-0:1:2",
            "+0:1:2",
            " 0:1:2",
            "0:1:0",
            "0::1",
            "1:1:1",
            "0:1:4294967295",
            "0:4294967295:1",
            "4294967296:0:1",
            "0:0:10,9:100:1",
            "0:0:10,10:9:1",
            "0:5:1,0:7:1",
        ] {
            assert!(text.parse::<Ids>().is_err(), "{text}");
            let error = Mapping::of_labels(&labels(Some(text), Some("0:1:1"))).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::InvalidArgument, "{error}");
        }
        let many: Vec<String> = (0..=RANGES).map(|n| format!("{n}:{n}:1")).collect();
        assert!(many.join(",").parse::<Ids>().unwrap_err().contains("340"));
        many[..RANGES].join(",").parse::<Ids>().unwrap();
    }

    #[test]
    fn labels_have_both_or_none() {
        assert_eq!(Mapping::of_labels(&labels(None, None)).unwrap(), None);
        for one in [labels(Some("0:1:1"), None), labels(None, Some("0:1:1"))] {
            assert!(Mapping::of_labels(&one).unwrap_err().to_string().contains("missing"));
        }
        let both = labels(Some("0:1:1"), Some("0:2:1,1:7:2"));
        let mapping = Mapping::of_labels(&both).unwrap().unwrap();
        let mut again = BTreeMap::new();
        mapping.label(&mut again);
        assert_eq!(again, both);
        let json = serde_json::to_string(&mapping).unwrap();
        assert_eq!(json, r#"{"uids":"0:1:1","gids":"0:2:1,1:7:2"}"#);
        assert_eq!(serde_json::from_str::<Mapping>(&json).unwrap(), mapping);
        assert!(serde_json::from_str::<Mapping>(r#"{"uids":"x","gids":"0:1:1"}"#).is_err());
    }
}
