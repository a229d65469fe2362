//! Load while things are killed: programs that number their lines, agents that ask, and one who watches it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use baton::base::id::SessionId;
use baton::base::{Code, Result};
use baton::client::{Client, FollowOptions, Followed};
use baton::domain::prompt::AnswerDelivery;
use baton::domain::{Event, EventBody, InputState};
use baton::wire::v1;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::history::{Fact, History, hash};
use crate::support::baton::{Baton, PATIENCE, eventually};

/// Numbers its lines until the file `stop` is there. Its pid goes to a file with each start, and how many
/// lines it wrote to another.
const COUNT: &str = r#"
echo $$ >> "$1.pid"; i=0
while [ ! -e stop ]; do
  for _ in 1 2 3 4 5; do i=$((i+1)); echo "$1 line $i"; done
  echo $i > "$1.count"
  sleep 0.05
done
echo "$1 over"
"#;

/// Notes and repeats what it is told, until it is told `bye`.
const REPEAT: &str = r#"
echo $$ >> "$1.pid"
while read -r line; do
  echo "$line" >> "$1.got"; echo "got $line"
  [ "$line" = bye ] && exit 0
done
"#;

/// Chance that can be repeated.
pub struct Chance(u64);

impl Chance {
    /// From `BATON_TEST_SEED`, or any; printed.
    pub fn new(test: &str) -> Self {
        let seed = number("BATON_TEST_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
        println!("{test}: BATON_TEST_SEED={seed}");
        Chance(seed)
    }

    /// A number below `bound` (splitmix64).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Lets up to `ms` pass: the point at which something is killed.
    pub async fn moment(&mut self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(ms))).await;
    }
}

/// How often something is killed.
pub fn rounds(default: u64) -> u64 {
    number("BATON_TEST_ROUNDS").unwrap_or(default)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Repeats a request until it is answered; only that nobody answers is a reason to ask again.
pub async fn insist<T, F: Future<Output = Result<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        match ask().await {
            Err(error) if matches!(error.code(), Code::Unavailable | Code::Timeout) => {
                assert!(Instant::now() < deadline, "{what}: {error:?}");
            }
            answer => return answer,
        }
        pause.tick().await;
    }
}

