// SPDX-License-Identifier: Apache-2.0
//! containerd's filter language: which snapshots a List wants.
//!
//! ```text
//! filter    := selector ("," selector)*          all of them must match
//! selector  := fieldpath (operator value)?       without an operator: the field is present
//! fieldpath := field ("." field)*
//! field     := "quoted" | [A-Za-z0-9_]+
//! operator  := "==" | "!=" | "~="
//! value     := "quoted" | [^\s,]+                ~= takes /quoted/ and |quoted| too
//! ```
//! A quoted string takes Go's escapes. Of several filters, one must match. A field that a snapshot lacks
//! equals nothing and, for `!=` and `~=`, is the empty string.

use regex_lite::Regex;

use super::Snapshot;
use crate::error::{Error, ErrorKind, Result};

/// What one List asked for. No filter at all matches every snapshot.
pub(super) struct Filters(Vec<Vec<Selector>>);

struct Selector {
    fieldpath: Vec<String>,
    test: Test,
}

enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filters {
    /// # Errors
    /// `InvalidInput` for a filter that breaks the grammar or holds a bad regular expression.
    pub(super) fn parse(filters: &[String]) -> Result<Self> {
        filters.iter().map(|text| parse_filter(text)).collect::<Result<_>>().map(Self)
    }

    pub(super) fn matches(&self, snapshot: &Snapshot) -> bool {
        self.0.is_empty() || self.0.iter().any(|selectors| selectors.iter().all(|one| one.matches(snapshot)))
    }
}

impl Selector {
    fn matches(&self, snapshot: &Snapshot) -> bool {
        let field = field(snapshot, &self.fieldpath);
        match &self.test {
            Test::Present => field.is_some(),
            Test::Equal(value) => field.as_ref() == Some(value),
            Test::NotEqual(value) => field.unwrap_or_default() != *value,
            Test::Matches(regex) => regex.is_match(&field.unwrap_or_default()),
        }
    }
}

/// The field of that path; `parent` is present, and empty, for a bottom layer.
fn field(snapshot: &Snapshot, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "name" => Some(snapshot.key.clone()),
        "parent" => Some(snapshot.parent.clone().unwrap_or_default()),
        "kind" => Some(snapshot.kind.name().to_owned()),
        "labels" => snapshot.label(&rest.join(".")),
        _ => None,
    }
}

fn parse_filter(text: &str) -> Result<Vec<Selector>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut parser = Parser { text, at: 0 };
    let mut selectors = vec![parser.selector()?];
    while parser.peek().is_some() {
        if !parser.take(',') {
            return Err(parser.error("unexpected input"));
        }
        selectors.push(parser.selector()?);
    }
    Ok(selectors)
}

