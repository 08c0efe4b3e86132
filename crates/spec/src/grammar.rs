//! What each checked string may be. Every function gives the text's canonical form, or says what is allowed.

use std::borrow::Cow;

use crate::text::quoted;
use crate::value::InvalidValue;

type Checked<'t> = Result<Cow<'t, str>, InvalidValue>;

/// Lower-case letters, digits and hyphens, as a DNS label: it becomes part of container, network and directory names.
pub(crate) fn label<'t>(text: &'t str, what: &str) -> Checked<'t> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let valid = (1..=40).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    allow(valid, text, || {
        format!(
            "{} is not a valid {what}: use 1 to 40 lower-case letters, digits and hyphens, beginning and ending with a \
             letter or digit",
            quoted(text)
        )
    })
}

pub(crate) fn env_name(text: &str) -> Checked<'_> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let valid = (1..=256).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with(|c: char| c.is_ascii_digit());
    allow(valid, text, || {
        format!(
            "{} is not a name of an environment variable: use letters, digits and _, not beginning with a digit",
            quoted(text)
        )
    })
}

pub(crate) fn label_name(text: &str) -> Checked<'_> {
    if text.starts_with("chassis.") {
        return Err(InvalidValue(format!(
            "{} is the server's own: labels cannot begin with chassis.",
            quoted(text)
        )));
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let edge = |c: char| c.is_ascii_alphanumeric();
    let valid = (1..=128).contains(&text.len())
        && text.chars().all(inner)
        && text.starts_with(edge)
        && text.ends_with(edge);
    allow(valid, text, || {
        format!(
            "{} is not a label's name: use 1 to 128 letters, digits, and . _ - / between them",
            quoted(text)
        )
    })
}

pub(crate) fn label_value(text: &str) -> Checked<'_> {
    let valid = text.chars().count() <= 256 && !text.chars().any(char::is_control);
    allow(valid, text, || {
        format!("{} is not a label's value: use at most 256 characters on one line", quoted(text))
    })
}

pub(crate) fn absolute_path<'t>(text: &'t str, what: &str) -> Checked<'t> {
    let valid = text == "/" || text.strip_prefix('/').is_some_and(is_normal);
    allow(valid, text, || {
        format!(
            "{} is not a {what}: begin with / and leave out `.`, `..`, // and a slash at the end",
            quoted(text)
        )
    })
}

pub(crate) fn relative_path(text: &str) -> Checked<'_> {
    allow(is_normal(text), text, || {
        format!(
            "{} is not a path below a volume: leave out `.`, `..`, // and slashes at the beginning and end",
            quoted(text)
        )
    })
}

/// As Docker names volumes. Those of instances are the server's: nobody mounts another's by its name.
pub(crate) fn docker_volume(text: &str) -> Checked<'_> {
    if text.starts_with("chassis-") {
        return Err(InvalidValue(format!("{} is an instance's own volume; name another one", quoted(text))));
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let valid = (2..=200).contains(&text.len())
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    allow(valid, text, || {
        format!("{} is not a name of a Docker volume: use letters, digits, `_`, `.` and `-`", quoted(text))
    })
}

/// Nothing that could be taken for another mount option.
pub(crate) fn nfs_server(text: &str) -> Checked<'_> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-');
    let valid = (1..=253).contains(&text.len()) && text.chars().all(inner) && !text.starts_with(['-', '.']);
    allow(valid, text, || format!("{} is not the name or address of a server", quoted(text)))
}

pub(crate) fn nfs_path(text: &str) -> Checked<'_> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((_, behind)) = after
            .split_once('}')
            .filter(|(name, _)| matches!(*name, "fleet" | "agent" | "number" | "instance"))
        else {
            return Err(InvalidValue(format!(
                "{} has a brace that stands for nothing: write {{fleet}}, {{agent}}, {{number}} or {{instance}}",
                quoted(text)
            )));
        };
        rest = behind;
    }
    absolute_path(text, "path on an NFS server")
}

/// Options that change what is mounted, or where, would reach the host's own files.
pub(crate) fn nfs_options(text: &str) -> Checked<'_> {
    const OURS: [&str; 7] = ["bind", "rbind", "move", "remount", "addr", "dev", "suid"];
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '=' | '.' | ':' | '/' | '-');
    for option in text.split(',') {
        let name = option.split('=').next().unwrap_or_default();
        if option.is_empty() || !option.chars().all(inner) || OURS.contains(&name) {
            return Err(InvalidValue(format!(
                "{} is not an option of an NFS mount that may be set; write such as nfsvers=4.2,soft",
                quoted(option)
            )));
        }
    }
    allow(text.len() < 1024, text, || "these are too many options".to_owned())
}

/// Whether a path without its leading slash says where it goes and nothing else.
fn is_normal(path: &str) -> bool {
    path.len() < 4096
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255)
}

