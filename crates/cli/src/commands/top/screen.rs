//! The terminal as a canvas, and as it was before when the value is dropped.

use std::io;

use crate::failure::Failure;
use crate::output::{self, RawMode};

/// Another screen, without a cursor, that cuts long lines off.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Terminals that know these show all that is between them at once; others ignore them.
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";

#[derive(Debug)]
pub(super) struct Screen {
    _raw: RawMode,
    shown: String,
}

impl Screen {
    pub(super) fn enter() -> Result<Screen, Failure> {
        let failed = |source: io::Error| Failure::Io { what: "cannot use the terminal".to_owned(), source };
        let screen = Screen { _raw: RawMode::enter().map_err(failed)?, shown: String::new() };
        output::data(ENTER)?;
        Ok(screen)
    }

    /// Draws what is new.
    pub(super) fn show(&mut self, lines: &[String]) -> Result<(), Failure> {
        let mut text = BEGIN.to_owned();
        for (index, line) in lines.iter().enumerate() {
            text.push_str(if index == 0 { "" } else { "\r\n" });
            text.push_str(line);
            text.push_str("\x1b[K");
        }
        text.push_str(END);
        if text != self.shown {
            output::data(&text)?;
            self.shown = text;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing. The keyboard is put back by what is dropped next.
        let _ = output::data(LEAVE);
    }
}
