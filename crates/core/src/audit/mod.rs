//! How closed an instance's sandbox really is, item by item of the CIS Docker Benchmark's section 5.
//!
//! What the container is ([`Posture`]) is held against what its YAML says. What is open is either opened by a line of the
//! YAML, which the finding names, or differs from it because somebody changed the container by hand.

mod checks;
mod posture;

use chassis_spec::AgentSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use posture::{Confinement, DaemonPosture, ExecPosture, MountPosture, Posture, PublishedPort};

/// What one item found about one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `5.4`: its number in the CIS Docker Benchmark 1.6. `C.1` is chassis's own.
    pub item: String,
    pub title: String,
    pub verdict: AuditVerdict,
    /// The line of YAML, what differs, or why the item does not apply; for one that passes, what is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuditVerdict {
    Pass,
    /// There is nothing that the item could be about.
    NotApplicable,
    /// A line of the YAML opened it.
    Opened,
    /// The container is not what its YAML says: somebody changed it by hand.
    Differs,
    /// Neither: the host or the image is at fault.
    Fail,
}

impl AuditVerdict {
    /// True if something is open.
    pub fn is_open(self) -> bool {
        matches!(self, AuditVerdict::Opened | AuditVerdict::Differs | AuditVerdict::Fail)
    }
}

/// What is audited: a container, and what it should be.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub spec: &'a AgentSpec,
    pub posture: &'a Posture,
    /// The YAML or the image has a check that the server makes.
    pub has_health_check: bool,
}

type Check = fn(&Subject<'_>) -> Outcome;

/// A verdict, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome(AuditVerdict, Option<String>);

impl Outcome {
    const PASS: Outcome = Outcome(AuditVerdict::Pass, None);

    fn passes_with(note: impl Into<String>) -> Outcome {
        Outcome(AuditVerdict::Pass, Some(note.into()))
    }

    fn not_applicable(why: impl Into<String>) -> Outcome {
        Outcome(AuditVerdict::NotApplicable, Some(why.into()))
    }

    fn opened(by: impl Into<String>) -> Outcome {
        Outcome(AuditVerdict::Opened, Some(by.into()))
    }

    fn differs(how: impl Into<String>) -> Outcome {
        Outcome(AuditVerdict::Differs, Some(how.into()))
    }

    fn fails(why: impl Into<String>) -> Outcome {
        Outcome(AuditVerdict::Fail, Some(why.into()))
    }
}

/// The findings of all items, in their order.
pub fn audit(subject: &Subject<'_>) -> Vec<Finding> {
    let find = |(item, title, check): &(&str, &str, Check)| {
        let Outcome(verdict, why) = check(subject);
        Finding { item: (*item).to_owned(), title: (*title).to_owned(), verdict, why }
    };
    checks::ITEMS.iter().map(find).collect()
}
