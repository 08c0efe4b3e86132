//! Lists in parts.
//!
//! A cursor is the place of the last item that was given, in the order of the list: what is added or taken away meanwhile
//! neither doubles nor hides another item. It is good for the list that gave it, whatever its filters.

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis_api::Page;
use serde::Serialize;

use super::extract::Query;
use super::failure::Failure;

const LIMIT: u32 = 1000;
const LONGEST: u32 = 5000;
/// Bytes of a cursor that say of which list it is.
const SEAL: usize = 6;

/// Which part of a list is asked for.
pub(crate) struct Paging {
    after: Option<String>,
    limit: usize,
    uri: Uri,
}

/// The part, as it is found.
pub(crate) struct Part<T> {
    paging: Paging,
    items: Vec<T>,
    last: String,
    has_more: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(page) = Query::<Page>::from_request_parts(parts, state).await?;
        let limit = page.limit.unwrap_or(LIMIT);
        if !(1..=LONGEST).contains(&limit) {
            let detail = format!("a list has 1 to {LONGEST} items in one part, not {limit}");
            return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid_query", detail));
        }
        let after = page.cursor.as_deref().map(|cursor| cursor_read(parts.uri.path(), cursor)).transpose()?;
        Ok(Paging { after, limit: limit as usize, uri: parts.uri.clone() })
    }
}

impl Paging {
    pub(crate) fn part<T>(self) -> Part<T> {
        Part { paging: self, items: Vec::new(), last: String::new(), has_more: false }
    }
}

impl<T> Part<T> {
    /// Offers the next item of the list, in the order of `place`; it is made only if it is in this part. False once
    /// the part is full, so that the rest need not be offered.
    pub(crate) fn offer(&mut self, place: String, make: impl FnOnce() -> T) -> bool {
        if self.paging.after.as_ref().is_some_and(|after| place <= *after) {
            return true;
        }
        if self.items.len() == self.paging.limit {
            self.has_more = true;
            return false;
        }
        self.items.push(make());
        self.last = place;
        true
    }

    /// The items, and the part without them: for items that take time to be made out of these.
    pub(crate) fn take(mut self) -> (Vec<T>, Part<T>) {
        (std::mem::take(&mut self.items), self)
    }

    /// The same part, of what was made of its items.
    pub(crate) fn of<U>(self, items: Vec<U>) -> Part<U> {
        Part { paging: self.paging, items, last: self.last, has_more: self.has_more }
    }

    fn link(&self) -> Option<HeaderValue> {
        let cursor = || cursor(self.paging.uri.path(), &self.last);
        self.has_more.then(|| link_next(&self.paging.uri, "cursor", &cursor())).flatten()
    }
}

/// Items that are numbered, with the way to the next part if there is more: the number is the cursor.
pub(crate) struct Numbered<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<HeaderValue>,
}

impl<T> Numbered<T> {
    /// `items` are those that follow a number, one more than `limit` if there is more.
    pub(crate) fn after(uri: &Uri, mut items: Vec<T>, limit: u32, number: impl Fn(&T) -> u64) -> Numbered<T> {
        let limit = limit as usize;
        let has_more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| has_more);
        Numbered { next: last.and_then(|last| link_next(uri, "after", &number(last).to_string())), items }
    }
}

impl<T: Serialize> IntoResponse for Numbered<T> {
    fn into_response(self) -> Response {
        with_link(axum::Json(self.items), self.next)
    }
}

/// `</api/v1/…>; rel="next"`: the same request with this parameter.
fn link_next(uri: &Uri, name: &str, value: &str) -> Option<HeaderValue> {
    let asked = uri.query().unwrap_or_default().split('&');
    let same = |pair: &str| pair.split('=').next() == Some(name);
    let kept = asked.filter(|pair| !pair.is_empty() && !same(pair));
    let cursor = format!("{name}={value}");
    let query: Vec<&str> = kept.chain([cursor.as_str()]).collect();
    HeaderValue::try_from(format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))).ok()
}

fn with_link(body: impl IntoResponse, link: Option<HeaderValue>) -> Response {
    let mut response = body.into_response();
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

impl<T: Serialize> IntoResponse for Part<T> {
    fn into_response(self) -> Response {
        let link = self.link();
        with_link(axum::Json(self.items), link)
    }
}

/// Where something stands in a list that is sorted by these words, one after the other.
pub(crate) fn place(words: &[&str]) -> String {
    // Before any character of a name, so that a shorter name comes before a longer one that begins with it.
    words.join("\0")
}

/// A number as a word of [`place`].
pub(crate) fn digits(number: impl Into<u64>) -> String {
    format!("{:020}", number.into())
}

/// A place, and before it what tells that it is one, and of this list.
fn cursor(list: &str, place: &str) -> String {
    URL_SAFE_NO_PAD.encode([&seal(list, place)[..], place.as_bytes()].concat())
}

/// Not against those who mean to deceive, who would see no more than the list: against what was cut off or mixed up.
fn seal(list: &str, place: &str) -> [u8; SEAL] {
    let digest = digest(&SHA256, &[list.as_bytes(), b"\0", place.as_bytes()].concat());
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&digest.as_ref()[..SEAL]);
    seal
}

fn cursor_read(list: &str, cursor: &str) -> Result<String, Failure> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
    let place = bytes.split_at_checked(SEAL).and_then(|(sealed, place)| {
        let place = std::str::from_utf8(place).ok()?;
        (sealed == seal(list, place)).then(|| place.to_owned())
    });
    place.ok_or_else(|| {
        let detail = "this cursor is none that this list gave; take it from the `Link` of its last part";
        Failure::new(StatusCode::BAD_REQUEST, "invalid_cursor", detail)
    })
}
