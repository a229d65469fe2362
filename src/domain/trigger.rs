//! What starts a steward by itself: a time, or something that happens to a task.

use std::collections::BTreeMap;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::agent::MAX_BEHAVIOUR_BYTES;
use super::dispatch::common_place;
use super::task::{MergeStatus, Status};
use super::{Task, field};
use crate::base::{Error, Result, Timestamp};

/// The most triggers of an agent.
pub const MAX_TRIGGERS: usize = 16;
/// The name that all triggers for events have.
pub const EVENTS: &str = "event";
/// The longest schedule, in bytes.
const MAX_SCHEDULE_BYTES: usize = 128;
/// The longest name of a time zone, in bytes.
const MAX_ZONE_BYTES: usize = 64;

/// What starts a steward by itself, and what it is told then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// What starts it.
    pub on: Occasion,
    /// What it is told; may be empty.
    #[serde(default)]
    pub input: String,
}

/// What starts a steward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// A time.
    Cron(Schedule),
    /// Something that happens to a task.
    Event(TaskEvents),
}

/// Times that come again, in the form of crontab(5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Minute, hour, day of the month, month, day of the week: as `0 7 * * 1-5`.
    pub cron: String,
    /// In which time zone, by its IANA name; empty is UTC.
    #[serde(default)]
    pub time_zone: String,
}

/// Something that happens to tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEvents {
    /// What.
    pub event: TaskEvent,
    /// Only to tasks with these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What may happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskEvent {
    /// It was made.
    TaskCreated,
    /// It is done and waits for a review.
    TaskInReview,
    /// It was closed.
    TaskClosed,
    /// A person must look at it.
    TaskEscalated,
    /// Its branch could not be merged: a conflict, or the test failed.
    MergeFailed,
}

impl TaskEvent {
    /// Every event.
    pub const ALL: [TaskEvent; 5] = [
        TaskEvent::TaskCreated,
        TaskEvent::TaskInReview,
        TaskEvent::TaskClosed,
        TaskEvent::TaskEscalated,
        TaskEvent::MergeFailed,
    ];

    /// The event's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskEvent::TaskCreated => "task_created",
            TaskEvent::TaskInReview => "task_in_review",
            TaskEvent::TaskClosed => "task_closed",
            TaskEvent::TaskEscalated => "task_escalated",
            TaskEvent::MergeFailed => "merge_failed",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }

    /// What it means, as a heading over the tasks.
    pub const fn heading(self) -> &'static str {
        match self {
            TaskEvent::TaskCreated => "New tasks",
            TaskEvent::TaskInReview => "Done, and waiting for a review",
            TaskEvent::TaskClosed => "Closed",
            TaskEvent::TaskEscalated => "Waiting for a person",
            TaskEvent::MergeFailed => "Not merged, because of a conflict or a failed test",
        }
    }

    /// What happened to a task by a change; `before` is `None` if it was made.
    pub fn of(before: Option<&Task>, after: &Task) -> Vec<TaskEvent> {
        let mut events = Vec::new();
        if before.is_none() {
            events.push(TaskEvent::TaskCreated);
        }
        let was = before.map(|task| task.status);
        let turned = |to: Status| after.status == to && was != Some(to);
        if turned(Status::Review) {
            events.push(TaskEvent::TaskInReview);
        }
        if turned(Status::Closed) {
            events.push(TaskEvent::TaskClosed);
        }
        let escalated = |task: &Task| {
            let living = task.living().filter(|living| !living.escalation.is_empty());
            living.map(|living| living.id)
        };
        let now = escalated(after);
        if now.is_some() && now != before.and_then(escalated) {
            events.push(TaskEvent::TaskEscalated);
        }
        let failed = |task: &Task| {
            let failed = [MergeStatus::Conflict, MergeStatus::TestFailed];
            Some(task.merge_status).filter(|status| failed.contains(status))
        };
        let now = failed(after);
        if now.is_some() && now != before.and_then(failed) {
            events.push(TaskEvent::MergeFailed);
        }
        events
    }
}

