//! Profiles of agents: the reference ones are valid, and what is wrong is told with its place.

use chassis_spec::{AgentName, AgentProfile, parse_profiles};

const REFERENCE: &str = include_str!("../../../examples/agent-profiles.yaml");

#[test]
fn the_reference_profiles_are_valid() {
    let profiles = parse_profiles("agent-profiles.yaml", REFERENCE).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> =
        profiles.iter().filter_map(|profile| profile.name.as_ref()).map(AgentName::as_str).collect();
    assert_eq!(names, ["fused", "surfd"]);
    for profile in &profiles {
        let json = serde_json::to_string(profile).unwrap();
        assert_eq!(&serde_json::from_str::<AgentProfile>(&json).unwrap(), profile);
        assert!(profile.drain_command.is_some() && profile.download_to().is_some());
        assert!(profile.command.as_deref().is_some_and(|command| command.contains("exec")));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let sha = "0".repeat(64);
    let cases = [
        ("command: a\n", 1, "needs a `name`"),
        ("name: a\ncomand: b\n", 2, "`comand`"),
        ("name: A_\n", 1, "`A_`"),
        ("name: a\ncommand: ' '\n", 2, "nothing to run"),
        ("name: a\ndownloadUrl: https://h/x\n", 2, "downloadSha256"),
        (&format!("name: a\ndownloadSha256: {sha}\n"), 2, "downloadUrl"),
        (&format!("name: a\ndownload_url: ftp://h/x\ndownloadSha256: '{sha}'\n"), 2, "https://"),
        (&format!("name: a\ndownloadUrl: https://u:p@h/x\ndownloadSha256: '{sha}'\n"), 2, "no user"),
        ("name: a\ndownloadUrl: https://h/x\ndownloadSha256: abc\n", 3, "64 hex digits"),
        ("name: a\nauthToken: 'two words'\n", 2, "without spaces"),
        ("name: a\ndrainTimeout: 1h\n", 2, "10m"),
        ("name: a\nfiles:\n- path: /fuse/auth-token\n  content: x\n", 3, "/fuse"),
        ("name: a\nfiles:\n- path: /a\n  base64: '*'\n", 4, "Base64"),
        ("name: a\nfiles:\n- path: /a\n", 3, "`content`"),
        ("profiles:\n- name: a\n- name: a\n", 3, "twice"),
    ];
    for (text, line, part) in cases {
        let error = parse_profiles("p.yaml", text).unwrap_err();
        assert_eq!(error.line(), Some(line), "{text}{error}");
        assert!(error.to_string().contains(part), "{text}{error}");
    }
}

#[test]
fn what_a_request_gives_goes_before_the_profile() {
    let parse = |text: &str| parse_profiles("p.yaml", text).unwrap().remove(0);
    let sha = "a".repeat(64);
    let base = parse(&format!(
        "name: base\ncommand: one\ngateway: g\nauthToken: t\ndownloadUrl: https://h/x\ndownloadSha256: '{sha}'\nfiles:\n\
         - {{path: /a, content: x}}\n- {{path: /b, content: x}}\n"
    ));
    let over = parse("name: base\ncommand: two\nfiles:\n- {path: /b, content: y}\n");
    let merged = over.over(base.clone());
    assert_eq!(merged.command.as_deref(), Some("two"));
    assert_eq!(merged.gateway, base.gateway);
    assert_eq!(merged.download_url, base.download_url);
    assert_eq!(merged.download_sha256, base.download_sha256);
    assert_eq!(merged.files.len(), 2);
    assert_eq!(merged.files[1].bytes(), Some(b"y".to_vec()));
    assert!(!format!("{base:?}").contains("authToken"));
}
