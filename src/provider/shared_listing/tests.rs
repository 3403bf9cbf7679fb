use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use secrecy::SecretString;

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::plan::Creation;
use crate::polling::GATHER;
use crate::provider::client::Client;
use crate::provider::credentials::Credentials;
use crate::provider::transport::{Method, Request, ResponseFuture, Transport};
use crate::sandbox::in_memory::InMemory;
use crate::sandbox::provider::{Options, Provider};

const NONE: Duration = Duration::ZERO;
const TOKEN: &str = "vps_test_token";
const CONFIGURATION: &str = "[[server]]\nid = 101\nkeep = 3\nschedule = \"0 3 * * *\"\n";

struct Scene {
    clock: Clock,
    memory: InMemory,
    client: Arc<Client>,
    scope: CallContext,
}

/// Twenty servers with two snapshots each; from 101 on.
const SERVERS: u64 = 20;

impl Scene {
    fn new(page_size: Option<usize>) -> Self {
        Self::over(page_size, |memory| Box::new(memory))
    }

    fn over(
        page_size: Option<usize>,
        transport: impl FnOnce(InMemory) -> Box<dyn Transport>,
    ) -> Self {
        let clock = Clock::simulated("2026-11-23T03:00:00Z".parse().unwrap());
        let token = SecretString::from(TOKEN);
        let mut options = Options::new(SERVERS, token.clone(), 1);
        options.page_size = page_size;
        let mut provider = Provider::new(options);
        for id in 101..101 + SERVERS {
            for hours in [24, 48] {
                let made = clock.now().wall - SignedDuration::from_hours(hours);
                provider.add_snapshot(ServerId::new(id), &format!("s{hours}"), "completed", made);
            }
        }
        let memory = InMemory::new(provider, clock.clone(), Duration::from_secs(30));
        let settings = config::parse("test.toml", CONFIGURATION).unwrap().settings;
        let credentials = Credentials::known(token);
        let transport = transport(memory.clone());
        let client = Client::new(transport, &settings.api, credentials, clock.clone(), 1);
        client.serves(usize::try_from(SERVERS).unwrap());
        Self { clock, memory, client: Arc::new(client), scope: CallContext::default() }
    }

    /// As a reload with other settings does.
    fn put_in_place(&mut self, transport: Box<dyn Transport>) {
        let settings = config::parse("test.toml", CONFIGURATION).unwrap().settings;
        let credentials = Credentials::known(SecretString::from(TOKEN));
        let client = Client::new(transport, &settings.api, credentials, self.clock.clone(), 2);
        self.client = Arc::new(client.in_place_of(&self.client));
        self.client.serves(usize::try_from(SERVERS).unwrap());
    }

    fn fault(&self, fault: &str) {
        self.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
    }

    /// So many servers look from now on, with that slack; how many rows each sees, and when the
    /// listing was asked for.
    async fn look(
        &self,
        servers: u64,
        slack: Duration,
        sharing: Sharing,
    ) -> Vec<(usize, Duration)> {
        self.look_from(101, servers, slack, sharing).await
    }

    async fn look_from(
        &self,
        first: u64,
        servers: u64,
        slack: Duration,
        sharing: Sharing,
    ) -> Vec<(usize, Duration)> {
        let earliest = self.clock.now().uptime;
        let when = When { earliest, latest: earliest + slack };
        let looks = (first..first + servers)
            .map(|id| self.client.look(ServerId::new(id), &self.scope, when, sharing));
        let seen = futures_util::future::join_all(looks).await;
        let seen = seen.into_iter().map(|listing| listing.unwrap());
        seen.map(|listing| (listing.snapshots.len(), listing.asked_at.uptime)).collect()
    }

