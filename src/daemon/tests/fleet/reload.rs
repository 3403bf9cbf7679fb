//! What a reload must not undo for a fleet.

use super::*;

/// A client for changed settings of the same account.
fn client(stage: &Stage, settings: &Settings) -> Client {
    let credentials = Credentials::known(SecretString::from(TOKEN));
    Client::new(Box::new(stage.memory.clone()), &settings.api, credentials, stage.clock.clone(), 2)
}

/// How many requests came in so far.
fn requests(stage: &Stage) -> u64 {
    let provider = stage.memory.provider.lock().unwrap();
    provider.tallies().values().map(|tally| tally.calls).sum()
}

/// 429: everyone on the account waits for Retry-After, whichever client sends.
#[tokio::test(start_paused = true)]
async fn what_the_provider_asked_to_wait_for_is_waited_for_after_a_reload_too() {
    let (stage, mut settings) = fleet(40, "", |_| {});
    let schedule = |id| ["schedule = \"0 3 * * *\"", "schedule = \"5 3 * * *\""][id as usize % 2];
    let servers: String = (101..141).map(|id| server(id, schedule(id))).collect();
    settings.servers = super::super::settings(&servers).servers;
    let daemon = stage.start(&settings).await;
    stage.clock.sleep(Duration::from_secs(115)).await;
    let fault = "any:status=429,retry-after=900,times=1";
    stage.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
    stage.clock.sleep(Duration::from_secs(10)).await;
    let before = requests(&stage);
    settings.api.retries += 1;
    daemon.reload(&settings, Some(client(&stage, &settings)));
    stage.clock.sleep(Duration::from_secs(800)).await;
    assert_eq!(requests(&stage) - before, 0, "sent while the account was asked to wait");
    stage.clock.sleep(Duration::from_secs(200)).await;
    assert!(requests(&stage) > before);
    drop(daemon);
}

/// The ceiling is the account's, not a client's: rotations that go on with the old one and those that
/// begin with the new one keep it together.
#[tokio::test(start_paused = true)]
async fn requests_per_minute_is_kept_by_all_clients_of_an_account_together() {
    let (stage, settings) = fleet(1, "requests_per_minute = 6", |_| {});
    let mut clients = vec![client(&stage, &settings)];
    for _ in 0..3 {
        let next = client(&stage, &settings).in_place_of(&clients[clients.len() - 1]);
        clients.push(next);
    }
    let scope = CallContext::default();
    let looks = clients.iter().map(|it| it.list(ServerId::new(101), &scope));
    futures_util::future::join_all(looks).await;
    let provider = stage.memory.provider.lock().unwrap();
    let begun = provider.calls().iter().map(|call| call.at).collect::<Vec<_>>();
    let apart = begun.windows(2).map(|two| two[1].duration_since(two[0]).as_secs());
    assert_eq!(apart.collect::<Vec<_>>(), [10, 10, 10]);
}

/// Counts the requests under way.
struct Counting(InMemory, Arc<std::sync::Mutex<(usize, usize)>>);

impl Transport for Counting {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        Box::pin(async move {
            {
                let mut counts = self.1.lock().unwrap();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
            }
            let answer = self.0.exchange(request).await;
            self.1.lock().unwrap().0 -= 1;
            answer
        })
    }
}

/// Nor are there more requests at once because a reload has changed `[api]`.
#[tokio::test(start_paused = true)]
async fn max_in_flight_is_kept_by_all_clients_of_an_account_together() {
    let (stage, settings) = fleet(1, "max_in_flight = 3", |_| {});
    stage.memory.provider.lock().unwrap().add_fault("list:latency=2s".parse().unwrap());
    let counts = Arc::<std::sync::Mutex<(usize, usize)>>::default();
    let client = || {
        let transport = Counting(stage.memory.clone(), Arc::clone(&counts));
        let credentials = Credentials::known(SecretString::from(TOKEN));
        Client::new(Box::new(transport), &settings.api, credentials, stage.clock.clone(), 2)
    };
    let old = client();
    let new = client().in_place_of(&old);
    let scope = CallContext::default();
    let looks = (0..20).map(|nth| [&old, &new][nth % 2].list(ServerId::new(101), &scope));
    futures_util::future::join_all(looks).await;
    assert_eq!(counts.lock().unwrap().1, 3);
}
