//! Whose snapshot is it? The one rule by which a snapshot's name makes it this server's own.
//!
//! A name is managed when it is, to the last character, `<prefix>-<YYYYMMDD>T<HHMMSS>Z` with the
//! policy's own prefix, or one that it has adopted, and a real instant. Everything else is foreign.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One of the provider's accounts, by the name that the configuration gives it. The account of `[api]` has
/// no name of its own, and is the default.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Account {
    /// Padded with zeros, so that an account costs no allocation and orders as its name does.
    name: [u8; Self::LONGEST_NAME],
}

impl Account {
    /// The account of `[api]`.
    pub const API: Self = Self { name: [0; Self::LONGEST_NAME] };

    /// How the account of `[api]` is called where several are told apart.
    pub const API_NAME: &'static str = "default";

    /// The most bytes of a name.
    pub const LONGEST_NAME: usize = 24;

    /// The account of this name. `None`: it is not a letter, then letters, digits, hyphens and underscores,
    /// at most [`Account::LONGEST_NAME`] in all. [`Account::API_NAME`] is the account of `[api]`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name == Self::API_NAME {
            return Some(Self::API);
        }
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let first = name.bytes().next()?;
        if !first.is_ascii_alphabetic() || !name.bytes().all(is_good) {
            return None;
        }
        let mut padded = [0; Self::LONGEST_NAME];
        padded.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { name: padded })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        if *self == Self::API { Self::API_NAME } else { self.key() }
    }

    /// Its name in logs, metrics and documents. None for the account of `[api]`, as if it were the only one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        (*self != Self::API).then(|| self.key())
    }

    /// How a sentence calls it.
    #[must_use]
    pub fn in_words(&self) -> String {
        self.label().map_or_else(|| "the account".to_owned(), |name| format!("account {name}"))
    }

    /// Its name as it is stored: nothing for the account of `[api]`.
    #[must_use]
    pub fn key(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default().trim_end_matches('\0')
    }

    /// The account that is stored so.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        if key.is_empty() { Some(Self::API) } else { Self::named(key) }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(out)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Account({})", self.name())
    }
}

/// A server: its account, and the provider's number, which is unique within the account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// Whose server it is.
    pub account: Account,
    /// The provider's number.
    pub number: u64,
}

impl ServerId {
    /// A server of the account of `[api]`.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { account: Account::API, number }
    }
}

/// The provider's number for a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub u64);

/// What trouble is of, and notices are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An account: its token is refused.
    Account(Account),
    /// The list by which a `cover` finds the servers of an account: it cannot be read, or has no server.
    Cover(Account),
    /// One server.
    Server(ServerId),
}

impl Subject {
    /// The account, or that of the server.
    #[must_use]
    pub fn account(self) -> Account {
        match self {
            Self::Account(account) | Self::Cover(account) => account,
            Self::Server(server) => server.account,
        }
    }
}

/// The provider's number: what a person types, and what the provider understands.
impl fmt::Display for ServerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(out)
    }
}

/// The provider's number, as in the API.
impl Serialize for ServerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ServerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.account {
            Account::API => write!(out, "ServerId({})", self.number),
            account => write!(out, "ServerId({account}/{})", self.number),
        }
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// One scheduled occurrence of a policy: an instant in UTC, in whole seconds, of the years 0000 to
/// 9999 (what fits into a name).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(i64);

impl Tick {
    /// The tick of an instant: its fraction of a second is cut off.
    #[must_use]
    pub fn at(instant: Timestamp) -> Self {
        Self(instant.as_second())
    }

    /// The instant.
    #[must_use]
    pub fn instant(self) -> Timestamp {
        // Never another: it was read off an instant.
        Timestamp::from_second(self.0).unwrap_or(Timestamp::MIN)
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tick({})", self.instant())
    }
}

impl fmt::Display for Tick {
    /// RFC 3339, as logs and tables show it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instant().fmt(out)
    }
}

