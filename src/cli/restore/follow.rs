//! Waits until the provider's list of servers shows that a restore has ended.

use std::time::Duration;

use jiff::SignedDuration;

use crate::activity::Activity;
use crate::call::{CallError, Outcome};
use crate::cli::error::CommandError;
use crate::cli::progress::activities;
use crate::cli::restore::carry_out::Task;
use crate::cli::restore::stage::Stage;
use crate::cli::{by_hand, console};
use crate::manual::NOT_RESTORED;
use crate::readable::span;
use crate::restore::{ODD_FOR, RestoreSeen, RestoreWatch, ServerState};
use crate::rotation::lock::{Claim, LONGEST_RESTORE, RestoreAnswer};
use crate::rotation::restored::state_of;

/// Between two looks, and before the one that confirms the end.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// How often a server is tried to be claimed for a moment, to end the note of the restore. If others are faster,
/// they look themselves whether it has ended.
const CLAIMS: usize = 5;
const CLAIM_EVERY: Duration = Duration::from_secs(1);

impl Task<'_> {
    /// Waits for the end of a restore that has begun. Gives what to print.
    pub(super) async fn follow(&self, sent_at: Duration) -> Result<String, CommandError> {
        let context = self.context;
        let (client, clock) = (&context.client, context.client.clock());
        let server = self.snapshot.server;
        let scope = by_hand::scope(self.setup, server, context.shutdown.clone());
        console::note(&format!(
            "{}. Waiting until the provider shows that it has ended. Ctrl-C stops waiting; the restore continues",
            self.begun()
        ));
        let mut watch = RestoreWatch::default();
        let subject = by_hand::subject(self.setup, server);
        let waiting = || Activity::Other("waiting until the restore has ended".to_owned());
        let waits = activities().begin(Some(&subject), waiting());
        let (mut word, mut is_noted) = (String::new(), false);
        let mut is_unanswered = false;
        loop {
            let passed = clock.now().uptime.saturating_sub(sent_at);
            if passed >= LONGEST_RESTORE {
                return Err(self.too_long(&word));
            }
            let state = match state_of(client, server, &context.shutdown).await {
                Ok(state) => state,
                Err(CallError::Interrupted) => return Err(self.interrupted()),
                Err(problem) if !may_pass(&problem) => return Ok(self.cannot_be_followed(&problem)),
                Err(problem) => {
                    if !is_unanswered {
                        let list = match problem.outcome() {
                            Some(Outcome::Transport) => {
                                "the provider's list of servers does not answer"
                            }
                            _ => "the provider's list of servers cannot be read",
                        };
                        let cause = problem.cause();
                        console::note(&format!("{list} ({cause}); trying again every few seconds"));
                        waits.becomes(Activity::Other(format!("{list}; trying again")));
                        is_unanswered = true;
                    }
                    None
                }
            };
            if is_unanswered && state.is_some() {
                waits.becomes(waiting());
                is_unanswered = false;
                word.clear();
            }
            let seen = watch.saw(state.as_deref().map(ServerState::of), passed);
            if watch.is_shown() && !is_noted {
                self.with_the_note(async |claim| claim.restore_is_listed().await).await;
                is_noted = true;
            }
            if let Some(state) = state.filter(|state| *state != word) {
                // What may be a failed restore is said at once. It counts as one once it stays so.
                if seen == RestoreSeen::GoesOn
                    && watch.is_shown()
                    && ServerState::of(&state) == ServerState::Other
                {
                    console::warning(&format!(
                        "the restore may have failed: the provider shows the server as {state:?}. Waiting up to {} \
                         for this to change",
                        humantime::format_duration(ODD_FOR)
                    ));
                }
                waits.becomes(Activity::Other(format!("the provider shows it as {state}")));
                word = state;
            }
            match seen {
                RestoreSeen::GoesOn => {}
                RestoreSeen::Ended => return Ok(self.has_ended(&word, passed).await),
                RestoreSeen::NotShown => return Ok(self.is_not_shown(&word)),
                RestoreSeen::Failed => return Err(self.has_failed(&word).await),
                RestoreSeen::Odd => return Err(self.is_odd(&word)),
            }
            let pause = if watch.is_confirming() { CONFIRM_AFTER } else { LOOK_EVERY };
            if client.pause(&scope, pause).await.is_err() {
                return Err(self.interrupted());
            }
        }
    }

    async fn has_ended(&self, word: &str, passed: Duration) -> String {
        let took = span(SignedDuration::try_from(passed).unwrap_or_default());
        self.progress.is(Stage::Ended);
        self.with_the_note(async |claim| claim.restore_is_over().await).await;
        let server = by_hand::called(self.setup, self.snapshot.server);
        let source = self.source();
        let mut text =
            format!("server {server} was restored from {source} in {took}: it is {word}");
        if word != "active" {
            text.push_str(". Start it in the provider's panel");
        }
        text
    }

    async fn has_failed(&self, word: &str) -> CommandError {
        self.progress.is(Stage::Failed);
        self.with_the_note(async |claim| claim.restore_has_failed(word).await).await;
        CommandError::Failed(format!(
            "{NOT_RESTORED}the provider shows server {} as {word:?} after a restore from {}\n\
             hint: see in the provider's panel what it needs, and restore it again. Until the provider shows another \
             state, its rotations fail and delete nothing",
            by_hand::called(self.setup, self.snapshot.server),
            self.source()
        ))
    }

    /// Does something about the note of this restore, if it is still there and no other process works on the server.
    async fn with_the_note(&self, change: impl AsyncFn(&Claim)) {
        let clock = self.context.client.clock();
        for _ in 0..CLAIMS {
            let Ok(claim) = self.context.exclusion.claim(self.snapshot.server) else {
                clock.sleep(CLAIM_EVERY).await;
                continue;
            };
            let restoring = claim.restoring(clock.now().wall).await;
            let source = restoring.filter(|it| it.answer != RestoreAnswer::Unclear);
            let source = source.and_then(|it| it.source);
            if source.is_some_and(|(source, _)| source == self.snapshot.id) {
                change(&claim).await;
            }
            return;
        }
    }

    fn interrupted(&self) -> CommandError {
        CommandError::Failed(format!("interrupted: {}", self.left(Stage::Begun)))
    }

    fn too_long(&self, word: &str) -> CommandError {
        let longest = humantime::format_duration(LONGEST_RESTORE);
        CommandError::Failed(format!(
            "{}, and has not ended within {longest}; the provider shows the server as {word:?}\n\
             hint: look at it in the provider's panel. Its rotations do not wait any longer",
            self.begun()
        ))
    }

    fn is_odd(&self, word: &str) -> CommandError {
        self.progress.is(Stage::Perhaps);
        CommandError::Failed(format!(
            "the restore may have failed: the provider shows the server as {word:?}\n\
             hint: look at it in the provider's panel. {}",
            self.held()
        ))
    }

    /// The token may not list servers: the end cannot be seen.
    fn cannot_be_followed(&self, problem: &CallError) -> String {
        console::note(&format!("the servers cannot be listed: {}", problem.explained()));
        self.look_yourself()
    }

    fn is_not_shown(&self, word: &str) -> String {
        console::note(&format!(
            "the provider's list of servers does not show the restore: it says {word:?}"
        ));
        self.look_yourself()
    }

    fn look_yourself(&self) -> String {
        console::note(&format!(
            "A restore takes 5 to 15 minutes: the provider's panel shows when the server is active again. {}",
            self.held()
        ));
        self.begun()
    }
}

/// Whether another look may show more.
fn may_pass(problem: &CallError) -> bool {
    match problem {
        CallError::NoToken(_) => false,
        other => other.outcome().is_none_or(Outcome::may_pass),
    }
}
