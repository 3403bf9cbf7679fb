//! `snapring history`

use std::collections::BTreeSet;
use std::io;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::cli::at::At;
use crate::cli::by_hand;
use crate::cli::error::CommandError;
use crate::cli::selection::{self, Candidate, Selection, matching};
use crate::cli::setup::Setup;
use crate::cli::table::{Narrow, Table, lines};
use crate::cli::{ConfigArgument, Exit, console};
use crate::manual::{ManualAct, ManualAction, ManualOutcome};
use crate::moment::shown;
use crate::naming::ServerId;
use crate::readable::{self, span};
use crate::regular_file;
use crate::report::PastRotation;
use crate::report::RotationOutcome;
use crate::store::place::Place;
use crate::store::{self, HistoryFilter, ServerMemories, StoreError};

/// How long a person waits for a database that may be away.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

/// Show past rotations and what people did by hand, the newest first.
///
/// Reads what the daemon keeps (see [store] in snapring.toml(5)), whether it runs or not, and asks
/// the provider nothing. It keeps 90 days. Creates, deletes, restores and rotations by hand are shown with who did
/// them. Servers are found under earlier names too, and when they are no longer configured. The first line counts
/// all that matches, whatever --limit says.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Only entries with this outcome. Rotations: rotated, adopted, skipped, blocked, failed. By hand: done, started,
    /// failed, unknown. May be repeated
    #[arg(
        long,
        value_name = "OUTCOME",
        value_delimiter = ',',
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(outcomes()).try_map(|word| parse_outcome(&word))
    )]
    outcome: Vec<Ended>,
    /// Only what people did by hand: creates, deletes and restores
    #[arg(long)]
    manual: bool,
    /// Only what ended since this time: for example 7d (ago), `yesterday`, 2026-11-24T03:00 (in the time zone
    /// of the servers if it is the same for all, else in UTC), or 2026-11-24T03:00:00Z
    #[arg(long, value_name = "TIME", value_parser = At::past)]
    since: Option<At>,
    /// At most this many; 0: all
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

/// How a rotation, a manual act, or either ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    rotation: Option<RotationOutcome>,
    manual: Option<ManualOutcome>,
}

fn parse_outcome(word: &str) -> Result<Ended, String> {
    let ended =
        Ended { rotation: RotationOutcome::parse(word), manual: ManualOutcome::parse(word) };
    if ended.rotation.is_none() && ended.manual.is_none() {
        return Err(format!(
            "the outcome must be one of: {}; what is done by hand as one of {}",
            RotationOutcome::ALL.map(RotationOutcome::as_str).join(", "),
            ManualOutcome::ALL.map(ManualOutcome::as_str).join(", ")
        ));
    }
    Ok(ended)
}

/// The columns. A narrow terminal loses first what other columns tell as well.
const COLUMNS: [(&str, Narrow); 10] = [
    ("when", Narrow::Stays),
    ("server", Narrow::Stays),
    ("what", Narrow::Stays),
    ("tick", Narrow::Out(6)),
    ("outcome", Narrow::Stays),
    ("created", Narrow::Out(1)),
    ("deleted", Narrow::Out(3)),
    ("took", Narrow::Out(4)),
    ("by", Narrow::Out(2)),
    ("reason", Narrow::Below),
];

/// Where the account stands.
const AFTER_SERVER: usize = 2;

/// One line of the past.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Past {
    Rotation(RotationRow),
    Manual(ManualAct),
}

#[derive(Debug, Clone, Serialize)]
struct RotationRow {
    #[serde(flatten)]
    rotation: PastRotation,
    /// Deleted by the provider's word, and not confirmed by a listing since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unconfirmed: Vec<String>,
}

impl RotationRow {
    /// `memories`: what is remembered of the servers.
    fn of(rotation: PastRotation, memories: &ServerMemories) -> Self {
        let memory = memories.get(&rotation.server_id);
        let is_open = |name: &str| memory.is_some_and(|it| it.unconfirmed().any(|it| it == name));
        let unconfirmed = rotation.deleted.iter().filter(|name| is_open(name)).cloned().collect();
        Self { rotation, unconfirmed }
    }

    fn deleted(&self) -> String {
        let name = |name: &String| match self.unconfirmed.contains(name) {
            true => format!("{name} (not confirmed yet)"),
            false => name.clone(),
        };
        self.rotation.deleted.iter().map(name).collect::<Vec<_>>().join(" ")
    }
}

