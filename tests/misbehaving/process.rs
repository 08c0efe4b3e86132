//! What the kernel says of processes.

use std::fs;
use std::path::Path;

/// The resident memory of a process, in KiB.
pub(crate) fn resident_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// How many processes and threads are in the cgroup of a process, zombies too.
pub(crate) fn count_in_cgroup(pid: u64) -> u32 {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a running process");
    let of_version = |begin: &str, root: &str| {
        let line = groups.lines().find(|line| line.contains(begin))?;
        let group = line.rsplit(':').next()?.trim_start_matches('/');
        fs::read_to_string(Path::new(root).join(group).join("pids.current")).ok()
    };
    let count = of_version(":pids:", "/sys/fs/cgroup/pids").or_else(|| of_version("0::", "/sys/fs/cgroup"));
    count.expect("the cgroup counts processes").trim().parse().expect("a number")
}

/// How many run as init of an instance of a fleet.
pub(crate) fn of_fleet(fleet: &str) -> usize {
    let begin = format!("--instance\0{fleet}/");
    numbers()
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(&begin))
        })
        .count()
}

#[derive(Debug, Default)]
pub(crate) struct Zombies {
    /// Whose parent is the instance's init.
    pub(crate) of_init: usize,
    /// Whose parent is another process of the instance.
    pub(crate) of_others: usize,
}

/// The zombies among the children and grandchildren of an instance's init.
pub(crate) fn zombies(init: u32) -> Zombies {
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

/// Bytes in the files of an instance's directory, without what chassis put there.
pub(crate) fn size_of_files(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name() != ".chassis")
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of_files(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
