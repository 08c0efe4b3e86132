//! `chassis login` and `chassis logout`: the token that a server takes, and whether it is the right server.

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use chassis_client::{Client, Introduction, ServerAddress, Token, introduce};
use zeroize::Zeroizing;

use super::context::{check_name, set_trust};
use crate::args::{Login, Logout};
use crate::config::{Config, LOCAL, Remote, Secret};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{RawMode, ask};

/// Far above what a token has.
const LONGEST_TOKEN: u16 = 4096;

pub(super) async fn run(context: &Context, login: Login) -> Result<Exit, Failure> {
    let config = Config::load()?;
    let (name, mut remote) = target(context, &config, &login)?;
    let is_new = !config.contexts.contains_key(&name);
    set_trust(&mut remote, &login.trust)?;
    if remote.fingerprint.is_none() && remote.ca.is_none() {
        meet(context, &mut remote).await?;
    }
    let token = token(login.token_file.as_deref(), &name)?;
    let mut endpoint = remote.endpoint_without_token();
    endpoint.token = Some(Token::new(&token)?);
    // Also says whether the server takes the token.
    let info = Client::connect(endpoint).await?.server_get().await?;
    (remote.token, remote.token_file) = (Some(Secret::new(&token)), None);
    let server = remote.server.clone();
    Config::change(|config| {
        if is_new {
            config.current = Some(name.clone());
        }
        config.contexts.insert(name.clone(), remote);
        Ok(())
    })?;
    context.terminal.done(&format!("logged in to {name} ({server}, chassis {})", info.version))?;
    if is_new {
        context
            .terminal
            .say(&format!("commands go to {name} from now on; `chassis context use {LOCAL}` goes back"));
    }
    Ok(Exit::Done)
}

pub(super) fn logout(context: &Context, logout: Logout) -> Result<Exit, Failure> {
    let name = match logout.context {
        Some(name) => name,
        None => in_use(context, &Config::load()?)?,
    };
    let had = Config::change(|config| {
        config.remote(&name)?;
        let remote = config.contexts.get_mut(&name);
        Ok(remote.is_some_and(|remote| remote.token.take().is_some() | remote.token_file.take().is_some()))
    })?;
    let what = if had { "forgot the token of" } else { "there was no token of" };
    context.terminal.done(&format!("{what} {name}; the server takes it until somebody revokes it"))?;
    Ok(Exit::Done)
}

/// The context that is meant: one that there is, or a new one for an address.
fn target(context: &Context, config: &Config, login: &Login) -> Result<(String, Remote), Failure> {
    let Some(target) = &login.target else {
        let name = in_use(context, config)?;
        return Ok((name.clone(), config.remote(&name)?.clone()));
    };
    if !target.contains("://") {
        if target == LOCAL {
            return Err(Failure::Usage("the server of this machine knows you without a token".to_owned()));
        }
        return Ok((target.clone(), config.remote(target)?.clone()));
    }
    let address: ServerAddress = target.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    let host = match &address {
        ServerAddress::Unix(_) => {
            return Err(Failure::Usage("a unix socket knows you without a token".to_owned()));
        }
        ServerAddress::Https { host, .. } | ServerAddress::LoopbackHttp { host, .. } => {
            host.replace(':', "-")
        }
    };
    if let (None, Some(name)) = (&login.name, config.name_of(&address)) {
        return Ok((name.to_owned(), config.remote(name)?.clone()));
    }
    let name = login.name.clone().unwrap_or(host);
    check_name(&name)?;
    match config.contexts.get(&name) {
        Some(other) if other.server != address => Err(Failure::Failed(format!(
            "there is a context `{name}` already, for {}; give this one another name with --name",
            other.server
        ))),
        Some(same) => Ok((name, same.clone())),
        None => Ok((name, Remote::new(address))),
    }
}

fn in_use(context: &Context, config: &Config) -> Result<String, Failure> {
    context.name(config).filter(|name| name != LOCAL).ok_or_else(|| {
        Failure::Usage("which server? Name a context, or an address as https://host:port".to_owned())
    })
}

/// Looks at a server for the first time; if nothing vouches for it, a person must.
async fn meet(context: &Context, remote: &mut Remote) -> Result<(), Failure> {
    let Introduction::Stranger { fingerprint, reason } = introduce(&remote.server).await? else {
        return Ok(());
    };
    let server = &remote.server;
    if !context.terminal.can_ask() {
        return Err(Failure::Failed(format!(
            "nothing on this machine vouches for {server} ({reason}); if its certificate's fingerprint is {fingerprint}, as \
             `chassis server status` shows it there, say so with --fingerprint; or name who vouches for it with --ca"
        )));
    }
    context.terminal.say(&format!(
        "Nothing on this machine vouches for {server} ({reason}).\nIts certificate's fingerprint is\n  {fingerprint}\n\
         Compare it with what `chassis server status` shows there."
    ));
    match ask("Is it the same, and do you trust it? (yes/no)")?.to_lowercase().as_str() {
        "yes" | "y" => {
            remote.fingerprint = Some(fingerprint);
            Ok(())
        }
        _ => Err(Failure::Failed(format!("{server} is not trusted; nothing was sent or stored"))),
    }
}

fn token(file: Option<&Path>, name: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |source| Failure::Io { what: "cannot read the token".to_owned(), source };
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_TOKEN.into()));
    match file {
        Some(file) if file != Path::new("-") => {
            let file = std::fs::File::open(file)
                .map_err(|source| Failure::Io { what: format!("cannot read {}", file.display()), source })?;
            file.take(LONGEST_TOKEN.into()).read_to_string(&mut text).map_err(failed)?;
        }
        _ if io::stdin().is_terminal() => return ask_hidden(&format!("Token for {name}: ")),
        _ => {
            io::stdin().lock().take(LONGEST_TOKEN.into()).read_to_string(&mut text).map_err(failed)?;
        }
    }
    if text.trim().is_empty() {
        let from = match file {
            Some(file) if file != Path::new("-") => format!("{} is empty", file.display()),
            _ => "standard input was empty".to_owned(),
        };
        return Err(Failure::Usage(format!(
            "{from}; give the token with --token-file, or type it in a terminal"
        )));
    }
    Ok(text)
}

/// Asks for a line that nobody should see.
fn ask_hidden(question: &str) -> Result<Zeroizing<String>, Failure> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const CTRL_U: u8 = 0x15;
    const BACKSPACE: u8 = 8;
    const DELETE: u8 = 0x7f;
    let failed = |source| Failure::Io { what: "cannot ask for the token".to_owned(), source };
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST_TOKEN.into()));
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}").and_then(|()| stderr.flush()).map_err(failed)?;
    let raw = RawMode::enter().map_err(failed)?;
    let mut stdin = io::stdin().lock();
    let ended = loop {
        let mut byte = [0];
        match stdin.read(&mut byte) {
            Ok(0) => break Ok(()),
            Err(error) => break Err(failed(error)),
            Ok(_) => {}
        }
        match byte[0] {
            b'\r' | b'\n' | CTRL_D => break Ok(()),
            CTRL_C => break Err(Failure::Interrupted("interrupted".to_owned())),
            BACKSPACE | DELETE => drop(line.pop()),
            CTRL_U => line.clear(),
            byte if line.len() < usize::from(LONGEST_TOKEN) => line.push(byte),
            _ => {}
        }
    };
    drop(raw);
    let _ = writeln!(stderr);
    ended?;
    let text = std::str::from_utf8(&line).map_err(|_| Failure::Client(chassis_client::Error::Token))?;
    Ok(Zeroizing::new(text.to_owned()))
}
