//! `[[server]]`, `[group.NAME]` and `[defaults]`.

mod values;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::document::{Parsed, Problems, Table, nearest};
use crate::config::reference;
use crate::config::servers::values::{hooks, pins, plain_text, prefixes, schedules};
use crate::config::values::{DAY, duration, keep, narrow, time_zone};
use crate::cover::Cover;
use crate::interner::Interner;
use crate::naming::{Account, ManagedPrefix, Prefix, PrefixError, ServerId, SnapshotId};
use crate::policy::{Keep, Policy};
use crate::schedule::{Schedule, ScheduleError};
use crate::server::{CAP, Hooks, Server};

/// The group that an account's `cover` names, and where it is written.
pub(crate) struct NamedCover<'a> {
    pub(crate) account: Account,
    pub(crate) group: &'a str,
    pub(crate) span: Range<usize>,
}

/// Reads all servers, and the policies for servers without a table; `None` when one of them is mistaken. Of VPS.org,
/// whose `cap` is known, more is told than of another provider. `roots`: of the main file, which has the defaults, and
/// of those that it includes; `whole`: whether all of them could be understood; `accounts`: each account and its
/// provider's address, `None` if not all of them are known.
pub(crate) fn read(
    roots: &[Table<'_, '_>],
    whole: bool,
    of_vps_org: bool,
    accounts: Option<Vec<(Account, String)>>,
    covers: &[NamedCover<'_>],
    problems: &mut Problems,
) -> Option<(Vec<Arc<Server>>, Vec<Cover>)> {
    let mut reader = Reader { of_vps_org, accounts, ..Reader::default() };
    let defaults = roots.first()?.table("defaults", "[defaults]", problems);
    let defaults = match defaults {
        Parsed::Good(table, _) => {
            table.refuse_others(&reference::shared_names(), problems);
            reader.shared(&table, problems)
        }
        Parsed::Absent | Parsed::Mistaken => CommonKeys::default(),
    };
    let groups = groups(roots, &defaults, whole, &mut reader, problems);
    let mut all_good = true;
    let mut tables = Vec::new();
    for root in roots {
        match root.tables("server", "[[server]]", problems) {
            Parsed::Good(more, _) => tables.extend(more),
            Parsed::Mistaken => all_good = false,
            Parsed::Absent => {}
        }
    }
    let is_any_covered = !covers.is_empty();
    let covers: Vec<Option<Cover>> =
        covers.iter().map(|named| reader.cover(named, &groups, problems)).collect();
    let covers: Option<Vec<Cover>> = covers.into_iter().collect();
    if tables.is_empty() && all_good && !is_any_covered && !problems.may_name_no_server {
        // It may stand in what could not be understood.
        if !whole {
            return None;
        }
        let hint = "`snapring discover --write FILE` writes the servers of the account, or write [[server]] with \
                    id = 12345, schedule = \"0 3 * * *\" and keep = 4";
        problems.error_of_the_whole("there is no server", hint);
        return None;
    }
    let known = reference::names(reference::SERVER.keys);
    let mut servers = Vec::with_capacity(tables.len());
    for table in tables {
        table.refuse_others(&known, problems);
        let inherited = groups.of(&table, &defaults, problems);
        match reader.server(&table, inherited, problems) {
            Some(server) => servers.push(Arc::new(server)),
            None => all_good = false,
        }
    }
    all_good.then_some(servers).zip(covers)
}

/// The groups, each with what it takes from the defaults.
struct Groups<'a> {
    /// With the place of its name.
    known: BTreeMap<&'a str, (CommonKeys<'a>, Range<usize>)>,
    /// Of a group that is not there: what a server would take from it is not missed.
    unknown: CommonKeys<'a>,
    /// Whether all groups are here.
    complete: bool,
}

