//! Running programs: short ones to their end, daemons until they are dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::wait_until;

/// Runs a program to its end and returns what it printed, without the last line break.
///
/// # Panics
/// With all that it printed, where it fails.
pub fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> String {
    succeed(Command::new(program).args(args))
}

/// Runs a command to its end and returns what it printed, without the last line break.
///
/// # Panics
/// With all that it printed, where it fails.
pub fn succeed(command: &mut Command) -> String {
    let output = finish(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, wrote(&output));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// Runs a command to its end, however it ends.
pub fn finish(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a program printed; none where it failed.
pub fn printed(output: Output) -> Option<String> {
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// What a program said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a program wrote, on standard output and then on standard error.
pub fn wrote(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), said(output))
}

/// A process that dies with the thread that started it, and whose output goes to a file.
///
/// Start it on the test's own thread: the kernel kills it when *that thread* ends.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Starts `program`; its output is appended to `log`.
    pub fn start(program: &Path, args: &[String], env: &[(String, String)], log: &Path) -> Daemon {
        let out = File::options().create(true).append(true).open(log).unwrap();
        // setpriv arms the parent-death signal and becomes the program: the pid is the program's.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("setpriv {}: {error}", program.display()));
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        Daemon { name, log: log.to_owned(), child: Some(child) }
    }

    /// Waits until `ready` says so.
    ///
    /// # Panics
    /// Where the daemon ends before, or never gets ready: with its log.
    pub fn wait_ready(&mut self, ready: impl Fn() -> bool) {
        let what = format!("{} to get ready", self.name);
        wait_until(&what, || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("{} ended before it was ready: {status}", self.name); // Drop shows the log.
            }
            ready()
        });
    }

    /// Its process id.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Whether it was started and did not end.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn terminate(&mut self) -> Option<ExitStatus> {
        self.end(Signal::SIGTERM)
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        self.end(Signal::SIGKILL)
    }

    fn end(&mut self, signal: Signal) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        // One that ended by itself has still to be waited for, so its pid is nobody else's.
        let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal);
        let mut status = None;
        wait_until(&format!("{} to end after {signal}", self.name), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        self.child = None;
        status
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the end of {}'s log:\n{}---", self.name, self.log_tail());
        }
    }
}

/// The last 8 KiB of a file.
pub fn tail(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let end = file.seek(SeekFrom::End(0)).unwrap_or(0);
        let _ = file.seek(SeekFrom::Start(end.saturating_sub(8192)));
        let _ = file.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}
