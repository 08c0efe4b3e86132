//! The SQLite store, through its public face, on real files.

#![allow(clippy::unwrap_used, reason = "a test whose set-up fails should stop there")]

mod access;
mod declare;
mod durability;
mod environments;
mod file;
mod history;
mod home;
mod instances;
mod model;
mod nodes;
mod revisions;
mod secrets;
mod snapshots;
mod support;
