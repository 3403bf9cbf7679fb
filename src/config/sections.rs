//! `[api]`, `[http]`, `[log]`, and the document as a whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use url::Url;

use crate::config::document::{
    Entry, Parsed, Problems, Table, TomlDocument, hide, nearest, refuse,
};
use crate::config::includes;
use crate::config::notify;
use crate::config::problem::{Draft, Severity};
use crate::config::reference;
use crate::config::servers::{self, NamedCover};
use crate::config::store;
use crate::config::types::{HttpSettings, SecretsInFiles, Settings};
use crate::config::values::{base_url, duration, narrow};
use crate::naming::Account;
use crate::provider::settings::{ApiSettings, one_address};
use crate::server::common_zone;
use crate::status::MetricsScope;
use crate::telemetry;
use crate::telemetry::{LogFormat, LogSettings};

const ROOT_KEYS: &[&str] =
    &["include", "api", "account", "defaults", "group", "server", "http", "store", "log", "notify"];

/// What may stand in an included file.
const INCLUDED_KEYS: &[&str] = &["account", "group", "server"];

/// The provider's documented address.
const BASE_URL: &str = "https://admin.vps.org/api/v1/";

/// Reads the main document and those that it includes, and where its `token_file` stands. `None` when
/// there is a mistake in what cannot be done without. `includes`: what was found when they were looked for.
pub(crate) fn read(
    documents: &[TomlDocument<'_>],
    includes: Option<Vec<Draft>>,
    problems: &mut Problems,
) -> Option<(Settings, Option<Range<usize>>)> {
    let (document, included) = documents.split_first()?;
    let root = document.root();
    root.refuse_others(ROOT_KEYS, problems);
    let is_error = |draft: &Draft| draft.severity == Severity::Error;
    let mut whole = documents.iter().all(|it| it.whole);
    match (includes, root.get(includes::KEY)) {
        (Some(found), _) => {
            whole &= !found.iter().any(is_error);
            problems.extend(found);
        }
        (None, Some(value)) => {
            whole = false;
            problems.error(
                value.span(),
                "the included files were not read",
                "",
                Some("write the key as it is: include".to_owned()),
            );
        }
        (None, None) => {}
    }
    let mut roots = vec![document.root()];
    for document in included {
        let root = document.root();
        refuse_in_included(&root, problems);
        roots.push(root);
    }
    let api = match root.table("api", "[api]", problems) {
        Parsed::Good(table, _) => Some(table),
        Parsed::Absent | Parsed::Mistaken => None,
    };
    let mut covers = Covers::default();
    let (api, token_file_span) = match api {
        Some(table) => {
            table.refuse_others(&reference::names(reference::API.keys), problems);
            covers.add(&table, Account::API, problems);
            read_api(&table, Account::API, problems)
        }
        None => (defaults(Account::API), None),
    };
    let of_vps_org = api.as_ref().is_some_and(|api| api.base_url.as_str() == BASE_URL);
    let is_elsewhere = api.is_some() && !of_vps_org;
    let accounts = read_accounts(&roots, is_elsewhere, &mut covers, problems);
    let http = http(document, problems);
    let store = store::read(root.table("store", "[store]", problems).good(), problems);
    let log = read_log(root.table("log", "[log]", problems).good(), problems);
    let notify = notify::read(&root, problems);
    let address = |it: &ApiSettings| (it.account, one_address(it.base_url.as_str()));
    let known = accounts.as_ref().zip(api.as_ref()).filter(|_| whole);
    let known =
        known.map(|(accounts, api)| [api].into_iter().chain(accounts).map(address).collect());
    let read = servers::read(&roots, whole, of_vps_org, known, &covers.named, problems);
    let (servers, covers) = read.filter(|_| !covers.any_mistaken)?;
    let secrets_in_files = SecretsInFiles::of(&root);
    let zone = common_zone(servers.iter().map(AsRef::as_ref));
    let in_zone = |account| ApiSettings { zone: zone.clone(), ..account };
    let settings = Settings {
        api: in_zone(api?),
        more_accounts: accounts?.into_iter().map(in_zone).collect(),
        servers,
        covers,
        http: http?,
        store,
        log: log?,
        notify: notify?,
        secrets_in_files,
    };
    Some((settings, token_file_span))
}

/// What belongs into the main file is told as such, everything else is unknown.
fn refuse_in_included(root: &Table<'_, '_>, problems: &mut Problems) {
    let others = root.entries().filter(|(name, ..)| !INCLUDED_KEYS.contains(name));
    let (misplaced, unknown): (Vec<_>, Vec<_>) =
        others.partition(|(name, ..)| ROOT_KEYS.contains(name));
    for (name, place, value) in misplaced {
        if ["api", "store", "notify"].contains(&name) {
            hide(value, &mut problems.secrets);
        }
        let message = format!("`{name}` is not allowed in an included file");
        let hint = "move it to the main file; an included file can contain only [[server]], [group.NAME] and [[account]]";
        problems.error(place, message, "", Some(hint.to_owned()));
    }
    if !unknown.is_empty() {
        root.named("an included file").refuse_others(ROOT_KEYS, problems);
    }
}

/// Where the daemon is to listen, as far as that can be read.
pub(crate) fn listen(document: &TomlDocument<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    http(document, problems)?.listen
}

fn http(document: &TomlDocument<'_>, problems: &mut Problems) -> Option<HttpSettings> {
    read_http(document.root().table("http", "[http]", problems).good(), problems)
}

fn default_url() -> Option<Url> {
    Url::parse(BASE_URL).ok()
}

fn defaults(account: Account) -> Option<ApiSettings> {
    default_url().map(|base_url| ApiSettings {
        account,
        base_url,
        token_file: None,
        timeout: TIMEOUT,
        max_in_flight: IN_FLIGHT,
        requests_per_minute: 0,
        retries: RETRIES,
        settle: SETTLE,
        zone: TimeZone::UTC,
    })
}

/// The `cover` of each account that has one.
#[derive(Default)]
struct Covers<'a> {
    named: Vec<NamedCover<'a>>,
    any_mistaken: bool,
}