impl Serialize for Tick {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a server's managed snapshots' names begin with: a letter, then letters, digits, hyphens and
/// underscores. Cheap to clone: the servers of a fleet share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Prefix(Arc<str>);

/// Why a text cannot be a [`Prefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// Longer than [`Prefix::MAX_LEN`], so that names would pass 40 characters.
    #[error("has more than {} characters, so names would have more than 40", Prefix::MAX_LEN)]
    TooLong,
    /// Begins with something else than an ASCII letter.
    #[error("does not begin with a letter")]
    FirstCharacter,
    /// Holds a character that the provider refuses in names.
    #[error("contains {0:?}; only letters, digits, hyphens and underscores are allowed")]
    Character(char),
}

impl Prefix {
    /// The longest prefix, in characters.
    pub const MAX_LEN: usize = 23;

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the snapshot for `tick`.
    #[must_use]
    pub fn name(&self, tick: Tick) -> String {
        let utc = TimeZone::UTC.to_datetime(tick.instant());
        format!(
            "{}-{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            self.0,
            utc.year(),
            utc.month(),
            utc.day(),
            utc.hour(),
            utc.minute(),
            utc.second()
        )
    }

    /// The tick in a managed snapshot's name, `None` when the name is not exactly one of ours.
    #[must_use]
    pub fn tick_of(&self, name: &str) -> Option<Tick> {
        let stamp = name.strip_prefix(self.as_str())?.strip_prefix('-')?;
        let tick = parse_stamp(stamp)?;
        // The last word: what we would have written must be what stands there.
        (self.name(tick) == name).then_some(tick)
    }

    /// The prefix with which this would be exactly a managed name. Another program may have created it.
    #[must_use]
    pub fn in_name(name: &str) -> Option<Self> {
        let hyphen = name.len().checked_sub(STAMP_LEN + 1)?;
        let prefix: Self = name.get(..hyphen)?.parse().ok()?;
        prefix.tick_of(name).map(|_| prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// How long `<YYYYMMDD>T<HHMMSS>Z` is.
const STAMP_LEN: usize = 16;

/// Which names make a server's snapshots managed: those with its own prefix, which every new one gets, and
/// those with a prefix that it had before and has adopted. Everything that asks whose a snapshot is asks
/// this, so that adopted ones count everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ManagedPrefix {
    own: Prefix,
    adopted: Arc<[Prefix]>,
}

impl ManagedPrefix {
    /// New snapshots get `own`.
    #[must_use]
    pub fn new(own: Prefix, adopted: Arc<[Prefix]>) -> Self {
        Self { own, adopted }
    }

    /// What new names begin with.
    #[must_use]
    pub fn own(&self) -> &Prefix {
        &self.own
    }

    /// What the names of adopted ones begin with.
    #[must_use]
    pub fn adopted(&self) -> &[Prefix] {
        &self.adopted
    }

    /// The text of its own prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.own.as_str()
    }

    /// The name of a new snapshot for `tick`.
    #[must_use]
    pub fn name(&self, tick: Tick) -> String {
        self.own.name(tick)
    }

    /// The tick in a managed snapshot's name, `None` for a foreign name.
    #[must_use]
    pub fn tick_of(&self, name: &str) -> Option<Tick> {
        std::iter::once(&self.own).chain(&*self.adopted).find_map(|prefix| prefix.tick_of(name))
    }
}

impl FromStr for ManagedPrefix {
    type Err = PrefixError;

    /// An own prefix, and none that is adopted.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        Ok(Self { own: text.parse()?, adopted: Arc::default() })
    }
}

