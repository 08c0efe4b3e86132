//! Reads `GET /metrics`, and checks what promtool checks, so that it is checked without promtool too.

use std::collections::{BTreeMap, BTreeSet};

use chassis_testkit::Chassis;

pub(crate) struct Figures {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Figures {
    pub(crate) fn read(chassis: &Chassis) -> Figures {
        let (status, text) = chassis.ask("GET", "/metrics");
        assert_eq!(status, 200, "{text}");
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            let known = samples.insert(series.to_owned(), value.parse().expect("a number"));
            assert!(known.is_none(), "{series} is there twice");
        }
        Figures { text, samples }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// A sample; labels in the order in which they are shown.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let series =
            if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
        self.samples.get(&series).copied()
    }

    /// Every figure has a type and a text, and is named as its type and unit want it.
    pub(crate) fn lint(&self) {
        let mut types: BTreeMap<&str, &str> = BTreeMap::new();
        let mut helps: BTreeSet<&str> = BTreeSet::new();
        for line in self.text.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, help] => {
                    assert!(!help.trim_end_matches('.').is_empty() && helps.insert(name), "{line}");
                }
                ["#", "TYPE", name, kind] => assert!(types.insert(name, kind).is_none(), "{line}"),
                ["#", ..] => panic!("neither HELP nor TYPE: {line}"),
                _ => {
                    let series = line.split(['{', ' ']).next().expect("a name");
                    let family = types.keys().find(|name| {
                        let rest = series.strip_prefix(**name);
                        rest == Some("")
                            || (types[**name] == "histogram"
                                && rest.is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest)))
                    });
                    assert!(family.is_some(), "no type is told before {line}");
                }
            }
        }
        assert_eq!(types.keys().copied().collect::<BTreeSet<_>>(), helps);
        for (name, kind) in types {
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            let unit = ["_milliseconds", "_ms", "_minutes", "_kib", "_mib", "_kb", "_mb", "_percent"];
            assert!(!unit.iter().any(|unit| name.contains(unit)), "{name} is in no base unit");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        }
    }
}
