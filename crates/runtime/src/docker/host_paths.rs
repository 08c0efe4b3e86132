//! Which paths of the host an agent may see: those that the server's configuration allows, after links were followed.
//!
//! What holds the host itself together (its system's files, its devices and sockets, Docker's and this server's own
//! state) is not opened by allowing a directory around it: it takes an entry of its own.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use chassis_spec::{AgentSpec, HostPath};

use crate::{Error, Result};

/// What is below one of these, and what they are in, is sensitive too.
const SENSITIVE: [&str; 21] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/systemd",
    "/var/run",
    "/var/spool/at",
    "/var/spool/cron",
];

/// What the server allows, and what of it is sensitive on this machine.
#[derive(Debug)]
pub(crate) struct HostPaths {
    allowed: Vec<PathBuf>,
    sensitive: Vec<PathBuf>,
}

impl HostPaths {
    /// `own` are paths of this server's: its data directory, the socket of the daemon.
    pub(crate) fn new(allowed: Vec<PathBuf>, own: impl IntoIterator<Item = PathBuf>) -> HostPaths {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let sensitive = SENSITIVE.map(PathBuf::from).into_iter().chain(home).chain(own);
        HostPaths { allowed, sensitive: sensitive.flat_map(with_resolved).collect() }
    }

    /// Resolves the host paths that the spec asks for, and refuses what is not allowed. `docker_root` is where the
    /// daemon keeps its own state.
    pub(crate) fn resolve(&self, spec: &AgentSpec, docker_root: &Path) -> Result<HashMap<HostPath, PathBuf>> {
        let mut resolved = HashMap::new();
        for volume in &spec.volumes {
            let Some(path) = &volume.host_path else { continue };
            let found = self
                .resolve_one(Path::new(path.as_str()), docker_root)
                .map_err(|why| why.explain(&format!("`volumes.{}.hostPath: {path}`", volume.name)))?;
            resolved.insert(path.clone(), found);
        }
        Ok(resolved)
    }

    /// Makes sure that what was resolved earlier still is what it was: nobody put a link into its place.
    pub(crate) fn check_again(&self, resolved: &Path, docker_root: &Path) -> Result<()> {
        let name = format!("the path {} of the host", resolved.display());
        let found = self.resolve_one(resolved, docker_root).map_err(|why| why.explain(&name))?;
        if found == resolved {
            return Ok(());
        }
        Err(Error::rejected(format!(
            "{name} has become {}; deploy the agent again if that is meant",
            found.display()
        )))
    }

    /// Why a path is sensitive, whatever is allowed.
    pub(crate) fn why_sensitive(&self, path: &Path, docker_root: &Path) -> Option<String> {
        self.touches(path, docker_root, |_| true)
    }

    /// The first sensitive path that holds `path`, if that counts, or is held by it.
    fn touches(&self, path: &Path, docker_root: &Path, counts: impl Fn(&Path) -> bool) -> Option<String> {
        let docker_root = with_resolved(docker_root.to_owned());
        self.sensitive.iter().chain(&docker_root).find_map(|sensitive| {
            if path.starts_with(sensitive) && counts(sensitive) {
                Some(format!("is in {}", sensitive.display()))
            } else {
                sensitive.starts_with(path).then(|| format!("holds {}", sensitive.display()))
            }
        })
    }

    fn resolve_one(&self, path: &Path, docker_root: &Path) -> std::result::Result<PathBuf, Refused> {
        let resolved = fs::canonicalize(path).map_err(|error| Refused::NotThere { error })?;
        let shown =
            if resolved == path { String::new() } else { format!(", which is {},", resolved.display()) };
        let entries: Vec<PathBuf> =
            self.allowed.iter().filter_map(|entry| fs::canonicalize(entry).ok()).collect();
        if entries.contains(&resolved) {
            return Ok(resolved);
        }
        // The narrowest entry says most about what was meant.
        let entry = entries
            .iter()
            .filter(|entry| resolved.starts_with(entry))
            .max_by_key(|entry| entry.components().count());
        let Some(entry) = entry else { return Err(Refused::NotAllowed { shown, resolved }) };
        if let Some(why) = self.touches(&resolved, docker_root, |sensitive| !entry.starts_with(sensitive)) {
            return Err(Refused::Sensitive { shown, resolved, why });
        }
        let kind = fs::symlink_metadata(&resolved).map_err(|error| Refused::NotThere { error })?.file_type();
        if !kind.is_dir() && !kind.is_file() {
            let what = if kind.is_socket() { "a socket" } else { "a device or a pipe" };
            return Err(Refused::Sensitive { shown, resolved, why: format!("is {what}") });
        }
        Ok(resolved)
    }
}

enum Refused {
    NotThere { error: std::io::Error },
    NotAllowed { shown: String, resolved: PathBuf },
    Sensitive { shown: String, resolved: PathBuf, why: String },
}

