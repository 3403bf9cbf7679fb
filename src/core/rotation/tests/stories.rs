//! The rows. Each story is one way for a rotation to go; together they hold every transition.

use super::table::{Transitions, tell};

/// Steps 1 and 2: what is there, and whether the tick's snapshot is among it.
const LIST: &[&str] = &[
    "begin disabled                 | skipped: the server is disabled",
    // The whole of it: one look, the create, one look when it is done, and the prune.
    "begin                          | look 0s+200ms pages
     listed c c c                   | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c c c own           | delete 1
     deleted                        | rotated, made, deleted 1",
    // What was never listed must not be overlooked, and who is quiesced asks alone.
    "begin unknown                  | look 0s+200ms one answer
     unlisted transport             | failed: could not list the snapshots: so it is",
    "begin before                   | look 0s+200ms alone
     unlisted interrupted           | failed: interrupted by a shutdown",
    // The tick's snapshot is there: whole, unfinished, or failed.
    "begin                          | look 0s+200ms pages
     listed c c c own               | delete 1
     deleted                        | adopted, deleted 1",
    "begin                          | look 0s+200ms pages
     listed own~                    | look 1s+20s pages
     +1m listed own                 | adopted",
    "begin                          | look 0s+200ms pages
     listed c own!                  | look 1s+20s pages
     +1s listed c own!              | failed: the provider failed to create",
    // A result that belongs to no action ends the rotation, and nothing is done.
    "begin                          | look 0s+200ms pages
     deleted                        | failed: a bug in snapring",
    // An earlier create may still arrive: one look at once, one when it must be there.
    "begin earlier=54s              | look 0s+200ms one answer
     listed c                       | look 54s+200ms one answer
     +54s listed c                  | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c own               | rotated, made",
    // Another look showed what became of it meanwhile.
    "begin earlier=54s              | look 0s+200ms one answer
     +1m listed c                   | record
     recorded                       | create 1
     uncreated unauthorized         | failed: could not create the snapshot: the provider refused the token (401): so it is",
    "begin earlier=54s              | look 0s+200ms one answer
     unlisted transport             | failed: could not list the snapshots: so it is",
];

/// Step 3: room.
const MAKE_ROOM: &[&str] = &[
    // One that cannot be deleted is not passed over in silence, night after night.
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted rejected             | look 0s+200ms pages
     listed c c c c c               | delete 2
     deleted                        | look 0s+200ms pages
     listed c - c c c               | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c - c c c own       | delete 3
     deleted                        | failed, made, deleted 2 3: snapring-20261118T030000Z could not be deleted: the provider answered 400 (bad request)",
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     deleted                        | look 0s+200ms pages
     listed - c c c c               | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed - c c c c own       | delete 2
     deleted                        | delete 3
     deleted                        | rotated, made, deleted 1 2 3",
    "begin                          | look 0s+200ms pages
     listed H H H H H               | blocked: no room: 5 of 5 slots are taken",
    // What was deleted is still listed, for a while or for too long.
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     deleted                        | look 0s+200ms pages
     listed c c c c c               | wait 1s
     +1s waited                     | look 0s+200ms pages
     listed c c c c c               | wait 1s
     +20s waited                    | look 0s+200ms pages
     listed c c c c c               | failed: what was deleted to make room is still listed",
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     deleted                        | look 0s+200ms pages
     listed c c c c c               | wait 1s
     unwaited interrupted           | failed, deleted 1: interrupted by a shutdown",
    // One that stays by the provider's word, or by a pin: the plan takes the next.
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted rejected             | look 0s+200ms pages
     listed c c c c c               | delete 2
     undeleted pinned               | look 0s+200ms pages
     listed c c c c c               | delete 3
     deleted                        | look 0s+200ms pages
     listed c c - c c               | record
     recorded                       | create 1
     uncreated out-of-time          | failed, deleted 3: the provider gave no turn",
    // The listing became too old before anything was sent.
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted stale                | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted interrupted          | failed: interrupted by a shutdown",
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted unauthorized         | failed: could not delete the snapshot: the provider refused the token (401): so it is",
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted forbidden            | failed: the provider does not allow this for this server: could not delete the snapshot: the provider answered 403 (forbidden)",
    // It may be gone: a listing shows. If it is not, no other victim is deleted in its place.
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted transport            | look 0s+200ms one answer
     listed - c c c c               | look 0s+200ms pages
     listed - c c c c               | record
     recorded                       | create 1
     uncreated interrupted          | failed, deleted 1: interrupted by a shutdown",
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted transport            | look 0s+200ms one answer
     listed c c c c c               | look 1s+200ms one answer
     +20s listed c c c c c          | failed: could not delete the snapshot: so it is",
    // It may be carried out a moment after the answer.
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted malformed            | look 0s+200ms one answer
     listed c c c c c               | look 1s+200ms one answer
     +2s listed - c c c c           | look 0s+200ms pages
     listed - c c c c               | record
     recorded                       | create 1
     uncreated interrupted          | failed, deleted 1: interrupted by a shutdown",
    "begin                          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted transport            | look 0s+200ms one answer
     unlisted server-error          | failed: could not list the snapshots: the provider answered 503 (service unavailable): so it is",
    // Put off: the same one is asked for again, on a new listing. It may be gone all the same.
    "begin retries=1                | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted busy                 | look 1s+200ms one answer
     +1s listed c c c c c           | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted throttled 5s         | look 5s+200ms one answer
     +5s listed c c c c c           | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted busy                 | look 4s+200ms one answer
     +4s listed - c c c c           | look 0s+200ms pages
     listed - c c c c               | record
     recorded                       | create 1
     uncreated interrupted          | failed, deleted 1: interrupted by a shutdown",
    "begin next=1h                  | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted throttled 24h        | look 0s+200ms one answer
     listed c c c c c               | failed: could not delete the snapshot: the provider answered 429 (too many requests): so it is",
    "begin next=1h                  | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted busy                 | look 1s+200ms one answer
     +16m listed c c c c c          | look 0s+200ms pages
     listed c c c c c               | delete 1
     undeleted busy                 | look 0s+200ms one answer
     listed c c c c c               | failed: could not delete the snapshot: the provider answered 409 (conflict): so it is",
];

