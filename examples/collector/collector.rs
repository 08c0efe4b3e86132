//! The agent of the README's example: takes a reading every second and keeps it in `/data`, which outlives it.
//! `/tmpfs` holds what may be lost. The standard library is all it needs, so that it builds with nothing but Rust.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;
use std::{env, thread};

const READINGS: &str = "/data/readings.csv";

fn main() -> Result<(), Box<dyn Error>> {
    let name = env::var("CHASSIS_INSTANCE").unwrap_or_else(|_| "collector".into());
    let key = env::var("API_KEY").map_err(|_| "API_KEY is not set")?;
    println!("{name}: have an API key of {} characters", key.len());

    let kept = fs::read_to_string(READINGS).unwrap_or_default().lines().count();
    println!("{name}: found {kept} readings from before");

    let mut readings = OpenOptions::new()
        .create(true)
        .append(true)
        .open(READINGS)
        .map_err(|error| format!("{READINGS}: {error}"))?;
    for number in kept + 1.. {
        let uptime = fs::read_to_string("/proc/uptime")?;
        let reading = uptime.split(' ').next().unwrap_or("0");
        writeln!(readings, "{number},{reading}")?;
        readings.sync_data()?;
        fs::write("/tmpfs/last", reading)?;
        println!("{name}: reading {number} is {reading}");
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
