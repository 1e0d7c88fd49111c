//! The clocks of an alert count from when people could first know of it.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::*;

fn silence_of_payouts(id: &str, from_s: i64, until_s: i64) -> Silence {
    Silence {
        id: id.into(),
        matches: Matcher {
            rule: Some("payout".into()),
            ..Matcher::default()
        },
        ..silence_of_lost(from_s, until_s)
    }
}

fn storm(harness: &mut Harness, first: i64, now_s: i64) {
    for n in first..first + 5 {
        let failed = payout(&format!("po_{n}"), &format!("acct_{n}"), 100);
        harness.open(&failed, now_s);
    }
    harness.settle(now_s);
}

/// It was formed before the silence began, and no attempt to deliver it had.
#[test]
fn a_group_that_was_silenced_before_its_delivery_has_its_clocks_from_the_end_of_the_silence_on() {
    let mut harness = Harness::new();
    storm(&mut harness, 0, 20);
    let silence = silence_of_payouts("si_1", 20, 90_000);
    harness.command(CommandKind::Silence(silence), 20);
    assert!(harness.deliver_all(20).is_empty());
    harness.engine.on_time(90_000);
    harness.settle(90_000);
    let group = harness.engine.alert(&harness.id("payout"));
    let group = group.expect("a group");
    assert_eq!(
        (group.started_s(), group.sla.respond_due_s),
        (90_000, 90_000 + group.sla.respond_s)
    );
    assert_eq!(harness.deliver_all(90_000).len(), 2);
    harness.engine.on_time(90_000 + 719);
    assert!(harness.deliver_all(90_000 + 719).is_empty());
    harness.engine.on_time(90_000 + 720);
    let sent = harness.deliver_all(90_000 + 720);
    assert!(
        sent.iter().any(|it| it.contains("RESPONSE DUE SOON")),
        "{sent:?}"
    );
}

/// Its first alert fired long ago, but people learn of it now.
#[test]
fn others_join_a_group_that_was_formed_when_a_silence_ended() {
    let mut harness = Harness::new();
    let silence = silence_of_payouts("si_1", 0, 90_000);
    harness.command(CommandKind::Silence(silence), 20);
    storm(&mut harness, 0, 20);
    harness.engine.on_time(90_000);
    harness.deliver_all(90_000);
    harness.open(&payout("po_late", "acct_x", 5), 90_010);
    assert_eq!(
        harness.deliver_all(90_010),
        ["slack 🔴 CRITICAL: 6 × A payout failed"]
    );
}

/// The process is killed, and starts with the right time.
#[test]
fn a_silence_that_was_made_while_the_clock_was_ahead_lasts_as_long_from_now_on() {
    for ahead_s in [86_400, 366 * 86_400] {
        let mut harness = Harness::new();
        let silence = silence_of_lost(ahead_s, ahead_s + 7200);
        harness.command(CommandKind::Silence(silence), ahead_s);
        harness.settle(ahead_s);
        for now_s in [100, 5000] {
            harness.reopen();
            harness.engine.on_time(now_s);
            harness.open(&lost("acct_1"), now_s);
            assert!(harness.deliver_all(now_s).is_empty(), "{ahead_s}, {now_s}");
        }
        harness.engine.on_time(7300);
        assert!(!harness.deliver_all(7300).is_empty(), "{ahead_s}");
        harness.engine.on_time(ahead_s + 1);
        harness.open(&lost("acct_2"), ahead_s + 1);
        let sent = harness.deliver_all(ahead_s + 1);
        assert!(!sent.is_empty(), "{ahead_s}: it is over");
    }
}

#[test]
fn a_silence_from_another_machine_whose_clock_is_ahead_is_no_longer_than_it_says() {
    let mut harness = Harness::new();
    let year_s = 366 * 86_400;
    let silence = silence_of_lost(year_s, year_s + 7200);
    harness.command(CommandKind::Silence(silence), 20);
    harness.open(&lost("acct_1"), 20);
    assert!(harness.deliver_all(20).is_empty());
    harness.engine.on_time(7220);
    assert!(!harness.deliver_all(7220).is_empty());
}

/// A tick or two with a clock a day or a year behind, as on a machine without the time of the network.
#[test]
fn a_silence_keeps_its_end_while_the_clock_is_behind() {
    let now_s = 400 * 86_400;
    for behind_s in [86_400, 366 * 86_400] {
        let mut harness = Harness::new();
        let silence = silence_of_lost(now_s, now_s + 7200);
        harness.command(CommandKind::Silence(silence), now_s);
        harness.settle(now_s);
        for at_s in [
            now_s - behind_s,
            now_s - behind_s + 60,
            now_s + 600,
            now_s + 7100,
        ] {
            harness.reopen();
            harness.engine.on_time(at_s);
            harness.open(&lost("acct_1"), at_s);
            assert!(harness.deliver_all(at_s).is_empty(), "{behind_s}, {at_s}");
        }
        harness.engine.on_time(now_s + 7200);
        assert!(!harness.deliver_all(now_s + 7200).is_empty(), "{behind_s}");
    }
}

