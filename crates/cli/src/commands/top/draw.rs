//! The picture: lines of text, for a terminal of some size. Pure.

use chassis_api::Phase;

use super::model::{Model, Node, Row, Sort};
use crate::commands::health;
use crate::commands::stats::rate_pair;
use crate::output::{Color, clean, count, percent, size, state};

/// Bars are drawn in eighths of a character.
const BAR: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const SPARK: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Lines that are no rows: machine, totals, header, keys.
const FRAME: usize = 4;
const LONGEST_NAME: usize = 40;
const LONGEST_STATE: usize = 24;
/// The `spare` of the sparkline's column, which takes what is left over.
const HISTORY: u8 = 5;
const LONGEST_SPARK: usize = 60;

/// A picture's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paper {
    pub(super) width: usize,
    /// None: as long as it takes.
    pub(super) height: Option<usize>,
    pub(super) colored: bool,
}

impl Paper {
    /// How many rows fit.
    pub(super) fn page(self) -> usize {
        self.height.map_or(usize::MAX, |height| height.saturating_sub(FRAME).max(1))
    }
}

/// A line that knows how wide it is.
struct Line {
    text: String,
    width: usize,
    colored: bool,
}

/// A column: its header, its width, and what is in it.
struct Column {
    header: &'static str,
    width: usize,
    /// The first to go when the terminal is narrow has the highest.
    spare: u8,
    cell: fn(&Row, usize, &mut Line, usize),
}

/// All lines of the picture, none longer than the paper is wide.
pub(super) fn lines(model: &Model, paper: Paper) -> Vec<String> {
    let shown = model.shown();
    let mut lines: Vec<Line> = model.nodes.iter().take(1).map(|node| machine(node, paper)).collect();
    lines.push(totals(model, &shown, paper));
    let cores = model.nodes.iter().map(|node| node.stats.cores).max().unwrap_or(1);
    let columns = columns(&shown, paper);
    let mut header = Line::new(paper);
    for column in &columns {
        header.cell(column.header, column.width, Some(Color::Bold));
    }
    lines.push(header);
    let offset = if paper.height.is_some() { model.offset.min(shown.len().saturating_sub(1)) } else { 0 };
    for row in shown.iter().skip(offset).take(paper.page()) {
        let mut line = Line::new(paper);
        for column in &columns {
            let begin = line.width;
            (column.cell)(row, column.width, &mut line, cores as usize);
            line.pad_to(begin + column.width + 1);
        }
        lines.push(line);
    }
    if let Some(height) = paper.height {
        lines.resize_with(height.saturating_sub(1).max(1), || Line::new(paper));
        lines.push(keys(model, shown.len(), offset, paper));
    }
    lines
        .into_iter()
        .map(|line| if paper.height.is_some() { line.text } else { line.text.trim_end().to_owned() })
        .collect()
}

fn machine(node: &Node, paper: Paper) -> Line {
    let stats = &node.stats;
    let mut line = Line::new(paper);
    line.push(&stats.name, Some(Color::Bold));
    line.push(&format!("  {}  CPU ", count(stats.cores, "core")), None);
    let busy = node.busy_cores.map(|busy| busy / f64::from(stats.cores));
    line.bar(busy.unwrap_or(0.0), 10);
    line.push(&busy.map_or_else(|| " -".to_owned(), |busy| format!(" {}", percent(busy))), None);
    line.push("  memory ", None);
    line.bar(share(stats.memory_used_bytes, stats.memory_bytes), 10);
    line.push(&format!(" {} of {}", size(stats.memory_used_bytes), size(stats.memory_bytes)), None);
    line.push(&format!("  load {:.2}", stats.load_average), None);
    line
}

