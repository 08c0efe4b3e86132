//! A chassis on TCP.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::Server;
use crate::http::{Answer, PATIENCE, write};

pub(crate) const MASTER: &str = "a-master-token-that-only-this-test-knows";

pub(crate) struct Chassis {
    pub(crate) server: Server,
    address: SocketAddr,
}

impl Chassis {
    pub(crate) fn start(flags: &[&str]) -> Chassis {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = address.to_string();
        let mut args = vec!["--listen", &listen, "--tls", "off"];
        args.extend(flags);
        let server = Server::start_with(&args, &[("CHASSIS_MASTER_TOKEN", MASTER)]);
        Chassis { server, address }
    }

    /// Fleets with an agent and a secret each.
    pub(crate) fn fleets(&self, names: &[&str]) {
        let place = &self.server.place;
        place.write("agent.yaml", "name: worker\nimage: acme/worker\n");
        place.write("value", "hunter2");
        for name in names {
            place.ok(&format!("create fleet {name}"));
            place.ok(&format!("secret create {name}/token --from-file value"));
            place.ok(&format!("deploy agent -f agent.yaml --fleet {name}"));
        }
    }

    pub(crate) fn key(&self, arguments: &str) -> String {
        self.server.place.ok(&format!("api-key create {arguments}")).trim().to_owned()
    }

    pub(crate) fn ask(&self, token: Option<&str>, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &headers, &body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.connect();
        write(&mut stream, method, path, headers, body.as_bytes());
        Answer::read(stream)
    }

    /// Begins to read an answer that goes on.
    pub(crate) fn open(&self, path: &str, bearer: &str) -> (u16, TcpStream) {
        let mut stream = self.connect();
        write(&mut stream, "GET", path, &[("Authorization", bearer)], b"");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
            head.push(byte[0]);
        }
        (Answer::parse(&head).status, stream)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// The status that another user of this machine gets, for whom everything on the way to the socket was opened. None where this
/// test is not root's, and so cannot be somebody else.
pub(crate) fn as_nobody(socket: &Path, path: &str) -> Option<u16> {
    if !rustix::process::geteuid().is_root() {
        chassis_testkit::not_tested("what another user of the machine gets; run this test as root");
        return None;
    }
    for ancestor in socket.ancestors().skip(1).take(3) {
        std::fs::set_permissions(ancestor, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg("--unix-socket")
        .arg(socket)
        .arg(format!("http://chassis{path}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(said.trim().parse().unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr))))
}
