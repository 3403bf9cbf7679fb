//! The rule that is left out. With any of them left out, the checker must find what it prevents.

/// The rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// None: this is the protocol.
    Nothing,
    /// Trust is checked before each send.
    CheckBeforeSend,
    /// A new holder waits before it looks.
    Grace,
    /// It waits long enough.
    LastUnitOfGrace,
    /// After a free row, it waits long enough.
    LastUnitOfProof,
    /// Trust counts from before the statement was sent. Here: from its answer.
    TrustFromQuestion,
    /// Trust counts by both clocks. Here: by the one that stops while the machine sleeps.
    TrustByWallClock,
    /// An answer after the end of the trust revives nothing.
    FinalEndOfTrust,
    /// A renewal matches holder and term. Here: any row.
    HolderInRenewal,
    /// Whether a row has lapsed is measured by the watcher's clock. Here: by the database's.
    WatchersOwnClock,
    /// The watch counts from the answer. Here: from the question.
    WatchFromAnswer,
    /// Another database is watched anew.
    WatchAnewAfterFailover,
    /// A take-over that another database answered waits as after a free row.
    CareWithTakeOverByOtherDatabase,
    /// After a free row, a new holder waits until the database has been the same for long enough.
    ProofAfterFreeRow,
    /// A rotation ends with its term.
    EndOfRotationWithTerm,
    /// A row is released once everything that was sent is listed. Here: once it was sent.
    ListedBeforeRelease,
    /// A replica in its own grace does not release.
    NoReleaseInGrace,
    /// A row that has lapsed is taken over. Here: never, so a dead holder is never replaced.
    TakeOverOfLapsed,
}
