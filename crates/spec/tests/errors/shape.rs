//! Files that are not of our shape: unknown, missing and doubled fields, wrong types, broken YAML.

pub(crate) const CASES: &[(&str, &str)] = &[
    // Unknown, missing and doubled fields.
    (
        r"name: a
image: b
resources:
  memroy: 128Mi
",
        r"unknown field `memroy`
  --> agent.yaml:4:3
   |
 4 |   memroy: 128Mi
   |   ^^^^^^
   = did you mean `memory`?",
    ),
    (
        r"name: a
image: b
environment:
  A: b
",
        r"unknown field `environment`
  --> agent.yaml:3:1
   |
 3 | environment:
   | ^^^^^^^^^^^
   = write `env`, a list of `name` and `value`",
    ),
    (
        r"name: a
image: b
depends_on: [db]
",
        r"unknown field `depends_on`
  --> agent.yaml:3:1
   |
 3 | depends_on: [db]
   | ^^^^^^^^^^
   = agents start on their own; leave it out and let the agent try again",
    ),
    (
        r"apiVersion: v1
kind: Pod
",
        r"unknown field `apiVersion`
  --> agent.yaml:1:1
   |
 1 | apiVersion: v1
   | ^^^^^^^^^^
   = this is a Kubernetes object; write its container's fields at the top: `name`, `image`, `env`, `resources`",
    ),
    (
        r"name: a
image: b
healthcheck:
  tcp: {port: 1}
",
        r"unknown field `healthcheck`
  --> agent.yaml:3:1
   |
 3 | healthcheck:
   | ^^^^^^^^^^^
   = write `healthCheck`",
    ),
    (
        r"name: a
image: b
resources:
  limits: {cpu: 1}
",
        r"unknown field `limits`
  --> agent.yaml:4:3
   |
 4 |   limits: {cpu: 1}
   |   ^^^^^^
   = write `cpu` and `memory` directly under `resources`; they are the limits",
    ),
    (
        r"name: a
image: b
tmpfs:
  sise: 1Mi
",
        r"unknown field `sise`
  --> agent.yaml:4:3
   |
 4 |   sise: 1Mi
   |   ^^^^
   = did you mean `size`?",
    ),
    (
        r"name: a
replicas: 2
",
        r"`image` is missing here
  --> agent.yaml:1:1
   |
 1 | name: a
   | ^
   = add `image: …`",
    ),
    (
        r"name: a
image: b
volumes:
  - name: data
",
        r"`mountPath` is missing here
  --> agent.yaml:4:5
   |
 4 |   - name: data
   |     ^
   = add `mountPath: …`",
    ),
    (
        r"name: a
name: b
image: c
",
        r"`name` is given twice
  --> agent.yaml:2:1
   |
 2 | name: b
   | ^^^^",
    ),
    (
        r"name: a
image: b
restart_policy: never
restartPolicy: always
",
        r"`restartPolicy` is given twice
  --> agent.yaml:4:1
   |
 4 | restartPolicy: always
   | ^^^^^^^^^^^^^",
    ),
    (
        r"name: a
image: b
gizmo: 1
",
        r"unknown field `gizmo`
  --> agent.yaml:3:1
   |
 3 | gizmo: 1
   | ^^^^^
   = `chassis schema` shows what is known",
    ),
    (
        r"name: a
image: b
stop:
  gizmo: 1
",
        r"unknown field `gizmo`
  --> agent.yaml:4:3
   |
 4 |   gizmo: 1
   |   ^^^^^
   = known here: signal, grace, drain",
    ),
    // Wrong types.
    (
        r"name: a
image: b
command: npm start
",
        r#"expected a list, found the text `npm start`
  --> agent.yaml:3:10
   |
 3 | command: npm start
   |          ^^^^^^^^^
   = write ["one", "two"], or one `- ` line for each entry"#,
    ),
    (
        r"name: a
image: b
env:
  A: b
",
        r"expected a list, found a mapping
  --> agent.yaml:4:3
   |
 4 |   A: b
   |   ^
   = begin every entry with `- `",
    ),
    (
        r#"name: a
image: b
ports: ["8080:80"]
"#,
        r#"expected a mapping, found the text `8080:80`
  --> agent.yaml:3:9
   |
 3 | ports: ["8080:80"]
   |         ^^^^^^^^^
   = write `- containerPort: 80` and, to publish it, `hostPort: 8080` below it"#,
    ),
    (
        r#"name: a
image: b
replicas: "3"
"#,
        r#"expected a whole number, found the text `3`
  --> agent.yaml:3:11
   |
 3 | replicas: "3"
   |           ^^^
   = leave the quotes out"#,
    ),
    (
        r"name: a
image: b
replicas: -1
",
        r"`-1` is negative: write 0 or more
  --> agent.yaml:3:11
   |
 3 | replicas: -1
   |           ^^",
    ),
    (
        r"name: a
image: b
ports:
  - containerPort: 70000
",
        r"`70000` is too much: write at most 65535
  --> agent.yaml:4:20
   |
 4 |   - containerPort: 70000
   |                    ^^^^^",
    ),
    (
        r"name: a
image: b
security:
  writableRoot: yes
",
        r"expected true or false, found the text `yes`
  --> agent.yaml:4:17
   |
 4 |   writableRoot: yes
   |                 ^^^",
    ),
    (
        r"name: a
image:
",
        r"expected text, found nothing
  --> agent.yaml:2:6
   |
 2 | image:
   |      ^",
    ),
    (
        r"just text
",
        r"expected a mapping, found the text `just text`
  --> agent.yaml:1:1
   |
 1 | just text
   | ^^^^^^^^^",
    ),
    // YAML itself.
    (
        "name: a\nresources:\n\tmemory: 1Gi\n",
        "tabs disallowed within this context (block indentation)\n  --> agent.yaml:3:2\n   |\n 3 | \tmemory: 1Gi\n   | \t^\n   = indent with spaces, not with tabs",
    ),
    (
        r"name: a
  image: b
",
        r"mapping values are not allowed in this context
  --> agent.yaml:2:8
   |
 2 |   image: b
   |        ^
   = indent it like the lines it belongs to, and put text with a colon in quotes",
    ),
    (
        r#"name: "a
image: b
"#,
        r"invalid indentation in multiline quoted scalar
  --> agent.yaml:2:1
   |
 2 | image: b
   | ^
   = perhaps a quotation mark is left open above",
    ),
    (
        r"name: *nowhere
image: b
",
        r"this alias names an anchor that is nowhere before it
  --> agent.yaml:1:7
   |
 1 | name: *nowhere
   |       ^",
    ),
    (
        r"name: !secret a
image: b
",
        r"unsupported tag `!secret`
  --> agent.yaml:1:15
   |
 1 | name: !secret a
   |               ^",
    ),
    (
        r"# nothing
---
",
        r"there is no document in this file
  --> agent.yaml
   = write at least `name` and `image`",
    ),
    (
        r"name: a
image: b
---
name: c
imagee: d
",
        r"unknown field `imagee`
  --> agent.yaml:5:1
   |
 5 | imagee: d
   | ^^^^^^
   = did you mean `image`?",
    ),
    (
        "name: a\r\nimage: b\r\nimagee: c\r\n",
        r"unknown field `imagee`
  --> agent.yaml:3:1
   |
 3 | imagee: c
   | ^^^^^^
   = did you mean `image`?",
    ),
];