impl Schedule {
    /// The first time after another. `None`: there is none, or the schedule is none.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_microsecond(after.as_micros()).ok()?;
        let zone = self.zone("").ok()?;
        let next = self
            .times("")
            .ok()?
            .find_next_occurrence(&after.to_zoned(zone), false);
        Some(Timestamp::from_micros(
            next.ok()?.timestamp().as_microsecond(),
        ))
    }

    fn times(&self, at: &str) -> Result<Cron> {
        let form = "five fields: minute, hour, day of the month, month, day of the week";
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b" *,-/#".contains(&b);
        field::line(at, &self.cron, MAX_SCHEDULE_BYTES)?;
        if self.cron.split_ascii_whitespace().count() != 5 || !self.cron.bytes().all(is_plain) {
            return Err(Error::invalid(at, format!("is not a schedule of {form}")));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        parser.parse(&self.cron).map_err(|problem| {
            Error::invalid(at, format!("is not a schedule of {form}: {problem}"))
        })
    }

    fn zone(&self, at: &str) -> Result<TimeZone> {
        field::line(at, &self.time_zone, MAX_ZONE_BYTES)?;
        if self.time_zone.is_empty() {
            return Ok(TimeZone::UTC);
        }
        TimeZone::get(&self.time_zone).map_err(|_| {
            Error::invalid(
                at,
                "is not the IANA name of a time zone, such as Europe/Berlin",
            )
        })
    }

    fn check(&self, at: &str) -> Result<()> {
        self.times(&format!("{at}.cron.schedule"))?;
        self.zone(&format!("{at}.cron.time_zone"))?;
        match self.next(Timestamp::EPOCH) {
            Some(_) => Ok(()),
            None => Err(Error::invalid(
                &format!("{at}.cron.schedule"),
                "names a time that never comes",
            )),
        }
    }
}

impl Trigger {
    /// What it is known by as long as it starts at the same: its times. Events of an agent share one.
    pub fn name(&self) -> String {
        match &self.on {
            Occasion::Cron(schedule) => format!("{} {}", schedule.cron, schedule.time_zone),
            Occasion::Event(_) => EVENTS.to_owned(),
        }
    }

    /// Its schedule, if it has one.
    pub fn schedule(&self) -> Option<&Schedule> {
        match &self.on {
            Occasion::Cron(schedule) => Some(schedule),
            Occasion::Event(_) => None,
        }
    }

    /// Whether it is for an event of a task.
    pub fn hears(&self, event: TaskEvent, task: &Task) -> bool {
        match &self.on {
            Occasion::Cron(_) => false,
            Occasion::Event(of) => {
                let fits = |(key, value)| task.labels.get(key) == Some(value);
                of.event == event && of.labels.iter().all(fits)
            }
        }
    }
}

/// Checks the triggers of an agent, as `settings.triggers`.
pub fn check(triggers: &[Trigger]) -> Result<()> {
    if triggers.len() > MAX_TRIGGERS {
        let count = triggers.len();
        return Err(Error::invalid(
            "settings.triggers",
            format!("has {count} entries; the most is {MAX_TRIGGERS}"),
        ));
    }
    for (index, trigger) in triggers.iter().enumerate() {
        let at = format!("settings.triggers[{index}]");
        match &trigger.on {
            Occasion::Cron(schedule) => schedule.check(&at)?,
            Occasion::Event(of) => field::labels(&format!("{at}.event.labels"), &of.labels)?,
        }
        field::text(&format!("{at}.input"), &trigger.input, MAX_BEHAVIOUR_BYTES)?;
    }
    Ok(())
}

