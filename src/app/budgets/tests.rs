//! What budgets promise, over the memory store and a clock that the tests move.

use std::time::Duration;

use super::*;
use crate::app::access::{Access, Caller};
use crate::app::dispatch;
use crate::app::search::Search;
use crate::app::sessions::{self, Stored};
use crate::base::clock::ManualClock;
use crate::base::id::{DaemonId, PromptId, TokenId, TurnId};
use crate::base::page::PageRequest;
use crate::base::{Code, Error};
use crate::domain::budget::Allowance;
use crate::domain::event::Origin;
use crate::domain::link::RecordEvent;
use crate::domain::narrowing::{Narrowing, Project};
use crate::domain::prompt::{AnswerBody, PromptState, QuestionAnswer};
use crate::domain::session::LimitAction;
use crate::domain::spending::UsageBy;
use crate::domain::task::Draft;
use crate::domain::{
    Activity, Actor, AgentRole, CommandBody, Delivery, Event, EventBody, InputState, Lifecycle,
    Scope, SessionAgent, Usage,
};
use crate::relay;
use crate::store::{Append, Commit, Expect, Outbox as _, Stream, memory};

const NOON: Timestamp = Timestamp::from_millis(12 * 3_600 * 1_000);
const DAEMON: DaemonId = DaemonId::from_bits(1);
const MODEL: &str = "claude-sonnet-4-5";

fn ana() -> &'static Caller {
    static ANA: std::sync::LazyLock<Caller> = std::sync::LazyLock::new(|| Caller {
        token_id: TokenId::from_bits(1),
        name: "ana".to_owned(),
        scope: Scope::Admin,
        daemon_id: None,
        expires_at: None,
        kind: Default::default(),
        made_with: None,
        narrowing: None,
    });
    &ANA
}

fn narrowed(directory: &str) -> Caller {
    let project = Project {
        directory: directory.to_owned(),
        daemon_id: None,
    };
    Caller {
        token_id: TokenId::from_bits(2),
        narrowing: Some(Narrowing {
            projects: vec![project],
            sessions: Vec::new(),
        }),
        ..ana().clone()
    }
}

fn session(n: u128) -> SessionId {
    SessionId::from_bits(n)
}

