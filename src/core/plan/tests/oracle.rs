//! A second implementation of what a rotation deletes, from the words of the contract. It shares no code with the first:
//! rows of numbers, days as periods, no types of the crate.

use std::collections::BTreeMap;

use super::*;

/// One snapshot. The clocks agree: what was created later has the later tick and the higher id.
#[derive(Debug, Clone)]
struct Row {
    id: u64,
    /// Hours since the epoch.
    hour: i64,
    state: State,
    owner: Owner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Completed,
    Failed,
    InProgress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Own,
    Pinned,
    Foreign,
}

#[derive(Debug, Clone)]
struct Scene {
    rows: Vec<Row>,
    keep: [u32; 6],
    cap: u32,
    reserve: u32,
    /// The hour of the tick that is planned.
    tick: i64,
}

/// What the oracle expects: `None` is blocked, else who makes room, in order, and who is pruned.
type Expected = Option<(Vec<u64>, BTreeSet<u64>)>;

/// The hour's period of a rule, in UTC: hours, days, weeks from Monday, months of the calendar, years.
fn period(rule: usize, hour: i64) -> (i64, i64) {
    let day = hour.div_euclid(24);
    let (year, month, _) = crate::testing::calendar::date(day);
    match rule {
        0 | 1 => (hour, 0),
        2 => (day, 0),
        // 1 January 1970 was a Thursday.
        3 => ((day + 3).div_euclid(7), 0),
        4 => (year, month),
        _ => (year, 0),
    }
}

/// Of these hours, newest first and each once, those that stay.
fn stay(hours: &[i64], keep: [u32; 6]) -> BTreeSet<i64> {
    let mut stay = BTreeSet::new();
    for (rule, slots) in keep.into_iter().enumerate() {
        let mut left = slots;
        let mut seen = Vec::new();
        for hour in hours {
            let period = period(rule, *hour);
            if left > 0 && !seen.contains(&period) {
                seen.push(period);
                left -= u32::from(stay.insert(*hour));
            }
        }
        if left > 0 {
            stay.extend(hours.last());
        }
    }
    stay
}

fn expected(scene: &Scene) -> Expected {
    let own = |state: State| {
        scene.rows.iter().filter(move |row| row.owner == Owner::Own && row.state == state)
    };
    let others = scene.rows.iter().filter(|row| row.owner != Owner::Own).count();
    let room = (scene.cap as usize).saturating_sub(others.max(scene.reserve as usize));
    let count = scene.rows.len() - others;
    // The newest of each tick stands for it.
    let mut of_hour: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    own(State::Completed).for_each(|row| of_hour.entry(row.hour).or_default().push(row.id));
    let newest_id = own(State::Completed).map(|row| row.id).max();
    let newest_first: Vec<i64> = of_hour.keys().rev().copied().collect();
    let duplicates: Vec<u64> =
        of_hour.values().flat_map(|ids| &ids[..ids.len() - 1]).copied().collect();
    let stands_for = |hour: &i64| *of_hour[hour].last().unwrap();
    let failed: Vec<u64> = own(State::Failed).map(|row| row.id).collect();
    let with_new: Vec<i64> =
        std::iter::once(scene.tick).chain(newest_first.iter().copied()).collect();
    let stay_beside_new = stay(&with_new, scene.keep);

    let needed = (count + 1).saturating_sub(room);
    let mut victims: Vec<u64> = failed.iter().chain(&duplicates).copied().collect();
    let costless = victims.len();
    let oldest_first = newest_first.iter().rev().filter(|hour| Some(stands_for(hour)) != newest_id);
    let (kept, dropped): (Vec<i64>, Vec<i64>) =
        oldest_first.copied().partition(|hour| stay_beside_new.contains(hour));
    let fits = (newest_first.len() + 1).saturating_sub(room);
    victims.extend(dropped.iter().map(stands_for));
    if others > scene.reserve as usize {
        victims.extend(kept.iter().map(stands_for).take(fits.saturating_sub(dropped.len())));
    }
    victims.truncate(costless + fits.max(1));
    if needed > 0 && (room == 0 || victims.len() < needed) {
        return None;
    }
    victims.truncate(needed);

    let gone = |id: u64| victims.contains(&id);
    let left: Vec<i64> = with_new
        .iter()
        .copied()
        .filter(|hour| *hour == scene.tick || !gone(stands_for(hour)))
        .collect();
    let stay = stay(&left, scene.keep);
    let dropped = left.iter().filter(|hour| !stay.contains(hour)).map(stands_for);
    let pruned = duplicates.iter().chain(&failed).copied().chain(dropped).filter(|id| !gone(*id));
    Some((victims.clone(), pruned.collect()))
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let step = prop::sample::select(vec![0_i64, 0, 1, 6, 24, 24, 24, 48, 168, 720, 9_000]);
    let state = prop::sample::select(vec![
        State::Completed,
        State::Completed,
        State::Completed,
        State::Completed,
        State::Failed,
        State::InProgress,
    ]);
    let owner = prop::sample::select(vec![
        Owner::Own,
        Owner::Own,
        Owner::Own,
        Owner::Own,
        Owner::Pinned,
        Owner::Foreign,
    ]);
    let rows = prop::collection::vec((step, state, owner), 0..8);
    let few = || prop::sample::select(vec![0_u32, 0, 0, 1, 1, 2]);
    let keep = [(); 6].map(|()| few());
    (rows, keep, 0..4_u32, 0..3_u32, 1..200_i64).prop_map(
        |(rows, mut keep, more, reserve, later)| {
            if keep == [0; 6] {
                keep[0] = 1;
            }
            let cap = keep.iter().sum::<u32>() + reserve + more;
            let mut hour = 489_000;
            let rows: Vec<Row> = (1..)
                .zip(rows)
                .map(|(id, (step, state, owner))| {
                    hour += step;
                    Row { id, hour, state, owner }
                })
                .collect();
            Scene { rows, keep, cap, reserve, tick: hour + later }
        },
    )
}

