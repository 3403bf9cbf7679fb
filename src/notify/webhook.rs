//! The address of a webhook. Whoever has it can write there: but for scheme and host it is a secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::foreign;

/// Parts of an address shorter than this are words, not secrets.
const LEAST_SECRET: usize = 4;

/// The same in text that does not come from the webhook's own service.
const LEAST_SECRET_ANYWHERE: usize = 12;

/// An address of http or https. Wherever it is printed, it shows only its scheme, host and port.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook(Url);

/// Why a text is no address of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoWebhook {
    /// It cannot be read as an address at all.
    #[error("is not an address")]
    NotAnAddress,
    /// Neither http nor https.
    #[error("must be https or http")]
    Scheme,
}

impl Webhook {
    /// Reads an address.
    ///
    /// # Errors
    /// When it is none, or not one of http or https.
    pub fn parse(text: &str) -> Result<Self, NoWebhook> {
        let url = Url::parse(text).map_err(|_| NoWebhook::NotAnAddress)?;
        match url.scheme() {
            "http" | "https" if url.has_host() => {
                let webhook = Self(url);
                webhook.mask();
                Ok(webhook)
            }
            _ => Err(NoWebhook::Scheme),
        }
    }

    /// Masks it in all foreign text. Short parts could be ordinary words.
    fn mask(&self) {
        for secret in self.secrets().filter(|it| it.len() >= LEAST_SECRET_ANYWHERE) {
            foreign::mask(secret, "[webhook]");
        }
        // As the header that is sent has them.
        if let Some(password) = self.0.password() {
            let credentials = format!("{}:{password}", self.0.username());
            foreign::mask(&STANDARD.encode(credentials), "[webhook]");
        }
    }

    /// The whole address, its credentials, its path and query and each part of them.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let url = &self.0;
        let query = url.query().unwrap_or_default();
        let whole = [url.as_str(), url.path(), query];
        let credentials = [url.username(), url.password().unwrap_or_default()];
        let parts = url.path().split('/').chain(query.split(['&', '=']));
        whole.into_iter().chain(credentials).chain(parts)
    }

    /// The whole address, to send to. Not to be shown.
    pub(crate) fn expose(&self) -> &Url {
        &self.0
    }

    /// The address one step below, its query kept: `…/fail`.
    #[must_use]
    pub fn below(&self, step: &str) -> Self {
        let mut url = self.0.clone();
        if let Ok(mut steps) = url.path_segments_mut() {
            steps.pop_if_empty().push(step);
        }
        Self(url)
    }

    /// Removes all secrets of the address from a text of another origin.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let mut secrets: Vec<&str> = self.secrets().filter(|it| it.len() >= LEAST_SECRET).collect();
        // The longest first: a part taken out of the whole would leave the rest of it.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[…]"))
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        match self.0.port() {
            Some(port) => write!(out, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Webhook({self})")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SLACK: &str =
        "https://me:hunter2@hooks.example:8443/services/T000/B111/Xsecret?auth=abcd1234";

    #[test]
    fn whoever_prints_it_sees_scheme_host_and_port() {
        let webhook = Webhook::parse(SLACK).unwrap();
        assert_eq!(webhook.to_string(), "https://hooks.example:8443");
        assert_eq!(format!("{webhook:?}"), "Webhook(https://hooks.example:8443)");
        let below = Webhook::parse("https://hc.example/uuid/?create=1").unwrap().below("fail");
        assert_eq!(below.expose().as_str(), "https://hc.example/uuid/fail?create=1");
    }

    #[test]
    fn what_a_service_repeats_of_it_is_taken_out() {
        let webhook = Webhook::parse(SLACK).unwrap();
        let said = format!(
            "cannot POST {SLACK}: no /services/T000/B111/Xsecret, Xsecret, abcd1234 or hunter2"
        );
        let shown = webhook.redact(&said);
        for secret in ["services", "T000", "B111", "Xsecret", "abcd1234", "hunter2"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.starts_with("cannot POST […]"), "{shown}");
    }

    #[rstest]
    #[case("hooks.example/x", NoWebhook::NotAnAddress)]
    #[case("ftp://hooks.example/x", NoWebhook::Scheme)]
    #[case("mailto:me@hooks.example", NoWebhook::Scheme)]
    #[case("https://", NoWebhook::NotAnAddress)]
    fn only_addresses_of_http_are_taken(#[case] text: &str, #[case] why: NoWebhook) {
        assert_eq!(Webhook::parse(text), Err(why));
    }
}
