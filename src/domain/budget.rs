//! Budgets: what may be spent, on what, in which time.
//!
//! A budget is of one session, agent or task, or of everything, and counts for good or by the day. It has a soft limit,
//! at which a person is asked once, and a hard one, at which what it covers is parked.

use serde::{Deserialize, Serialize};

use super::Actor;
use super::prompt::{AnswerBody, Choice, Question};
use super::spending::{Day, Spent};
use crate::base::id::{AgentId, BudgetId, PromptId, SessionId, TaskId};
use crate::base::{Code, Error, Result, Timestamp};

/// What a budget is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// All that the server runs.
    Everything,
    /// All sessions of an agent.
    Agent(AgentId),
    /// All sessions in which a task is worked on, as far as they work on it.
    Task(TaskId),
    /// One session.
    Session(SessionId),
}

impl BudgetScope {
    /// Its place among the keys.
    pub fn key(self) -> String {
        match self {
            BudgetScope::Everything => "everything".to_owned(),
            BudgetScope::Agent(id) => id.to_string(),
            BudgetScope::Task(id) => id.to_string(),
            BudgetScope::Session(id) => id.to_string(),
        }
    }

    /// What it is of, for people.
    pub fn name(self) -> String {
        match self {
            BudgetScope::Everything => "everything".to_owned(),
            BudgetScope::Agent(id) => format!("the agent {id}"),
            BudgetScope::Task(id) => format!("the task {id}"),
            BudgetScope::Session(id) => format!("the session {id}"),
        }
    }
}

/// Over which time a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPeriod {
    /// For good.
    Total,
    /// A day in UTC; the next one begins anew.
    Day,
}

impl BudgetPeriod {
    /// The period's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            BudgetPeriod::Total => "total",
            BudgetPeriod::Day => "day",
        }
    }

    /// The day that counts at a time; `None` is all of them.
    pub fn day(self, now: Timestamp) -> Option<Day> {
        match self {
            BudgetPeriod::Total => None,
            BudgetPeriod::Day => Some(Day::of(now)),
        }
    }
}

/// How much may be spent of what; `None` is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allowance {
    /// Tokens sent to models.
    pub input_tokens: Option<u64>,
    /// Tokens written by models.
    pub output_tokens: Option<u64>,
    /// Tokens written to and read from caches.
    pub cache_tokens: Option<u64>,
    /// Millionths of a US dollar.
    pub cost_micro_usd: Option<u64>,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which: `budget_input_tokens`, `budget_output_tokens`, `budget_cache_tokens`, `budget_cost` or `budget_stopped`.
    pub limit: &'static str,
    /// What was spent of it.
    pub value: u64,
    /// What is allowed.
    pub allowed: u64,
}

impl Allowance {
    /// Whether it bounds nothing.
    pub fn is_empty(&self) -> bool {
        *self == Allowance::default()
    }

