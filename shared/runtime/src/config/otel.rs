//! OpenTelemetry's standard variables that are not settings of revwatch: some turn traces off, and each that asks for
//! something else than revwatch does is named. Source:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.

use super::variables::Lookup;

/// The variable that turns traces off, with its value.
pub(super) fn turned_off_by(lookup: Lookup<'_>) -> Option<String> {
    let switches: [(&str, &[&str]); 3] = [
        ("OTEL_SDK_DISABLED", &["true"]),
        ("OTEL_TRACES_EXPORTER", &["none"]),
        (
            "OTEL_TRACES_SAMPLER",
            &["always_off", "parentbased_always_off"],
        ),
    ];
    let mut switches = switches.into_iter();
    switches.find_map(|(name, off)| {
        let value = value(lookup, name).filter(|value| off.contains(&value.as_str()))?;
        Some(format!("{name}={value}"))
    })
}

/// A warning for each variable that revwatch does not follow.
pub(super) fn warnings(lookup: Lookup<'_>) -> Vec<String> {
    let choices: [(&str, &[&str]); 7] = [
        ("OTEL_TRACES_EXPORTER", &["otlp", "none"]),
        ("OTEL_SDK_DISABLED", &["true", "false"]),
        (
            "OTEL_TRACES_SAMPLER",
            &[
                "traceidratio",
                "parentbased_traceidratio",
                "always_on",
                "parentbased_always_on",
                "always_off",
                "parentbased_always_off",
            ],
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", &["http/protobuf"]),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", &["http/protobuf"]),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", &["none"]),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", &["none"]),
    ];
    let refused = choices.into_iter().filter_map(|(name, known)| {
        let value = value(lookup, name)?;
        let is_known = known.contains(&value.as_str());
        // The value may be a secret in the wrong place.
        (!is_known).then(|| {
            format!(
                "{name} asks for what revwatch does not do: it knows {}",
                known.join(", ")
            )
        })
    });
    let others = [
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "set OTEL_EXPORTER_OTLP_ENDPOINT, without /v1/traces",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "set OTEL_EXPORTER_OTLP_HEADERS",
        ),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "install the certificate on this machine",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "install the certificate on this machine",
        ),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "a request may always take 5 seconds",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "a request may always take 5 seconds",
        ),
    ];
    let unread = others.into_iter().filter_map(|(name, instead)| {
        value(lookup, name)?;
        Some(format!(
            "{name} is set, but revwatch does not read it: {instead}"
        ))
    });
    refused.chain(unread).collect()
}

/// Names of values are not case-sensitive.
fn value(lookup: Lookup<'_>, name: &str) -> Option<String> {
    let value = lookup(name)?.trim().to_ascii_lowercase();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<T>((name, value): (&'static str, &'static str), read: impl Fn(Lookup<'_>) -> T) -> T {
        read(&|wanted| (wanted == name).then(|| value.to_owned()))
    }

    #[test]
    fn standard_switches_turn_traces_off() {
        for (name, value, is_off) in [
            ("OTEL_SDK_DISABLED", "true", true),
            ("OTEL_SDK_DISABLED", " TRUE ", true),
            ("OTEL_SDK_DISABLED", "false", false),
            ("OTEL_SDK_DISABLED", "1", false),
            ("OTEL_TRACES_EXPORTER", "none", true),
            ("OTEL_TRACES_EXPORTER", "otlp", false),
            ("OTEL_TRACES_SAMPLER", "always_off", true),
            ("OTEL_TRACES_SAMPLER", "traceidratio", false),
        ] {
            let found = of((name, value), turned_off_by);
            assert_eq!(found.is_some(), is_off, "{name}={value}");
        }
    }

    #[test]
    fn what_is_not_followed_is_named_without_its_value() {
        for (name, value, part) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, none"),
            ("OTEL_SDK_DISABLED", "1", "true, false"),
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "http://grpc.example",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            ),
            (
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
                "a=grpc",
                "OTEL_EXPORTER_OTLP_HEADERS",
            ),
        ] {
            let found = of((name, value), warnings);
            assert_eq!(found.len(), 1, "{name}={value}");
            let is_named = found[0].starts_with(name) && found[0].contains(part);
            assert!(is_named && !found[0].contains("grpc"), "{found:?}");
        }
        for followed in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_SERVICE_NAME", "x"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", " "),
        ] {
            assert_eq!(of(followed, warnings), Vec::<String>::new());
        }
    }
}
