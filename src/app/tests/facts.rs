//! What is said of a session, and when: its link, its activity, its conversation, its place among the living.

use super::*;
use crate::app::sessions::Stored;
use crate::base::id::{CommandId, PromptId};
use crate::base::json::Json;
use crate::domain::daemon::Offer;
use crate::domain::event::EventKind;
use crate::domain::link::RecordEvent;
use crate::domain::prompt::{AnswerDelivery, PromptKind, PromptState};
use crate::domain::session::ActivitySource;
use crate::domain::{
    Activity, Command, CommandBody, CommandOutcome, CommandResult, Daemon, PermissionMode, Prompt,
};
use crate::store::{Outbox as _, Records as _};
use crate::wire::EventBatch;
use crate::wire::event::event_from_pb;

pub(super) const DAEMON: DaemonId = DaemonId::from_bits(1);

/// A server with one daemon, over sessions that were stored before.
pub(super) struct Rig {
    store: Arc<MemoryStore>,
    pub(super) app: App,
}

impl Rig {
    pub(super) async fn new(sessions: &[Session], options: sessions::Options) -> Self {
        let store = memory::shared(clock());
        let daemon = Daemon {
            id: DAEMON,
            name: "d".to_owned(),
            token_id: TokenId::from_bits(2),
            offer: Offer {
                max_permission_mode: PermissionMode::Auto,
                ..Offer::default()
            },
            attached: false,
            since: NOW,
            link_epoch: 0,
            boot_generation: 0,
            draining: false,
            created_at: NOW,
            link_changes: Vec::new(),
        };
        let key = records::daemon_key(DAEMON);
        let mut ops = vec![records::put(key, &daemon, Expect::Absent).unwrap()];
        for session in sessions {
            store.commit(stored(session)).await.unwrap();
            if session.holds_conversation() {
                let key = records::conversation_key(&session.harness, &session.provider_session_id);
                ops.push(records::mark(key, session.id));
            }
        }
        let commit = Commit {
            ops,
            ..Commit::default()
        };
        store.commit(commit).await.unwrap();
        let app = app(store.clone(), options).await;
        Rig { store, app }
    }

    async fn link(&self, epoch: u64) {
        self.app.sessions().link_up(DAEMON, epoch);
        let linked = self.app.sessions().linked(DAEMON, epoch, &[]);
        linked.await.unwrap();
    }

    /// What a session's agent says in one record of its spool.
    async fn says(&self, session: u128, seq: u64, bodies: Vec<EventBody>) {
        let id = SessionId::from_bits(session);
        self.say(id, seq, bodies).await;
    }

    async fn say(&self, id: SessionId, seq: u64, bodies: Vec<EventBody>) {
        let events = bodies
            .into_iter()
            .map(|body| Event::new(id, Origin::Harness, NOW, body));
        let events = events.map(RecordEvent::from).collect();
        self.say_events(id, seq, events).await;
    }

    async fn say_events(&self, id: SessionId, seq: u64, events: Vec<RecordEvent>) {
        let record = Stored {
            output: None,
            origin_seq: seq,
            events,
            bytes: 0,
            contents: Vec::new(),
        };
        let rules = self.app.rules().current();
        let stored = self
            .app
            .sessions()
            .store_records(DAEMON, id, 1, vec![record], rules);
        stored.await.unwrap();
    }

    pub(super) async fn session(&self, id: SessionId) -> Session {
        self.app.session_record(id).await.unwrap().unwrap().0
    }

    async fn numbered(&self, n: u128) -> Session {
        self.session(SessionId::from_bits(n)).await
    }

    async fn log(&self, id: SessionId) -> Vec<EventBody> {
        let chunks = self.store.read(&Stream::session(id), 0, 1 << 20).await;
        let mut bodies = Vec::new();
        for chunk in chunks.unwrap() {
            let batch = EventBatch::from_encoded(chunk.bytes);
            for event in batch.events().unwrap() {
                bodies.push(event_from_pb(event).unwrap().body);
            }
        }
        bodies
    }

    async fn activities(&self, id: SessionId) -> Vec<Activity> {
        let log = self.log(id).await;
        let said = log.iter().filter_map(|body| match body {
            EventBody::ActivityChanged { activity, .. } => Some(*activity),
            _ => None,
        });
        said.collect()
    }

