//! Budgets with the real server, daemon and agent: what is spent is known to the last micro-dollar, and what is spent
//! stops.

use std::process::Output;

use baton::base::Code;
use baton::domain::session::LimitAction;
use baton::domain::{EventBody, InputState};
use baton::wire::v1;
use baton::wire::v1::budget_scope::Of;

use crate::support::baton::{Baton, eventually};

fn money(micros: u64) -> Option<v1::Allowance> {
    Some(v1::Allowance {
        cost_micro_usd: micros,
        ..Default::default()
    })
}

async fn set(baton: &Baton, of: Of, soft: u64, hard: u64) -> v1::Budget {
    let request = v1::SetBudgetRequest {
        scope: Some(v1::BudgetScope { of: Some(of) }),
        soft: money(soft),
        hard: money(hard),
        ..Default::default()
    };
    let set = baton.client().set_budget(request).await.unwrap();
    set.budget.unwrap()
}

async fn budget(baton: &Baton, id: &str) -> v1::Budget {
    let request = v1::GetBudgetRequest {
        budget_id: id.to_owned(),
    };
    let shown = baton.client().get_budget(request).await.unwrap();
    shown.budget.unwrap()
}

async fn usage(baton: &Baton, by: v1::UsageGroup) -> v1::GetUsageResponse {
    let request = v1::GetUsageRequest {
        group_by: by.into(),
        ..Default::default()
    };
    baton.client().get_usage(request).await.unwrap()
}

async fn agent(baton: &Baton, name: &str) -> String {
    let request = v1::CreateAgentRequest {
        request_id: String::new(),
        settings: Some(v1::AgentSettings {
            name: name.to_owned(),
            role: v1::AgentRole::Worker.into(),
            harness: "demo".to_owned(),
            directory: baton.project().to_string_lossy().into_owned(),
            ..Default::default()
        }),
    };
    let made = baton.client().create_agent(request).await.unwrap();
    made.agent.unwrap().id
}

async fn start(baton: &Baton, agent: &str, input: &str) -> Result<String, baton::base::Error> {
    let request = v1::StartAgentRequest {
        agent_id: agent.to_owned(),
        input: input.to_owned(),
        ..Default::default()
    };
    let started = baton.client().start_agent(request).await?;
    Ok(started.session.unwrap().id)
}

async fn refused(baton: &Baton, session: &str) -> baton::base::Error {
    let request = v1::SendInputRequest {
        session_id: session.to_owned(),
        text: "say: more".to_owned(),
        ..Default::default()
    };
    baton.client().send_input(request).await.unwrap_err()
}

