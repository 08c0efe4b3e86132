//! `chassis agent-profile`: agents that environments can choose by name.

use std::fmt::Write;
use std::path::PathBuf;

use chassis_api::AgentProfileShown;
use chassis_spec::{AgentName, AgentProfile};
use jiff::Timestamp;

use crate::args::{AgentProfileCommand, Format};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::{self, Cell, Table, Terminal, age};

pub(super) async fn run(context: &Context, command: AgentProfileCommand) -> Result<Exit, Failure> {
    match command {
        AgentProfileCommand::Apply { file } => apply(context, &file).await,
        AgentProfileCommand::List { output } => {
            let profiles = context.connect().await?.agent_profile_list().await?;
            list(context.terminal, output.output, &profiles)
        }
        AgentProfileCommand::Describe { name, output } => {
            let profile = context.connect().await?.agent_profile_get(&name).await?;
            let names = || vec![profile.name.to_string()];
            output::print(output.output, &profile, names, |_| described(&profile))?;
            Ok(Exit::Done)
        }
        AgentProfileCommand::Delete { name } => {
            context.connect().await?.agent_profile_delete(&name).await?;
            context.terminal.done(&format!("deleted agent profile {name}"))?;
            Ok(Exit::Done)
        }
    }
}

/// Nothing is kept if anything in the files is wrong.
async fn apply(context: &Context, files: &[PathBuf]) -> Result<Exit, Failure> {
    let mut profiles: Vec<(AgentName, AgentProfile)> = Vec::new();
    for file in files {
        for profile in input::profiles(context.terminal, file)? {
            let Some(name) = profile.name.clone() else { continue };
            if profiles.iter().any(|(known, _)| *known == name) {
                return Err(Failure::Failed(format!(
                    "{}: agent profile `{name}` is there twice",
                    input::name(file)
                )));
            }
            profiles.push((name, profile));
        }
    }
    let client = context.connect().await?;
    for (name, profile) in &profiles {
        let kept = client.agent_profile_write(name, profile).await?;
        let what = if kept.version == 1 { "created" } else { "replaced" };
        context.terminal.done(&format!("{what} agent profile {name}"))?;
    }
    Ok(Exit::Done)
}

fn list(terminal: Terminal, format: Format, profiles: &[AgentProfileShown]) -> Result<Exit, Failure> {
    let names = || profiles.iter().map(|profile| profile.name.to_string()).collect();
    if profiles.is_empty() && matches!(format, Format::Table | Format::Wide) {
        terminal.say(
            "no agent profiles; keep some with `chassis agent-profile apply -f examples/agent-profiles.yaml`",
        );
        return Ok(Exit::Done);
    }
    output::print(format, profiles, names, |wide| table(terminal, profiles, wide))?;
    Ok(Exit::Done)
}

fn table(terminal: Terminal, profiles: &[AgentProfileShown], wide: bool) -> String {
    let now = Timestamp::now();
    let mut header = vec!["NAME", "VERSION", "AGE", "DESCRIPTION"];
    if wide {
        header.push("DOWNLOAD");
    }
    let mut table = Table::new(terminal, &header);
    for profile in profiles {
        let mut cells: Vec<Cell> = vec![
            (&profile.name).into(),
            profile.version.into(),
            age(profile.updated_at, now).into(),
            profile.description.clone().unwrap_or_else(|| "-".to_owned()).into(),
        ];
        if wide {
            cells.push(profile.download_url.clone().unwrap_or_else(|| "-".to_owned()).into());
        }
        table.row(cells);
    }
    table.render()
}

fn described(profile: &AgentProfileShown) -> String {
    let hidden = |is_there: bool| if is_there { "given, not shown" } else { "-" }.to_owned();
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let timeout = profile.drain_timeout.map(|time| format!(" (at most {time})")).unwrap_or_default();
    let mut lines = vec![
        ("Name", profile.name.to_string()),
        ("Description", or_none(&profile.description)),
        ("Command", or_none(&profile.command)),
        ("Drain", format!("{}{timeout}", or_none(&profile.drain_command))),
        ("Download", or_none(&profile.download_url)),
        ("SHA-256", or_none(&profile.download_sha256)),
        ("Put at", profile.download_path.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
        ("Gateway", or_none(&profile.gateway)),
        ("Auth token", hidden(profile.has_auth_token)),
        ("Gateway token", hidden(profile.has_gateway_token)),
        ("Version", profile.version.to_string()),
    ];
    for file in &profile.files {
        let mode = if file.executable { ", executable" } else { "" };
        lines.push(("File", format!("{} ({} bytes{mode})", file.path, file.bytes)));
    }
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<15}{}", format!("{name}:"), output::clean(&value));
    }
    text
}
