//! What a person sees of a configuration: mistakes, warnings, defaults.

mod accounts;
mod many_files;

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::naming::SnapshotId;
use crate::policy::Keep;

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// A good server, to which a case adds a line.
const GOOD: &str = "[[server]]\nid = 1\nschedule = \"0 3 * * *\"\nkeep = 4\n";

fn shown(text: &str) -> String {
    match parse("config.toml", text) {
        Err(error) => error.render(false),
        Ok(loaded) => loaded.warnings.iter().map(|it| it.render(false) + "\n").collect(),
    }
}

#[test]
fn mistakes_are_pointed_at_and_explained() {
    let cases = [
        ("an unknown key", format!("{GOOD}scheduel = \"0 3 * * *\"")),
        ("an unknown table", format!("{GOOD}[http]\nlisten = \"127.0.0.1:9187\"")),
        ("a key of another table", format!("[api]\nkeep = 3\n{GOOD}")),
        ("not TOML, twice", "[api\nretries = = 3\n".to_owned()),
        (
            "three commas missing, and one key unknown",
            "[[server]]\nid = 1\nschedule = [\"0 3 * * *\" \"0 4 * * *\"]\nkeep = { last = 2 daily = 1, \
                 weekly = 1 }\n\
             pin = [801 802, 803]\nnmae = \"web\"\n"
                .to_owned(),
        ),
        ("what is missing may be what is broken", "[defaults]\nschedule \"0 3 * * *\"\nkeep = \
             3\n[[server]]\nid = 1\n".to_owned()),
        ("a list that is not closed", format!("{GOOD}pin = [1, 2\ncap = 5\n[[server]]\nid = \n")),
        ("a token in the file", format!("[api]\ntoken = \"vps_secret123\"\n{GOOD}")),
        (
            "a token given twice",
            format!("[api]\ntoken = \"secret123\"\ntoken = \"secret1234\"\n{GOOD}"),
        ),
        ("a token in a table", format!("[api.token]\nvalue = \"secret123\"\n{GOOD}")),
        ("a token where its file's path belongs", format!("[api]\ntoken_file = \"secret123\"\n{GOOD}")),
        ("token_file misspelt", format!("[api]\ntoken_fil = \"/etc/token\"\n{GOOD}")),
        ("a token in an odd place", format!("{GOOD}name = \"vps_secret123 \\n\"")),
        (
            "a password in the address",
            format!("[api]\nbase_url = \"https://me:hunter2@x.org/\"\n{GOOD}"),
        ),
        (
            "a secret in the address's query",
            format!("[api]\nbase_url = \"https://x.org/?token=secret123\"\n{GOOD}"),
        ),
        (
            "a password in a list",
            format!("[api]\nbase_url = [\"https://me:hunter2@x.org/\"]\n{GOOD}"),
        ),
        ("a webhook without an address", format!("{GOOD}[[notify]]\non = [\"failure\"]")),
        (
            "a webhook's address that is none",
            format!("{GOOD}[[notify]]\nurl = \"hooks.example/services/hunter2\"\nformat = \"Slack\""),
        ),
        (
            "a webhook's address under another name, and in a wrong place",
            format!(
                "{GOOD}[[notify]]\nuri = \"https://hooks.example/services/hunter2\"\n\
                 format = \"https://hooks.example/services/hunter2\"\non = [\"hunter2\", \"failed\"]"
            )
            .replace("[\"hunter2\"", "[\"https://hooks.example/hunter2\""),
        ),
        (
            "a webhook twice, and told of nothing",
            format!(
                "{GOOD}[[notify]]\nurl = \"https://hooks.example/hunter2\"\n[[notify]]\n\
                 url = \"https://hooks.example/hunter2\"\n[[notify]]\n\
                 url = 'ftp://hooks.example/hunter2'\non = []"
            ),
        ),
        (
            "a webhook's address where the text is not TOML",
            format!("{GOOD}[[notify]]\nurl = \"https://hooks.example/services/hunter2\n"),
        ),
        (
            "a check that hears of no success",
            format!(
                "{GOOD}[[notify]]\nurl = \"https://hooks.example/hunter2\"\n\
                 format = \"healthchecks\"\non = [\"failure\"]"
            ),
        ),
        (
            "a webhook that is reminded all the time, and a name that cannot be shown",
            format!(
                "{GOOD}[[notify]]\nurl = \"https://hooks.example/hunter2\"\nformat = \"json\"\n\
                 remind = \"5s\"\ninstance = \"a\\u001bb\"\n[[notify]]\n\
                 url = \"https://hooks.example/hunter3\"\nformat = \"json\"\nremind = 24\ninstance = \"\""
            ),
        ),
        (
            "an address in a file that is none, and one beside a file",
            format!(
                "[store]\nurl_file = \"hunter2\"\n{GOOD}[[notify]]\n\
                 url = \"https://hooks.example/hunter2\"\nurl_file = \"/etc/snapring/hook.url\""
            ),
        ),
        (
            "http to the world",
            format!("[api]\nbase_url = \"http://admin.vps.org/api/v1/\"\n{GOOD}"),
        ),
        ("a relative token file", format!("[api]\ntoken_file = \"token\"\n{GOOD}")),
        ("a span without a unit", format!("[api]\ntimeout = 30\nsettle = \"20\"\n{GOOD}")),
        ("a span out of range", format!("[api]\ntimeout = \"1h\"\n{GOOD}")),
        ("minutes written as months", format!("{GOOD}jitter = \"1M\"")),
        ("a ceiling that leaves no time", format!("[api]\nrequests_per_minute = 1\n{GOOD}")),
        ("no server", "[api]\nretries = 3\n".to_owned()),
        ("a server without anything", "[[server]]\n".to_owned()),
        ("thirty February", "[[server]]\nid = 1\nkeep = 1\nschedule = \"0 0 30 2 *\"".to_owned()),
        ("four fields", "[[server]]\nid = 1\nkeep = 1\nschedule = \"0 3 * *\"".to_owned()),
        ("a word of other crons", "[[server]]\nid = 1\nkeep = 1\nschedule = \"@daily\"".to_owned()),
        ("hour twenty-five, in a list", "[[server]]\nid = 1\nkeep = 1\nschedule = \"0 3,25 * * \
             *\"".to_owned()),
        ("a step beyond its field", "[[server]]\nid = 1\nkeep = 4\nschedule = [\"*/90 * * * *\", \"0 */36 \
             * * *\", \"0 0 */40 * *\"]\n".to_owned()),
        ("a star too many", "[[server]]\nid = 1\nkeep = 4\nschedule = \"0 3 * * * *\"\n".to_owned()),
        ("an unheard-of month", "[[server]]\nid = 1\nkeep = 1\nschedule = \"0 3 * foo *\"".to_owned()),
        ("texts without quotes", "[[server]]\nid = 1\nkeep = 1\nschedule = 0 3 * * *\ntimezone = \
             Europe/Berlin\n[log]\nlevel = info\n[x]\ny = z".to_owned()),
        ("numbers in quotes", GOOD.replace("id = 1", "id = \"101\"\npin = [\"801\"]\ncap = \"x\"")),
        ("a table misspelt", GOOD.replace("[[server]]", "[[servers]]")),
        ("more than VPS.org gives", format!("{GOOD}cap = 6")),
        ("what another provider may give", format!("[api]\nbase_url = \"https://x.org/\"\n{GOOD}cap = 6")),
        ("minute sixty", "[[server]]\nid = 1\nkeep = 1\nschedule = \"60 3 * * *\"".to_owned()),
        (
            "a zone's mistake hides no other",
            "[[server]]\nid = 1\ntimezone = \"X/Y\"\nschedule = \"60 * * * *\"\nkeep = 9".to_owned(),
        ),
        ("a zone that differs by machine", format!("{GOOD}timezone = \"localtime\"")),
        ("an unknown zone", format!("{GOOD}timezone = \"Europe/Berln\"")),
        (
            "keep of nothing",
            "[[server]]\nid = 1\nschedule = \"0 3 * * *\"\nkeep = { last = 0 }".to_owned(),
        ),
        (
            "an unknown rule",
            "[[server]]\nid = 1\nschedule = \"0 3 * * *\"\nkeep = { dayly = 3 }".to_owned(),
        ),
        ("a number that cannot be kept", format!("{}{}", GOOD.replace("keep = 4", "keep = 0"),
            GOOD.replace("id = 1", "id = 2").replace("keep = 4", "keep = { last = 2000 }"))),
        ("more than the cap", format!("{GOOD}reserve = 2")),
        (
            "a server's own cap below the default keep",
            "[defaults]\nkeep = 4\nschedule = \"0 3 * * *\"\n[[server]]\nid = 1\n[[server]]\nid = 2\ncap = 3"
                .to_owned(),
        ),
        ("all of the cap", format!("{GOOD}reserve = 1")),
        ("a prefix with a space", format!("{GOOD}prefix = \"my ring\"")),
        ("an adopted prefix that is none", format!("{GOOD}adopt_prefix = [\"old\", \"9 lives\"]")),
        ("an adopted prefix twice", format!("{GOOD}adopt_prefix = [\"old\", \"older\", \"old\"]")),
        ("the own prefix adopted", format!("{GOOD}adopt_prefix = [\"snapring\"]")),
        (
            "the own prefix of some servers adopted by [defaults], told once",
            format!(
                "[defaults]\nprefix = \"new\"\nadopt_prefix = [\"old\", \"new\"]\n{GOOD}{}",
                GOOD.replace("id = 1", "id = 2")
            ),
        ),
        ("adopted prefixes that are no list", format!("{GOOD}adopt_prefix = \"old\"")),
        ("adopted prefixes that are no texts", format!("{GOOD}adopt_prefix = [1]")),
        (
            "a schedule tighter than min_interval",
            "[[server]]\nid = 1\nkeep = 1\nschedule = \"*/5 * * * *\"".to_owned(),
        ),
        (
            "jitter longer than the distance of ticks",
            "[[server]]\nid = 1\nkeep = 1\nschedule = \"0 * * * *\"\njitter = \"2h\"".to_owned(),
        ),
        ("one id twice", format!("{GOOD}name = \"web\"\n{GOOD}name = \"db\"")),
        (
            "one name twice",
            format!("{GOOD}name = \"web\"\n{}name = \"web\"", GOOD.replace("id = 1", "id = 2")),
        ),
        ("a name that is a number", format!("{GOOD}name = \"17\"")),
        ("a name of nothing", format!("{GOOD}name = \" \"")),
        ("a key with control characters", format!("{GOOD}\"\\u001b[31mred\\n\" = 1")),
        ("a hook in one string", format!("{GOOD}hooks = {{ before = \"quiesce web\" }}")),
        ("a pin that is a name", format!("{GOOD}pin = [\"weekly\"]")),
        ("an unknown log format", format!("{GOOD}[log]\nformat = \"jornald\"\nlevel = \"=\"")),
        ("a level that is none", format!("{GOOD}[log]\nlevel = \"verbose\"")),
        (
            "a default's mistake, told once",
            format!("[defaults]\njitter = \"often\"\n{GOOD}{}", GOOD.replace("id = 1", "id = 2")),
        ),
    ];
    let all: String = cases
        .iter()
        .map(|(what, text)| format!("## {what}\n{}\n", shown(text).trim_end()))
        .collect();
    assert!(!all.contains("secret123") && !all.contains("hunter2"));
    insta::assert_snapshot!(all);
}