impl Past {
    fn server(&self) -> ServerId {
        match self {
            Self::Rotation(row) => row.rotation.server_id,
            Self::Manual(act) => act.server_id,
        }
    }

    fn ended_at(&self) -> Timestamp {
        match self {
            Self::Rotation(row) => row.rotation.ended_at,
            Self::Manual(act) => act.ended_at,
        }
    }
}

/// The words for every outcome.
fn outcomes() -> Vec<&'static str> {
    let mut words: Vec<&str> = RotationOutcome::ALL.map(RotationOutcome::as_str).into();
    let manual = ManualOutcome::ALL.map(ManualOutcome::as_str);
    words.extend(manual.into_iter().filter(|word| RotationOutcome::parse(word).is_none()));
    words
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read_to_look(&arguments.config)?;
    let place = setup.store();
    if let Some(text) = unreadable(&place) {
        return Err(CommandError::Failed(text));
    }
    let looked = async {
        let filter = filter(&arguments, &setup, &place).await?;
        let of_store = |problem| unread(&place, &problem);
        let past = read(&place, &filter, &arguments).await.map_err(of_store)?;
        let counts = match arguments.json || past.is_empty() {
            true => Counts::default(),
            false => read_counts(&place, &filter, &arguments).await.map_err(of_store)?,
        };
        Ok::<_, CommandError>((past, counts))
    };
    let answer = setup.clock.timeout(PATIENCE, looked).await;
    let (past, counts) =
        answer.ok_or_else(|| CommandError::Failed(format!("{place} did not answer")))??;
    if arguments.json {
        console::print_json(&past)?;
    } else if past.is_empty() {
        let what = if arguments.manual { "nothing was done by hand" } else { "no such rotation" };
        console::note(&format!("{what} in {place}"));
    } else {
        let summary = counts.words(past.len());
        let are_several = setup.settings.accounts().nth(1).is_some();
        let table = told(&past, |server| by_hand::zone(&setup, server), are_several);
        console::print(&format!("{summary}\n{table}"))?;
    }
    Ok(Exit::Well)
}

/// Rotations and manual acts, the newest first.
async fn read(
    place: &Place,
    filter: &HistoryFilter,
    arguments: &Arguments,
) -> Result<Vec<Past>, StoreError> {
    // Where outcomes are asked for, those of the other kind are none.
    let any = arguments.outcome.is_empty();
    let mut past = Vec::new();
    if !arguments.manual && (any || !filter.outcomes.is_empty()) {
        let rotations = store::read(place, filter).await?;
        let deleted = rotations.iter().filter(|it| !it.deleted.is_empty());
        let servers: Vec<ServerId> =
            deleted.map(|it| it.server_id).collect::<BTreeSet<_>>().into_iter().collect();
        let memories = match servers.is_empty() {
            true => ServerMemories::new(),
            // The rotations are told without it.
            false => store::read_memories(place, &servers).await.unwrap_or_default(),
        };
        let row = |rotation| Past::Rotation(RotationRow::of(rotation, &memories));
        past.extend(rotations.into_iter().map(row));
    }
    if any || !filter.manual_outcomes.is_empty() {
        past.extend(store::read_manual(place, filter).await?.into_iter().map(Past::Manual));
    }
    past.sort_by_key(|it| std::cmp::Reverse(it.ended_at()));
    past.truncate(filter.limit.map_or(usize::MAX, |limit| limit as usize));
    Ok(past)
}

fn unread(place: &Place, problem: &StoreError) -> CommandError {
    CommandError::Failed(match problem.is_empty_store() {
        true => format!(
            "{place} holds no history: neither the daemon nor `snapring rotate` has \
             written to it yet"
        ),
        false => format!("cannot read the history in {place}: {problem}"),
    })
}

/// How many ended how, of all that a filter takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    rotations: Vec<(RotationOutcome, u64)>,
    manual: Vec<(ManualOutcome, u64)>,
}

