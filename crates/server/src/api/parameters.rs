//! Parameters after the question mark that a route does not know: refused, because whoever wrote one meant something by it.
//!
//! What each route knows is what its description says. The routes at the root are for probes of other systems, which may add
//! what they like.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::{MatchedPath, Query, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chassis_api::openapi::query_names;
use chassis_api::route::route_find;

use super::failure::Failure;
use super::targets::nearest;

const NATIVE: &str = "/api/v1/";

static KNOWN: LazyLock<BTreeMap<&'static str, Vec<String>>> = LazyLock::new(query_names);

/// The layer around handlers.
pub(crate) async fn known(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn check(request: &Request) -> Result<(), Failure> {
    if request.uri().query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let route = matched
        .filter(|path| path.starts_with(NATIVE))
        .and_then(|path| route_find(method.as_str(), path))
        .and_then(|route| KNOWN.get(route.operation));
    let Some(known) = route else { return Ok(()) };
    let given = Query::<Vec<(String, String)>>::try_from_uri(request.uri())
        .map_err(|rejection| wrong(rejection.body_text()))?;
    match given.0.iter().find(|(name, _)| !known.contains(name)) {
        Some((name, _)) => Err(wrong(unknown(name, known, method))),
        None => Ok(()),
    }
}

fn unknown(name: &str, known: &[String], method: &Method) -> String {
    let begin = format!("there is no parameter `{name}` here");
    if let Some(near) = nearest(name, known) {
        return format!("{begin}; did you mean `{near}`?");
    }
    let body = if method == Method::POST { "; a field of the body goes into the body" } else { "" };
    match known {
        [] => format!("{begin}, nor any other{body}"),
        known => format!("{begin}; known are {}{body}", known.join(", ")),
    }
}

fn wrong(detail: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
}
