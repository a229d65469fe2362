//! What is killed with SIGKILL loses nothing, doubles nothing, and shows nothing that is not kept.
//!
//! `BATON_TEST_ROUNDS` says how often servers and daemons are killed, `BATON_TEST_SEED` repeats the
//! points at which they are.

pub mod load;
#[cfg(feature = "failpoints")]
mod points;
mod power;
#[cfg(feature = "failpoints")]
mod runners;

use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use baton::base::Code;
use baton::daemon::kin;
use baton::daemon::runner::spec::{MARKER_VARIABLE, SESSION_VARIABLE};
use baton::domain::{EndReason, EventBody, Lifecycle};
use baton::wire::v1;
use nix::sys::signal::Signal;

use self::load::{
    Chance, Load, Watcher, allow, count, end, ended, is_applied_answer, is_applied_input, lines,
    lives, note_answer, note_effects, note_given, note_inputs, note_lines, pid, repeater, rounds,
    script,
};
use crate::history::{Fact, History};
use crate::support::baton::{Baton, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_anywhere_loses_doubles_and_invents_nothing() {
    let mut baton = Baton::start_with(History::on_disk("server")).await;
    let mut chance = Chance::new("server");
    let load = Load::start(&baton, 3, 2).await;
    let begun = Instant::now();
    let rounds = rounds(50);
    for round in 0..rounds {
        if round % 3 == 2 {
            // A link that never lives for five seconds is dialled again after up to four; a new daemon begins
            // with short pauses.
            baton.kill_daemon();
            baton.start_daemon().await;
        }
        // Mostly while events flow, sometimes while it starts and daemons link.
        if chance.below(4) > 0 {
            let watcher = load.counter(chance.below(3));
            watcher.moves_on(watcher.seen()).await;
        }
        chance.moment(300).await;
        baton.kill_server();
        if chance.below(4) == 0 {
            // And again before it is up.
            baton.spawn_server();
            chance.moment(200).await;
            baton.kill_server();
        }
        baton.start_server().await;
    }
    let events = load.finish(&baton).await;
    println!("{rounds} rounds in {:?}: {events} events", begun.elapsed());
    assert!(baton.history().kills() as u64 >= rounds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_anywhere_keeps_its_agents_and_their_output() {
    let mut baton = Baton::start_with(History::on_disk("daemon")).await;
    let history = baton.history();
    let mut chance = Chance::new("daemon");
    let load = Load::start(&baton, 2, 1).await;
    let told = repeater(&baton, "told").await;
    let watcher = Watcher::new(&baton, &told.id);
    let pids = load.pids().await;
    let begun = Instant::now();
    let rounds = rounds(50);
    let (mut sent, mut inputs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if chance.below(4) > 0 {
            let watcher = load.counter(chance.below(2));
            watcher.moves_on(watcher.seen()).await;
        }
        chance.moment(300).await;
        baton.kill_daemon();
        // What is written and what is sent while nobody is there comes later.
        let before = load.written(0);
        for text in [format!("{round} a"), format!("{round} b")] {
            let input = send(&baton, &told.id, &text).await;
            note_given(&history, &told.id, &input);
            inputs.push(input);
            sent.push(text);
        }
        eventually("the program writes on", || async {
            (load.written(0) > before).then_some(())
        })
        .await;
        baton.start_daemon().await;
    }
    assert_eq!(load.pids().await, pids);
    assert!(
        pids.iter().all(|pid| lives(*pid)),
        "the same processes still run"
    );
    sent.push("bye".to_owned());
    let input = send(&baton, &told.id, "bye").await;
    note_given(&history, &told.id, &input);
    inputs.push(input);
    let log = watcher.finish(&baton).await;
    let got = std::fs::read_to_string(baton.project().join("told.got")).unwrap();
    for (text, input) in sent.iter().zip(&inputs) {
        let times = got.lines().filter(|line| line == text).count();
        note_effects(&history, input, times);
    }
    note_inputs(&history, &told.id, &inputs, &log);
    assert_eq!(
        got.lines().collect::<Vec<_>>(),
        sent,
        "each input once, in order"
    );
    let repeated: Vec<String> = sent.iter().map(|text| format!("got {text}")).collect();
    note_lines(&history, &told.id, &repeated, &log);
    assert_eq!(lines(&log), repeated);
    assert_eq!(count(&log, is_applied_input), sent.len());
    pid(&baton.project(), "told").await;
    let events = load.finish(&baton).await;
    println!("{rounds} rounds in {:?}: {events} events", begun.elapsed());
    assert!(history.kills() as u64 >= rounds);
}

/// A program that starts another in a session of its own, and waits.
const PARENT: &str = r#"
setsid sleep 100000 & echo $! > "$1.child"
echo ready
echo $$ >> "$1.pid"
while :; do sleep 1; done
"#;

#[tokio::test]
async fn a_killed_runner_is_a_crash_and_nothing_of_it_stays() {
    let mut baton = Baton::start_with(History::on_disk("runner")).await;
    let history = baton.history();
    let mut foreign = Command::new("sleep")
        .arg("100000")
        .current_dir(baton.project())
        .env(MARKER_VARIABLE, "another")
        .spawn()
        .unwrap();
    for daemon_lives in [true, false] {
        let name = format!("runner-{daemon_lives}");
        let session = script(&baton, PARENT, &name).await;
        let harness = pid(&baton.project(), &name).await;
        let child = std::fs::read_to_string(baton.project().join(format!("{name}.child")));
        let child: i32 = child.unwrap().trim().parse().unwrap();
        baton
            .wait_for(
                &session.id,
                "it is ready",
                |body| matches!(body, EventBody::Output { text, .. } if text == "ready"),
            )
            .await;
        assert!(lives(harness) && lives(child));
        if !daemon_lives {
            baton.kill_daemon();
        }
        kill(parent(harness));
        history.note("test", Fact::killed("runner"));
        if !daemon_lives {
            baton.start_daemon().await;
        }
        let end = ended(&baton, &session.id).await;
        assert_eq!(end.reason, EndReason::Crashed, "{end:?}");
        assert!(end.message.contains("the runner died"), "{end:?}");
        eventually("what it left is gone", || async {
            (!lives(harness) && !lives(child)).then_some(())
        })
        .await;
        let left = kin::marked(SESSION_VARIABLE, &session.id);
        assert!(left.is_empty(), "{left:?}");
        let left = Fact::Left {
            session: session.id,
            pids: left.iter().map(|process| process.pid).collect(),
        };
        history.note("test", left);
        assert!(foreign.try_wait().unwrap().is_none(), "it is not ours");
    }
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    history.validate_and_tell();
}

/// The server dies while a session's pump is about to hand a record to the link, which is not there any more then.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_link_that_goes_while_a_record_is_handed_over_holds_nothing_up() {
    let held = format!("{}=sleep(50)", baton::daemon::session::fault::BEFORE_PUSH);
    let mut baton = Baton::new().daemon_env("BATON_FAULT", held);
    baton.start_server().await;
    baton.start_daemon().await;
    let session = baton.session("demo", "say: first").await.id;
    baton.turns(&session, 1).await;
    for round in 0..rounds(10).min(50) {
        let said = format!("stream: 3 10\nsay: {round}");
        let input = baton.say(&session, &said).await;
        baton
            .wait_for(&session, "the turn begins", |body| {
                matches!(body, EventBody::TurnStarted { input_ids, .. }
                    if input_ids.iter().any(|id| id.to_string() == input.id))
            })
            .await;
        baton.kill_server();
        baton.start_server().await;
        let turns = 2 + usize::try_from(round).unwrap();
        baton.turns(&session, turns).await;
    }
}

/// A daemon that was killed reads again what the one before it had read and told. The answer to a prompt that is in
/// there comes sooner than the prompt itself.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn an_answer_waits_for_its_prompt_to_be_read_again() {
    let slow = format!("{}=sleep(50)", baton::daemon::session::fault::BEFORE_RECORD);
    let mut baton = Baton::start().await;
    let session = baton.session("demo", "say: first").await.id;
    baton.turns(&session, 1).await;
    for round in 0..rounds(3).min(50) {
        let file = baton.project().join(format!("allowed-{round}"));
        let run = format!("stream: 20 5\nrun: touch {}", file.display());
        baton.say(&session, &run).await;
        let prompt = baton.prompt(&session).await;
        baton.kill_daemon();
        let answer = allow(&prompt.id, &format!("answer-{round}"));
        baton.client().answer_prompt(answer).await.unwrap();
        baton.start_daemon_with(&[("BATON_FAULT", &slow)]).await;
        eventually("what was allowed is done", || async {
            file.exists().then_some(())
        })
        .await;
        baton.kill_daemon();
        baton.start_daemon().await;
    }
}

#[tokio::test]
async fn a_killed_client_changes_nothing() {
    let baton = Baton::start_with(History::on_disk("client")).await;
    let history = baton.history();
    let load = Load::start(&baton, 1, 1).await;
    load.counter(0).moves_on(0).await;
    let session = load.counter(0).session().to_owned();
    for _ in 0..rounds(5).min(20) {
        let mut client = baton
            .cli(&["logs", "--follow", &session])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(client.stdout.take().unwrap());
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            for _ in 0..30 {
                line.clear();
                output.read_line(&mut line).unwrap();
                assert!(!line.is_empty(), "the follow ended");
            }
        });
        read.await.unwrap();
        client.kill().unwrap();
        client.wait().unwrap();
        history.note("test", Fact::killed("client"));
        let watcher = load.counter(0);
        watcher.moves_on(watcher.seen()).await;
    }
    load.finish(&baton).await;
}

