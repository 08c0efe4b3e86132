//! Settings by which Fuse's orchestrator is started: they mean the same to `chassis serve`, where it has none of its own.
//!
//! | Fuse's | chassis's, which wins |
//! |---|---|
//! | `ORCH_LISTEN`, with or without an address | `--listen`, `CHASSIS_LISTEN` |
//! | `ORCH_TLS_CERT`, `ORCH_TLS_KEY` | `--tls-cert`, `--tls-key` |
//! | `ORCH_ALLOWED_CIDRS`, with commas between | `--allow-from`, `CHASSIS_ALLOW_FROM` |
//! | `ORCH_AUTH_TOKEN` | `--master-token-file`, `CHASSIS_MASTER_TOKEN` |
//! | `ORCH_VM_PREFIX`, `--vm-prefix` | the same |
//! | `DATABASE_URL`, `TOKEN_ENCRYPTION_KEY` | the same |

use std::net::{Ipv4Addr, SocketAddr};

use crate::args::Serve;
use crate::failure::Failure;

pub(crate) const AUTH_TOKEN: &str = "ORCH_AUTH_TOKEN";
const LISTEN: &str = "ORCH_LISTEN";
const TLS_CERT: &str = "ORCH_TLS_CERT";
const TLS_KEY: &str = "ORCH_TLS_KEY";
const ALLOWED_CIDRS: &str = "ORCH_ALLOWED_CIDRS";

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
    if serve.listen.tls_cert.is_none() {
        match (given(TLS_CERT), given(TLS_KEY)) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                serve.listen.tls_cert = Some(certificate.into());
                serve.listen.tls_key = Some(key.into());
            }
            _ => return Err(Failure::Usage(format!("{TLS_CERT} and {TLS_KEY} go together; give both"))),
        }
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
    use clap::Parser;

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
        assert_eq!(serve.listen.tls_cert.as_deref(), Some(std::path::Path::new("/c.pem")));
        assert_eq!(serve.allow_from.len(), 2);
        let own =
            ["--listen", "127.0.0.1:1", "--tls-cert", "/own", "--tls-key", "/k", "--allow-from", "::1/128"];
        let serve = filled(&own, &variables).unwrap();
        assert_eq!(serve.listen.addresses, [SocketAddr::from((Ipv4Addr::LOCALHOST, 1))]);
        assert_eq!(serve.listen.tls_cert.as_deref(), Some(std::path::Path::new("/own")));
        assert_eq!(serve.allow_from.len(), 1);
        for wrong in [[(LISTEN, "8080")], [(TLS_CERT, "/c.pem")], [(ALLOWED_CIDRS, "everybody")]] {
            assert!(matches!(filled(&[], &wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }
}
