//! Over HTTPS a server is believed only with a certificate that this machine trusts, and only then gets the token;
//! `openssl` plays the server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use common::{Place, wait_until};

const INFO: &str = "{\"version\":\"9.9.9\",\"id\":\"far\",\"pid\":1,\"startedAt\":\"2026-11-22T12:00:00Z\",\
    \"dataDir\":\"/far\",\"runtime\":\"docker\",\"background\":false,\
    \"state\":{\"store\":\"sqlite\",\"acting\":true,\"serverName\":\"far\"}}";

/// A server with a certificate for `localhost`, which shows what it is asked and says what it is told.
struct Far {
    child: Child,
    port: u16,
}

impl Far {
    fn start(place: &Place) -> Far {
        let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem";
        assert!(openssl(place, certificate).output().unwrap().status.success());
        Far::show(place)
    }

    /// With a certificate that ended yesterday.
    fn start_expired(place: &Place) -> Far {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let day = Duration::from_hours(24);
        parameters.not_before = (SystemTime::now() - 3 * day).into();
        parameters.not_after = (SystemTime::now() - day).into();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        place.write("cert.pem", &certificate.pem());
        place.write("key.pem", &key.serialize_pem());
        Far::show(place)
    }

    fn show(place: &Place) -> Far {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let line = format!("s_server -quiet -accept 127.0.0.1:{port} -cert cert.pem -key key.pem");
        let child = openssl(place, &line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let listening = format!("0100007F:{port:04X} 00000000:0000 0A");
        wait_until("openssl listens", || {
            std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&listening)
        });
        Far { child, port }
    }

    /// Reads a request's head, and answers it.
    fn answer(&mut self, body: &str) -> String {
        let mut request = Vec::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.child.stdin.as_mut().unwrap().write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
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

fn ask(place: &Place, address: &str, trusted: &str) -> Command {
    let mut command = place.command(&["server", "status", "-o", "name", "--server", address]);
    command.env("SSL_CERT_FILE", trusted).env("CHASSIS_TOKEN", "t0ken");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_server_is_asked_only_if_its_certificate_is_trusted() {
    let place = Place::new();
    let mut far = Far::start(&place);
    let address = format!("https://localhost:{}", far.port);

    let stranger = place.ran(ask(&place, &address, "/dev/null").output().unwrap());
    let refused = format!("error: {address} shows a certificate (sha256:");
    assert_eq!((stranger.code, stranger.stdout.as_str()), (1, ""));
    assert!(stranger.stderr.starts_with(&refused), "{}", stranger.stderr);

    let other_name = format!("https://127.0.0.1:{}", far.port);
    let misnamed = place.ran(ask(&place, &other_name, "cert.pem").output().unwrap());
    assert_eq!(misnamed.code, 1);
    assert!(misnamed.stderr.contains("not valid for name"), "{}", misnamed.stderr);

    let trusting = ask(&place, &address, "cert.pem").spawn().unwrap();
    let request = far.answer(INFO);
    assert!(
        request.starts_with("GET /api/v1/server HTTP/1.1\r\n"),
        "the first request that arrived: {request}"
    );
    assert!(request.contains("\r\nauthorization: Bearer t0ken\r\n"), "{request}");
    let trusted = place.ran(trusting.wait_with_output().unwrap());
    assert_eq!((trusted.code, trusted.stdout.as_str(), trusted.stderr.as_str()), (0, "far\n", ""));
}

#[test]
fn an_expired_certificate_is_no_longer_believed_but_by_its_fingerprint() {
    let place = Place::new();
    let mut far = Far::start_expired(&place);
    let address = format!("https://localhost:{}", far.port);
    let refused = place.ran(ask(&place, &address, "cert.pem").output().unwrap());
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    let what = format!("the certificate of {address} has expired");
    assert!(refused.stderr.contains(&what) && refused.stderr.contains("must renew it"), "{}", refused.stderr);

    let shown = openssl(&place, "x509 -in cert.pem -noout -fingerprint -sha256");
    let shown = String::from_utf8({ shown }.stdout(Stdio::piped()).output().unwrap().stdout).unwrap();
    let fingerprint = shown.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    let mut pinned = ask(&place, &address, "/dev/null");
    let pinned = pinned.env("CHASSIS_FINGERPRINT", format!("sha256:{fingerprint}")).spawn().unwrap();
    far.answer(INFO);
    assert_eq!(place.ran(pinned.wait_with_output().unwrap()).code, 0);
}

#[test]
fn a_server_that_shows_another_certificate_than_it_did_is_not_believed() {
    let place = Place::new();
    let far = Far::start(&place);
    let address = format!("https://localhost:{}", far.port);
    let before = format!("sha256:{}", "5a".repeat(32));
    let refused = ask(&place, &address, "/dev/null").env("CHASSIS_FINGERPRINT", &before).output().unwrap();
    let refused = place.ran(refused);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    for said in ["shows another certificate", &before, "found sha256:", "chassis login --fingerprint"] {
        assert!(refused.stderr.contains(said), "no `{said}` in {}", refused.stderr);
    }
}