#[tokio::test]
async fn a_client_killed_while_it_sends_has_sent_once_or_not_at_all() {
    let baton = Baton::start_with(History::on_disk("sender")).await;
    let history = baton.history();
    let mut chance = Chance::new("sender");
    let session = repeater(&baton, "told").await.id;
    let watcher = Watcher::new(&baton, &session);
    let rounds = rounds(10).min(100);
    let mut accepted = 0;
    for round in 0..rounds {
        let text = format!("round {round}");
        let mut client = baton.cli(&["send", &session, &text]);
        let mut client = client.stdout(Stdio::null()).spawn().unwrap();
        // As long as one takes that is not killed, more or less.
        chance.moment(120).await;
        let was_done = matches!(client.try_wait(), Ok(Some(status)) if status.success());
        client.kill().unwrap();
        client.wait().unwrap();
        accepted += u64::from(was_done);
        if !was_done {
            history.note("test", Fact::killed("client"));
        } else {
            let promised = Fact::Promised {
                log: "texts".to_owned(),
                item: text,
            };
            history.note("client", promised);
        }
    }
    send(&baton, &session, "bye").await;
    let log = watcher.finish(&baton).await;
    let (mut inputs, mut texts) = (Vec::new(), Vec::new());
    for event in &log {
        if let EventBody::InputAccepted { input_id, text, .. } = &event.body {
            note_given(&history, &session, &input_id.to_string());
            inputs.push(input_id.to_string());
            texts.push(text.clone());
        }
    }
    let got = std::fs::read_to_string(baton.project().join("told.got")).unwrap();
    for (text, input) in texts.iter().zip(&inputs) {
        let times = got.lines().filter(|line| line == text).count();
        note_effects(&history, input, times);
    }
    note_inputs(&history, &session, &inputs, &log);
    // Each text once at most, in the order of the rounds.
    for round in 0..rounds {
        let wrote = Fact::Wrote {
            log: "texts".to_owned(),
            item: format!("round {round}"),
            may_miss: true,
        };
        history.note("client", wrote);
    }
    assert_eq!(texts.pop().as_deref(), Some("bye"));
    // Rounds that were killed too early are holes, and said to be.
    let items = texts
        .iter()
        .flat_map(|text| ["gap".to_owned(), text.clone()]);
    let holds = Fact::Holds {
        log: "texts".to_owned(),
        items: items.chain(["gap".to_owned()]).collect(),
        whole: true,
    };
    history.note("test", holds);
    history.validate_and_tell();
    println!(
        "of {rounds} that were sent {} came and {accepted} knew it",
        texts.len()
    );
}

