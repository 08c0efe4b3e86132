//! Commands that need nothing but the binary: `schema`, `version`, `completion`.

use clap::CommandFactory;
use serde::Serialize;

use crate::args::{Cli, Completion, Version};
use crate::failure::{Exit, Failure};
use crate::output;

#[derive(Serialize)]
struct VersionInfo {
    version: &'static str,
}

pub(crate) fn schema() -> Result<Exit, Failure> {
    output::data(&output::json(&chassis_spec::schema())?)?;
    Ok(Exit::Done)
}

pub(crate) fn version(version: &Version) -> Result<Exit, Failure> {
    let info = VersionInfo { version: env!("CARGO_PKG_VERSION") };
    let names = || vec![info.version.to_owned()];
    output::print(version.output.output, &info, names, |_| format!("chassis {}\n", info.version))?;
    Ok(Exit::Done)
}

pub(crate) fn completion(completion: &Completion) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completion.shell, &mut Cli::command(), "chassis", &mut script);
    output::data_on_stdout(&script)?;
    Ok(Exit::Done)
}
