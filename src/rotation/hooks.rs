//! What runs around a create: quiescing a server before it, waking it after.

pub(crate) mod children;
pub(crate) mod counted;
mod left_behind;

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, read};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::clock::Clock;
use crate::foreign::ForeignText;
use crate::naming::{ServerId, Tick};
use crate::rotation::hooks::children::Children;
use crate::server::Server;

/// How much of a hook's output is kept, in bytes from its end. More than is shown of it: masking secrets
/// shortens it.
const OUTPUT_TAIL: usize = 8192;

/// As much as a pipe holds, unless root has allowed more.
const LARGEST_PIPE: usize = 1 << 20;

/// How long the search for what a killed process has left running may take.
const LOOK_BEHIND: Duration = Duration::from_secs(5);

/// One hook to be run.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// `before` or `after`.
    pub moment: &'static str,
    /// The program and its arguments; not empty.
    pub argv: Vec<String>,
    /// The variables that tell it the context.
    pub variables: Vec<(&'static str, String)>,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a hook is run for.
#[derive(Debug, Clone)]
pub(crate) struct Occasion {
    /// `before` or `after`.
    pub moment: &'static str,
    /// The tick, where it is known.
    pub tick: Option<Tick>,
    /// The name of its snapshot.
    pub snapshot: String,
    /// `completed` or `failed`, for `after`.
    pub result: Option<&'static str>,
}

impl Invocation {
    /// A server's hook, with what it is run for.
    #[must_use]
    pub(crate) fn of(
        server: &Server,
        argv: Vec<String>,
        timeout: Duration,
        occasion: Occasion,
    ) -> Self {
        let Occasion { moment, tick, snapshot, result } = occasion;
        let mut variables = vec![
            ("SNAPRING_SERVER_ID", server.id.to_string()),
            ("SNAPRING_SERVER", server.name.clone()),
            ("SNAPRING_ACCOUNT", server.id.account.name().to_owned()),
            ("SNAPRING_TICK", tick.map(|tick| tick.to_string()).unwrap_or_default()),
            ("SNAPRING_SNAPSHOT", snapshot),
        ];
        variables.extend(result.map(|result| ("SNAPRING_RESULT", result.to_owned())));
        Self { moment, argv, variables, timeout }
    }
}

/// Why a hook did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {moment} hook failed: {problem}")]
pub struct HookError {
    /// `before` or `after`.
    pub moment: &'static str,
    /// What happened.
    pub problem: String,
}

/// The future of a hook.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<(), HookError>> + Send + 'a>>;

/// Runs hooks. Dropping the future ends the hook.
pub trait HookRunner: Send + Sync {
    /// Runs one hook to its end.
    fn run(&self, invocation: Invocation) -> Running<'_>;

    /// Ends what still runs of a server's hooks for a snapshot, since their process was killed.
    fn end_left_behind(&self, _server: ServerId, _snapshot: &str) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Runs hooks as processes, each in a process group of its own, without a shell.
#[derive(Debug)]
pub struct Processes {
    /// Measures the timeout.
    clock: Clock,
    children: Children,
}

impl HookRunner for Processes {
    fn run(&self, invocation: Invocation) -> Running<'_> {
        Box::pin(self.run_process(invocation))
    }

    fn end_left_behind(&self, server: ServerId, snapshot: &str) -> BoxFuture<'_, ()> {
        let snapshot = snapshot.to_owned();
        Box::pin(async move {
            let ended = tokio::task::spawn_blocking(move || left_behind::end(server, &snapshot));
            let _ = self.clock.timeout(LOOK_BEHIND, ended).await;
        })
    }
}

/// Ends the hook and what it started, whichever way the waiting ends.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails when all of it has ended, which is what is wanted.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Processes {
    /// `clock` measures their timeouts.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, children: Children::default() }
    }

    /// Those that it has started.
    #[must_use]
    pub(crate) fn children(&self) -> Children {
        self.children.clone()
    }

    async fn run_process(&self, invocation: Invocation) -> Result<(), HookError> {
        let Invocation { moment, argv, variables, timeout } = invocation;
        let failed = |problem: String| HookError { moment, problem };
        let [program, arguments @ ..] = argv.as_slice() else {
            return Err(failed("it names no program".to_owned()));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(variables)
            // A hook has no business with the account.
            .env_remove("SNAPRING_TOKEN")
            .env_remove("CREDENTIALS_DIRECTORY")
            // Nor with the service manager.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut group = Group(None);
        let end = self.clock.timeout(timeout, async {
            // The system call returns when the program has been loaded. A file system that hangs must not
            // hold up a thread of the runtime.
            let children = self.children.clone();
            let spawned = tokio::task::spawn_blocking(move || children.spawn(&mut command)).await;
            let (mut child, awaited) = spawned
                .map_err(io::Error::other)
                .flatten()
                .map_err(|error| failed(format!("it cannot be started: {program}: {error}")))?;
            group.0 = awaited.pid;
            // Reading goes on beside the wait: a full pipe would stop the hook. It ends with the
            // hook, though, not with what the hook left in the background.
            let mut out = Output::of(child.stdout.take());
            let mut err = Output::of(child.stderr.take());
            let status = tokio::select! {
                biased;
                _ = async { tokio::join!(out.read(), err.read()) } => child.wait().await,
                status = child.wait() => status,
            };
            let status =
                status.map_err(|error| failed(format!("it cannot be waited for: {error}")))?;
            Ok((status, [out.last_words(), err.last_words()]))
        });
        let Some(ended) = end.await else {
            return Err(failed(format!(
                "it took longer than {}",
                humantime::format_duration(timeout)
            )));
        };
        let (status, output) = ended?;
        if status.success() {
            // What it left running on purpose (a daemon) may go on.
            group.0 = None;
            return Ok(());
        }
        let said = output.into_iter().filter(|it| !it.is_empty());
        let said: String = said.map(|it| format!(": {it}")).collect();
        Err(failed(format!("it ended with {status}{said}")))
    }
}

