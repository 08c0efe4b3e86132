//! `chassis audit`: how closed the sandboxes really are, and which line of YAML opened what.

use std::collections::BTreeMap;

use chassis_api::{AuditQuery, AuditVerdict, Finding, InstanceAudit};

use crate::args::{Audit, Format};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Color, Table, Terminal, clean, count};

pub(super) async fn run(context: &Context, audit: Audit) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let query = match &audit.name {
        None => AuditQuery::default(),
        Some(name) => {
            let scope = client.resolve(name, None).await?;
            AuditQuery { fleet: Some(scope.fleet), agent: scope.agent, number: scope.number }
        }
    };
    let audits = client.audit(&query).await?;
    let open: Vec<&InstanceAudit> = audits.iter().filter(|audit| is_open(audit)).collect();
    let (terminal, format) = (context.terminal, audit.output.output);
    let names = || open.iter().map(|audit| name(audit)).collect();
    output::print(format, &audits, names, |wide| text(terminal, &audits, wide, audit.all))?;
    if matches!(format, Format::Table | Format::Wide) {
        terminal.say(&conclusion(&audits, open.len()));
    }
    // Where none of several could be looked at, nothing is known to be closed.
    let known = audits.is_empty() || any_audited(&audits);
    Ok(if known && open.is_empty() { Exit::Done } else { Exit::Failed })
}

fn is_open(audit: &InstanceAudit) -> bool {
    audit.findings.iter().any(|finding| finding.verdict.is_open())
}

fn any_audited(audits: &[InstanceAudit]) -> bool {
    audits.iter().any(|audit| audit.skipped.is_none())
}

fn name(audit: &InstanceAudit) -> String {
    format!("{}/{}-{}", audit.fleet, audit.agent, audit.number)
}

fn conclusion(audits: &[InstanceAudit], open: usize) -> String {
    let skipped = audits.iter().filter(|audit| audit.skipped.is_some()).count();
    let audited = audits.len() - skipped;
    let skipped = if skipped == 0 { String::new() } else { format!("; {skipped} not audited") };
    match (audited, open) {
        (0, _) => format!("nothing was audited{skipped}"),
        (_, 0) => format!("{}: every item that applies passes{skipped}", count(audited as u64, "instance")),
        _ => format!(
            "{open} of {} open{skipped}; what a YAML opened is shown with its field, what differs from the YAML ends \
             when the agent is deployed anew or its container removed",
            count(audited as u64, "instance")
        ),
    }
}

/// The summary by item, then what is open; with `all` every finding of every instance.
fn text(terminal: Terminal, audits: &[InstanceAudit], wide: bool, all: bool) -> String {
    let mut text = String::new();
    if any_audited(audits) {
        text.push_str(&summary(terminal, audits, wide));
    }
    let mut details = Table::new(terminal, &["INSTANCE", "ITEM", "VERDICT", "WHY"]);
    let mut any = false;
    for audit in audits {
        if let Some(why) = &audit.skipped {
            any = true;
            details.row([name(audit).into(), "-".into(), "not audited".into(), clean(why).into()]);
        }
        for finding in audit.findings.iter().filter(|finding| all || finding.verdict.is_open()) {
            any = true;
            details.row([
                name(audit).into(),
                finding.item.as_str().into(),
                verdict(finding.verdict),
                finding.why.as_deref().map_or_else(|| "-".to_owned(), clean).into(),
            ]);
        }
    }
    if any {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&details.render());
    }
    text
}

/// How many instances pass each item. `wide` adds why it does not apply, or what is worth knowing.
fn summary(terminal: Terminal, audits: &[InstanceAudit], wide: bool) -> String {
    let mut header = vec!["ITEM", "CHECK", "PASS", "OPEN", "N/A"];
    if wide {
        header.push("WHY");
    }
    let mut table = Table::new(terminal, &header);
    for (title, findings) in by_item(audits) {
        let number =
            |is: fn(AuditVerdict) -> bool| findings.iter().filter(|finding| is(finding.verdict)).count();
        let open = number(AuditVerdict::is_open);
        let mut row: Vec<Cell> = vec![
            findings[0].item.as_str().into(),
            title.into(),
            number(|verdict| verdict == AuditVerdict::Pass).into(),
            if open > 0 { Cell::colored(open.to_string(), Color::Red) } else { open.into() },
            number(|verdict| verdict == AuditVerdict::NotApplicable).into(),
        ];
        if wide {
            let why = findings.iter().find_map(|finding| finding.why.as_deref());
            row.push(why.map_or_else(|| "-".to_owned(), clean).into());
        }
        table.row(row);
    }
    table.render()
}

/// The findings of all instances, item by item in the order of the first audit.
fn by_item(audits: &[InstanceAudit]) -> Vec<(&str, Vec<&Finding>)> {
    let mut items: Vec<(&str, Vec<&Finding>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in audits.iter().flat_map(|audit| &audit.findings) {
        let place = *places.entry(&finding.item).or_insert_with(|| {
            items.push((&finding.title, Vec::new()));
            items.len() - 1
        });
        items[place].1.push(finding);
    }
    items
}

fn verdict(verdict: AuditVerdict) -> Cell {
    match verdict {
        AuditVerdict::Pass => Cell::colored("pass", Color::Green),
        AuditVerdict::NotApplicable => Cell::colored("not applicable", Color::Dim),
        AuditVerdict::Opened => Cell::colored("opened by the YAML", Color::Yellow),
        AuditVerdict::Differs => Cell::colored("differs from the YAML", Color::Red),
        AuditVerdict::Fail => Cell::colored("fails", Color::Red),
    }
}
