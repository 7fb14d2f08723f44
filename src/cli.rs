// SPDX-License-Identifier: Apache-2.0
//! Arguments to resolved options to work to output.
//!
//! Exit codes, for every command: 0 intact or done, 1 differences, 2 could not check. What was asked for goes to
//! standard output; everything else, progress and the summary too, to standard error.

/// A line to standard error. Nobody may be listening, or the disk may be full: the exit code says it all the same.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($line)*);
    }};
}

mod apply;
mod build;
mod cancel;
mod container;
mod daemon;
mod image;
mod inspect;
mod io;
mod mounts;
mod progress;
mod remote;
mod snapshot;
mod status;
mod table;
mod verify;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::Escaped;

/// Every command's answer, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; no difference.
    Intact,
    /// Done; at least one difference.
    Differences,
}

impl Outcome {
    /// Differences, if there are any.
    pub fn of_findings(findings: u64) -> Self {
        if findings == 0 { Self::Intact } else { Self::Differences }
    }
}

/// What the commands that read a manifest say about it in their help.
const ABOUT_DIGESTS: &str = "A manifest that is cut off between two resources is a valid, shorter manifest: only its digest \
                             shows that (--digest sha256:...).";

const EXIT_DIFFERENCES: u8 = 1;
const EXIT_COULD_NOT_CHECK: u8 = 2;

/// Proves that the files a container runs from are the files its image promised.
#[derive(Debug, Parser)]
#[command(name = "continuity", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 intact or done, 1 differences, 2 could not check.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    /// With --version: how this machine computes digests, and with how many threads
    #[arg(long, requires = "version")]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command, before or after its name.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Socket of the daemon (ttrpc)
    #[arg(
        long,
        help_heading = "Global options",
        global = true,
        value_name = "PATH",
        default_value = "/run/continuity/continuity.sock"
    )]
    pub address: PathBuf,
    /// Socket of containerd (gRPC)
    #[arg(
        long,
        help_heading = "Global options",
        global = true,
        value_name = "PATH",
        env = "CONTAINERD_ADDRESS",
        default_value = "/run/containerd/containerd.sock"
    )]
    pub containerd_address: PathBuf,
    /// Namespace of containerd
    #[arg(
        long,
        help_heading = "Global options",
        short,
        global = true,
        value_name = "NAME",
        env = "CONTAINERD_NAMESPACE",
        default_value = "default"
    )]
    pub namespace: String,
    /// No progress, no summary, no warnings
    #[arg(long, help_heading = "Global options", short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the manifest of a directory
    Build(build::BuildArgs),
    /// Compare a directory with a manifest
    #[command(after_help = ABOUT_DIGESTS)]
    Verify(verify::VerifyArgs),
    /// Make a directory what a manifest says
    #[command(after_help = ABOUT_DIGESTS)]
    Apply(apply::ApplyArgs),
    /// List what a manifest records
    #[command(after_help = ABOUT_DIGESTS)]
    Ls(inspect::LsArgs),
    /// Count what a manifest records
    #[command(after_help = ABOUT_DIGESTS)]
    Stats(inspect::StatsArgs),
    /// Print a manifest as text or JSON
    #[command(after_help = ABOUT_DIGESTS)]
    Dump(inspect::DumpArgs),
    /// Compare two manifests
    #[command(after_help = ABOUT_DIGESTS)]
    Diff(verify::DiffArgs),
    /// Ask the daemon how it is
    Status(status::StatusArgs),
    /// Ask the daemon about its snapshots
    Snapshot(snapshot::SnapshotArgs),
    /// Hold what is unpacked against its image: any snapshotter, no daemon
    Image(image::ImageArgs),
    /// Tell what containers changed
    Container(container::ContainerArgs),
    /// Serve snapshots to containerd, and everything else over ttrpc
    #[command(
        after_help = "The daemon does not read the environment variables CONTAINERD_ADDRESS and CONTAINERD_NAMESPACE."
    )]
    Daemon(daemon::DaemonArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = without_empty_variables(Cli::command()).try_get_matches().unwrap_or_else(|error| refuse(&error));
    let given = daemon::Given {
        address: is_given(&matches, "address"),
        containerd_address: is_given(&matches, "containerd_address"),
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let global = &cli.global;
    if !matches!(cli.command, Command::Daemon(_)) && !global.quiet {
        show_warnings();
    }
    let ran = match cli.command {
        Command::Build(args) => build::run(global, &args),
        Command::Verify(args) => verify::run(global, &args),
        Command::Apply(args) => apply::run(global, &args),
        Command::Ls(args) => inspect::ls(global, &args),
        Command::Stats(args) => inspect::stats(global, &args),
        Command::Dump(args) => inspect::dump(global, &args),
        Command::Diff(args) => verify::diff(global, &args),
        Command::Status(args) => status::run(global, &args),
        Command::Snapshot(args) => snapshot::run(global, &args),
        Command::Image(args) => image::run(global, &args),
        Command::Container(args) => container::run(global, &args),
        Command::Daemon(args) => daemon::run(global, given, args),
    };
    match ran {
        Ok(Outcome::Intact) => ExitCode::SUCCESS,
        Ok(Outcome::Differences) => ExitCode::from(EXIT_DIFFERENCES),
        Err(error) => {
            // Whoever closed the pipe has seen enough.
            if !is_broken_pipe(&error) {
                say!("continuity: {}", one_line(&error));
            }
            ExitCode::from(EXIT_COULD_NOT_CHECK)
        }
    }
}

/// An environment variable that is empty is as good as none, as a script may leave it.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty =
        |arg: &Arg| arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg });
    command.mut_subcommands(without_empty_variables)
}

/// Help, version, or what is wrong with the command line.
fn refuse(error: &clap::Error) -> ! {
    if error.kind() != clap::error::ErrorKind::DisplayVersion || std::env::args_os().all(|word| word != "--verbose") {
        error.exit();
    }
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "continuity {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(out, "target: {}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let _ = writeln!(out, "SHA-256: {}", crate::digest::implementation());
    let _ = writeln!(out, "hashing threads: {}", crate::tree::thread_count(0));
    std::process::exit(0)
}

/// What the library warns of goes to standard error, as the commands' own warnings do.
fn show_warnings() {
    let mut builder = env_logger::Builder::new();
    builder.filter_module(env!("CARGO_CRATE_NAME"), log::LevelFilter::Warn);
    builder.format(|out, record| writeln!(out, "continuity: warning: {}", record.args()));
    // An error means that a logger is there already.
    let _ = builder.try_init();
}

/// Whether a global option stands on the command line, before the command or after it.
fn is_given(matches: &ArgMatches, option: &str) -> bool {
    let command = matches.subcommand().map(|(_, command)| command);
    let stands = |matches: &ArgMatches| matches.value_source(option) == Some(ValueSource::CommandLine);
    stands(matches) || command.is_some_and(stands)
}

/// The chain of an error; the library's own errors already hold their sources.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = Vec::new();
    for cause in error.chain() {
        text.push(cause.to_string());
        if cause.is::<crate::error::Error>() {
            break;
        }
    }
    // Paths in messages are escaped where they enter; this is for what libraries say.
    let text = text.join(": ");
    if text.chars().any(char::is_control) { Escaped(text.as_bytes()).to_string() } else { text }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<crate::error::Error>()
                .is_some_and(|e| e.errno() == Some(rustix::io::Errno::PIPE.raw_os_error()))
    })
}
