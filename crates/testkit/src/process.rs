//! What the kernel says of processes.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// What one process holds at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Resident memory, in KiB.
    pub memory: u64,
    pub files: u64,
    pub threads: u64,
}

/// Of the children and grandchildren of an instance's init.
#[derive(Debug, Default)]
pub struct Zombies {
    /// Whose parent is init itself.
    pub of_init: usize,
    /// Whose parent is another process of the instance.
    pub of_others: usize,
}

/// `None` if there is no such process. Whose files they are needs root.
pub fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Usage { memory: number("VmRSS:")?, files, threads: number("Threads:")? })
}

/// How many processes and threads are in the cgroup of a process, zombies too.
pub fn count_in_cgroup(pid: u32) -> Option<u32> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of_version = |begin: &str, root: &str| {
        let line = groups.lines().find(|line| line.contains(begin))?;
        let group = line.rsplit(':').next()?.trim_start_matches('/');
        fs::read_to_string(Path::new(root).join(group).join("pids.current")).ok()
    };
    let count =
        of_version(":pids:", "/sys/fs/cgroup/pids").or_else(|| of_version("0::", "/sys/fs/cgroup"))?;
    count.trim().parse().ok()
}

/// The inits of instances whose full name (`fleet/agent-number`) begins so.
pub fn inits(begin: &str) -> Vec<u32> {
    let argument = format!("--instance\0{begin}");
    let is_one = |pid: &u32| command_line(*pid).contains(&argument);
    numbers().filter(is_one).collect()
}

/// Kills all processes whose arguments, each ended by a zero, are such.
pub(crate) fn end_all(is_such: impl Fn(&str) -> bool) {
    for pid in numbers().filter(|pid| is_such(&command_line(*pid))) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    numbers().filter_map(stat).filter(|(_, of, _)| *of == parent).map(|(pid, _, _)| pid).collect()
}

/// Its arguments, each ended by a zero; empty for a zombie and for one that is gone.
pub fn command_line(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/cmdline"))
        .map_or_else(|_| String::new(), |line| String::from_utf8_lossy(&line).into_owned())
}

/// The zombies of an instance.
pub fn zombies(init: u32) -> Zombies {
    let all: Vec<(u32, u32, bool)> = numbers().filter_map(stat).collect();
    let below = |parent: u32| all.iter().filter(move |(_, of, _)| *of == parent);
    let count = |parent: u32| below(parent).filter(|(_, _, zombie)| *zombie).count();
    let agents: Vec<u32> = below(init).map(|(pid, _, _)| *pid).collect();
    let children = agents.iter().flat_map(|agent| below(*agent)).map(|(pid, _, _)| *pid);
    Zombies { of_init: count(init), of_others: agents.iter().copied().chain(children).map(count).sum() }
}

/// A process, its parent, and whether it is a zombie.
fn stat(pid: u32) -> Option<(u32, u32, bool)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have blanks and parentheses of its own.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let zombie = fields.next()? == "Z";
    Some((pid, fields.next()?.parse().ok()?, zombie))
}

fn numbers() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
