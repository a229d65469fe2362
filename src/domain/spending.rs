//! What was spent: tokens and money, and how much of it nobody can put a price on.
//!
//! A session keeps its own book, in its record: every report of its harness goes into it with the event that brings
//! it, in one commit, so that nothing is counted twice or lost. What a turn cost may be known only at its end (a
//! harness that states tokens at first and the cost later), so the open turn is booked anew with each report, in
//! place of what was booked of it before.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::price::Prices;
use super::usage::Usage;
use crate::base::id::{AgentId, SessionId, TaskId};
use crate::base::{Error, Result, Timestamp};

const MICROS_OF_DAY: i64 = 24 * 3_600 * 1_000_000;
/// The most different tasks and models that a session's day keeps apart; what is beyond counts for none of them.
pub const MAX_SHARES: usize = 64;

/// A day in UTC: days since the epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Day(i32);

impl Day {
    /// The day of a time.
    pub fn of(at: Timestamp) -> Self {
        let days = at.as_micros().div_euclid(MICROS_OF_DAY);
        Day(i32::try_from(days).unwrap_or(i32::MAX))
    }

    /// When the day begins.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_micros(i64::from(self.0).saturating_mul(MICROS_OF_DAY))
    }

    /// The day after it.
    pub fn next(self) -> Self {
        Day(self.0.saturating_add(1))
    }

    /// Reads a day like `2026-01-31`; the error names `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self> {
        let bad = || Error::invalid(field, "is no day; one is like 2026-01-31");
        if text.len() != 10 {
            return Err(bad());
        }
        let date: jiff::civil::Date = text.parse().map_err(|_| bad())?;
        let epoch = jiff::civil::date(1970, 1, 1);
        let days = date.since(epoch).map_err(|_| bad())?.get_days();
        Ok(Day(days))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.begin().as_micros()) {
            Ok(time) => {
                let text = time.to_string();
                f.write_str(text.split('T').next().unwrap_or_default())
            }
            Err(_) => write!(f, "day{}", self.0),
        }
    }
}

/// Tokens and money. What it does not know is counted, so that a sum with something unknown in it says "at least".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Tokens sent to models.
    pub input_tokens: u64,
    /// Tokens written by models.
    pub output_tokens: u64,
    /// Tokens written to caches.
    pub cache_write_tokens: u64,
    /// Tokens read from caches.
    pub cache_read_tokens: u64,
    /// What is known to have been paid, in millionths of a US dollar.
    pub cost_micro_usd: u64,
    /// Turns whose tokens are known and whose price is not.
    pub unpriced: u64,
    /// Turns, and sessions in terminals, of which not even the tokens are known.
    pub unreported: u64,
}

impl Spent {
    /// Usage at its price. The harness's own cost counts if it states one, else the table's; with neither, the cost is
    /// unknown.
    pub fn of(usage: Usage, model: &str, prices: &Prices) -> Self {
        let tokens = Spent {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            cache_read_tokens: usage.cache_read_tokens,
            ..Spent::default()
        };
        if usage.cost_micro_usd > 0 {
            return Spent {
                cost_micro_usd: usage.cost_micro_usd,
                ..tokens
            };
        }
        if tokens == Spent::default() {
            return tokens;
        }
        match prices.of(model) {
            Some(price) => Spent {
                cost_micro_usd: price.cost(&usage),
                ..tokens
            },
            None => Spent {
                unpriced: 1,
                ..tokens
            },
        }
    }

    /// A turn that says nothing of what it consumed.
    pub fn unreported() -> Self {
        Spent {
            unreported: 1,
            ..Spent::default()
        }
    }

    /// Whether the money is a lower bound.
    pub fn is_cost_unknown(&self) -> bool {
        self.unpriced > 0 || self.unreported > 0
    }

    /// Whether the tokens are a lower bound.
    pub fn are_tokens_unknown(&self) -> bool {
        self.unreported > 0
    }

    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Spent) -> Spent {
        self.with(other, u64::saturating_add)
    }

    /// The difference, never below zero.
    #[must_use]
    pub fn less(self, other: Spent) -> Spent {
        self.with(other, u64::saturating_sub)
    }

    fn with(self, other: Spent, op: impl Fn(u64, u64) -> u64) -> Spent {
        Spent {
            input_tokens: op(self.input_tokens, other.input_tokens),
            output_tokens: op(self.output_tokens, other.output_tokens),
            cache_write_tokens: op(self.cache_write_tokens, other.cache_write_tokens),
            cache_read_tokens: op(self.cache_read_tokens, other.cache_read_tokens),
            cost_micro_usd: op(self.cost_micro_usd, other.cost_micro_usd),
            unpriced: op(self.unpriced, other.unpriced),
            unreported: op(self.unreported, other.unreported),
        }
    }
}