/// Step 4: the create, also one without a clear answer.
const CREATE: &[&str] = &[
    // It is looked for until a listing was asked for after the last moment at which it can arrive.
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated transport            | look 1s+200ms one answer
     +30s listed c                  | look 8s+200ms one answer
     +20s listed c                  | look 4s+200ms one answer
     +4s listed c                   | wait 1s
     +1s waited                     | look 0s+200ms one answer
     listed c                       | record
     recorded                       | create 2
     created                        | look 1s+20s pages
     +1m listed c own               | rotated, made",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated server-error         | look 1s+200ms one answer
     +1s listed c own~              | look 1s+20s pages
     +1m listed c own               | rotated, made",
    // It shows up while another try is waited for.
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated malformed            | look 1s+200ms one answer
     +20s listed c                  | wait 1s
     +1s waited                     | look 0s+200ms one answer
     listed c own                   | rotated, made",
    // Something came that has another name, and could be it.
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated transport            | look 1s+200ms one answer
     +54s listed c H                | failed: could not create the snapshot: so it is; by-hand-1 has appeared and may be the requested snapshot",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated transport            | look 1s+200ms one answer
     unlisted server-error          | failed: could not list the snapshots: the provider answered 503 (service unavailable): so it is",
    // Throttled: it may have been carried out all the same. Tries are counted, and so is the time.
    "begin retries=1                | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated throttled            | look 1s+200ms one answer
     +20s listed c                  | wait 1s
     +1s waited                     | look 0s+200ms one answer
     listed c                       | record
     recorded                       | create 2
     uncreated throttled            | look 1s+200ms one answer
     +20s listed c                  | failed: could not create the snapshot: the provider answered 429 (too many requests): so it is",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated throttled            | look 1s+200ms one answer
     +10s listed c own~             | look 1s+20s pages
     +1m listed c own               | rotated, made",
    "begin                          | look 0s+200ms pages
     +2m listed c                   | record
     recorded                       | create 1
     uncreated throttled            | look 1s+200ms one answer
     +20s listed c                  | failed: could not create the snapshot: the provider answered 429 (too many requests): so it is",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated throttled            | look 1s+200ms one answer
     +20s listed c                  | wait 1s
     unwaited interrupted           | failed: interrupted by a shutdown",
    // What the provider asked to wait counts from its answer on. Past the next tick there is no wait.
    "begin next=1h                  | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated throttled 5m         | look 1s+200ms one answer
     +20s listed c                  | wait 4m 40s
     +280s waited                   | look 0s+200ms one answer
     listed c                       | record
     recorded                       | create 2
     uncreated throttled 24h        | look 1s+200ms one answer
     +20s listed c                  | failed: could not create the snapshot: the provider answered 429 (too many requests): so it is",
    // Busy: not counted as a try, but for fifteen minutes at the most.
    "begin next=1h retries=0        | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated busy                 | look 1s+200ms one answer
     +20s listed c                  | wait 1s
     +1s waited                     | look 0s+200ms one answer
     listed c                       | record
     recorded                       | create 2
     uncreated busy                 | look 1s+200ms one answer
     +20s listed c                  | wait 2s
     +10m waited                    | look 0s+200ms one answer
     listed c                       | record
     recorded                       | create 3
     uncreated busy                 | look 1s+200ms one answer
     +20s listed c own~             | look 1s+20s pages
     +1m listed c own               | rotated, made",
    "begin next=1h                  | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated busy                 | look 1s+200ms one answer
     +20s listed c                  | wait 1s
     +15m waited                    | look 0s+200ms one answer
     listed c                       | record
     recorded                       | create 2
     uncreated busy                 | look 1s+200ms one answer
     +20s listed c                  | failed: could not create the snapshot: the provider answered 409 (conflict): so it is",
    // There was no connection: nothing can arrive.
    "begin retries=1                | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated unconnected          | wait 1s
     +1s waited                     | look 0s+200ms one answer
     listed c                       | record
     recorded                       | create 2
     uncreated unconnected          | failed: could not create the snapshot: so it is",
    // Nothing was sent: the listing was too old.
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated stale                | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated not-found            | failed: the account has no server with this id; `snapring check --online` lists those it has: could not create the snapshot: the provider answered 404 (not found)",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated forbidden            | failed: the provider does not allow this for this server: could not create the snapshot: the provider answered 403 (forbidden)",
    // A listing that is not found says nothing of the server.
    "begin                          | look 0s+200ms pages
     unlisted not-found             | failed: this is not the provider's API, or it has moved; check `base_url`: could not list the snapshots",
    // Rejected with room: final. Without: room is made once more. It may be there all the same.
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated rejected             | look 0s+200ms alone
     listed c                       | failed: could not create the snapshot: the provider answered 400 (bad request): so it is",
    "begin                          | look 0s+200ms pages
     listed c c c c                 | record
     recorded                       | create 1
     uncreated rejected             | look 0s+200ms alone
     listed c c c c H               | delete 1
     deleted                        | look 0s+200ms one answer
     listed - c c c H               | record
     recorded                       | create 2
     uncreated rejected             | look 0s+200ms alone
     listed - c c c H H             | failed, deleted 1: could not create the snapshot: the provider answered 400 (bad request): so it is",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated rejected             | look 0s+200ms alone
     listed c own~                  | look 1s+20s pages
     +1m listed c own               | rotated, made",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated rejected             | look 0s+200ms alone
     unlisted transport             | failed: could not list the snapshots: so it is",
];

