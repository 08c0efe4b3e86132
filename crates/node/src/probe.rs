//! Looks at agents as their checks say, and asks them to drain: over connections into the sandbox and commands in it. For
//! servers, and for nodes that no server reaches.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::body::Body;
use chassis_core::Probe;
use chassis_runtime::{Runtime, chain, exec_run};
use chassis_spec::{Drain, DrainMethod, ExecProbe, HealthCheck, HttpProbe, Seconds};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

/// How much of what a command says is kept as the reason of its failure.
const OUTPUT: usize = 1024;

/// Why a look did not succeed.
#[derive(Debug)]
enum Failure {
    /// The agent's own.
    Agent(String),
    /// The runtime could not look: that says nothing about the agent.
    Runtime,
}

impl From<chassis_runtime::Error> for Failure {
    fn from(error: chassis_runtime::Error) -> Failure {
        match error {
            // Its text says what was in the way; the cause beneath would say it again.
            chassis_runtime::Error::Rejected { .. } => Failure::Agent(error.to_string()),
            _ => Failure::Runtime,
        }
    }
}

/// Looks once. `None` if the runtime could not.
pub async fn probe(runtime: &dyn Runtime, id: &str, check: &HealthCheck) -> Option<Probe> {
    let (time, began) = (Timestamp::now(), Instant::now());
    let looked = tokio::time::timeout(duration(check.timeout), look(runtime, id, check)).await;
    let error = match looked {
        Ok(Ok(())) => None,
        Ok(Err(Failure::Agent(message))) => Some(message),
        Ok(Err(Failure::Runtime)) => return None,
        Err(_) => Some(format!("no answer within {}", check.timeout)),
    };
    let latency_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
    Some(Probe { time, latency_ms, error })
}

async fn look(runtime: &dyn Runtime, id: &str, check: &HealthCheck) -> Result<(), Failure> {
    if let Some(probe) = &check.http {
        return http_look(runtime, id, probe).await;
    }
    if let Some(probe) = &check.tcp {
        return Ok(runtime.port_connect(id, probe.port).await.map(drop)?);
    }
    match &check.exec {
        Some(probe) => command_run(runtime, id, probe, duration(check.timeout)).await,
        None => Ok(runtime.instance_started(id).await?),
    }
}

async fn http_look(runtime: &dyn Runtime, id: &str, probe: &HttpProbe) -> Result<(), Failure> {
    let (response, _connection) =
        request(runtime, id, Method::GET, probe.port, &probe.path, &probe.headers).await?;
    let status = response.status().as_u16();
    let good = match probe.expected_status {
        Some(expected) => status == expected,
        None => (200..400).contains(&status),
    };
    if good { Ok(()) } else { Err(Failure::Agent(format!("answered {}", response.status()))) }
}

async fn command_run(
    runtime: &dyn Runtime,
    id: &str,
    probe: &ExecProbe,
    longest: Duration,
) -> Result<(), Failure> {
    let run = exec_run(runtime, id, &probe.command, longest, OUTPUT).await?;
    let output = String::from_utf8_lossy(&run.output);
    let said = output.trim().lines().next().map(|line| format!(": {line}")).unwrap_or_default();
    match run.exit_code {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::Agent(format!("exit code {code}{said}"))),
        None => Err(Failure::Agent(format!("did not end in {} s{said}", longest.as_secs()))),
    }
}

/// Asks a running agent to finish its work. Returns why it did not.
pub async fn drain(runtime: &dyn Runtime, id: &str, drain: &Drain) -> Result<(), String> {
    let asked = async {
        if let Some(probe) = &drain.exec {
            return command_run(runtime, id, probe, duration(drain.timeout)).await;
        }
        let Some(to) = &drain.http else { return Ok(()) };
        let method = match to.method {
            DrainMethod::Post => Method::POST,
            DrainMethod::Get => Method::GET,
            DrainMethod::Put => Method::PUT,
        };
        let (response, _connection) = request(runtime, id, method, to.port, &to.path, &to.headers).await?;
        let status = response.status();
        // The answer may be the sign that the work is done: it counts when it is complete.
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| Failure::Agent(error.to_string()))?;
        }
        if status.is_success() { Ok(()) } else { Err(Failure::Agent(format!("answered {status}"))) }
    };
    match tokio::time::timeout(duration(drain.timeout), asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::Agent(message))) => Err(message),
        Ok(Err(Failure::Runtime)) => Err("the runtime could not ask it".to_owned()),
        Err(_) => Err(format!("not done within {}", drain.timeout)),
    }
}

/// A request on a connection of its own, which lives as long as the second value.
async fn request(
    runtime: &dyn Runtime,
    id: &str,
    method: Method,
    port: u16,
    path: &str,
    headers: &BTreeMap<String, String>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), Failure> {
    let broken = |error: hyper::Error| Failure::Agent(chain(&error));
    let stream = runtime.port_connect(id, port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async {
        // What goes wrong with it is what the request ends with.
        let _ = connection.await;
    }));
    let mut request = Request::builder().method(method).uri(path);
    if let Some(all) = request.headers_mut() {
        all.insert(HOST, HeaderValue::from_static("localhost"));
        all.insert(CONNECTION, HeaderValue::from_static("close"));
        all.insert(USER_AGENT, HeaderValue::from_static("chassis-probe"));
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                all.insert(name, value);
            }
        }
    }
    let request = request.body(Body::empty()).map_err(|error| Failure::Agent(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok((response, connection))
}

fn duration(seconds: Seconds) -> Duration {
    Duration::from_secs(seconds.0.into())
}
