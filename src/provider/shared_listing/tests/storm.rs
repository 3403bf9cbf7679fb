//! Everything at once, by chance: each look is answered in bounded time, with a listing that was
//! asked for after it asked, and that shows all that was done to its server.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::plan::Deletion;
use crate::snapshot::Listing;

const FAULTS: [&str; 10] = [
    "list:status=500,chance=0.05",
    "list:status=429,retry-after=20,chance=0.02",
    "list:hang,chance=0.02",
    "list:torn,chance=0.05",
    "list:wrong-count,chance=0.05",
    "list:drop-before,chance=0.05",
    "list:latency=7s,chance=0.3",
    "list:latency=300ms",
    "any:status=429,chance=0.02",
    "create:latency=3s,chance=0.5",
];

/// Longer than any look may take in such a storm: five tries of thirty seconds after one for all.
const PATIENCE: Duration = Duration::from_secs(900);

async fn one_server(scene: &Scene, server: ServerId, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let truth = || {
        let mut provider = scene.memory.provider.lock().unwrap();
        provider.snapshots(server, scene.clock.now().wall).iter().map(|row| row.id).collect()
    };
    let check = |listing: &Listing| {
        let mut seen: Vec<_> = listing.snapshots.iter().map(|row| row.id).collect();
        let mut real: Vec<_> = truth();
        seen.sort_unstable();
        real.sort_unstable();
        assert_eq!(seen, real, "server {server}");
    };
    // A server of which nothing is known must not look at pages.
    let mut is_known = false;
    for nth in 0..30 {
        scene.clock.sleep(Duration::from_millis(random.random_range(0..20_000))).await;
        let asked = scene.clock.now().uptime;
        let earliest = asked + Duration::from_millis(random.random_range(0..3_000));
        let latest = earliest + Duration::from_millis([0, 200, 20_000][random.random_range(0..3)]);
        let sharing = match random.random_range(0..3) {
            0 => Sharing::Alone,
            1 => Sharing::OneAnswer,
            _ if is_known => Sharing::Pages,
            _ => Sharing::OneAnswer,
        };
        let when = When { earliest, latest };
        let look = scene.client.look(server, &scene.scope, when, sharing);
        let looked = scene.clock.timeout(PATIENCE, look).await.expect("an answer");
        let Ok(listing) = looked else { continue };
        assert!(listing.asked_at.uptime >= earliest, "asked for too early");
        check(&listing);
        is_known = true;
        if random.random_bool(0.5) {
            continue;
        }
        if listing.snapshots.len() > 2 {
            let victim = listing.snapshots[0].id;
            let deletion = Deletion::by_hand(victim, &listing).unwrap();
            let scope =
                CallContext::of_server(server, server.to_string(), scene.scope.shutdown.clone());
            let _ = scene.client.delete(&deletion, &scope).await;
        } else if let Some(creation) = Creation::by_hand(format!("own-{nth}"), 5, &listing) {
            let _ = scene.client.create(&creation, "", 1, &scene.scope).await;
        }
    }
}

#[rstest::rstest]
#[tokio::test(start_paused = true)]
async fn whatever_happens_a_look_is_answered_and_shows_all_that_was_done(
    #[values(None, Some(7), Some(25), Some(40))] page_size: Option<usize>,
    #[values(true, false)] oldest_first: bool,
) {
    for seed in 0..4 {
        let scene = Scene::new(page_size);
        let mut random = StdRng::seed_from_u64(seed);
        scene.memory.provider.lock().unwrap().options_mut().oldest_first = oldest_first;
        for fault in FAULTS {
            if random.random_bool(0.3) {
                scene.fault(fault);
            }
        }
        // Strangers on the same account come and go.
        let strangers = async {
            loop {
                scene.clock.sleep(Duration::from_millis(random.random_range(0..500))).await;
                let now = scene.clock.now().wall;
                let mut provider = scene.memory.provider.lock().unwrap();
                let rows = provider.snapshots(ServerId::new(120), now);
                let id = ServerId::new(120);
                if rows.len() > 2 {
                    provider.remove_snapshot(rows[random.random_range(0..rows.len())].id);
                }
                provider.add_snapshot(id, "by-hand", "completed", now);
            }
        };
        let servers = (101..119).map(|id| one_server(&scene, ServerId::new(id), seed * 1000 + id));
        tokio::select! {
            () = strangers => {}
            _ = futures_util::future::join_all(servers) => {}
        }
    }
}