fn instant(hour: i64) -> Timestamp {
    Timestamp::from_second(hour * 3_600).unwrap()
}

fn planned(scene: &Scene) -> Expected {
    let [last, hourly, daily, weekly, monthly, yearly] = scene.keep;
    let pinned = scene.rows.iter().filter(|row| row.owner == Owner::Pinned);
    let policy = Policy {
        keep: Keep { last, hourly, daily, weekly, monthly, yearly },
        cap: scene.cap,
        reserve: scene.reserve,
        pinned: pinned.map(|row| SnapshotId(row.id)).collect(),
        ..policy()
    };
    let snapshot = |row: &Row| Snapshot {
        id: SnapshotId(row.id),
        server: ServerId::new(7),
        name: match row.owner {
            Owner::Foreign => format!("by-hand-{}", row.id).into(),
            _ => policy.prefix.name(Tick::at(instant(row.hour))).into(),
        },
        status: match row.state {
            State::Completed => Status::Completed,
            State::Failed => Status::Failed,
            State::InProgress => Status::InProgress,
        },
        size_mb: None,
        // Each a little later, as the provider makes them one after the other.
        created_at: instant(row.hour) + jiff::SignedDuration::from_secs(row.id.cast_signed()),
        description: None,
    };
    let asked_at = Moment { wall: instant(scene.tick), uptime: Duration::ZERO };
    let rows = scene.rows.iter().map(snapshot).collect();
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
    let tick = Tick::at(instant(scene.tick));
    let memory = RingMemory::default();
    let plan =
        Plan::forecast(&ring, &policy, tick, AskedBy::Schedule, &memory, instant(scene.tick));
    let victims = match &plan.step {
        Step::Blocked(_) => return None,
        Step::MakeRoom(victims) => ids(victims),
        Step::Create(_) => Vec::new(),
        other => panic!("{other:?}"),
    };
    Some((victims, ids(&plan.prunes).into_iter().collect()))
}

/// How many rings: `PROPTEST_CASES`, else a tenth of what was tried once.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(10_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn an_oracle_plans_the_same(scene in any_scene()) {
        prop_assert_eq!(planned(&scene), expected(&scene));
    }
}
