// SPDX-License-Identifier: Apache-2.0
//! What of an image is unpacked, what is not, and of what that cannot be told.
//!
//! What is unpacked decides, not what we would have taken: every manifest of an image whose top layer is a committed
//! snapshot is meant, for whatever platform it is. Not unpacked is what is known not to be. If a manifest or config is
//! gone, it cannot be told what was unpacked of it: that is no answer, and never "not unpacked". What was never fetched
//! is no question: an index lists many platforms.

use super::verify::chain_of;
use super::{Images, Selection};
use crate::containerd::{Candidate, ChainId, Found, Image, ImageRecord};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::snapshotter::Kind;

/// An image, as one snapshotter has it.
pub(super) struct Subject {
    pub image: Image,
    pub chain: ChainId,
    pub snapshotter: String,
}

/// What is known of one image.
#[derive(Default)]
pub(super) struct Unpacked {
    /// What is unpacked, and where.
    pub subjects: Vec<Subject>,
    /// Why it cannot be told of the rest.
    pub unknown: Vec<Error>,
}

impl Images {
    /// What of an image is unpacked, in every snapshotter that is meant. Both may be empty: nothing is.
    ///
    /// # Errors
    /// Nothing can be told.
    pub(super) fn unpacked(&self, record: &ImageRecord, selection: &Selection) -> Result<Unpacked> {
        let candidates = Image::candidates(&self.client, record, selection.platform.as_ref())?;
        let snapshotters = match &selection.snapshotter {
            Some(name) => vec![name.clone()],
            None => self.client.snapshotters()?.into_iter().map(|snapshotter| snapshotter.name).collect(),
        };
        let mut unpacked = Unpacked::default();
        for image in candidates.iter().filter_map(|candidate| meant(candidate, selection)) {
            let Some(chain) = image.chain_id() else { continue };
            for snapshotter in &snapshotters {
                let known = |subject: &Subject| subject.chain == chain && subject.snapshotter == *snapshotter;
                if unpacked.subjects.iter().any(known) {
                    continue;
                }
                match self.is_unpacked(chain, snapshotter) {
                    Ok(true) => unpacked.subjects.push(Subject {
                        image: image.clone(),
                        chain,
                        snapshotter: snapshotter.clone(),
                    }),
                    Ok(false) => {}
                    // Of what containerd has no record of, it says so without asking the snapshotter.
                    Err(error) => unpacked.unknown.push(error),
                }
            }
        }
        let is_found = !unpacked.subjects.is_empty() || !unpacked.unknown.is_empty();
        let unread = unknown(candidates, selection, is_found);
        let name = Escaped(record.name.as_bytes());
        unpacked.unknown.extend(unread.map(|error| error.context(format!("image {name}"))));
        Ok(unpacked)
    }

    /// The same of an image that is named: it has to be unpacked, or it is not known.
    ///
    /// # Errors
    /// `NotFound` if it is not unpacked; `FailedPrecondition` if it cannot be; why it cannot be told, if there is
    /// nothing else.
    pub(super) fn unpacked_by_name(&self, reference: &str, selection: &Selection) -> Result<Unpacked> {
        let record = self.client.image(reference)?;
        let mut unpacked = self.unpacked(&record, selection)?;
        if !unpacked.subjects.is_empty() {
            return Ok(unpacked);
        }
        if !unpacked.unknown.is_empty() {
            return Err(unpacked.unknown.swap_remove(0));
        }
        // It may have an error of its own.
        chain_of(&Image::resolve(&self.client, &record, selection.platform.as_ref())?)?;
        let name = Escaped(record.name.as_bytes());
        let message = match &selection.snapshotter {
            None => format!("image {name} is unpacked in no snapshotter"),
            Some(snapshotter) => {
                format!("image {name} is not unpacked in snapshotter {}", Escaped(snapshotter.as_bytes()))
            }
        };
        Err(Error::new(ErrorKind::NotFound, message))
    }