/// What is not in the rendered text must not be in the other forms either.
#[test]
fn a_secret_is_in_no_form_of_a_mistake() {
    let torn = [
        "token = \"hunter2",
        "token = hunter2 x",
        "api = { token = \"hunter2\" ",
        "api.token.x = \"hunter2\"",
    ];
    let webhooks = [
        "[[notify]]\nurl = \"https://hooks.example/hunter2",
        "[[notify]]\nurl = https://hooks.example/hunter2",
        "[[notify]]\nurl = [\"https://hooks.example/hunter2\"]",
        "notify = { url = \"https://hooks.example/hunter2\" }",
        "notify = \"https://hooks.example/hunter2\"",
        "webhook = \"HTTPS://hooks.example/hunter2\"",
        "[[notify]]\nformat = \"hooks.example/services/hunter2\"",
        "[[notify]]\nurl = \"https:\\u002f\\u002fhooks.example/hunter2\"\non = []",
    ];
    let keys = ["secret", "password", "api_key", "\"token\"", "TOKEN"];
    let twice = keys.map(|key| format!("{key} = 1\n{key} = \"hunter2\""));
    for text in torn.into_iter().chain(webhooks).map(str::to_owned).chain(twice) {
        let error = parse("config.toml", &format!("{text}\n{GOOD}")).unwrap_err();
        let all = format!("{}{:?}{error}{error:?}", error.render(true), error.to_json());
        assert!(!all.contains("hunter2"), "{text}\n{}", error.render(false));
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text =
        "[api]\nretries = 99\n[[server]]\nid = 0\nkeep = 9\nschedule = \"x\"\n[log]\nlevle = 1";
    let error = parse("config.toml", text).unwrap_err();
    let lines: Vec<String> =
        error.to_json().iter().map(|problem| problem["line"].to_string()).collect();
    assert_eq!(lines, ["2", "4", "5", "6", "8"]);
    let line = error.to_string();
    assert!(
        line.starts_with(
            "config.toml:2:11: `retries` must be a whole number from 0 to 20; config.toml:4:"
        ),
        "{line}"
    );
    assert!(line.ends_with("config.toml:8:1: unknown key `levle` in [log]"), "{line}");
}

/// What servers have from [defaults] they lack only because it is misspelt there.
#[test]
fn a_misspelt_default_is_one_mistake() {
    let text =
        "[defaults]\nkep = 3\nschedul = \"0 3 * * *\"\n[[server]]\nid = 1\n[[server]]\nid = 2\n";
    let told = parse("config.toml", text).unwrap_err().to_string();
    assert_eq!(
        told,
        "config.toml:2:1: unknown key `kep` in [defaults]; \
         config.toml:3:1: unknown key `schedul` in [defaults]"
    );
    let lacking = text.replace("kep = 3\n", "");
    let told = parse("config.toml", &lacking).unwrap_err().to_string();
    assert!(told.contains("server 1 has no `keep`") && told.contains("server 2 has"), "{told}");
}

#[test]
fn a_line_of_the_log_holds_twenty_mistakes_and_says_how_many_more_there_are() {
    let unknown: String = (0..500).map(|nth| format!("unknown_{nth} = 1\n")).collect();
    let line = parse("config.toml", &format!("{GOOD}{unknown}")).unwrap_err().to_string();
    assert!(line.ends_with("; and 480 more (`snapring check` shows them)"), "{line}");
    assert!(line.contains("unknown_19") && !line.contains("unknown_20"), "{line}");
}

#[test]
fn a_key_can_neither_forge_a_line_nor_control_a_terminal() {
    let text = format!("{GOOD}\"a\\nb\\u001b[31m\" = 1\n");
    let error = parse("config.toml", &text).unwrap_err();
    let line = error.to_string();
    assert_eq!(line, r"config.toml:5:1: unknown key `a\nb\u{1b}[31m` in [[server]]");
    assert_eq!(error.to_json()[0]["message"], r"unknown key `a\nb\u{1b}[31m` in [[server]]");
}

#[test]
fn a_value_that_croner_says_again_cannot_do_so_either() {
    let text = GOOD.replace("0 3 * * *", "0\\u0000\\u001b[31m 3 * * *");
    let error = parse("config.toml", &text).unwrap_err();
    let message = error.errors()[0].message();
    assert!(message.contains(r"\0\u{1b}[31m"), "{message:?}");
    assert!(!error.to_string().contains(char::is_control), "{error:?}");
}

#[test]
fn a_place_right_of_a_secret_that_is_not_ascii_is_told_as_an_editor_counts() {
    let line = r#"api = { token = "pässwört ∑ 🔑", retries = "x" }"#;
    let error = parse("config.toml", &format!("{line}\n{GOOD}")).unwrap_err();
    let found =
        error.to_json().into_iter().find(|it| it["message"].as_str().unwrap().contains("retries"));
    let before = &line[..line.find("\"x\"").unwrap()];
    assert_eq!(found.unwrap()["column"], before.chars().count() + 1);
    assert!(!error.render(false).contains("wört"));
}

#[test]
fn the_example_is_good_and_without_warnings() {
    let loaded =
        parse("config.example.toml", EXAMPLE).unwrap_or_else(|it| panic!("{}", it.render(false)));
    assert_eq!(
        loaded.warnings.iter().map(Problem::message).collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
    let [first, second] = loaded.settings.servers.as_slice() else { panic!("two servers") };
    assert_eq!((first.name.as_str(), first.policy.keep.last), ("server-12345", 4));
    assert_eq!(second.policy.keep, Keep { last: 1, daily: 1, weekly: 1, ..Keep::default() });
    assert_eq!(second.schedules.len(), 2);
    assert!(second.policy.pinned.contains(&SnapshotId(801)));
}

#[test]
fn what_is_not_said_has_the_documented_default() {
    let loaded = parse("config.toml", GOOD).unwrap();
    let api = &loaded.settings.api;
    assert_eq!(api.base_url.as_str(), "https://admin.vps.org/api/v1/");
    assert_eq!((api.max_in_flight.get(), api.requests_per_minute, api.retries), (8, 0, 4));
    assert_eq!((api.timeout.as_secs(), api.settle.as_secs()), (30, 20));
    let server = &loaded.settings.servers[0];
    assert_eq!((server.policy.cap, server.policy.reserve, server.enabled), (5, 0, true));
    assert_eq!(server.policy.prefix.as_str(), "snapring");
    assert_eq!(&*server.description, "rotated by snapring");
    assert_eq!(server.policy.min_interval, Duration::from_secs(600));
    assert_eq!(server.catch_up, Duration::from_secs(24 * 3600));
    assert_eq!(server.completion_timeout, Duration::from_secs(45 * 60));
    assert_eq!(server.jitter, Duration::ZERO);
}

#[test]
fn a_server_overrides_the_defaults_key_by_key() {
    let text = "[defaults]\nkeep = 2\njitter = \"5m\"\nschedule = \"0 3 * * *\"\nhooks = { before = \
         [\"a\"], after = [\"b\"] }\n\
                [[server]]\nid = 1\nkeep = 1\n[[server]]\nid = 2\nhooks = { after = [\"c\"] }\n";
    let servers = parse("config.toml", text).unwrap().settings.servers;
    assert_eq!((servers[0].policy.keep.last, servers[1].policy.keep.last), (1, 2));
    assert_eq!(servers[0].jitter, Duration::from_secs(300));
    assert_eq!(servers[0].hooks.as_ref().unwrap().before, ["a"]);
    assert_eq!(servers[1].hooks.as_ref().unwrap().before, Vec::<String>::new());
}

#[test]
fn adopted_prefixes_are_a_servers_own_list_or_the_defaults() {
    let text = format!(
        "[defaults]\nadopt_prefix = [\"old\"]\n{GOOD}{}adopt_prefix = [\"older\", \
             \"web\"]\n{}adopt_prefix = []\n",
        GOOD.replace("id = 1", "id = 2"),
        GOOD.replace("id = 1", "id = 3")
    );
    let servers = parse("config.toml", &text).unwrap().settings.servers;
    let adopted = |nth: usize| {
        let prefix = &servers[nth].policy.prefix;
        assert_eq!(prefix.as_str(), "snapring");
        prefix.adopted().iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!([adopted(0), adopted(1), adopted(2)], [vec!["old"], vec!["older", "web"], vec![]]);
}

#[test]
fn what_servers_have_in_common_is_in_memory_once() {
    let with =
        |more: &str| format!("keep = 1\nschedule = [\"0 3 * * *\", \"0 12 * * fri\"]\n{more}");
    let own = "prefix = \"nightly\"\ndescription = \"by night\"\nhooks = { before = [\"a\"] }\n";
    let texts = [with(own), with(own), with("timezone = \"Europe/Berlin\"\n"), with("")];
    let tables = (1..).zip(&texts).map(|(id, text)| format!("[[server]]\nid = {id}\n{text}"));
    let servers = parse("config.toml", &tables.collect::<String>()).unwrap().settings.servers;
    let [first, alike, elsewhere, plain] = servers.as_slice() else { panic!("four servers") };
    let share = |one: &crate::server::Server, other: &crate::server::Server| {
        let prefixes = [one, other].map(|it| it.policy.prefix.as_str().as_ptr());
        let hooks = [one, other].map(|it| it.hooks.as_ref().map(Arc::as_ptr));
        [
            Arc::ptr_eq(&one.schedules, &other.schedules),
            Arc::ptr_eq(&one.description, &other.description),
            prefixes[0] == prefixes[1],
            Arc::ptr_eq(&one.policy, &other.policy),
            hooks[0] == hooks[1],
        ]
    };
    assert_eq!(share(first, alike), [true; 5]);
    assert_eq!(share(first, plain), [true, false, false, false, false]);
    // The zone is part of a schedule; defaults are shared too.
    assert_eq!(share(elsewhere, plain), [false, true, true, false, true]);
}

#[rstest]
#[case("http://127.0.0.1:8080/api/v1", "http://127.0.0.1:8080/api/v1/")]
#[case("http://[::1]:8080/", "http://[::1]:8080/")]
#[case("https://proxy.example/vps/", "https://proxy.example/vps/")]
fn an_address_is_taken_and_ends_in_a_slash(#[case] written: &str, #[case] taken: &str) {
    let text = format!("[api]\nbase_url = \"{written}\"\n{GOOD}");
    assert_eq!(parse("config.toml", &text).unwrap().settings.api.base_url.as_str(), taken);
}

#[test]
fn secrets_in_a_file_that_others_can_read_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let notify = "[[notify]]\nurl = \"https://hooks.example/SECRETPART\"\nformat = \"slack\"\n";
    let store = "[store]\nurl = \"postgres://anna:SECRETPART@127.0.0.1/rings\"\n";
    let warned = |text: &str, mode| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let warning = secrets_warning(&file, &read(&file).unwrap());
        warning.map(|it| it.message().to_owned()).unwrap_or_default()
    };
    let both = format!("{store}{GOOD}{notify}");
    assert!(warned(&both, 0o644).ends_with("addresses of webhooks and the password of a database"));
    assert!(!warned(&both, 0o644).contains("SECRETPART"));
    assert!(warned(&format!("{GOOD}{notify}"), 0o604).ends_with(": addresses of webhooks"));
    let without = format!("{}{GOOD}", store.replace(":SECRETPART", ""));
    for (text, mode) in [(both.as_str(), 0o640), (GOOD, 0o644), (&without, 0o644)] {
        assert_eq!(warned(text, mode), "", "{mode:o}");
    }
}

#[test]
fn an_address_can_stand_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        std::fs::set_permissions(path(name), PermissionsExt::from_mode(0o600)).unwrap();
    };
    write("hook.url", "https://hooks.slack.com/services/T0/B0/SECRETPART\n");
    write("store.url", " postgres://anna:SECRETWORD@127.0.0.1/rings\n\n");
    let config = format!(
        "[store]\nurl_file = {:?}\n{GOOD}[[notify]]\nurl_file = {:?}\n",
        path("store.url"),
        path("hook.url")
    );
    write("config.toml", &config);
    let file = dir.path().join("config.toml");
    let loaded = read(&file).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let hook = &loaded.settings.notify[0];
    assert_eq!(hook.url.to_string(), "https://hooks.slack.com");
    assert_eq!(hook.format.as_str(), "slack", "the host in the file decides");
    let store = loaded.settings.store.as_ref().unwrap();
    assert_eq!(store.to_string(), "postgres://127.0.0.1/rings");
    // What others can read holds no secret: only the two files do.
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(secrets_warning(&file, &loaded).is_none());
    let said = crate::foreign::ForeignText::from("SECRETWORD and services/T0/B0/SECRETPART");
    assert!(!said.to_string().contains("SECRETWORD"), "{said}");

    std::fs::set_permissions(path("hook.url"), PermissionsExt::from_mode(0o604)).unwrap();
    let warnings = read(&file).unwrap().warnings;
    assert!(warnings[0].render(false).contains("others can read this file"), "{warnings:?}");
    std::fs::set_permissions(path("hook.url"), PermissionsExt::from_mode(0o600)).unwrap();

    let refused = |text: &str| {
        std::fs::write(path("hook.url"), text).unwrap();
        read(&file).unwrap_err().render(false)
    };
    for (text, why) in [
        ("", "the file is empty"),
        ("ftp://SECRETPART.example/", "the address in the file must be https or http"),
        ("SECRETPART", "the address in the file is not an address"),
        ("https://a.example/SECRETPART https://b.example/SECRETPART", "more than one word"),
        (&"x".repeat(5000), "it is larger than 4096 bytes"),
    ] {
        let said = refused(text);
        assert!(said.contains(why) && !said.contains("SECRETPART"), "{said}");
        assert!(said.contains("config.toml:8"), "{said}");
    }
    std::fs::remove_file(path("hook.url")).unwrap();
    let said = read(&file).unwrap_err().render(false);
    assert!(said.contains("the file cannot be read: No such file"), "{said}");
}

