//! Documents: what is accepted means what it says, in YAML, in JSON and to the schema alike.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use chassis_spec::{
    AgentSpec, Bytes, Capability, Change, Cpu, Document, FleetSpec, ImageName, RestartPolicy, Seconds,
    Signal, changes, parse, schema,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const FULL: &str = include_str!("full.yaml");

/// The example of the specification's section 3.4, unchanged.
const EXAMPLE: &str = "name: data-collector
image: myrepo/collector:1.0
resources:
  cpu: 0.5
  memory: 128Mi
volumes:
  - name: data
    mountPath: /data
env:
  - name: API_KEY
    valueFrom: secret://collector/api-key
";

static SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schema()).expect("a valid schema"));

fn agent(yaml: &str) -> AgentSpec {
    match parse("agent.yaml", yaml).unwrap_or_else(|error| panic!("{error}")).remove(0) {
        Document::Agent(agent) => *agent,
        Document::Fleet(fleet) => panic!("a fleet: {fleet:?}"),
    }
}

#[test]
fn the_specification_s_example_is_read_with_its_defaults() {
    let agent = agent(EXAMPLE);
    assert_eq!(agent.resources.cpu, Some(Cpu(500)));
    assert_eq!(agent.resources.memory, Bytes(128 << 20));
    assert_eq!(agent.volumes[0].mount_path.as_str(), "/data");
    assert_eq!(
        agent.secret_refs().map(ToString::to_string).collect::<Vec<_>>(),
        ["secret://collector/api-key"]
    );
    assert_eq!(
        (agent.replicas, agent.restart_policy, agent.stop.grace),
        (None, RestartPolicy::Always, Seconds(10))
    );
    assert_eq!(agent.tmpfs.size, Bytes(64 << 20));
}

#[test]
fn every_field_survives_json_and_means_what_was_written() {
    let full = agent(FULL);
    let text = serde_json::to_string(&full).unwrap();
    assert_eq!(serde_json::from_str::<AgentSpec>(&text).unwrap(), full);

    assert_eq!(full.args, ["--port", "8080", "--fast", "true"]);
    let values: Vec<_> = full.env.iter().map(|variable| variable.value.as_deref()).collect();
    assert_eq!(values, [None, Some("8080"), Some("1.10"), Some("")]);
    assert_eq!(full.stop.signal.as_ref().map(Signal::as_str), Some("SIGINT"));
    assert_eq!(
        full.security.capabilities.iter().map(Capability::as_str).collect::<Vec<_>>(),
        ["NET_BIND_SERVICE", "NET_RAW"]
    );
    assert_eq!(full.secret_refs().count(), 4);
    // A field that is in no example is tested by nobody.
    let known = schema()["$defs"]["AgentSpec"]["properties"].as_object().unwrap().clone();
    let written = serde_json::to_value(&full).unwrap();
    let left_out: Vec<_> =
        known.keys().filter(|field| !field.contains('_') && written.get(field.as_str()).is_none()).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}

#[test]
fn other_spellings_mean_the_same() {
    let ours = agent(FULL);
    let snake: String = FULL
        .lines()
        .map(|line| match line.split_once(':') {
            Some((key, rest)) if !key.contains('#') && !key.contains("X-") => {
                format!("{}:{rest}\r\n", snake_case(key))
            }
            _ => format!("{line}\r\n"),
        })
        .collect();
    assert!(snake.contains("mount_path: /data") && snake.contains("start_period: 2m"));
    assert_eq!(agent(&format!("\u{feff}{snake}")), ours);
    for (written, policy) in [
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("no", RestartPolicy::Never),
    ] {
        assert_eq!(agent(&format!("name: a\nimage: b\nrestart_policy: {written}\n")).restart_policy, policy);
    }
    let blank = agent("name: a\nimage: b\nenv:\nresources:\nlabels:\nhealthCheck:\n");
    assert_eq!(blank, agent("name: a\nimage: b\n"));
}

