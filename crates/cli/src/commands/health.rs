//! `chassis health`: the verdict on instances, and the looks that it rests on.

use chassis_api::{CheckKind, CheckReport, HealthReport, HealthState, Instance, Verdict};
use chassis_spec::HealthCheck;
use jiff::Timestamp;

use crate::args::Health;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Color, Table, Terminal, age, clean, until};
use crate::scope::instance_key;

/// Fails if an instance is unhealthy or not ready, so that scripts can ask.
pub(super) async fn run(context: &Context, health: Health) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let scope = client.resolve(&health.id, None).await?;
    let keys = match instance_key(&scope) {
        Some(key) => vec![key],
        None => client
            .instance_list(Some(&scope.fleet), scope.agent.as_ref())
            .await?
            .into_iter()
            .map(|instance| chassis_api::InstanceKey {
                fleet: instance.fleet,
                agent: instance.agent,
                number: instance.number,
            })
            .collect(),
    };
    let mut reports = Vec::new();
    for key in &keys {
        let report = if health.now { client.health_look(key).await? } else { client.health_get(key).await? };
        reports.push(report);
    }
    let names = || keys.iter().map(ToString::to_string).collect();
    let now = Timestamp::now();
    output::print(health.output.output, &reports, names, |_| {
        let pages: Vec<String> = reports.iter().map(|report| page(context.terminal, report, now)).collect();
        pages.join("\n")
    })?;
    let failing =
        |report: &HealthReport| matches!(report.state, Some(HealthState::Unhealthy | HealthState::NotReady));
    Ok(if reports.iter().any(failing) { Exit::Failed } else { Exit::Done })
}

/// A word in the color of what it means.
pub(crate) fn state(state: Option<HealthState>) -> Cell {
    match state {
        None => Cell::from("-"),
        Some(HealthState::Starting) => Cell::colored("starting", Color::Yellow),
        Some(HealthState::Healthy) => Cell::colored("healthy", Color::Green),
        Some(HealthState::NotReady) => Cell::colored("not ready", Color::Yellow),
        Some(HealthState::Unhealthy) => Cell::colored("unhealthy", Color::Red),
    }
}

/// How many of those that are checked are healthy.
pub(crate) fn of_all(instances: &[&Instance]) -> Cell {
    let states: Vec<HealthState> = instances.iter().filter_map(|instance| instance.health).collect();
    if states.is_empty() {
        return Cell::from("-");
    }
    let healthy = states.iter().filter(|state| **state == HealthState::Healthy).count();
    let color = if healthy == states.len() { Color::Green } else { Color::Yellow };
    Cell::colored(format!("{healthy}/{}", states.len()), color)
}

fn page(terminal: Terminal, report: &HealthReport, now: Timestamp) -> String {
    let mut table = Table::without_header(terminal);
    let verdict = if report.state.is_none() && report.checks.is_empty() {
        Cell::from("nothing is checked: its YAML has no `healthCheck`, and its image no HEALTHCHECK")
    } else if report.state.is_none() {
        Cell::from("not running")
    } else {
        state(report.state)
    };
    table.row([format!("{}:", report.instance).into(), verdict]);
    if let Some(at) = report.restart_held_until {
        let wait = format!("restarted in {}: the fleet's budget for restarts is used up", until(at, now));
        table.row([Cell::default(), wait.into()]);
    }
    let mut text = table.render();
    for check in &report.checks {
        text.push_str(&summary(check, now));
        if !check.probes.is_empty() {
            text.push_str(&probes(terminal, check, now));
        }
    }
    text
}

fn summary(report: &CheckReport, now: Timestamp) -> String {
    let name = match report.kind {
        CheckKind::Health => "health",
        CheckKind::Readiness => "readiness",
    };
    let of_image = if report.of_image { " (the image's HEALTHCHECK)" } else { "" };
    let verdict = match (report.verdict, report.healthy_since) {
        (None, _) => String::new(),
        (Some(Verdict::Healthy), Some(since)) => format!(": healthy for {}", age(since, now)),
        (Some(Verdict::Healthy), None) => ": healthy".to_owned(),
        (Some(Verdict::Starting), _) => ": starting".to_owned(),
        (Some(Verdict::Unhealthy), _) => format!(": failed {} times in a row", report.failures),
    };
    format!("{name}: {}{of_image}{verdict}\n", what(&report.check))
}

/// `GET :8080/healthz every 10s, at most 2s, 3 failures in a row count`.
fn what(check: &HealthCheck) -> String {
    let look = if let Some(http) = &check.http {
        format!("GET :{}{}", http.port, http.path)
    } else if let Some(tcp) = &check.tcp {
        format!("connect to :{}", tcp.port)
    } else if let Some(exec) = &check.exec {
        format!("run {}", clean(&exec.command.join(" ")))
    } else {
        return "once its files are there and its startup script has ended".to_owned();
    };
    format!(
        "{look} every {}, at most {}, unhealthy after {} failures",
        check.interval, check.timeout, check.retries
    )
}

fn probes(terminal: Terminal, report: &CheckReport, now: Timestamp) -> String {
    let mut table = Table::new(terminal, &["  WHEN", "LATENCY", "RESULT"]);
    for probe in &report.probes {
        let result = match &probe.error {
            None => Cell::colored("ok", Color::Green),
            Some(error) => Cell::colored(clean(error), Color::Red),
        };
        table.row([
            format!("  {} ago", age(probe.time, now)).into(),
            format!("{} ms", probe.latency_ms).into(),
            result,
        ]);
    }
    table.render()
}
