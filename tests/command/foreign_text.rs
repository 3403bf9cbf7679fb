//! What others say: secrets that they repeat, and text that is made to mislead.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::machine::{Machine, TOKEN, WEB};
use crate::notices::{KEY, got, notify, service, text};

const SERVER: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\n";

pub async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_repeats_the_token_and_a_webhook_shows_neither_anywhere() {
    let machine = Machine::new().await;
    let hook = machine.path("hook");
    let target = service().await;
    let webhook = format!("{}/{KEY}", target.uri());
    let script = format!(
        "#!/bin/sh\nset -x\n: curl -H 'Authorization: Bearer {TOKEN}' {webhook}\n\
         seq 9000 >&2\n: curl -H 'Authorization: Bearer {TOKEN}' {webhook} ; exit 3\n"
    );
    std::fs::write(&hook, script).unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let hooks = format!("[server.hooks]\nbefore = [\"sh\", \"{}\"]\n", hook.display());
    let notices = notify(&target, "format = \"slack\"");
    machine.configure(&format!("[http]\nlisten = \"{listen}\"\n{SERVER}{hooks}{notices}"));

    let mut daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("the failure", || daemon.rotations("failed") == 1).await;
    got(&machine, &target, 1).await;
    let mut shown = vec![daemon.log()];
    for path in ["/", "/api/v1/status", "/metrics"] {
        shown.push(get(&listen, path).await);
    }
    let metrics = shown.last().unwrap();
    for sample in [
        "snapring_hooks_total{hook=\"before\",outcome=\"failed\"} 1",
        "snapring_notices_total{outcome=\"ok\"} 1",
        "snapring_notices_total{outcome=\"lost\"} 0",
    ] {
        assert!(metrics.contains(&format!("\n{sample}\n")), "{metrics}");
    }
    for request in target.received_requests().await.unwrap() {
        shown.push(text(&request));
    }
    for command in [&["status"][..], &["status", "--json"]] {
        shown.push(machine.run(command).1);
    }
    daemon.signal(Signal::SIGTERM);
    daemon.ended().await;
    for command in [&["rotate", "web"][..], &["rotate", "web", "--json"], &["history", "--json"]] {
        let (_, out, errors) = machine.run(command);
        shown.extend([out, errors]);
    }
    for text in &shown {
        assert!(!text.contains(TOKEN) && !text.contains(KEY), "{text}");
    }
    let masked = |text: &&String| text.contains("Authorization: Bearer [token]");
    assert!(shown.iter().filter(masked).count() >= 7, "{shown:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_states_that_mislead_are_one_printable_bounded_line_wherever_they_are_shown() {
    let machine = Machine::new().await;
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let log = "[log]\nformat = \"text\"\n";
    machine.configure(&format!("{log}[http]\nlisten = \"{listen}\"\n{SERVER}reserve = 2\n"));
    let forged = "x\r\n2026-11-23T03:00:00Z  INFO forged";
    let names = [
        format!("\u{1b}[2J\u{1b}]0;title\u{7}{forged}"),
        format!("{}{forged}", "\u{202e}gnp.".repeat(50_000)),
        // All but managed names: they count as foreign, however they are shown.
        "snapring-20260101T030000Z\u{200b}".to_owned(),
        "snapring-20260102T030000Z\n".to_owned(),
    ];
    for name in &names {
        let mut provider = machine.sandbox.provider();
        let state = format!("done\u{1b}[31m\n{forged}");
        provider.add_snapshot(WEB, name, &state, machine.clock.now().wall);
    }
    let mut daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("the rotation", || daemon.log().contains("rotat")).await;
    let ended = || daemon.log().contains("web: ") || daemon.log().contains("rotated");
    machine.until("its end", ended).await;
    let mut shown = vec![daemon.log()];
    for path in ["/", "/api/v1/status"] {
        shown.push(get(&listen, path).await);
    }
    daemon.signal(Signal::SIGTERM);
    daemon.ended().await;
    for command in [
        &["list"][..],
        &["list", "--json"],
        &["plan"],
        &["plan", "--json"],
        &["rotate", "--all"],
        &["restore", "801", "--yes", "--no-wait"],
        &["delete", "802"],
        &["create", "web", "--name", "one-more"],
        &["history"],
    ] {
        let (_, out, errors) = machine.run(command);
        shown.extend([out, errors]);
    }
    for text in &shown {
        let harmless = |it: char| it == '\n' || snapring::foreign::is_shown(it);
        assert!(text.chars().all(harmless), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("2026-11-23T03:00:00Z")), "{text}");
        assert!(text.len() < 60_000, "{} bytes", text.len());
    }
    assert!(shown.iter().any(|text| text.contains("\u{fffd}[2J")), "{shown:#?}");
    assert_eq!(machine.rows(WEB).iter().filter(|row| names.contains(&row.name)).count(), 4);
}

/// A PostgreSQL server that refuses each connection with these words.
fn refusing_database(words: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 4];
            while stream.read_exact(&mut length).is_ok() {
                let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
                stream.read_exact(&mut rest).unwrap();
                // The question for TLS, or the startup.
                if rest == 80_877_103_u32.to_be_bytes() {
                    stream.write_all(b"N").unwrap();
                    continue;
                }
                let fields = format!("SFATAL\0C28P01\0M{words}\0\0");
                let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
                stream.write_all(&[b"E", &length[..], fields.as_bytes()].concat()).unwrap();
                break;
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_a_password_file_is_not_shown_though_it_is_short_and_the_database_repeats_it()
{
    let machine = Machine::new().await;
    let address = refusing_database("the password \"pw12\" of anna is wrong, pw12");
    let file = machine.path("pgpass");
    std::fs::write(&file, "*:*:*:anna:pw12\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    machine.configure(&format!("{SERVER}[store]\nurl = \"postgres://anna@{address}/rings\"\n"));
    let run = |variable: &str, value: &std::ffi::OsStr| {
        let output = machine.command(&["history"]).env(variable, value).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), said)
    };
    for (variable, value) in [("PGPASSFILE", file.as_os_str()), ("PGPASSWORD", "pw12".as_ref())] {
        let (code, said) = run(variable, value);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("the password \"***\" of anna is wrong, ***"), "{said}");
    }
    // Neither is waited for, nor read for ever.
    let pipe = machine.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for odd in [pipe.as_os_str(), "/dev/zero".as_ref()] {
        let (code, said) = run("PGPASSFILE", odd);
        assert_eq!(code, 78, "{said}");
        assert!(
            said.contains("the password file") && said.contains("not a regular file"),
            "{said}"
        );
    }
}
