//! The exit codes.

use std::process::ExitCode;

use crate::cli::status::nagios;

/// What [`Exit`] comes to.
pub(super) const EXIT_CODES: &[(u8, &str)] = &[
    (0, "all well"),
    (1, "something failed or was blocked"),
    (2, "wrong usage"),
    (78, "bad configuration"),
];

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All well.
    Well,
    /// Something failed or was blocked.
    Trouble,
    /// Wrong usage.
    Usage,
    /// A bad configuration.
    Configuration,
    /// What a check for a monitoring system came to.
    Check(nagios::Level),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Well => 0,
            Exit::Trouble => 1,
            Exit::Usage => 2,
            Exit::Configuration => 78,
            Exit::Check(level) => level.code(),
        })
    }
}
