//! Two servers that share everything.

use std::time::{Duration, Instant};

use chassis_testkit::api::ServerInfo;
use chassis_testkit::{Chassis, Image, Postgres, SOON, Server, eventually};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// Ended in this order: servers before what they made is taken away, the database last.
pub(crate) struct Servers {
    pub(crate) first: Server,
    _second: Server,
    pub(crate) two: Chassis,
    pub(crate) one: Chassis,
    pub(crate) url: String,
    pub(crate) postgres: Postgres,
}

impl Servers {
    /// The first one acts. `None` where there is no Postgres.
    pub(crate) fn start() -> Option<Servers> {
        let postgres = Postgres::start()?;
        let url = postgres.database();
        let one = Chassis::new(BINARY).with_env("DATABASE_URL", &url).with_env("CHASSIS_NO_AUTOSTART", "1");
        let first = one.serve();
        until_acting(&one, SOON);
        let two = one.beside("two");
        let second = two.serve();
        Some(Servers { first, _second: second, two, one, url, postgres })
    }

    pub(crate) fn acting_and_other(&self) -> (&Chassis, &Chassis) {
        assert!(acts(&self.one) && !acts(&self.two));
        (&self.one, &self.two)
    }
}

pub(crate) fn acts(chassis: &Chassis) -> bool {
    chassis.get::<ServerInfo>("/api/v1/server").is_ok_and(|info| info.state.acting)
}

/// Waits until a server acts. Returns how long that took.
pub(crate) fn until_acting(chassis: &Chassis, patience: Duration) -> Duration {
    let began = Instant::now();
    eventually(patience, || match chassis.get::<ServerInfo>("/api/v1/server") {
        Ok(info) if info.state.acting => Ok(()),
        found => Err(format!("{found:?}")),
    });
    began.elapsed()
}

pub(crate) fn agent(fleet: &str, replicas: u32) -> String {
    format!(
        "name: a\nfleet: {fleet}\nimage: {}\nreplicas: {replicas}\nstop: {{grace: 1s}}\n\
         command: [/bin/sh, -c]\n\
         args: ['echo begin; echo $CHASSIS_INSTANCE > /data/name; echo run >> /data/runs; exec sleep 99999']\n\
         volumes: [{{name: data, mountPath: /data}}]\n",
        Image::busybox().build()
    )
}
