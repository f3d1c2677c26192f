//! The `collector` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    collector::cli::main()
}
