//! Values on the command line that are more than a string.

use std::net::IpAddr;

use chassis_server::{Capacity, DOWNLOAD_MOST};
use chassis_spec::{Bytes, Cpu};
use jiff::{SignedDuration, Timestamp};

use crate::args::Forwarding;

/// Servers ask a node every 5 s, and one of them may be late.
const ALONE_LEAST: SignedDuration = SignedDuration::from_secs(10);

/// `5m`, `1h30m`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<SignedDuration, String> {
    let parsed = match text.parse::<u32>() {
        Ok(seconds) => Some(SignedDuration::from_secs(seconds.into())),
        Err(_) => text.parse::<SignedDuration>().ok(),
    };
    parsed.filter(|duration| !duration.is_negative()).ok_or_else(|| "write 30s, 5m or 1h30m".to_owned())
}

/// As [`duration`], and not nothing.
pub(crate) fn some_time(text: &str) -> Result<SignedDuration, String> {
    duration(text)
        .and_then(|time| if time.is_zero() { Err("that is no time at all".to_owned()) } else { Ok(time) })
}

/// How long no server is heard until a node goes on by itself: longer than a healthy one is silent.
pub(crate) fn alone(text: &str) -> Result<SignedDuration, String> {
    duration(text).and_then(|time| {
        if time < ALONE_LEAST {
            Err("write 10s or more: a server asks every 5s, and one that is late once is not gone".to_owned())
        } else {
            Ok(time)
        }
    })
}

/// Seconds of a startup script: an environment is answered for within a minute.
pub(crate) fn startup(text: &str) -> Result<u32, String> {
    let time = some_time(text)?;
    u32::try_from(time.as_secs()).ok().filter(|seconds| (1..=55).contains(seconds)).ok_or_else(|| {
        "write 1s to 55s: whoever asks for an environment waits for its answer, and it is given within a minute".to_owned()
    })
}

/// The size of what is fetched.
pub(crate) fn download(text: &str) -> Result<Bytes, String> {
    let size: Bytes = text.parse().map_err(|error: chassis_spec::InvalidValue| error.to_string())?;
    if (1..=DOWNLOAD_MOST).contains(&size.0) { Ok(size) } else { Err("write 1 to 64Mi".to_owned()) }
}

/// As [`duration`], or in days or weeks: `90d`, `2w`.
pub(crate) fn days(text: &str) -> Result<SignedDuration, String> {
    let wrong = || "write 90d, 2w, 12h or 30m".to_owned();
    let in_days =
        text.strip_suffix('d').map(|count| (count, 1)).or_else(|| Some((text.strip_suffix('w')?, 7)));
    let Some((count, days)) = in_days else { return duration(text).map_err(|_| wrong()) };
    let count: u32 = count.parse().map_err(|_| wrong())?;
    Ok(SignedDuration::from_hours(24 * days * i64::from(count)))
}

/// As [`days`], of what is not to be gone at once by a slip.
pub(crate) fn days_at_least_one(text: &str) -> Result<SignedDuration, String> {
    let kept = days(text)?;
    if kept < SignedDuration::from_hours(24) { Err("write at least 1d".to_owned()) } else { Ok(kept) }
}

/// A time, or how long ago it was.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago = duration(text).map_err(|_| "write 10m, 1h30m or 2026-11-22T12:00:00Z".to_owned())?;
    Timestamp::now().checked_sub(ago).map_err(|_| "that is before all time".to_owned())
}

/// A row of the audit log and its hash, as `audit-log verify` prints its end.
pub(crate) fn audit_head(text: &str) -> Result<String, String> {
    let is_head = text.split_once(':').is_some_and(|(id, hash)| {
        id.parse::<u64>().is_ok() && !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if is_head { Ok(text.to_owned()) } else { Err("write it as it was printed, like 17:3f…".to_owned()) }
}

/// `cpus=8,memory=16Gi,disk=100Gi,slots=200`, or some of these.
pub(crate) fn capacity(text: &str) -> Result<Capacity, String> {
    let mut capacity = Capacity::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = || format!("`{part}` is none of cpus=8, memory=16Gi, disk=100Gi, slots=200");
        let (what, amount) = part.split_once('=').ok_or_else(wrong)?;
        let bytes = || amount.parse::<Bytes>().map(|bytes| bytes.0).map_err(|error| error.to_string());
        match what {
            "cpus" => {
                let cores = amount.parse::<Cpu>().map_err(|error| error.to_string())?;
                capacity.cpu_millis = Some(cores.0.into());
            }
            "memory" => capacity.memory_bytes = Some(bytes()?),
            "disk" => capacity.disk_bytes = Some(bytes()?),
            "slots" => capacity.slots = Some(amount.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        }
    }
    Ok(capacity)
}

/// `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write key=value".to_owned()),
    }
}

/// `NAME=VALUE`, or the name of a variable of this process.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("write NAME=VALUE".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err(format!("there is no variable {text} here to pass on; write {text}=VALUE")),
        },
    }
}

/// `[[ADDRESS:]LOCAL:]REMOTE`; an IPv6 address is written in brackets.
pub(crate) fn forwarding(text: &str) -> Result<Forwarding, String> {
    let wrong = || "write 8080:80, 8080, :80 or 127.0.0.1:8080:80".to_owned();
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (rest, remote) = match text.rsplit_once(':') {
        Some((rest, remote)) => (rest, port(remote)?),
        None => return Ok(Forwarding { address: None, local: port(text)?, remote: port(text)? }),
    };
    let (address, local) = match rest.rsplit_once(':') {
        Some((address, local)) => (Some(address), local),
        None => (None, rest),
    };
    let address = match address {
        None => None,
        Some("localhost") => Some(IpAddr::from([127, 0, 0, 1])),
        Some(address) => Some(address.trim_matches(['[', ']']).parse().map_err(|_| wrong())?),
    };
    let local = if local.is_empty() { 0 } else { port(local)? };
    Ok(Forwarding { address, local, remote })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_not_alone_between_two_heartbeats() {
        assert_eq!(alone("10s"), Ok(ALONE_LEAST));
        assert_eq!(alone("1m"), Ok(SignedDuration::from_mins(1)));
        assert!(alone("9s").is_err_and(|error| error.contains("10s or more")));
        assert!(alone("soon").is_err());
    }

    #[test]
    fn forwardings_are_read() {
        let read = |text| {
            forwarding(text).map(|found| (found.address.map(|ip| ip.to_string()), found.local, found.remote))
        };
        assert_eq!(read("8080:80"), Ok((None, 8080, 80)));
        assert_eq!(read("80"), Ok((None, 80, 80)));
        assert_eq!(read(":80"), Ok((None, 0, 80)));
        assert_eq!(read("127.0.0.2:8080:80"), Ok((Some("127.0.0.2".to_owned()), 8080, 80)));
        assert_eq!(read("[::1]:8080:80"), Ok((Some("::1".to_owned()), 8080, 80)));
        assert_eq!(read("localhost::80"), Ok((Some("127.0.0.1".to_owned()), 0, 80)));
        for wrong in ["", ":", "80:", "0", "x:80", "70000", "1.2.3:80:80", "80:80:80:80"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
