//! What holds whatever the provider, the hooks and the operator do.

use std::time::Duration;

use proptest::prelude::*;

use super::table::{OWN, SHOWS_UP, Stage, error, tick};
use crate::call::{CallError, Operation};
use crate::naming::ServerId;
use crate::plan::DeleteReason;
use crate::rotation::{Action, Event, HookEnd, HookMoment, Next};
use crate::snapshot::{Snapshot, Status};

const WHY: [&str; 15] = [
    "stale",
    "pinned",
    "interrupted",
    "out-of-time",
    "malformed",
    "rejected",
    "unauthorized",
    "forbidden",
    "not-found",
    "busy",
    "throttled",
    "throttled 86400s",
    "unconnected",
    "server-error",
    "transport",
];

/// What is there, to begin with and later; `own` comes into it as drawn.
const RINGS: [&str; 8] =
    ["", "c", "c c c", "c c c c", "c c c c c", "c f c", "H c c c H", "c p c c"];
const OWNS: [&str; 4] = ["", "own~", "own", "own!"];

/// What was seen of a rotation.
#[derive(Debug, Default)]
struct Seen {
    /// A complete listing since the last create was sent.
    looked: bool,
    is_recorded: bool,
    creates: u32,
    /// How often the provider was busy when a create came.
    busy: u32,
    was_created: bool,
    before_ran: bool,
    after_ran: bool,
    /// The last listing showed the tick's own snapshot as completed.
    own_is_completed: bool,
}

proptest! {
    #[test]
    fn the_rules_hold_and_every_rotation_ends(
        begin in "(before )?(after )?(unknown )?(earlier=54s )?(next=2h )?",
        ring in 0..RINGS.len(),
        drawn in proptest::collection::vec((0..100_u8, 0..WHY.len(), 0..OWNS.len(), 0..120_u64), 400),
    ) {
        let (mut stage, mut next) = Stage::begin(&begin);
        let mut seen = Seen::default();
        let mut ring = RINGS[ring].split_whitespace().collect::<Vec<_>>();
        let mut drawn = drawn.into_iter();
        let mut steps = 0;
        let report = loop {
            let action = match next {
                Next::End(report) => break report,
                Next::Do(action) => action,
            };
            steps += 1;
            // When nothing is left to draw, faults have ended and all goes well.
            let (chance, why, own, passed) = drawn.next().unwrap_or((0, 0, 2, 60));
            stage.pass(Duration::from_secs(passed));
            let goes_well = chance < 70;
            let failure = |operation| -> CallError { error(operation, WHY[why]) };
            let event = match action {
                Action::Look(look) => {
                    stage.pass(look.wait);
                    if goes_well {
                        seen.looked = true;
                        seen.own_is_completed = OWNS[own] == "own";
                        let rows = format!("{} {}", ring.join(" "), OWNS[own]);
                        stage.listed(&rows)
                    } else {
                        Event::Listed(Err(failure(Operation::List)))
                    }
                }
                Action::RecordCreate(name) => {
                    prop_assert_eq!(name, stage.server.policy.prefix.name(tick()));
                    seen.is_recorded = true;
                    Event::Recorded
                }
                Action::ForgetCreate => {
                    prop_assert!(seen.is_recorded);
                    seen.is_recorded = false;
                    Event::Recorded
                }
                Action::RunHook(hook) if hook.moment == HookMoment::Before => {
                    prop_assert!(!seen.before_ran, "the before hook runs once");
                    prop_assert!(seen.is_recorded, "the create is recorded before the hook");
                    let end = match chance % 4 {
                        0 | 1 => HookEnd::Done,
                        2 => HookEnd::Failed("no".to_owned()),
                        _ => HookEnd::NotStarted,
                    };
                    seen.before_ran = end != HookEnd::NotStarted;
                    Event::HookEnded(end)
                }
                Action::RunHook(_) => {
                    prop_assert!(!seen.after_ran, "the after hook runs once");
                    seen.after_ran = true;
                    Event::HookEnded(if goes_well { HookEnd::Done } else { HookEnd::Failed("no".to_owned()) })
                }
                Action::Create { creation, .. } => {
                    prop_assert!(seen.looked, "a create without a look before it");
                    prop_assert!(seen.is_recorded, "a create that is not recorded");
                    prop_assert!(!seen.was_created, "a second create");
                    prop_assert_eq!(creation.name(), stage.server.policy.prefix.name(tick()));
                    prop_assert!(ring.iter().filter(|word| **word != "-").count() < 5, "no free slot");
                    (seen.looked, seen.is_recorded) = (false, false);
                    seen.creates += 1;
                    seen.was_created = goes_well;
                    let answer = if goes_well {
                        Ok(Snapshot {
                            id: OWN,
                            server: ServerId::new(101),
                            name: creation.name().into(),
                            status: Status::InProgress,
                            size_mb: None,
                            created_at: tick().instant(),
                            description: None,
                        })
                    } else {
                        seen.busy += u32::from(WHY[why] == "busy");
                        Err(failure(Operation::Create))
                    };
                    Event::Created { answer, settled_at: stage.now.uptime + SHOWS_UP }
                }
                Action::Delete(deletion) => {
                    let place = usize::try_from(deletion.snapshot().0 - 1).unwrap();
                    prop_assert!(ring.get(place).is_some_and(|word| matches!(*word, "c" | "f")));
                    let to_make_room = !seen.own_is_completed;
                    if to_make_room {
                        prop_assert!(!seen.was_created, "a prune before the snapshot is there");
                    } else {
                        prop_assert!(deletion.why() != DeleteReason::Squeezed);
                    }
                    prop_assert!(
                        !seen.before_ran || begin.contains("after") == seen.after_ran || to_make_room,
                        "pruned before what was quiesced was woken"
                    );
                    if goes_well {
                        ring[place] = "-";
                        Event::Deleted(Ok(()))
                    } else {
                        Event::Deleted(Err(failure(Operation::Delete)))
                    }
                }
                Action::Wait(span) => {
                    stage.pass(span);
                    Event::Waited(if goes_well { Ok(()) } else { Err(CallError::Interrupted) })
                }
            };
            next = stage.next(event);
            prop_assert!(steps < 1000, "it does not end");
        };
        prop_assert!(seen.creates <= 5 + seen.busy, "{} creates", seen.creates);
        if begin.contains("before") && begin.contains("after") {
            prop_assert_eq!(seen.before_ran, seen.after_ran, "what was quiesced must wake");
        }
        prop_assert!(!report.reason.is_some_and(|reason| reason.contains("a bug in snapring")));
    }
}