fn agent(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

fn money(micros: u64) -> Allowance {
    Allowance {
        cost_micro_usd: Some(micros),
        ..Allowance::default()
    }
}

const NONE: Allowance = Allowance {
    input_tokens: None,
    output_tokens: None,
    cache_tokens: None,
    cost_micro_usd: None,
};

struct Rig {
    app: App,
    store: Arc<memory::MemoryStore>,
    clock: Arc<ManualClock>,
}

impl Rig {
    /// Sessions 1 to `count`, running; each of the agent of its number, in a directory of that number.
    async fn new(count: u128) -> Self {
        let clock = Arc::new(ManualClock::new(NOON));
        let store = memory::shared(clock.clone());
        for n in 1..=count {
            let mut made =
                Session::new(session(n), DAEMON, "demo".to_owned(), Actor::server(), NOON);
            made.lifecycle = Lifecycle::Running;
            made.started_at = Some(NOON);
            made.activity = Activity::AwaitingInput;
            made.capabilities.queue = true;
            made.capabilities.interrupt = true;
            made.cwd = format!("/srv/{n}");
            made.model = MODEL.to_owned();
            made.agent = Some(SessionAgent {
                id: agent(n),
                name: format!("agent {n}"),
                role: AgentRole::Worker,
                worker_mode: None,
            });
            let created = EventBody::SessionCreated {
                daemon_id: DAEMON,
                harness: "demo".to_owned(),
                cwd: made.cwd.clone(),
                resumed_from: None,
                forked_from: None,
            };
            let mut event = Event::new(made.id, Origin::Server, NOON, created);
            event.seq = 1;
            let key = records::session_key(made.id);
            let of = crate::domain::Agent {
                id: agent(n),
                settings: crate::domain::AgentSettings::new(
                    &format!("agent {n}"),
                    AgentRole::Worker,
                    "demo",
                ),
                created_by: ana().actor(),
                created_at: NOON,
                updated_at: NOON,
            };
            let commit = Commit {
                appends: vec![Append {
                    stream: Stream::session(made.id),
                    expected_last: 0,
                    fence: 0,
                    entries: vec![crate::wire::encode_event(&event)].into(),
                    origin: None,
                    time: NOON,
                }],
                ops: vec![
                    records::put(key, &made, Expect::Absent).unwrap(),
                    records::put(records::agent_key(of.id), &of, Expect::Absent).unwrap(),
                    records::mark(records::living_key(DAEMON, made.id), ""),
                ],
                ..Commit::default()
            };
            crate::store::Journal::commit(store.as_ref(), commit)
                .await
                .unwrap();
        }
        let app = open(&store, &clock).await;
        Rig { app, store, clock }
    }

    /// The server ends without a word and is started again.
    async fn restart(&mut self) {
        self.app = open(&self.store, &self.clock).await;
    }

    async fn says(&self, n: u128, seq: u64, bodies: Vec<EventBody>) {
        let events = bodies
            .into_iter()
            .map(|body| Event::new(session(n), Origin::Harness, NOON, body));
        let record = Stored {
            output: None,
            origin_seq: seq,
            events: events.map(RecordEvent::from).collect(),
            bytes: 0,
            contents: Vec::new(),
        };
        let rules = self.app.rules().current();
        let sessions = self.app.sessions();
        let stored = sessions.store_records(DAEMON, session(n), 1, vec![record], rules);
        stored.await.unwrap();
    }

    /// A whole turn that leads to these totals.
    async fn turn(&self, n: u128, seq: u64, total: Usage) {
        self.says(
            n,
            seq,
            vec![began(), over(), EventBody::UsageUpdated { total }],
        )
        .await;
    }

    async fn set(
        &self,
        scope: BudgetScope,
        period: BudgetPeriod,
        soft: Allowance,
        hard: Allowance,
    ) -> ShownBudget {
        let set = self
            .app
            .set_budget(ana(), "", (scope, period), (soft, hard), None);
        set.await.unwrap().unwrap()
    }

    async fn budget(&self, id: BudgetId) -> ShownBudget {
        self.app.get_budget(ana(), id).await.unwrap()
    }

    async fn send(&self, n: u128) -> Result<crate::domain::Input> {
        let text = "go on".to_owned();
        let sent = self
            .app
            .send_input(ana(), "", session(n), text, Delivery::Queue);
        sent.await.map(|(input, _)| input)
    }

    async fn session(&self, n: u128) -> Session {
        self.app
            .session_record(session(n))
            .await
            .unwrap()
            .unwrap()
            .0
    }

    async fn commands(&self) -> Vec<CommandBody> {
        let pending = self.store.pending(&DAEMON.to_string(), None, 100).await;
        let read = |entry: crate::store::Record| {
            let command: crate::domain::Command = serde_json::from_slice(&entry.value).unwrap();
            command.body
        };
        pending.unwrap().into_iter().map(read).collect()
    }

    async fn inputs_given(&self) -> usize {
        let commands = self.commands().await;
        let is_input = |body: &&CommandBody| matches!(body, CommandBody::Input { .. });
        commands.iter().filter(is_input).count()
    }

    async fn log(&self, n: u128) -> Vec<EventBody> {
        let chunks = crate::store::Journal::read(
            self.store.as_ref(),
            &Stream::session(session(n)),
            0,
            1 << 20,
        );
        let mut bodies = Vec::new();
        for chunk in chunks.await.unwrap() {
            let batch = crate::wire::EventBatch::from_encoded(chunk.bytes);
            for event in batch.events().unwrap() {
                bodies.push(crate::wire::event::event_from_pb(event).unwrap().body);
            }
        }
        bodies
    }

    async fn asked(&self, n: u128) -> Vec<PromptId> {
        let log = self.log(n).await;
        let asked = log.into_iter().filter_map(|body| match body {
            EventBody::PromptRequested { prompt } => Some(prompt.id),
            _ => None,
        });
        asked.collect()
    }

    async fn answer(&self, prompt: PromptId, label: &str) -> Result<()> {
        let (asked, _) = self.app.get_prompt(ana(), prompt).await?;
        let answers = AnswerBody::Answers(vec![QuestionAnswer {
            question: asked.questions[0].text.clone(),
            labels: vec![label.to_owned()],
            text: String::new(),
        }]);
        let answered = self.app.answer_prompt(ana(), "", prompt, None, answers);
        answered.await.map(drop)
    }

    async fn used(&self, caller: &Caller, by: UsageBy) -> Used {
        let page = PageRequest {
            size: 50,
            after: None,
        };
        let used = self.app.usage(caller, by, UsageFilter::default(), &page);
        used.await.unwrap()
    }
}

async fn open(store: &Arc<memory::MemoryStore>, clock: &Arc<ManualClock>) -> App {
    App::new(
        store.clone(),
        clock.clone(),
        Access::new(store.clone(), clock.clone()),
        relay::Options::default(),
        Search::in_memory().unwrap(),
        sessions::Options::default(),
        dispatch::Options::default(),
    )
    .await
    .unwrap()
}

fn began() -> EventBody {
    EventBody::TurnStarted {
        turn_id: TurnId::from_bits(1),
        input_ids: Vec::new(),
    }
}

fn over() -> EventBody {
    EventBody::TurnEnded {
        turn_id: TurnId::from_bits(1),
        is_error: false,
        reason: String::new(),
        text: String::new(),
        usage: Usage::default(),
        duration: Duration::ZERO,
        input_ids: Vec::new(),
        api_status: 0,
    }
}

fn paid(micros: u64) -> Usage {
    Usage {
        input_tokens: 10,
        cost_micro_usd: micros,
        ..Usage::default()
    }
}

fn tokens(input: u64) -> Usage {
    Usage {
        input_tokens: input,
        ..Usage::default()
    }
}

fn code<T: std::fmt::Debug>(outcome: Result<T>) -> (Code, Error) {
    let error = outcome.unwrap_err();
    (error.code(), error)
}

#[tokio::test]
async fn what_is_reported_counts_once_whatever_comes_again_and_whoever_dies() {
    let mut rig = Rig::new(2).await;
    let total = BudgetPeriod::Total;
    let everything = rig
        .set(BudgetScope::Everything, total, NONE, money(1_000))
        .await;
    let of_one = rig
        .set(BudgetScope::Agent(agent(1)), total, NONE, money(1_000))
        .await;
    rig.turn(1, 1, paid(100)).await;
    rig.turn(1, 1, paid(100)).await;
    rig.turn(2, 1, paid(50)).await;
    rig.restart().await;
    // The daemon did not have the ack.
    rig.turn(1, 1, paid(100)).await;
    rig.turn(1, 2, paid(130)).await;
    for _ in 0..2 {
        for (id, spent) in [(everything.budget.id, 180), (of_one.budget.id, 130)] {
            assert_eq!(rig.budget(id).await.spent.cost_micro_usd, spent);
        }
        rig.restart().await;
    }
    let used = rig.used(ana(), UsageBy::Session).await;
    let rows: Vec<(String, u64)> = used
        .rows
        .items
        .into_iter()
        .map(|row| (row.key, row.spent.cost_micro_usd))
        .collect();
    assert_eq!(
        rows,
        [(session(1).to_string(), 130), (session(2).to_string(), 50)]
    );
    assert_eq!(used.total.cost_micro_usd, 180);
    // A budget that is made later counts what was before.
    let later = rig
        .set(BudgetScope::Session(session(1)), total, NONE, money(1_000))
        .await;
    assert_eq!(later.spent.cost_micro_usd, 130);
}

#[tokio::test]
async fn a_budget_that_is_made_while_sessions_spend_misses_and_doubles_nothing() {
    let rig = Arc::new(Rig::new(3).await);
    let spending = (1..=3).map(|n| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for seq in 1..=60 {
                rig.turn(n, seq, paid(seq * 7)).await;
                tokio::task::yield_now().await;
            }
        })
    });
    let spending: Vec<_> = spending.collect();
    let mut made = Vec::new();
    for n in 1..=3 {
        for period in [BudgetPeriod::Total, BudgetPeriod::Day] {
            made.push((
                rig.set(BudgetScope::Agent(agent(n)), period, NONE, money(1 << 40))
                    .await,
                420,
            ));
            tokio::task::yield_now().await;
        }
    }
    made.push((
        rig.set(
            BudgetScope::Everything,
            BudgetPeriod::Day,
            NONE,
            money(1 << 40),
        )
        .await,
        1_260,
    ));
    for done in spending {
        done.await.unwrap();
    }
    for (budget, expected) in made {
        let spent = rig.budget(budget.budget.id).await.spent;
        assert_eq!(spent.cost_micro_usd, expected, "{:?}", budget.budget.scope);
    }
}

