// SPDX-License-Identifier: Apache-2.0
//! Random images, unpacked by the real containerd: an image that was not touched has no finding, and no damage passes.
//!
//! ```text
//! seed ── layer, layout ──▶ image ── containerd ──▶ directories ── view ──▶ what a container sees
//!   └──── damage ───────────────────────────────────────▲                     │ is right or changed
//!                     found, named, repaired by what is tested ◀──────────────┘
//! ```
//!
//! What is right is what containerd has unpacked, as the kernel shows it; nothing of what is tested decides that. A
//! seed decides everything else: the image, the snapshotter, the damage.

mod attributes;
mod damage;
mod features;
mod layer;
mod layout;
mod random;
mod run;
mod services;
mod subject;
mod tar;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use features::Features;
use run::{Run, Settings};
use services::Services;

/// What went wrong, for a person.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Arguments of the command line.
#[derive(Debug, Parser)]
struct Args {
    /// containerd's socket
    #[arg(long)]
    containerd: PathBuf,
    /// The daemon's socket
    #[arg(long)]
    daemon: PathBuf,
    /// An empty directory to work in
    #[arg(long)]
    work: PathBuf,
    /// Seed of the first image; the next ones follow
    #[arg(long)]
    seed: u64,
    /// Number of images
    #[arg(long, default_value_t = 260)]
    count: u64,
    /// Only with this snapshotter; without, the seed decides
    #[arg(long)]
    snapshotter: Option<String>,
    /// Features that no image has, separated by commas
    #[arg(long, default_value = "")]
    without: String,
    /// Features that images have, and no others, separated by commas
    #[arg(long)]
    only: Option<String>,
    /// Option of an import that newer versions of containerd need
    #[arg(long, allow_hyphen_values = true)]
    import_option: Vec<String>,
    /// Failures after which it ends
    #[arg(long, default_value_t = 12)]
    failures: usize,
    /// Print what the images are made of
    #[arg(long)]
    show: bool,
}

/// Exits with 0 if everything held, 1 if something did not, 2 if it could not be tested.
fn main() -> ExitCode {
    match test(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("property: {error}");
            ExitCode::from(2)
        }
    }
}

fn test(args: Args) -> Outcome<bool> {
    let only = args.only.as_deref().map_or(Ok(Features::ALL), Features::parse)?;
    let features = only.without(Features::parse(&args.without)?);
    let Args {
        containerd, daemon, work, import_option: import_options, seed, count, snapshotter, failures, show, ..
    } = args;
    let services = Services { containerd, daemon, import_options, work };
    Run::new(services, Settings { features, snapshotter, failures, show }).images(seed, count)
}
