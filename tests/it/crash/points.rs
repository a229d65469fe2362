//! The server and the daemon are killed at each of their fault points, under load.
//!
//! `BATON_TEST_POINT` runs one point only, `BATON_TEST_SEED` repeats the passes at which they kill.

use std::path::Path;

use baton::app::sessions::fault as sessions;
use baton::daemon::fault as daemon;
use baton::daemon::git::fault as git;
use baton::daemon::runner::fault as runner;
use baton::daemon::session::fault as session;
use baton::domain::content::ContentRef;
use baton::domain::event::Role;
use baton::domain::{Block, EventBody};
use baton::relay::fault as relay;
use baton::store::conformance;
use baton::store::local::fault as store;
use baton::wire::v1;
use nix::sys::signal::Signal;

use super::load::{Chance, Load, end, pid};
use crate::history::{Fact, History};
use crate::support::baton::{Baton, eventually};

/// A program that says that it was started.
const BORN: &str = r#"echo $$ >> "$1.pid"; echo here"#;

/// The points of the server. Those of the daemon's git are passed in that room's own tests: they die in the middle of
/// an operation and look at the repository.
fn points() -> impl Iterator<Item = &'static str> {
    [store::ALL, relay::ALL, sessions::ALL]
        .into_iter()
        .flatten()
        .copied()
}

