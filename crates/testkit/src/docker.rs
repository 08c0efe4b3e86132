//! The Docker Engine, seen with the eyes of a person who has `docker` and knows nothing of chassis.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::http::{self, encode};

/// An Engine at a unix socket.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: PathBuf,
}

/// A container that the test made itself; removed when it is dropped.
#[derive(Debug)]
pub struct Container {
    docker: Docker,
    pub id: String,
}

impl Docker {
    /// The machine's own Engine.
    pub fn of_machine() -> Docker {
        Docker::at("/var/run/docker.sock")
    }

    pub fn at(socket: impl Into<PathBuf>) -> Docker {
        Docker { socket: socket.into() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn answers(&self) -> bool {
        self.ask("GET", "/_ping", b"").is_ok()
    }

    /// `docker info`.
    pub fn info(&self) -> Value {
        self.get("/info")
    }

    /// All containers that a label names, as `docker ps -a` lists them.
    pub fn labelled(&self, label: &str) -> Vec<Value> {
        let filter = encode(&json!({ "label": [label] }).to_string());
        self.get(&format!("/containers/json?all=1&filters={filter}")).as_array().cloned().unwrap_or_default()
    }

    /// The names of all containers, whoever's they are.
    pub fn containers(&self) -> Vec<String> {
        let name =
            |container: &Value| Some(container["Names"][0].as_str()?.trim_start_matches('/').to_owned());
        self.get("/containers/json?all=1").as_array().into_iter().flatten().filter_map(name).collect()
    }

    /// The names of all networks but those that every Engine has.
    pub fn networks(&self) -> Vec<String> {
        let name = |network: &Value| Some(network["Name"].as_str()?.to_owned());
        let own = |name: &String| !["none", "host", "bridge"].contains(&name.as_str());
        self.get("/networks").as_array().into_iter().flatten().filter_map(name).filter(own).collect()
    }

    /// The names of all volumes.
    pub fn volumes(&self) -> Vec<String> {
        let name = |volume: &Value| Some(volume["Name"].as_str()?.to_owned());
        self.get("/volumes")["Volumes"].as_array().into_iter().flatten().filter_map(name).collect()
    }

    /// Asks for something that may well fail, such as to pause what has just ended. True if it was done.
    pub fn attempt(&self, method: &str, target: &str, body: &Value) -> bool {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, target, body.as_bytes()).is_ok_and(|(status, _)| (200..300).contains(&status))
    }

    pub fn networks_labelled(&self, label: &str) -> Vec<Value> {
        let filter = encode(&json!({ "label": [label] }).to_string());
        self.get(&format!("/networks?filters={filter}")).as_array().cloned().unwrap_or_default()
    }

    /// `docker inspect`; `None` if there is no such container.
    pub fn inspect(&self, name: &str) -> Option<Value> {
        let (status, body) =
            self.ask("GET", &format!("/containers/{name}/json"), b"").expect("Docker answers");
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    /// Bytes that a container wrote into its own layer.
    pub fn layer_size(&self, name: &str) -> u64 {
        self.get(&format!("/containers/{name}/json?size=1"))["SizeRw"].as_u64().unwrap_or(0)
    }

    /// Whether it runs now, and since when.
    pub fn runs_since(&self, name: &str) -> Option<String> {
        let state = self.inspect(name)?["State"].clone();
        (state["Running"] == true).then(|| state["StartedAt"].as_str().unwrap_or_default().to_owned())
    }

    /// `docker update`, with the API's own fields.
    pub fn update(&self, name: &str, changes: &Value) {
        self.must("POST", &format!("/containers/{name}/update"), changes.to_string().as_bytes());
    }

    /// `docker network connect`.
    pub fn connect(&self, network: &str, container: &str) {
        let body = json!({ "Container": container }).to_string();
        self.must("POST", &format!("/networks/{network}/connect"), body.as_bytes());
    }

    /// `docker exec -d --user`.
    pub fn exec_as(&self, name: &str, user: &str, command: &[&str]) {
        let body = json!({ "Cmd": command, "User": user }).to_string();
        let exec = self.must("POST", &format!("/containers/{name}/exec"), body.as_bytes());
        let id = exec["Id"].as_str().expect("an id");
        self.must("POST", &format!("/exec/{id}/start"), br#"{"Detach": true}"#);
    }

    /// Bytes of memory that it uses now.
    pub fn memory_used(&self, name: &str) -> u64 {
        let stats = self.get(&format!("/containers/{name}/stats?stream=0&one-shot=1"));
        stats["memory_stats"]["usage"].as_u64().unwrap_or(0)
    }

    pub fn rename(&self, name: &str, new: &str) {
        self.must("POST", &format!("/containers/{name}/rename?name={new}"), b"");
    }

    pub fn stop(&self, name: &str) {
        self.must("POST", &format!("/containers/{name}/stop?t=1"), b"");
    }

    pub fn restart(&self, name: &str) {
        self.must("POST", &format!("/containers/{name}/restart?t=1"), b"");
    }

    pub fn kill(&self, name: &str) {
        self.must("POST", &format!("/containers/{name}/kill"), b"");
    }

    pub fn remove(&self, name: &str) {
        self.must("DELETE", &format!("/containers/{name}?force=1&v=1"), b"");
    }

    /// `docker network create`.
    pub fn create_network(&self, name: &str) {
        self.must("POST", "/networks/create", json!({ "Name": name }).to_string().as_bytes());
    }

    /// `docker network disconnect -f`.
    pub fn disconnect(&self, network: &str, container: &str) {
        let body = json!({ "Container": container, "Force": true }).to_string();
        self.must("POST", &format!("/networks/{network}/disconnect"), body.as_bytes());
    }

    pub fn inspect_network(&self, name: &str) -> Value {
        self.get(&format!("/networks/{name}"))
    }

    /// `docker volume inspect`; `None` if there is no such volume.
    pub fn inspect_volume(&self, name: &str) -> Option<Value> {
        let (status, body) = self.ask("GET", &format!("/volumes/{name}"), b"").expect("Docker answers");
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    /// `docker volume create`.
    pub fn create_volume(&self, name: &str) {
        self.must("POST", "/volumes/create", json!({ "Name": name }).to_string().as_bytes());
    }

    pub fn remove_volume(&self, name: &str) {
        self.must("DELETE", &format!("/volumes/{name}"), b"");
    }

    pub fn remove_network(&self, name: &str) {
        self.must("DELETE", &format!("/networks/{name}"), b"");
    }

    /// `docker run -d --network none`: a container of somebody else.
    pub fn run(&self, name: &str, image: &str, command: &[&str]) -> Container {
        self.run_in("none", name, image, command)
    }

    /// `docker run -d --network …`: a container of somebody else.
    pub fn run_in(&self, network: &str, name: &str, image: &str, command: &[&str]) -> Container {
        let body = json!({
            "Image": image,
            "Entrypoint": command,
            "HostConfig": { "NetworkMode": network },
        });
        let answer =
            self.must("POST", &format!("/containers/create?name={name}"), body.to_string().as_bytes());
        let id = answer["Id"].as_str().expect("an id").to_owned();
        let container = Container { docker: self.clone(), id };
        self.must("POST", &format!("/containers/{}/start", container.id), b"");
        container
    }

    /// `docker commit`: an image made from a container. Returns its id.
    pub fn commit(&self, name: &str) -> String {
        let answer = self.must("POST", &format!("/commit?container={name}"), b"{}");
        answer["Id"].as_str().expect("an id").to_owned()
    }

    pub fn remove_image(&self, image: &str) {
        let _ = self.ask("DELETE", &format!("/images/{image}?force=1"), b"");
    }

    /// Everything a chassis left behind here, gone.
    pub(crate) fn sweep(&self, label: &str) {
        if !self.answers() {
            return;
        }
        for container in self.labelled(label) {
            let id = container["Id"].as_str().unwrap_or_default();
            let _ = self.ask("DELETE", &format!("/containers/{id}?force=1&v=1"), b"");
        }
        for network in self.networks_labelled(label) {
            let id = network["Id"].as_str().unwrap_or_default();
            let _ = self.ask("DELETE", &format!("/networks/{id}"), b"");
        }
        let filter = encode(&json!({ "label": [label] }).to_string());
        let volumes = self.get(&format!("/volumes?filters={filter}"));
        for volume in volumes["Volumes"].as_array().into_iter().flatten() {
            let name = volume["Name"].as_str().unwrap_or_default();
            let _ = self.ask("DELETE", &format!("/volumes/{name}"), b"");
        }
    }

    pub(crate) fn get(&self, target: &str) -> Value {
        self.must("GET", target, b"")
    }

    pub(crate) fn must(&self, method: &str, target: &str, body: &[u8]) -> Value {
        let (status, body) =
            self.ask(method, target, body).unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        assert!((200..400).contains(&status), "{method} {target}: {status} {body}");
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    fn ask(&self, method: &str, target: &str, body: &[u8]) -> io::Result<(u16, String)> {
        let kind = if body.first() == Some(&b'{') { "application/json" } else { "application/x-tar" };
        let answer = http::request(&self.socket, method, target, kind, body)?;
        Ok((answer.status, answer.body))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.docker.ask("DELETE", &format!("/containers/{}?force=1&v=1", self.id), b"");
    }
}
