//! Tables without lines, as `docker ps` and `kubectl get` print them: two spaces between columns, the last one as long as
//! it is. Colors do not count as width.

use crate::output::{Color, Terminal};

#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    color: Option<Color>,
}

#[derive(Debug)]
pub(crate) struct Table {
    colored: bool,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<Cell>),
    /// A line of its own, whatever the columns are.
    Note(Cell),
}

impl Table {
    pub(crate) fn new(terminal: Terminal, header: &[&str]) -> Table {
        let header = header.iter().map(|name| Cell::colored(*name, Color::Bold)).collect();
        Table { colored: terminal.colored(), rows: vec![Row::Cells(header)] }
    }

    /// A table of names and values.
    pub(crate) fn without_header(terminal: Terminal) -> Table {
        Table { colored: terminal.colored(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(Row::Cells(cells.into_iter().collect()));
    }

    pub(crate) fn note(&mut self, cell: Cell) {
        self.rows.push(Row::Note(cell));
    }

    pub(crate) fn render(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells = match row {
                Row::Cells(cells) => cells.as_slice(),
                Row::Note(cell) => std::slice::from_ref(cell),
            };
            for (index, cell) in cells.iter().enumerate() {
                text.push_str(&cell.render(self.colored));
                if index + 1 < cells.len() {
                    let padding = widths[index] - cell.width() + 2;
                    text.extend(std::iter::repeat_n(' ', padding));
                }
            }
            text.push('\n');
        }
        text
    }
}

impl Cell {
    pub(crate) fn colored(text: impl Into<String>, color: Color) -> Cell {
        Cell { text: text.into(), color: Some(color) }
    }

    /// For those who lay it out themselves.
    pub(crate) fn into_parts(self) -> (String, Option<Color>) {
        (self.text, self.color)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn render(&self, colored: bool) -> String {
        match self.color {
            Some(color) if colored => color.paint(&self.text),
            _ => self.text.clone(),
        }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Cell {
        Cell { text: value.to_string(), color: None }
    }
}
