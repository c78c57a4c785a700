//! The archive of an image: a layout of the OCI in a tar, or what `docker save` writes.
//!
//! Its files come in whatever order, so each is stored as it comes; which of them the image is made of is told
//! once all are there. Names in it are only looked up here, never opened.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::Value;

use super::form::{Coding, bad};
use super::store::Written;
use crate::containerd::image::config::{descriptor, manifest};
use crate::error::{Error, Result};

/// The most that a document in it may have, in bytes.
const DOCUMENT: u64 = 8 << 20;
/// The most files that it may have: images have some hundred layers at most.
const FILES: usize = 10_000;
/// What digests begin with.
const SHA256: &str = "sha256:";

/// A file that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) blob: Written,
    /// How it is compressed.
    pub(super) coding: Coding,
}

/// What was in it.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// `index.json`.
    pub(super) index: Option<Value>,
    /// `manifest.json`, which docker reads.
    pub(super) manifest: Option<Value>,
    /// All others, by their names.
    pub(super) files: BTreeMap<String, File>,
    /// Names that stand for others.
    links: BTreeMap<String, String>,
}

/// An image in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// What it calls itself.
    pub(super) name: Option<String>,
    /// What it is.
    pub(super) what: What,
}

/// What there is of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// A descriptor, of a manifest or of an index.
    Target(Value),
    /// A manifest that is still to be stored: docker's archives may have none.
    Manifest(Value),
}