async fn parked_by(baton: &Baton, session: &str) -> String {
    let request = v1::GetSessionRequest {
        session_id: session.to_owned(),
    };
    let found = baton.client().get_session(request).await.unwrap();
    found.session.unwrap().parked_by
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_spent_agent_is_parked_refused_and_goes_on_when_its_budget_is_raised() {
    let mut baton = Baton::start().await;
    let alice = agent(&baton, "Alice").await;
    let bob = agent(&baton, "Bob").await;
    let made = set(&baton, Of::AgentId(alice.clone()), 0, 250_000).await;
    let session = start(&baton, &alice, "stream: 100 20\ncost: 0.30\nsay: spent")
        .await
        .unwrap();
    // It waits behind the turn that spends everything.
    let waits = baton.say(&session, "say: later").await;
    baton.turns(&session, 1).await;
    let limit = baton
        .wait_for(&session, "the limit is reached", |body| {
            matches!(
                body,
                EventBody::LimitExceeded {
                    action: LimitAction::Park,
                    ..
                }
            )
        })
        .await;
    let EventBody::LimitExceeded {
        limit,
        value,
        allowed,
        budget_id,
        ..
    } = limit.body
    else {
        panic!("no limit")
    };
    assert_eq!((limit.as_str(), allowed), ("budget_cost", 250_000));
    assert!(value >= 300_000, "{value}");
    assert_eq!(budget_id.unwrap().to_string(), made.id);
    assert_eq!(parked_by(&baton, &session).await, made.id);
    let error = refused(&baton, &session).await;
    assert_eq!(error.code(), Code::BudgetExceeded);
    assert_eq!(error.details()["budget_id"], made.id);
    // Not after a restart of both, either; nor by the back door.
    baton.kill_server();
    baton.kill_daemon();
    baton.start_server().await;
    baton.start_daemon().await;
    assert_eq!(refused(&baton, &session).await.code(), Code::BudgetExceeded);
    assert_eq!(
        baton
            .turns(&session, 1)
            .await
            .iter()
            .filter(|event| matches!(event.body, EventBody::TurnStarted { .. }))
            .count(),
        1
    );
    let other = start(&baton, &bob, "say: mine").await.unwrap();
    baton.turns(&other, 1).await;
    let shown = budget(&baton, &made.id).await;
    assert_eq!(shown.state(), v1::BudgetState::Hard);

    set(&baton, Of::AgentId(alice.clone()), 0, 10_000_000).await;
    let events = baton.turns(&session, 2).await;
    assert!(events.iter().any(|event| matches!(&event.body, EventBody::LimitLifted { budget_id, .. } if budget_id.to_string() == made.id)));
    let applied = events.iter().filter(|event| matches!(&event.body, EventBody::InputChanged { input_id, state: InputState::Applied, .. } if input_id.to_string() == waits.id)).count();
    assert_eq!(applied, 1);
    assert_eq!(parked_by(&baton, &session).await, "");

    // Spent again, a new start is refused too.
    set(&baton, Of::AgentId(alice.clone()), 0, 1).await;
    let stop = v1::StopAgentRequest {
        agent_id: alice.clone(),
        ..Default::default()
    };
    baton.client().stop_agent(stop).await.unwrap();
    baton.reaches(&session, v1::Lifecycle::Ended).await;
    let error = start(&baton, &alice, "say: no").await.unwrap_err();
    assert_eq!(error.code(), Code::BudgetExceeded);
    let resume = v1::ResumeAgentRequest {
        agent_id: alice.clone(),
        ..Default::default()
    };
    let error = baton.client().resume_agent(resume).await.unwrap_err();
    assert_eq!(error.code(), Code::BudgetExceeded);
    let resume = v1::ResumeSessionRequest {
        session_id: session.clone(),
        ..Default::default()
    };
    let error = baton.client().resume_session(resume).await.unwrap_err();
    assert_eq!(error.code(), Code::BudgetExceeded);
}

#[tokio::test]
async fn the_question_at_the_soft_limit_is_answered_like_any_other() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "cost: 0.20\nsay: a").await.id;
    baton.turns(&session, 1).await;
    let made = set(&baton, Of::SessionId(session.clone()), 100_000, 5_000_000).await;
    let prompt = eventually("a person is asked", || async {
        baton.pending(&session).await.pop()
    })
    .await;
    assert_eq!(prompt.budget_id, made.id);
    assert_eq!(prompt.kind(), v1::PromptKind::Question);
    eventually("the budget names its question", || async {
        (budget(&baton, &made.id).await.prompt_id == prompt.id).then_some(())
    })
    .await;
    // It runs meanwhile.
    baton.say(&session, "say: b").await;
    baton.turns(&session, 2).await;
    let answered = baton
        .cli(&["answer", &prompt.id, "--option", "Raise"])
        .output()
        .unwrap();
    said(&answered);
    eventually("the budget is raised", || async {
        let shown = budget(&baton, &made.id).await;
        (shown.soft.unwrap().cost_micro_usd > 200_000).then_some(())
    })
    .await;
    let again = baton
        .cli(&["answer", &prompt.id, "--option", "Stop"])
        .output()
        .unwrap();
    assert!(!again.status.success());
    let shown = budget(&baton, &made.id).await;
    assert_eq!(
        (shown.stopped, shown.state()),
        (false, v1::BudgetState::Within)
    );
    assert!(baton.pending(&session).await.is_empty());
}

