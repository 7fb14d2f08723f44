// SPDX-License-Identifier: Apache-2.0
//! Images by the batch, each verified, damaged and repaired.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;
use crate::damage;
use crate::features::Features;
use crate::layout::Image;
use crate::random::Random;
use crate::services::{self, Services};
use crate::subject::{Damage, Subject, list};
use crate::view::{self, changes};

/// A seed is tested with one of them, in turn.
const SNAPSHOTTERS: [&str; 3] = ["overlayfs", "native", OWN];

/// Ours.
pub const OWN: &str = "continuity";

/// Images that are imported at once. More save processes; the refused ones make more of them be imported again.
const BATCH: usize = 30;

/// Of a hundred images, so many may be refused by containerd.
const REFUSED_MAX: usize = 33;

/// Seals of a batch take less.
const SEALS_WITHIN: Duration = Duration::from_secs(60);

/// How often they are asked for.
const SEALS_POLL: Duration = Duration::from_millis(100);

/// Findings that are printed of an image that nobody has touched.
const SHOWN_MAX: usize = 5;

/// Lies between the seed of an image and the seed of its damage.
const DAMAGE: u64 = 0x6461_6d61_6765;

/// What is tested.
pub struct Settings {
    pub features: Features,
    pub snapshotter: Option<String>,
    /// Failures after which it ends.
    pub failures: usize,
    /// Print the images.
    pub show: bool,
}

/// How often what happened.
#[derive(Default)]
struct Tally {
    images: usize,
    layers: usize,
    refused: usize,
    /// Damages that show in the image, only in the layer, nowhere.
    found: usize,
    hidden: usize,
    harmless: usize,
    failures: usize,
    kinds: BTreeMap<String, usize>,
}

/// See the [module](self).
pub struct Run {
    services: Services,
    settings: Settings,
    tally: Tally,
    batches: usize,
}

impl Run {
    pub fn new(services: Services, settings: Settings) -> Self {
        Self { services, settings, tally: Tally::default(), batches: 0 }
    }

    /// Tests the images of the seeds from `first` on; whether everything held.
    pub fn images(mut self, first: u64, count: u64) -> Outcome<bool> {
        let seeds: Vec<u64> = (first..first + count).collect();
        for snapshotter in SNAPSHOTTERS {
            let mine: Vec<u64> =
                seeds.iter().copied().filter(|seed| self.snapshotter_of(*seed) == snapshotter).collect();
            for batch in mine.chunks(BATCH) {
                self.batch(snapshotter, batch)?;
                if self.tally.failures >= self.settings.failures {
                    println!("{} failures: the rest is not tested", self.tally.failures);
                    println!("{}", self.tally);
                    return Ok(false);
                }
            }
        }
        let few = self.tally.refused * 100 <= REFUSED_MAX * usize::try_from(count)? || count < 10;
        if !few {
            println!("containerd refused more than {REFUSED_MAX} of a hundred: the generator makes what is no image");
        }
        println!("{}", self.tally);
        Ok(self.tally.failures == 0 && few)
    }

    fn snapshotter_of(&self, seed: u64) -> &str {
        let by_seed = SNAPSHOTTERS[usize::try_from(seed % 3).unwrap_or_default()];
        self.settings.snapshotter.as_deref().unwrap_or(by_seed)
    }

    fn batch(&mut self, snapshotter: &str, seeds: &[u64]) -> Outcome {
        self.batches += 1;
        let namespace = format!("property-{}", self.batches);
        let images = seeds.iter().map(|seed| Image::random(*seed, self.settings.features));
        let images = images.collect::<Outcome<Vec<_>>>()?;
        if self.settings.show {
            images.iter().for_each(Image::show);
        }
        let refused = self.services.import(&namespace, snapshotter, &images.iter().collect::<Vec<_>>())?;
        for (seed, why) in &refused {
            println!("seed {seed}: refused: {why}");
        }
        self.tally.refused += refused.len();
        let (taken, not): (Vec<_>, Vec<_>) = images.iter().partition(|image| !refused.contains_key(&image.seed));
        self.services.remove_images(&namespace, &not)?;
        let intact = self.intact(&namespace, snapshotter, &taken)?;
        for image in intact {
            let subject = Subject { image, name: services::name(image), namespace: &namespace, snapshotter };
            self.tally.images += 1;
            self.tally.layers += image.layers.len();
            match self.subject(&subject) {
                Ok(None) => {}
                Ok(Some(what)) => self.failed(image.seed, snapshotter, &what),
                Err(error) => self.failed(image.seed, snapshotter, &format!("could not be tested: {error}")),
            }
        }
        self.services.remove_images(&namespace, &taken)
    }

    fn failed(&mut self, seed: u64, snapshotter: &str, what: &str) {
        self.tally.failures += 1;
        println!("FAILED: seed {seed} in {snapshotter}: {what}");
        println!("  again: SEED={seed} COUNT=1 integration/test property");
    }