#[tokio::test]
async fn a_prompt_outlives_server_and_daemon_and_is_answered_once() {
    let mut baton = Baton::start_with(History::on_disk("prompt")).await;
    let history = baton.history();
    let mut prompts = Vec::new();
    let session = baton.session("demo", "run: echo x >> first").await;
    let asked = eventually("a prompt", || async {
        baton.pending(&session.id).await.pop()
    })
    .await;
    baton.kill_server();
    baton.start_server().await;
    baton.kill_daemon();
    baton.start_daemon().await;
    let pending = baton.pending(&session.id).await;
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].id, asked.id);
    answer_twice(&baton, &asked.id).await;
    prompts.push(asked.id);
    let project = baton.project();
    eventually("what was allowed is done", || async {
        project.join("first").exists().then_some(())
    })
    .await;

    // The next one is answered while the daemon is away, and then the server goes too.
    send(&baton, &session.id, "run: echo x >> second").await;
    let asked = eventually("a second prompt", || async {
        baton.pending(&session.id).await.pop()
    })
    .await;
    baton.kill_daemon();
    answer_twice(&baton, &asked.id).await;
    prompts.push(asked.id);
    baton.kill_server();
    baton.start_server().await;
    baton.start_daemon().await;
    let turns = || async {
        let log = baton.events(&session.id).await;
        let turns = count(&log, |body| matches!(body, EventBody::TurnEnded { .. }));
        (turns == 2).then_some(log)
    };
    eventually("two turns", turns).await;
    end(&baton, &session.id).await;
    let log = baton.events(&session.id).await;
    let times = |is: fn(&EventBody) -> bool| count(&log, is);
    assert_eq!(
        times(|body| matches!(body, EventBody::PromptRequested { .. })),
        2
    );
    assert_eq!(
        times(|body| matches!(body, EventBody::PromptAnswered { .. })),
        2
    );
    assert_eq!(times(is_applied_answer), 2);
    for (file, prompt) in ["first", "second"].into_iter().zip(prompts) {
        let text = std::fs::read_to_string(project.join(file)).unwrap();
        for _ in text.lines() {
            let prompt = prompt.clone();
            history.note("agent", Fact::Acted { prompt });
        }
        assert_eq!(text, "x\n", "{file}");
    }
    history.validate_and_tell();
}

