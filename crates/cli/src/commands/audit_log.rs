//! `chassis audit-log`: who did what, and whether the log of it is whole.

use std::collections::HashSet;

use chassis_api::{AuditLogQuery, AuditRecord, AuditStep};

use crate::args::{AuditLog, AuditLogCommand, Format};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Table, Terminal, clean, count};

pub(super) async fn run(context: &Context, log: AuditLog) -> Result<Exit, Failure> {
    if let Some(AuditLogCommand::Verify { noted }) = log.command {
        return verify(context, noted.as_deref()).await;
    }
    let query = AuditLogQuery { after: None, since: log.since, limit: Some(log.limit) };
    let rows = context.connect().await?.audit_log(&query).await?;
    let format = log.output.output;
    if rows.is_empty() && matches!(format, Format::Table | Format::Wide) {
        context.terminal.say("nobody has changed anything");
        return Ok(Exit::Done);
    }
    let names = || rows.iter().map(|row| row.id.to_string()).collect();
    output::print(format, &rows, names, |wide| table(context.terminal, &rows, wide))?;
    Ok(Exit::Done)
}

async fn verify(context: &Context, noted: Option<&str>) -> Result<Exit, Failure> {
    let verified = context.connect().await?.audit_log_verify(noted).await?;
    if let Some(broken) = verified.broken {
        return Err(Failure::Failed(format!(
            "row {} of the audit log is the first that is wrong: {}; the {} before it are as they were written",
            broken.id,
            broken.why,
            count(verified.rows, "row")
        )));
    }
    context.terminal.done(&format!("{} as written; head {}", count(verified.rows, "row"), verified.head))?;
    context
        .terminal
        .say("note the head elsewhere; `--noted` proves later that nothing up to it was written anew");
    Ok(Exit::Done)
}

/// One line for each request: an intent is told by its result, if there is one.
fn table(terminal: Terminal, rows: &[AuditRecord], wide: bool) -> String {
    let told: HashSet<u64> = rows
        .iter()
        .filter_map(|row| match row.entry.step {
            AuditStep::Result { of, .. } => Some(of),
            _ => None,
        })
        .collect();
    let mut header = vec!["ID", "TIME", "WHO", "FROM", "OPERATION", "RESULT", "ON"];
    if wide {
        header.insert(6, "REQUEST");
    }
    let mut table = Table::new(terminal, &header);
    for row in rows.iter().filter(|row| row.entry.step != AuditStep::Intent || !told.contains(&row.id)) {
        let entry = &row.entry;
        let result = match entry.step {
            AuditStep::Intent => "not known".to_owned(),
            AuditStep::Result { status, .. } => status.to_string(),
            AuditStep::Denied { status, count: 1 } => format!("{status} denied"),
            AuditStep::Denied { status, count } => format!("{status} denied {count} times"),
        };
        let on = match &entry.detail {
            Some(detail) => format!("{} {detail}", entry.on),
            None => entry.on.clone(),
        };
        let mut cells = vec![
            row.id.into(),
            row.time.strftime("%Y-%m-%dT%H:%M:%SZ").into(),
            clean(&entry.who).into(),
            (&entry.from).into(),
            (&entry.operation).into(),
            result.into(),
            clean(&on).into(),
        ];
        if wide {
            cells.insert(6, clean(&entry.request_id).into());
        }
        table.row(cells);
    }
    table.render()
}
