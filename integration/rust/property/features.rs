// SPDX-License-Identifier: Apache-2.0
//! What an image may have besides plain files and directories. Each can be left out, to see which of them a failure
//! needs.

use crate::Outcome;

/// Declares the features, their names on the command line and the list of all of them in one place.
macro_rules! features {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// See the [module](self).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Feature { $($(#[doc = $doc])* $variant,)* }

        impl Feature {
            const ALL: &[(Self, &str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

features! {
    /// Sticky and setuid bits, no permissions at all.
    Modes = "modes",
    /// Setgid directories, which hand their group down.
    Setgid = "setgid",
    /// Owners that fit into a header, and larger ones.
    Owners = "owners",
    /// 4294967295, which is no change to the kernel.
    OwnerMinusOne = "owner-minus-one",
    /// Parents without an entry.
    Implied = "implied",
    Symlinks = "symlinks",
    /// Setuid, setgid and sticky bits in a symlink's header.
    SymlinkModes = "symlink-modes",
    /// Names that lead through symlinks of the same layer.
    Through = "through",
    HardLinks = "hard-links",
    /// Hard links whose headers have other attributes than their targets'.
    LinkAttributes = "link-attributes",
    LinkSymlinks = "link-symlinks",
    /// Hard links of devices and fifos.
    LinkSpecials = "link-specials",
    Devices = "devices",
    /// A character device 0, 0 that is no whiteout to the tar.
    DeviceZero = "device-zero",
    Fifos = "fifos",
    Whiteouts = "whiteouts",
    /// Whiteouts of what is not there.
    WhiteoutMissing = "whiteout-missing",
    Opaque = "opaque",
    /// An opaque root.
    OpaqueRoot = "opaque-root",
    /// Another type over what a layer below has.
    Replace = "replace",
    /// One name twice in a layer.
    Duplicates = "duplicates",
    XattrUser = "xattr-user",
    /// Attributes of symlinks, devices and fifos.
    XattrElsewhere = "xattr-elsewhere",
    /// Namespaces that the kernel does not have.
    XattrForeign = "xattr-foreign",
    Selinux = "selinux",
    Capability = "capability",
    /// Version 3, of root ID 0 and others.
    Capability3 = "capability-3",
    /// An access ACL with a named user.
    Acl = "acl",
    /// An access ACL that says what the mode says.
    AclMinimal = "acl-minimal",
    AclDefault = "acl-default",
    LongPax = "long-pax",
    LongGnu = "long-gnu",
    /// Empty GNU long names.
    GnuEmpty = "gnu-empty",
    GnuPrefix = "gnu-prefix",
    /// A sign before a PAX length.
    PaxSign = "pax-sign",
    Global = "global",
    /// Global headers with names that containerd takes for entries.
    GlobalNames = "global-names",
    SparsePax = "sparse",
    /// `./`, `/`, `../`, doubled and trailing slashes.
    OddNames = "odd-names",
    /// Names that are not ASCII or not UTF-8.
    Bytes = "bytes",
    /// Files of type NUL, as before POSIX.
    OldType = "old-type",
    /// No blocks of zeros at the end, many, or something after them.
    Trailers = "trailers",
    Zstd = "zstd",
    /// Windows above 64 MiB.
    ZstdLong = "zstd-long",
    GzipMembers = "gzip-members",
    /// Configs without os, architecture, type; `null` labels.
    OddConfig = "odd-config",
    /// Manifests without a version of the schema, or a media type.
    OddManifest = "odd-manifest",
    /// An index with entries of other platforms.
    Index = "index",
}

/// A set of them.
#[derive(Debug, Clone, Copy)]
pub struct Features(u64);

impl Features {
    pub const ALL: Self = Self(u64::MAX);
    pub const NONE: Self = Self(0);

    pub fn has(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u32) != 0
    }

    /// The names, separated by commas.
    ///
    /// # Errors
    /// One of the names is not a feature's; lists those that are.
    pub fn parse(names: &str) -> Outcome<Self> {
        let mut set = Self::NONE;
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let Some((feature, _)) = Feature::ALL.iter().find(|(_, known)| *known == name) else {
                let known: Vec<_> = Feature::ALL.iter().map(|(_, name)| *name).collect();
                return Err(format!("{name}: not a feature: {}", known.join(", ")).into());
            };
            set.0 |= 1 << *feature as u32;
        }
        Ok(set)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}