impl Layout {
    /// Reads it to its end. `store` stores a file, whose first bytes are given too.
    pub(super) fn read(
        from: impl Read,
        store: &mut dyn FnMut(&mut dyn Read) -> Result<Written>,
    ) -> Result<Self> {
        let mut layout = Self::default();
        let mut archive = tar::Archive::new(from);
        for entry in archive.entries().map_err(|e| bad(&e))? {
            let mut entry = entry.map_err(|e| bad(&e))?;
            let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(&target);
                let target = if kind.is_symlink() { beside(&name, &target) } else { clean(&target) };
                layout.links.insert(name, target);
            } else if kind.is_file() {
                layout.file(&name, &mut entry, store)?;
            }
            if layout.files.len() + layout.links.len() > FILES {
                return Err(Error::invalid(
                    "the archive",
                    format!("it has more than {FILES} files; no image has"),
                ));
            }
        }
        Ok(layout)
    }

    fn file(
        &mut self,
        name: &str,
        entry: &mut tar::Entry<'_, impl Read>,
        store: &mut dyn FnMut(&mut dyn Read) -> Result<Written>,
    ) -> Result<()> {
        let size = entry.size();
        let cut_off =
            || Error::invalid("the archive", format!("it ends in the middle of {name:?}; it was cut off"));
        if matches!(name, "index.json" | "manifest.json") {
            if size > DOCUMENT {
                return Err(Error::invalid(
                    format!("{name} in the archive"),
                    "it is too large for a document",
                ));
            }
            let mut text = Vec::new();
            entry.read_to_end(&mut text).map_err(|e| bad(&e))?;
            if text.len() as u64 != size {
                return Err(cut_off());
            }
            let document = serde_json::from_slice(&text);
            let document = document.map_err(|e| {
                Error::invalid(format!("{name} in the archive"), format!("it is no JSON: {e}"))
            })?;
            let place = if name == "index.json" { &mut self.index } else { &mut self.manifest };
            *place = Some(document);
            return Ok(());
        }
        let mut head = Vec::new();
        entry.by_ref().take(4).read_to_end(&mut head).map_err(|e| bad(&e))?;
        let coding = Coding::of(&head);
        let blob = store(&mut head.as_slice().chain(&mut *entry))?;
        if u64::try_from(blob.size) != Ok(size) {
            return Err(cut_off());
        }
        if let Some(hex) = name.strip_prefix("blobs/sha256/")
            && blob.digest.strip_prefix(SHA256) != Some(hex)
        {
            return Err(Error::invalid(
                format!("{name} in the archive"),
                format!("its bytes have the digest {}; the archive is damaged", blob.digest),
            ));
        }
        self.files.insert(name.to_owned(), File { blob, coding });
        Ok(())
    }

    /// The image in it that is called `wanted`, where one is; else the only one.
    pub(super) fn image(&self, wanted: Option<&str>) -> Result<Found> {
        let found = match (&self.index, &self.manifest) {
            (Some(index), _) => of_index(index),
            (None, Some(manifest)) => self.of_docker(manifest)?,
            (None, None) => {
                return Err(Error::invalid(
                    "the archive",
                    "it has neither index.json nor manifest.json; it is no image's archive, or was cut off",
                ));
            }
        };
        let named = found.iter().find(|found| wanted.is_some() && found.name.as_deref() == wanted);
        match (named, found.as_slice()) {
            (Some(named), _) => Ok(named.clone()),
            (None, []) => Err(Error::invalid("the archive", "there is no image in it")),
            (None, [first, rest @ ..]) => {
                // One image may have several names.
                if rest.iter().all(|other| other.what == first.what) {
                    return Ok(first.clone());
                }
                let all: Vec<&str> =
                    found.iter().map(|found| found.name.as_deref().unwrap_or("one without a name")).collect();
                Err(Error::invalid(
                    "the archive",
                    format!("{} images are in it; choose one by its name: {}", all.len(), all.join(", ")),
                ))
            }
        }
    }

    /// Images by docker's own list, for which a manifest is to be made.
    fn of_docker(&self, list: &Value) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for image in list.as_array().into_iter().flatten() {
            let config = self.file_of(image["Config"].as_str().unwrap_or_default())?;
            let layers = image["Layers"].as_array().into_iter().flatten();
            let layers = layers.map(|layer| {
                let File { blob, coding } = self.file_of(layer.as_str().unwrap_or_default())?;
                Ok(descriptor(coding.layer(), &blob.digest, blob.size))
            });
            let layers = layers.collect::<Result<Vec<_>>>()?;
            let manifest = manifest(&config.blob.digest, config.blob.size, &layers);
            let tags: Vec<&Value> = image["RepoTags"].as_array().into_iter().flatten().collect();
            let names = tags.iter().filter_map(|tag| tag.as_str()).map(|tag| Some(tag.to_owned()));
            let names: Vec<_> = if tags.is_empty() { vec![None] } else { names.collect() };
            found
                .extend(names.into_iter().map(|name| Found { name, what: What::Manifest(manifest.clone()) }));
        }
        Ok(found)
    }

    /// The file of a name, or of what that stands for.
    fn file_of(&self, name: &str) -> Result<&File> {
        let mut at = clean(name);
        // A link to a link would do; a circle would not.
        for _ in 0..8 {
            if let Some(file) = self.files.get(&at) {
                return Ok(file);
            }
            match self.links.get(&at) {
                Some(target) => at.clone_from(target),
                None => break,
            }
        }
        Err(Error::invalid("the archive", format!("manifest.json names {name:?}, which is not in it")))
    }
}

fn of_index(index: &Value) -> Vec<Found> {
    let descriptors = index["manifests"].as_array().into_iter().flatten();
    let named = |descriptor: &Value| {
        let annotation = |name: &str| descriptor["annotations"][name].as_str().map(ToOwned::to_owned);
        // The second may be a tag alone, which names no image.
        annotation("io.containerd.image.name").or_else(|| {
            annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']))
        })
    };
    let bare = |descriptor: &Value| {
        let mut bare = descriptor.clone();
        if let Some(fields) = bare.as_object_mut() {
            fields.remove("annotations");
        }
        bare
    };
    descriptors.map(|one| Found { name: named(one), what: What::Target(bare(one)) }).collect()
}

/// A name in an archive, without what does not tell it from others.
fn clean(name: &str) -> String {
    let parts = name.split('/').filter(|part| !part.is_empty() && *part != ".");
    let mut path: Vec<&str> = Vec::new();
    for part in parts {
        if part == ".." {
            path.pop();
        } else {
            path.push(part);
        }
    }
    path.join("/")
}

