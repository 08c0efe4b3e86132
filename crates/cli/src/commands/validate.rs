//! `chassis validate`: checks files without a server, and tells everything that is wrong with them.

use chassis_spec::Document;

use crate::args::Validate;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::count;

pub(crate) fn run(context: &Context, validate: &Validate) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for file in &validate.files.file {
        match input::parse(context.terminal, file) {
            Ok(documents) => {
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