struct Parser<'a> {
    text: &'a str,
    /// Byte offset of what comes next.
    at: usize,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Selector> {
        let mut fieldpath = vec![self.field()?];
        while self.take('.') {
            fieldpath.push(self.field()?);
        }
        if matches!(self.peek(), None | Some(',')) {
            return Ok(Selector { fieldpath, test: Test::Present });
        }
        self.skip_space();
        let test = match self.take_while(is_operator) {
            "==" => Test::Equal(self.value(&['"'])?),
            "!=" => Test::NotEqual(self.value(&['"'])?),
            "~=" => Test::Matches(self.regex()?),
            "" => return Err(self.error("expected an operator (==, != or ~=)")),
            other => return Err(self.error(&format!("unsupported operator {other:?}"))),
        };
        Ok(Selector { fieldpath, test })
    }

    fn field(&mut self) -> Result<String> {
        self.skip_space();
        if self.peek() == Some('"') {
            return self.quoted('"');
        }
        match self.take_while(|c| c == '_' || c.is_ascii_alphanumeric()) {
            "" => Err(self.error("expected a field or a quoted string")),
            field => Ok(field.to_owned()),
        }
    }

    fn value(&mut self, quotes: &[char]) -> Result<String> {
        self.skip_space();
        match self.peek() {
            Some(c) if quotes.contains(&c) => self.quoted(c),
            Some('.' | ',' | '"' | '/' | '|') | None => Err(self.error("expected a value or a quoted string")),
            Some(c) if is_operator(c) => Err(self.error("expected a value or a quoted string")),
            Some(_) => match self.take_while(|c| c != ',' && !c.is_whitespace() && !c.is_control()) {
                "" => Err(self.error("expected a value or a quoted string")),
                value => Ok(value.to_owned()),
            },
        }
    }

    fn regex(&mut self) -> Result<Regex> {
        let pattern = self.value(&['"', '/', '|'])?;
        Regex::new(&pattern).map_err(|error| self.error("bad regular expression").with_source(error))
    }

    /// A Go string literal between `quote`s. Escapes may spell single bytes, so the result is checked for UTF-8.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut bytes = Vec::new();
        self.take(quote);
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.error("quoted string not terminated")),
                Some(c) if c == quote => break,
                Some('\\') => self.escape(quote, &mut bytes)?,
                Some(c) => push(&mut bytes, c),
            }
        }
        String::from_utf8(bytes).map_err(|error| self.error("quoted string is not UTF-8").with_source(error))
    }

    fn escape(&mut self, quote: char, bytes: &mut Vec<u8>) -> Result<()> {
        let simple = match self.next() {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0b,
            Some('\\') => b'\\',
            Some(c) if c == quote => {
                push(bytes, c);
                return Ok(());
            }
            Some('x') => self.byte(16, 2)?,
            Some('0'..='7') => {
                self.at -= 1;
                self.byte(8, 3)?
            }
            Some('u') => return self.character(4, bytes),
            Some('U') => return self.character(8, bytes),
            _ => return Err(self.error("illegal escape sequence")),
        };
        bytes.push(simple);
        Ok(())
    }

    fn byte(&mut self, radix: u32, digits: usize) -> Result<u8> {
        let number = self.number(radix, digits)?;
        u8::try_from(number).map_err(|_| self.error("escape sequence out of range"))
    }

    fn character(&mut self, digits: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let number = self.number(16, digits)?;
        let c = char::from_u32(number).ok_or_else(|| self.error("escape sequence is no character"))?;
        push(bytes, c);
        Ok(())
    }

    fn number(&mut self, radix: u32, digits: usize) -> Result<u32> {
        let mut number = 0;
        for _ in 0..digits {
            let digit = self.next().and_then(|c| c.to_digit(radix));
            let digit = digit.ok_or_else(|| self.error("illegal numeric escape sequence"))?;
            // Eight hex digits at most, so this can't overflow.
            number = number * radix + digit;
        }
        Ok(number)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn error(&self, what: &str) -> Error {
        Error::new(ErrorKind::InvalidInput, format!("filter {:?}, byte {}: {what}", self.text, self.at))
    }
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn is_operator(c: char) -> bool {
    matches!(c, '=' | '!' | '~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshotter::{Kind, Labels, Seal, Usage};

    fn snapshot(key: &str, parent: Option<&str>, kind: Kind, labels: &[(&str, &str)]) -> Snapshot {
        Snapshot {
            id: 1,
            key: key.into(),
            parent: parent.map(Into::into),
            kind,
            labels: labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Labels>(),
            created_at: 0,
            updated_at: 0,
            usage: Usage::default(),
            seal: (kind == Kind::Committed).then_some(Seal::PENDING),
        }
    }

    fn corpus() -> Vec<Snapshot> {
        vec![
            snapshot("foo", None, Kind::Committed, &[("foo", "true")]),
            snapshot("bar", Some("foo"), Kind::Active, &[]),
            snapshot("default/3/a key", Some("foo"), Kind::View, &[("more complex", "x, y")]),
            snapshot("baz", None, Kind::Active, &[("a.b/c", "omg_asdf.asdf-qwer"), ("quo\"te\\.post", "1")]),
        ]
    }

    fn matching(filters: &[&str]) -> Vec<usize> {
        let filters: Vec<String> = filters.iter().map(|f| f.to_string()).collect();
        let filters = Filters::parse(&filters).unwrap();
        corpus().iter().enumerate().filter(|(_, s)| filters.matches(s)).map(|(i, _)| i).collect()
    }

    #[test]
    fn filters_select_as_containerd_does() {
        let table: &[(&[&str], &[usize])] = &[
            (&[], &[0, 1, 2, 3]),
            (&[""], &[0, 1, 2, 3]),
            (&["name"], &[0, 1, 2, 3]),
            (&["parent"], &[0, 1, 2, 3]),
            (&["labels"], &[]),
            (&["unknown"], &[]),
            (&["unknown!=x"], &[0, 1, 2, 3]),
            (&["unknown==\"\""], &[]),
            (&["name==foo"], &[0]),
            (&["name == foo"], &[0]),
            (&["name==default/3/a"], &[]),
            (&["name==\"default/3/a key\""], &[2]),
            (&["name!=foo"], &[1, 2, 3]),
            (&["name~=^ba"], &[1, 3]),
            (&["name~=/^ba[rx]$/"], &[1]),
            (&["name~=|/3/|"], &[2]),
            (&["name~=/\\/3\\//"], &[2]),
            (&["kind==committed"], &[0]),
            (&["kind==active"], &[1, 3]),
            (&["kind==view"], &[2]),
            (&["kind==Active"], &[]),
            (&["parent==foo"], &[1, 2]),
            (&["parent==\"\""], &[0, 3]),
            (&["parent!=\"\""], &[1, 2]),
            (&["labels.foo"], &[0]),
            (&["labels.foo==true"], &[0]),
            (&["labels.foo==false"], &[]),
            (&["labels.\"more complex\"==\"x, y\""], &[2]),
            (&["labels.\"a.b/c\"==omg_asdf.asdf-qwer"], &[3]),
            (&["labels.a.\"b/c\""], &[3]),
            (&["labels.\"quo\\\"te\\\\\".post==1"], &[3]),
            (&["labels.\"\\x66\\157\\u006f\""], &[0]),
            (&["name==bar,kind==active"], &[1]),
            (&["name==bar, kind==view"], &[]),
            (&["name==bar", "name==foo"], &[0, 1]),
            (&["name~=a,kind==active", "labels.foo"], &[0, 1, 3]),
            (&["labels.\"containerd.io/snapshot/continuity.state\"==pending"], &[0]),
        ];
        for (filters, expected) in table {
            assert_eq!(matching(filters), *expected, "{filters:?}");
        }
    }

    #[test]
    fn a_bad_filter_is_invalid_input() {
        for bad in [
            "name==foo,",
            "labels.",
            ".name",
            "name=foo",
            "name===foo",
            "name==",
            "name==,kind",
            "name==/foo/",
            "name==.foo",
            "name~=,id?=?fbaq",
            "name foo",
            "name==foo bar",
            "labels.ns/key==value",
            "labels.|foo|==x",
            "labels.?\"x\"",
            "name==\"open",
            "name~=/open",
            "name==\"\\q\"",
            "name==\"\\x6\"",
            "name==\"\\xff\"",
            "name==\"\\ud800\"",
            "name==\"\\777\"",
            "name~=/(/",
            "name==foo\u{1}",
        ] {
            let error = Filters::parse(&[bad.to_owned()]).err().map(|e| e.kind());
            assert_eq!(error, Some(ErrorKind::InvalidInput), "{bad:?}");
        }
    }
}