/// Whether a steward with a directory hears of a task: it could be worked on there.
pub fn concerns(directory: &str, task: &Task) -> bool {
    common_place(&task.directory, directory).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{AgentId, AssignmentId, TaskId};
    use crate::domain::Actor;
    use crate::domain::task::{Draft, Outcome};

    fn at(text: &str) -> Timestamp {
        let time: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_micros(time.as_microsecond())
    }

    fn schedule(cron: &str, time_zone: &str) -> Schedule {
        Schedule {
            cron: cron.to_owned(),
            time_zone: time_zone.to_owned(),
        }
    }

    #[test]
    fn a_schedule_names_times_in_its_zone() {
        let next = |cron, zone, after| schedule(cron, zone).next(at(after)).unwrap();
        let friday = "2026-11-20T07:00:00Z";
        assert_eq!(next("0 7 * * 1-5", "", friday), at("2026-11-23T07:00:00Z"));
        assert_eq!(
            next("0 7 * * MON-FRI", "Europe/Berlin", friday),
            at("2026-11-23T06:00:00Z")
        );
        assert_eq!(next("*/15 * * * *", "", friday), at("2026-11-20T07:15:00Z"));
        assert_eq!(next("0 0 29 2 *", "", friday), at("2028-02-29T00:00:00Z"));
        // Clocks go forward at two: the hour that is left out is not left out of the day.
        let spring = next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z");
        assert!(spring < at("2026-03-29T12:00:00Z"), "{spring}");
    }

    #[test]
    fn what_is_no_schedule_is_refused_and_says_where() {
        let field = |cron: &str, zone: &str| {
            let trigger = Trigger {
                on: Occasion::Cron(schedule(cron, zone)),
                input: String::new(),
            };
            let error = check(&[trigger]).unwrap_err();
            error.fields()[0].field.clone()
        };
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "0 24 * * *",
            "@daily",
            "0 0 30 2 *",
            "0 0 ? * ?",
            "a b c d e",
            "\u{0661} * * * *",
            "0 0 * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "0 0 L * *\n",
        ] {
            assert_eq!(
                field(bad, ""),
                "settings.triggers[0].cron.schedule",
                "{bad}"
            );
        }
        let bad_zones = ["Europe/Nowhere", "../../etc/passwd", "+25:00", "a b"];
        for bad in bad_zones {
            assert_eq!(
                field("0 0 * * *", bad),
                "settings.triggers[0].cron.time_zone",
                "{bad}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_much_for_it(text in "[0-9A-Za-z*,/# -]{0,20}( [0-9A-Z*,/#-]{1,8}){4}", zone in "[A-Za-z/+:_0-9-]{0,12}") {
            let schedule = schedule(&text, &zone);
            let is_good = schedule.check("x").is_ok();
            let now = at("2026-11-20T07:00:00Z");
            if let Some(next) = schedule.next(now) {
                proptest::prop_assert!(next > now);
            } else {
                proptest::prop_assert!(!is_good);
            }
        }
    }

    #[test]
    fn what_happens_to_a_task_is_told_once() {
        let (by, now) = (Actor::server(), Timestamp::EPOCH);
        let new = Task::new(TaskId::from_bits(1), Draft::default(), &by, now);
        assert_eq!(TaskEvent::of(None, &new), [TaskEvent::TaskCreated]);
        assert!(TaskEvent::of(Some(&new), &new).is_empty());
        let mut begun = new.clone();
        let assignment = AssignmentId::from_bits(1);
        let agent = AgentId::from_bits(1);
        begun.assign(assignment, agent, "", None, &by, now).unwrap();
        assert!(TaskEvent::of(Some(&new), &begun).is_empty());
        let mut stuck = begun.clone();
        stuck.escalate(assignment, "it is stuck", &by, now).unwrap();
        assert_eq!(
            TaskEvent::of(Some(&begun), &stuck),
            [TaskEvent::TaskEscalated]
        );
        assert!(TaskEvent::of(Some(&stuck), &stuck).is_empty());
        let mut closed = new.clone();
        closed.complete("", Outcome::Closed, &by, now).unwrap();
        assert_eq!(TaskEvent::of(Some(&new), &closed), [TaskEvent::TaskClosed]);
        let mut failed = new.clone();
        failed.merge_status = MergeStatus::Conflict;
        assert_eq!(TaskEvent::of(Some(&new), &failed), [TaskEvent::MergeFailed]);
        let mut again = failed.clone();
        again.merge_status = MergeStatus::TestFailed;
        assert_eq!(
            TaskEvent::of(Some(&failed), &again),
            [TaskEvent::MergeFailed]
        );
    }
}
