//! A typed client of the chassis API: one method per route, errors with a code and a next step.
//!
//! [`Client::connect`] opens a connection, which is kept for the requests that follow one another; a stream
//! ([`Client::logs`], [`Client::event_follow`], [`Client::progress`]) has one of its own.

mod address;
mod client;
mod connection;
mod connector;
mod endpoint;
mod error;
mod hands;
mod outage;
mod stream;
mod tls;

pub use address::{AddressError, ServerAddress};
pub use chassis_api as api;
pub use client::Client;
pub use connector::Connector;
pub use endpoint::{Endpoint, Introduction, Token, Trust, introduce};
pub use error::Error;
pub use hands::{ExecEvent, ExecReceiver, ExecSender, PortReceiver, PortSender};
pub use outage::Notice;
pub use stream::{LogContent, LogItem, Stream};
