//! Compression on several threads, whose bytes are the same however many they are.

use std::io::{self, Write};

use gzp::ZWriter as _;
use gzp::deflate::Gzip;
use gzp::par::compress::{ParCompress, ParCompressBuilder};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::Sender;

use super::parts::Parts;
use super::{Blob, Compression};

/// zstd's level: the bytes of every layer hang on it, so it is no matter of configuration.
const ZSTD: i32 = 3;
/// gzip's, as other builders of images have it.
const GZIP: u32 = 6;
/// Bytes that a thread compresses to gzip by themselves. What the one before had is not looked back at.
const BLOCK: usize = 1 << 20;

/// Hashes a tar, and compresses it into parts.
pub(super) struct Compressor {
    tar: Sha256,
    to: Format,
}

enum Format {
    Zstd(zstd::Encoder<'static, Output>),
    Gzip(Whole),
}

impl Compressor {
    pub(super) fn new(compression: Compression, threads: usize, to: Sender<Vec<u8>>) -> io::Result<Self> {
        let output = Output { parts: Parts::new(to), hash: Sha256::new(), size: 0 };
        let to = match compression {
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(output, ZSTD)?;
                encoder.include_checksum(true)?;
                encoder.multithread(u32::try_from(threads).unwrap_or(u32::MAX))?;
                Format::Zstd(encoder)
            }
            Compression::Gzip => {
                let builder = ParCompressBuilder::new().compression_level(gzp::Compression::new(GZIP));
                let builder = builder.buffer_size(BLOCK).and_then(|builder| builder.num_threads(threads));
                Format::Gzip(Whole(Some(builder.map_err(io::Error::other)?.from_writer(output))))
            }
        };
        Ok(Self { tar: Sha256::new(), to })
    }

    pub(super) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.tar.update(part);
        match &mut self.to {
            Format::Zstd(encoder) => encoder.write_all(part),
            Format::Gzip(whole) => whole.write(part),
        }
    }

    /// Sends what is left, and says what it all was.
    pub(super) fn end(self) -> io::Result<Blob> {
        let (media, output) = match self.to {
            Format::Zstd(encoder) => ("application/vnd.oci.image.layer.v1.tar+zstd", encoder.finish()?),
            Format::Gzip(whole) => ("application/vnd.oci.image.layer.v1.tar+gzip", whole.end()?),
        };
        output.parts.end()?;
        let digest = format!("sha256:{:x}", output.hash.finalize());
        Ok(Blob { media, digest, size: output.size, diff_id: format!("sha256:{:x}", self.tar.finalize()) })
    }
}

/// A compressor of gzip's that is told once that this is the end, whatever happens: it panics where it finds out by
/// being dropped and nobody takes what it has left, and where it is told after it has failed.
struct Whole(Option<ParCompress<'static, Gzip, Output>>);

impl Whole {
    fn write(&mut self, part: &[u8]) -> io::Result<()> {
        let written = match &mut self.0 {
            Some(compressor) => compressor.write_all(part),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        if written.is_err() {
            self.0 = None;
        }
        written
    }

    fn end(mut self) -> io::Result<Output> {
        let mut compressor = self.0.take().ok_or(io::ErrorKind::BrokenPipe)?;
        compressor.finish().map_err(io::Error::other)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(mut compressor) = self.0.take() {
            // It is given up.
            let _ = compressor.finish();
        }
    }
}

/// What becomes of what is compressed.
struct Output {
    parts: Parts,
    hash: Sha256,
    size: i64,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.parts.write(bytes)?;
        self.hash.update(bytes.get(..taken).unwrap_or_default());
        self.size += i64::try_from(taken).unwrap_or(i64::MAX);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.parts.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read as _;

    use tokio::sync::mpsc::channel;

    use super::*;

    /// Bytes of which some repeat, in parts, and what becomes of them.
    fn packed(compression: Compression, threads: usize, size: usize) -> (Vec<u8>, Vec<u8>, Blob) {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24).to_le_bytes()[0] & if state & 0x40_0000 == 0 { 0xff } else { 3 }
        };
        let bytes: Vec<u8> = (0..size).map(|_| next()).collect();
        let (to, mut parts) = channel(4);
        let taken = std::thread::spawn(move || {
            let mut taken = Vec::new();
            while let Some(part) = parts.blocking_recv() {
                taken.extend(part);
            }
            taken
        });
        let mut compressor = Compressor::new(compression, threads, to).unwrap();
        for part in bytes.chunks(1 << 20) {
            compressor.write(part).unwrap();
        }
        let blob = compressor.end().unwrap();
        (bytes, taken.join().unwrap(), blob)
    }

    #[test]
    fn any_number_of_threads_makes_the_same_bytes() {
        for compression in [Compression::Zstd, Compression::Gzip] {
            for size in [0, 1, 700_000, 1 << 20, (9 << 20) + 12345] {
                let (bytes, one, blob) = packed(compression, 1, size);
                for threads in [2, 3, 8] {
                    let (_, more, same) = packed(compression, threads, size);
                    assert!(one == more && blob == same, "{compression:?} {size} {threads}");
                }
                assert_eq!(blob.digest, format!("sha256:{:x}", Sha256::digest(&one)));
                assert_eq!(blob.diff_id, format!("sha256:{:x}", Sha256::digest(&bytes)));
                assert_eq!(blob.size, i64::try_from(one.len()).unwrap());
                let mut back = Vec::new();
                match compression {
                    Compression::Zstd => zstd::Decoder::new(&*one).unwrap().read_to_end(&mut back).unwrap(),
                    // One member: some readers stop at the end of the first.
                    Compression::Gzip => flate2::read::GzDecoder::new(&*one).read_to_end(&mut back).unwrap(),
                };
                assert!(back == bytes, "{compression:?} {size}");
            }
        }
    }

    #[test]
    fn what_nobody_takes_is_an_error_and_no_panic() {
        for compression in [Compression::Zstd, Compression::Gzip] {
            let (to, parts) = channel(1);
            drop(parts);
            let mut compressor = Compressor::new(compression, 2, to.clone()).unwrap();
            let noise: Vec<u8> =
                (0..4_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
            let written = noise.chunks(1 << 20).try_for_each(|part| compressor.write(part));
            assert!(written.is_err() || compressor.end().is_err());
            // Given up in the middle.
            let mut compressor = Compressor::new(compression, 2, to).unwrap();
            compressor.write(b"something").unwrap();
            drop(compressor);
        }
    }
}
