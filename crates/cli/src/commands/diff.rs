//! What applying files would change, in lines: `+` is made, `-` is deleted, `~` is changed.

use chassis_api::{AgentChange, AgentOutcome, Applied};

use crate::failure::Failure;
use crate::output::{self, Color, Terminal};

/// Prints what would change, and returns whether anything would.
pub(super) fn print(terminal: Terminal, applied: &[Applied]) -> Result<bool, Failure> {
    let mut lines = Vec::new();
    for fleet in applied {
        if fleet.fleet_created {
            lines.push(Line::new('+', format!("fleet {}", fleet.fleet)));
        }
        for outcome in &fleet.agents {
            describe(fleet, outcome, &mut lines);
        }
    }
    let differs = lines.iter().any(|line| line.sign != '?');
    let text: String = lines.iter().map(|line| line.render(terminal.colored())).collect();
    output::data(&text)?;
    if !differs {
        terminal.say("nothing would change");
    }
    Ok(differs)
}

struct Line {
    sign: char,
    text: String,
}

fn describe(fleet: &Applied, outcome: &AgentOutcome, lines: &mut Vec<Line>) {
    let AgentOutcome { agent, replicas_before, replicas_after, .. } = outcome;
    let name = format!("agent {}/{agent}", fleet.fleet);
    match outcome.change {
        AgentChange::Unchanged => {}
        AgentChange::Created => {
            let image =
                outcome.new.as_ref().map_or_else(String::new, |spec| format!(", image {}", spec.image));
            lines.push(Line::new('+', format!("{name}: replicas {replicas_after}{image}")));
        }
        AgentChange::Deleted => lines.push(Line::new('-', format!("{name} (its data is kept)"))),
        AgentChange::Undeclared => {
            lines.push(Line::new('?', format!("{name} is not declared, and is left alone without --prune")));
        }
        AgentChange::Updated | AgentChange::Scaled => {
            lines.push(Line::new('~', name));
            if let (Some(old), Some(new)) = (&outcome.old, &outcome.new) {
                let changes = chassis_spec::changes(old, new);
                // The count is the agent's, whatever the YAML said before.
                lines.extend(changes.into_iter().filter(|change| change.path != "replicas").map(Line::field));
            }
            if replicas_before != replicas_after {
                lines.push(Line::new('~', format!("    replicas: {replicas_before} → {replicas_after}")));
            }
        }
    }
}

impl Line {
    fn new(sign: char, text: impl Into<String>) -> Line {
        Line { sign, text: text.into() }
    }

    fn field(change: chassis_spec::Change) -> Line {
        match (change.old, change.new) {
            (Some(old), Some(new)) => Line::new('~', format!("    {}: {old} → {new}", change.path)),
            (Some(old), None) => Line::new('-', format!("    {}: {old}", change.path)),
            (None, new) => Line::new('+', format!("    {}: {}", change.path, new.unwrap_or_default())),
        }
    }

    fn render(&self, colored: bool) -> String {
        let visible = self.text.replace(|c: char| c.is_control(), "�");
        let line = format!("{} {visible}", self.sign);
        let color = match self.sign {
            '+' => Color::Green,
            '-' => Color::Red,
            '~' => Color::Yellow,
            _ => Color::Dim,
        };
        if colored { color.paint(&line) + "\n" } else { line + "\n" }
    }
}
