//! Limits of directories, by what the file system has for it: project quotas of ext4 and xfs, subvolumes of btrfs.
//!
//! The programs that come with each file system set them; nothing here calls the kernel itself. A limit may be set again
//! and again. Whether one can be set at all is asked before anything is touched, and the answer says what is missing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of the root of every subvolume of btrfs.
const SUBVOLUME_ROOT: u64 = 256;

/// What is wrong, and what to do.
type Outcome<T> = Result<T, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    kind: Kind,
    mounted_at: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Disk {
    /// The disk of an existing directory, if directories on it can be limited.
    pub(super) fn of(path: &Path) -> Outcome<Disk> {
        let path =
            fs::canonicalize(path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = find(&mounts, &path)
            .ok_or_else(|| format!("cannot tell which file system {} is on", path.display()))?;
        if !rustix::process::geteuid().is_root() {
            return Err("only root can limit a directory; run the server as root".to_owned());
        }
        let disk = |kind| Disk { kind, mounted_at: mount.at.clone() };
        let (at, source) = (mount.at.display(), mount.source);
        let has = |option: &str| mount.options.split(',').any(|other| other == option);
        match mount.kind {
            "ext4" if has("prjquota") => {
                require(&["chattr", "lsattr", "setquota"], "quota").map(|()| disk(Kind::Ext4))
            }
            "ext4" => Err(format!(
                "the file system at {at} (ext4) has no project quotas; enable them with `umount {at}`, `tune2fs -O \
                 project,quota -Q prjquota {source}`, and the mount option prjquota"
            )),
            "xfs" if has("prjquota") || has("pquota") => {
                require(&["xfs_quota"], "xfsprogs").map(|()| disk(Kind::Xfs))
            }
            "xfs" => Err(format!(
                "the file system at {at} (xfs) has no project quotas; mount it with the option prjquota"
            )),
            "btrfs" => {
                require(&["btrfs"], "btrfs-progs")?;
                let shown = run("btrfs", &["qgroup", "show", "--raw"], &[mount.at.as_os_str()]);
                shown.map(|_| disk(Kind::Btrfs)).map_err(|_| {
                    format!(
                        "the file system at {at} (btrfs) has no quotas; enable them with `btrfs quota enable {at}`"
                    )
                })
            }
            other => Err(format!(
                "the file system at {at} ({other}) has no quotas for directories; put the data directory on ext4, xfs or \
                 btrfs"
            )),
        }
    }

    /// Makes the directory of a volume where it must be of a kind of its own to be limited.
    pub(super) fn make(&self, directory: &Path) -> Outcome<()> {
        if self.kind != Kind::Btrfs || is_subvolume(directory) {
            return Ok(());
        }
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(format!(
                    "{0} was made without a limit, and btrfs limits only subvolumes: stop the instance, move what is in \
                     {0} aside, remove the directory, start the instance, and move it back",
                    directory.display()
                ));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("cannot replace {}: {error}", directory.display()));
            }
            _ => {}
        }
        run("btrfs", &["subvolume", "create"], &[directory.as_os_str()])?;
        let private = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
        private.map_err(|error| format!("cannot change the mode of {}: {error}", directory.display()))
    }

    /// Limits a directory and all that is in it. `project` is the directory's alone on this disk.
    pub(super) fn limit(&self, directory: &Path, project: u32, bytes: u64) -> Outcome<()> {
        let (number, path) = (project.to_string(), directory.as_os_str());
        match self.kind {
            Kind::Ext4 => {
                let marked = run("lsattr", &["-d", "-p"], &[path])?;
                if !is_marked(&marked, &number) {
                    run("chattr", &["-R", "-f", "-p", &number], &[path])?;
                    run("chattr", &["-R", "-f", "+P"], &[path])
                        .or_else(|_| run("chattr", &["+P"], &[path]))?;
                }
                self.set_ext4(&number, &bytes.div_ceil(1024).to_string())
            }
            Kind::Xfs => {
                let project = format!("project -s -p {} {number}", quoted(directory)?);
                self.tell_xfs(&project)?;
                self.tell_xfs(&format!("limit -p bhard={bytes} {number}"))
            }
            Kind::Btrfs => run("btrfs", &["qgroup", "limit", &bytes.to_string()], &[path]).map(|_| ()),
        }
    }

    /// Takes a limit away again.
    pub(super) fn unlimit(&self, directory: &Path, project: u32) -> Outcome<()> {
        let number = project.to_string();
        match self.kind {
            Kind::Ext4 => self.set_ext4(&number, "0"),
            Kind::Xfs => self.tell_xfs(&format!("limit -p bhard=0 {number}")),
            Kind::Btrfs if is_subvolume(directory) => {
                run("btrfs", &["qgroup", "limit", "none"], &[directory.as_os_str()]).map(|_| ())
            }
            Kind::Btrfs => Ok(()),
        }
    }

    /// Removes a directory that cannot be removed like any other.
    pub(super) fn remove(&self, directory: &Path) -> Outcome<()> {
        if self.kind != Kind::Btrfs || !is_subvolume(directory) {
            return Ok(());
        }
        run("btrfs", &["subvolume", "delete"], &[directory.as_os_str()]).map(|_| ())
    }

    fn set_ext4(&self, project: &str, kibibytes: &str) -> Outcome<()> {
        run("setquota", &["-P", project, "0", kibibytes, "0", "0"], &[self.mounted_at.as_os_str()])
            .map(|_| ())
    }

    fn tell_xfs(&self, command: &str) -> Outcome<()> {
        run("xfs_quota", &["-x", "-c", command], &[self.mounted_at.as_os_str()]).map(|_| ())
    }
}

