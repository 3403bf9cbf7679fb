//! Equal values in one place of memory: of a fleet's descriptions, schedules and hooks there are few,
//! and its servers are many.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// The values that there are, for as long as more are read.
#[derive(Debug)]
pub(crate) struct Interner<T: ?Sized>(HashSet<Arc<T>>);

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: Eq + Hash + ?Sized> Interner<T> {
    /// The one that all its equals share.
    pub(crate) fn one<V: Borrow<T> + Into<Arc<T>>>(&mut self, value: V) -> Arc<T> {
        if let Some(known) = self.0.get(value.borrow()) {
            return Arc::clone(known);
        }
        let new = value.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_others_are_not() {
        let mut texts = Interner::<str>::default();
        let (first, again, other) = (texts.one("daily"), texts.one("daily"), texts.one("hourly"));
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!((&*again, &*other), ("daily", "hourly"));
    }
}
