//! S9 for accounts: whatever happens to one, nothing of another's is delayed, failed or called refused.

use std::num::NonZeroUsize;

use rstest::rstest;

use super::*;
use crate::daemon::view::AccountView;
use crate::provider::settings::ApiSettings;
use crate::provider::token_state::TokenState;
use crate::sandbox::provider::Act;

/// The same numbers in both accounts: they are unique within an account only.
const SERVERS: u64 = 6;

fn both() -> Settings {
    let servers = |account: &str| -> String {
        let table = |id: u64| {
            let name = format!("name = \"{account}-{id}\"\naccount = {account:?}");
            server(100 + id, &format!("schedule = \"0 * * * *\"\njitter = \"3m\"\n{name}"))
        };
        (1..=SERVERS).map(table).collect()
    };
    settings(&format!(
        "{}[[account]]\nname = \"b\"\nbase_url = \"http://localhost:1/\"\n{}",
        servers("default"),
        servers("b")
    ))
}

fn b() -> Account {
    Account::named("b").unwrap()
}

/// Two providers and a daemon for both.
struct Two {
    clock: Clock,
    api: InMemory,
    other: InMemory,
    reports: Arc<Mutex<Vec<(Report, Timestamp)>>>,
    daemon: Daemon,
}

impl Two {
    async fn start(settings: &Settings, in_flight: usize) -> Self {
        let clock = Clock::simulated("2026-11-23T00:30:00Z".parse().unwrap());
        let provider = |seed| {
            let provider = Provider::new(Options::new(10, SecretString::from(TOKEN), seed));
            InMemory::new(provider, clock.clone(), Duration::from_secs(30))
        };
        let (api, other) = (provider(1), provider(2));
        let client = |settings: &ApiSettings, provider: &InMemory| {
            let max_in_flight = NonZeroUsize::new(in_flight).unwrap();
            let settings = ApiSettings { max_in_flight, ..settings.clone() };
            let credentials = Credentials::known(SecretString::from(TOKEN));
            Client::new(Box::new(provider.clone()), &settings, credentials, clock.clone(), 1)
        };
        let clients = Clients::new(
            settings
                .accounts()
                .map(|it| client(it, if it.account == Account::API { &api } else { &other })),
        );
        let reports = Arc::<Mutex<Vec<(Report, Timestamp)>>>::default();
        let told = Arc::clone(&reports);
        let on_report = move |report: &Report, at| told.lock().unwrap().push((report.clone(), at));
        let dependencies = Dependencies::in_process(clock.clone(), Box::new(on_report));
        let scheduler = Box::<CronScheduler>::default();
        let daemon = Daemon::start(settings, clients, dependencies, scheduler).await.unwrap();
        Self { clock, api, other, reports, daemon }
    }

    fn faults_of_b(&self, faults: &[&str]) {
        let mut provider = self.other.provider.lock().unwrap();
        faults.iter().for_each(|fault| provider.add_fault(fault.parse().unwrap()));
    }

    /// All that was done for an account, and how its rotations ended, each with its time.
    fn of(&self, account: Account) -> Vec<String> {
        let provider = if account == Account::API { &self.api } else { &self.other };
        let provider = provider.provider.lock().unwrap();
        let act =
            |it: &Act| format!("{} {:?} {} of {}", it.at, it.operation, it.row.name, it.row.server);
        let reports = self.reports.lock().unwrap();
        let own = reports.iter().filter(|(it, _)| it.server_id.account == account);
        let reports = own.map(|(it, at)| format!("{at} {} {}", it.server_id, it.outcome.as_str()));
        let mut all: Vec<String> = provider.acts().iter().map(act).chain(reports).collect();
        all.sort_unstable();
        all
    }

    fn view_of(&self, account: Account) -> AccountView {
        self.daemon.view().accounts().into_iter().find(|it| it.account == account).unwrap()
    }
}

#[rstest]
#[case::peace(&[])]
#[case::an_outage(&["any:hang"])]
#[case::an_api_that_fails(&["any:status=500"])]
#[case::a_refused_token(&["any:status=401"])]
#[case::a_long_throttle(&["any:status=429,retry-after=600"])]
#[case::busy(&["create:status=409"])]
#[case::slow(&["any:latency=25s"])]
#[tokio::test(start_paused = true)]
async fn one_accounts_trouble_does_not_touch_another(
    #[case] faults: &[&str],
    #[values(1, 8)] in_flight: usize,
) {
    let settings = both();
    let mut lives = Vec::new();
    for faults in [&[], faults] {
        let two = Two::start(&settings, in_flight).await;
        two.faults_of_b(faults);
        two.clock.sleep(Duration::from_mins(205)).await;
        let refused = two.view_of(b()).token == TokenState::Refused;
        assert_eq!(refused, faults == ["any:status=401"]);
        assert_eq!(two.view_of(Account::API).token, TokenState::Accepted);
        let well = two.of(b()).iter().filter(|it| it.ends_with("rotated")).count() as u64;
        assert!(well >= 3 * SERVERS || !faults.is_empty(), "{well}");
        lives.push(two.of(Account::API));
        two.daemon.shutdown().await;
    }
    let (peace, trouble) = (&lives[0], &lives[1]);
    assert!(peace.iter().filter(|it| it.ends_with("rotated")).count() as u64 >= 3 * SERVERS);
    assert_eq!(peace, trouble, "to the millisecond: nothing is shared");
}

/// A reload may bring an account, and take one away.
#[tokio::test(start_paused = true)]
async fn accounts_come_and_go_with_a_reload() {
    let settings_of_both = both();
    let two = Two::start(&settings_of_both, 8).await;
    two.clock.sleep(Duration::from_mins(75)).await;
    let mut alone = settings_of_both.clone();
    alone.servers.retain(|it| it.id.account == Account::API);
    alone.more_accounts.clear();
    two.daemon.reload(&alone, None);
    let before = two.of(b()).len();
    two.clock.sleep(Duration::from_mins(120)).await;
    assert_eq!(two.of(b()).len(), before, "its servers left with it");
    let accounts =
        |daemon: &Daemon| daemon.view().accounts().iter().map(|it| it.account).collect::<Vec<_>>();
    assert_eq!(accounts(&two.daemon), [Account::API]);
    let credentials = Credentials::known(SecretString::from(TOKEN));
    let again = settings_of_both.account_of(ServerId { account: b(), number: 101 });
    let client = Client::new(Box::new(two.other.clone()), again, credentials, two.clock.clone(), 3);
    two.daemon.reload(&settings_of_both, Some(client));
    two.clock.sleep(Duration::from_mins(75)).await;
    assert!(two.of(b()).len() > before);
    assert_eq!(accounts(&two.daemon), [Account::API, b()]);
    two.daemon.shutdown().await;
}
