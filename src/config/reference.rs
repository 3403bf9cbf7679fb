//! Every key and its description. config.example.toml and snapring.toml(5) are built from this, and a key that is
//! not here is unknown.

#[cfg(test)]
mod example;
pub(crate) mod schema;
mod shapes;

/// A table of the configuration.
#[derive(Debug)]
pub(crate) struct Section {
    /// As it is written, like `[api]`.
    pub header: &'static str,
    /// What it is for, in full sentences.
    pub text: &'static str,
    /// The keys that it may contain.
    pub keys: &'static [KeyReference],
}

/// A key.
#[derive(Debug)]
pub(crate) struct KeyReference {
    /// As it is written.
    pub name: &'static str,
    /// Which values it takes.
    pub form: Form,
    /// What applies if it is missing.
    pub absent: Absent,
    /// A value, as TOML; empty for a table of its own.
    pub example: &'static str,
    /// What it is for: a phrase, in lower case and without a full stop.
    pub text: &'static str,
    /// What else the manual page says, in full sentences. The example says it only of keys that are `off`.
    pub more: &'static str,
    /// Whether the example shows it commented out.
    #[cfg_attr(not(test), allow(dead_code, reason = "read by the example, which a test writes"))]
    pub off: bool,
    /// Whether it is allowed in `[defaults]`.
    pub shared: bool,
}

/// Which values a key takes, for a person and for the JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A whole number: the least, and the most if there is one.
    Whole(u64, Option<u64>),
    /// A span of time: the shortest and the longest.
    Span(Option<(&'static str, &'static str)>),
    /// In words, and as a JSON Schema.
    Words(&'static str, &'static str),
}

impl Form {
    /// In words: `a whole number from 1 to 1024`.
    #[must_use]
    pub(crate) fn words(self) -> String {
        match self {
            Self::Whole(least, Some(most)) => format!("a whole number from {least} to {most}"),
            Self::Whole(least, None) => format!("a whole number from {least}"),
            Self::Span(Some((least, most))) => format!("a span of time from {least} to {most}"),
            Self::Span(None) => "a span of time".to_owned(),
            Self::Words(words, _) => words.to_owned(),
        }
    }
}