/// Reads the numbers of a stamp, and leaves it to the caller whether all the rest is as it must be.
fn parse_stamp(stamp: &str) -> Option<Tick> {
    // Digits alone: a number may have a sign, and a year before 0000 would read back as it was written.
    let number = |from: usize, to: usize| -> Option<i16> {
        let digits = stamp.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let small = |from: usize| i8::try_from(number(from, from + 2)?).ok();
    let civil =
        DateTime::new(number(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0)
            .ok()?;
    TimeZone::UTC.to_timestamp(civil).ok().map(Tick::at)
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let first = text.chars().next().ok_or(PrefixError::Empty)?;
        if let Some(bad) = text.chars().find(|character| !is_name_character(*character)) {
            return Err(PrefixError::Character(bad));
        }
        if !first.is_ascii_alphabetic() {
            return Err(PrefixError::FirstCharacter);
        }
        if text.len() > Self::MAX_LEN {
            return Err(PrefixError::TooLong);
        }
        Ok(Self(text.into()))
    }
}

/// Whether the provider takes this character in a snapshot's name: letters, digits, hyphens,
/// underscores, all of them ASCII.
#[must_use]
pub fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing::calendar;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_the_prefix_and_the_tick_in_utc() {
        let tick = Tick::at("2026-11-23T04:00:00.9+01:00".parse().unwrap());
        assert_eq!(prefix("snapring").name(tick), "snapring-20261123T030000Z");
        assert_eq!(prefix("snapring").tick_of("snapring-20261123T030000Z"), Some(tick));
        assert_eq!(tick.to_string(), "2026-11-23T03:00:00Z");
    }

    #[rstest]
    #[case::another_prefix_that_ours_begins("snapringer-20261123T030000Z")]
    #[case::ours_with_a_word_between("snapring-web-20261123T030000Z")]
    #[case::something_behind("snapring-20261123T030000Z-old")]
    #[case::something_before("my-snapring-20261123T030000Z")]
    #[case::a_space_behind("snapring-20261123T030000Z ")]
    #[case::case_of_the_prefix("Snapring-20261123T030000Z")]
    #[case::case_of_the_stamp("snapring-20261123t030000z")]
    #[case::no_zone("snapring-20261123T030000")]
    #[case::no_such_day("snapring-20260230T030000Z")]
    #[case::no_such_hour("snapring-20261123T240000Z")]
    #[case::leap_second("snapring-20161231T235960Z")]
    #[case::signs_for_digits("snapring-+0261123T030000Z")]
    #[case::a_year_before_the_first("snapring--9700101T000000Z")]
    #[case::other_digits("snapring-２０261123T03000Z")]
    #[case::only_the_prefix("snapring")]
    #[case::nothing("")]
    fn a_name_that_is_not_exactly_ours_is_foreign(#[case] name: &str) {
        assert_eq!(prefix("snapring").tick_of(name), None);
    }

    #[rstest]
    #[case("old-20261123T030000Z", Some("old"))]
    #[case("a-b_c-20261123T030000Z", Some("a-b_c"))]
    #[case("old-20261123T030000Z-20261124T030000Z", Some("old-20261123T030000Z"))]
    #[case::another_tool("old-2026-11-23T03:00:00Z", None)]
    #[case::lower_case("old-20261123t030000z", None)]
    #[case::no_such_day("old-20260230T030000Z", None)]
    #[case::something_behind("old-20261123T030000Z ", None)]
    #[case::no_prefix("-20261123T030000Z", None)]
    #[case::no_hyphen("old20261123T030000Z", None)]
    #[case::no_such_prefix("9old-20261123T030000Z", None)]
    #[case::too_long("abcdefghijklmnopqrstuvwx-20261123T030000Z", None)]
    #[case::not_ascii("é20261123T030000Z", None)]
    #[case::short("Z", None)]
    fn the_prefix_of_a_name_that_snapring_would_give(
        #[case] name: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(Prefix::in_name(name).as_ref().map(Prefix::as_str), expected);
    }

    #[test]
    fn adopted_names_are_managed_to_the_last_character_and_new_ones_get_the_own_prefix() {
        let managed = ManagedPrefix::new(prefix("snap"), [prefix("old"), prefix("x-y")].into());
        let tick = Tick::at("2026-11-23T03:00:00Z".parse().unwrap());
        for name in ["snap-20261123T030000Z", "old-20261123T030000Z", "x-y-20261123T030000Z"] {
            assert_eq!(managed.tick_of(name), Some(tick), "{name}");
        }
        for name in [
            "Old-20261123T030000Z",
            "older-20261123T030000Z",
            "old-x-20261123T030000Z",
            "x-20261123T030000Z",
            "old-20261123T030000Z-1",
        ] {
            assert_eq!(managed.tick_of(name), None, "{name}");
        }
        assert_eq!(managed.name(tick), "snap-20261123T030000Z");
        assert_eq!(managed.as_str(), "snap");
    }

    #[rstest]
    #[case("", PrefixError::Empty)]
    #[case("9lives", PrefixError::FirstCharacter)]
    #[case("-x", PrefixError::FirstCharacter)]
    #[case("web server", PrefixError::Character(' '))]
    #[case("wéb", PrefixError::Character('é'))]
    #[case("abcdefghijklmnopqrstuvwx", PrefixError::TooLong)]
    fn a_prefix_that_the_provider_would_refuse_is_refused(
        #[case] text: &str,
        #[case] error: PrefixError,
    ) {
        assert_eq!(text.parse::<Prefix>(), Err(error));
    }

    #[test]
    fn the_longest_prefix_makes_names_of_forty_characters() {
        let tick = Tick::at("2026-11-23T03:00:00Z".parse().unwrap());
        assert_eq!(prefix("abcdefghijklmnopqrstuvw").name(tick).len(), 40);
    }

    /// The rule of the contract, read character by character, the calendar counted by hand.
    fn is_ours(prefix: &str, name: &str) -> bool {
        let characters: Vec<char> = name.chars().collect();
        let ours: Vec<char> = prefix.chars().chain(['-']).collect();
        let Some(stamp) = characters.strip_prefix(ours.as_slice()) else { return false };
        if stamp.len() != 16 || stamp[8] != 'T' || stamp[15] != 'Z' {
            return false;
        }
        let number = |from: usize, to: usize| {
            stamp[from..to].iter().try_fold(0, |number, digit| {
                "0123456789".find(*digit).map(|value| number * 10 + value as i64)
            })
        };
        let fields = [(0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15)];
        let Some(fields) = fields.iter().map(|(from, to)| number(*from, *to)).collect() else {
            return false;
        };
        let fields: Vec<i64> = fields;
        (1..=12).contains(&fields[1])
            && (1..=calendar::days_in_month(fields[0], fields[1])).contains(&fields[2])
            && fields[3] < 24
            && fields[4] < 60
            && fields[5] < 60
    }

    /// The last 26 hours of the year 9999, which jiff does not count as time.
    fn beyond_time(name: &str) -> bool {
        ["99991230T22", "99991230T23", "99991231T"]
            .iter()
            .any(|begin| name.get(name.len() - 16..).is_some_and(|stamp| stamp.starts_with(begin)))
    }

    /// Every change of one character to names of early, late and present years.
    #[test]
    fn no_single_change_to_a_name_makes_it_that_of_a_year_or_day_that_is_not() {
        let ours = prefix("snap-ring_0");
        for time in ["0000-01-01T00:00:00Z", "0970-02-28T23:59:59Z", "2026-11-23T03:00:00Z"] {
            let name = ours.name(Tick::at(time.parse().unwrap()));
            let by = (' '..='~').chain(['é', '٣', '\u{2010}', '\u{0}', '\n']);
            for (by, place) in by.flat_map(|by| (0..name.len()).map(move |place| (by, place))) {
                for how in 0..6 {
                    let other = changed(&name, place, how, by);
                    let found = ours.tick_of(&other);
                    assert_eq!(found.is_some(), is_ours(ours.as_str(), &other), "{other:?}");
                    assert!(found.is_none_or(|found| ours.name(found) == other), "{other:?}");
                }
            }
        }
    }

    /// One change to a text: another character in a place, one more, one less, two exchanged, or
    /// the case of one.
    fn changed(name: &str, place: usize, how: u8, by: char) -> String {
        let mut characters: Vec<char> = name.chars().collect();
        let place = place % characters.len();
        match how {
            0 => characters[place] = by,
            1 => characters.insert(place, by),
            2 => characters.push(by),
            3 => drop(characters.remove(place)),
            4 if place > 0 => characters.swap(place, place - 1),
            _ if characters[place].is_ascii_lowercase() => {
                characters[place].make_ascii_uppercase();
            }
            _ => characters[place].make_ascii_lowercase(),
        }
        characters.into_iter().collect()
    }

    /// The seconds of the years 0000 to 9999, but for the last day that jiff does not count.
    fn any_second() -> impl Strategy<Value = i64> {
        prop_oneof![
            -62_167_219_200_i64..253_402_207_200,
            1_700_000_000..2_000_000_000_i64,
            Just(-62_167_219_200_i64),
            Just(253_402_207_199_i64),
        ]
    }

    const PREFIX: &str = "[A-Za-z][A-Za-z0-9_-]{0,22}";

    proptest! {
        #[test]
        fn names_go_round(text in PREFIX, second in any_second(), nanos in 0..1_000_000_000) {
            let tick = Tick::at(Timestamp::from_second(second).unwrap());
            let name = prefix(&text).name(tick);
            prop_assert!(name.chars().all(is_name_character));
            prop_assert_eq!(name.len(), text.len() + 17);
            prop_assert!(is_ours(&text, &name));
            prop_assert_eq!(prefix(&text).tick_of(&name), Some(tick));
            if second >= 0 {
                prop_assert_eq!(Tick::at(Timestamp::new(second, nanos).unwrap()), tick);
            }
        }

        #[test]
        fn a_name_with_one_change_is_foreign_or_another_ticks(
            text in PREFIX,
            second in any_second(),
            place in 0..41_usize,
            how in 0..6_u8,
            by in prop_oneof![
                prop::char::range('0', '9'), prop::sample::select(vec!['T', 'Z', 't', 'z', '-', '_', ' ', '+']),
                any::<char>(),
            ],
        ) {
            let tick = Tick::at(Timestamp::from_second(second).unwrap());
            let prefix = prefix(&text);
            let name = prefix.name(tick);
            let other = changed(&name, place, how, by);
            if other == name {
                return Ok(());
            }
            let found = prefix.tick_of(&other);
            prop_assert!(found != Some(tick));
            prop_assert_eq!(found.is_some(), is_ours(&text, &other) && !beyond_time(&other));
            prop_assert!(found.is_none_or(|found| prefix.name(found) == other));
        }

        #[test]
        fn of_all_texts_only_our_names_are_ours(
            name in prop_oneof![
                1 => any::<String>(),
                1 => "(snapring|snap|Snapring|web-snapring)?-?[0-9]{8}T[0-9]{6}Z ?",
                4 => "snapring-(20|99|00)[0-9]{2}(0[1-9]|1[0-3]|99)([0-2][0-9]|3[0-2])[Tt]([01][0-9]|2[0-4])[0-6][0-9][0-6][0-9]Z",
                1 => "snapring-[0-9TZ+ -]{14,18}",
                1 => "snapring-\\PC{16}",
            ],
        ) {
            let found = prefix("snapring").tick_of(&name);
            prop_assert_eq!(found.is_some(), is_ours("snapring", &name) && !beyond_time(&name));
            prop_assert!(found.is_none_or(|found| prefix("snapring").name(found) == name));
        }

        #[test]
        fn the_prefix_in_a_name_is_the_one_it_was_made_with(text in PREFIX, second in any_second()) {
            let name = prefix(&text).name(Tick::at(Timestamp::from_second(second).unwrap()));
            // A year before 0000 has no name that can be read.
            prop_assert_eq!(
                Prefix::in_name(&name).map(|it| it.as_str().to_owned()),
                prefix(&text).tick_of(&name).map(|_| text)
            );
        }

        #[test]
        fn one_prefix_never_takes_another_prefixes_names(
            ours in "[a-c][a-c-]{0,4}",
            theirs in "[a-c][a-c-]{0,4}",
        ) {
            let tick = Tick::at("2026-11-23T03:00:00Z".parse().unwrap());
            let expected = (ours == theirs).then_some(tick);
            prop_assert_eq!(prefix(&ours).tick_of(&prefix(&theirs).name(tick)), expected);
        }
    }
}
