//! API keys, and the chain of the audit log.

use chassis_core::{AuditEntry, AuditStep, Grant, Reach, Role};
use chassis_store::{ApiKey, ApiKeyUse, AuditEnd, AuditFilter, AuditRow, SqlStore, Store, audit_hash};
use jiff::{SignedDuration, Timestamp};

use crate::support::{Home, code, fleet};

fn key(name: &str, first: u8, reach: Reach) -> ApiKey {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    ApiKey {
        name: name.parse().unwrap(),
        prefix: "chs_abcdefgh".to_owned(),
        hash: vec![first; 32],
        grant: Grant { role: Role::Operator, reach },
        created_at: now,
        created_by: "uid 0".to_owned(),
        expires_at: Some(now + SignedDuration::from_hours(1)),
        last_used_at: None,
        label: None,
        revoked_at: None,
    }
}

#[tokio::test]
async fn a_key_is_kept_used_and_revoked() {
    let home = Home::new();
    let store = home.open();
    let all = key("b", 1, Reach::All);
    let some = key("a", 2, Reach::Fleets([fleet("f"), fleet("g")].into()));
    store.api_key_create(&all).await.unwrap();
    store.api_key_create(&some).await.unwrap();
    assert_eq!(code(store.api_key_create(&key("a", 3, Reach::All)).await), "api_key_exists");
    assert_eq!(store.api_key_list().await.unwrap(), [some.clone(), all.clone()]);
    let at = some.created_at + SignedDuration::from_secs(5);
    let used = |name: &ApiKey, at| ApiKeyUse { name: name.name.clone(), at };
    let earlier = at - SignedDuration::from_secs(1);
    store
        .api_key_used(vec![used(&some, at), used(&some, earlier), used(&key("gone", 4, Reach::All), at)])
        .await
        .unwrap();
    assert_eq!(store.api_key_list().await.unwrap()[0].last_used_at, Some(at));
    store.api_key_delete(&all.name).await.unwrap();
    assert_eq!(code(store.api_key_delete(&all.name).await), "api_key_not_found");
    drop(store);
    assert_eq!(home.open().api_key_list().await.unwrap().len(), 1);
}

fn entry(on: &str) -> AuditEntry {
    AuditEntry {
        who: "uid 0".to_owned(),
        from: "this machine".to_owned(),
        operation: "fleet_create".to_owned(),
        on: on.to_owned(),
        detail: None,
        request_id: "r".to_owned(),
        step: AuditStep::Intent,
    }
}

async fn rows(store: &SqlStore) -> Vec<AuditRow> {
    store.audit_list(&AuditFilter { limit: 100, ..AuditFilter::default() }).await.unwrap()
}

/// The chain of all rows that are there, from one end to the other.
async fn is_whole(store: &SqlStore) {
    let chain = store.audit_chain().await.unwrap();
    let mut last = chain.anchor;
    for row in rows(store).await {
        assert_eq!(row.id, last.id + 1);
        assert_eq!(row.hash, audit_hash(&last.hash, row.id, row.time, &row.entry));
        last = AuditEnd { id: row.id, hash: row.hash };
    }
    assert_eq!(last, chain.head);
}

#[tokio::test]
async fn the_audit_log_is_a_chain_that_only_loses_its_old_end() {
    let home = Home::new();
    let store = home.open();
    is_whole(&store).await;
    assert_eq!(store.audit_append(vec![entry("/1"), entry("/2")]).await.unwrap(), [1, 2]);
    let together =
        futures_util::future::join_all((0..20).map(|_| store.audit_append(vec![entry("/n")]))).await;
    assert!(together.into_iter().all(|appended| appended.is_ok()));
    is_whole(&store).await;
    let all = rows(&store).await;
    assert_eq!(all.len(), 22);
    assert_eq!(serde_json::from_str::<AuditEntry>(&all[1].entry).unwrap(), entry("/2"));
    let newest = AuditFilter { limit: 2, newest: true, ..AuditFilter::default() };
    assert_eq!(store.audit_list(&newest).await.unwrap(), all[20..]);
    let after = AuditFilter { after: 3, limit: 2, ..AuditFilter::default() };
    assert_eq!(store.audit_list(&after).await.unwrap(), all[3..5]);

    let kept_from = all.iter().find(|row| row.time > all[0].time).map_or(all[21].time, |row| row.time);
    let pruned = store.audit_prune(kept_from).await.unwrap();
    assert_eq!(pruned, all.iter().filter(|row| row.time < kept_from).count() as u64);
    is_whole(&store).await;
    let later = Timestamp::now() + SignedDuration::from_secs(60);
    store.audit_prune(later).await.unwrap();
    assert!(rows(&store).await.is_empty());
    is_whole(&store).await;
    drop(store);
    let store = home.open();
    assert_eq!(store.audit_append(vec![entry("/again")]).await.unwrap(), [23], "an id is never given twice");
    is_whole(&store).await;
}
