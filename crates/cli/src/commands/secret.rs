//! `chassis secret`: values go in through files and standard input, and never come out.

use std::path::Path;

use chassis_api::{KeyRotate, Secret as Stored};
use jiff::Timestamp;

use crate::args::{Format, Secret};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::{self, Cell, Table, Terminal, age, count};
use crate::scope::secret_ref;

pub(super) async fn run(context: &Context, secret: Secret) -> Result<Exit, Failure> {
    match secret {
        Secret::Create { name, from_file, replace, value, from_literal } => {
            if value.is_some() || from_literal.is_some() {
                return Err(Failure::Usage(format!(
                    "a secret's value on the command line can be read by every process and stays in the shell's history; \
                     use `chassis secret create {name} --from-file <path>`, or `--from-file -` for standard input"
                )));
            }
            let file = from_file.ok_or_else(|| {
                Failure::Usage(
                    "where is the value? Add --from-file <path>, or --from-file - for standard input"
                        .to_owned(),
                )
            })?;
            create(context, &name, &file, replace).await
        }
        Secret::List { fleet, output } => {
            let secrets = context.connect().await?.secret_list(fleet.as_ref()).await?;
            list(context.terminal, output.output, &secrets)
        }
        Secret::Delete { name } => {
            let client = context.connect().await?;
            let secret = secret_ref(&client, &name).await?;
            let deleted = client.secret_delete(&secret).await?;
            context.terminal.done(&format!("deleted secret {}/{}", secret.fleet, secret.name))?;
            for agent in deleted.used_by {
                output::tell(&format!("warning: {agent} uses it, and cannot be started again without it"));
            }
            Ok(Exit::Done)
        }
        Secret::RotateKey { new_key_file } => rotate_key(context, new_key_file.as_deref()).await,
    }
}

async fn create(context: &Context, name: &str, file: &Path, replace: bool) -> Result<Exit, Failure> {
    let value = input::secret(context.terminal, file)?;
    if value.is_empty() {
        return Err(Failure::Failed(format!("{} is empty; a secret has a value", input::name(file))));
    }
    let client = context.connect().await?;
    let secret = secret_ref(&client, name).await?;
    let stored = client.secret_put(&secret, value, replace).await?;
    let done = if stored.version > 1 { "replaced" } else { "created" };
    context.terminal.done(&format!("{done} secret {}/{}", stored.fleet, stored.name))?;
    if stored.version > 1 && !stored.used_by.is_empty() {
        let agents: Vec<String> = stored.used_by.iter().map(ToString::to_string).collect();
        context.terminal.say(&format!("it reaches {} with the next restart", agents.join(", ")));
    }
    Ok(Exit::Done)
}

fn list(terminal: Terminal, format: Format, secrets: &[Stored]) -> Result<Exit, Failure> {
    let names = || secrets.iter().map(|secret| format!("{}/{}", secret.fleet, secret.name)).collect();
    if secrets.is_empty() && matches!(format, Format::Table | Format::Wide) {
        terminal.say("no secrets; store one with `chassis secret create <fleet>/<name> --from-file <path>`");
        return Ok(Exit::Done);
    }
    output::print(format, secrets, names, |wide| table(terminal, secrets, wide))?;
    Ok(Exit::Done)
}

fn table(terminal: Terminal, secrets: &[Stored], wide: bool) -> String {
    let now = Timestamp::now();
    let mut header = vec!["SECRET", "VERSION", "AGE", "USED BY"];
    if wide {
        header.insert(3, "CHANGED");
    }
    let mut table = Table::new(terminal, &header);
    for secret in secrets {
        let used_by: Vec<&str> = secret.used_by.iter().map(chassis_spec::AgentName::as_str).collect();
        let mut cells: Vec<Cell> = vec![
            format!("{}/{}", secret.fleet, secret.name).into(),
            secret.version.into(),
            age(secret.created_at, now).into(),
        ];
        if wide {
            cells.push(format!("{} ago", age(secret.updated_at, now)).into());
        }
        cells.push(if used_by.is_empty() { "-".into() } else { used_by.join(", ").into() });
        table.row(cells);
    }
    table.render()
}

async fn rotate_key(context: &Context, file: Option<&Path>) -> Result<Exit, Failure> {
    let new_key = match file {
        None => None,
        Some(file) => {
            let bytes = input::secret(context.terminal, file)?;
            let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
            if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Failure::Failed(format!(
                    "{} holds no key; a key is 64 hex digits, as from `openssl rand -hex 32`",
                    input::name(file)
                )));
            }
            Some(text.to_owned())
        }
    };
    let given = new_key.is_some();
    let rotated = context.connect().await?.secret_key_rotate(&KeyRotate { new_key }).await?;
    context.terminal.done(&format!("encrypted {} with the new key", count(rotated.secrets, "secret")))?;
    if given {
        context.terminal.say("put the new key into the server's TOKEN_ENCRYPTION_KEY before its next start");
    }
    Ok(Exit::Done)
}