impl Counts {
    /// In one line. `shown`: how many of them have rows.
    fn words(&self, shown: usize) -> String {
        let number = |count: u64| readable::count(usize::try_from(count).unwrap_or(usize::MAX));
        let part = |total: u64, what: &str, words: Vec<String>| {
            (total > 0).then(|| format!("{} {what}: {}", number(total), words.join(", ")))
        };
        let rotations = self.rotations.iter().map(|(_, count)| count).sum();
        let words = self.rotations.iter();
        let words =
            words.map(|(outcome, count)| format!("{} {}", number(*count), outcome.as_str()));
        let what = if rotations == 1 { "rotation" } else { "rotations" };
        let of_rotations = part(rotations, what, words.collect());
        let manual = self.manual.iter().map(|(_, count)| count).sum();
        let words = self.manual.iter();
        let words =
            words.map(|(outcome, count)| format!("{} {}", number(*count), outcome.as_str()));
        let of_manual = part(manual, "by hand", words.collect());
        let mut text: String =
            of_rotations.into_iter().chain(of_manual).collect::<Vec<_>>().join("; ");
        if rotations + manual > shown as u64 {
            text.push_str(&format!("; the newest {} are shown", readable::count(shown)));
        }
        text
    }
}

async fn read_counts(
    place: &Place,
    filter: &HistoryFilter,
    arguments: &Arguments,
) -> Result<Counts, StoreError> {
    let any = arguments.outcome.is_empty();
    let mut counts = Counts::default();
    if !arguments.manual && (any || !filter.outcomes.is_empty()) {
        counts.rotations = store::count(place, filter).await?;
    }
    if any || !filter.manual_outcomes.is_empty() {
        counts.manual = store::count_manual(place, filter).await?;
    }
    Ok(counts)
}

/// What was given, with the servers as the history knows them. One that is in the configuration is found under the
/// names that it had before, too.
///
/// # Errors
/// When there is no such server, neither configured nor in the history, or the history cannot be read.
async fn filter(
    arguments: &Arguments,
    setup: &Setup,
    place: &Place,
) -> Result<HistoryFilter, CommandError> {
    let now = setup.clock.now().wall;
    let mut filter = HistoryFilter {
        outcomes: arguments.outcome.iter().filter_map(|it| it.rotation).collect(),
        manual_outcomes: arguments.outcome.iter().filter_map(|it| it.manual).collect(),
        since: arguments
            .since
            .map(|since| since.within(&setup.common_zone(), now).unwrap_or(Timestamp::MIN)),
        limit: (arguments.limit > 0).then_some(arguments.limit),
        ..HistoryFilter::default()
    };
    let selection = &arguments.selection;
    // A server of the past has no group, and its account may be gone.
    if selection.is_narrowed() {
        filter.ids = setup.select(selection)?.iter().map(|server| server.id).collect();
        return Ok(filter);
    }
    let configured = setup.candidates();
    let mut unknown = Vec::new();
    for given in selection.servers() {
        match matching(given, &configured)?.as_slice() {
            [] => unknown.push(given),
            found => filter.ids.extend(found.iter().map(|it| it.id)),
        }
    }
    if unknown.is_empty() {
        return Ok(filter);
    }
    let past = store::past_servers(place).await.map_err(|problem| unread(place, &problem))?;
    let past: Vec<_> =
        past.iter().map(|(id, name)| Candidate { id: *id, name, group: None }).collect();
    for given in unknown {
        let found = matching(given, &past)?;
        if found.is_empty() {
            let is_new = |it: &&Candidate<'_>| {
                !configured.iter().any(|known| known.id == it.id && known.name == it.name)
            };
            let all: Vec<_> =
                configured.iter().chain(past.iter().filter(is_new)).cloned().collect();
            let place = format!("{}, nor in its history", setup.path.display());
            return Err(CommandError::Usage(selection::unknown(given, &all, &place)));
        }
        for it in found {
            if it.id.to_string() == *given {
                filter.ids.push(it.id);
            } else {
                filter.names.push(it.name.to_owned());
            }
        }
    }
    Ok(filter)
}

/// Why there is nothing to be read there, with what to do.
fn unreadable(place: &Place) -> Option<String> {
    let file = match place {
        Place::Server(_) => return None,
        Place::Memory => {
            return Some(
                "the history is only in the memory of the daemon and is lost when it stops\n\
                 hint: to keep it, add this to the configuration and restart the daemon:\n\
                 [store]\n\
                 url = \"sqlite:///var/lib/snapring/snapring.db\""
                    .to_owned(),
            );
        }
        Place::File(file) => file,
    };
    let problem = regular_file::open(file).err()?;
    let hint = match problem.kind() {
        io::ErrorKind::PermissionDenied => {
            "\nhint: run this as root, or as the user of the service"
        }
        io::ErrorKind::NotFound => {
            "\nhint: the daemon creates it when it starts, and `snapring rotate` creates it at the first \
                 rotation. With another configuration, or without systemd, it is somewhere else: see \
                 [store] in snapring.toml(5)"
        }
        _ => "",
    };
    Some(format!("cannot read the history in {place}: {problem}{hint}"))
}

