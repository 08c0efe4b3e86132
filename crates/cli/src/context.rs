//! Where a command runs: its data directory, its server, its terminal.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis_client::{Client, Endpoint, Error, Notice, ServerAddress, Token};
use chassis_server::DataDir;

use crate::args::Global;
use crate::autostart;
use crate::config::{Config, LOCAL, Remote, read_token};
use crate::failure::Failure;
use crate::output::Terminal;

/// The kernel's limit for a socket's path is 108, and some tools around it take less.
const LONGEST_SOCKET: usize = 100;

/// How long a command waits for a database that is away: it may be started anew, or another may take its place.
const PATIENCE: Duration = Duration::from_mins(2);

const DATA_DIR: &str = "CHASSIS_DATA_DIR";
const SERVER_DIR: &str = "CHASSIS_SERVER_DIR";
const SERVER: &str = "CHASSIS_SERVER";
const CONTEXT: &str = "CHASSIS_CONTEXT";
const TOKEN: &str = "CHASSIS_TOKEN";
const TOKEN_FILE: &str = "CHASSIS_TOKEN_FILE";
const FINGERPRINT: &str = "CHASSIS_FINGERPRINT";
const CA_FILE: &str = "CHASSIS_CA_FILE";

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) terminal: Terminal,
    data_dir: Option<PathBuf>,
    server_dir: Option<PathBuf>,
    chosen: Chosen,
}

/// The server that commands talk to, as far as nobody needs to look into a file for it.
#[derive(Debug)]
enum Chosen {
    Address(ServerAddress),
    Context(String),
    /// Whichever is in use.
    Nothing,
}

impl Context {
    /// A flag says more than the environment, and that more than what is in use.
    pub(crate) fn new(global: Global) -> Result<Context, Failure> {
        let chosen = match (global.server, global.context) {
            (Some(address), _) => Chosen::Address(address),
            (None, Some(name)) => Chosen::Context(name),
            (None, None) => match (from_environment(SERVER), from_environment(CONTEXT)) {
                (Some(text), _) => Chosen::Address(parse_server(&text)?),
                (None, Some(name)) => Chosen::Context(name.to_string_lossy().into_owned()),
                // Whoever names a directory means its own server.
                (None, None) if global.data_dir.is_some() => Chosen::Context(LOCAL.to_owned()),
                (None, None) => Chosen::Nothing,
            },
        };
        Ok(Context {
            terminal: Terminal::new(global.quiet, global.no_color),
            data_dir: global.data_dir.or_else(|| from_environment(DATA_DIR).map(PathBuf::from)),
            server_dir: global.server_dir.or_else(|| from_environment(SERVER_DIR).map(PathBuf::from)),
            chosen,
        })
    }

    /// The same for the server of this machine, whichever is in use.
    pub(crate) fn local(&self) -> Context {
        let chosen = match &self.chosen {
            Chosen::Address(address @ ServerAddress::Unix(_)) => Chosen::Address(address.clone()),
            _ => Chosen::Context(LOCAL.to_owned()),
        };
        Context {
            terminal: self.terminal,
            data_dir: self.data_dir.clone(),
            server_dir: self.server_dir.clone(),
            chosen,
        }
    }

