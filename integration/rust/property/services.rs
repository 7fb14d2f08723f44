// SPDX-License-Identifier: Apache-2.0
//! containerd and what is tested, as they are called.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use continuity::containerd::Client;
use serde_json::Value;

use crate::Outcome;
use crate::layout::{self, Image};

/// What the images are called before their tags.
pub const NAME: &str = "continuity.test/property";

/// Label of a view that our own snapshotter gives of what is damaged, too.
const UNVERIFIED: (&str, &str) = ("containerd.io/snapshot/continuity.verify", "off");

/// A view that is left behind is gone after that.
const LEASE: Duration = Duration::from_secs(600);

/// Where everything is.
pub struct Services {
    /// containerd's socket, and the daemon's.
    pub containerd: PathBuf,
    pub daemon: PathBuf,
    /// Before the archive of an import: what newer versions want to be told.
    pub import_options: Vec<String>,
    /// A directory for what is on its way.
    pub work: PathBuf,
}

/// What a command came to.
pub struct Answer {
    pub code: i32,
    pub lines: Vec<Value>,
    /// Everything, for a person.
    pub text: String,
}

impl Answer {
    pub fn findings(&self) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(|line| line.get("kind").is_some())
    }
}

impl Services {
    /// Our command line, with JSON for output.
    pub fn ours(&self, namespace: &str, arguments: &[&str]) -> Outcome<Answer> {
        let mut command = Command::new("continuity");
        command.arg("--containerd-address").arg(&self.containerd).arg("--address").arg(&self.daemon);
        command.args(["--namespace", namespace, "--quiet"]).args(arguments).args(["--format", "json"]);
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let text = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        Ok(Answer { code: output.status.code().unwrap_or(-1), lines, text })
    }

    /// What `ctr` says: whether it went well, and everything it printed.
    fn ctr(&self, namespace: &str, arguments: &[&str]) -> Outcome<(bool, String)> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.containerd).args(["--namespace", namespace]).args(arguments);
        let output = command.output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// Imports and unpacks the images, as many as it can at once. Returns those that containerd refuses, by their
    /// seeds, and why.
    pub fn import(&self, namespace: &str, snapshotter: &str, images: &[&Image]) -> Outcome<BTreeMap<u64, String>> {
        let mut refused = BTreeMap::new();
        let mut left = vec![images.to_vec()];
        while let Some(batch) = left.pop().filter(|batch| !batch.is_empty()) {
            let (done, text) = self.import_all(namespace, snapshotter, &batch)?;
            if done {
                continue;
            }
            let culprit = culprit(&text).and_then(|tag| batch.iter().position(|image| image.tag() == tag));
            match (culprit, batch.len()) {
                (Some(n), _) => {
                    refused.insert(batch[n].seed, last_line(&text));
                    // Those before it are unpacked.
                    left.push(batch[n + 1..].to_vec());
                }
                (None, 1) => drop(refused.insert(batch[0].seed, last_line(&text))),
                (None, count) => left.extend(batch.chunks(count.div_ceil(2)).map(<[_]>::to_vec)),
            }
        }
        Ok(refused)
    }

    fn import_all(&self, namespace: &str, snapshotter: &str, images: &[&Image]) -> Outcome<(bool, String)> {
        let archive = self.work.join(format!("{namespace}.tar"));
        fs::write(&archive, layout::archive(images))?;
        let path = archive.to_string_lossy();
        let mut arguments = vec!["images", "import"];
        arguments.extend(self.import_options.iter().map(String::as_str));
        arguments.extend(["--base-name", NAME, "--snapshotter", snapshotter, &path]);
        let answer = self.ctr(namespace, &arguments);
        fs::remove_file(&archive)?;
        answer
    }

    /// Removes every image of the namespace, and with them their snapshots.
    pub fn remove_images(&self, namespace: &str, images: &[&Image]) -> Outcome {
        if images.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = images.iter().map(|image| name(image)).collect();
        let mut arguments = vec!["images", "rm", "--sync"];
        arguments.extend(names.iter().map(String::as_str));
        let (_, _) = self.ctr(namespace, &arguments)?;
        Ok(())
    }

    /// The directories that a snapshot shows, the topmost first: those of the layers, or the one of all of them.
    pub fn directories(&self, namespace: &str, snapshotter: &str, key: &str) -> Outcome<Vec<PathBuf>> {
        let client = Client::connect(&self.containerd, namespace)?;
        let mut lease = client.lease(LEASE)?;
        let labels = BTreeMap::from([(UNVERIFIED.0.to_owned(), UNVERIFIED.1.to_owned())]);
        let mounts = lease.view(snapshotter, key, &labels)?;
        let [mount] = mounts.as_slice() else { return Err(format!("{} mounts of {key}", mounts.len()).into()) };
        match mount.options.iter().find_map(|option| option.strip_prefix("lowerdir=")) {
            Some(directories) => Ok(directories.split(':').map(PathBuf::from).collect()),
            None => Ok(vec![PathBuf::from(&mount.source)]),
        }
    }
}

/// What containerd calls an image.
pub fn name(image: &Image) -> String {
    format!("{NAME}:{}", image.tag())
}

/// The tag of the image that was being unpacked when an import failed.
fn culprit(text: &str) -> Option<&str> {
    let line = text.lines().rfind(|line| line.starts_with("unpacking "))?;
    let rest = line.strip_prefix("unpacking ")?.strip_prefix(NAME)?.strip_prefix(':')?;
    rest.split(' ').next().filter(|_| !line.ends_with("...done"))
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

/// The path of a finding, exactly.
pub fn path_of(finding: &Value) -> Vec<u8> {
    let bytes = finding.get("path_bytes").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
    bytes.unwrap_or_else(|| finding.get("path").and_then(Value::as_str).unwrap_or_default().as_bytes().to_vec())
}
