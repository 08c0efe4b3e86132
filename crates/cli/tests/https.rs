//! Over HTTPS a server is believed only with a certificate that this machine trusts; `openssl` plays the server, with
//! files for answers.

mod common;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use common::{Place, Ran, wait_until};

const ANSWER: &str = "HTTP/1.0 200 OK\r\n\r\n{\"version\":\"9.9.9\",\"id\":\"far\",\"pid\":1,\
    \"startedAt\":\"2026-11-22T12:00:00Z\",\"dataDir\":\"/far\",\"runtime\":\"docker\",\"background\":false}";

struct Far {
    child: Child,
    port: u16,
}

impl Far {
    /// A server with a certificate for `localhost`.
    fn start(place: &Place) -> Far {
        let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem";
        assert!(openssl(place, certificate).output().unwrap().status.success());
        std::fs::create_dir(place.dir.path().join("v1")).unwrap();
        place.write("v1/server", ANSWER);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let line = format!("s_server -HTTP -accept 127.0.0.1:{port} -cert cert.pem -key key.pem");
        let child = openssl(place, &line).spawn().unwrap();
        let listening = format!("0100007F:{port:04X} 00000000:0000 0A");
        wait_until("openssl listens", || {
            std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&listening)
        });
        Far { child, port }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(place: &Place, line: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args(line.split_whitespace()).current_dir(place.dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn ask(place: &Place, address: &str, trusted: &str) -> Ran {
    let mut command = place.command(&["server", "status", "-o", "name", "--server", address]);
    place.ran(command.env("SSL_CERT_FILE", trusted).env("CHASSIS_TOKEN", "t0ken").output().unwrap())
}

#[test]
fn a_server_is_asked_only_if_its_certificate_is_trusted() {
    let place = Place::new();
    let far = Far::start(&place);
    let address = format!("https://localhost:{}", far.port);
    let ran = ask(&place, &address, "cert.pem");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "far\n", ""));

    let stranger = ask(&place, &address, "/dev/null");
    let refused = format!(
        "error: {address} cannot be reached securely; check its name and certificate, and this machine's certificates: "
    );
    assert_eq!((stranger.code, stranger.stdout.as_str()), (1, ""));
    assert!(stranger.stderr.starts_with(&refused), "{}", stranger.stderr);

    let other_name = format!("https://127.0.0.1:{}", far.port);
    let misnamed = ask(&place, &other_name, "cert.pem");
    assert_eq!(misnamed.code, 1);
    assert!(misnamed.stderr.contains("not valid for name"), "{}", misnamed.stderr);
}
