//! The program; everything is in the library.

fn main() -> std::process::ExitCode {
    edge_agent::cli::main()
}