#[tokio::test]
async fn at_the_hard_limit_the_session_is_parked_and_goes_on_when_it_is_raised() {
    let mut rig = Rig::new(2).await;
    let scope = BudgetScope::Agent(agent(1));
    let budget = rig.set(scope, BudgetPeriod::Total, NONE, money(100)).await;
    // Two inputs: one runs, one waits.
    rig.send(1).await.unwrap();
    let waits = rig.send(1).await.unwrap();
    assert_eq!(rig.inputs_given().await, 1);
    let begun = rig.session(1).await;
    let first = rig.log(1).await.into_iter().find_map(|body| match body {
        EventBody::InputAccepted { input_id, .. } => Some(input_id),
        _ => None,
    });
    let taken = EventBody::InputChanged {
        input_id: first.unwrap(),
        state: InputState::Applied,
        text: String::new(),
        reason: String::new(),
    };
    assert_eq!(begun.parked, None);
    let works = EventBody::ActivityChanged {
        activity: Activity::Working,
        source: Default::default(),
        confidence: 100,
    };
    rig.says(1, 1, vec![works, taken, began()]).await;
    // In the middle of the turn.
    rig.says(1, 2, vec![EventBody::UsageUpdated { total: paid(100) }])
        .await;
    let parked = rig.session(1).await.parked.unwrap();
    assert_eq!(parked.budget, budget.budget.id);
    assert!(
        rig.commands()
            .await
            .iter()
            .any(|body| matches!(body, CommandBody::Interrupt))
    );
    let said = rig.log(1).await;
    let limit = said.iter().find_map(|body| match body {
        EventBody::LimitExceeded {
            limit,
            value,
            allowed,
            action: LimitAction::Park,
            budget_id,
        } => Some((limit.clone(), *value, *allowed, *budget_id)),
        _ => None,
    });
    assert_eq!(
        limit,
        Some(("budget_cost".to_owned(), 100, 100, Some(budget.budget.id)))
    );
    // The turn is over, and what waits is not given to the agent.
    let idle = EventBody::ActivityChanged {
        activity: Activity::AwaitingInput,
        source: Default::default(),
        confidence: 100,
    };
    rig.says(
        1,
        3,
        vec![over(), EventBody::UsageUpdated { total: paid(100) }, idle],
    )
    .await;
    assert_eq!(rig.inputs_given().await, 1);
    let (refused, error) = code(rig.send(1).await);
    assert_eq!(refused, Code::BudgetExceeded);
    assert_eq!(error.details()["budget_id"], budget.budget.id.to_string());
    assert_eq!(
        code(rig.app.budget_allows(Some(agent(1)), None)).0,
        Code::BudgetExceeded
    );
    rig.app.budget_allows(Some(agent(2)), None).unwrap();
    rig.send(2).await.unwrap();
    // Nor after a restart.
    rig.restart().await;
    rig.app.keep_budgets().await.unwrap();
    assert_eq!(code(rig.send(1).await).0, Code::BudgetExceeded);
    assert!(rig.session(1).await.parked.is_some());
    let before = rig.inputs_given().await;
    rig.set(scope, BudgetPeriod::Total, NONE, money(200)).await;
    rig.app.keep_budgets().await.unwrap();
    assert_eq!(rig.session(1).await.parked, None);
    assert_eq!(rig.inputs_given().await, before + 1);
    let given = rig.app.get_input(session(1), waits.id).await.unwrap().0;
    assert_eq!(given.state, InputState::Delivered);
    let lifted = |body: &EventBody| matches!(body, EventBody::LimitLifted { budget_id, .. } if *budget_id == budget.budget.id);
    assert_eq!(
        rig.log(1).await.iter().filter(|body| lifted(body)).count(),
        1
    );
    rig.app.budget_allows(Some(agent(1)), None).unwrap();
}

