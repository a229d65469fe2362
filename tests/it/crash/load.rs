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
    seen: Arc<Mutex<Vec<Event>>>,
    job: JoinHandle<()>,
}

impl Watcher {
    /// Follows a session until it ends.
    pub fn new(client: &Client, session: &str) -> Self {
        let id = SessionId::parse("id", session).unwrap();
        let mut follow = client.follow(id, FollowOptions::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        let job = tokio::spawn(async move {
            loop {
                match follow.next().await.unwrap() {
                    Followed::Event(event) => {
                        let over = matches!(event.body, EventBody::Ended { .. });
                        into.lock().push(*event);
                        if over {
                            return;
                        }
                    }
                    Followed::Truncated { oldest } => panic!("nothing before {oldest} is left"),
                    _ => {}
                }
            }
        });
        let session = session.to_owned();
        Watcher { session, seen, job }
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
        // What follows the end (the lifecycle) the reader did not stay for.
        log.truncate(seen.len());
        for (seen, stored) in seen.iter().zip(&log) {
            assert_eq!(seen, stored, "a reader saw what is not in the log");
        }
        log
    }
}

/// Programs and agents at work, each of them watched.
pub struct Load {
    project: PathBuf,
    counters: Vec<(String, Watcher)>,
    agents: Vec<(String, Watcher, JoinHandle<u64>)>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Sets `counters` programs and `agents` agents to work.
    pub async fn start(baton: &Baton, counters: usize, agents: usize) -> Self {
        let stop = watch::Sender::new(false);
        let mut load = Load {
            project: baton.project(),
            counters: Vec::new(),
            agents: Vec::new(),
            stop,
        };
        for index in 0..counters {
            let name = format!("c{index}");
            let session = script(baton, COUNT, &name).await;
            let watcher = Watcher::new(&baton.client(), &session.id);
            load.counters.push((name, watcher));
        }
        for index in 0..agents {
            let name = format!("a{index}");
            let session = baton.session("demo", "").await;
            let watcher = Watcher::new(&baton.client(), &session.id);
            let user = User {
                client: baton.client(),
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
            pids.push(pid(&self.project, name).await);
        }
        pids
    }

    /// Lets all come to its end, and compares what was written, what is in the log and what was seen.
    /// Gives the number of events.
    pub async fn finish(self, baton: &Baton) -> usize {
        std::fs::write(self.project.join("stop"), "").unwrap();
        self.stop.send_replace(true);
        let mut total = 0;
        for (name, watcher) in self.counters {
            let log = watcher.finish(baton).await;
            let written = written(&self.project, &name);
            let expected: Vec<String> = (1..=written)
                .map(|line| format!("{name} line {line}"))
                .chain([format!("{name} over")])
                .collect();
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
            pid(&self.project, &name).await;
            total += log.len();
        }
        for (name, watcher, work) in self.agents {
            let tasks = tokio::time::timeout(PATIENCE, work).await.unwrap().unwrap();
            assert!(tasks > 0, "{name} did nothing");
            end(baton, &watcher.session).await;
            let log = watcher.finish(baton).await;
            let tasks = usize::try_from(tasks).unwrap();
            for task in 1..=tasks {
                let file = self.project.join(format!("{name}.{task}"));
                assert_eq!(
                    std::fs::read_to_string(file).unwrap(),
                    "x\n",
                    "{name}: task {task} was done once"
                );
            }
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
        total
    }
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
    session: String,
    name: String,
    project: PathBuf,
}

impl User {
    /// Task after task until `stop`; gives how many.
    async fn work(self, stop: watch::Receiver<bool>) -> u64 {
        let mut task = 0;
        while !*stop.borrow() {
            task += 1;
            self.task(task).await;
        }
        task
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

    async fn task(&self, task: u64) {
        let file = format!("{}.{task}", self.name);
        let input = v1::SendInputRequest {
            request_id: format!("send-{file}"),
            session_id: self.session.clone(),
            text: format!("stream: 5 30\nrun: echo x >> {file}"),
            ..Default::default()
        };
        insist("an input", || self.client.send_input(input.clone()))
            .await
            .unwrap();
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
        let file = self.project.join(file);
        eventually("what was allowed is done", || async {
            file.exists().then_some(())
        })
        .await;
    }
}

/// A program that repeats what it is told.
pub async fn repeater(baton: &Baton, name: &str) -> v1::Session {
    script(baton, REPEAT, name).await
}
