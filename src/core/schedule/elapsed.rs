//! The wall time that a schedule has lived through, in bounded memory.
//!
//! Kept apart from the planner because of the one promise that everything there rests on: what was
//! lived through stays so, however often the clock is stepped.

use jiff::Timestamp;

/// How many stretches are told apart.
const STRETCHES: usize = 16;

/// Stretches of wall time, disjoint and in order, both ends included.
#[derive(Debug, Default)]
pub(super) struct Lived(Vec<(Timestamp, Timestamp)>);

impl Lived {
    /// Adds a stretch.
    ///
    /// When there would be too many, the two that lie closest become one. To forget a stretch
    /// instead would be to fire its ticks again; this way the time between the two is kept quiet.
    pub(super) fn add(&mut self, from: Timestamp, to: Timestamp) {
        let (mut from, mut to) = (from, to.max(from));
        self.0.retain(|(other_from, other_to)| {
            let apart = *other_to < from || to < *other_from;
            if !apart {
                from = from.min(*other_from);
                to = to.max(*other_to);
            }
            apart
        });
        self.0.push((from, to));
        self.0.sort_unstable();
        if self.0.len() > STRETCHES {
            self.join_closest();
        }
    }

    /// The stretch that holds an instant.
    pub(super) fn around(&self, instant: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let after = self.0.partition_point(|(from, _)| *from <= instant);
        let stretch = self.0.get(after.checked_sub(1)?)?;
        (instant <= stretch.1).then_some(*stretch)
    }

    fn join_closest(&mut self) {
        let gaps = self.0.iter().zip(self.0.iter().skip(1));
        let closest = gaps
            .enumerate()
            .min_by_key(|(_, ((_, to), (from, _)))| from.duration_since(*to))
            .map(|(place, _)| place);
        let Some(place) = closest else { return };
        let (_, to) = self.0.remove(place + 1);
        if let Some(joined) = self.0.get_mut(place) {
            joined.1 = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn stretches_that_touch_become_one() {
        let mut lived = Lived::default();
        lived.add(at(10), at(20));
        lived.add(at(40), at(50));
        assert_eq!(lived.around(at(30)), None);
        lived.add(at(20), at(40));
        assert_eq!(lived.around(at(30)), Some((at(10), at(50))));
        assert_eq!((lived.around(at(9)), lived.around(at(51))), (None, None));
    }

    #[test]
    fn sixteen_stretches_are_told_apart_and_of_more_the_closest_become_one() {
        let mut lived = Lived::default();
        // Ever further apart, the last but two and the last but one excepted.
        let starts = [0, 20, 41, 63, 86, 110, 135, 161, 188, 216, 245, 275, 306, 338, 352, 387];
        starts.iter().for_each(|from| lived.add(at(*from), at(from + 10)));
        assert!(
            starts.iter().all(|from| lived.around(at(*from)) == Some((at(*from), at(from + 10))))
        );
        lived.add(at(1_000), at(1_010));
        assert_eq!(lived.around(at(350)), Some((at(338), at(362))));
        let others = starts.iter().filter(|from| !(338..=352).contains(*from));
        for from in others {
            assert_eq!(lived.around(at(*from)), Some((at(*from), at(from + 10))));
            assert_eq!(lived.around(at(from + 11)), None);
        }
    }

    proptest! {
        #[test]
        fn what_was_lived_stays_so_in_bounded_memory(
            stretches in prop::collection::vec((0..10_000_i64, 0..50_i64), 1..100),
        ) {
            let mut lived = Lived::default();
            for (count, (from, length)) in stretches.iter().enumerate() {
                lived.add(at(*from), at(from + length));
                prop_assert!(lived.0.len() <= STRETCHES);
                prop_assert!(lived.0.iter().all(|(from, to)| from <= to));
                prop_assert!(lived.0.iter().zip(lived.0.iter().skip(1)).all(|(a, b)| a.1 < b.0));
                for (from, length) in &stretches[..=count] {
                    prop_assert!(lived.around(at(*from)).is_some_and(|it| at(from + length) <= it.1));
                }
            }
        }
    }
}