/// What a symbolic link at `name` leads to.
fn beside(name: &str, target: &str) -> String {
    if target.starts_with('/') {
        return clean(target);
    }
    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
    clean(&format!("{directory}/{target}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::error::Kind;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, name, *data).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn written(data: &[u8]) -> Written {
        Written {
            digest: format!("sha256:{:x}", Sha256::digest(data)),
            size: i64::try_from(data.len()).unwrap(),
        }
    }

    fn read(archive: &[u8]) -> Result<Layout> {
        Layout::read(archive, &mut |file| {
            let mut data = Vec::new();
            file.read_to_end(&mut data).map_err(|e| bad(&e))?;
            Ok(written(&data))
        })
    }

    fn index(names: &[&str]) -> Vec<u8> {
        let manifests: Vec<Value> = names
            .iter()
            .enumerate()
            .map(|(n, name)| json!({"digest": n, "annotations": {"io.containerd.image.name": name}}))
            .collect();
        json!({"manifests": manifests}).to_string().into_bytes()
    }

    #[test]
    fn a_blob_is_what_its_name_says() {
        let digest = written(b"blob").digest;
        let name = format!("blobs/sha256/{}", digest.strip_prefix(SHA256).unwrap());
        let good = archive(&[(&name, b"blob"), ("oci-layout", b"{}")]);
        assert_eq!(read(&good).unwrap().files[&name].blob.digest, digest);
        for bad in [archive(&[(&name, b"blot")]), good[..514].to_vec()] {
            assert_eq!(read(&bad).unwrap_err().kind(), Kind::InvalidArgument);
        }
        let cut = archive(&[("index.json", &[b' '; 600])]);
        for bad in [archive(&[("index.json", b"{")]), cut[..1000].to_vec()] {
            assert_eq!(read(&bad).unwrap_err().kind(), Kind::InvalidArgument);
        }
    }

    #[test]
    fn of_several_images_one_is_chosen_by_name() {
        let several = read(&archive(&[("index.json", &index(&["a:1", "b:1"]))])).unwrap();
        assert_eq!(several.image(Some("b:1")).unwrap().what, What::Target(json!({"digest": 1})));
        let error = several.image(None).unwrap_err().to_string();
        assert!(error.contains("a:1, b:1"), "{error}");
        let one = read(&archive(&[("index.json", &index(&["a:1"]))])).unwrap();
        assert_eq!(one.image(Some("other:1")).unwrap().name.as_deref(), Some("a:1"));
        for none in [index(&[]), b"{}".to_vec(), b"[3]".to_vec()] {
            let none = read(&archive(&[("index.json", &none)])).unwrap();
            assert_eq!(none.image(None).unwrap_err().kind(), Kind::InvalidArgument);
        }
        assert!(read(&archive(&[("blobs/x", b"")])).unwrap().image(None).is_err());
    }

    #[test]
    fn what_docker_saved_is_found_through_its_links() {
        let list = json!([{"Config": "c.json", "RepoTags": ["a:1", "a:2"], "Layers": ["1/layer.tar", "2/layer.tar"]}]);
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, name, data).unwrap();
        };
        add("c.json", b"{}");
        add("1/layer.tar", b"\x1f\x8b..");
        add("manifest.json", list.to_string().as_bytes());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "2/layer.tar", "../1/layer.tar").unwrap();
        let found = read(&tar.into_inner().unwrap()).unwrap().image(None).unwrap();
        assert_eq!(found.name.as_deref(), Some("a:1"));
        let What::Manifest(manifest) = found.what else { panic!("{found:?}") };
        assert_eq!(manifest["config"]["digest"], written(b"{}").digest);
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!((layers.len(), &layers[0]), (2, &layers[1]));
        assert_eq!(layers[0]["mediaType"], Coding::Gzip.layer());
        let missing = archive(&[("manifest.json", br#"[{"Config": "c.json", "Layers": []}]"#)]);
        assert!(read(&missing).unwrap().image(None).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        for (name, is) in [("./a//b/", "a/b"), ("../../etc", "etc"), ("/a/../b", "b"), ("", "")] {
            assert_eq!(clean(name), is);
        }
        assert_eq!(beside("1/layer.tar", "../2/layer.tar"), "2/layer.tar");
        assert_eq!(beside("1/layer.tar", "/x"), "x");
    }
}
