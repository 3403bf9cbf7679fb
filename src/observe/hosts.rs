//! Which names a request may be addressed to.
//!
//! A page of another site can have its own name resolve to this machine and then read what is here (DNS
//! rebinding). The browser still sends that name as `Host`. Addresses cannot be rebound.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::uri::Authority;

/// The names from `[http] hosts`, in small letters. Loopback's names and all addresses are known anyway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(Arc<[String]>);

impl Hosts {
    /// These names.
    #[must_use]
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request is addressed to one of them. Browsers always say to whom; programs that do not
    /// are no danger.
    #[must_use]
    pub(super) fn are_meant_by(&self, headers: &HeaderMap) -> bool {
        headers.get_all(HOST).iter().all(|host| {
            let authority = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
            authority.is_some_and(|authority| self.know(authority.host()))
        })
    }

    fn know(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.0.contains(&host)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("localhost:9187", true)]
    #[case("LOCALHOST.", true)]
    #[case("127.0.0.1:9187", true)]
    #[case("[::1]:9187", true)]
    #[case("192.0.2.7", true)]
    #[case("Snapring.Example:9187", true)]
    #[case("evil.example", false)]
    #[case("evil.example:9187", false)]
    #[case("localhost.evil.example", false)]
    #[case("127.0.0.1.evil.example", false)]
    #[case("evil.snapring.example", false)]
    #[case("localhost@evil.example", false)]
    #[case("", false)]
    #[case("a b", false)]
    fn only_addresses_loopback_and_configured_names_are_known(
        #[case] host: &str,
        #[case] known: bool,
    ) {
        let hosts = Hosts::new(["SNAPRING.example".to_owned()]);
        let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        assert_eq!(hosts.are_meant_by(&headers), known);
        assert!(hosts.are_meant_by(&HeaderMap::new()));
    }
}
