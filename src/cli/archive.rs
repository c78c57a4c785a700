//! The verbs about archives: they go to a file or standard output, and come from one or standard input.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::mpsc::{self, Receiver};
use ttrpc::Code;

use super::args::{Export, Import, Output, Save};
use super::branch::new_id;
use super::client::{Client, Failure};
use super::show::short_id;
use super::track::{self, Line};
use super::units::{bytes, clean};
use super::{Answer, Run, ask, json};
use crate::protos::admin::{ExportRequest, ImportResponse, ImportTo};

/// The largest part that is sent, in bytes: a message may have 4 MiB.
const PART: u64 = 1 << 20;
/// Parts that are read ahead.
const AHEAD: usize = 2;

impl Run<'_> {
    /// `loom save`.
    pub(super) async fn save(&mut self, mut args: Save) -> Result<Answer, Failure> {
        let (id, to) = (new_id()?, std::mem::take(&mut args.to));
        self.write(&id, ask::save(&id, &args), to).await
    }

    /// `loom export`.
    pub(super) async fn export(&mut self, mut args: Export) -> Result<Answer, Failure> {
        let (id, to) = (new_id()?, std::mem::take(&mut args.to));
        self.write(&id, ask::export(&id, args), to).await
    }

    /// Writes an archive; one that breaks off leaves no file.
    async fn write(&mut self, id: &str, request: ExportRequest, to: Output) -> Result<Answer, Failure> {
        let usage = |why: &str| Err(Failure::new(Code::INVALID_ARGUMENT, why));
        let mut to = match &to.output {
            Some(path) => Sink::File(Target::open(path)?),
            None if self.json => {
                return usage("--json prints an object: write the archive with --output FILE");
            }
            None if self.look.terminal => {
                return usage("an archive is nothing for a terminal: give --output FILE, or a pipe");
            }
            None => Sink::Stream(&mut *self.out),
        };
        let line = Line::new(self.json);
        let moved = copy(&self.client, request, &mut to, &line);
        let mut interrupts = self.interrupts.lock().await;
        let size = track::leave(&self.client, id, &line, &mut *interrupts, moved).await?;
        let Sink::File(file) = to else { return Ok(Answer::default()) };
        let path = file.keep()?;
        let file = path.to_string_lossy();
        if self.json {
            return json::answer(&json::Written { file: &file, size });
        }
        Ok(Answer { note: format!("{}: {}\n", clean(&file), bytes(size)), ..Answer::default() })
    }

    /// `loom import`.
    pub(super) async fn import(&mut self, args: Import) -> Result<Answer, Failure> {
        let mut input = Input::open(&args.file)?;
        let id = new_id()?;
        let line = Line::new(self.json);
        let made = upload(&self.client, ask::import(&id, args), &mut input, &line);
        let mut interrupts = self.interrupts.lock().await;
        let made = track::track(&self.client, &id, &line, &mut *interrupts, made).await?;
        drop(interrupts);
        if self.json {
            let image = (&*made.image).into();
            return json::answer(&json::Imported { operation: &made.operation, image });
        }
        self.noted(Answer::of(clean(&made.image.name) + "\n"), &made.operation, String::new()).await
    }
}

/// Takes an archive to its end, and answers how many bytes it has.
async fn copy(
    client: &Client,
    request: ExportRequest,
    to: &mut Sink<'_>,
    line: &Line,
) -> Result<u64, Failure> {
    let mut parts = client.export(request).await?;
    let mut size = 0;
    while let Some(part) = parts.next().await? {
        // It blocks on purpose (see `Parts`).
        match to.write(&part) {
            // The reader has seen enough: that is its right.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(size),
            written => written.map_err(|error| cannot("write to", to.name(), &error))?,
        }
        size += part.len() as u64;
        line.bytes(size, None);
    }
    match to.flush() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(size),
        flushed => flushed.map(|()| size).map_err(|error| cannot("write to", to.name(), &error)),
    }
}

/// Sends an archive to its end.
async fn upload(
    client: &Client,
    to: ImportTo,
    input: &mut Input,
    line: &Line,
) -> Result<ImportResponse, Failure> {
    let mut upload = client.import(to).await?;
    let mut sent = 0;
    loop {
        // What is read may be slow to come, or never.
        let part = tokio::select! {
            part = input.parts.recv() => part,
            over = upload.over() => {
                over?;
                None
            }
        };
        match part {
            Some(Ok(part)) => {
                sent += part.len() as u64;
                upload.send(part).await?;
                line.bytes(sent, input.size);
            }
            Some(Err(error)) => {
                upload.abandon().await;
                return Err(cannot("read", "the archive", &error));
            }
            None => return upload.end().await,
        }
    }
}

