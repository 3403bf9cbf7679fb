//! Which servers a command is about: ids, names and patterns, those of a group, those in a state.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use glob::Pattern;

use crate::cli::completions;
use crate::cli::error::CommandError;
use crate::cli::setup::Setup;
use crate::cli::status::gather::in_state as in_state_of;
use crate::cli::{Exit, console};
use crate::naming::{Account, ServerId};
use crate::observe::status_document::{ServerRecord, ServerState};
use crate::server::Server;
use crate::wording::listed;

/// How many names a hint has.
const HINTED: usize = 5;

/// A configuration with no more servers is listed whole.
const FEW: usize = 10;

/// The servers that a command takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct Selection {
    /// Ids or names of servers, or patterns like 'web-*'. Without any: all (`rotate`: only with --all)
    #[arg(value_name = "SERVER", add = completions::servers())]
    servers: Vec<String>,
    /// Only servers of this group; may be repeated
    #[arg(long, value_name = "NAME", add = completions::groups())]
    group: Vec<String>,
    /// Only servers of this account; may be repeated
    #[arg(long, value_name = "NAME", add = completions::accounts())]
    account: Vec<String>,
}

/// For commands that can also choose by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct InState {
    /// Only servers in this state, as `status` shows it: failed, blocked, skipped, stale, waiting, ok or disabled;
    /// may be repeated
    #[arg(
        long,
        value_name = "STATE",
        value_delimiter = ',',
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(ServerState::ALL.map(ServerState::as_str))
            .try_map(|word| ServerState::parse(&word).ok_or("no such state"))
    )]
    pub state: Vec<ServerState>,
}

impl InState {
    /// Whether any state is chosen.
    #[must_use]
    pub(super) fn is_given(&self) -> bool {
        !self.state.is_empty()
    }

    /// Whether this state is chosen.
    #[must_use]
    pub(super) fn takes(&self, state: ServerState) -> bool {
        self.state.is_empty() || self.state.contains(&state)
    }

    /// The states, as they were written.
    #[must_use]
    pub(super) fn words(&self) -> String {
        self.state.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(" or ")
    }
}

/// A server that can be chosen.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    /// Its number.
    pub id: ServerId,
    /// Its name.
    pub name: &'a str,
    /// Its group.
    pub group: Option<&'a str>,
}

impl<'a> Candidate<'a> {
    /// A configured server.
    #[must_use]
    pub(super) fn of(server: &'a Server) -> Self {
        Self { id: server.id, name: &server.name, group: server.group.as_deref() }
    }

    /// A server of the running daemon.
    #[must_use]
    pub(super) fn of_record(server: &'a ServerRecord) -> Self {
        Self { id: server.id, name: &server.name, group: server.group.as_deref() }
    }

    fn is_called(&self, given: &str) -> bool {
        self.name == given || self.id.to_string() == given
    }
}

impl Selection {
    /// Whether anything is chosen; if not, all servers are.
    #[must_use]
    pub(super) fn is_given(&self) -> bool {
        !self.servers.is_empty() || self.is_narrowed()
    }

    /// Whether groups or accounts are chosen.
    #[must_use]
    pub(super) fn is_narrowed(&self) -> bool {
        !self.group.is_empty() || !self.account.is_empty()
    }

    /// What was given as SERVER.
    #[must_use]
    pub(super) fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Whether a server was given by its own id or name, not by a pattern or a group.
    #[must_use]
    pub(super) fn names(&self, server: &Server) -> bool {
        let candidate = Candidate::of(server);
        self.servers.iter().any(|given| candidate.is_called(given))
    }

