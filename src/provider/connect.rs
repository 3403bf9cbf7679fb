//! A client for the configured account, with its token at hand.

use std::path::Path;

use rand::Rng;
use rand::rngs::SysRng;

use crate::activity::Activities;
use crate::clock::Clock;
use crate::paths::SERVICE_CREDENTIALS;
use crate::provider::client::Client;
use crate::provider::credentials::{CredentialError, Credentials};
use crate::provider::http::HttpTransport;
use crate::provider::proxy;
use crate::provider::settings::ApiSettings;
use crate::provider::transport::TransportError;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no usable token; the text says what to do.
    #[error("{0}")]
    Token(String),
    /// A variable names no usable proxy.
    #[error("{0}")]
    Proxy(String),
    /// TLS does not work.
    #[error("cannot prepare connections: {0}")]
    Transport(#[from] TransportError),
}

impl ConnectError {
    /// Whether the configuration must change, not the machine.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Proxy(_))
    }
}

/// A client for the configured account, with its calls on a list of what is under way. Nothing is sent yet.
///
/// # Errors
/// When there is no usable token, a proxy that cannot be used, or TLS does not work.
pub(crate) fn connect(
    settings: &ApiSettings,
    clock: Clock,
    activities: Activities,
) -> Result<Client, ConnectError> {
    let credentials = locate_credentials(settings);
    if let Err(problem) = credentials.token() {
        return Err(ConnectError::Token(explain(problem)));
    }
    if let Some(problem) = proxy::mistake(|name| std::env::var_os(name)) {
        return Err(ConnectError::Proxy(problem));
    }
    if let Some(file) = settings.token_file.as_ref().filter(|_| credentials.are_systemds()) {
        tracing::info!(
            event = "token",
            "{} cannot be read by this user, so systemd's credential is used",
            file.display()
        );
    }
    if let Some(words) = credentials.ignored_variable(|name| std::env::var_os(name)) {
        tracing::debug!(event = "token", "{words}");
    }
    let transport = HttpTransport::new(settings.base_url.clone(), settings.timeout)?;
    let client = Client::new(Box::new(transport), settings, credentials, clock, seed());
    Ok(client.watched_by(activities))
}

/// Where this process gets the token from.
#[must_use]
pub(crate) fn locate_credentials(settings: &ApiSettings) -> Credentials {
    Credentials::locate(settings.account, settings.token_file.as_deref(), |name| {
        std::env::var_os(name)
    })
}

/// Why there is no token, with what to do if the service has one: only root can see that.
#[must_use]
pub(crate) fn explain(problem: CredentialError) -> String {
    let service = Path::new(SERVICE_CREDENTIALS);
    let hint = format!(
        "\nhint: while the service runs, you can use its token: put CREDENTIALS_DIRECTORY={} before the \
             command",
        service.display()
    );
    match problem {
        CredentialError::Missing(_) if service.exists() => problem.to_string() + &hint,
        _ => problem.to_string(),
    }
}

/// Where all randomness comes from: one number from the operating system.
#[must_use]
pub(crate) fn seed() -> u64 {
    rand::rand_core::UnwrapErr(SysRng).next_u64()
}