#[tokio::test]
async fn a_new_day_fills_the_days_budget_and_not_the_others() {
    let rig = Rig::new(1).await;
    let day = rig
        .set(BudgetScope::Everything, BudgetPeriod::Day, NONE, money(100))
        .await;
    let total = rig
        .set(
            BudgetScope::Everything,
            BudgetPeriod::Total,
            NONE,
            money(1_000),
        )
        .await;
    rig.turn(1, 1, paid(150)).await;
    let (refused, error) = code(rig.send(1).await);
    assert_eq!(refused, Code::BudgetExceeded);
    assert_eq!(error.retry_delay(), Some(Duration::from_secs(12 * 3_600)));
    rig.clock.advance(Duration::from_secs(12 * 3_600 - 1));
    rig.app.keep_budgets().await.unwrap();
    assert!(rig.session(1).await.parked.is_some());
    rig.clock.advance(Duration::from_secs(1));
    rig.app.keep_budgets().await.unwrap();
    assert_eq!(rig.session(1).await.parked, None);
    rig.send(1).await.unwrap();
    rig.turn(1, 2, paid(190)).await;
    assert_eq!(rig.budget(day.budget.id).await.spent.cost_micro_usd, 40);
    assert_eq!(rig.budget(total.budget.id).await.spent.cost_micro_usd, 190);
    let used = rig.used(ana(), UsageBy::Day).await;
    let days: Vec<(String, u64)> = used
        .rows
        .items
        .into_iter()
        .map(|row| (row.key, row.spent.cost_micro_usd))
        .collect();
    assert_eq!(
        days,
        [
            ("1970-01-01".to_owned(), 150),
            ("1970-01-02".to_owned(), 40)
        ]
    );
}

