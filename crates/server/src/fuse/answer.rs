//! How this dialect writes an error: an envelope with one of ten words.

use axum::http::{HeaderValue, StatusCode};
use chassis_api::Problem;
use chassis_api::fuse::{CODES, Envelope, EnvelopeError, SERVICE};

/// The problem in this dialect's words, and its status there.
pub(crate) fn envelope(problem: &Problem) -> (StatusCode, Envelope) {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // What cannot be understood is one sort of error here, whatever is wrong with it.
    let status = match status {
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UNSUPPORTED_MEDIA_TYPE => StatusCode::BAD_REQUEST,
        other => other,
    };
    // `forbidden` is a word of both dialects, and means something else in each.
    let is_own = CODES.contains(&problem.code.as_str()) && problem.code != "forbidden";
    let code = if is_own { &problem.code } else { code(status, problem) };
    let error = EnvelopeError {
        code: code.to_owned(),
        message: problem.detail.clone(),
        details: problem.details.as_deref().cloned().unwrap_or_default(),
    };
    (status, Envelope { error })
}

fn code(status: StatusCode, problem: &Problem) -> &'static str {
    match status {
        StatusCode::FORBIDDEN if problem.code == "address_refused" => "forbidden",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "unauthorized",
        StatusCode::NOT_FOUND if problem.code == "no_route" => "route_not_found",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "payload_too_large",
        StatusCode::NOT_IMPLEMENTED => "unimplemented",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "unavailable",
        status if status.is_server_error() => "internal",
        _ => "invalid_argument",
    }
}

/// The header by which this dialect's servers are known.
pub(crate) fn server_header() -> HeaderValue {
    HeaderValue::try_from(format!("{SERVICE}/{}", env!("CARGO_PKG_VERSION")))
        .unwrap_or(HeaderValue::from_static(SERVICE))
}
