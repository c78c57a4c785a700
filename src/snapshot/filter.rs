//! containerd's filter language.
//!
//! ```text
//! filter   = "" | selector { "," selector }            all of them; the empty one is every snapshot
//! selector = path [ operator value ]                   without operator: the field is there
//! path     = field { "." field }                       name, parent, kind, labels.<key>
//! field    = quoted | one or more of A-Z a-z 0-9 - _
//! operator = "==" | "!=" | "~="                        ~= takes a regular expression
//! value    = quoted | neither "," nor space
//! quoted   = "…" with Go's escapes; behind ~= also /…/ and |…|
//! ```
//!
//! As in containerd's own stores, `name`, `parent` and `kind` are always there (so that `parent==""`
//! finds what has no parent), a label is there when its key is, and any other field never is. A field
//! that is not there differs from every value but the empty one. Differences: a regular expression that
//! does not compile is an error here and matches nothing there; `\d`, `\w`, `\s` and `\b` know all of
//! Unicode here and ASCII there; and `-` in a field that is not quoted is refused by older containerds.

use std::borrow::Cow;

use regex::Regex;

use super::Listed;
use crate::error::{Error, Result};

/// Several filters, any of which may let a snapshot through; none lets every one through.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    any: Vec<Vec<Selector>>,
}

impl Filters {
    /// Reads filters as containerd's clients write them.
    pub fn parse(filters: &[String]) -> Result<Self> {
        let any = filters.iter().map(|text| Reader { text, at: 0 }.filter()).collect::<Result<_>>()?;
        Ok(Self { any })
    }

    /// True where a filter lets it through.
    pub fn matches(&self, listed: &Listed) -> bool {
        self.any.is_empty() || self.any.iter().any(|all| all.iter().all(|one| one.matches(listed)))
    }
}

#[derive(Debug, Clone)]
struct Selector {
    field: Field,
    test: Test,
}

#[derive(Debug, Clone)]
enum Field {
    Name,
    Parent,
    Kind,
    Label(String),
    /// One that no snapshot has.
    Unknown,
}

#[derive(Debug, Clone)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Selector {
    fn matches(&self, listed: &Listed) -> bool {
        let value = self.field.of(listed);
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value.is_some_and(|value| value == *wanted),
            Test::NotEqual(unwanted) => value.unwrap_or_default() != *unwanted,
            Test::Matches(regex) => regex.is_match(&value.unwrap_or_default()),
        }
    }
}

impl Field {
    fn new(path: &[String]) -> Self {
        match path.split_first() {
            // As in containerd, what is behind a field without parts is not looked at.
            Some((first, rest)) => match first.as_str() {
                "name" => Self::Name,
                "parent" => Self::Parent,
                "kind" => Self::Kind,
                // A label's key may be quoted whole, in part, or not at all.
                "labels" => Self::Label(rest.join(".")),
                _ => Self::Unknown,
            },
            None => Self::Unknown,
        }
    }

    fn of<'a>(&self, listed: &'a Listed) -> Option<Cow<'a, str>> {
        match self {
            Self::Name => Some(Cow::Borrowed(&listed.key)),
            Self::Parent => Some(Cow::Borrowed(&listed.parent)),
            Self::Kind => Some(Cow::Owned(listed.kind.to_string())),
            Self::Label(key) => listed.labels.get(key).map(|value| Cow::Borrowed(value.as_str())),
            Self::Unknown => None,
        }
    }
}

/// Reads one filter from left to right. Each part skips the space before it, none the space behind it.
struct Reader<'a> {
    text: &'a str,
    /// The byte that comes next.
    at: usize,
}

impl<'a> Reader<'a> {
    fn filter(mut self) -> Result<Vec<Selector>> {
        let mut selectors = Vec::new();
        if self.text.is_empty() {
            return Ok(selectors);
        }
        loop {
            selectors.push(self.selector()?);
            match self.next() {
                None => return Ok(selectors),
                Some(',') => {}
                Some(other) => {
                    return Err(self.wrong(self.at - other.len_utf8(), "a comma or the end is expected"));
                }
            }
        }
    }

