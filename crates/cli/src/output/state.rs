//! An instance's state in a few words, and its reason in a line.

use chassis_api::{Exit, Instance, Phase};
use jiff::Timestamp;

use crate::output::{Cell, Color, clean, until};

/// `Running`, `Backoff: exit 1`, `Blocked: ImageUnavailable`.
pub(crate) fn state(instance: &Instance) -> Cell {
    let phase = format!("{:?}", instance.phase);
    let text = match (instance.phase, instance.reason, instance.last_exit) {
        (Phase::Blocked, Some(reason), _) => format!("{phase}: {reason:?}"),
        (Phase::Backoff | Phase::Failed, _, Some(exit)) => format!("{phase}: {}", exit_text(exit)),
        _ => phase,
    };
    Cell::colored(text, color(instance.phase))
}

/// The node of an instance; a dash while it waits for one.
pub(crate) fn place(node: &str) -> &str {
    if node.is_empty() { "-" } else { node }
}

/// Why it is in this state, in so many characters, and when that is tried to change, if there is something to say.
pub(crate) fn reason(instance: &Instance, now: Timestamp, longest: usize) -> Option<String> {
    let again = instance.retry_at.map(|retry_at| format!("next try in {}", until(retry_at, now)));
    match (instance.message.as_deref().map(|message| shortened(&clean(message), longest)), again) {
        (Some(message), Some(again)) => Some(format!("{message}; {again}")),
        (message, again) => message.or(again),
    }
}

/// `exit 1`, `out of memory`, `signal 9`.
pub(crate) fn exit_text(exit: Exit) -> String {
    if exit.unleased {
        return "node silent".to_owned();
    }
    if exit.unhealthy {
        return "unhealthy".to_owned();
    }
    match (exit.out_of_memory, exit.signal()) {
        (true, _) => "out of memory".to_owned(),
        (false, Some(signal)) => format!("signal {signal}"),
        (false, None) => format!("exit {}", exit.code),
    }
}

fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn color(phase: Phase) -> Color {
    match phase {
        Phase::Running => Color::Green,
        Phase::Failed | Phase::Blocked => Color::Red,
        Phase::Pending
        | Phase::Starting
        | Phase::Stopping
        | Phase::Backoff
        | Phase::Removing
        | Phase::Unknown => Color::Yellow,
        Phase::Stopped | Phase::Completed => Color::Dim,
    }
}