fn groups<'a>(
    roots: &[Table<'a, '_>],
    defaults: &CommonKeys<'a>,
    complete: bool,
    reader: &mut Reader,
    problems: &mut Problems,
) -> Groups<'a> {
    let shared = reference::shared_names();
    let unknown = CommonKeys::mistaken();
    let mut groups = Groups { known: BTreeMap::new(), unknown, complete };
    for root in roots {
        let Some(all) = root.table("group", "[group.NAME]", problems).good() else { continue };
        for (name, place, value) in all.entries() {
            let Some(table) = value.table("[group.NAME]") else {
                let message = "a group must be a table";
                let hint = "write [group.NAME], and the keys of the group below it";
                problems.error(place, message, "", Some(hint.to_owned()));
                continue;
            };
            table.refuse_others(&shared, problems);
            let keys = reader.shared(&table, problems).or(defaults);
            let Some(name) = group_name(name, place.clone(), problems) else { continue };
            if let Some((_, first)) = groups.known.get(name) {
                problems.error_like(first, place, format!("two groups have the name {name:?}"));
                continue;
            }
            groups.known.insert(name, (keys, place));
        }
    }
    groups
}

fn group_name<'a>(name: &'a str, place: Range<usize>, problems: &mut Problems) -> Option<&'a str> {
    if name.trim() == name && !name.is_empty() {
        return plain_text("group", name, 100, place, problems);
    }
    let hint = "write a name like [group.databases]";
    let message = "the name of a group is empty, or begins or ends with a space";
    problems.error(place, message, "", Some(hint.to_owned()));
    None
}

impl<'a> Groups<'a> {
    /// What a server takes from its group, and so from the defaults.
    fn of<'s>(
        &'s self,
        server: &Table<'_, '_>,
        defaults: &'s CommonKeys<'a>,
        problems: &mut Problems,
    ) -> &'s CommonKeys<'a> {
        let (name, span) = match server.string("group", problems) {
            Parsed::Absent => return defaults,
            Parsed::Mistaken => return &self.unknown,
            Parsed::Good(name, span) => (name, span),
        };
        self.named(name, "group", span, problems).map_or(&self.unknown, |(keys, _)| keys)
    }

    /// The group of this name, with the place of that name. `key`: which key names it.
    fn named(
        &self,
        name: &str,
        key: &str,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> Option<&(CommonKeys<'a>, Range<usize>)> {
        let found = self.known.get(name);
        if found.is_none() && self.complete {
            let hint = match nearest(name, self.known.keys().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("write its table, like [group.databases], or remove `{key}`"),
            };
            problems.error(span, format!("there is no group {name:?}"), "", Some(hint));
        }
        found
    }
}

/// What may stand in `[defaults]` and in a group as well.
#[derive(Clone, Default)]
struct CommonKeys<'a> {
    schedules: Parsed<Vec<(&'a str, Range<usize>)>>,
    time_zone: Parsed<TimeZone>,
    keep: Parsed<Keep>,
    prefix: Parsed<Prefix>,
    adopted: Parsed<Vec<(Prefix, Range<usize>)>>,
    description: Parsed<Arc<str>>,
    cap: Parsed<u64>,
    reserve: Parsed<u64>,
    jitter: Parsed<Duration>,
    catch_up: Parsed<Duration>,
    min_interval: Parsed<Duration>,
    completion_timeout: Parsed<Duration>,
    enabled: Parsed<bool>,
    hooks: Parsed<Arc<Hooks>>,
    account: Parsed<Account>,
    /// The `cap` or `reserve` that stands nearer to the server than its `keep`. If they do not fit, it is
    /// this number that is pointed at: the `keep` of a wider table may be right for all others.
    narrower: Option<Range<usize>>,
}