#[tokio::test]
async fn what_one_session_spends_of_a_common_budget_parks_the_others() {
    let rig = Rig::new(3).await;
    rig.set(
        BudgetScope::Everything,
        BudgetPeriod::Total,
        NONE,
        money(100),
    )
    .await;
    rig.says(2, 1, vec![began()]).await;
    rig.turn(1, 1, paid(777)).await;
    rig.app.keep_budgets().await.unwrap();
    for n in 1..=3 {
        assert!(rig.session(n).await.parked.is_some(), "{n}");
        assert_eq!(code(rig.send(n).await).0, Code::BudgetExceeded);
    }
    // Only what runs is interrupted; how much the others spent is not told.
    let commands = rig.commands().await;
    assert!(
        matches!(commands.as_slice(), [CommandBody::Interrupt]),
        "{commands:?}"
    );
    assert!(!format!("{:?}", rig.log(2).await).contains("777"));
}

#[tokio::test]
async fn a_person_is_asked_once_and_one_answer_counts() {
    let mut rig = Rig::new(2).await;
    let budget = rig
        .set(
            BudgetScope::Everything,
            BudgetPeriod::Day,
            money(100),
            money(1_000),
        )
        .await;
    rig.turn(1, 1, paid(60)).await;
    rig.app.keep_budgets().await.unwrap();
    assert!(rig.asked(1).await.is_empty());
    rig.turn(2, 1, paid(60)).await;
    rig.app.keep_budgets().await.unwrap();
    rig.turn(1, 2, paid(70)).await;
    rig.app.keep_budgets().await.unwrap();
    rig.restart().await;
    rig.app.keep_budgets().await.unwrap();
    rig.turn(1, 3, paid(80)).await;
    rig.app.keep_budgets().await.unwrap();
    // In the session that spent what was too much, and in no other.
    assert!(rig.asked(1).await.is_empty());
    let [prompt] = rig.asked(2).await[..] else {
        panic!("asked {} times", rig.asked(2).await.len())
    };
    let shown = rig.budget(budget.budget.id).await;
    assert_eq!(
        (shown.state, shown.prompt),
        (BudgetState::Soft, Some(prompt))
    );
    assert_eq!(
        code(rig.answer(prompt, "Maybe").await).0,
        Code::InvalidInput
    );
    rig.answer(prompt, "Go on").await.unwrap();
    assert_eq!(
        code(rig.answer(prompt, "Stop").await).0,
        Code::PromptAnswered
    );
    rig.app.keep_budgets().await.unwrap();
    rig.send(1).await.unwrap();
    let (answered, _) = rig.app.get_prompt(ana(), prompt).await.unwrap();
    assert_eq!(answered.state, PromptState::Answered);
    // Nothing of it goes to the agent, which has not asked.
    let commands = rig.commands().await;
    assert!(
        !commands
            .iter()
            .any(|body| matches!(body, CommandBody::Answer { .. }))
    );
    // Another day, another question.
    rig.clock.advance(Duration::from_secs(24 * 3_600));
    rig.turn(1, 4, paid(280)).await;
    rig.app.keep_budgets().await.unwrap();
    assert_eq!((rig.asked(1).await.len(), rig.asked(2).await.len()), (1, 1));
}

