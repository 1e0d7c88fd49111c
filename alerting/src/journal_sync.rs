//! What the evaluator keeps in the journal beside the store: alerts, their history, silences, what is pending or
//! dismissed, and who asked for what. A store that loses its data gets them back from there.
//!
//! Invariant: a line is written after its document, and lines of one key in their order; a journal that does not answer
//! holds up nothing. Until it has answered, its lines stay here, and count as if they were written.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use revwatch_storage::journal::{ACTIONS, OperatorAction};
use revwatch_storage::ports::{DocumentWrite, EventQueue, JournalEntry, StateStore, StoreError};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use crate::alert::{Alert, NotificationState};
use crate::command::{Command, CommandKind};
use crate::engine::{ALERTS, HISTORY, PENDING, SILENCES};
use crate::evaluator::EvaluatorError;

/// Spaces of documents that are kept. (How far was read is found out anew.)
const JOURNALED: [&str; 4] = [HISTORY, ALERTS, SILENCES, PENDING];

/// Lines written at once.
const AT_ONCE: usize = 1000;

/// Lines that wait, at most. After hours without a journal the oldest are given up, and said to be.
const MOST_WAITING: usize = 100_000;

/// How long an evaluator that ends waits for its last lines.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// After a failure the journal is left alone for so long, doubled with each further one …
const FIRST_REST: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Lines that are still to be written.
#[derive(Default)]
pub(crate) struct JournalWriter {
    /// In the order in which they came.
    waiting: BTreeMap<u64, JournalEntry>,
    /// By space and key, the one line that waits: the newest.
    newest: HashMap<(String, String), u64>,
    /// How many have come.
    noted: u64,
    under_way: Option<UnderWay>,
    rest: Rest,
    /// Lines given up since the journal last answered.
    given_up: u64,
}

/// Lines that the journal has been given, and has not answered for. There are never two of them: so the lines of a key
/// stay in order.
struct UnderWay {
    lines: Vec<u64>,
    answer: oneshot::Receiver<Result<(), String>>,
}

/// When the journal may be asked again.
#[derive(Default)]
struct Rest {
    failures: u32,
    until: Option<Instant>,
}

impl Rest {
    fn begin(&mut self, now: Instant) {
        let rest = FIRST_REST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST_REST);
        (self.failures, self.until) = (self.failures.saturating_add(1), Some(now + rest));
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }
}

impl JournalWriter {
    /// Documents that were written.
    pub(crate) fn note(&mut self, writes: &[DocumentWrite], at_ms: i64) {
        for DocumentWrite { space, key, body } in writes
            .iter()
            .filter(|write| JOURNALED.contains(&write.space))
        {
            self.put(JournalEntry {
                at_ms,
                space: (*space).to_owned(),
                key: key.clone(),
                body: body.clone(),
            });
        }
    }

    /// A command, carried out; `key` makes a repeat of it the same act.
    pub(crate) fn note_action(&mut self, key: &str, command: &Command) {
        let (what, detail) = match &command.ask {
            CommandKind::Acknowledge { alert_id } => ("alert acknowledged", alert_id.clone()),
            CommandKind::Resolve { alert_id } => ("alert resolved", alert_id.clone()),
            CommandKind::Silence(silence) => (
                "silence",
                format!(
                    "{} {}",
                    silence.id,
                    serde_json::to_string(&silence.matches).unwrap_or_default()
                ),
            ),
            CommandKind::Unsilence { silence_id } => ("silence ended", silence_id.clone()),
        };
        let at_ms = command.at_s.saturating_mul(1000);
        let detail = format!("{detail} ({})", command.via);
        let act = OperatorAction {
            at_ms,
            who: command.by.clone(),
            what: what.to_owned(),
            detail,
        };
        let body = serde_json::to_string(&act).unwrap_or_default();
        self.put(JournalEntry {
            at_ms,
            space: ACTIONS.to_owned(),
            key: key.to_owned(),
            body: Some(body),
        });
    }

