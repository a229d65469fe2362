//! Secrets, followed through everything: they are found nowhere but where they are kept.

use baton::domain::EventBody;
use baton::wire::v1;

use crate::support::baton::{Baton, eventually};

const CANARY: &str = "canary-3f9a71c2e5-not-for-anyone";

/// The metrics as whoever reaches their port sees them.
fn page(port: u16) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("baton_requests_total"),
        "{text}"
    );
    text
}

/// The environments of a session's runner and of all that descends from it.
fn environments(session: &str, here: &str) -> Vec<(String, String)> {
    let read = |pid: i32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let parents: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            let stat = read(pid, "stat");
            let (_, rest) = stat.rsplit_once(") ")?;
            Some((pid, rest.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    let mut family: Vec<i32> = parents
        .iter()
        .map(|(pid, _)| *pid)
        .filter(|pid| {
            let line = read(*pid, "cmdline");
            line.contains("runner") && line.contains(session) && line.contains(here)
        })
        .collect();
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        family.extend(children.map(|(pid, _)| *pid));
        at += 1;
    }
    family
        .into_iter()
        .map(|pid| {
            let line = read(pid, "cmdline");
            (format!("environment of {line:?}"), read(pid, "environ"))
        })
        .collect()
}

#[tokio::test]
async fn no_secret_is_found_in_logs_events_errors_metrics_or_processes() {
    let metrics_port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let metrics_listen = format!("metrics_listen=127.0.0.1:{metrics_port}");
    let mut baton = Baton::new()
        .server_flags(&["--log-level", "trace", "--set", &metrics_listen])
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
    // What the daemon joined with: used up, and still nobody's business.
    let joined_with = baton.daemon_variable("BATON_JOIN_TOKEN");
    let secrets = [
        joined_with,
        baton.admin().expose().to_owned(),
        join,
        token,
        secret_part(&credential),
        CANARY.to_owned(),
    ];

    let command = baton.create(baton.shell("env; echo marker")).await;
    baton
        .wait_for(&command, "the command ends", |body| {
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
    for id in [&command, &agent.id] {
        places.push((
            format!("log of {id}"),
            format!("{:?}", baton.events(id).await),
        ));
    }
    places.push(("/metrics".to_owned(), page(metrics_port)));
    // What a person looks at with a token in the environment, as they would paste it into an issue.
    for arguments in [
        &["serve", "--print-config"][..],
        &["doctor"],
        &["doctor", "--json"],
        &["daemons"],
        &["token", "list", "--json"],
    ] {
        let output = baton
            .cli(arguments)
            .env("BATON_TEST_CANARY", CANARY)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.len() > 40, "{arguments:?} says something: {text}");
        places.push((arguments.join(" "), text));
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
    // The environment of what runs for a session: the runner, the agent, and what that starts.
    let living = baton.create(baton.shell("sleep 600 & wait")).await;
    baton.reaches(&living, v1::Lifecycle::Running).await;
    let children = eventually("the agent's own child", || async {
        let children = environments(&living, &baton.dir().to_string_lossy());
        (children.len() >= 3).then_some(children)
    })
    .await;
    places.extend(children);
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
