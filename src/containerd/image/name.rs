//! What people call an image, by docker's grammar: `[DOMAIN/]PATH[:TAG]`.
//!
//! A name without a domain is one of the default domain's, one without a tag has the tag `latest`, as with every
//! tool that takes such names.

use crate::error::{Error, Result};

/// The domain of a name that has none, and an older name of it.
const DOMAIN: &str = "docker.io";
const OLD_DOMAIN: &str = "index.docker.io";
/// Where what has no path but a name lies in it.
const LIBRARY: &str = "library/";
/// The tag of a name that has none.
const TAG: &str = "latest";
/// The longest name without its tag, and the longest tag, in bytes.
const LONGEST: usize = 255;
const LONGEST_TAG: usize = 128;

/// The whole name of an image; a name with a digest, and one that breaks the grammar, is invalid.
pub(in crate::containerd) fn whole(name: &str) -> Result<String> {
    let refused = |why: String| Error::invalid(format!("image name {name:?}"), why);
    if name.is_empty() {
        return Err(refused("it is empty; write [DOMAIN/]NAME[:TAG]".to_owned()));
    }
    if name.contains('@') {
        return Err(refused(
            "a digest says what an image has and cannot be chosen; write [DOMAIN/]NAME[:TAG]".to_owned(),
        ));
    }
    if name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(refused("64 hex digits are an image's id".to_owned()));
    }
    let (domain, rest) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DOMAIN, name),
    };
    let domain = if domain == OLD_DOMAIN { DOMAIN } else { domain };
    if !is_domain(domain) {
        return Err(refused(format!("{domain:?} is no domain; write HOST or HOST:PORT before the first /")));
    }
    let (path, tag) = rest.split_once(':').unwrap_or((rest, TAG));
    if let Some(part) = path.split('/').find(|part| !is_component(part)) {
        return Err(refused(format!(
            "{part:?} is no part of a name: these are of lowercase letters and digits, with '.', '_', '__' or \
             dashes between"
        )));
    }
    if !is_tag(tag) {
        return Err(refused(format!(
            "{tag:?} is no tag: one is of letters, digits, '_', '.' and '-', begins with neither of the last two, \
             and has at most {LONGEST_TAG} bytes"
        )));
    }
    let library = if domain == DOMAIN && !path.contains('/') { LIBRARY } else { "" };
    let repository = format!("{domain}/{library}{path}");
    if repository.len() > LONGEST {
        return Err(refused(format!("it has more than {LONGEST} bytes")));
    }
    Ok(format!("{repository}:{tag}"))
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        let sound = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        sound && ends(label.bytes().next()) && ends(label.bytes().last())
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    host && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Lowercase letters and digits; between them one '.', one or two '_', or any number of '-'.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    let ends = text.starts_with(alphanumeric) && text.ends_with(alphanumeric);
    ends && text.split(alphanumeric).all(separator)
}

fn is_tag(text: &str) -> bool {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=LONGEST_TAG).contains(&text.len()) && text.bytes().all(sound) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::Kind;

    #[test]
    fn names_are_made_whole() {
        for (name, want) in [
            ("foo", "docker.io/library/foo:latest"),
            ("foo:1", "docker.io/library/foo:1"),
            ("me/foo", "docker.io/me/foo:latest"),
            ("docker.io/foo", "docker.io/library/foo:latest"),
            ("index.docker.io/me/foo:a", "docker.io/me/foo:a"),
            ("localhost/foo", "localhost/foo:latest"),
            ("localhost:5000/foo:v1", "localhost:5000/foo:v1"),
            ("example.org/a/b_c/d__e/f---g:V_1.2-x", "example.org/a/b_c/d__e/f---g:V_1.2-x"),
            ("[::1]:5000/foo", "[::1]:5000/foo:latest"),
            ("Host/foo", "Host/foo:latest"),
        ] {
            assert_eq!(whole(name).unwrap(), want, "{name}");
            assert_eq!(whole(want).unwrap(), want, "{name}");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_told() {
        let (digest, id) = (format!("foo@sha256:{}", "0".repeat(64)), "0f".repeat(32));
        let (long, tag) = ("a".repeat(256), format!("foo:{}", "t".repeat(129)));
        for (name, part) in [
            ("", "empty"),
            ("Foo", "\"Foo\""),
            ("foo/", "\"\""),
            ("foo//bar", "\"\""),
            ("foo bar", "\"foo bar\""),
            ("foo...bar", "\"foo...bar\""),
            ("foo___bar", "\"foo___bar\""),
            ("-foo", "\"-foo\""),
            ("foo:", "\"\" is no tag"),
            ("foo:-1", "\"-1\""),
            ("foo:a:b", "\"a:b\""),
            ("ex_ample.org/foo", "\"ex_ample.org\""),
            ("localhost:port/foo", "\"localhost:port\""),
            ("ü", "\"ü\""),
            (&digest, "digest"),
            (&id, "id"),
            (&long, "255"),
            (&tag, "128"),
        ] {
            let error = whole(name).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{name}");
            assert!(error.to_string().contains(part), "{name}: {error}");
        }
    }
}
