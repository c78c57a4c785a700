//! Words as a Dockerfile has them: quotes, backslashes, and variables.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// Variables by their names.
pub(super) type Variables = BTreeMap<String, String>;

/// Why a text cannot be read.
type Read<T> = std::result::Result<T, String>;

/// The words of a text: spaces outside of quotes divide them. In double quotes and outside of any, `$NAME`,
/// `${NAME}`, `${NAME:-DEFAULT}` and `${NAME:+OTHER}` stand for what the variables say, and nothing where they say
/// nothing.
pub(super) fn words(text: &str, variables: &Variables) -> Read<Vec<String>> {
    let mut reader = Reader { chars: text.chars().peekable(), variables };
    let mut words = Vec::new();
    while reader.skip_spaces() {
        words.push(reader.read(char::is_whitespace)?);
    }
    Ok(words)
}

/// A text that is one word, spaces and all.
pub(super) fn expand(text: &str, variables: &Variables) -> Read<String> {
    Reader { chars: text.chars().peekable(), variables }.read(|_| false)
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    variables: &'a Variables,
}

impl Reader<'_> {
    /// False at the end.
    fn skip_spaces(&mut self) -> bool {
        while self.chars.next_if(|c| c.is_whitespace()).is_some() {}
        self.chars.peek().is_some()
    }

    /// Reads until `ends`, which is left, or to the end.
    fn read(&mut self, ends: impl Fn(char) -> bool) -> Read<String> {
        let mut read = String::new();
        while let Some(c) = self.chars.next_if(|c| !ends(*c)) {
            match c {
                '\'' => self.single(&mut read)?,
                '"' => self.double(&mut read)?,
                '$' => self.variable(&mut read)?,
                // At the end it stands for itself.
                '\\' => read.push(self.chars.next().unwrap_or('\\')),
                c => read.push(c),
            }
        }
        Ok(read)
    }

    fn single(&mut self, read: &mut String) -> Read<()> {
        loop {
            match self.chars.next() {
                Some('\'') => return Ok(()),
                Some(c) => read.push(c),
                None => return Err("a quote ' has no end".to_owned()),
            }
        }
    }

    fn double(&mut self, read: &mut String) -> Read<()> {
        loop {
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('$') => self.variable(read)?,
                Some('\\') => match self.chars.next_if(|c| matches!(c, '"' | '$' | '\\')) {
                    Some(c) => read.push(c),
                    None => read.push('\\'),
                },
                Some(c) => read.push(c),
                None => return Err("a quote \" has no end".to_owned()),
            }
        }
    }

    /// What stands behind a `$`.
    fn variable(&mut self, read: &mut String) -> Read<()> {
        if self.chars.next_if_eq(&'{').is_none() {
            match self.name() {
                name if name.is_empty() => read.push('$'),
                name => read.push_str(self.variables.get(&name).map_or("", String::as_str)),
            }
            return Ok(());
        }
        let name = self.name();
        let open = || format!("${{{name} has no end or is not understood");
        if name.is_empty() {
            return Err(open());
        }
        let value = self.variables.get(&name).cloned().unwrap_or_default();
        if self.chars.next_if_eq(&'}').is_some() {
            read.push_str(&value);
            return Ok(());
        }
        let operator = (self.chars.next(), self.chars.next());
        let word = self.read(|c| c == '}')?;
        if self.chars.next() != Some('}') {
            return Err(open());
        }
        match operator {
            (Some(':'), Some('-')) => read.push_str(if value.is_empty() { &word } else { &value }),
            (Some(':'), Some('+')) => read.push_str(if value.is_empty() { "" } else { &word }),
            _ => return Err(open()),
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("PATH", "/bin"), ("EMPTY", ""), ("A1", "one")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn words_are_read_as_a_shell_does() {
        for (text, want) in [
            ("a b", &["a", "b"][..]),
            ("  a\t b  ", &["a", "b"]),
            (r#"a="b c" d"#, &["a=b c", "d"]),
            (r"a='b $PATH' d", &["a=b $PATH", "d"]),
            (r"a=b\ c", &["a=b c"]),
            (r#"a="b\"c\\d\n""#, &[r#"a=b"c\d\n"#]),
            (r#"''"" x"#, &["", "x"]),
            (r"a\", &[r"a\"]),
            ("a=/opt:$PATH", &["a=/opt:/bin"]),
            (r#"a="$PATH x" \$PATH"#, &["a=/bin x", "$PATH"]),
            ("${A1}x $NONE|$", &["onex", "|$"]),
            ("${NONE:-d e}x ${PATH:-d}", &["d ex", "/bin"]),
            ("${EMPTY:+o}x ${PATH:+o}", &["x", "o"]),
        ] {
            assert_eq!(words(text, &variables()).as_deref(), Ok(&want.map_strings()[..]), "{text}");
        }
        assert_eq!(expand("a  'b' $A1", &variables()).as_deref(), Ok("a  b one"));
    }

    #[test]
    fn what_has_no_end_is_told() {
        for text in ["a 'b", "a=\"b", "${A1", "${", "${A1:", "${A1:-x", "${A1?x}", "${-x}"] {
            assert!(words(text, &variables()).is_err(), "{text}");
        }
    }

    trait Strings {
        fn map_strings(&self) -> Vec<String>;
    }

    impl Strings for [&str] {
        fn map_strings(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }
}
