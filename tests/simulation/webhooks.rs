//! The services that notices go to. Each may be down or refuse for a while; the judge sees what they get.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use snapring::clock::Clock;
use snapring::notify::http::{Message, Post, PostAnswer, Posting};
use snapring::provider::transport::TransportError;

use crate::judge::Judge;

/// The hosts of the services, and what they are told of.
pub const SERVICES: [(&str, &str); 2] =
    [("one.example", "\"failure\", \"recovery\""), ("two.example", "\"failure\", \"recovery\"")];

/// What a service is like at present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// It takes nothing, and answers so.
    Answers(u16),
    /// It takes nothing, and asks to wait so many seconds.
    Throttles(u32),
    /// Nobody listens.
    Down,
    /// Takes nothing, and never answers.
    Hangs,
    /// Takes it, and the answer is lost.
    AnswersNever,
}

impl Mood {
    pub const BAD: [Self; 9] = [
        Self::Answers(500),
        Self::Answers(503),
        Self::Answers(408),
        Self::Answers(403),
        Self::Answers(404),
        Self::Throttles(40),
        Self::Throttles(3_000),
        Self::Down,
        Self::Hangs,
    ];
}

/// Clones are the same ones.
#[derive(Clone, Default)]
pub struct Moods(Arc<Mutex<BTreeMap<&'static str, Mood>>>);

impl Moods {
    pub fn set(&self, service: &'static str, mood: Mood) {
        self.0.lock().unwrap().insert(service, mood);
    }

    pub fn all_well(&self) {
        self.0.lock().unwrap().clear();
    }

    fn of(&self, service: &str) -> Mood {
        self.0.lock().unwrap().get(service).copied().unwrap_or_default()
    }
}

/// The `[[notify]]` tables.
pub fn toml() -> String {
    let table = |(host, on)| {
        format!("[[notify]]\nurl = \"https://{host}/hook\"\nformat = \"json\"\non = [{on}]\n")
    };
    SERVICES.map(table).concat()
}

/// Carries notices to them.
pub struct SimPost {
    pub moods: Moods,
    pub truth: Clock,
    pub judge: Arc<Mutex<Judge>>,
}

impl Post for SimPost {
    fn post<'a>(&'a self, message: &'a Message) -> Posting<'a> {
        Box::pin(async move {
            // A service takes a moment.
            self.truth.sleep(std::time::Duration::from_millis(300)).await;
            let to = message.to.to_string();
            let service = to.trim_start_matches("https://");
            let mood = self.moods.of(service);
            let now = self.truth.now();
            self.judge.lock().unwrap().posted(service, &message.body, mood, now);
            let answer = |status, retry_after: Option<u32>| {
                let retry_after = retry_after.map(|seconds| seconds.to_string());
                Ok(PostAnswer { status, retry_after, body: "".into() })
            };
            match mood {
                Mood::Well => answer(200, None),
                Mood::Answers(status) => answer(status, None),
                Mood::Throttles(seconds) => answer(429, Some(seconds)),
                Mood::Down => Err(TransportError::Connection("refused".into())),
                Mood::Hangs | Mood::AnswersNever => std::future::pending().await,
            }
        })
    }
}