    fn parts(&self, spent: &Spent) -> [(&'static str, u64, Option<u64>); 4] {
        let cache = spent
            .cache_read_tokens
            .saturating_add(spent.cache_write_tokens);
        [
            ("budget_cost", spent.cost_micro_usd, self.cost_micro_usd),
            ("budget_input_tokens", spent.input_tokens, self.input_tokens),
            (
                "budget_output_tokens",
                spent.output_tokens,
                self.output_tokens,
            ),
            ("budget_cache_tokens", cache, self.cache_tokens),
        ]
    }

    /// The first limit that is reached: what is spent is as much as it allows, or more.
    pub fn reached(&self, spent: &Spent) -> Option<Reached> {
        self.parts(spent)
            .into_iter()
            .find_map(|(limit, value, allowed)| {
                let allowed = allowed.filter(|allowed| value >= *allowed)?;
                Some(Reached {
                    limit,
                    value,
                    allowed,
                })
            })
    }

    fn with(&self, other: &Allowance, op: impl Fn(u64, u64) -> u64) -> Allowance {
        let both = |own: Option<u64>, by: Option<u64>| match (own, by) {
            (Some(own), Some(by)) => Some(op(own, by)),
            (own, _) => own,
        };
        Allowance {
            input_tokens: both(self.input_tokens, other.input_tokens),
            output_tokens: both(self.output_tokens, other.output_tokens),
            cache_tokens: both(self.cache_tokens, other.cache_tokens),
            cost_micro_usd: both(self.cost_micro_usd, other.cost_micro_usd),
        }
    }
}

/// A budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Id.
    pub id: BudgetId,
    /// What it is of; never changed.
    pub scope: BudgetScope,
    /// Over which time it counts; never changed.
    pub period: BudgetPeriod,
    /// Where a person is asked.
    pub soft: Allowance,
    /// Where what it covers is parked.
    pub hard: Allowance,
    /// How often its limits were set: who was asked about other limits is asked again about these.
    pub edition: u64,
    /// Who made it.
    pub created_by: Actor,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Where the spending of a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetState {
    /// Below its limits.
    Within,
    /// At its soft limit.
    Soft,
    /// At its hard limit, or stopped by a person.
    Hard,
}

/// What a person is asked about: a budget with the limits it has, in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Occasion {
    /// The budget.
    pub budget: BudgetId,
    /// Its limits.
    pub edition: u64,
    /// The day; `None` for a budget that counts for good.
    pub day: Option<Day>,
}

/// That a person was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What about.
    pub about: Occasion,
    /// The prompt.
    pub prompt: PromptId,
    /// The session it was asked in.
    pub session: SessionId,
}

/// What a person answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// What about.
    pub about: Occasion,
    /// What follows.
    pub verdict: SoftVerdict,
    /// Who said so.
    pub by: Actor,
}

/// What follows the soft limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftVerdict {
    /// It goes on until the hard limit.
    GoOn,
    /// Both limits go up by as much as the soft one is.
    Raise,
    /// It stops now, as if the hard limit were reached.
    Stop,
}

impl SoftVerdict {
    /// Every answer, with its label and what it means.
    pub const CHOICES: [(SoftVerdict, &'static str, &'static str); 3] = [
        (
            SoftVerdict::GoOn,
            "Go on",
            "until the hard limit, if there is one",
        ),
        (
            SoftVerdict::Raise,
            "Raise",
            "both limits by as much again as the soft limit",
        ),
        (
            SoftVerdict::Stop,
            "Stop",
            "as if the hard limit were reached, until the budget is changed or its day is over",
        ),
    ];

    /// What an answer says. Who declines the question wants no more of it. INVALID_INPUT: it names no choice.
    pub fn of(answer: &AnswerBody) -> Result<Self> {
        let answers = match answer {
            AnswerBody::Decision(_) => return Ok(SoftVerdict::Stop),
            AnswerBody::Answers(answers) => answers,
        };
        let label = answers.iter().flat_map(|answer| &answer.labels).next();
        SoftVerdict::CHOICES
            .into_iter()
            .find(|(_, known, _)| label.is_some_and(|label| label == known))
            .map(|(verdict, _, _)| verdict)
            .ok_or_else(|| {
                Error::invalid(
                    "answers",
                    "must have one of the labels Go on, Raise and Stop; other amounts are set with SetBudget",
                )
            })
    }
}

impl Budget {
    /// Checks limits. INVALID_INPUT: a soft limit above its hard one, or a limit of nothing.
    pub fn check(soft: &Allowance, hard: &Allowance) -> Result<()> {
        let names = |at: &str, allowance: &Allowance| -> Result<()> {
            for (limit, _, allowed) in allowance.parts(&Spent::default()) {
                if allowed == Some(0) {
                    return Err(Error::invalid(
                        &format!("{at}.{}", field_of(limit)),
                        "is zero; leave it out for no limit",
                    ));
                }
            }
            Ok(())
        };
        names("soft", soft)?;
        names("hard", hard)?;
        let pairs = soft
            .parts(&Spent::default())
            .into_iter()
            .zip(hard.parts(&Spent::default()));
        for ((limit, _, soft), (_, _, hard)) in pairs {
            if let (Some(soft), Some(hard)) = (soft, hard)
                && soft > hard
            {
                return Err(Error::invalid(
                    &format!("soft.{}", field_of(limit)),
                    format!("is {soft}, which is more than the hard limit of {hard}"),
                ));
            }
        }
        Ok(())
    }