    /// Takes the journal's answer, if it has come, and gives it what waits next, unless it still has to answer or
    /// rests. Waits for neither. An answer that does not come `within` this time, which the lease must outlive, is
    /// a failure.
    pub(crate) fn flush(&mut self, queue: &Arc<dyn EventQueue>, within: Duration) {
        if let Some(under_way) = &mut self.under_way {
            match under_way.answer.try_recv() {
                Err(TryRecvError::Empty) => return,
                answer => self.on_answer(answer.unwrap_or_else(|_| lost())),
            }
        }
        if self.waiting.is_empty() || !self.rest.is_over(Instant::now()) {
            return;
        }
        let (lines, entries): (Vec<u64>, Vec<JournalEntry>) = self
            .waiting
            .iter()
            .take(AT_ONCE)
            .map(|(n, entry)| (*n, entry.clone()))
            .unzip();
        let (tell, answer) = oneshot::channel();
        self.under_way = Some(UnderWay { lines, answer });
        let queue = queue.clone();
        tokio::spawn(async move {
            let answer = match tokio::time::timeout(within, queue.append_journal(entries)).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            // Whoever has gone has no use for it.
            let _ = tell.send(answer);
        });
    }

    /// Whether the journal still has to answer.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Waits for the journal's answer, and takes it. Cancelling it loses nothing.
    pub(crate) async fn answered(&mut self) {
        if let Some(under_way) = &mut self.under_way {
            let answer = (&mut under_way.answer).await;
            self.on_answer(answer.unwrap_or_else(|_| lost()));
        }
    }

    /// The lease is about to be given back: what waits is written, or never will be by this process. A journal that
    /// fails is not asked again.
    pub(crate) async fn end(&mut self, queue: &Arc<dyn EventQueue>, within: Duration) {
        let last = async {
            self.answered().await;
            self.rest.until = None;
            self.flush(queue, within);
            while self.is_under_way() {
                self.answered().await;
                self.flush(queue, within);
            }
        };
        let _ = tokio::time::timeout(LAST_WITHIN.min(within), last).await;
        if !self.waiting.is_empty() {
            tracing::warn!(
                lines = self.waiting.len(),
                "these lines were not written into the journal"
            );
        }
    }

    /// Another may have evaluated meanwhile: what waits is to be written as it is stored now.
    pub(crate) async fn catch_up(
        &mut self,
        store: &dyn StateStore,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        for space in JOURNALED {
            let of_space = self.waiting.values().filter(|entry| entry.space == space);
            let keys: Vec<String> = of_space.map(|entry| entry.key.clone()).collect();
            if keys.is_empty() {
                continue;
            }
            let mut stored: HashMap<String, String> =
                store.documents(space).await?.into_iter().collect();
            for key in keys {
                let body = stored.remove(&key);
                self.put(JournalEntry {
                    at_ms,
                    space: space.to_owned(),
                    key,
                    body,
                });
            }
        }
        Ok(())
    }

    /// An earlier line of the same key need not be written any more.
    fn put(&mut self, entry: JournalEntry) {
        self.noted += 1;
        if let Some(earlier) = self
            .newest
            .insert((entry.space.clone(), entry.key.clone()), self.noted)
        {
            self.waiting.remove(&earlier);
        }
        self.waiting.insert(self.noted, entry);
        while self.waiting.len() > MOST_WAITING {
            if let Some((_, JournalEntry { space, key, .. })) = self.waiting.pop_first() {
                self.newest.remove(&(space, key));
                self.given_up += 1;
            }
        }
    }

    fn on_answer(&mut self, answer: Result<(), String>) {
        let Some(UnderWay { lines, .. }) = self.under_way.take() else {
            return;
        };
        match answer {
            Ok(()) => {
                // One that was replaced meanwhile waits under another number.
                for JournalEntry { space, key, .. } in
                    lines.iter().filter_map(|line| self.waiting.remove(line))
                {
                    self.newest.remove(&(space, key));
                }
                (self.rest, self.given_up) = (Rest::default(), 0);
            }
            Err(error) => {
                self.rest.begin(Instant::now());
                let (lines, given_up) = (self.waiting.len(), self.given_up);
                tracing::warn!(error, lines, given_up, "the journal has to wait");
            }
        }
    }
}