fn totals(model: &Model, shown: &[&Row], paper: Paper) -> Line {
    let mut line = Line::new(paper);
    let running = shown.iter().filter(|row| row.stats.instance.phase == Phase::Running).count();
    let sum = |value: fn(&Row) -> f64| shown.iter().map(|row| value(row)).sum::<f64>();
    let memory: u64 = shown.iter().filter_map(|row| row.stats.usage).map(|usage| usage.memory_bytes).sum();
    let restarts: u64 = shown.iter().map(|row| u64::from(row.stats.instance.restarts)).sum();
    line.push(&count(shown.len() as u64, "instance"), Some(Color::Bold));
    line.push(
        &format!(
            ", {running} running  CPU {:.2} cores  memory {}  net {}/s  disk {}/s  {}",
            sum(|row| row.rates.map_or(0.0, |rates| rates.cpu_cores)),
            size(memory),
            rate_pair(
                sum(|row| row.rates.map_or(0.0, |rates| rates.network_received_bytes_per_second)),
                sum(|row| row.rates.map_or(0.0, |rates| rates.network_sent_bytes_per_second)),
            ),
            rate_pair(
                sum(|row| row.rates.map_or(0.0, |rates| rates.disk_read_bytes_per_second)),
                sum(|row| row.rates.map_or(0.0, |rates| rates.disk_written_bytes_per_second)),
            ),
            count(restarts, "restart"),
        ),
        None,
    );
    if let Some(error) = &model.error {
        line.push(&format!("  {}", clean(error)), Some(Color::Red));
    }
    line
}

fn keys(model: &Model, shown: usize, offset: usize, paper: Paper) -> Line {
    let mut line = Line::new(paper);
    if model.typing {
        line.push("filter: ", Some(Color::Bold));
        line.push(&format!("{}_   Enter keeps it, Esc clears it", model.filter), None);
        return line;
    }
    let sort = match model.sort {
        Sort::Cpu => "cpu",
        Sort::Memory => "memory",
        Sort::Name => "name",
        Sort::Restarts => "restarts",
    };
    line.push(&format!("by {sort}  c cpu  m memory  n name  r restarts  / filter  q quit"), Some(Color::Dim));
    if !model.filter.is_empty() {
        line.push(&format!("  only `{}`", model.filter), Some(Color::Yellow));
    }
    if shown > paper.page() {
        let last = (offset + paper.page()).min(shown);
        line.push(&format!("  {}-{last} of {shown}, arrows scroll", offset + 1), Some(Color::Dim));
    }
    line
}

/// The columns that fit; what is left over goes to the history.
fn columns(shown: &[&Row], paper: Paper) -> Vec<Column> {
    let width = paper.width;
    let longest = shown.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let longest_state =
        shown.iter().map(|row| state(&row.stats.instance).into_parts().0.chars().count()).max().unwrap_or(0);
    let mut columns = vec![
        Column {
            header: "NAME",
            width: longest.clamp(4, LONGEST_NAME),
            spare: 0,
            cell: |row, width, line, _| line.cell_text(&row.name, width, None),
        },
        Column { header: "STATE", width: longest_state.clamp(7, LONGEST_STATE), spare: 2, cell: state_cell },
        Column { header: "HEALTH", width: 9, spare: 4, cell: health_cell },
        Column { header: "CPU", width: 19, spare: 1, cell: cpu_cell },
        Column { header: "LAST MINUTE", width: 12, spare: HISTORY, cell: history_cell },
        Column { header: "MEMORY", width: 26, spare: 1, cell: memory_cell },
        Column { header: "NET IN/OUT /S", width: 17, spare: 6, cell: network_cell },
        Column { header: "DISK IN/OUT /S", width: 17, spare: 7, cell: disk_cell },
        Column {
            header: "RESTARTS",
            width: 8,
            spare: 3,
            cell: |row, width, line, _| line.cell_text(&row.stats.instance.restarts.to_string(), width, None),
        },
    ];
    // One picture has no history yet.
    columns.retain(|column| paper.height.is_some() || column.spare != HISTORY);
    let total = |columns: &[Column]| columns.iter().map(|column| column.width + 1).sum::<usize>();
    while total(&columns) > width
        && let Some(first) = (0..columns.len())
            .max_by_key(|index| columns[*index].spare)
            .filter(|index| columns[*index].spare > 0)
    {
        columns.remove(first);
    }
    let left = width.saturating_sub(total(&columns));
    if let Some(history) = columns.iter_mut().find(|column| column.spare == HISTORY) {
        history.width = (history.width + left).min(LONGEST_SPARK);
    }
    columns
}