/// `with_accounts`: the configuration has several.
fn told(past: &[Past], zone: impl Fn(ServerId) -> TimeZone, with_accounts: bool) -> String {
    let is_rotation = |it: &Past| matches!(it, Past::Rotation(_));
    let columns = COLUMNS.map(|(title, narrow)| match title {
        "what" if past.iter().all(is_rotation) => (title, Narrow::Out(5)),
        _ => (title, narrow),
    });
    let mut columns = columns.to_vec();
    if with_accounts {
        columns.insert(AFTER_SERVER, ("account", Narrow::Out(7)));
    }
    let mut table = Table::new(columns);
    let dash = || "-".to_owned();
    for it in past {
        let zone = zone(it.server());
        let when = shown(it.ended_at(), &zone);
        let cells = match it {
            Past::Rotation(row @ RotationRow { rotation: it, .. }) => [
                when,
                it.server.clone(),
                "rotation".to_owned(),
                shown(it.tick.instant(), &zone),
                it.outcome.as_str().to_owned(),
                it.created.clone().unwrap_or_else(dash),
                if it.deleted.is_empty() { dash() } else { row.deleted() },
                took(it.duration_ms),
                it.by.as_ref().map_or_else(dash, ToString::to_string),
                it.reason.clone().unwrap_or_default(),
            ],
            Past::Manual(it) => {
                let name = it.snapshot.as_deref().unwrap_or("-");
                let what = match it.action {
                    ManualAction::Create => format!("create {name}"),
                    ManualAction::Delete => format!("delete {name}"),
                    ManualAction::Restore => format!("restore from {name}"),
                };
                // What was refused, or may not have happened, was neither created nor deleted.
                let is_so = matches!(it.outcome, ManualOutcome::Done | ManualOutcome::Started);
                let named = |action| it.snapshot.clone().filter(|_| it.action == action && is_so);
                let made = named(ManualAction::Create).or_else(|| it.safety.clone());
                let took_ms = it.ended_at.duration_since(it.started_at).as_millis();
                [
                    when,
                    it.server.clone(),
                    what,
                    dash(),
                    it.outcome.as_str().to_owned(),
                    made.unwrap_or_else(dash),
                    named(ManualAction::Delete).unwrap_or_else(dash),
                    took(u64::try_from(took_ms).unwrap_or_default()),
                    it.by.to_string(),
                    it.reason.clone().unwrap_or_default(),
                ]
            }
        };
        let mut cells = cells.to_vec();
        if with_accounts {
            cells.insert(AFTER_SERVER, it.server().account.name().to_owned());
        }
        table.add_row(cells);
    }
    lines(&table)
}

