//! `chassis api-key`: keys for those who call over the network.

use chassis_api::{ApiKey as Stored, ApiKeyCreate, ApiKeyCreated};
use jiff::{SignedDuration, Timestamp};

use crate::args::{ApiKey, Format};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Table, Terminal, age, until};

pub(super) async fn run(context: &Context, command: ApiKey) -> Result<Exit, Failure> {
    match command {
        ApiKey::Create { name, role, fleet, expires, output } => {
            if output.output == Format::Name {
                return Err(Failure::Usage(
                    "the key is shown only once, and `-o name` would not show it; leave it out, or write -o json"
                        .to_owned(),
                ));
            }
            let fleets = (!fleet.is_empty()).then_some(fleet);
            let expires_at = expires.map(expiry).transpose()?;
            let key = ApiKeyCreate { name, role, fleets, expires_at };
            let client = context.connect().await?;
            let made = client.api_key_create(&key).await?;
            let known = client.fleet_list().await?;
            for fleet in made.key.fleets.iter().flatten() {
                if !known.iter().any(|known| known.name == *fleet) {
                    context.terminal.say(&format!("there is no fleet {fleet} yet; this key may make it"));
                }
            }
            created(context.terminal, output.output, &made)
        }
        ApiKey::List { output } => {
            let keys = context.connect().await?.api_key_list().await?;
            list(context.terminal, output.output, &keys)
        }
        ApiKey::Revoke { name } => {
            context.connect().await?.api_key_revoke(&name).await?;
            context.terminal.done(&format!("revoked API key {name}"))?;
            Ok(Exit::Done)
        }
    }
}

fn expiry(after: SignedDuration) -> Result<Timestamp, Failure> {
    let too_late = |_| Failure::Usage("--expires is beyond all calendars; leave it out".to_owned());
    Timestamp::now().checked_add(after).map_err(too_late)
}

/// The key alone on standard output, so that a script can put it where it belongs.
fn created(terminal: Terminal, format: Format, created: &ApiKeyCreated) -> Result<Exit, Failure> {
    match format {
        Format::Table | Format::Wide => {
            terminal.say(&format!(
                "created API key {}: {} of {}. This is the only time that it is shown:",
                created.key.name,
                created.key.role,
                fleets(&created.key)
            ));
            output::data(&format!("{}\n", created.token))?;
        }
        format => output::print(format, created, || vec![created.key.name.to_string()], |_| String::new())?,
    }
    Ok(Exit::Done)
}

fn list(terminal: Terminal, format: Format, keys: &[Stored]) -> Result<Exit, Failure> {
    let names = || keys.iter().map(|key| key.name.to_string()).collect();
    if keys.is_empty() && matches!(format, Format::Table | Format::Wide) {
        terminal.say("no API keys; make one with `chassis api-key create <name> --role viewer`");
        return Ok(Exit::Done);
    }
    output::print(format, keys, names, |wide| table(terminal, keys, wide))?;
    Ok(Exit::Done)
}

fn table(terminal: Terminal, keys: &[Stored], wide: bool) -> String {
    let now = Timestamp::now();
    let mut header = vec!["NAME", "KEY", "ROLE", "FLEETS", "AGE", "EXPIRES", "LAST USED"];
    if wide {
        header.push("MADE BY");
    }
    let mut table = Table::new(terminal, &header);
    for key in keys {
        let expires = key.expires_at.map_or_else(
            || "-".to_owned(),
            |at| if at <= now { "expired".to_owned() } else { format!("in {}", until(at, now)) },
        );
        let used = key.last_used_at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", age(at, now)));
        let mut cells: Vec<Cell> = vec![
            (&key.name).into(),
            format!("{}…", key.prefix).into(),
            key.role.into(),
            fleets(key).into(),
            age(key.created_at, now).into(),
            expires.into(),
            used.into(),
        ];
        if wide {
            cells.push((&key.created_by).into());
        }
        table.row(cells);
    }
    table.render()
}

fn fleets(key: &Stored) -> String {
    match &key.fleets {
        None => "all fleets".to_owned(),
        // Each that it was for is gone.
        Some(fleets) if fleets.is_empty() => "no fleet".to_owned(),
        Some(fleets) => fleets.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}
