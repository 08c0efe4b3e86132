//! Agents that misbehave on purpose, those of `examples/misbehaving`: each is kept within its bounds and its end is told
//! for what it was, its neighbours in the same fleet notice nothing, and it all ends cleanly.

mod ground;
mod neighbours;

use std::time::{Duration, Instant};

use chassis_testkit::api::{Event, EventKind, HealthState, Phase};
use chassis_testkit::{SOON, eventually, expect, pause, process};

use ground::Ground;

/// Some wait for what fills up first, on a machine that has other things to do.
const LATER: Duration = Duration::from_secs(90);
/// What a run may add to the server's memory, in KiB.
const FLAT: u64 = 10 << 10;

#[test]
fn hang() {
    let ground = Ground::adapted("hang.yaml", |yaml| yaml.replace("value: 20", "value: 4"));
    let name = ground.name("hang-1");
    eventually(SOON, || {
        let found = ground.chassis.instance(&name).instance;
        expect(found.health == Some(HealthState::Healthy), || format!("{found:?}"))
    });
    let found = eventually(LATER, || {
        let found = ground.chassis.instance(&name).instance;
        expect(found.restarts >= 1, || format!("{found:?}")).map(|()| found)
    });
    assert!(found.last_exit.is_some_and(|exit| exit.unhealthy && !exit.out_of_memory), "{found:?}");
    ground.chassis.ok(&["events", &name]).shows(&["unhealthy: ", "restarted because it is unhealthy"]);
    ground.end();
}

#[test]
fn slow_health() {
    let ground = Ground::new("slow-health.yaml");
    let name = ground.name("slow-health-1");
    eventually(LATER, || {
        let found = ground.chassis.instance(&name).instance;
        expect(found.restarts >= 1 && found.last_exit.is_some_and(|exit| exit.unhealthy), || {
            format!("{found:?}")
        })
    });
    ground.chassis.ok(&["events", &name]).shows(&["unhealthy: ", "restarted because it is unhealthy"]);
    ground.end();

    let patient = Ground::adapted("slow-health.yaml", |yaml| {
        yaml.replace("timeout: 1s", "timeout: 20s").replace("interval: 1s", "interval: 20s")
    });
    let name = patient.name("slow-health-1");
    eventually(LATER, || {
        let found = patient.chassis.instance(&name).instance;
        expect(found.health == Some(HealthState::Healthy), || format!("{found:?}"))
    });
    patient.expect_untouched("slow-health-1");
    patient.end();
}

#[test]
fn leak_until_out_of_memory() {
    let ground = Ground::new("leak.yaml");
    let leak = ground.name("leak-1");
    let before = ground.server_memory();
    let found = eventually(LATER, || {
        let found = ground.chassis.instance(&leak).instance;
        let out_of_memory = found.last_exit.is_some_and(|exit| exit.out_of_memory);
        expect(found.restarts >= 2 && out_of_memory, || format!("{found:?}")).map(|()| found)
    });
    assert_eq!(found.last_exit.map(|exit| exit.code), Some(137));
    ground.chassis.ok(&["events", &leak]).shows(&["ran out of memory"]);
    eventually(LATER, || {
        let shown = ground.chassis.ok(&["ps", &ground.name("leak")]).stdout;
        expect(shown.contains("Backoff: out of memory") && shown.contains("next try in"), || shown)
    });

    // Two that end with the same code, and had all the memory they wanted.
    let quiet = |name: &str, script: &str| {
        format!(
            "name: {name}\nfleet: {}\nimage: {}\ncommand: [/bin/sh, -c]\nargs: ['{script}']\n\
             restart_policy: never\nresources: {{memory: 16Mi}}\n",
            ground.fleet, ground.image
        )
    };
    let file =
        ground.chassis.write("killed.yaml", &quiet("killed", "exec sleep 99999")).display().to_string();
    ground.chassis.ok(&["deploy", "agent", "-f", &file]);
    ground.chassis.docker().kill(&ground.container("killed-1"));
    let file = ground.chassis.write("says-137.yaml", &quiet("says-137", "exit 137")).display().to_string();
    ground.chassis.ok(&["deploy", "agent", "-f", &file, "--no-wait"]);
    for name in ["killed-1", "says-137-1"] {
        let ended = ground.chassis.until(&ground.name(name), Phase::Failed).instance;
        assert_eq!(ended.last_exit.map(|exit| (exit.code, exit.out_of_memory)), Some((137, false)), "{name}");
        ground.chassis.ok(&["events", &ground.name(name)]).hides("out of memory");
    }
    ground.expect_flat(before);
    ground.end();
}

