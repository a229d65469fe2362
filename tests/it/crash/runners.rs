//! Runners are killed at each of their fault points: their sessions end as crashed, what was recorded is in the log once,
//! what was accepted has an outcome and at most one effect, and no process stays.
//!
//! `BATON_TEST_POINT` runs one point only.

use baton::daemon::kin;
use baton::daemon::runner::fault;
use baton::daemon::runner::spec::SESSION_VARIABLE;
use baton::domain::{EndReason, EventBody, InputState};
use baton::store::conformance;
use baton::wire::v1;

use super::load::{
    Chance, Watcher, ended, hash_of, insist, lines, note_effects, note_given, note_inputs, repeater,
};
use crate::history::{Fact, History};
use crate::support::baton::{Baton, eventually};

/// Inputs that are sent to a program whose runner is about to die.
const INPUTS: usize = 6;

#[tokio::test]
async fn a_runner_killed_at_every_point_is_a_crash_that_doubles_nothing() {
    let mut baton = Baton::start_with(History::on_disk("runner-points")).await;
    let history = baton.history();
    let mut chance = Chance::new("runner points");
    let only = std::env::var("BATON_TEST_POINT").ok();
    let rounds = (conformance::rounds(20) / 20).max(1);
    for round in 0..rounds {
        for point in fault::ALL {
            if only.as_ref().is_some_and(|only| only != point) {
                continue;
            }
            let passes = match *point {
                fault::BEFORE_SPAWN | fault::AFTER_SPAWN => 0,
                // Started, and a line and a write for each input.
                fault::BEFORE_RECORD | fault::AFTER_RECORD => chance.below(8),
                _ => chance.below(4),
            };
            println!("{point}, after {passes} passes");
            let fault = format!("{point}={passes}");
            baton.kill_daemon();
            let variables = [("BATON_FAULT_RUNNER", fault.as_str())];
            baton.start_daemon_with(&variables).await;
            let name = format!("{}-{round}", point.replace("::", "-"));
            dies(&baton, &name).await;
            history.note("test", Fact::killed_at("runner", point));
        }
    }
    history.validate_and_tell();
}

fn is_final(state: InputState) -> bool {
    !matches!(state, InputState::Queued | InputState::Delivered)
}

/// A session whose runner dies while inputs are sent to it.
async fn dies(baton: &Baton, name: &str) {
    let history = baton.history();
    let session = repeater(baton, name).await.id;
    let watcher = Watcher::new(baton, &session);
    let (mut texts, mut inputs) = (Vec::new(), Vec::new());
    for number in 0..INPUTS {
        let text = format!("{name} {number}");
        let request = v1::SendInputRequest {
            request_id: format!("{name}-{number}"),
            session_id: session.clone(),
            text: text.clone(),
            ..Default::default()
        };
        let client = baton.client();
        // Once it is known that the session has ended, it takes nothing any more.
        let Ok(sent) = insist("an input", || client.send_input(request.clone())).await else {
            break;
        };
        let input = sent.input.unwrap().id;
        note_given(&history, &session, &input);
        texts.push(text);
        inputs.push(input);
    }
    let end = ended(baton, &session).await;
    assert_eq!(end.reason, EndReason::Crashed, "{end:?}");
    eventually("what it left is gone", || async {
        kin::marked(SESSION_VARIABLE, &session)
            .is_empty()
            .then_some(())
    })
    .await;
    // Of every input it is known what became of it.
    let open = |input: &str, log: &[baton::domain::Event]| {
        !log.iter().any(|event| {
            matches!(&event.body, EventBody::InputChanged { input_id, state, .. }
                if input_id.to_string() == *input && is_final(*state))
        })
    };
    let log = eventually("every input has an outcome", || async {
        let log = baton.events(&session).await;
        (!inputs.iter().any(|input| open(input, &log))).then_some(log)
    })
    .await;
    watcher.finish(baton).await;
    note_inputs(&history, &session, &inputs, &log);
    let got = baton.project().join(format!("{name}.got"));
    let got = std::fs::read_to_string(got).unwrap_or_default();
    let mut answers = Vec::new();
    for (text, input) in texts.iter().zip(&inputs) {
        let times = got.lines().filter(|line| line == text).count();
        note_effects(&history, input, times);
        // The program may die with its runner before it reads what it was given.
        let command = input.clone();
        history.note("test", Fact::Doubted { command });
        let answer = format!("got {text}");
        let item = answer.clone();
        let wrote = Fact::Wrote {
            log: format!("lines of {session}"),
            item,
            may_miss: true,
        };
        history.note("program", wrote);
        answers.push(answer);
    }
    // What it said last may have died with it, and nothing in the middle.
    let lines: Vec<String> = lines(&log).into_iter().map(str::to_owned).collect();
    assert!(answers.starts_with(&lines), "{lines:?} of {answers:?}");
    let held = Fact::Holds {
        log: format!("lines of {session}"),
        items: lines,
        whole: false,
    };
    history.note("test", held);
    let stored = Fact::Stored {
        log: session.clone(),
        epoch: 1,
        first: 1,
        hashes: log.iter().map(hash_of).collect(),
    };
    history.note("test", stored);
    let left = Fact::Left {
        session,
        pids: Vec::new(),
    };
    history.note("test", left);
}
