//! The program as a person uses it: what its commands print, and with which code they end.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use baton::base::Code;
use baton::domain::EventBody;
use baton::domain::session::EndReason;
use baton::wire::v1;

use crate::support::baton::{Baton, eventually};

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command on a thread of its own, so that the test's own work goes on.
async fn run(baton: &Baton, arguments: &[&str]) -> Ran {
    let mut command = baton.cli(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap().into())
        .await
        .unwrap()
}

async fn end_of(baton: &Baton, session: &str) -> baton::domain::EndInfo {
    let ended = baton
        .wait_for(session, "the session ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    match ended.body {
        EventBody::Ended { end } => end,
        _ => unreachable!(),
    }
}

#[tokio::test]
async fn a_program_that_fails_is_a_session_that_failed() {
    let baton = Baton::start().await;
    for (arguments, reason, code) in [
        (
            &[
                "--harness",
                "command",
                "--one-shot",
                "--",
                "sh",
                "-c",
                "exit 3",
            ][..],
            EndReason::Failed,
            Some(3),
        ),
        // It ends in the middle of its one turn: nobody had told it that it is done.
        (
            &["--harness", "demo", "--one-shot", "crash: 3"][..],
            EndReason::Failed,
            Some(3),
        ),
        (
            &["--harness", "demo", "--one-shot", "error: 400"][..],
            EndReason::Failed,
            Some(0),
        ),
        (
            &["--harness", "demo", "--one-shot", "say: done"][..],
            EndReason::Completed,
            Some(0),
        ),
    ] {
        let mut line = vec!["run", "--follow", "--json"];
        line.extend(arguments);
        let ran = run(&baton, &line).await;
        let first: serde_json::Value =
            serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
        let end = end_of(&baton, first["session"]["id"].as_str().unwrap()).await;
        assert_eq!((end.reason, end.exit_code), (reason, code), "{arguments:?}");
        let expected = i32::from(reason != EndReason::Completed);
        assert_eq!(ran.code, Some(expected), "{arguments:?}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn options_are_set_content_is_written_out_and_a_session_is_deleted() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "big: 200000").await.id;
    let message = baton
        .wait_for(&session, "the agent speaks", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    assert!(message.seq > 1);

    let set = run(
        &baton,
        &[
            "set",
            &session,
            "--model",
            "demo-2",
            "--permission-mode",
            "auto",
        ],
    )
    .await;
    assert_eq!(set.code, Some(0), "{}", set.stderr);
    assert!(set.stdout.contains("model demo-2, permission mode auto"));
    baton
        .wait_for(&session, "the options change", |body| {
            matches!(body, EventBody::OptionsChanged { model: Some(model), .. } if model == "demo-2")
        })
        .await;
    assert_eq!(run(&baton, &["set", &session]).await.code, Some(2));

    let log = run(&baton, &["logs", &session, "--kinds", "message"]).await;
    let shown = log.stdout.split("sha256 ").nth(1).unwrap();
    let short: String = shown.chars().take_while(char::is_ascii_hexdigit).collect();
    assert_eq!(short.len(), 12);
    let content = run(&baton, &["content", &session, &short]).await;
    assert_eq!(content.stdout.len(), 200_000, "{}", content.stderr);
    let file = baton.dir().join("content.txt");
    let name = file.to_str().unwrap();
    let saved = run(&baton, &["content", &session, &short, "-o", name, "--json"]).await;
    let value: serde_json::Value = serde_json::from_str(&saved.stdout).unwrap();
    assert_eq!(value["size_bytes"], 200_000);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), content.stdout);
    // A file that is there is not replaced; what the session does not have is not found.
    let again = run(&baton, &["content", &session, &short, "-o", name]).await;
    assert_eq!(again.code, Some(2));
    assert_eq!(
        run(&baton, &["content", &session, "abcd"]).await.code,
        Some(3)
    );
    assert_eq!(
        run(&baton, &["content", &session, "zz"]).await.code,
        Some(2)
    );

    let unasked = run(&baton, &["delete", &session]).await;
    assert_eq!(unasked.code, Some(2), "without a terminal it wants --yes");
    let living = run(&baton, &["delete", &session, "--yes"]).await;
    assert_eq!(living.code, Some(4), "{}", living.stderr);
    run(&baton, &["end", "--force", &session]).await;
    end_of(&baton, &session).await;
    let deleted = run(&baton, &["delete", &session, "--yes", "--json"]).await;
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    assert_eq!(run(&baton, &["logs", &session]).await.code, Some(3));
}

#[tokio::test]
async fn a_prompt_that_nobody_answers_expires_and_is_denied() {
    let mut baton = Baton::new().server_flags(&["--prompt-expiry", "300ms"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let session = baton.session("demo", "run: touch made.txt").await.id;
    let is_expired = |body: &EventBody| matches!(body, EventBody::PromptExpired { .. });
    let expired = baton.wait_for(&session, "it expires", is_expired).await;
    let EventBody::PromptExpired { prompt_id } = expired.body else {
        unreachable!()
    };
    // The agent is told no, and its turn goes on to its end.
    baton
        .wait_for(&session, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    assert!(!baton.project().join("made.txt").exists());
    let told = baton.events(&session).await.into_iter().any(|event| {
        matches!(&event.body, EventBody::ToolResult { is_error: true, blocks, .. }
            if format!("{blocks:?}").contains("nobody answered in time"))
    });
    assert!(told, "the agent is told why");
    let late = baton
        .client()
        .answer_prompt(v1::AnswerPromptRequest {
            prompt_id: prompt_id.to_string(),
            answer: Some(v1::answer_prompt_request::Answer::Decision(v1::Decision {
                allow: true,
                ..Default::default()
            })),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(late.code(), Code::InvalidState, "{late}");
    assert!(late.message().contains("expired"), "{late}");
}

#[tokio::test]
async fn a_removed_daemon_says_so_ends_and_may_join_again() {
    let mut baton = Baton::start().await;
    let session = baton.session("demo", "say: hello").await.id;
    baton
        .wait_for(&session, "the agent speaks", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let listed = baton.client().list_daemons(Default::default()).await;
    let id = listed.unwrap().daemons.remove(0).id;
    let removed = run(&baton, &["daemons", "remove", &id, "--force"]).await;
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    assert_eq!(baton.daemon_ends().await, Some(4));
    let said = baton.logged("daemon.log");
    assert!(said.contains("was removed there"), "{said}");
    assert!(said.contains("baton daemons join"), "{said}");
    assert!(!said.contains("baton token create"), "{said}");
    assert!(baton.has_runner(), "its agents work on");

    // With a fresh token the same state directory joins as a new daemon.
    baton.start_daemon_anew().await;
    let listed = baton
        .client()
        .list_daemons(Default::default())
        .await
        .unwrap();
    assert_eq!(listed.daemons.len(), 1);
    assert_ne!(listed.daemons[0].id, id);
}

#[tokio::test]
async fn the_edited_queue_is_shown_and_a_join_command_has_its_secret_once() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "run: true").await.id;
    eventually("a prompt", || async { baton.pending(&session).await.pop() }).await;
    for text in ["say: one", "say: two"] {
        assert_eq!(run(&baton, &["send", &session, text]).await.code, Some(0));
    }
    let listed = run(&baton, &["queue", &session, "--json"]).await;
    let ids: Vec<String> = listed
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string())
        .map(|id| id.trim_matches('"').to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    let edited = run(&baton, &["queue", &session, "edit", &ids[1], "say: 2"]).await;
    assert!(edited.stdout.contains("say: one"), "{}", edited.stdout);
    assert!(edited.stdout.contains("say: 2"), "{}", edited.stdout);
    let rest = run(&baton, &["queue", &session, "withdraw", &ids[1]]).await;
    assert!(rest.stdout.contains("say: one"), "{}", rest.stdout);
    assert!(!rest.stdout.contains("say: 2"), "{}", rest.stdout);

    let joined = run(&baton, &["daemons", "join", "--json"]).await;
    assert_eq!(joined.stdout.matches("bt_").count(), 1, "{}", joined.stdout);
}

#[tokio::test]
async fn a_taken_port_is_a_failure_and_not_an_unreachable_server() {
    let baton = Baton::start().await;
    let listen = baton.url().replace("http://", "");
    for command in ["serve", "up"] {
        let other = baton.dir().join(format!("other-{command}"));
        let mut line = baton.command(&[command, "--listen", &listen, "--metrics-listen", "off"]);
        line.arg("--data-dir").arg(other).stdin(Stdio::null());
        let ran: Ran = tokio::task::spawn_blocking(move || line.output().unwrap().into())
            .await
            .unwrap();
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("another program listens there"));
        assert_eq!(ran.stdout, "");
    }
}

#[tokio::test]
async fn what_is_stored_is_closed_to_other_users() {
    let mut baton = Baton::new();
    let data = baton.data_dir();
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(data.join("search.db"), "").unwrap();
    std::fs::set_permissions(
        data.join("search.db"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    baton.start_server().await;
    let mode = |name: &str| {
        let path = if name.is_empty() {
            data.clone()
        } else {
            data.join(name)
        };
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("store")), (0o700, 0o700));
    for name in ["search.db", "search.db-wal", "search.db-shm", "admin.token"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[tokio::test]
async fn every_metric_is_on_the_page_and_in_the_manual() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let listen = format!("127.0.0.1:{port}");
    let mut baton = Baton::new().server_flags(&["--metrics-listen", &listen]);
    baton.start_server().await;
    baton.start_daemon().await;
    let session = baton.session("demo", "run: true").await.id;
    eventually("a prompt", || async { baton.pending(&session).await.pop() }).await;
    run(&baton, &["send", &session, "say: later"]).await;
    let ended = baton.session("demo", "say: something").await.id;
    run(&baton, &["end", &ended, "--force"]).await;
    end_of(&baton, &ended).await;
    let mut follower = baton.cli(&["logs", "-f", &session]);
    let mut follower = follower.stdout(Stdio::null()).spawn().unwrap();

    let page = || async {
        let text = page(&listen).await?;
        let has = |line: &str| text.lines().any(|shown| shown == line);
        let is_full = has("baton_sessions{lifecycle=\"running\"} 1")
            && has("baton_prompts_pending 1")
            && has("baton_inputs_queued 1")
            && has("baton_daemons_linked 1")
            && has("baton_readers{of=\"session\"} 1")
            && has("baton_sessions_ended_total{reason=\"stopped\"} 1")
            && has("baton_links_total{kind=\"first\"} 1");
        is_full.then_some(text)
    };
    let text = eventually("the page counts what there is", page).await;
    follower.kill().unwrap();
    follower.wait().unwrap();
    let above_zero = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
            .is_some_and(|value| value > 0.0)
    };
    for name in [
        "baton_events_appended_total",
        "baton_journal_bytes_total",
        "baton_journal_commit_seconds_count",
        "baton_journal_sync_seconds_count",
    ] {
        assert!(above_zero(name), "{name}: {text}");
    }
    // No label is an id.
    assert!(!text.contains("ses_") && !text.contains("dmn_"), "{text}");

    let manual = include_str!("../../docs/operating/metrics.md");
    let shown: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    for name in &shown {
        assert!(
            manual.contains(&format!("`{name}`")),
            "{name} is not in the manual"
        );
    }
    // What only appears when something goes wrong.
    let rare = ["baton_refused_total"];
    for name in manual.split('`').filter(|word| word.starts_with("baton_")) {
        let name = name.split('{').next().unwrap();
        assert!(
            shown.contains(&name) || rare.contains(&name),
            "{name} is in the manual and not on the page"
        );
    }
}

/// The page as a scraper sees it.
async fn page(address: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}
