use std::process::ExitCode;

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// A request makes hundreds of small allocations on several threads. With glibc's allocator they take a fifth of the time
/// of a list. All memory is zeroed when it is freed, because the buffers of requests, of JSON and of GraphQL values contain
/// passwords and keys, and belong to libraries that do not zero them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    keymark::cli::main()
}
