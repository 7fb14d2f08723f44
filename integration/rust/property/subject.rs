// SPDX-License-Identifier: Apache-2.0
//! One image in one snapshotter: how its damage has to be found, named, laid to its layer, and repaired.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::Outcome;
use crate::layer::cleaned;
use crate::layout::{Image, Layer};
use crate::run::OWN;
use crate::services::{self, Answer, Services};
use crate::tar::Kind;
use crate::view::{View, shown};

/// Paths of a list that are printed.
const SHOWN_MAX: usize = 5;

/// One image in one snapshotter.
pub struct Subject<'a> {
    pub image: &'a Image,
    pub name: String,
    pub namespace: &'a str,
    pub snapshotter: &'a str,
}

/// What a damage has changed, as the kernel shows it.
pub struct Damage {
    pub in_image: BTreeSet<Vec<u8>>,
    /// In what the damaged layer and those below it show.
    pub in_layer: BTreeSet<Vec<u8>>,
    /// From the bottom, beginning with 1, where layers have directories.
    pub layer: Option<usize>,
    /// What the image showed, and shows.
    pub shown: [View; 2],
}

impl Damage {
    /// A path that has changed and that no finding names: not itself, nothing above it, and no other name of its inode.
    fn unnamed(&self, named: &BTreeSet<Vec<u8>>) -> Option<&Vec<u8>> {
        let above = |path: &[u8]| (1..path.len()).any(|n| path[n] == b'/' && named.contains(&path[..n]));
        // One that lost or gained a name changed with it.
        let linked = |view: &View, path: &Vec<u8>| {
            let first = |path| view.get(path).and_then(|node| node.first.as_ref());
            first(path).is_some_and(|own| named.iter().any(|other| first(other) == Some(own)))
        };
        let is_named =
            |path: &Vec<u8>| named.contains(path) || above(path) || self.shown.iter().any(|view| linked(view, path));
        self.in_image.iter().find(|path| !is_named(path))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.in_image.is_empty(), self.in_layer.is_empty()) {
            (false, _) => write!(f, "changes {}", list(&self.in_image)),
            (true, false) => write!(f, "changes in the layer alone {}", list(&self.in_layer)),
            (true, true) => f.write_str("changes nothing that shows"),
        }
    }
}

