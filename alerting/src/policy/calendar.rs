//! Business hours: when a time that is given in them has passed. Pure.

use std::collections::BTreeSet;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use revwatch_runtime::config::{BusinessHours, ConfigError, Fault, Faults, closest_match};

use super::shown;

/// When people work.
#[derive(Debug, Clone)]
pub(super) struct Calendar {
    zone: TimeZone,
    days: BTreeSet<i8>,
    from: Time,
    to: Time,
    holidays: BTreeSet<Date>,
}

/// No calendar is searched for longer: a hundred years.
const LONGEST_S: i64 = 100 * 366 * 86_400;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Calendar {
    pub(super) fn new(hours: &BusinessHours) -> Result<Self, ConfigError> {
        let mut faults = Faults::default();
        let mut invalid = |key: &str, what: String| {
            let key = format!("alerting.business_hours.{key}");
            faults
                .add(Fault::from(format!("alerting.business_hours: {what}")).about([key.as_str()]));
        };
        let zone = TimeZone::get(&hours.time_zone);
        if zone.is_err() {
            let known: Vec<String> = jiff::tz::db()
                .available()
                .map(|it| it.to_string())
                .collect();
            let meant = closest_match(&hours.time_zone, known.iter().map(String::as_str));
            let what = format!(
                "time_zone {} is unknown: use a name such as {}",
                shown(&hours.time_zone),
                meant.unwrap_or("Europe/Lisbon")
            );
            invalid("time_zone", what);
        }
        let mut days = BTreeSet::new();
        for (number, name) in hours.days.iter().enumerate() {
            match (1..).zip(DAYS).find(|(_, day)| day == name) {
                Some((day, _)) => drop(days.insert(day)),
                None => {
                    let name = shown(name);
                    let what = format!("day {name} is unknown: there are {}", DAYS.join(", "));
                    invalid(&format!("days.{number}"), what);
                }
            }
        }
        if hours.days.is_empty() {
            invalid("days", "there must be a day".to_owned());
        }
        let [from, to] = [("from", &hours.from), ("to", &hours.to)].map(|(key, text)| {
            let time: Option<Time> = text.parse().ok();
            if time.is_none() {
                let text = shown(text);
                let what = format!(
                    "{key} {text} is not a time of day: write it like \"09:00\", at most \"23:59\""
                );
                invalid(key, what);
            }
            time
        });
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            invalid("to", "`from` must be before `to`".to_owned());
        }
        let mut holidays = BTreeSet::new();
        for (number, text) in hours.holidays.iter().enumerate() {
            match text.parse() {
                Ok(date) => drop(holidays.insert(date)),
                Err(_) => {
                    let text = shown(text);
                    let what =
                        format!("holiday {text} is not a date: write it like \"2026-12-25\"");
                    invalid(&format!("holidays.{number}"), what);
                }
            }
        }
        faults.none()?;
        // Without a fault every value is there.
        Ok(Self {
            zone: zone.unwrap_or(TimeZone::UTC),
            days,
            from: from.unwrap_or_default(),
            to: to.unwrap_or_default(),
            holidays,
        })
    }

    /// The hours in words: they change when the calendar does.
    pub(super) fn describe(&self) -> String {
        let Self {
            zone,
            days,
            from,
            to,
            holidays,
        } = self;
        let zone = zone.iana_name().unwrap_or("UTC");
        let days: Vec<_> = days.iter().map(ToString::to_string).collect();
        let holidays: Vec<_> = holidays.iter().map(ToString::to_string).collect();
        let (days, holidays) = (days.join(","), holidays.join(","));
        format!("{from}-{to} {zone} on {days} but {holidays}")
    }

    /// The time at which `seconds` of business hours have passed since `from_s`. Where clocks change, a
    /// day still has its business hours.
    pub(super) fn after(&self, from_s: i64, seconds: i64) -> i64 {
        // A hundred years of days: any calendar with a business day ends long before.
        const MAX_DAYS: usize = 36_600;
        let Ok(start) = Timestamp::from_second(from_s) else {
            return from_s.saturating_add(seconds);
        };
        let mut left_s = seconds.max(0);
        let mut date = start.to_zoned(self.zone.clone()).date();
        for _ in 0..MAX_DAYS {
            if let Some((opens_s, closes_s)) = self.hours_of(date) {
                let begin_s = opens_s.max(from_s);
                if begin_s < closes_s {
                    if left_s <= closes_s - begin_s {
                        return begin_s + left_s;
                    }
                    left_s -= closes_s - begin_s;
                }
            }
            match date.checked_add(1.day()) {
                Ok(next) => date = next,
                Err(_) => break,
            }
        }
        from_s.saturating_add(seconds)
    }

    /// The latest time after which `seconds` of business hours have passed by `until_s`: what [`Calendar::after`] makes of
    /// any later one is later than `until_s`.
    pub(super) fn before(&self, until_s: i64, seconds: i64) -> i64 {
        // Business hours pass at most as fast as all hours, so it is not later than this.
        let mut latest_s = until_s.saturating_sub(seconds.max(0));
        let mut step_s = 86_400_i64;
        // Twice as far back each time, until it is early enough.
        let mut early_s = latest_s;
        while self.after(early_s, seconds) > until_s {
            latest_s = early_s.saturating_sub(1);
            early_s = early_s.saturating_sub(step_s);
            step_s = step_s.saturating_mul(2);
            if step_s > LONGEST_S {
                return early_s;
            }
        }
        while early_s < latest_s {
            let middle_s = early_s + (latest_s - early_s + 1) / 2;
            if self.after(middle_s, seconds) > until_s {
                latest_s = middle_s - 1;
            } else {
                early_s = middle_s;
            }
        }
        early_s
    }

    fn hours_of(&self, date: Date) -> Option<(i64, i64)> {
        let weekday: Weekday = date.weekday();
        if !self.days.contains(&weekday.to_monday_one_offset()) || self.holidays.contains(&date) {
            return None;
        }
        let at = |time: Time| {
            Some(
                date.to_datetime(time)
                    .to_zoned(self.zone.clone())
                    .ok()?
                    .timestamp()
                    .as_second(),
            )
        };
        Some((at(self.from)?, at(self.to)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours() -> BusinessHours {
        BusinessHours {
            time_zone: "Europe/Lisbon".into(),
            days: ["mon", "tue", "wed", "thu", "fri"]
                .map(str::to_owned)
                .into(),
            from: "09:00".into(),
            to: "18:00".into(),
            holidays: vec!["2026-12-25".into()],
        }
    }

    #[test]
    fn business_hours_skip_nights_weekends_holidays_and_follow_the_clocks() {
        let calendar = Calendar::new(&hours()).expect("valid");
        for (from, seconds, expected) in [
            ("2026-11-18T10:00:00Z", 3600, "2026-11-18T11:00:00Z"),
            ("2026-11-18T17:30:00Z", 3600, "2026-11-19T09:30:00Z"),
            ("2026-11-18T05:00:00Z", 0, "2026-11-18T09:00:00Z"),
            ("2026-11-20T17:00:00Z", 2 * 3600, "2026-11-23T10:00:00Z"),
            ("2026-12-24T17:00:00Z", 2 * 3600, "2026-12-28T10:00:00Z"),
            // Summer time ends on Sunday, 25 October: 09:00 in Lisbon is 08:00 UTC before and 09:00 UTC after.
            ("2026-10-23T16:00:00Z", 2 * 3600, "2026-10-26T10:00:00Z"),
            ("2026-11-16T00:00:00Z", 5 * 9 * 3600, "2026-11-20T18:00:00Z"),
        ] {
            let from_s = from.parse::<Timestamp>().expect("a time").as_second();
            let found = Timestamp::from_second(calendar.after(from_s, seconds)).expect("a time");
            assert_eq!(found.to_string(), expected, "{from} and {seconds} s");
        }
    }

    /// A rule is evaluated for what fell due in between: nothing may be left out, and nothing may come too early.
    #[test]
    fn before_is_the_latest_time_that_after_brings_so_far() {
        let calendar = Calendar::new(&hours()).expect("valid");
        let start_s = "2026-10-23T15:00:00Z".parse::<Timestamp>().expect("a time");
        let start_s = start_s.as_second();
        // Ten days from before a change of clocks on, and around a holiday.
        for until_s in (0..10 * 86_400)
            .step_by(1973)
            .flat_map(|at_s| [start_s + at_s, start_s + 60 * 86_400 + at_s])
        {
            for seconds in [0, 1, 3600, 4 * 3600, 9 * 3600, 40 * 3600] {
                let before_s = calendar.before(until_s, seconds);
                assert!(calendar.after(before_s, seconds) <= until_s);
                assert!(
                    calendar.after(before_s + 1, seconds) > until_s,
                    "{until_s} {seconds}"
                );
            }
        }
    }

    #[test]
    fn every_fault_in_business_hours_is_named() {
        let invalid = BusinessHours {
            time_zone: "mars".into(),
            days: vec!["mon".into(), "tuesday".into(), "ana@example.com".into()],
            from: "nine".into(),
            to: "25:00".into(),
            holidays: vec!["xmas".into()],
        };
        let error = Calendar::new(&invalid).expect_err("invalid").to_string();
        let expected = [
            "time_zone \"mars\" is unknown: use a name such as Europe/Lisbon",
            "day \"tuesday\" is unknown: there are mon, tue, wed, thu, fri, sat, sun",
            "day (not shown) is unknown: there are mon, tue, wed, thu, fri, sat, sun",
            "from \"nine\" is not a time of day: write it like \"09:00\", at most \"23:59\"",
            "to \"25:00\" is not a time of day: write it like \"09:00\", at most \"23:59\"",
            "holiday \"xmas\" is not a date: write it like \"2026-12-25\"",
        ]
        .map(|what| format!("alerting.business_hours: {what}"));
        assert_eq!(error.lines().collect::<Vec<_>>(), expected);
        let mut invalid = hours();
        invalid.days.clear();
        invalid.to = "08:00".into();
        let error = Calendar::new(&invalid).expect_err("invalid").to_string();
        assert!(
            error.contains("there must be a day") && error.contains("`from` must be before `to`"),
            "{error}"
        );
    }
}