impl<'a> Covers<'a> {
    /// That of this account, if its table has one.
    fn add(&mut self, table: &Table<'a, '_>, account: Account, problems: &mut Problems) {
        match table.string("cover", problems) {
            Parsed::Good(group, span) => self.named.push(NamedCover { account, group, span }),
            Parsed::Mistaken => self.any_mistaken = true,
            Parsed::Absent => {}
        }
    }
}

/// Each `[[account]]`; `None` when one of them is mistaken. `api_is_elsewhere`: `[api]` has another `base_url` than
/// the default.
fn read_accounts<'a>(
    roots: &[Table<'a, '_>],
    api_is_elsewhere: bool,
    covers: &mut Covers<'a>,
    problems: &mut Problems,
) -> Option<Vec<ApiSettings>> {
    let mut known = reference::names(reference::API.keys);
    known.extend(reference::names(reference::ACCOUNT.keys));
    let mut accounts = Vec::new();
    let mut places: HashMap<Account, Range<usize>> = HashMap::new();
    let mut all_good = true;
    for root in roots {
        let tables = match root.tables("account", "[[account]]", problems) {
            Parsed::Good(tables, _) => tables,
            Parsed::Absent => continue,
            Parsed::Mistaken => {
                all_good = false;
                continue;
            }
        };
        for table in tables {
            table.refuse_others(&known, problems);
            let name = account_name(&table, problems);
            let first = name.as_ref().and_then(|(account, _)| places.get(account));
            if let (Some((account, place)), Some(first)) = (&name, first) {
                problems.error_like(
                    first,
                    place.clone(),
                    format!("two accounts have the name \"{account}\""),
                );
                all_good = false;
            }
            if api_is_elsewhere
                && let Some((account, place)) = &name
                && table.get("base_url").is_none()
            {
                let message = format!(
                    "account {account} has no `base_url`: its token is sent to {BASE_URL}, and that of [api] is not"
                );
                let hint = "if it has the provider of [api], write the same base_url here";
                problems.warning(place.clone(), message, "", Some(hint.to_owned()));
            }
            // Its other mistakes are told even without a name.
            let account = name.as_ref().map_or(Account::API, |(account, _)| *account);
            match (read_api(&table, account, problems).0, name) {
                (Some(settings), Some((account, place))) => {
                    covers.add(&table, account, problems);
                    places.entry(account).or_insert(place);
                    accounts.push(settings);
                }
                _ => all_good = false,
            }
        }
    }
    all_good.then_some(accounts)
}

