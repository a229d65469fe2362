//! What triggers promise, over the memory store and a clock that the tests move.

use std::sync::Arc;

use super::*;
use crate::app::access::Access;
use crate::app::search::Search;
use crate::app::{dispatch, sessions};
use crate::base::Clock as _;
use crate::base::clock::ManualClock;
use crate::base::id::TokenId;
use crate::domain::task::{Draft, Outcome};
use crate::domain::trigger::{Schedule, TaskEvents};
use crate::domain::{AgentRole, AgentSettings, Scope};
use crate::relay;
use crate::store::memory;

/// Friday, 2026-11-20, 06:30 UTC.
const MORNING: Timestamp = Timestamp::from_millis(1_795_156_200_000);
const HOUR: Duration = Duration::from_secs(3_600);

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

fn daily() -> Trigger {
    Trigger {
        on: Occasion::Cron(Schedule {
            cron: "0 7 * * 1-5".to_owned(),
            time_zone: String::new(),
        }),
        input: "Look after the documents.".to_owned(),
    }
}

fn when(event: TaskEvent, label: Option<&str>) -> Trigger {
    let labels = label.map(|team| ("team".to_owned(), team.to_owned()));
    Trigger {
        on: Occasion::Event(TaskEvents {
            event,
            labels: labels.into_iter().collect(),
        }),
        input: "Please review.".to_owned(),
    }
}

struct Rig {
    app: App,
    store: Arc<memory::MemoryStore>,
    clock: Arc<ManualClock>,
}

impl Rig {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(MORNING));
        let store = memory::shared(clock.clone());
        Rig {
            app: Self::open(&store, &clock).await,
            store,
            clock,
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

    async fn restart(&mut self) {
        self.app = Self::open(&self.store, &self.clock).await;
    }

    async fn steward(&self, triggers: Vec<Trigger>) -> AgentId {
        let settings = AgentSettings {
            directory: "/srv/app".to_owned(),
            triggers,
            ..AgentSettings::new("Keeper", AgentRole::Steward, "demo")
        };
        let made = self.app.create_agent(ana(), "", settings).await.unwrap();
        made.agent.id
    }

    async fn change(&self, agent: AgentId, change: impl Fn(&mut AgentSettings) + Sync) {
        let changed = |now: &AgentSettings| {
            let mut settings = now.clone();
            change(&mut settings);
            Ok(settings)
        };
        let done = self.app.update_agent(ana(), "", agent, None, "", changed);
        done.await.unwrap();
    }

    async fn task(&self, title: &str, directory: &str, team: &str) -> TaskId {
        let draft = Draft {
            title: title.to_owned(),
            directory: directory.to_owned(),
            labels: [("team".to_owned(), team.to_owned())].into(),
            ..Draft::default()
        };
        // What is made later has a greater id.
        self.clock.advance(Duration::from_millis(1));
        let made = self.app.create_task(ana(), "", draft).await.unwrap();
        made.task.id
    }

    /// What the steward is told now, if it is to be started; then that is done.
    async fn started(&self) -> Option<String> {
        let (agent, triggered) = self.app.agents().triggered().into_iter().next()?;
        let now = self.clock.now();
        let due = self.app.due(agent, &triggered, now).await.unwrap();
        self.app.change_records(due.ops).await.unwrap();
        Some(due.input).filter(|input| !input.is_empty())
    }
}

#[tokio::test]
async fn a_time_starts_a_steward_once_also_after_a_pause() {
    let mut rig = Rig::new().await;
    let keeper = rig.steward(vec![daily()]).await;
    assert_eq!(rig.started().await, None);
    rig.clock.advance(HOUR);
    let told = rig.started().await.unwrap();
    assert_eq!(told, "Look after the documents.");
    assert_eq!(rig.started().await, None);
    // It is the second Monday after that: the time came often meanwhile, and is told of once.
    rig.clock.advance(24 * HOUR * 10);
    rig.restart().await;
    let (agent, _) = rig.app.agent_record(keeper).await.unwrap().unwrap();
    let states = rig.app.trigger_states(ana(), &agent).await.unwrap();
    assert_eq!(states[0].fired_at, Some(MORNING.saturating_add(HOUR)));
    assert!(states[0].next_at.unwrap() < rig.clock.now());
    assert!(rig.started().await.is_some());
    rig.restart().await;
    assert_eq!(rig.started().await, None);
    // A change of something else does not make it forget.
    let changed = rig.change(keeper, |settings| settings.model = "small".to_owned());
    changed.await;
    assert_eq!(rig.started().await, None);
}

