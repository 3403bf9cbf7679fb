//! What keeps the number of states finite.
//!
//! States that no future can tell apart become one. Times older than their longest use become equal.
//! Holders, terms, beats and databases are numbered anew: only equality and "one more" matter to them,
//! so a larger gap between two of them becomes a gap of two.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use snapring_core::moment::Moment;
use snapring_core::replica::{Answer, Beat, Database, HolderId, Order, Rewrite, Term, Version};

use crate::fleet::{Failovers, Fleet, UNIT, units};
use crate::state::{NOW, Node, State, moment};
use crate::step::long_ago;
use crate::variant::Without;

/// A larger gap than one is as good as any.
const GAP: u64 = 2;

/// The state that stands for all that differ from this one in nothing that matters.
pub fn canonical(fleet: &Fleet, mut state: State) -> State {
    drop_what_can_have_no_effect(fleet, &mut state);
    if fleet.faults.failovers != Failovers::None {
        for node in &mut state.nodes {
            rename_databases(fleet, node, state.database);
        }
    }
    state.database.timeline = CURRENT;
    if state.failovers_left == Failovers::None {
        // Nothing reads it.
        state.copy = state.row;
    }
    if fleet.interchangeable {
        put_in_order(fleet, &mut state);
    }
    let mut numbers = Numbers::default();
    visit(fleet, &mut state, &mut numbers);
    visit(fleet, &mut state, &mut numbers.renamed());
    state
}

fn drop_what_can_have_no_effect(fleet: &Fleet, state: &mut State) {
    let holders = [state.row.version.holder, state.copy.version.holder];
    let mut looks = false;
    for node in &mut state.nodes {
        // A holder that is in neither row never comes back.
        let is_dead = match node.stray {
            Some(Order::TakeOver { seen, .. }) => !holders.contains(&seen.holder),
            Some(Order::Renew { holder, .. } | Order::Release { holder, .. }) => {
                fleet.without != Without::HolderInRenewal && !holders.contains(&Some(holder))
            }
            _ => true,
        };
        if is_dead {
            node.stray = None;
        }
        if let Some(statement) = &mut node.statement {
            let trusts = matches!(statement.order, Order::TakeOver { .. } | Order::Renew { .. });
            if !trusts && fleet.without != Without::WatchFromAnswer {
                statement.sent_at = NOW;
            }
        }
        // Nor does a holding that has ended.
        let current = node.replica.holds(long_ago());
        if fleet.without != Without::EndOfRotationWithTerm && node.look != current {
            node.look = None;
        }
        looks |= node.look.is_some();
    }
    if !looks {
        state.looked_last = None;
    }
}

/// What the database is called that answers now.
const CURRENT: u32 = 10;

/// A database that was left never comes back, so only what one replica remembers of it matters.
fn rename_databases(fleet: &Fleet, node: &mut Node, current: Database) {
    let mut left = DatabasesLeft { current: current.timeline, found: Vec::new(), is_known: false };
    visit_node(fleet, node, &mut left);
    left.found.sort_unstable();
    left.found.dedup();
    left.is_known = true;
    visit_node(fleet, node, &mut left);
}

struct DatabasesLeft {
    current: u32,
    found: Vec<u32>,
    is_known: bool,
}

impl Rewrite for DatabasesLeft {
    fn moment(&mut self, _: &mut Moment, _: Duration) {}

    fn uptime(&mut self, _: &mut Duration, _: Duration) {}

    fn holder(&mut self, _: &mut HolderId) {}

    fn term(&mut self, _: &mut Term) {}

    fn version(&mut self, _: &mut Version) {}

    fn database(&mut self, database: &mut Database) {
        if !self.is_known {
            self.found.push(database.timeline);
        } else if database.timeline == self.current {
            database.timeline = CURRENT;
        } else {
            let position = self.found.iter().position(|it| *it == database.timeline);
            database.timeline =
                position.and_then(|it| u32::try_from(it).ok()).unwrap_or_default() + 1;
        }
    }
}

