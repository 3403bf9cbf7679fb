//! The account's token: where it comes from, and that it goes nowhere else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::clock::Clock;
use crate::foreign;
use crate::naming::Account;
use crate::regular_file;

/// Longer than any token; a larger file is not one.
const MAX_TOKEN_BYTES: u64 = 4096;

/// Rotations that begin within this time of each other read the file once; thousands begin at a tick.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a rotation waits for the file. A file system that hangs may take for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file that systemd's `LoadCredential=snapring-token:…` makes, or that of a further account.
fn systemd_credential(account: Account) -> String {
    match account.label() {
        None => "snapring-token".to_owned(),
        Some(name) => format!("snapring-token-{name}"),
    }
}

fn missing(account: &Account) -> String {
    let credential = systemd_credential(*account);
    match account.label() {
        None => format!(
            "there is no API token: set `token_file` in [api], or $SNAPRING_TOKEN, or start with systemd's \
             LoadCredential={credential}:…"
        ),
        Some(name) => format!(
            "there is no API token for account {name}: set its `token_file`, or start with systemd's \
             LoadCredential={credential}:…"
        ),
    }
}

/// Why there is no usable token. Never shows a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No source has one.
    #[error("{}", missing(.0))]
    Missing(Account),
    /// The file cannot be read.
    #[error("the token file {path} cannot be read: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The text is no token.
    #[error("the token from {from} {problem}")]
    Unusable {
        /// Which file or variable.
        from: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Where the token stands.
#[derive(Clone)]
enum TokenSource {
    File(PathBuf),
    /// A copy of systemd's; the file that it was made of is not known.
    Credential(PathBuf),
    Environment(SecretString),
    Nowhere(Account),
}

/// Holds the token and reads it again when asked. `Debug` shows no token.
pub struct Credentials {
    account: Account,
    source: TokenSource,
    current: Mutex<Option<SecretString>>,
    /// In the clock's uptime.
    refreshed_at: Mutex<Option<Duration>>,
    /// A file system that hangs holds one thread, not one for each rotation.
    is_reading: AtomicBool,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            TokenSource::File(path) | TokenSource::Credential(path) => {
                write!(out, "Credentials({})", path.display())
            }
            TokenSource::Environment(_) => out.write_str("Credentials($SNAPRING_TOKEN)"),
            TokenSource::Nowhere(_) => out.write_str("Credentials(none)"),
        }
    }
}

impl Credentials {
    /// The contract's order: `token_file`, else `$CREDENTIALS_DIRECTORY/snapring-token`, else
    /// `$SNAPRING_TOKEN`; of an account with a name `token_file`, else
    /// `$CREDENTIALS_DIRECTORY/snapring-token-NAME`. `variable` reads the environment.
    ///
    /// The credential also replaces a `token_file` that this user may not read: the shipped unit
    /// makes it of root's file for a user who cannot, and one configuration serves both.
    #[must_use]
    pub fn locate(
        account: Account,
        token_file: Option<&Path>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let from_systemd = || {
            let directory = PathBuf::from(variable("CREDENTIALS_DIRECTORY")?);
            let path = directory.join(systemd_credential(account));
            path.exists().then_some(TokenSource::Credential(path))
        };
        let source = match (token_file, from_systemd()) {
            (Some(path), Some(credential)) if is_closed_to_this_user(path) => credential,
            (Some(path), _) => TokenSource::File(path.to_path_buf()),
            (None, Some(credential)) => credential,
            (None, None) if account != Account::API => TokenSource::Nowhere(account),
            (None, None) => match variable("SNAPRING_TOKEN").map(OsString::into_string) {
                Some(Ok(token)) if !token.trim().is_empty() => {
                    TokenSource::Environment(token.into())
                }
                // Not even text: shows up as unusable when it is asked for.
                Some(Err(_)) => TokenSource::Environment(SecretString::from("\0")),
                _ => TokenSource::Nowhere(account),
            },
        };
        Self { account, ..Self::of(source) }
    }

    fn of(source: TokenSource) -> Self {
        Self {
            account: Account::API,
            source,
            current: Mutex::default(),
            refreshed_at: Mutex::default(),
            is_reading: AtomicBool::new(false),
        }
    }

