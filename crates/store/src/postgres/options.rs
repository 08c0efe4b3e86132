//! Where the Postgres database is, and how it is reached: libpq's URL, and passwords from files.
//!
//! A password is never in a flag, a log or an error; the URL, which may hold one, is in none of them either.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use zeroize::Zeroizing;

use super::tls::{ClientFiles, Connector, Roots, Trust};
use crate::error::{Error, Result};

/// How to reach a database, and the name by which this server is known there.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(super) config: Config,
    pub(super) connector: Connector,
    pub(super) server_name: String,
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("PostgresOptions").field(&self.place()).finish()
    }
}

impl PostgresOptions {
    /// What `DATABASE_URL`, or the file that `DATABASE_URL_FILE` names, says; none if neither is set. The password may
    /// come from `DATABASE_PASSWORD_FILE`, or as libpq takes it: from `PGPASSWORD`, `PGPASSFILE` or `~/.pgpass`.
    pub fn from_environment(server_name: &str) -> Result<Option<Self>> {
        let url = match (variable("DATABASE_URL"), variable("DATABASE_URL_FILE")) {
            (Some(_), Some(_)) => {
                return Err(unusable("DATABASE_URL and DATABASE_URL_FILE are both set; take one away"));
            }
            (Some(url), None) => Zeroizing::new(url),
            (None, Some(path)) => read(Path::new(&path))?,
            (None, None) => return Ok(None),
        };
        Self::new(url.trim(), server_name).map(Some)
    }

    /// Errors never show the URL. `sslmode`, `sslrootcert`, `sslcert`, `sslkey` and `passfile` mean what libpq's manual says, but that
    /// `sslmode=verify-full` and `verify-ca` trust the system's roots where `sslrootcert` is not given.
    pub fn new(url: &str, server_name: &str) -> Result<Self> {
        let (url, own) = take_own_parameters(url)?;
        let mut config: Config = url.parse().map_err(|error| {
            unusable(format!("the database's URL cannot be used: {}", crate::error::chain(&error)))
        })?;
        config
            .application_name(format!("chassis {server_name}"))
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(10));
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(3));
        }
        let local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let (mode, trust) = match own.mode.as_deref() {
            // As libpq, which has no use for TLS on a socket of this machine.
            _ if local => (SslMode::Disable, Trust::Anybody),
            Some("disable") => (SslMode::Disable, Trust::Anybody),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Trust::Anybody),
            // A CA that is given is not given for nothing: libpq's rule.
            Some("require") if own.roots.is_some() => (SslMode::Require, Trust::Authority),
            Some("require") => (SslMode::Require, Trust::Anybody),
            Some("verify-ca") => (SslMode::Require, Trust::Authority),
            Some("verify-full") => (SslMode::Require, Trust::Name),
            Some(other) => {
                let known = "disable, prefer, require, verify-ca and verify-full";
                return Err(unusable(format!("there is no sslmode `{other}`; there are {known}")));
            }
        };
        config.ssl_mode(mode);
        let roots = match own.roots.as_deref() {
            None | Some("system") => Roots::System,
            Some(path) => Roots::File(path.into()),
        };
        let identity = match (own.certificate, own.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(ClientFiles { certificate: certificate.into(), key: key.into() })
            }
            (Some(_), None) => return Err(unusable("sslcert needs the certificate's key: give sslkey too")),
            (None, Some(_)) => return Err(unusable("sslkey needs the key's certificate: give sslcert too")),
        };
        let connector = Connector::new(trust, &roots, identity.as_ref())?;
        let mut options = PostgresOptions { config, connector, server_name: server_name.to_owned() };
        if options.config.get_password().is_none()
            && let Some(password) = options.find_password(own.passfile.map(PathBuf::from))?
        {
            options.config.password(password.as_bytes());
        }
        Ok(options)
    }

    /// The database in words that may be shown: without user and password.
    pub fn place(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("postgres://{host}:{port}/{}", self.config.get_dbname().unwrap_or_default())
    }

    fn find_password(&self, passfile: Option<PathBuf>) -> Result<Option<Zeroizing<String>>> {
        if let Some(path) = variable("DATABASE_PASSWORD_FILE") {
            let text = read(Path::new(&path))?;
            return Ok(Some(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned())));
        }
        if let Some(password) = variable("PGPASSWORD") {
            return Ok(Some(Zeroizing::new(password)));
        }
        let given = passfile.or_else(|| variable("PGPASSFILE").map(PathBuf::from));
        let path = match (given, variable("HOME")) {
            (Some(path), _) => path,
            (None, Some(home)) if Path::new(&home).join(".pgpass").exists() => {
                Path::new(&home).join(".pgpass")
            }
            (None, _) => return Ok(None),
        };
        let text = read(&path)?;
        let port = self.config.get_ports().first().copied().unwrap_or(5432).to_string();
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.as_str(),
            _ => "localhost",
        };
        let database = self.config.get_dbname().or_else(|| self.config.get_user()).unwrap_or_default();
        let wanted = [host, &port, database, self.config.get_user().unwrap_or_default()];
        Ok(text.lines().find_map(|line| password_of(line, &wanted)))
    }
}

/// The password in a line of a password file, `host:port:database:user:password`, if the line is for this database.
fn password_of(line: &str, wanted: &[&str; 4]) -> Option<Zeroizing<String>> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![Zeroizing::new(String::new())];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' if fields.len() < 5 => fields.push(Zeroizing::new(String::new())),
            '\\' => fields.last_mut()?.extend(characters.next()),
            other => fields.last_mut()?.push(other),
        }
    }
    let password = (fields.len() == 5).then(|| fields.pop())??;
    let fits =
        fields.iter().zip(wanted).all(|(field, wanted)| field.as_str() == "*" || field.as_str() == *wanted);
    fits.then_some(password)
}

/// Parameters of the URL that tokio-postgres does not know, or knows in part only.
#[derive(Default)]
struct OwnParameters {
    mode: Option<String>,
    roots: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    passfile: Option<String>,
}

/// Takes out of the URL what is ours.
fn take_own_parameters(url: &str) -> Result<(Zeroizing<String>, OwnParameters)> {
    let mut own = OwnParameters::default();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(unusable("the database's URL does not begin with postgres://"));
    }
    let Some((base, query)) = url.split_once('?') else { return Ok((Zeroizing::new(url.to_owned()), own)) };
    let mut rest = Vec::new();
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", value)) => own.mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => own.roots = Some(decode(value)?),
            Some(("sslcert", value)) => own.certificate = Some(decode(value)?),
            Some(("sslkey", value)) => own.key = Some(decode(value)?),
            Some(("passfile", value)) => own.passfile = Some(decode(value)?),
            _ => rest.push(parameter),
        }
    }
    let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Ok((Zeroizing::new(format!("{base}{rest}")), own))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(
            digits.ok_or_else(|| unusable("the database's URL has a % that no two hex digits follow"))?,
        );
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| unusable("the database's URL is not UTF-8"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path);
    text.map(Zeroizing::new).map_err(|error| unusable(format!("{} cannot be read: {error}", path.display())))
}

pub(super) fn unusable(what: impl Into<String>) -> Error {
    Error::DatabaseOptions(what.into())
}