fn account_name(table: &Table<'_, '_>, problems: &mut Problems) -> Option<(Account, Range<usize>)> {
    let hint = || Some("write a name like name = \"customer-b\"".to_owned());
    match table.string("name", problems) {
        Parsed::Mistaken => None,
        Parsed::Absent => {
            problems.error(table.span.clone(), "an account has no `name`", "", hint());
            None
        }
        Parsed::Good(text, span) => match Account::named(text) {
            Some(Account::API) => {
                let message = format!("{text:?} is the name of the account of [api]");
                problems.error(span, message, "", Some("choose another name".to_owned()));
                None
            }
            Some(account) => Some((account, span)),
            None => {
                let most = Account::LONGEST_NAME;
                let message = format!(
                    "`name` is not a letter, then letters, digits, hyphens and underscores, at most {most} in all"
                );
                problems.error(span, message, "", hint());
                None
            }
        },
    }
}

fn read_api(
    table: &Table<'_, '_>,
    account: Account,
    problems: &mut Problems,
) -> (Option<ApiSettings>, Option<Range<usize>>) {
    let token_file = table.string("token_file", problems).and_then(|text, span| {
        let path = PathBuf::from(text);
        if !path.is_absolute() {
            // What is no path at all may be the token itself.
            if !text.contains('/') {
                problems.secrets.push(span.clone());
            }
            let hint = Some("write the whole path, like \"/etc/snapring/token\"".to_owned());
            problems.error(span, "`token_file` must be an absolute path", "", hint);
            return None;
        }
        Some(path)
    });
    let token_file_span = token_file.span();
    let url = table
        .string("base_url", problems)
        .and_then(|text, span| base_url(text, span, problems))
        .or(|| default_url().map_or(Parsed::Mistaken, |url| Parsed::Good(url, 0..0)));
    let second = Duration::from_secs(1);
    let minute = Duration::from_secs(60);
    let timeout = duration(table, "timeout", second..=10 * minute, problems);
    let settle = duration(table, "settle", Duration::ZERO..=10 * minute, problems);
    let max_in_flight = table.integer("max_in_flight", 1..=1024, problems);
    let per_minute =
        table.integer("requests_per_minute", 0..=1_000_000, problems).and_then(|number, span| {
            if (1..LEAST_PER_MINUTE).contains(&number) {
                let message = format!("`requests_per_minute` must be 0 (none) or at least \
                     {LEAST_PER_MINUTE}");
                let hint = "a listing older than a minute is not used for a delete, so there must be time \
                     for the listing and the delete after it";
                problems.error(span, message, "", Some(hint.to_owned()));
                return None;
            }
            Some(number)
        });
    let retries = table.integer("retries", 0..=20, problems);
    let or = |given: Parsed<u64>, default: u64| given.or(|| Parsed::Good(default, 0..0)).good();
    let settings = (|| {
        let in_flight = or(max_in_flight, IN_FLIGHT.get() as u64)?;
        Some(ApiSettings {
            account,
            base_url: url.good()?,
            token_file: token_file.or(|| Parsed::Absent).good(),
            timeout: timeout.or(|| Parsed::Good(TIMEOUT, 0..0)).good()?,
            max_in_flight: usize::try_from(in_flight).ok().and_then(NonZeroUsize::new)?,
            requests_per_minute: narrow(or(per_minute, 0)?),
            retries: narrow(or(retries, u64::from(RETRIES))?),
            settle: settle.or(|| Parsed::Good(SETTLE, 0..0)).good()?,
            zone: TimeZone::UTC,
        })
    })();
    (settings, token_file_span)
}

/// With fewer, a listing would be too old by the time a delete that rests on it has its turn.
const LEAST_PER_MINUTE: u64 = 4;

const TIMEOUT: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(20);
const RETRIES: u32 = 4;
const IN_FLIGHT: NonZeroUsize = match NonZeroUsize::new(8) {
    Some(eight) => eight,
    None => NonZeroUsize::MIN,
};

