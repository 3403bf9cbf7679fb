//! The schema against a validator: it takes what snapring takes, and refuses what a schema can refuse.

use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};

use super::*;
use crate::config::parse;

struct Validator(Schemas, SchemaIndex);

impl Validator {
    /// Of the schema, which is checked against the draft's own.
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("config.schema.json", schema()).unwrap();
        let index = compiler.compile("config.schema.json", &mut schemas);
        let index = index.unwrap_or_else(|error| panic!("{error:#}"));
        Self(schemas, index)
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let value: Value = toml::from_str(text).map_err(|error| error.to_string())?;
        self.0.validate(&value, self.1).map_err(|error| format!("{error:#}"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_in(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
}

#[test]
fn every_shape_is_json() {
    for (name, shape) in shapes::NAMED {
        assert!(read(shape).is_object(), "{name}");
    }
    for section in [&ROOT, &API, &SERVER, &HOOKS, &HTTP, &STORE, &LOG, &NOTIFY] {
        for key in section.keys {
            if let Form::Words(_, shape) = key.form {
                assert!(read(shape).is_object(), "{}", key.name);
            }
        }
    }
}

#[test]
fn the_schema_takes_the_example_the_documents_and_whatever_snapring_takes() {
    let validator = Validator::new();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut texts: Vec<(String, String)> = vec![
        ("the example".to_owned(), read(&root().join("config.example.toml"))),
        ("an included file".to_owned(), "[[server]]\nid = 1\n[group.x]\nkeep = 3\n".to_owned()),
        (
            "odd spans".to_owned(),
            "[defaults]\nkeep = 1\nschedule = \" 0  3 * * * \"\njitter = \"0\"\ncatch_up = \"1h30m 5 s\"\n\
             min_interval = \"1.5 hours\"\n[[server]]\nid = 1\ntimezone = \"Etc/GMT+3\"\n"
                .to_owned(),
        ),
    ];
    let mut documents = files_in("docs", "md");
    documents.push(root().join("README.md"));
    for path in documents {
        let text = read(&path);
        let blocks = text.split("```toml\n").skip(1).filter_map(|it| it.split("```").next());
        let whole = blocks.filter(|it| parse("config.toml", it).is_ok());
        texts.extend(whole.map(|it| (path.display().to_string(), it.to_owned())));
    }
    for path in files_in("fuzz/corpus/config", "toml") {
        // Some of the corpus is no text.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if parse("config.toml", &text).is_ok() {
            texts.push((path.display().to_string(), text));
        }
    }
    assert!(texts.len() >= 12, "only {}", texts.len());
    for (what, text) in texts {
        validator.check(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

/// Lines that are put into a good configuration. Each is a mistake for snapring and for the schema.
#[test]
fn the_schema_refuses_each_kind_of_mistake_that_it_can_know_of() {
    let in_server = [
        "scheduel = \"0 3 * * *\"",
        "id = \"1\"",
        "id = 0",
        "id = 1.5",
        "name = \"\"",
        "name = \"17\"",
        "name = 17",
        "group = 1",
        "group = \"\"",
        "schedule = []",
        "schedule = 3",
        "schedule = \"0 3 * *\"",
        "schedule = \"0 0 3 * * * *\"",
        "schedule = \"@daily\"",
        "schedule = [\"0 3 * * *\", 4]",
        "timezone = 2",
        "timezone = \"\"",
        "timezone = \"Europe Berlin\"",
        "keep = 0",
        "keep = \"4\"",
        "keep = 1001",
        "keep = {}",
        "keep = { last = 0 }",
        "keep = { dayly = 3 }",
        "keep = { last = \"2\" }",
        "prefix = \"my ring\"",
        "prefix = \"1st\"",
        "prefix = \"a-prefix-that-is-too-long-for-names\"",
        "adopt_prefix = \"old\"",
        "adopt_prefix = [\"old\", \"old\"]",
        "adopt_prefix = [\"9 lives\"]",
        "description = 5",
        "cap = 0",
        "cap = \"5\"",
        "reserve = -1",
        "jitter = 10",
        "jitter = \"10\"",
        "jitter = \"often\"",
        "catch_up = true",
        "min_interval = \"\"",
        "completion_timeout = [\"45m\"]",
        "pin = 801",
        "pin = [\"weekly\"]",
        "enabled = \"yes\"",
        "hooks = []",
        "hooks = { before = \"quiesce\" }",
        "hooks = { before = [] }",
        "hooks = { before = [\"\"] }",
        "hooks = { during = [\"x\"] }",
        "hooks = { timeout = 5 }",
    ];
    let tables = [
        "[api]\ntoken = \"x\"",
        "[api]\nbase_url = \"ftp://x.org/\"",
        "[api]\nbase_url = \"https://me:pw@x.org/\"",
        "[api]\ntoken_file = \"token\"",
        "[api]\nretries = 21",
        "[api]\nmax_in_flight = 0",
        "[api]\nrequests_per_minute = 3",
        "[api]\ntimeout = 30",
        "[defaults]\nid = 1",
        "[defaults]\ngroup = \"x\"",
        "[group.x]\npin = [1]",
        "[group]\nkeep = 3",
        "[http]\nlisten = \"localhost\"",
        "[http]\nhosts = [\"x:80\"]",
        "[store]\nurl = \"mysql://db/x\"",
        "[store]\nurl_file = \"store.url\"",
        "[store]\nurl = \"sqlite::memory:\"\nurl_file = \"/x\"",
        "[log]\nformat = \"jornald\"",
        "[log]\nlevel = 3",
        "[notify]\nurl = \"https://x.org/\"",
        "[[notify]]\non = [\"failure\"]",
        "[[notify]]\nurl = \"hooks.example\"",
        "[[notify]]\nurl = \"https://x.org/\"\non = []",
        "[[notify]]\nurl = \"https://x.org/\"\non = [\"failed\"]",
        "[[notify]]\nurl = \"https://x.org/\"\nformat = \"Slack\"",
        "[[notify]]\nurl = \"https://x.org/\"\nremind = 24",
        "[[notify]]\nurl = \"https://x.org/\"\ninstance = \"\"",
        "[account]\nname = \"b\"",
        "[[account]]",
        "[[account]]\nbase_url = \"https://x.org/\"",
        "[[account]]\nname = 5",
        "[[account]]\nname = \"\"",
        "[[account]]\nname = \"9 lives\"",
        "[[account]]\nname = \"a-name-that-is-too-long-for-it\"",
        "[[account]]\nname = \"default\"",
        "[[account]]\nname = \"b\"\ntoken = \"x\"",
        "[[account]]\nname = \"b\"\ntokenfile = \"/x\"",
        "[[account]]\nname = \"b\"\ntoken_file = \"b.token\"",
        "[[account]]\nname = \"b\"\nretries = 21",
        "[servers]",
    ];
    let validator = Validator::new();
    let good = ["id = 1", "schedule = \"0 3 * * *\"", "keep = 4"];
    let with_line = |line: &str| {
        let key = line.split(' ').next();
        let kept = good.iter().filter(|it| it.split(' ').next() != key).copied();
        let lines: Vec<&str> = kept.chain([line]).collect();
        format!("[[server]]\n{}\n", lines.join("\n"))
    };
    let mut bad: Vec<String> = in_server.into_iter().map(with_line).collect();
    bad.extend(tables.iter().map(|table| format!("{}{table}\n", with_line("cap = 5"))));
    let others = [
        "server = 1\n",
        "include = \"x.toml\"\n",
        "include = [\"\"]\n",
        "[[server]]\nkeep = 4\nschedule = \"0 3 * * *\"\n",
    ];
    bad.extend(others.map(str::to_owned));
    assert!(validator.check(&with_line("cap = 5")).is_ok());
    // Whether there is such a server, or such an account, is not the schema's business.
    for table in
        ["[[account]]\nname = \"b\"\ntoken_file = \"/x\"", "[[server]]\nid = 2\naccount = \"c\""]
    {
        let text = format!("{}{table}\nschedule = \"0 3 * * *\"\nkeep = 1\n", with_line("cap = 5"));
        let text = match table.starts_with("[[account]]") {
            true => format!("{}{table}\n", with_line("cap = 5")),
            false => text,
        };
        validator.check(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    assert!(bad.len() >= 50);
    for text in bad {
        assert!(parse("config.toml", &text).is_err(), "snapring takes this:\n{text}");
        assert!(validator.check(&text).is_err(), "the schema takes this:\n{text}");
    }
}
