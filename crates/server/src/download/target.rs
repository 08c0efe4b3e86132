//! Where a download comes from: an address taken apart.

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

use super::DownloadError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) is_tls: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: PathAndQuery,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Target, DownloadError> {
        let malformed = || DownloadError::Malformed(without_query(url));
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(malformed()),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        // A user in an address is there to make it look like another.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(malformed());
        }
        let has_port = !authority.as_str().ends_with(authority.host());
        let usual = if is_tls { 443 } else { 80 };
        let port = if has_port { authority.port_u16().ok_or_else(malformed)? } else { usual };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Target { is_tls, host, port, path })
    }

    /// Where an answer sends whoever asked here.
    pub(super) fn redirected(&self, location: &str) -> Result<Target, DownloadError> {
        if location.starts_with('/') && !location.starts_with("//") {
            let path = location.parse().map_err(|_| DownloadError::Malformed(without_query(location)))?;
            return Ok(Target { path, ..self.clone() });
        }
        Target::parse(location)
    }

    /// For people: without its query, which may be a password.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.origin(), self.path.path())
    }

    fn origin(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }

    /// For the header `Host`.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

fn without_query(url: &str) -> String {
    let shown: String = url.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect();
    // What stands before an `@` may be a password.
    match (shown.split_once("://"), shown.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_as_it_is_meant() {
        let parsed = |url: &str| Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let target = parsed("https://Example.org/a/b?token=needle");
        assert_eq!((target.host.as_str(), target.port, target.is_tls), ("example.org", 443, true));
        assert_eq!(target.shown(), "https://example.org/a/b");
        assert_eq!(target.path.as_str(), "/a/b?token=needle");
        assert_eq!(parsed("http://[::1]:8080/").host, "::1");
        assert_eq!(parsed("http://[::1]:8080/").authority(), "[::1]:8080");
        let next = |location: &str| target.redirected(location).map(|target| target.shown());
        assert_eq!(next("/c").unwrap(), "https://example.org/c");
        assert_eq!(next("http://169.254.169.254/latest").unwrap(), "http://169.254.169.254/latest");
        for wrong in ["//evil.example/", "c", "ftp://h/", "https://"] {
            assert!(next(wrong).is_err(), "{wrong}");
        }
        for wrong in
            ["https://u:needle@h/", "https://h:x/", "https://h:99999/", "file:///etc/passwd", "h/x", ""]
        {
            let error = Target::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("needle"), "{error}");
        }
    }
}