#[tokio::test]
async fn a_raise_is_done_once_also_by_the_next_server() {
    let mut rig = Rig::new(1).await;
    let budget = rig
        .set(
            BudgetScope::Agent(agent(1)),
            BudgetPeriod::Total,
            money(100),
            money(150),
        )
        .await;
    rig.turn(1, 1, paid(120)).await;
    rig.app.keep_budgets().await.unwrap();
    let prompt = rig.asked(1).await[0];
    rig.answer(prompt, "Raise").await.unwrap();
    // It died before it could do that, and then again after it.
    for _ in 0..3 {
        rig.restart().await;
        rig.app.keep_budgets().await.unwrap();
    }
    let shown = rig.budget(budget.budget.id).await;
    assert_eq!(shown.budget.soft, money(200));
    assert_eq!(shown.budget.hard, money(250));
    assert_eq!(shown.state, BudgetState::Within);
    // The new limits are a new question.
    rig.turn(1, 2, paid(210)).await;
    rig.app.keep_budgets().await.unwrap();
    assert_eq!(rig.asked(1).await.len(), 2);
}

#[tokio::test]
async fn who_says_stop_stops_it_until_the_budget_is_changed() {
    let mut rig = Rig::new(1).await;
    let scope = BudgetScope::Session(session(1));
    let budget = rig.set(scope, BudgetPeriod::Total, money(100), NONE).await;
    rig.turn(1, 1, paid(100)).await;
    rig.app.keep_budgets().await.unwrap();
    rig.answer(rig.asked(1).await[0], "Stop").await.unwrap();
    for _ in 0..2 {
        rig.app.keep_budgets().await.unwrap();
        assert!(rig.session(1).await.parked.is_some());
        let (refused, error) = code(rig.send(1).await);
        assert_eq!(refused, Code::BudgetExceeded);
        assert_eq!(error.details()["limit"], "budget_stopped");
        assert!(rig.budget(budget.budget.id).await.stopped);
        rig.restart().await;
    }
    // Taken away, it holds nothing any more.
    let gone = rig
        .app
        .set_budget(ana(), "", (scope, BudgetPeriod::Total), (NONE, NONE), None);
    assert!(gone.await.unwrap().is_none());
    rig.app.keep_budgets().await.unwrap();
    assert_eq!(rig.session(1).await.parked, None);
    rig.send(1).await.unwrap();
    assert_eq!(
        code(rig.app.get_budget(ana(), budget.budget.id).await).0,
        Code::NotFound
    );
}

#[tokio::test]
async fn an_unknown_price_is_said_and_tokens_hold_what_money_cannot() {
    let rig = Rig::new(1).await;
    let named = EventBody::Started {
        provider_session_id: String::new(),
        model: "nobody-knows-it".to_owned(),
        cwd: String::new(),
        tools: Vec::new(),
        version: String::new(),
        pid: 0,
    };
    rig.says(1, 1, vec![named]).await;
    let total = BudgetPeriod::Total;
    let in_money = rig
        .set(BudgetScope::Agent(agent(1)), total, NONE, money(1))
        .await;
    rig.turn(1, 2, tokens(5_000_000)).await;
    let shown = rig.budget(in_money.budget.id).await;
    assert_eq!((shown.spent.cost_micro_usd, shown.spent.unpriced), (0, 1));
    assert!(shown.warning.unwrap().contains("unknown"));
    assert_eq!(shown.state, BudgetState::Within);
    rig.send(1).await.unwrap();
    // A turn that reports nothing is not free either.
    rig.says(1, 3, vec![began(), over()]).await;
    assert_eq!(rig.budget(in_money.budget.id).await.spent.unreported, 1);
    let in_tokens = Allowance {
        input_tokens: Some(5_000_000),
        ..NONE
    };
    rig.set(BudgetScope::Everything, total, NONE, in_tokens)
        .await;
    rig.app.keep_budgets().await.unwrap();
    assert!(rig.session(1).await.parked.is_some());
    let used = rig.used(ana(), UsageBy::Model).await;
    let row = &used.rows.items[0];
    assert_eq!(
        (row.key.as_str(), row.spent.unpriced, row.spent.unreported),
        ("nobody-knows-it", 1, 1)
    );
}

