//! Secrets, followed through everything: they are found nowhere but where they are kept.

use baton::domain::EventBody;
use baton::wire::v1;

use crate::support::baton::Baton;

const CANARY: &str = "canary-3f9a71c2e5-not-for-anyone";

#[tokio::test]
async fn no_secret_is_found_in_logs_events_errors_metrics_or_processes() {
    let mut baton = Baton::new()
        .server_flags(&["--log-level", "trace"])
        .daemon_flags(&["--log-level", "trace"])
        .daemon_env("BATON_TEST_CANARY", CANARY);
    baton.start_server().await;
    baton.start_daemon().await;
    let client = baton.client();
    let join = client
        .create_join_token(v1::CreateJoinTokenRequest::default())
        .await
        .unwrap()
        .secret;
    let token = client
        .create_token(v1::CreateTokenRequest {
            name: "n".to_owned(),
            scope: v1::TokenScope::Viewer.into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .secret;
    let credential = std::fs::read_to_string(baton.dir().join("daemon/credential")).unwrap();
    let secret_part = |text: &str| {
        text.trim()
            .rsplit(['_', '"'])
            .find(|part| part.len() >= 20)
            .unwrap_or(text.trim())
            .to_owned()
    };
    let secrets = [
        baton.admin().expose().to_owned(),
        join,
        token,
        secret_part(&credential),
        CANARY.to_owned(),
    ];

    let session = client
        .create_session(v1::CreateSessionRequest {
            harness: "command".to_owned(),
            cwd: baton.project().to_string_lossy().into_owned(),
            argv: ["sh", "-c", "env; echo marker"].map(str::to_owned).to_vec(),
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap();
    baton
        .wait_for(&session.id, "the command ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    let agent = baton.session("demo", "say: hello").await;
    baton
        .wait_for(&agent.id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;

    let mut places = vec![
        ("server.log".to_owned(), baton.logged("server.log")),
        ("daemon.log".to_owned(), baton.logged("daemon.log")),
    ];
    for id in [&session.id, &agent.id] {
        places.push((
            format!("log of {id}"),
            format!("{:?}", baton.events(id).await),
        ));
    }
    let metrics = client.get_metrics(v1::GetMetricsRequest {}).await.unwrap();
    places.push(("metrics".to_owned(), metrics.text));
    // Errors: what a caller with a wrong name of a variable and a wrong token is told.
    let refused = client
        .create_session(v1::CreateSessionRequest {
            harness: "demo".to_owned(),
            env_names: vec!["BATON_TEST_CANARY".to_owned()],
            ..Default::default()
        })
        .await
        .unwrap_err();
    places.push(("an error".to_owned(), format!("{refused} {refused:?}")));
    let mut processes = 0;
    let here = baton.dir().to_string_lossy().into_owned();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains(&here) {
            processes += 1;
            places.push((format!("argv of {line:?}"), line));
        }
    }
    assert!(processes >= 2, "{processes} processes");
    assert!(
        places[2].1.contains("marker"),
        "the command printed its environment"
    );
    assert!(
        places[0].1.len() > 1_000 && places[1].1.len() > 100,
        "trace logs say something"
    );
    for secret in &secrets {
        assert!(secret.len() >= 20);
        for (place, text) in &places {
            if let Some(at) = text.find(secret.as_str()) {
                let from = text.floor_char_boundary(at.saturating_sub(80));
                panic!("a secret is in {place}, after {:?}", &text[from..at]);
            }
        }
    }
}
