//! Groups, and included files: whose value holds, and how mistakes in several files are told.

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::*;
use crate::naming::ServerId;
use crate::server::Server;
use crate::testing::as_nobody;

/// A directory with a configuration of several files.
pub(super) struct Place(TempDir);

impl Place {
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self) -> Result<Loaded, ConfigError> {
        read(&self.path("config.toml"))
    }

    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        self.read().unwrap_or_else(|it| panic!("{}", it.render(false))).settings.servers
    }

    /// Mistakes, or else warnings, without the directory's name, which is another one each time.
    fn shown(&self) -> String {
        let shown = match self.read() {
            Err(error) => error.render(false),
            Ok(loaded) => loaded.warnings.iter().map(|it| it.render(false) + "\n").collect(),
        };
        shown.replace(&format!("{}/", self.0.path().display()), "")
    }
}

pub(super) const BASE: &str =
    "include = [\"conf.d/*.toml\"]\n[defaults]\nschedule = \"0 3 * * *\"\nkeep = 3\n";

#[test]
fn a_servers_own_keys_win_over_its_group_and_the_group_over_the_defaults() {
    let text = "[defaults]\nschedule = \"0 3 * * *\"\nkeep = 4\njitter = \"5m\"\nreserve = 1\n\
                hooks = { before = [\"a\"], after = [\"b\"] }\n\
                [group.databases]\nkeep = 2\njitter = \"1m\"\n[group.databases.hooks]\nafter = [\"c\"]\n\
                [group.\"mail & web\"]\n\
                [[server]]\nid = 1\ngroup = \"databases\"\nkeep = 1\n\
                [[server]]\nid = 2\ngroup = \"databases\"\n\
                [[server]]\nid = 3\ngroup = \"mail & web\"\n[[server]]\nid = 4\n";
    let servers = parse("config.toml", text).unwrap().settings.servers;
    let seen = |it: &Arc<Server>| {
        let hooks = it.hooks.as_ref().unwrap();
        let policy = &it.policy;
        (policy.keep.last, it.jitter.as_secs(), policy.reserve, hooks.before.len())
    };
    let all: Vec<_> = servers.iter().map(seen).collect();
    assert_eq!(all, [(1, 60, 1, 0), (2, 60, 1, 0), (4, 300, 1, 1), (4, 300, 1, 1)]);
    assert!(Arc::ptr_eq(&servers[2].policy, &servers[3].policy), "one policy in memory");
}

#[test]
fn included_files_are_read_in_the_order_of_their_names_each_once() {
    let place = Place::with(&[
        (
            "config.toml",
            "include = [\"conf.d/*.toml\", \"conf.d/b.toml\", \"customers/*/servers.toml\", \"more.toml\"]\n\
             [[server]]\nid = 1\ngroup = \"z\"\n[defaults]\nkeep = 1\nschedule = \"0 3 * * *\"\n",
        ),
        ("conf.d/b.toml", "[[server]]\nid = 3\ngroup = \"z\"\n"),
        ("conf.d/a.toml", "[[server]]\nid = 2\n[group.y]\nkeep = 3\n"),
        ("conf.d/z.toml", "[group.z]\nkeep = 2\n"),
        ("conf.d/.c.toml", "an editor's"),
        ("conf.d/c.toml~", "an editor's"),
        ("conf.d/README", "not a configuration"),
        ("customers/README", "not a customer"),
        ("customers/one/servers.toml", "[[server]]\nid = 4\ngroup = \"y\"\n"),
        ("customers/two/other.toml", "not a configuration"),
        ("more.toml", "# none yet\n"),
    ]);
    let servers = place.servers();
    let seen: Vec<_> = servers.iter().map(|it| (it.id.number, it.policy.keep.last)).collect();
    assert_eq!(seen, [(1, 2), (2, 1), (3, 2), (4, 3)]);
    assert_eq!(place.shown(), "");
    // A key that is written in an odd way would be overlooked.
    place.write("config.toml", &format!("\"incl\\u0075de\" = [\"conf.d/*.toml\"]\n{GOOD}"));
    assert!(place.shown().contains("the included files were not read"), "{}", place.shown());
    // What the main file's own directory has is not the main file again.
    place.write(
        "config.toml",
        "include = [\"*.toml\"]\n[[server]]\nid = 1\nkeep = 1\nschedule = \"0 3 * * *\"\n",
    );
    assert_eq!(place.servers()[0].id, ServerId::new(1));
}

