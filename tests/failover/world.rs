//! One Postgres, one Docker, one data directory, and up to three servers on them.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chassis_testkit::api::ServerInfo;
use chassis_testkit::{Chassis, Image, Postgres, SOON, Server, eventually, expect};

use crate::history;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
/// For a question about the state of a server.
const QUICK: Duration = Duration::from_millis(500);
pub(crate) const SERVERS: usize = 3;

/// Ended in this order: servers before what they made is taken away, the database last.
pub(crate) struct World {
    servers: Vec<Option<Server>>,
    /// The last one is the owner of the data directory.
    pub(crate) chassis: Arc<Vec<Chassis>>,
    /// How many of the servers take part by now.
    pub(crate) taking_part: Arc<AtomicUsize>,
    pub(crate) image: String,
    pub(crate) postgres: Postgres,
}

impl World {
    /// With two servers. `None` where there is no Postgres.
    pub(crate) fn start() -> Option<World> {
        let postgres = Postgres::start()?;
        let url = postgres.database();
        let owner = Chassis::new(BINARY).with_env("DATABASE_URL", &url).with_env("CHASSIS_NO_AUTOSTART", "1");
        let mut chassis = vec![owner.beside("one"), owner.beside("two")];
        chassis.push(owner);
        let mut world = World {
            servers: (0..SERVERS).map(|_| None).collect(),
            chassis: Arc::new(chassis),
            taking_part: Arc::new(AtomicUsize::new(2)),
            image: Image::busybox().build(),
            postgres,
        };
        world.begin(0);
        world.begin(1);
        // All know what to take away in the end.
        world.chassis.iter().take(2).for_each(|one| drop(one.label()));
        history::install(&world.postgres);
        Some(world)
    }

    pub(crate) fn begin(&mut self, index: usize) {
        self.servers[index] = Some(self.chassis[index].serve());
    }

    /// A third server.
    pub(crate) fn add(&mut self) {
        self.begin(2);
        self.taking_part.store(SERVERS, Ordering::Relaxed);
    }

    pub(crate) fn server(&mut self, index: usize) -> &mut Server {
        self.servers[index].as_mut().expect("a server that was started")
    }

    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(mut server) = self.servers[index].take() {
            server.kill();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.taking_part.load(Ordering::Relaxed)
    }

    /// What a server says of itself; none while it does not answer.
    pub(crate) fn info(&self, index: usize) -> Option<ServerInfo> {
        let answer = self.chassis[index].exchange("GET", "/api/v1/server", b"", QUICK).ok()?;
        serde_json::from_str(&answer.body).ok()
    }

    pub(crate) fn acting(&self) -> Option<usize> {
        (0..self.count()).find(|index| self.info(*index).is_some_and(|info| info.state.acting))
    }

    pub(crate) fn fleet(&self, name: &str) -> String {
        self.chassis[SERVERS - 1].fleet(name)
    }

    pub(crate) fn label(&self) -> String {
        self.chassis[0].label()
    }

    /// Deletes every fleet, and looks that nothing is left.
    pub(crate) fn delete_everything(&mut self, violations: &mut Vec<String>) {
        let first = &self.chassis[0];
        let fleets = first.run(&["ps", "--fleets", "-o", "name"]).stdout;
        for fleet in fleets.lines() {
            first.run(&["delete", "fleet", fleet, "--confirm", fleet, "--cleanup", "--no-wait"]);
        }
        let (docker, label) = (first.docker(), self.label());
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(2 * SOON, || {
                let left = docker.labelled(&label).len() + docker.networks_labelled(&label).len();
                expect(left == 0, || format!("{left} containers and networks are left"))
            });
        }));
        if gone.is_err() {
            violations.push("something is left on Docker after everything was deleted".to_owned());
        }
    }

    pub(crate) fn tell_logs(&self) {
        for chassis in self.chassis.iter() {
            let log = std::fs::read_to_string(chassis.home().join("server.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(200)..].join("\n");
            let _ = writeln!(std::io::stderr(), "--- {}\n{last}", chassis.home().display());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.servers.clear();
    }
}
