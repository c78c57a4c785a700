//! The unix sockets: whose they are, and how connections come in.
//!
//! A socket is either handed over by systemd, by the name of its file, or made here: mode 0600, in a
//! directory that only root writes to. A file that a dead daemon left is replaced, one that somebody
//! answers on is not. A file made here goes when the server stops.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use tokio::net::{UnixListener, UnixStream};

use crate::error::{Error, Result};

/// The file of the gRPC socket.
const GRPC: &str = "loom.sock";
/// The file of the ttrpc socket.
const TTRPC: &str = "loom.sock.ttrpc";

/// After an accept that failed: long enough for files to be closed, short enough to go unnoticed.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The sockets that the daemon answers on.
#[derive(Debug)]
pub struct Sockets {
    pub(super) grpc: Socket,
    pub(super) ttrpc: Socket,
}

impl Sockets {
    /// Takes over from systemd, or makes, both sockets in `state`; must run inside tokio. Fails where
    /// another daemon answers on one of them.
    pub async fn open(state: &Path) -> Result<Self> {
        let mut handed = handed_over()?;
        Ok(Self {
            grpc: open(state, GRPC, &mut handed).await?,
            ttrpc: open(state, TTRPC, &mut handed).await?,
        })
    }
}

/// One socket that listens.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    file: Option<File>,
}

impl Socket {
    /// The connections as they come in, for ever, and the file to remove at the end.
    pub(super) fn accept(self) -> (BoxStream<'static, io::Result<UnixStream>>, Option<File>) {
        let connections = stream::unfold(self.listener, |listener| async {
            let connection = accept(&listener).await;
            Some((Ok(connection), listener))
        });
        (connections.boxed(), self.file)
    }
}

/// The next connection. Accepting fails for reasons that pass (no file left to open, a client that is
/// gone again), and must not end a server that others are talking to.
async fn accept(listener: &UnixListener) -> UnixStream {
    let mut wait = FIRST_WAIT;
    loop {
        match listener.accept().await {
            Ok((connection, _)) => return connection,
            Err(error) => tracing::warn!(%error, "cannot accept a connection; trying again in {wait:?}"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// A socket file made here; it goes with this, unless another took its place meanwhile.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for File {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "cannot remove {}", self.path.display());
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

async fn open(state: &Path, name: &str, handed: &mut Vec<(String, net::UnixListener)>) -> Result<Socket> {
    let path = state.join(name);
    if let Some(place) = handed.iter().position(|(handed, _)| handed == name) {
        let (_, listener) = handed.swap_remove(place);
        return Ok(Socket { listener: watched(listener, &path)?, file: None });
    }
    DirBuilder::new().recursive(true).mode(0o711).create(state).map_err(Error::io("create", state))?;
    clear(&path).await?;
    let listener = net::UnixListener::bind(&path).map_err(Error::io("listen on", &path))?;
    let file = File { identity: identity(&path).map_err(Error::io("look at", &path))?, path };
    // Until here the umask has kept everyone but root from writing to it, which is what connect needs.
    let path = &file.path;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(Error::io("restrict", path))?;
    Ok(Socket { listener: watched(listener, path)?, file: Some(file) })
}

/// Hands a listener to tokio.
fn watched(listener: net::UnixListener, path: &Path) -> Result<UnixListener> {
    listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map_err(Error::io("listen on", path))
}

/// Removes a socket file that nobody answers on.
async fn clear(path: &Path) -> Result<()> {
    let path_is = |what: &str| Error::Config(format!("{} {what}", path.display()));
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(path_is("is not a socket; remove it, or choose another --state"));
        }
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("look at", path)(e)),
    }
    match UnixStream::connect(path).await {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(Error::io("remove", path))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        // A daemon too busy to accept is there too.
        Ok(_) => Err(path_is("is another daemon's; stop that one, or choose another --state")),
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            Err(path_is("is another daemon's; stop that one, or choose another --state"))
        }
        Err(e) => Err(Error::io("connect to", path)(e)),
    }
}

/// The listening sockets that systemd hands over, with their names (`FileDescriptorName=`).
fn handed_over() -> Result<Vec<(String, net::UnixListener)>> {
    let refused = |e: io::Error| Error::Config(format!("cannot take over the sockets of systemd: {e}"));
    let fds = sd_notify::listen_fds_with_names().map_err(refused)?;
    if fds.len() == 0 {
        return Ok(Vec::new());
    }
    // By way of a handle on ourselves, the kernel gives an owned copy of a number that we were told.
    let ourselves = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(|e| refused(e.into()))?;
    fds.map(|(fd, name)| {
        let fd = rustix::process::pidfd_getfd(&ourselves, fd, PidfdGetfdFlags::empty())
            .map_err(|e| refused(e.into()))?;
        Ok((name, net::UnixListener::from(fd)))
    })
    .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_roots_alone_and_goes_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("deep/state");
        let sockets = Sockets::open(&state).await.unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&state), 0o711);
        for name in [GRPC, TTRPC] {
            assert_eq!(mode(&state.join(name)), 0o600);
        }
        drop(sockets);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        drop(net::UnixListener::bind(dir.path().join(GRPC)).unwrap());
        let sockets = Sockets::open(dir.path()).await.unwrap();
        let refused = Sockets::open(dir.path()).await.unwrap_err();
        assert!(refused.to_string().contains("another daemon"), "{refused}");
        assert!(UnixStream::connect(dir.path().join(GRPC)).await.is_ok());
        drop(sockets);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(GRPC);
        fs::write(&path, "mine").unwrap();
        assert!(Sockets::open(dir.path()).await.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn a_successors_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let sockets = Sockets::open(dir.path()).await.unwrap();
        let path = dir.path().join(GRPC);
        // Made beside it and renamed, so that it cannot get the same inode number.
        let successor = net::UnixListener::bind(dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), &path).unwrap();
        drop(sockets);
        assert!(path.exists());
        drop(successor);
    }

    #[tokio::test]
    async fn connections_come_in() {
        let dir = tempfile::tempdir().unwrap();
        let sockets = Sockets::open(dir.path()).await.unwrap();
        let (mut connections, file) = sockets.grpc.accept();
        let client = UnixStream::connect(dir.path().join(GRPC)).await.unwrap();
        assert!(connections.next().await.unwrap().is_ok());
        drop((client, connections, file));
    }
}