#[tokio::test]
async fn a_model_of_the_table_has_its_price() {
    let rig = Rig::new(1).await;
    let budget = rig
        .set(
            BudgetScope::Everything,
            BudgetPeriod::Total,
            NONE,
            money(3_000_000),
        )
        .await;
    rig.turn(1, 1, tokens(1_000_000)).await;
    let shown = rig.budget(budget.budget.id).await;
    assert_eq!(
        (shown.spent.cost_micro_usd, shown.spent.unpriced),
        (3_000_000, 0)
    );
    assert_eq!(shown.warning, None);
    assert!(rig.session(1).await.parked.is_some());
}

#[tokio::test]
async fn a_task_pays_for_the_sessions_that_work_on_it() {
    let rig = Rig::new(1).await;
    let draft = Draft {
        title: "it".to_owned(),
        ..Draft::default()
    };
    let task = rig.app.create_task(ana(), "", draft).await.unwrap().task.id;
    let budget = rig
        .set(
            BudgetScope::Task(task),
            BudgetPeriod::Total,
            NONE,
            money(100),
        )
        .await;
    rig.turn(1, 1, paid(60)).await;
    let by = ana().actor();
    let (given, _) = rig.app.take_task(task, agent(1), &by).await.unwrap();
    let assignment = given.living().unwrap().id;
    rig.app
        .begin_assignment(task, assignment, agent(1), session(1), &by)
        .await
        .unwrap();
    rig.turn(1, 2, paid(110)).await;
    assert_eq!(rig.budget(budget.budget.id).await.spent.cost_micro_usd, 50);
    rig.app.budget_allows(Some(agent(1)), Some(task)).unwrap();
    rig.turn(1, 3, paid(160)).await;
    assert_eq!(
        code(rig.app.budget_allows(None, Some(task))).0,
        Code::BudgetExceeded
    );
    rig.app.budget_allows(Some(agent(1)), None).unwrap();
    let used = rig.used(ana(), UsageBy::Task).await;
    let rows: Vec<(String, u64)> = used
        .rows
        .items
        .into_iter()
        .map(|row| (row.key, row.spent.cost_micro_usd))
        .collect();
    assert_eq!(rows, [(String::new(), 60), (task.to_string(), 100)]);
}

#[tokio::test]
async fn narrowed_callers_see_what_is_theirs_and_decide_about_nothing_else() {
    let rig = Rig::new(2).await;
    let own = narrowed("/srv/1");
    let total = BudgetPeriod::Total;
    let everything = rig
        .set(BudgetScope::Everything, total, money(100), NONE)
        .await
        .budget
        .id;
    let theirs = rig
        .set(
            BudgetScope::Session(session(1)),
            total,
            NONE,
            money(1 << 40),
        )
        .await
        .budget
        .id;
    let foreign = rig
        .set(
            BudgetScope::Session(session(2)),
            total,
            NONE,
            money(1 << 40),
        )
        .await
        .budget
        .id;
    rig.turn(2, 1, paid(90)).await;
    rig.turn(1, 1, paid(20)).await;
    rig.app.keep_budgets().await.unwrap();
    rig.app.get_budget(&own, theirs).await.unwrap();
    for hidden in [everything, foreign] {
        assert_eq!(
            code(rig.app.get_budget(&own, hidden).await).0,
            Code::NotFound
        );
    }
    let page = PageRequest {
        size: 1,
        after: None,
    };
    let listed = rig.app.list_budgets(&own, None, &page).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!((listed.items[0].budget.id, listed.next), (theirs, None));
    let used = rig.used(&own, UsageBy::Session).await;
    assert_eq!((used.rows.items.len(), used.total.cost_micro_usd), (1, 20));
    let set = |scope| {
        rig.app
            .set_budget(&own, "", (scope, total), (NONE, money(5)), None)
    };
    assert_eq!(code(set(BudgetScope::Everything).await).0, Code::Forbidden);
    assert_eq!(
        code(set(BudgetScope::Session(session(2))).await).0,
        Code::NotFound
    );
    // The question about everything was asked in its session; it is not its to answer.
    let prompt = rig.asked(1).await[0];
    let (asked, _) = rig.app.get_prompt(&own, prompt).await.unwrap();
    assert!(
        !asked.questions[0].text.contains("110"),
        "{:?}",
        asked.questions
    );
    let answers = AnswerBody::Answers(vec![QuestionAnswer {
        question: asked.questions[0].text.clone(),
        labels: vec!["Raise".to_owned()],
        text: String::new(),
    }]);
    let answered = rig.app.answer_prompt(&own, "", prompt, None, answers).await;
    assert_eq!(code(answered).0, Code::Forbidden);
    rig.answer(prompt, "Raise").await.unwrap();
}

