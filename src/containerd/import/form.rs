//! What an archive is, by its first bytes.
//!
//! An image's archive is told by the name of its first file, since the files that say so may come last: every tool
//! writes `blobs/`, `oci-layout`, `index.json`, `manifest.json`, `repositories`, or names that are digests.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

/// What is read of an archive to tell what it is: a block of zstd's, the largest unit, fits in.
const HEAD: u64 = 256 << 10;
/// What is looked at of the tar in it.
const LOOKED_AT: u64 = 16 << 10;
/// A tar's unit.
const BLOCK: usize = 512;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    None,
    Gzip,
    Zstd,
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A tree.
    Tree,
    /// An image: a layout of the OCI, or what `docker save` writes.
    Image,
}

/// An archive whose first bytes were looked at.
#[derive(Debug)]
pub(super) struct Archive<R> {
    pub(super) coding: Coding,
    pub(super) content: Content,
    /// All of its bytes, as they came.
    pub(super) bytes: io::Chain<Cursor<Vec<u8>>, R>,
}

impl Coding {
    /// By the first bytes of a stream.
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The media type of a layer that is compressed so.
    pub(super) fn layer(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Reads what was compressed.
    pub(super) fn open<'a>(self, from: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(from),
            Self::Gzip => Box::new(MultiGzDecoder::new(from)),
            Self::Zstd => Box::new(zstd::Decoder::new(from).map_err(|e| bad(&e))?),
        })
    }
}

/// Reads the first bytes.
pub(super) fn look<R: Read>(mut from: R) -> Result<Archive<R>> {
    let mut head = Vec::new();
    (&mut from).take(HEAD).read_to_end(&mut head).map_err(|e| bad(&e))?;
    let coding = Coding::of(&head);
    let mut tar = Vec::new();
    // What is cut off in the middle of the head's last block is what it is; an archive that ends there shows later.
    let _ = coding.open(head.as_slice())?.take(LOOKED_AT).read_to_end(&mut tar);
    if tar.len() < BLOCK {
        return Err(no_tar());
    }
    let content = content(&tar)?;
    Ok(Archive { coding, content, bytes: Cursor::new(head).chain(from) })
}

/// A plain tar, of which the end is looked at: one that was cut off between two files is a tar all the same.
#[derive(Debug)]
pub(super) struct Ended<R> {
    from: R,
    /// The zeros that it ended with so far.
    zeros: usize,
}

impl<R: Read> Ended<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, zeros: 0 }
    }

    /// Refuses one without the two blocks of zeros that end a tar.
    pub(super) fn check(&self) -> Result<()> {
        if self.zeros >= 2 * BLOCK {
            return Ok(());
        }
        Err(Error::invalid(
            "the archive",
            "it has not the blocks of zeros that a tar ends with; it was cut off",
        ))
    }
}

impl<R: Read> Read for Ended<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(to)?;
        let zeros = to[..count].iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == count { self.zeros.saturating_add(zeros) } else { zeros };
        Ok(count)
    }
}

/// An archive that cannot be read.
pub(super) fn bad(why: &io::Error) -> Error {
    Error::invalid("the archive", format!("{why}; it is damaged, or was cut off"))
}

fn no_tar() -> Error {
    Error::invalid("the archive", "it is no tar; loom reads tars, plain or compressed by gzip or zstd")
}

fn content(head: &[u8]) -> Result<Content> {
    let mut archive = tar::Archive::new(head);
    for entry in archive.entries().map_err(|e| bad(&e))? {
        let entry = entry.map_err(|_| no_tar())?;
        let name = entry.path_bytes();
        let name = String::from_utf8_lossy(&name);
        let name = name.trim_start_matches("./").trim_end_matches('/');
        if !name.is_empty() && name != "." {
            return Ok(if of_image(name) { Content::Image } else { Content::Tree });
        }
    }
    // Nothing is in it: a tree that is empty.
    Ok(Content::Tree)
}

/// True for names that only an image's archive begins with.
fn of_image(name: &str) -> bool {
    let first = name.split(['/', '.']).next().unwrap_or_default();
    matches!(name, "blobs" | "oci-layout" | "index.json" | "manifest.json" | "repositories")
        || name.starts_with("blobs/sha256")
        || (first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use super::*;
    use crate::error::Kind;

    fn tar(names: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            if name.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, name, io::empty()).unwrap();
            } else {
                tar.append_data(&mut header, name, b"abc".as_slice()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(data).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn its_first_file_tells_what_it_is_however_it_is_compressed() {
        let digest = "a".repeat(64);
        let (layer, json) = (format!("{digest}/layer.tar"), format!("{digest}.json"));
        for (first, content) in [
            ("bin/", Content::Tree),
            ("blobs.txt", Content::Tree),
            ("blobs/", Content::Image),
            ("oci-layout", Content::Image),
            ("index.json", Content::Image),
            (&layer, Content::Image),
            (&json, Content::Image),
        ] {
            let plain = tar(&[first, "etc/"]);
            let dotted = tar(&["./", &format!("./{first}")]);
            let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
            for (bytes, coding) in [
                (dotted, Coding::None),
                (gzip(&plain), Coding::Gzip),
                (zstd, Coding::Zstd),
                (plain, Coding::None),
            ] {
                let mut found = look(bytes.as_slice()).unwrap();
                assert_eq!((found.content, found.coding), (content, coding), "{first}");
                let mut all = Vec::new();
                found.bytes.read_to_end(&mut all).unwrap();
                assert_eq!(all, bytes, "{first}");
            }
        }
    }

    #[test]
    fn what_is_no_tar_is_refused() {
        let text = "no tar at all ".repeat(1000);
        let short = gzip(b"short");
        for bytes in
            [b"".as_slice(), b"x", text.as_bytes(), &gzip(text.as_bytes()), &short, &[0x1f, 0x8b], &[0; 100]]
        {
            let error = look(bytes).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
        }
        // Empty, but a tar.
        assert_eq!(look([0; 1024].as_slice()).unwrap().content, Content::Tree);
    }
}
