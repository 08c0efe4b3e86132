//! What a person asks for while the server dies again and again, and what is to be there after each step.

/// One thing asked for.
#[derive(Debug)]
pub(crate) struct Step {
    /// The command; `FLEET` stands for the fleet's name.
    pub(crate) command: &'static [&'static str],
    /// Where the server comes by on the way, in this order.
    pub(crate) points: &'static [&'static str],
    pub(crate) then: Then,
}

/// How things are when all is done.
#[derive(Debug)]
pub(crate) struct Then {
    pub(crate) fleet: bool,
    pub(crate) secret: bool,
    /// The `version` that the agent's YAML carries.
    pub(crate) version: &'static str,
    pub(crate) running: &'static [u32],
    pub(crate) stopped: &'static [u32],
    /// Instances that have tier 1 data, and those that must have none.
    pub(crate) data: &'static [u32],
    pub(crate) no_data: &'static [u32],
}

const NOTHING: Then =
    Then { fleet: true, secret: true, version: "1", running: &[], stopped: &[], data: &[], no_data: &[] };

pub(crate) const SCENARIO: &[Step] = &[
    Step {
        command: &["create", "fleet", "FLEET"],
        points: &["fleet_create:before", "fleet_create:stored", "fleet_create:prepared"],
        then: Then { secret: false, ..NOTHING },
    },
    Step {
        command: &["secret", "create", "FLEET/key", "--from-file", "key.txt", "--replace"],
        points: &["secret_write:before", "secret_write:stored"],
        then: NOTHING,
    },
    Step {
        command: &["deploy", "agent", "-f", "version-1.yaml", "--replicas", "3"],
        points: &[
            "apply:before",
            "apply:stored",
            "pin:before",
            "pin:after",
            "create:before",
            "create:after",
            "start:before",
            "start:after",
            "record:before",
            "record:after",
            "rollout:before",
            "rollout:after",
        ],
        then: Then { running: &[1, 2, 3], data: &[1, 2, 3], ..NOTHING },
    },
    // Where it can die on the way is the store's affair, and tested there; the next step shows whether the secret is lost.
    Step {
        command: &["secret", "rotate-key"],
        points: &[],
        then: Then { running: &[1, 2, 3], data: &[1, 2, 3], ..NOTHING },
    },
    Step {
        command: &["scale", "fleet", "FLEET", "4"],
        points: &[
            "scale:before",
            "scale:stored",
            "create:before",
            "create:after",
            "start:before",
            "start:after",
        ],
        then: Then { running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["restart", "agent", "FLEET/a"],
        points: &[
            "change:before",
            "change:stored",
            "stop:before",
            "stop:after",
            "start:before",
            "start:after",
            "record:before",
            "record:after",
        ],
        then: Then { running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["deploy", "agent", "-f", "version-2.yaml"],
        points: &[
            "apply:before",
            "apply:stored",
            "stop:before",
            "stop:after",
            "keep:after",
            "remove:before",
            "remove:after",
            "create:before",
            "create:after",
            "start:before",
            "start:after",
        ],
        then: Then { version: "2", running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    // No new container, but other limits.
    Step {
        command: &["deploy", "agent", "-f", "version-2-small.yaml"],
        points: &["apply:stored", "update:before", "update:after", "rollout:before", "rollout:after"],
        then: Then { version: "2", running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["rollout", "undo", "FLEET/a", "--to-revision", "1"],
        points: &["undo:before", "undo:stored", "stop:before", "remove:after", "rollout:before"],
        then: Then { running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["upgrade", "agent", "FLEET/a", "--refresh"],
        points: &["upgrade:before", "upgrade:stored"],
        then: Then { running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["rollout", "pause", "FLEET/a"],
        points: &["pause:before", "pause:stored"],
        then: Then { running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["rollout", "resume", "FLEET/a"],
        points: &["pause:before", "pause:stored"],
        then: Then { running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    // It fails, and is undone by itself.
    Step {
        command: &["deploy", "agent", "-f", "version-broken.yaml"],
        points: &["apply:stored", "rollback:before", "rollback:after", "rollout:before"],
        then: Then { running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["deploy", "agent", "-f", "version-2.yaml"],
        points: &["apply:stored", "start:after", "rollout:after"],
        then: Then { version: "2", running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["stop", "FLEET/a-2"],
        points: &["change:before", "change:stored", "stop:before", "stop:after"],
        then: Then { version: "2", running: &[1, 3, 4], stopped: &[2], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["start", "FLEET/a-2"],
        points: &["change:before", "change:stored", "start:before", "start:after"],
        then: Then { version: "2", running: &[1, 2, 3, 4], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["scale", "agent", "FLEET/a", "2"],
        points: &[
            "scale:before",
            "scale:stored",
            "stop:before",
            "stop:after",
            "keep:after",
            "remove:before",
            "remove:after",
            "forget:before",
            "forget:after",
        ],
        then: Then { version: "2", running: &[1, 2], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["scale", "agent", "FLEET/a", "3"],
        points: &[
            "scale:before",
            "scale:stored",
            "create:before",
            "create:after",
            "start:before",
            "start:after",
        ],
        then: Then { version: "2", running: &[1, 2, 3], data: &[1, 2, 3, 4], ..NOTHING },
    },
    Step {
        command: &["delete", "agent", "FLEET/a-3", "--cleanup"],
        points: &[
            "instance_delete:before",
            "instance_delete:stored",
            "stop:before",
            "stop:after",
            "keep:after",
            "remove:before",
            "remove:after",
            "forget:before",
            "forget:cleaned",
            "forget:after",
        ],
        then: Then { version: "2", running: &[1, 2], data: &[1, 2, 4], no_data: &[3], ..NOTHING },
    },
    Step {
        command: &["delete", "agent", "FLEET/a"],
        points: &[
            "agent_delete:before",
            "agent_delete:stored",
            "stop:before",
            "remove:after",
            "forget:before",
            "forget:after",
            "agent_forget:before",
            "agent_forget:after",
        ],
        then: Then { data: &[1, 2, 4], no_data: &[3], ..NOTHING },
    },
    Step {
        command: &["deploy", "agent", "-f", "version-1.yaml", "--replicas", "2"],
        points: &["apply:stored", "create:after", "start:before", "record:before", "record:after"],
        then: Then { running: &[1, 2], data: &[1, 2, 4], ..NOTHING },
    },
    Step {
        command: &["delete", "fleet", "FLEET", "--cleanup", "--confirm=FLEET"],
        points: &[
            "fleet_delete:before",
            "fleet_delete:stored",
            "stop:after",
            "keep:after",
            "remove:before",
            "forget:cleaned",
            "forget:after",
            "agent_forget:before",
            "agent_forget:cleaned",
            "agent_forget:after",
            "fleet_forget:before",
            "fleet_forget:cleaned",
            "fleet_forget:removed",
        ],
        // The data of number 4, which was deleted without it, goes now too.
        then: Then { fleet: false, secret: false, no_data: &[1, 2, 3, 4], ..NOTHING },
    },
];
