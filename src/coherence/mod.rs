pub mod protocol;
#[cfg(test)]
mod simulation;
