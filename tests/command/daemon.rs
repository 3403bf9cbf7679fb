//! `snapring run`: rings turn, signals are obeyed, and what breaks off is gone on with.

use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use snapring::call::Operation;
use snapring::naming::{Prefix, ServerId, Tick};

use rstest::rstest;

use crate::machine::{Daemon, JSON_LOG, Machine, SERVERS, TOKEN, WEB};

/// Every three seconds, three kept.
const DENSE: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"*/3 * * * * *\"\nkeep = 3\n\
                     min_interval = \"0s\"\n";

/// Once a year: nothing falls due by itself.
const RARE: &str =
    "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\ncatch_up = \"0s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_turns_with_the_right_names_and_never_touches_what_is_not_its_own() {
    let machine = Machine::new().await;
    let by_hand = machine.add(WEB, "by-hand", 50);
    machine.add(ServerId::new(102), "snapring-20200101T000000Z", 60);
    machine.configure(DENSE);
    let mut daemon = machine.daemon();
    machine.until("six rotations", || daemon.rotations("rotated") >= 6).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));

    let prefix: Prefix = "snapring".parse().unwrap();
    for call in daemon.events("api").iter().filter(|call| call["operation"] == "create") {
        let tick = prefix.tick_of(call["snapshot"].as_str().unwrap()).unwrap();
        assert_eq!(tick.instant().as_second() % 3, 0);
        assert_eq!(call["tick"], tick.to_string());
        assert_eq!((call["server_id"].as_u64(), call["server"].as_str()), (Some(101), Some("web")));
    }
    let rows = machine.rows(WEB);
    assert!(rows.iter().any(|row| row.id.0 == by_hand));
    assert!((2..=5).contains(&rows.len()), "{rows:?}");
    assert_eq!(machine.rows(ServerId::new(102)).len(), 1, "another server's managed one");
    let provider = machine.sandbox.provider();
    assert!(provider.peak() <= 5);
    assert_eq!(daemon.events("api").len(), provider.calls().len(), "one event for each call");
}

