//! The text of a configuration for servers that have none yet.

use std::fmt::Write;

use crate::coverage::AccountServer;
use crate::discovery::Lookalikes;
use crate::naming::Prefix;
use crate::readable;
use crate::server::CAP;

/// What a policy is unless it says otherwise. `keep` leaves one of the five slots free.
const POLICY: &str = "\
schedule = \"0 3 * * *\"      # every night at three; `man snapring.toml` shows how to write others
timezone = \"Etc/UTC\"        # your own, like \"Europe/Berlin\"
keep = { last = 2, daily = 1, weekly = 1 }   # four of the five slots; `snapring simulate` shows how far back
";

/// The prefix of a server that names none.
const PREFIX: &str = "snapring";

/// A server that is to get a policy.
pub(crate) struct NewServer<'a> {
    /// What the provider says of it.
    pub(crate) server: &'a AccountServer,
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Whose its snapshots look like, if they could be listed.
    pub(crate) snapshots: Option<&'a Lookalikes>,
}

/// What stands around the servers.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    /// A configuration of its own.
    Whole,
    /// For a configuration whose `[defaults]` say enough.
    Servers,
    /// For any other configuration: with a group of this name.
    Group(&'a str),
}

/// A configuration with these servers, or a part of one.
pub(crate) fn text(servers: &[NewServer<'_>], form: Form<'_>) -> String {
    let mut text = format!(
        "# Written by `snapring discover`: {} of the account that had no policy.\n\
         # Change it as you like. Then look at it with `snapring check`, `snapring simulate` and `snapring plan`.\n\n",
        readable::servers(servers.len())
    );
    match form {
        Form::Whole => text.push_str(&format!(
            "# The token comes from systemd's credential `snapring-token`, else from $SNAPRING_TOKEN, unless it is \
             in a file:\n\
             #[api]\n\
             #token_file = \"/etc/snapring/token\"\n\n\
             # The status page, metrics and health probes:\n\
             #[http]\n\
             #listen = \"127.0.0.1:9187\"\n\n\
             # What the servers have in common. Each can have its own value for every key.\n\
             [defaults]\n{POLICY}"
        )),
        Form::Servers => {}
        Form::Group(name) => text.push_str(&format!(
            "# What the servers below have in common. Each can have its own value for every key.\n\
             [group.{name}]\n{POLICY}"
        )),
    }
    for server in servers {
        write_server(server, form, &mut text);
    }
    text
}

fn write_server(new: &NewServer<'_>, form: Form<'_>, text: &mut String) {
    let NewServer { server, name, snapshots } = new;
    let words = [&server.status, &server.location].into_iter().flatten();
    let words: Vec<String> = words.map(ToString::to_string).filter(|it| !it.is_empty()).collect();
    let mut said = if words.is_empty() { Vec::new() } else { vec![words.join(", ")] };
    let known = server.name.to_string();
    if known != *name && !known.is_empty() {
        said.insert(0, format!("at the provider: {known}"));
    }
    if let Some(snapshots) = snapshots {
        said.push(format!("snapshots: {snapshots}"));
    }
    let mut lines = vec![String::new()];
    if !said.is_empty() {
        lines.push(format!("# {}", said.join("; ")));
    }
    let others = snapshots.map_or(0, |it| it.count - it.of_prefix(PREFIX));
    let keep = keep_beside(others).filter(|_| !matches!(form, Form::Servers));
    if snapshots.is_some_and(|it| it.of_prefix(PREFIX) > 0) {
        lines.push(format!(
            "# This policy manages the snapshots named {PREFIX}-…: it counts them, and deletes old ones. If another\n\
             # snapring rotates this server, remove this table, or give the server another `prefix`."
        ));
    }
    if others > 0 {
        lines.push(match keep_beside(others) {
            Some(_) => format!(
                "# {others} of its {CAP} slots hold other snapshots. They are never deleted, so less is kept."
            ),
            None => format!(
                "# {others} of its {CAP} slots hold other snapshots. They are never deleted, so its rotations will be\n\
                 # blocked until you delete some."
            ),
        });
    }
    lines.push("[[server]]".to_owned());
    lines.push(format!("id = {}", server.id));
    lines.push(format!("name = {}", quoted(name)));
    if let Some(account) = server.id.account.label() {
        lines.push(format!("account = {}", quoted(account)));
    }
    if let Form::Group(group) = form {
        lines.push(format!("group = {}", quoted(group)));
    }
    lines.extend(keep.filter(|keep| !keep.is_empty()).map(|keep| format!("keep = {keep}")));
    let adoptable = snapshots.iter().flat_map(|it| it.like_snapring.keys());
    let adoptable: Vec<String> =
        adoptable.map(Prefix::as_str).filter(|it| *it != PREFIX).map(quoted).collect();
    if !adoptable.is_empty() {
        lines.push(format!(
            "#adopt_prefix = [{}]   # if these snapshots are from an earlier `prefix` of this server",
            adoptable.join(", ")
        ));
    }
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
}

/// What `keep` may ask for beside this many other snapshots, with one slot left free. Empty: as much as
/// everywhere. `None`: nothing fits.
fn keep_beside(others: usize) -> Option<&'static str> {
    let cap = usize::try_from(CAP).unwrap_or(usize::MAX);
    match cap.saturating_sub(others) {
        0 | 1 => None,
        2 => Some("1"),
        3 => Some("2"),
        4 => Some("{ last = 2, weekly = 1 }"),
        _ => Some(""),
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            it if it.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(it));
            }
            it => quoted.push(it),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::discovery::NewNames;
    use crate::naming::ServerId;

    /// What an account of such servers comes to: the text, and the names in it.
    fn written(servers: &[(&str, &[&str])], form: Form<'_>) -> (String, Vec<String>) {
        let found: Vec<(AccountServer, Lookalikes)> = (101..)
            .zip(servers)
            .map(|(id, (name, snapshots))| {
                let mut looks = Lookalikes::default();
                snapshots.iter().for_each(|name| looks.add(&(*name).into()));
                let server = AccountServer {
                    id: ServerId::new(id),
                    name: (*name).into(),
                    status: Some("active\n[evil]".into()),
                    location: Some("us-\u{1b}west".into()),
                };
                (server, looks)
            })
            .collect();
        let mut names = NewNames::default();
        let new: Vec<NewServer<'_>> = found
            .iter()
            .map(|(server, looks)| NewServer {
                server,
                name: names.name(server.id, &server.name),
                snapshots: Some(looks),
            })
            .collect();
        let names = new.iter().map(|it| it.name.clone()).collect();
        (text(&new, form), names)
    }

    const OWN: &str = "snapring-20261123T030000Z";
    const OTHER: &str = "nightly-20261123T030000Z";

    #[test]
    fn whatever_the_provider_calls_its_servers_the_text_is_a_good_configuration() {
        let servers: &[(&str, &[&str])] = &[
            ("web-01", &[]),
            ("say \"hi\\\" # no\n[api]", &[OWN]),
            ("web-01", &["by-hand"]),
            ("", &["by-hand", OTHER]),
            ("12345", &["a", "b", "c"]),
            ("db", &["a", "b", "c", OTHER]),
            ("full", &["a", "b", "c", "d", "e", "f"]),
        ];
        let (text, names) = written(servers, Form::Whole);
        let loaded = config::parse("new.toml", &text).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let read: Vec<String> =
            loaded.settings.servers.iter().map(|server| server.name.clone()).collect();
        assert_eq!(read, names);
        let totals: Vec<u32> =
            loaded.settings.servers.iter().map(|server| server.policy.keep.total()).collect();
        // One slot stays free beside the snapshots of others; where none fits, the policy is as everywhere.
        assert_eq!(totals, [4, 4, 3, 2, 1, 4, 4], "{text}");
        assert!(text.contains("#adopt_prefix = [\"nightly\"]"), "{text}");
        assert_eq!(text.matches("will be\n# blocked until you delete some").count(), 2, "{text}");
        assert_eq!(text.matches("manages the snapshots named snapring-…").count(), 1, "{text}");
    }

    #[test]
    fn a_part_for_another_configuration_has_servers_and_at_most_a_group() {
        let (servers, _) = written(&[("web-01", &["by-hand"])], Form::Servers);
        assert!(!servers.contains("\n[defaults]") && !servers.contains("keep ="), "{servers}");
        let main = format!("[defaults]\nschedule = \"0 3 * * *\"\nkeep = 3\n{servers}");
        assert_eq!(config::parse("x", &main).unwrap().settings.servers.len(), 1);
        assert!(config::parse("x", &servers).is_err(), "there is no schedule");
        let (group, _) = written(&[("web-01", &[])], Form::Group("discovered"));
        let loaded = config::parse("x", &group).unwrap();
        assert_eq!(loaded.settings.servers[0].policy.keep.total(), 4);
    }
}
