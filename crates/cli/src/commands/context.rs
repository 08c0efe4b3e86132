//! `chassis context`: servers by name.

use std::path::{Path, PathBuf};

use chassis_api::Fingerprint;
use chassis_client::ServerAddress;
use serde::Serialize;

use crate::args::{ContextAdd, ContextCommand, Format, TrustArgs};
use crate::config::{self, Config, LOCAL, Remote};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Table, Terminal};

/// What is said of a context; never its token.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    name: String,
    current: bool,
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
    /// `stored`, `file`, or `none`.
    token: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
}

pub(super) fn run(context: &Context, command: ContextCommand) -> Result<Exit, Failure> {
    match command {
        ContextCommand::Add(add) => add_one(context, add)?,
        ContextCommand::Use { name } => use_one(context, &name)?,
        ContextCommand::Remove { name } => remove(context, &name)?,
        ContextCommand::List { output } => list(context, output.output)?,
        ContextCommand::Show { name, output } => show(context, name, output.output)?,
    }
    Ok(Exit::Done)
}

fn add_one(context: &Context, add: ContextAdd) -> Result<(), Failure> {
    check_name(&add.name)?;
    let address = context.given_address().ok_or_else(|| {
        Failure::Usage(format!("which server is {}? Say it with --server https://host:port", add.name))
    })?;
    let mut remote = Remote::new(address);
    set_trust(&mut remote, &add.trust)?;
    if let Some(file) = &add.token_file {
        config::read_token(file)?;
        remote.token_file = Some(absolute(file)?);
    }
    let name = add.name.clone();
    Config::change(|config| {
        if config.contexts.contains_key(&add.name) {
            return Err(Failure::Failed(format!(
                "there is a context `{name}` already; `chassis context remove {name}` forgets it, `chassis login {name}` \
                 changes its token",
                name = add.name
            )));
        }
        config.contexts.insert(add.name, remote);
        Ok(())
    })?;
    context
        .terminal
        .done(&format!("added the context {name}; `chassis context use {name}` makes it the one in use"))
}

fn use_one(context: &Context, name: &str) -> Result<(), Failure> {
    Config::change(|config| {
        config.current = if name == LOCAL {
            None
        } else {
            config.remote(name)?;
            Some(name.to_owned())
        };
        Ok(())
    })?;
    context.terminal.done(&format!("commands go to {name} from now on"))
}

fn remove(context: &Context, name: &str) -> Result<(), Failure> {
    if name == LOCAL {
        return Err(Failure::Usage("the local context is always there".to_owned()));
    }
    let was_current = Config::change(|config| {
        config.remote(name)?;
        config.contexts.remove(name);
        Ok(config.current.take_if(|current| current == name).is_some())
    })?;
    let next = if was_current { "; commands go to local from now on" } else { "" };
    context.terminal.done(&format!("removed the context {name}{next}"))
}

fn list(context: &Context, format: Format) -> Result<(), Failure> {
    let config = Config::load()?;
    let current = context.name(&config);
    let mut all = vec![local(context, current.as_deref())?];
    all.extend(config.contexts.iter().map(|(name, remote)| shown(name, remote, current.as_deref())));
    let names = || all.iter().map(|one| one.name.clone()).collect();
    output::print(format, &all, names, |_| table(context.terminal, &all))
}

fn show(context: &Context, name: Option<String>, format: Format) -> Result<(), Failure> {
    let config = Config::load()?;
    let current = context.name(&config);
    let name = name.or_else(|| current.clone()).ok_or_else(|| {
        Failure::Usage(
            "commands go to an address that has no name; name a context, or leave out --server".to_owned(),
        )
    })?;
    let one = if name == LOCAL {
        local(context, current.as_deref())?
    } else {
        shown(&name, config.remote(&name)?, current.as_deref())
    };
    output::print(format, &one, || vec![one.name.clone()], |_| details(context.terminal, &one))
}

fn local(context: &Context, current: Option<&str>) -> Result<Shown, Failure> {
    Ok(Shown {
        name: LOCAL.to_owned(),
        current: current == Some(LOCAL),
        server: ServerAddress::Unix(context.data_dir()?.socket()).to_string(),
        fingerprint: None,
        ca: None,
        token: "none",
        token_file: None,
    })
}

fn shown(name: &str, remote: &Remote, current: Option<&str>) -> Shown {
    Shown {
        name: name.to_owned(),
        current: current == Some(name),
        server: remote.server.to_string(),
        fingerprint: remote.fingerprint,
        ca: remote.ca.clone(),
        token: match (&remote.token, &remote.token_file) {
            (Some(_), _) => "stored",
            (None, Some(_)) => "file",
            (None, None) => "none",
        },
        token_file: remote.token_file.clone(),
    }
}

fn trust(one: &Shown) -> String {
    match (one.fingerprint, &one.ca) {
        (Some(fingerprint), _) => format!("{:.19}…", fingerprint.to_string()),
        (None, Some(ca)) => ca.display().to_string(),
        (None, None) if one.server.starts_with("https:") => "system".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

fn table(terminal: Terminal, all: &[Shown]) -> String {
    let mut table = Table::new(terminal, &["IN USE", "NAME", "SERVER", "KNOWN BY", "TOKEN"]);
    for one in all {
        let current = if one.current { "*" } else { "" };
        let token = if one.token == "none" { "-" } else { one.token };
        table.row([
            current.into(),
            one.name.clone().into(),
            one.server.clone().into(),
            trust(one).into(),
            token.into(),
        ]);
    }
    table.render()
}

fn details(terminal: Terminal, one: &Shown) -> String {
    let mut table = Table::without_header(terminal);
    let token =
        one.token_file.as_ref().map_or_else(|| one.token.to_owned(), |file| file.display().to_string());
    let known = one.fingerprint.map_or_else(|| trust(one), |fingerprint| fingerprint.to_string());
    let rows = [
        ("Name:", one.name.clone()),
        ("Server:", one.server.clone()),
        ("Known by:", known),
        ("Token:", token),
    ];
    for (name, value) in rows {
        table.row([name.into(), value.into()]);
    }
    table.render()
}

pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name == LOCAL {
        return Err(Failure::Usage("`local` is the server of this machine; choose another name".to_owned()));
    }
    if name.is_empty() || !name.chars().all(fits) {
        return Err(Failure::Usage(format!(
            "`{name}` is no name for a context; use letters, digits, `-`, `_` and `.`"
        )));
    }
    Ok(())
}

/// What the flags say about trust, instead of what was known.
pub(super) fn set_trust(remote: &mut Remote, flags: &TrustArgs) -> Result<(), Failure> {
    if (flags.fingerprint.is_some() || flags.ca.is_some())
        && !matches!(remote.server, ServerAddress::Https { .. })
    {
        return Err(Failure::Usage(format!("{} shows no certificate; only https:// does", remote.server)));
    }
    if let Some(fingerprint) = flags.fingerprint {
        (remote.fingerprint, remote.ca) = (Some(fingerprint), None);
    } else if let Some(ca) = &flags.ca {
        (remote.fingerprint, remote.ca) = (None, Some(absolute(ca)?));
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|source| Failure::Io { what: format!("cannot use {}", path.display()), source })
}
