//! The journal: it survives reopening, and the newest line of a key counts.

use revwatch_storage::ports::{EventQueue, JournalEntry};

use crate::contract::QueuePlace;
use crate::contract::fixtures::{PARTITIONS, within};

contract!(queue: [
    the_newest_line_of_each_key_is_read_back,
]);

async fn the_newest_line_of_each_key_is_read_back(place: &dyn QueuePlace) {
    async fn newest(queue: &dyn EventQueue) -> Vec<(String, String, i64, String)> {
        let mut found = std::collections::BTreeMap::new();
        let mut each = |line: JournalEntry| match line.body {
            Some(body) => drop(found.insert((line.space, line.key), (line.at_ms, body))),
            None => drop(found.remove(&(line.space, line.key))),
        };
        within(queue.read_journal(&mut each))
            .await
            .expect("the journal");
        found
            .into_iter()
            .map(|((space, key), (at_ms, body))| (space, key, at_ms, body))
            .collect()
    }
    let line = |at_ms, space: &str, key: &str, body: Option<&str>| JournalEntry {
        at_ms,
        space: space.into(),
        key: key.into(),
        body: body.map(str::to_owned),
    };
    let queue = place.queue().await;
    assert_eq!(newest(&*queue).await, []);
    within(queue.append_journal(vec![
        line(1, "a", "x", Some("1")),
        line(1, "a", "y", Some("1")),
    ]))
    .await
    .expect("append");
    let later = vec![
        line(2, "a", "x", Some("2 ü")),
        line(3, "a", "x", Some("3")),
        line(3, "b", "x", Some("4")),
    ];
    within(queue.append_journal(later.clone()))
        .await
        .expect("append");
    within(queue.append_journal(vec![line(4, "a", "y", None), line(4, "a", "z", None)]))
        .await
        .expect("append");
    within(queue.append_journal(later))
        .await
        .expect("append again");
    let expected = [("a", "x", 3, "3"), ("b", "x", 3, "4")]
        .map(|(s, k, at, b)| (s.into(), k.into(), at, b.into()));
    assert_eq!(newest(&*queue).await, expected);
    assert_eq!(
        queue.depth().await.expect("depth"),
        [0; PARTITIONS as usize],
        "a journal line is not a delivery"
    );
    queue.close().await;
    let queue = place.queue().await;
    assert_eq!(newest(&*queue).await, expected);
    // More than any adapter writes at once: every line is kept, and the later of two lines for a key counts.
    let keys = (0..700).map(|n| format!("{n:03}"));
    let many = keys
        .clone()
        .chain(["000".to_owned(), "699".to_owned()])
        .zip(10..);
    within(
        queue.append_journal(
            many.map(|(key, at_ms)| line(at_ms, "many", &key, Some("5")))
                .collect(),
        ),
    )
    .await
    .expect("append many");
    let found = newest(&*queue)
        .await
        .into_iter()
        .filter(|(space, ..)| space == "many");
    let expected = keys.zip(10..).map(|(key, at_ms)| match key.as_str() {
        "000" => (key, 710),
        "699" => (key, 711),
        _ => (key, at_ms),
    });
    assert_eq!(
        found
            .map(|(_, key, at_ms, _)| (key, at_ms))
            .collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
    queue.close().await;
}