    /// The images of a batch that are intact, as nobody has touched them. The others have failed.
    fn intact<'a>(&mut self, namespace: &str, snapshotter: &str, images: &[&'a Image]) -> Outcome<Vec<&'a Image>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.services.ours(namespace, &["image", "verify", "--all", "--snapshotter", snapshotter])?;
        let unsealed = if snapshotter == OWN { self.unsealed(namespace, images)? } else { BTreeMap::new() };
        let mut intact = Vec::new();
        let mut bad = 0;
        for image in images {
            let name = services::name(image);
            let lines: Vec<_> = answer.lines.iter().filter(|line| line["image"] == name.as_str()).collect();
            let verdict = lines.iter().any(|line| line["verdict"] == "intact");
            match (verdict && lines.len() == 1, unsealed.get(&image.seed)) {
                (true, None) => intact.push(*image),
                (true, Some(seal)) => self.failed(image.seed, snapshotter, &format!("intact, and {seal}")),
                (false, _) => {
                    bad += 1;
                    let lines: String = lines.iter().take(SHOWN_MAX).map(|line| format!("\n  {line}")).collect();
                    self.failed(image.seed, snapshotter, &format!("nobody has touched it, and:{lines}"));
                }
            }
        }
        if (answer.code == 0) != (bad == 0) {
            return Err(format!("image verify --all: exit code {}, {bad} images not intact", answer.code).into());
        }
        Ok(intact)
    }

    /// Layers whose seals are not their images', after a while.
    fn unsealed(&self, namespace: &str, images: &[&Image]) -> Outcome<BTreeMap<u64, String>> {
        let deadline = Instant::now() + SEALS_WITHIN;
        loop {
            let listed = self.services.ours(namespace, &["snapshot", "ls", "kind==committed"])?;
            let mut unsealed = BTreeMap::new();
            let mut waits = false;
            for (image, number, layer) in images
                .iter()
                .flat_map(|image| image.layers.iter().enumerate().map(move |(n, layer)| (image, n + 1, layer)))
            {
                let ends = |line: &&Value| line["key"].as_str().is_some_and(|key| key.ends_with(&layer.chain_id));
                let Some(line) = listed.lines.iter().find(ends) else {
                    return Err(format!("the daemon has no layer {}: {}", layer.chain_id, listed.text).into());
                };
                let (state, source) = (&line["state"], &line["source"]);
                if source != "image" || (state != "sealed" && state != "verified") {
                    waits |= state == "pending" || source != "image";
                    unsealed.insert(image.seed, format!("layer {number} is {state}, its seal from {source}"));
                }
            }
            if unsealed.is_empty() || !waits || Instant::now() > deadline {
                return Ok(unsealed);
            }
            std::thread::sleep(SEALS_POLL);
        }
    }

    /// Damages and repairs one image; what did not hold.
    fn subject(&mut self, subject: &Subject<'_>) -> Outcome<Option<String>> {
        let Subject { image, namespace, snapshotter, .. } = subject;
        let services = &self.services;
        if let Some(plan) = subject.plans(services)? {
            return Ok(Some(format!("nobody has touched it, and a repair plans: {plan}")));
        }
        let directories = services.directories(namespace, snapshotter, image.chain_id())?;
        let place = services.work.join("view");
        damage::fresh(&place)?;
        let layered = *snapshotter != "native";
        let look = |of: &[PathBuf]| view::of(of, layered, &place);
        let before = look(&directories)?;
        let mut befores = Vec::new();
        for n in 0..directories.len() {
            befores.push(look(&directories[n..])?);
        }
        let mut random = Random::new(image.seed ^ DAMAGE);
        let Some((n, what)) = damage::inflict(&mut random, &directories, layered)? else { return Ok(None) };
        let number = layered.then(|| directories.len() - n);
        let after = (look(&directories)?, look(&directories[n..])?);
        let damage = Damage {
            in_image: changes(&before, &after.0),
            in_layer: changes(&befores[n], &after.1),
            layer: number,
            shown: [before, after.0],
        };
        let tally = &mut self.tally;
        *tally.kinds.entry(what.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        match (damage.in_image.is_empty(), damage.in_layer.is_empty()) {
            (false, _) => tally.found += 1,
            (true, false) => tally.hidden += 1,
            (true, true) => tally.harmless += 1,
        }
        let layer = number.map_or_else(String::new, |number| format!(" in layer {number}"));
        let told = |wrong: String| Some(format!("damage: {what}{layer}; {damage}:\n  {wrong}"));
        if let Some(wrong) = subject.is_found(services, &damage)? {
            return Ok(told(wrong));
        }
        if damage.in_layer.is_empty() {
            return Ok(None);
        }
        if let Some(wrong) = subject.is_repaired(services)? {
            return Ok(told(wrong));
        }
        for (n, before) in befores.iter().enumerate() {
            let left = changes(before, &look(&directories[n..])?);
            if !left.is_empty() {
                return Ok(told(format!("repaired, and differs: {}", list(&left))));
            }
        }
        Ok(None)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(f, "damages: {}", kinds.join(", "))?;
        write!(
            f,
            "{} images of {} layers, {} refused by containerd; damages: {} in the image, {} in a layer alone, {} that show \
             nowhere; {} failures",
            self.images, self.layers, self.refused, self.found, self.hidden, self.harmless, self.failures
        )
    }
}