/// The task that asked has panicked.
fn lost() -> Result<(), String> {
    Err("it was not asked".to_owned())
}

/// The documents by which a store that lost data, or has older ones, differs from the journal.
pub(crate) async fn differences(
    queue: &dyn EventQueue,
    store: &dyn StateStore,
    keeping: &JournalWriter,
) -> Result<Vec<DocumentWrite>, EvaluatorError> {
    let mut newest: BTreeMap<&'static str, BTreeMap<String, (i64, Option<String>)>> =
        BTreeMap::new();
    let mut each = |JournalEntry {
                        at_ms,
                        space,
                        key,
                        body,
                    }: JournalEntry| {
        if let Some(space) = JOURNALED.into_iter().find(|kept| *kept == space) {
            newest.entry(space).or_default().insert(key, (at_ms, body));
        }
    };
    queue.read_journal(&mut each).await?;
    for JournalEntry {
        at_ms,
        space,
        key,
        body,
    } in keeping.waiting.values()
    {
        // What waits comes after what is written, unless another evaluator wrote it since.
        if let Some(space) = JOURNALED.into_iter().find(|kept| kept == space) {
            let of_space = newest.entry(space).or_default();
            if of_space.get(key).is_none_or(|written| written.0 <= *at_ms) {
                of_space.insert(key.clone(), (*at_ms, body.clone()));
            }
        }
    }
    let mut writes = Vec::new();
    // The line that an alert is over comes before the one that it is not open any more, which may be missing.
    let ended = newest
        .get(HISTORY)
        .into_iter()
        .flatten()
        .filter(|(_, (_, body))| body.is_some());
    let mut over: HashSet<String> = ended.map(|(key, _)| key.clone()).collect();
    for space in JOURNALED {
        let stored: BTreeMap<String, String> = store.documents(space).await?.into_iter().collect();
        if space == HISTORY {
            over.extend(stored.keys().cloned());
        }
        for (key, (_, kept)) in newest.get(space).into_iter().flatten() {
            let stored = stored.get(key);
            // What is over is not open, whatever was not written down any more.
            if stored.is_none() && space == ALERTS && over.contains(key) {
                continue;
            }
            let body = match (stored, kept) {
                (Some(stored), Some(kept)) => Some(latest(stored, kept)),
                (_, kept) => kept.clone(),
            };
            if stored != body.as_ref() {
                let key = key.clone();
                writes.push(DocumentWrite { space, key, body });
            }
        }
    }
    Ok(writes)
}

/// The document as it was last written: the journal's, unless it is an alert that was changed since.
fn latest(stored: &str, kept: &str) -> String {
    let alert = |body| serde_json::from_str::<Alert>(body).ok();
    let Some((ours, mut merged)) = alert(stored).zip(alert(kept)) else {
        return kept.to_owned();
    };
    let revision = |alert: &Alert| (alert.revision, alert.revised_s);
    match revision(&ours).cmp(&revision(&merged)) {
        Ordering::Greater => stored.to_owned(),
        Ordering::Less => kept.to_owned(),
        Ordering::Equal => {
            let mut is_behind = false;
            for (way, state) in ours.notifications {
                let kept = merged.notifications.entry(way).or_default();
                if progress(&state) > progress(kept) {
                    (*kept, is_behind) = (state, true);
                }
            }
            // Only what differs is encoded again: texts are compared.
            match serde_json::to_string(&merged) {
                Ok(body) if is_behind => body,
                _ => kept.to_owned(),
            }
        }
    }
}

