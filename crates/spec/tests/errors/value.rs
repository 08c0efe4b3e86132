//! Files of the right shape with values that cannot be, alone or together.

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
    // Fields that contradict each other.
    (
        r"name: a
image: b
replicas: 10001
",
        r"write at most 10000
  --> agent.yaml:3:11
   |
 3 | replicas: 10001
   |           ^^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - name: data
    mount_path: /tmp/data
",
        r"/tmp is the sandbox's own; write another directory such as /data
  --> agent.yaml:5:17
   |
 5 |     mount_path: /tmp/data
   |                 ^^^^^^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: one, mountPath: /data}
  - {name: two, mountPath: /data}
",
        r"`/data` is where the volume `one` is mounted
  --> agent.yaml:5:28
   |
 5 |   - {name: two, mountPath: /data}
   |                            ^^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: key, mountPath: /key, secret: secret://f/k}
  - {name: two, mountPath: /key/x}
",
        r"the volume `two` would be inside of `key`, which is a file
  --> agent.yaml:5:28
   |
 5 |   - {name: two, mountPath: /key/x}
   |                            ^^^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: key, mountPath: /key, secret: secret://f/k, hostPath: /x}
",
        r"write either `secret` or `hostPath`, not both
  --> agent.yaml:4:66
   |
 4 |   - {name: key, mountPath: /key, secret: secret://f/k, hostPath: /x}
   |                                                                  ^^",
    ),
    (
        r"name: a
image: b
volumes:
  - name: key
    mountPath: /key
    secret: secret://f/k
    scratch:
      - path: x
",
        r"a secret is one file; there is nothing below it
  --> agent.yaml:7:5
   |
 7 |     scratch:
   |     ^^^^^^^",
    ),
    (
        r"name: a
image: b
env:
  - name: A
    value: x
    valueFrom: secret://f/k
",
        r"write either `value` or `valueFrom`, not both
  --> agent.yaml:6:16
   |
 6 |     valueFrom: secret://f/k
   |                ^^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
env:
  - name: A
",
        r#"write `value` or `valueFrom`; `value: ""` is empty text
  --> agent.yaml:4:5
   |
 4 |   - name: A
   |     ^"#,
    ),
    (
        r"name: a
image: b
env:
  - name: A
    value: x
  - name: A
    value: y
",
        r"`A` is there twice
  --> agent.yaml:6:11
   |
 6 |   - name: A
   |           ^",
    ),
    (
        r"name: a
image: b
replicas: 3
ports:
  - containerPort: 80
    hostPort: 8080
",
        r"3 instances cannot share one port of the host; leave out hostPort or replicas
  --> agent.yaml:6:15
   |
 6 |     hostPort: 8080
   |               ^^^^",
    ),
    (
        r"name: a
image: b
ports:
  - {containerPort: 80, hostPort: 8080}
  - {containerPort: 81, hostPort: 8080}
",
        r"the host's port 8080 is there twice
  --> agent.yaml:5:35
   |
 5 |   - {containerPort: 81, hostPort: 8080}
   |                                   ^^^^",
    ),
    (
        r"name: a
image: b
ports:
  - containerPort: 0
",
        r"0 is not a port
  --> agent.yaml:4:20
   |
 4 |   - containerPort: 0
   |                    ^",
    ),
    (
        r"name: a
image: b
healthCheck: {}
",
        r"write one of `http`, `tcp` and `exec`
  --> agent.yaml:3:1
   |
 3 | healthCheck: {}
   | ^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
healthCheck:
  tcp: {port: 80}
  exec: {command: [x]}
",
        r"write only one of `http`, `tcp` and `exec`
  --> agent.yaml:5:3
   |
 5 |   exec: {command: [x]}
   |   ^^^^",
    ),
    (
        r"name: a
image: b
healthCheck:
  tcp: {port: 80}
  interval: 0
",
        r"0 is no time at all
  --> agent.yaml:5:13
   |
 5 |   interval: 0
   |             ^",
    ),
    (
        r"name: a
image: b
healthCheck:
  tcp: {port: 80}
  interval: 5s
  timeout: 10s
",
        r"10s is longer than the interval of 5s
  --> agent.yaml:6:12
   |
 6 |   timeout: 10s
   |            ^^^",
    ),
    (
        r"fleet: f
agents:
  - {name: a, image: b}
  - {name: a, image: c}
",
        r"the agent `a` is there twice
  --> agent.yaml:4:12
   |
 4 |   - {name: a, image: c}
   |            ^",
    ),
    (
        r"fleet: f
agents:
  - name: a
    image: b
    fleet: g
",
        r"`g` is another fleet than `f`, which this document describes
  --> agent.yaml:5:12
   |
 5 |     fleet: g
   |            ^",
    ),
    (
        r"fleet: f
agents:
  - name: a
    image: b
    env:
      - name: A
",
        r#"write `value` or `valueFrom`; `value: ""` is empty text
  --> agent.yaml:6:9
   |
 6 |       - name: A
   |         ^"#,
    ),
];
