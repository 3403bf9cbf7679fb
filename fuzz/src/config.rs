//! Configuration text: taken, or explained; and no secret in it is ever shown.

use snapring::config::{self, Problem};
use snapring::schedule::Schedule;

/// A secret in the three places where one knows it for one by its place alone.
const SECRET: &str = "hunter2";
const WITH_SECRETS: &str = "[api]\ntoken = \"hunter2\"\nbase_url = \"https://me:hunter2@api.example/\"\nhook = \"https://hooks.example/hunter2\"\n";

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // libFuzzer finds the word here, and would say it where nobody can know it for a secret.
    if text.contains(SECRET) {
        return;
    }
    let good = judge(text);
    if good {
        assert!(judge(&format!("{text}\n# a comment at the end\n")), "a comment is harmless");
    }
    let mut text = format!("{WITH_SECRETS}{text}");
    // Each costs time; half of the inputs show half of the ways to end a line.
    if text.len() % 2 == 0 {
        text = text.replace('\n', "\r\n");
    }
    assert!(!judge(&text), "secrets are refused");
}

/// Whether it is taken.
fn judge(text: &str) -> bool {
    let lines: Vec<&str> = text.split('\n').collect();
    match config::parse("config.toml", text) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                judge_problem(warning, &lines);
            }
            let settings = loaded.settings;
            assert!(!settings.servers.is_empty());
            for (at, server) in settings.servers.iter().enumerate() {
                let others = settings.servers.get(at + 1..).unwrap_or_default();
                assert!(others.iter().all(|it| it.id != server.id && it.name != server.name));
                assert!(server.schedules.iter().all(occurs) && !server.schedules.is_empty());
                let policy = &server.policy;
                let kept = u64::from(policy.keep.total());
                assert!(kept >= 1 && kept + u64::from(policy.reserve) <= u64::from(policy.cap));
                assert!(policy.prefix.as_str().parse::<snapring::naming::Prefix>().is_ok());
            }
            true
        }
        Err(error) => {
            assert!(!error.errors().is_empty(), "refused without a reason");
            for problem in error.errors() {
                judge_problem(problem, &lines);
            }
            judge_shown(&error.render(false));
            let json = error.to_json();
            assert!(json.len() >= error.errors().len());
            let line = error.to_string();
            judge_shown(&line);
            assert!(!line.chars().any(char::is_control), "{line:?}");
            false
        }
    }
}

fn occurs(schedule: &Schedule) -> bool {
    schedule.next_after(jiff::Timestamp::UNIX_EPOCH).is_some()
}

fn judge_problem(problem: &Problem, lines: &[&str]) {
    judge_shown(&problem.render(false));
    assert!(!problem.render(true).is_empty());
    let message = problem.message();
    assert!(!message.is_empty() && !message.chars().any(char::is_control), "{message:?}");
    let json = problem.to_json();
    judge_shown(&json.to_string());
    let Some(line) = json["line"].as_u64() else { return };
    let column = json["column"].as_u64().expect("a line comes with a column");
    let pointed_at = lines[usize::try_from(line).expect("small") - 1];
    let width = pointed_at.chars().count() as u64;
    assert!((1..=width + 1).contains(&column), "{line}:{column} is not in the file");
}

/// What a person sees, on whatever terminal.
fn judge_shown(shown: &str) {
    assert!(!shown.contains("vps_"), "shows what looks like a token: {shown}");
    assert!(!shown.contains(SECRET), "shows a secret: {shown}");
    assert!(
        !shown.chars().any(|it| it.is_control() && it != '\n'),
        "controls a terminal: {shown:?}"
    );
}
