use std::time::Duration;

/// In milliseconds.
pub fn percentile(times: &mut [Duration], part: usize) -> f64 {
    times.sort();
    times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3
}
