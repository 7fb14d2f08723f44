// SPDX-License-Identifier: Apache-2.0
//! Platforms, and which of them containerd takes for another: its rules, `Only` and `Normalize`.

use std::fmt;
use std::fs;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// What an image is for: `os/architecture[/variant]`, as Go names them. Names that mean the same are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`; empty if an image does not say.
    pub architecture: String,
    /// `v7`; mostly empty.
    pub variant: String,
}

impl Platform {
    /// That of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        let variant = if architecture == "arm" { arm_variant_here() } else { "" };
        Self::new("linux", architecture, variant)
    }

    /// Names that mean the same become one. Who names no system means the one that containerd runs on.
    pub(super) fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "" => "linux".to_owned(),
            "macos" => "darwin".to_owned(),
            _ => os.to_ascii_lowercase(),
        };
        let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        Self { os, architecture: architecture.into(), variant: variant.into() }
    }

    /// How much containerd likes an image for `other` if it wants one for this platform: 0 is best, none is not at all.
    pub(super) fn preference(&self, other: &Self) -> Option<usize> {
        self.taken().iter().position(|taken| taken == other)
    }

    /// What containerd takes for this platform, the best first.
    fn taken(&self) -> Vec<Self> {
        let of = |architecture: &str, variant: &str| Self::new(&self.os, architecture, variant);
        let version = self.variant.strip_prefix('v').unwrap_or(&self.variant).parse::<u8>().unwrap_or(0);
        let mut taken = vec![self.clone()];
        match self.architecture.as_str() {
            "amd64" => {
                taken.extend((1..version).rev().map(|version| of("amd64", &format!("v{version}"))));
                taken.push(of("386", ""));
            }
            "arm" => taken.extend((5..version).rev().map(|version| of("arm", &format!("v{version}")))),
            "arm64" => {
                let below = arm64_below(&self.variant);
                taken.extend(below.iter().map(|variant| of("arm64", variant)));
                let known = self.variant.is_empty() || self.variant.starts_with("v8") || self.variant.starts_with("v9");
                taken.extend(of("arm", if known { "v8" } else { &self.variant }).taken());
            }
            _ => {}
        }
        taken
    }
}

/// Newest revisions of the 8th version of 64-bit ARM, and of the 9th.
const ARM64_LAST: [(u8, u8); 2] = [(8, 9), (9, 7)];

/// Revisions of the 8th version that the first of the 9th has.
const ARM64_NINE: u8 = 5;

/// The variants of 64-bit ARM that one runs besides its own, the best first: none for an unknown one.
fn arm64_below(variant: &str) -> Vec<String> {
    let version = variant.strip_prefix('v').map_or("8", |version| version);
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    let version = (major.parse().unwrap_or(0), minor.parse().unwrap_or(u8::MAX));
    let revisions = |major: u8, minors: std::ops::Range<u8>| minors.rev().map(move |minor| format!("v{major}.{minor}"));
    match version {
        (8, minor) if minor <= ARM64_LAST[0].1 => revisions(8, 0..minor).collect(),
        (9, minor) if minor <= ARM64_LAST[1].1 => {
            let eight = (minor + ARM64_NINE).min(ARM64_LAST[0].1);
            revisions(9, 0..minor).chain(revisions(8, 0..eight + 1)).collect()
        }
        _ => Vec::new(),
    }
}

/// The variant of a 32-bit ARM machine, or of a 64-bit one that runs such programs.
fn arm_variant_here() -> &'static str {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    arm_variant(&cpuinfo, &rustix::system::uname().machine().to_string_lossy())
}

