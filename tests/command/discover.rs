//! `snapring discover`, and what other commands say of servers that have no policy.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use snapring::naming::ServerId;
use snapring::sandbox::provider::Options;

use crate::machine::{Machine, SERVERS, TOKEN, WEB, json};

const MAIL: ServerId = ServerId::new(103);

/// Runs it: exit code, standard output, and standard error without the log.
fn run(machine: &Machine, arguments: &[&str]) -> (i32, String, String) {
    let (code, out, errors) = machine.run(arguments);
    let said = errors.lines().filter(|line| !line.starts_with('{'));
    (code, out, said.map(|line| format!("{line}\n")).collect())
}

/// The account of a newcomer: twelve servers, some with snapshots.
fn newcomers_account(options: &mut Options) {
    let names = [
        "web-01", "web-02", "web-03", "db-01", "db-02", "mail-01", "cache-01", "queue-01",
        "git-01", "ci-01", "wiki-01", "staging",
    ];
    options.servers =
        (101..).map(ServerId::new).zip(names).map(|(id, name)| (id, name.to_owned())).collect();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_a_policy_are_listed_with_whose_their_snapshots_look_like() {
    let machine = Machine::with_servers().await;
    machine.sandbox.provider().set_server_state(MAIL, "stopped");
    machine.add(MAIL, "snapring-20261123T030000Z", 30);
    machine.add(MAIL, "nightly-20261123T030000Z", 20);
    machine.add(MAIL, "before-upgrade", 10);
    let (code, out, errors) = run(&machine, &["discover"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.starts_with("3 servers in the account, 1 without a policy\n\nID "), "{out}");
    let row = out.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        row,
        "103 mail-01 stopped eu-central 3 (1 named nightly-…, 1 named snapring-…, 1 other)"
    );
    assert!(!out.contains("web"), "it has a policy: {out}");
    assert!(errors.contains("next: `snapring discover --write FILE`"), "{errors}");

    let (code, out, errors) = run(&machine, &["discover", "--json"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let answer = json(&out);
    assert_eq!((&answer["complete"], &answer["account_servers"]), (&true.into(), &3.into()));
    let server = &answer["uncovered"][0];
    assert_eq!((&server["server_id"], &server["status"]), (&103.into(), &"stopped".into()));
    assert_eq!(server["snapshots"]["like_snapring"]["nightly"], 1);
    assert_eq!(answer["uncovered"].as_array().unwrap().len(), 1);
    assert_eq!(answer["missing"].as_array().unwrap().len(), 0);

    machine.configure(&SERVERS.replace("102", "999"));
    let (code, out, _) = run(&machine, &["discover"]);
    assert_eq!(code, 0);
    assert!(out.contains("\n1 configured server is not in the account: db (999)\n"), "{out}");
    assert_eq!(json(&run(&machine, &["discover", "--json"]).1)["missing"][0]["id"], 999);
    assert_eq!(machine.sandbox.provider().acts().len(), 0, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_exits_1_if_a_server_has_no_policy_or_if_that_cannot_be_known() {
    let machine = Machine::with_servers().await;
    assert_eq!(run(&machine, &["discover", "--missing"]).0, 1);
    assert_eq!(run(&machine, &["discover", "--missing", "--json"]).0, 1);
    machine
        .configure(&format!("{SERVERS}[[server]]\nid = 103\nname = \"mail\"\nenabled = false\n"));
    let (code, out, errors) = run(&machine, &["discover", "--missing"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(out, "3 servers in the account: each has a policy\n");
    machine.fault("servers:status=403");
    let (code, _, errors) = run(&machine, &["discover", "--missing"]);
    assert_eq!(code, 1);
    assert!(errors.starts_with("error: the token may not list servers (403)"), "{errors}");
    assert!(errors.contains("--missing cannot tell"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_without_a_server_is_enough_for_it_and_for_nothing_else() {
    let machine = Machine::new().await;
    machine.configure("");
    let (code, out, errors) = run(&machine, &["discover"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.starts_with("3 servers in the account, none has a policy\n"), "{out}");
    for command in ["check", "plan", "list", "status", "run"] {
        let (code, _, errors) = machine.run(&[command]);
        assert_eq!(
            (code, errors.contains("there is no server")),
            (78, true),
            "{command}: {errors}"
        );
    }
    machine.configure("[[server]]\nid = 101\nkeeep = 3\n");
    assert_eq!(run(&machine, &["discover"]).0, 78, "other mistakes are mistakes");
    let nowhere = machine.path("nowhere.toml");
    let (code, _, errors) = run(&machine, &["discover", "--config", nowhere.to_str().unwrap()]);
    assert_eq!((code, errors.contains("cannot be read")), (78, true), "it is named: {errors}");
    // No file at all: the address is the provider's, which is asked over TLS.
    let mut command = machine.command(&["discover"]);
    command
        .env_remove("SNAPRING_CONFIG")
        .env("SSL_CERT_FILE", "/nowhere")
        .env("SSL_CERT_DIR", "/nowhere");
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("CA certificates"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_writes_is_good_at_once_whatever_the_provider_calls_its_servers() {
    let machine = Machine::with(|options| {
        let names = ["web", "web", "", "12345", "say \"hi\"\n[api]\\", TOKEN, "\u{1b}[31m*"];
        options.servers =
            (101..).map(ServerId::new).zip(names).map(|(id, name)| (id, name.to_owned())).collect();
    })
    .await;
    machine.add(ServerId::new(102), "by-hand", 5);
    machine.add(WEB, "snapring-20261123T030000Z", 30);
    machine.configure("");
    let main = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    let file = machine.path("servers.toml");
    let write = ["discover", "--write", file.to_str().unwrap()];
    let (code, out, errors) = run(&machine, &write);
    assert_eq!(code, 0, "{errors}");
    assert!(out.starts_with("7 servers in the account, none has a policy"), "{out}");
    assert!(
        errors.contains("created") && errors.contains("servers.toml with 7 servers"),
        "{errors}"
    );
    assert!(errors.contains("write include = ["), "{errors}");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(!written.contains(TOKEN), "{written}");
    assert!(written.contains("This policy manages the snapshots named snapring-…"), "{written}");
    assert_eq!(std::fs::read_to_string(machine.path("config.toml")).unwrap(), main);

    // An existing file is kept, whatever is in it, and nothing is asked.
    let calls = machine.sandbox.provider().calls().len();
    let (code, _, errors) = run(&machine, &write);
    assert_eq!((code, errors.contains("exists, and `discover` overwrites nothing")), (2, true));
    std::os::unix::fs::symlink("/nowhere", machine.path("link")).unwrap();
    let link = machine.path("link");
    assert_eq!(run(&machine, &["discover", "--write", link.to_str().unwrap()]).0, 2);
    assert_eq!(machine.sandbox.provider().calls().len(), calls);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);

    // `-` is the same on standard output, and nothing else is there.
    let (code, out, errors) = run(&machine, &["discover", "--write", "-"]);
    assert_eq!((code, errors.as_str(), out.as_str()), (0, "", written.as_str()));

    std::fs::write(machine.path("config.toml"), format!("include = [\"servers.toml\"]\n{main}"))
        .unwrap();
    let (code, out, errors) = run(&machine, &["check"]);
    assert_eq!((code, errors.as_str()), (0, ""), "no warnings");
    for name in ["web", "web-102", "server-103", "server-104", "say \"hi\" -api-\\", "--31m-"] {
        assert!(out.contains(&format!("  {name} ")), "{name}: {out}");
    }
    let (code, out, errors) = run(&machine, &["discover", "--missing"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(out, "7 servers in the account: each has a policy\n");
    let nothing = machine.path("nothing.toml");
    let (code, _, errors) = run(&machine, &["discover", "--write", nothing.to_str().unwrap()]);
    assert_eq!((code, errors.contains("nothing was written")), (0, true), "{errors}");
    assert!(!nothing.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_configuration_it_writes_only_the_missing_servers_for_include() {
    let machine = Machine::with_servers().await;
    machine.configure(&SERVERS.replace("\"db\"", "\"mail-01\""));
    let main = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    std::fs::create_dir(machine.path("conf.d")).unwrap();
    std::fs::write(machine.path("config.toml"), format!("include = [\"conf.d/*.toml\"]\n{main}"))
        .unwrap();
    let file = machine.path("conf.d/new.toml");
    let (code, _, errors) = run(&machine, &["discover", "--write", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("next: `snapring check`, then reload"), "{errors}");
    let written = std::fs::read_to_string(&file).unwrap();
    // [defaults] say enough, and another server has the name already.
    assert!(written.ends_with("[[server]]\nid = 103\nname = \"mail-01-103\"\n"), "{written}");
    assert!(!written.contains("[group") && !written.contains("keep ="), "{written}");
    let (code, out, errors) = run(&machine, &["check"]);
    assert_eq!((code, errors.as_str(), out.contains("good, 3 servers")), (0, "", true), "{out}");

    // A group of this name is there: another name is taken.
    std::fs::remove_file(&file).unwrap();
    let group = "[group.discovered]\nschedule = \"0 4 * * *\"\nkeep = 2\n";
    let own = "[[server]]\nid = 101\ngroup = \"discovered\"\n";
    machine.configure(&format!("{group}{own}"));
    let (code, out, errors) = run(&machine, &["discover", "--write", "-"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("[group.discovered-2]\n"), "{out}");
    assert!(out.contains("group = \"discovered-2\"\n"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_whole_is_no_list_and_nothing_is_written() {
    let machine = Machine::with(|options| options.page_size = Some(2)).await;
    machine.configure("");
    let (code, out, _) = run(&machine, &["discover"]);
    assert_eq!((code, out.contains("3 servers in the account")), (0, true), "all pages: {out}");
    let file = machine.path("servers.toml");
    for fault in ["servers:wrong-count", "servers:torn", "servers:status=503", "servers:garbage"] {
        machine.sandbox.provider().faults().clear();
        machine.fault(fault);
        let (code, out, errors) = run(&machine, &["discover", "--write", file.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (1, ""), "{fault}: {errors}");
        assert!(errors.starts_with("error: "), "{fault}: {errors}");
        assert!(!file.exists(), "{fault}");
    }
    machine.sandbox.provider().faults().clear();
    machine.fault("servers:status=401");
    assert_eq!(run(&machine, &["discover"]).0, 1, "a refused token is not one that may not list");
    // Without the snapshots, the servers are still listed, and it is said what is missing.
    machine.sandbox.provider().faults().clear();
    machine.fault("list:status=500");
    let (code, out, errors) = run(&machine, &["discover"]);
    assert_eq!(code, 1);
    assert_eq!(out.matches("unknown").count(), 3, "{out}");
    assert!(errors.contains("error: the snapshots are unknown: "), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_list_servers_shows_those_with_snapshots() {
    let machine = Machine::with_servers().await;
    machine.fault("servers:status=403");
    machine.add(WEB, "by-hand", 5);
    machine.add(MAIL, "by-hand", 5);
    let (code, out, errors) = run(&machine, &["discover"]);
    assert_eq!(code, 0, "{errors}");
    assert!(
        out.starts_with("2 servers with snapshots in the account, 1 without a policy\n"),
        "{out}"
    );
    let expected = "warning: the token may not list servers (403), so only servers that have snapshots are \
                    known, and not their names. A server without snapshots is not shown";
    assert!(errors.contains(expected), "{errors}");
    let (code, out, _) = run(&machine, &["discover", "--json"]);
    let answer = json(&out);
    assert_eq!((code, &answer["complete"]), (0, &false.into()));
    assert_eq!(answer["missing"].as_array().unwrap().len(), 0, "102 may be there");
    let (code, out, errors) = run(&machine, &["discover", "--write", "-"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.ends_with("[[server]]\nid = 103\nname = \"server-103\"\n"), "{out}");

    // The other commands say so, and go on.
    let (code, _, errors) = run(&machine, &["check", "--online"]);
    assert_eq!(code, 0, "{errors}");
    let unknown = "it is not known whether each server of the account has a policy: ";
    assert!(errors.contains(&format!("warning: {unknown}")), "{errors}");
    let (code, out, _) = run(&machine, &["status"]);
    assert!(code == 0 && out.contains(&format!("\n{unknown}")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_status_and_the_daemon_name_servers_without_a_policy_and_policies_without_a_server() {
    let machine = Machine::with_servers().await;
    machine.configure(&SERVERS.replace("102", "999"));
    let uncovered = "2 servers of the account have no policy: db-01 (102), mail-01 (103)";
    let missing = "1 configured server is not in the account: db (999)";
    let (code, out, errors) = run(&machine, &["check", "--online", "--json"]);
    assert_eq!(code, 1, "{errors}");
    let answer = json(&out);
    assert_eq!(answer["coverage"]["uncovered"]["count"], 2);
    assert_eq!(answer["coverage"]["missing"]["first"][0]["name"], "db");
    let errors = run(&machine, &["check", "--online", "--quiet"]).2;
    assert!(
        errors.contains(&format!("warning: {uncovered}\nhint: `snapring discover`")),
        "{errors}"
    );

    let (code, out, _) = run(&machine, &["status"]);
    assert_eq!(code, 0, "no server is in trouble");
    assert!(out.contains(&format!("\n{uncovered}\n{missing}\n")), "{out}");
    assert!(!run(&machine, &["status", "web"]).1.contains("account"), "of one server only");

    // The daemon asks for itself, soon after its start.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let http = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n");
    machine.configure(&format!("{http}{}", SERVERS.replace("102", "999")));
    let daemon = machine.daemon();
    machine.until("the daemon lists the servers", || daemon.told("servers") == 2).await;
    let told = daemon.events("servers");
    assert_eq!((&told[0]["message"], &told[1]["message"]), (&uncovered.into(), &missing.into()));
    assert_eq!((&told[0]["uncovered"], &told[0]["missing"]), (&2.into(), &1.into()));
    let (_, out, errors) = run(&machine, &["status"]);
    assert!(out.contains(&format!("\n{uncovered}\n{missing}\n")), "{out}{errors}");
    let account = &json(&run(&machine, &["status", "--json"]).1)["account"];
    assert_eq!(account["coverage"]["uncovered"]["count"], 2, "{account}");
    let get = |path: &str| -> String {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    let metrics = get("/metrics");
    assert!(metrics.contains("snapring_servers{state=\"uncovered\"} 2\n"), "{metrics}");
    assert!(metrics.contains("snapring_servers{state=\"missing\"} 1\n"), "{metrics}");
    let page = get("/");
    assert!(page.contains(uncovered) && page.contains(missing), "{page}");
}

/// What a line says, but for the numbers and days that are different each time.
fn without_times(text: &str) -> String {
    let mut words = String::new();
    let mut in_number = false;
    for character in text.chars() {
        if !(in_number && character.is_ascii_digit()) {
            words.push(if character.is_ascii_digit() { '0' } else { character });
        }
        in_number = character.is_ascii_digit();
    }
    for day in ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] {
        words = words.replace(&format!("{day} 0"), "Day 0");
    }
    words
}

/// A newcomer's way from an account to a daemon, word for word: `<!-- discover -->` in README.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_from_an_account_to_a_running_daemon_as_the_document_shows() {
    let machine = Machine::with(newcomers_account).await;
    machine.add(ServerId::new(104), "before-upgrade", 30);
    machine.add(ServerId::new(112), "snapring-20261123T030000Z", 30);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let mark = "<!-- discover -->\n";
    let (before, rest) = document.split_once(mark).unwrap();
    let (block, after) = rest.strip_prefix("```console\n").unwrap().split_once("```\n").unwrap();
    let main = before.rsplit_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let address = format!("[api]\nbase_url = \"http://{}/api/v1/\"\n", machine.sandbox.address());
    let token_file = "[api]\ntoken_file = \"/etc/snapring/token\"\n";
    assert!(main.contains(token_file), "{main}");
    std::fs::write(machine.path("config.toml"), main.replace(token_file, &address)).unwrap();
    let directory = machine.directory.path().to_str().unwrap();
    let mut written = String::new();
    for line in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
        written.push_str(&format!("$ {line}\n"));
        if line == "snapring run" {
            let mut command = machine.command(&["run"]);
            command.env("SNAPRING_LOG", "info,snapring::provider=off");
            let mut daemon = machine.start(command, |_, _| {});
            machine.until("the daemon is ready", || daemon.told("daemon") > 0).await;
            let ready = daemon.events("daemon")[0]["message"].as_str().unwrap().to_owned();
            written.push_str(&format!("{ready}\n"));
            daemon.signal(Signal::SIGTERM);
            assert!(daemon.ended().await.success());
            continue;
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_snapring")).parent().unwrap();
        let mut command = Command::new("bash");
        let call = line.replace("/etc/snapring", directory);
        command
            .args(["-c", &format!("set -o pipefail; {{ {call}; }} 2>&1")])
            .envs(machine.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("SNAPRING_LOG", "off")
            .env("PATH", format!("{}:/usr/bin:/bin", binary.display()));
        let output = tokio::task::block_in_place(|| command.output().unwrap());
        let said = String::from_utf8(output.stdout).unwrap().replace(directory, "/etc/snapring");
        assert!(output.status.success(), "{line}: {said}");
        written.push_str(&said);
    }
    if without_times(block) != without_times(&written) {
        if std::env::var_os("SNAPRING_WRITE_DOCS").is_some() {
            let whole = format!("{before}{mark}```console\n{written}```\n{after}");
            std::fs::write(&path, whole).unwrap();
        } else {
            panic!(
                "README.md: SNAPRING_WRITE_DOCS=1 writes it again; it says\n{block}\nand it is\n{written}"
            );
        }
    }
    assert!(written.contains("watching the ticks of 12 servers"), "{written}");
}
