//! Where a process is killed.

use std::fmt;
use std::str::FromStr;

use snapring::sandbox::faults::{Effect, Fault};
use snapring::sandbox::provider::Provider;

/// A place in a process's life: at its nth call, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    pub call: usize,
    pub place: Place,
}

/// Where in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The request has left; the provider has not acted on it, and never will.
    Unseen,
    /// The provider has acted; the answer has not left.
    Acted,
    /// The process has understood the answer, and has been able to do nothing more at the provider.
    Answered,
}

impl Place {
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Unseen, "unseen"), (Self::Acted, "acted"), (Self::Answered, "answered")];
}

impl Kill {
    /// Makes the provider stop here, before all else that goes wrong.
    pub fn arm(self, provider: &mut Provider) {
        let (effect, passes) = match self.place {
            Place::Unseen => (Effect::Hang, self.call - 1),
            Place::Acted => (Effect::HangAfter, self.call - 1),
            // This one is answered. The next one is not, so that the process comes no further.
            Place::Answered => (Effect::Hang, self.call),
        };
        let after = u32::try_from(passes).unwrap();
        let stop =
            Fault { operation: None, effect, times: Some(1), after, server: None, chance: 1.0 };
        let others = others(provider);
        provider.faults().clear();
        provider.add_fault(stop);
        others.into_iter().for_each(|fault| provider.add_fault(fault));
    }

    /// Lets the provider go on.
    pub fn disarm(provider: &mut Provider) {
        let others = others(provider);
        provider.faults().clear();
        others.into_iter().for_each(|fault| provider.add_fault(fault));
    }
}

/// The scenario's own faults, of which none hangs.
fn others(provider: &mut Provider) -> Vec<Fault> {
    let hangs = |fault: &&Fault| matches!(fault.effect, Effect::Hang | Effect::HangAfter);
    provider.faults().iter().filter(|fault| !hangs(fault)).cloned().collect()
}

impl fmt::Display for Kill {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Place::ALL.iter().find(|(place, _)| *place == self.place).unwrap().1;
        write!(out, "{}:{word}", self.call)
    }
}

impl FromStr for Kill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (call, word) = text.split_once(':')?;
            let call = call.parse().ok().filter(|call| *call > 0)?;
            let place = Place::ALL.iter().find(|(_, known)| *known == word)?.0;
            Some(Self { call, place })
        };
        read().ok_or_else(|| format!("{text:?} is no place like 5:unseen, 5:acted or 5:answered"))
    }
}
