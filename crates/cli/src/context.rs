//! Where a command runs: its data directory, its server, its terminal.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use chassis_client::{Client, Endpoint, Error, ServerAddress, Token};
use chassis_server::DataDir;

use crate::args::Global;
use crate::autostart;
use crate::failure::Failure;
use crate::output::Terminal;

/// The kernel's limit for a socket's path is 108, and some tools around it take less.
const LONGEST_SOCKET: usize = 100;

const DATA_DIR: &str = "CHASSIS_DATA_DIR";
const TOKEN: &str = "CHASSIS_TOKEN";
const SERVER: &str = "CHASSIS_SERVER";

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) terminal: Terminal,
    data_dir: Option<PathBuf>,
    server: Option<ServerAddress>,
}

impl Context {
    /// What no flag says, the environment may.
    pub(crate) fn new(global: Global) -> Result<Context, Failure> {
        let server = match (global.server, from_environment(SERVER)) {
            (None, Some(text)) => Some(parse_server(&text)?),
            (server, _) => server,
        };
        Ok(Context {
            terminal: Terminal::new(global.quiet, global.no_color),
            data_dir: global.data_dir.or_else(|| from_environment(DATA_DIR).map(PathBuf::from)),
            server,
        })
    }

    /// The root of all state.
    pub(crate) fn data_dir(&self) -> Result<DataDir, Failure> {
        let chosen = match &self.data_dir {
            Some(path) => path.clone(),
            None => default_data_dir()?,
        };
        let path = std::path::absolute(&chosen).map_err(|source| Failure::Io {
            what: format!("cannot use the data directory {}", chosen.display()),
            source,
        })?;
        let data_dir = DataDir::new(path);
        let length = data_dir.socket().as_os_str().len();
        if length > LONGEST_SOCKET {
            return Err(Failure::Usage(format!(
                "the data directory's path is too long: its socket {} has {length} bytes, and {LONGEST_SOCKET} fit; \
                 choose a shorter one with --data-dir",
                data_dir.socket().display()
            )));
        }
        Ok(data_dir)
    }

    /// Where the server of this data directory listens, or the one that was named.
    pub(crate) fn address(&self) -> Result<ServerAddress, Failure> {
        match &self.server {
            Some(address) => Ok(address.clone()),
            None => Ok(ServerAddress::Unix(self.data_dir()?.socket())),
        }
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let mut endpoint = Endpoint::from(self.address()?);
        if let Some(token) = from_environment(TOKEN) {
            endpoint.token = Some(Token::new(&token.to_string_lossy())?);
        }
        Ok(endpoint)
    }

    /// A client of the server; one is started if there is none and nobody named another.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        match Client::connect(self.endpoint()?).await {
            Err(Error::Unreachable { .. }) if self.server.is_none() => {
                autostart::start(&self.data_dir()?, self.terminal).await
            }
            client => Ok(client?),
        }
    }

    /// A client of the server, or `None` if there is none. Never starts one.
    pub(crate) async fn connect_if_running(&self) -> Result<Option<Client>, Failure> {
        match Client::connect(self.endpoint()?).await {
            Err(Error::Unreachable { .. }) => Ok(None),
            client => Ok(Some(client?)),
        }
    }
}

fn from_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn parse_server(text: &OsStr) -> Result<ServerAddress, Failure> {
    let text = text.to_string_lossy();
    text.parse().map_err(|error| Failure::Usage(format!("{SERVER} is wrong: {error}")))
}

fn default_data_dir() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/chassis".into());
    }
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(Path::new(".local/share"))))
        .map(|data| data.join("chassis"))
        .ok_or_else(|| Failure::Usage("HOME is not set; name a data directory with --data-dir".to_owned()))
}