impl Refused {
    fn explain(self, field: &str) -> Error {
        match self {
            Refused::NotThere { error } => {
                Error::rejected(format!("{field} cannot be mounted; make it first")).caused_by(error)
            }
            Refused::NotAllowed { shown, resolved } => Error::rejected(format!(
                "{field}{shown} is not allowed by this server; if agents may have it, start the server with \
                 --allow-host-path {}",
                resolved.display()
            )),
            Refused::Sensitive { shown, resolved, why } => Error::rejected(format!(
                "{field}{shown} is refused because it {why}; if agents may have it all the same, start the server with \
                 --allow-host-path {}, this very path",
                resolved.display()
            )),
        }
    }
}

/// A path, and what it is after links were followed if that is something else.
fn with_resolved(path: PathBuf) -> Vec<PathBuf> {
    if path.as_os_str().is_empty() {
        return Vec::new();
    }
    let resolved = fs::canonicalize(&path).ok().filter(|resolved| *resolved != path);
    std::iter::once(path).chain(resolved).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn outcome(allowed: &[&Path], own: &Path, path: &Path) -> std::result::Result<PathBuf, String> {
        let allowed = allowed.iter().map(|path| path.to_path_buf()).collect();
        let paths = HostPaths::new(allowed, [own.to_owned()]);
        paths
            .resolve_one(path, Path::new("/var/lib/docker"))
            .map_err(|why| why.explain("`volumes.v.hostPath`").to_string())
    }

    #[test]
    fn links_are_followed_and_the_sensitive_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(home.path()).unwrap();
        let at = |name: &str| root.join(name);
        for directory in ["shared/deep", "own/state"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("shared/file"), "").unwrap();
        for (link, target) in [
            ("to-etc", "/etc"),
            ("to-sub", "deep"),
            ("to-up", "../own"),
            ("to-proc", "/proc/1"),
            ("to-dev", "/dev/null"),
        ] {
            symlink(target, at("shared").join(link)).unwrap();
        }
        let _socket = UnixListener::bind(at("shared/docker.sock")).unwrap();
        let (shared, own) = (at("shared"), at("own/state"));
        let with = |allowed: &[&Path], path: &Path| outcome(allowed, &own, path);

        for allowed in ["shared", "shared/deep", "shared/file", "shared/to-sub"] {
            assert_eq!(
                with(&[&shared], &at(allowed)),
                Ok(fs::canonicalize(at(allowed)).unwrap()),
                "{allowed}"
            );
        }
        for (refused, why) in [
            ("shared/to-etc", "which is /etc, is not allowed"),
            ("shared/to-up", "is not allowed by this server"),
            ("shared/to-proc", "is not allowed by this server"),
            ("shared/to-dev", "is not allowed by this server"),
            ("shared/../own", "is not allowed by this server"),
            ("shared/docker.sock", "because it is a socket"),
            ("shared/none", "make it first"),
            ("own", "is not allowed by this server"),
        ] {
            let refusal = with(&[&shared], &at(refused)).unwrap_err();
            assert!(refusal.contains(why), "{refused}: {refusal}");
        }
        // Everything allowed is not the sensitive allowed.
        let everything = Path::new("/");
        for sensitive in [
            "/etc",
            "/etc/passwd",
            "/proc/self",
            "/sys/kernel",
            "/dev",
            "/dev/null",
            "/root",
            "/usr/bin",
            "/bin",
            "/run",
            "/var/run",
            "/var",
            "/var/lib",
        ] {
            let refusal = with(&[everything], Path::new(sensitive)).unwrap_err();
            assert!(refusal.contains("because it"), "{sensitive}: {refusal}");
        }
        assert!(with(&[everything], &at("own")).unwrap_err().contains("because it holds"));
        assert!(with(&[everything], &own).unwrap_err().contains("because it is in"));
        assert_eq!(with(&[everything], &shared), Ok(shared.clone()));
        // That very path is allowed, and then what is in it.
        for (allowed, path) in [("/etc", "/etc"), ("/etc", "/etc/passwd"), ("/", "/")] {
            assert!(with(&[Path::new(allowed)], Path::new(path)).is_ok(), "{path}");
        }
        let socket = at("shared/docker.sock");
        assert_eq!(with(&[&shared, &socket], &socket), Ok(socket.clone()));
    }

    #[test]
    fn a_link_in_the_place_of_what_was_resolved_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(home.path()).unwrap();
        let (shared, data) = (root.join("shared"), root.join("shared/data"));
        fs::create_dir_all(&data).unwrap();
        let paths = HostPaths::new(vec![shared.clone()], []);
        assert!(paths.check_again(&data, Path::new("/var/lib/docker")).is_ok());
        fs::rename(&data, shared.join("other")).unwrap();
        symlink("other", &data).unwrap();
        let refused = paths.check_again(&data, Path::new("")).unwrap_err().to_string();
        assert!(refused.contains("has become") && refused.contains("shared/other"), "{refused}");
    }
}
