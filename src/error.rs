// SPDX-License-Identifier: Apache-2.0
//! The error of the library: a kind to branch on, a message for a person, and what caused it.
//!
//! An `Error` means that something could not be done or could not be checked. A difference between a
//! manifest and a tree is never an error: it is a [`Finding`](crate::ops::Finding).

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

/// What a caller can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was named does not exist.
    NotFound,
    /// What was to be created exists.
    AlreadyExists,
    /// An argument, option or request that makes no sense, whatever the state of the system.
    InvalidInput,
    /// A manifest that breaks the format; the message holds the byte offset or the path. It is its caller's.
    InvalidManifest,
    /// What this program stored itself has rotted, or is gone: a stored manifest, a record.
    Corrupt,
    /// The request makes sense, but not in the present state.
    FailedPrecondition,
    /// Resolution of a path left the root, or would have followed a symlink.
    Escape,
    /// What was being read changed under our hands.
    Changed,
    /// The kernel, the filesystem or this program can't do it.
    Unsupported,
    /// Somebody asked to stop.
    Cancelled,
    /// Not now: the daemon is stopping. The same request may succeed a moment later.
    Unavailable,
    /// A system call failed for a reason of its own; see [`Error::errno`].
    Io,
}

/// See the [module](self).
#[derive(Debug, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What every fallible function of the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a message that says what failed, on what, and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A failed system call: its name, the path it was given, and the errno. The kind follows from the errno.
    pub fn io(call: &str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        };
        Self { kind, message: format!("{call} {}", Escaped::path(path.as_ref())), source: Some(Box::new(source)) }
    }

    /// Attaches the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `context` before the message: "context: message".
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno of the system call that failed, if one did.
    pub fn errno(&self) -> Option<i32> {
        self.source.as_ref()?.downcast_ref::<io::Error>()?.raw_os_error()
    }
}

impl fmt::Display for Error {
    /// The whole chain in one line: "message: cause: cause of the cause".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|s| s as &dyn StdError);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Bytes of a path or a name, for a person or a line-based reader: what could end the line, move the
/// cursor or deceive the eye is written as an escape (`\n`, `\t`, `\\`, `\x1b`, `\xff`).
pub struct Escaped<'a>(pub &'a [u8]);

impl<'a> Escaped<'a> {
    /// A path, byte by byte.
    pub fn path(path: &'a Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        Self(path.as_os_str().as_bytes())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
                    c if c.is_control() || is_bidi(c) => write!(f, "\\u{{{:x}}}", c as u32)?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that reorder what follows them on a terminal.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_tells_its_path_and_errno() {
        let error = Error::io("openat2", "/a\nb", io::Error::from_raw_os_error(2));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.errno(), Some(2));
        assert_eq!(error.to_string(), "openat2 /a\\nb: No such file or directory (os error 2)");
    }

    #[test]
    fn names_cannot_break_a_line_or_the_terminal() {
        assert_eq!(Escaped(b"a\x1b[2J\n\xff\\ \xe2\x80\xae").to_string(), "a\\x1b[2J\\n\\xff\\\\ \\u{202e}");
        assert_eq!(Escaped("日本".as_bytes()).to_string(), "日本");
    }
}