    fn is_unpacked(&self, chain: ChainId, snapshotter: &str) -> Result<bool> {
        match self.client.snapshot(snapshotter, &chain.to_string()) {
            Ok(snapshot) => Ok(snapshot.kind == Kind::Committed),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every image that the namespace's records lead to and that can be read, for this machine and for others.
    pub(super) fn every_image(&self) -> Result<impl Iterator<Item = Image> + '_> {
        Ok(self.every_candidate()?.filter_map(readable))
    }

    /// The same, and in place of those that cannot be read, why. What was never fetched is left out.
    pub(super) fn every_candidate(&self) -> Result<impl Iterator<Item = Result<Image>> + '_> {
        Ok(self.client.images()?.into_iter().flat_map(|record| self.candidates_of(&record)))
    }

    /// The images of one record that can be read.
    pub(super) fn images_of(&self, record: &ImageRecord) -> Vec<Image> {
        self.candidates_of(record).into_iter().filter_map(readable).collect()
    }

    fn candidates_of(&self, record: &ImageRecord) -> Vec<Result<Image>> {
        let name = Escaped(record.name.as_bytes());
        match Image::candidates(&self.client, record, None) {
            Err(error) => vec![Err(error)],
            Ok(candidates) => candidates
                .into_iter()
                .filter_map(|candidate| match candidate.found {
                    Found::Image(image) => Some(Ok(image)),
                    Found::Unreadable(error) => Some(Err(error.context(format!("image {name}")))),
                    Found::Absent(_) => None,
                })
                .collect(),
        }
    }

    /// The image, cut off at the layer, that explains a committed snapshot.
    pub(super) fn subject_of(&self, snapshotter: &str, key: &str) -> Result<Subject> {
        let snapshot = self.client.snapshot(snapshotter, key)?;
        let chain = Digest::parse(key.as_bytes()).map(ChainId);
        let explained = chain.map_or(Ok(None), |chain| self.explaining(chain))?;
        let (Some(image), Kind::Committed) = (explained, snapshot.kind) else {
            let key = Escaped(key.as_bytes());
            let message = format!("snapshot {key}: no image of namespace {} explains it", self.client.namespace());
            return Err(Error::new(ErrorKind::FailedPrecondition, message));
        };
        let chain = chain_of(&image)?;
        Ok(Subject { image, chain, snapshotter: snapshotter.to_owned() })
    }

    /// An image, cut off at the layer that has this chain ID.
    pub(super) fn explaining(&self, chain: ChainId) -> Result<Option<Image>> {
        Ok(self.every_image()?.find_map(|mut image| {
            let n = image.layers.iter().position(|layer| layer.chain_id == chain)?;
            image.layers.truncate(n + 1);
            Some(image)
        }))
    }

    /// That nothing was there to be checked, with the namespaces where something may be.
    pub(super) fn nothing_to_check(&self, selection: &Selection) -> Result<Error> {
        let mut others = Vec::new();
        for namespace in self.client.namespaces()? {
            if !self.client.with_namespace(&namespace)?.images()?.is_empty() {
                others.push(Escaped(namespace.as_bytes()).to_string());
            }
        }
        let place = match &selection.snapshotter {
            Some(snapshotter) => format!(" in snapshotter {}", Escaped(snapshotter.as_bytes())),
            None => String::new(),
        };
        let hint = match others.as_slice() {
            [] => "no namespace has images".to_owned(),
            others => format!("namespaces with images: {}", others.join(", ")),
        };
        let namespace = Escaped(self.client.namespace().as_bytes());
        let message = format!("no image of namespace {namespace} is unpacked{place} ({hint})");
        Ok(Error::new(ErrorKind::NotFound, message))
    }
}

/// An image, if it can be read.
fn readable(image: Result<Image>) -> Option<Image> {
    image.inspect_err(|error| log::debug!("{error}")).ok()
}