/// The hooks around the create: what was quiesced is woken, however the rotation goes.
const HOOKS: &[&str] = &[
    // Recorded before the hook, which may freeze the file system that this is written to.
    "begin before after             | look 0s+200ms alone
     listed c                       | record
     recorded                       | before
     hook done                      | create 1
     created                        | look 1s+0s pages
     +1m listed c own               | after completed
     hook done                      | rotated, made",
    "begin before after             | look 0s+200ms alone
     listed c                       | record
     recorded                       | before
     hook failed                    | forget
     recorded                       | after failed
     hook done                      | failed: said no",
    "begin before after             | look 0s+200ms alone
     listed c                       | record
     recorded                       | before
     hook interrupted               | forget
     recorded                       | after failed
     hook failed                    | failed: interrupted by a shutdown; said no",
    "begin before after             | look 0s+200ms alone
     listed c                       | record
     recorded                       | before
     hook not-started               | forget
     recorded                       | failed: interrupted by a shutdown",
    // Once a rotation, however often the create is tried.
    "begin before after             | look 0s+200ms alone
     listed c                       | record
     recorded                       | before
     hook done                      | create 1
     uncreated throttled            | look 1s+200ms one answer
     +20s listed c                  | wait 1s
     +1s waited                     | look 0s+200ms alone
     listed c                       | record
     recorded                       | create 2
     uncreated unauthorized         | after failed
     hook done                      | failed: could not create the snapshot: the provider refused the token (401)",
    // `after` alone runs after each snapshot, and only then.
    "begin after                    | look 0s+200ms pages
     listed c c c                   | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c c c own           | after completed
     hook failed                    | delete 1
     deleted                        | failed, made, deleted 1: said no",
    "begin after                    | look 0s+200ms pages
     listed c own                   | adopted",
    // If both fail, the report has the reason of the pruning.
    "begin before after             | look 0s+200ms alone
     listed c c c                   | record
     recorded                       | before
     hook done                      | create 1
     created                        | look 1s+0s pages
     +1m listed c c c own           | after completed
     hook failed                    | delete 1
     undeleted rejected             | failed, made: snapring-20261120T030000Z could not be deleted",
];

