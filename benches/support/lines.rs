//! Reports what a benchmark measures: as text on standard output, and as JSON in the file that the variable
//! `KEYMARK_BENCH_LINES` names, one object a line. `benches/report.rs` reads that file.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Mutex;

#[path = "line.rs"]
mod line;

use line::Line;
pub use line::{Better, Goal, Measured};

/// Reports a line. Lines of one section follow each other, under its title, which describes the load.
pub fn report(section: &str, name: &str, unit: &str, better: Better, goal: Option<Goal>, measured: Measured) {
    static REPORTED: Mutex<String> = Mutex::new(String::new());
    let mut reported = REPORTED.lock().expect("nothing panicked");
    if *reported != section {
        println!("{section}");
        section.clone_into(&mut reported);
    }
    let [part, section, name, unit] = [env!("CARGO_CRATE_NAME"), section, name, unit].map(str::to_owned);
    let line = Line { part, section, name, unit, better, goal, measured };
    println!("{line}");
    if let Some(path) = std::env::var_os("KEYMARK_BENCH_LINES") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file of lines opens");
        let json = serde_json::to_string(&line).expect("a line is JSON") + "\n";
        file.write_all(json.as_bytes()).expect("a line is written");
    }
}
