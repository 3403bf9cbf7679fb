//! `cover`: servers of an account that have the policy of a group without a table of their own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::coverage::{AccountServer, NamedServers};
use crate::discovery::NewNames;
use crate::foreign::ForeignText;
use crate::naming::{Account, ServerId};
use crate::server::Server;

/// How long a server that is not listed any more is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// After this many lists without it a server is not rotated any more. One list may lack a server that is there.
const BELIEVED: u32 = 2;

/// The policy of an account's servers that have no table.
#[derive(Debug, Clone)]
pub struct Cover {
    account: Account,
    group: Arc<str>,
    /// Without an id and a name.
    like: Server,
}

impl Cover {
    /// `like`: a server with the policy; its id, name and group do not matter.
    #[must_use]
    pub const fn new(account: Account, group: Arc<str>, like: Server) -> Self {
        Self { account, group, like }
    }

    /// Whose servers have it.
    #[must_use]
    pub const fn account(&self) -> Account {
        self.account
    }

    /// The group that it comes from.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Any server with the policy, to look at it.
    #[must_use]
    pub fn example(&self) -> Server {
        let id = ServerId { account: self.account, number: 0 };
        self.server(id, format!("a server of group {}", self.group), true)
    }

    fn server(&self, id: ServerId, name: String, is_there: bool) -> Server {
        let enabled = self.like.enabled && is_there;
        Server { id, name, enabled, group: Some(Arc::clone(&self.group)), ..self.like.clone() }
    }
}

/// The servers that accounts with a [`Cover`] have, as far as they were listed.
#[derive(Debug, Clone, Default)]
pub struct CoveredServers {
    known: BTreeMap<ServerId, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    /// At the provider.
    name: ForeignText,
    /// Since when it is not listed any more, and in how many lists.
    absent: Option<(Timestamp, u32)>,
}

impl Known {
    /// Whether it counts as gone.
    fn is_held(&self) -> bool {
        self.absent.is_some_and(|(_, lists)| lists >= BELIEVED)
    }
}

/// What a list of an account's servers changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoverNews {
    /// Servers that are new, or back.
    pub appeared: NamedServers,
    /// Their numbers.
    pub new: Vec<ServerId>,
    /// Servers that are not listed for the first time.
    pub vanished: NamedServers,
    /// Servers that are forgotten.
    pub forgotten: NamedServers,
}

impl CoveredServers {
    /// Takes in servers that were rotated before, until their account is listed.
    pub fn remember(&mut self, servers: impl IntoIterator<Item = (ServerId, ForeignText)>) {
        for (id, name) in servers {
            self.known.entry(id).or_insert(Known { name, absent: None });
        }
    }

    /// An account's servers were listed, completely. What it says of servers with a table is no news.
    pub fn listed(
        &mut self,
        account: Account,
        servers: &[AccountServer],
        has_table: impl Fn(ServerId) -> bool,
        now: Timestamp,
    ) -> CoverNews {
        let mut news = CoverNews::default();
        for server in servers.iter().filter(|it| it.id.account == account) {
            let AccountServer { id, name, .. } = server;
            let before = self.known.insert(*id, Known { name: name.clone(), absent: None });
            if has_table(*id) {
                continue;
            }
            if before.as_ref().is_none_or(Known::is_held) {
                news.appeared.add(*id, || name.to_string());
            }
            if before.is_none() {
                news.new.push(*id);
            }
        }
        let listed: HashSet<ServerId> =
            servers.iter().map(|it| it.id).filter(|id| id.account == account).collect();
        // An empty list is rather wrong: they are rotated as before, and each says what comes of it.
        if listed.is_empty() {
            return news;
        }
        self.known.retain(|id, known| {
            if id.account != account || listed.contains(id) {
                return true;
            }
            let (since, lists) = known.absent.unwrap_or((now, 0));
            let lists = lists.saturating_add(1);
            known.absent = Some((since, lists));
            if lists == 1 && !has_table(*id) {
                news.vanished.add(*id, || known.name.to_string());
            }
            let is_remembered = lists < BELIEVED || now.duration_since(since) < REMEMBERED;
            if !is_remembered && !has_table(*id) {
                news.forgotten.add(*id, || known.name.to_string());
            }
            is_remembered
        });
        news
    }

