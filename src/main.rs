use std::process::ExitCode;

fn main() -> ExitCode {
    keymark::cli::main()
}