#[test]
fn fork_bomb() {
    let ground = Ground::new("fork-bomb.yaml");
    let limit = 64;
    let bomb = "fork-bomb-1";
    eventually(LATER, || {
        let count = ground.processes(bomb);
        expect(count == limit, || format!("{count} processes, of {limit} that it may have"))
    });
    ground.until_log_shows("fork-bomb-1", "can't fork");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        assert!(ground.processes(bomb) <= limit, "it has more processes than its limit");
        let others = std::process::Command::new("/bin/true").status().expect("the host can fork");
        assert!(others.success());
        pause(Duration::from_millis(50));
    }
    ground.expect_untouched("fork-bomb-1");
    ground.chassis.ok(&["restart", &ground.name("fork-bomb-1")]);
    ground.end();
}

#[test]
fn flood_logs() {
    let ground = Ground::new("flood-logs.yaml");
    let flood = ground.name("flood-logs-1");
    let before = ground.server_memory();
    // One reader takes all there is, the other nothing.
    let mut reading = ground.chassis.spawn_discarding(&["logs", &flood, "-f"]);
    let mut stalled = ground.chassis.spawn_unread(&["logs", &flood, "-f"]);
    let bound = ground.log_bound("flood-logs-1");
    let mut most = 0;
    eventually(LATER, || {
        let (files, bytes) = ground.log_files("flood-logs-1");
        most = most.max(bytes);
        assert!(bytes <= bound, "{bytes} bytes of logs, of {bound} that there may be");
        ground.expect_flat(before);
        expect(files > 3, || format!("only {files} files, {bytes} bytes: no flood"))
    });
    let began = Instant::now();
    ground.chassis.ok(&["logs", &ground.name("neighbour-1"), "--tail", "1"]).shows(&["beat"]);
    assert!(began.elapsed() < Duration::from_secs(10), "another one's log takes {:?}", began.elapsed());
    ground.expect_untouched("flood-logs-1");
    ground.chassis.ok(&["stop", &flood]);
    for reader in [&mut reading, &mut stalled] {
        let _ = reader.kill();
        let _ = reader.wait();
    }
    ground.expect_flat(before);
    ground.end();
}

#[test]
fn ignore_sigterm() {
    let ground = Ground::new("ignore-sigterm.yaml");
    let name = ground.name("ignore-sigterm-1");
    // A signal that comes before the trap is set ends it.
    ground.until_log_shows("ignore-sigterm-1", "here I am");
    let began = Instant::now();
    ground.chassis.ok(&["stop", &name]);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3), "it had no grace: {took:?}");
    assert!(took < Duration::from_secs(30), "its grace of 3 s took {took:?}");
    ground.until_log_shows("ignore-sigterm-1", "I would rather not");
    let stopped = ground.chassis.instance(&name).instance;
    assert_eq!((stopped.phase, stopped.restarts), (Phase::Stopped, 0));
    assert_eq!(stopped.last_exit.and_then(|exit| exit.signal()), Some(9), "{stopped:?}");
    ground.chassis.ok(&["start", &name]);
    ground.end();
}

