//! Many at once: readers of whom some read slowly or nothing (L1), callers who ask for too much (L5), and machines that
//! all come back after a restart of the server (L6).

use std::time::Duration;

use baton::base::{Code, Secret};
use baton::client::Client;
use baton::daemon::{Daemon, Options, ServerAddress};
use baton::domain::EventBody;
use baton::wire::v1;
use baton::wire::v1::watch_response::Body;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::crash::load::{hash_of, lines, note_lines, note_log};
use crate::history::{Fact, History};
use crate::support::baton::{Baton, PATIENCE, eventually};
use crate::support::sessions::watch;

type Stream = tonic::Streaming<v1::WatchResponse>;

/// A reader of a session, who notes what it sees.
struct Reader {
    who: String,
    log: String,
    stream: Stream,
    history: History,
    last: u64,
}

impl Reader {
    async fn open(baton: &Baton, client: &Client, session: &str, who: String) -> Self {
        let stream = watch(client, session, 0, 0).await.unwrap();
        let history = baton.history();
        let log = session.to_owned();
        let opened = Fact::Opened {
            log: log.clone(),
            after: 0,
        };
        history.note(&who, opened);
        Reader {
            who,
            log,
            stream,
            history,
            last: 0,
        }
    }

    /// Reads one message; whether there is more.
    async fn read(&mut self, head: u64) -> bool {
        let log = || self.log.clone();
        let tell = |fact| self.history.note(&self.who, fact);
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        match message.expect("in time") {
            Ok(Some(message)) => match message.body.unwrap() {
                Body::Events(batch) => {
                    for event in batch.events().unwrap() {
                        self.last = event.seq;
                        let event = baton::wire::event::event_from_pb(event).unwrap();
                        tell(Fact::Saw {
                            log: log(),
                            seq: event.seq,
                            hash: hash_of(&event),
                        });
                    }
                }
                Body::Truncated(told) => tell(Fact::Truncated {
                    log: log(),
                    oldest: told.oldest_seq,
                }),
                Body::Progress(_) | Body::Started(_) => {}
                other => panic!("{other:?}"),
            },
            Ok(None) => {
                tell(Fact::Cut {
                    log: log(),
                    code: String::new(),
                });
                return false;
            }
            Err(status) => {
                let code = baton::wire::status::error_from_status(&status).code();
                tell(Fact::Cut {
                    log: log(),
                    code: code.as_str().to_owned(),
                });
                return false;
            }
        }
        if self.last < head {
            return true;
        }
        tell(Fact::CaughtUp {
            log: log(),
            seq: self.last,
        });
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slow_reader_and_one_who_reads_nothing_cost_fifty_others_nothing() {
    beside_slow_readers(Baton::start_with(History::on_disk("slow-readers")).await).await;
}

/// What comes during a slow commit goes into the next, and no more than a reader may take at once.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_cost_no_more_where_commits_are_slow() {
    let mut baton = Baton::new().with_history(History::on_disk("slow-commits"));
    baton.spawn_server_with(&[("BATON_FAULT", "store::mid_projection=sleep(10)")]);
    baton.server_answers().await;
    baton.start_daemon().await;
    beside_slow_readers(baton).await;
}

async fn beside_slow_readers(baton: Baton) {
    const OTHERS: usize = 50;
    const LINES: usize = 600;
    let history = baton.history();
    let script = format!(
        r#"s=$(head -c 8000 /dev/zero | tr '\0' x); read word; i=0
        while [ $i -lt {LINES} ]; do i=$((i + 1)); echo "$i $s"; done"#
    );
    let session = baton.create(baton.shell(&script)).await;
    // Who reads nothing and who is slow have connections of their own, as browsers on other machines have.
    let mut idle = Reader::open(&baton, &baton.client(), &session, "idle".to_owned()).await;
    let mut slow = Reader::open(&baton, &baton.client(), &session, "slow".to_owned()).await;
    let shared = baton.client();
    let open =
        (0..OTHERS).map(|at| Reader::open(&baton, &shared, &session, format!("reader {at}")));
    let mut readers = join_all(open).await;
    let before = baton.server_memory();
    baton.say(&session, "go").await;
    baton.reaches(&session, v1::Lifecycle::Ended).await;
    let log = baton.events(&session).await;
    let head = log.last().unwrap().seq;
    // The others have all of it while the slow one has read a few messages and the idle one none.
    for _ in 0..3 {
        assert!(slow.read(head).await);
    }
    let reading = readers
        .iter_mut()
        .map(async |reader| while reader.read(head).await {});
    join_all(reading).await;
    let grown = baton.server_memory().saturating_sub(before);
    let measured = Fact::Measured {
        what: "bytes that the server grew by".to_owned(),
        value: grown,
        // What was written is 4.8 MB; each reader for itself would be 250 MB.
        bound: 120 << 20,
    };
    history.note("test", measured);
    while slow.read(head).await {}
    while idle.read(head).await {}
    note_log(&history, "test", &session, &log);
    assert_eq!(lines(&log).len(), LINES);
    history.validate();
    println!("the server grew by {} KiB", grown >> 10);
}

/// How many messages bring a reader what a session says in the course of a second and more, from a server that gathers
/// for so long.
async fn messages_of_a_busy_session(readers: usize, gather: &str) -> usize {
    const LINES: usize = 40;
    let mut baton = Baton::new()
        .server_flags(&["--set", &format!("readers.gather={gather}")])
        .with_history(History::on_disk(&format!("gathered-{readers}-{gather}")));
    baton.start_server().await;
    baton.start_daemon().await;
    let script = format!(
        "read word; i=0; while [ $i -lt {LINES} ]; do i=$((i + 1)); echo $i; sleep 0.03; done"
    );
    let session = baton.create(baton.shell(&script)).await;
    let client = baton.client();
    let open =
        (0..readers).map(|at| Reader::open(&baton, &client, &session, format!("reader {at}")));
    let mut readers = join_all(open).await;
    baton.say(&session, "go").await;
    baton.reaches(&session, v1::Lifecycle::Ended).await;
    let log = baton.events(&session).await;
    let head = log.last().unwrap().seq;
    let reading = readers.iter_mut().map(async |reader| {
        let mut messages = 1;
        while reader.read(head).await {
            messages += 1;
        }
        messages
    });
    let messages = join_all(reading).await;
    assert_eq!(lines(&log).len(), LINES);
    note_log(&baton.history(), "test", &session, &log);
    baton.history().validate();
    *messages.iter().max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_busy_session_says_is_gathered_for_many_readers() {
    let (many, few, at_once) = tokio::join!(
        messages_of_a_busy_session(16, "1s"),
        messages_of_a_busy_session(2, "1s"),
        messages_of_a_busy_session(16, "0s")
    );
    assert!(2 * many < few, "{many} messages, {few} with few readers");
    assert!(2 * many < at_once, "{many} messages, {at_once} without");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_are_told_when_to_come_again_and_the_accepted_ones_are_done() {
    const REQUESTS: usize = 300;
    let flags = [
        "--set",
        "rate.requests_per_second=20",
        "--set",
        "rate.burst=40",
    ];
    let mut baton = Baton::new()
        .with_history(History::on_disk("overload"))
        .server_flags(&flags);
    baton.start_server().await;
    baton.start_daemon().await;
    let history = baton.history();
    let session = baton
        .create(
            baton.shell("while read -r line; do echo \"$line\"; [ \"$line\" = bye ] && exit; done"),
        )
        .await;
    let client = baton.client();
    let ask = |number: usize| {
        let (client, session, history) = (&client, &session, &history);
        async move {
            let id = format!("request {number}");
            let request = v1::SendInputRequest {
                session_id: session.clone(),
                text: id.clone(),
                ..Default::default()
            };
            let told = client.send_input(request).await;
            let (code, retry) = match &told {
                Ok(_) => ("ok", None),
                Err(error) => (error.code().as_str(), error.retry_delay()),
            };
            let retry_ms = retry.map(|retry| u64::try_from(retry.as_millis()).unwrap());
            let fact = Fact::Request {
                id: id.clone(),
                told: code.to_owned(),
                retry_ms,
            };
            history.note("user", fact);
            told.is_ok().then_some(id)
        }
    };
    let told = join_all((0..REQUESTS).map(ask)).await;
    let accepted: Vec<String> = told.into_iter().flatten().collect();
    println!("{} of {REQUESTS} were accepted", accepted.len());
    assert!(!accepted.is_empty() && accepted.len() < REQUESTS / 2);
    // Whoever comes again as they were told gets in.
    let bye = v1::SendInputRequest {
        session_id: session.clone(),
        text: "bye".to_owned(),
        ..Default::default()
    };
    eventually("the last one gets in", || async {
        match client.send_input(bye.clone()).await {
            Ok(_) => Some(()),
            Err(error) => {
                assert_eq!(error.code(), Code::RateLimited, "{error}");
                None
            }
        }
    })
    .await;
    let log = eventually("all is done", || async {
        let request = v1::ListEventsRequest {
            session_id: session.clone(),
            page_size: 1000,
            ..Default::default()
        };
        let page = client.list_events(request).await.ok()?;
        let events = page.events.into_iter();
        let events: Vec<_> = events
            .map(|event| baton::wire::event::event_from_pb(event).unwrap())
            .collect();
        let over = |event: &baton::domain::Event| matches!(event.body, EventBody::Ended { .. });
        events.iter().any(over).then_some(events)
    })
    .await;
    let done = lines(&log);
    for id in done.iter().filter(|line| **line != "bye") {
        let id = (*id).to_owned();
        history.note("program", Fact::Done { id });
    }
    assert_eq!(done.len(), accepted.len() + 1, "each once");
    history.validate();
}

/// A machine of the storm, in this process.
struct Machine {
    name: String,
    shutdown: CancellationToken,
    job: tokio::task::JoinHandle<baton::base::Result<()>>,
}

async fn machine(baton: &Baton, at: usize) -> Machine {
    let name = format!("machine-{at}");
    let join = v1::CreateJoinTokenRequest::default();
    let join = baton.client().create_join_token(join).await.unwrap();
    let server = ServerAddress {
        uri: baton.url(),
        ca: None,
    };
    let mut options = Options::new(baton.dir().join(&name), server);
    options.join_token = Some(Secret::new(&join.secret));
    options.name.clone_from(&name);
    options.policy.roots = vec![baton.project()];
    options.policy.allow_commands = true;
    options.program = Some(env!("CARGO_BIN_EXE_baton").into());
    options.link_limits.backoff = (Duration::from_millis(50), Duration::from_secs(1));
    let daemon = Daemon::open(options).await.unwrap();
    let shutdown = CancellationToken::new();
    let job = tokio::spawn(daemon.run(shutdown.clone()));
    Machine {
        name,
        shutdown,
        job,
    }
}

/// The machines that are linked now, and the epochs of their links.
async fn linked(client: &Client) -> Vec<(String, u64)> {
    let request = v1::ListDaemonsRequest {
        attached_only: true,
        page_size: 1000,
        ..Default::default()
    };
    let listed = client.list_daemons(request).await;
    let daemons = listed.map(|page| page.daemons).unwrap_or_default();
    let linked = daemons
        .into_iter()
        .map(|daemon| (daemon.name, daemon.link_epoch));
    linked.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_machines_that_come_back_is_served_and_nothing_is_lost() {
    const MACHINES: usize = 60;
    const WORKING: usize = 4;
    let mut baton = Baton::new().with_history(History::on_disk("storm"));
    baton.start_server().await;
    let history = baton.history();
    let mut machines = Vec::new();
    for at in 0..MACHINES {
        machines.push(machine(&baton, at).await);
    }
    let client = baton.client();
    let all_are_linked = async |after: &[(String, u64)]| {
        let now = eventually("all machines are linked", || async {
            let now = linked(&client).await;
            // Each by a link that is newer than the one it had.
            let newer = |(name, epoch): &(String, u64)| {
                let before = after.iter().find(|(other, _)| other == name);
                before.is_none_or(|(_, before)| epoch > before)
            };
            (now.len() == MACHINES && now.iter().all(newer)).then_some(now)
        })
        .await;
        for (machine, _) in &now {
            let machine = machine.clone();
            history.note("server", Fact::Linked { machine });
        }
        now
    };
    let mut epochs = all_are_linked(&[]).await;
    let mut sessions = Vec::new();
    for _ in 0..WORKING {
        let script =
            "i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo over";
        sessions.push(baton.create(baton.shell(script)).await);
    }
    for _ in 0..3 {
        let mut seen = Vec::new();
        for session in &sessions {
            let log = eventually("it writes", || async {
                let log = baton.events(session).await;
                (lines(&log).len() > 5).then_some(log)
            })
            .await;
            note_log(&history, "test", session, &log);
            seen.push(log.len());
        }
        baton.kill_server();
        baton.start_server().await;
        epochs = all_are_linked(&epochs).await;
        for (session, seen) in sessions.iter().zip(seen) {
            eventually("it goes on", || async {
                (baton.events(session).await.len() > seen).then_some(())
            })
            .await;
        }
    }
    std::fs::write(baton.project().join("stop"), "").unwrap();
    for session in &sessions {
        baton.reaches(session, v1::Lifecycle::Ended).await;
        let log = baton.events(session).await;
        note_log(&history, "test", session, &log);
        // What it wrote are the numbers from 1, and how many of them only the log knows.
        let wrote = (1..lines(&log).len()).map(|line| line.to_string());
        let wrote: Vec<String> = wrote.chain(["over".to_owned()]).collect();
        note_lines(&history, session, &wrote, &log);
    }
    history.validate_and_tell();
    for machine in machines {
        machine.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, machine.job).await;
        ended
            .expect("it ends")
            .unwrap()
            .unwrap_or_else(|error| panic!("{}: {error}", machine.name));
    }
}