/// A user and perhaps a group, each a number or a name as `useradd` takes it.
pub(crate) fn user(text: &str) -> Checked<'_> {
    let part = |part: &str| {
        let name = (1..=32).contains(&part.len())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            && !part.starts_with('-');
        let number = part.bytes().all(|b| b.is_ascii_digit());
        // The kernel reads the highest id as "leave unchanged".
        name && (!number || part.parse::<u32>().is_ok_and(|id| id < u32::MAX))
    };
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    allow(part(user) && part(group), text, || {
        format!("{} is not a user: write 1000, 1000:1000, app or app:app", quoted(text))
    })
}

/// The names of Linux's signals, by number from 1 on.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

pub(crate) fn signal(text: &str) -> Checked<'_> {
    let upper = text.to_ascii_uppercase();
    let by_name = |name: &&&str| **name == upper || name.strip_prefix("SIG") == Some(upper.as_str());
    let found = match text.parse::<usize>() {
        Ok(number) => number.checked_sub(1).and_then(|index| SIGNALS.get(index)),
        Err(_) => SIGNALS.iter().find(by_name),
    };
    found
        .map(|name| Cow::Borrowed(*name))
        .ok_or_else(|| InvalidValue(format!("{} is not a signal: write SIGTERM, TERM or 15", quoted(text))))
}

const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

pub(crate) fn capability(text: &str) -> Checked<'_> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == crate::Capability::ALL {
        return Ok(Cow::Borrowed(crate::Capability::ALL));
    }
    CAPABILITIES.iter().find(|known| **known == name).map(|known| Cow::Borrowed(*known)).ok_or_else(|| {
        let hint = match crate::suggest::closest(name, &CAPABILITIES) {
            Some(near) => format!("did you mean {near}?"),
            None => "name each one, such as NET_BIND_SERVICE".to_owned(),
        };
        InvalidValue(format!("{} is not a Linux capability: {hint}", quoted(text)))
    })
}

/// Docker takes options as `apparmor=<name>`; AppArmor's own names are paths, or words with namespaces before them.
pub(crate) fn app_armor(text: &str) -> Checked<'_> {
    allow(
        is_word(text, "._/:@+-") || text.strip_prefix('/').is_some_and(|rest| is_word(rest, "._/:@+-")),
        text,
        || {
            format!(
                "{} is not a name of an AppArmor profile: `aa-status` shows those that are loaded",
                quoted(text)
            )
        },
    )
}

/// A file's name without its directory and without `.json`: profiles lie in one directory, which is the server's.
pub(crate) fn seccomp(text: &str) -> Checked<'_> {
    allow(is_word(text, "._-"), text, || {
        format!(
            "{} is not a name of a seccomp profile: write NAME for NAME.json in the server's directory of profiles",
            quoted(text)
        )
    })
}

pub(crate) fn se_linux(text: &str) -> Checked<'_> {
    allow(is_word(text, "._:,-"), text, || {
        format!("{} is not a part of an SELinux label, such as container_t or s0:c1,c2", quoted(text))
    })
}

/// 1 to 128 letters, digits and `others`, beginning with a letter or digit.
fn is_word(text: &str, others: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// The grammar of distribution/reference: `[domain[:port]/]path[:tag][@algorithm:hex]`.
pub(crate) fn image(text: &str) -> Checked<'_> {
    let wrong = |why: &str| InvalidValue(format!("{} is not an image: {why}", quoted(text)));
    if text.is_empty() {
        return Err(InvalidValue("an image is missing here: write one as `docker pull` takes it".to_owned()));
    }
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err(wrong("after @ comes sha256: and 64 hex digits"));
    }
    let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[name_end..].find(':') {
        Some(colon) => (&rest[..name_end + colon], Some(&rest[name_end + colon + 1..])),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(wrong(
            "a tag is up to 128 letters, digits, _ . and -, beginning with a letter, digit or _",
        ));
    }
    let path = match name.split_once('/') {
        Some((first, path)) if is_domain_like(first) => {
            if !is_domain(first) {
                return Err(wrong("the part before the first slash is not a host name and port"));
            }
            path
        }
        _ => name,
    };
    if name.len() > 255 {
        return Err(wrong("a name has at most 255 characters"));
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(wrong("a name has no upper-case letters"));
    }
    allow(path.split('/').all(is_path_part), text, || {
        wrong("a name is lower-case letters and digits, with . _ __ - or / between them").0
    })
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=128).contains(&tag.len())
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

/// The first part of a name is a registry, not a path, by the same signs as in Docker.
fn is_domain_like(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.chars().any(|c| c.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("localhost", port),
        _ => domain.find(':').map_or((domain, ""), |colon| domain.split_at(colon)),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label)
        && (port.is_empty()
            || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)))
}

/// Runs of lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_part(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(word)
        && part.ends_with(word)
        && part
            .split(word)
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

fn allow(valid: bool, text: &str, wrong: impl FnOnce() -> String) -> Checked<'_> {
    if valid { Ok(Cow::Borrowed(text)) } else { Err(InvalidValue(wrong())) }
}
