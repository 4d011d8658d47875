//! Writes `docs/benchmarks.md` and `docs/images/benchmarks.svg` from the lines that the benchmarks reported, which are in the
//! file that `KEYMARK_BENCH_LINES` names. The arguments are the parts without results. Without the variable it does
//! nothing. `make bench` runs it after the others.
#![expect(unreachable_pub, reason = "files in `support` are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a report has a date, and reads its own variable")]

#[path = "support/line.rs"]
mod line;

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use line::{Better, Goal, Line, Measured, Ratio};
use plotters::prelude::{
    Circle, Color, FontStyle, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The card is light in itself, so that it is readable on light and on dark pages.
const CARD: RGBColor = RGBColor(0xfb, 0xfb, 0xfa);
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const GRID: RGBColor = RGBColor(0xd8, 0xdc, 0xe0);
const BETTER: RGBColor = RGBColor(0x2f, 0x6f, 0xb5);
const WORSE: RGBColor = RGBColor(0xc4, 0x6a, 0x1c);
const ROW_PIXELS: i32 = 20;
const TOP_PIXELS: i32 = 40;
const MARGIN_PIXELS: i32 = 16;
const LABEL_PIXELS: i32 = 400;
const WIDTH_PIXELS: i32 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(path) = std::env::var_os("KEYMARK_BENCH_LINES") else { return Ok(()) };
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>()?;
    let failed: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    std::fs::write(Path::new(ROOT).join("docs/benchmarks.md"), page(&lines, &failed)?)?;
    std::fs::write(Path::new(ROOT).join("docs/images/benchmarks.svg"), picture(&lines)?)?;
    println!("docs/benchmarks.md and docs/images/benchmarks.svg have the results");
    Ok(())
}

fn page(lines: &[Line], failed: &[String]) -> Result<String, Box<dyn Error>> {
    let mut page = String::from(
        "# Benchmarks\n\n\
         `make bench` measures Keymark side by side with alternatives and writes this page; `make bench PART=search` runs one \
         benchmark\nof `benches/` and only prints. All programs run on one machine and are measured in turns, except that a \
         change to\nsubscribers is measured first with Keymark, then with Apollo Server. A ratio says how many times better \
         Keymark is: above 1\nit returns more answers per second, or takes less time or memory. It is the median of the \
         rounds' ratios, with the least\nand the largest of them; the values are those of the round with the median.\n\n\
         Each server on Node.js is one process, which executes JavaScript on one thread, while Keymark, axum and nginx use \
         all\ncores: the processor time of a request compares them whatever the number of cores. The generator of the load \
         runs on the\nsame cores, which bounds the ratios of fast servers. Apollo Server, GraphQL Yoga and better-auth check \
         no sign-in and no\npermission, and write no audit log.\n\n\
         ![Bars of the ratios with their spread](images/benchmarks.svg)\n\n",
    );
    if !failed.is_empty() {
        writeln!(page, "**Results of these parts are missing:** {}.\n", failed.join(", "))?;
    }
    page += "## Machine and versions\n\n| | |\n| --- | --- |\n";
    for (name, value) in machine().into_iter().chain(versions()?) {
        writeln!(page, "| {name} | {value} |")?;
    }
    goals(&mut page, lines)?;
    let other: [(&str, &str, IsOf); 2] = [
        ("Against alternatives", "alternative", |measured| matches!(measured, Measured::Peer(..))),
        ("Against a part of the work, or without the load", "that", |measured| {
            matches!(measured, Measured::Baseline(..))
        }),
    ];
    for (title, other, is_of) in other {
        let header =
            format!("| load | measured | Keymark | {other} | ratio | spread | goal |\n|{}", " --- |".repeat(7));
        table(&mut page, title, &header, lines.iter().filter(|line| is_of(&line.measured)), |line| {
            let (Some(ratio), Measured::Peer(name, _) | Measured::Baseline(name, _)) = (line.ratio(), &line.measured)
            else {
                return String::new();
            };
            let Ratio { median, least, most, ours, theirs } = ratio;
            let (ours, theirs) = (line.shown(ours), line.shown(theirs));
            format!("{ours} | {name}: {theirs} | **{median:.2}** | {least:.2} to {most:.2}")
        })?;
    }
    let header = format!("| load | measured | median | p99, or spread | goal |\n|{}", " --- |".repeat(5));
    let alone = lines.iter().filter(|line| line.ratio().is_none());
    table(&mut page, "Other measurements", &header, alone, |line| {
        let at = |percent| line.shown(line.percentile(percent));
        let spread = match &line.measured {
            Measured::Times(_) => format!("p99 {}", at(99)),
            Measured::Rounds(values) if values.len() > 1 => format!("{} to {}", at(0), at(100)),
            _ => String::new(),
        };
        format!("{} | {spread}", at(50))
    })?;
    Ok(page)
}