    /// Those of the candidates that are chosen. `place`: where they are from, for the message.
    ///
    /// # Errors
    /// [`CommandError::Usage`] for a SERVER or a group that takes none of them, and when nothing is left.
    pub(super) fn among(
        &self,
        candidates: &[Candidate<'_>],
        place: &str,
    ) -> Result<HashSet<ServerId>, CommandError> {
        for given in &self.account {
            if !candidates.iter().any(|it| it.id.account.name() == given) {
                return Err(CommandError::Usage(unknown_account(given, candidates, place)));
            }
        }
        let is_in = |it: &&Candidate<'_>| {
            self.account.is_empty() || self.account.iter().any(|name| it.id.account.name() == name)
        };
        let candidates: &[Candidate<'_>] =
            &candidates.iter().filter(is_in).cloned().collect::<Vec<_>>();
        let mut chosen: HashSet<ServerId> = HashSet::new();
        for given in &self.servers {
            let found = matching(given, candidates)?;
            if found.is_empty() {
                return Err(CommandError::Usage(unknown(given, candidates, place)));
            }
            chosen.extend(found.iter().map(|it| it.id));
        }
        if self.servers.is_empty() {
            chosen.extend(candidates.iter().map(|it| it.id));
        }
        for given in &self.group {
            if !candidates.iter().any(|it| it.group == Some(given.as_str())) {
                return Err(CommandError::Usage(unknown_group(given, candidates, place)));
            }
        }
        if !self.group.is_empty() {
            let is_in = |group: &str| self.group.iter().any(|given| given == group);
            let of_groups = candidates.iter().filter(|it| it.group.is_some_and(is_in));
            let of_groups: HashSet<ServerId> = of_groups.map(|it| it.id).collect();
            chosen.retain(|id| of_groups.contains(id));
        }
        if chosen.is_empty() && !self.group.is_empty() {
            let groups = self.group.join(", ");
            let text = format!("none of these servers is in the group {groups}");
            return Err(CommandError::Usage(text));
        }
        Ok(chosen)
    }
}

/// Those that one SERVER takes: the one of this id or name, else those that it matches as a pattern.
///
/// # Errors
/// [`CommandError::Usage`] for a pattern that cannot be read.
pub(super) fn matching<'c, 'a>(
    given: &str,
    candidates: &'c [Candidate<'a>],
) -> Result<Vec<&'c Candidate<'a>>, CommandError> {
    let exact: Vec<_> = candidates.iter().filter(|it| it.is_called(given)).collect();
    one_account(given, &exact)?;
    if !exact.is_empty() || !is_pattern(given) {
        return Ok(exact);
    }
    let pattern = Pattern::new(given).map_err(|problem| {
        CommandError::Usage(format!("{given:?} is not a pattern: {}", problem.msg))
    })?;
    Ok(candidates.iter().filter(|it| pattern.matches(it.name)).collect())
}

/// That an id means one server: ids are unique within an account only.
fn one_account(given: &str, found: &[&Candidate<'_>]) -> Result<(), CommandError> {
    let accounts: BTreeSet<Account> = found.iter().map(|it| it.id.account).collect();
    if accounts.len() < 2 {
        return Ok(());
    }
    let all = found.iter().map(|it| format!("{} (account {})", it.name, it.id.account));
    Err(CommandError::Usage(format!(
        "several accounts have a server {given}: {}\nhint: write its name, or name the account with --account NAME",
        listed(&all.collect::<Vec<_>>())
    )))
}

fn is_pattern(given: &str) -> bool {
    given.contains(['*', '?', '['])
}

/// That there is no such server, and which are most like it.
#[must_use]
pub(super) fn unknown(given: &str, candidates: &[Candidate<'_>], place: &str) -> String {
    let what = match is_pattern(given) {
        true => format!("no server matches {given:?} in {place}"),
        false => format!("there is no server {given:?} in {place}"),
    };
    let named = |it: &Candidate<'_>| format!("{} ({})", it.name, it.id);
    if candidates.len() <= FEW {
        let all: Vec<_> = candidates.iter().map(named).collect();
        return format!("{what}\nhint: it has {}", all.join(", "));
    }
    let mut near: Vec<_> = candidates.iter().map(|it| (distance(given, it), it)).collect();
    near.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.name.cmp(b.name)));
    let near: Vec<_> = near.into_iter().take(HINTED).map(|(_, it)| named(it)).collect();
    format!("{what}\nhint: the nearest names are {}", near.join(", "))
}