/// What a session spent in a day on one task with one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The task; `None` if it was none.
    #[serde(default)]
    pub task: Option<TaskId>,
    /// The model; empty if it is not known.
    #[serde(default)]
    pub model: String,
    /// How much.
    pub spent: Spent,
}

/// What a session spent in a day. Kept for good, also when the session is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDay {
    /// The session.
    pub session: SessionId,
    /// The agent that ran it.
    #[serde(default)]
    pub agent: Option<AgentId>,
    /// The day.
    pub day: Day,
    /// How often something was booked in it.
    pub bookings: u64,
    /// On what.
    pub shares: Vec<Share>,
}

impl SessionDay {
    /// All of it.
    pub fn sum(&self) -> Spent {
        self.shares
            .iter()
            .fold(Spent::default(), |sum, share| sum.plus(share.spent))
    }
}

/// A turn that is not over, as far as it is booked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenTurn {
    /// The task it is booked on, also when that is done before the turn is.
    task: Option<TaskId>,
    model: String,
    /// Which share of the day it is in.
    share: usize,
    spent: Spent,
}

/// A session's book.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Book {
    /// The model that the harness named last.
    pub model: String,
    /// The task that the session had when its turn began.
    pub task: Option<TaskId>,
    /// The session's totals where the open turn began.
    closed: Usage,
    open: Option<OpenTurn>,
    /// The day that was booked in last.
    today: Option<SessionDay>,
}

/// What sums of spending are by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageBy {
    /// The day.
    #[default]
    Day,
    /// The session.
    Session,
    /// The agent.
    Agent,
    /// The task.
    Task,
    /// The model.
    Model,
}

impl UsageBy {
    /// Every one.
    pub const ALL: [UsageBy; 5] = [
        UsageBy::Day,
        UsageBy::Session,
        UsageBy::Agent,
        UsageBy::Task,
        UsageBy::Model,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            UsageBy::Day => "day",
            UsageBy::Session => "session",
            UsageBy::Agent => "agent",
            UsageBy::Task => "task",
            UsageBy::Model => "model",
        }
    }

    /// The one of a name.
    pub fn parse(name: &str) -> Option<Self> {
        UsageBy::ALL.into_iter().find(|by| by.as_str() == name)
    }
}

/// What a booking changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: Option<AgentId>,
    /// The task.
    pub task: Option<TaskId>,
    /// The day.
    pub day: Day,
    /// The number of the booking in the session's day, from 1.
    pub number: u64,
    /// What was booked of the open turn before and counts no more.
    pub less: Spent,
    /// What counts instead.
    pub plus: Spent,
}

/// Whose book it is, and with which prices.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: Option<AgentId>,
    /// The task it works on now.
    pub task: Option<TaskId>,
    /// The model, where the harness has not named one.
    pub model: &'a str,
    /// The session's totals.
    pub total: Usage,
    /// The time.
    pub now: Timestamp,
    /// What models cost.
    pub prices: &'a Prices,
}

impl Book {
    /// Books what the harness has reported since. `turn_ended`: what comes next is of another turn, and a turn that
    /// has reported nothing is counted as such.
    pub fn book(&mut self, entry: Entry<'_>, turn_ended: bool) -> Option<Booking> {
        let delta = match entry.total.since(self.closed) {
            Some(delta) => delta,
            // The harness began to count anew.
            None => {
                self.open = None;
                self.closed = Usage::default();
                entry.total
            }
        };
        let has_news = delta != Usage::default();
        let booking = match (has_news, turn_ended) {
            (true, _) => self.book_turn(entry, delta),
            (false, true) => Some(self.add(entry, Spent::unreported()).0),
            (false, false) => None,
        };
        if turn_ended {
            self.open = None;
            self.closed = entry.total;
            self.task = None;
        }
        booking
    }

    /// Books a session that nobody hears anything of: it runs in a terminal.
    pub fn book_unheard(&mut self, entry: Entry<'_>) -> Booking {
        self.add(entry, Spent::unreported()).0
    }

    /// The day that was booked in last.
    pub fn today(&self) -> Option<&SessionDay> {
        self.today.as_ref()
    }