impl<'a> CommonKeys<'a> {
    /// What another table gives where this one says nothing.
    fn or(self, other: &Self) -> Self {
        let own_number = || self.cap.span().or_else(|| self.reserve.span());
        let narrower = match self.keep {
            Parsed::Absent => own_number().or_else(|| other.narrower.clone()),
            _ => None,
        };
        Self {
            narrower,
            schedules: self.schedules.or(|| other.schedules.clone()),
            time_zone: self.time_zone.or(|| other.time_zone.clone()),
            keep: self.keep.or(|| other.keep.clone()),
            prefix: self.prefix.or(|| other.prefix.clone()),
            adopted: self.adopted.or(|| other.adopted.clone()),
            description: self.description.or(|| other.description.clone()),
            cap: self.cap.or(|| other.cap.clone()),
            reserve: self.reserve.or(|| other.reserve.clone()),
            jitter: self.jitter.or(|| other.jitter.clone()),
            catch_up: self.catch_up.or(|| other.catch_up.clone()),
            min_interval: self.min_interval.or(|| other.min_interval.clone()),
            completion_timeout: self.completion_timeout.or(|| other.completion_timeout.clone()),
            enabled: self.enabled.or(|| other.enabled.clone()),
            hooks: self.hooks.or(|| other.hooks.clone()),
            account: self.account.or(|| other.account.clone()),
        }
    }

    /// Each with a mistake that was told.
    fn mistaken() -> Self {
        Self {
            narrower: None,
            schedules: Parsed::Mistaken,
            time_zone: Parsed::Mistaken,
            keep: Parsed::Mistaken,
            prefix: Parsed::Mistaken,
            adopted: Parsed::Mistaken,
            description: Parsed::Mistaken,
            cap: Parsed::Mistaken,
            reserve: Parsed::Mistaken,
            jitter: Parsed::Mistaken,
            catch_up: Parsed::Mistaken,
            min_interval: Parsed::Mistaken,
            completion_timeout: Parsed::Mistaken,
            enabled: Parsed::Mistaken,
            hooks: Parsed::Mistaken,
            account: Parsed::Mistaken,
        }
    }
}

/// How close ticks come.
#[derive(Clone, Copy)]
struct Density {
    /// The smallest distance of two.
    tightest: SignedDuration,
    /// A schedule with seconds runs every hour or more often.
    is_hourly_with_seconds: bool,
}

/// Remembers what was read, so that what servers have in common is read once, and is in memory once.
#[derive(Default)]
struct Reader {
    of_vps_org: bool,
    /// Each account and its provider's address.
    accounts: Option<Vec<(Account, String)>>,
    zones: HashMap<String, Result<TimeZone, String>>,
    /// By zone, and in it by expression.
    schedules: HashMap<String, HashMap<String, Result<Schedule, ScheduleError>>>,
    /// The schedules of a server, and how dense they are.
    together: BTreeMap<Arc<[Schedule]>, Density>,
    prefixes: HashMap<String, Result<Prefix, PrefixError>>,
    descriptions: Interner<str>,
    groups: Interner<str>,
    hooks: Interner<Hooks>,
    policies: Interner<Policy>,
    /// Where each stands first.
    ids: HashMap<ServerId, Range<usize>>,
    /// By the provider's address and number.
    at_provider: HashMap<(String, u64), Range<usize>>,
    names: HashMap<String, Range<usize>>,
}

