// SPDX-License-Identifier: Apache-2.0
//! `continuity daemon`: flags over configuration over defaults.

use std::path::PathBuf;

use clap::Args;
use log::LevelFilter;

use super::{Global, Outcome};
use crate::config::Config;
use crate::daemon;

/// Serve snapshots to containerd, and everything else over ttrpc
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Configuration; without it /etc/continuity/config.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the daemon's state
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Socket that containerd calls (gRPC)
    #[arg(long, value_name = "PATH")]
    snapshots_address: Option<PathBuf>,
    /// off, error, warn, info, debug or trace; before CONTINUITY_LOG, before the configuration
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LevelFilter>,
}

/// Which of the global options stand on the command line, and so go before the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// `--address`
    pub address: bool,
    /// `--containerd-address`
    pub containerd_address: bool,
}

/// Runs until a signal.
pub fn run(global: &Global, given: Given, args: DaemonArgs) -> anyhow::Result<Outcome> {
    let mut config = Config::load(args.config.as_deref())?;
    let options = [
        (&mut config.root, args.root),
        (&mut config.snapshots_address, args.snapshots_address),
        (&mut config.address, given.address.then(|| global.address.clone())),
        (&mut config.containerd_address, given.containerd_address.then(|| global.containerd_address.clone())),
    ];
    for (key, flag) in options {
        if let Some(flag) = flag {
            *key = flag;
        }
    }
    daemon::logging::init(args.log_level, config.log_level);
    daemon::run(&config)?;
    Ok(Outcome::Intact)
}
