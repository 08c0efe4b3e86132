//! The same store on Postgres: what holds on SQLite holds here, and what several servers of one database see of each other.
//!
//! Each test is to be a process of its own, as nextest runs them: one without a Postgres ends as a whole.

#![allow(clippy::unwrap_used, reason = "a test whose set-up fails should stop there")]

#[path = "../store/access.rs"]
mod access;
mod copy;
#[path = "../store/declare.rs"]
mod declare;
#[path = "../store/environments.rs"]
mod environments;
mod home;
#[path = "../store/instances.rs"]
mod instances;
#[path = "../store/model.rs"]
mod model;
#[path = "../store/nodes.rs"]
mod nodes;
mod outage;
#[path = "../store/revisions.rs"]
mod revisions;
mod servers;
#[path = "../store/snapshots.rs"]
mod snapshots;
#[path = "../store/support.rs"]
mod support;
mod tls;
mod together;
