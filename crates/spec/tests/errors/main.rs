//! What people see when a file is wrong: each bad input, and the whole error.

mod shape;
mod together;
mod value;

use chassis_spec::parse;

#[test]
fn every_mistake_is_shown_where_it_is() {
    let wrong: Vec<String> = shape::CASES
        .iter()
        .chain(value::CASES)
        .chain(together::CASES)
        .filter_map(|(yaml, expected)| {
            let shown = match parse("agent.yaml", yaml) {
                Ok(documents) => format!("accepted: {documents:?}"),
                Err(error) => error.to_string(),
            };
            (shown != *expected).then(|| format!("{yaml}\nshows:\n{shown}\n\ninstead of:\n{expected}\n"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mistake_has_a_code() {
    for (yaml, code, line, column) in [
        ("name: a\nimage: b\nx: 1\n", "unknown_field", 3, 1),
        ("name: a\n", "missing_field", 1, 1),
        ("name: a\nname: a\n", "duplicate_key", 2, 1),
        ("name: a\nimage: [b]\n", "wrong_type", 2, 8),
        ("name: a\nimage: b\nreplicas: 99999\n", "invalid_value", 3, 11),
        ("name: [\n", "yaml_syntax", 1, 7),
    ] {
        let error = parse("agent.yaml", yaml).unwrap_err();
        assert_eq!((error.code(), error.line(), error.column()), (code, Some(line), Some(column)), "{yaml}");
    }
    assert_eq!(parse("agent.yaml", "").unwrap_err().code(), "yaml_empty");
    assert_eq!(parse("agent.yaml", b"name: a\nimage: \xff").unwrap_err().code(), "yaml_syntax");
}
