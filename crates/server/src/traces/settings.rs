//! Which settings of OpenTelemetry's in the environment have no effect: the libraries pass over them without a word.

/// As <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> names them.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
const NUMBERS: [&str; 4] = [
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_EXPORT_TIMEOUT",
];

/// The settings that mean nothing here, each with what would. Values may hold passwords, and are not repeated.
pub(super) fn without_effect(set: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |name: &str, means: &dyn Fn(&str) -> bool, instead: &str| {
        if set(name).is_some_and(|value| !means(value.trim())) {
            found.push(format!("{name} has no effect: {instead}"));
        }
    };
    look("OTEL_TRACES_EXPORTER", &|value| matches!(value, "otlp" | "none"), "write `otlp` or `none`");
    for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
        look(name, &|value| value == "http/protobuf", "spans are sent as `http/protobuf`");
    }
    look(
        "OTEL_TRACES_SAMPLER",
        &|value| SAMPLERS.contains(&value),
        "write one of always_on, always_off, traceidratio, or these with parentbased_ before",
    );
    look(
        "OTEL_TRACES_SAMPLER_ARG",
        &|value| value.parse().is_ok_and(|part: f64| (0.0..=1.0).contains(&part)),
        "write a part from 0 to 1",
    );
    for name in NUMBERS {
        look(name, &|value| value.parse::<u32>().is_ok_and(|number| number > 0), "write a number above 0");
    }
    for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
        let means = |value: &str| value.split(',').all(|header| header.contains('='));
        look(name, &means, "write `name=value`, with commas between");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_named_without_its_value() {
        let settings = [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "abc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cr3t"),
        ];
        let set = |name: &str| Some(settings.iter().find(|(known, _)| *known == name)?.1.to_owned());
        let found = without_effect(set);
        let named: Vec<&str> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(
            named,
            [
                "OTEL_TRACES_EXPORTER",
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "OTEL_TRACES_SAMPLER_ARG",
                "OTEL_BSP_MAX_QUEUE_SIZE",
                "OTEL_EXPORTER_OTLP_HEADERS"
            ]
        );
        assert!(!found.join("").contains("s3cr3t"));
    }
}
