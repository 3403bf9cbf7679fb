//! What `check` says: of a configuration alone, and of what the provider knows of it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use snapring::naming::ServerId;

use crate::machine::{Machine, SERVERS, WEB, json};

const DB: ServerId = ServerId::new(102);

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_the_next_ticks_and_online_what_the_provider_knows() {
    let machine = Machine::with_servers().await;
    let (code, out, _) = machine.run(&["check"]);
    assert_eq!(code, 0);
    assert!(out.contains("good, 2 servers") && out.contains("03:00:00 UTC"), "{out}");
    assert_eq!(machine.sandbox.provider().calls().len(), 0, "nothing was asked of the provider");

    assert_eq!(machine.run(&["check", "--quiet"]), (0, String::new(), String::new()));
    let (code, out, _) = machine.run(&["check", "--online", "--json"]);
    assert_eq!(code, 0, "{out}");
    let answer = json(&out);
    assert_eq!(answer["token"]["name"], "sandbox");
    assert_eq!(answer["servers"][1]["online"]["free"], 5);

    machine.configure(&SERVERS.replace("102", "999"));
    let (code, out, _) = machine.run(&["check", "--online"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("the account has no such server; it has 101 (web-01), 102 (db-01)"),
        "{out}"
    );
    let (code, out, errors) = machine.run(&["check", "--online", "--quiet"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        errors.contains("error: db: the account has no such server; it has 101 (web-01)"),
        "{errors}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_provider_gives_to_another_server_is_warned_of() {
    let machine = Machine::with_servers().await;
    let (_, out, errors) = machine.run(&["check", "--online"]);
    assert!(out.contains("; the provider calls it web-01"), "{out}");
    assert!(!errors.contains("calls this server"), "another name alone is no mistake: {errors}");

    machine.configure(&SERVERS.replace("\"web\"", "\"db-01\""));
    let (code, _, errors) = machine.run(&["check", "--online"]);
    let warning =
        "warning: db-01 (101): the provider calls this server web-01, and calls server 102 db-01";
    assert!(code == 0 && errors.contains(warning), "{errors}");
    assert!(
        errors.contains("`snapring restore latest db-01` would overwrite server 101"),
        "{errors}"
    );
    let (_, out, _) = machine.run(&["check", "--online", "--json"]);
    assert_eq!(json(&out)["servers"][0]["online"]["name_at_provider"], "web-01");
}

/// That is no disagreement between the provider and the configuration.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_list_is_not_taken_for_a_wrong_configuration() {
    let machine = Machine::with_servers().await;
    machine.fault("list:status=503");
    let (code, out, _) = machine.run(&["check", "--online"]);
    let says = "but the provider did not say how many slots are taken\n";
    assert!(code == 1 && out.contains(says), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_which_a_rotation_would_be_blocked_is_warned_of() {
    let machine = Machine::with_servers().await;
    // Else it would be warned of.
    machine.sandbox.provider().remove_server(ServerId::new(103));
    let online = || machine.run(&["check", "--online"]);
    for nth in 0..4 {
        machine.add(WEB, &format!("by-hand-{nth}"), 9 - nth);
    }
    let (code, _, errors) = online();
    assert_eq!((code, errors.contains("blocked")), (0, false), "one slot is free: {errors}");
    machine.add(WEB, "by-hand-4", 5);
    let (code, out, errors) = online();
    assert_eq!(code, 0, "a warning: {errors}");
    assert!(out.contains("5 taken (5 foreign or pinned), 0 free"), "{out}");
    let expected =
        "warning: web: its next rotation would be blocked: no room: 5 of 5 slots are taken";
    assert!(errors.contains(expected), "{errors}");
    assert_eq!(errors.matches("warning:").count(), 1, "of the full one only: {errors}");
    assert!(errors.contains("\nhint: Delete a foreign one with `snapring delete ID`"), "{errors}");
    let planned = machine.run(&["plan", "web"]).1;
    let told = errors.lines().find_map(|line| line.split_once("blocked: ")).unwrap().1;
    assert!(planned.contains(told), "what `plan` says: {planned}");

    let (code, out, _) = machine.run(&["check", "--online", "--json"]);
    let answer = json(&out);
    let problem = &answer["problems"][0];
    assert_eq!((code, &answer["good"], &problem["severity"]), (0, &true.into(), &"warning".into()));
    assert!(problem["message"].as_str().unwrap().contains("by-hand-4 ("), "{problem}");

    machine.configure(&SERVERS.replace("name = \"web\"", "name = \"web\"\nenabled = false"));
    assert!(!online().2.contains("warning:"), "what is not rotated is not blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_its_server_does_not_have_is_warned_of_and_found_elsewhere() {
    let machine = Machine::with_servers().await;
    let (own, others) = (machine.add(WEB, "mine", 5), machine.add(DB, "not-mine", 5));
    let pins = format!("name = \"web\"\npin = [{own}, {others}, 99999]");
    machine.configure(&SERVERS.replace("keep = 3", "keep = 2").replace("name = \"web\"", &pins));
    assert_eq!(machine.run(&["check"]).2, "", "nobody was asked");
    let (code, _, errors) = machine.run(&["check", "--online"]);
    assert_eq!(code, 0, "{errors}");
    let warnings: Vec<&str> = errors.lines().filter(|line| line.contains("pin")).collect();
    let missing = "server 101 has no such snapshot";
    assert_eq!(
        warnings,
        [
            format!("warning: web: pin {others}: {missing}; server 102 (db) has it"),
            format!("warning: web: pin 99999: {missing}"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_cannot_be_run_on_this_machine_is_warned_of() {
    let machine = Machine::with_servers().await;
    let hook = machine.path("quiesce");
    let name = hook.to_str().unwrap();
    let hooks = format!("hooks = {{ before = [{name:?}], after = [\"sh\", \"/no/such\"] }}");
    machine.configure(&SERVERS.replace("keep = 3", &format!("keep = 3\n{hooks}")));
    let warned = |problem: &str| {
        let (code, _, errors) = machine.run(&["check"]);
        assert_eq!(code, 0, "{errors}");
        let expected = format!("warning: the hook {name} cannot be run on this machine: {problem}");
        assert!(errors.starts_with(&expected), "{errors}");
        assert_eq!(errors.matches("warning:").count(), 1, "once for both servers: {errors}");
    };
    warned("No such file or directory");
    std::fs::write(&hook, "#!/bin/sh\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&hook, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    warned("it is not executable");
    mode(0o755);
    assert_eq!(machine.run(&["check"]).2, "");
    mode(0o777);
    let errors = machine.run(&["check"]).2;
    let expected = format!("warning: every user can change {name}, and snapring runs it as a hook");
    assert!(errors.starts_with(&expected) && errors.contains("hint: chmod o-w"), "{errors}");
    machine.configure(
        &SERVERS.replace("keep = 3", "keep = 3\nhooks = { before = [\"no-such-program\"] }"),
    );
    let errors = machine.run(&["check"]).2;
    let expected =
        "the hook no-such-program cannot be run on this machine: it is in no directory of PATH";
    assert!(errors.contains(expected), "{errors}");
}

/// Each file that decides which program snapring runs, and each directory that such a file is in.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_can_change_of_the_configuration_and_the_hooks_is_warned_of() {
    let machine = Machine::with_servers().await;
    let (folder, script) = (machine.path("hooks"), machine.path("hooks/quiesce"));
    std::fs::create_dir_all(machine.path("conf.d")).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    std::fs::write(machine.path("conf.d/more.toml"), "[[server]]\nid = 103\n").unwrap();
    let hooks = format!("keep = 3\nhooks = {{ before = [\"/bin/sh\", {script:?}] }}");
    machine.configure_api("settle = \"1s\"", &SERVERS.replace("keep = 3", &hooks));
    let config = machine.path("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("include = [\"conf.d/*.toml\"]\n{text}")).unwrap();
    let mode = |name: &str, mode| {
        std::fs::set_permissions(machine.path(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    assert_eq!(machine.run(&["check"]).2, "");
    for (name, usual, open) in [
        ("config.toml", 0o644, 0o666),
        ("conf.d/more.toml", 0o644, 0o646),
        ("conf.d", 0o755, 0o777),
        ("hooks/quiesce", 0o644, 0o666),
        ("hooks", 0o755, 0o757),
    ] {
        mode(name, open);
        let (code, _, errors) = machine.run(&["check"]);
        assert_eq!(code, 0, "{errors}");
        assert_eq!(errors.matches("warning: every user can ").count(), 1, "{name}: {errors}");
        let hint = format!("hint: chmod o-w {}\n", machine.path(name).display());
        assert!(errors.contains(&hint), "{name}: {errors}");
        mode(name, usual);
    }
    mode("hooks", 0o1777);
    assert_eq!(machine.run(&["check"]).2, "", "others cannot replace what is in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_fails_on_a_token_that_keeps_a_run_from_starting() {
    let machine = Machine::with_servers().await;
    let token = machine.path("token");
    machine.configure_api(&format!("token_file = {:?}", token.to_str().unwrap()), SERVERS);
    let refused = |problem: &str| {
        for arguments in [&["check"][..], &["check", "--quiet"], &["check", "--online"]] {
            let (code, out, errors) = machine.run(arguments);
            assert_eq!(code, 78, "{errors}");
            assert!(!out.contains("good"), "{out}");
            assert!(errors.starts_with("error: the token") && errors.contains(problem), "{errors}");
            assert!(errors.contains("config.toml:3:14"), "{errors}");
            assert!(errors.contains("hint: `snapring run` does not start without"), "{errors}");
            assert_eq!(errors.matches("error:").count(), 1, "{errors}");
        }
        let (_, out, _) = machine.run(&["check", "--json"]);
        assert_eq!(json(&out)["good"], false);
        assert_eq!(machine.run(&["run"]).0, 78);
        // systemd does not give a reload the service's credentials. The daemon has its token.
        let (code, _, errors) = machine.run(&["check", "--quiet", "--for-reload"]);
        assert!(code == 0 && !errors.contains("error:"), "{errors}");
    };
    refused("cannot be read: No such file");
    let write = |text: &str| {
        std::fs::write(&token, text).unwrap();
        std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
    };
    for (text, problem) in [
        ("\n", "is empty"),
        ("\"vps_x\"\n", "is in quotes: remove them"),
        ("Bearer vps_x\n", "begins with `Bearer`: write the token alone"),
    ] {
        write(text);
        refused(problem);
    }
    write("vps_x\n");
    let (code, _, errors) = machine.run(&["check"]);
    assert!(code == 0 && errors.starts_with("warning: others can read the token file"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_would_be_ignored_is_an_error_at_start() {
    let machine = Machine::with_servers().await;
    for value in ["not a proxy", "http://", "ftp://x"] {
        for command in ["check", "run", "list"] {
            let mut command = machine.command(&[command]);
            let output = command.env("HTTPS_PROXY", value).output().unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{value}: {errors}");
            assert!(
                errors.contains("$HTTPS_PROXY ") && errors.contains("write it like"),
                "{errors}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ca_certificates_it_is_said_what_is_missing_and_where_it_was_looked_for() {
    let machine = Machine::with_servers().await;
    let text = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    std::fs::write(machine.path("config.toml"), text.replace("http://", "https://")).unwrap();
    for command in [&["check", "--online"][..], &["run"]] {
        let mut command = machine.command(command);
        command.env("SSL_CERT_FILE", "/nowhere/roots.pem").env("SSL_CERT_DIR", machine.path(""));
        let output = command.output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let expected = "there are no CA certificates, without which no TLS connection can be trusted; \
                        looked in $SSL_CERT_FILE (/nowhere/roots.pem) and $SSL_CERT_DIR (";
        assert!(errors.contains(expected), "{errors}");
    }
    // Without asking the provider, too; also if it is a webhook alone that needs them.
    let config = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    let webhook = "[[notify]]\nurl = \"https://hooks.example/x\"\nformat = \"json\"\n";
    for text in [config, format!("{text}{webhook}")] {
        std::fs::write(machine.path("config.toml"), text).unwrap();
        let check = || {
            let mut command = machine.command(&["check"]);
            command.env("SSL_CERT_FILE", "/nowhere/roots.pem");
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(0));
            String::from_utf8(output.stderr).unwrap()
        };
        let errors = check();
        assert!(errors.contains("warning: no https connection can be made"), "{errors}");
        assert!(errors.contains("looked in $SSL_CERT_FILE (/nowhere/roots.pem)"), "{errors}");
    }
    let mut output = machine.command(&["notify-test"]);
    output.env("SSL_CERT_FILE", "/nowhere/roots.pem");
    let out = String::from_utf8(output.output().unwrap().stdout).unwrap();
    assert!(out.contains("looked in $SSL_CERT_FILE (/nowhere/roots.pem)"), "{out}");
}

/// A pipe would be waited for, and a device read for ever.
#[tokio::test(flavor = "multi_thread")]
async fn ca_certificates_are_read_from_regular_files_only() {
    let machine = Machine::with_servers().await;
    let pipe = machine.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for odd in [pipe.as_os_str(), "/dev/zero".as_ref()] {
        for command in [&["run"][..], &["list"]] {
            let mut command = assert_cmd::Command::from_std(machine.command(command));
            command.env("SSL_CERT_FILE", odd).timeout(Duration::from_secs(20));
            let output = tokio::task::block_in_place(|| command.output().unwrap());
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{errors}");
            assert!(errors.contains("the CA certificates of $SSL_CERT_FILE ("), "{errors}");
            assert!(errors.contains("not a regular file"), "{errors}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_can_hold_no_history_is_warned_of() {
    let machine = Machine::new().await;
    let store = machine.path("history.db");
    machine.configure(&format!("[store]\nurl = \"sqlite://{}\"\n{SERVERS}", store.display()));
    let warned = || {
        let (code, _, errors) = machine.run(&["check"]);
        assert_eq!(code, 0, "{errors}");
        errors
    };
    assert!(!warned().contains("[store]"), "nothing is there yet");
    std::fs::create_dir(&store).unwrap();
    assert!(warned().contains("history.db cannot be used: it is a directory"), "{}", warned());
    std::fs::remove_dir(&store).unwrap();
    nix::unistd::mkfifo(&store, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(warned().contains("history.db cannot be used: it is a pipe"), "{}", warned());
    std::fs::remove_file(&store).unwrap();
    std::fs::write(&store, "dear to somebody").unwrap();
    assert!(warned().contains("cannot be used: it is not a database of SQLite"), "{}", warned());
    std::fs::remove_file(&store).unwrap();
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    assert!(!warned().contains("[store]"), "{}", warned());
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o444)).unwrap();
    assert!(warned().contains("history.db cannot be used: it is read-only"), "{}", warned());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_a_file_that_was_written_badly_is_refused() {
    let machine = Machine::new().await;
    let file = machine.path("hook.url");
    machine.configure(&format!(
        "{SERVERS}[[notify]]\nurl_file = \"{}\"\nformat = \"json\"\n",
        file.display()
    ));
    for bad in ["https://hooks.example/s3cret\0", "\u{feff}https://hooks.example/s3cret"] {
        std::fs::write(&file, bad).unwrap();
        let (code, out, errors) = machine.run(&["check"]);
        assert_eq!(code, 78, "{out}");
        assert!(errors.contains("the address holds a character that cannot be shown"), "{errors}");
        assert!(!errors.contains("s3cret"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_the_machine_does_not_have_is_the_bundled_one() {
    let machine = Machine::new().await;
    machine.configure(&SERVERS.replace("keep = 3", "keep = 3\ntimezone = \"US/Eastern\""));
    let zones = machine.path("zoneinfo");
    std::fs::create_dir_all(zones.join("Europe")).unwrap();
    std::fs::copy("/usr/share/zoneinfo/Europe/Berlin", zones.join("Europe/Berlin")).unwrap();
    let output = machine.command(&["check"]).env("TZDIR", &zones).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("03:00:00 EST") || out.contains("03:00:00 EDT"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_shown_in_words_and_a_folder_that_is_missing_is_warned_of() {
    let machine = Machine::new().await;
    machine.configure(&format!(
        "[store]\nurl = \"sqlite:///nonexistent/x.db\"\n{}",
        SERVERS.replace("0 3 * * *", "0 3 * * * *")
    ));
    let (code, out, errors) = machine.run(&["check"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("0 3 * * * *: every hour at :03"), "{out}");
    assert!(errors.contains("has six fields and runs every hour"), "{errors}");
    assert!(
        errors
            .contains("warning: [store]: the directory /nonexistent cannot be used: No such file"),
        "{errors}"
    );
    let (_, out, _) = machine.run(&["check", "--json"]);
    assert_eq!(json(&out)["servers"][0]["schedules"][0]["words"], "every hour at :03");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_asked_is_not_taken_for_a_bad_token() {
    let machine = Machine::with_servers().await;
    let online = || machine.run(&["check", "--online"]);
    let but = |why: &str| format!("no mistakes, 2 servers, but {why}");

    machine.fault("account:status=401,times=1");
    let (code, out, errors) = online();
    assert_eq!(code, 1);
    let refused =
        "error: the provider refused the token of $SNAPRING_TOKEN (401): 401 by request\nhint: ";
    assert!(errors.contains(refused), "{errors}");
    assert!(out.contains(&but("the provider refused the token")), "{out}");
    let but = but("the provider could not be asked");

    let address = machine.sandbox.address();
    let config = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    let elsewhere = |base_url: &str| {
        let text = config.replace(&format!("http://{address}/api/v1/"), base_url);
        std::fs::write(machine.path("config.toml"), text).unwrap();
    };
    elsewhere(&format!("http://{address}/elsewhere/"));
    let (code, out, errors) = online();
    assert_eq!(code, 1);
    let expected =
        format!("error: `base_url` http://{address}/elsewhere/ is not the provider's API (404)");
    assert!(errors.contains(&expected) && out.contains(&but), "{errors}");

    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    elsewhere(&format!("http://{closed}/api/v1/"));
    let (code, out, errors) = online();
    assert_eq!(code, 1);
    let expected = format!("error: http://{closed}/api/v1/ cannot be reached: ");
    assert!(
        errors.contains(&expected) && errors.contains(&format!("connection refused: {closed}")),
        "{errors}"
    );
    assert!(!errors.contains("token") && out.contains(&but), "{errors}{out}");
}

const IN_FILES: &str =
    "include = [\"conf.d/*.toml\"]\n[defaults]\nschedule = \"0 3 * * *\"\nkeep = 3\n";

#[tokio::test(flavor = "multi_thread")]
async fn check_effective_shows_each_value_and_where_it_was_written() {
    let machine = Machine::new().await;
    let directory = machine.path("conf.d");
    std::fs::create_dir(&directory).unwrap();
    let servers = "[group.databases]\nkeep = { last = 1, daily = 1 }\n[[server]]\nid = 101\nname = \"web\"\n\
                   [[server]]\nid = 102\nname = \"db\"\ngroup = \"databases\"\ncap = 4\n";
    std::fs::write(directory.join("servers.toml"), servers).unwrap();
    std::fs::write(machine.path("config.toml"), IN_FILES).unwrap();
    let path = |name: &str| machine.path(name).display().to_string();

    let (code, out, errors) = machine.run(&["check", "--effective", "db"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "db (102), group \"databases\"");
    let words = |key: &str| {
        let line = lines.iter().find(|line| line.split_whitespace().next() == Some(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (main, included) = (path("config.toml"), path("conf.d/servers.toml"));
    assert_eq!(words("schedule"), format!("schedule \"0 3 * * *\" {main}:3 [defaults]"));
    assert_eq!(
        words("keep"),
        format!("keep {{ daily = 1, last = 1 }} {included}:2 [group.databases]")
    );
    assert_eq!(words("cap"), format!("cap 4 {included}:10 [[server]]"));
    assert_eq!(words("jitter"), "jitter \"0s\" default");
    assert!(!out.contains("web"), "{out}");

    let (code, out, _) = machine.run(&["check", "--effective", "--json"]);
    let answer = json(&out);
    assert_eq!((code, answer["servers"].as_array().unwrap().len()), (0, 2));
    let keep_of = |nth: usize| {
        let values = answer["servers"][nth]["values"].as_array().unwrap();
        values.iter().find(|it| it["key"] == "keep").unwrap()
    };
    let keep = keep_of(1);
    assert_eq!(keep["value"]["daily"], 1);
    assert_eq!((&keep["from"], &keep["line"]), (&"[group.databases]".into(), &2.into()));
    assert_eq!(keep_of(0)["value"], 3);

    assert_eq!(machine.run(&["check", "--effective", "shop"]).0, 2);
    assert_eq!(machine.run(&["check", "web"]).0, 2, "a server without --effective");
    std::fs::write(directory.join("servers.toml"), servers.replace("cap = 4", "cap = 1")).unwrap();
    let (code, _, errors) = machine.run(&["check", "--effective"]);
    assert_eq!(code, 78);
    assert!(errors.contains("servers.toml:10:7"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_json_and_needs_no_configuration() {
    let machine = Machine::new().await;
    let (code, out, errors) = machine.run(&["config-schema"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let schema = json(&out);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["$defs"]["server"]["properties"]["cap"]["default"], 5);
}

/// Its file was included, and is not there any more: no glob misses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_gone_from_the_configuration_is_named_by_check_and_by_the_next_daemon() {
    let machine = Machine::with_servers().await;
    let includes =
        "[defaults]\nschedule = \"0 0 1 1 *\"\nkeep = 3\n[[server]]\nid = 101\nname = \"web\"\n";
    std::fs::create_dir(machine.path("conf.d")).unwrap();
    let included = machine.path("conf.d/db.toml");
    std::fs::write(&included, "[[server]]\nid = 102\nname = \"db\"\n").unwrap();
    machine.configure(includes);
    let file = machine.path("config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("include = [\"conf.d/*.toml\"]\n{text}")).unwrap();
    let says = "db (102) is not in the configuration any more, so it is not rotated";

    let (code, _, errors) = machine.run(&["rotate", "--all"]);
    assert_eq!(code, 0, "{errors}");
    assert!(!machine.run(&["check"]).2.contains(says));
    std::fs::remove_file(included).unwrap();
    let (code, _, errors) = machine.run(&["check"]);
    assert_eq!((code, errors.matches(says).count()), (0, 1), "{errors}");
    let daemon = machine.daemon();
    machine.until("it is ready", || daemon.log().contains("next_tick")).await;
    assert_eq!(daemon.log().matches(says).count(), 1, "{}", daemon.log());
}

/// S8: which token is used is never a guess.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_environment_that_is_not_used_is_said_to_be() {
    let machine = Machine::new().await;
    let token = machine.path("token");
    std::fs::write(&token, "vps_of_the_file").unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).unwrap();
    machine.configure_api(&format!("token_file = {token:?}"), SERVERS);
    let (code, _, errors) = machine.run(&["check"]);
    let says =
        format!("$SNAPRING_TOKEN is set and not used: the token comes from {}", token.display());
    assert_eq!((code, errors.matches(&says).count()), (0, 1), "{errors}");
    machine.configure(SERVERS);
    let (code, _, errors) = machine.run(&["check"]);
    assert!(code == 0 && !errors.contains("$SNAPRING_TOKEN is set"), "{errors}");
}

/// Only `check` explains a warning of the configuration: elsewhere it would hide what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_warning_of_the_configuration_is_one_line_except_in_check() {
    let machine = Machine::new().await;
    machine.configure(&format!("{SERVERS}[[notify]]\nurl = \"https://hooks.example/x\"\n"));
    let message =
        "`format` is not set, so snapring sends its own JSON, which other services may misread";
    for command in ["list", "plan", "status", "history", "rotate web", "discover"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let (_, _, errors) = machine.run(&arguments);
        let lines: Vec<&str> = errors.lines().filter(|it| it.contains(message)).collect();
        assert!(
            matches!(lines.as_slice(), [it] if it.starts_with("warning: ") && it.ends_with(message)),
            "{command}: {errors}"
        );
        assert!(!errors.contains("hint: if that is right"), "{command}: {errors}");
    }
    let (_, _, errors) = machine.run(&["check"]);
    assert!(errors.contains("   = hint: if that is right, add format = \"json\""), "{errors}");
}