/// Step 5: the wait.
const WAIT: &[&str] = &[
    // The further from the beginning, the further apart.
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1s listed c own~              | look 1s+20s pages
     +29s listed c own~             | look 30s+30s pages
     +30s unlisted transport        | look 1m+1m pages
     +1m listed c own~              | look 1m+1m 30s pages
     +42m unlisted server-error     | look 1m+0s pages
     +1m unlisted transport         | failed, made: snapring-20261123T030000Z was not completed within 45m (could not list the snapshots: so it is)",
    // One just created may be missing as long as `settle`; then its own listing is asked.
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1s listed c                   | look 1s+20s pages
     +29s listed c                  | look 30s+30s pages
     +30s listed c                  | look 20s+0s alone
     +20s listed c                  | failed: snapring-20261123T030000Z disappeared",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1s listed c own!              | failed: the provider failed to create snapring-20261123T030000Z",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     unlisted unauthorized          | failed, made: could not list the snapshots: the provider refused the token (401): so it is",
    // A listing is due a minute before the server's next rotation, and is not delayed to be shared.
    "begin next=100s                | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +30s listed c own~             | look 10s+0s pages
     +10s listed c own              | rotated, made",
];

/// Step 6: the pruning. One that cannot be deleted stops none of the others.
const PRUNE: &[&str] = &[
    // One that failed is deleted once two listings, five minutes apart, agree. Nothing fails for it.
    "begin                          | look 0s+200ms pages
     listed c f                     | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c f own             | look 4m+200ms one answer
     +4m listed c f own             | delete 2
     deleted                        | rotated, made, deleted 2",
    "begin                          | look 0s+200ms pages
     listed c f                     | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c f own             | look 4m+200ms one answer
     +4m unlisted transport         | rotated, made",
    "begin next=4m                  | look 0s+200ms pages
     listed c f                     | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c f own             | rotated, made",
    "begin retries=0                | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted busy                 | look 1s+200ms one answer
     +1s listed c c c c own         | delete 1
     undeleted throttled            | look 0s+200ms one answer
     listed c c c c own             | delete 2
     undeleted busy                 | look 4s+200ms one answer
     +4s listed c - c c own         | failed, deleted 2: snapring-20261119T030000Z could not be deleted: the provider answered 429 (too many requests)",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted rejected             | delete 2
     deleted                        | failed, deleted 2: snapring-20261119T030000Z could not be deleted: the provider answered 400 (bad request)",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted pinned               | delete 2
     deleted                        | adopted, deleted 2",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted transport            | look 0s+200ms one answer
     listed - c c c own             | delete 2
     undeleted server-error         | look 0s+200ms one answer
     listed - c c c own             | look 1s+200ms one answer
     +20s listed - c c c own        | failed, deleted 1: snapring-20261120T030000Z could not be deleted: the provider answered 503 (service unavailable)",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted transport            | look 0s+200ms one answer
     unlisted unauthorized          | failed: could not list the snapshots: the provider refused the token (401): so it is",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted interrupted          | failed: interrupted by a shutdown",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted unauthorized         | failed: could not delete the snapshot: the provider refused the token (401): so it is",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted forbidden            | failed: the provider does not allow this for this server: could not delete the snapshot: the provider answered 403 (forbidden)",
    // The listing became too old: another one decides, and only if the new snapshot is in it.
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted stale                | look 0s+200ms one answer
     listed c c c c own             | delete 1
     deleted                        | delete 2
     deleted                        | adopted, deleted 1 2",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted stale                | look 0s+200ms one answer
     listed c c c c                 | failed: the new snapshot is not listed as completed any more",
    "begin                          | look 0s+200ms pages
     listed c c c c own             | delete 1
     undeleted stale                | look 0s+200ms one answer
     unlisted transport             | failed: could not list the snapshots: so it is",
];

