//! Accounts: whose server it is, and how each account is reached.

use super::*;
use crate::naming::Account;

const DEFAULTS: &str = "[defaults]\nschedule = \"0 3 * * *\"\nkeep = 3\n";

fn account(name: &str) -> Account {
    Account::named(name).unwrap()
}

fn mistake(text: &str) -> String {
    parse("config.toml", &format!("{DEFAULTS}{text}")).unwrap_err().to_string()
}

#[test]
fn each_account_has_settings_of_its_own_and_servers_name_theirs() {
    let text = "[api]\ntimeout = \"5s\"\nretries = 9\n\
                [[account]]\nname = \"b\"\nmax_in_flight = 2\ntoken_file = \"/b\"\n\
                base_url = \"http://localhost:2/\"\n\
                [[account]]\nname = \"c\"\nbase_url = \"http://localhost:1/x/\"\n\
                [group.cs]\naccount = \"c\"\n\
                [[server]]\nid = 1\n\
                [[server]]\nid = 1\naccount = \"b\"\nname = \"one of b\"\n\
                [[server]]\nid = 2\ngroup = \"cs\"\n\
                [[server]]\nid = 3\ngroup = \"cs\"\naccount = \"default\"\n";
    let settings = parse("config.toml", &format!("{DEFAULTS}{text}")).unwrap().settings;
    let of: Vec<_> =
        settings.servers.iter().map(|it| (it.id.account.name().to_owned(), it.id.number)).collect();
    let expected = [("default", 1), ("b", 1), ("c", 2), ("default", 3)];
    assert_eq!(of, expected.map(|(name, number)| (name.to_owned(), number)));
    let [api, b, c] = settings.accounts().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((api.account, api.retries), (Account::API, 9));
    assert_eq!((b.account, b.retries, b.max_in_flight.get()), (account("b"), 4, 2), "its own");
    assert_eq!(b.token_file.as_deref(), Some(Path::new("/b")));
    assert_eq!((c.account, c.base_url.as_str()), (account("c"), "http://localhost:1/x/"));
    assert_eq!(settings.account_of(settings.servers[2].id).account, account("c"));
    assert!(settings.accounts().nth(1).is_some());
}

#[test]
fn the_account_of_api_is_in_use_only_with_servers_or_alone() {
    let with = |text: &str| parse("config.toml", &format!("{DEFAULTS}{text}")).unwrap().settings;
    let names = |settings: &Settings| -> Vec<Account> {
        settings.accounts().map(|it| it.account).collect()
    };
    let b = "[[account]]\nname = \"b\"\n[[server]]\nid = 1\naccount = \"b\"\n";
    assert_eq!(names(&with(b)), [account("b")], "it needs no token");
    assert_eq!(names(&with("[[server]]\nid = 1\n")), [Account::API]);
}

#[test]
fn mistakes_in_accounts_are_told() {
    let server = "[[server]]\nid = 1\n";
    let b = "[[account]]\nname = \"customer-b\"\n";
    let unknown = mistake(&format!("{b}{server}account = \"customer-c\"\n"));
    assert!(unknown.contains("there is no account \"customer-c\""), "{unknown}");
    let twice = mistake(&format!("{b}{b}{server}"));
    assert!(twice.contains("two accounts have the name \"customer-b\""), "{twice}");
    let unnamed = mistake(&format!("[[account]]\nretries = 1\n{server}"));
    assert!(unnamed.contains("an account has no `name`"), "{unnamed}");
    for name in ["", "1a", "a b", "ä", "a.b", "abcdefghijklmnopqrstuvwxy"] {
        let bad = mistake(&format!("[[account]]\nname = {name:?}\n{server}"));
        assert!(bad.contains("`name` is not a letter, then letters"), "{name}: {bad}");
    }
    let default = mistake(&format!("[[account]]\nname = \"default\"\n{server}"));
    assert!(default.contains("is the name of the account of [api]"), "{default}");
    let same = mistake(&format!(
        "{b}{server}account = \"customer-b\"\n{server}account = \"customer-b\"\n"
    ));
    assert!(same.contains("two servers of account customer-b have the id 1"), "{same}");
    let one = mistake(&format!("{b}{server}{server}name = \"again\"\naccount = \"customer-b\"\n"));
    assert!(one.contains("two accounts of one provider have the server 1"), "{one}");
    let misspelt = mistake(&format!("{b}retires = 1\n{server}"));
    assert!(misspelt.contains("retires"), "{misspelt}");
}