impl Reader {
    fn shared<'a>(&mut self, table: &Table<'a, '_>, problems: &mut Problems) -> CommonKeys<'a> {
        let second = Duration::from_secs(1);
        let year = 366 * DAY;
        CommonKeys {
            schedules: schedules(table, problems),
            time_zone: table.string("timezone", problems).and_then(|name, span| {
                once(&mut self.zones, name, time_zone)
                    .map_err(|hint| {
                        let message = format!("there is no time zone {name:?}");
                        problems.error(span, message, "", Some(hint));
                    })
                    .ok()
            }),
            keep: keep(table, problems),
            prefix: table
                .string("prefix", problems)
                .and_then(|text, span| self.prefix("prefix", text, span, problems)),
            adopted: prefixes(table, problems).and_then(|texts, _| self.adopted(texts, problems)),
            description: table
                .string("description", problems)
                .and_then(|text, span| plain_text("description", text, 500, span, problems))
                .and_then(|text, _| Some(self.descriptions.one(text))),
            cap: table.integer("cap", 1..=1000, problems).and_then(|cap, span| {
                if self.of_vps_org && cap > u64::from(CAP) {
                    let message = format!("VPS.org gives {CAP} snapshots a server");
                    let hint = "leave `cap` out, unless VPS.org gives this server more";
                    problems.warning(span, message, "", Some(hint.to_owned()));
                }
                Some(cap)
            }),
            reserve: table.integer("reserve", 0..=1000, problems),
            jitter: duration(table, "jitter", Duration::ZERO..=year, problems),
            catch_up: duration(table, "catch_up", Duration::ZERO..=year, problems),
            min_interval: duration(table, "min_interval", Duration::ZERO..=year, problems),
            completion_timeout: duration(table, "completion_timeout", second..=7 * DAY, problems),
            enabled: table.boolean("enabled", problems),
            hooks: hooks(table, problems).and_then(|it, _| Some(self.hooks.one(it))),
            account: table
                .string("account", problems)
                .and_then(|name, span| self.account(name, span, problems)),
            narrower: None,
        }
    }

    fn server(
        &mut self,
        table: &Table<'_, '_>,
        inherited: &CommonKeys<'_>,
        problems: &mut Problems,
    ) -> Option<Server> {
        let id = match table.integer("id", 1..=i64::MAX as u64, problems) {
            Parsed::Absent => {
                let hint = "id = 12345, the number that the provider gives the server";
                problems.error(header(table), "a server has no `id`", "", Some(hint.to_owned()));
                None
            }
            Parsed::Mistaken => None,
            Parsed::Good(id, span) => Some((id, span)),
        };
        let keys = self.shared(table, problems).or(inherited);
        let account = keys.account.clone().or(|| Parsed::Good(Account::API, 0..0)).good();
        let number = id.as_ref().map(|(number, _)| *number);
        let id = id.zip(account).and_then(|((number, span), account)| {
            self.unique_id(ServerId { account, number }, span, problems)
        });
        let name = self.name(table, number, problems);
        let pinned = pins(table, problems);
        let whose = number.map_or("a server".to_owned(), |number| format!("server {number}"));
        let policy = self.with_policy(keys, pinned, &whose, header(table), problems);
        Some(Server { id: id?, name: name?, group: self.group_of(table), ..policy? })
    }

    /// The policy of the group that a `cover` names.
    fn cover(
        &mut self,
        named: &NamedCover<'_>,
        groups: &Groups<'_>,
        problems: &mut Problems,
    ) -> Option<Cover> {
        let NamedCover { account, group, span } = named;
        let (keys, place) = groups.named(group, "cover", span.clone(), problems)?;
        if let Parsed::Good(other, _) = keys.account
            && other != *account
        {
            let message = format!("the group {group:?} belongs to account {other}");
            let hint = "write `cover` where that account is, or remove `account` from the group and from [defaults]";
            problems.error(span.clone(), message, "", Some(hint.to_owned()));
            return None;
        }
        let whose = "the group of a `cover`";
        let policy =
            self.with_policy(keys.clone(), Some(BTreeSet::new()), whose, place.clone(), problems)?;
        Some(Cover::new(*account, self.groups.one(*group), policy))
    }

