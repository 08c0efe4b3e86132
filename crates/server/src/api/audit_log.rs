//! The audit log: read, and verified.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use chassis_api::{AuditLogQuery, AuditRecord, AuditVerified, AuditVerifyQuery};
use chassis_store::{AuditEnd, AuditFilter, AuditRow};

use super::SharedState;
use super::extract::Query;
use super::failure::{Failure, Result};
use super::page::Numbered;
use crate::auth::verify;

const LIMIT: u32 = 100;
const LIMIT_MOST: u32 = 1_000;

pub(crate) async fn list(
    State(shared): SharedState,
    uri: Uri,
    Query(query): Query<AuditLogQuery>,
) -> Result<Numbered<AuditRecord>> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MOST).contains(&limit) {
        let detail = format!("`limit` is 1 to {LIMIT_MOST}, not {limit}; `after` leads to the rows behind");
        return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid_query", detail));
    }
    let filter = AuditFilter {
        after: query.after.unwrap_or(0),
        since: query.since,
        limit: if query.after.is_some() { limit + 1 } else { limit },
        newest: query.after.is_none(),
    };
    let rows = shared.store.audit_list(&filter).await?;
    let rows = rows.into_iter().map(wire).collect::<Result<_>>()?;
    Ok(Numbered::after(&uri, rows, limit, |row: &AuditRecord| row.id))
}

pub(crate) async fn verified(
    State(shared): SharedState,
    Query(query): Query<AuditVerifyQuery>,
) -> Result<Json<AuditVerified>> {
    let noted = query.noted.map(|text| {
        text.parse::<AuditEnd>().map_err(|()| {
            let detail = "`noted` is no row's id and hash; write it as `head` was told, like 17:3f…";
            Failure::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
        })
    });
    Ok(Json(verify(&*shared.store, noted.transpose()?.as_ref()).await?))
}

fn wire(row: AuditRow) -> Result<AuditRecord> {
    let entry = serde_json::from_str(&row.entry).map_err(|_| {
        let detail = format!(
            "row {} of the audit log cannot be read; `chassis audit-log verify` says which rows were changed",
            row.id
        );
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "record_damaged", detail)
    })?;
    let hash = AuditEnd { id: row.id, hash: row.hash }.to_string();
    let hash = hash.split_once(':').map_or_else(String::new, |(_, digits)| digits.to_owned());
    Ok(AuditRecord { id: row.id, time: row.time, entry, hash })
}
