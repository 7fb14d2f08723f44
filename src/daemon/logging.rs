// SPDX-License-Identifier: Apache-2.0
//! What goes to standard error, where systemd and a terminal both find it.

use log::LevelFilter;

/// The variable that sets the level, in env_logger's syntax: `debug`, or `warn,continuity::verifier=debug`.
pub const VARIABLE: &str = "CONTINUITY_LOG";

/// Starts logging: at the level of the command line, else as [`VARIABLE`] says, else at the configured level. A
/// second call changes nothing.
pub fn init(command_line: Option<LevelFilter>, configured: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    match (command_line, std::env::var(VARIABLE)) {
        (Some(level), _) => builder.filter_level(level),
        (None, Ok(filters)) if !filters.is_empty() => builder.parse_filters(&filters),
        _ => builder.filter_level(configured),
    };
    // An error means that a logger is there already.
    let _ = builder.format_target(false).format_timestamp_millis().try_init();
}
