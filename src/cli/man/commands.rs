//! snapring(1), and a page for each command, from the definitions that also make `--help`.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::Roff;

use crate::cli::man::page::{MANUAL, ManPage, date, meanings, section, see_also, source, whole};
use crate::cli::{Cli, EXAMPLES, EXIT_CODES};

const ENVIRONMENT: &[(&str, &str)] = &[
    ("SNAPRING_CONFIG", "The configuration file, where `--config` does not say."),
    (
        "SNAPRING_TOKEN",
        "The API token, where neither `token_file` nor systemd's credential snapring-token gives one.",
    ),
    ("SNAPRING_LOG", "A level, or a filter like warn,snapring=debug; overrides `level` in [log]."),
    (
        "PGPASSWORD, PGPASSFILE",
        "As for psql, where `url` in [store] names a PostgreSQL database without a password.",
    ),
    ("NO_COLOR", "When it is set and not empty, nothing is coloured."),
    (
        "CREDENTIALS_DIRECTORY, STATE_DIRECTORY",
        "Set by systemd: where the credential snapring-token and the state are.",
    ),
    (
        "HTTPS_PROXY, NO_PROXY",
        "A proxy for the way to the provider and to what [[notify]] names, and what is reached without it.",
    ),
];

const FILES: &[(&str, &str)] = &[
    ("/etc/snapring/config.toml", "The configuration; see snapring.toml(5)."),
    (
        "/etc/snapring/token",
        "The API token, readable by root only; the unit hands it over as a credential.",
    ),
    (
        "/var/lib/snapring",
        "What the service keeps: snapring.db, the history. The provider's listing is the truth; losing \
         this loses no safety. A damaged snapring.db is put aside there as snapring.db.damaged-<time>.",
    ),
];

/// The page of the command itself, then one for each of its commands.
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
        // Lines that belong together are written below each other.
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