    /// Listings of the account, page by page, and of single servers, since the last time.
    fn listings(&self) -> (usize, usize) {
        let mut provider = self.memory.provider.lock().unwrap();
        let of_account = provider.calls().iter().filter(|call| call.server.is_none()).count();
        let counted = (of_account, provider.calls().len() - of_account);
        provider.forget_calls();
        counted
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_look_at_once_share_one_listing_and_few_or_unwilling_ones_do_not() {
    let scene = Scene::new(None);
    let seen = scene.look(SERVERS, GATHER, Sharing::OneAnswer).await;
    assert!(seen.iter().all(|(rows, _)| *rows == 2), "{seen:?}");
    assert_eq!(scene.listings(), (1, 0));
    scene.look(7, GATHER, Sharing::OneAnswer).await;
    assert_eq!(scene.listings(), (0, 7));
    scene.look(SERVERS, GATHER, Sharing::Alone).await;
    assert_eq!(scene.listings(), (0, 20));
    scene.client.serves(7);
    scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert_eq!(scene.listings(), (0, 20));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_given_a_listing_that_was_asked_for_before_they_asked() {
    let scene = Scene::new(None);
    scene.fault("list:latency=10s");
    let begun = scene.clock.now().uptime;
    let later = async {
        // The first listing is under way.
        scene.clock.sleep(Duration::from_secs(3)).await;
        scene.look(SERVERS, GATHER, Sharing::Pages).await
    };
    let (first, second) = tokio::join!(scene.look(SERVERS, GATHER, Sharing::Pages), later);
    assert!(first.iter().all(|(_, asked)| *asked < begun + Duration::from_secs(1)), "{first:?}");
    assert!(second.iter().all(|(_, asked)| *asked >= begun + Duration::from_secs(3)), "{second:?}");
    assert_eq!(scene.listings(), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn who_may_wait_is_served_with_the_first_who_may_not_and_never_early() {
    let scene = Scene::new(None);
    let now = scene.clock.now().uptime;
    let looks = (0..SERVERS).map(|nth| {
        let earliest = now + Duration::from_secs(nth);
        let when = When { earliest, latest: earliest + Duration::from_secs(60 - 2 * nth) };
        scene.client.look(ServerId::new(101 + nth), &scene.scope, when, Sharing::Pages)
    });
    let seen = futures_util::future::join_all(looks).await;
    // The last one comes at 19 s and may wait until 41 s, the first one until 60.
    for listing in seen {
        assert_eq!(listing.unwrap().asked_at.uptime, now + Duration::from_secs(41) + STREAM);
    }
    assert_eq!(scene.listings(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_may_still_wait_does_not_ask_alone_because_those_who_may_not_have_to() {
    let scene = Scene::new(None);
    scene.memory.provider.lock().unwrap().options_mut().bare_array = true;
    let now = scene.clock.now().uptime;
    let later = async {
        scene.clock.sleep(Duration::from_secs(5)).await;
        scene.memory.provider.lock().unwrap().options_mut().bare_array = false;
    };
    // Ten of them cannot wait for a listing that can be used, and ten can.
    let urgent = scene.look(10, GATHER, Sharing::Pages);
    let patient = scene.look_from(111, 10, Duration::from_secs(60), Sharing::Pages);
    let (urgent, patient, ()) = tokio::join!(urgent, patient, later);
    assert!(urgent.iter().all(|(_, asked)| *asked < now + Duration::from_secs(1)), "{urgent:?}");
    assert!(patient.iter().all(|(_, asked)| *asked >= now + Duration::from_secs(60)));
    assert_eq!(scene.listings(), (2, 10));
}

/// The more come, the longer it takes them.
#[tokio::test(start_paused = true)]
async fn those_who_stream_in_are_waited_for_and_not_for_ever() {
    for (apart, at_most) in [(5, 1), (15, 3)] {
        let scene = Scene::new(None);
        let begun = scene.clock.now().uptime;
        let looks = (0..SERVERS * 10).map(|nth| {
            let (scene, id) = (&scene, ServerId::new(101 + nth % SERVERS));
            async move {
                scene.clock.sleep(Duration::from_millis(nth * apart)).await;
                let earliest = scene.clock.now().uptime;
                let when = When { earliest, latest: earliest + GATHER };
                scene.client.look(id, &scene.scope, when, Sharing::Pages).await.unwrap()
            }
        });
        let first = futures_util::future::join_all(looks).await.swap_remove(0);
        assert!(first.asked_at.uptime <= begun + GATHER + STREAM * 41, "{:?}", first.asked_at);
        let (of_account, alone) = scene.listings();
        assert!((1..=at_most).contains(&of_account) && alone == 0, "{of_account} {alone}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_shared_where_that_costs_less_and_only_with_those_who_may_miss_a_row() {
    let scene = Scene::new(Some(10));
    let seen = scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert!(seen.iter().all(|(rows, _)| *rows == 2), "{seen:?}");
    assert_eq!(scene.listings(), (4, 0));
    scene.look(SERVERS, GATHER, Sharing::OneAnswer).await;
    assert_eq!(scene.listings(), (0, 20));

    // Forty pages of one row for twenty servers, each of which has two.
    let scene = Scene::new(Some(1));
    scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert_eq!(scene.listings(), (1, 40), "the first page tells how many there are");
    scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert_eq!(scene.listings(), (0, 40));
}

/// Fourteen pages of five seconds.
#[tokio::test(start_paused = true)]
async fn pages_that_would_take_longer_than_they_may_are_given_up_after_the_first() {
    let scene = Scene::new(Some(3));
    scene.fault("list:latency=5s");
    let begun = scene.clock.now().uptime;
    let seen = scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert!(seen.iter().all(|(_, asked)| *asked <= begun + Duration::from_secs(20)), "{seen:?}");
    assert_eq!(scene.listings(), (1, 20));
}

/// Whoever does not know how many pages there are must not be given a listing of several.
#[tokio::test(start_paused = true)]
async fn who_may_not_miss_a_row_is_not_served_from_pages_that_were_not_expected() {
    let scene = Scene::new(Some(10));
    let (careful, others) = tokio::join!(
        scene.look(4, GATHER, Sharing::OneAnswer),
        scene.look(SERVERS, GATHER, Sharing::Pages)
    );
    assert_eq!((careful.len(), others.len()), (4, 20));
    assert_eq!(scene.listings(), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn pages_between_which_this_program_changed_something_are_not_relied_on() {
    // Four pages of two seconds each: while the first is read; and once the last has been counted.
    for (after, pages) in [(0, 1), (5300, 4)] {
        let scene = Scene::new(Some(10));
        scene.fault("list:latency=2s");
        let change = async {
            scene.clock.sleep(Duration::from_millis(after)).await;
            let listing = scene.client.list(ServerId::new(101), &scene.scope).await.unwrap();
            let creation = Creation::by_hand("x".to_owned(), 5, &listing).unwrap();
            scene.client.create(&creation, "", 1, &scene.scope).await.unwrap();
        };
        tokio::join!(change, scene.look(SERVERS, GATHER, Sharing::Pages));
        assert_eq!(scene.listings(), (pages, 20 + 2), "each for itself; and what changed it");
    }

    // The same, under way since before.
    let scene = Scene::new(Some(10));
    scene.fault("create:latency=60s");
    let change = async {
        let listing = scene.client.list(ServerId::new(101), &scene.scope).await.unwrap();
        let creation = Creation::by_hand("x".to_owned(), 5, &listing).unwrap();
        scene.client.create(&creation, "", 1, &scene.scope).await.unwrap_err();
    };
    let look = async {
        scene.clock.sleep(Duration::from_secs(1)).await;
        scene.look(SERVERS, GATHER, Sharing::Pages).await
    };
    tokio::join!(change, look);
    assert_eq!(scene.listings(), (1, 20 + 2));
}

/// Nor are they begun with, once it is known that there are several; and that is no reason for doubt.
#[tokio::test(start_paused = true)]
async fn pages_are_not_asked_for_while_this_program_changes_something() {
    let scene = Scene::new(Some(10));
    scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert_eq!(scene.listings(), (4, 0));
    scene.fault("create:latency=10s");
    let listing = scene.client.list(ServerId::new(101), &scene.scope).await.unwrap();
    let creation = Creation::by_hand("x".to_owned(), 5, &listing).unwrap();
    let change = scene.client.create(&creation, "", 1, &scene.scope);
    let (change, _) = tokio::join!(change, scene.look(SERVERS, GATHER, Sharing::Pages));
    change.unwrap();
    assert_eq!(scene.listings(), (0, 20 + 2));
    scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert_eq!(scene.listings(), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_sharing_is_tried_again_later_and_later() {
    let scene = Scene::new(None);
    scene.memory.provider.lock().unwrap().options_mut().bare_array = true;
    let mut shared_at = Vec::new();
    for _ in 0..400 {
        let now = scene.clock.now().uptime;
        scene.look(SERVERS, GATHER, Sharing::Pages).await;
        if scene.listings().0 > 0 {
            shared_at.push(now);
        }
        scene.clock.sleep(Duration::from_secs(10)).await;
    }
    let apart: Vec<u64> = shared_at.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    for (apart, doubt) in apart.iter().zip([30, 60, 120, 240, 480, 600, 600]) {
        assert!((doubt..doubt + 21).contains(apart), "{apart:?}");
    }
    assert!(apart.len() >= 6, "{apart:?}");
    scene.memory.provider.lock().unwrap().options_mut().bare_array = false;
    scene.clock.sleep(Duration::from_secs(601)).await;
    for _ in 0..3 {
        scene.look(SERVERS, GATHER, Sharing::Pages).await;
        assert_eq!(scene.listings(), (1, 0));
    }
}

/// Breaks on listings of the account.
struct Fragile(InMemory);

impl Transport for Fragile {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        assert!(request.method != Method::Get || request.path != "snapshots/", "on purpose");
        self.0.exchange(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_shared_listing_leaves_nobody_waiting() {
    let scene = Scene::over(None, |memory| Box::new(Fragile(memory)));
    for _ in 0..2 {
        let look = scene.look(SERVERS, GATHER, Sharing::Pages);
        let seen =
            scene.clock.timeout(Duration::from_secs(60), look).await.expect("all are served");
        assert!(seen.iter().all(|(rows, _)| *rows == 2), "{seen:?}");
        assert_eq!(scene.listings(), (0, 20));
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_more_time_does_not_wait_for_the_others() {
    let scene = Scene::new(None);
    scene.fault("list:latency=20s");
    let now = scene.clock.now().uptime;
    let when = When { earliest: now, latest: now };
    let scope = CallContext::until(now + Duration::from_secs(5));
    let hasty = scene.client.look(ServerId::new(101), &scope, when, Sharing::Pages);
    let (hasty, _) = tokio::join!(hasty, scene.look(SERVERS, NONE, Sharing::Pages));
    assert_eq!(hasty.unwrap_err(), CallError::OutOfTime);
}

/// Leaves this many rows of the first server out of listings of the account.
struct Lacking(InMemory, usize);

impl Transport for Lacking {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        if request.path != "snapshots/" || request.method != Method::Get {
            return self.0.exchange(request);
        }
        Box::pin(async move {
            let mut response = self.0.exchange(request).await?;
            let mut page: serde_json::Value =
                serde_json::from_slice(&response.body.unwrap()).unwrap();
            let rows = page["results"].as_array_mut().unwrap();
            for _ in 0..self.1 {
                let place = rows.iter().position(|row| row["server"]["id"] == 101).unwrap();
                rows.remove(place);
            }
            page["count"] = rows.len().into();
            response.body = Ok(page.to_string().into_bytes());
            Ok(response)
        })
    }
}

#[rstest::rstest]
#[tokio::test(start_paused = true)]
async fn what_a_client_saw_is_missed_by_the_one_in_its_place(
    #[values(Sharing::Alone, Sharing::OneAnswer, Sharing::Pages)] sharing: Sharing,
) {
    let mut scene = Scene::new(None);
    scene.look(SERVERS, GATHER, sharing).await;
    scene.listings();
    scene.put_in_place(Box::new(Lacking(scene.memory.clone(), 1)));
    let seen = scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert!(seen.iter().all(|(rows, _)| *rows == 2), "{seen:?}");
    assert_eq!(scene.listings(), (1, 1));
}

/// It may be gone, have no snapshot yet, or not be shown at all: only its own listing tells.
#[tokio::test(start_paused = true)]
async fn a_server_of_which_no_row_is_shown_is_asked_for_alone() {
    let scene = Scene::over(None, |memory| Box::new(Lacking(memory, 2)));
    let seen = scene.look(SERVERS, GATHER, Sharing::OneAnswer).await;
    assert!(seen.iter().all(|(rows, _)| *rows == 2), "{seen:?}");
    assert_eq!(scene.listings(), (1, 1));
}

/// Rotations that were under way at a reload go on with the client from before.
#[tokio::test(start_paused = true)]
async fn what_a_client_changes_disturbs_the_pages_of_the_one_in_its_place() {
    let mut scene = Scene::new(Some(10));
    scene.fault("create:latency=60s");
    let before = Arc::clone(&scene.client);
    let listing = before.list(ServerId::new(101), &scene.scope).await.unwrap();
    let creation = Creation::by_hand("x".to_owned(), 5, &listing).unwrap();
    scene.put_in_place(Box::new(scene.memory.clone()));
    let scope = CallContext::default();
    let change = before.create(&creation, "", 1, &scope);
    let (_, seen) = tokio::join!(change, scene.look(SERVERS, GATHER, Sharing::Pages));
    assert_eq!(seen.len(), 20);
    assert_eq!(scene.listings(), (1, 20 + 2));
}

mod storm;

/// A copy that a cache keeps may be older than a request for it: each then asks alone, and sharing is not
/// tried for a while.
#[tokio::test(start_paused = true)]
async fn a_listing_from_a_cache_is_not_shared() {
    let scene = Scene::new(None);
    scene.clock.sleep(Duration::from_secs(100)).await;
    scene.fault("list:header=age:1,times=1");
    let begun = scene.clock.now().uptime;
    let seen = scene.look(SERVERS, GATHER, Sharing::Pages).await;
    assert!(
        seen.iter().all(|(rows, asked_at)| (*rows, *asked_at >= begun) == (2, true)),
        "{seen:?}"
    );
    assert_eq!(scene.listings(), (1, 20));
}

/// A listing is as old as its oldest page.
#[tokio::test(start_paused = true)]
async fn the_age_of_any_page_counts() {
    let scene = Scene::new(Some(1));
    scene.clock.sleep(Duration::from_secs(100)).await;
    for after in [0, 1] {
        scene.fault(&format!("list:header=age:50,after={after},times=1"));
        let now = scene.clock.now();
        let listing = scene.client.list(ServerId::new(101), &scene.scope).await.unwrap();
        assert_eq!(listing.asked_at.age_at(now), Duration::from_secs(50), "page {}", after + 1);
    }
}
