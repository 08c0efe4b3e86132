//! `chassis validate`: checks files without a server, and tells everything that is wrong with them.

use std::collections::HashMap;

use chassis_spec::{AgentName, AgentSpec, Document, FleetName};

use crate::args::Validate;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::count;

pub(crate) fn run(context: &Context, validate: &Validate) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut seen = Seen::default();
    for file in &validate.files.file {
        match input::parse(context.terminal, file) {
            Ok(documents) => {
                let repeated = seen.add(&input::name(file), &documents);
                if !repeated.is_empty() {
                    exit = Exit::Failed;
                    for error in repeated {
                        context.terminal.error(&error);
                    }
                    continue;
                }
                context.terminal.done(&format!("{}: {}", input::name(file), summary(&documents)))?;
            }
            Err(failure) => {
                exit = Exit::Failed;
                context.terminal.error(&failure.text().unwrap_or_default());
            }
        }
    }
    Ok(exit)
}

/// Which agents were declared in which file. An agent that names no fleet may go into any, and so only meets its like.
#[derive(Default)]
struct Seen(HashMap<(Option<FleetName>, AgentName), String>);

impl Seen {
    /// Says what is declared once more.
    fn add(&mut self, file: &str, documents: &[Document]) -> Vec<String> {
        let mut repeated = Vec::new();
        for document in documents {
            let agents: Vec<(Option<FleetName>, &AgentSpec)> = match document {
                Document::Agent(agent) => vec![(agent.fleet.clone(), agent)],
                Document::Fleet(fleet) => {
                    fleet.agents.iter().map(|agent| (Some(fleet.name.clone()), agent)).collect()
                }
            };
            for (fleet, agent) in agents {
                let of = fleet.as_ref().map(|fleet| format!(" of fleet {fleet}")).unwrap_or_default();
                if let Some(first) = self.0.insert((fleet, agent.name.clone()), file.to_owned()) {
                    let there = if first == file { "" } else { &format!(", first in {first}") };
                    repeated.push(format!(
                        "{file}: agent {}{of} is declared twice{there}; leave one out or rename it",
                        agent.name
                    ));
                }
            }
        }
        repeated
    }
}

fn summary(documents: &[Document]) -> String {
    let parts: Vec<String> = documents
        .iter()
        .map(|document| match document {
            Document::Agent(agent) => format!("agent {}", agent.name),
            Document::Fleet(fleet) => {
                format!("fleet {} with {}", fleet.name, count(fleet.agents.len() as u64, "agent"))
            }
        })
        .collect();
    format!("ok, {}", parts.join(", "))
}
