//! The variables that name a proxy. What cannot be understood there is ignored by the HTTP library, and
//! calls go past the proxy without a word.

use std::ffi::OsString;

use hyper::Uri;
use url::Url;

use crate::foreign;

const VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// What is wrong with the first variable that names no usable proxy. Never shows its value, which may hold
/// a password.
#[must_use]
pub(crate) fn mistake(variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    VARIABLES.into_iter().find_map(|name| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        let problem = problem(value.to_str())?;
        Some(format!("${name} {problem}; write it like http://proxy.example:3128, or unset it"))
    })
}

/// Whether a proxy may be used.
#[must_use]
pub(crate) fn is_set(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    VARIABLES.into_iter().any(|name| variable(name).is_some_and(|value| !value.is_empty()))
}

/// Masks the passwords of proxies in all foreign text: a hook that shows its environment has them.
pub(crate) fn mask_passwords(variable: impl Fn(&str) -> Option<OsString>) {
    for value in VARIABLES.into_iter().filter_map(variable) {
        let Some(value) = value.to_str() else { continue };
        let uri = value.split_once("://").map_or(value, |(_, uri)| uri);
        let url = Url::parse(&format!("http://{uri}")).ok();
        if let Some(password) = url.as_ref().and_then(Url::password) {
            foreign::mask(password, "[password]");
        }
    }
}

/// As the HTTP library reads it: without a scheme it is http.
fn problem(value: Option<&str>) -> Option<&'static str> {
    const NO_ADDRESS: &str = "is not the address of a proxy";
    let Some(uri) = value.and_then(|value| value.parse::<Uri>().ok()) else {
        return Some(NO_ADDRESS);
    };
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return Some("names a proxy that is neither http nor https");
    }
    let host = uri.authority().and_then(|it| Url::parse(&format!("http://{it}/")).ok());
    host.is_none().then_some(NO_ADDRESS)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::unset("", None)]
    #[case::whole("http://proxy.example:3128", None)]
    #[case::tls("HTTPS://proxy.example/", None)]
    #[case::without_a_scheme("proxy.example:3128", None)]
    #[case::with_a_password("http://me:secret@proxy.example", None)]
    #[case::words("not a proxy", Some("is not the address"))]
    #[case::no_host("http://", Some("is not the address"))]
    #[case::a_path("http:///secret", Some("is not the address"))]
    #[case::a_path_and_no_scheme("proxy.example/secret", Some("is not the address"))]
    #[case::no_port("http://proxy:secret", Some("is not the address"))]
    #[case::ftp("ftp://secret", Some("neither http nor https"))]
    #[case::socks("socks5://me:secret@proxy:1080", Some("neither http nor https"))]
    fn what_the_library_would_ignore_is_a_mistake(
        #[case] value: &str,
        #[case] words: Option<&str>,
    ) {
        for name in VARIABLES {
            let told = mistake(|asked| (asked == name).then(|| value.into()));
            let is_as_expected = match (&told, words) {
                (Some(told), Some(words)) => told.contains(words) && told.contains(name),
                (told, words) => told.is_none() && words.is_none(),
            };
            assert!(is_as_expected, "{name}={value}: {told:?}");
            assert!(!told.unwrap_or_default().contains("secret"));
        }
    }

    #[test]
    fn the_password_of_a_proxy_is_masked_in_foreign_text() {
        let variable = |name: &str| {
            (name == "https_proxy").then(|| "http://me:ProxySecret71%21@proxy.example:3128".into())
        };
        mask_passwords(variable);
        for said in ["ProxySecret71%21", "ProxySecret71!"] {
            let shown = foreign::ForeignText::from(said).to_string();
            assert_eq!(shown, "[password]");
        }
    }
}
