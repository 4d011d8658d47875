/// The part that the command line names. Options are skipped, since cargo adds its own.
pub fn requested_part() -> Option<String> {
    std::env::args().skip(1).find(|argument| !argument.starts_with('-'))
}