    fn selector(&mut self) -> Result<Selector> {
        let mut path = vec![self.field()?];
        while self.peek() == Some('.') {
            self.next();
            path.push(self.field()?);
        }
        let field = Field::new(&path);
        if matches!(self.peek(), None | Some(',')) {
            return Ok(Selector { field, test: Test::Present });
        }
        self.skip_space();
        let start = self.at;
        let test = match self.take(|c| matches!(c, '=' | '!' | '~')) {
            "==" => Test::Equal(self.value(false)?),
            "!=" => Test::NotEqual(self.value(false)?),
            "~=" => {
                let value = self.value(true)?;
                let compiled = Regex::new(&value);
                Test::Matches(compiled.map_err(|e| self.wrong(start, format!("{value:?}: {e}")))?)
            }
            "" => return Err(self.wrong(start, "one of == != ~= is expected")),
            other => return Err(self.wrong(start, format!("{other} is no operator; == != ~= are"))),
        };
        Ok(Selector { field, test })
    }

    fn field(&mut self) -> Result<String> {
        self.skip_space();
        if self.peek() == Some('"') {
            return self.quoted('"');
        }
        let start = self.at;
        let field = self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if field.is_empty() {
            return Err(
                self.wrong(start, "a field is expected: letters, digits, - and _, or any text in \"\"")
            );
        }
        Ok(field.to_string())
    }

    /// A value; a regular expression may stand in quotes that leave `"` free.
    fn value(&mut self, regex: bool) -> Result<String> {
        self.skip_space();
        let start = self.at;
        match self.peek() {
            Some('"') => self.quoted('"'),
            Some(quote @ ('/' | '|')) if regex => self.quoted(quote),
            // Inside a value these are part of it; at its beginning containerd takes them for something else.
            Some('/' | '|' | '.' | '=' | '!' | '~') => {
                Err(self.wrong(start, "a value that begins so must be in \"\""))
            }
            _ => {
                let value = self.take(|c| c != ',' && !c.is_whitespace() && !c.is_control());
                if value.is_empty() {
                    return Err(self.wrong(start, "a value is expected"));
                }
                Ok(value.to_string())
            }
        }
    }

    /// What is between two quotes, with its escapes undone.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let start = self.at;
        self.next();
        // Bytes: `\x` and octal escapes write one each, and several may make one character.
        let mut bytes = Vec::new();
        let mut utf8 = [0; 4];
        loop {
            match self.next() {
                None | Some('\n' | '\0') => {
                    return Err(self.wrong(start, format!("the {quote} is not closed")));
                }
                Some('\\') => match self.escape(quote)? {
                    Escaped::Byte(byte) => bytes.push(byte),
                    Escaped::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
                },
                Some(c) if c == quote => {
                    return String::from_utf8(bytes).map_err(|_| self.wrong(start, "this is not UTF-8"));
                }
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
            }
        }
    }

    /// What an escape means; the backslash has been read.
    fn escape(&mut self, quote: char) -> Result<Escaped> {
        let start = self.at - 1;
        let wrong = "this is no escape; a backslash itself is written \\\\";
        let c = self.next();
        let (digits, radix) = match c {
            Some('a') => return Ok(Escaped::Byte(0x07)),
            Some('b') => return Ok(Escaped::Byte(0x08)),
            Some('f') => return Ok(Escaped::Byte(0x0c)),
            Some('n') => return Ok(Escaped::Byte(b'\n')),
            Some('r') => return Ok(Escaped::Byte(b'\r')),
            Some('t') => return Ok(Escaped::Byte(b'\t')),
            Some('v') => return Ok(Escaped::Byte(0x0b)),
            Some('\\') => return Ok(Escaped::Byte(b'\\')),
            Some(c) if c == quote => return Ok(Escaped::Char(c)),
            Some('0'..='7') => {
                self.at -= 1;
                (3, 8)
            }
            Some('x') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            _ => return Err(self.wrong(start, wrong)),
        };
        let from = self.at;
        for _ in 0..digits {
            if !self.next().is_some_and(|c| c.is_digit(radix)) {
                return Err(self.wrong(start, wrong));
            }
        }
        let code = u32::from_str_radix(&self.text[from..self.at], radix).ok();
        let escaped = if matches!(c, Some('u' | 'U')) {
            code.and_then(char::from_u32).map(Escaped::Char)
        } else {
            code.and_then(|code| u8::try_from(code).ok()).map(Escaped::Byte)
        };
        escaped.ok_or_else(|| self.wrong(start, wrong))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_space(&mut self) {
        self.take(char::is_whitespace);
    }

    /// An error about what stands at byte `at`.
    fn wrong(&self, at: usize, why: impl std::fmt::Display) -> Error {
        let character = self.text[..at].chars().count() + 1;
        Error::invalid(format!("filter {:?}", self.text), format!("character {character}: {why}"))
    }
}

