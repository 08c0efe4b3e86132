//! A history of a hundred thousand events: the same statements on both databases, and too many for the slower one.

use chassis_core::EventKind;
use serde_json::json;

use crate::instances::{note, running};
use crate::support::{Home, apply, events, spec};

#[tokio::test]
async fn the_history_is_bounded() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    note(&store, 1, running(), vec![EventKind::Started; 103_500]).await;
    let all = events(&store).await;
    assert!((100_000..=101_000).contains(&all.len()), "{} events are kept", all.len());
    assert_eq!(all.last().unwrap().id, 103_500 + 3, "and no id is given twice");
}
