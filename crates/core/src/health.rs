//! Whether a run is healthy: what its checks have shown, and what that means.
//!
//! ```text
//!                    success                    `retries` failures in a row
//!   Starting ─────────────────────▶ Healthy ──────────────────────────────────▶ Unhealthy
//!       │                              ▲                 success                    │
//!       │                              └────────────────────────────────────────────┘
//!       └──── `retries` failures in a row, none of them within `startPeriod` ───────▲
//! ```
//!
//! A run has up to two checks. Its *health* check says whether it lives: an unhealthy one is restarted. Its *readiness*
//! check says whether it does its work: it is waited for, and never restarted for that. Verdicts are about one run; the
//! next begins anew.

use std::collections::VecDeque;

use chassis_spec::{AgentSpec, HealthCheck};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backoff;
use crate::instance::Observed;

/// How many looks at an instance are kept.
pub const PROBES_KEPT: usize = 10;
/// The first look at a run, and the shortest time between two until one succeeds; it doubles up to the interval.
const EAGER: SignedDuration = SignedDuration::from_millis(100);

/// What a check has found about a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It has not succeeded yet, nor failed for long enough.
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

/// Which check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    Health,
    Readiness,
}

/// One look at an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// When it began.
    pub time: Timestamp,
    pub latency_ms: u32,
    /// Why it failed; none if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A check of one run, with what it has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    pub verdict: Verdict,
    /// Failures in a row that count.
    pub failures: u32,
    /// Since when it has been healthy.
    pub healthy_since: Option<Timestamp>,
    /// The last looks, oldest first.
    pub probes: VecDeque<Probe>,
    last_counted: Option<Timestamp>,
    eager: u32,
}

/// The verdicts on the present run. A check that there is not has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    pub health: Option<Verdict>,
    pub readiness: Option<Verdict>,
}

/// What people see of both verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    Starting,
    Healthy,
    /// It lives, but does not do its work just now.
    NotReady,
    Unhealthy,
}

/// The health check that an instance has: its own, or its image's.
pub fn health_check<'a>(spec: &'a AgentSpec, observed: Option<&'a Observed>) -> Option<&'a HealthCheck> {
    match &spec.health_check {
        Some(check) => Some(check).filter(|check| !check.disabled),
        None => observed?.image_check.as_deref(),
    }
}

// === impl Check ===

impl Check {
    /// Takes over one look. Returns true if the verdict is another than before.
    ///
    /// Until the first success looks come faster than the interval, so that a start is noticed soon; failures count no
    /// faster than that, so that a slow start gets `interval × retries` after its `startPeriod`.
    pub fn note(&mut self, rules: &HealthCheck, started_at: Timestamp, probe: Probe) -> bool {
        let before = self.verdict;
        if probe.error.is_none() {
            self.failures = 0;
            self.last_counted = None;
            if self.verdict != Verdict::Healthy {
                self.healthy_since = Some(probe.time);
            }
            self.verdict = Verdict::Healthy;
        } else if self.counts(rules, started_at, probe.time) {
            self.last_counted = Some(probe.time);
            self.failures = self.failures.saturating_add(1);
            if self.failures >= rules.retries {
                self.verdict = Verdict::Unhealthy;
                self.healthy_since = None;
            }
        }
        if self.probes.len() == PROBES_KEPT {
            self.probes.pop_front();
        }
        self.probes.push_back(probe);
        self.verdict != before
    }

    fn counts(&self, rules: &HealthCheck, started_at: Timestamp, time: Timestamp) -> bool {
        if self.verdict != Verdict::Starting {
            return true;
        }
        // A tenth less than the interval: timers are not exact.
        let interval = seconds(rules.interval.0) * 9 / 10;
        time.duration_since(started_at) >= seconds(rules.start_period.0)
            && time.duration_since(self.last_counted.unwrap_or(started_at)) >= interval
    }

    /// How long to wait from the end of one look to the next.
    pub fn pause(&mut self, rules: &HealthCheck) -> SignedDuration {
        let interval = seconds(rules.interval.0);
        if self.verdict != Verdict::Starting {
            return interval;
        }
        let pause = EAGER.checked_mul(1 << self.eager.min(10)).unwrap_or(interval).min(interval);
        self.eager = self.eager.saturating_add(1);
        pause
    }

    /// Why the last look failed.
    pub fn last_error(&self) -> Option<&str> {
        self.probes.back()?.error.as_deref()
    }

    /// True if a run that ends now was a good one: see [`backoff::GOOD_RUN`].
    pub fn was_good(&self, now: Timestamp) -> bool {
        self.healthy_since.is_some_and(|since| now.duration_since(since) >= backoff::GOOD_RUN)
    }
}

// === impl Health ===

impl Health {
    /// What people see; none if nothing is checked.
    pub fn state(self) -> Option<HealthState> {
        Some(match (self.health, self.readiness) {
            (None, None) => return None,
            (Some(Verdict::Unhealthy), _) => HealthState::Unhealthy,
            (Some(Verdict::Starting), _) | (_, Some(Verdict::Starting)) => HealthState::Starting,
            (_, Some(Verdict::Unhealthy)) => HealthState::NotReady,
            _ => HealthState::Healthy,
        })
    }
}

fn seconds(seconds: u32) -> SignedDuration {
    SignedDuration::from_secs(seconds.into())
}
