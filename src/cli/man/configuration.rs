//! snapring.toml(5), from the configuration's own reference.

use clap_mangen::roff::{Roff, bold};

use crate::cli::man::page::{
    MANUAL, ManPage, date, inlines, meanings, section, see_also, source, whole,
};
use crate::config::reference::{
    ACCOUNT, API, Absent, DEFAULTS, GROUP, HOOKS, HTTP, LOG, NOTIFY, ROOT, SERVER, STORE, Section,
    sentence,
};
use crate::paths::CONFIGURATION;

const DESCRIPTION: &str = "\
snapring reads one TOML file: the one given by `--config`, else the one in the variable
`SNAPRING_CONFIG`, else the one above. After a change, run `systemctl reload snapring`. If something is
wrong, it says so, and the daemon keeps the old configuration. SIGHUP alone also makes the daemon
reload, but does not renew the service's copy of the file.

If a user may not read the file, snapring reads a copy instead: the one that root makes for the packaged
service (in the directory `SNAPRING_HANDED_OVER`), else systemd's credential with that name
(`$CREDENTIALS_DIRECTORY/config.toml`). The same applies to the files in `url_file`.

Unknown keys are errors. `snapring check` reports all mistakes at once, each with its place and a
hint.

The smallest configuration:

  [[server]]
  id = 12345
  schedule = \"0 3 * * *\"
  keep = 4";

const SPANS: &str = "\
A span of time is a number with a unit, or several of these: \"90s\", \"10m\", \"1h 30m\", \"2d\".";

const SCHEDULES: &str = "\
A schedule is a cron expression: minute (0-59), hour (0-23), day of the month (1-31), month
(1-12 or jan-dec), day of the week (0-7 or sun-sat); or the same with seconds first. A
field is a `*`, a value, a range `1-5`, either with a step `*/10`, or a list `1,15`. `L` is the
last day of the month, `fri#2` the second Friday. If both day of the month and day of the week are
given, either is enough, as in cron(8). A step starts again with each hour, day or month, so there is
no expression for every 90 minutes. `snapring check` shows each schedule in words.

A server with several schedules has the ticks of all of them.

Ticks are computed in the server's time zone. When clocks go forward, a skipped tick runs right after
the gap. When they go back, a tick that occurs twice runs once, unless the schedule runs at intervals,
such as every hour.";

const RETENTION: &str = "\
`keep` counts slots: `keep = { last = 2, daily = 1, weekly = 1 }` keeps four snapshots. `keep = N` is
short for `keep = { last = N }`.

The rules apply in this order: `last`, `hourly`, `daily`, `weekly` (ISO weeks), `monthly`, `yearly`.
`last = N` keeps the N newest snapshots. Each further rule goes through its periods, in the server's
time zone, from the newest to the oldest. It keeps the newest snapshot of a period, unless an earlier
rule already keeps that one; then it continues with the next period, until it has kept N. A rule that
runs out of periods also keeps the oldest snapshot, so a new ring grows to its full reach. This
is what `borg prune` does with the same numbers.

Only completed snapshots count. The current time does not matter: nothing is deleted because of its age,
even after a pause of months.

The numbers of `keep` and `reserve` together must fit into `cap`. If they fill it, the oldest snapshot
is deleted before each new one is created; with one slot less, it is deleted afterwards.

`snapring simulate` shows what a policy keeps over weeks and how far back it reaches. `snapring plan`
shows what the next rotation creates and deletes, and why each snapshot is kept or deleted.";

const FILES: &[(&str, &str)] = &[
    ("/usr/share/doc/snapring/examples/config.toml", "Every key, with a value and a comment."),
    (
        "/usr/share/snapring/config.schema.json",
        "A JSON Schema for editors. The first line of the example refers to it.",
    ),
];

/// The page.
pub(super) fn page() -> ManPage {
    let mut roff = Roff::new();
    roff.control("TH", ["SNAPRING.TOML", "5", &date(), &source(), MANUAL]);
    section(&mut roff, "NAME", "snapring.toml - configuration of snapring(1)");
    section(&mut roff, "SYNOPSIS", CONFIGURATION);
    section(&mut roff, "DESCRIPTION", DESCRIPTION);
    table(&mut roff, &ROOT);
    table(&mut roff, &API);
    table(&mut roff, &ACCOUNT);
    section(&mut roff, "[defaults]", DEFAULTS);
    section(&mut roff, "[group.NAME]", GROUP);
    for described in [&SERVER, &HOOKS, &HTTP, &STORE, &LOG, &NOTIFY] {
        table(&mut roff, described);
    }
    section(&mut roff, "SPANS OF TIME", SPANS);
    section(&mut roff, "SCHEDULES", SCHEDULES);
    section(&mut roff, "RETENTION", RETENTION);
    meanings(&mut roff, "FILES", FILES.iter().copied());
    see_also(
        &mut roff,
        &[
            ("snapring", "1"),
            ("snapring-check", "1"),
            ("snapring-plan", "1"),
            ("snapring-simulate", "1"),
        ],
    );
    ManPage { name: "snapring.toml".to_owned(), section: "5", text: whole(&roff.to_roff()) }
}

fn table(roff: &mut Roff, described: &Section) {
    section(roff, described.header, described.text);
    for key in described.keys {
        let absent = match key.absent {
            Absent::Refused if key.shared => {
                "required, here, in the group or in [defaults]".to_owned()
            }
            Absent::Refused => "required".to_owned(),
            other => other.words(),
        };
        roff.control("TP", []);
        let mut head = vec![bold(key.name)];
        head.extend(inlines(&format!(" ({}; {absent})", key.form.words())));
        roff.text(head);
        roff.text(inlines(format!("{} {}", sentence(key.text), key.more).trim_end()));
    }
}