/// A table whose first column names a section in its first row only.
fn table<'a>(
    page: &mut String,
    title: &str,
    header: &str,
    lines: impl Iterator<Item = &'a Line>,
    cells: impl Fn(&Line) -> String,
) -> Result<(), Box<dyn Error>> {
    writeln!(page, "\n## {title}\n\n{header}")?;
    let mut section = "";
    for line in lines {
        let named = if line.section == section { "" } else { &line.section };
        section = &line.section;
        writeln!(page, "| {named} | {} | {} | {} |", line.name, cells(line), goal(line))?;
    }
    Ok(())
}

/// `None` if the line has no goal.
fn is_goal_met(line: &Line) -> Option<bool> {
    let is_within = |value: f64, goal: f64| if line.better == Better::More { value >= goal } else { value <= goal };
    line.goal.map(|goal| match goal {
        Goal::Ratio(goal) => line.ratio().is_some_and(|ratio| ratio.median >= goal),
        Goal::Median(goal) => is_within(line.percentile(50), goal),
        Goal::P99(goal) => is_within(line.percentile(99), goal),
    })
}

fn goal(line: &Line) -> String {
    is_goal_met(line)
        .map_or_else(String::new, |is_met| format!("{}: {}", line.shown_goal(), if is_met { "met" } else { "missed" }))
}

/// How many goals are met, and a list of the others.
fn goals(page: &mut String, lines: &[Line]) -> std::fmt::Result {
    let with_goal = lines.iter().filter(|line| line.goal.is_some());
    let missed: Vec<_> = with_goal.clone().filter(|line| is_goal_met(line) == Some(false)).collect();
    let all = with_goal.count();
    writeln!(page, "\n## Goals\n\n{} of {all} goals are met.", all - missed.len())?;
    if !missed.is_empty() {
        writeln!(page, "These are missed:\n")?;
    }
    for line in missed {
        let result = match (line.ratio(), &line.measured) {
            (Some(ratio), Measured::Peer(name, _) | Measured::Baseline(name, _)) => {
                format!("{:.2} times {name}", ratio.median)
            }
            _ => {
                let percent = if matches!(line.goal, Some(Goal::P99(_))) { 99 } else { 50 };
                line.shown(line.percentile(percent))
            }
        };
        writeln!(page, "- {}, {}: {result}; the goal is {}.", line.section, line.name, line.shown_goal())?;
    }
    Ok(())
}

fn machine() -> Vec<(&'static str, String)> {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib = field(&file("/proc/meminfo"), "MemTotal");
    let gib = kib.split(' ').next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / f64::from(1 << 20);
    vec![
        ("processor", format!("{cores} cores, {}", field(&file("/proc/cpuinfo"), "model name"))),
        ("memory", format!("{gib:.0} GiB")),
        ("kernel", format!("{} {}", std::env::consts::OS, file("/proc/sys/kernel/osrelease").trim())),
    ]
}

fn versions() -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    // The first line that a program prints; nginx prints its version as an error.
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(ROOT).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next()?.to_owned())
    };
    let version = |program: &str, arguments: &[&str]| first_line(program, arguments).unwrap_or("missing".to_owned());
    let is_changed = first_line("git", &["status", "--porcelain", "--untracked-files=no"]).is_some();
    let changed = if is_changed { ", with changes" } else { "" };
    let commit = format!(
        "{} (commit {}{changed})",
        env!("CARGO_PKG_VERSION"),
        version("git", &["rev-parse", "--short", "HEAD"])
    );
    let package = std::fs::read_to_string(Path::new(ROOT).join("benches/peers/package.json"))?;
    let package: serde_json::Value = serde_json::from_str(&package)?;
    let packages = package["devDependencies"].as_object().ok_or("benches/peers/package.json has no packages")?;
    let peers = ["@apollo/server", "graphql-yoga", "graphql", "graphql-ws", "mongodb", "better-auth"];
    let peers: Vec<_> =
        peers.iter().filter_map(|name| Some(format!("{name} {}", packages.get(*name)?.as_str()?))).collect();
    Ok(vec![
        ("date", jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()),
        ("Keymark", commit),
        ("Rust", version("rustc", &["--version"])),
        ("MongoDB", version(".tools/mongod", &["--version"])),
        ("nginx", version("nginx", &["-v"])),
        ("Node.js", version("node", &["--version"])),
        ("packages", peers.join(", ")),
    ])
}