/// What applies if a key is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// This value, as TOML.
    Value(&'static str),
    /// Something that is not a value, in words.
    Means(&'static str),
    /// Nothing: the key is required, there or in `[defaults]`.
    Refused,
}

impl Absent {
    /// In words: `default: "30s"`.
    #[must_use]
    pub(crate) fn words(self) -> String {
        match self {
            Self::Value(text) | Self::Means(text) => format!("default: {text}"),
            Self::Refused => "required".to_owned(),
        }
    }
}

const KEY: KeyReference = KeyReference {
    name: "",
    form: Form::Words("", shapes::TEXT),
    absent: Absent::Refused,
    example: "",
    text: "",
    more: "",
    off: false,
    shared: false,
};

const SHARED: KeyReference = KeyReference { shared: true, ..KEY };

/// What stands above all tables.
pub(crate) const ROOT: Section = Section {
    header: "include",
    text: "More files, for example one per customer.",
    keys: &[KeyReference {
        name: "include",
        form: Form::Words("a list of files", shapes::INCLUDE),
        absent: Absent::Value("[]"),
        example: "[\"conf.d/*.toml\"]",
        text: "more files with [[server]], [group.NAME] and [[account]] tables",
        more: "A relative path starts at the directory of this file. `*`, `?` and `[abc]` match \
               parts of a name, but not a dot at its beginning. The files are read in the order of \
               their names. They can contain only [[server]], [group.NAME] and [[account]] tables. A \
               server can use a group and an account from any file. A file that is named without a wildcard must exist.",
        off: true,
        ..KEY
    }],
};

/// `[api]`.
pub(crate) const API: Section = Section {
    header: "[api]",
    text: "How to reach the provider. Every key has a default, so you can leave the table out.",
    keys: &[
        KeyReference {
            name: "base_url",
            form: Form::Words("an https address, or an http one of loopback", shapes::BASE_URL),
            absent: Absent::Value("\"https://admin.vps.org/api/v1/\""),
            example: "\"https://admin.vps.org/api/v1/\"",
            text: "the address of the provider's API",
            more: "A reload with another address is rejected: restart snapring instead.",
            ..KEY
        },
        KeyReference {
            name: "token_file",
            form: Form::Words("an absolute path", shapes::PATH),
            absent: Absent::Means("systemd's credential `snapring-token`, else $SNAPRING_TOKEN"),
            example: "\"/etc/snapring/token\"",
            text: "a file with the API token",
            more: "Only root needs to read it: the packaged service gets a copy of \
                   /etc/snapring/token, as that credential. The token itself cannot be in the configuration.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "timeout",
            form: Form::Span(Some(("1s", "10m"))),
            absent: Absent::Value("\"30s\""),
            example: "\"30s\"",
            text: "for one request, including the connection",
            more: "After this time the kernel also stops sending a request (TCP_USER_TIMEOUT). \
                   So it cannot arrive much later.",
            ..KEY
        },
        KeyReference {
            name: "max_in_flight",
            form: Form::Whole(1, Some(1024)),
            absent: Absent::Value("8"),
            example: "8",
            text: "requests at the same time",
            more: "The daemon's hourly look at the servers of the account, in the background, can be one more.",
            ..KEY
        },
        KeyReference {
            name: "requests_per_minute",
            form: Form::Words("0, or a whole number from 4", shapes::PER_MINUTE),
            absent: Absent::Value("0"),
            example: "0",
            text: "a limit of your own, at least 4; 0 means none",
            more: "With fewer than 4, a listing is too old by the time the delete is sent.",
            ..KEY
        },
        KeyReference {
            name: "retries",
            form: Form::Whole(0, Some(20)),
            absent: Absent::Value("4"),
            example: "4",
            text: "further attempts after the first one failed",
            more: "They are 1 to 30 seconds apart, with jitter. After a 429, snapring waits as \
                   long as the provider asks.",
            ..KEY
        },
        KeyReference {
            name: "cover",
            form: Form::Words("the name of a group", shapes::GROUP),
            absent: Absent::Means("only servers with a [[server]] table"),
            example: "\"everything\"",
            text: "the [group.NAME] for servers of the account without a table",
            more: "snapring lists the servers of the account at the start, after a reload and once per \
                   hour. Each one that has no [[server]] gets the policy of this group, under the name \
                   that it has at the provider. A server that is no longer listed is reported once, is \
                   not rotated any more after two lists without it, and is forgotten after a day. The \
                   token must be allowed to list servers.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "settle",
            form: Form::Span(Some(("0s", "10m"))),
            absent: Absent::Value("\"20s\""),
            example: "\"20s\"",
            text: "how long a new snapshot may take to appear in a listing",
            more: "If a create gets no answer, it is sent again only after `timeout` + 4s + \
                   `settle`, and only if no listing has shown the snapshot by then. The same \
                   applies to a create of a process that was killed. After an error answer, \
                   `settle` is enough.",
            ..KEY
        },
    ],
};

/// The description of `[defaults]`.
pub(crate) const DEFAULTS: &str = "Settings that most servers share. Any key of [[server]] can be here, except id, name, group and pin.";

/// The description of `[group.NAME]`.
pub(crate) const GROUP: &str = "Settings that the servers with `group = \"NAME\"` share; any key of [defaults] can be here. A \
     server's own keys win over its group, and the group wins over [defaults].";

/// `[[account]]`: what it has besides the keys of `[api]`.
pub(crate) const ACCOUNT: Section = Section {
    header: "[[account]]",
    text: "A further account of the provider, with its own token, limits and health; repeat the table for each \
           one. It takes `name` and the keys of [api], and nothing from [api] itself. If `token_file` is \
           missing, the token is systemd's credential `snapring-token-NAME`. Servers name their account; \
           the others belong to the account of [api].",
    keys: &[KeyReference {
        name: "name",
        form: Form::Words(
            "a letter, then letters, digits, hyphens, underscores; at most 24 characters",
            shapes::ACCOUNT,
        ),
        example: "\"customer-b\"",
        text: "used in logs, tables and by the servers' `account`",
        more: "Must be unique. \"default\" is the account of [api].",
        ..KEY
    }],
};

/// `[[server]]`, and `[defaults]` with the keys that are shared.
pub(crate) const SERVER: Section = Section {
    header: "[[server]]",
    text: "A server; repeat the table for each one. Keys that are missing here \
           come from the server's group, else from [defaults].",
    keys: &[
        KeyReference {
            name: "id",
            form: Form::Whole(1, None),
            example: "12346",
            text: "the provider's number of the server",
            ..KEY
        },
        KeyReference {
            name: "name",
            form: Form::Words("text of at most 100 characters, not a number", shapes::NAME),
            absent: Absent::Means("\"server-<id>\""),
            example: "\"db-01\"",
            text: "used in logs, tables and commands",
            more: "Must be unique.",
            ..KEY
        },
        KeyReference {
            name: "group",
            form: Form::Words("the name of a group", shapes::GROUP),
            absent: Absent::Means("none"),
            example: "\"databases\"",
            text: "takes the keys of that [group.NAME]",
            more: "The group may be in any of the files.",
            ..KEY
        },
        KeyReference {
            name: "account",
            form: Form::Words("the name of an account", shapes::ACCOUNT),
            absent: Absent::Value("\"default\""),
            example: "\"customer-b\"",
            text: "the [[account]] that the server belongs to",
            more: "The default is the account of [api].",
            off: true,
            ..SHARED
        },
        KeyReference {
            name: "schedule",
            form: Form::Words("a cron expression, or a list of them", shapes::SCHEDULES),
            example: "[\"0 */6 * * *\", \"30 22 * * fri\"]",
            text: "minute, hour, day, month, weekday; or 6 with seconds first",
            more: "See SCHEDULES.",
            ..SHARED
        },
        KeyReference {
            name: "timezone",
            form: Form::Words("an IANA name", shapes::ZONE),
            absent: Absent::Value("\"Etc/UTC\""),
            example: "\"Etc/UTC\"",
            text: "also for the days, weeks and months of `keep`",
            ..SHARED
        },
        KeyReference {
            name: "keep",
            form: Form::Words("a whole number, or a table of rules", shapes::KEEP),
            example: "{ last = 1, hourly = 0, daily = 1, weekly = 1, monthly = 0, yearly = 0 }",
            text: "how many snapshots to keep, and by which rules",
            more: "See RETENTION.",
            ..SHARED
        },
        KeyReference {
            name: "prefix",
            form: Form::Words(
                "a letter, then letters, digits, hyphens and underscores, at most 23 in all",
                shapes::PREFIX,
            ),
            absent: Absent::Value("\"snapring\""),
            example: "\"snapring\"",
            text: "gives names like snapring-20261123T030000Z",
            more: "A snapshot is managed if its whole name is the prefix, a hyphen and a tick. \
                   All others are foreign: they are counted, but never deleted. If you change \
                   the prefix, list the old one in `adopt_prefix`. Otherwise the old snapshots \
                   stay forever.",
            ..SHARED
        },
        KeyReference {
            name: "adopt_prefix",
            form: Form::Words("a list of prefixes", shapes::PREFIXES),
            absent: Absent::Value("[]"),
            example: "[\"old\"]",
            text: "earlier prefixes of this server that are still managed",
            more: "Snapshots with exactly such a name are counted, kept and deleted like those \
                   with `prefix`. New snapshots always get `prefix`. List a prefix only if no \
                   other snapring and no other tool creates snapshots with it on this server. \
                   Remove it once no such snapshot is left.",
            off: true,
            ..SHARED
        },
        KeyReference {
            name: "description",
            form: Form::Words("text of at most 500 characters", shapes::DESCRIPTION),
            absent: Absent::Value("\"rotated by snapring\""),
            example: "\"rotated by snapring\"",
            text: "shown by the provider beside each snapshot",
            ..SHARED
        },
        KeyReference {
            name: "cap",
            form: Form::Whole(1, Some(1000)),
            absent: Absent::Value("5"),
            example: "5",
            text: "how many snapshots the provider allows for this server",
            ..SHARED
        },
        KeyReference {
            name: "reserve",
            form: Form::Whole(0, Some(1000)),
            absent: Absent::Value("0"),
            example: "1",
            text: "slots kept free for snapshots you create",
            more: "A snapshot that you create uses one of them. `keep` plus `reserve` must not \
                   exceed `cap`.",
            ..SHARED
        },
        KeyReference {
            name: "jitter",
            form: Form::Span(None),
            absent: Absent::Value("\"0s\""),
            example: "\"10m\"",
            text: "a tick starts at a random point of this span",
            more: "The point depends only on server and tick, so a restart does not change it.",
            ..SHARED
        },
        KeyReference {
            name: "catch_up",
            form: Form::Span(None),
            absent: Absent::Value("\"24h\""),
            example: "\"24h\"",
            text: "a missed tick no older than this runs once; \"0s\": never",
            ..SHARED
        },
        KeyReference {
            name: "min_interval",
            form: Form::Span(None),
            absent: Absent::Value("\"10m\""),
            example: "\"10m\"",
            text: "a tick sooner than this after the last snapshot is skipped",
            ..SHARED
        },
        KeyReference {
            name: "completion_timeout",
            form: Form::Span(Some(("1s", "7days"))),
            absent: Absent::Value("\"45m\""),
            example: "\"45m\"",
            text: "how long a snapshot may be in progress",
            more: "After that, the rotation fails, and nothing is deleted.",
            ..SHARED
        },
        KeyReference {
            name: "pin",
            form: Form::Words("a list of whole numbers", shapes::IDS),
            absent: Absent::Value("[]"),
            example: "[801]",
            text: "ids of snapshots that are never deleted",
            ..KEY
        },
        KeyReference {
            name: "enabled",
            form: Form::Words("true or false", shapes::FLAG),
            absent: Absent::Value("true"),
            example: "true",
            text: "false: this server is not rotated",
            ..SHARED
        },
        KeyReference {
            name: "hooks",
            form: Form::Words("a table", shapes::HOOKS),
            absent: Absent::Means("none"),
            text: "programs that run before and after a create",
            more: "See [server.hooks]. A server's own hooks replace all of those of its group, and these \
                   replace all of those in [defaults].",
            ..SHARED
        },
    ],
};

/// `[server.hooks]`.
pub(crate) const HOOKS: Section = Section {
    header: "[server.hooks]",
    text: "Programs that run before and after a create. Each is a list of arguments and runs \
           without a shell. They get SNAPRING_SERVER, SNAPRING_SERVER_ID, SNAPRING_ACCOUNT (`default` for \
           that of [api]), SNAPRING_TICK and SNAPRING_SNAPSHOT in the environment; `after` also gets SNAPRING_RESULT.",
    keys: &[
        KeyReference {
            name: "before",
            form: Form::Words("a list of texts: a program and its arguments", shapes::ARGUMENTS),
            absent: Absent::Means("none"),
            example: "[\"/usr/local/bin/quiesce\", \"db-01\"]",
            text: "if it fails, no snapshot is created",
            ..KEY
        },
        KeyReference {
            name: "after",
            form: Form::Words("a list of texts: a program and its arguments", shapes::ARGUMENTS),
            absent: Absent::Means("none"),
            example: "[\"/usr/local/bin/resume\", \"db-01\"]",
            text: "runs whenever `before` was started, whatever happened",
            ..KEY
        },
        KeyReference {
            name: "timeout",
            form: Form::Span(Some(("1s", "1day"))),
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
    text: "A page for people, metrics for Prometheus, and probes for an orchestrator. Read-only \
           and without secrets, but also without a password: everyone who can reach the address \
           can read it.",
    keys: &[
        KeyReference {
            name: "listen",
            form: Form::Words("an address with a port", shapes::LISTEN),
            absent: Absent::Means("no listener"),
            example: "\"127.0.0.1:9187\"",
            text: "an address that serves /, /livez, /readyz, /metrics, /api/v1/status",
            more: "A change takes effect at the next start. If the address is in use, the log \
                   says so and snapring tries again; rotations continue.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "hosts",
            form: Form::Words("a list of host names", shapes::HOSTS),
            absent: Absent::Means("localhost and IP addresses only"),
            example: "[\"snapring.example\"]",
            text: "further host names that the listener answers to",
            more: "Requests with another name in the Host header get 421, except for /livez and \
                   /readyz. Otherwise a web page could read the status through a browser on this \
                   machine (DNS rebinding). A change takes effect at the next start.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "metrics",
            form: Form::Words("\"servers\" or \"fleet\"", shapes::METRICS),
            absent: Absent::Value("\"servers\""),
            example: "\"fleet\"",
            text: "\"servers\": metrics for each server",
            more: "\"fleet\": only for the twenty servers in the worst state; for thousands of servers. The sums \
                   over all servers (snapring_fleet_*) are there either way. A change takes effect at the next \
                   start.",
            off: true,
            ..KEY
        },
    ],
};

/// `[store]`.
pub(crate) const STORE: Section = Section {
    header: "[store]",
    text: "Where the history of rotations is kept, for 90 days. Rotations do not depend on it.",
    keys: &[
        KeyReference {
            name: "url",
            form: Form::Words(
                "sqlite:///path, sqlite::memory:, or postgres://user:password@host/database",
                shapes::STORE,
            ),
            absent: Absent::Means("$STATE_DIRECTORY/snapring.db, else in memory"),
            example: "\"sqlite:///var/lib/snapring/snapring.db\"",
            text: "a file that only snapring writes to, or a PostgreSQL database",
            more: "systemd sets $STATE_DIRECTORY; commands that you run also look in \
                   /var/lib/snapring. The password can come from $PGPASSWORD or ~/.pgpass, as \
                   with psql. A server on another machine must use TLS with a certificate that \
                   this machine trusts, unless the address has an `sslmode` (`?sslmode=require`) \
                   or $PGSSLMODE is set. Use a database for one configuration only. A change \
                   takes effect at the next start.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "url_file",
            form: Form::Words("an absolute path", shapes::PATH),
            absent: Absent::Means("none"),
            example: "\"/etc/snapring/store.url\"",
            text: "instead of `url`: a file that contains only the address",
            more: "Use it for an address with a password. Let only root read the file: the \
                   packaged service gets a copy. Set `url` or `url_file`, not both.",
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
            form: Form::Words("\"auto\", \"journald\", \"json\" or \"text\"", shapes::LOG_FORMAT),
            absent: Absent::Value("\"auto\""),
            example: "\"auto\"",
            text: "journald under systemd, text on a terminal, otherwise json",
            more: "Commands other than `run` write sentences instead of text and json, unless you set one of the \
                   three.",
            ..KEY
        },
        KeyReference {
            name: "level",
            form: Form::Words("a level, or a filter of levels by target", shapes::TEXT),
            absent: Absent::Value("\"info\""),
            example: "\"info\"",
            text: "$SNAPRING_LOG overrides it; a filter like \"warn,snapring=debug\" works too",
            more: "The levels are error, warn, info, debug, trace and off. Changes of [log] take \
                   effect at the next start.",
            ..KEY
        },
        KeyReference {
            name: "calls",
            form: Form::Words("true or false", shapes::FLAG),
            absent: Absent::Value("true"),
            example: "false",
            text: "true: log successful API calls at level info; false: at level debug",
            more: "Calls that fail are logged as warnings either way, and each rotation has its line. Use \
                   `false` for thousands of servers.",
            off: true,
            ..KEY
        },
    ],
};

/// `[[notify]]`.
pub(crate) const NOTIFY: Section = Section {
    header: "[[notify]]",
    text: "A webhook that gets a notice when servers start to fail and when they recover; repeat \
           the table for each one. `snapring notify-test` sends a test to each.",
    keys: &[
        KeyReference {
            name: "url",
            form: Form::Words("an https or http address", shapes::WEBHOOK),
            absent: Absent::Means("the address in `url_file`"),
            example: "\"https://hooks.example/snapring\"",
            text: "where to POST notices",
            more: "The address is a secret: everyone who knows it can write there. snapring \
                   shows only the host, but everyone who can read the configuration can read the \
                   address.",
            ..KEY
        },
        KeyReference {
            name: "url_file",
            form: Form::Words("an absolute path", shapes::PATH),
            absent: Absent::Means("none"),
            example: "\"/etc/snapring/hook.url\"",
            text: "instead of `url`: a file that contains only the address",
            more: "Let only root read the file: the packaged service gets a copy at each start \
                   and each reload. Set `url` or `url_file`, not both.",
            off: true,
            ..KEY
        },
        KeyReference {
            name: "format",
            form: Form::Words(
                "\"json\", \"ntfy\", \"healthchecks\" or \"slack\"",
                shapes::NOTICE_FORMAT,
            ),
            absent: Absent::Means("by host, else \"json\""),
            example: "\"json\"",
            text: "also \"ntfy\", \"healthchecks\", \"slack\"",
            more: "Recognised by host: hc-ping.com, healthchecks.io, ntfy.sh, hooks.slack.com, \
                   and discord.com for addresses that end in /slack. A check of healthchecks \
                   covers the whole fleet: it is up while no server fails.",
            ..KEY
        },
        KeyReference {
            name: "on",
            form: Form::Words(
                "a list of \"failure\", \"recovery\" and \"success\"",
                shapes::EVENTS,
            ),
            absent: Absent::Means("failure and recovery; healthchecks: all"),
            example: "[\"failure\", \"recovery\"]",
            text: "also \"success\"",
            more: "A success is sent for each rotation \
                   that succeeds. A failure is sent when it begins, not at each tick.",
            ..KEY
        },
        KeyReference {
            name: "remind",
            form: Form::Words("a span of time, 1m or more; 0s: never", shapes::SPAN),
            absent: Absent::Value("\"24h\""),
            example: "\"24h\"",
            text: "how often to repeat a notice while trouble continues",
            more: "Reminders go only to targets with \"failure\" in `on`, about failures that \
                   were sent to them.",
            ..KEY
        },
        KeyReference {
            name: "instance",
            form: Form::Words("1 to 64 characters", shapes::INSTANCE),
            absent: Absent::Means("the host name"),
            example: "\"backup-1\"",
            text: "the name of this machine in notices",
            more: "It is in each title and document. Set it in a container: its host name says \
                   little.",
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

/// The names of the keys that are allowed in `[defaults]`.
#[must_use]
pub(crate) fn shared_names() -> Vec<&'static str> {
    SERVER.keys.iter().filter(|key| key.shared).map(|key| key.name).collect()
}

/// A value that a key may have, as TOML; its table as it is written, like `[api]`.
#[must_use]
pub(crate) fn example_of(header: &str, name: &str) -> Option<&'static str> {
    let header = if header == "[defaults]" { SERVER.header } else { header };
    let sections = [&API, &ACCOUNT, &SERVER, &HOOKS, &HTTP, &STORE, &LOG, &NOTIFY];
    let section = sections.into_iter().find(|section| section.header == header)?;
    let key = section.keys.iter().find(|key| key.name == name)?;
    Some(key.example).filter(|example| !example.is_empty())
}

#[cfg(test)]
mod tests;