#[test]
fn an_included_file_may_have_an_account() {
    let place = super::many_files::Place::with(&[
        ("config.toml", super::many_files::BASE),
        ("conf.d/b.toml", "[[account]]\nname = \"b\"\n[[server]]\nid = 1\naccount = \"b\"\n"),
    ]);
    assert_eq!(place.servers()[0].id.account, account("b"));
}

#[test]
fn a_cover_is_the_policy_of_a_group_for_servers_without_a_table() {
    let group = "[group.all]\nschedule = \"0 4 * * *\"\nkeep = 2\n";
    let text = format!("[api]\ncover = \"all\"\n{group}");
    let settings = parse("config.toml", &text).unwrap().settings;
    assert!(settings.servers.is_empty(), "none is needed");
    let [cover] = settings.covers.as_slice() else { panic!("{:?}", settings.covers) };
    assert_eq!((cover.account(), cover.group()), (Account::API, "all"));
    assert_eq!(cover.example().policy.keep.total(), 2);
    assert_eq!(settings.accounts().count(), 1);

    let of_b = "[[account]]\nname = \"b\"\ncover = \"all\"\n";
    let settings = parse("config.toml", &format!("{of_b}{group}")).unwrap().settings;
    let accounts: Vec<_> = settings.accounts().map(|it| it.account).collect();
    assert_eq!(accounts, [account("b")]);
    assert!(settings.cover_of(account("b")).is_some() && settings.cover_of(Account::API).is_none());
}

#[test]
fn mistakes_in_a_cover_are_told() {
    let unknown = mistake_of(
        "[api]\ncover = \"nightli\"\n[group.nightly]\nschedule = \"0 4 * * *\"\nkeep = 2\n",
    );
    assert!(unknown.contains("there is no group \"nightli\""), "{unknown}");
    assert!(unknown.contains("did you mean \"nightly\"?"), "{unknown}");
    let no_keep = mistake_of("[api]\ncover = \"all\"\n[group.all]\nschedule = \"0 4 * * *\"\n");
    assert!(no_keep.contains("the group of a `cover` has no `keep`"), "{no_keep}");
    let no_schedule = mistake_of("[api]\ncover = \"all\"\n[group.all]\nkeep = 2\n");
    assert!(no_schedule.contains("the group of a `cover` has no `schedule`"), "{no_schedule}");
    let others = mistake_of(
        "[api]\ncover = \"all\"\n[[account]]\nname = \"b\"\n\
         [group.all]\nschedule = \"0 4 * * *\"\nkeep = 2\naccount = \"b\"\n",
    );
    assert!(others.contains("the group \"all\" belongs to account b"), "{others}");
    let number = mistake_of("[api]\ncover = 7\n[group.all]\nkeep = 2\n");
    assert!(number.contains("`cover`"), "{number}");
}

fn mistake_of(text: &str) -> String {
    parse("config.toml", text).unwrap_err().render(false)
}

/// S10: the token would go to the real provider while that of `[api]` goes to a test.
#[test]
fn an_account_that_does_not_follow_the_address_of_api_is_warned_of() {
    let warnings = |text: &str| -> Vec<String> {
        let loaded = parse("config.toml", &format!("{DEFAULTS}{text}")).unwrap();
        loaded.warnings.iter().map(|it| it.render(false)).collect()
    };
    let rest = "[[server]]\nid = 1\n[[server]]\nid = 2\naccount = \"b\"\n";
    let api = "[api]\nbase_url = \"http://localhost:1/api/v1/\"\n";
    let b = "[[account]]\nname = \"b\"\n";
    let told = warnings(&format!("{api}{b}{rest}"));
    let says = "account b has no `base_url`: its token is sent to https://admin.vps.org/api/v1/";
    assert!(told.iter().any(|it| it.contains(says) && it.contains("config.toml:7")), "{told:?}");
    for good in [
        format!("{b}{rest}"),
        format!("{api}{b}base_url = \"http://localhost:2/api/v1/\"\n{rest}"),
        format!("[api]\nbase_url = \"https://admin.vps.org/api/v1/\"\n{b}{rest}"),
    ] {
        let told = warnings(&good);
        assert!(!told.iter().any(|it| it.contains("has no `base_url`")), "{good}{told:?}");
    }
}
