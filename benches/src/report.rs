//! What a run found: a line per thing measured, as a table and as JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::stats::Series;

/// One line of the report.
#[derive(Debug)]
pub(crate) struct Line {
    row: &'static str,
    name: String,
    unit: &'static str,
    series: Series,
    verdict: Verdict,
}

/// What a line is judged by.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Nothing: it is there to be read.
    None,
    /// The median itself.
    AtMost(f64),
    AtLeast(f64),
    /// The median of ours over this line's, which is a rival's.
    Ratio {
        ours: f64,
        at_most: Option<f64>,
    },
}

/// The lines of a run, in the order in which they are printed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// A figure for information.
    pub(crate) fn plain(&mut self, row: &'static str, name: &str, unit: &'static str, series: Series) {
        self.push(row, name, unit, series, Verdict::None);
    }

    /// A figure of ours that must not be above a number.
    pub(crate) fn bounded(
        &mut self,
        row: &'static str,
        name: &str,
        unit: &'static str,
        series: Series,
        at_most: f64,
    ) {
        self.push(row, name, unit, series, Verdict::AtMost(at_most));
    }

    /// A figure of ours that must not be below a number.
    pub(crate) fn at_least(
        &mut self,
        row: &'static str,
        name: &str,
        unit: &'static str,
        series: Series,
        at_least: f64,
    ) {
        self.push(row, name, unit, series, Verdict::AtLeast(at_least));
    }

    /// A rival's figure; `at_most` bounds ours as a multiple of it.
    pub(crate) fn rival(
        &mut self,
        row: &'static str,
        name: &str,
        unit: &'static str,
        series: Series,
        ours: f64,
        at_most: Option<f64>,
    ) {
        self.push(row, name, unit, series, Verdict::Ratio { ours, at_most });
    }

    fn push(&mut self, row: &'static str, name: &str, unit: &'static str, series: Series, verdict: Verdict) {
        self.lines.push(Line { row, name: name.to_owned(), unit, series, verdict });
    }

    pub(crate) fn table(&self) -> String {
        let header =
            columns(["ROW", "FIGURE", "MEDIAN", "MIN", "MAX", "N", "UNIT", "RATIO", "TARGET", "MET"]);
        let lines = std::iter::once(header).chain(self.lines.iter().map(Line::columns));
        lines.chain(self.notes.iter().cloned()).map(|line| line + "\n").collect()
    }

    pub(crate) fn json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "row": line.row,
                "figure": line.name,
                "unit": line.unit,
                "median": line.series.median(),
                "min": line.series.min(),
                "max": line.series.max(),
                "n": line.series.count(),
                "ratio": line.ratio(),
                "target": line.target(),
                "met": line.met(),
                "samples": line.series.values(),
            })
        });
        json!({ "figures": lines.collect::<Vec<_>>(), "notes": self.notes })
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        io::stdout().write_all(self.table().as_bytes())
    }
}

impl Line {
    fn columns(&self) -> String {
        let Line { row, name, unit, series, .. } = self;
        let ratio = self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let sign = if matches!(self.verdict, Verdict::AtLeast(_)) { "≥" } else { "≤" };
        let target = self.target().map_or_else(String::new, |target| format!("{sign} {target}"));
        let met = self.met().map_or("", |met| if met { "yes" } else { "NO" });
        let (median, min, max) = (number(series.median()), number(series.min()), number(series.max()));
        let count = series.count().to_string();
        columns([row, name, &median, &min, &max, &count, unit, &ratio, &target, met])
    }

    /// Ours over the rival's.
    fn ratio(&self) -> Option<f64> {
        match self.verdict {
            Verdict::Ratio { ours, .. } => Some(ours / self.series.median()),
            Verdict::None | Verdict::AtMost(_) | Verdict::AtLeast(_) => None,
        }
    }

    fn target(&self) -> Option<f64> {
        match self.verdict {
            Verdict::None => None,
            Verdict::AtMost(target) | Verdict::AtLeast(target) => Some(target),
            Verdict::Ratio { at_most, .. } => at_most,
        }
    }

    fn met(&self) -> Option<bool> {
        let measured = self.ratio().unwrap_or_else(|| self.series.median());
        let is_met = |target| match self.verdict {
            Verdict::AtLeast(_) => measured >= target,
            _ => measured <= target,
        };
        self.target().map(is_met)
    }
}

fn columns(cells: [&str; 10]) -> String {
    let [row, name, median, min, max, count, unit, ratio, target, met] = cells;
    let line = format!(
        "{row:<13}{name:<58}{median:>9}{min:>9}{max:>9}{count:>5} {unit:<5}{ratio:>6}  {target:<8}{met}"
    );
    line.trim_end().to_owned()
}

/// Three significant digits, or all of those before the point.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

/// Tells whoever waits what is being done.
pub(crate) fn progress(text: &str) {
    // Progress that nobody reads is no reason to stop measuring.
    let _ = writeln!(io::stderr(), "{text}");
}
