//! snapring(1), and a page for each command, from the definitions that also make `--help`.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::Roff;

use crate::cli::man::page::{MANUAL, ManPage, date, meanings, section, see_also, source, whole};
use crate::cli::{Cli, EXAMPLES, EXIT_CODES};

const ENVIRONMENT: &[(&str, &str)] = &[
    ("SNAPRING_CONFIG", "The configuration file, if there is no `--config`."),
    (
        "SNAPRING_TOKEN",
        "The API token, if there is neither `token_file` nor systemd's credential snapring-token.",
    ),
    ("SNAPRING_LOG", "A level, or a filter like warn,snapring=debug. Overrides `level` in [log]."),
    (
        "PGPASSWORD, PGPASSFILE",
        "As for psql, if the PostgreSQL address in [store] has no password.",
    ),
    ("NO_COLOR", "If it is set and not empty, there are no colours."),
    (
        "CREDENTIALS_DIRECTORY, STATE_DIRECTORY",
        "Set by systemd: the directories of the credential snapring-token and of the state.",
    ),
    (
        "HTTPS_PROXY, NO_PROXY",
        "A proxy for calls to the provider and to webhooks, and the hosts that are reached without it.",
    ),
];

const TERMS: &[(&str, &str)] = &[
    ("tick", "A scheduled time of a server. The name of a snapshot contains its tick, in UTC."),
    (
        "rotation",
        "What happens for one server at one tick: list, make room, create, wait until the snapshot is \
         completed, and delete what `keep` no longer keeps.",
    ),
    (
        "managed",
        "A snapshot whose whole name is a prefix of the server, a hyphen and a tick. Only these are \
         deleted by rotations.",
    ),
    ("foreign", "Any other snapshot. It is counted, but no rotation deletes it."),
    ("pinned", "A snapshot whose id is listed in `pin`. It is counted, but never deleted."),
    ("slot", "A place for one snapshot. The provider limits how many a server has (`cap`)."),
    ("listing", "The provider's complete answer to which snapshots a server has."),
];

const FILES: &[(&str, &str)] = &[
    ("/etc/snapring/config.toml", "The configuration; see snapring.toml(5)."),
    (
        "/etc/snapring/token",
        "The API token, readable only by root. The unit passes it to the service as a credential.",
    ),
    (
        "/var/lib/snapring",
        "The state of the service (a link to /var/lib/private/snapring): the history (snapring.db), locks, and records of creates that may \
         still arrive. Rotations do not depend on the history. A damaged snapring.db is renamed to \
         snapring.db.damaged-<time>.",
    ),
];

/// The page of snapring itself, then one for each command.
pub(super) fn pages() -> Vec<ManPage> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    let mut pages = vec![overview(&whole)];
    pages.extend(whole.get_subcommands().filter(|it| !it.is_hide_set()).map(one));
    pages
}

fn man(command: &Command) -> Man {
    let man = Man::new(command.clone());
    let title = command.get_display_name().unwrap_or(command.get_name()).to_uppercase();
    man.title(title).date(date()).source(source()).manual(MANUAL)
}

fn overview(command: &Command) -> ManPage {
    let man = man(command);
    let text = rendered(|out| {
        man.render_title(out)?;
        man.render_name_section(out)?;
        man.render_synopsis_section(out)?;
        man.render_description_section(out)?;
        man.render_subcommands_section(out)?;
        man.render_options_section(out)
    });
    let mut roff = Roff::new();
    let codes: Vec<_> = EXIT_CODES.iter().map(|(code, text)| (code.to_string(), *text)).collect();
    meanings(&mut roff, "TERMS", TERMS.iter().copied());
    meanings(&mut roff, "EXIT STATUS", codes.iter().map(|(code, text)| (code.as_str(), *text)));
    meanings(&mut roff, "ENVIRONMENT", ENVIRONMENT.iter().copied());
    meanings(&mut roff, "FILES", FILES.iter().copied());
    meanings(&mut roff, "EXAMPLES", EXAMPLES.iter().copied());
    see_also(&mut roff, &[("snapring.toml", "5"), ("systemd.service", "5"), ("journalctl", "1")]);
    ManPage { name: "snapring".to_owned(), section: "1", text: whole(&(text + &roff.to_roff())) }
}

fn one(command: &Command) -> ManPage {
    let man = man(command);
    let name = format!("snapring-{}", command.get_name());
    let text = rendered(|out| {
        man.render_title(out)?;
        man.render_name_section(out)?;
        man.render_synopsis_section(out)?;
        man.render_description_section(out)?;
        man.render_options_section(out)
    });
    let mut roff = Roff::new();
    if let Some(more) = command.get_after_long_help() {
        // Keep the line breaks.
        let as_written = more
            .to_string()
            .trim_end()
            .lines()
            .map(|line| format!("  {line}"))
            .collect::<Vec<_>>()
            .join("\n");
        section(&mut roff, "NOTES", &as_written);
    }
    see_also(&mut roff, &[("snapring", "1"), ("snapring.toml", "5")]);
    ManPage { name, section: "1", text: whole(&(text + &roff.to_roff())) }
}

fn rendered(render: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    // Writing into memory does not fail.
    let _ = render(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}