fn took(duration_ms: u64) -> String {
    match i64::try_from(duration_ms) {
        Ok(ms) if ms >= 1000 => span(SignedDuration::from_millis(ms)),
        _ => format!("{duration_ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::manual::Person;
    use crate::memory::RingMemory;
    use crate::moment::Moment;
    use crate::naming::SnapshotId;
    use crate::report::{BrokenOffBy, Report};

    fn person(user: &str) -> Person {
        Person { uid: 0, user: Some(user.to_owned()), sudo_user: None }
    }

    #[test]
    fn the_first_line_counts_what_ended_how_and_says_if_not_all_is_shown() {
        let mut counts = Counts {
            rotations: vec![(RotationOutcome::Rotated, 1200), (RotationOutcome::Failed, 34)],
            manual: vec![(ManualOutcome::Done, 2)],
        };
        assert_eq!(
            counts.words(50),
            "1,234 rotations: 1,200 rotated, 34 failed; 2 by hand: 2 done; the newest 50 are shown"
        );
        counts.rotations.clear();
        assert_eq!(counts.words(2), "2 by hand: 2 done");
        counts = Counts { rotations: vec![(RotationOutcome::Failed, 1)], manual: Vec::new() };
        assert_eq!(counts.words(1), "1 rotation: 1 failed");
    }

    #[test]
    fn an_outcome_is_one_of_a_rotation_of_a_manual_act_or_of_both() {
        assert!(parse_outcome("faild").unwrap_err().contains("failed"));
        let both = parse_outcome("failed").unwrap();
        assert!(both.rotation.is_some() && both.manual.is_some());
        assert!(parse_outcome("done").unwrap().rotation.is_none());
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        assert!(unreadable(&Place::Memory).unwrap().contains("[store]"));
        let directory = tempfile::tempdir().unwrap();
        let nothing = Place::File(directory.path().join("none.db"));
        assert!(unreadable(&nothing).unwrap().contains("hint: the daemon creates it"));
    }

    /// S8: the provider's word alone is not called deleted.
    #[test]
    fn what_no_listing_has_confirmed_is_not_called_deleted() {
        let server = ServerId::new(7);
        let at: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
        let (tick, by) = (crate::naming::Tick::at(at), BrokenOffBy::Request("x".to_owned()));
        let report = Report {
            deleted: vec!["one".to_owned(), "two".to_owned()],
            ..Report::broken_off(server, "web", tick, by)
        };
        let mut memory = RingMemory::default();
        memory.deleted(SnapshotId(2), "two", Moment { wall: at, uptime: Duration::ZERO });
        // As it comes back from the store.
        let kept = serde_json::to_string(&memory).unwrap();
        let memories = ServerMemories::from([(server, serde_json::from_str(&kept).unwrap())]);
        let row = RotationRow::of(PastRotation::of(&report, at), &memories);
        assert_eq!(row.unconfirmed, ["two"]);
        let text = told(&[Past::Rotation(row)], |_| TimeZone::UTC, true);
        assert!(text.contains("one two (not confirmed yet)"), "{text}");
        assert!(text.contains("SERVER  ACCOUNT") && text.contains("web     default"), "{text}");
        let row = RotationRow::of(PastRotation::of(&report, at), &ServerMemories::new());
        assert_eq!(row.deleted(), "one two");
    }

    #[test]
    fn a_rotation_is_one_line_and_so_is_what_a_person_did() {
        let rotation = PastRotation {
            ended_at: "2026-11-24T03:04:10.9Z".parse().unwrap(),
            server_id: ServerId::new(7),
            server: "web".to_owned(),
            tick: crate::naming::Tick::at("2026-11-24T03:00:00Z".parse().unwrap()),
            outcome: RotationOutcome::Failed,
            created: Some("snapring-20261124T030000Z".to_owned()),
            deleted: Vec::new(),
            api_calls: 3,
            duration_ms: 250_900,
            steps: Vec::new(),
            reason: Some("it did not complete".to_owned()),
            cause: None,
            by: Some(person("anna")),
        };
        let act = ManualAct {
            started_at: "2026-11-24T03:00:00Z".parse().unwrap(),
            ended_at: "2026-11-24T03:08:10Z".parse().unwrap(),
            server_id: ServerId::new(7),
            server: "web".to_owned(),
            action: ManualAction::Restore,
            outcome: ManualOutcome::Done,
            snapshot_id: Some(SnapshotId(801)),
            snapshot: Some("good".to_owned()),
            safety_id: Some(SnapshotId(805)),
            safety: Some("snapring-20261124T030001Z".to_owned()),
            by: Person { sudo_user: Some("anna".to_owned()), ..person("root") },
            reason: None,
            pid: 1,
        };
        let refused = |action| ManualAct {
            action,
            outcome: ManualOutcome::Failed,
            snapshot: Some("good".to_owned()),
            safety: None,
            reason: Some("the provider refused".to_owned()),
            ..act.clone()
        };
        let refused = [ManualAction::Create, ManualAction::Delete].map(refused).map(Past::Manual);
        let zone = |_| TimeZone::get("Europe/Berlin").unwrap();
        for line in told(&refused, zone, false).lines().skip(1) {
            assert_eq!(line.matches("good").count(), 1, "as what was asked for: {line}");
        }
        let row = |rotation, memories: &_| Past::Rotation(RotationRow::of(rotation, memories));
        let text = told(&[row(rotation, &ServerMemories::new()), Past::Manual(act)], zone, false);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines[0],
            "2026-11-24 04:04:10 CET  web     rotation           2026-11-24 04:00:00 CET  failed   \
             snapring-20261124T030000Z  -        4m 10s  anna               it did not complete"
        );
        assert_eq!(
            lines[1].trim_end(),
            "2026-11-24 04:08:10 CET  web     restore from good  -                        done     \
             snapring-20261124T030001Z  -        8m 10s  root (sudo: anna)"
        );
    }
}
