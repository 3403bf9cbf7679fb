//! What goes wrong: at the provider, among people, and with the machine.

use std::sync::Mutex;

use jiff::Timestamp;
use rand::RngExt;
use rand::rngs::StdRng;
use snapring::naming::ServerId;
use snapring::sandbox::provider::Provider;

use crate::judge::Judge;
use crate::policy::pick;

/// Somebody works on a server's snapshots.
pub fn by_hand(
    provider: &Mutex<Provider>,
    judge: &Mutex<Judge>,
    server: u64,
    now: Timestamp,
    random: &mut StdRng,
) {
    let mut judge = judge.lock().unwrap();
    let mut provider = provider.lock().unwrap();
    let rows = provider.snapshots(ServerId::new(server), now);
    let any = (!rows.is_empty()).then(|| rows[random.random_range(0..rows.len())].clone());
    let what = match (random.random_range(0..13), any) {
        (12, _) => {
            provider.restore_begins(ServerId::new(server), now);
            "restored it".to_owned()
        }
        (0..5, _) if rows.len() < 9 => {
            provider.add_snapshot(ServerId::new(server), "made-by-hand", "completed", now);
            "made one".to_owned()
        }
        (0..8, Some(row)) => {
            provider.remove_snapshot(row.id);
            format!("removed {}", row.name)
        }
        (8..10, Some(row)) if rows.len() < 9 && judge.is_managed(server, &row.name) => {
            // Another machine, or a request that was delivered late.
            let id = provider.add_snapshot(row.server, &row.name, "completed", now);
            format!("made {} once more, {id}", row.name)
        }
        (_, Some(row)) => {
            let word = pick(random, &["failed", "archived", "completed"]);
            provider.set_status(row.id, word);
            format!("{} is {word} now", row.name)
        }
        _ => return,
    };
    judge.by_hand(server, now, what);
}

/// One snapshot of a server goes and another one comes: a listing that is being read loses a row, and
/// its `count` stays.
pub fn exchange(
    provider: &Mutex<Provider>,
    judge: &Mutex<Judge>,
    server: u64,
    now: Timestamp,
    random: &mut StdRng,
) {
    let mut provider = provider.lock().unwrap();
    let rows = provider.snapshots(ServerId::new(server), now);
    if rows.is_empty() {
        return;
    }
    let by_hand = rows.iter().find(|row| row.name == "made-by-hand");
    let gone = by_hand.unwrap_or(&rows[random.random_range(0..rows.len())]);
    provider.remove_snapshot(gone.id);
    provider.add_snapshot(gone.server, "made-by-hand", "completed", now);
    judge.lock().unwrap().by_hand(server, now, format!("exchanged {}", gone.name));
}

/// The token may not work on one server, or the account refuses all that it is asked.
pub fn forbidden(servers: &[u64], random: &mut StdRng) -> Vec<String> {
    let condition = pick(random, &[",times=2", ",times=30", ",chance=0.7", ""]);
    let status = pick(random, &["401", "403"]);
    if random.random_bool(0.3) {
        return ["any", "account"].map(|it| format!("{it}:status={status},times=25")).to_vec();
    }
    let server = pick(random, servers);
    vec![format!("any:status={status},server={server}{condition}")]
}

/// A fault of the provider, as a person would write it.
pub fn random_fault(random: &mut StdRng) -> String {
    let operation = pick(random, &["any", "list", "create", "delete"]);
    let effect = match operation {
        "create" => pick(
            random,
            &[
                "drop-after",
                "drop-before",
                "status=500",
                "status-after=500",
                "status=400",
                "status=404",
                "status=409",
                "status=408",
                "status=422",
                "status=423",
                "status=425",
                "status=403",
                "status-after=423",
                "status-after=301",
                "status-after=200",
                "status-after=408",
                "status-after=409",
                "status-after=425",
                "status-after=429",
                "status=429,retry-after=40",
                "status-after=429,retry-after=40",
                "status-after=429,retry-after=200000",
                "torn",
                "empty",
                "garbage",
                "huge",
                "fails",
                "never-completes",
                "vanishes",
                "renames",
                "renames",
                "skew=-10h",
                "skew=-30h",
                "skew=40h",
                "skew=-9000h",
                "skew=90000h",
                "late=12s",
                "hang",
                "latency=25s",
                "latency=50s",
                "stray=5s",
                "stray=28s",
                "stray=28s",
                "stray=40s",
                "stray=40s",
                "stray=58s",
                "stray=58s",
            ],
        ),
        "delete" => pick(
            random,
            &[
                "drop-after",
                "drop-before",
                "status=500",
                "status-after=500",
                "status=409",
                "status=408",
                "status=423",
                "status=425",
                "status=403",
                "status=404",
                "status=429",
                "status-after=200",
                "status-after=409",
                "status-after=429,retry-after=70",
                "status=429,retry-after=1200",
                "linger=12s",
                "ignored",
                "ignored",
                "hang",
                "latency=40s",
                "stray=20s",
                "stray=50s",
            ],
        ),
        "list" => pick(
            random,
            &[
                "torn",
                "empty",
                "garbage",
                "huge",
                "wrong-count",
                "foreign-next",
                "reads-failed",
                "reads-failed",
                "status=500",
                "status=429,retry-after=90",
                "status=429,retry-after=50000",
                "status=408",
                "status=409",
                "status=423",
                "status=425",
                "status-after=206",
                "header=age:30",
                "header=age:59",
                "header=age:600",
                "header=link:<http://x/?page=2>; rel=next",
                "status=403",
                "status=404",
                "status=302",
                "hang",
                "latency=20s",
                "drop-before",
            ],
        ),
        _ => pick(
            random,
            &[
                "latency=2s",
                "latency=29s",
                "status=500",
                "status=403",
                "status=425",
                "hang",
                "status=401",
                "drop-after",
                "status=429",
            ],
        ),
    };
    let condition = pick(
        random,
        &[",times=1", ",times=3", ",chance=0.3", ",chance=0.05", ",chance=0.8,times=20"],
    );
    format!("{operation}:{effect}{condition}")
}