/// The same, from what the kernel says of the processor, or if it says nothing, from the machine's name.
fn arm_variant(cpuinfo: &str, machine: &str) -> &'static str {
    let value = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.split(':').next().unwrap_or_default().trim())
        })
    };
    let version = match value("CPU architecture") {
        // A Raspberry Pi of the first kind says 7 all the same.
        Some("7")
            if value("model name").is_some_and(|name| name.to_ascii_lowercase().starts_with("armv6-compatible")) =>
        {
            "6".to_owned()
        }
        Some(version) => version.to_ascii_lowercase(),
        None => machine.strip_prefix("armv").and_then(|rest| rest.get(..1)).unwrap_or(machine).to_owned(),
    };
    match version.as_str() {
        "8" | "aarch64" => "v8",
        "7" | "7m" | "?(12)" | "?(13)" | "?(14)" | "?(15)" | "?(16)" | "?(17)" => "v7",
        "6" | "6tej" => "v6",
        "5" | "5t" | "5te" | "5tej" => "v5",
        "4" | "4t" => "v4",
        "3" => "v3",
        _ => "unknown",
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let architecture = if self.architecture.is_empty() { "unknown" } else { &self.architecture };
        write!(f, "{}/{architecture}", self.os)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture] if !os.is_empty() && !architecture.is_empty() => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] if !os.is_empty() && !architecture.is_empty() => {
                Ok(Self::new(os, architecture, variant))
            }
            _ => {
                let message = format!("{text:?} is not a platform: expected os/architecture, such as linux/amd64");
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_as_they_are_written() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/i386", "linux/386"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v8.0", "linux/arm64"),
            ("linux/arm64/9", "linux/arm64/v9"),
            ("linux/arm64/v8.2", "linux/arm64/v8.2"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        for text in ["", "linux", "/amd64", "linux/", "a/b/c/d"] {
            assert_eq!(text.parse::<Platform>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
        assert_eq!(Platform::new("", "", "").to_string(), "linux/unknown");
    }

    #[test]
    fn for_a_platform_those_are_taken_that_it_runs() {
        for (wanted, taken) in [
            ("amd64", "amd64 386"),
            ("amd64/v2", "amd64/v2 amd64 386"),
            ("amd64/v4", "amd64/v4 amd64/v3 amd64/v2 amd64 386"),
            ("386", "386"),
            ("arm/v5", "arm/v5"),
            ("arm/v6", "arm/v6 arm/v5"),
            ("arm", "arm/v7 arm/v6 arm/v5"),
            ("arm/v8", "arm/v8 arm/v7 arm/v6 arm/v5"),
            ("arm64", "arm64 arm/v8 arm/v7 arm/v6 arm/v5"),
            ("arm64/v8.2", "arm64/v8.2 arm64/v8.1 arm64 arm/v8 arm/v7 arm/v6 arm/v5"),
            (
                "arm64/v9",
                "arm64/v9 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 arm/v8 arm/v7 arm/v6 arm/v5",
            ),
            (
                "arm64/v9.5",
                "arm64/v9.5 arm64/v9.4 arm64/v9.3 arm64/v9.2 arm64/v9.1 arm64/v9 arm64/v8.9 arm64/v8.8 arm64/v8.7 \
                 arm64/v8.6 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 arm/v8 arm/v7 arm/v6 arm/v5",
            ),
            ("arm64/odd", "arm64/odd arm/odd"),
            ("s390x", "s390x"),
            ("riscv64", "riscv64"),
        ] {
            let platform: Platform = format!("linux/{wanted}").parse().unwrap();
            let found: Vec<_> = platform.taken().iter().map(|taken| taken.to_string()).collect();
            let expected: Vec<_> = taken.split(' ').map(|taken| format!("linux/{taken}")).collect();
            assert_eq!(found, expected, "{wanted}");
        }
        let other: Platform = "windows/amd64".parse().unwrap();
        assert_eq!("linux/amd64".parse::<Platform>().unwrap().preference(&other), None);
    }

    #[test]
    fn the_variant_of_an_arm_machine_is_what_its_kernel_says() {
        let pi_1 = "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\nCPU architecture: 7\n";
        for (cpuinfo, machine, variant) in [
            ("CPU architecture: 7\n", "armv7l", "v7"),
            ("processor\t: 0\ncpu Architecture\t: 8\nCPU architecture: 7\n", "aarch64", "v8"),
            ("CPU architecture: AArch64\n", "aarch64", "v8"),
            ("CPU architecture: 5TEJ\n", "armv5tejl", "v5"),
            ("CPU architecture: ?(17)\n", "armv7l", "v7"),
            (pi_1, "armv6l", "v6"),
            ("vendor_id : GenuineIntel\n", "armv7l", "v7"),
            ("", "armv6l", "v6"),
            ("", "aarch64", "v8"),
            ("", "x86_64", "unknown"),
        ] {
            assert_eq!(arm_variant(cpuinfo, machine), variant, "{cpuinfo} {machine}");
        }
    }
}
