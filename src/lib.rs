// SPDX-License-Identifier: Apache-2.0
//! Proves that the files a container runs from are the files its image promised.
//!
//! The modules, in reading order. A module imports only from itself and from levels below its own.
//!
//! | level | module | what it is |
//! |---|---|---|
//! | 0 | [`error`] | kind, message, source |
//! | 0 | [`sys`] | what no library wraps safely: the only unsafe code |
//! | 1 | [`digest`] | SHA-256 digests |
//! | 1 | [`host`] | what a host puts on files by itself, and what it keeps of what an image says |
//! | 1 | [`inode`] | file types and extended attributes |
//! | 1 | [`labels`] | the labels of snapshots that mean something here |
//! | 1 | [`mountinfo`] | mount tables, as the kernel tells them |
//! | 2 | [`manifest`] | resources, modes, the streaming codec, text and JSON forms |
//! | 2 | [`tree`] | a confined directory handle, the ordered parallel walk, changes to a tree |
//! | 2 | [`mount`] | containerd's mounts, made where nobody sees them |
//! | 2 | [`key`] | the names that containerd gives to snapshots, chain IDs |
//! | 3 | [`ops`] | build, verify, apply, diff, inspect: synchronous |
//! | 3 | [`layer`] | image layers: blob to entries, entries to root filesystem and manifest |
//! | 4 | [`snapshotter`] | snapshots on overlay: backend and metadata database |
//! | 5 | [`containerd`] | client of containerd: images, content, snapshots, leases, containers |
//! | 6 | [`image`] | what is unpacked, held against the image: derive, verify, trace, repair |
//! | 7 | [`verifier`] | seals from disk and image, the policy that guards View and Prepare, repairs in the background |
//! | 8 | [`engine`] | one method per use case: the one door for every protocol |
//! | 9 | [`api`] | ttrpc and gRPC services: conversions and status codes |
//! | 9 | [`config`] | the daemon's configuration |
//! | 10 | [`daemon`] | wiring, listeners, shutdown |
//! | 11 | [`cli`] | arguments to resolved options to work to output |

pub mod api;
pub mod cli;
pub mod config;
pub mod containerd;
pub mod daemon;
pub mod digest;
pub mod engine;
pub mod error;
pub mod host;
pub mod image;
pub mod inode;
pub mod key;
pub mod labels;
pub mod layer;
pub mod manifest;
pub mod mount;
pub mod mountinfo;
pub mod ops;
pub mod snapshotter;
pub mod sys;
pub mod tree;
pub mod verifier;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Module to level, from the table above.
    fn levels() -> HashMap<String, u32> {
        let table = include_str!("lib.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
        table
            .filter_map(|row| {
                let mut cells = row.split(" | ");
                let level = cells.next()?.parse().ok()?;
                let module = cells.next()?.trim_matches(['[', '`', ']']);
                Some((module.to_owned(), level))
            })
            .collect()
    }

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, found),
                false => found.push(path),
            }
        }
    }

    /// The modules that a source names after `crate::`.
    fn imports(text: &str) -> Vec<String> {
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let mut found = Vec::new();
        for line in code {
            for part in line.split("crate::").skip(1) {
                let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
                found.push(part[..end].to_owned());
            }
        }
        found
    }

    #[test]
    fn every_import_comes_from_the_module_itself_or_a_level_below() {
        let levels = levels();
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&src, &mut files);
        let mut checked = 0;
        for file in files {
            let relative = file.strip_prefix(&src).unwrap();
            let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
            if matches!(module, "lib" | "main") {
                continue;
            }
            let level = levels.get(module).unwrap_or_else(|| panic!("{module} is not in the map of lib.rs"));
            for import in imports(&fs::read_to_string(&file).unwrap()) {
                let from = levels.get(&import).unwrap_or_else(|| panic!("{}: crate::{import}", file.display()));
                assert!(import == module || from < level, "{} imports crate::{import}", file.display());
                checked += 1;
            }
        }
        assert!(checked > 20, "the test has lost sight of the imports");
    }

    #[test]
    fn unsafe_code_stays_in_sys() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&src, &mut files);
        for file in files.iter().filter(|file| !file.starts_with(src.join("sys")) && **file != src.join("sys.rs")) {
            let text = fs::read_to_string(file).unwrap();
            let allowed = ["allow(", "unsafe_code)"].concat();
            assert!(!text.contains(&allowed), "{} allows unsafe code", file.display());
        }
    }
}