/// What is imported.
struct Input {
    /// Its parts. The end of the channel is that of the archive.
    parts: Receiver<io::Result<Vec<u8>>>,
    /// Its bytes, where that is known.
    size: Option<u64>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            if io::stdin().is_terminal() {
                let why = "an archive does not come from a terminal: name a FILE, or give a pipe";
                return Err(Failure::new(Code::INVALID_ARGUMENT, why));
            }
            return Ok(Self { parts: read(io::stdin()), size: None });
        }
        let file = File::open(path).map_err(|error| cannot("open", &path.to_string_lossy(), &error))?;
        let size = file.metadata().ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
        Ok(Self { parts: read(file), size })
    }
}

/// Reads ahead, on a thread of its own: a read of a pipe cannot be called off.
fn read(mut from: impl Read + Send + 'static) -> Receiver<io::Result<Vec<u8>>> {
    let (to, parts) = mpsc::channel(AHEAD);
    thread::spawn(move || {
        loop {
            let mut part = Vec::new();
            let read = from.by_ref().take(PART).read_to_end(&mut part);
            let last = read.as_ref().map_or(true, |read| *read == 0);
            let part = read.map(|_| part);
            if (part.as_ref().is_ok_and(Vec::is_empty)) || to.blocking_send(part).is_err() || last {
                return;
            }
        }
    });
    parts
}

/// Where an archive goes.
enum Sink<'a> {
    Stream(&'a mut dyn Write),
    File(Target),
}

impl Sink<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(out) => out.write_all(part),
            Self::File(target) => target.file.write_all(part),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(out) => out.flush(),
            Self::File(target) => target.file.flush(),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Stream(_) => "standard output",
            Self::File(target) => target.path.to_str().unwrap_or("the file"),
        }
    }
}

/// A file that is there, whole, only once it is kept. It may hold anybody's secrets, and is its owner's alone.
#[derive(Debug)]
struct Target {
    file: File,
    path: PathBuf,
    /// What is written to until then; none for what is no regular file, such as a FIFO.
    partial: Option<PathBuf>,
}

impl Target {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| cannot("write", &path.to_string_lossy(), &error);
        // What a link leads to is replaced, and not the link.
        let path = match fs::canonicalize(path) {
            Ok(found) if !found.metadata().map_err(failed)?.is_file() => {
                let file = OpenOptions::new().write(true).open(&found).map_err(failed)?;
                return Ok(Self { file, path: found, partial: None });
            }
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_path_buf(),
            Err(error) => return Err(failed(error)),
        };
        let Some(name) = path.file_name() else {
            return Err(failed(ErrorKind::IsADirectory.into()));
        };
        let mut partial = std::ffi::OsString::from(".");
        partial.push(name);
        partial.push(format!(".{}.partial", short_id(&new_id()?)));
        let partial = path.with_file_name(partial);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
        Ok(Self { file: file.map_err(failed)?, path, partial: Some(partial) })
    }

    /// It is whole.
    fn keep(mut self) -> Result<PathBuf, Failure> {
        if let Some(partial) = &self.partial {
            let renamed = fs::rename(partial, &self.path);
            renamed.map_err(|error| cannot("write", &self.path.to_string_lossy(), &error))?;
            self.partial = None;
        }
        Ok(std::mem::take(&mut self.path))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Whatever made it break off is told, and this is not.
            let _ = fs::remove_file(partial);
        }
    }
}

fn cannot(what: &str, name: &str, error: &io::Error) -> Failure {
    Failure::new(Code::INTERNAL, format!("cannot {what} {name}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_once_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        fs::write(&path, "old").unwrap();
        let mut target = Target::open(&path).unwrap();
        target.file.write_all(b"ne").unwrap();
        drop(target);
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"old".to_vec(), vec!["a.tar".into()]));

        let link = dir.path().join("link");
        std::os::unix::fs::symlink("a.tar", &link).unwrap();
        let mut target = Target::open(&link).unwrap();
        target.file.write_all(b"new").unwrap();
        assert_eq!(target.keep().unwrap(), fs::canonicalize(&path).unwrap());
        assert_eq!((fs::read(&path).unwrap(), names(dir.path()).len()), (b"new".to_vec(), 2));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_is_no_regular_file_is_written_as_it_is() {
        let target = Target::open(Path::new("/dev/null")).unwrap();
        assert_eq!(target.partial, None);
        assert_eq!(target.keep().unwrap(), Path::new("/dev/null"));
        let dir = tempfile::tempdir().unwrap();
        for wrong in [dir.path(), &dir.path().join("none/a.tar")] {
            let refused = Target::open(wrong).unwrap_err();
            assert!(refused.message.starts_with("cannot write /"), "{refused}");
        }
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn an_archive_is_read_in_parts() {
        let sizes = |bytes: u64| {
            let mut parts = read(io::repeat(7).take(bytes));
            std::iter::from_fn(|| parts.blocking_recv()).map(|part| part.unwrap().len() as u64).collect()
        };
        let none: Vec<u64> = sizes(0);
        assert!(none.is_empty());
        assert_eq!(sizes(5), [5]);
        assert_eq!(sizes(2 * PART), [PART, PART]);
        assert_eq!(sizes(2 * PART + 1), [PART, PART, 1]);
    }
}