#[test]
fn a_token_file_that_others_can_read_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let text = format!("[api]\ntoken_file = {:?}\n{GOOD}", file.to_str().unwrap());
    let told = |unusable| {
        let loaded = parse("config.toml", &text).unwrap();
        let problem = token_file_problem(&loaded, &loaded.settings.api, unusable);
        problem.map(|it| it.render(false)).unwrap_or_default()
    };
    assert_eq!(told(None), "", "what is not there has no mode");
    let unusable = told(Some("it is empty"));
    assert!(unusable.starts_with("error: it is empty\n --> config.toml:2:14"), "{unusable}");
    std::fs::write(&file, "vps_x").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(told(None).starts_with("warning: others can read the token file"), "{}", told(None));
    let text =
        format!("[[account]]\nname = \"b\"\ntoken_file = {:?}\n{GOOD}", file.to_str().unwrap());
    let loaded = parse("config.toml", &text).unwrap();
    let of_b = token_file_problem(&loaded, &loaded.settings.more_accounts[0], None).unwrap();
    let of_b = of_b.render(false);
    assert!(of_b.contains("others can read the token file of account b"), "{of_b}");
    assert!(of_b.contains("hint: chmod 600 "), "{of_b}");
    mode(0o640);
    assert_eq!(told(None), "");
}

