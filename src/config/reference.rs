//! What each key is for: the one text of which config.example.toml and snapring.toml(5) are made,
//! and by which a key is known at all.

#[cfg(test)]
mod example;

/// A table of the configuration.
#[derive(Debug)]
pub(crate) struct Section {
    /// As it is written.
    pub header: &'static str,
    /// What it is for, in whole sentences.
    pub text: &'static str,
    /// What may stand in it.
    pub keys: &'static [KeyReference],
}

/// A key.
#[derive(Debug)]
pub(crate) struct KeyReference {
    /// As it is written.
    pub name: &'static str,
    /// What values it takes, in words.
    pub form: &'static str,
    /// What holds without it.
    pub absent: Absent,
    /// A value, as TOML; empty for a table of its own.
    pub example: &'static str,
    /// What it is for: a phrase, which begins small and ends without a full stop.
    pub text: &'static str,
    /// What else the manual page says, in whole sentences.
    pub more: &'static str,
    /// Whether the example shows it commented out.
    #[cfg_attr(not(test), allow(dead_code, reason = "read by the example, which a test writes"))]
    pub off: bool,
    /// Whether it may stand in `[defaults]`.
    pub shared: bool,
}

/// What holds where a key does not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// This value, as TOML.
    Value(&'static str),
    /// Something that no value says.
    Means(&'static str),
    /// Nothing: the key must stand there, or in `[defaults]`.
    Refused,
}

impl Absent {
    /// In words: `default "30s"`.
    #[must_use]
    pub(crate) fn words(self) -> String {
        match self {
            Self::Value(text) | Self::Means(text) => format!("default {text}"),
            Self::Refused => "no default".to_owned(),
        }
    }
}

const KEY: KeyReference = KeyReference {
    name: "",
    form: "",
    absent: Absent::Refused,
    example: "",
    text: "",
    more: "",
    off: false,
    shared: false,
};

const SHARED: KeyReference = KeyReference { shared: true, ..KEY };

/// `[api]`.
pub(crate) const API: Section = Section {
    header: "[api]",
    text: "How the provider is reached. All keys have defaults, and so has the whole table.",
    keys: &[
        KeyReference {
            name: "base_url",
            form: "an https address, or an http one of loopback",
            absent: Absent::Value("\"https://admin.vps.org/api/v1/\""),
            example: "\"https://admin.vps.org/api/v1/\"",
            text: "where the provider's API begins",
            more: "A new one takes effect with the next start, not with a reload.",
            ..KEY
        },
        KeyReference {
            name: "token_file",
            form: "an absolute path",
            absent: Absent::Means("systemd's credential `snapring-token`, else $SNAPRING_TOKEN"),
            example: "\"/etc/snapring/token\"",
            text: "a file with the API token that snapring can read and others cannot",
            more: "The shipped unit hands /etc/snapring/token over as that credential. The service's \
                   user may not read the file itself: then the credential stands in for it, so that \
                   the key serves root's commands and the service alike. The token itself never \
                   stands in the configuration.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "timeout",
            form: "a span of time from 1s to 10m",
            absent: Absent::Value("\"30s\""),
            example: "\"30s\"",
            text: "for one request, connecting included",
            more: "After this time the kernel also stops delivering a request that was sent \
                   (TCP_USER_TIMEOUT), so that it cannot arrive much later.",
            ..KEY
        },
        KeyReference {
            name: "max_in_flight",
            form: "a whole number from 1 to 1024",
            absent: Absent::Value("8"),
            example: "8",
            text: "requests under way at once",
            ..KEY
        },
        KeyReference {
            name: "requests_per_minute",
            form: "0, or a whole number from 4",
            absent: Absent::Value("0"),
            example: "0",
            text: "a ceiling of your own, at least 4; 0: none",
            more: "With fewer, a listing would be too old before the delete that rests on it has its \
                   turn.",
            ..KEY
        },
        KeyReference {
            name: "retries",
            form: "a whole number from 0 to 20",
            absent: Absent::Value("4"),
            example: "4",
            text: "further tries after a first one failed",
            more: "They come 1 to 30 seconds apart, with jitter; after a 429 when the provider says.",
            ..KEY
        },
        KeyReference {
            name: "settle",
            form: "a span of time from 0s to 10m",
            absent: Absent::Value("\"20s\""),
            example: "\"20s\"",
            text: "how long a new snapshot may take to show up in a listing",
            more: "A create that got no answer is sent again only after `timeout` + 4s + `settle`, if \
                   no listing has shown the snapshot by then. The same applies to a create of a \
                   process that was killed. After an error answer `settle` is enough.",
            ..KEY
        },
    ],
};

/// What stands in `[defaults]` above its keys.
pub(crate) const DEFAULTS: &str =
    "Whatever most servers share. Any key of a [[server]] may stand here but id, name and pin.";

/// `[[server]]`, and but for its own keys `[defaults]`.
pub(crate) const SERVER: Section = Section {
    header: "[[server]]",
    text: "A server of the account, once for each. What it does not say comes from [defaults].",
    keys: &[
        KeyReference {
            name: "id",
            form: "a whole number from 1",
            example: "12346",
            text: "the provider's number of the server",
            ..KEY
        },
        KeyReference {
            name: "name",
            form: "text of at most 100 characters, not a number",
            absent: Absent::Means("\"server-<id>\""),
            example: "\"db-01\"",
            text: "for logs, tables and commands",
            more: "No two servers may have the same.",
            ..KEY
        },
        KeyReference {
            name: "schedule",
            form: "a cron expression, or a list of them",
            example: "[\"0 */6 * * *\", \"30 22 * * fri\"]",
            text: "minute, hour, day, month, weekday; or 6, seconds first",
            more: "See SCHEDULES.",
            ..SHARED
        },
        KeyReference {
            name: "timezone",
            form: "an IANA name",
            absent: Absent::Value("\"Etc/UTC\""),
            example: "\"Etc/UTC\"",
            text: "also where days, weeks and months begin for `keep`",
            ..SHARED
        },
        KeyReference {
            name: "keep",
            form: "a whole number, or a table of rules",
            example: "{ last = 1, hourly = 0, daily = 1, weekly = 1, monthly = 0, yearly = 0 }",
            text: "how many slots are used, by which rules",
            more: "See RETENTION.",
            ..SHARED
        },
        KeyReference {
            name: "prefix",
            form: "a letter, then letters, digits, hyphens and underscores, at most 23 in all",
            absent: Absent::Value("\"snapring\""),
            example: "\"snapring\"",
            text: "its snapshots are snapring-20261123T030000Z",
            more: "A snapshot whose whole name is prefix, hyphen and tick is managed. All others are \
                   foreign: counted and never deleted. If you change the prefix, list the old one in \
                   `adopt_prefix`, or the old snapshots stay forever.",
            ..SHARED
        },
        KeyReference {
            name: "adopt_prefix",
            form: "a list of prefixes",
            absent: Absent::Value("[]"),
            example: "[\"old\"]",
            text: "earlier prefixes of this server, still managed",
            more: "Snapshots with exactly such a name are managed: they are counted, kept and deleted by \
                   `keep` like those with the server's own prefix, which new snapshots always get. List \
                   a prefix only if no other snapring and no other tool creates snapshots with it on \
                   this server. Remove it from the list once no such snapshot is left.",
            off: true,
            ..SHARED
        },
        KeyReference {
            name: "description",
            form: "text of at most 500 characters",
            absent: Absent::Value("\"rotated by snapring\""),
            example: "\"rotated by snapring\"",
            text: "what the provider shows beside a snapshot",
            ..SHARED
        },
        KeyReference {
            name: "cap",
            form: "a whole number from 1 to 1000",
            absent: Absent::Value("5"),
            example: "5",
            text: "the provider's limit for this server",
            ..SHARED
        },
        KeyReference {
            name: "reserve",
            form: "a whole number from 0 to 1000",
            absent: Absent::Value("0"),
            example: "1",
            text: "slots left free for snapshots made by hand",
            more: "One made by hand uses it up. keep and reserve together must fit into cap.",
            ..SHARED
        },
        KeyReference {
            name: "jitter",
            form: "a span of time",
            absent: Absent::Value("\"0s\""),
            example: "\"10m\"",
            text: "a tick starts somewhere within this span",
            more: "Server and tick alone decide where, so a restart changes nothing.",
            ..SHARED
        },
        KeyReference {
            name: "catch_up",
            form: "a span of time",
            absent: Absent::Value("\"24h\""),
            example: "\"24h\"",
            text: "a tick missed no longer ago runs late, once; \"0s\": never",
            ..SHARED
        },
        KeyReference {
            name: "min_interval",
            form: "a span of time",
            absent: Absent::Value("\"10m\""),
            example: "\"10m\"",
            text: "a tick sooner than this after the last one is skipped",
            ..SHARED
        },
        KeyReference {
            name: "completion_timeout",
            form: "a span of time from 1s to 7days",
            absent: Absent::Value("\"45m\""),
            example: "\"45m\"",
            text: "how long a snapshot may be in progress",
            more: "When it has passed, the rotation has failed, and nothing is pruned.",
            ..SHARED
        },
        KeyReference {
            name: "pin",
            form: "a list of whole numbers",
            absent: Absent::Value("[]"),
            example: "[801]",
            text: "snapshots by id that are never deleted",
            ..KEY
        },
        KeyReference {
            name: "enabled",
            form: "true or false",
            absent: Absent::Value("true"),
            example: "true",
            text: "whether its ticks do anything",
            ..SHARED
        },
        KeyReference {
            name: "hooks",
            form: "a table",
            absent: Absent::Means("none"),
            text: "programs that run around a create",
            more: "See [server.hooks]. A server's own hooks replace those of [defaults] as a whole.",
            ..SHARED
        },
    ],
};

/// `[server.hooks]`.
pub(crate) const HOOKS: Section = Section {
    header: "[server.hooks]",
    text: "Programs that run around a create: argument lists, no shell. SNAPRING_SERVER, \
           SNAPRING_SERVER_ID, SNAPRING_TICK and SNAPRING_SNAPSHOT tell them the context, and \
           SNAPRING_RESULT tells `after` how it went.",
    keys: &[
        KeyReference {
            name: "before",
            form: "a list of texts: a program and its arguments",
            absent: Absent::Means("none"),
            example: "[\"/usr/local/bin/quiesce\", \"db-01\"]",
            text: "when it fails, no snapshot is made",
            ..KEY
        },
        KeyReference {
            name: "after",
            form: "a list of texts: a program and its arguments",
            absent: Absent::Means("none"),
            example: "[\"/usr/local/bin/resume\", \"db-01\"]",
            text: "runs whenever `before` was started, whatever happened",
            ..KEY
        },
        KeyReference {
            name: "timeout",
            form: "a span of time from 1s to 1day",
            absent: Absent::Value("\"2m\""),
            example: "\"2m\"",
            text: "for each of the two",
            ..KEY
        },
    ],
};

/// `[http]`.
pub(crate) const HTTP: Section = Section {
    header: "[http]",
    text: "A page for people, metrics for Prometheus, probes for an orchestrator. Read-only, without \
           secrets, and open to whoever reaches it.",
    keys: &[
        KeyReference {
            name: "listen",
            form: "an address with a port",
            absent: Absent::Means("no listener"),
            example: "\"127.0.0.1:9187\"",
            text: "where to answer to /, /livez, /readyz, /metrics and /api/v1/status",
            more: "A new one takes effect with the next start. Where the address is taken, that is said, \
                   and tried again; rotations go on.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "hosts",
            form: "a list of host names",
            absent: Absent::Means("localhost and IP addresses only"),
            example: "[\"snapring.example\"]",
            text: "further names by which the listener may be addressed",
            more: "A request whose Host header has another name gets 421, except /livez and /readyz: \
                   a web page elsewhere could otherwise read the status through a browser on this \
                   machine (DNS rebinding). New ones take effect with the next start.",
            off: true,
            ..KEY
        },
    ],
};

/// `[store]`.
pub(crate) const STORE: Section = Section {
    header: "[store]",
    text: "Where the history of rotations is kept, for 90 days. Losing it loses no safety.",
    keys: &[
        KeyReference {
            name: "url",
            form: "sqlite:///path, sqlite::memory:, or postgres://user:password@host/database",
            absent: Absent::Means("$STATE_DIRECTORY/snapring.db, else memory"),
            example: "\"sqlite:///var/lib/snapring/snapring.db\"",
            text: "a file that only snapring writes, or a PostgreSQL database",
            more: "systemd sets $STATE_DIRECTORY; commands by hand look there too, in /var/lib/snapring. A \
               password may also come from $PGPASSWORD or ~/.pgpass, as for psql. A server on \
               another machine must use TLS with a certificate that this machine trusts, unless \
               the address has an `sslmode` (`?sslmode=require`) or $PGSSLMODE is set. One database \
               belongs to one configuration. A new address takes effect with the next start.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "url_file",
            form: "the whole path of a file",
            absent: Absent::Means("`url` says it"),
            example: "\"/etc/snapring/store.url\"",
            text: "instead of `url`: a file that holds the address and nothing else",
            more: "For an address with a password, in a file that only root can read: the packaged service gets a \
               copy. One of the two may be set.",
            off: true,
            ..KEY
        },
    ],
};

/// `[log]`.
pub(crate) const LOG: Section = Section {
    header: "[log]",
    text: "How events are written.",
    keys: &[
        KeyReference {
            name: "format",
            form: "\"auto\", \"journald\", \"json\" or \"text\"",
            absent: Absent::Value("\"auto\""),
            example: "\"auto\"",
            text: "journald under systemd, text on a terminal, else json",
            more: "Or one of the three by its name.",
            ..KEY
        },
        KeyReference {
            name: "level",
            form: "a level, or a filter of levels by target",
            absent: Absent::Value("\"info\""),
            example: "\"info\"",
            text: "$SNAPRING_LOG overrides it; a filter like \"warn,snapring=debug\" works too",
            more: "The levels are error, warn, info, debug, trace and off. Changes of [log] take effect \
                   with the next start.",
            ..KEY
        },
    ],
};

/// `[[notify]]`.
pub(crate) const NOTIFY: Section = Section {
    header: "[[notify]]",
    text: "Who is told when servers begin to fail and when they are well again: a webhook, once for \
           each. `snapring notify-test` sends each a test.",
    keys: &[
        KeyReference {
            name: "url",
            form: "an https or http address",
            absent: Absent::Means("`url_file` says it"),
            example: "\"https://hooks.example/snapring\"",
            text: "where to POST",
            more: "A secret: whoever has it can write there. snapring shows no more of it than the \
                   host, but who may read the configuration has it.",
            ..KEY
        },
        KeyReference {
            name: "url_file",
            form: "the whole path of a file",
            absent: Absent::Means("`url` says it"),
            example: "\"/etc/snapring/hook.url\"",
            text: "instead of `url`: a file that holds the address and nothing else",
            more: "In a file that only root can read: the packaged service gets a copy at each start and each \
                   reload. One of the two must be set.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "format",
            form: "\"json\", \"ntfy\", \"healthchecks\" or \"slack\"",
            absent: Absent::Means("by host, else \"json\""),
            example: "\"json\"",
            text: "or \"ntfy\", \"healthchecks\", \"slack\"",
            more: "Known by their hosts: hc-ping.com, healthchecks.io, ntfy.sh, hooks.slack.com, and \
                   discord.com for addresses that end in /slack. A check of healthchecks stands for the whole fleet: it is well while nothing fails.",
            ..KEY
        },
        KeyReference {
            name: "on",
            form: "a list of \"failure\", \"recovery\" and \"success\"",
            absent: Absent::Means("these two, of healthchecks all"),
            example: "[\"failure\", \"recovery\"]",
            text: "or \"success\" too",
            more: "\"These two\" are failure and recovery. A success is each rotation that goes well; a failure is told when it begins, not at each tick.",
            ..KEY
        },
        KeyReference {
            name: "remind",
            form: "a span of time, 1m or more; 0s: never",
            absent: Absent::Value("\"24h\""),
            example: "\"24h\"",
            text: "how often to repeat that trouble goes on",
            more: "Only targets with \"failure\" in `on` are reminded, of failures that were sent to them.",
            ..KEY
        },
        KeyReference {
            name: "instance",
            form: "1 to 64 characters",
            absent: Absent::Means("the name of the host"),
            example: "\"backup-1\"",
            text: "what notices call this machine",
            more: "It is in each title and document. Set it in a container, whose host name says little.",
            off: true,
            ..KEY
        },
    ],
};

/// A phrase as a sentence.
#[must_use]
pub(crate) fn sentence(phrase: &str) -> String {
    let mut letters = phrase.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// The names of keys, in their order.
#[must_use]
pub(crate) fn names(keys: &[KeyReference]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// The names of the keys that may stand in `[defaults]`.
#[must_use]
pub(crate) fn shared_names() -> Vec<&'static str> {
    SERVER.keys.iter().filter(|key| key.shared).map(|key| key.name).collect()
}

/// A value that a key may have, as TOML; its table as it is written, like `[api]`.
#[must_use]
pub(crate) fn example_of(header: &str, name: &str) -> Option<&'static str> {
    let header = if header == "[defaults]" { SERVER.header } else { header };
    let sections = [&API, &SERVER, &HOOKS, &HTTP, &STORE, &LOG, &NOTIFY];
    let section = sections.into_iter().find(|section| section.header == header)?;
    let key = section.keys.iter().find(|key| key.name == name)?;
    Some(key.example).filter(|example| !example.is_empty())
}

#[cfg(test)]
mod tests;
