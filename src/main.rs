// SPDX-License-Identifier: Apache-2.0
//! The `continuity` binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    continuity::cli::main()
}
