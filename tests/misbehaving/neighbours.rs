//! Well-behaved neighbours, watched all the time: they write a heartbeat and answer over HTTP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chassis_testkit::api::{HealthState, Phase};
use chassis_testkit::{Chassis, pause};

const REPLICAS: u32 = 2;
/// Far more than a busy machine costs, far less than an outage.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// Fewer would prove little.
const FEWEST_ANSWERS: u32 = 20;

pub(crate) struct Neighbours {
    fleet: String,
    ended: Arc<AtomicBool>,
    watching: JoinHandle<Vec<Answers>>,
}

/// How a neighbour answered.
struct Answers {
    address: SocketAddr,
    good: u32,
    last_good: Instant,
    longest_gap: Duration,
}

impl Neighbours {
    pub(crate) fn deploy(chassis: &Chassis, fleet: &str, image: &str) -> Neighbours {
        let yaml = format!(
            "name: neighbour\nfleet: {fleet}\nimage: {image}\nreplicas: {REPLICAS}\ncommand: [/bin/sh, -c]\n\
             args: ['echo ok > /tmp/healthz; httpd -p 8080 -h /tmp; \
                     while :; do date +%s >> /data/beats; echo beat; sleep 1; done']\n\
             volumes: [{{name: data, mountPath: /data}}]\nstop: {{grace: 1s}}\nresources: {{memory: 32Mi}}\n\
             healthCheck: {{http: {{port: 8080}}, interval: 1s, timeout: 5s, retries: 5, startPeriod: 5s}}\n"
        );
        let file = chassis.write("neighbour.yaml", &yaml).display().to_string();
        chassis.ok(&["deploy", "agent", "-f", &file]);
        let mut answers: Vec<Answers> = (1..=REPLICAS)
            .map(|number| {
                let address = address(chassis, fleet, number);
                Answers { address, good: 0, last_good: Instant::now(), longest_gap: Duration::ZERO }
            })
            .collect();
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let watching = std::thread::spawn(move || {
            let few = |answers: &Answers| {
                answers.good < FEWEST_ANSWERS && answers.last_good.elapsed() < LONGEST_GAP
            };
            while !until.load(Ordering::Relaxed) || answers.iter().any(few) {
                answers.iter_mut().for_each(Answers::ask);
                pause(Duration::from_millis(200));
            }
            answers
        });
        Neighbours { fleet: fleet.to_owned(), ended, watching }
    }

    /// They answered all the time, wrote all the time, and were never restarted.
    pub(crate) fn expect_well(self, chassis: &Chassis) {
        self.ended.store(true, Ordering::Relaxed);
        let answers = self.watching.join().expect("the watch");
        for (number, answers) in (1..).zip(answers) {
            let name = format!("neighbour-{number}");
            let gap = answers.longest_gap.max(answers.last_good.elapsed());
            assert!(
                gap < LONGEST_GAP && answers.good >= FEWEST_ANSWERS,
                "{name}: no answer for {gap:?}, {} in all",
                answers.good
            );
            let found = chassis.instance(&format!("{}/{name}", self.fleet)).instance;
            assert_eq!((found.phase, found.restarts), (Phase::Running, 0), "{found:?}");
            assert_eq!(found.health, Some(HealthState::Healthy), "{found:?}");
            let beats = chassis.read(&self.fleet, &name, "data/beats");
            let beats: Vec<u64> = beats.lines().map(|beat| beat.parse().expect("a time")).collect();
            let gap = beats.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().expect("some beats");
            assert!(gap < LONGEST_GAP.as_secs(), "{name}: no heartbeat for {gap} s");
        }
    }
}

impl Answers {
    fn ask(&mut self) {
        if self.is_well().unwrap_or(false) {
            self.longest_gap = self.longest_gap.max(self.last_good.elapsed());
            self.last_good = Instant::now();
            self.good += 1;
        }
    }

    fn is_well(&self) -> io::Result<bool> {
        let patience = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains(" 200 ") && answer.ends_with("ok\n"))
    }
}

/// Where the host reaches a neighbour: in its fleet's network.
fn address(chassis: &Chassis, fleet: &str, number: u32) -> SocketAddr {
    let container =
        chassis.docker().inspect(&format!("chassis-{fleet}-neighbour-{number}")).expect("a container");
    let text = &container["NetworkSettings"]["Networks"][&format!("chassis-{fleet}")]["IPAddress"];
    let address: IpAddr = text.as_str().and_then(|text| text.parse().ok()).expect("an address");
    SocketAddr::new(address, 8080)
}