#[tokio::test]
async fn a_lost_session_that_is_found_goes_on() {
    let mut baton = Baton::new()
        .with_history(History::on_disk("lost"))
        .server_flags(&["--grace", "2s"]);
    let history = baton.history();
    baton.start_server().await;
    baton.start_daemon().await;
    let session = script(
        &baton,
        r#"echo $$ >> "$1.pid"; echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; read -r line; echo "$line""#,
        "lost",
    )
    .await;
    baton
        .wait_for(
            &session.id,
            "it runs",
            |body| matches!(body, EventBody::Output { text, .. } if text == "one"),
        )
        .await;
    let process = pid(&baton.project(), "lost").await;
    let runs = |pid| {
        let session = session.id.clone();
        history.note("test", Fact::Runs { session, pid });
    };
    let told = |end: &baton::domain::EndInfo| {
        let fact = Fact::Ended {
            log: session.id.clone(),
            reason: end.reason.as_str().to_owned(),
        };
        history.note("server", fact);
    };
    runs(process);
    baton.kill_daemon();
    let vanished = Fact::Vanished {
        machine: "daemon".to_owned(),
        logs: vec![session.id.clone()],
    };
    history.note("test", vanished);
    let end = ended(&baton, &session.id).await;
    told(&end);
    assert_eq!(end.reason, EndReason::Lost);
    assert!(lives(process));
    // Written while it counts as lost.
    std::fs::write(baton.project().join("go"), "").unwrap();
    baton.start_daemon().await;
    baton
        .wait_for(&session.id, "it runs again", |body| {
            matches!(
                body,
                EventBody::LifecycleChanged {
                    from: Lifecycle::Ended,
                    to: Lifecycle::Running
                }
            )
        })
        .await;
    send(&baton, &session.id, "three").await;
    let log = eventually("it finishes", || async {
        let log = baton.events(&session.id).await;
        let ends = count(&log, |body| matches!(body, EventBody::Ended { .. }));
        (ends == 2).then_some(log)
    })
    .await;
    assert_eq!(lines(&log), ["one", "two", "three"]);
    let last = log.iter().rev().find_map(|event| match &event.body {
        EventBody::Ended { end } => Some(end.clone()),
        _ => None,
    });
    let last = last.unwrap();
    told(&last);
    assert_eq!(last.reason, EndReason::Completed);
    runs(pid(&baton.project(), "lost").await);
    let wrote = ["one", "two", "three"].map(str::to_owned);
    note_lines(&history, &session.id, &wrote, &log);
    history.validate_and_tell();
}