/// Puts the replicas in an order that depends on what they do, as far as that can be seen without the
/// numbers of holders.
fn put_in_order(fleet: &Fleet, state: &mut State) {
    let looked_last = state.looked_last;
    let mut nodes: Vec<_> = std::mem::take(&mut state.nodes)
        .into_iter()
        .enumerate()
        .map(|(number, node)| {
            let mut blank = node.clone();
            visit_node(fleet, &mut blank, &mut Blank);
            let holds = node.replica.holds(long_ago());
            let mut hasher = Mixer::default();
            blank.hash(&mut hasher);
            (looked_last == Some(number)).hash(&mut hasher);
            holds.is_some_and(|it| state.row.version.holder == Some(it)).hash(&mut hasher);
            (hasher.finish(), looked_last == Some(number), node)
        })
        .collect();
    nodes.sort_by_key(|(key, ..)| *key);
    state.looked_last = nodes.iter().position(|(_, looked_last, _)| *looked_last);
    state.nodes = nodes.into_iter().map(|(.., node)| node).collect();
}

/// A hash that is fast and the same in every run. Two replicas with the same one only stay in their order.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// Times stay, cut to what matters. Numbers go.
struct Blank;

impl Rewrite for Blank {
    fn moment(&mut self, moment: &mut Moment, matters_for: Duration) {
        Numbers::default().moment(moment, matters_for);
    }

    fn uptime(&mut self, uptime: &mut Duration, matters_for: Duration) {
        Numbers::default().uptime(uptime, matters_for);
    }

    fn holder(&mut self, holder: &mut HolderId) {
        *holder = HolderId(0);
    }

    fn term(&mut self, term: &mut Term) {
        *term = Term(0);
    }

    fn version(&mut self, version: &mut Version) {
        *version = Version::default();
    }

    fn database(&mut self, _: &mut Database) {}
}

/// All times and numbers of a state, always in the same order.
fn visit(fleet: &Fleet, state: &mut State, by: &mut dyn Rewrite) {
    by.version(&mut state.row.version);
    by.version(&mut state.copy.version);
    for node in &mut state.nodes {
        visit_node(fleet, node, by);
    }
}

fn visit_node(fleet: &Fleet, node: &mut Node, by: &mut dyn Rewrite) {
    node.replica.rewrite(by);
    if let Some(statement) = &mut node.statement {
        by.moment(&mut statement.sent_at, units(fleet.lease));
        visit_order(&mut statement.order, by);
        if let Some((database, answer)) = &mut statement.carried_out {
            by.database(database);
            if let Answer::Read(row) = answer {
                by.version(&mut row.version);
            }
        }
    }
    if let Some(order) = &mut node.stray {
        visit_order(order, by);
    }
    if let Some(holder) = &mut node.look {
        by.holder(holder);
    }
    if let Some(database) = &mut node.answered_by {
        by.database(database);
    }
}

fn visit_order(order: &mut Order, by: &mut dyn Rewrite) {
    match order {
        Order::Read => {}
        Order::TakeOver { seen, holder } => {
            by.version(seen);
            by.holder(holder);
        }
        Order::Renew { holder, term } | Order::Release { holder, term } => {
            by.holder(holder);
            by.term(term);
        }
    }
}

/// The numbers that occur.
#[derive(Debug, Default)]
struct Numbers {
    holders: Vec<HolderId>,
    terms: Vec<u64>,
    beats: Vec<(Option<HolderId>, u64)>,
}

impl Numbers {
    fn renamed(mut self) -> Renamed {
        self.terms.sort_unstable();
        self.terms.dedup();
        self.beats.sort_unstable();
        self.beats.dedup();
        let terms = close_gaps(&self.terms);
        let mut beats = Vec::new();
        for group in self.beats.chunk_by(|one, other| one.0 == other.0) {
            let numbers: Vec<u64> = group.iter().map(|(_, beat)| *beat).collect();
            beats.extend(group.iter().copied().zip(close_gaps(&numbers)));
        }
        Renamed { terms: self.terms.iter().copied().zip(terms).collect(), beats, numbers: self }
    }
}

