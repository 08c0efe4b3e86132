//! Every line of YAML that gives an agent more than its sandbox is refused unless the server allows just that.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by where it panics")]

use std::collections::BTreeSet;

use chassis_core::Opening;
use chassis_core::policy::refusals;
use chassis_spec::{AgentSpec, Document, parse};

fn agent(security: &str) -> AgentSpec {
    let yaml = format!("name: a\nimage: b\nsecurity: {{{security}}}\n");
    match parse("agent.yaml", yaml).unwrap().pop().unwrap() {
        Document::Agent(agent) => *agent,
        Document::Fleet(_) => panic!("not an agent"),
    }
}

#[test]
fn each_opening_needs_its_own_permission() {
    for (yaml, field, opening) in [
        ("privileged: true", "security.privileged", Opening::Privileged),
        ("hostNetwork: true", "security.hostNetwork", Opening::HostNetwork),
        ("host_network: true", "security.hostNetwork", Opening::HostNetwork),
        ("hostPid: true", "security.hostPid", Opening::HostPid),
        ("hostPID: true", "security.hostPid", Opening::HostPid),
        ("hostIPC: true", "security.hostIpc", Opening::HostIpc),
        ("userns: host", "security.userns", Opening::HostUserns),
        ("seccomp: unconfined", "security.seccomp", Opening::Unconfined),
        ("appArmor: unconfined", "security.appArmor", Opening::Unconfined),
        ("seLinux: {type: spc_t}", "security.seLinux.type", Opening::Unconfined),
        ("capabilities: [NET_RAW, all]", "security.capabilities[1]", Opening::AllCapabilities),
        ("capabilities: [CAP_SYS_ADMIN]", "security.capabilities[0]", Opening::AllCapabilities),
        ("capabilities: [sys_module]", "security.capabilities[0]", Opening::AllCapabilities),
    ] {
        let agent = agent(yaml);
        let refused = refusals(&agent, &BTreeSet::new());
        assert_eq!(refused.len(), 1, "{yaml}: {refused:?}");
        assert_eq!((refused[0].field.as_str(), refused[0].opening), (field, opening), "{yaml}");
        let text = refused[0].to_string();
        assert!(text.contains(field) && text.contains(&format!("--allow {opening}")), "{text}");
        assert_eq!(opening.word().parse(), Ok(opening));
        // Nothing else that could be allowed opens it.
        let others: BTreeSet<_> = Opening::ALL.into_iter().filter(|other| *other != opening).collect();
        assert_eq!(refusals(&agent, &others), refused, "{yaml}");
        assert_eq!(refusals(&agent, &BTreeSet::from([opening])), [], "{yaml}");
    }
}

#[test]
fn what_stays_in_the_sandbox_needs_no_permission() {
    for yaml in [
        "writableRoot: true",
        "capabilities: [NET_ADMIN, NET_RAW, CHOWN, SYS_PTRACE]",
        "appArmor: docker-default",
        "seLinux: {type: container_t, level: 's0:c1,c2'}",
        "seccomp: no-chmod",
        "privileged: false, hostNetwork: false, hostPid: false, hostIpc: false",
    ] {
        assert_eq!(refusals(&agent(yaml), &BTreeSet::new()), [], "{yaml}");
    }
}
