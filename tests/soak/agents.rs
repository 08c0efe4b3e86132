//! What runs: a hundred instances of five agents in four fleets, cheap enough for two cores.
//!
//! Each counts in its tier 1, a line a second: the count, whose it is, when, and a check of the three. What is lost,
//! doubled, torn or somebody else's shows there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Counts; crashes, or takes all memory, when a file tells it to.
const COUNT: &str = r#"
    left=0; [ ! -e /data/crashes ] || read -r left < /data/crashes
    if [ "${left:-0}" -gt 0 ]; then echo $((left - 1)) > /data/crashes; echo "crashing"; exit 3; fi
    last=$(tail -n 1 /data/beats 2> /dev/null); n=${last%% *}; n=${n:-0}
    while :; do
      n=$((n + 1)); now=$EPOCHSECONDS
      echo "$n $CHASSIS_INSTANCE $now $(((n * 7919 + now) % 1000003))" >> /data/beats
      echo "beat $n"
      [ ! -e /data/crashes ] || { read -r left < /data/crashes; [ "${left:-0}" -eq 0 ] || exit 3; }
      [ ! -e /data/oom ] || { rm /data/oom; exec tail /dev/zero; }
      sleep 1
    done"#;

/// Answers while it counts.
const SERVE: &str = "echo ok > /tmp/healthz; httpd -p 8080 -h /tmp;";

/// An agent of the soak, and how many instances of it are wanted now.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) fleet: String,
    pub(crate) name: &'static str,
    /// What it is deployed with; it is scaled around that.
    base: u32,
    pub(crate) replicas: u32,
    /// The most that it ever had: their data stays.
    pub(crate) most: u32,
    pub(crate) version: u32,
    pub(crate) serves: bool,
    /// Whether something is done to it. One that is left alone shows that nobody else's trouble is its own.
    pub(crate) suffers: bool,
    more: &'static str,
}

/// One instance of an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) fleet: String,
    pub(crate) agent: &'static str,
    pub(crate) number: u32,
}

/// The agents, with so many instances in all. `prefix` begins the names of the fleets.
pub(crate) fn agents(prefix: impl Fn(&str) -> String, instances: u32) -> Vec<Agent> {
    let agent = |fleet: &str, name, share: u32, serves, suffers, more| {
        let replicas = (instances * share / 100).max(1);
        Agent {
            fleet: prefix(fleet),
            name,
            base: replicas,
            replicas,
            most: replicas,
            version: 1,
            serves,
            suffers,
            more,
        }
    };
    vec![
        agent("web", "site", 30, true, true, ""),
        agent("work", "worker", 25, false, true, "env: [{name: KEY, valueFrom: 'secret://FLEET/key'}]\n"),
        agent("work", "spool", 15, false, true, ""),
        agent("flaky", "flaky", 10, false, true, ""),
        agent("calm", "calm", 20, true, false, ""),
    ]
}

impl Agent {
    pub(crate) fn yaml(&self, image: &str) -> String {
        let Agent { fleet, name, version, replicas, .. } = self;
        let serve = if self.serves { SERVE } else { "" };
        let more = self.more.replace("FLEET", fleet);
        let check = if self.serves {
            "healthCheck: {http: {port: 8080}, interval: 3s, timeout: 3s, retries: 3, startPeriod: 10s}\n"
        } else {
            ""
        };
        // A file that is a secret, beside the data.
        let secret = if *name == "spool" {
            format!("  - {{name: key, mountPath: /run/key, secret: 'secret://{fleet}/key'}}\n")
        } else {
            String::new()
        };
        format!(
            "name: {name}\nfleet: {fleet}\nimage: {image}\nreplicas: {replicas}\nlabels: {{soak.version: v{version}}}\n\
             stop: {{grace: 2s}}\nresources: {{memory: 16Mi, pids: 32}}\n{more}{check}\
             volumes:\n  - {{name: data, mountPath: /data}}\n{secret}\
             command: [/bin/sh, -c]\nargs:\n  - |\n    # Version {version}.\n    {serve}{COUNT}\n"
        )
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        (1..=self.replicas).map(|number| Target { fleet: self.fleet.clone(), agent: self.name, number })
    }

    /// How many it may have at least and at most.
    pub(crate) fn range(&self) -> (u32, u32) {
        let fifth = (self.base / 5).max(1);
        (self.base.saturating_sub(fifth).max(1), self.base + fifth)
    }
}

impl Target {
    /// `fleet/agent-number`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}-{}", self.fleet, self.agent, self.number)
    }

    pub(crate) fn container(&self) -> String {
        format!("chassis-{}-{}-{}", self.fleet, self.agent, self.number)
    }

    pub(crate) fn directory(&self) -> String {
        format!("{}/{}-{}", self.fleet, self.agent, self.number)
    }
}

/// What an instance wrote.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    pub(crate) count: u64,
    /// Seconds between two lines, at most.
    pub(crate) longest_gap: u64,
}

/// Reads what an instance wrote, and complains about the first line that is not as it must be.
pub(crate) fn beats_read(directory: &Path) -> Result<Beats, String> {
    let file = directory.join("data/beats");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let owner = directory.file_name().unwrap_or_default().to_string_lossy();
    let mut beats = Beats::default();
    let mut before = None;
    for line in text.lines() {
        let wrong = |what: &str| format!("{}: {what} after {} lines: `{line}`", file.display(), beats.count);
        let fields: Vec<&str> = line.split(' ').collect();
        let [count, name, time, check] = fields[..] else { return Err(wrong("a torn line")) };
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong("no number"));
        let (count, time, check) = (number(count)?, number(time)?, number(check)?);
        if name != owner {
            return Err(wrong("another's line"));
        }
        if check != (count * 7919 + time) % 1_000_003 {
            return Err(wrong("a line that does not add up"));
        }
        if count != beats.count + 1 {
            return Err(wrong("a count that does not follow"));
        }
        beats.count = count;
        let gap = before.map_or(0, |before| time.saturating_sub(before));
        beats.longest_gap = beats.longest_gap.max(gap);
        before = Some(time);
    }
    if text.is_empty() || !text.ends_with('\n') {
        return Err(format!("{}: it does not end with a whole line", file.display()));
    }
    Ok(beats)
}

/// How many of each kind.
pub(crate) type Tally = BTreeMap<&'static str, u32>;
