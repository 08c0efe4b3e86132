//! `chassis db`: what is done to a database while no server uses it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use chassis_server::{Error, PostgresOptions, copy_to_postgres, migrate_postgres, migrate_sqlite};

use crate::args::{Db, DbCopy};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// Where the URL comes from if it has a password.
const SAFER: &str = "a password in a command can be read by every user of the machine; leave --to out and put the URL into \
                     DATABASE_URL or DATABASE_URL_FILE, or the password into PGPASSFILE";

pub(crate) fn run(context: &Context, command: Db) -> Result<Exit, Failure> {
    match command {
        Db::Migrate => migrate(context),
        Db::Copy(arguments) => copy(context, arguments),
    }
}

fn migrate(context: &Context) -> Result<Exit, Failure> {
    let (place, (before, after)) = if let Some(options) = from_environment()? {
        (options.place(), migrate_postgres(&options).map_err(Error::from)?)
    } else {
        let path = context.data_dir()?.database();
        let _locks = lock(&path)?;
        (path.display().to_string(), migrate_sqlite(&path).map_err(Error::from)?)
    };
    let text = match before {
        _ if before == after => format!("{place} is up to date, at schema {after}\n"),
        _ => format!("{place} was brought from schema {before} to {after}\n"),
    };
    output::data(&text)?;
    Ok(Exit::Done)
}

fn copy(context: &Context, arguments: DbCopy) -> Result<Exit, Failure> {
    let from = match arguments.from {
        Some(from) => source(&from)?,
        None => context.data_dir()?.database(),
    };
    let to = match arguments.to {
        Some(url) if has_password(&url) => return Err(Failure::Usage(SAFER.to_owned())),
        Some(url) => PostgresOptions::new(&url, "copy").map_err(Error::from)?,
        None => from_environment()?.ok_or_else(|| {
            Failure::Usage("where to? give --to postgres://…, or set DATABASE_URL".to_owned())
        })?,
    };
    let _locks = lock(&from)?;
    let copied = copy_to_postgres(&from, &to).map_err(Error::from)?;
    let lines: Vec<String> = copied.iter().map(|(table, rows)| format!("{rows:>8} {table}\n")).collect();
    let text = lines.concat();
    output::data(&text)?;
    context.terminal.say(&format!(
        "{} is copied to {}. Start the server with DATABASE_URL, and with the same data directory and key: it finds its \
         instances running. The old database is as it was; keep it from being served again",
        from.display(),
        to.place()
    ));
    Ok(Exit::Done)
}

fn from_environment() -> Result<Option<PostgresOptions>, Failure> {
    Ok(PostgresOptions::from_environment("db").map_err(Error::from)?)
}

/// `sqlite:PATH`, or the path alone.
fn source(text: &str) -> Result<PathBuf, Failure> {
    if text.starts_with("postgres") && text.contains("://") {
        return Err(Failure::Usage("only an SQLite database can be copied: --from sqlite:PATH".to_owned()));
    }
    let path = text.strip_prefix("sqlite:").unwrap_or(text);
    Ok(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
}

fn has_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let in_authority = rest[..end].rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    in_authority || rest.contains("password=")
}

/// Keeps servers away from a database as long as it is held; refuses if one has it.
fn lock(database: &Path) -> Result<Vec<File>, Failure> {
    let mut locks = Vec::new();
    for name in ["lock", "users"] {
        let path = database.with_file_name(name);
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => locks.push(file),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::Failed(format!(
                    "a server uses {}; end it with `chassis server stop`, agents go on running",
                    database.display()
                )));
            }
            Err(TryLockError::Error(source)) => {
                return Err(Failure::Io { what: format!("cannot lock {}", path.display()), source });
            }
        }
    }
    Ok(locks)
}
