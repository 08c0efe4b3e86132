//! chassis-init: PID 1 of every instance, in any image.
//!
//! It makes sure that the sandbox is the instance's own, that no other run of it is alive ([`chassis_init::turn`]), that one
//! which may run elsewhere may run here ([`chassis_init::lease`]), and that its volumes can be written, takes secrets, files and a startup script from its standard input, starts the agent,
//! forwards signals, reaps orphans, and ends as the agent ended. It needs nothing of the image: no shell (but for a startup
//! script), no libc, no `/etc`, no `/tmp`. Called with a helper's name instead ([`helper`]) it does that work beside the agent.

mod agent;
mod arguments;
mod check;
mod given;
mod helper;
mod prepare;
mod right;
mod signals;

use std::io::Write;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::arguments::Arguments;
use crate::right::Right;
use crate::signals::Ended;

/// Why init ends without the agent having run.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The sandbox is not as it must be.
    fn misconfigured(message: String) -> Failure {
        Failure { code: chassis_init::EXIT_MISCONFIGURED, message }
    }
}

fn main() -> ExitCode {
    run().unwrap_or_else(|failure| {
        report(&failure.message);
        ExitCode::from(failure.code)
    })
}

fn run() -> Result<ExitCode, Failure> {
    let mut given = std::env::args_os().skip(1).peekable();
    let name = given.peek().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if let Some(done) = helper::run(&name, std::env::args_os().skip(2)) {
        return done;
    }
    let arguments = Arguments::parse(given).map_err(Failure::misconfigured)?;
    // Blocked before anything else: a signal that comes early waits for the agent instead of being lost.
    let signals = signals::Blocked::new();
    // The agent has init's user: without this it could read the secrets out of init's memory.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    limit_files(arguments.files);
    check::identity(&arguments.instance)?;
    let mut right = Right::take(check::turn()?, arguments.leased)?;
    for volume in &arguments.volumes {
        check::writable(volume)?;
    }
    if arguments.given {
        prepare::begin();
    }
    let given = if arguments.given { Some(given::receive()?) } else { None };
    let variables = agent::variables_all(&arguments.instance, given.as_ref());
    if let Some(given) = &given {
        prepare::files_write(given)?;
        prepare::startup_run(given, &variables, signals, &mut right)?;
    }
    drop(given);
    prepare::end();
    let agent = agent::spawn(&arguments, &variables, signals)?;
    drop(variables);
    Ok(ExitCode::from(match signals.supervise(&agent, &mut right, None) {
        Ended::Itself(code) => code,
        Ended::Unleased => chassis_init::EXIT_UNLEASED,
        Ended::GaveWay | Ended::TooLate => chassis_init::EXIT_KILLED,
    }))
}

/// Lowers the number of open files to what the spec allows. Docker could do it, but fails where its daemon may open fewer
/// than that; here less than allowed is no error.
fn limit_files(most: u64) {
    let given = getrlimit(Resource::Nofile);
    let limit = Some(given.maximum.map_or(most, |maximum| maximum.min(most)));
    // Lowering is always permitted.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit });
}

/// Tells the person who reads the agent's log.
fn report(message: &str) {
    let _ = writeln!(std::io::stderr(), "chassis-init: {message}");
}
