//! The queue contract on the embedded store.

use async_trait::async_trait;
use revwatch_shared::ports::EventQueue;
use revwatch_shared::sqlite::{Open, Sqlite};
use tempfile::TempDir;

use super::queue::{self, PARTITIONS, QueueHome};

struct Folder(TempDir);

#[async_trait]
impl QueueHome for Folder {
    async fn open(&self) -> Box<dyn EventQueue> {
        Box::new(Sqlite::open(self.0.path(), Open::Create { partitions: PARTITIONS }).expect("open"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_queue_contract() {
    queue::check(async || Folder(tempfile::tempdir().expect("a folder"))).await;
}

#[test]
fn another_number_of_partitions_is_refused_with_the_fix() {
    let folder = tempfile::tempdir().expect("a folder");
    Sqlite::open(folder.path(), Open::Create { partitions: 4 }).expect("created");
    let error = Sqlite::open(folder.path(), Open::Create { partitions: 8 }).err().expect("refused").to_string();
    assert!(error.contains("REVWATCH_PARTITIONS=4"), "{error}");
    let missing = Sqlite::open(&folder.path().join("elsewhere"), Open::Existing).err().expect("refused").to_string();
    assert!(missing.contains("REVWATCH_DATA"), "{missing}");
}
