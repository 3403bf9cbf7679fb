//! A provider that allows one change of the account in a number of seconds, and says when the next one
//! may come.

use super::*;
use crate::answer::Headers;
use crate::provider::transport::Response;

struct Scarce {
    memory: InMemory,
    clock: Clock,
    apart: Duration,
    /// In the clock's uptime.
    next: Mutex<Duration>,
}

impl Transport for Scarce {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        if request.method == Method::Get {
            return self.memory.exchange(request);
        }
        let now = self.clock.now().uptime;
        let mut next = self.next.lock().unwrap();
        let wait = next.saturating_sub(now);
        if wait.is_zero() {
            *next = now + self.apart;
            return self.memory.exchange(request);
        }
        let retry_after = Some((wait.as_secs() + 1).to_string());
        Box::pin(async move {
            Ok(Response {
                status: 429,
                retry_after,
                headers: Headers::default(),
                body: Ok(Vec::new()),
            })
        })
    }
}

/// The rings are full, so that each rotation deletes one snapshot before it creates the next.
#[rstest::rstest]
#[case::each_minute(40, 60)]
#[case::six_an_hour(12, 600)]
#[tokio::test(start_paused = true)]
async fn where_changes_are_scarce_every_server_has_its_snapshot_before_the_next_tick(
    #[case] servers: u64,
    #[case] apart: u64,
) {
    let (stage, mut settings) = fleet(servers, "", |options| options.cap = 3);
    let full = |id| server(id, "schedule = \"0 3 * * *\"\ncap = 3");
    settings.servers =
        super::super::settings(&(101..).take(servers as usize).map(full).collect::<String>())
            .servers;
    stage.memory.provider.lock().unwrap().add_fault("any:latency=250ms".parse().unwrap());
    let transport = Scarce {
        memory: stage.memory.clone(),
        clock: stage.clock.clone(),
        apart: Duration::from_secs(apart),
        next: Mutex::default(),
    };
    let daemon = stage.daemon(&settings, Box::new(transport)).await;
    stage.pass(20).await;
    drop(daemon);
    let mut told = stage.told();
    told.sort();
    let all = (101..).take(servers as usize).map(|id| format!("{id} rotated"));
    assert_eq!(told, all.collect::<Vec<_>>(), "{:?}", stage.reports.lock().unwrap()[0].reason);
}