#[rstest]
#[case::missing("none.toml", None, "cannot be read: No such file")]
#[case::not_text("bytes.toml", Some(&b"[api]\n\xff"[..]), "line 2 is not UTF-8")]
fn a_file_that_cannot_be_read_says_why(
    #[case] name: &str,
    #[case] bytes: Option<&[u8]>,
    #[case] expected: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    if let Some(bytes) = bytes {
        std::fs::write(&path, bytes).unwrap();
    }
    let error = read(&path).unwrap_err().render(false);
    assert!(error.contains(expected) && error.contains(name), "{error}");
    assert!(read(dir.path()).is_err());
}

#[test]
fn ten_thousand_servers_are_read_and_deep_nesting_is_refused() {
    let mut text = "[defaults]\nschedule = \"0 3 * * *\"\nkeep = 4\n".to_owned();
    for id in 1..=10_000 {
        text.push_str(&format!("[[server]]\nid = {id}\n"));
    }
    assert_eq!(parse("config.toml", &text).unwrap().settings.servers.len(), 10_000);
    // Each of them a mistake, and told in about the time that good ones take.
    let text = text.replace("id = ", "timezone = \"Europe/Berln\"\nid = ");
    assert_eq!(parse("config.toml", &text).unwrap_err().errors().len(), 10_000);
    assert!(parse("config.toml", &format!("x = {}", "[".repeat(100_000))).is_err());
    assert!(parse("config.toml", &format!("{}a = 1", "a.".repeat(100_000))).is_err());
}