#[tokio::test]
async fn what_a_deleted_session_spent_is_kept() {
    let mut rig = Rig::new(2).await;
    let budget = rig
        .set(
            BudgetScope::Everything,
            BudgetPeriod::Total,
            NONE,
            money(1 << 40),
        )
        .await;
    rig.turn(1, 1, paid(60)).await;
    let end = crate::domain::EndInfo::because(crate::domain::EndReason::Completed, "");
    rig.says(1, 2, vec![EventBody::Ended { end }]).await;
    rig.app.delete_session(ana(), session(1)).await.unwrap();
    assert!(rig.app.session_record(session(1)).await.unwrap().is_none());
    rig.restart().await;
    assert_eq!(rig.budget(budget.budget.id).await.spent.cost_micro_usd, 60);
    let used = rig.used(ana(), UsageBy::Session).await;
    assert_eq!(used.rows.items[0].key, session(1).to_string());
}

#[tokio::test]
async fn a_request_that_comes_again_sets_once_and_an_old_etag_sets_nothing() {
    let rig = Rig::new(1).await;
    let of = (BudgetScope::Everything, BudgetPeriod::Day);
    let set = |hard, etag| {
        rig.app
            .set_budget(ana(), "once", of, (NONE, money(hard)), etag)
    };
    let first = set(100, None).await.unwrap().unwrap();
    let again = set(100, None).await.unwrap().unwrap();
    assert_eq!((again.revision, again.budget.edition), (first.revision, 1));
    let stale = rig
        .app
        .set_budget(ana(), "", of, (NONE, money(7)), Some(first.revision + 1));
    assert_eq!(code(stale.await).0, Code::Stale);
    let anew = rig
        .app
        .set_budget(ana(), "", of, (NONE, money(7)), Some(first.revision));
    let anew = anew.await.unwrap().unwrap();
    assert_eq!((anew.budget.id, anew.budget.edition), (first.budget.id, 2));
    let page = PageRequest {
        size: 10,
        after: None,
    };
    let listed = rig.app.list_budgets(ana(), Some(session(1)), &page).await;
    assert_eq!(listed.unwrap().items.len(), 1);
}

/// A call whose caller goes away in the middle is done to its end: what is in memory is what is stored.
#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let rig = Rig::new(1).await;
    let of = (BudgetScope::Everything, BudgetPeriod::Total);
    for (hard, expected) in [(money(7), Some(7)), (money(9), Some(9)), (NONE, None)] {
        let mut set = Box::pin(rig.app.set_budget(ana(), "", of, (NONE, hard), None));
        assert!(futures_util::poll!(set.as_mut()).is_pending());
        drop(set);
        let page = PageRequest {
            size: 10,
            after: None,
        };
        let shown = async || {
            let budgets = rig.app.list_budgets(ana(), None, &page).await.unwrap();
            let first = budgets.items.first().map(|shown| shown.budget.hard);
            first.map(|hard| hard.cost_micro_usd.unwrap())
        };
        while shown().await != expected {
            tokio::task::yield_now().await;
        }
    }
    // The next change finds what the last one left.
    rig.set(of.0, of.1, NONE, money(5)).await;

    let mut sent = Box::pin(rig.app.send_input(
        ana(),
        "once",
        session(1),
        "first".to_owned(),
        Delivery::Queue,
    ));
    while rig.inputs_given().await == 0 && futures_util::poll!(sent.as_mut()).is_pending() {
        tokio::task::yield_now().await;
    }
    drop(sent);
    let again = rig.app.send_input(
        ana(),
        "once",
        session(1),
        "first".to_owned(),
        Delivery::Queue,
    );
    again.await.unwrap();
    let accepted = |body: &&EventBody| matches!(body, EventBody::InputAccepted { .. });
    assert_eq!(rig.log(1).await.iter().filter(accepted).count(), 1);
}