/// A person asks again while a snapshot of an earlier rotation by hand is in progress.
const BY_HAND: &[&str] = &[
    // A person is told what is gone, not what the provider says is gone.
    "begin person                   | look 0s+200ms pages
     listed c c c                   | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c c c own           | delete 1
     deleted                        | look 0s+200ms one answer
     listed - c c own               | rotated, made, deleted 1",
    "begin person                   | look 0s+200ms pages
     listed c c c                   | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c c c own           | delete 1
     deleted                        | look 0s+200ms one answer
     listed c c c own               | look 1s+200ms one answer
     +5s listed c c c own           | look 5s+200ms one answer
     +20s listed c c c own          | failed, made: the provider confirmed the deletion of snapring-20261120T030000Z but still lists it",
    // Slow listings are waited for; one that cannot be had is left to the next rotation.
    "begin person                   | look 0s+200ms pages
     listed c c c                   | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c c c own           | delete 1
     deleted                        | look 0s+200ms one answer
     listed c c c own               | look 1s+200ms one answer
     +5s listed - c c own           | rotated, made, deleted 1",
    "begin person                   | look 0s+200ms pages
     listed c c c                   | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c c c own           | delete 1
     deleted                        | look 0s+200ms one answer
     unlisted transport             | rotated, made, deleted 1",
    // It is continued with, and what retention drops is pruned.
    "begin person                   | look 0s+200ms pages
     listed c c c ~10m              | look 1s+20s pages
     +1m listed c c c ~10m          | look
     +1m listed c c c =10m          | delete 1
     deleted                        | look 0s+200ms one answer
     listed - c c =10m              | adopted, deleted 1: continued with snapring-20261123T025000Z (98), which an earlier `rotate` had started; no other snapshot was created",
    "begin person before after      | look 0s+200ms alone
     listed c ~10m                  | look 1s+20s
     +1m listed c =10m              | adopted: continued with",
    "begin person                   | look 0s+200ms pages
     listed c ~10m                  | look 1s+20s pages
     unlisted interrupted           | failed: interrupted: snapring-20261123T025000Z (98) is still in progress. Run `snapring rotate server-101` again before 2026-11-23 03:35:00 UTC",
    // It arrived late.
    "begin person earlier=54s       | look 0s+200ms one answer
     +54s listed c ~1m              | look 1s+20s pages
     +1m listed c =1m               | adopted: continued with",
    // Too old; completed; not the newest; the schedule asks; a tick of the schedule's.
    "begin person                   | look 0s+200ms pages
     listed c ~45m                  | record
     recorded                       | create 1
     uncreated unauthorized         | failed: could not create the snapshot: the provider refused the token (401)",
    "begin person                   | look 0s+200ms pages
     listed c =10m                  | record
     recorded                       | create 1
     uncreated unauthorized         | failed: could not create the snapshot: the provider refused the token (401)",
    "begin                          | look 0s+200ms pages
     listed c ~10m                  | record
     recorded                       | create 1
     uncreated unauthorized         | failed: could not create the snapshot: the provider refused the token (401)",
    "begin person                   | look 0s+200ms pages
     listed c p                     | record
     recorded                       | create 1
     uncreated unauthorized         | failed: could not create the snapshot: the provider refused the token (401)",
    // Once a create was sent, this rotation goes on with its own.
    "begin person                   | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated unconnected          | wait 1s
     waited                         | look 0s+200ms one answer
     listed c ~10m                  | record
     recorded                       | create 2
     uncreated unauthorized         | failed: could not create the snapshot: the provider refused the token (401)",
];

