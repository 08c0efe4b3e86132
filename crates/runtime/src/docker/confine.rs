//! The profiles that confine an agent beyond Docker's defaults.

use std::fs;
use std::path::Path;

use chassis_spec::{AgentSpec, SeLinux, SeccompProfile};
use serde_json::Value;

use crate::{Error, Result};

/// Far more than any profile has.
const LARGEST_PROFILE: u64 = 1 << 20;

/// The seccomp profile of a spec, as Docker takes it, if it has one of its own.
pub(crate) fn seccomp(spec: &AgentSpec, directory: &Path) -> Result<Option<String>> {
    match &spec.security.seccomp {
        None => Ok(None),
        Some(profile) if profile.is_unconfined() => Ok(Some(profile.to_string())),
        Some(profile) => read(profile, directory).map(Some),
    }
}

/// Reads a profile and makes sure that it is one: what Docker says of one that is not is hard to understand.
fn read(profile: &SeccompProfile, directory: &Path) -> Result<String> {
    let path = directory.join(format!("{profile}.json"));
    let wrong =
        |why: &str| Error::rejected(format!("`security.seccomp: {profile}`: {} {why}", path.display()));
    let size = fs::metadata(&path)
        .map_err(|error| {
            wrong("cannot be read; put the profile there, or name another directory with --seccomp-dir")
                .caused_by(error)
        })?
        .len();
    if size > LARGEST_PROFILE {
        return Err(wrong("is larger than 1 MiB: not a profile"));
    }
    let text = fs::read_to_string(&path).map_err(|error| wrong("cannot be read").caused_by(error))?;
    let content: Value =
        serde_json::from_str(&text).map_err(|error| wrong("is not JSON").caused_by(error))?;
    if !content.get("defaultAction").is_some_and(Value::is_string) {
        return Err(wrong("is not a seccomp profile: it has no `defaultAction`"));
    }
    Ok(content.to_string())
}

/// What Docker is told under `SecurityOpt`.
pub(crate) fn options(spec: &AgentSpec, seccomp: Option<&str>) -> Vec<String> {
    let security = &spec.security;
    let mut options = vec!["no-new-privileges".to_owned()];
    options.extend(security.app_armor.as_ref().map(|profile| format!("apparmor={profile}")));
    let label = security.se_linux.iter().flat_map(SeLinux::parts);
    options.extend(label.map(|(name, value)| format!("label={name}:{value}")));
    options.extend(seccomp.map(|profile| format!("seccomp={profile}")));
    options
}

#[cfg(test)]
mod tests {
    use chassis_spec::{Document, parse};

    use super::*;

    fn agent(security: &str) -> AgentSpec {
        let yaml = format!("name: a\nimage: b\nsecurity: {{{security}}}\n");
        match parse("a.yaml", yaml).unwrap().pop().unwrap() {
            Document::Agent(agent) => *agent,
            Document::Fleet(_) => panic!("not an agent"),
        }
    }

    #[test]
    fn only_a_profile_reaches_docker() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
        write("good.json", "{\n \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n");
        write("text.json", "defaultAction");
        write("other.json", "{\"syscalls\": []}");
        write("number.json", "{\"defaultAction\": 1}");
        let read = |name: &str| seccomp(&agent(&format!("seccomp: {name}")), home.path());
        assert_eq!(read("good").unwrap().unwrap(), "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}");
        assert_eq!(read("unconfined").unwrap().unwrap(), "unconfined");
        assert_eq!(seccomp(&agent(""), home.path()).unwrap(), None);
        for (name, why) in [
            ("none", "--seccomp-dir"),
            ("text", "is not JSON"),
            ("other", "no `defaultAction`"),
            ("number", "no `defaultAction`"),
        ] {
            let error = read(name).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&format!("{name}.json")), "{error}");
        }
    }

    /// Neither AppArmor nor SELinux is on every machine that runs the tests; what Docker is asked for is the same on all.
    #[test]
    fn profiles_are_asked_for_as_docker_takes_them() {
        let agent = agent("appArmor: mine, seLinux: {type: svirt_t, level: 's0:c1,c2'}");
        assert_eq!(
            options(&agent, Some("{}")),
            [
                "no-new-privileges",
                "apparmor=mine",
                "label=type:svirt_t",
                "label=level:s0:c1,c2",
                "seccomp={}"
            ]
        );
    }
}
