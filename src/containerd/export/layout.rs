//! An image as a layout of the OCI in a tar, which docker reads too.
//!
//! ```text
//! oci-layout  index.json  manifest.json (docker's)  blobs/  blobs/sha256/  blobs/sha256/…
//! ```
//!
//! The documents come first, so that whoever reads it knows what is to come. The same image is the same archive.

use std::collections::BTreeSet;

use containerd_client::services::v1::ReadContentRequest;
use containerd_client::types::Descriptor;
use serde_json::{Value, json};

use super::Receiver;
use crate::containerd::client::Client;
use crate::containerd::image::manifest::{Manifest, absent};
use crate::error::{Error, Result};

/// A tar's unit.
const BLOCK: usize = 512;
/// Where blobs lie.
const BLOBS: &str = "blobs/sha256/";

/// Sends an image whose blobs are all here. Ends early where nobody wants it any more.
pub(super) async fn send(client: &Client, image: &Manifest, name: Option<&str>, to: &Receiver) -> Result<()> {
    let documents = [
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
        ("index.json", index(image, name)),
        ("manifest.json", dockers(image, name)?),
    ];
    let mut head = Vec::new();
    for (path, document) in documents {
        let text = document.to_string().into_bytes();
        head.extend(header(path, text.len() as u64)?);
        head.extend_from_slice(&text);
        head.extend(padding(text.len() as u64));
    }
    for directory in ["blobs/", BLOBS] {
        head.extend(header(directory, 0)?);
    }
    if !to.send(head).await {
        return Ok(());
    }
    let mut sent = BTreeSet::new();
    for blob in [&image.descriptor, &image.config].into_iter().chain(&image.layers) {
        // Two layers may be one blob.
        if sent.insert(&blob.digest) && !send_blob(client, blob, to).await? {
            return Ok(());
        }
    }
    to.send(vec![0; 2 * BLOCK]).await;
    Ok(())
}

/// Sends a blob; false where nobody wants it any more.
async fn send_blob(client: &Client, blob: &Descriptor, to: &Receiver) -> Result<bool> {
    crate::fault::point("containerd.export.blob")?;
    let size = u64::try_from(blob.size).unwrap_or_default();
    if !to.send(header(&path(&blob.digest)?, size)?).await {
        return Ok(false);
    }
    let failed = || client.failed(format!("read {}", blob.digest));
    let request = client.stream(ReadContentRequest { digest: blob.digest.clone(), offset: 0, size: 0 });
    let mut parts = client.content().read(request).await.map_err(failed())?.into_inner();
    let mut left = size;
    while let Some(part) = parts.message().await.map_err(failed())? {
        left = left.checked_sub(part.data.len() as u64).ok_or_else(|| absent(&blob.digest))?;
        if !to.send(part.data).await {
            return Ok(false);
        }
    }
    if left > 0 {
        return Err(absent(&blob.digest));
    }
    Ok(to.send(padding(size)).await)
}

fn index(image: &Manifest, name: Option<&str>) -> Value {
    let mut manifest = json!({
        "mediaType": image.descriptor.media_type,
        "digest": image.descriptor.digest,
        "size": image.descriptor.size,
        "platform": image.platform(),
    });
    if let Some(name) = name {
        // As containerd writes and reads them: the whole name, and its tag alone.
        let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
        manifest["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    }
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    })
}

/// Docker's own list of what is in it.
fn dockers(image: &Manifest, name: Option<&str>) -> Result<Value> {
    let layers = image.layers.iter().map(|layer| path(&layer.digest)).collect::<Result<Vec<_>>>()?;
    let tags: Vec<&str> = name.into_iter().collect();
    Ok(json!([{"Config": path(&image.config.digest)?, "RepoTags": tags, "Layers": layers}]))
}

/// Where a blob lies.
fn path(digest: &str) -> Result<String> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(format!("{BLOBS}{hex}"))
        }
        _ => {
            Err(Error::precondition(format!("content {digest}"), "an archive has only such as sha256 names"))
        }
    }
}

/// The header of a file, or of a directory where the name ends so.
fn header(name: &str, size: u64) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    let directory = name.ends_with('/');
    header.set_entry_type(if directory { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_path(name).map_err(Error::io("name in an archive", name))?;
    header.set_mode(if directory { 0o755 } else { 0o444 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

/// What fills up the last block of so many bytes.
fn padding(size: u64) -> Vec<u8> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    vec![0; (BLOCK - over) % BLOCK]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read as _;

    use super::*;
    use crate::containerd::image::config::Documents;

    fn blob(digit: &str) -> Descriptor {
        let media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
        Descriptor {
            digest: format!("sha256:{}", digit.repeat(64)),
            size: 5,
            media_type,
            ..Descriptor::default()
        }
    }

    fn image() -> Manifest {
        Manifest {
            descriptor: blob("a"),
            config: blob("b"),
            layers: vec![blob("c"), blob("d")],
            documents: Documents::of(&[], json!({"os": "linux", "architecture": ""})),
        }
    }

    #[test]
    fn containerd_and_docker_find_the_name_and_the_layers() {
        let index = index(&image(), Some("docker.io/library/a:1"));
        let annotations = &index["manifests"][0]["annotations"];
        assert_eq!(annotations["io.containerd.image.name"], "docker.io/library/a:1");
        assert_eq!(annotations["org.opencontainers.image.ref.name"], "1");
        assert_eq!(index["manifests"][0]["platform"], json!({"os": "linux"}));
        let list = dockers(&image(), Some("docker.io/library/a:1")).unwrap();
        assert_eq!(list[0]["RepoTags"], json!(["docker.io/library/a:1"]));
        assert_eq!(list[0]["Layers"][1], format!("{BLOBS}{}", "d".repeat(64)));
        assert_eq!(dockers(&image(), None).unwrap()[0]["RepoTags"], json!([]));
        for bad in ["sha512:aa", "sha256:../..", ""] {
            assert!(path(bad).is_err());
        }
    }

    #[test]
    fn its_headers_are_a_tars() {
        let mut tar = header("blobs/", 0).unwrap();
        tar.extend(header("blobs/file", 5).unwrap());
        tar.extend_from_slice(b"12345");
        tar.extend(padding(5));
        tar.extend([0; 2 * BLOCK]);
        assert_eq!(tar.len() % BLOCK, 0);
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut entries = archive.entries().unwrap();
        assert!(entries.next().unwrap().unwrap().header().entry_type().is_dir());
        let mut text = String::new();
        entries.next().unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "12345");
        assert!(entries.next().is_none());
        assert!(padding(512).is_empty());
    }
}
