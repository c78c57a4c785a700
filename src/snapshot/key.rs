//! What loom takes as a key, a name and a label.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::store::Snapshot;

/// The label by which an unpacker names the image layer that it is about to make.
pub const REF_LABEL: &str = "containerd.io/snapshot.ref";

/// How containerd's client calls the copy of an image whose owners it changes for a user namespace, until it commits
/// that under the same name without this. It does so for snapshotters that cannot map, or of which its configuration
/// does not say that they can; and passes the mapping on all the same.
pub(super) const CHOWNED_SUFFIX: &str = "-remap";

/// The label on such a copy: no mapping is to be applied to it again.
pub(super) const CHOWNED_LABEL: &str = "containerd.io/snapshot/loom.chowned";

/// containerd's own limit on the bytes of a label's key and value together.
const LABEL_BYTES: usize = 4096;
/// Longer than any key of containerd's, short enough for an index and a log line.
const KEY_BYTES: usize = 4096;
/// A name is typed by people and used as a container's name.
const NAME_BYTES: usize = 128;

/// The parts of a key as containerd's metadata layer makes it: `<namespace>/<sequence>/<client key>`.
pub fn parts(key: &str) -> Option<(&str, &str)> {
    let (namespace, rest) = key.split_once('/')?;
    let (sequence, client) = rest.split_once('/')?;
    let counted = !sequence.is_empty() && sequence.bytes().all(|b| b.is_ascii_digit());
    (counted && !namespace.is_empty() && !client.is_empty()).then_some((namespace, client))
}

/// The key as its client knows it.
pub fn client(key: &str) -> &str {
    parts(key).map_or(key, |(_, client)| client)
}

/// The namespace that a snapshot belongs to: its key's, else its container's.
pub fn namespace(snapshot: &Snapshot) -> Option<String> {
    if let Some((namespace, _)) = snapshot.key.as_deref().and_then(parts) {
        return Some(namespace.to_owned());
    }
    let captured: serde_json::Value = serde_json::from_str(snapshot.captured.as_deref()?).ok()?;
    Some(captured.get("namespace")?.as_str()?.to_owned())
}

/// A key is never a path here, so only what cannot be stored or shown is refused.
pub(super) fn check(key: &str) -> Result<()> {
    let shown = || format!("snapshot key {:?}", shorten(key));
    if key.is_empty() {
        return Err(Error::invalid("an empty snapshot key", "a snapshot needs a key"));
    }
    if key.len() > KEY_BYTES {
        return Err(Error::invalid(
            shown(),
            format!("a key has at most {KEY_BYTES} bytes, not {}", key.len()),
        ));
    }
    if key.chars().any(char::is_control) {
        return Err(Error::invalid(shown(), "a key has no control characters"));
    }
    if key.split('/').any(|part| part == "..") {
        return Err(Error::invalid(shown(), "a key has no part `..`"));
    }
    Ok(())
}

/// A name is one word, so that it can be typed, and become a container's name.
pub fn check_name(name: &str) -> Result<()> {
    let shown = || format!("name {:?}", shorten(name));
    if name.is_empty() || name.len() > NAME_BYTES {
        return Err(Error::invalid(shown(), format!("a name has 1 to {NAME_BYTES} bytes")));
    }
    let ends_well = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let sound = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !sound || !ends_well(name.bytes().next()) || !ends_well(name.bytes().last()) {
        return Err(Error::invalid(
            shown(),
            "a name is of letters, digits, `.`, `_` and `-`, and begins and ends with a letter or digit",
        ));
    }
    Ok(())
}

/// Labels as containerd limits them.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in labels {
        let length = key.len() + value.len();
        if length > LABEL_BYTES {
            return Err(Error::invalid(
                format!("label {:?}", shorten(key)),
                format!("key and value have at most {LABEL_BYTES} bytes together, not {length}"),
            ));
        }
        if key.is_empty() || key.contains('\0') || value.contains('\0') {
            return Err(Error::invalid(
                format!("label {:?}", shorten(key)),
                "a label has a key, and no NUL in it",
            ));
        }
    }
    Ok(())
}

/// True for what an unpacker prepares: always a plain layer, shared by every container above it.
pub fn is_unpack(key: &str, labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(REF_LABEL) || client(key).starts_with("extract-")
}

/// A hostile key must not fill a log.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_containerd_have_three_parts() {
        assert_eq!(parts("default/12/web"), Some(("default", "web")));
        assert_eq!(parts("k8s.io/3/a/b/c"), Some(("k8s.io", "a/b/c")));
        for other in ["web", "default/web", "default/x/web", "default//web", "/1/web", "default/1/"] {
            assert_eq!(parts(other), None, "{other}");
        }
        assert_eq!(client("default/12/extract-1 sha256:a"), "extract-1 sha256:a");
        assert_eq!(client("web"), "web");
    }

    #[test]
    fn hostile_keys_are_refused_and_shown_short() {
        let long = "x".repeat(64 * 1024);
        for key in ["", "../etc", "a/../b", "a\0b", "a\nb", &long] {
            let error = check(key).unwrap_err().to_string();
            assert!(error.len() < 300, "{error}");
        }
        for key in ["default/1/a b", "sha256:abc", "ünï/1/…", "a..b"] {
            check(key).unwrap();
        }
    }

    #[test]
    fn names_can_be_typed() {
        for name in ["a", "web-1", "a_b.c"] {
            check_name(name).unwrap();
        }
        let long = "x".repeat(129);
        for name in ["", "-a", "a-", "a/b", "a b", "..", "ä", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn labels_have_containerds_limit() {
        let label = |size: usize| BTreeMap::from([("k".to_owned(), "v".repeat(size))]);
        check_labels(&label(4095)).unwrap();
        let error = check_labels(&label(4096)).unwrap_err().to_string();
        assert!(error.contains("4096") && error.contains("4097"), "{error}");
    }
}
