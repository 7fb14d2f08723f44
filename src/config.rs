// SPDX-License-Identifier: Apache-2.0
//! The daemon's configuration file: TOML, every key optional, no key unknown.
//!
//! `plugin-config/config.toml` holds every key with its default.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::error::{Error, ErrorKind, Result};
use crate::image::ImageSettings;
use crate::layer::Limits;
use crate::verifier::{Action, Check, Policy, Repair, Unproven};

/// Where the configuration is looked for if no other file is named.
pub const DEFAULT_PATH: &str = "/etc/continuity/config.toml";

/// The longest duration that a key takes: no call waits for a day, and no clock overflows by one.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Where everything is kept that outlives the daemon, unless the file says otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/continuity";

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept that outlives the daemon.
    pub root: PathBuf,
    /// Socket that containerd calls, gRPC.
    pub snapshots_address: PathBuf,
    /// Socket for every other client, ttrpc.
    pub address: PathBuf,
    /// What is logged.
    #[serde(deserialize_with = "level")]
    pub log_level: log::LevelFilter,
    /// Socket of containerd (gRPC), which is asked for images; empty: nobody is asked.
    pub containerd_address: PathBuf,
    /// Hashing threads of one check or seal; 0 means the cores, at most four.
    pub threads: usize,
    /// What is verified when, and what follows.
    pub verify: Verify,
    /// What an image may hold.
    pub image: ImageLimits,
}

/// The table `[image]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageLimits {
    /// Entries of all layers of an image together.
    pub max_entries: u64,
    /// Bytes of one layer, uncompressed.
    pub max_bytes: u64,
    /// Bytes of the window of a zstd frame; 0 goes by the memory there is.
    pub max_window: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        let Limits { entries, bytes, window } = Limits::default();
        Self { max_entries: entries, max_bytes: bytes, max_window: window }
    }
}

/// The table `[verify]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Before a container's snapshot is created.
    #[serde(with = "CheckName")]
    pub on_prepare: Check,
    /// Before a read-only snapshot is created.
    #[serde(with = "CheckName")]
    pub on_view: Check,
    /// What a damaged layer leads to.
    #[serde(with = "ActionName")]
    pub action: Action,
    /// What becomes of a layer that nothing proves after an unclean stop.
    #[serde(with = "UnprovenName")]
    pub unproven: Unproven,
    /// How long a call waits for its verification.
    #[serde(deserialize_with = "duration")]
    pub deadline: Duration,
    /// Whether a damaged layer that an image explains is mended.
    #[serde(with = "RepairName")]
    pub repair: Repair,
}

#[derive(Deserialize)]
#[serde(remote = "Check", rename_all = "lowercase")]
enum CheckName {
    Full,
    Off,
}

#[derive(Deserialize)]
#[serde(remote = "Action", rename_all = "lowercase")]
enum ActionName {
    Refuse,
    Warn,
}

#[derive(Deserialize)]
#[serde(remote = "Unproven", rename_all = "lowercase")]
enum UnprovenName {
    Refuse,
    Allow,
}

#[derive(Deserialize)]
#[serde(remote = "Repair", rename_all = "lowercase")]
enum RepairName {
    Off,
    Auto,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: DEFAULT_ROOT.into(),
            snapshots_address: "/run/continuity/snapshots.sock".into(),
            address: "/run/continuity/continuity.sock".into(),
            log_level: log::LevelFilter::Info,
            containerd_address: "/run/containerd/containerd.sock".into(),
            threads: 0,
            verify: Verify::default(),
            image: ImageLimits::default(),
        }
    }
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            on_prepare: Check::Full,
            on_view: Check::Full,
            action: Action::Refuse,
            unproven: Unproven::Refuse,
            deadline: Duration::from_secs(10),
            repair: Repair::Off,
        }
    }
}

impl Config {
    /// Reads the file that was named, or else [`DEFAULT_PATH`] if it exists, or else nothing: the defaults.
    ///
    /// # Errors
    /// The named file can't be read; either file has a key that is unknown or of the wrong type: `InvalidInput`,
    /// naming file, line and key.
    pub fn load(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("read", path, error)),
        }
    }

    /// Parses the contents of a file; its name is for messages only.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let place = error.span().map(|span| place(text, span.start)).unwrap_or_default();
            let message = error.message().replace('\n', "; ");
            Error::new(ErrorKind::InvalidInput, format!("{}{place}: {message}", path.display()))
        })
    }

    /// What the verifier is told.
    pub fn policy(&self) -> Policy {
        let Verify { on_prepare, on_view, action, unproven, deadline, repair } = self.verify.clone();
        Policy { on_prepare, on_view, action, unproven, deadline, repair, threads: self.threads }
    }

    /// How images are asked for; the namespace is that of each request. None if nobody is asked.
    pub fn images(&self) -> Option<ImageSettings> {
        let ImageLimits { max_entries, max_bytes, max_window } = self.image;
        let limits = Limits { entries: max_entries, bytes: max_bytes, window: max_window };
        (!self.containerd_address.as_os_str().is_empty()).then(|| ImageSettings {
            address: self.containerd_address.clone(),
            namespace: String::new(),
            limits,
            threads: self.threads,
        })
    }
}

