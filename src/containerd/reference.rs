//! What a person may call a container or a snapshot, and what containerd takes as a name.

use crate::error::{Error, Result};

/// The longest id that containerd takes, in bytes.
pub(super) const LONGEST: usize = 76;

/// The most containers that one fork makes.
pub(super) const MOST_FORKS: u32 = 1000;

/// A reference, read but not yet looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    /// `container:[NAMESPACE/]NAME`
    Container {
        /// The namespace, where it is not the request's.
        namespace: Option<&'a str>,
        /// An id, the beginning of one, or nerdctl's name.
        name: &'a str,
    },
    /// `snapshot:NAME`
    Snapshot(&'a str),
    /// `image:NAME`
    Image(&'a str),
    /// Anything else: a container, else a snapshot, else an image.
    Bare(&'a str),
}

impl<'a> Reference<'a> {
    /// Reads a reference; an empty one is invalid.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let read = if let Some(name) = text.strip_prefix("container:") {
            match name.split_once('/') {
                Some((namespace, name)) => {
                    identifier("namespace", namespace)?;
                    Self::Container { namespace: Some(namespace), name }
                }
                None => Self::Container { namespace: None, name },
            }
        } else if let Some(name) = text.strip_prefix("snapshot:") {
            Self::Snapshot(name)
        } else if let Some(name) = text.strip_prefix("image:") {
            Self::Image(name)
        } else {
            Self::Bare(text)
        };
        match read {
            Self::Container { name: "", .. } | Self::Snapshot("") | Self::Image("") | Self::Bare("") => {
                Err(Error::invalid(
                    format!("reference {text:?}"),
                    "it names nothing; write container:NAME, snapshot:NAME, image:NAME or a name or id alone",
                ))
            }
            Self::Container { name, .. } => identifier("container name", name).map(|()| read),
            _ => Ok(read),
        }
    }
}

/// True for what containerd takes as an id: letters and digits, in parts with one `.`, `_` or `-` between.
pub(super) fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST
        && text
            .split(['.', '_', '-'])
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Refuses what containerd would not take as an id. It also keeps a name from meaning anything in a
/// filter or a header.
pub(super) fn identifier(what: &str, text: &str) -> Result<()> {
    if is_identifier(text) {
        return Ok(());
    }
    Err(Error::invalid(
        format!("{what} {text:?}"),
        format!(
            "containerd takes letters and digits with single '.', '_' or '-' between, at most {LONGEST} bytes"
        ),
    ))
}

/// Refuses to fork none, or more than one request makes.
pub(super) fn check_count(count: u32) -> Result<()> {
    if (1..=MOST_FORKS).contains(&count) {
        return Ok(());
    }
    Err(Error::invalid(format!("count {count}"), format!("one fork makes 1 to {MOST_FORKS} containers")))
}

/// The names of `count` forks of `source`: `name` or `<source>-fork-<6 hex>`, and `-1` and so on
/// behind it where there are several.
pub(super) fn fork_names(source: &str, name: Option<&str>, count: u32) -> Result<Vec<String>> {
    check_count(count)?;
    let base = match name {
        Some(name) => name.to_owned(),
        None => default_name(source, "-fork")?,
    };
    let names: Vec<String> =
        if count == 1 { vec![base] } else { (1..=count).map(|n| format!("{base}-{n}")).collect() };
    for name in &names {
        identifier("container name", name)?;
    }
    Ok(names)
}

/// `<source><infix>-<6 hex>`, cut so that containerd takes it even with a number behind.
pub(super) fn default_name(source: &str, infix: &str) -> Result<String> {
    let mut random = [0; 3];
    getrandom::fill(&mut random).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    // What a fork's number and the random part can take.
    let room = LONGEST - infix.len() - "-123456".len() - "-1000".len();
    let source = short(source);
    let cut = source.char_indices().map(|(at, _)| at).find(|at| *at >= room).unwrap_or(source.len());
    let source = source[..cut].trim_end_matches(['.', '_', '-']);
    Ok(format!("{source}{infix}-{:02x}{:02x}{:02x}", random[0], random[1], random[2]))
}

/// A random id of 64 hex digits as people see it: its first 12; anything else as it is.
fn short(id: &str) -> &str {
    if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) { &id[..12] } else { id }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::Kind;

    #[test]
    fn references_are_read() {
        for (text, want) in [
            ("container:web", Reference::Container { namespace: None, name: "web" }),
            ("container:ci/web", Reference::Container { namespace: Some("ci"), name: "web" }),
            ("snapshot:base", Reference::Snapshot("base")),
            ("snapshot:default/3/web", Reference::Snapshot("default/3/web")),
            ("image:busybox:1", Reference::Image("busybox:1")),
            ("web", Reference::Bare("web")),
            ("default/3/web", Reference::Bare("default/3/web")),
        ] {
            assert_eq!(Reference::parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            "container:",
            "container:ci/",
            "container:/web",
            "container:a/b/c",
            "container:a\"b",
            "snapshot:",
            "image:",
            "container:web\n",
        ] {
            assert_eq!(Reference::parse(text).unwrap_err().kind(), Kind::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn identifiers_are_containerds() {
        for good in ["a", "A9", "a.b_c-d", "0123", &"x".repeat(76)] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "a..b", "a/b", "a b", "ä", "a\0", "..", &"x".repeat(77)] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }

    #[test]
    fn forks_are_named_after_their_source_or_as_told() {
        assert_eq!(fork_names("web", Some("try"), 1).unwrap(), ["try"]);
        assert_eq!(fork_names("web", Some("try"), 3).unwrap(), ["try-1", "try-2", "try-3"]);
        let names = fork_names("web", None, 1).unwrap();
        assert!(names[0].starts_with("web-fork-") && names[0].len() == "web-fork-".len() + 6);
        let names = fork_names("web", None, 2).unwrap();
        assert!(names[0].ends_with("-1") && names[1].ends_with("-2"));
    }

    #[test]
    fn names_and_counts_that_containerd_refuses_are_refused_first() {
        for (name, count) in
            [(Some("a b"), 1), (Some(""), 1), (Some("a-"), 2), (None, 0), (None, 1001), (Some("../x"), 1)]
        {
            let error = fork_names("web", name, count).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{name:?} {count}");
        }
        let long = "x".repeat(76);
        assert!(fork_names("web", Some(&long), 1).is_ok());
        assert!(fork_names("web", Some(&long), 2).is_err());
    }

    #[test]
    fn default_names_fit_whatever_the_source() {
        let dots = format!("{}.{}", "x".repeat(55), "y".repeat(20));
        for source in ["x".repeat(76), "a".repeat(64), dots] {
            let names = fork_names(&source, None, 1000).unwrap();
            assert_eq!(names.len(), 1000);
        }
        assert!(default_name(&"0f".repeat(32), "").unwrap().starts_with("0f0f0f0f0f0f-"));
    }
}