    async fn holder(&self, conversation: &str) -> Option<String> {
        let key = records::conversation_key("demo", conversation);
        let lock = self.store.get(&key).await.unwrap();
        lock.map(|lock| String::from_utf8(lock.value.to_vec()).unwrap())
    }

    /// The commands of a session that have no outcome, oldest first.
    async fn commands(&self, id: SessionId) -> Vec<Command> {
        let pending = self.store.pending(&DAEMON.to_string(), None, 100).await;
        let commands = pending.unwrap().into_iter();
        let commands =
            commands.map(|entry| serde_json::from_slice::<Command>(&entry.value).unwrap());
        commands
            .filter(|command| command.session_id == id)
            .collect()
    }

    async fn ends(&self, command: &Command, outcome: CommandOutcome, reason: &str) {
        self.ended(command.session_id, command.id, outcome, reason)
            .await;
    }

    async fn ended(
        &self,
        session_id: SessionId,
        command_id: CommandId,
        outcome: CommandOutcome,
        reason: &str,
    ) {
        let result = CommandResult {
            command_id,
            session_id,
            outcome,
            reason: reason.to_owned(),
            code: String::new(),
        };
        let ended = self.app.sessions().command_ended(DAEMON, result);
        ended.await.unwrap();
    }

    async fn send(&self, n: u128, text: &str) {
        let id = SessionId::from_bits(n);
        let caller = caller();
        let sent = self
            .app
            .send_input(&caller, "", id, text.to_owned(), Delivery::Queue);
        sent.await.unwrap();
    }
}

/// A session of the daemon whose harness can do what these tests need.
fn able(n: u128, lifecycle: Lifecycle) -> Session {
    let mut session = session(n, 1, lifecycle);
    session.capabilities.resume = true;
    session.capabilities.queue = true;
    session
}

/// One that ended as lost, and holds a conversation.
fn lost(n: u128, conversation: &str) -> Session {
    let mut session = able(n, Lifecycle::Ended);
    session.end = Some(EndInfo::because(EndReason::Lost, ""));
    session.started_at = Some(NOW);
    session.detached_since = Some(NOW);
    session.provider_session_id = conversation.to_owned();
    session
}

fn force() -> Resume {
    Resume {
        force: true,
        ..Resume::default()
    }
}

fn started(conversation: &str) -> EventBody {
    EventBody::Started {
        provider_session_id: conversation.to_owned(),
        model: String::new(),
        cwd: String::new(),
        tools: Vec::new(),
        pid: 1,
        version: String::new(),
    }
}

fn does(activity: Activity) -> EventBody {
    EventBody::ActivityChanged {
        activity,
        source: ActivitySource::Protocol,
        confidence: 100,
    }
}

#[tokio::test]
async fn a_conversation_stays_with_the_session_that_holds_it() {
    let running = [1, 2, 3].map(|n| able(n, Lifecycle::Running));
    let rig = Rig::new(&running, sessions::Options::default()).await;
    rig.says(1, 1, vec![started("one")]).await;
    rig.says(2, 1, vec![started("one")]).await;
    let (first, second) = (rig.numbered(1).await, rig.numbered(2).await);
    assert_eq!(first.lifecycle, Lifecycle::Running);
    assert_eq!(first.provider_session_id, "one");
    assert_eq!(second.lifecycle, Lifecycle::Stopping, "it is told to end");
    assert_eq!(second.provider_session_id, "", "and never had it");
    assert_eq!(rig.holder("one").await, Some(first.id.to_string()));
    assert!(matches!(
        rig.commands(second.id).await[..],
        [Command {
            body: CommandBody::End { .. },
            ..
        }]
    ));
    let exit = |reason| EventBody::Ended {
        end: EndInfo::because(reason, ""),
    };
    rig.says(2, 2, vec![started("one"), exit(EndReason::Completed)])
        .await;
    let end = rig.numbered(2).await.end.unwrap();
    assert_eq!(end.reason, EndReason::Failed);
    assert!(end.message.contains(&first.id.to_string()), "{end:?}");
    assert_eq!(rig.holder("one").await, Some(first.id.to_string()));

    // Of two that name one at the same moment, one has it.
    rig.says(1, 2, vec![exit(EndReason::Completed)]).await;
    assert_eq!(rig.holder("one").await, None);
    for n in [4, 5] {
        let other = able(n, Lifecycle::Running);
        rig.store.commit(stored(&other)).await.unwrap();
    }
    tokio::join!(
        rig.says(4, 1, vec![started("one")]),
        rig.says(5, 1, vec![started("one")])
    );
    let mut states = [rig.numbered(4).await, rig.numbered(5).await].map(|s| s.lifecycle.as_str());
    states.sort_unstable();
    assert_eq!(states, ["running", "stopping"]);

    // A lock that a session left behind which can write no more counts for nothing.
    let ghost = records::conversation_key("demo", "two");
    let commit = Commit {
        ops: vec![records::mark(ghost, SessionId::from_bits(99))],
        ..Commit::default()
    };
    rig.store.commit(commit).await.unwrap();
    rig.says(3, 1, vec![started("two")]).await;
    let third = rig.numbered(3).await;
    assert_eq!(third.lifecycle, Lifecycle::Running);
    assert_eq!(rig.holder("two").await, Some(third.id.to_string()));
}

