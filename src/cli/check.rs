//! `loom check`: what does not agree, a few lines each.

use ttrpc::Code;

use super::args::Check;
use super::client::{Client, Exit, Failure};
use super::show::Look;
use super::table::{Column, draw};
use super::units::{bytes, clean};
use super::{Answer, json};
use crate::check::{How, offline};
use crate::error::{Error, Kind};
use crate::protos::admin::Finding;

/// Of the root that loomd serves.
pub(super) async fn running(
    client: &Client,
    args: &Check,
    look: &Look,
    json: bool,
) -> Result<Answer, Failure> {
    answer(&client.check(args.repair).await?, look, json)
}

/// Of a root that no loomd has.
pub(super) fn of_root(args: &Check, look: &Look, json: bool) -> Result<Answer, Failure> {
    let Some(root) = &args.root else { return Ok(Answer::default()) };
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(Code::PERMISSION_DENIED, "a root is root's to check; use sudo"));
    }
    let how = match (args.repair, args.rebuild) {
        (_, true) => How::Rebuild,
        (true, false) => How::Repair,
        (false, false) => How::Look,
    };
    let found = offline(root, args.pool.as_deref(), how).map_err(|error| refused(&error))?;
    let findings: Vec<_> = found
        .into_iter()
        .map(|one| Finding {
            code: one.code.to_string(),
            what: one.what,
            message: one.message,
            bytes: one.bytes,
            repair: one.repair.to_string(),
            ..Default::default()
        })
        .collect();
    answer(&findings, look, json)
}

fn refused(error: &Error) -> Failure {
    let code = match error.kind() {
        Kind::FailedPrecondition => Code::FAILED_PRECONDITION,
        Kind::InvalidArgument => Code::INVALID_ARGUMENT,
        Kind::ResourceExhausted => Code::RESOURCE_EXHAUSTED,
        _ => Code::INTERNAL,
    };
    Failure::new(code, error.to_string())
}

fn answer(findings: &[Finding], look: &Look, json: bool) -> Result<Answer, Failure> {
    let left = findings.iter().filter(|finding| finding.repair != "done").count();
    let mut answer = if json {
        json::answer(&findings.iter().map(json::Finding::from).collect::<Vec<_>>())?
    } else {
        Answer {
            note: if findings.is_empty() { "all agrees\n".to_owned() } else { String::new() },
            ..Answer::of(table(look, findings))
        }
    };
    if left > 0 {
        let possible = findings.iter().filter(|finding| finding.repair == "possible").count();
        let mut message = match left {
            1 => "1 finding is left".to_owned(),
            left => format!("{left} findings are left"),
        };
        if possible > 0 {
            message += &format!("; --repair puts {possible} right");
        }
        answer.failures.push(Failure::new(Code::FAILED_PRECONDITION, message).exits(Exit::Failed));
    }
    Ok(answer)
}

/// A line for each, and below it what is wrong.
fn table(look: &Look, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let columns =
        [Column::Title("CODE"), Column::Size("SIZE"), Column::Whole("REPAIR"), Column::Name("WHAT")];
    let size = |finding: &Finding| if finding.bytes == 0 { "-".to_owned() } else { bytes(finding.bytes) };
    let rows = findings.iter().map(|finding| {
        vec![finding.code.clone(), size(finding), finding.repair.clone(), finding.what.clone()]
    });
    let drawn = draw(look, &columns, rows.collect());
    let mut lines = drawn.lines();
    let mut text = String::new();
    text.extend(lines.next().map(|head| format!("{head}\n")));
    for (line, finding) in lines.zip(findings) {
        text += &format!("{line}\n    {}\n", look.faint(&clean(&finding.message)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_decides_the_exit_status() {
        let finding = |repair: &str| Finding {
            code: "layer-unknown".into(),
            what: "plain layer 7".into(),
            message: "no row\nknows it".into(),
            bytes: 4096,
            repair: repair.into(),
            ..Default::default()
        };
        let exits = |all: &[Finding]| {
            let answer = answer(all, &Look::plain(), false).unwrap_or_default();
            (answer.failures.first().map(Failure::exit), answer.out)
        };
        assert_eq!(exits(&[]), (None, String::new()));
        let (exit, out) = exits(&[finding("done")]);
        assert_eq!(exit, None);
        assert!(out.contains("layer-unknown   4.0 KB   done     plain layer 7\n    no row"), "{out}");
        assert_eq!(exits(&[finding("done"), finding("possible")]).0, Some(Exit::Failed));
        assert_eq!(exits(&[finding("none")]).0, Some(Exit::Failed));
    }
}
