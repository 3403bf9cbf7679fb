use super::*;
use crate::cli::Exit;
use crate::cli::selection::InState;
use crate::cli::status::exit_of;
use crate::cli::status::nagios::check;
use crate::cli::status::nagios::tests::document;
use crate::cli::status::text::text;
use crate::coverage::{NamedServer, NamedServers};
use crate::naming::ServerId;
use crate::observe::status_document::StatusDocument;
use crate::provider::token_state::TokenState;
use crate::status::undelivered::Undelivered;
use crate::testing::stage::time;

const DAY: Duration = Duration::from_secs(26 * 3600);

pub(in crate::cli::status) fn undelivered() -> Undelivered {
    Undelivered {
        to: "https://hooks.example".to_owned(),
        since: time("2026-11-20T00:00:00Z"),
        notices: 2,
        answer: Some("404: gone".to_owned()),
        retried_until: None,
    }
}

/// All have answered.
pub(in crate::cli::status) fn of(document: StatusDocument) -> Gathered {
    Gathered { document, unanswered: Vec::new() }
}

/// What may be so, whether that is trouble, and what says it.
type Fact = (bool, &'static str, fn(&mut Gathered));

fn daemon_of(gathered: &mut Gathered) -> &mut DaemonStatus {
    gathered.document.daemon.as_mut().unwrap()
}

const FACTS: [Fact; 10] = [
    (true, "web: failed", |it| {
        it.document.servers = document(&[("web", "failed 1h ok 2h")]).servers
    }),
    (true, "no daemon is running", |it| it.unanswered.push("no daemon is running".to_owned())),
    (true, "the scheduler of the daemon has stalled", |it| daemon_of(it).alive = false),
    (true, "the last reload was rejected at 2026-11-26 11:00:00 UTC: line 3", |it| {
        daemon_of(it).configuration_refused = Some("line 3".to_owned());
        daemon_of(it).configuration_refused_at = Some(time("2026-11-26T11:00:00Z"));
    }),
    (false, "The provider has refused the token since 2026-11-26 10:00:00 UTC", |it| {
        daemon_of(it).token = TokenState::Refused;
        daemon_of(it).token_refused_since = Some(time("2026-11-26T10:00:00Z"));
    }),
    (true, "the history cannot be written", |it| daemon_of(it).store.up = false),
    (true, "have not been delivered since", |it| {
        daemon_of(it).undelivered_notices.push(undelivered());
    }),
    (true, "no policy to new ones: 403 (since 2026-11-26 09:00:00 UTC)", |it| {
        let problem = "the servers cannot be listed, so `cover` gives no policy to new ones: 403";
        let account = it.document.account.get_or_insert_default();
        account.cover_problem = Some(problem.to_owned());
        account.problem_since = Some(time("2026-11-26T09:00:00Z"));
    }),
    (false, "the provider is throttling the account (429)", |it| {
        daemon_of(it).throttled_until = Some(time("2026-11-26T12:00:00Z"));
    }),
    (false, "1 server of the account has no policy: db (102)", |it| {
        let account = it.document.account.get_or_insert_default();
        let uncovered = &mut account.coverage.get_or_insert_default().uncovered;
        let db = NamedServer { id: ServerId::new(102), name: "db".to_owned(), account: None };
        *uncovered = NamedServers { count: 1, first: vec![db] };
    }),
];

/// Whatever comes together: the text, the exit code and the check say the same.
#[test]
fn the_text_the_exit_code_and_the_check_agree() {
    for chosen in 0..1_u32 << FACTS.len() {
        let mut gathered = of(document(&[("web", "ok 1h")]));
        gathered.document.daemon = Some(DaemonStatus::well());
        let facts = FACTS.iter().enumerate().filter(|(nth, _)| chosen & (1 << nth) != 0);
        let facts: Vec<&Fact> = facts.map(|(_, fact)| fact).collect();
        facts.iter().for_each(|(_, _, happens)| happens(&mut gathered));

        let is_trouble = facts.iter().any(|(is_trouble, ..)| *is_trouble);
        let found = findings(&gathered, None);
        let exit = if is_trouble { Exit::Trouble } else { Exit::Well };
        assert_eq!(exit_of(&found), exit, "{found:?}");
        let check = check(&gathered, DAY);
        assert_eq!(check.level != Level::Ok, is_trouble, "{}", check.words);
        let text = text(&gathered.document, &found, &InState::default(), false);
        for (is_trouble, words, _) in facts {
            let is_said = |text: &str| text.contains(words);
            let is_elsewhere = words.starts_with("web: ") || words.starts_with("no daemon");
            assert_eq!(is_said(&text), !is_elsewhere, "{text}");
            assert_eq!(is_said(&check.words), *is_trouble, "{}", check.words);
        }
    }
}