fn snake_case(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.into() })
        .collect()
}

#[test]
fn a_file_holds_agents_and_fleets() {
    let yaml = "---\n# first\nname: a\nimage: b\n---\n---\nname: f\nlabels: {team: x}\nagents:\n  - name: a\n    image: c\n    fleet: f\n";
    let documents = parse("all.yaml", yaml).unwrap();
    let [Document::Agent(agent), Document::Fleet(fleet)] = &documents[..] else { panic!("{documents:?}") };
    assert_eq!((agent.image.as_str(), fleet.name.as_str(), fleet.agents[0].image.as_str()), ("b", "f", "c"));
    let text = serde_json::to_string(fleet).unwrap();
    assert_eq!(serde_json::from_str::<FleetSpec>(&text).unwrap(), *fleet);
}

#[test]
fn json_is_checked_as_strictly_as_yaml() {
    for (wrong, expected) in [
        (
            json!({"name": "a", "image": "b", "replicas": 2, "ports": [{"containerPort": 1, "hostPort": 2}]}),
            "ports[0].hostPort: 2 instances",
        ),
        (json!({"name": "a", "image": "b", "env": [{"name": "A"}]}), "env[0].value: write"),
        (json!({"name": "a", "image": "b", "resources": {"memory": "128m"}}), "ambiguous"),
        (json!({"name": "a", "image": "b", "x": 1}), "unknown field `x`"),
    ] {
        let error = serde_json::from_value::<AgentSpec>(wrong.clone()).unwrap_err().to_string();
        assert!(error.contains(expected), "{wrong}: {error}");
        let in_fleet = json!({"fleet": "f", "agents": [wrong]});
        assert!(serde_json::from_value::<FleetSpec>(in_fleet).unwrap_err().to_string().contains(expected));
    }
}

#[test]
fn images_follow_docker_s_grammar() {
    let digest = "0".repeat(64);
    for image in [
        "b",
        "b:1",
        "a/b",
        "localhost/b",
        "localhost:5000/b:x",
        "r.example.com/a/b__c.d--e:V1.2_x",
        "[::1]:5000/b",
    ] {
        assert!(image.parse::<ImageName>().is_ok(), "{image}");
        assert!(format!("{image}@sha256:{digest}").parse::<ImageName>().is_ok(), "{image} with a digest");
    }
    for image in [
        "",
        " b",
        "b ",
        "a b",
        "B",
        "a/B",
        "b:",
        "b:-x",
        ":1",
        "/b",
        "b/",
        "a//b",
        "-b",
        "b-",
        "b___c",
        "b..c",
        "b@",
        "b@sha256:0",
        "h:x/b",
        "h:0/b",
        "a:1:2",
        "b\n",
    ] {
        assert!(image.parse::<ImageName>().is_err(), "{image}");
    }
}