proptest! {
    #[test]
    fn any_text_is_taken_or_explained(text in "\\PC{0,200}") {
        if let Err(error) = parse("config.toml", &text) {
            let _ = (error.render(true), error.to_json(), error.to_string());
        }
    }

    /// Near misses reach further than noise: cut a piece out of the example, or put one in.
    #[test]
    fn any_change_to_the_example_is_taken_or_explained(
        at in 0..EXAMPLE.len(), cut in 0..40_usize, put in "[\\[\\]={}\",a-z0-9 \n\\\\]{0,6}",
    ) {
        let chars: Vec<char> = EXAMPLE.chars().collect();
        let at = at.min(chars.len());
        let mut text: String = chars[..at].iter().collect();
        text.push_str(&put);
        text.extend(&chars[(at + cut).min(chars.len())..]);
        if let Err(error) = parse("config.toml", &text) {
            prop_assert!(!error.errors().is_empty());
            let _ = error.render(true);
        }
    }
}

/// Whatever is wrong with the file, its webhook is not told again.
#[test]
fn no_mistake_in_a_file_shows_a_webhook_or_a_password() {
    let texts = [
        "[[notify]]\nurl = \"https://hooks.example/services/SECRETPART\nformat = \"slack\"\n",
        "[[notify]]\nurl = 'https://hooks.example/services/SECRETPART\n",
        "[[notify]]\nurl = \"\"\"https://hooks.example/services/SECRETPART",
        "[[notify]]\nurl = https://hooks.example/services/SECRETPART\n",
        "[[notify]]\nurl = [\"https://hooks.example/services/SECRETPART\"]\n",
        "[[notify]]\nurl = { a = \"https://hooks.example/services/SECRETPART\" }\n",
        "[[notify]]\nurll = \"https://hooks.example/services/SECRETPART\"\n",
        "[notify]\nurl = \"https://hooks.example/services/SECRETPART\"\n",
        "notify = \"https://hooks.example/services/SECRETPART\"\n",
        "notify = [\"https://hooks.example/services/SECRETPART\"]\n",
        "[[notify]]\n\"https://hooks.example/services/SECRETPART\" = 1\n",
        "[\"https://hooks.example/services/SECRETPART\"]\nx = 1\n",
        "[[notify]]\nurl = \"https://hooks.example/a\"\non = [\"https://hooks.example/services/SECRETPART\"]\n",
        "[[notify]]\nurl = \"https://hooks.example/a\"\nformat = \"https://hooks.example/SECRETPART\"\n",
        "[[notify]]\nurl = \"https:\\u002f\\u002fhooks.example\\u002fSECRETPART\"\nx = \n",
        "[[notify]]\nurl = \"https://hooks.example/x\"\nurl = \"https://hooks.example/SECRETPART\"\n",
        "[store]\nurl = \"postgres://anna:SECRETPART@db/x\ny = 1",
        "[store]\nurl = \"mysql://anna:SECRETPART@db/x\"\n",
        "[store]\nurl = \"postgres://anna:SECRETPART@db:notaport/x\"\n",
        "[store]\nurll = \"postgres://anna:SECRETPART@db/x\"\n",
        "store = \"postgres://anna:SECRETPART@db/x\"\n",
        "[http]\nlisten = \"https://hooks.example/SECRETPART\"\n",
        "[[server]]\nid = 1\nkeep = 1\nschedule = \"0 3 * * *\"\n[store]\nurl = \"host=db \
             password=SECRETPART\"\n",
        "[store]\nurl = \"postgres://anna:SECRETPART\n",
        "[store]\nurl = postgres://anna:SECRETPART@db/x\n",
        "[store]\nurl = \"postgres://db/x?password=SECRETPART&sslmode=odd\"\n",
        "[store]\nurl = \"postgres://db/x?password=SECRETPART\n",
    ];
    let mut shown = Vec::new();
    for text in texts {
        if let Err(error) = parse("test.toml", text) {
            for words in [error.render(false), error.to_string(), format!("{error:?}")] {
                if words.contains("SECRETPART") {
                    shown.push(format!("{text:?}\n  -> {words}"));
                }
            }
        }
    }
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

/// What the numbers of a policy come to, each in one warning at most.
#[test]
fn slots_that_a_policy_cannot_use_are_warned_of() {
    let warned = |lines: &str| -> Vec<String> {
        let text = format!("[[server]]\nid = 1\nschedule = \"0 3 * * *\"\n{lines}");
        let loaded = parse("c.toml", &text).unwrap();
        loaded.warnings.iter().map(|it| it.message().to_owned()).collect()
    };
    assert_eq!(warned("keep = { last = 2, daily = 1, weekly = 1 }"), Vec::<String>::new());
    assert_eq!(warned("keep = 3\nreserve = 1\npin = [1]"), Vec::<String>::new());
    let blocked =
        "there is one slot for this server's own snapshots, so its rotations will be blocked";
    for lines in ["keep = 1\ncap = 1", "keep = 1\nreserve = 4", "keep = 1\npin = [1, 2, 3, 4]"] {
        let warned = warned(lines);
        assert!(warned.len() == 1 && warned[0].starts_with(blocked), "{lines}: {warned:?}");
    }
    assert_eq!(
        warned("keep = 4\npin = [1, 2]"),
        ["2 pinned snapshots leave 3 of 5 slots, and `keep` asks for 4"]
    );
    assert!(warned("keep = 5")[0].starts_with("`keep` and `reserve` use all 5 slots"));
}

#[test]
fn the_column_in_a_long_line_is_counted_in_characters_and_the_line_is_not_shown() {
    let filler = "ü".repeat(40_000);
    let text = format!("a = 1\nlog = {{ aaaa = \"{filler}\", levl = 1 }}\n");
    let error = parse("config.toml", &text).unwrap_err();
    assert!(error.render(false).len() < 10_000, "{} bytes", error.render(false).len());
    let of_level = error.errors().iter().find(|it| it.message().contains("`levl`")).unwrap();
    let column = "log = { aaaa = \"".len() + 40_000 + "\", ".len() + 1;
    assert!(of_level.to_string().starts_with(&format!("config.toml:2:{column}: ")), "{column}");
    assert!(error.render(false).contains(&format!("config.toml:2:{column}: ")), "{column}");
}

/// Text that is no TOML at all, as when a wrong file is included: what is found grows with the text, and so does the
/// time, but not with its square.
#[test]
fn a_bad_text_is_read_in_a_time_that_grows_like_the_text() {
    // The time that this thread worked: the machine does other things too.
    let worked = || -> Duration {
        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        nix::time::clock_gettime(clock).unwrap().into()
    };
    let numbered = |line: fn(usize) -> String| move |count: usize| (0..count).map(line).collect();
    type Shape = Box<dyn Fn(usize) -> String>;
    let shapes: [(&str, Shape); 14] = [
        ("keys without a value", Box::new(numbered(|_| "x\n".to_owned()))),
        ("values without quotes", Box::new(numbered(|nth| format!("k{nth} = foo\n")))),
        ("brackets", Box::new(numbered(|_| "[[[\n".to_owned()))),
        ("brackets in a line", Box::new(numbered(|_| "[[[[[".to_owned()))),
        ("texts without an end", Box::new(numbered(|nth| format!("k{nth} = \"a\n")))),
        ("long texts without an end", Box::new(numbered(|_| "a = \'\'\'\n".to_owned()))),
        (
            "tables twice",
            Box::new(|count| {
                let once: String = (0..count / 2).map(|nth| format!("[a{nth}]\n")).collect();
                once.repeat(2)
            }),
        ),
        ("keys twice", Box::new(numbered(|_| "a = 1\n".to_owned()))),
        ("servers without keys", Box::new(numbered(|_| "[[server]]\n".to_owned()))),
        (
            "broken servers with a broken group",
            Box::new(|count| {
                format!("[defaults]\nx\n{}", "[[server]]\nid = x\nfoo = 1\n".repeat(count / 3))
            }),
        ),
        ("errors and unknown keys", Box::new(numbered(|nth| format!("k{nth} = 1\ny\n")))),
        ("tokens in a line", Box::new(numbered(|_| "vps_".to_owned()))),
        ("addresses in a line", Box::new(numbered(|_| "a://".to_owned()))),
        (
            "tables in a line",
            Box::new(|count| format!("server = [{}]\n", "{ x = 1 },".repeat(count))),
        ),
    ];
    for (name, shape) in shapes {
        let time = |count: usize| {
            let text = shape(count);
            let begun = worked();
            let error = parse("config.toml", &text).unwrap_err();
            let told = error.render(false).len() + error.to_string().len() + error.to_json().len();
            assert!(told > 0);
            worked() - begun
        };
        let (small, large) = (time(500), time(4_000));
        let limit = small * 24 + Duration::from_millis(50);
        assert!(large < limit, "{name}: 8 times the text takes {large:?} in place of {small:?}");
    }
}

/// The claims that keep rotations apart are made in its name.
#[test]
fn an_address_has_one_spelling() {
    for path in ["api//v1/", "%61pi/v1/", "/api/v1", "api/v1//"] {
        let refused = parse("x", &format!("[api]\nbase_url = \"https://x.org/{path}\"\n{GOOD}"));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("`base_url` has an empty part (//)"), "{path}: {refused}");
    }
    for path in ["", "api/v1", "x/../api/v1/"] {
        parse("x", &format!("[api]\nbase_url = \"https://x.org/{path}\"\n{GOOD}")).unwrap();
    }
}
