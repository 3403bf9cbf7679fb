//! Why a command did not do what it was asked: what to say, and the exit code.

use std::fmt::Display;

use crate::call::{CallError, Failure, Outcome};
use crate::cli::{Exit, console};
use crate::config::ConfigError;
use crate::observe::client::NoAnswer;
use crate::provider::connect::ConnectError;
use crate::rotation::lock::LockError;
use crate::server::Server;
use crate::telemetry::FilterError;

/// Why a command stopped. `cli::main` prints it. Only commands that continue after it print it
/// themselves.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// Something failed or was blocked.
    #[error("{0}")]
    Failed(String),
    /// Wrong usage.
    #[error("{0}")]
    Usage(String),
    /// Something is wrong that the configuration must put right, in no line of the file.
    #[error("{0}")]
    Configuration(String),
    /// The file has mistakes. Their rendering says already that they are mistakes.
    #[error("the configuration is bad: {0}")]
    Mistakes(#[from] ConfigError),
    /// It has been printed already. A check for a monitoring system says the text once more.
    #[error("{text}")]
    Told {
        /// What the command ends with.
        exit: Exit,
        /// What was wrong.
        text: String,
    },
    /// There is nothing to print: standard output is closed, a second signal stopped the command, or the
    /// log or the output already says it.
    #[error("no more is said")]
    Quiet(Exit),
}

impl CommandError {
    /// One server's failure.
    pub(super) fn of_server(server: &Server, problem: impl Display) -> Self {
        Self::Failed(format!("{}: {problem}", server.name))
    }

    /// What the command ends with.
    #[must_use]
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Failed(_) => Exit::Trouble,
            Self::Usage(_) => Exit::Usage,
            Self::Configuration(_) | Self::Mistakes(_) => Exit::Configuration,
            Self::Told { exit, .. } | Self::Quiet(exit) => *exit,
        }
    }

    /// The same, with what an interruption has left.
    #[must_use]
    pub(super) fn interrupted_with(self, left: impl FnOnce() -> String) -> Self {
        match self {
            Self::Failed(text) if text == CallError::Interrupted.to_string() => {
                Self::Failed(format!("interrupted: {}", left()))
            }
            other => other,
        }
    }

    /// Why it failed, for the history. `broken_off`: what is to be said where a second signal broke it off.
    #[must_use]
    pub(super) fn reason(&self, broken_off: impl FnOnce() -> String) -> Option<String> {
        match self {
            Self::Quiet(_) => Some(format!("interrupted: {}", broken_off())),
            other => other.to_string().lines().next().map(str::to_owned),
        }
    }

    /// Prints it on standard error. For `cli::main`, and for commands that go on after it.
    pub(super) fn report(&self) {
        if let Some(text) = self.printed(console::colours()) {
            console::mistake(&text);
        }
    }

    /// The mistake as it is printed, with its label.
    fn printed(&self, colours: bool) -> Option<String> {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::Configuration(text) => {
                Some(console::labelled(text, colours))
            }
            Self::Mistakes(error) => Some(error.render(colours).trim_end().to_owned()),
            Self::Told { .. } | Self::Quiet(_) => None,
        }
    }
}

/// What to do about a token that was refused.
pub(super) const NEW_TOKEN: &str = "replace it with a token that is valid and may manage snapshots. You get one on \
                                    the developer page of your VPS.org account";

/// The refusal of the token, if that is what made a call fail.
pub(super) fn refusal(problem: &CallError) -> Option<&Failure> {
    match problem {
        CallError::Failed(failure) if failure.outcome == Outcome::Unauthorized => Some(failure),
        _ => None,
    }
}

impl From<CallError> for CommandError {
    fn from(problem: CallError) -> Self {
        Self::Failed(match refusal(&problem) {
            Some(failure) => format!("{}\nhint: {NEW_TOKEN}", failure.cause()),
            None => problem.explained(),
        })
    }
}

impl From<ConnectError> for CommandError {
    fn from(problem: ConnectError) -> Self {
        let text = problem.to_string();
        if problem.is_configuration() { Self::Configuration(text) } else { Self::Failed(text) }
    }
}

impl From<LockError> for CommandError {
    fn from(problem: LockError) -> Self {
        Self::Failed(problem.to_string())
    }
}

impl From<NoAnswer> for CommandError {
    fn from(problem: NoAnswer) -> Self {
        Self::Failed(problem.to_string())
    }
}

impl From<FilterError> for CommandError {
    fn from(problem: FilterError) -> Self {
        Self::Usage(problem.to_string())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::config;

    fn mistakes() -> ConfigError {
        config::parse("config.toml", "nonsense = 1\n").unwrap_err()
    }

    #[rstest]
    #[case::failed(CommandError::Failed("broke\nhint: x".into()), Exit::Trouble, Some("error: broke\nhint: x"))]
    #[case::usage(CommandError::Usage("no such server".into()), Exit::Usage, Some("error: no such server"))]
    #[case::configuration(CommandError::Configuration("no token".into()), Exit::Configuration, Some("error: no token"))]
    #[case::told(CommandError::Told { exit: Exit::Configuration, text: "bad".into() }, Exit::Configuration, None)]
    #[case::quiet(CommandError::Quiet(Exit::Trouble), Exit::Trouble, None)]
    fn each_case_has_its_exit_code_and_what_is_printed(
        #[case] error: CommandError,
        #[case] exit: Exit,
        #[case] printed: Option<&str>,
    ) {
        assert_eq!(error.exit(), exit);
        assert_eq!(error.printed(false).as_deref(), printed);
        let coloured = printed.map(|it| it.replace("error:", "\u{1b}[1;31merror\u{1b}[0m:"));
        assert_eq!(error.printed(true), coloured);
    }

    #[test]
    fn mistakes_of_the_file_are_printed_as_they_are_rendered() {
        let error = CommandError::from(mistakes());
        assert_eq!(error.exit(), Exit::Configuration);
        for colours in [false, true] {
            let printed = error.printed(colours).unwrap();
            assert_eq!(printed, mistakes().render(colours).trim_end());
        }
        assert!(!error.printed(false).unwrap().starts_with("error: error"), "{error}");
    }

    #[test]
    fn a_missing_token_is_a_matter_of_the_configuration_and_a_failed_call_is_not() {
        let missing = ConnectError::Token("there is no API token".into());
        assert_eq!(CommandError::from(missing).exit(), Exit::Configuration);
        let error = CommandError::from(CallError::Pinned);
        assert_eq!(
            (error.exit(), error.to_string()),
            (Exit::Trouble, CallError::Pinned.to_string())
        );
    }
}