#[test]
fn a_diff_names_each_field_once() {
    let old = agent(FULL);
    let mut new = old.clone();
    assert!(changes(&old, &new).is_empty());
    new.env.reverse();
    (new.fleet, new.replicas) = (None, Some(5));
    assert!(old.runs_same(&new), "order, fleet and count shape no container");
    new.replicas = old.replicas;
    new.resources.memory = Bytes(2 << 30);
    new.env[2].value = Some("9090".to_owned());
    new.volumes.retain(|volume| volume.name.as_str() != "feeds");
    assert!(!old.runs_same(&new));
    let change = |path: &str, old: Option<&str>, new: Option<&str>| Change {
        path: path.to_owned(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    assert_eq!(
        changes(&old, &new),
        [
            change("env.PORT", Some("8080"), Some("9090")),
            change("fleet", Some("security"), None),
            change("resources.memory", Some("1536Mi"), Some("2Gi")),
            change("volumes.feeds.hostPath", Some("/srv/feeds"), None),
            change("volumes.feeds.mountPath", Some("/feeds"), None),
            change("volumes.feeds.readOnly", Some("true"), None),
        ]
    );
}

#[test]
fn the_schema_agrees_with_the_reader() {
    let as_json = |yaml: &str| serde_saphyr::from_str::<Value>(yaml).unwrap();
    let fleet = "fleet: f\nagents:\n  - {name: a, image: b}\n";
    for yaml in [
        EXAMPLE,
        FULL,
        fleet,
        &fleet.replace("fleet:", "name:"),
        "name: a\nimage: b\nrestart_policy: OnFailure\nvolumes: [{name: d, mount_path: /d}]\n",
    ] {
        assert!(parse("agent.yaml", yaml).is_ok());
        let errors: Vec<_> = SCHEMA.iter_errors(&as_json(yaml)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{yaml}: {errors:?}");
    }
    for yaml in [
        "name: a\n",
        "name: a\nimage: b\nmemroy: 1\n",
        "name: a\nimage: b\nresources: {memroy: 1Gi}\n",
        "name: a\nimage: b\nresources: {memory: 128m}\n",
        "name: a\nimage: b\nresources: {cpu: lots}\n",
        "name: a\nimage: b\nrestart_policy: sometimes\n",
        "name: a\nimage: b\nports: [\"80:80\"]\n",
        "name: a\nimage: b\nvolumes: [{name: d}]\n",
        "name: A\nimage: b\n",
        "agents: []\n",
        "fleet: f\nagents:\n  - {name: a}\n",
    ] {
        assert!(parse("agent.yaml", yaml).is_err(), "{yaml}");
        assert!(!SCHEMA.is_valid(&as_json(yaml)), "{yaml}");
    }
}

#[test]
fn hostile_input_is_refused_quickly() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.extend([format!("a{level}: &a{level} [{aliases}]\n")]);
    }
    let merges = "a: &a {x: 1}\nb:\n".to_owned() + &"  - {<<: *a}\n".repeat(50_000);
    for (what, text) in [
        ("an alias bomb", bomb),
        ("many merges", merges),
        ("2 MB", "#".repeat(2 << 20)),
        ("deep flow", "[".repeat(500_000)),
        ("deep blocks", "- ".repeat(500_000)),
        ("many documents", "---\n".repeat(250_000)),
        ("many aliases", format!("a: &a x\nb: [{}]\n", "*a,".repeat(300_000))),
    ] {
        let start = Instant::now();
        let error = parse("agent.yaml", &text).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(1), "{what} took {:?}", start.elapsed());
        assert!(matches!(error.code(), "yaml_too_large" | "yaml_syntax"), "{what}: {error}");
        assert!(error.to_string().len() < 1000, "{what}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = parse("agent.yaml", &text).map_err(|error| error.to_string());
        let _ = parse("agent.yaml", &bytes).map_err(|error| error.to_string());
    }

    /// Near misses: the full example with one stretch of it replaced. What is accepted can be stored and read again.
    #[test]
    fn damage_is_shown_or_harmless(start in 0..FULL.len(), length in 0_usize..40, insert in "[ \\t\\n:{}\\[\\]&*!|>'\"%@`a-z0-9é~-]{0,12}") {
        let mut text = FULL.to_owned();
        text.replace_range(start..(start + length).min(FULL.len()), &insert);
        let read = parse("agent.yaml", &text);
        if let Ok([Document::Agent(agent)]) = read.as_deref() {
            let stored = serde_json::to_value(agent).unwrap();
            prop_assert!(SCHEMA.is_valid(&stored), "{}", stored);
            prop_assert_eq!(&serde_json::from_value::<AgentSpec>(stored).unwrap(), &**agent);
        }
        if let Err(error) = read {
            let shown = error.to_string();
            prop_assert!(shown.contains("agent.yaml"), "{}", shown);
            if let Some(line) = error.line() {
                prop_assert!((1..=text.lines().count() + 1).contains(&line), "{}", shown);
            }
        }
    }
}
