//! What the documentation and the examples show is what the reader takes, and the published schema is the types' own.

use std::fs;
use std::path::{Path, PathBuf};

use chassis_spec::{parse, parse_profiles, schema};

const SECOND_SPELLINGS: [&str; 6] = ["hostIP", "hostPID", "hostIPC", "apparmor", "selinux", "seLinuxOptions"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_yaml_block_of_the_reference_is_valid() {
    let text = fs::read_to_string(root().join("docs/agent-yaml.md")).unwrap();
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(blocks.len() >= 8, "only {} blocks", blocks.len());
    for block in blocks {
        parse("docs/agent-yaml.md", block).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_field_is_in_the_reference() {
    let text = fs::read_to_string(root().join("docs/agent-yaml.md")).unwrap();
    let schema = schema();
    let properties = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|definition| definition["properties"].as_object());
    for field in properties
        .flat_map(|properties| properties.keys())
        .filter(|field| !field.contains('_') && !SECOND_SPELLINGS.contains(&field.as_str()))
    {
        let written = [format!("`{field}`"), format!(".{field}`"), format!("].{field}`")];
        let documented = field == "restartPolicy" || written.iter().any(|field| text.contains(field));
        assert!(documented, "{field} is not in docs/agent-yaml.md");
    }
}

#[test]
fn every_example_is_valid() {
    let files = yaml_files(&root().join("examples"));
    assert!(!files.is_empty(), "no example was found");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        if bytes.starts_with(b"profiles:") || String::from_utf8_lossy(&bytes).contains("\nprofiles:") {
            parse_profiles(&file.display().to_string(), bytes).unwrap_or_else(|error| panic!("{error}"));
            continue;
        }
        parse(&file.display().to_string(), bytes).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// `CHASSIS_WRITE_SCHEMA=1 cargo test -p chassis-spec` writes it anew.
#[test]
fn the_published_schema_is_current() {
    let path = root().join("docs/agent.schema.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("CHASSIS_WRITE_SCHEMA").is_some() {
        fs::write(&path, &current).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap();
    assert!(
        published == current,
        "docs/agent.schema.json is old: run CHASSIS_WRITE_SCHEMA=1 cargo test -p chassis-spec"
    );
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("a directory entry").path()) {
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files
}