impl Subject<'_> {
    fn image_command(&self, services: &Services, command: &[&str]) -> Outcome<Answer> {
        let (verb, options) = command.split_at(1);
        let arguments = [&["image"], verb, &[&self.name, "--snapshotter", self.snapshotter], options].concat();
        services.ours(self.namespace, &arguments)
    }

    /// What a dry run of a repair plans or says, if that is not "nothing".
    pub fn plans(&self, services: &Services) -> Outcome<Option<String>> {
        let answer = self.image_command(services, &["repair", "--dry-run"])?;
        Ok((answer.code != 0 || answer.lines.len() != 1).then_some(answer.text))
    }

    /// What is wrong with the exit code of the daemon's own check, or with the layer that it lays its findings to;
    /// other snapshotters have none.
    fn daemon_says(&self, services: &Services, wanted: i32, layer: Option<usize>) -> Outcome<Option<String>> {
        if self.snapshotter != OWN {
            return Ok(None);
        }
        let answer = services.ours(self.namespace, &["snapshot", "verify", self.image.chain_id()])?;
        let chain = layer.map_or("", |number| self.image.layers[number - 1].chain_id.as_str());
        let laid = |finding: &Value| finding["snapshot"].as_str().is_some_and(|key| key.ends_with(chain));
        let astray = answer.findings().find(|finding| !laid(finding));
        Ok(match (answer.code == wanted, astray) {
            (false, _) => Some(format!("snapshot verify: exit code {}, not {wanted}: {}", answer.code, answer.text)),
            (true, Some(finding)) => Some(format!("snapshot verify: laid to another layer: {finding}")),
            (true, None) => None,
        })
    }

    /// What is wrong with how it is found.
    pub fn is_found(&self, services: &Services, damage: &Damage) -> Outcome<Option<String>> {
        let answer = self.image_command(services, &["verify"])?;
        let wanted = i32::from(!damage.in_image.is_empty());
        if answer.code != wanted {
            let plans = if self.plans(services)?.is_some() { "something" } else { "nothing" };
            let Answer { code, text, .. } = answer;
            return Ok(Some(format!("image verify: exit code {code}, not {wanted}; a repair plans {plans}: {text}")));
        }
        let named: Vec<_> = answer.findings().map(|finding| (services::path_of(finding), finding)).collect();
        if let Some((path, _)) = named.iter().find(|(path, _)| !damage.in_image.contains(path)) {
            return Ok(Some(format!("image verify: {} has not changed: {}", shown(path), answer.text)));
        }
        if let Some((path, _)) = named.iter().find(|(path, finding)| !self.is_laid_right(path, finding, damage.layer)) {
            return Ok(Some(format!("image verify: {} is laid to another layer: {}", shown(path), answer.text)));
        }
        let named: BTreeSet<Vec<u8>> = named.into_iter().map(|(path, _)| path).collect();
        if let Some(path) = damage.unnamed(&named) {
            return Ok(Some(format!("image verify: {} has changed and is not named: {}", shown(path), answer.text)));
        }
        let planned = self.image_command(services, &["repair", "--dry-run"])?;
        let wanted = i32::from(!damage.in_layer.is_empty());
        if planned.code != wanted {
            return Ok(Some(format!(
                "image repair --dry-run: exit code {}, not {wanted}: {}",
                planned.code, planned.text
            )));
        }
        self.daemon_says(services, wanted, damage.layer)
    }

    /// Whether a finding is laid to the layer that was damaged, or where layers have no directories, to the one that
    /// has put there what should be there, as far as the names in the tars tell.
    fn is_laid_right(&self, path: &[u8], finding: &Value, damaged: Option<usize>) -> bool {
        let number = finding["layer"]["number"].as_u64().and_then(|number| usize::try_from(number).ok());
        if damaged.is_some() {
            return number == damaged;
        }
        let entries = || self.image.layers.iter().flat_map(|layer| &layer.entries);
        if finding["kind"] == "extra" || entries().any(|entry| matches!(entry.kind, Kind::Symlink(_))) {
            return number.is_some();
        }
        let is_it = |name: &[u8]| cleaned(name) == path[1..];
        let puts = |layer: &Layer| {
            layer.entries.iter().any(|entry| !matches!(entry.kind, Kind::Global(_)) && is_it(&entry.name))
        };
        let last = self.image.layers.iter().rposition(puts);
        last.is_none_or(|last| number == Some(last + 1))
    }

    /// What is wrong with how it is repaired.
    pub fn is_repaired(&self, services: &Services) -> Outcome<Option<String>> {
        let root = services.work.join("state");
        let repair = ["repair", "--root", &root.to_string_lossy()];
        let repaired = self.image_command(services, &repair)?;
        let last = repaired.lines.last().map(|line| line["verdict"].clone()).unwrap_or_default();
        if repaired.code != 0 || last != "repaired" {
            return Ok(Some(format!("image repair: exit code {}: {}", repaired.code, repaired.text)));
        }
        let verified = self.image_command(services, &["verify"])?;
        if verified.code != 0 || verified.lines.len() != 1 {
            return Ok(Some(format!("image verify after a repair: exit code {}: {}", verified.code, verified.text)));
        }
        if let Some(wrong) = self.daemon_says(services, 0, None)? {
            return Ok(Some(format!("after a repair: {wrong}")));
        }
        Ok(self.plans(services)?.map(|plan| format!("a second repair plans: {plan}")))
    }
}

pub fn list(paths: &BTreeSet<Vec<u8>>) -> String {
    let mut words: Vec<_> = paths.iter().take(SHOWN_MAX).map(|path| shown(path)).collect();
    if paths.len() > SHOWN_MAX {
        words.push(format!("and {} more", paths.len() - SHOWN_MAX));
    }
    words.join(" ")
}