    /// A server without an id and a name. `whose`: how a mistake calls it; `at`: where a missing key is pointed at.
    fn with_policy(
        &mut self,
        keys: CommonKeys<'_>,
        pinned: Option<BTreeSet<SnapshotId>>,
        whose: &str,
        at: Range<usize>,
        problems: &mut Problems,
    ) -> Option<Server> {
        let zone = keys.time_zone.or(|| Parsed::Good(TimeZone::UTC, 0..0)).good();
        // An expression's mistakes are told in any zone.
        let schedules = self.parsed(
            keys.schedules,
            zone.as_ref().unwrap_or(&TimeZone::UTC),
            whose,
            &at,
            problems,
        );
        if matches!(keys.keep, Parsed::Absent) {
            let hint = "write keep = 4, or keep = { last = 2, daily = 1, weekly = 1 }, here or in [defaults]";
            problems.lacks(whose, "keep", at, hint);
        }
        let cap = keys.cap.or(|| Parsed::Good(u64::from(CAP), 0..0)).good();
        let reserve = keys.reserve.or(|| Parsed::Good(0, 0..0)).good();
        let narrower = keys.narrower;
        let keep = keys.keep.and_then(|keep, span| {
            let (cap, reserve) = (narrow(cap?), narrow(reserve?));
            let pins = pinned.as_ref().map_or(0, |it| u32::try_from(it.len()).unwrap_or(u32::MAX));
            let slots = Slots { cap, reserve, pins };
            fits(keep, slots, narrower.unwrap_or(span), problems).then_some(keep)
        });
        let span = |given: Parsed<Duration>, seconds: u64| {
            given.or(|| Parsed::Good(Duration::from_secs(seconds), 0..0)).good()
        };
        let is_any_interval = matches!(keys.min_interval, Parsed::Absent);
        let min_interval = span(keys.min_interval, 600);
        let jitter = span(keys.jitter, 0);
        if let (Some((_, density, span)), Some(min_interval), Some(jitter)) =
            (&schedules, min_interval, jitter)
        {
            warn_of_tight(density.tightest, span, min_interval, jitter, problems);
            if density.is_hourly_with_seconds && is_any_interval {
                warn_of_seconds(span, problems);
            }
        }
        let prefix =
            keys.prefix.or(|| match once(&mut self.prefixes, "snapring", str::parse::<Prefix>) {
                Ok(prefix) => Parsed::Good(prefix, 0..0),
                Err(_) => Parsed::Mistaken,
            });
        let prefix = managed_prefix(
            prefix.good(),
            keys.adopted.or(|| Parsed::Good(Vec::new(), 0..0)),
            problems,
        );
        let hooks = match keys.hooks {
            Parsed::Absent => None,
            Parsed::Mistaken => return None,
            Parsed::Good(hooks, _) => Some(hooks),
        };
        let description = keys
            .description
            .or(|| Parsed::Good(self.descriptions.one("rotated by snapring"), 0..0));
        Some(Server {
            id: ServerId::new(0),
            name: String::new(),
            group: None,
            enabled: keys.enabled.or(|| Parsed::Good(true, 0..0)).good()?,
            schedules: schedules?.0,
            description: description.good()?,
            jitter: jitter?,
            catch_up: span(keys.catch_up, 24 * 3600)?,
            completion_timeout: span(keys.completion_timeout, 45 * 60)?,
            hooks,
            policy: self.policies.one(Policy {
                prefix: prefix?,
                keep: keep.good()?,
                time_zone: zone?,
                cap: narrow(cap?),
                reserve: narrow(reserve?),
                pinned: pinned?,
                to_restore: None,
                min_interval: min_interval?,
            }),
        })
    }

    /// Whether there is such a group has been checked.
    fn group_of(&mut self, table: &Table<'_, '_>) -> Option<Arc<str>> {
        let name = table.get("group")?.get_ref().as_str()?;
        Some(self.groups.one(name))
    }

