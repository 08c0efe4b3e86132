//! Checks of the server that has the data directory.

use std::fs;
use std::path::Path;

use super::facts::Facts;
use super::{Check, Finding};
use crate::output::count;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "server", look: server },
    Check { name: "server-version", look: version },
    Check { name: "server-runtime", look: runtime },
    Check { name: "server-files", look: open_files },
    Check { name: "systemd", look: systemd },
    Check { name: "leftovers", look: leftovers },
];

const NO_SERVER: &str = "no server runs";
const UNIT: &str = "chassis.service";
const UNIT_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

fn server(facts: &Facts) -> Finding {
    match (&facts.server, &facts.holder) {
        (Ok(Some(info)), _) => {
            let pid = info.pid.map(|pid| format!("pid {pid}, ")).unwrap_or_default();
            Finding::ok(format!("{pid}up since {:.0}", info.started_at))
        }
        (Ok(None), None) => Finding::ok(format!("{NO_SERVER}; a command that needs one starts it")),
        (Ok(None), Some(pid)) => Finding::problem(
            format!(
                "process {pid} holds {}, and does not listen at its socket",
                facts.data_dir.root().display()
            ),
            format!("give it a moment if it has just started; else `kill {pid}`: agents go on running"),
        ),
        (Err(error), _) => Finding::problem(
            error.clone(),
            format!(
                "look into its log, {} or `journalctl -u chassis`; then `chassis server stop`, or `kill` it: agents go on running",
                facts.data_dir.log().display()
            ),
        ),
    }
}

fn version(facts: &Facts) -> Finding {
    let Ok(Some(info)) = &facts.server else { return Finding::skipped(NO_SERVER) };
    let own = env!("CARGO_PKG_VERSION");
    if info.version == own {
        return Finding::ok(format!("{own}, as this command"));
    }
    Finding::warning(
        format!("the server is {}, and this command {own}", info.version),
        "restart the server with the newer binary: `sudo systemctl restart chassis`, or `chassis server stop`; agents go on running",
    )
}

fn runtime(facts: &Facts) -> Finding {
    let Ok(Some(info)) = &facts.server else { return Finding::skipped(NO_SERVER) };
    match (&info.runtime_error, &info.runtime_version) {
        (Some(error), _) => Finding::problem(
            format!("{}: {error}", info.runtime),
            "the server tries again by itself; if Docker answers above, compare its DOCKER_HOST with yours",
        ),
        (None, Some(version)) => Finding::ok(format!("{} {version}", info.runtime)),
        (None, None) => Finding::warning("the server has not looked yet", "ask again in a moment"),
    }
}

fn open_files(facts: &Facts) -> Finding {
    let Ok(Some(info)) = &facts.server else { return Finding::skipped(NO_SERVER) };
    let process = format!("/proc/{}", info.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()));
    let limit = fs::read_to_string(format!("{process}/limits")).ok().and_then(|limits| {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    });
    let open = fs::read_dir(format!("{process}/fd")).map(Iterator::count);
    let (Some(limit), Ok(open)) = (limit, open) else {
        return Finding::skipped("it runs elsewhere, or as a user whom this one may not look at");
    };
    let found = format!("{open} of {limit} files open");
    if open > limit / 2 {
        return Finding::warning(
            found,
            "raise it: `LimitNOFILE=65536` in `systemctl edit chassis`, or `ulimit -n 65536` before the server is started",
        );
    }
    Finding::ok(found)
}

fn systemd(facts: &Facts) -> Finding {
    if !Path::new("/run/systemd/system").exists() {
        return Finding::skipped(
            "this machine does not run systemd; let its own start `chassis serve` with the machine",
        );
    }
    if facts.data_dir.root() != Path::new("/var/chassis") {
        return Finding::skipped(
            "the unit is for /var/chassis; see to it that `chassis serve` is started with the machine",
        );
    }
    if !UNIT_DIRECTORIES.iter().any(|directory| Path::new(directory).join(UNIT).exists()) {
        return Finding::warning(
            "no unit: after a restart of the machine agents come back with the next command, not before",
            "`sudo make install`, then `sudo systemctl daemon-reload && sudo systemctl enable --now chassis`",
        );
    }
    if !Path::new("/etc/systemd/system/multi-user.target.wants").join(UNIT).is_symlink() {
        return Finding::warning(
            "the unit is not enabled: after a restart of the machine agents come back with the next command, not before",
            "`sudo systemctl enable --now chassis`",
        );
    }
    Finding::ok("the unit is enabled")
}

fn leftovers(facts: &Facts) -> Finding {
    let Some(leftovers) = &facts.leftovers else {
        return Finding::skipped("needs a server that runs, and its Docker");
    };
    if leftovers.is_empty() {
        return Finding::ok("every container of this server's belongs to an instance");
    }
    Finding::warning(
        format!(
            "{} of this server's without an instance: {}",
            count(leftovers.len() as u64, "container"),
            leftovers.join(", ")
        ),
        format!(
            "wait a moment if something is being deployed or deleted; else `docker rm -f {}`",
            leftovers.join(" ")
        ),
    )
}