/// The last that comes through a pipe.
struct Output<S> {
    stream: Option<S>,
    kept: Vec<u8>,
    is_cut: bool,
}

impl<S: AsyncRead + AsFd + Unpin> Output<S> {
    fn of(stream: Option<S>) -> Self {
        Self { stream, kept: Vec::new(), is_cut: false }
    }

    /// Until all who could write have closed the pipe.
    async fn read(&mut self) {
        let mut buffer = [0; 1024];
        while let Some(stream) = &mut self.stream
            && let Ok(read) = stream.read(&mut buffer).await
            && read > 0
        {
            self.keep(buffer.get(..read).unwrap_or_default());
        }
    }

    /// What is in the pipe once the hook has ended is read without waiting: its children may keep the pipe open.
    /// Asked of the system, since the runtime may not have heard yet that there is something to read.
    fn last_words(mut self) -> ForeignText {
        let mut buffer = [0; 1024];
        for _ in 0..LARGEST_PIPE / buffer.len() {
            // An error is also that nothing is there now: the runtime has made the pipe one that never waits.
            let Some(Ok(read @ 1..)) = self.stream.as_ref().map(|it| read(it, &mut buffer)) else {
                break;
            };
            self.keep(buffer.get(..read).unwrap_or_default());
        }
        ForeignText::end_of(&self.kept, self.is_cut)
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let excess = self.kept.len().saturating_sub(OUTPUT_TAIL);
        self.is_cut |= excess > 0;
        self.kept.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::Account;

    #[test]
    fn a_hook_is_told_the_account_of_its_server() {
        let row = crate::testing::stage::numbered(7, "web", "", &[]);
        let account = Account::named("customer-b").unwrap();
        let server = Server { id: ServerId { account, number: 7 }, ..Server::clone(&row.server) };
        let occasion =
            Occasion { moment: "before", tick: None, snapshot: "x".to_owned(), result: None };
        let told = Invocation::of(&server, Vec::new(), Duration::ZERO, occasion).variables;
        assert!(told.contains(&("SNAPRING_ACCOUNT", "customer-b".to_owned())), "{told:?}");
        assert!(told.contains(&("SNAPRING_SERVER_ID", "7".to_owned())), "{told:?}");
    }

    async fn run(script: &str, timeout: Duration) -> Result<(), String> {
        let invocation = Invocation {
            moment: "before",
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            variables: vec![("SNAPRING_SERVER", "web-01".to_owned())],
            timeout,
        };
        let processes = Processes::new(Clock::system());
        processes.run(invocation).await.map_err(|error| error.to_string())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_hook_is_told_the_context_and_its_failure_is_shown_with_its_last_words() {
        assert_eq!(run("test \"$SNAPRING_SERVER\" = web-01", LONG).await, Ok(()));
        assert_eq!(
            run("echo no such database >&2; exit 3", LONG).await.unwrap_err(),
            "the before hook failed: it ended with exit status: 3: no such database"
        );
    }

    #[tokio::test]
    async fn last_words_are_shown_at_once_though_what_the_hook_left_running_keeps_its_output_open()
    {
        let script = "sleep 60 & echo one; echo no such database >&2; exit 3";
        let clock = Clock::system();
        let begun = clock.now().uptime;
        assert_eq!(
            run(script, LONG).await.unwrap_err(),
            "the before hook failed: it ended with exit status: 3: one: no such database"
        );
        let took = clock.now().uptime.saturating_sub(begun);
        assert!(took < Duration::from_secs(30), "{took:?}");
    }

    /// As when the hook ends before the runtime has heard that it has written.
    #[tokio::test]
    async fn what_is_in_a_pipe_is_read_without_waiting_for_its_end() {
        let (writer, reader) = tokio::net::unix::pipe::pipe().unwrap();
        nix::unistd::write(&writer, b"no such database\n").unwrap();
        assert_eq!(Output::of(Some(reader)).last_words(), "no such database");
    }

    /// All of a full pipe that was not read in time.
    #[tokio::test]
    async fn the_last_words_of_a_long_output_are_shown_too() {
        let script = "sleep 60 & yes | head -c 65000; echo the end; exit 3";
        let said = run(script, LONG).await.unwrap_err();
        assert!(said.ends_with("y the end"), "{said}");
    }

    #[tokio::test]
    async fn a_hook_that_takes_too_long_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        let script = format!(
            "mkfifo {0}; (exec 3<>{0}; read line <&3) & echo $! > {0}.pid; sync; wait",
            alive.display()
        );
        let error = run(&script, Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(error, "the before hook failed: it took longer than 500ms");
        let pid = std::fs::read_to_string(dir.path().join("alive.pid")).unwrap();
        // Killed at once; only its parent's death and the reaping take a moment.
        let stat = format!("/proc/{}/stat", pid.trim());
        let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"));
        for _ in 0..500 {
            if gone() {
                return;
            }
            Clock::system().sleep(Duration::from_millis(10)).await;
        }
        panic!("the hook's child is still alive");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let processes = Processes::new(Clock::system());
        let invocation = Invocation {
            moment: "after",
            argv: vec!["/no/such/program".to_owned()],
            variables: Vec::new(),
            timeout: LONG,
        };
        let error = processes.run(invocation).await.unwrap_err().to_string();
        assert!(
            error.starts_with("the after hook failed: it cannot be started: /no/such/program"),
            "{error}"
        );
    }
}
