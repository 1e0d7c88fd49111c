//! The audit trail, newest entry first.

use revwatch_storage::ports::{AuditEntry, Commit};

use crate::contract::StorePlace;
use crate::contract::fixtures::{PARTITIONS, applied, audit};

contract!(store: [
    the_newest_entries_come_first,
]);

async fn the_newest_entries_come_first(place: &dyn StorePlace) {
    let store = place.store().await;
    for at_s in 0..12 {
        let audit = vec![
            audit(2 * at_s, "first"),
            audit(2 * at_s + 1, "second → last"),
        ];
        let partition = u32::try_from(at_s).expect("small") % PARTITIONS;
        applied(
            &*store,
            &Commit {
                partition,
                audit,
                ..Commit::default()
            },
        )
        .await;
    }
    let seconds = |entries: Vec<AuditEntry>| {
        entries
            .into_iter()
            .map(|entry| entry.at_s)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        seconds(store.audit(5).await.expect("audit")),
        [23, 22, 21, 20, 19]
    );
    assert_eq!(
        seconds(store.audit(100).await.expect("audit")),
        (0..24).rev().collect::<Vec<_>>()
    );
    assert_eq!(
        store.audit(1).await.expect("audit"),
        [audit(23, "second → last")]
    );
    assert_eq!(store.audit(0).await.expect("audit"), []);
}
