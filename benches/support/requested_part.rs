/// What the command line asks for: cargo adds options of its own.
pub fn asked() -> Option<String> {
    std::env::args().skip(1).find(|argument| !argument.starts_with('-'))
}