/// What an escape stands for.
enum Escaped {
    Byte(u8),
    Char(char),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Kind as Class;
    use crate::store::{Kind, Time};

    fn listed(key: &str, parent: &str, kind: Kind, labels: &[(&str, &str)]) -> Listed {
        Listed {
            key: key.into(),
            parent: parent.into(),
            kind,
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            created: Time(0),
            updated: Time(0),
        }
    }

    fn parse(filters: &[&str]) -> Result<Filters> {
        Filters::parse(&filters.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    /// The keys of those that the filters let through, each one character.
    fn through(filters: &[&str]) -> String {
        let corpus = [
            listed("a", "", Kind::Committed, &[]),
            listed("b", "a", Kind::Committed, &[("foo", "true"), ("empty", "")]),
            listed("c", "b", Kind::Active, &[("containerd.io/snapshot.ref", "sha256:1"), ("foo", "a, b")]),
            listed("d", "b", Kind::View, &[("q \\ \"", "x"), ("q \\ \".post", "y"), ("größe", "é/|=.-_")]),
            listed("e", "", Kind::Active, &[("n", "line\nfeed"), ("d", "x1.y=2\"'")]),
        ];
        let filters = parse(filters).unwrap();
        corpus.iter().filter(|one| filters.matches(one)).map(|one| one.key.as_str()).collect()
    }

    #[test]
    fn filters_let_through_what_containerd_would() {
        let table: &[(&[&str], &str)] = &[
            // Nothing to ask.
            (&[], "abcde"),
            (&[""], "abcde"),
            (&["", "name==a"], "abcde"),
            // Fields.
            (&["name==a"], "a"),
            (&["name!=a"], "bcde"),
            (&["name~=[ab]"], "ab"),
            (&["name~=^b$"], "b"),
            (&["name"], "abcde"),
            (&["parent==b"], "cd"),
            (&["parent"], "abcde"),
            (&[r#"parent=="""#], "ae"),
            (&[r#"parent!="""#], "bcd"),
            (&["kind==active"], "ce"),
            (&["kind==view"], "d"),
            (&["kind==committed"], "ab"),
            (&["kind==Active"], ""),
            (&["kind~=^(view|active)$"], "cde"),
            // Fields that are not there.
            (&["nothing"], ""),
            (&["nothing==x"], ""),
            (&[r#"nothing=="""#], ""),
            (&["nothing!=x"], "abcde"),
            (&[r#"nothing!="""#], ""),
            (&["nothing~=x"], ""),
            (&["nothing~=^$"], "abcde"),
            // containerd looks at the first part only.
            (&["name.more==a"], "a"),
            // Labels.
            (&["labels.foo"], "bc"),
            (&["labels.empty"], "b"),
            (&[r#"labels.empty=="""#], "b"),
            (&["labels.foo==true"], "b"),
            (&["labels.foo!=true"], "acde"),
            (&[r#"labels.foo=="a, b""#], "c"),
            (&["labels"], ""),
            (&[r#"labels."containerd.io/snapshot.ref"==sha256:1"#], "c"),
            (&[r#"labels."containerd.io/snapshot.ref"==sha256:1,parent=="b""#], "c"),
            (&[r#"labels."containerd.io/snapshot.ref"==sha256:1,parent=="a""#], ""),
            (&[r#"labels.containerd."io/snapshot".ref"#], "c"),
            (&[r#"labels."q \\ \""==x"#], "d"),
            (&[r#"labels."q \\ \"".post==y"#], "d"),
            (&[r#"labels."größe""#], "d"),
            (&[r#"labels."größe"==é/|=.-_"#], "d"),
            (&[r#""labels"."foo""#], "bc"),
            (&[r#"labels.d==x1.y=2"'"#], "e"),
            // Escapes.
            (&[r#"labels.n=="line\nfeed""#], "e"),
            (&[r#"labels.n=="line\x0afeed""#], "e"),
            (&[r#"labels.n=="line\012feed""#], "e"),
            (&[r#"labels.n=="line\u000afeed""#], "e"),
            (&[r#"labels."gr\u00f6\U000000dfe""#], "d"),
            (&[r#"labels."gr\xc3\xb6\303\237e""#], "d"),
            (&[r#"labels.n=="\a\b\f\r\t\v""#], ""),
            // Regular expressions, in each kind of quotes.
            (&["labels.foo~=/^a, b$/"], "c"),
            (&["labels.foo~=|^a, b$|"], "c"),
            (&[r#"labels.foo~="^a, b$""#], "c"),
            (&[r"labels.foo~=/\\w,\\s\\w/"], "c"),
            (&[r"labels.d~=^x\d\.y"], "e"),
            (&["labels.d~=/\"/"], "e"),
            (&[r#"labels."größe"~=/\/|X/"#], "d"),
            (&["name~=/[ab]{1,2}/,name!=a"], "b"),
            // AND, OR, space.
            (&["kind==committed,labels.foo"], "b"),
            (&["kind==committed", "labels.foo"], "abc"),
            (&["name==a", "name==e", "name==x"], "ae"),
            (&[" name == a"], "a"),
            (&["kind == committed, labels. foo"], "b"),
            (&["name ~= /a/"], "a"),
        ];
        for (filters, keys) in table {
            assert_eq!(through(filters), *keys, "{filters:?}");
        }
    }

    #[test]
    fn errors_name_the_filter_and_the_place() {
        for (filter, character) in [
            (" ", 2),
            (",", 1),
            ("name,", 6),
            ("name==a,", 9),
            ("labels.", 8),
            (".name", 1),
            ("==a", 1),
            ("name==", 7),
            ("name==,kind", 7),
            ("name==.a", 7),
            ("name== =a", 8),
            ("name=a", 5),
            ("name===a", 5),
            ("name~a", 5),
            ("name?=a", 5),
            ("name ", 6),
            ("name a", 6),
            ("name==a b", 8),
            ("name==a ,kind==view", 8),
            ("größe==a", 3),
            ("labels.?\"x\"==a", 8),
            ("labels.|foo|==a", 8),
            ("labels.ns/key==a", 10),
            ("name==/a/", 7),
            ("name==|a|", 7),
            ("name==\"a", 7),
            ("name==\"a\nb\"", 7),
            ("name==\"a\0b\"", 7),
            ("name==\u{1}", 7),
            ("name==\"a\"b", 10),
            (r#"name=="\d""#, 8),
            (r#"name=="\|""#, 8),
            (r#"name=="\x1""#, 8),
            (r#"name=="\18""#, 8),
            (r#"name=="\777""#, 8),
            (r#"name=="\xff""#, 7),
            (r#"name=="\ud800""#, 8),
            (r#"name=="\U00110000""#, 8),
            (r#"name=="\é""#, 8),
            (r#"name=="\"#, 8),
            ("name~=[", 5),
            ("name~=/(/", 5),
        ] {
            let error = parse(&["name==fine", filter]).unwrap_err();
            assert_eq!(error.kind(), Class::InvalidArgument);
            let message = error.to_string();
            assert!(message.contains(&format!("filter {filter:?}")), "{message}");
            assert!(message.contains(&format!("character {character}:")), "{filter:?}: {message}");
        }
    }

    #[test]
    fn a_regular_expression_cannot_grow_without_bound() {
        assert!(parse(&["name~=/(((a{100}){100}){100}){100}/"]).is_err());
        // Time is linear: this is the kind that takes for ever where backtracking is used.
        let filters = parse(&["name~=^(a+)+$"]).unwrap();
        assert!(!filters.matches(&listed(&("a".repeat(10_000) + "b"), "", Kind::View, &[])));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(text in "[ -~é\n\\\\\"/|,.=!~0-9a-z]{0,24}") {
            let _ = parse(&[&text]);
        }

        #[test]
        fn a_quoted_value_is_what_it_was(value in "\\PC{0,16}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let filters = parse(&[&format!("labels.x==\"{quoted}\"")]).unwrap();
            proptest::prop_assert!(filters.matches(&listed("k", "", Kind::View, &[("x", &value)])));
        }
    }
}
