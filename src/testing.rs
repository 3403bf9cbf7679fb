//! What unit tests share.

pub(crate) mod notes;
pub(crate) mod stage;

/// Runs it as a user who, unlike root, may not read everything. Only its thread is that user's.
pub(crate) fn as_nobody(run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
            run();
        });
    });
}
