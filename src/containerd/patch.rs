//! The unified difference of a text file, as `diff -u`, `git apply` and `patch` have it.
//!
//! Text is valid UTF-8 without NUL; a line ends with a line feed and nothing else, so that what `patch` makes of it
//! is the other file byte for byte. What is no text has no patch.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use similar::udiff::UnifiedHunkHeader;
use similar::{Algorithm, DiffOp, capture_diff_slices_deadline, group_diff_ops};

/// Bytes of the largest file that is looked into.
pub(super) const LARGEST: u64 = 1 << 20;
/// Bytes of the largest patch: a message of ttrpc, which has 4 MiB at most, is sent once it has 1 MiB.
const LARGEST_PATCH: usize = 2 << 20;
/// Lines around a change.
const CONTEXT: usize = 3;
/// How long the smallest difference of two files is searched for; after that a larger one does.
const PATIENCE: Duration = Duration::from_secs(1);

/// The difference between a file's bytes before and after, None where it was not there. Empty where they are the
/// same, where one of them is no text, and where it would be too large.
pub(super) fn unified(path: &Path, before: Option<&[u8]>, after: Option<&[u8]>) -> String {
    let (Some(old), Some(new)) = (lines(before), lines(after)) else { return String::new() };
    let deadline = Some(Instant::now() + PATIENCE);
    let found = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, deadline);
    let mut patch = String::new();
    for hunk in group_diff_ops(found, CONTEXT).into_iter().filter(|hunk| !hunk.is_empty()) {
        if patch.is_empty() {
            let _ = writeln!(patch, "--- {}", before.map_or("/dev/null".into(), |_| label("a/", path)));
            let _ = writeln!(patch, "+++ {}", after.map_or("/dev/null".into(), |_| label("b/", path)));
        }
        let _ = writeln!(patch, "{}", UnifiedHunkHeader::new(&hunk));
        for op in hunk {
            write_op(&mut patch, op, &old, &new);
        }
    }
    if patch.len() > LARGEST_PATCH { String::new() } else { patch }
}

fn write_op(patch: &mut String, op: DiffOp, old: &[&str], new: &[&str]) {
    let mut write = |tag: char, lines: &[&str]| {
        for line in lines {
            patch.push(tag);
            patch.push_str(line);
            if !line.ends_with('\n') {
                patch.push_str("\n\\ No newline at end of file\n");
            }
        }
    };
    if let DiffOp::Equal { .. } = op {
        return write(' ', &old[op.old_range()]);
    }
    write('-', &old[op.old_range()]);
    write('+', &new[op.new_range()]);
}

/// The lines of a file, with their ends; a file that is not there has none, and one that is no text is None.
fn lines(bytes: Option<&[u8]>) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(bytes.unwrap_or_default()).ok()?;
    (!text.contains('\0')).then(|| text.split_inclusive('\n').collect())
}

/// A path as git writes it in a patch. A container chooses its names: none of them may end the line, and begin
/// another file.
fn label(side: &str, path: &Path) -> String {
    let mut label = String::from(side);
    let mut quoted = false;
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => label.extend(['\\', c]),
                '\n' => label.push_str("\\n"),
                '\t' => label.push_str("\\t"),
                c if c.is_ascii_control() => _ = write!(label, "\\{:03o}", u32::from(c)),
                c => {
                    label.push(c);
                    continue;
                }
            }
            quoted = true;
        }
        for byte in chunk.invalid() {
            quoted = true;
            let _ = write!(label, "\\{byte:03o}");
        }
    }
    if quoted {
        return format!("\"{label}\"");
    }
    if label.contains(' ') {
        // Without it `patch` takes what is behind the space for a time.
        label.push('\t');
    }
    label
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsStr;
    use std::fs;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    fn of(before: Option<&str>, after: Option<&str>) -> String {
        unified(Path::new("etc/motd"), before.map(str::as_bytes), after.map(str::as_bytes))
    }

    #[test]
    fn it_is_what_diff_prints() {
        let lines = |changed: &str| {
            let numbers: Vec<String> = (1..20).map(|n| n.to_string()).collect();
            numbers.join("\n").replace("10", changed) + "\n"
        };
        let want = "--- a/etc/motd\n+++ b/etc/motd\n@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-x\n+y\n 11\n 12\n 13\n";
        assert_eq!(of(Some(&lines("x")), Some(&lines("y"))), want);
    }

    #[test]
    fn what_is_new_or_gone_is_compared_with_nothing() {
        assert_eq!(of(None, Some("a\n")), "--- /dev/null\n+++ b/etc/motd\n@@ -0,0 +1 @@\n+a\n");
        assert_eq!(of(Some("a\n"), None), "--- a/etc/motd\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n");
        for (before, after) in [(None, Some("")), (Some(""), None), (Some("a"), Some("a"))] {
            assert_eq!(of(before, after), "");
        }
    }

    #[test]
    fn a_last_line_without_an_end_is_told() {
        let want = "--- a/etc/motd\n+++ b/etc/motd\n@@ -1 +1 @@\n-a\r\n\\ No newline at end of file\n+a\n";
        assert_eq!(of(Some("a\r"), Some("a\n")), want);
    }

    #[test]
    fn what_is_no_text_has_none() {
        let binary: [&[u8]; 2] = [b"a\0b\n", b"\xff\n"];
        for bytes in binary {
            assert_eq!(unified(Path::new("a"), Some(bytes), Some(b"a\n")), "");
            assert_eq!(unified(Path::new("a"), None, Some(bytes)), "");
        }
    }

    #[test]
    fn names_stay_on_their_line() {
        for (name, want) in [
            (&b"a/b.c-d"[..], "a/a/b.c-d"),
            (b"with space", "a/with space\t"),
            (b"a\n+++ b/etc/passwd", "\"a/a\\n+++ b/etc/passwd\""),
            (b"a\"\\\x01\x7f", "\"a/a\\\"\\\\\\001\\177\""),
            ("\u{e9}".as_bytes(), "a/\u{e9}"),
            (b"\xff\t", "\"a/\\377\\t\""),
        ] {
            assert_eq!(label("a/", Path::new(OsStr::from_bytes(name))), want);
        }
    }

    #[test]
    fn large_files_without_a_common_line_are_soon_done() {
        let text = |word: &str| {
            let lines: Vec<String> = (0..100_000).map(|n| format!("{word}{n}\n")).collect();
            lines.concat()
        };
        let (old, new) = (text("a"), text("b"));
        let began = Instant::now();
        assert!(of(Some(&old), Some(&new)).len() > old.len() + new.len());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        assert_eq!(of(Some(&"\n".repeat(1 << 20)), Some(&"a\n".repeat(1 << 19))), "", "3.5 MiB");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn git_makes_the_other_file_of_it(old in "([ab\r]?[\n\r]?){0,24}", new in "([ab\r]?[\n\r]?){0,24}") {
            prop_assume!(old != new);
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("etc/motd");
            fs::create_dir(dir.path().join("etc")).unwrap();
            fs::write(&file, &old).unwrap();
            let mut git = Command::new("git");
            git.args(["apply", "--unidiff-zero", "--whitespace=nowarn", "-"]).current_dir(dir.path());
            let mut git = git.stdin(Stdio::piped()).spawn().unwrap();
            git.stdin.take().unwrap().write_all(of(Some(&old), Some(&new)).as_bytes()).unwrap();
            prop_assert!(git.wait().unwrap().success());
            prop_assert_eq!(fs::read_to_string(&file).unwrap(), new);
        }
    }
}
