//! The agent of the benchmarks: idles, with `tick <milliseconds>` writes the time in nanoseconds that often, with `serve
//! <port>` answers HTTP, well until somebody asks for `/break`, or with `burst <lines>` writes so many lines of 100 bytes
//! at once, then idles.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() {
    let mut args = std::env::args().skip(1);
    let (mode, value) = (args.next(), args.next());
    let number: Option<u32> = value.and_then(|value| value.parse().ok());
    match (mode.as_deref(), number) {
        (Some("tick"), Some(milliseconds)) => tick(Duration::from_millis(milliseconds.into())),
        (Some("serve"), Some(port)) => serve(port.try_into().expect("a port")),
        (Some("burst"), Some(lines)) => burst(lines),
        _ => idle(),
    }
}

fn tick(interval: Duration) -> ! {
    let mut stdout = std::io::stdout();
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        stdout.write_all(format!("{}\n", now.as_nanos()).as_bytes()).expect("somebody to write to");
        stdout.flush().expect("somebody to write to");
        std::thread::sleep(interval);
    }
}

fn burst(lines: u32) -> ! {
    let mut stdout = std::io::stdout();
    for line in 0..lines {
        stdout.write_all(format!("{line:099}\n").as_bytes()).expect("somebody to write to");
    }
    stdout.flush().expect("somebody to write to");
    idle()
}

fn serve(port: u16) -> ! {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("a free port");
    let mut broken = false;
    loop {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap_or(0);
        broken |= request[..length].starts_with(b"GET /break");
        let status = if broken { "500 Broken" } else { "200 OK" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
}

fn idle() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