    /// Whether the token is a credential that systemd handed over.
    #[must_use]
    pub fn are_systemds(&self) -> bool {
        matches!(self.source, TokenSource::Credential(_))
    }

    /// A token that is already known (the sandbox's).
    #[must_use]
    pub fn known(token: SecretString) -> Self {
        Self::of(TokenSource::Environment(token))
    }

    /// The token, read once and remembered.
    ///
    /// # Errors
    /// When no source has a usable one.
    pub fn token(&self) -> Result<SecretString, CredentialError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*current {
            return Ok(token.clone());
        }
        let token = self.read()?;
        *current = Some(token.clone());
        Ok(token)
    }

    /// Reads the token again, unless that was just done; `now` is the clock's uptime. The one from
    /// before stays when this fails, so that a file in the middle of being replaced stops nothing.
    ///
    /// # Errors
    /// When no source has a usable one.
    pub fn refresh(&self, now: Duration) -> Result<(), CredentialError> {
        if self.is_due(now) { self.read_again() } else { Ok(()) }
    }

    /// [`Self::refresh`] with a bound, and outside the runtime's threads if the token is in a file.
    ///
    /// # Errors
    /// As for [`Self::refresh`], or when the file takes too long.
    pub(crate) async fn refresh_in_time(
        self: Arc<Self>,
        clock: &Clock,
    ) -> Result<(), CredentialError> {
        let now = clock.now().uptime;
        let (TokenSource::File(path) | TokenSource::Credential(path)) = &self.source else {
            return self.refresh(now);
        };
        if !self.is_due(now) || self.is_reading.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let path = path.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let read = self.read_again();
            self.is_reading.store(false, Ordering::Release);
            read
        });
        let too_slow = || {
            let patience = humantime::format_duration(PATIENCE);
            format!("it took longer than {patience}; is its file system available?")
        };
        let reason = match clock.timeout(PATIENCE, reading).await {
            Some(Ok(read)) => return read,
            Some(Err(panic)) => panic.to_string(),
            None => too_slow(),
        };
        Err(CredentialError::Unreadable { path, reason })
    }

    fn is_due(&self, now: Duration) -> bool {
        let mut refreshed_at = self.refreshed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if refreshed_at.is_some_and(|at| now.saturating_sub(at) < READ_AGAIN_AFTER) {
            return false;
        }
        *refreshed_at = Some(now);
        true
    }

    fn read_again(&self) -> Result<(), CredentialError> {
        let token = self.read()?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    /// Where the token is, for a person whose token was refused.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.source {
            TokenSource::File(path) => path.display().to_string(),
            TokenSource::Credential(_) => "systemd's credential".to_owned(),
            TokenSource::Environment(_) | TokenSource::Nowhere(_) => "$SNAPRING_TOKEN".to_owned(),
        }
    }

    /// That `$SNAPRING_TOKEN` is set, and another token is used. Of the account of `[api]` only: further ones
    /// never have theirs from there.
    #[must_use]
    pub fn ignored_variable(&self, variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
        let is_other = matches!(self.source, TokenSource::File(_) | TokenSource::Credential(_));
        let is_set = variable("SNAPRING_TOKEN").is_some_and(|it| !it.is_empty());
        (self.account == Account::API && is_other && is_set).then(|| {
            format!("$SNAPRING_TOKEN is set and not used: the token comes from {}", self.place())
        })
    }

    /// How a new token comes into use, for a person whose token was refused.
    #[must_use]
    pub fn how_to_renew(&self) -> &'static str {
        match &self.source {
            TokenSource::File(_) => "a new one in this file is used from the next rotation on",
            TokenSource::Credential(_) => {
                "after you replaced the file behind systemd's credential, reload or restart the \
                 service"
            }
            TokenSource::Environment(_) | TokenSource::Nowhere(_) => {
                "set a new one and restart snapring"
            }
        }
    }

    fn read(&self) -> Result<SecretString, CredentialError> {
        match &self.source {
            TokenSource::File(path) | TokenSource::Credential(path) => {
                usable(&read_file(path)?, &path.display().to_string())
            }
            TokenSource::Environment(token) => usable(token.expose_secret(), "$SNAPRING_TOKEN"),
            TokenSource::Nowhere(account) => Err(CredentialError::Missing(*account)),
        }
    }
}