    /// Those that have a policy by `covers`, because none of these is configured. Names are unique among them
    /// all, and depend on nothing else, so that commands call a server as the daemon does. Where several have one name
    /// at the provider, each has its id in it: a name never passes from one server to another.
    #[must_use]
    pub fn servers(&self, covers: &[Cover], configured: &[Arc<Server>]) -> Vec<Arc<Server>> {
        if covers.is_empty() {
            return Vec::new();
        }
        let mut count: HashMap<String, usize> = HashMap::new();
        for known in self.known.values() {
            *count.entry(known.name.to_string()).or_default() += 1;
        }
        let several = count.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name);
        let own = configured.iter().map(|server| server.name.clone());
        let mut names = NewNames::other_than(own.chain(several));
        let configured: HashSet<ServerId> = configured.iter().map(|server| server.id).collect();
        let covered = self.known.iter().filter(|(id, _)| !configured.contains(id));
        covered
            .filter_map(|(id, known)| {
                let cover = covers.iter().find(|cover| cover.account == id.account)?;
                let name = names.name(*id, &known.name);
                Some(Arc::new(cover.server(*id, name, !known.is_held())))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account_servers as account, server as any_server};

    fn at(hour: i64) -> Timestamp {
        let start: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        start + SignedDuration::from_hours(hour)
    }

    fn none(_: ServerId) -> bool {
        false
    }

    fn cover() -> Cover {
        Cover::new(Account::API, "everything".into(), Server::clone(&any_server(1, "")))
    }

    fn shown(covered: &CoveredServers, configured: &[Arc<Server>]) -> Vec<String> {
        let servers = covered.servers(&[cover()], configured);
        let one = |it: &Arc<Server>| {
            assert_eq!(it.group.as_deref(), Some("everything"));
            format!("{} {}{}", it.id, it.name, if it.enabled { "" } else { " held" })
        };
        servers.iter().map(one).collect()
    }

    #[test]
    fn each_server_without_a_table_has_the_policy_under_a_name_of_its_own() {
        let mut covered = CoveredServers::default();
        let news = covered.listed(
            Account::API,
            &account(&[(103, "web"), (101, "web"), (102, "db"), (104, "")]),
            |id| id == ServerId::new(102),
            at(0),
        );
        assert_eq!((news.appeared.count, news.new.len()), (3, 3));
        let configured = [any_server(102, "name = \"web\"")];
        assert_eq!(
            shown(&covered, &configured),
            ["101 web-101", "103 web-103", "104 server-104"],
            "102 has a table, and its name"
        );
        assert_eq!(
            shown(&covered, &[]),
            ["101 web-101", "102 db", "103 web-103", "104 server-104"]
        );
        let of_another =
            Cover::new(Account::named("b").unwrap(), "x".into(), Server::clone(&any_server(1, "")));
        assert!(covered.servers(&[of_another], &[]).is_empty(), "nothing covers this account");
    }

    #[test]
    fn one_that_vanishes_is_reported_once_held_after_two_lists_and_forgotten_after_a_day() {
        let mut covered = CoveredServers::default();
        covered.listed(Account::API, &account(&[(101, "web"), (102, "db")]), none, at(0));
        let only = account(&[(101, "web")]);
        let news = covered.listed(Account::API, &only, none, at(1));
        assert_eq!(news.vanished.count, 1);
        assert_eq!(shown(&covered, &[]), ["101 web", "102 db"], "one list may lack it");
        let news = covered.listed(Account::API, &only, none, at(2));
        assert_eq!(news.vanished.count, 0);
        assert_eq!(shown(&covered, &[]), ["101 web", "102 db held"]);
        for hour in 3..25 {
            let news = covered.listed(Account::API, &only, none, at(hour));
            assert_eq!(news, CoverNews::default(), "hour {hour}");
        }
        let news = covered.listed(Account::API, &only, none, at(25));
        assert_eq!(news.forgotten.count, 1);
        assert_eq!(shown(&covered, &[]), ["101 web"]);
    }

    #[test]
    fn one_that_comes_back_is_rotated_again_and_what_another_account_lists_changes_nothing() {
        let mut covered = CoveredServers::default();
        let both = account(&[(101, "web"), (102, "db")]);
        covered.listed(Account::API, &both, none, at(0));
        covered.listed(Account::named("b").unwrap(), &[], none, at(0));
        assert_eq!(shown(&covered, &[]), ["101 web", "102 db"]);
        let news = covered.listed(Account::API, &account(&[(101, "web")]), none, at(1));
        assert_eq!(news.vanished.count, 1);
        assert_eq!(covered.listed(Account::API, &both, none, at(2)), CoverNews::default());
        for hour in 3..30 {
            let news = covered.listed(Account::API, &[], none, at(hour));
            assert_eq!(news, CoverNews::default(), "not one of them is there?");
        }
        assert_eq!(shown(&covered, &[]), ["101 web", "102 db"]);
        for hour in 30..32 {
            covered.listed(Account::API, &account(&[(101, "web")]), none, at(hour));
        }
        assert_eq!(shown(&covered, &[]), ["101 web", "102 db held"]);
        let news = covered.listed(Account::API, &both, none, at(32));
        assert_eq!((news.appeared.count, news.new.len(), news.forgotten.count), (1, 0, 0));
        assert_eq!(shown(&covered, &[]), ["101 web", "102 db"]);
    }

    #[test]
    fn what_the_history_knows_is_covered_until_the_account_is_listed() {
        let mut covered = CoveredServers::default();
        covered.remember([(ServerId::new(101), "web".into()), (ServerId::new(109), "gone".into())]);
        assert_eq!(shown(&covered, &[]), ["101 web", "109 gone"]);
        let news =
            covered.listed(Account::API, &account(&[(101, "web"), (102, "db")]), none, at(0));
        assert_eq!((news.new, news.vanished.count), (vec![ServerId::new(102)], 1));
    }
}