/// How far a message came. An attempt that either side has is kept, also if it may have ended since:
/// to forget it would repeat the message, to keep it only looks for it.
fn progress(state: &NotificationState) -> (u32, Option<u32>) {
    (state.delivered_revision, state.attempting_revision)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ops::ControlFlow;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use revwatch_storage::ports::{
        Archive, Consume, Consumer, Coordination as _, Delivery, Disposition, Documents as _,
        HeldDelivery, Holding, HoldingQueue, Journal, Publish, QueueError, Replay, TriageSummary,
    };
    use revwatch_storage::sqlite::{Open, Sqlite};

    use revwatch_core::ports::Clock as _;
    use revwatch_storage::system::SystemClock;

    use super::*;
    use crate::alert::{Evidence, MessageKey, Subject};

    const LONG: Duration = Duration::from_secs(30);

    /// An empty queue with a journal that fails, or never answers.
    #[derive(Default)]
    pub(crate) struct Broken {
        fails: bool,
        asked: Mutex<Vec<Vec<JournalEntry>>>,
        /// An answer was not waited for any longer.
        given_up: AtomicBool,
    }

    impl Broken {
        pub(crate) fn is_asked(&self) -> bool {
            !self.asked.lock().expect("no panic").is_empty()
        }

        pub(crate) fn is_given_up(&self) -> bool {
            self.given_up.load(Ordering::SeqCst)
        }
    }

    struct Asking<'a>(&'a Broken);

    impl Drop for Asking<'_> {
        fn drop(&mut self) {
            self.0.given_up.store(true, Ordering::SeqCst);
        }
    }

    #[async_trait]
    impl Publish for Broken {
        fn partitions(&self) -> u32 {
            1
        }

        async fn publish(&self, _: Delivery) -> Result<(), QueueError> {
            unreachable!()
        }
    }

    #[async_trait]
    impl Consume for Broken {
        async fn consume(&self, _: u32) -> Result<Box<dyn Consumer>, QueueError> {
            unreachable!()
        }

        async fn depth(&self) -> Result<Vec<u64>, QueueError> {
            Ok(vec![0])
        }
    }

    #[async_trait]
    impl Holding for Broken {
        async fn hold(&self, _: HoldingQueue, _: HeldDelivery) -> Result<(), QueueError> {
            unreachable!()
        }

        async fn visit_held(
            &self,
            _: HoldingQueue,
            _: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
        ) -> Result<(), QueueError> {
            unreachable!()
        }

        async fn triage(
            &self,
            _: HoldingQueue,
            _: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
        ) -> Result<TriageSummary, QueueError> {
            unreachable!()
        }

        async fn held_count(&self, _: HoldingQueue) -> Result<u64, QueueError> {
            Ok(0)
        }
    }

    #[async_trait]
    impl Replay for Broken {
        async fn archive(&self, _: i64) -> Result<Box<dyn Archive>, QueueError> {
            unreachable!()
        }
    }

    #[async_trait]
    impl Journal for Broken {
        async fn append_journal(&self, entries: Vec<JournalEntry>) -> Result<(), QueueError> {
            self.asked.lock().expect("no panic").push(entries);
            if self.fails {
                return Err(QueueError::Misconfigured("out of order".into()));
            }
            let _asking = Asking(self);
            std::future::pending().await
        }

        async fn read_journal(
            &self,
            _: &mut (dyn FnMut(JournalEntry) + Send),
        ) -> Result<(), QueueError> {
            Ok(())
        }
    }

    #[async_trait]
    impl EventQueue for Broken {
        async fn close(&self) {}
    }

    fn opened(folder: &tempfile::TempDir) -> (Arc<Sqlite>, Arc<dyn EventQueue>) {
        let sqlite =
            Arc::new(Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store"));
        (sqlite.clone(), sqlite)
    }

    fn silence(key: &str, body: Option<&str>) -> DocumentWrite {
        DocumentWrite {
            space: SILENCES,
            key: key.to_owned(),
            body: body.map(str::to_owned),
        }
    }

    /// The queue was away when a silence was ended and another set; then the store restarts, losing nothing.
    #[tokio::test]
    async fn what_the_journal_does_not_have_yet_is_not_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (sqlite, queue) = opened(&folder);
        let fence = sqlite
            .lease("alerting", "me", 60_000)
            .await
            .expect("answered")
            .expect("free");
        let (before, after) = (
            [silence("ended", Some("1")), silence("longer", Some("1"))],
            [
                silence("ended", None),
                silence("longer", Some("2")),
                silence("new", Some("3")),
            ],
        );
        let mut keeping = JournalWriter::default();
        sqlite
            .write_documents(fence, &before)
            .await
            .expect("written");
        keeping.note(&before, SystemClock.now_ms());
        keeping.end(&queue, LONG).await;
        sqlite
            .write_documents(fence, &after)
            .await
            .expect("written");
        keeping.note(&after, SystemClock.now_ms());
        assert_eq!(
            differences(&*queue, &*sqlite, &keeping)
                .await
                .expect("read"),
            []
        );
        // Nor forgotten, if the store has lost it.
        sqlite
            .write_documents(fence, &before)
            .await
            .expect("written");
        sqlite
            .write_documents(fence, &[silence("new", None)])
            .await
            .expect("written");
        let lost = async |keeping: &JournalWriter| {
            let mut lost = differences(&*queue, &*sqlite, keeping).await.expect("read");
            lost.sort_by(|a, b| a.key.cmp(&b.key));
            lost
        };
        assert_eq!(lost(&keeping).await, after);
        // Also while the journal has been given them, and has not answered.
        let silent: Arc<dyn EventQueue> = Arc::new(Broken::default());
        keeping.flush(&silent, LONG);
        assert!(keeping.is_under_way());
        assert_eq!(lost(&keeping).await, after);
    }

    /// An alerting process died after it had stored an attempt and before the journal had it; then the
    /// store restarted, losing nothing.
    #[tokio::test]
    async fn an_attempt_that_the_journal_does_not_have_yet_is_not_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let (sqlite, queue) = opened(&folder);
        let fence = sqlite
            .lease("alerting", "me", 60_000)
            .await
            .expect("answered")
            .expect("free");
        let rule = crate::rule_text::built_in().expect("valid").remove(0);
        let mut alert = Alert::fire(&rule, &Subject::Business, 0, 0, Evidence::default());
        let mut write = |attempting_revision, delivered_revision| {
            let state = NotificationState {
                attempting_revision,
                delivered_revision,
                ..NotificationState::default()
            };
            alert.notifications.insert(MessageKey::main("slack"), state);
            DocumentWrite {
                space: ALERTS,
                key: alert.id.clone(),
                body: Some(serde_json::to_string(&alert).expect("plain data")),
            }
        };
        let (fired, attempted, delivered) = (write(None, 0), write(Some(1), 0), write(None, 1));
        // What the store and the journal have, and what the store gets.
        for (stored, journaled, restored) in [
            (&attempted, &fired, None),
            (&delivered, &attempted, None),
            (&fired, &attempted, Some(&attempted)),
            (&attempted, &delivered, Some(&delivered)),
        ] {
            let mut keeping = JournalWriter::default();
            let own = std::slice::from_ref(stored);
            sqlite.write_documents(fence, own).await.expect("written");
            keeping.note(std::slice::from_ref(journaled), SystemClock.now_ms());
            let writes = differences(&*queue, &*sqlite, &keeping).await;
            assert_eq!(writes.expect("read").first(), restored);
        }
    }

    /// While lines waited here, another evaluator went further, and could write.
    #[tokio::test]
    async fn what_another_wrote_meanwhile_is_not_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (sqlite, queue) = opened(&folder);
        let fence = sqlite
            .lease("alerting", "other", 60_000)
            .await
            .expect("answered")
            .expect("free");
        let silence = |body: &str| silence("a", Some(body));
        let (mut own, mut others) = (JournalWriter::default(), JournalWriter::default());
        own.note(&[silence("older")], SystemClock.now_ms());
        own.waiting.values_mut().for_each(|line| line.at_ms -= 1);
        sqlite
            .write_documents(fence, &[silence("newer")])
            .await
            .expect("written");
        others.note(&[silence("newer")], SystemClock.now_ms());
        others.end(&queue, LONG).await;
        assert_eq!(
            differences(&*queue, &*sqlite, &own).await.expect("read"),
            []
        );
        own.catch_up(&*sqlite, SystemClock.now_ms())
            .await
            .expect("read");
        own.end(&queue, LONG).await;
        sqlite
            .write_documents(
                fence,
                &[DocumentWrite {
                    body: None,
                    ..silence("")
                }],
            )
            .await
            .expect("written");
        assert_eq!(
            differences(&*queue, &*sqlite, &own).await.expect("read"),
            [silence("newer")]
        );
    }

    #[tokio::test]
    async fn lines_wait_for_the_answer_and_of_each_key_the_newest_goes_next() {
        let silent = Arc::new(Broken::default());
        let queue: Arc<dyn EventQueue> = silent.clone();
        let mut keeping = JournalWriter::default();
        keeping.note(
            &[silence("a", Some("1")), silence("b", Some("1"))],
            SystemClock.now_ms(),
        );
        keeping.flush(&queue, LONG);
        keeping.note(&[silence("a", Some("2"))], SystemClock.now_ms());
        keeping.note(&[silence("a", Some("3"))], SystemClock.now_ms());
        // One at a time, so that the older line does not come last.
        keeping.flush(&queue, LONG);
        tokio::task::yield_now().await;
        assert_eq!(silent.asked.lock().expect("no panic").len(), 1);
        assert_eq!(keeping.waiting.len(), 2);
        keeping.on_answer(Ok(()));
        let waiting: Vec<_> = keeping
            .waiting
            .values()
            .map(|line| (line.key.as_str(), line.body.as_deref()))
            .collect();
        assert_eq!(waiting, [("a", Some("3"))]);
        keeping.flush(&queue, LONG);
        keeping.on_answer(Ok(()));
        assert!(keeping.waiting.is_empty() && keeping.newest.is_empty());
    }

    #[tokio::test]
    async fn a_journal_that_fails_is_left_alone_for_a_while_and_asked_a_last_time() {
        let failing = Arc::new(Broken {
            fails: true,
            ..Broken::default()
        });
        let queue: Arc<dyn EventQueue> = failing.clone();
        let asked = || failing.asked.lock().expect("no panic").len();
        let mut keeping = JournalWriter::default();
        keeping.note(&[silence("a", Some("1"))], SystemClock.now_ms());
        keeping.flush(&queue, LONG);
        keeping.answered().await;
        keeping.rest.until = Some(Instant::now() + LONG);
        keeping.flush(&queue, LONG);
        assert!(!keeping.is_under_way() && asked() == 1 && keeping.waiting.len() == 1);
        keeping.end(&queue, LONG).await;
        assert_eq!((asked(), keeping.waiting.len()), (2, 1));

        let (mut rest, now) = (Rest::default(), Instant::now());
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            rest.begin(now);
            let until = now + Duration::from_secs(seconds);
            assert!(
                rest.is_over(until) && !rest.is_over(until - Duration::from_millis(1)),
                "{seconds}"
            );
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_goes_in_parts_in_the_order_in_which_it_came() {
        let silent = Arc::new(Broken::default());
        let queue: Arc<dyn EventQueue> = silent.clone();
        let mut keeping = JournalWriter::default();
        let writes: Vec<_> = (0..MOST_WAITING + 5)
            .rev()
            .map(|n| silence(&n.to_string(), None))
            .collect();
        keeping.note(&writes, SystemClock.now_ms());
        assert_eq!(
            (keeping.waiting.len(), keeping.newest.len()),
            (MOST_WAITING, MOST_WAITING)
        );
        assert_eq!(keeping.given_up, 5);
        keeping.flush(&queue, LONG);
        tokio::task::yield_now().await;
        let asked = silent.asked.lock().expect("no panic");
        let first: Vec<_> = asked.concat().into_iter().map(|line| line.key).collect();
        let expected: Vec<_> = writes
            .into_iter()
            .skip(5)
            .take(AT_ONCE)
            .map(|write| write.key)
            .collect();
        assert_eq!(first, expected);
    }

    /// A crash came between two parts: that the alert is over was written, and not that it is no longer open.
    #[tokio::test]
    async fn what_is_over_does_not_come_back_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let (sqlite, queue) = opened(&folder);
        let write = |space| DocumentWrite {
            space,
            key: "al_1".to_owned(),
            body: Some("{}".to_owned()),
        };
        let mut keeping = JournalWriter::default();
        keeping.note(&[write(ALERTS), write(HISTORY)], SystemClock.now_ms());
        keeping.end(&queue, LONG).await;
        let lost = differences(&*queue, &*sqlite, &JournalWriter::default())
            .await
            .expect("read");
        assert_eq!(lost, [write(HISTORY)]);
    }
}
