//! Settings by which Fuse's orchestrator is started: they mean the same to `chassis serve`, where it has none of its own.
//!
//! `docs/environments.md` has a table of all of them, which a test here compares with the list of what Fuse knows: each is
//! taken here, or is a flag or variable of chassis's that has the same name, or is said to have no effect and why.

use std::net::{Ipv4Addr, SocketAddr};

use crate::args::Serve;
use crate::failure::Failure;
use crate::parse;

pub(crate) const AUTH_TOKEN: &str = "ORCH_AUTH_TOKEN";
const LISTEN: &str = "ORCH_LISTEN";
const TLS_CERT: &str = "ORCH_TLS_CERT";
const TLS_KEY: &str = "ORCH_TLS_KEY";
const ALLOWED_CIDRS: &str = "ORCH_ALLOWED_CIDRS";
const SHUTDOWN_TIMEOUT: &str = "ORCH_SHUTDOWN_TIMEOUT_SECONDS";
/// The second is what the first was called once.
const DOWNLOAD_URLS: [&str; 2] = ["AGENT_DOWNLOAD_URL", "SURFD_DOWNLOAD_URL"];

/// What does nothing here, and why.
const WITHOUT_EFFECT: [(&str, &str); 6] = [
    ("FIRECRACKER_BASE_URL", NODES),
    ("FIRECRACKER_TOKEN", NODES),
    ("SURF_PROVIDER", NODES),
    ("ORCH_ARTIFACT_PULL_TIMEOUT_SECONDS", ARTIFACTS),
    ("ORCH_ARTIFACT_IDLE_TTL_SECONDS", ARTIFACTS),
    ("ORCH_ARTIFACT_MAX_PER_TENANT", ARTIFACTS),
];
const NODES: &str = "what runs environments is chosen with --runtime";
const ARTIFACTS: &str = "there are no layers that one host fetches from another";

/// Fills in what was not given in chassis's own words. `own_blocks`: addresses are restricted by a variable of its own.
pub(crate) fn fill(
    serve: &mut Serve,
    own_blocks: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), Failure> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    if serve.listen.addresses.is_empty()
        && let Some(address) = given(LISTEN)
    {
        serve.listen.addresses.push(listen(&address)?);
    }
    if serve.listen.tls.cert.is_none() {
        match (given(TLS_CERT), given(TLS_KEY)) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                serve.listen.tls.cert = Some(certificate.into());
                serve.listen.tls.key = Some(key.into());
            }
            _ => return Err(Failure::Usage(format!("{TLS_CERT} and {TLS_KEY} go together; give both"))),
        }
    }
    if serve.shutdown_timeout.is_none()
        && let Some(seconds) = given(SHUTDOWN_TIMEOUT)
    {
        let time = parse::some_time(&seconds);
        let wrong = |error| Failure::Usage(format!("{SHUTDOWN_TIMEOUT}: {error}"));
        serve.shutdown_timeout = Some(time.map_err(wrong)?);
    }
    let environments = &mut serve.environments;
    if environments.agent_download_url.is_none()
        && let Some((name, url)) = DOWNLOAD_URLS.iter().find_map(|name| Some((name, given(name)?)))
    {
        if environments.agent_download_sha256.is_none() {
            return Err(Failure::Usage(format!(
                "{name} needs AGENT_DOWNLOAD_SHA256 too: nothing is fetched whose checksum nobody knows; `sha256sum FILE` \
                 prints it"
            )));
        }
        environments.agent_download_url = Some(url);
    }
    if serve.allow_from.is_empty() && !own_blocks {
        let blocks = given(ALLOWED_CIDRS).unwrap_or_default();
        for block in blocks.split(',').map(str::trim).filter(|block| !block.is_empty()) {
            let wrong = |error| Failure::Usage(format!("{ALLOWED_CIDRS}: {error}"));
            serve.allow_from.push(block.parse().map_err(wrong)?);
        }
    }
    Ok(())
}

/// A line for each variable that is set and does nothing.
pub(crate) fn without_effect(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let set = WITHOUT_EFFECT.iter().filter(|(name, _)| is_set(name));
    set.map(|(name, why)| format!("{name} has no effect: {why}")).collect()
}