#[tokio::test(flavor = "multi_thread")]
async fn term_in_the_middle_loses_nothing_and_the_next_start_goes_on() {
    let machine = Machine::with_snapshots_of(Duration::from_secs(3600)).await;
    for (name, hours) in [
        ("snapring-20260101T030000Z", 3),
        ("snapring-20260102T030000Z", 2),
        ("snapring-20260103T030000Z", 1),
    ] {
        machine.add(WEB, name, hours);
    }
    machine.configure(RARE);
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("the create", || machine.rows(WEB).len() == 4).await;
    machine
        .until("the first look", || machine.sandbox.provider().count(Operation::List) >= 3)
        .await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert_eq!(daemon.rotations("failed"), 1, "interrupted, and said so");
    assert_eq!(machine.rows(WEB).len(), 4, "nothing pruned");

    let unfinished = machine.rows(WEB)[3].id;
    let daemon = machine.daemon();
    machine.until("it goes on", || !daemon.events("resume").is_empty()).await;
    machine.sandbox.provider().set_status(unfinished, "completed");
    machine.until("the rest", || daemon.rotations("adopted") == 1).await;
    assert_eq!(machine.rows(WEB).len(), 3);
    assert_eq!(machine.sandbox.provider().count(Operation::Create), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_between_the_create_and_its_answer_makes_nothing_twice() {
    let machine = Machine::with_snapshots_of(Duration::from_secs(3600)).await;
    machine.configure(RARE);
    machine.fault("create:latency=4s,times=1");
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("the act", || machine.rows(WEB).len() == 1).await;
    daemon.signal(Signal::SIGKILL);
    daemon.ended().await;

    let daemon = machine.daemon();
    machine.until("it goes on", || !daemon.events("resume").is_empty()).await;
    let id = machine.rows(WEB)[0].id;
    machine.sandbox.provider().set_status(id, "completed");
    machine.until("adopted", || daemon.rotations("adopted") == 1).await;
    assert_eq!(machine.rows(WEB).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_missed_while_away_runs_once_and_a_new_schedule_does_not_fire() {
    let machine = Machine::new().await;
    let midnight = |days: i64| {
        let today = machine.clock.now().wall.as_second() / 86_400;
        Tick::at(Timestamp::from_second((today - days) * 86_400).unwrap())
    };
    let prefix: Prefix = "snapring".parse().unwrap();
    machine.add(WEB, &prefix.name(midnight(3)), 72);
    machine.add(ServerId::new(102), "snapring-20260101T030000Z", 72); // of a schedule before this one
    let server = |id: u64| format!("[[server]]\nid = {id}\nschedule = \"0 0 * * *\"\nkeep = 4\n");
    machine.configure(&format!("{}{}{}", server(101), server(102), server(103)));
    let today = prefix.name(midnight(0));
    for _ in 0..2 {
        let mut daemon = machine.daemon();
        machine.until("the catch-up", || machine.names(WEB).contains(&today)).await;
        machine
            .until("a look at each", || machine.sandbox.provider().count(Operation::List) >= 3)
            .await;
        machine
            .until("its end", || {
                daemon.rotations("rotated") == 1 || daemon.events("resume").is_empty()
            })
            .await;
        daemon.signal(Signal::SIGTERM);
        daemon.ended().await;
    }
    assert_eq!(machine.names(WEB).len(), 2, "once, not for each of three missed nights");
    assert_eq!(machine.sandbox.provider().count(Operation::Create), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_a_good_configuration_and_refuses_a_bad_one() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;

    machine.configure(&RARE.replace("keep = 3", "keep = 30"));
    daemon.signal(Signal::SIGHUP);
    machine.until("the refusal", || !daemon.events("reload").is_empty()).await;
    let words = daemon.events("reload")[0]["message"].as_str().unwrap().to_owned();
    assert!(words.contains("the old configuration is still in use"), "{words}");
    assert!(words.contains("`keep` and `reserve` ask for 30 slots of 5"), "{words}");

    machine.configure(&DENSE.replace("101", "102"));
    daemon.signal(Signal::SIGHUP);
    machine.until("the new server", || !machine.rows(ServerId::new(102)).is_empty()).await;
    assert!(machine.rows(WEB).is_empty());
    // A server that a lost file held must not stop being rotated without a word.
    let gone = daemon.events("reload").into_iter().find(|it| it["server_id"] == 101).unwrap();
    assert_eq!(gone["level"], "WARN");
    let words = "web (101) is no longer in the configuration, so it is not rotated any more";
    assert_eq!(gone["message"], words);
}

/// The next start would fail, and no daemon would run.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_without_a_usable_token_file_is_refused() {
    let machine = Machine::with_servers().await;
    let token = machine.path("token");
    std::fs::write(&token, TOKEN).unwrap();
    machine.configure_api(&format!("token_file = {token:?}"), SERVERS);
    let mut daemon = machine.daemon();
    machine.until("the start", || daemon.log().contains("ready: watching")).await;
    std::fs::remove_file(&token).unwrap();
    daemon.signal(Signal::SIGHUP);
    machine
        .until("the refusal", || daemon.log().contains("the old configuration is still in use"))
        .await;
    assert!(!daemon.log().contains("the configuration was reloaded"), "{}", daemon.log());
    std::fs::write(&token, TOKEN).unwrap();
    daemon.signal(Signal::SIGHUP);
    machine.until("the reload", || daemon.log().contains("the configuration was reloaded")).await;
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reads_the_included_files_again() {
    let machine = Machine::new().await;
    let directory = machine.path("conf.d");
    std::fs::create_dir(&directory).unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    machine.configure("");
    let main = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    let main = format!("include = [\"conf.d/*.toml\"]\n{main}[group.dense]\nkeep = 2\n");
    std::fs::write(machine.path("config.toml"), main).unwrap();
    file("a.toml", RARE);
    let daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;

    file("b.toml", "[[server]]\nid = 102\ngroup = \"sparse\"\n");
    daemon.signal(Signal::SIGHUP);
    machine.until("the refusal", || !daemon.events("reload").is_empty()).await;
    let words = daemon.events("reload")[0]["message"].as_str().unwrap().to_owned();
    assert!(words.contains("the old configuration is still in use"), "{words}");
    assert!(words.contains("conf.d/b.toml:3:9: there is no group \"sparse\""), "{words}");

    file("b.toml", &(DENSE.replace("101", "102").replace("web", "db") + "group = \"dense\"\n"));
    daemon.signal(Signal::SIGHUP);
    machine.until("the new server", || !machine.rows(ServerId::new(102)).is_empty()).await;
    assert!(machine.rows(WEB).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_term_ends_at_once_and_what_it_breaks_off_is_told() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    machine.fault("list:hang");
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    // That of the start, and that of the rotation.
    let looks = || machine.sandbox.provider().count(Operation::List) == 2;
    machine.until("both calls under way", looks).await;
    daemon.signal(Signal::SIGTERM);
    let ending = |daemon: &Daemon| {
        let says =
            |event: &serde_json::Value| event["message"].as_str().unwrap().starts_with("stopping");
        daemon.events("daemon").iter().any(says)
    };
    machine.until("the first one to be heard", || ending(&daemon)).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(1));
    let rotations = daemon.events("rotation");
    assert_eq!((rotations.len(), daemon.rotations("failed")), (1, 1), "{rotations:?}");
    let reason = rotations[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("interrupted by a second signal"), "{reason}");
    assert_eq!(daemon.events("api").len(), machine.sandbox.provider().calls().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_hand_that_is_broken_off_leaves_its_events_and_none_of_its_hooks() {
    let machine = Machine::new().await;
    let running = machine.path("running");
    let hook = format!("echo $$ >{}; exec sleep 600", running.display());
    let hooks =
        format!("[server.hooks]\nbefore = [\"sh\", \"-c\", \"{hook}\"]\ntimeout = \"1h\"\n");
    let gone = "[[server]]\nid = 102\nname = \"db\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\n";
    machine.configure(&format!("{RARE}{hooks}{gone}{JSON_LOG}"));
    machine.fault("list:hang,server=102");
    let mut rotation = machine.start(machine.command(&["rotate", "--all"]), |_, _| {});
    machine.until("the hook", || std::fs::read(&running).is_ok_and(|it| !it.is_empty())).await;
    let pid: i32 = std::fs::read_to_string(&running).unwrap().trim().parse().unwrap();
    let looked = || machine.sandbox.provider().count(Operation::List) == 2;
    machine.until("both looks", looked).await;
    rotation.signal(Signal::SIGINT);
    let heard = "stopping after the current step";
    machine.until("the first one to be heard", || rotation.log().contains(heard)).await;
    rotation.signal(Signal::SIGINT);
    assert_eq!(rotation.ended().await.code(), Some(1));
    assert_eq!(rotation.rotations("failed"), 2, "{}", rotation.log());
    assert_eq!(rotation.events("api").len(), machine.sandbox.provider().calls().len());
    let gone = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_err();
    machine.until("the hook to be gone", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_and_a_person_never_rotate_one_server_at_once() {
    let machine = Machine::with_snapshots_of(Duration::from_secs(3600)).await;
    machine.configure(&format!("{RARE}{JSON_LOG}"));
    let daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("the create", || machine.rows(WEB).len() == 1).await;
    let person = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    let says = format!("is working on it: `snapring run`, pid {}, since", daemon.pid());
    machine.until("the person's wait", || person.log().contains(&says)).await;
    assert_eq!(machine.sandbox.provider().count(Operation::Create), 1);
    person.signal(Signal::SIGINT);
    machine.until("the end of the wait", || person.rotations("failed") == 1).await;
    assert_eq!(machine.sandbox.provider().count(Operation::Create), 1);
}

#[rstest]
#[case(403, "forbidden")]
#[case(401, "unauthorized")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_one_server_is_its_own_trouble_and_not_the_accounts(
    #[case] status: u16,
    #[case] class: &str,
) {
    let machine = Machine::new().await;
    machine.fault(&format!("create:status={status},server=102"));
    machine.configure(&format!("{DENSE}{}", DENSE.replace("101", "102").replace("web", "db")));
    let daemon = machine.daemon();
    machine
        .until("a few of each", || daemon.rotations("rotated").min(daemon.rotations("failed")) > 1)
        .await;
    let failed = daemon.events("rotation").into_iter().filter(|it| it["outcome"] == "failed");
    for rotation in failed {
        assert_eq!(rotation["server"], "db");
        let reason = rotation["reason"].as_str().unwrap();
        let says = format!(
            "does not allow this for this server: could not create the snapshot: the provider answered {status}"
        );
        assert!(reason.contains(&says), "{reason}");
    }
    let calls = daemon.events("api");
    assert!(calls.iter().any(|it| it["outcome"] == class && it["server"] == "db"), "{calls:#?}");
    let asked = calls.iter().filter(|it| it["operation"] == "account").count();
    assert_eq!(asked, 1, "once a minute at most");
    assert_eq!(daemon.events("alarm").len(), 0, "the token is good");
    machine.fault("list:status=404,times=1");
    machine
        .until("a listing that is not found", || daemon.log().contains("check `base_url`"))
        .await;
    assert!(
        daemon
            .log()
            .contains("could not list the snapshots: the provider answered 404 (not found)")
            && !daemon.log().contains("is gone")
    );
}
