//! The rules, as `iptables -S` shows them and `iptables-restore` takes them. Nothing here runs anything.
//!
//! ```text
//! INPUT       -i chs-+ ─▶ CHASSIS-INPUT    answers and name servers pass, then
//!                           ├▶ CHASSIS-<server>   what agents of one server may reach
//!                           └▶ all else is rejected
//! DOCKER-USER -i chs-+ ─▶ CHASSIS-FORWARD  metadata of clouds is rejected
//! ```
//! Several servers of one machine share the first and the last chain; each has the middle one to itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::super::networks::BRIDGE_PREFIX;

const INPUT: &str = "CHASSIS-INPUT";
const FORWARD: &str = "CHASSIS-FORWARD";
const DOCKER_USER: &str = "DOCKER-USER";
const PREFIX: &str = "CHASSIS-";

/// Where clouds tell a machine its secrets: link-local addresses, and those of Azure and Alibaba; AWS and Google.
const METADATA_V4: [&str; 3] = ["169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32"];
const METADATA_V6: [&str; 2] = ["fd00:ec2::254/128", "fd20:ce::254/128"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What the rules are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The chain of this server's own.
    pub(super) chain: String,
    /// Name servers of the host; Docker passes on to them what containers ask.
    pub(super) name_servers: Vec<IpAddr>,
    /// Ports of the host, by the bridge that they are reached through.
    pub(super) doors: BTreeMap<String, Vec<u16>>,
}

/// The chain of the server with this id.
pub(super) fn chain(server_hash: u64) -> String {
    format!("{PREFIX}{:08x}", server_hash & 0xffff_ffff)
}

/// The part of a listing that this server answers for; it changes when somebody else changed that.
pub(super) fn own_part(listing: &str, chain: &str) -> Vec<String> {
    let is_own = |line: &&str| {
        let mut words = line.split(' ').skip(1);
        let at = words.next().unwrap_or_default();
        let target = line.rsplit_once("-j ").map_or("", |(_, target)| target);
        let of_other = |name: &str| name.starts_with(PREFIX) && ![INPUT, FORWARD, chain].contains(&name);
        (line.contains(PREFIX)) && !of_other(at) && !of_other(target)
    };
    listing.lines().filter(is_own).map(str::to_owned).collect()
}

/// What `iptables-restore --noflush` makes the listed rules right with. Chains that it names are emptied and filled at one
/// instant; jumps to them are added where they are missing.
pub(super) fn restore(listing: &str, family: Family, wanted: &Wanted) -> String {
    let mut text = format!("*filter\n:{INPUT} - [0:0]\n:{FORWARD} - [0:0]\n:{} - [0:0]\n", wanted.chain);
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{line}");
    };
    line(format_args!("-A {INPUT} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    if family == Family::V6 {
        // Without it no neighbour is found.
        line(format_args!("-A {INPUT} -p ipv6-icmp -j RETURN"));
    }
    for address in wanted.name_servers.iter().filter(|address| address.is_ipv4() == (family == Family::V4)) {
        for protocol in ["udp", "tcp"] {
            let question = format!("-d {address} -p {protocol} -m {protocol} --dport 53");
            line(format_args!("-A {INPUT} {question} -j ACCEPT"));
            line(format_args!("-A {FORWARD} {question} -j RETURN"));
        }
    }
    let others = listing.lines().filter(|line| line.starts_with(&format!("-A {INPUT} -j {PREFIX}")));
    for other in others.filter(|line| !line.ends_with(&wanted.chain)) {
        line(format_args!("{other}"));
    }
    line(format_args!("-A {INPUT} -j {}", wanted.chain));
    line(format_args!("-A {INPUT} -p tcp -j REJECT --reject-with tcp-reset"));
    line(format_args!("-A {INPUT} -j REJECT"));
    let metadata: &[&str] = if family == Family::V4 { &METADATA_V4 } else { &METADATA_V6 };
    for address in metadata {
        line(format_args!("-A {FORWARD} -d {address} -p tcp -j REJECT --reject-with tcp-reset"));
        line(format_args!("-A {FORWARD} -d {address} -j REJECT"));
    }
    if family == Family::V4 {
        for (bridge, ports) in &wanted.doors {
            for port in ports {
                let chain = &wanted.chain;
                line(format_args!("-A {chain} -i {bridge} -p tcp -m tcp --dport {port} -j ACCEPT"));
            }
        }
    }
    let forward = if has_chain(listing, DOCKER_USER) { DOCKER_USER } else { "FORWARD" };
    for (from, to) in [("INPUT", INPUT), (forward, FORWARD)] {
        let jump = format!("{from} -i {BRIDGE_PREFIX}+ -j {to}");
        if !listing.lines().any(|line| line == format!("-A {jump}")) {
            line(format_args!("-I {jump}"));
        }
    }
    line(format_args!("COMMIT"));
    text
}

