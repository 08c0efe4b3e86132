//! What Fuse's clients ask first: whether this is a server that they know.

use axum::Json;
use chassis_api::fuse::{SERVICE, Version};

pub(crate) async fn show() -> Json<Version> {
    Json(Version { service: SERVICE.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}