    fn book_turn(&mut self, entry: Entry<'_>, delta: Usage) -> Option<Booking> {
        let model = match (self.model.as_str(), entry.model) {
            ("", asked) => asked.to_owned(),
            (named, _) => named.to_owned(),
        };
        let Some(open) = self.open.clone() else {
            let spent = Spent::of(delta, &model, entry.prices);
            let (booking, share) = self.add(entry, spent);
            self.open = Some(OpenTurn {
                task: booking.task,
                model,
                share,
                spent,
            });
            return Some(booking);
        };
        let spent = Spent::of(delta, &open.model, entry.prices);
        if spent == open.spent {
            return None;
        }
        let day = self.today.as_mut()?;
        let share = day.shares.get_mut(open.share)?;
        share.spent = share.spent.less(open.spent).plus(spent);
        day.bookings = day.bookings.saturating_add(1);
        let booking = Booking {
            session: entry.session,
            agent: day.agent,
            task: open.task,
            day: day.day,
            number: day.bookings,
            less: open.spent,
            plus: spent,
        };
        self.open = Some(OpenTurn { spent, ..open });
        Some(booking)
    }

    fn add(&mut self, entry: Entry<'_>, spent: Spent) -> (Booking, usize) {
        let now = Day::of(entry.now);
        let day = match &mut self.today {
            // Never a day before: a clock that was set back does not open an old day again.
            Some(day) if day.day >= now => day,
            today => today.insert(SessionDay {
                session: entry.session,
                agent: entry.agent,
                day: now,
                bookings: 0,
                shares: Vec::new(),
            }),
        };
        let task = self.task.or(entry.task);
        let model = match self.model.as_str() {
            "" => entry.model,
            named => named,
        };
        let is_there = |share: &Share| share.task == task && share.model == model;
        let known = day.shares.iter().position(is_there);
        let (task, index) = match known {
            Some(index) => (task, index),
            None if day.shares.len() < MAX_SHARES => {
                day.shares.push(Share {
                    task,
                    model: model.to_owned(),
                    spent: Spent::default(),
                });
                (task, day.shares.len() - 1)
            }
            None => (day.shares[0].task, 0),
        };
        day.shares[index].spent = day.shares[index].spent.plus(spent);
        day.bookings = day.bookings.saturating_add(1);
        let booking = Booking {
            session: entry.session,
            agent: day.agent,
            task,
            day: day.day,
            number: day.bookings,
            less: Spent::default(),
            plus: spent,
        };
        (booking, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MODEL: &str = "claude-sonnet-4-5";

    fn total(input: u64, cost: u64) -> Usage {
        Usage {
            input_tokens: input,
            cost_micro_usd: cost,
            ..Usage::default()
        }
    }

    fn entry(total: Usage, now: Timestamp, prices: &Prices) -> Entry<'_> {
        Entry {
            session: SessionId::from_bits(1),
            agent: None,
            task: None,
            model: MODEL,
            total,
            now,
            prices,
        }
    }

    fn sum(book: &Book) -> Spent {
        book.today().map(SessionDay::sum).unwrap_or_default()
    }

    #[test]
    fn the_harness_knows_better_than_the_table_and_nobody_is_not_nothing() {
        let prices = Prices::default();
        let stated = Spent::of(total(1_000_000, 7), MODEL, &prices);
        assert_eq!((stated.cost_micro_usd, stated.unpriced), (7, 0));
        let listed = Spent::of(total(1_000_000, 0), MODEL, &prices);
        assert_eq!((listed.cost_micro_usd, listed.unpriced), (3_000_000, 0));
        let unknown = Spent::of(total(1_000_000, 0), "somebody-s-own", &prices);
        assert_eq!((unknown.cost_micro_usd, unknown.unpriced), (0, 1));
        assert!(unknown.is_cost_unknown() && !unknown.are_tokens_unknown());
        assert!(Spent::unreported().are_tokens_unknown());
    }

    #[test]
    fn a_cost_that_comes_after_the_tokens_replaces_the_tables() {
        let prices = Prices::default();
        let now = Timestamp::EPOCH;
        let mut book = Book::default();
        let first = book.book(entry(total(1_000_000, 0), now, &prices), false);
        assert_eq!(first.unwrap().plus.cost_micro_usd, 3_000_000);
        let second = book
            .book(entry(total(1_000_000, 5), now, &prices), true)
            .unwrap();
        assert_eq!(second.less.cost_micro_usd, 3_000_000);
        assert_eq!((second.plus.cost_micro_usd, second.number), (5, 2));
        assert_eq!(
            (sum(&book).cost_micro_usd, sum(&book).input_tokens),
            (5, 1_000_000)
        );
        // The next turn says nothing at all.
        book.book(entry(total(1_000_000, 5), now, &prices), true);
        assert_eq!(sum(&book).unreported, 1);
    }

    #[test]
    fn a_turn_counts_for_the_day_it_began_to_be_paid() {
        let prices = Prices::default();
        let late = Timestamp::from_micros(MICROS_OF_DAY - 1);
        let next = Timestamp::from_micros(MICROS_OF_DAY);
        let mut book = Book::default();
        book.book(entry(total(1, 1), late, &prices), false);
        let done = book.book(entry(total(2, 2), next, &prices), true).unwrap();
        assert_eq!(done.day, Day::of(late));
        let new = book.book(entry(total(3, 3), next, &prices), true).unwrap();
        assert_eq!((new.day, new.number), (Day::of(next), 1));
        assert_eq!(new.plus.input_tokens, 1);
    }

    #[test]
    fn a_task_that_is_done_before_its_turn_pays_for_it() {
        let prices = Prices::default();
        let task = TaskId::from_bits(9);
        let mut book = Book {
            task: Some(task),
            ..Book::default()
        };
        let booking = book.book(entry(total(5, 5), Timestamp::EPOCH, &prices), true);
        assert_eq!(booking.unwrap().task, Some(task));
        assert_eq!(book.task, None);
    }

    #[test]
    fn models_without_end_do_not_make_a_book_without_end() {
        let prices = Prices::default();
        let mut book = Book::default();
        for n in 1..=200_u64 {
            book.model = format!("m{n}");
            book.book(entry(total(n, n), Timestamp::EPOCH, &prices), false);
            book.book(entry(total(n, n + 1), Timestamp::EPOCH, &prices), true);
            let again = entry(total(n, n + 1), Timestamp::EPOCH, &prices);
            assert_eq!(book.book(again, false), None);
        }
        assert_eq!(book.today().unwrap().shares.len(), MAX_SHARES);
        assert_eq!(sum(&book).input_tokens, 200);
        assert_eq!(sum(&book).cost_micro_usd, 201);
    }

    #[test]
    fn days_are_written_and_read() {
        let day = Day::parse("day", "2026-11-21").unwrap();
        assert_eq!(day.to_string(), "2026-11-21");
        assert_eq!(day.next().to_string(), "2026-11-22");
        assert_eq!(Day::of(day.begin()), day);
        assert_eq!(
            Day::of(Timestamp::from_micros(-1)).to_string(),
            "1969-12-31"
        );
        for bad in [
            "",
            "2026-13-01",
            "2026-02-30",
            "21.11.2026",
            "2026-11-21T00:00:00Z",
        ] {
            assert_eq!(
                Day::parse("day", bad).unwrap_err().fields()[0].field,
                "day",
                "{bad}"
            );
        }
    }

    proptest! {
        /// Whatever is reported in whatever pieces, the sum of what was booked is what was reported, and the sum of the
        /// bookings is what is in the book.
        #[test]
        fn nothing_is_booked_twice_or_lost(reports in prop::collection::vec((0_u64..50, 0_u64..3, any::<bool>(), 0_i64..3), 1..60)) {
            let prices = Prices::default();
            let mut book = Book::default();
            let (mut sofar, mut ledger, mut now) = (Usage::default(), Spent::default(), 0);
            let mut days = std::collections::BTreeMap::new();
            for (tokens, cost, ends, later) in reports {
                sofar = sofar.plus(total(tokens, cost));
                now += later * MICROS_OF_DAY / 2;
                let at = Timestamp::from_micros(now);
                // What comes again changes nothing.
                for _ in 0..2 {
                    if let Some(booking) = book.book(entry(sofar, at, &prices), false) {
                        ledger = ledger.less(booking.less).plus(booking.plus);
                        days.insert(booking.day, book.today().unwrap().clone());
                    }
                }
                if ends && let Some(booking) = book.book(entry(sofar, at, &prices), true) {
                    ledger = ledger.less(booking.less).plus(booking.plus);
                    days.insert(booking.day, book.today().unwrap().clone());
                }
            }
            let kept = days.values().fold(Spent::default(), |sum, day| sum.plus(day.sum()));
            prop_assert_eq!(kept, ledger);
            prop_assert_eq!(kept.input_tokens, sofar.input_tokens);
            prop_assert!(kept.cost_micro_usd >= sofar.cost_micro_usd);
        }
    }
}
