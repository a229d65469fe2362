//! A terminal that is closed, and SIGHUP.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use baton::domain::EventBody;
use baton::wire::v1;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::baton::{Baton, ended, eventually};

#[tokio::test]
async fn a_hangup_ends_neither_server_nor_daemon() {
    let baton = Baton::start().await;
    let id = baton.create(baton.demo("stream: 40 50")).await;
    baton
        .wait_for(&id, "the agent works", |body| {
            matches!(body, EventBody::TurnStarted { .. })
        })
        .await;
    baton.signal_server(Signal::SIGHUP);
    baton.signal_daemon(Signal::SIGHUP);
    for log in ["server.log", "daemon.log"] {
        eventually(log, || async {
            baton.logged(log).contains("SIGHUP").then_some(())
        })
        .await;
    }
    let events = baton.turns(&id, 1).await;
    let lost = |body: &EventBody| matches!(body, EventBody::LinkChanged { .. });
    assert!(
        !events.iter().any(|event| lost(&event.body)),
        "the link was kept"
    );
    let daemons = baton
        .client()
        .list_daemons(v1::ListDaemonsRequest::default())
        .await
        .unwrap();
    assert!(daemons.daemons[0].attached);
}

#[tokio::test]
async fn a_server_whose_terminal_is_gone_serves_on() {
    let baton = Baton::new();
    let data = baton.data_dir();
    let port = baton.url().rsplit_once(':').unwrap().1.to_owned();
    let listen = format!("127.0.0.1:{port}");
    let mut server = baton
        .command(&["serve", "--metrics-listen", "off", "--listen", &listen])
        .args(["--log-level", "debug", "--data-dir"])
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(server.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("first token") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it has ended");
    }
    // Nobody reads what it says any more: every line of its log is an error from now on.
    drop(said);
    let pid = Pid::from_raw(i32::try_from(server.id()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    for _ in 0..3 {
        let request = v1::ListDaemonsRequest::default();
        let listed = baton.client().list_daemons(request).await;
        assert!(listed.unwrap().daemons.is_empty());
    }
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(ended(&mut server).await, Some(0));
}

#[tokio::test]
async fn a_closed_terminal_ends_what_up_started_in_order() {
    let baton = Baton::new();
    let data = baton.data_dir();
    let mut up = baton
        .command(&["up", "--listen", "127.0.0.1:0", "--root"])
        .arg(baton.project())
        .arg("--data-dir")
        .arg(&data)
        .env("BATON_METRICS_LISTEN", "off")
        .current_dir(baton.project())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let daemon = eventually("its daemon runs", || async {
        let lock = std::fs::read_to_string(data.join("client.json")).ok()?;
        lock.contains("http").then_some(())?;
        processes(&baton, "daemon").pop()
    })
    .await;
    let pid = Pid::from_raw(i32::try_from(up.id()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    assert_eq!(ended(&mut up).await, Some(0));
    assert!(
        !processes(&baton, "daemon").contains(&daemon),
        "no daemon is left without its server"
    );
}

/// The processes of this place that run a command of the program.
fn processes(baton: &Baton, command: &str) -> Vec<i32> {
    let here = baton.dir().to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut words = line.split('\0');
            words.nth(1) == Some(command) && line.contains(&here)
        })
        .collect()
}
