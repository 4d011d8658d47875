//! Builds the crate anew when the console's files changed. Only a release build embeds them: a debug build reads them
//! as they are when it runs.

#[expect(clippy::disallowed_methods, reason = "cargo passes the profile to build scripts in the environment")]
fn main() {
    let embeds = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let changed = if embeds { "console/dist" } else { "build.rs" };
    println!("cargo::rerun-if-changed={changed}");
}