#[tokio::test]
async fn a_deleted_session_does_not_take_its_successors_conversation_along() {
    let rig = Rig::new(&[lost(1, "one")], sessions::Options::default()).await;
    let old = SessionId::from_bits(1);
    let caller = caller();
    let new = rig.app.resume_session(&caller, "", old, force()).await;
    let new = new.unwrap();
    assert_eq!(rig.holder("one").await, Some(new.id.to_string()));
    rig.app.delete_session(&caller, old).await.unwrap();
    assert_eq!(rig.holder("one").await, Some(new.id.to_string()));
}

/// An event that is carried as its bytes does to its session what it would do if it were looked at: nothing. Whatever its
/// kind is.
#[tokio::test]
async fn what_is_only_kept_does_nothing_where_it_is_looked_at() {
    let mut g = crate::wire::Gen::new(11);
    let mut seen = BTreeSet::new();
    for kind in EventKind::ALL.iter().flat_map(|kind| [kind; 8]) {
        let body = g.event(*kind).body;
        let started = [1, 2].map(|n| session(n, 1, Lifecycle::Starting));
        let [looked_at, kept] = started
            .each_ref()
            .map(|session| Event::new(session.id, Origin::Harness, NOW, body.clone()));
        if !looked_at.is_only_kept() {
            continue;
        }
        seen.insert(*kind);
        let rig = Rig::new(&started, sessions::Options::default()).await;
        // What comes has no time; that of the epoch takes two bytes, first.
        let (id, time) = (kept.session_id, Timestamp::EPOCH);
        let came = crate::wire::encode_event(&Event { time, ..kept }).slice(2..);
        rig.say_events(id, 1, vec![RecordEvent::Kept(came)]).await;
        rig.say_events(looked_at.session_id, 1, vec![looked_at.into()])
            .await;
        let (looked_at, kept) = (rig.numbered(1).await, rig.numbered(2).await);
        assert_eq!(kept.lifecycle, Lifecycle::Running);
        assert_eq!(rig.log(kept.id).await, rig.log(looked_at.id).await);
        let id = kept.id;
        assert_eq!(kept, Session { id, ..looked_at });
    }
    let known = [
        EventKind::ToolCall,
        EventKind::ToolResult,
        EventKind::PlanUpdated,
        EventKind::Output,
        EventKind::Stderr,
        EventKind::Notice,
    ];
    assert!(known.iter().all(|kind| seen.contains(kind)), "{seen:?}");
}