/// From zero, with the same order and the same neighbours.
fn close_gaps(sorted: &[u64]) -> Vec<u64> {
    let mut closed = Vec::with_capacity(sorted.len());
    let mut last = 0;
    for (index, number) in sorted.iter().enumerate() {
        if let Some(before) = index.checked_sub(1).and_then(|before| sorted.get(before)) {
            last += (number - before).min(GAP);
        }
        closed.push(last);
    }
    closed
}

impl Rewrite for Numbers {
    fn moment(&mut self, moment: &mut Moment, matters_for: Duration) {
        // Trust takes the larger age of both clocks, and nothing else uses a wall clock.
        let at = NOW.uptime - moment.age_at(NOW).min(matters_for);
        if moment.uptime != at || moment.age_at(NOW) > matters_for {
            *moment = crate::state::moment(at);
        }
    }

    fn uptime(&mut self, uptime: &mut Duration, matters_for: Duration) {
        *uptime = (*uptime).max(NOW.uptime - matters_for);
    }

    fn holder(&mut self, holder: &mut HolderId) {
        if !self.holders.contains(holder) {
            self.holders.push(*holder);
        }
    }

    fn term(&mut self, term: &mut Term) {
        self.terms.push(term.0);
    }

    fn version(&mut self, version: &mut Version) {
        if let Some(holder) = &mut version.holder {
            self.holder(holder);
        }
        self.term(&mut version.term);
        self.beats.push((version.holder, version.beat.0));
    }

    fn database(&mut self, _: &mut Database) {}
}

/// The numbers that replace them.
#[derive(Debug)]
struct Renamed {
    terms: Vec<(u64, u64)>,
    beats: Vec<((Option<HolderId>, u64), u64)>,
    numbers: Numbers,
}

impl Rewrite for Renamed {
    fn moment(&mut self, _: &mut Moment, _: Duration) {}

    fn uptime(&mut self, _: &mut Duration, _: Duration) {}

    fn holder(&mut self, holder: &mut HolderId) {
        let position = self.numbers.holders.iter().position(|it| it == holder);
        *holder = HolderId(position.unwrap_or_default() as u128 + 1);
    }

    fn term(&mut self, term: &mut Term) {
        if let Some((_, new)) = self.terms.iter().find(|(old, _)| *old == term.0) {
            *term = Term(*new);
        }
    }

    fn version(&mut self, version: &mut Version) {
        let key = (version.holder, version.beat.0);
        if let Some((_, new)) = self.beats.iter().find(|(old, _)| *old == key) {
            version.beat = Beat(*new);
        }
        if let Some(holder) = &mut version.holder {
            self.holder(holder);
        }
        self.term(&mut version.term);
    }

    fn database(&mut self, _: &mut Database) {}
}

/// Makes everything that a node remembers one unit older, by the clocks that have gone on.
pub fn make_older(node: &mut Node, uptime: bool, wall: bool) {
    let mut older = Older { uptime, wall };
    node.replica.rewrite(&mut older);
    if let Some(statement) = &mut node.statement {
        older.moment(&mut statement.sent_at, Duration::ZERO);
    }
}

struct Older {
    uptime: bool,
    wall: bool,
}

impl Rewrite for Older {
    fn moment(&mut self, at: &mut Moment, _: Duration) {
        let earlier = moment(at.uptime.saturating_sub(UNIT));
        if self.wall {
            at.wall = earlier.wall;
        }
        if self.uptime {
            at.uptime = earlier.uptime;
        }
    }

    fn uptime(&mut self, uptime: &mut Duration, _: Duration) {
        if self.uptime {
            *uptime = uptime.saturating_sub(UNIT);
        }
    }

    fn holder(&mut self, _: &mut HolderId) {}

    fn term(&mut self, _: &mut Term) {}

    fn version(&mut self, _: &mut Version) {}

    fn database(&mut self, _: &mut Database) {}
}
