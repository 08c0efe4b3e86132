//! Walks the audit log, and says which row is the first that is not as it was written.

use chassis_api::{AuditBroken, AuditVerified};
use chassis_store::{AuditEnd, AuditFilter, Result, Store, audit_hash};

/// Rows that are read at a time.
const PAGE: u32 = 1_000;
/// Old rows may be taken away while it walks; then it begins again.
const ATTEMPTS: u32 = 3;

/// Walks all rows. `noted` is a head that somebody was told earlier.
pub(crate) async fn verify(store: &dyn Store, noted: Option<&AuditEnd>) -> Result<AuditVerified> {
    let mut attempt = 1;
    loop {
        let chain = store.audit_chain().await?;
        let mut walk = Walk { last: chain.anchor.clone(), rows: 0 };
        let broken = walk.to(store, &chain.head, noted).await?;
        if broken.is_none() || attempt == ATTEMPTS || store.audit_chain().await?.anchor == chain.anchor {
            return Ok(AuditVerified { rows: walk.rows, head: chain.head.to_string(), broken });
        }
        attempt += 1;
    }
}

struct Walk {
    last: AuditEnd,
    rows: u64,
}

impl Walk {
    async fn to(
        &mut self,
        store: &dyn Store,
        head: &AuditEnd,
        noted: Option<&AuditEnd>,
    ) -> Result<Option<AuditBroken>> {
        let broken = |id, why: &str| Ok(Some(AuditBroken { id, why: why.to_owned() }));
        let is_other =
            |last: &AuditEnd| noted.is_some_and(|noted| noted.id == last.id && noted.hash != last.hash);
        let other = "it is not the row that was noted: the log was written anew";
        if is_other(&self.last) {
            return broken(self.last.id, other);
        }
        loop {
            let filter = AuditFilter { after: self.last.id, limit: PAGE, ..AuditFilter::default() };
            let page = store.audit_list(&filter).await?;
            let is_last = page.len() < PAGE as usize;
            for row in page.into_iter().take_while(|row| row.id <= head.id) {
                if row.id != self.last.id + 1 {
                    return broken(self.last.id + 1, "it is missing");
                }
                if row.hash != audit_hash(&self.last.hash, row.id, row.time, &row.entry) {
                    return broken(row.id, "it is not as it was written");
                }
                self.last = AuditEnd { id: row.id, hash: row.hash };
                self.rows += 1;
                if is_other(&self.last) {
                    return broken(self.last.id, other);
                }
            }
            if is_last || self.last.id >= head.id {
                break;
            }
        }
        if self.last.id < head.id {
            return broken(self.last.id + 1, "it is missing, and all after it");
        }
        if self.last.hash != head.hash {
            return broken(self.last.id, "it is not the newest row that was written");
        }
        match noted {
            Some(noted) if noted.id > head.id => broken(noted.id, "it was noted, and is missing"),
            _ => Ok(None),
        }
    }
}