#[tokio::test]
async fn a_start_that_nobody_can_tell_of_is_lost_until_its_agent_speaks() {
    let rig = Rig::new(&[lost(1, "one")], sessions::Options::default()).await;
    rig.link(1).await;
    let resume = Resume {
        input: "go on".to_owned(),
        ..force()
    };
    let old = SessionId::from_bits(1);
    let new = rig.app.resume_session(&caller(), "", old, resume).await;
    let id = new.unwrap().id;
    let commands = rig.commands(id).await;
    let [start] = &commands[..] else {
        panic!("{commands:?}");
    };
    rig.ends(start, CommandOutcome::Indeterminate, "the power went")
        .await;
    let doubtful = rig.session(id).await;
    assert!(doubtful.is_lost(), "{doubtful:?}");
    let message = doubtful.end.unwrap().message;
    assert!(message.contains("the power went"), "{message}");
    assert_eq!(rig.app.sessions().living_count(None), 0);
    assert_eq!(
        rig.holder("one").await,
        Some(id.to_string()),
        "its process may write to it"
    );

    rig.say(id, 1, vec![started("one"), does(Activity::AwaitingInput)])
        .await;
    let found = rig.session(id).await;
    assert_eq!((found.lifecycle, found.end), (Lifecycle::Running, None));
    assert!(found.started_at.is_some());
    let commands = rig.commands(id).await;
    assert!(
        matches!(
            commands[..],
            [Command {
                body: CommandBody::Input { .. },
                ..
            }]
        ),
        "what waited is delivered: {commands:?}"
    );
}

#[tokio::test]
async fn a_session_made_while_its_daemon_is_away_is_detached_from_its_beginning() {
    let rig = Rig::new(
        &[lost(1, "one"), lost(2, "two")],
        sessions::Options::default(),
    )
    .await;
    let caller = caller();
    let resumed = |n| {
        rig.app
            .resume_session(&caller, "", SessionId::from_bits(n), force())
    };
    let away = resumed(1).await.unwrap();
    assert_eq!(away.detached_since, Some(away.created_at));
    let is_link = |body: &EventBody| match body {
        EventBody::LinkChanged { attached, epoch } => Some((*attached, *epoch)),
        _ => None,
    };
    let log = rig.log(away.id).await;
    assert_eq!(is_link(&log[1]), Some((false, 0)), "{log:?}");
    rig.link(3).await;
    assert_eq!(rig.session(away.id).await.detached_since, None);
    let log = rig.log(away.id).await;
    let links: Vec<_> = log.iter().filter_map(is_link).collect();
    assert_eq!(links, [(false, 0), (true, 3)]);

    let here = resumed(2).await.unwrap();
    assert_eq!(here.detached_since, None);
    let log = rig.log(here.id).await;
    assert!(log.iter().all(|body| is_link(body).is_none()), "{log:?}");

    // The late news that an older link is gone changes nothing.
    rig.app.sessions().link_down(DAEMON, 2);
    rig.app.sessions().unlinked(DAEMON, 2).await.unwrap();
    assert_eq!(rig.session(here.id).await.detached_since, None);
    rig.app.sessions().link_down(DAEMON, 3);
    rig.app.sessions().unlinked(DAEMON, 3).await.unwrap();
    assert!(rig.session(here.id).await.detached_since.is_some());
}

#[tokio::test]
async fn sessions_made_at_once_do_not_pass_the_bound() {
    let options = sessions::Options {
        max_living: 2,
        ..sessions::Options::default()
    };
    let mut ended = able(9, Lifecycle::Ended);
    ended.provider_session_id = String::new();
    let lost = [1, 2, 3, 4].map(|n| lost(n, &n.to_string()));
    let rig = Rig::new(&[&lost[..], &[ended][..]].concat(), options).await;
    let caller = caller();
    let resumed = |n| {
        rig.app
            .resume_session(&caller, "", SessionId::from_bits(n), force())
    };
    // One that comes to nothing gives its place back.
    for _ in 0..3 {
        assert_eq!(
            resumed(9).await.unwrap_err().code(),
            Code::NoResumableSession
        );
    }
    let (a, b, c, d) = tokio::join!(resumed(1), resumed(2), resumed(3), resumed(4));
    let made = [a, b, c, d];
    let refused = made.iter().filter_map(|made| made.as_ref().err());
    let refused: Vec<Code> = refused.map(|error| error.code()).collect();
    assert_eq!(refused, [Code::AtCapacity, Code::AtCapacity]);
    assert_eq!(rig.app.sessions().living_count(None), 2);
    // The place of one that ends is free.
    let one = made.into_iter().find_map(Result::ok).unwrap();
    let end = |step: &mut sessions::Step<'_>| {
        step.end(EndInfo::because(EndReason::Stopped, "enough"), false)
    };
    rig.app.sessions().step(one.id, end).await.unwrap();
    let mut codes = Vec::new();
    for n in [1, 2, 3, 4] {
        codes.extend(resumed(n).await.map_err(|error| error.code()).err());
    }
    assert!(codes.contains(&Code::AtCapacity), "{codes:?}");
    assert_eq!(rig.app.sessions().living_count(None), 2);
}