fn read_http(table: Option<Table<'_, '_>>, problems: &mut Problems) -> Option<HttpSettings> {
    let Some(table) = table else { return Some(HttpSettings::default()) };
    table.refuse_others(&reference::names(reference::HTTP.keys), problems);
    let listen = table.string("listen", problems).and_then(|text, span| {
        text.parse::<SocketAddr>()
            .map_err(|_| {
                let hint = "write an address and a port, like \"127.0.0.1:9187\" or \"[::1]:9187\"";
                let message = "`listen` is not an address to listen on";
                problems.error(span, message, "", Some(hint.to_owned()));
            })
            .ok()
    });
    let hosts = hosts(&table, problems);
    let scopes = [("servers", MetricsScope::Servers), ("fleet", MetricsScope::Fleet)];
    let metrics = one_of(&table, "metrics", &scopes, problems);
    let listen = match listen {
        Parsed::Good(listen, _) => Some(listen),
        Parsed::Absent => None,
        Parsed::Mistaken => return None,
    };
    Some(HttpSettings { listen, hosts: hosts?, metrics: metrics? })
}

/// One of a few words, the first if there is none.
fn one_of<T: Copy>(
    table: &Table<'_, '_>,
    key: &'static str,
    words: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let (text, span) = match table.string(key, problems) {
        Parsed::Good(text, span) => (text, span),
        Parsed::Absent => return words.first().map(|(_, value)| *value),
        Parsed::Mistaken => return None,
    };
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let known = || words.iter().map(|(word, _)| *word);
        let hint = nearest(text, known()).map_or_else(
            || {
                format!(
                    "it is {}",
                    known().map(|it| format!("{it:?}")).collect::<Vec<_>>().join(" or ")
                )
            },
            |near| format!("did you mean {near:?}?"),
        );
        problems.error(span, format!("`{key}` cannot be {text:?}"), "", Some(hint));
    }
    found.map(|(_, value)| *value)
}

fn hosts(table: &Table<'_, '_>, problems: &mut Problems) -> Option<Vec<String>> {
    let Some(value) = table.get("hosts") else { return Some(Vec::new()) };
    let hint = "write host names, like hosts = [\"snapring.example\"]";
    let name = |item: Entry<'_, '_>| {
        let name = item.get_ref().as_str()?;
        let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '.' | '_');
        (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
    };
    let items = value.items().map(|items| items.map(name));
    let hosts = items.and_then(Iterator::collect);
    if hosts.is_none() {
        let message = "`hosts` is not a list of host names without ports";
        problems.error(value.span(), message, "", Some(hint.to_owned()));
    }
    hosts
}

fn read_log(table: Option<Table<'_, '_>>, problems: &mut Problems) -> Option<LogSettings> {
    let Some(table) = table else {
        let level = "info".to_owned();
        return Some(LogSettings { format: LogFormat::Auto, level, calls: true });
    };
    table.refuse_others(&reference::names(reference::LOG.keys), problems);
    let format = table.string("format", problems).and_then(|text, _| {
        let format = match text {
            "auto" => LogFormat::Auto,
            "journald" => LogFormat::Journald,
            "json" => LogFormat::Json,
            "text" => LogFormat::Text,
            other => {
                let known = ["auto", "journald", "json", "text"];
                let hint = match nearest(other, known.into_iter()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "it is \"auto\", \"journald\", \"json\" or \"text\"".to_owned(),
                };
                let value = table.get("format")?;
                return refuse(
                    value,
                    format!("there is no log format {other:?}"),
                    Some(hint),
                    problems,
                )
                .good();
            }
        };
        Some(format)
    });
    let level = table.string("level", problems).and_then(|text, span| {
        if let Err(reason) = telemetry::check_filter(text) {
            let hint = Some(
                "write a level like \"info\", or a filter like \"warn,snapring=debug\"".to_owned(),
            );
            problems.error(span, format!("`level` is not a filter: {reason}"), "", hint);
            return None;
        }
        Some(text.to_owned())
    });
    let calls = table.boolean("calls", problems);
    Some(LogSettings {
        calls: calls.or(|| Parsed::Good(true, 0..0)).good()?,
        format: format.or(|| Parsed::Good(LogFormat::Auto, 0..0)).good()?,
        level: level.or(|| Parsed::Good("info".to_owned(), 0..0)).good()?,
    })
}
