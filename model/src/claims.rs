//! Another protocol: no holder, but a claim for each server and tick.