/// How often a point is passed at most before it kills: some are passed all the time, some once a link.
fn most_passes(point: &str) -> u64 {
    match point {
        relay::AFTER_EPOCH | sessions::AFTER_BIRTH | store::AFTER_CONTENT => 1,
        // Of each content: there are two pieces.
        store::MID_STAGING => 2,
        sessions::MID_LINKED | sessions::MID_UNLINKED | store::MID_SNAPSHOT => 3,
        store::MID_SEAL | store::MID_COMPACTION => 2,
        relay::BEFORE_COMMANDS | relay::AFTER_COMMAND | relay::BEFORE_RESULT_ACK => 5,
        _ => 40,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_every_point_loses_doubles_and_invents_nothing() {
    let mut baton = Baton::start_with(History::on_disk("server-points")).await;
    let mut chance = Chance::new("points");
    let load = Load::start(&baton, 2, 1).await;
    let only = std::env::var("BATON_TEST_POINT").ok();
    let rounds = (conformance::rounds(20) / 20).max(1);
    let mut killed = 0;
    for round in 0..rounds {
        for point in points().filter(|point| only.as_ref().is_none_or(|only| only == point)) {
            load.moves_on().await;
            baton.kill_server();
            if killed % 2 == 1 {
                // A link that never lives for five seconds is dialled ever more slowly.
                baton.kill_daemon();
            }
            if point == store::NO_SPACE {
                fill_disk(&mut baton, &load).await;
            } else {
                let passes = chance.below(most_passes(point));
                println!("{point}, after {passes} passes");
                kill_at(&mut baton, point, passes, round).await;
            }
            baton.start_server().await;
            if killed % 2 == 1 || point == sessions::MID_UNLINKED {
                baton.kill_daemon();
                baton.start_daemon().await;
            }
            if point == sessions::AFTER_BIRTH {
                birth(&baton, round).await;
                pid(&baton.project(), &format!("born-{round}")).await;
            }
            if is_content(point) {
                is_whole(&baton, &big(&baton, point, round).await).await;
            }
            killed += 1;
        }
    }
    let events = load.finish(&baton).await;
    println!("killed {killed} times: {events} events");
    assert!(baton.history().kills() >= killed);
}

/// The points of the daemon at which a session's start, its records and its commands are. One point holds things up in
/// a test of its own, too.
fn daemon_points() -> impl Iterator<Item = &'static str> {
    [daemon::ALL, session::ALL].into_iter().flatten().copied()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_at_every_point_keeps_its_agents_and_their_output() {
    let mut baton = Baton::start_with(History::on_disk("daemon-points")).await;
    let mut chance = Chance::new("daemon points");
    let load = Load::start(&baton, 1, 1).await;
    let pids = load.pids().await;
    let only = std::env::var("BATON_TEST_POINT").ok();
    let rounds = (conformance::rounds(20) / 20).max(1);
    let mut killed = 0;
    for round in 0..rounds {
        for point in daemon_points().filter(|point| only.as_ref().is_none_or(|only| only == point))
        {
            load.moves_on().await;
            baton.kill_daemon();
            let is_start = daemon::ALL.contains(&point);
            let passes = match point {
                _ if is_start => 0,
                // A state is saved twice a second at most.
                session::BEFORE_SAVE | session::BEFORE_TRIM => chance.below(3),
                _ => chance.below(6),
            };
            println!("{point}, after {passes} passes");
            let fault = format!("{point}={passes}");
            baton.spawn_daemon_with(&[("BATON_FAULT", &fault)]).await;
            let dies = baton.daemon_process();
            let name = format!("{}-{round}", point.replace("::", "-"));
            if is_start {
                birth_of(&baton, &name).await;
            }
            let ended = dies.ends().await;
            assert_eq!(ended, Some(Signal::SIGKILL as i32), "{point}");
            baton
                .history()
                .note("test", Fact::killed_at("daemon", point));
            baton.start_daemon().await;
            if is_start {
                let pid = pid(&baton.project(), &name).await;
                let session = name;
                baton.history().note("test", Fact::Runs { session, pid });
            }
            killed += 1;
        }
    }
    assert_eq!(load.pids().await, pids, "the same processes still run");
    let events = load.finish(&baton).await;
    println!("killed {killed} times: {events} events");
    assert!(baton.history().kills() >= killed);
}

/// Runs a server until it dies at a point.
async fn kill_at(baton: &mut Baton, point: &str, passes: u64, round: u32) {
    let mut variables = vec![("BATON_FAULT", format!("{point}={passes}"))];
    if [store::MID_SEAL, store::MID_COMPACTION, store::MID_SNAPSHOT].contains(&point) {
        variables.push(("BATON_FAULT_COMPACT_MS", "50".to_owned()));
    }
    let variables: Vec<_> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
    baton.spawn_server_with(&variables);
    baton.spawn_daemon_again().await;
    let dies = baton.server_process();
    let ended = match point {
        sessions::AFTER_BIRTH => tokio::select! {
            ended = dies.ends() => ended,
            () = birth(baton, round) => panic!("the server was to die at a birth"),
        },
        point if is_content(point) => {
            baton.daemon_is_linked().await;
            tokio::select! {
                ended = dies.ends() => ended,
                session = big(baton, point, round) => {
                    // Made before the content came.
                    drop(session);
                    dies.ends().await
                }
            }
        }
        sessions::MID_UNLINKED => {
            baton.daemon_is_linked().await;
            baton.kill_daemon();
            dies.ends().await
        }
        _ => dies.ends().await,
    };
    assert_eq!(ended, Some(Signal::SIGKILL as i32), "{point}");
    baton
        .history()
        .note("test", Fact::killed_at("server", point));
}

fn is_content(point: &str) -> bool {
    [store::MID_STAGING, store::AFTER_CONTENT].contains(&point)
}

/// How many bytes an agent says at once, or a few more: more than a piece of content has.
const BIG: usize = 300_000;

/// A session whose agent says much at once, however often the same request must be sent for it.
async fn big(baton: &Baton, point: &str, round: u32) -> v1::Session {
    // Content that the server has already is not staged again.
    let bytes = BIG + 2 * round as usize + usize::from(point == store::AFTER_CONTENT);
    let request = v1::CreateSessionRequest {
        request_id: format!("big-{}-{round}", point.replace("::", "-")),
        harness: "demo".to_owned(),
        cwd: baton.project().to_string_lossy().into_owned(),
        input: format!("big: {bytes}"),
        ..Default::default()
    };
    let client = baton.client();
    let created = eventually("a session is made", || async {
        client.create_session(request.clone()).await.ok()
    });
    created.await.session.unwrap()
}

/// What the agent said at once is there once, and whole.
async fn is_whole(baton: &Baton, session: &v1::Session) {
    baton
        .wait_for(&session.id, "its turn", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let log = baton.events(&session.id).await;
    let said: Vec<_> = log
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Message { role, blocks, .. } if *role == Role::Agent => Some(blocks),
            _ => None,
        })
        .flatten()
        .filter_map(|block| match block {
            Block::Content(content) => Some(content),
            _ => None,
        })
        .collect();
    let [content] = said[..] else {
        panic!("{} contents were said", said.len());
    };
    let bytes = baton.content(&session.id, content).await;
    assert_eq!(ContentRef::of(&bytes, "text/plain").sha256, content.sha256);
    assert!(bytes.len() >= BIG);
    end(baton, &session.id).await;
}

/// Makes a session, however often the same request must be sent for it.
async fn birth(baton: &Baton, round: u32) {
    birth_of(baton, &format!("born-{round}")).await;
}

async fn birth_of(baton: &Baton, name: &str) {
    let request = v1::CreateSessionRequest {
        request_id: name.to_owned(),
        harness: "command".to_owned(),
        cwd: baton.project().to_string_lossy().into_owned(),
        argv: ["sh", "-c", BORN, "sh", name].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let client = baton.client();
    eventually("a session is made", || async {
        client.create_session(request.clone()).await.ok()
    })
    .await;
}

/// Runs a server whose disk is full for a while, and kills it when it works again.
async fn fill_disk(baton: &mut Baton, load: &Load) {
    println!("{}", store::NO_SPACE);
    let fault = format!("{}=20*off->10*return", store::NO_SPACE);
    let before = baton.logged("server.log").len();
    baton.spawn_server_with(&[("BATON_FAULT", &fault)]);
    baton.spawn_daemon_again().await;
    eventually("the disk is full", || async {
        let log = baton.logged("server.log");
        log[before..].contains("disk is full").then_some(())
    })
    .await;
    load.moves_on().await;
    baton.kill_server();
}

/// A point that no list names is not tried, and one that nothing passes proves nothing.
#[test]
fn every_point_of_the_source_is_listed_and_passed() {
    let mut files = Vec::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    gather(&src, &mut files);
    let lists = files.iter().filter(|(path, _)| path.ends_with("fault.rs"));
    let mut named = Vec::new();
    for (path, text) in lists {
        let consts = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
            Some((name.to_owned(), value.trim_end_matches("\";").to_owned()))
        });
        for (name, value) in consts {
            let used = format!("fault::{name})");
            let room = path.parent().unwrap();
            let passed = files
                .iter()
                .any(|(other, text)| other.starts_with(room) && text.contains(&used));
            assert!(passed, "{value} is passed nowhere");
            named.push(value);
        }
    }
    // What refuses instead of killing has a test of its own.
    let others = [git::CANNOT_REMOVE];
    let all = points()
        .chain(daemon_points())
        .chain(runner::ALL.iter().copied())
        .chain(git::ALL.iter().copied())
        .chain(others);
    let mut listed: Vec<String> = all.map(str::to_owned).collect();
    listed.sort();
    named.sort();
    assert_eq!(named, listed);
}

fn gather(dir: &Path, files: &mut Vec<(std::path::PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
}
