//! How notices call the machine that sends them.

use std::fmt;
use std::sync::Arc;

use crate::foreign::ForeignText;

/// The longest name that is shown, in characters. Host names have 64 at most.
pub(crate) const MAX_NAME: usize = 64;

/// A machine's name; empty if it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance(Arc<str>);

impl Instance {
    /// The configured name, else the kernel's.
    #[must_use]
    pub(crate) fn of(configured: Option<&str>) -> Self {
        match configured {
            Some(name) => Self::named(name),
            None => {
                let name = nix::unistd::gethostname().unwrap_or_default();
                Self::named(&name.to_string_lossy())
            }
        }
    }

    /// This name, as one short line: a host name can contain anything.
    #[must_use]
    pub(crate) fn named(name: &str) -> Self {
        Self(ForeignText::excerpt(name, MAX_NAME).to_string().into())
    }

    /// The name.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// `snapring on NAME`, for titles.
impl fmt::Display for Instance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            "" => out.write_str("snapring"),
            name => write!(out, "snapring on {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_short_printable_line() {
        let shown = |name: &str| Instance::named(name).to_string();
        assert_eq!(shown("backup-1"), "snapring on backup-1");
        assert_eq!(shown("a\r\nPriority: max\u{1b}[2J"), "snapring on a Priority: max\u{fffd}[2J");
        assert_eq!(shown(" \n"), "snapring");
        assert_eq!(Instance::named(&"x".repeat(300)).as_str().chars().count(), MAX_NAME + 1);
        assert_eq!(Instance::of(Some("here")).as_str(), "here");
    }

    #[test]
    fn without_one_the_kernel_says_it() {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(Instance::of(None), Instance::named(kernel.trim()));
    }
}
