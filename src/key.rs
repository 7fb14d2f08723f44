// SPDX-License-Identifier: Apache-2.0
//! The names that containerd gives to snapshots, parsed once.
//!
//! To a snapshotter a key is opaque. What it says is read here and nowhere else:
//!
//! | key | what it is |
//! |---|---|
//! | `<namespace>/<number>/<name>` | every key that comes through containerd; the name is its client's |
//! | `…/<chain ID>` | a layer of an image, with everything below it |
//! | `…/extract-<nanoseconds>-<random> <chain ID>` | a layer that containerd's unpacker is about to fill |

use std::fmt;

use crate::digest::Digest;
use crate::labels::{self, Labels};

/// Begins the name of a snapshot that a layer is unpacked in.
const UNPACK: &str = "extract-";

/// Names the stack of layers up to one of them: the first layer's is its diff ID, each further one's the digest of
/// the chain ID below, a space, and its diff ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// That of the next layer, on top of `below`.
    pub fn of(below: Option<Self>, diff_id: Digest) -> Self {
        match below {
            None => Self(diff_id),
            Some(Self(below)) => Self(Digest::of(format!("{below} {diff_id}").as_bytes())),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Digest::parse(text.as_bytes()).map(Self)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key as containerd makes it: `<namespace>/<number>/<name>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotKey<'a> {
    /// containerd's namespace.
    pub namespace: &'a str,
    /// containerd's own number of the snapshot.
    pub number: u64,
    /// What containerd's client calls it; may hold slashes and spaces.
    pub name: &'a str,
}

impl<'a> SnapshotKey<'a> {
    /// None for a key of another shape: it did not come through containerd.
    pub fn parse(key: &'a str) -> Option<Self> {
        let mut parts = key.splitn(3, '/');
        let (namespace, number, name) = (parts.next()?, parts.next()?, parts.next()?);
        let number = is_decimal(number).then(|| number.parse().ok())??;
        (!namespace.is_empty() && !name.is_empty()).then_some(Self { namespace, number, name })
    }

    /// The chain ID, for a layer of an image; none for what builders commit and for what is remapped to other users.
    pub fn chain_id(&self) -> Option<ChainId> {
        ChainId::parse(self.name)
    }

    /// Whether a client calls it `name` in `namespace`; an empty namespace means any.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && (namespace.is_empty() || self.namespace == namespace)
    }

    /// Whether containerd's unpacker is about to fill this snapshot, on top of the snapshot `parent`, with a layer:
    /// the name has the unpacker's form, and its chain ID follows from that of the parent and from the layer's diff ID
    /// where a label has it. Without a parent, what a label announces counts: so it is while layers are unpacked side
    /// by side, and the commit names the parent.
    ///
    /// A caller can imitate all of that, where there is no diff ID. What that buys is a writable snapshot on an
    /// unverified stack of layers, for a caller who owns the socket, which is root's. It is no way around the check of
    /// anything else: a commit of it is a layer, sealed and held against the image like every other, and each Prepare
    /// and View on top of it verifies the whole stack, the damaged layer included. A container has a name of its own
    /// choice, but containerd takes no space in it, so none can have this form by accident.
    pub fn is_unpack(&self, parent: Option<&str>, labels: &Labels) -> bool {
        self.check_unpack(parent, labels).is_some()
    }

    /// Some if [`SnapshotKey::is_unpack`].
    fn check_unpack(&self, parent: Option<&str>, labels: &Labels) -> Option<()> {
        let chain = self.unpacks()?;
        let chain_label = |name| labels.get(name).map(|text| ChainId::parse(text).ok_or(())).transpose();
        let announced = chain_label(labels::PARENT_CHAIN_ID).ok()?;
        let below = match parent {
            Some(parent) => Some(SnapshotKey::parse(parent)?.chain_id()?),
            None => announced,
        };
        let target = chain_label(labels::TARGET).ok()?;
        let agree = announced.is_none_or(|announced| below == Some(announced)) && target.is_none_or(|it| it == chain);
        let follows = match labels.get(labels::DIFF_ID) {
            Some(diff_id) => ChainId::of(below, Digest::parse(diff_id.as_bytes())?) == chain,
            // Up to containerd 2.3.
            None => below != Some(chain),
        };
        (agree && follows).then_some(())
    }

    /// The chain ID in the name of an unpacking.
    fn unpacks(&self) -> Option<ChainId> {
        let (unique, chain) = self.name.strip_prefix(UNPACK)?.split_once(' ')?;
        let (nanoseconds, random) = unique.split_once('-')?;
        // Three random bytes in the URL's base64.
        let is_random = random.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='));
        (is_decimal(nanoseconds) && !random.is_empty() && is_random).then(|| ChainId::parse(chain))?
    }
}

/// Digits alone; Rust's parser takes a sign, too.
fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    #[test]
    fn every_key_is_read_in_one_way() {
        let layer = digest("layer");
        // The key; namespace, number and name; whether it is a layer of an image; whether it is an unpacking.
        for (key, parsed, is_layer, is_unpack) in [
            (format!("default/7/{layer}"), Some(("default", 7, layer.to_string())), true, false),
            (
                format!("k8s.io/18446744073709551615/{layer}"),
                Some(("k8s.io", u64::MAX, layer.to_string())),
                true,
                false,
            ),
            ("default/7/a/b c".into(), Some(("default", 7, "a/b c".into())), false, false),
            ("default/7/7/x".into(), Some(("default", 7, "7/x".into())), false, false),
            (
                format!("default/7/extract-12-aB_- {layer}"),
                Some(("default", 7, format!("extract-12-aB_- {layer}"))),
                false,
                true,
            ),
            // What others may be called.
            (format!("default/7/{layer}-1000-1000"), Some(("default", 7, format!("{layer}-1000-1000"))), false, false),
            ("default/7/extract-anything".into(), Some(("default", 7, "extract-anything".into())), false, false),
            ("default/7/extract-1-abcd".into(), Some(("default", 7, "extract-1-abcd".into())), false, false),
            (format!("default/7/extract-1 {layer}"), Some(("default", 7, format!("extract-1 {layer}"))), false, false),
            (
                format!("default/7/extract-x-y {layer}"),
                Some(("default", 7, format!("extract-x-y {layer}"))),
                false,
                false,
            ),
            (
                format!("default/7/extract-1-a/b {layer}"),
                Some(("default", 7, format!("extract-1-a/b {layer}"))),
                false,
                false,
            ),
            (
                format!("default/7/extract-1- {layer}"),
                Some(("default", 7, format!("extract-1- {layer}"))),
                false,
                false,
            ),
            (
                "default/7/extract-1-abcd sha256:00".into(),
                Some(("default", 7, "extract-1-abcd sha256:00".into())),
                false,
                false,
            ),
            (
                format!("default/7/my/extract-1-abcd {layer}"),
                Some(("default", 7, format!("my/extract-1-abcd {layer}"))),
                false,
                false,
            ),
            // Not through containerd.
            (format!("extract-1-abcd {layer}"), None, false, false),
            (layer.to_string(), None, false, false),
            (format!("default/{layer}"), None, false, false),
            (format!("default/x/{layer}"), None, false, false),
            (format!("default/+7/{layer}"), None, false, false),
            (format!("default/18446744073709551616/{layer}"), None, false, false),
            (format!("/7/{layer}"), None, false, false),
            ("default/7/".into(), None, false, false),
            ("a/b/extract-1".into(), None, false, false),
            ("".into(), None, false, false),
        ] {
            let found = SnapshotKey::parse(&key);
            let words = found.map(|key| (key.namespace, key.number, key.name.to_owned()));
            assert_eq!(words, parsed, "{key}");
            assert_eq!(found.is_some_and(|key| key.chain_id().is_some()), is_layer, "{key}");
            assert_eq!(found.is_some_and(|key| key.is_unpack(None, &Labels::new())), is_unpack, "{key}");
        }
    }

    #[test]
    fn an_unpacking_follows_from_its_parent_and_its_diff_id() {
        let (below, diff) = (ChainId(digest("below")), digest("diff"));
        let (chain, first) = (ChainId::of(Some(below), diff), ChainId(diff));
        let on_parent = format!("default/7/extract-12-abcd {chain}");
        let bottom = format!("default/7/extract-12-abcd {first}");
        let parent = format!("default/6/{below}");
        let (diff, below, chain, other) =
            (diff.to_string(), below.to_string(), chain.to_string(), digest("other").to_string());
        let (target, id, announced) = (labels::TARGET, labels::DIFF_ID, labels::PARENT_CHAIN_ID);
        let some = Some(parent.as_str());
        for (what, key, parent, given, expected) in [
            ("1.6", &on_parent, some, vec![], true),
            ("2.1", &on_parent, some, vec![(target, &chain)], true),
            ("2.3", &on_parent, some, vec![(target, &chain), (announced, &below)], true),
            ("2.4", &on_parent, some, vec![(target, &chain), (announced, &below), (id, &diff)], true),
            ("2.4, bottom", &bottom, None, vec![(id, &diff)], true),
            ("2.4, side by side", &on_parent, None, vec![(announced, &below), (id, &diff)], true),
            ("another diff ID", &on_parent, some, vec![(id, &other)], false),
            ("another diff ID, bottom", &bottom, None, vec![(id, &other)], false),
            ("no diff ID", &on_parent, some, vec![(id, &"x".to_owned())], false),
            ("a parent that is announced otherwise", &on_parent, some, vec![(announced, &other)], false),
            ("another target", &on_parent, some, vec![(target, &other)], false),
            ("on a builder's snapshot", &on_parent, Some("default/6/built"), vec![(id, &diff)], false),
            ("on a key that did not come through containerd", &on_parent, Some("built"), vec![], false),
            ("on itself", &on_parent, Some(&format!("default/6/{chain}")), vec![], false),
        ] {
            let labels = given.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            assert_eq!(SnapshotKey::parse(key).unwrap().is_unpack(parent, &labels), expected, "{what}");
        }
        let labels = Labels::from([(target.to_owned(), chain)]);
        let container = SnapshotKey::parse("default/12/container").unwrap();
        assert!(!container.is_unpack(some, &labels), "a label alone");
    }

    #[test]
    fn a_name_is_the_whole_name_in_its_namespace() {
        for (namespace, name, key, expected) in [
            ("default", "sha256:1", "default/7/sha256:1", true),
            ("", "sha256:1", "default/7/sha256:1", true),
            ("other", "sha256:1", "default/7/sha256:1", false),
            ("default", "b", "default/7/a/b", false),
            ("default", "a/b", "default/7/a/b", true),
            ("default", "7/sha256:1", "default/7/sha256:1", false),
        ] {
            assert_eq!(SnapshotKey::parse(key).unwrap().is(namespace, name), expected, "{namespace} {name}: {key}");
        }
    }

    #[test]
    fn a_chain_id_is_containerds() {
        let (one, two) = (digest("1"), digest("2"));
        assert_eq!(ChainId::of(None, one), ChainId(one));
        assert_eq!(ChainId::of(Some(ChainId(one)), two).0, Digest::of(format!("{one} {two}").as_bytes()));
    }
}