#[tokio::test]
async fn the_command_line_sets_shows_and_adds_up() {
    let baton = Baton::start().await;
    let alice = agent(&baton, "Alice").await;
    let session = start(&baton, &alice, "cost: 0.25\nsay: a").await.unwrap();
    baton.turns(&session, 1).await;
    let run = |arguments: &[&str]| said(&baton.cli(arguments).output().unwrap());
    let shown = run(&[
        "budgets",
        "set",
        "--agent",
        "alice",
        "--day",
        "--soft",
        "cost=5",
        "--hard",
        "cost=10",
        "--hard",
        "output=200000",
    ]);
    assert!(shown.contains("$10.00, 200000 output"), "{shown}");
    let listed = run(&["budgets", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!(listed["scope"]["agent_id"], alice);
    assert_eq!(
        (&listed["period"], &listed["state"]),
        (&"day".into(), &"within".into())
    );
    assert_eq!(listed["soft"]["cost_micro_usd"], 5_000_000);
    let id = listed["id"].as_str().unwrap();
    assert!(listed["spent"]["cost_micro_usd"].as_u64().unwrap() >= 250_000);
    assert_eq!(listed["spent"]["cost_is_at_least"], false);
    assert!(run(&["budgets", "show", id]).contains("within"));
    let rows = run(&["budgets", "usage", "--by", "agent", "--json"]);
    let rows: Vec<serde_json::Value> = rows
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows[0]["agent"], alice);
    assert_eq!(
        rows[0]["cost_micro_usd"],
        rows[1]["total"]["cost_micro_usd"]
    );
    assert!(run(&["budgets", "usage"]).contains("total"));
    run(&["budgets", "set", "--agent", "alice", "--day", "--remove"]);
    assert_eq!(run(&["budgets", "--json"]), "");
    for bad in [
        &["--hard", "cost=x"][..],
        &[][..],
        &["--hard", "price=1"][..],
    ] {
        let mut arguments = vec!["budgets", "set", "--agent", "alice"];
        arguments.extend(bad);
        assert_eq!(
            baton.cli(&arguments).output().unwrap().status.code(),
            Some(2),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn a_server_with_a_bad_table_of_prices_does_not_start_and_says_why() {
    let baton = Baton::new();
    let file = baton.dir().join("prices.toml");
    std::fs::write(
        &file,
        "source = 'us'\ndate = 'today'\n[models.m]\ninput = -1\noutput = 2\n",
    )
    .unwrap();
    let setting = format!("prices={}", file.display());
    let data = baton.data_dir();
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &data.to_string_lossy(),
        "--set",
        &setting,
    ];
    let ended = baton.command(&serve).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success());
    assert!(
        told.contains("prices") && told.contains("models.m.input"),
        "{told}"
    );
}

/// What the server says was spent is what the sessions' own totals say, wherever it died.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_server_killed_between_the_events_and_the_sums_counts_each_turn_once() {
    use baton::app::sessions::fault;
    use nix::sys::signal::Signal;

    let mut baton = Baton::start().await;
    let rounds = std::env::var("BATON_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4_u64);
    let everything = set(&baton, Of::Everything(true), 0, 1 << 50).await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(baton.session("demo", "cost: 0.01\nsay: first").await.id);
    }
    let of_one = set(&baton, Of::SessionId(sessions[0].clone()), 0, 1 << 50).await;
    for session in &sessions {
        baton.turns(session, 1).await;
    }
    let mut turns = 1;
    for round in 0..rounds {
        let point = match round % 2 {
            0 => fault::AFTER_COMMIT,
            _ => fault::BEFORE_COMMIT,
        };
        for session in &sessions {
            for n in 0..5 {
                baton
                    .say(session, &format!("stream: 10 10\ncost: 0.0{n}1\nsay: {n}"))
                    .await;
            }
        }
        turns += 5;
        baton.kill_server();
        // Its turns take their time: after the kill there are more commits to come than this.
        let passes = 3 + round * 3 % 8;
        baton.spawn_server_with(&[("BATON_FAULT", &format!("{point}={passes}"))]);
        baton.spawn_daemon_again().await;
        let dies = baton.server_process();
        assert_eq!(dies.ends().await, Some(Signal::SIGKILL as i32));
        baton.start_server().await;
        baton.daemon_is_linked().await;
        for session in &sessions {
            baton.turns(session, turns).await;
        }
        let mut sum = 0;
        for session in &sessions {
            let request = v1::GetSessionRequest {
                session_id: session.clone(),
            };
            let found = baton.client().get_session(request).await.unwrap();
            let cost = found.session.unwrap().usage.unwrap().cost_micro_usd;
            let rows = usage(&baton, v1::UsageGroup::Session).await.rows;
            let row = rows.iter().find(|row| row.session_id == *session).unwrap();
            assert_eq!(row.spent.unwrap().cost_micro_usd, cost, "round {round}");
            assert_eq!(row.spent.unwrap().unreported_turns, 0);
            if *session == sessions[0] {
                let shown = budget(&baton, &of_one.id).await.spent.unwrap();
                assert_eq!(shown.cost_micro_usd, cost, "round {round}");
            }
            sum += cost;
        }
        let all = budget(&baton, &everything.id).await.spent.unwrap();
        assert_eq!(all.cost_micro_usd, sum, "round {round}");
        let total = usage(&baton, v1::UsageGroup::Day).await.total.unwrap();
        assert_eq!(total.cost_micro_usd, sum);
    }
}