    /// Where it is with what was spent in its period.
    pub fn state(&self, spent: &Spent, stopped: bool) -> BudgetState {
        if stopped || self.hard.reached(spent).is_some() {
            BudgetState::Hard
        } else if self.soft.reached(spent).is_some() {
            BudgetState::Soft
        } else {
            BudgetState::Within
        }
    }

    /// The hard limit that is reached, if one is, or that a person stopped it at the soft one.
    pub fn hard_reached(&self, spent: &Spent, stopped: bool) -> Option<Reached> {
        let hard = self.hard.reached(spent);
        hard.or_else(|| {
            let soft = self.soft.reached(spent).unwrap_or(Reached {
                limit: "",
                value: 0,
                allowed: 0,
            });
            stopped.then_some(Reached {
                limit: "budget_stopped",
                ..soft
            })
        })
    }

    /// Whether it has a limit in money.
    pub fn limits_money(&self) -> bool {
        self.soft.cost_micro_usd.is_some() || self.hard.cost_micro_usd.is_some()
    }

    /// What is to be said of a budget whose limits cannot hold all that is spent; `None`: they can.
    pub fn warning(&self, spent: &Spent) -> Option<String> {
        let mut said = Vec::new();
        if self.limits_money() && spent.is_cost_unknown() {
            said.push(format!(
                "the cost of {} is unknown, so the limit in money cannot hold it: what is shown is the least it was; limit tokens too, or put the model into the table of prices",
                turns(spent.unpriced.saturating_add(spent.unreported))
            ));
        }
        let limits_tokens = |allowance: &Allowance| {
            allowance.input_tokens.is_some()
                || allowance.output_tokens.is_some()
                || allowance.cache_tokens.is_some()
        };
        if (limits_tokens(&self.soft) || limits_tokens(&self.hard)) && spent.are_tokens_unknown() {
            said.push(format!(
                "the tokens of {} are unknown, so the limits in tokens cannot hold them",
                turns(spent.unreported)
            ));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// What its limits become when a person raises them: by as much again as the soft limit was at first, so that
    /// what is spent is below them.
    pub fn raise(&mut self, spent: &Spent, now: Timestamp) {
        let step = self.soft;
        let mut soft = self.soft;
        let mut hard = self.hard;
        // A turn may have spent the soft limit many times over.
        for _ in 0..64 {
            soft = soft.with(&step, u64::saturating_add);
            hard = hard.with(&step, u64::saturating_add);
            if soft.reached(spent).is_none() {
                break;
            }
        }
        self.soft = soft;
        self.hard = hard;
        self.edition = self.edition.saturating_add(1);
        self.updated_at = now;
    }

    /// What a person is asked about, at a time.
    pub fn occasion(&self, now: Timestamp) -> Occasion {
        Occasion {
            budget: self.id,
            edition: self.edition,
            day: self.period.day(now),
        }
    }

    /// When the next period begins; `None`: there is none.
    pub fn next_period(&self, now: Timestamp) -> Option<Timestamp> {
        self.period.day(now).map(|day| day.next().begin())
    }

    /// What is told of a limit in a session. How much all sessions together have spent is not for everybody who sees
    /// one of them.
    pub fn told(&self, reached: Reached) -> Reached {
        match self.scope {
            BudgetScope::Everything => Reached {
                value: reached.allowed,
                ..reached
            },
            _ => reached,
        }
    }

    /// What a person is asked at the soft limit.
    pub fn question(&self, reached: Reached, warning: Option<&str>) -> Question {
        let reached = self.told(reached);
        let when = match self.period {
            BudgetPeriod::Total => "",
            BudgetPeriod::Day => " of today",
        };
        let mut text = format!(
            "The soft limit{when} of the budget of {} is reached: {} of {}. How does it go on?",
            self.scope.name(),
            amount(reached.limit, reached.value),
            amount(reached.limit, reached.allowed),
        );
        // Whose turns these were is not for everybody who sees one session.
        let is_common = self.scope == BudgetScope::Everything;
        if let Some(warning) = warning.filter(|_| !is_common) {
            text.push_str(&format!(" ({warning})"));
        }
        Question {
            header: "Budget".to_owned(),
            text,
            options: SoftVerdict::CHOICES
                .into_iter()
                .map(|(_, label, description)| Choice {
                    label: label.to_owned(),
                    description: description.to_owned(),
                })
                .collect(),
            multi_select: false,
        }
    }

    /// What one is told who wants to spend more.
    pub fn exceeded(&self, reached: Reached, now: Timestamp) -> Error {
        let reached = self.told(reached);
        let (until, retry) = match self.next_period(now) {
            Some(next) => (
                format!("raise it, or wait until {next}"),
                Some(next.saturating_since(now)),
            ),
            None => ("raise it first".to_owned(), None),
        };
        let why = match reached.limit {
            "budget_stopped" => "was stopped at its soft limit".to_owned(),
            limit => format!(
                "is spent: {} of {}",
                amount(limit, reached.value),
                amount(limit, reached.allowed)
            ),
        };
        let error = Error::new(
            Code::BudgetExceeded,
            format!("the budget of {} {why}; {until}", self.scope.name()),
        )
        .with("budget_id", self.id)
        .with("limit", reached.limit)
        .with("value", reached.value)
        .with("allowed", reached.allowed);
        match retry {
            Some(after) => error.retry_after(after),
            None => error,
        }
    }
}

/// The field of an allowance that a limit is from.
fn field_of(limit: &str) -> &str {
    match limit {
        "budget_cost" => "cost_micro_usd",
        limit => limit.trim_start_matches("budget_"),
    }
}

/// An amount of what a limit is in.
pub fn amount(limit: &str, value: u64) -> String {
    match limit {
        "budget_cost" => dollars(value),
        "budget_input_tokens" => format!("{value} input tokens"),
        "budget_output_tokens" => format!("{value} output tokens"),
        "budget_cache_tokens" => format!("{value} cache tokens"),
        _ => value.to_string(),
    }
}

/// Millionths of a US dollar for people.
pub fn dollars(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    match rest % 10_000 {
        0 => format!("${whole}.{:02}", rest / 10_000),
        _ => format!("${whole}.{rest:06}"),
    }
}

fn turns(count: u64) -> String {
    match count {
        1 => "1 turn".to_owned(),
        count => format!("{count} turns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(micros: u64) -> Allowance {
        Allowance {
            cost_micro_usd: Some(micros),
            ..Allowance::default()
        }
    }

    fn budget(soft: Allowance, hard: Allowance) -> Budget {
        Budget {
            id: BudgetId::from_bits(1),
            scope: BudgetScope::Everything,
            period: BudgetPeriod::Day,
            soft,
            hard,
            edition: 1,
            created_by: Actor::server(),
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    fn spent(micros: u64) -> Spent {
        Spent {
            cost_micro_usd: micros,
            ..Spent::default()
        }
    }

    #[test]
    fn a_limit_is_reached_when_it_is_spent_and_not_before() {
        let budget = budget(money(10), money(20));
        assert_eq!(budget.state(&spent(9), false), BudgetState::Within);
        assert_eq!(budget.state(&spent(10), false), BudgetState::Soft);
        assert_eq!(budget.state(&spent(19), false), BudgetState::Soft);
        assert_eq!(budget.state(&spent(20), false), BudgetState::Hard);
        assert_eq!(budget.state(&spent(10), true), BudgetState::Hard);
        let reached = budget.hard_reached(&spent(25), false).unwrap();
        assert_eq!(
            (reached.limit, reached.value, reached.allowed),
            ("budget_cost", 25, 20)
        );
        let stopped = budget.hard_reached(&spent(12), true).unwrap();
        assert_eq!(stopped.limit, "budget_stopped");
    }

    #[test]
    fn each_kind_of_token_has_its_limit() {
        let allowed = Allowance {
            input_tokens: Some(1),
            output_tokens: Some(2),
            cache_tokens: Some(3),
            cost_micro_usd: None,
        };
        let with = |input, output, write, read| Spent {
            input_tokens: input,
            output_tokens: output,
            cache_write_tokens: write,
            cache_read_tokens: read,
            ..Spent::default()
        };
        let limit = |spent: Spent| allowed.reached(&spent).map(|reached| reached.limit);
        assert_eq!(limit(with(0, 1, 1, 1)), None);
        assert_eq!(limit(with(1, 0, 0, 0)), Some("budget_input_tokens"));
        assert_eq!(limit(with(0, 2, 0, 0)), Some("budget_output_tokens"));
        assert_eq!(limit(with(0, 0, 1, 2)), Some("budget_cache_tokens"));
    }

    #[test]
    fn what_cannot_be_held_is_said() {
        let unpriced = Spent {
            unpriced: 2,
            ..Spent::default()
        };
        let in_money = budget(Allowance::default(), money(5));
        assert!(in_money.warning(&unpriced).unwrap().contains("2 turns"));
        assert_eq!(in_money.warning(&spent(3)), None);
        let in_tokens = budget(
            Allowance::default(),
            Allowance {
                output_tokens: Some(5),
                ..Allowance::default()
            },
        );
        assert_eq!(in_tokens.warning(&unpriced), None);
        assert!(in_tokens.warning(&Spent::unreported()).is_some());
    }

    #[test]
    fn how_much_everything_cost_is_not_told_in_a_session() {
        let budget = budget(money(10), money(20));
        let error = budget.exceeded(
            budget.hard_reached(&spent(777), false).unwrap(),
            Timestamp::EPOCH,
        );
        assert!(!error.to_string().contains("777"), "{error}");
        assert_eq!(error.code(), Code::BudgetExceeded);
        assert_eq!(error.details()["budget_id"], budget.id.to_string());
        let question = budget.question(budget.soft.reached(&spent(777)).unwrap(), None);
        assert!(!question.text.contains("777"));
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        assert!(Budget::check(&money(5), &money(5)).is_ok());
        let error = Budget::check(&money(6), &money(5)).unwrap_err();
        assert_eq!(error.fields()[0].field, "soft.cost_micro_usd");
        let error = Budget::check(&Allowance::default(), &money(0)).unwrap_err();
        assert_eq!(error.fields()[0].field, "hard.cost_micro_usd");
    }

    proptest! {
        /// After a raise the soft limit is ahead of what is spent, as far as it is not spent a great many times over;
        /// the hard limit is never below the soft one, and the limits only grow.
        #[test]
        fn a_raise_leads_beyond_what_is_spent(soft in 1_u64..1_000, more in 0_u64..1_000, over in 0_u64..10_000) {
            let mut raised = budget(money(soft), money(soft + more));
            let before = raised.clone();
            raised.raise(&spent(soft + over), Timestamp::EPOCH);
            prop_assert!(Budget::check(&raised.soft, &raised.hard).is_ok());
            prop_assert!(raised.soft.cost_micro_usd > before.soft.cost_micro_usd);
            prop_assert!(raised.hard.cost_micro_usd > before.hard.cost_micro_usd);
            prop_assert_eq!(raised.edition, before.edition + 1);
            if over < soft * 60 {
                prop_assert_eq!(raised.state(&spent(soft + over), false), BudgetState::Within);
            }
        }

        /// More spending never leads to a lower state.
        #[test]
        fn spending_only_gets_closer(soft in 1_u64..100, more in 0_u64..100, a in 0_u64..300, b in 0_u64..300) {
            let budget = budget(money(soft), money(soft + more));
            let rank = |spent: Spent| budget.state(&spent, false) as u8;
            prop_assert!(rank(spent(a)) <= rank(spent(a).plus(spent(b))));
        }
    }
}
