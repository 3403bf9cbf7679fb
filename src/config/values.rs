//! Values with a form of their own: spans of time, addresses, retention, time zones.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use toml::de::DeValue;
use url::{Host, Url};

use crate::config::document::{
    Entry, Parsed, Problems, Table, integer_within, mistake, nearest, refuse,
};
use crate::policy::{Keep, Rule};

/// 24 hours.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A span of time, like `"90s"` or `"1h 30m"`.
pub(crate) fn duration(
    table: &Table<'_, '_>,
    key: &'static str,
    range: RangeInclusive<Duration>,
    problems: &mut Problems,
) -> Parsed<Duration> {
    let Some(value) = table.get(key) else { return Parsed::Absent };
    let with_unit = |number: &str| {
        Some(format!("write it in quotes with a unit: {key} = \"{number}s\", or m, h, d"))
    };
    let text = match value.get_ref() {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(number) => {
            return mistake(
                value,
                &format!("`{key}` needs a unit"),
                with_unit(number.as_str()),
                problems,
            );
        }
        _ => {
            return mistake(
                value,
                &format!("`{key}` must be a duration"),
                with_unit("90"),
                problems,
            );
        }
    };
    let Ok(span) = humantime::parse_duration(text) else {
        let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let hint = if bare && text != "0" {
            with_unit(text)
        } else {
            Some(format!("write {key} = \"90s\", \"10m\", \"1h 30m\" or \"2d\""))
        };
        return refuse(value, format!("`{key}` is not a duration"), hint, problems);
    };
    // humantime takes a capital M for a month of 30.44 days.
    if text.contains('M') {
        problems.warning(
            value.span(),
            format!("`{key}` is given in months"),
            "a capital M is a month",
            Some("minutes are \"m\"".to_owned()),
        );
    }
    if !range.contains(&span) {
        let (least, most) =
            (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
        return refuse(value, format!("`{key}` must be from {least} to {most}"), None, problems);
    }
    Parsed::Good(span, value.span())
}

/// The provider's address: https, or http where the traffic stays on this machine.
pub(crate) fn base_url(text: &str, span: Range<usize>, problems: &mut Problems) -> Option<Url> {
    let mut refuse = |message: &str, hint: &str| {
        // It may hold a password.
        if text.contains(['@', '?', '#']) {
            problems.secrets.push(span.clone());
        }
        problems.error(span.clone(), message, "", Some(hint.to_owned()));
        None
    };
    let example = "write an address like \"https://admin.vps.org/api/v1/\"";
    let Ok(mut url) = Url::parse(text) else {
        return refuse("`base_url` is not an address", example);
    };
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => {
            return refuse(
                "`base_url` must be https: others could read the token on its way",
                "http is for loopback addresses only",
            );
        }
        _ => return refuse("`base_url` must be https", example),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("`base_url` takes no user or password", "the token goes into `token_file`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("`base_url` takes no query or fragment", example);
    }
    // The claims that keep rotations apart are made in its name: one API has one address.
    let has_other_spellings = url.path().contains("//") || url.path().contains('%');
    if has_other_spellings {
        let hint = "write its path once and plainly, like /api/v1/";
        return refuse(
            "`base_url` has an empty part (//) or an encoded character (%) in its path",
            hint,
        );
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

/// The most snapshots that one rule of `keep` may ask for.
const MOST_KEPT: u64 = 1000;

/// `keep`: a number, or a table of rules.
pub(crate) fn keep(table: &Table<'_, '_>, problems: &mut Problems) -> Parsed<Keep> {
    let Some(value) = table.get("keep") else { return Parsed::Absent };
    let given = match value.get_ref() {
        DeValue::Table(_) => keep_rules(table, value, problems),
        DeValue::Integer(_) => {
            integer_within(value, "keep", 1..=MOST_KEPT, "from 1 to `cap`", problems)
                .and_then(|last, _| Some(Keep { last: narrow(last), ..Keep::default() }))
        }
        _ => {
            return mistake(
                value,
                "`keep` is a number or a table",
                Some("write keep = 4, or keep = { last = 2, daily = 1, weekly = 1 }".to_owned()),
                problems,
            );
        }
    };
    given.and_then(|keep, span| {
        if keep.total() == 0 {
            problems.error(
                span,
                "`keep` keeps nothing",
                "zero in all",
                Some("it must keep at least one snapshot".to_owned()),
            );
            return None;
        }
        Some(keep)
    })
}

fn keep_rules(
    table: &Table<'_, '_>,
    value: Entry<'_, '_>,
    problems: &mut Problems,
) -> Parsed<Keep> {
    let Some(rules) = table.table("keep", "`keep`", problems).good() else {
        return Parsed::Mistaken;
    };
    if !rules.refuse_others(&Rule::ALL.map(Rule::as_str), problems) {
        return Parsed::Mistaken;
    }
    let mut count = |rule: Rule| {
        let Some(value) = rules.get(rule.as_str()) else { return Some(0) };
        integer_within(value, rule.as_str(), 0..=MOST_KEPT, "from 0 to `cap`", problems)
            .good()
            .map(narrow)
    };
    let all = Rule::ALL.map(&mut count);
    let [Some(last), Some(hourly), Some(daily), Some(weekly), Some(monthly), Some(yearly)] = all
    else {
        return Parsed::Mistaken;
    };
    Parsed::Good(Keep { last, hourly, daily, weekly, monthly, yearly }, value.span())
}

/// For numbers that a range has bounded already.
pub(crate) fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Files in a machine's zone directory that are no zones of their own: what they hold differs from
/// machine to machine, or counts leap seconds.
const NO_ZONES: &[&str] = &["localtime", "posixrules", "posix/", "right/"];

/// An IANA name of a time zone, or a hint at what could be meant.
pub(crate) fn time_zone(name: &str) -> Result<TimeZone, String> {
    let lowercase = name.to_ascii_lowercase();
    // The machine's own zones are newer. Some systems leave out old names, like US/Eastern.
    let bundled = TimeZoneDatabase::bundled();
    if !NO_ZONES.iter().any(|other| lowercase.starts_with(other))
        && let Ok(zone) = TimeZone::get(name).or_else(|_| bundled.get(name))
        && zone.iana_name().is_some()
    {
        return Ok(zone);
    }
    let known: Vec<String> = bundled.available().map(|it| it.to_string()).collect();
    Err(match nearest(name, known.iter().map(String::as_str)) {
        Some(near) if near != name => format!("did you mean \"{near}\"?"),
        _ => "write an IANA name like \"Europe/Berlin\" or \"Etc/UTC\"".to_owned(),
    })
}
