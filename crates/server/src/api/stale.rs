//! Says with every answer how far it may be behind, while the database is away.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use chassis_api::STALE_HEADER;

use crate::shared::Shared;

const STALE: HeaderName = HeaderName::from_static(STALE_HEADER);

pub(crate) async fn tell(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(seconds) = shared.stale_seconds() {
        response.headers_mut().insert(STALE, HeaderValue::from(seconds));
    }
    response
}