/// What `iptables-restore --noflush` takes all rules of all servers away with; none if there are none.
pub(super) fn removal(listing: &str) -> Option<String> {
    let chains: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.strip_prefix("-N "))
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    if chains.is_empty() {
        return None;
    }
    let mut text = "*filter\n".to_owned();
    for line in listing.lines().filter(|line| !line.starts_with(&format!("-A {PREFIX}"))) {
        if let (Some(rule), Some((_, target))) = (line.strip_prefix("-A "), line.rsplit_once("-j "))
            && chains.contains(&target)
        {
            let _ = writeln!(text, "-D {rule}");
        }
    }
    for (command, chain) in chains.iter().map(|chain| ("-F", chain)).chain(chains.iter().map(|c| ("-X", c))) {
        let _ = writeln!(text, "{command} {chain}");
    }
    text.push_str("COMMIT\n");
    Some(text)
}

/// What `iptables-restore --noflush` takes the chain of one server away with, while others still need theirs.
pub(super) fn removal_of_own(listing: &str, chain: &str) -> Option<String> {
    has_chain(listing, chain).then(|| {
        let jump = format!("-A {INPUT} -j {chain}");
        let jump = if listing.lines().any(|line| line == jump) {
            format!("-D {INPUT} -j {chain}\n")
        } else {
            String::new()
        };
        format!("*filter\n{jump}-F {chain}\n-X {chain}\nCOMMIT\n")
    })
}

fn has_chain(listing: &str, name: &str) -> bool {
    listing.lines().any(|line| line.strip_prefix("-N ") == Some(name))
}

/// The name servers in a `resolv.conf` that are not the machine's own loopback.
pub(super) fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let words = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    words
        .filter_map(|word| word.trim().parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            chain: chain(0x1234_5678),
            name_servers: name_servers("search x\nnameserver 127.0.0.53\nnameserver 169.254.169.254\n"),
            doors: BTreeMap::from([("chs-00000000001".to_owned(), vec![11434])]),
        }
    }

    #[test]
    fn what_others_set_stays() {
        let listing = "-P INPUT ACCEPT\n-N CHASSIS-INPUT\n-N CHASSIS-aaaaaaaa\n-N DOCKER-USER\n-A INPUT -i eth0 -j DROP\n\
                       -A INPUT -i chs-+ -j CHASSIS-INPUT\n-A CHASSIS-INPUT -j CHASSIS-aaaaaaaa\n\
                       -A CHASSIS-INPUT -j CHASSIS-12345678\n-A CHASSIS-aaaaaaaa -i chs-2 -j ACCEPT\n";
        let text = restore(listing, Family::V4, &wanted());
        assert!(!text.contains("-I INPUT"), "the jump is there: {text}");
        assert!(text.contains("-I DOCKER-USER -i chs-+ -j CHASSIS-FORWARD"), "{text}");
        assert_eq!(text.matches("-j CHASSIS-aaaaaaaa").count(), 1, "{text}");
        assert_eq!(text.matches("-A CHASSIS-INPUT -j CHASSIS-12345678").count(), 1, "{text}");
        assert!(!text.contains(":CHASSIS-aaaaaaaa"), "another server's chain is not emptied: {text}");
        let reject = text.find("-A CHASSIS-INPUT -j REJECT").unwrap();
        assert!(text.find("-j CHASSIS-aaaaaaaa").unwrap() < reject, "{text}");
        let metadata = text.find("-A CHASSIS-FORWARD -d 169.254.0.0/16").unwrap();
        assert!(text.find("-A CHASSIS-FORWARD -d 169.254.169.254 -p udp").unwrap() < metadata, "{text}");
        let own = own_part(listing, "CHASSIS-12345678");
        assert!(!own.iter().any(|line| line.contains("aaaaaaaa") || line.contains("eth0")), "{own:?}");
        assert_eq!(own.len(), 3, "{own:?}");
    }

    #[test]
    fn one_of_several_takes_its_own_along() {
        let listing = "-N CHASSIS-INPUT\n-N CHASSIS-aaaaaaaa\n-N CHASSIS-bbbbbbbb\n\
                       -A CHASSIS-INPUT -j CHASSIS-aaaaaaaa\n-A CHASSIS-INPUT -j CHASSIS-bbbbbbbb\n";
        assert_eq!(
            removal_of_own(listing, "CHASSIS-aaaaaaaa").unwrap(),
            "*filter\n-D CHASSIS-INPUT -j CHASSIS-aaaaaaaa\n-F CHASSIS-aaaaaaaa\n-X CHASSIS-aaaaaaaa\nCOMMIT\n"
        );
        assert_eq!(removal_of_own(listing, "CHASSIS-cccccccc"), None);
    }

    #[test]
    fn the_last_one_leaves_nothing() {
        let listing = "-P INPUT ACCEPT\n-N CHASSIS-INPUT\n-N CHASSIS-aaaaaaaa\n-A INPUT -i eth0 -j DROP\n\
                       -A INPUT -i chs-+ -j CHASSIS-INPUT\n-A CHASSIS-INPUT -j CHASSIS-aaaaaaaa\n";
        assert_eq!(
            removal(listing).unwrap(),
            "*filter\n-D INPUT -i chs-+ -j CHASSIS-INPUT\n-F CHASSIS-INPUT\n-F CHASSIS-aaaaaaaa\n-X CHASSIS-INPUT\n\
             -X CHASSIS-aaaaaaaa\nCOMMIT\n"
        );
        assert_eq!(removal("-P INPUT ACCEPT\n-A INPUT -i eth0 -j DROP\n"), None);
    }
}