#[tokio::test]
async fn an_agent_whose_input_is_on_its_way_is_not_said_to_wait_for_one() {
    let mut starting = able(1, Lifecycle::Starting);
    starting.queued_inputs = 1;
    let idle = able(2, Lifecycle::Running);
    let rig = Rig::new(&[starting, idle], sessions::Options::default()).await;
    let (one, two) = (SessionId::from_bits(1), SessionId::from_bits(2));
    rig.send(1, "first").await;

    // At its start.
    rig.says(1, 1, vec![started("one"), does(Activity::AwaitingInput)])
        .await;
    assert_eq!(rig.activities(one).await, [Activity::Working]);
    assert_eq!(rig.numbered(1).await.activity, Activity::Working);
    let commands = rig.commands(one).await;
    rig.says(1, 2, vec![does(Activity::AwaitingInput)]).await;
    assert_eq!(rig.activities(one).await, [Activity::Working]);
    // It does not take it: now it waits.
    rig.ends(&commands[0], CommandOutcome::Rejected, "no").await;
    assert_eq!(
        rig.activities(one).await,
        [Activity::Working, Activity::AwaitingInput]
    );

    // One that waits is sent something, and says itself that it works.
    rig.says(2, 1, vec![started("two"), does(Activity::AwaitingInput)])
        .await;
    assert_eq!(rig.activities(two).await, [Activity::AwaitingInput]);
    rig.send(2, "something").await;
    assert_eq!(rig.numbered(2).await.activity, Activity::Working);
    let input = match &rig.commands(two).await[0].body {
        CommandBody::Input { input_id, .. } => *input_id,
        other => panic!("{other:?}"),
    };
    let turn = EventBody::InputChanged {
        input_id: input,
        state: InputState::Applied,
        text: String::new(),
        reason: String::new(),
    };
    rig.says(2, 2, vec![turn, does(Activity::Working)]).await;
    rig.says(2, 3, vec![does(Activity::AwaitingInput)]).await;
    assert_eq!(
        rig.activities(two).await,
        [
            Activity::AwaitingInput,
            Activity::Working,
            Activity::AwaitingInput
        ]
    );
}

fn asks(session: u128, n: u128) -> EventBody {
    EventBody::PromptRequested {
        prompt: Box::new(Prompt {
            id: PromptId::from_bits(n),
            session_id: SessionId::from_bits(session),
            kind: PromptKind::Permission,
            request_key: n.to_string(),
            call_id: String::new(),
            tool: "Bash".to_owned(),
            input: Json::from_value(&serde_json::json!({ "command": "ls" })),
            plan: String::new(),
            questions: Vec::new(),
            suggestions: Vec::new(),
            summary: String::new(),
            reason: String::new(),
            requested_at: NOW,
            expires_at: None,
            state: PromptState::Pending,
            answer: None,
            delivery: AnswerDelivery::None,
            note: String::new(),
            command_id: None,
            budget: None,
        }),
    }
}

#[tokio::test]
async fn an_agent_that_was_answered_at_once_is_not_said_to_wait_for_an_answer() {
    let mut denied = able(1, Lifecycle::Running);
    denied.permission_mode = PermissionMode::Deny;
    let asking = able(2, Lifecycle::Running);
    let rig = Rig::new(&[denied, asking], sessions::Options::default()).await;
    for n in [1, 2] {
        rig.says(n, 1, vec![does(Activity::Working)]).await;
        let record = vec![asks(n, n), does(Activity::AwaitingPrompt)];
        rig.says(n, 2, record).await;
        rig.says(n, 3, vec![does(Activity::Working)]).await;
    }
    let log = rig.log(SessionId::from_bits(1)).await;
    let answered = |body: &EventBody| matches!(body, EventBody::PromptAnswered { .. });
    assert!(log.iter().any(answered), "{log:?}");
    let activities = rig.activities(SessionId::from_bits(1)).await;
    assert_eq!(activities, [Activity::Working]);
    let activities = rig.activities(SessionId::from_bits(2)).await;
    assert_eq!(
        activities,
        [
            Activity::Working,
            Activity::AwaitingPrompt,
            Activity::Working
        ]
    );
}