/// The image of a candidate, if it can be read and is meant.
fn meant<'a>(candidate: &'a Candidate, selection: &Selection) -> Option<&'a Image> {
    match &candidate.found {
        Found::Image(image) if candidate.fits || selection.platform.is_none() => Some(image),
        _ => None,
    }
}

/// Of which candidates it cannot be told whether they are unpacked.
fn unknown(candidates: Vec<Candidate>, selection: &Selection, is_found: bool) -> impl Iterator<Item = Error> {
    // Of what was never fetched only the one that containerd would take counts, and only if there is nothing else.
    let is_readable = |candidate: &Candidate| matches!(candidate.found, Found::Image(_));
    let taken = match candidates.iter().position(|candidate| candidate.fits) {
        Some(first) => Some(first),
        None if candidates.iter().any(is_readable) || selection.platform.is_some() => None,
        None => Some(0),
    };
    let all_platforms = selection.platform.is_none();
    candidates.into_iter().enumerate().filter_map(move |(n, candidate)| match candidate.found {
        Found::Unreadable(error) if candidate.fits || all_platforms => Some(error),
        Found::Absent(error) if !is_found && taken == Some(n) => Some(error),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(text: &str) -> Vec<Candidate> {
        let error = |n: usize| Error::new(ErrorKind::NotFound, n.to_string());
        let one = |(n, word): (usize, &str)| {
            let (fits, what) = word.split_at(1);
            let found = match what {
                "image" => Found::Image(Image {
                    name: n.to_string(),
                    manifest: Digest::EMPTY,
                    platform: "linux/amd64".parse().unwrap(),
                    layers: Vec::new(),
                }),
                "absent" => Found::Absent(error(n)),
                _ => Found::Unreadable(error(n)),
            };
            Candidate { fits: fits == "+", found }
        };
        text.split_whitespace().enumerate().map(one).collect()
    }

    #[test]
    fn it_cannot_be_told_where_a_document_is_gone() {
        // "+" fits the platform; what is listed, whether something is unpacked, of which it cannot be told.
        for (listed, is_found, expected) in [
            ("+image -absent -absent", false, ""),
            ("+image -absent", true, ""),
            ("+absent", false, "0"),
            ("+absent -image", false, "0"),
            ("+absent -image", true, ""),
            ("+absent +image", false, "0"),
            ("+image +absent", false, ""),
            ("+broken -image", true, "0"),
            ("+image -broken", true, "1"),
            ("+image +broken", true, "1"),
            ("-image -absent", false, ""),
            ("-absent -absent", false, "0"),
            ("-absent -absent", true, ""),
            ("", false, ""),
        ] {
            let told: Vec<_> = unknown(candidates(listed), &Selection::default(), is_found).collect();
            let told: Vec<_> = told.iter().map(ToString::to_string).collect();
            assert_eq!(told.join(" "), expected, "{listed}, {is_found}");
        }
        let named = Selection { platform: Some("linux/arm64".parse().unwrap()), ..Selection::default() };
        for (listed, expected) in [("-absent -broken", ""), ("+broken -broken", "0"), ("+absent -image", "0")] {
            let told: Vec<_> = unknown(candidates(listed), &named, false).map(|error| error.to_string()).collect();
            assert_eq!(told.join(" "), expected, "{listed}");
        }
    }

    #[test]
    fn of_a_platform_that_is_named_only_its_image_is_meant() {
        let named = Selection { platform: Some("linux/arm64".parse().unwrap()), ..Selection::default() };
        for (selection, expected) in [(named, vec!["0"]), (Selection::default(), vec!["0", "1"])] {
            let candidates = candidates("+image -image +absent");
            let names = candidates.iter().filter_map(|one| meant(one, &selection)).map(|image| image.name.as_str());
            assert_eq!(names.collect::<Vec<_>>(), expected);
        }
    }
}