    fn prefix(
        &mut self,
        key: &str,
        text: &str,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> Option<Prefix> {
        let read = once(&mut self.prefixes, text, str::parse::<Prefix>).map_err(|error| {
            let hint =
                "a letter, then letters, digits, hyphens, underscores; at most 23 characters";
            problems.error(span, format!("`{key}` {error}"), "", Some(hint.to_owned()));
        });
        read.ok()
    }

    /// `adopt_prefix`, each once.
    fn adopted(
        &mut self,
        texts: Vec<(&str, Range<usize>)>,
        problems: &mut Problems,
    ) -> Option<Vec<(Prefix, Range<usize>)>> {
        let mut adopted: Vec<(Prefix, Range<usize>)> = Vec::with_capacity(texts.len());
        let mut all_good = true;
        for (text, span) in texts {
            let Some(prefix) = self.prefix("adopt_prefix", text, span.clone(), problems) else {
                all_good = false;
                continue;
            };
            if let Some((_, first)) = adopted.iter().find(|(other, _)| *other == prefix) {
                let message = format!("`adopt_prefix` has the prefix {text:?} twice");
                problems.error_like(first, span, message);
                all_good = false;
                continue;
            }
            adopted.push((prefix, span));
        }
        all_good.then_some(adopted)
    }

    fn account(&self, name: &str, span: Range<usize>, problems: &mut Problems) -> Option<Account> {
        let account = Account::named(name);
        let Some(known) = &self.accounts else { return account };
        if let Some(account) = account.filter(|it| known.iter().any(|(known, _)| known == it)) {
            return Some(account);
        }
        let names = known.iter().map(|(account, _)| account.name());
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => {
                format!("write its table: [[account]] with name = {name:?}, or remove `account`")
            }
        };
        problems.error(span, format!("there is no account {name:?}"), "", Some(hint));
        None
    }

    /// Whether no other account has a server of this number at the same provider: it would be the same server,
    /// rotated twice.
    fn of_one_account(
        &mut self,
        id: ServerId,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> bool {
        let mut accounts = self.accounts.iter().flatten();
        let Some((_, address)) = accounts.find(|(account, _)| *account == id.account) else {
            return true;
        };
        let key = (address.clone(), id.number);
        let Some(first) = self.at_provider.get(&key) else {
            self.at_provider.insert(key, span);
            return true;
        };
        let message = format!("two accounts of one provider have the server {}", id.number);
        problems.error_like(first, span, message);
        false
    }

    fn unique_id(
        &mut self,
        id: ServerId,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> Option<ServerId> {
        let Some(first) = self.ids.get(&id) else {
            self.ids.insert(id, span.clone());
            return self.of_one_account(id, span, problems).then_some(id);
        };
        let of_account = match id.account {
            Account::API => String::new(),
            account => format!(" of account {account}"),
        };
        problems.error_like(first, span, format!("two servers{of_account} have the id {id}"));
        None
    }

    fn name(
        &mut self,
        table: &Table<'_, '_>,
        id: Option<u64>,
        problems: &mut Problems,
    ) -> Option<String> {
        let (name, span) = match table.string("name", problems) {
            Parsed::Mistaken => return None,
            Parsed::Absent => (format!("server-{}", id?), header(table)),
            Parsed::Good(text, span) => {
                let text = plain_text("name", text, 100, span.clone(), problems)?;
                let message = if text.trim() != text || text.is_empty() {
                    Some("`name` is empty, or begins or ends with a space")
                } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
                    Some("`name` looks like an id")
                } else {
                    None
                };
                if let Some(message) = message {
                    let hint =
                        "commands take a server's id or its name: write one like \"web-server-01\"";
                    problems.error(span, message, "", Some(hint.to_owned()));
                    return None;
                }
                (text.to_owned(), span)
            }
        };
        if let Some(first) = self.names.get(&name) {
            problems.error_like(first, span, format!("two servers have the name {name:?}"));
            return None;
        }
        self.names.insert(name.clone(), span);
        Some(name)
    }

    /// Reads the expressions in the zone; with them come their density and the place of the first. `None`
    /// when one is mistaken, or there is none.
    fn parsed(
        &mut self,
        given: Parsed<Vec<(&str, Range<usize>)>>,
        zone: &TimeZone,
        whose: &str,
        at: &Range<usize>,
        problems: &mut Problems,
    ) -> Option<(Arc<[Schedule]>, Density, Range<usize>)> {
        let texts = match given {
            Parsed::Mistaken => return None,
            Parsed::Good(texts, _) => texts,
            Parsed::Absent => {
                let hint = "write schedule = \"0 3 * * *\" for every night at three, here or in [defaults]";
                problems.lacks(whose, "schedule", at.clone(), hint);
                return None;
            }
        };
        let first = texts.first()?.1.clone();
        let of_zone =
            self.schedules.entry(zone.iana_name().unwrap_or_default().to_owned()).or_default();
        let mut parsed: Vec<Schedule> = Vec::with_capacity(texts.len());
        let mut all_good = true;
        for (text, span) in texts {
            match once(of_zone, text, |text| Schedule::parse(text, zone.clone())) {
                Ok(schedule) => {
                    if parsed.contains(&schedule) {
                        problems.warning(
                            span.clone(),
                            "the same schedule is listed twice",
                            "",
                            None,
                        );
                    }
                    parsed.push(schedule);
                }
                Err(error) => {
                    all_good = false;
                    let hint = match &error {
                        ScheduleError::Never => "no date fits it, like 30 February",
                        ScheduleError::Fields(_) => {
                            "minute, hour, day of month, month, day of week: \"0 3 * * *\" means every \
                                 night at three"
                        }
                        ScheduleError::Syntax(_) => {
                            "minute 0-59, hour 0-23, day 1-31, month 1-12 or jan-dec, day of week 0-7 or \
                                 sun-sat"
                        }
                    };
                    let hint = nickname(text)
                        .map_or(hint.to_owned(), |fields| format!("write {fields:?} for {text}"));
                    problems.error(span, format!("the schedule {error}"), "", Some(hint));
                }
            }
        }
        if !all_good {
            return None;
        }
        let (schedules, density) = match self.together.get_key_value(parsed.as_slice()) {
            Some((schedules, density)) => (Arc::clone(schedules), *density),
            None => {
                let (schedules, density) = (Arc::from(parsed.as_slice()), density(&parsed));
                self.together.insert(Arc::clone(&schedules), density);
                (schedules, density)
            }
        };
        Some((schedules, density, first))
    }
}

/// The fields that other crons have a word for.
fn nickname(text: &str) -> Option<&'static str> {
    Some(match text {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        _ => return None,
    })
}