#[test]
fn mistakes_in_several_files_are_told_at_once_each_in_its_own() {
    let server = |id: u32, more: &str| format!("[[server]]\nid = {id}\n{more}\n");
    let cases: Vec<(&str, Vec<(&str, String)>)> = vec![
        (
            "a mistake in each file",
            vec![
                ("config.toml", format!("{BASE}jitter = \"often\"\n")),
                ("conf.d/a.toml", server(1, "keep = 9")),
                ("conf.d/b.toml", format!("# a comment\n{}", server(2, "scheduel = \"0 3 * * *\""))),
            ],
        ),
        (
            "one id, one name and one group in two files",
            vec![
                ("config.toml", format!("{BASE}{}", server(1, "name = \"web\""))),
                ("conf.d/a.toml", server(1, "") + "[group.x]\n"),
                ("conf.d/b.toml", server(2, "name = \"web\"") + "[group.x]\n"),
            ],
        ),
        (
            "a group twice in a file",
            vec![(
                "config.toml",
                format!("[defaults]\nschedule = \"0 3 * * *\"\nkeep = 3\n[group.x]\n{}[group.x]\n", server(1, "")),
            )],
        ),
        (
            "groups that are not there, told without what they would have given",
            vec![
                (
                    "config.toml",
                    "include = [\"conf.d/a.toml\"]\n[group.databases]\nkeep = 3\nschedule = \"0 3 * * *\"\n".to_owned(),
                ),
                ("conf.d/a.toml", server(1, "group = \"database\"") + &server(2, "group = \"mail\"")),
            ],
        ),
        (
            "groups that are none",
            vec![(
                "config.toml",
                format!(
                    "[defaults]\nkeep = 1\nschedule = \"0 3 * * *\"\n[group]\nkeep = 3\n[group.\" \"]\n\
                     [group.x]\nid = 1\nscheduel = 1\ngroup = \"y\"\n{}",
                    server(1, "group = 3")
                ),
            )],
        ),
        (
            "what an included file cannot have",
            vec![
                ("config.toml", format!("{BASE}{}", server(1, ""))),
                (
                    "conf.d/a.toml",
                    "include = [\"b.toml\"]\ntoken = \"secret123\"\n[defaults]\nkeep = 1\n[api]\ntoken = \"secret123\"\n\
                     [[notify]]\nurl = \"https://hooks.example/secret123\"\n[servers]\n"
                        .to_owned(),
                ),
            ],
        ),
        (
            "not TOML: what it might have given is not missed",
            vec![
                ("config.toml", format!("{BASE}{}", server(1, "group = \"x\""))),
                ("conf.d/a.toml", "[group.x]\nkeep 3\n".to_owned()),
                ("conf.d/b.toml", server(2, "group = \"x\"\nkeep = 7")),
            ],
        ),
        (
            "broken defaults",
            vec![
                ("config.toml", "include = [\"conf.d/*\"]\n[defaults]\nkeep 3\nschedule = \"0 3 * * *\"\n".to_owned()),
                ("conf.d/a.toml", server(1, "")),
            ],
        ),
        (
            "an error at the end of one file and the beginning of the next",
            vec![
                ("config.toml", BASE.to_owned()),
                ("conf.d/a.toml", format!("{}pin = [1", server(1, ""))),
                ("conf.d/b.toml", format!("= 1\n{}", server(2, ""))),
            ],
        ),
        (
            "a file that is missing, and patterns that fit nothing or are none",
            vec![(
                "config.toml",
                "include = [\"servers.toml\", \"conf.d/*.toml\", \"[\", \"\", 3]\n[[server]]\nid = 1\ngroup = \"x\"\n"
                    .to_owned(),
            )],
        ),
        (
            "no list",
            vec![("config.toml", format!("include = \"x.toml\"\n{GOOD}"))],
        ),
        (
            "a pattern that fits nothing, alone",
            vec![("config.toml", format!("include = [\"conf.d/*.toml\"]\n{GOOD}"))],
        ),
        (
            "a group's cap below the default keep",
            vec![(
                "config.toml",
                format!(
                    "[defaults]\nkeep = 4\nschedule = \"0 3 * * *\"\n[group.small]\ncap = 3\n{}",
                    server(1, "group = \"small\"")
                ),
            )],
        ),
        (
            "not text",
            vec![("config.toml", BASE.to_owned()), ("conf.d/a.toml", "LATIN".to_owned())],
        ),
    ];
    let mut all = String::new();
    for (what, files) in cases {
        let place = Place::with(&[]);
        for (name, text) in &files {
            place.write(name, text);
            if text == "LATIN" {
                std::fs::write(place.path(name), b"[group.x]\n# caf\xe9\n").unwrap();
            }
        }
        all.push_str(&format!("## {what}\n{}\n", place.shown().trim_end()));
    }
    assert!(!all.contains("secret123"));
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_no_regular_file_is_refused_as_for_the_main_one() {
    let place = Place::with(&[("config.toml", BASE)]);
    std::fs::create_dir(place.path("conf.d")).unwrap();
    mkfifo(&place.path("conf.d/a.toml"), Mode::S_IRWXU).unwrap();
    std::fs::create_dir(place.path("conf.d/b.toml")).unwrap();
    let said = place.read().unwrap_err().to_string();
    for (name, found) in [("a", "a pipe"), ("b", "a directory")] {
        let expected = format!(
            "config.toml:1:12: the included file {} cannot be read: it is {found}, not a regular file",
            place.path(&format!("conf.d/{name}.toml")).display()
        );
        assert!(said.contains(&expected), "{said}");
    }
    assert!(!said.contains("no server"), "it may be in what cannot be read: {said}");
}

/// Servers in a directory that cannot be looked through would be missed.
#[test]
fn a_directory_that_this_user_may_not_read_is_a_mistake() {
    let place = Place::with(&[("config.toml", BASE), ("conf.d/a.toml", "[[server]]\nid = 1\n")]);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(place.path(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("", 0o755);
    mode("conf.d", 0o700);
    as_nobody(|| {
        let said = place.read().unwrap_err().to_string();
        assert!(said.contains("conf.d cannot be read: Permission denied"), "{said}");
    });
    mode("conf.d", 0o755);
    mode("conf.d/a.toml", 0o600);
    as_nobody(|| {
        let said = place.read().unwrap_err().to_string();
        assert!(said.contains("conf.d/a.toml cannot be read"), "{said}");
    });
    assert_eq!(place.servers().len(), 1);
}

#[test]
fn the_files_together_are_bounded() {
    let place = Place::with(&[("config.toml", BASE)]);
    std::fs::create_dir(place.path("conf.d")).unwrap();
    for name in ["conf.d/a.toml", "conf.d/b.toml"] {
        let text = format!("#{}\n", "x".repeat(40 << 20));
        std::fs::write(place.path(name), text).unwrap();
    }
    let error = place.read().unwrap_err();
    assert_eq!(error.errors().len(), 1);
    let said = error.to_string();
    assert!(
        said.ends_with("b.toml cannot be read: with it, the configuration is larger than 64 MiB"),
        "{said}"
    );
}

#[test]
fn each_value_says_where_it_comes_from() {
    let place = Place::with(&[
        ("config.toml", &format!("{BASE}description = \"vps_secret123\"\n")),
        (
            "conf.d/a.toml",
            "[group.x]\nkeep.last = 1\n[group.x.hooks]\nafter = [\"a\"]\n\
             [[server]]\nid = 7\ngroup = \"x\"\npin = [0x10]\n",
        ),
    ]);
    let (_, servers) = read_with_origins(&place.path("config.toml")).unwrap();
    let shown: Vec<String> = servers[0]
        .values
        .iter()
        .map(|it| match &it.origin {
            Origin::Default => format!("{} = {}: default", it.key, it.value),
            Origin::Written { table, file, line } => {
                let file = Path::new(file).file_name().unwrap().display();
                format!("{} = {}: {file}:{line} {table}", it.key, it.value)
            }
        })
        .collect();
    assert_eq!(servers[0].group.as_deref(), Some("x"));
    assert_eq!(
        shown,
        [
            "account = \"default\": default",
            "schedule = \"0 3 * * *\": config.toml:3 [defaults]",
            "timezone = \"Etc/UTC\": default",
            "keep = {\"last\":1}: a.toml:2 [group.x]",
            "prefix = \"snapring\": default",
            "adopt_prefix = []: default",
            "description = \"*************\": config.toml:5 [defaults]",
            "cap = 5: default",
            "reserve = 0: default",
            "jitter = \"0s\": default",
            "catch_up = \"24h\": default",
            "min_interval = \"10m\": default",
            "completion_timeout = \"45m\": default",
            "pin = [16]: a.toml:8 [[server]]",
            "enabled = true: default",
            "hooks = {\"after\":[\"a\"]}: a.toml:3 [group.x]",
        ]
    );
}

#[test]
fn ten_thousand_servers_in_two_hundred_files_share_their_policies() {
    let place = Place::with(&[("config.toml", BASE)]);
    let groups: String =
        (0..20).map(|nth| format!("[group.g{nth}]\nkeep = {}\n", nth % 4 + 1)).collect();
    place.write("conf.d/groups.toml", &groups);
    for file in 0..200 {
        let server =
            |nth| format!("[[server]]\nid = {}\ngroup = \"g{}\"\n", file * 50 + nth + 1, nth % 20);
        place.write(&format!("conf.d/{file}.toml"), &(0..50).map(server).collect::<String>());
    }
    let servers = place.servers();
    let policies: std::collections::HashSet<_> =
        servers.iter().map(|it| Arc::as_ptr(&it.policy)).collect();
    assert_eq!((servers.len(), policies.len()), (10_000, 4));
}