/// Whether a table has what was measured in this way.
type IsOf = fn(&Measured) -> bool;

/// A row of the picture.
enum Row<'a> {
    Section(&'a str),
    Bar(String, Ratio, Option<f64>),
}

/// Draws the ratios against alternatives on a logarithmic scale.
fn picture(lines: &[Line]) -> Result<String, Box<dyn Error>> {
    let (mut rows, mut section) = (Vec::new(), "");
    for line in lines {
        // The table has the processor times: they would double the picture.
        let (Measured::Peer(peer, _), Some(ratio)) = (&line.measured, line.ratio()) else { continue };
        if line.name.starts_with("processor time") {
            continue;
        }
        if line.section != section {
            rows.push(Row::Section(&line.section));
            section = &line.section;
        }
        let goal = line.goal.and_then(|goal| if let Goal::Ratio(ratio) = goal { Some(ratio) } else { None });
        rows.push(Row::Bar(format!("{}, against {peer}", line.name), ratio, goal));
    }
    let ratios = rows.iter().filter_map(|row| if let Row::Bar(_, ratio, _) = row { Some(ratio) } else { None });
    let (least, most) = ratios
        .fold((0.5_f64, 2.0_f64), |(least, most), ratio| (least.min(ratio.least / 1.1), most.max(ratio.most * 1.6)));

    let position = |ratio: f64| {
        let share = (ratio / least).ln() / (most / least).ln();
        LABEL_PIXELS + (share * f64::from(WIDTH_PIXELS - LABEL_PIXELS - MARGIN_PIXELS)) as i32
    };
    let bottom = TOP_PIXELS + i32::try_from(rows.len())? * ROW_PIXELS;
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH_PIXELS.cast_unsigned(), (bottom + TOP_PIXELS).cast_unsigned()))
        .into_drawing_area();
    area.fill(&CARD)?;
    let text = |style, horizontal| {
        let font = ("sans-serif", 13).into_font().style(style);
        font.color(&INK).pos(Pos::new(horizontal, VPos::Center))
    };
    let (plain, bold) = (text(FontStyle::Normal, HPos::Right), text(FontStyle::Bold, HPos::Left));
    let title = "How many times better Keymark is: median, and least to most of the rounds. A dot is the goal.";
    area.draw(&Text::new(title, (MARGIN_PIXELS, TOP_PIXELS / 2), bold.clone()))?;
    for tick in [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0] {
        if (least..most).contains(&tick) {
            let (x, grid) = (position(tick), if tick == 1.0 { INK } else { GRID });
            area.draw(&PathElement::new([(x, TOP_PIXELS), (x, bottom)], grid))?;
            let label = text(FontStyle::Normal, HPos::Center);
            area.draw(&Text::new(format!("{tick}"), (x, bottom + ROW_PIXELS / 2), label))?;
        }
    }
    for (row, top) in rows.into_iter().zip((TOP_PIXELS..).step_by(usize::try_from(ROW_PIXELS)?)) {
        let middle = top + ROW_PIXELS / 2;
        let (label, ratio, goal) = match row {
            Row::Section(section) => {
                area.draw(&Text::new(section, (MARGIN_PIXELS, middle), bold.clone()))?;
                continue;
            }
            Row::Bar(label, ratio, goal) => (label, ratio, goal),
        };
        area.draw(&Text::new(label, (LABEL_PIXELS - MARGIN_PIXELS, middle), plain.clone()))?;
        let ends = [position(1.0), position(ratio.median)];
        let colour = if ratio.median >= 1.0 { BETTER } else { WORSE };
        let bar =
            [(*ends.iter().min().unwrap_or(&0), top + 4), (*ends.iter().max().unwrap_or(&0), top + ROW_PIXELS - 4)];
        area.draw(&Rectangle::new(bar, colour.filled()))?;
        let whisker = [(position(ratio.least), middle), (position(ratio.most), middle)];
        area.draw(&PathElement::new(whisker, INK))?;
        for (x, y) in whisker {
            area.draw(&PathElement::new([(x, y - 4), (x, y + 4)], INK))?;
        }
        if let Some(goal) = goal {
            area.draw(&Circle::new((position(goal), middle), 4, INK.filled()))?;
        }
        let value = (position(ratio.most.max(1.0)) + 8, middle);
        area.draw(&Text::new(format!("{:.2}", ratio.median), value, text(FontStyle::Normal, HPos::Left)))?;
    }
    area.present()?;
    drop(area);
    Ok(svg)
}