/// Ticks nearer to each other than `min_interval` are skipped, and such that are nearer than the
/// jitter overtake each other; it is better to know.
fn warn_of_tight(
    tightest: SignedDuration,
    span: &Range<usize>,
    min_interval: Duration,
    jitter: Duration,
    problems: &mut Problems,
) {
    if SignedDuration::try_from(min_interval).is_ok_and(|least| tightest < least) {
        let message = "ticks are closer together than `min_interval`: some will be skipped";
        let label = format!(
            "as little as {} apart, and min_interval is {}",
            humantime::format_duration(tightest.unsigned_abs()),
            humantime::format_duration(min_interval)
        );
        problems.warning(span.clone(), message, label, None);
    }
    if SignedDuration::try_from(jitter).is_ok_and(|jitter| tightest < jitter) {
        let message = "ticks are closer together than `jitter`: some will be overtaken by the next";
        let label = format!(
            "as little as {} apart, and jitter is {}",
            humantime::format_duration(tightest.unsigned_abs()),
            humantime::format_duration(jitter)
        );
        problems.warning(span.clone(), message, label, None);
    }
}

/// A star too many turns each night at three into each hour at three minutes past.
fn warn_of_seconds(span: &Range<usize>, problems: &mut Problems) {
    let hint = "with six fields, the first one is for seconds: \"0 3 * * *\" means every night at \
        three. If this is intended, set `min_interval`";
    let message = "this schedule has six fields and runs every hour, or more often";
    problems.warning(span.clone(), message, "", Some(hint.to_owned()));
}

fn density(schedules: &[Schedule]) -> Density {
    let is_hourly = |schedule: &Schedule| {
        schedule.has_seconds()
            && tightest(std::slice::from_ref(schedule)) <= SignedDuration::from_hours(1)
    };
    Density {
        tightest: tightest(schedules),
        is_hourly_with_seconds: schedules.iter().any(is_hourly),
    }
}

