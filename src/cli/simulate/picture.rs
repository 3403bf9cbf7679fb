//! A rehearsal as a picture: each snapshot is a bar from the day of its creation to its deletion, in one of the
//! server's slots, coloured by the rule that keeps it.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;

use super::Group;
use crate::cli::sentence;
use crate::policy::Rule;
use crate::rehearsal::{Course, Kept};
use crate::retention::Reason;
use crate::ring::Holder;

const LEFT: f64 = 20.0;
const WIDTH: f64 = 1000.0;
const LANE: f64 = 18.0;
const TITLE: f64 = 46.0;

/// What a bar's colour says.
const COLOURS: [(&str, &str); 9] = [
    ("last", "#4e79a7"),
    ("hourly", "#76b7b2"),
    ("daily", "#59a14f"),
    ("weekly", "#edc948"),
    ("monthly", "#f28e2b"),
    ("yearly", "#b07aa1"),
    ("oldest", "#9c755f"),
    ("foreign or pinned", "#bab0ac"),
    ("unfinished", "#e15759"),
];

fn meaning(kept: &Kept) -> &'static str {
    match (&kept.holder, &kept.reason) {
        (Holder::Foreign | Holder::Pinned, _) => "foreign or pinned",
        (Holder::Managed(_), Some(Reason::Newest { rule, .. })) => Rule::as_str(*rule),
        (Holder::Managed(_), Some(Reason::Oldest { .. })) => "oldest",
        (Holder::Managed(_), None) => "unfinished",
    }
}

fn colour(meaning: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == meaning).map_or("#000000", |(_, colour)| colour)
}

pub(super) fn svg(groups: &[Group]) -> String {
    let mut body = String::new();
    let mut top = 0.0;
    for course in groups.iter().filter_map(|group| group.courses.first()) {
        top = draw(&mut body, course, top);
    }
    top = legend(&mut body, top);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#ffffff\"/>\n{body}</svg>\n",
        width = WIDTH + 2.0 * LEFT,
    )
}

/// Draws one server from `top` on, and gives where it ends.
fn draw(body: &mut String, course: &Course, top: f64) -> f64 {
    let server = &course.server;
    let title = format!("{}: {}", server.name, sentence::schedule(server));
    let keep = sentence::keep(&server.policy.keep);
    let _ = writeln!(
        body,
        "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}, keep = {}</text>",
        top + 20.0,
        escaped(&title),
        escaped(&keep)
    );
    let days = course.days.len().max(1);
    #[expect(clippy::cast_precision_loss)]
    let step = WIDTH / days as f64;
    let mut lanes: BTreeMap<(Timestamp, String), usize> = BTreeMap::new();
    let mut most = server.policy.cap as usize;
    for (nth, day) in course.days.iter().enumerate() {
        let key = |kept: &Kept| (kept.at, format!("{:?}", kept.holder));
        lanes.retain(|known, _| day.snapshots.iter().any(|kept| key(kept) == *known));
        for kept in &day.snapshots {
            let free = (0..).find(|lane| !lanes.values().any(|taken| taken == lane));
            let lane = *lanes.entry(key(kept)).or_insert(free.unwrap_or_default());
            most = most.max(lane + 1);
            #[expect(clippy::cast_precision_loss)]
            let (x, y) = (LEFT + nth as f64 * step, top + TITLE - 18.0 + lane as f64 * LANE);
            let meaning = meaning(kept);
            let _ = writeln!(
                body,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{step:.1}\" height=\"{:.1}\" fill=\"{}\">\
                 <title>{}: {}, {meaning}</title></rect>",
                LANE - 4.0,
                colour(meaning),
                day.date,
                kept.at
            );
        }
    }
    #[expect(clippy::cast_precision_loss)]
    let bottom = top + TITLE - 18.0 + most as f64 * LANE;
    for (nth, day) in course.days.iter().enumerate().step_by(days.div_ceil(8)) {
        #[expect(clippy::cast_precision_loss)]
        let x = LEFT + nth as f64 * step;
        let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{:.1}\">{}</text>", bottom + 12.0, day.date);
    }
    bottom + 24.0
}

fn legend(body: &mut String, top: f64) -> f64 {
    let mut x = LEFT;
    for (name, colour) in COLOURS {
        let _ = writeln!(
            body,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            top + 8.0,
            x + 16.0,
            top + 18.0
        );
        x += 110.0;
    }
    top + 32.0
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
