//! Files whose values are fine alone, and impossible together or for an agent.

pub(crate) const CASES: &[(&str, &str)] = &[
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
  - {name: data, mountPath: /data, dockerVolume: {}, nfs: {server: nas, path: /x}}
",
        r"write either `nfs` or `dockerVolume`, not both
  --> agent.yaml:4:36
   |
 4 |   - {name: data, mountPath: /data, dockerVolume: {}, nfs: {server: nas, path: /x}}
   |                                    ^^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: data, mountPath: /data, nfs: {server: nas, path: /x}, size: 2Gi}
",
        r"chassis cannot limit a volume with `nfs`; leave it out
  --> agent.yaml:4:72
   |
 4 |   - {name: data, mountPath: /data, nfs: {server: nas, path: /x}, size: 2Gi}
   |                                                                        ^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - name: data
    mountPath: /data
    dockerVolume:
      options: {type: none, o: bind, device: /etc}
",
        r"a device of the host cannot be mounted this way; write `hostPath` for a directory of it
  --> agent.yaml:7:7
   |
 7 |       options: {type: none, o: bind, device: /etc}
   |       ^^^^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - name: data
    mountPath: /data
    dockerVolume:
      options:
        type: nfs
        o: addr=1.2.3.4,bind
        device: /etc
",
        r"`bind` would reach the host's own files; write `hostPath` for that
  --> agent.yaml:7:7
   |
 7 |       options:
   |       ^^^^^^^",
    ),
    (
        r"name: a
image: b
network: none
ports:
  - {containerPort: 80, hostPort: 8080}
",
        r"an agent with `network: none` has no port to publish
  --> agent.yaml:5:35
   |
 5 |   - {containerPort: 80, hostPort: 8080}
   |                                   ^^^^",
    ),
    (
        r"name: a
fleet: one
image: b
network:
  fleets: [two, one]
",
        r"`one` is the agent's own fleet, whose network it is in anyway
  --> agent.yaml:5:17
   |
 5 |   fleets: [two, one]
   |                 ^^^",
    ),
    (
        r"name: a
image: b
network: host
",
        r"`host` is not one of fleet, none
  --> agent.yaml:3:10
   |
 3 | network: host
   |          ^^^^",
    ),
    (
        r"name: a
image: b
network: [tools]
",
        r"expected `fleet`, `none`, or a mapping with `fleets` and `hostPorts`, found a list
  --> agent.yaml:3:10
   |
 3 | network: [tools]
   |          ^",
    ),
    (
        r"name: a
image: b
network:
  fleet: tools
",
        r"unknown field `fleet`
  --> agent.yaml:4:3
   |
 4 |   fleet: tools
   |   ^^^^^
   = did you mean `fleets`?",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: data, mountPath: /data, nfs: {server: nas, path: '/x/{name}'}}
",
        r"`/x/{name}` has a brace that stands for nothing: write {fleet}, {agent}, {number} or {instance}
  --> agent.yaml:4:61
   |
 4 |   - {name: data, mountPath: /data, nfs: {server: nas, path: '/x/{name}'}}
   |                                                             ^^^^^^^^^^^",
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
  interval: 48h
",
        r"48h is too long: write at most 24h
  --> agent.yaml:5:13
   |
 5 |   interval: 48h
   |             ^^^",
    ),
    (
        r"name: a
image: b
healthCheck:
  http:
    port: 80
    path: healthz
",
        r"`healthz` is not a path of a URL; begin with /
  --> agent.yaml:6:11
   |
 6 |     path: healthz
   |           ^^^^^^^",
    ),
    (
        r"name: a
image: b
healthCheck:
  http:
    port: 80
    expectedStatus: 600
",
        r"write a status from 100 to 599
  --> agent.yaml:6:21
   |
 6 |     expectedStatus: 600
   |                     ^^^",
    ),
    (
        r"name: a
image: b
healthCheck:
  exec:
    command: []
",
        r#"write what to run, such as ["/bin/check"]
  --> agent.yaml:5:5
   |
 5 |     command: []
   |     ^^^^^^^"#,
    ),
    (
        r"name: a
image: b
ports:
  - containerPort: 80
    hostIP: 0.0.0.0
",
        r"an address of the host needs a `hostPort`
  --> agent.yaml:5:13
   |
 5 |     hostIP: 0.0.0.0
   |             ^^^^^^^",
    ),
    (
        r"name: a
image: b
tmpfs:
  size: 0
",
        r"0 is no memory at all
  --> agent.yaml:4:9
   |
 4 |   size: 0
   |         ^",
    ),
    (
        r"name: a
image: b
resources:
  files: 0
",
        r"write a number from 1 to 1073741824
  --> agent.yaml:4:10
   |
 4 |   files: 0
   |          ^",
    ),
    (
        r#"name: a
image: b
command: [""]
"#,
        r#"the program's name is empty
  --> agent.yaml:3:11
   |
 3 | command: [""]
   |           ^^"#,
    ),
    (
        r#"name: a
image: b
args: [x, "a\0b"]
"#,
        r#"a NUL character cannot be passed to a program
  --> agent.yaml:3:11
   |
 3 | args: [x, "a\0b"]
   |           ^^^^^^"#,
    ),
    (
        r"name: a
image: b
volumes:
  - {name: data, mountPath: /}
",
        r"a volume cannot be the whole root; write a directory such as /data
  --> agent.yaml:4:29
   |
 4 |   - {name: data, mountPath: /}
   |                             ^",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: data, mountPath: /a}
  - {name: data, mountPath: /b}
",
        r"the volume `data` is there twice
  --> agent.yaml:5:12
   |
 5 |   - {name: data, mountPath: /b}
   |            ^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - name: data
    mountPath: /data
    scratch: [{path: cache}]
  - name: cache
    mountPath: /data/cache
",
        r"the volume `data` has scratch at the mount path of `cache`
  --> agent.yaml:8:16
   |
 8 |     mountPath: /data/cache
   |                ^^^^^^^^^^^",
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
    (
        r"name: a
image: b
rollout: {maxUnavailable: 0}
",
        r"with `maxSurge: 0` no instance could ever be replaced; write at least 1
  --> agent.yaml:3:27
   |
 3 | rollout: {maxUnavailable: 0}
   |                           ^",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: data, mountPath: /data}
rollout: {max_surge: 1}
",
        r"the volume `data` is each instance's own, so none can run beyond them: leave out `rollout.maxSurge`, or make the volume `readOnly`
  --> agent.yaml:4:12
   |
 4 |   - {name: data, mountPath: /data}
   |            ^^^^",
    ),
    (
        r"name: a
image: b
volumes:
  - {name: data, mountPath: /data}
placement:
  whenNodeDown: move
",
        r"volume `data` is on the node, so that an instance that moves would begin without its data; keep it on an NFS server (`nfs`), use the memory at /tmpfs, or write `stay`
  --> agent.yaml:6:17
   |
 6 |   whenNodeDown: move
   |                 ^^^^",
    ),
    (
        r"name: a
image: b
placement: {node: n1, whenNodeDown: move}
",
        r"it runs on `n1` and no other; leave `node` out, or write `stay`
  --> agent.yaml:3:37
   |
 3 | placement: {node: n1, whenNodeDown: move}
   |                                     ^^^^",
    ),
    (
        r"name: a
image: b
ports: [{containerPort: 80, hostPort: 8080}]
rollout: {maxSurge: 25%}
",
        r"two instances cannot share one port of the host: leave out `rollout.maxSurge` or `hostPort`
  --> agent.yaml:3:39
   |
 3 | ports: [{containerPort: 80, hostPort: 8080}]
   |                                       ^^^^",
    ),
    (
        r"name: a
image: b
rollout: {maxUnavailable: 150%}
",
        r"`150%` is more than all: write at most 100%
  --> agent.yaml:3:27
   |
 3 | rollout: {maxUnavailable: 150%}
   |                           ^^^^",
    ),
];