fn state_cell(row: &Row, width: usize, line: &mut Line, _: usize) {
    let (text, color) = state(&row.stats.instance).into_parts();
    line.cell_text(&text, width, color);
}

fn health_cell(row: &Row, width: usize, line: &mut Line, _: usize) {
    let (text, color) = health::state(row.stats.instance.health).into_parts();
    line.cell_text(&text, width, color);
}

fn cpu_cell(row: &Row, width: usize, line: &mut Line, cores: usize) {
    let Some(rates) = row.rates else { return line.cell_text("-", width, None) };
    #[expect(clippy::cast_precision_loss, reason = "a number of cores")]
    let limit = row.stats.cpu_limit_cores.unwrap_or(cores as f64);
    line.bar(rates.cpu_cores / limit, 10);
    line.push(&format!(" {}", percent(rates.cpu_cores)), None);
}

fn memory_cell(row: &Row, width: usize, line: &mut Line, _: usize) {
    let Some(usage) = row.stats.usage else { return line.cell_text("-", width, None) };
    line.bar(share(usage.memory_bytes, usage.memory_limit_bytes), 10);
    line.push(&format!(" {}/{}", size(usage.memory_bytes), size(usage.memory_limit_bytes)), None);
}

fn history_cell(row: &Row, width: usize, line: &mut Line, _: usize) {
    let newest = row.history.iter().skip(row.history.len().saturating_sub(width));
    let text: String = newest.map(|share| SPARK[eighths(*share, 1)]).collect();
    line.pad_to(line.width + width.saturating_sub(text.chars().count()));
    line.push(&text, Some(Color::Cyan));
}

fn network_cell(row: &Row, width: usize, line: &mut Line, _: usize) {
    let text = row.rates.map_or_else(
        || "-".to_owned(),
        |rates| rate_pair(rates.network_received_bytes_per_second, rates.network_sent_bytes_per_second),
    );
    line.cell_text(&text, width, None);
}

fn disk_cell(row: &Row, width: usize, line: &mut Line, _: usize) {
    let text = row.rates.map_or_else(
        || "-".to_owned(),
        |rates| rate_pair(rates.disk_read_bytes_per_second, rates.disk_written_bytes_per_second),
    );
    line.cell_text(&text, width, None);
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How many eighths of so many characters a share fills; something is always seen of what is more than nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "at most 8 for each character"
)]
fn eighths(share: f64, characters: usize) -> usize {
    (share.clamp(0.0, 1.0) * (characters * 8) as f64).ceil() as usize
}

impl Line {
    fn new(paper: Paper) -> Line {
        Line { text: String::new(), width: 0, colored: paper.colored }
    }

    fn push(&mut self, text: &str, color: Option<Color>) {
        self.width += text.chars().count();
        match color.filter(|_| self.colored && !text.is_empty()) {
            Some(color) => self.text.push_str(&color.paint(text)),
            None => self.text.push_str(text),
        }
    }

    fn pad_to(&mut self, width: usize) {
        self.text.extend(std::iter::repeat_n(' ', width.saturating_sub(self.width)));
        self.width = self.width.max(width);
    }

    /// A cell with the blank behind it.
    fn cell(&mut self, text: &str, width: usize, color: Option<Color>) {
        let begin = self.width;
        self.cell_text(text, width, color);
        self.pad_to(begin + width + 1);
    }

    /// Cut off where the column ends.
    fn cell_text(&mut self, text: &str, width: usize, color: Option<Color>) {
        if text.chars().count() <= width {
            return self.push(text, color);
        }
        let short: String = text.chars().take(width.saturating_sub(1)).chain(['…']).collect();
        self.push(&short, color);
    }

    fn bar(&mut self, share: f64, width: usize) {
        let filled = eighths(share, width);
        let bar: String = (0..width).map(|index| BAR[filled.saturating_sub(index * 8).min(8)]).collect();
        let color = match share {
            ..0.7 => Color::Green,
            ..0.9 => Color::Yellow,
            _ => Color::Red,
        };
        self.push("[", Some(Color::Dim));
        self.push(&bar, Some(color));
        self.push("]", Some(Color::Dim));
    }
}
