//! The agent of the benchmarks: idles, or with `tick <milliseconds>` writes the time in nanoseconds that often.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() {
    let mut args = std::env::args().skip(1);
    let tick = args.next().filter(|mode| mode == "tick").and(args.next());
    let Some(interval) = tick.and_then(|milliseconds| milliseconds.parse().ok()) else {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    };
    let mut stdout = std::io::stdout();
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        stdout.write_all(format!("{}\n", now.as_nanos()).as_bytes()).expect("somebody to write to");
        stdout.flush().expect("somebody to write to");
        std::thread::sleep(Duration::from_millis(interval));
    }
}
