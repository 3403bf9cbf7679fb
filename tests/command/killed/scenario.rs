//! What a process finds when it begins.

use std::time::Duration;

/// How the process is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `snapring run`, which finds that a tick was missed, and finds it again after a crash.
    Run,
    /// `snapring rotate web`: each start has a tick of its own, the present second.
    Rotate,
}

/// A ring, its policy, and a provider. In all of them stand a snapshot made by hand whose name
/// looks like a managed one, a pinned one with a managed name, and another server's managed ones.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub command: Command,
    pub cap: u32,
    pub reserve: u32,
    /// The `keep` newest are kept.
    pub keep: u32,
    /// Managed snapshots: made so many days before the tick, in this state.
    pub managed: &'static [(i64, &'static str)],
    /// How many were made by hand.
    pub by_hand: u32,
    pub page_size: Option<usize>,
    pub settle: &'static str,
    /// How long a snapshot takes.
    pub completion: Duration,
    pub faults: &'static [&'static str],
}

impl Scenario {
    /// Three managed ones and two others: `keep` is reached, and so is the cap.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            command: Command::Run,
            cap: 5,
            reserve: 0,
            keep: 3,
            managed: &[(3, "completed"), (2, "completed"), (1, "completed")],
            by_hand: 1,
            page_size: None,
            settle: "200ms",
            // Before the first look for it, which comes after a second.
            completion: Duration::from_millis(300),
            faults: &[],
        }
    }

    /// How many managed snapshots have room beside the others.
    pub fn room(&self) -> usize {
        let pinned = 1;
        (self.cap - self.reserve.max(self.by_hand + pinned)) as usize
    }

    /// How many managed snapshots there are once all is well.
    pub fn full(&self) -> usize {
        self.room().min(self.keep as usize)
    }
}

/// A daemon that finds that a tick was missed.
pub fn of_the_daemon() -> Vec<Scenario> {
    let ring = Scenario::new;
    vec![
        // The longest first: it is carried out, its answer is lost, and listings show it late. There
        // is room to make it twice.
        Scenario {
            managed: &[(1, "completed")],
            settle: "3s",
            faults: &["create:drop-after,times=1", "create:late=2800ms"],
            ..ring("a create whose answer is lost")
        },
        // The next life is still shown the victim that this one took.
        Scenario { faults: &["delete:linger=1h,times=1"], ..ring("a victim that lingers") },
        Scenario { managed: &[], ..ring("an empty ring") },
        ring("a full ring"),
        // `keep` asks for three, and others have left room for two.
        Scenario {
            by_hand: 2,
            managed: &[(2, "completed"), (1, "completed")],
            ..ring("a squeezed ring")
        },
        Scenario { keep: 2, reserve: 3, ..ring("two victims at once") },
        Scenario {
            cap: 8,
            keep: 2,
            managed: &[
                (5, "completed"),
                (4, "completed"),
                (3, "completed"),
                (2, "completed"),
                (1, "completed"),
            ],
            ..ring("a keep that was lowered")
        },
        // Looked for twice: a restart finds it in progress.
        Scenario {
            keep: 2,
            cap: 6,
            completion: Duration::from_millis(1600),
            ..ring("a slow snapshot")
        },
        Scenario { keep: 2, page_size: Some(3), ..ring("a listing of several pages") },
        Scenario { faults: &["create:drop-before,times=1"], ..ring("a create that never arrives") },
    ]
}

/// A person who asks for a rotation, and asks again.
pub fn by_hand() -> Vec<Scenario> {
    let ring = |name| Scenario { command: Command::Rotate, ..Scenario::new(name) };
    vec![
        Scenario { managed: &[], ..ring("an empty ring by hand") },
        ring("a full ring by hand"),
        Scenario {
            cap: 8,
            keep: 1,
            managed: &[(3, "completed"), (2, "completed"), (1, "completed")],
            ..ring("much to prune by hand")
        },
        Scenario {
            faults: &["create:drop-after,times=1"],
            ..ring("a create whose answer is lost by hand")
        },
        // There is room to make it twice.
        Scenario {
            managed: &[(1, "completed")],
            faults: &["create:late=900ms"],
            ..ring("a create that is listed late by hand")
        },
    ]
}