    /// The root of all state.
    pub(crate) fn data_dir(&self) -> Result<DataDir, Failure> {
        let chosen = match &self.data_dir {
            Some(path) => path.clone(),
            None => default_data_dir()?,
        };
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|source| Failure::Io {
                what: format!("cannot use the directory {}", path.display()),
                source,
            })
        };
        let server_dir = self.server_dir.as_deref().map(absolute).transpose()?;
        let data_dir = DataDir::new(absolute(&chosen)?, server_dir);
        let length = data_dir.socket().as_os_str().len();
        if length > LONGEST_SOCKET {
            return Err(Failure::Usage(format!(
                "the data directory's path is too long: its socket {} has {length} bytes, and {LONGEST_SOCKET} fit; \
                 choose a shorter one with --data-dir or --server-dir",
                data_dir.socket().display()
            )));
        }
        Ok(data_dir)
    }

    /// The name of the context that commands talk to; none for an address without one.
    pub(crate) fn name(&self, config: &Config) -> Option<String> {
        match &self.chosen {
            Chosen::Address(address) => config.name_of(address).map(str::to_owned),
            Chosen::Context(name) => Some(name.clone()),
            Chosen::Nothing => Some(config.current.clone().unwrap_or_else(|| LOCAL.to_owned())),
        }
    }

    /// The address that a flag or the environment gives.
    pub(crate) fn given_address(&self) -> Option<ServerAddress> {
        match &self.chosen {
            Chosen::Address(address) => Some(address.clone()),
            _ => None,
        }
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> Result<ServerAddress, Failure> {
        self.remote()?.map_or_else(|| self.local_address(), |remote| Ok(remote.server))
    }

    /// A client of the server; that of this machine is started if there is none.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let client = match self.remote()? {
            Some(remote) => Client::connect(endpoint(&remote)?).await?,
            None => match Client::connect(self.local_address()?).await {
                Err(Error::Unreachable { .. }) => autostart::start(&self.data_dir()?, self.terminal).await?,
                client => client?,
            },
        };
        Ok(self.waiting(client))
    }

    /// Waits for a database that is away, and says so.
    fn waiting(&self, client: Client) -> Client {
        let terminal = self.terminal;
        client.waiting(PATIENCE, move |notice| match notice {
            Notice::Stale { seconds } => terminal.say(&format!(
                "warning: the database does not answer; what is shown of fleets and agents may be {seconds} s old"
            )),
            Notice::Waiting { patience } => terminal.say(&format!(
                "the database does not answer; trying again for up to {} s (Ctrl-C ends it)",
                patience.as_secs()
            )),
        })
    }

    /// A client of the server, or `None` if there is none. Never starts one.
    pub(crate) async fn connect_if_running(&self) -> Result<Option<Client>, Failure> {
        let endpoint = match self.remote()? {
            Some(remote) => endpoint(&remote)?,
            None => self.local_address()?.into(),
        };
        match Client::connect(endpoint).await {
            Err(Error::Unreachable { .. }) => Ok(None),
            client => Ok(Some(self.waiting(client?))),
        }
    }

    fn local_address(&self) -> Result<ServerAddress, Failure> {
        Ok(ServerAddress::Unix(self.data_dir()?.socket()))
    }

    /// The server that was named or is in use; none for that of this machine's data directory.
    fn remote(&self) -> Result<Option<Remote>, Failure> {
        if let Chosen::Context(name) = &self.chosen
            && name == LOCAL
        {
            return Ok(None);
        }
        let config = match &self.chosen {
            Chosen::Address(address @ ServerAddress::Unix(_)) => {
                return Ok(Some(Remote::new(address.clone())));
            }
            _ => Config::load()?,
        };
        match (self.name(&config), &self.chosen) {
            (Some(name), _) if name == LOCAL => Ok(None),
            (Some(name), _) => config.remote(&name).map(|remote| Some(remote.clone())),
            (None, Chosen::Address(address)) => Ok(Some(Remote::new(address.clone()))),
            (None, _) => Ok(None),
        }
    }
}

/// What is known of a server, or what the environment says instead.
fn endpoint(remote: &Remote) -> Result<Endpoint, Failure> {
    let mut remote = remote.clone();
    if let Some(text) = from_environment(FINGERPRINT) {
        let text = text.to_string_lossy();
        let wrong = |error| Failure::Usage(format!("{FINGERPRINT} is wrong: {error}"));
        (remote.fingerprint, remote.ca) = (Some(text.parse().map_err(wrong)?), None);
    } else if let Some(path) = from_environment(CA_FILE) {
        (remote.fingerprint, remote.ca) = (None, Some(path.into()));
    }
    let token = match (from_environment(TOKEN), from_environment(TOKEN_FILE)) {
        (Some(token), _) => Token::new(&token.to_string_lossy())?,
        (None, Some(file)) => read_token(Path::new(&file))?,
        (None, None) => return remote.endpoint(),
    };
    Ok(Endpoint { token: Some(token), ..remote.endpoint_without_token() })
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