/// The line of a byte offset and what it says, which names the key.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.lines().count() + usize::from(before.is_empty() || before.ends_with('\n'));
    let content = text.lines().nth(line - 1).unwrap_or_default().trim();
    format!(", line {line} ({content})")
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<log::LevelFilter, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| de::Error::custom("expected off, error, warn, info, debug or trace"))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"500ms\", \"10s\" or \"2m\", at most \"24h\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Text)
}

/// A whole number and a unit: ms, s, m or h; at most [`LONGEST`].
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let seconds = |unit: u64| number.checked_mul(unit).map(Duration::from_secs);
    let duration = match &text[digits..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(60 * 60),
        _ => None,
    };
    duration.filter(|duration| *duration <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("c.toml"))
    }

    #[test]
    fn the_documented_defaults_are_the_defaults_and_complete() {
        let text = include_str!("../plugin-config/config.toml");
        assert_eq!(Config::parse(text, Path::new("config.toml")).unwrap(), Config::default());
        assert_eq!(parse("").unwrap(), Config::default());
        let documented: toml::Table = text.parse().unwrap();
        let keys = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&documented),
            "address containerd_address image log_level root snapshots_address threads verify"
        );
        assert_eq!(
            keys(documented["verify"].as_table().unwrap()),
            "action deadline on_prepare on_view repair unproven"
        );
        // One comment each.
        let commented = text.split("\n\n").filter(|paragraph| paragraph.contains(" = ")).all(|p| p.contains('#'));
        assert!(commented);
    }

    #[test]
    fn every_key_is_heard() {
        let config = parse(
            "root = '/r'\nsnapshots_address = '/s'\naddress = '/a'\nlog_level = 'debug'\n\
             containerd_address = '/c'\nthreads = 3\n[verify]\non_prepare = 'off'\non_view = 'off'\naction = 'warn'\n\
             unproven = 'allow'\ndeadline = '500ms'\nrepair = 'auto'\n[image]\nmax_entries = 5\nmax_bytes = 6\n\
             max_window = 7\n",
        );
        let verify = Verify {
            on_prepare: Check::Off,
            on_view: Check::Off,
            action: Action::Warn,
            unproven: Unproven::Allow,
            deadline: Duration::from_millis(500),
            repair: Repair::Auto,
        };
        let expected = Config {
            root: "/r".into(),
            snapshots_address: "/s".into(),
            address: "/a".into(),
            log_level: log::LevelFilter::Debug,
            containerd_address: "/c".into(),
            threads: 3,
            verify,
            image: ImageLimits { max_entries: 5, max_bytes: 6, max_window: 7 },
        };
        let policy = expected.policy();
        let expected_limits = expected.images().unwrap().limits;
        assert_eq!(config.unwrap(), expected);
        assert_eq!((policy.on_prepare, policy.action, policy.threads), (Check::Off, Action::Warn, 3));
        assert_eq!((policy.on_view, policy.unproven), (Check::Off, Unproven::Allow));
        assert_eq!(expected_limits, Limits { entries: 5, bytes: 6, window: 7 });
    }

    #[test]
    fn a_mistake_is_named_with_file_line_and_key() {
        for (text, parts) in [
            ("rooot = '/r'", &["c.toml, line 1 (rooot = '/r')", "unknown field `rooot`"][..]),
            ("\n\nthreads = 'x'\n", &["c.toml, line 3 (threads = 'x')", "invalid type"]),
            ("threads = -1", &["line 1 (threads = -1)"]),
            ("[verify]\non_prepare = 'half'", &["line 2 (on_prepare = 'half')", "half", "full"]),
            ("[verify]\naction = 'ignore'", &["line 2 (action = 'ignore')", "refuse"]),
            ("[verify]\nunproven = 'seal'", &["line 2 (unproven = 'seal')", "refuse", "allow"]),
            ("[verify]\ndeadline = '10'", &["line 2 (deadline = '10')", "duration such as"]),
            (
                "[verify]\ndeadline = '18446744073709551615s'",
                &["c.toml, line 2 (deadline = '18446744073709551615s')", "at most \"24h\""],
            ),
            ("[verify]\ndeadline = 10", &["line 2 (deadline = 10)", "duration such as"]),
            ("[verify]\nwhen = 'now'", &["line 2 (when = 'now')", "unknown field `when`"]),
            ("log_level = 'loud'", &["line 1 (log_level = 'loud')", "expected off"]),
            ("root = ", &["c.toml, line 1"]),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let message = error.to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{text:?}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, expected) in [("0s", 0), ("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("24h", 86_400_000)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(expected)), "{text}");
        }
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "1d",
            "25h",
            "86400001ms",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_a_file_that_was_named_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let error = Config::load(Some(&dir.path().join("none.toml"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