/// What `read` makes of a text, made once for each text.
fn once<T: Clone>(known: &mut HashMap<String, T>, text: &str, read: impl FnOnce(&str) -> T) -> T {
    if let Some(value) = known.get(text) {
        return value.clone();
    }
    known.entry(text.to_owned()).or_insert_with(|| read(text)).clone()
}

/// The smallest distance of two ticks among the next fifty.
fn tightest(schedules: &[Schedule]) -> SignedDuration {
    // Any instant will do; a fixed one gives the same warning every day.
    let mut at = Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut tightest = SignedDuration::MAX;
    for nth in 0..50 {
        let next = schedules.iter().filter_map(|schedule| schedule.next_after(at)).min();
        let Some(next) = next else { break };
        if nth > 0 {
            tightest = tightest.min(next.duration_since(at));
        }
        at = next;
    }
    tightest
}

/// A server's own prefix with those that it adopts, none of which may be its own.
fn managed_prefix(
    own: Option<Prefix>,
    adopted: Parsed<Vec<(Prefix, Range<usize>)>>,
    problems: &mut Problems,
) -> Option<ManagedPrefix> {
    let (own, adopted) = (own?, adopted.good()?);
    if let Some((_, span)) = adopted.iter().find(|(other, _)| *other == own) {
        let hint = "`adopt_prefix` is for earlier prefixes of a server; its own prefix is always managed. \
             A server can have another list than [defaults], or none: adopt_prefix = []";
        problems.error(
            span.clone(),
            format!("`adopt_prefix` has the server's own prefix \"{own}\""),
            "",
            Some(hint.to_owned()),
        );
        return None;
    }
    let adopted = adopted.into_iter().map(|(prefix, _)| prefix).collect();
    Some(ManagedPrefix::new(own, adopted))
}

/// The first line of a table: where a missing key is pointed at.
fn header(table: &Table<'_, '_>) -> Range<usize> {
    table.span.clone()
}

/// What `keep` must fit into.
struct Slots {
    cap: u32,
    reserve: u32,
    /// How many snapshots are pinned. They are part of the reserve, as far as it goes.
    pins: u32,
}

fn fits(keep: Keep, slots: Slots, span: Range<usize>, problems: &mut Problems) -> bool {
    let Slots { cap, reserve, pins } = slots;
    let room = cap.saturating_sub(reserve.max(pins));
    let wanted = keep.total().saturating_add(reserve);
    let sum = match reserve {
        0 => format!("keeps {}", keep.total()),
        _ => format!("keeps {}, and {reserve} are reserved", keep.total()),
    };
    if wanted > cap {
        let hint =
            "the provider has `cap` slots for each server; keep + reserve must fit into them";
        problems.error(
            span,
            format!("`keep` and `reserve` ask for {wanted} slots of {cap}"),
            sum,
            Some(hint.to_owned()),
        );
        return false;
    }
    if keep.total() > room {
        problems.warning(
            span,
            format!(
                "{pins} pinned snapshots leave {room} of {cap} slots, and `keep` asks for {}",
                keep.total()
            ),
            sum,
            Some(
                "lower `keep`, or unpin a snapshot: the last rules of `keep` will stay empty"
                    .to_owned(),
            ),
        );
    } else if room <= 1 {
        problems.warning(
            span,
            "there is one slot for this server's own snapshots, so its rotations will be blocked: \
             the newest is never deleted before a new one is completed",
            sum,
            Some("leave two slots: raise `cap`, or lower `reserve`".to_owned()),
        );
    } else if wanted == cap {
        let hint = "leave one slot free, and the old one is deleted after the new one is completed";
        problems.warning(
            span,
            format!(
                "`keep` and `reserve` use all {cap} slots, so the oldest snapshot must be deleted \
                 before each create"
            ),
            sum,
            Some(hint.to_owned()),
        );
    }
    true
}
