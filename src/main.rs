use std::process::ExitCode;

/// A request is hundreds of small allocations on several threads: glibc's own allocator spends a fifth of the time of
/// a list on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keymark::cli::main()
}
