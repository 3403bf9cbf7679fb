//! The exit codes.

use std::process::ExitCode;

use crate::cli::status::findings::Level;

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
    Check(Level),
}

impl Exit {
    /// The number.
    #[must_use]
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Trouble => 1,
            Self::Usage => 2,
            Self::Configuration => 78,
            Self::Check(level) => level.code(),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