/// What was left is said, and what the next rotation does.
const INTERRUPTED: &[&str] = &[
    "begin person                   | look 0s+200ms pages
     unlisted interrupted           | failed: interrupted: no snapshot was created; the next rotation starts over",
    "begin                          | look 0s+200ms pages
     unlisted interrupted           | failed: interrupted by a shutdown: no snapshot was created; the next rotation starts over",
    "begin person before            | look 0s+200ms alone
     listed c                       | record
     recorded                       | before
     hook interrupted               | forget
     recorded                       | failed: interrupted: no snapshot was created",
    "begin person                   | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     unlisted interrupted           | failed, made: interrupted: snapring-20261123T030000Z (99) is still in progress. Run `snapring rotate server-101` again before 2026-11-23 03:45:00 UTC to wait for it; it creates no second snapshot",
    "begin                          | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     unlisted interrupted           | failed, made: interrupted by a shutdown: snapring-20261123T030000Z (99) is still in progress at the provider; the next start of the daemon continues with it",
    "begin person                   | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated transport            | look
     unlisted interrupted           | failed: interrupted: it is not known whether snapring-20261123T030000Z was created; the next rotation looks for it before it creates anything",
    // A listing has shown that it was not.
    "begin person                   | look 0s+200ms pages
     listed c                       | record
     recorded                       | create 1
     uncreated server-error         | look
     +20s listed c                  | wait 1s
     unwaited interrupted           | failed: interrupted: no snapshot was created",
    "begin person                   | look 0s+200ms pages
     listed c c c                   | record
     recorded                       | create 1
     created                        | look 1s+20s pages
     +1m listed c c c own           | delete 1
     undeleted interrupted          | failed, made: interrupted: snapring-20261123T030000Z (99) is completed. Snapshots that `keep` drops may be left; the next rotation deletes them",
];

/// Every state, and what can happen in it.
const TRANSITIONS: &[(&str, &[&str])] = &[
    ("Looking EarlierCreates", &["listed", "unlisted"]),
    ("Looking NextStep", &["listed", "unlisted"]),
    ("Looking UnansweredCreate", &["listed", "unlisted"]),
    ("Looking RejectedCreate", &["listed", "unlisted"]),
    ("Looking UnansweredDelete MakeRoom", &["listed", "unlisted"]),
    ("Looking UnansweredDelete Prune", &["listed", "unlisted"]),
    ("Looking Completion", &["listed", "unlisted transport", "unlisted unauthorized"]),
    ("Looking Pruning", &["listed", "unlisted"]),
    ("Looking AllDeleted", &["listed", "unlisted"]),
    ("Recording", &["recorded"]),
    ("Forgetting", &["recorded"]),
    ("Quiescing", &["hook done", "hook failed", "hook interrupted", "hook not-started"]),
    (
        "Creating",
        &[
            "created",
            "uncreated stale",
            "uncreated interrupted",
            "uncreated out-of-time",
            "uncreated malformed",
            "uncreated server-error",
            "uncreated transport",
            "uncreated throttled",
            "uncreated busy",
            "uncreated unconnected",
            "uncreated rejected",
            "uncreated unauthorized",
            "uncreated forbidden",
            "uncreated not-found",
        ],
    ),
    ("Pausing", &["waited", "unwaited interrupted"]),
    (
        "Deleting MakeRoom",
        &[
            "deleted",
            "undeleted stale",
            "undeleted pinned",
            "undeleted interrupted",
            "undeleted rejected",
            "undeleted unauthorized",
            "undeleted forbidden",
            "undeleted busy",
            "undeleted throttled",
            "undeleted transport",
        ],
    ),
    (
        "Deleting Prune",
        &[
            "deleted",
            "undeleted stale",
            "undeleted pinned",
            "undeleted interrupted",
            "undeleted rejected",
            "undeleted unauthorized",
            "undeleted forbidden",
            "undeleted busy",
            "undeleted throttled",
            "undeleted transport",
        ],
    ),
    ("Waking", &["hook done", "hook failed"]),
];

#[test]
fn each_story_goes_as_it_is_told_and_together_they_hold_every_transition() {
    let mut told = Transitions::new();
    for story in [LIST, MAKE_ROOM, CREATE, HOOKS, WAIT, PRUNE, BY_HAND, INTERRUPTED].concat() {
        tell(story, &mut told);
    }
    let is_told = |state: &str, event: &str| {
        told.iter().any(|(in_state, happened)| in_state == state && happened.starts_with(event))
    };
    let all = TRANSITIONS
        .iter()
        .flat_map(|(state, events)| events.iter().map(move |event| (*state, *event)));
    let missing: Vec<_> = all.filter(|(state, event)| !is_told(state, event)).collect();
    assert!(missing.is_empty(), "no story has {missing:?}");
    let is_known = |state: &String| TRANSITIONS.iter().any(|(known, _)| known == state);
    let unknown: Vec<_> = told.iter().filter(|(state, _)| !is_known(state)).collect();
    assert!(unknown.is_empty(), "not in the list of transitions: {unknown:?}");
}
