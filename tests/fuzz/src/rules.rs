//! Rules and their tests as people write them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use revwatch_alerting::policy::{Capabilities, Policy};
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rule_text::{self, NamedText, built_in, written};
use revwatch_core::event::Event;
use revwatch_runtime::config::Config;

use crate::parts;
use crate::simulation::runner::play;
use crate::simulation::scenario::Scenario;
use crate::simulation::scenario_file::{FileSource, parse};
use crate::simulation::simulator::NOTIFIER;

/// A file of rules, a file of tests, and events for those tests, with the separator between them.
///
/// Each file is read, or refused with the place of every fault. A test that can be read can be run, and restarts,
/// repeats and another order of its events change nothing.
pub fn rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let [rules, tests, events] = parts(&text);
    let files = Parts {
        rules: vec![("rules.toml".to_owned(), rules.to_owned())],
        events,
    };
    let read = rule_text::parse(&files.rules);
    if let Ok(rules) = &read {
        for rule in rules {
            let _ = serde_json::Value::from(written(rule)).to_string();
        }
    }
    static BUILT_IN: OnceLock<Vec<Rule>> = OnceLock::new();
    let in_effect = match &read {
        Ok(rules) => rules,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "refused without a reason");
            BUILT_IN.get_or_init(|| built_in().expect("valid"))
        }
    };
    let tests = ("tests.toml".to_owned(), tests.to_owned());
    for scenario in parse(&tests, in_effect, &files).unwrap_or_default() {
        if is_short(&scenario) && has_one_content_for_each_id(&scenario) {
            run(&scenario);
        }
    }
}

fn run(scenario: &Scenario) {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    let policy = POLICY.get_or_init(|| {
        let config = Config::load(None, &|_| None).expect("valid");
        let all = Capabilities {
            edits: true,
            resolves: true,
        };
        Policy::new(&config.alerting, vec![(NOTIFIER.to_owned(), all)]).expect("valid")
    });
    let verdict = play(scenario, policy).expect("what is parsed can be run");
    let different = verdict.failures.iter().find(|it| it.logs.is_some());
    assert!(different.is_none(), "{different:?}");
}

/// Whether a run evaluates few rules a few times: people may simulate years.
fn is_short(scenario: &Scenario) -> bool {
    const EVALUATIONS: i64 = 400;
    // Some rules are evaluated at the end of each day, or as the minutes leave their windows, whatever the tick is.
    const MAX_S: i64 = 500 * 86_400;
    let end_s = scenario.moments.keys().next_back().copied();
    let seconds = end_s
        .unwrap_or(scenario.start_s)
        .checked_sub(scenario.start_s);
    let arrivals: usize = scenario.moments.values().map(|it| it.arrivals.len()).sum();
    let evaluations = seconds.filter(|it| *it <= MAX_S).and_then(|seconds| {
        let rules = i64::try_from(scenario.rules.len()).ok()?;
        (seconds / scenario.tick_s).checked_mul(rules)
    });
    evaluations.is_some_and(|count| count <= EVALUATIONS) && arrivals <= 50
}

/// Of two contents with one id, that counts which comes first: another order is another story.
fn has_one_content_for_each_id(scenario: &Scenario) -> bool {
    let mut known = BTreeMap::new();
    let moments = scenario.moments.values();
    moments.flat_map(|it| &it.arrivals).all(|arrival| {
        let body = &arrival.delivery.body;
        let Ok(event) = Event::parse(body) else {
            return true;
        };
        let other = known.insert(event.id.into_owned(), body);
        other.is_none_or(|other| other == body)
    })
}

/// The other files are the other parts, whatever a test calls them.
struct Parts<'a> {
    rules: Vec<NamedText>,
    events: &'a str,
}

impl FileSource for Parts<'_> {
    fn rules(&self, _: &str) -> Result<Vec<NamedText>, String> {
        Ok(self.rules.clone())
    }

    fn events(&self, _: &str) -> Result<String, String> {
        Ok(self.events.to_owned())
    }
}