/// Not that it is missing or no file: then the configuration is wrong, and nothing replaces it.
fn is_closed_to_this_user(path: &Path) -> bool {
    regular_file::open(path)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn read_file(path: &Path) -> Result<String, CredentialError> {
    let unreadable = |reason: String| CredentialError::Unreadable { path: path.to_owned(), reason };
    let bytes =
        regular_file::read(path, MAX_TOKEN_BYTES).map_err(|error| unreadable(error.to_string()))?;
    // The standard library's error would show the bytes.
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))
}

fn usable(text: &str, from: &str) -> Result<SecretString, CredentialError> {
    let token = text.trim();
    let unusable = |problem| CredentialError::Unusable { from: from.to_owned(), problem };
    if token.is_empty() {
        return Err(unusable("is empty"));
    }
    let is_quote = |it: char| matches!(it, '"' | '\'' | '`');
    if token.starts_with(is_quote) || token.ends_with(is_quote) {
        return Err(unusable("is in quotes: remove them"));
    }
    let behind = token.get(6..).filter(|_| token.to_ascii_lowercase().starts_with("bearer"));
    if behind.is_some_and(|it| it.is_empty() || it.starts_with([' ', '\t', ':'])) {
        return Err(unusable("begins with `Bearer`: write the token alone"));
    }
    if token.starts_with(['{', '[']) {
        return Err(unusable("is JSON: write the token alone"));
    }
    if token.trim_end_matches('=').contains('=') {
        return Err(unusable(
            "holds `=`, as a line of a file with variables does: write the token alone",
        ));
    }
    if token.ends_with([';', ',']) {
        return Err(unusable("ends with a character that no token has: write the token alone"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("holds white space or characters that no token has"));
    }
    foreign::mask_token(token);
    Ok(SecretString::from(token))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::foreign::ForeignText;
    use crate::testing::as_nobody;

    fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
        let map: HashMap<String, OsString> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), OsString::from(value))).collect();
        move |name| map.get(name).cloned()
    }

    fn shown(credentials: &Credentials) -> String {
        credentials.token().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn the_file_comes_before_systemd_and_systemd_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "vps_file\n").unwrap();
        let variables = environment(&[
            ("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap()),
            ("SNAPRING_TOKEN", "vps_variable"),
        ]);
        assert_eq!(shown(&Credentials::locate(Account::API, None, &variables)), "vps_variable");
        std::fs::write(dir.path().join("snapring-token"), "vps_systemd").unwrap();
        let from_systemd = Credentials::locate(Account::API, None, &variables);
        assert_eq!(shown(&from_systemd), "vps_systemd");
        assert!(from_systemd.how_to_renew().contains("reload or restart the service"));
        assert_eq!(shown(&Credentials::locate(Account::API, Some(&file), &variables)), "vps_file");
    }

    #[test]
    fn a_credential_stands_in_for_a_file_that_this_user_may_not_read_and_for_no_other() {
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o755);
        let file = dir.path().join("token");
        std::fs::write(&file, "vps_file").unwrap();
        let credential = dir.path().join("snapring-token");
        std::fs::write(&credential, "vps_systemd").unwrap();
        mode(&credential, 0o644);
        let handed = environment(&[("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]);
        let not_handed = environment(&[("SNAPRING_TOKEN", "vps_variable")]);

        mode(&file, 0o644);
        as_nobody(|| {
            assert_eq!(shown(&Credentials::locate(Account::API, Some(&file), &handed)), "vps_file")
        });
        mode(&file, 0o000);
        as_nobody(|| {
            assert_eq!(
                shown(&Credentials::locate(Account::API, Some(&file), &handed)),
                "vps_systemd"
            );
            let refused =
                Credentials::locate(Account::API, Some(&file), &not_handed).token().unwrap_err();
            assert!(refused.to_string().contains("Permission denied"), "{refused}");
            let missing =
                Credentials::locate(Account::API, Some(&dir.path().join("none")), &handed);
            assert!(missing.token().unwrap_err().to_string().contains("No such file"));
        });
    }

    #[test]
    fn a_replaced_file_is_read_again_and_a_missing_one_keeps_the_last_token() {
        let seconds = Duration::from_secs;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "vps_one").unwrap();
        let credentials = Credentials::locate(Account::API, Some(&file), environment(&[]));
        assert_eq!(shown(&credentials), "vps_one");
        std::fs::write(&file, "vps_two").unwrap();
        credentials.refresh(seconds(10)).unwrap();
        assert_eq!(shown(&credentials), "vps_two");
        std::fs::remove_file(&file).unwrap();
        assert!(
            credentials.refresh(seconds(11)).unwrap_err().to_string().contains("cannot be read")
        );
        assert_eq!(shown(&credentials), "vps_two");
    }

    #[test]
    fn those_who_begin_together_read_the_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "vps_one").unwrap();
        let credentials = Credentials::locate(Account::API, Some(&file), environment(&[]));
        credentials.refresh(Duration::from_secs(5)).unwrap();
        // One complaint about it will do, for as many as there are.
        std::fs::remove_file(&file).unwrap();
        assert_eq!(credentials.refresh(Duration::from_millis(5999)), Ok(()));
        assert!(credentials.refresh(Duration::from_secs(6)).is_err());
        assert_eq!(credentials.refresh(Duration::from_millis(6999)), Ok(()));
        assert_eq!(shown(&credentials), "vps_one");
    }

    #[tokio::test]
    async fn a_file_that_is_read_in_time_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "vps_one").unwrap();
        let credentials =
            Arc::new(Credentials::locate(Account::API, Some(&file), environment(&[])));
        let clock = Clock::system();
        Arc::clone(&credentials).refresh_in_time(&clock).await.unwrap();
        assert_eq!(shown(&credentials), "vps_one");
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_holds_one_thread() {
        let file = Path::new("/none");
        let credentials = Arc::new(Credentials::locate(Account::API, Some(file), environment(&[])));
        credentials.is_reading.store(true, Ordering::Release);
        let clock = Clock::system();
        assert_eq!(Arc::clone(&credentials).refresh_in_time(&clock).await, Ok(()));
        credentials.is_reading.store(false, Ordering::Release);
        *credentials.refreshed_at.lock().unwrap() = None;
        assert!(Arc::clone(&credentials).refresh_in_time(&clock).await.is_err());
        assert!(!credentials.is_reading.load(Ordering::Acquire));
    }

    #[test]
    fn what_is_pasted_around_a_token_is_named() {
        let problem = |text: &str| {
            let credentials = Credentials::known(SecretString::from(text));
            credentials.token().err().map(|error| error.to_string()).unwrap_or_default()
        };
        for quoted in ["\"vps_x\"", "'vps_x'", "`vps_x`\n", "\"vps_x"] {
            assert!(problem(quoted).contains("is in quotes"), "{quoted}");
        }
        for text in ["Bearer vps_x", "bearer: vps_x", "\"Bearer vps_x\""] {
            let told = problem(text);
            assert!(told.contains("`Bearer`") || told.contains("quotes"), "{text}: {told}");
        }
        for (text, says) in [
            ("SNAPRING_TOKEN=vps_x\n", "holds `=`"),
            ("export TOKEN=vps_x", "holds `=`"),
            ("{\"token\": \"vps_x\"}", "is JSON"),
            ("[\"vps_x\"]", "is JSON"),
            ("vps_x;", "ends with a character"),
            ("vps_x,\n", "ends with a character"),
        ] {
            assert!(problem(text).contains(says), "{text}: {}", problem(text));
        }
        for good in ["vps_bearer\n", "bearer_vps_x", "vps_aGk/+~.-_==", "vps_x==\n"] {
            assert_eq!(problem(good), "", "{good}");
        }
    }

    #[test]
    fn no_error_and_no_debug_shows_the_token() {
        let variables = environment(&[("SNAPRING_TOKEN", "vps_se cret")]);
        let credentials = Credentials::locate(Account::API, None, &variables);
        let error = credentials.token().unwrap_err();
        let seen = format!("{error} {error:?} {credentials:?}");
        assert!(seen.contains("white space") && !seen.contains("cret"), "{seen}");
    }

    #[test]
    fn the_token_is_taken_out_of_what_others_say() {
        let variables = environment(&[("SNAPRING_TOKEN", "vps_repeated-by-others")]);
        let _ = shown(&Credentials::locate(Account::API, None, &variables));
        let said = ForeignText::from("bad token vps_repeated-by-others!");
        assert_eq!(said.to_string(), "bad token [token]!");
    }
}