fn unknown_group(given: &str, candidates: &[Candidate<'_>], place: &str) -> String {
    let groups: HashSet<&str> = candidates.iter().filter_map(|it| it.group).collect();
    let mut groups: Vec<&str> = groups.into_iter().collect();
    groups.sort_by_key(|group| (strsim::osa_distance(given, group), *group));
    let hint = match groups.as_slice() {
        [] => "no server has a `group`".to_owned(),
        [one] => format!("the only group with servers is {one}"),
        some => {
            let shown: Vec<&str> = some.iter().take(HINTED).copied().collect();
            format!("groups with servers are {}", shown.join(", "))
        }
    };
    format!("no server in {place} is in the group {given:?}\nhint: {hint}")
}

fn unknown_account(given: &str, candidates: &[Candidate<'_>], place: &str) -> String {
    let accounts: BTreeSet<&str> = candidates.iter().map(|it| it.id.account.name()).collect();
    let accounts: Vec<&str> = accounts.into_iter().collect();
    let hint = format!("there are servers in {}", listed(&accounts));
    format!("no server in {place} is in the account {given:?}\nhint: {hint}")
}

/// How far a name is from what was given: edits, and in a pattern only beside its stars.
fn distance(given: &str, candidate: &Candidate<'_>) -> (usize, Reverse<usize>) {
    let given = given.to_lowercase();
    let name = candidate.name.to_lowercase();
    let literal: String = given.chars().filter(|it| !matches!(it, '*' | '?' | '[' | ']')).collect();
    let length = literal.chars().count();
    let of_name = match (given.starts_with('*'), given.ends_with('*')) {
        (false, true) => {
            strsim::osa_distance(&literal, &name.chars().take(length).collect::<String>())
        }
        (true, false) => {
            let skipped = name.chars().count().saturating_sub(length);
            strsim::osa_distance(&literal, &name.chars().skip(skipped).collect::<String>())
        }
        _ => strsim::osa_distance(&literal, &name),
    };
    let of_id = strsim::osa_distance(&given, &candidate.id.to_string());
    // Of names that are equally far, one that begins alike is meant.
    let alike = given.chars().zip(name.chars()).take_while(|(one, other)| one == other).count();
    (of_name.min(of_id), Reverse(alike))
}

impl Setup {
    /// The servers that were chosen, in the order of the configuration.
    ///
    /// # Errors
    /// [`CommandError::Usage`] when there are none.
    pub(super) fn select(&self, selection: &Selection) -> Result<Vec<Arc<Server>>, CommandError> {
        if !selection.is_given() {
            return Ok(self.settings.servers.clone());
        }
        let chosen = selection.among(&self.candidates(), &self.path.display().to_string());
        let chosen = chosen.map_err(|unknown| self.perhaps_missing(unknown))?;
        let servers = self.settings.servers.iter();
        Ok(servers.filter(|server| chosen.contains(&server.id)).cloned().collect())
    }

    /// The servers that were chosen, of those that are in the given state.
    ///
    /// # Errors
    /// As for [`Setup::select`], and when a state is asked for and nothing is known.
    pub(super) async fn choose(
        &self,
        selection: &Selection,
        in_state: &InState,
    ) -> Result<Vec<Arc<Server>>, CommandError> {
        in_state_of(self, self.select(selection)?, in_state).await
    }

    /// The one server of this id or name, in this account if one is named.
    ///
    /// # Errors
    /// [`CommandError::Usage`] when it is not in the configuration, or two accounts have the id.
    pub(super) fn find(
        &self,
        given: &str,
        account: Option<&str>,
    ) -> Result<&Arc<Server>, CommandError> {
        let account = account.map(|name| self.account(name)).transpose()?;
        let mut candidates = self.candidates();
        candidates.retain(|it| account.is_none_or(|account| it.id.account == account));
        let found = candidates.iter().filter(|it| it.is_called(given)).collect::<Vec<_>>();
        one_account(given, &found)?;
        let found = found.first().and_then(|it| self.server(it.id));
        found.ok_or_else(|| {
            let place = self.path.display().to_string();
            self.perhaps_missing(CommandError::Usage(unknown(given, &candidates, &place)))
        })
    }

    /// What is not known here is no mistake of the person while servers may be missing.
    fn perhaps_missing(&self, unknown: CommandError) -> CommandError {
        match unknown {
            CommandError::Usage(text) if !self.lacks.is_nothing() => {
                let what = text.lines().next().unwrap_or_default();
                CommandError::Failed(format!(
                    "{what}\nhint: servers may be missing, see the warning above"
                ))
            }
            other => other,
        }
    }

    /// The configured servers, to choose from.
    #[must_use]
    pub(super) fn candidates(&self) -> Vec<Candidate<'_>> {
        self.settings.servers.iter().map(|server| Candidate::of(server)).collect()
    }
}

/// What a command ends with if no server is in the state that was asked for. That is no mistake.
///
/// # Errors
/// When nothing can be written.
pub(super) fn none_left(json: bool) -> Result<Exit, CommandError> {
    if json {
        console::print_json(&[(); 0])?;
    }
    Ok(Exit::Well)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NAMES: [&str; 12] = [
        "cust011-web",
        "cust012-db",
        "cust012-web",
        "cust013-web",
        "aaa-01",
        "aaa-02",
        "aaa-03",
        "aaa-04",
        "aaa-05",
        "aaa-06",
        "aaa-07",
        "odd[1]",
    ];

    fn candidates() -> Vec<Candidate<'static>> {
        let group = |name: &str| name.ends_with("-db").then_some("databases");
        let ids = 101..;
        let one = |(id, name): (u64, &&'static str)| Candidate {
            id: ServerId::new(id),
            name,
            group: group(name),
        };
        ids.zip(&NAMES).map(one).collect()
    }

    fn chosen(servers: &[&str], groups: &[&str]) -> Result<Vec<&'static str>, String> {
        let text = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
        let selection =
            Selection { servers: text(servers), group: text(groups), account: Vec::new() };
        let candidates = candidates();
        let ids = selection.among(&candidates, "config.toml").map_err(|it| it.to_string())?;
        Ok(candidates.iter().filter(|it| ids.contains(&it.id)).map(|it| it.name).collect())
    }

    #[rstest]
    #[case::all(&[], &[], &NAMES)]
    #[case::a_name(&["aaa-03"], &[], &["aaa-03"])]
    #[case::a_number(&["102"], &[], &["cust012-db"])]
    #[case::a_pattern(&["cust012-*"], &[], &["cust012-db", "cust012-web"])]
    #[case::one_character(&["cust01?-web"], &[], &["cust011-web", "cust012-web", "cust013-web"])]
    #[case::several(&["*-db", "aaa-0[12]"], &[], &["cust012-db", "aaa-01", "aaa-02"])]
    #[case::a_name_that_looks_like_a_pattern(&["odd[1]"], &[], &["odd[1]"])]
    #[case::a_group(&[], &["databases"], &["cust012-db"])]
    #[case::a_pattern_in_a_group(&["cust*"], &["databases"], &["cust012-db"])]
    fn what_is_given_chooses(
        #[case] servers: &[&str],
        #[case] groups: &[&str],
        #[case] expected: &[&str],
    ) {
        assert_eq!(chosen(servers, groups).unwrap(), expected);
    }

    #[rstest]
    #[case::a_misspelt_name(&["cust012-wbe"], &[], "there is no server \"cust012-wbe\" in config.toml\n\
        hint: the nearest names are cust012-web (103), cust012-db (102), cust011-web (101), cust013-web (104), ")]
    #[case::a_misspelt_pattern(&["cost012-*"], &[], "no server matches \"cost012-*\" in config.toml\n\
        hint: the nearest names are cust012-db (102), cust012-web (103), ")]
    #[case::a_pattern_with_an_end(&["*-wep"], &[], "hint: the nearest names are cust011-web (101), ")]
    #[case::a_wrong_number(&["13"], &[], "there is no server \"13\"")]
    #[case::one_of_several(&["aaa-01", "nothing-*"], &[], "no server matches \"nothing-*\"")]
    #[case::no_pattern(&["web["], &[], "\"web[\" is not a pattern: ")]
    #[case::no_group(&[], &["database"], "no server in config.toml is in the group \"database\"\n\
        hint: the only group with servers is databases")]
    #[case::none_in_both(&["aaa-*"], &["databases"], "none of these servers is in the group databases")]
    fn what_takes_none_is_refused_with_what_is_near(
        #[case] servers: &[&str],
        #[case] groups: &[&str],
        #[case] expected: &str,
    ) {
        let message = chosen(servers, groups).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_few_servers_are_all_named() {
        let few = &candidates()[..2];
        let message = unknown("nobody", few, "config.toml");
        assert!(message.ends_with("hint: it has cust011-web (101), cust012-db (102)"), "{message}");
    }
}
