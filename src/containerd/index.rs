// SPDX-License-Identifier: Apache-2.0
//! What an image's record leads to: its manifest, or those that its index lists, in containerd's order.

use super::image::{Documents, descriptor_of, parse, platform_of};
use super::json::{self, List, Text, document};
use super::platform::Platform;
use super::{Descriptor, ImageRecord, records};
use crate::error::{Error, ErrorKind, Result};

/// An index may list indexes; so deep, and no deeper.
const INDEX_DEPTH: usize = 4;

/// Media types of lists of manifests.
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// System and architecture of what build tools attach to an image.
const ATTACHED: &str = "unknown";

document!(Index { "manifests" => manifests: List<Reference> });
document!(
    /// A descriptor.
    Reference {
        "mediatype" => media_type: Text,
        "digest" => digest: Text,
        "size" => size: i64,
        "platform" => platform: PlatformFields,
    }
);
document!(PlatformFields {
    "os" => os: Text,
    "architecture" => architecture: Text,
    "variant" => variant: Text,
    "os.features" => features: List<Text>,
});

/// Whether a manifest is for the platform that was asked for. The order is containerd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It is: how much it is liked, and how many features of the system it needs; less is better.
    Yes(usize, usize),
    /// Its config has to tell.
    Perhaps,
    /// It is for another.
    No,
}

/// One of the manifests.
#[derive(Debug)]
pub(super) struct Entry {
    /// Whether it is for the platform that was asked for.
    pub fit: Fit,
    /// What the index says that it is for.
    pub platform: Option<Platform>,
    /// The manifest; or what reading an index within failed with.
    pub descriptor: Result<Descriptor>,
    /// Whether that index was never fetched.
    pub absent: bool,
}

/// The manifests of a record, the best first. If the platform was `named`, and some are for exactly that one, the
/// others do not fit.
///
/// # Errors
/// The index can't be read.
pub(super) fn entries(
    documents: &dyn Documents,
    record: &ImageRecord,
    wanted: &Platform,
    named: bool,
) -> Result<Vec<Entry>> {
    let digest = records::digest(&record.digest)?;
    let target = Descriptor { digest, size: 0, media_type: record.media_type.clone() };
    // containerd takes what is not listed in an index for whatever it is.
    let fit = if named { Fit::Perhaps } else { Fit::Yes(0, 0) };
    if !is_index(&target) {
        return Ok(vec![Entry { fit, platform: None, descriptor: Ok(target), absent: false }]);
    }
    let mut entries = listed(documents, &target, wanted, INDEX_DEPTH)?;
    if named && entries.iter().any(|entry| matches!(entry.fit, Fit::Yes(0, _))) {
        for entry in entries.iter_mut().filter(|entry| !matches!(entry.fit, Fit::Yes(0, _))) {
            entry.fit = Fit::No;
        }
        entries.sort_by_key(|entry| entry.fit);
    }
    Ok(entries)
}

fn is_index(descriptor: &Descriptor) -> bool {
    INDEXES.contains(&descriptor.media_type.as_str())
}

/// What an index lists, and what the indexes list that it lists.
fn listed(documents: &dyn Documents, index: &Descriptor, wanted: &Platform, depth: usize) -> Result<Vec<Entry>> {
    if depth == 0 {
        let message = format!("index {}: indexes of indexes, more than {INDEX_DEPTH} deep", index.digest);
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let content = documents.read(index).map_err(|error| error.context("its index"))?;
    let document: Index = parse(index, &content)?;
    let mut references = Vec::new();
    for mut reference in json::elements(document.manifests).filter(|reference| reference.digest.is_some()) {
        let (fit, platform) = match reference.platform.take() {
            None => (Fit::Perhaps, None),
            Some(PlatformFields { os, architecture, variant, features }) => {
                let platform = platform_of(os, architecture, variant);
                let features = json::elements(features).len();
                let fit = wanted.preference(&platform).map_or(Fit::No, |preference| Fit::Yes(preference, features));
                (fit, Some(platform))
            }
        };
        let is_attached = |platform: &Platform| platform.os == ATTACHED || platform.architecture == ATTACHED;
        if !platform.as_ref().is_some_and(is_attached) {
            references.push((fit, platform, reference));
        }
    }
    references.sort_by_key(|(fit, ..)| *fit);
    let mut entries = Vec::new();
    for (fit, platform, reference) in references {
        let within = match descriptor_of(reference) {
            Ok(descriptor) if is_index(&descriptor) => {
                let within = listed(documents, &descriptor, wanted, depth - 1);
                within.map_err(|error| (is_absent(documents, &error, &descriptor), error))
            }
            descriptor => {
                entries.push(Entry { fit, platform, descriptor, absent: false });
                continue;
            }
        };
        match within {
            // What the outer index says of all of them goes first.
            Ok(within) if fit == Fit::No => entries.extend(within.into_iter().map(|entry| Entry { fit, ..entry })),
            Ok(within) => entries.extend(within),
            Err((absent, error)) => entries.push(Entry { fit, platform, descriptor: Err(error), absent }),
        }
    }
    Ok(entries)
}

/// Whether reading a document failed because it was never fetched.
pub(super) fn is_absent(documents: &dyn Documents, error: &Error, descriptor: &Descriptor) -> bool {
    error.kind() == ErrorKind::NotFound && documents.knows(&descriptor.digest).is_ok_and(|known| !known)
}
