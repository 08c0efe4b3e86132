//! An image's own HEALTHCHECK, as a check like any other. Docker itself is told not to make it: the server does, so that
//! there is one place that decides what unhealthy means. The container carries it in a label, so that a server that finds
//! the container again knows it.

use std::sync::Arc;

use bollard::models::HealthConfig;
use chassis_spec::{ExecProbe, HealthCheck, Seconds};

use super::labels::Labels;

const LABEL: &str = "chassis.health-check";
/// What Docker takes where an image says nothing: the reference of HEALTHCHECK.
const DEFAULT_TIME: Seconds = Seconds(30);
const DEFAULT_RETRIES: u32 = 3;

/// The check that an image asks for.
pub(crate) fn of_image(config: Option<&HealthConfig>) -> Option<HealthCheck> {
    let config = config?;
    let (kind, rest) = config.test.as_deref()?.split_first()?;
    let command = match (kind.as_str(), rest) {
        ("CMD", [_, ..]) => rest.to_vec(),
        ("CMD-SHELL", [line, ..]) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        _ => return None,
    };
    let retries =
        config.retries.and_then(|retries| u32::try_from(retries).ok()).filter(|retries| *retries > 0);
    Some(HealthCheck {
        disabled: false,
        http: None,
        tcp: None,
        exec: Some(ExecProbe { command }),
        interval: time(config.interval).unwrap_or(DEFAULT_TIME),
        timeout: time(config.timeout).unwrap_or(DEFAULT_TIME),
        retries: retries.unwrap_or(DEFAULT_RETRIES),
        start_period: time(config.start_period).unwrap_or(Seconds(0)),
    })
}

/// Whole seconds, at least one, from nanoseconds; nothing or 0 is the default.
fn time(nanoseconds: Option<i64>) -> Option<Seconds> {
    let nanoseconds = nanoseconds.filter(|time| *time > 0)?;
    Some(Seconds(u32::try_from(nanoseconds.unsigned_abs().div_ceil(1_000_000_000)).unwrap_or(u32::MAX)))
}

/// Puts the check on a container.
pub(crate) fn label(labels: &mut Labels, check: Option<&HealthCheck>) {
    labels.remove(LABEL);
    if let Some(text) = check.and_then(|check| serde_json::to_string(check).ok()) {
        labels.insert(LABEL.to_owned(), text);
    }
}

/// The check that a container carries.
pub(crate) fn of_labels(labels: &Labels) -> Option<Arc<HealthCheck>> {
    serde_json::from_str(labels.get(LABEL)?).ok().map(Arc::new)
}