/// `:8080` is every address of this machine.
fn listen(text: &str) -> Result<SocketAddr, Failure> {
    let port = text.strip_prefix(':').and_then(|port| port.parse().ok());
    let every = port.map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    every.or_else(|| text.parse().ok()).ok_or_else(|| {
        Failure::Usage(format!("{LISTEN}: `{text}` is no address; write :8080 or 127.0.0.1:8080"))
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    fn filled(flags: &[&str], variables: &[(&str, &str)]) -> Result<Serve, Failure> {
        let mut serve = Line::parse_from([&["serve"], flags].concat()).serve;
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        fill(&mut serve, false, |name| find(name).map(|(_, value)| (*value).to_owned()))?;
        Ok(serve)
    }

    #[test]
    fn they_count_where_chassis_has_none() {
        let variables = [
            (LISTEN, ":8080"),
            (TLS_CERT, "/c.pem"),
            (TLS_KEY, "/k.pem"),
            (ALLOWED_CIDRS, "10.0.0.0/8, 127.0.0.1/32"),
        ];
        let serve = filled(&[], &variables).unwrap();
        assert_eq!(serve.listen.addresses, [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080))]);
        assert_eq!(serve.listen.tls.cert.as_deref(), Some(std::path::Path::new("/c.pem")));
        assert_eq!(serve.allow_from.len(), 2);
        let own =
            ["--listen", "127.0.0.1:1", "--tls-cert", "/own", "--tls-key", "/k", "--allow-from", "::1/128"];
        let serve = filled(&own, &variables).unwrap();
        assert_eq!(serve.listen.addresses, [SocketAddr::from((Ipv4Addr::LOCALHOST, 1))]);
        assert_eq!(serve.listen.tls.cert.as_deref(), Some(std::path::Path::new("/own")));
        assert_eq!(serve.allow_from.len(), 1);
        let sha256 = "0".repeat(64);
        let variables = [(SHUTDOWN_TIMEOUT, "12"), ("SURFD_DOWNLOAD_URL", "https://h/old")];
        let flags = ["--agent-download-sha256", &sha256];
        let serve = filled(&flags, &variables).unwrap();
        assert_eq!(serve.shutdown_timeout, Some(jiff::SignedDuration::from_secs(12)));
        assert_eq!(serve.environments.agent_download_url.as_deref(), Some("https://h/old"));
        let own =
            [&flags[..], &["--agent-download-url", "https://h/own", "--shutdown-timeout", "1s"]].concat();
        let serve = filled(&own, &variables).unwrap();
        assert_eq!(serve.shutdown_timeout, Some(jiff::SignedDuration::from_secs(1)));
        assert_eq!(serve.environments.agent_download_url.as_deref(), Some("https://h/own"));
        assert!(matches!(filled(&[], &variables[1..]), Err(Failure::Usage(_))), "there is no checksum");
        let told = without_effect(|name| (name == "FIRECRACKER_TOKEN").then(|| "needle".to_owned()));
        assert!(told.len() == 1 && told[0].contains("FIRECRACKER_TOKEN") && !told[0].contains("needle"));
        for wrong in [[(LISTEN, "8080")], [(TLS_CERT, "/c.pem")], [(ALLOWED_CIDRS, "everybody")]] {
            assert!(matches!(filled(&[], &wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }

    /// Fuse's flags and variables, as its own documentation and command line have them.
    const OF_FUSE: &str = "--listen ORCH_LISTEN --vm-prefix ORCH_VM_PREFIX --firecracker-url FIRECRACKER_BASE_URL \
        --firecracker-token FIRECRACKER_TOKEN --database-url DATABASE_URL TOKEN_ENCRYPTION_KEY SURF_PROVIDER \
        AGENT_DOWNLOAD_URL SURFD_DOWNLOAD_URL --tls-cert ORCH_TLS_CERT --tls-key ORCH_TLS_KEY --auth-token ORCH_AUTH_TOKEN \
        --allowed-cidrs ORCH_ALLOWED_CIDRS --secure-cookies ORCH_SECURE_COOKIES ORCH_REQUIRE_AUTH --shutdown-timeout \
        ORCH_SHUTDOWN_TIMEOUT_SECONDS --read-header-timeout --write-timeout --idle-timeout --max-header-bytes \
        --startup-script-timeout --max-startup-script-timeout --artifact-pull-timeout ORCH_ARTIFACT_PULL_TIMEOUT_SECONDS \
        --artifact-idle-ttl ORCH_ARTIFACT_IDLE_TTL_SECONDS --artifact-max-per-tenant ORCH_ARTIFACT_MAX_PER_TENANT \
        --version";

    /// Each has a row, and a flag that the row says is there is there.
    #[test]
    fn every_setting_of_fuse_is_in_the_table() {
        let page = include_str!("../../../../docs/environments.md");
        let rows: Vec<(&str, &str)> =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | ")).collect();
        let flags: Vec<String> = Line::command()
            .get_arguments()
            .flat_map(|flag| flag.get_long_and_visible_aliases().unwrap_or_default())
            .map(|name| format!("--{name}"))
            .collect();
        for name in OF_FUSE.split_whitespace() {
            let quoted = format!("{name}`");
            let row = rows
                .iter()
                .find(|(settings, _)| settings.split('`').any(|part| format!("{part}`") == quoted));
            let (_, meaning) = row.unwrap_or_else(|| panic!("{name} is not in docs/environments.md"));
            if name.starts_with("--") && name != "--version" {
                let is_there = flags.iter().any(|flag| flag == name);
                assert_eq!(is_there, !meaning.starts_with("no flag"), "{name}: {meaning}");
            }
        }
    }
}
