// SPDX-License-Identifier: Apache-2.0
//! Trees, the same on every machine.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::Outcome;

/// Sizes of the files of a Debian `/usr` in bytes, by their share in thousandths; between two points the logarithm
/// is interpolated.
const USR_SIZES: [(u64, f64); 10] = [
    (0, 1.0),
    (50, 173.0),
    (250, 901.0),
    (500, 2106.0),
    (750, 7309.0),
    (900, 25425.0),
    (950, 57723.0),
    (990, 371_176.0),
    (999, 5_452_590.0),
    (1000, 12_000_000.0),
];

/// Files in one directory of the tree like `/usr`, and sub-directories in one of its top directories.
const USR_FILES: usize = 16;
const USR_DIRECTORIES: usize = 32;

/// One symlink for that many files.
const USR_SYMLINKS: usize = 8;

/// Bytes of a large file.
const LARGE: usize = 1 << 30;

/// Empty files in one directory.
const EMPTY_FILES: usize = 1000;

/// Directories below one another: the reference joins whole paths, which the kernel takes up to 4 KiB.
const DEEP_LEVELS: usize = 1000;

/// Bytes of a file that has several links.
const LINKED: usize = 2000;

/// Random words of eight bytes that contents are made of: of so many, most came within the window of gzip before, and
/// contents compress to about half, as programs and texts do.
const WORDS: usize = 2048;

/// Bytes of random words that contents are cut out of.
const NOISE: usize = 1 << 20;

/// Makes a tree of about `n` entries in `dir`, which must not exist. `big` takes MiB, in ten files.
pub fn tree(shape: &str, n: usize, dir: &Path) -> Outcome {
    fs::create_dir(dir)?;
    let mut contents = Contents::new();
    match shape {
        "usr" => usr(n, dir, &mut contents),
        "big" => big(n, dir, &mut contents),
        "empty" => empty(n, dir),
        "deep" => deep(n, dir, &mut contents),
        "links" => links(n, dir, &mut contents),
        _ => Err(format!("{shape}: no such shape").into()),
    }
}

fn usr(n: usize, dir: &Path, contents: &mut Contents) -> Outcome {
    for i in 0..n {
        let number = i / USR_FILES;
        let parent = dir.join(format!("top-{:03}/sub-{:02}", number / USR_DIRECTORIES, number % USR_DIRECTORIES));
        if i % USR_FILES == 0 {
            fs::create_dir_all(&parent)?;
        }
        let name = format!("file-{:02}.ext", i % USR_FILES);
        let size = usr_size(contents.random());
        contents.write(&parent.join(&name), size)?;
        if i % USR_SYMLINKS == 0 {
            symlink(&name, parent.join(format!("link-{:02}", i % USR_FILES)))?;
        }
    }
    Ok(())
}

/// The size at a random place of [`USR_SIZES`].
fn usr_size(random: u64) -> usize {
    const STEPS: u64 = 1_000_000;
    let place = random % STEPS;
    let share = |point: &(u64, f64)| point.0 * (STEPS / 1000);
    let above = USR_SIZES.iter().position(|point| share(point) > place).unwrap_or(USR_SIZES.len() - 1);
    let (low, high) = (&USR_SIZES[above - 1], &USR_SIZES[above]);
    let part = (place - share(low)) as f64 / (share(high) - share(low)) as f64;
    (low.1.ln() + part * (high.1.ln() - low.1.ln())).exp() as usize
}

fn big(mib: usize, dir: &Path, contents: &mut Contents) -> Outcome {
    let total = mib << 20;
    let size = LARGE.min(total / 10);
    for i in 0..total / size {
        contents.write(&dir.join(format!("large-{i}")), size)?;
    }
    Ok(())
}

fn empty(n: usize, dir: &Path) -> Outcome {
    for i in 0..n {
        let parent = dir.join(format!("dir-{:04}", i / EMPTY_FILES));
        if i % EMPTY_FILES == 0 {
            fs::create_dir(&parent)?;
        }
        File::create_new(parent.join(format!("file-{:03}", i % EMPTY_FILES)))?;
    }
    Ok(())
}

fn deep(n: usize, dir: &Path, contents: &mut Contents) -> Outcome {
    let mut parent = dir.to_owned();
    for _ in 0..DEEP_LEVELS {
        for file in 0..n / DEEP_LEVELS {
            contents.write(&parent.join(format!("f{file}")), 100)?;
        }
        parent.push("d");
        fs::create_dir(&parent)?;
    }
    Ok(())
}

/// Every tenth file has a second path, in another directory.
fn links(n: usize, dir: &Path, contents: &mut Contents) -> Outcome {
    let second = dir.join("zz-second");
    fs::create_dir(&second)?;
    for i in 0..n {
        let parent = dir.join(format!("dir-{:04}", i / 100));
        if i % 100 == 0 {
            fs::create_dir(&parent)?;
        }
        let path = parent.join(format!("file-{:02}", i % 100));
        contents.write(&path, LINKED)?;
        if i % 10 == 0 {
            fs::hard_link(&path, second.join(format!("link-{i:06}")))?;
        }
    }
    Ok(())
}

/// Contents that no two files share, from a generator with a fixed seed.
struct Contents {
    state: u64,
    noise: Vec<u8>,
}

impl Contents {
    fn new() -> Self {
        let mut contents = Self { state: 0x9e37_79b9_7f4a_7c15, noise: Vec::with_capacity(NOISE) };
        let words: Vec<_> = (0..WORDS).map(|_| contents.random().to_le_bytes()).collect();
        while contents.noise.len() < NOISE {
            let word = words[contents.random() as usize % WORDS];
            contents.noise.extend_from_slice(&word);
        }
        contents
    }

    /// Xorshift: not secret, not even good, but never the same and fast.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn write(&mut self, path: &Path, size: usize) -> Outcome {
        let mut file = File::create_new(path)?;
        let head = self.random().to_le_bytes();
        file.write_all(&head[..size.min(head.len())])?;
        let mut left = size.saturating_sub(head.len());
        while left > 0 {
            let n = left.min(NOISE);
            file.write_all(&self.noise[..n])?;
            left -= n;
        }
        Ok(())
    }
}
