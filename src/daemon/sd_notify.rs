//! What is told to the service manager, in the words of `sd_notify(3)`.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// systemd ignores a message of more than 4096 bytes, all of it.
const MAX_STATUS_BYTES: usize = 1024;

/// How long a service manager that is busy is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notification {
    /// The start, or a reload, is done.
    Ready,
    /// A reload has begun, at this reading of `CLOCK_MONOTONIC` in microseconds.
    Reloading(u64),
    /// The end has begun.
    Stopping,
    /// What `systemctl status` shows.
    Status(String),
    /// The watchdog may wait on.
    Alive,
}

impl fmt::Display for Notification {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => out.write_str("READY=1"),
            Self::Reloading(monotonic_us) => {
                write!(out, "RELOADING=1\nMONOTONIC_USEC={monotonic_us}")
            }
            Self::Stopping => out.write_str("STOPPING=1"),
            Self::Status(text) => {
                let end = text.floor_char_boundary(MAX_STATUS_BYTES);
                // A second line would be taken for a state of its own.
                write!(out, "STATUS={}", text.get(..end).unwrap_or_default().replace('\n', " "))
            }
            Self::Alive => out.write_str("WATCHDOG=1"),
        }
    }
}

/// The service manager that started this process, if one did and wants to be told.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    failed: AtomicBool,
}

impl ServiceManager {
    /// Nobody.
    #[must_use]
    pub(super) fn none() -> Self {
        Self { socket: None, failed: AtomicBool::new(false) }
    }

    /// The one that `$NOTIFY_SOCKET` names. `variable` reads the environment.
    #[must_use]
    pub(super) fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|it| !it.is_empty()) else {
            return Self::none();
        };
        Self::at(address.as_bytes()).unwrap_or_else(|error| {
            tracing::warn!(event = "service_manager", "$NOTIFY_SOCKET cannot be used: {error}");
            Self::none()
        })
    }

    /// The one that listens at a path, or at an abstract address, written with an `@` before it.
    ///
    /// # Errors
    /// When it is neither, or the system gives no sockets.
    pub(super) fn at(address: &[u8]) -> io::Result<Self> {
        let address = match address {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
            _ => {
                let words = "it is neither an absolute path nor an abstract address";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket: Some((socket, address)), failed: AtomicBool::new(false) })
    }

    /// Whether a service manager listens.
    #[must_use]
    pub(super) fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// Tells all of it in one message. That it could not be told is logged, once in a row.
    pub(super) fn tell(&self, states: &[Notification]) {
        let Some((socket, address)) = self.socket.as_ref().filter(|_| !states.is_empty()) else {
            return;
        };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => self.failed.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        event = "service_manager",
                        "cannot send the status to the service manager: {error}"
                    );
                }
            }
        }
    }
}

/// Within which span the service manager wants a sign of life, if it does.
#[must_use]
pub(super) fn watchdog(variable: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    let meant = variable("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|span| *span > 0 && meant).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::SocketAddr;

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 8192];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_path_and_an_abstract_address_are_told_in_one_message_each() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("snapring-test-{}", std::process::id());
        let listening = [
            (path.as_os_str().as_bytes().to_vec(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into_bytes(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ];
        for (address, socket) in listening {
            let manager = ServiceManager::at(&address).unwrap();
            manager
                .tell(&[Notification::Reloading(7), Notification::Status("two\nlines".to_owned())]);
            assert_eq!(heard(&socket), "RELOADING=1\nMONOTONIC_USEC=7\nSTATUS=two lines\n");
            manager.tell(&[]);
            manager.tell(&[Notification::Ready, Notification::Status("é".repeat(5000))]);
            let long = heard(&socket);
            assert!(long.starts_with("READY=1\nSTATUS=éé") && long.len() < 4096, "{}", long.len());
        }
    }

    #[test]
    fn without_a_service_manager_nothing_is_told_and_nothing_fails() {
        for value in [None, Some(""), Some("relative"), Some("vsock:2:1234")] {
            let manager = ServiceManager::from_environment(|_| value.map(OsString::from));
            assert!(!manager.listens());
            manager.tell(&[Notification::Ready]);
        }
        ServiceManager::at(b"/no/such/socket").unwrap().tell(&[Notification::Ready]);
    }

    #[test]
    fn a_watchdog_that_is_meant_for_another_process_is_not_ours() {
        let own = std::process::id().to_string();
        let watchdog = |usec: Option<&'static str>, pid: Option<String>| {
            watchdog(move |name| match name {
                "WATCHDOG_USEC" => usec.map(OsString::from),
                _ => pid.clone().map(OsString::from),
            })
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(watchdog(Some("60000000"), None), minute);
        assert_eq!(watchdog(Some("60000000"), Some(own)), minute);
        assert_eq!(watchdog(Some("60000000"), Some("1".to_owned())), None);
        assert_eq!(watchdog(Some("0"), None), None);
        assert_eq!(watchdog(Some("soon"), None), None);
        assert_eq!(watchdog(None, None), None);
    }
}