/// A `command` session that runs a shell script.
pub async fn script(baton: &Baton, script: &str, name: &str) -> v1::Session {
    let request = v1::CreateSessionRequest {
        harness: "command".to_owned(),
        cwd: baton.project().to_string_lossy().into_owned(),
        argv: ["sh", "-c", script, "sh", name].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let created = baton.client().create_session(request).await.unwrap();
    created.session.unwrap()
}

/// An allowing answer.
pub fn allow(prompt_id: &str, request_id: &str) -> v1::AnswerPromptRequest {
    v1::AnswerPromptRequest {
        request_id: request_id.to_owned(),
        prompt_id: prompt_id.to_owned(),
        answer: Some(v1::answer_prompt_request::Answer::Decision(v1::Decision {
            allow: true,
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// Ends a session and waits until its log says so.
pub async fn end(baton: &Baton, session: &str) {
    let request = v1::EndSessionRequest {
        session_id: session.to_owned(),
        ..Default::default()
    };
    baton.client().end_session(request).await.unwrap();
    ended(baton, session).await;
}

/// How a session ended, once it has.
pub async fn ended(baton: &Baton, session: &str) -> baton::domain::EndInfo {
    let event = baton
        .wait_for(session, "the session ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    match event.body {
        EventBody::Ended { end } => end,
        other => panic!("{other:?}"),
    }
}

/// The lines of a log.
pub fn lines(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Output { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// How many events are such.
pub fn count(events: &[Event], is: impl Fn(&EventBody) -> bool) -> usize {
    events.iter().filter(|event| is(&event.body)).count()
}

/// The only line of the file a program writes its pid to: it was started once.
pub async fn pid(project: &Path, name: &str) -> i32 {
    let file = project.join(format!("{name}.pid"));
    eventually("the program starts", || async {
        let text = std::fs::read_to_string(&file).ok()?;
        let text = text.strip_suffix('\n')?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} was started twice: {text}")),
        )
    })
    .await
}

/// Whether a process lives; a zombie does not.
pub fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("Z").starts_with('Z'))
}

/// A reader who follows a session from its first event to its end, over everything that is killed.
pub struct Watcher {
    session: String,
    name: String,
    history: History,
    seen: Arc<Mutex<Vec<Event>>>,
    job: JoinHandle<()>,
}

/// What stands for an event in a history: all of it counts.
pub fn hash_of(event: &Event) -> u64 {
    hash(&format!("{event:?}"))
}

impl Watcher {
    /// Follows a session until it ends, and notes what it sees.
    pub fn new(baton: &Baton, session: &str) -> Self {
        let id = SessionId::parse("id", session).unwrap();
        let mut follow = baton.client().follow(id, FollowOptions::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        let (history, log) = (baton.history(), session.to_owned());
        let name = format!("reader of {session}");
        let who = name.clone();
        let job = tokio::spawn(async move {
            let tell = |fact| history.note(&who, fact);
            let log = || log.clone();
            let mut last = 0;
            loop {
                match follow.next().await.unwrap() {
                    Followed::Started { .. } => tell(Fact::Opened {
                        log: log(),
                        after: last,
                    }),
                    Followed::Event(event) => {
                        last = event.seq;
                        tell(Fact::Saw {
                            log: log(),
                            seq: event.seq,
                            hash: hash_of(&event),
                        });
                        let over = matches!(event.body, EventBody::Ended { .. });
                        into.lock().push(*event);
                        if over {
                            return tell(Fact::CaughtUp {
                                log: log(),
                                seq: last,
                            });
                        }
                    }
                    Followed::Progress(seq) => tell(Fact::Progress { log: log(), seq }),
                    Followed::Truncated { oldest } => panic!("nothing before {oldest} is left"),
                    Followed::Transient(_) | Followed::Lost { .. } => {}
                }
            }
        });
        Watcher {
            session: session.to_owned(),
            name,
            history: baton.history(),
            seen,
            job,
        }
    }

    /// The session it follows.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// How many events it has seen.
    pub fn seen(&self) -> usize {
        self.seen.lock().len()
    }

    /// Waits until it sees more than `before`.
    pub async fn moves_on(&self, before: usize) {
        eventually("the reader sees more", || async {
            assert!(
                !self.job.is_finished(),
                "the reader of {} ended",
                self.session
            );
            (self.seen() > before).then_some(())
        })
        .await;
    }

    /// Waits for the session's end and compares: what was seen, event for event, is the log.
    pub async fn finish(self, baton: &Baton) -> Vec<Event> {
        tokio::time::timeout(PATIENCE, self.job)
            .await
            .expect("the reader sees the end")
            .unwrap();
        let seen = std::mem::take(&mut *self.seen.lock());
        let mut log = baton.events(&self.session).await;
        assert!(
            log.len() >= seen.len(),
            "{} events were seen that are gone",
            seen.len()
        );
        note_log(&self.history, &self.name, &self.session, &log);
        // What follows the end (the lifecycle) the reader did not stay for.
        log.truncate(seen.len());
        for (seen, stored) in seen.iter().zip(&log) {
            assert_eq!(seen, stored, "a reader saw what is not in the log");
        }
        log
    }
}

/// Notes a whole log as it was read.
pub fn note_log(history: &History, who: &str, session: &str, log: &[Event]) {
    let stored = Fact::Stored {
        log: session.to_owned(),
        epoch: 1,
        first: 1,
        hashes: log.iter().map(hash_of).collect(),
    };
    history.note(who, stored);
}

/// Notes what a program wrote and what of it is in the log: the lines, and gaps.
pub fn note_lines(history: &History, session: &str, wrote: &[String], log: &[Event]) {
    let log = log.iter().filter_map(|event| match &event.body {
        EventBody::Output { text, .. } => Some(text.clone()),
        EventBody::Gap { reason, .. } => Some(format!("gap: {reason}")),
        _ => None,
    });
    note_items(
        history,
        &format!("lines of {session}"),
        wrote,
        log.collect(),
    );
}

/// Notes what was given to a log and what of it is there.
fn note_items(history: &History, log: &str, wrote: &[String], items: Vec<String>) {
    for item in wrote {
        let fact = Fact::Wrote {
            log: log.to_owned(),
            item: item.clone(),
            may_miss: false,
        };
        history.note("program", fact);
    }
    let held = Fact::Holds {
        log: log.to_owned(),
        items,
        whole: true,
    };
    history.note("test", held);
}

/// Notes of each input what its log says of it: that it was accepted, and what became of it.
pub fn note_inputs(history: &History, session: &str, accepted: &[String], log: &[Event]) {
    let named = format!("inputs of {session}");
    let there = log.iter().filter_map(|event| match &event.body {
        EventBody::InputAccepted { input_id, .. } => Some(input_id.to_string()),
        _ => None,
    });
    note_items(history, &named, accepted, there.collect());
    for event in log {
        if let EventBody::InputChanged {
            input_id, state, ..
        } = &event.body
            && !matches!(state, InputState::Queued | InputState::Delivered)
        {
            let outcome = Fact::Outcome {
                command: input_id.to_string(),
                outcome: state.as_str().to_owned(),
            };
            history.note("server", outcome);
        }
    }
}

/// Notes that an input was accepted.
pub fn note_given(history: &History, session: &str, input: &str) {
    let promised = Fact::Promised {
        log: format!("inputs of {session}"),
        item: input.to_owned(),
    };
    history.note("user", promised);
    let given = Fact::Given {
        command: input.to_owned(),
    };
    history.note("user", given);
}

/// Notes that an input had its effect, so many times.
pub fn note_effects(history: &History, input: &str, times: usize) {
    for _ in 0..times {
        let effect = Fact::Effect {
            command: input.to_owned(),
        };
        history.note("program", effect);
    }
}

/// Programs and agents at work, each of them watched.
pub struct Load {
    history: History,
    project: PathBuf,
    counters: Vec<(String, Watcher)>,
    agents: Vec<(String, Watcher, JoinHandle<Vec<Task>>)>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Sets `counters` programs and `agents` agents to work.
    pub async fn start(baton: &Baton, counters: usize, agents: usize) -> Self {
        let stop = watch::Sender::new(false);
        let mut load = Load {
            history: baton.history(),
            project: baton.project(),
            counters: Vec::new(),
            agents: Vec::new(),
            stop,
        };
        for index in 0..counters {
            let name = format!("c{index}");
            let session = script(baton, COUNT, &name).await;
            let watcher = Watcher::new(baton, &session.id);
            load.counters.push((name, watcher));
        }
        for index in 0..agents {
            let name = format!("a{index}");
            let session = baton.session("demo", "").await;
            let watcher = Watcher::new(baton, &session.id);
            let user = User {
                client: baton.client(),
                history: baton.history(),
                session: session.id,
                name: name.clone(),
                project: baton.project(),
            };
            let work = tokio::spawn(user.work(load.stop.subscribe()));
            load.agents.push((name, watcher, work));
        }
        load
    }

    /// The reader of one of the programs.
    pub fn counter(&self, index: u64) -> &Watcher {
        &self.counters[usize::try_from(index).unwrap() % self.counters.len()].1
    }

    /// Waits until every reader sees more.
    #[cfg(feature = "failpoints")]
    pub async fn moves_on(&self) {
        let agents = self.agents.iter().map(|(_, watcher, _)| watcher);
        let watchers = self.counters.iter().map(|(_, watcher)| watcher);
        for watcher in watchers.chain(agents) {
            watcher.moves_on(watcher.seen()).await;
        }
    }

    /// How many lines a program has written.
    pub fn written(&self, index: usize) -> u64 {
        written(&self.project, &self.counters[index].0)
    }

    /// The programs' pids; each was started once.
    pub async fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for (name, _) in &self.counters {
            let pid = pid(&self.project, name).await;
            let session = name.clone();
            self.history.note("test", Fact::Runs { session, pid });
            pids.push(pid);
        }
        pids
    }

    /// Lets all come to its end, and compares what was written, what is in the log and what was seen.
    /// Gives the number of events.
    pub async fn finish(self, baton: &Baton) -> usize {
        std::fs::write(self.project.join("stop"), "").unwrap();
        self.stop.send_replace(true);
        let mut total = 0;
        let history = self.history;
        for (name, watcher) in self.counters {
            let session = watcher.session.clone();
            let log = watcher.finish(baton).await;
            let written = written(&self.project, &name);
            let expected: Vec<String> = (1..=written)
                .map(|line| format!("{name} line {line}"))
                .chain([format!("{name} over")])
                .collect();
            note_lines(&history, &session, &expected, &log);
            let lines = lines(&log);
            let wrong = lines
                .iter()
                .zip(&expected)
                .position(|(is, should)| is != should);
            if let Some(at) = wrong {
                panic!("{name}: {:?} instead of {}", lines[at], expected[at]);
            }
            assert_eq!(lines.len(), expected.len(), "lines of {name}");
            assert_eq!(count(&log, |body| matches!(body, EventBody::Gap { .. })), 0);
            assert_eq!(
                count(&log, |body| matches!(body, EventBody::Started { .. })),
                1
            );
            let pid = pid(&self.project, &name).await;
            let session = name;
            history.note("test", Fact::Runs { session, pid });
            total += log.len();
        }
        for (name, watcher, work) in self.agents {
            let tasks = tokio::time::timeout(PATIENCE, work).await.unwrap().unwrap();
            assert!(!tasks.is_empty(), "{name} did nothing");
            end(baton, &watcher.session).await;
            let session = watcher.session.clone();
            let log = watcher.finish(baton).await;
            for (task, done) in tasks.iter().enumerate() {
                let task = task + 1;
                let file = self.project.join(format!("{name}.{task}"));
                let text = std::fs::read_to_string(file).unwrap();
                note_effects(&history, &done.input, text.lines().count());
                for _ in text.lines() {
                    let prompt = done.prompt.clone();
                    history.note(&name, Fact::Acted { prompt });
                }
                assert_eq!(text, "x\n", "{name}: task {task} was done once");
            }
            let inputs: Vec<String> = tasks.iter().map(|done| done.input.clone()).collect();
            note_inputs(&history, &session, &inputs, &log);
            let tasks = tasks.len();
            let times = |is: fn(&EventBody) -> bool| count(&log, is);
            assert_eq!(times(|body| matches!(body, EventBody::Gap { .. })), 0);
            assert_eq!(
                times(|body| matches!(body, EventBody::TurnStarted { .. })),
                tasks
            );
            assert_eq!(
                times(|body| matches!(body, EventBody::TurnEnded { .. })),
                tasks
            );
            assert_eq!(
                times(|body| matches!(body, EventBody::PromptRequested { .. })),
                tasks
            );
            assert_eq!(
                times(|body| matches!(body, EventBody::PromptAnswered { .. })),
                tasks
            );
            assert_eq!(times(is_applied_answer), tasks);
            assert_eq!(times(is_applied_input), tasks);
            total += log.len();
        }
        note_panics(baton);
        history.validate_and_tell();
        total
    }
}

/// Notes what of the processes' logs is a panic.
fn note_panics(baton: &Baton) {
    for process in ["server", "daemon"] {
        let log = baton.logged(&format!("{process}.log"));
        for line in log.lines().filter(|line| line.contains("panicked at")) {
            let panicked = Fact::Panicked {
                process: process.to_owned(),
                message: line.to_owned(),
            };
            baton.history().note("test", panicked);
        }
    }
}

/// A task that an agent was given and has done.
struct Task {
    input: String,
    prompt: String,
}

fn written(project: &Path, name: &str) -> u64 {
    // Being written to, it may be empty for a moment.
    std::fs::read_to_string(project.join(format!("{name}.count")))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Whether an agent has the answer to its prompt.
pub fn is_applied_answer(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::PromptDelivered {
            delivery: AnswerDelivery::Applied,
            ..
        }
    )
}

/// Whether an agent has an input.
pub fn is_applied_input(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::InputChanged {
            state: InputState::Applied,
            ..
        }
    )
}

/// One who gives an agent tasks and allows what it asks for.
struct User {
    client: Client,
    history: History,
    session: String,
    name: String,
    project: PathBuf,
}

impl User {
    /// Task after task until `stop`.
    async fn work(self, stop: watch::Receiver<bool>) -> Vec<Task> {
        let mut done = Vec::new();
        while !*stop.borrow() {
            done.push(self.task(done.len() + 1).await);
        }
        done
    }

    /// The end of the session's log and of what its daemon says, for the one who looks why.
    async fn told(&self) -> String {
        let request = v1::ListEventsRequest {
            session_id: self.session.clone(),
            page_size: 1000,
            ..Default::default()
        };
        let events = self
            .client
            .list_events(request)
            .await
            .map(|page| page.events);
        let events = events.unwrap_or_default();
        let log = std::fs::read_to_string(self.project.join("../daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "events: {:#?}\ndaemon: {:#?}",
            &events[events.len().saturating_sub(12)..],
            &lines[lines.len().saturating_sub(30)..]
        )
    }

    async fn task(&self, task: usize) -> Task {
        let file = format!("{}.{task}", self.name);
        let input = v1::SendInputRequest {
            request_id: format!("send-{file}"),
            session_id: self.session.clone(),
            text: format!("stream: 5 30\nrun: echo x >> {file}"),
            ..Default::default()
        };
        let sent = insist("an input", || self.client.send_input(input.clone()));
        let input = sent.await.unwrap().input.unwrap().id;
        note_given(&self.history, &self.session, &input);
        let pending = v1::ListPromptsRequest {
            session_id: self.session.clone(),
            states: vec![v1::PromptState::Pending.into()],
            ..Default::default()
        };
        let asked = eventually("a prompt", || async {
            let prompts = self
                .client
                .list_prompts(pending.clone())
                .await
                .ok()?
                .prompts;
            assert!(prompts.len() <= 1, "one task asks once: {prompts:?}");
            prompts.into_iter().next()
        });
        let patience = PATIENCE.mul_f32(0.9);
        let Ok(prompt) = tokio::time::timeout(patience, asked).await else {
            panic!("{file} is not asked for; {}", self.told().await);
        };
        let answer = allow(&prompt.id, &format!("answer-{file}"));
        insist("an answer", || self.client.answer_prompt(answer.clone()))
            .await
            .unwrap();
        note_answer(&self.history, &prompt.id, &answer.request_id, "accepted");
        let path = self.project.join(&file);
        let done = eventually("what was allowed is done", || async {
            path.exists().then_some(())
        });
        if tokio::time::timeout(patience, done).await.is_err() {
            panic!("{file} was allowed and is not there; {}", self.told().await);
        }
        let prompt = prompt.id;
        Task { input, prompt }
    }
}

/// Notes an answer that allows, and what it was told.
pub fn note_answer(history: &History, prompt: &str, by: &str, told: &str) {
    let fact = Fact::Answered {
        prompt: prompt.to_owned(),
        by: by.to_owned(),
        allow: true,
        told: told.to_owned(),
    };
    history.note(by, fact);
}

/// A program that repeats what it is told.
pub async fn repeater(baton: &Baton, name: &str) -> v1::Session {
    script(baton, REPEAT, name).await
}