/// A random history, and since when people can know of each alert.
struct World {
    rng: Rng,
    harness: Harness,
    now_s: i64,
    known_s: BTreeMap<String, i64>,
}

impl World {
    fn step(&mut self) {
        self.now_s += self.rng.i64(0..600);
        self.harness.engine.on_time(self.now_s);
        for _ in 0..self.rng.u8(0..8) {
            self.change();
        }
        if self.rng.u8(0..6) == 0 {
            self.harness.settle(self.now_s);
            self.harness.reopen();
        }
        self.harness.settle(self.now_s);
        self.note();
        let fails = self.rng.u8(0..3) == 0;
        let sent = self.harness.send(self.now_s, |_| match fails {
            true => Outcome::RetryAfter { wait_ms: 100_000 },
            false => Outcome::Delivered {
                receipt: Some("r".into()),
            },
        });
        for (key, message) in sent {
            self.check_notice(&key, &message);
        }
        self.note();
    }

    fn change(&mut self) {
        let (n, now_s) = (self.rng.u8(0..12), self.now_s);
        let account = format!("acct_{}", n % 3);
        let failed = payout(&format!("po_{n}"), &account, 100);
        match self.rng.u8(0..12) {
            0..6 => self.harness.open(&failed, now_s),
            6 => self.harness.close(&failed, now_s),
            7 => self.harness.open(&lost(&account), now_s),
            8 | 9 => self.harness.close(&lost(&account), now_s),
            10 => {
                let until_s = now_s + self.rng.i64(1..3000);
                let silence = silence_of_payouts(&format!("si_{n}"), now_s, until_s);
                self.harness.command(CommandKind::Silence(silence), now_s);
            }
            _ => self.harness.settle(now_s),
        }
    }

    /// What is muted and was not delivered is not known; a group is since its first member is.
    fn note(&mut self) {
        let alerts: Vec<Alert> = self.harness.engine.alerts().cloned().collect();
        let is_hidden = |alert: &Alert| {
            let mut messages = alert.notifications.values();
            alert.muted.is_some() && !messages.any(|it| it.delivered_revision > 0)
        };
        for alert in alerts.iter().filter(|alert| is_hidden(alert)) {
            self.known_s.remove(&alert.id);
        }
        let is_shown = |alert: &&Alert| !is_hidden(alert) && alert.group.is_none();
        for alert in alerts.iter().filter(is_shown) {
            self.known_s.entry(alert.id.clone()).or_insert(self.now_s);
        }
        for group in alerts
            .iter()
            .filter(|it| it.group.is_some() && !is_hidden(it))
        {
            let members = alerts
                .iter()
                .filter(|it| it.part_of.as_ref() == Some(&group.id));
            let known = members.filter_map(|it| self.known_s.get(&it.id)).min();
            let known_s = known.copied().unwrap_or(self.now_s);
            self.known_s.entry(group.id.clone()).or_insert(known_s);
        }
        for alert in alerts
            .iter()
            .filter(|it| it.part_of.is_none() && !it.is_resolved())
        {
            if let Some(known_s) = self.known_s.get(&alert.id) {
                assert!(
                    alert.started_s() >= *known_s,
                    "{alert:?} is known since {known_s}"
                );
            }
        }
    }

    /// Those who were notified have the time that the rule gives them.
    fn check_notice(&self, key: &MessageKey, message: &Message) {
        let alert = self.harness.engine.alert(&message.alert_id);
        if let (1.., Some(alert)) = (key.notice, alert) {
            let known_s = self.known_s[&alert.id];
            let first_s = known_s + alert.sla.respond_s * 80 / 100;
            assert!(
                self.now_s >= first_s,
                "{}: known since {known_s}",
                message.headline
            );
        }
    }
}

#[test]
fn whatever_was_muted_has_its_clocks_from_when_people_can_know_of_it() {
    let first = fastrand::u64(..u64::MAX / 2);
    eprintln!("seeds from {first}");
    for seed in first..first + 60 {
        let mut world = World {
            rng: Rng::with_seed(seed),
            harness: Harness::new(),
            now_s: 0,
            known_s: BTreeMap::new(),
        };
        for _ in 0..40 {
            world.step();
        }
    }
}