#[tokio::test]
async fn events_are_told_together_in_the_steward_s_own_place() {
    let mut rig = Rig::new().await;
    let early = rig.task("early", "/srv/app", "web").await;
    rig.steward(vec![
        when(TaskEvent::TaskClosed, Some("web")),
        when(TaskEvent::TaskCreated, None),
    ])
    .await;
    let inside = rig.task("inside", "/srv/app/web", "web").await;
    let anywhere = rig.task("anywhere", "", "core").await;
    let elsewhere = rig.task("elsewhere", "/srv/other", "web").await;
    for id in [early, anywhere, elsewhere] {
        let target = crate::app::tasks::Target {
            id,
            revision: None,
            request_id: "",
        };
        let closed = rig.app.complete_task(ana(), target, "", Outcome::Closed);
        closed.await.unwrap();
    }
    // What was heard is kept though the server dies.
    rig.restart().await;
    let told = rig.started().await.unwrap();
    let closed = format!("Please review.\n\nClosed:\n- {early} early");
    let new = format!("Please review.\n\nNew tasks:\n- {inside} inside\n- {anywhere} anywhere");
    assert_eq!(told, format!("{closed}\n\n{new}"));
    assert_eq!(rig.started().await, None);

    // Not at once again, and then with everything.
    let one = rig.task("one", "/srv/app", "web").await;
    assert_eq!(rig.started().await, None);
    let two = rig.task("two", "/srv/app", "web").await;
    rig.clock.advance(BETWEEN);
    let told = rig.started().await.unwrap();
    assert!(told.ends_with(&format!("New tasks:\n- {one} one\n- {two} two")));
}

#[tokio::test]
async fn what_nobody_listens_to_any_more_is_forgotten() {
    let rig = Rig::new().await;
    let keeper = rig.steward(vec![when(TaskEvent::TaskCreated, None)]).await;
    rig.task("one", "", "").await;
    let marks = async || rig.app.heard_marks(keeper, 10).await.unwrap().len();
    assert_eq!(marks().await, 1);
    rig.change(keeper, |settings| settings.triggers.clear())
        .await;
    rig.task("two", "", "").await;
    assert_eq!(marks().await, 1);
    rig.app.forget_unheard().await.unwrap();
    assert_eq!(marks().await, 0);
}

#[tokio::test]
async fn what_cannot_be_started_waits_and_says_why() {
    let rig = Rig::new().await;
    let keeper = rig.steward(vec![when(TaskEvent::TaskCreated, None)]).await;
    rig.task("one", "", "").await;
    let (agent, _) = rig.app.agent_record(keeper).await.unwrap().unwrap();
    let state = async || {
        let states = rig.app.trigger_states(ana(), &agent).await.unwrap();
        (
            states[0].tasks,
            states[0].obstacle.clone().unwrap_or_default(),
        )
    };
    let (tasks, why) = state().await;
    assert_eq!(tasks, 1);
    assert!(why.contains("paused"), "{why}");
    let resumed = rig.app.switch_scheduler(ana(), false, String::new()).await;
    resumed.unwrap();
    assert_eq!(state().await, (1, String::new()));
    // There is no machine.
    rig.app.pull_triggers().await.unwrap();
    let (tasks, why) = state().await;
    assert_eq!(tasks, 1);
    assert!(why.contains("no daemon is known"), "{why}");
    rig.clock.advance(HOUR);
    assert_eq!(state().await, (1, String::new()));
    assert!(rig.started().await.is_some());
}