#[tokio::test]
async fn a_session_whose_start_waits_for_its_daemon_is_never_lost() {
    let mut baton = Baton::new().server_flags(&["--grace", "1s"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let old = repeater(&baton, "old").await;
    let is_running = |body: &EventBody| matches!(body, EventBody::Started { .. });
    baton.wait_for(&old.id, "it runs", is_running).await;
    baton.freeze_daemon();
    let waiting = baton.session("demo", "say: hello").await;
    baton.kill_daemon();
    // The same grace period is over for both, but only one of them has begun.
    assert_eq!(ended(&baton, &old.id).await.reason, EndReason::Lost);
    baton.kill_server();
    baton.start_server().await;
    baton.start_daemon().await;
    let is_turn = |body: &EventBody| matches!(body, EventBody::TurnEnded { .. });
    baton.wait_for(&waiting.id, "its turn", is_turn).await;
    let log = baton.events(&waiting.id).await;
    let lifecycles: Vec<_> = log
        .iter()
        .filter_map(|event| match event.body {
            EventBody::LifecycleChanged { to, .. } => Some(to),
            _ => None,
        })
        .collect();
    assert_eq!(lifecycles, [Lifecycle::Starting, Lifecycle::Running]);
    end(&baton, &waiting.id).await;
}

#[tokio::test]
async fn a_lost_session_that_was_given_up_is_ended_when_it_is_found() {
    let mut baton = Baton::new().server_flags(&["--grace", "2s"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let old = baton.session("demo", "say: hello").await;
    baton
        .wait_for(&old.id, "a turn", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let processes = kin::marked(SESSION_VARIABLE, &old.id);
    assert!(!processes.is_empty());
    baton.kill_daemon();
    assert_eq!(ended(&baton, &old.id).await.reason, EndReason::Lost);
    let resume = |force| v1::ResumeSessionRequest {
        session_id: old.id.clone(),
        input: "recall:".to_owned(),
        force,
        ..Default::default()
    };
    let refused = baton
        .client()
        .resume_session(resume(false))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState, "{refused:?}");
    let resumed = baton.client().resume_session(resume(true)).await.unwrap();
    let new = resumed.session.unwrap();
    assert!(processes.iter().all(|process| process.is_alive()));
    baton.start_daemon().await;
    eventually("the old process is gone", || async {
        kin::marked(SESSION_VARIABLE, &old.id)
            .is_empty()
            .then_some(())
    })
    .await;
    baton
        .wait_for(&new.id, "the new one works", |body| {
            matches!(
                body,
                EventBody::TurnEnded {
                    is_error: false,
                    ..
                }
            )
        })
        .await;
    let log = baton.events(&old.id).await;
    assert_eq!(
        count(&log, |body| matches!(
            body,
            EventBody::LifecycleChanged {
                from: Lifecycle::Ended,
                to: Lifecycle::Running
            }
        )),
        0,
        "what was given up does not come back"
    );
    end(&baton, &new.id).await;
}

#[tokio::test]
async fn a_conversation_has_one_writer_also_with_two_daemons() {
    let mut baton = Baton::new().server_flags(&["--grace", "2s"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let old = baton.session("demo", "say: hello").await;
    let other = baton.start_other_daemon().await;
    assert_ne!(old.daemon_id, other);
    baton
        .wait_for(&old.id, "a turn", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let first = kin::marked(SESSION_VARIABLE, &old.id);
    assert!(!first.is_empty());
    let client = baton.client();
    let resume = |force| {
        client.resume_session(v1::ResumeSessionRequest {
            session_id: old.id.clone(),
            input: "recall:".to_owned(),
            force,
            ..Default::default()
        })
    };
    let refused = |error: baton::base::Error| {
        assert_eq!(error.code(), Code::InvalidState, "{error:?}");
    };

    // It runs: neither is there a second writer, whatever is asked for.
    refused(resume(false).await.unwrap_err());
    refused(resume(true).await.unwrap_err());

    // Its daemon is away, and its process lives: the other daemon does not get it, not even by force. What is
    // forced waits for the daemon that has the conversation, which ends the old process first.
    baton.kill_daemon();
    assert_eq!(ended(&baton, &old.id).await.reason, EndReason::Lost);
    refused(resume(false).await.unwrap_err());
    let new = resume(true).await.unwrap().session.unwrap();
    assert_eq!(new.daemon_id, old.daemon_id);
    let again = resume(true).await.unwrap_err();
    assert_eq!(again.code(), Code::SessionExists, "{again:?}");
    assert!(first.iter().all(|process| process.is_alive()));
    assert!(kin::marked(SESSION_VARIABLE, &new.id).is_empty());
    baton.start_daemon().await;
    let second = eventually("the new process runs", || async {
        let second = kin::marked(SESSION_VARIABLE, &new.id);
        // Seen in this order: while the new one is there, the old one must not be.
        assert!(second.is_empty() || kin::marked(SESSION_VARIABLE, &old.id).is_empty());
        (!second.is_empty()).then_some(second)
    })
    .await;
    baton
        .wait_for(&new.id, "the new one works", |body| {
            matches!(
                body,
                EventBody::TurnEnded {
                    is_error: false,
                    ..
                }
            )
        })
        .await;
    assert!(second.iter().any(|process| process.is_alive()));
    assert!(first.iter().all(|process| !process.is_alive()));
    end(&baton, &new.id).await;
}

/// Sends an input; its id.
async fn send(baton: &Baton, session: &str, text: &str) -> String {
    let request = v1::SendInputRequest {
        session_id: session.to_owned(),
        text: text.to_owned(),
        ..Default::default()
    };
    let sent = baton.client().send_input(request).await.unwrap();
    sent.input.unwrap().id
}

/// Two answers at once: one wins, the other is told so.
async fn answer_twice(baton: &Baton, prompt: &str) {
    let client = baton.client();
    let (first, second) = tokio::join!(
        client.answer_prompt(allow(prompt, "")),
        client.answer_prompt(allow(prompt, ""))
    );
    for (by, told) in [("first", &first), ("second", &second)] {
        let told = told
            .as_ref()
            .map_or_else(|error| error.code().as_str(), |_| "accepted");
        note_answer(&baton.history(), prompt, by, told);
    }
    let errors: Vec<_> = [first.err(), second.err()].into_iter().flatten().collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].code(), Code::PromptAnswered, "{errors:?}");
}

/// The process that started this one.
pub fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    after_name.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Kills a process with SIGKILL.
pub fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}