#[test]
fn crash_at_start() {
    let ground = Ground::new("crash-at-start.yaml");
    let name = ground.name("crash-at-start-1");
    eventually(LATER, || {
        let found = ground.chassis.instance(&name).instance;
        let waits = found.phase == Phase::Backoff && found.retry_at.is_some();
        expect(found.restarts >= 5 && waits, || format!("{found:?}"))
    });
    eventually(SOON, || {
        let shown = ground.chassis.ok(&["ps", &ground.name("crash-at-start")]).stdout;
        expect(shown.contains("Backoff: exit 7") && shown.contains("next try in"), || shown)
    });
    ground.until_log_shows("crash-at-start-1", "no configuration at /etc/crash.conf");
    let events: Vec<Event> = ground.chassis.ok(&["events", &name, "-o", "json"]).json();
    let mut ended = None;
    let mut waits = Vec::new();
    for event in &events {
        match (&event.kind, ended) {
            (EventKind::Exited(exit), _) => ended = Some(exit.finished_at),
            (EventKind::Started, Some(at)) => waits.push(event.time.duration_since(at).as_secs_f64()),
            _ => {}
        }
    }
    // Nothing bounds them from above on a busy machine; the fifth of jitter bounds them from below.
    for (wait, least) in waits.iter().zip([0.0, 0.8, 1.6, 3.2]) {
        assert!(*wait >= least, "it waited {waits:?} seconds");
    }
    assert!(waits.len() >= 4, "{events:?}");
    ground.end();
}

#[test]
fn fill_tier1() {
    let ground = Ground::new("fill-tier1.yaml");
    let directory = ground.chassis.data_dir().join(&ground.fleet).join("fill-tier1-1");
    eventually(LATER, || {
        let bytes = std::fs::metadata(directory.join("data/part-8")).map_or(0, |file| file.len());
        expect(bytes == 8 << 20, || format!("{bytes} bytes in the last part"))
    });
    ground.expect_untouched("fill-tier1-1");
    ground.end();
    assert!(!directory.exists(), "what it wrote is still there");
}

#[test]
fn fill_tmpfs() {
    let ground = Ground::new("fill-tmpfs.yaml");
    ground.until_log_shows("fill-tmpfs-1", "No space left on device");
    // In KiB: all of its 16 MiB, and not more.
    ground.until_log_shows("fill-tmpfs-1", "16384\t/tmpfs/ballast");
    assert_eq!(ground.written_to_disk("fill-tmpfs-1"), 0, "it wrote to the host's disk");
    ground.expect_untouched("fill-tmpfs-1");
    ground.end();
}

#[test]
fn leak_files() {
    let ground = Ground::new("leak-files.yaml");
    ground.until_log_shows("leak-files-1", "Too many open files");
    let name = ground.name("leak-files-1");
    eventually(LATER, || {
        let found = ground.chassis.instance(&name).instance;
        expect(found.restarts >= 2, || format!("{found:?}"))
    });
    ground.chassis.ok(&["events", &name]).shows(&["exited with code 1"]);
    // What a run that has just begun has not opened yet, the one before had.
    let opened = ground.chassis.ok(&["logs", &name, "--all", "--no-prefix"]).stdout;
    let most = opened.lines().filter_map(|line| line.parse::<u32>().ok()).max();
    assert!(most.is_some_and(|most| (32..64).contains(&most)), "it opened {most:?} files, of 64");
    ground.end();
}

#[test]
fn zombies() {
    let ground = Ground::new("zombies.yaml");
    let zombies = || process::zombies(ground.main_process("zombies-1"));
    // Those whose parent does not ask are there, or the rest of this would show nothing.
    eventually(SOON, || expect(zombies().of_others >= 3, || format!("{:?}", zombies())));
    // Two orphans may just have ended; more would be left lying.
    let began = Instant::now();
    let mut unreaped = Vec::new();
    while began.elapsed() < Duration::from_secs(8) {
        unreaped.push(zombies().of_init);
        pause(Duration::from_millis(100));
    }
    unreaped.sort_unstable();
    let usual = unreaped[unreaped.len() / 2];
    assert!(usual <= 3, "orphans are not reaped: {unreaped:?}");
    assert!(ground.processes("zombies-1") <= 64);
    ground.expect_untouched("zombies-1");
    ground.end();
}