fn is_subvolume(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir() && found.ino() == SUBVOLUME_ROOT)
}

/// What `lsattr -d -p` shows of a directory: its project, and `P` if what is made in it belongs to that too.
fn is_marked(shown: &str, project: &str) -> bool {
    let mut words = shown.split_whitespace();
    words.next() == Some(project) && words.next().is_some_and(|flags| flags.contains('P'))
}

/// `xfs_quota` splits its commands at blanks, and knows no escape but quotes.
fn quoted(path: &Path) -> Outcome<String> {
    match path.to_str().filter(|text| !text.contains(['"', '\n'])) {
        Some(text) => Ok(format!("\"{text}\"")),
        None => Err(format!("xfs_quota takes no such path: {}", path.display())),
    }
}

struct Mount<'m> {
    at: PathBuf,
    kind: &'m str,
    source: &'m str,
    options: &'m str,
}

/// The mount that a path is on: the one with the longest path, and of several there the last.
fn find<'m>(mountinfo: &'m str, path: &Path) -> Option<Mount<'m>> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (own, file_system) = line.split_once(" - ")?;
        let at = PathBuf::from(own.split(' ').nth(4)?.replace("\\040", " "));
        let mut words = file_system.split(' ');
        let (kind, source, options) = (words.next()?, words.next()?, words.next()?);
        path.starts_with(&at).then_some(Mount { at, kind, source, options })
    });
    mounts.max_by_key(|mount| mount.at.components().count())
}

fn require(programs: &[&str], package: &str) -> Outcome<()> {
    let is_there =
        |program: &str| search_path().split(':').any(|part| Path::new(part).join(program).is_file());
    match programs.iter().find(|program| !is_there(program)) {
        Some(missing) => Err(format!("the program {missing} is missing; install the package {package}")),
        None => Ok(()),
    }
}

/// Where the programs are kept is not in everybody's PATH.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn run(program: &str, arguments: &[&str], paths: &[&OsStr]) -> Outcome<String> {
    let output = Command::new(program)
        .args(arguments)
        .args(paths)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {program} ({error})"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{program} {}` fails: {}", arguments.join(" "), said.trim()))
}
