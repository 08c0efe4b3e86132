//! Files of the right shape with values that cannot be.

pub(crate) const CASES: &[(&str, &str)] = &[
    // Values that cannot be.
    (
        r"name: My_Agent
image: b
",
        r"`My_Agent` is not a valid agent name: use 1 to 40 lower-case letters, digits and hyphens, beginning and ending with a letter or digit
  --> agent.yaml:1:7
   |
 1 | name: My_Agent
   |       ^^^^^^^^",
    ),
    (
        r"name: a
image: myrepo/Collector:1.0
",
        r"`myrepo/Collector:1.0` is not an image: a name has no upper-case letters
  --> agent.yaml:2:8
   |
 2 | image: myrepo/Collector:1.0
   |        ^^^^^^^^^^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b@sha256:12
",
        r"`b@sha256:12` is not an image: after @ comes sha256: and 64 hex digits
  --> agent.yaml:2:8
   |
 2 | image: b@sha256:12
   |        ^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
resources:
  cpu: 5m
",
        r"`5m` is out of range; write 10m to 1024 cores
  --> agent.yaml:4:8
   |
 4 |   cpu: 5m
   |        ^^",
    ),
    (
        r"name: a
image: b
resources:
  cpu: lots
",
        r"`lots` is not a number of cores; write 0.5, 2 or 500m
  --> agent.yaml:4:8
   |
 4 |   cpu: lots
   |        ^^^^",
    ),
    (
        r"name: a
image: b
resources:
  memory: 128m
",
        r"`128m` is ambiguous: thousandths in Kubernetes, mebibytes in Docker; write 128M or 128Mi
  --> agent.yaml:4:11
   |
 4 |   memory: 128m
   |           ^^^^",
    ),
    (
        r"name: a
image: b
resources:
  memory: 5Mi
",
        r"5Mi is too little: write at least 6Mi
  --> agent.yaml:4:11
   |
 4 |   memory: 5Mi
   |           ^^^",
    ),
    (
        r"name: a
image: b
resources:
  memory: 128 MX
",
        r"`128 MX` is not a size; write 134217728, 128Mi, 1.5Gi or 64M
  --> agent.yaml:4:11
   |
 4 |   memory: 128 MX
   |           ^^^^^^",
    ),
    (
        r"name: a
image: b
resources:
  pids: 0
",
        r"write a number from 1 to 4194304
  --> agent.yaml:4:9
   |
 4 |   pids: 0
   |         ^",
    ),
    (
        r"name: a
image: b
stop:
  signal: SIGFOO
",
        r"`SIGFOO` is not a signal: write SIGTERM, TERM or 15
  --> agent.yaml:4:11
   |
 4 |   signal: SIGFOO
   |           ^^^^^^",
    ),
    (
        r"name: a
image: b
stop:
  grace: 1.5s
",
        r"`1.5s` is not a whole number of seconds; write 30, 30s, 5m or 1h30m
  --> agent.yaml:4:10
   |
 4 |   grace: 1.5s
   |          ^^^^",
    ),
    (
        r"name: a
image: b
logs: {maxSize: 10Ki}
",
        r"10Ki is out of range: write 64Ki to 1Gi
  --> agent.yaml:3:17
   |
 3 | logs: {maxSize: 10Ki}
   |                 ^^^^",
    ),
    (
        r"name: a
image: b
logs: {keep: 91d}
",
        r"91d is too long: write at most 90d
  --> agent.yaml:3:14
   |
 3 | logs: {keep: 91d}
   |              ^^^",
    ),
    (
        r"name: a
image: b
restart_policy: alway
",
        r"`alway` is not one of always, on-failure, never, no
  --> agent.yaml:3:17
   |
 3 | restart_policy: alway
   |                 ^^^^^
   = did you mean `always`?",
    ),
    (
        r#"name: a
image: b
user: "a b"
"#,
        r#"`a b` is not a user: write 1000, 1000:1000, app or app:app
  --> agent.yaml:3:7
   |
 3 | user: "a b"
   |       ^^^^^"#,
    ),
    (
        r"name: a
image: b
env:
  - name: 1ST
    value: x
",
        r"`1ST` is not a name of an environment variable: use letters, digits and _, not beginning with a digit
  --> agent.yaml:4:11
   |
 4 |   - name: 1ST
   |           ^^^",
    ),
    (
        r"name: a
image: b
env:
  - name: KEY
    valueFrom: sk-do-not-show
",
        r"this is not a reference to a secret; write secret://<fleet>/<name>
  --> agent.yaml:5:16
   |
 5 |     valueFrom: sk-do-not-show
   |                ^^^^^^^^^^^^^^",
    ),
    (
        r#"name: a
image: b
envFrom:
  - {secret: secret://f/k, prefix: "A B"}
"#,
        r#"`A B` is not a name of an environment variable: use letters, digits and _, not beginning with a digit
  --> agent.yaml:4:36
   |
 4 |   - {secret: secret://f/k, prefix: "A B"}
   |                                    ^^^^^"#,
    ),
    (
        r"name: a
image: b
labels:
  chassis.fleet: x
",
        r"`chassis.fleet` is the server's own: labels cannot begin with chassis.
  --> agent.yaml:4:3
   |
 4 |   chassis.fleet: x
   |   ^^^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
labels:
  -team: x
",
        r"`-team` is not a label's name: use 1 to 128 letters, digits, and . _ - / between them
  --> agent.yaml:4:3
   |
 4 |   -team: x
   |   ^^^^^",
    ),
    (
        r"name: a
image: b
security:
  capabilities: [NET_BIND_SERVIC]
",
        r"`NET_BIND_SERVIC` is not a Linux capability: did you mean NET_BIND_SERVICE?
  --> agent.yaml:4:18
   |
 4 |   capabilities: [NET_BIND_SERVIC]
   |                  ^^^^^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
security:
  seccomp: ../../etc/passwd
",
        r"`../../etc/passwd` is not a name of a seccomp profile: write NAME for NAME.json in the server's directory of profiles
  --> agent.yaml:4:12
   |
 4 |   seccomp: ../../etc/passwd
   |            ^^^^^^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
security:
  appArmor: 'two words'
",
        r"`two words` is not a name of an AppArmor profile: `aa-status` shows those that are loaded
  --> agent.yaml:4:13
   |
 4 |   appArmor: 'two words'
   |             ^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - name: data
    mountPath: data
",
        r"`data` is not a path inside the sandbox: begin with / and leave out `.`, `..`, // and a slash at the end
  --> agent.yaml:5:16
   |
 5 |     mountPath: data
   |                ^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - name: data
    mountPath: /a/../b
",
        r"`/a/../b` is not a path inside the sandbox: begin with / and leave out `.`, `..`, // and a slash at the end
  --> agent.yaml:5:16
   |
 5 |     mountPath: /a/../b
   |                ^^^^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: data, mountPath: /data, scratch: [{path: ../x}]}
",
        r"`../x` is not a path below a volume: leave out `.`, `..`, // and slashes at the beginning and end
  --> agent.yaml:4:53
   |
 4 |   - {name: data, mountPath: /data, scratch: [{path: ../x}]}
   |                                                     ^^^^",
    ),
];
