//! What this server's configuration lets a YAML open, asked before anything is changed, and again before each step that
//! would make or start a container: the configuration may have changed since.

use chassis_core::policy::refusals;
use chassis_spec::AgentSpec;

use crate::error::chain;
use crate::shared::Shared;

/// Everything for which these agents are refused, a line each.
pub(crate) async fn specs_refused(shared: &Shared, specs: &[AgentSpec]) -> Option<String> {
    let mut lines = Vec::new();
    for spec in specs {
        let mut reasons: Vec<String> =
            refusals(spec, &shared.allowed).iter().map(ToString::to_string).collect();
        reasons.extend(spec_check(shared, spec).await);
        lines.extend(reasons.into_iter().map(|reason| format!("agent `{}`: {reason}", spec.name)));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Why no node can give an agent what it asks for; the own node's reason, which is the one that people can look into.
async fn spec_check(shared: &Shared, spec: &AgentSpec) -> Option<String> {
    let error = shared.own().runtime.spec_check(spec).await.err()?;
    for node in shared.nodes.others().values().filter(|node| node.is_up()) {
        if node.runtime.spec_check(spec).await.is_ok() {
            return None;
        }
    }
    Some(chain(&error))
}

/// Why an agent that was allowed once is not now. The runtime checks the rest itself.
pub(crate) fn spec_refused(shared: &Shared, spec: &AgentSpec) -> Option<String> {
    refusals(spec, &shared.allowed).first().map(ToString::to_string)
}
