//! Terminals: real programs in real PTYs, seen through the API.

mod attached;

use std::time::Duration;

use baton::base::Code;
use baton::client::Client;
use baton::wire::status::error_from_status;
use baton::wire::v1;
use baton::wire::v1::watch_terminal_response::Body;

use crate::support::baton::{Baton, eventually};
use crate::support::claude::Place;

/// How long a viewer waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A viewer that keeps what it is shown, and checks that it is shown in order.
pub struct View {
    stream: tonic::Streaming<v1::WatchTerminalResponse>,
    pub started: v1::TerminalStarted,
    /// The offset of the first byte in `bytes`.
    pub from: u64,
    pub bytes: Vec<u8>,
    pub sizes: Vec<(u32, u32)>,
    pub truncated: Vec<u64>,
    pub exit: Option<v1::TerminalExit>,
}

impl View {
    pub async fn open(client: &Client, view: v1::TerminalView) -> baton::base::Result<Self> {
        let request = v1::WatchTerminalRequest { view: Some(view) };
        let opened = client.terminals().watch_terminal(request).await;
        let mut stream = opened
            .map_err(|status| error_from_status(&status))?
            .into_inner();
        let first = stream.message().await.unwrap().unwrap();
        let Some(Body::Started(started)) = first.body else {
            panic!("{first:?}");
        };
        Ok(View {
            stream,
            from: started.offset,
            started,
            bytes: Vec::new(),
            sizes: Vec::new(),
            truncated: Vec::new(),
            exit: None,
        })
    }

    pub fn next_offset(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    /// Takes one message; false at the end of the stream.
    pub async fn step(&mut self) -> bool {
        let message = tokio::time::timeout(PATIENCE, self.stream.message())
            .await
            .unwrap_or_else(|_| panic!("nothing came; so far: {}", self.text()));
        match message.unwrap().map(|message| message.body.unwrap()) {
            None => return false,
            Some(Body::Output(output)) => {
                assert_eq!(output.offset, self.next_offset(), "in order, none twice");
                self.bytes.extend_from_slice(&output.data);
            }
            Some(Body::Size(size)) => self.sizes.push((size.cols, size.rows)),
            Some(Body::Truncated(truncated)) => {
                self.truncated.push(truncated.oldest_offset);
                self.from = truncated.oldest_offset;
                self.bytes.clear();
            }
            Some(Body::Exit(exit)) => self.exit = Some(exit),
            Some(Body::Progress(_)) => {}
            Some(Body::Started(_)) => panic!("started twice"),
        }
        true
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub async fn sees(&mut self, text: &str) {
        while !self.text().contains(text) {
            assert!(
                self.step().await,
                "the stream ended; so far: {}",
                self.text()
            );
        }
    }

    pub async fn ends(&mut self) -> v1::TerminalExit {
        while self.step().await {}
        self.exit.clone().expect("an exit before the stream's end")
    }
}

pub fn from(id: &str, offset: u64) -> v1::TerminalView {
    v1::TerminalView {
        terminal_id: id.to_owned(),
        offset,
        ..Default::default()
    }
}

fn size(cols: u32, rows: u32) -> v1::TerminalSize {
    v1::TerminalSize { cols, rows }
}

impl Baton {
    /// Opens a terminal with a shell script in it, or the shell; its id.
    pub async fn terminal(&self, script: Option<&str>) -> String {
        let argv: Vec<&str> = match script {
            Some(script) => vec!["sh", "-c", script],
            None => vec!["sh"],
        };
        let opened = self
            .client()
            .open_terminal(v1::OpenTerminalRequest {
                cwd: self.project().to_string_lossy().into_owned(),
                argv: argv.into_iter().map(str::to_owned).collect(),
                ..Default::default()
            })
            .await
            .unwrap();
        opened.terminal.unwrap().id
    }

    pub async fn types(&self, id: &str, text: &str) {
        self.client()
            .write_terminal(v1::WriteTerminalRequest {
                terminal_id: id.to_owned(),
                data: text.to_owned().into(),
                viewer_id: String::new(),
            })
            .await
            .unwrap();
    }

    /// Waits until the program in a terminal runs.
    pub async fn terminal_runs(&self, id: &str) {
        eventually("the terminal's program runs", || async {
            let shown = self.shown(id).await;
            let lifecycle = shown.session.unwrap().lifecycle();
            (lifecycle == v1::Lifecycle::Running).then_some(())
        })
        .await;
    }

    pub async fn shown(&self, id: &str) -> v1::Terminal {
        let request = v1::GetTerminalRequest {
            terminal_id: id.to_owned(),
        };
        let got = self.client().get_terminal(request).await.unwrap();
        got.terminal.unwrap()
    }
}

#[tokio::test]
async fn a_shell_takes_keys_and_every_viewer_sees_the_same_bytes() {
    let baton = Baton::start().await;
    let id = baton.terminal(None).await;
    baton.terminal_runs(&id).await;
    let client = baton.client();
    let mut early = View::open(&client, from(&id, 0)).await.unwrap();
    baton
        .types(
            &id,
            "echo hel''lo; tty; test -t 0 && echo has-$((40+2))-tty\r",
        )
        .await;
    early.sees("hello\r\n").await;
    early.sees("/dev/pts/").await;
    early.sees("has-42-tty").await;
    // A late viewer is shown the same from the beginning, and one that comes back goes on where it was.
    let mut late = View::open(&client, from(&id, 0)).await.unwrap();
    late.sees("has-42-tty").await;
    let mut again = View::open(&client, from(&id, 5)).await.unwrap();
    again.sees("has-42-tty").await;
    assert_eq!(again.from, 5);
    assert_eq!(baton.shown(&id).await.viewers, 3);
    baton.types(&id, "printf 'by%s\\n' e; exit 3\r").await;
    let mut exits = Vec::new();
    for view in [&mut early, &mut late, &mut again] {
        exits.push(view.ends().await);
    }
    assert_eq!(early.bytes, late.bytes);
    assert_eq!(early.bytes[5..], again.bytes[..]);
    assert!(early.text().contains("bye\r\n"), "{}", early.text());
    for exit in exits {
        assert_eq!(exit.lifecycle(), v1::Lifecycle::Ended);
        let end = exit.end.unwrap();
        assert_eq!((end.exit_code, end.signal), (Some(3), 0), "{end:?}");
    }
    // What it showed is there after its end, and what it is typed then is refused.
    let mut after = View::open(&client, from(&id, 0)).await.unwrap();
    after.ends().await;
    assert_eq!(after.bytes, early.bytes);
    let refused = client
        .write_terminal(v1::WriteTerminalRequest {
            terminal_id: id.clone(),
            data: "x".into(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    // The log has its start and its end, and nothing of what it showed.
    let session = baton.shown(&id).await.session.unwrap();
    let events = baton.events(&session.id).await;
    let shows = |event: &baton::domain::Event| format!("{event:?}").contains("hello");
    assert!(!events.iter().any(shows), "{events:?}");
    let request = v1::DeleteSessionRequest {
        session_id: session.id,
    };
    client.delete_session(request).await.unwrap();
    let gone = View::open(&client, from(&id, 0)).await.err().unwrap();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn the_program_sees_the_size_that_its_viewers_agree_on() {
    let baton = Baton::start().await;
    let id = baton.terminal(None).await;
    baton.terminal_runs(&id).await;
    let client = baton.client();
    let mut wide = View::open(
        &client,
        v1::TerminalView {
            size: Some(size(200, 30)),
            ..from(&id, 0)
        },
    )
    .await
    .unwrap();
    while wide.sizes != [(200, 30)] {
        assert!(wide.step().await);
    }
    baton.types(&id, "stty size\r").await;
    wide.sees("30 200").await;
    let tall = View::open(
        &client,
        v1::TerminalView {
            size: Some(size(90, 60)),
            ..from(&id, 0)
        },
    )
    .await
    .unwrap();
    while wide.sizes.last() != Some(&(90, 30)) {
        assert!(wide.step().await);
    }
    // From now on the size of who types holds, whoever it is.
    let resize = |viewer: &str, size, policy: v1::TerminalSizePolicy| {
        client.resize_terminal(v1::ResizeTerminalRequest {
            terminal_id: id.clone(),
            viewer_id: viewer.to_owned(),
            size,
            size_policy: policy.into(),
        })
    };
    let typist = v1::TerminalSizePolicy::Typist;
    resize("", None, typist).await.unwrap();
    client
        .write_terminal(v1::WriteTerminalRequest {
            terminal_id: id.clone(),
            data: "stty size\r".into(),
            viewer_id: tall.started.viewer_id.clone(),
        })
        .await
        .unwrap();
    while wide.sizes.last() != Some(&(90, 60)) {
        assert!(wide.step().await);
    }
    // Who leaves counts no more.
    drop(tall);
    while wide.sizes.last() != Some(&(200, 30)) {
        assert!(wide.step().await);
    }
    let same = v1::TerminalSizePolicy::Unspecified;
    let held = resize(&wide.started.viewer_id, Some(size(111, 22)), same).await;
    assert_eq!(held.unwrap().size, Some(size(111, 22)));
    baton.types(&id, "stty size\r").await;
    wide.sees("22 111").await;
    assert_eq!(baton.shown(&id).await.size, Some(size(111, 22)));
    let unknown = resize("987", Some(size(80, 24)), same).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let close = v1::CloseTerminalRequest {
        terminal_id: id.clone(),
        ..Default::default()
    };
    client.close_terminal(close).await.unwrap();
    let end = wide.ends().await.end.unwrap();
    // It was hung up, which is what a shell ends by.
    assert_eq!(end.reason(), v1::EndReason::Stopped, "{end:?}");
    assert_eq!(end.signal, nix::libc::SIGHUP, "{end:?}");
}

/// Lines with numbers, as fast as it can, until it is told to stop.
fn counter(lines: u64) -> String {
    format!(
        "stty -onlcr; i=0; while [ $i -lt {lines} ]; do echo \"n$i\"; i=$((i+1)); done; echo all"
    )
}

fn counted(lines: u64) -> String {
    let mut text: String = (0..lines).map(|n| format!("n{n}\n")).collect();
    text.push_str("all\n");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_and_a_server_killed_in_mid_output_lose_and_double_nothing() {
    let mut baton = Baton::new().server_flags(&["--set", "terminals.scrollback=64MiB"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let lines = 60_000;
    let id = baton.terminal(Some(&counter(lines))).await;
    let shown = |at_least: u64| {
        let (baton, id) = (&baton, &id);
        eventually("it shows more", move || async move {
            (baton.shown(id).await.next_offset > at_least).then_some(())
        })
    };
    shown(0).await;
    for kill_server in [false, true, false] {
        if kill_server {
            baton.kill_server();
            baton.start_server().await;
        } else {
            baton.kill_daemon();
            baton.start_daemon().await;
        }
        let before = baton.shown(&id).await.next_offset;
        if before < counted(lines).len() as u64 {
            let (baton, id) = (&baton, &id);
            eventually("it shows more", move || async move {
                (baton.shown(id).await.next_offset > before).then_some(())
            })
            .await;
        }
    }
    let mut view = View::open(&baton.client(), from(&id, 0)).await.unwrap();
    let exit = view.ends().await;
    assert_eq!(exit.end.unwrap().exit_code, Some(0));
    assert_eq!(view.truncated, [0; 0]);
    assert!(view.text() == counted(lines), "{} bytes", view.bytes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_keeps_memory_and_disk_bounded_and_its_order_and_other_viewers_untouched() {
    let baton = Baton::start().await;
    let rounds: u64 = std::env::var("BATON_TEST_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(20);
    // Lines of 64 bytes, numbered; 100 MB at 100 rounds.
    let lines = rounds * 16 * 1024;
    let script = format!("stty -onlcr; seq -f 'line %058.0f' 1 {lines}");
    let id = baton.terminal(Some(&script)).await;
    let client = baton.client();
    // One that attaches and never says that it has read a byte, and one that reads nothing at all.
    let (tell, told) = tokio::sync::mpsc::channel(4);
    tell.send(v1::AttachRequest {
        body: Some(v1::attach_request::Body::Open(v1::AttachOpen {
            view: Some(from(&id, 0)),
            window_bytes: 64 * 1024,
        })),
    })
    .await
    .unwrap();
    let mut silent = client
        .terminals()
        .attach(tokio_stream::wrappers::ReceiverStream::new(told))
        .await
        .unwrap()
        .into_inner();
    let deaf = View::open(&client, from(&id, 0)).await.unwrap();
    let mut reader = View::open(&client, from(&id, 0)).await.unwrap();
    // It may fall behind what is kept, and is told so; it never sees a line out of its order.
    let mut newest = 0;
    let mut peak = 0;
    let mut at = 0;
    while reader.step().await {
        peak = peak.max(baton.server_memory());
        if reader.bytes.len() < 1024 * 1024 && reader.exit.is_none() {
            continue;
        }
        newest = in_order(&reader.bytes, newest);
        let keep = reader
            .bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap_or(0);
        at += keep as u64;
        reader.from += keep as u64;
        reader.bytes.drain(..keep);
    }
    let total = lines * 64;
    assert_eq!(
        newest, lines,
        "the last line was shown ({at} of {total} bytes)"
    );
    let shown = baton.shown(&id).await;
    assert_eq!(shown.next_offset, total);
    let kept = shown.next_offset - shown.oldest_offset;
    assert!((1 << 20..8 << 20).contains(&kept), "{kept} bytes are kept");
    assert!(peak < 400 << 20, "the server had {peak} bytes");
    println!(
        "{total} bytes, truncated {:?}, peak {} MiB",
        reader.truncated.len(),
        peak >> 20
    );
    // The one that said nothing was sent its window and no more.
    let mut sent = 0;
    while let Ok(Ok(Some(message))) =
        tokio::time::timeout(Duration::from_millis(500), silent.message()).await
    {
        if let Some(v1::attach_response::Body::Shown(shown)) = message.body
            && let Some(Body::Output(output)) = shown.body
        {
            sent += output.data.len();
        }
    }
    assert!(sent <= 64 * 1024, "{sent} bytes without a word");
    drop(deaf);
}

/// Checks that the lines of `bytes` come one after the other, and says which was the last. Lines may be missing
/// only at its beginning.
fn in_order(bytes: &[u8], before: u64) -> u64 {
    let mut newest = before;
    let text = std::str::from_utf8(bytes).unwrap();
    for line in text.split('\n') {
        let Some(number) = line.strip_prefix("line ").filter(|rest| rest.len() == 58) else {
            continue;
        };
        let number: u64 = number.parse().unwrap();
        if number == newest {
            continue;
        }
        assert!(number > newest, "{number} after {newest}");
        newest = number;
    }
    newest
}

#[tokio::test]
async fn a_viewer_that_is_too_far_behind_is_told_what_is_gone() {
    let mut baton = Baton::new().server_flags(&["--set", "terminals.scrollback=8KiB"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let id = baton.terminal(None).await;
    baton.terminal_runs(&id).await;
    let client = baton.client();
    let mut view = View::open(&client, from(&id, 0)).await.unwrap();
    for n in 0..40 {
        baton
            .types(
                &id,
                &format!("head -c 1000 /dev/zero | tr '\\0' x; echo; echo do''ne-{n}\r"),
            )
            .await;
        view.sees(&format!("done-{n}\r\n")).await;
    }
    assert_eq!(view.truncated, [0; 0], "who keeps up misses nothing");
    let shown = baton.shown(&id).await;
    let (oldest, next) = (shown.oldest_offset, shown.next_offset);
    assert!(oldest > 0 && next - oldest < 32 * 1024, "{oldest}..{next}");
    let mut behind = View::open(&client, from(&id, 1)).await.unwrap();
    behind.sees("done-39\r\n").await;
    // The trim that was due may have come in between.
    let [begins] = behind.truncated[..] else {
        panic!("{:?}", behind.truncated);
    };
    assert!(begins >= oldest, "{begins} and {oldest}");
    let here = (begins - view.from) as usize;
    let same = (behind.next_offset() - begins) as usize;
    assert_eq!(behind.bytes[..], view.bytes[here..here + same]);
    // Offset 0 means whatever there is, and a tail the newest of it.
    let mut tail = View::open(
        &client,
        v1::TerminalView {
            tail: Some(100),
            ..from(&id, 0)
        },
    )
    .await
    .unwrap();
    tail.sees("done-39\r\n").await;
    assert_eq!(tail.started.next_offset - tail.started.offset, 100);
    let future = View::open(&client, from(&id, next + 1_000_000))
        .await
        .err()
        .unwrap();
    assert_eq!(future.code(), Code::OutOfRange);
}

#[tokio::test]
async fn what_is_no_terminal_is_refused_with_a_word_why() {
    let baton = Baton::start().await;
    let client = baton.client();
    let headless = baton.session("demo", "say: hi").await.id;
    let none = View::open(&client, from(&headless, 0)).await.err().unwrap();
    assert_eq!(none.code(), Code::NotFound);
    let open = |request| client.open_terminal(request);
    let demo = v1::OpenTerminalRequest {
        harness: "demo".to_owned(),
        ..Default::default()
    };
    let refused = open(demo).await.unwrap_err();
    assert!(
        refused.message().contains("does not run in a terminal"),
        "{refused}"
    );
    let zero = v1::OpenTerminalRequest {
        size: Some(size(0, 24)),
        ..Default::default()
    };
    assert_eq!(open(zero).await.unwrap_err().code(), Code::InvalidInput);
    // CreateSession with the mode interactive is the same thing; it has no input beside its terminal.
    let interactive = v1::CreateSessionRequest {
        mode: v1::SessionMode::Interactive.into(),
        argv: Vec::new(),
        ..baton.shell("")
    };
    let with_input = v1::CreateSessionRequest {
        input: "hello".to_owned(),
        ..interactive.clone()
    };
    let refused = client.create_session(with_input).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidInput);
    let session = baton.create(interactive).await;
    let record = baton.record(&session).await;
    assert_eq!(record.title, "shell");
    baton.terminal_runs(&record.terminal_id).await;
    let input = v1::SendInputRequest {
        session_id: session.clone(),
        text: "ls".to_owned(),
        ..Default::default()
    };
    let refused = client.send_input(input).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotInteractive);
    let listed = client
        .list_terminals(v1::ListTerminalsRequest {
            living: true,
            ..Default::default()
        })
        .await
        .unwrap();
    let ids: Vec<_> = listed
        .terminals
        .iter()
        .map(|terminal| &terminal.id)
        .collect();
    assert_eq!(ids, [&record.terminal_id]);
}

/// The real CLI as a person uses it: its own screen in the terminal, a turn, an end by its own word; and its
/// conversation, whose id was given before it began, goes on in a session after that.
#[tokio::test]
async fn the_real_claude_code_runs_in_a_terminal_and_is_resumed() {
    let place = Place::new().await;
    let baton = &place.baton;
    let key = "stub-key-of-no-account";
    let answers = serde_json::json!({
        "hasCompletedOnboarding": true,
        "projects": { baton.project().to_string_lossy(): { "hasTrustDialogAccepted": true } },
        "customApiKeyResponses": { "approved": [&key[key.len() - 20..]], "rejected": [] },
    });
    let config = baton.dir().join("config/.claude.json");
    std::fs::write(&config, answers.to_string()).unwrap();
    let client = baton.client();
    let opened = client
        .open_terminal(v1::OpenTerminalRequest {
            harness: "claude-code".to_owned(),
            cwd: baton.project().to_string_lossy().into_owned(),
            size: Some(size(120, 40)),
            ..Default::default()
        })
        .await
        .unwrap();
    let id = opened.terminal.unwrap().id;
    let mut view = View::open(&client, from(&id, 0)).await.unwrap();
    view.sees("shortcuts").await;
    baton.types(&id, "say: plum").await;
    view.sees("plum").await;
    baton.types(&id, "\r").await;
    eventually("the model was asked", || async {
        let requests = place.api.requests();
        let asked = |request: &crate::support::model_api::Recorded| {
            request.body.to_string().contains("say: plum")
        };
        requests.iter().any(asked).then_some(())
    })
    .await;
    let shown = baton.shown(&id).await.session.unwrap();
    let conversation = shown.provider_session_id.clone();
    assert!(
        uuid::Uuid::parse_str(&conversation).is_ok(),
        "{conversation}"
    );
    let kept = || async {
        let projects = std::fs::read_dir(baton.dir().join("config/projects")).ok()?;
        let found = projects.flatten().find_map(|project| {
            std::fs::read_to_string(project.path().join(format!("{conversation}.jsonl"))).ok()
        })?;
        found.contains("\"type\":\"assistant\"").then_some(())
    };
    eventually("the conversation is kept under its id", kept).await;
    // What it was asked about trust and keys is its user's; nothing of it was changed by us.
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    assert_eq!(kept["hasCompletedOnboarding"], true);
    let close = v1::CloseTerminalRequest {
        terminal_id: id.clone(),
        ..Default::default()
    };
    client.close_terminal(close).await.unwrap();
    view.ends().await;
    // Its conversation is on the disk under the id that was given, and goes on.
    let resumed = client
        .resume_session(v1::ResumeSessionRequest {
            session_id: shown.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap();
    assert_eq!(resumed.mode(), v1::SessionMode::Interactive);
    assert_eq!(resumed.provider_session_id, conversation);
    let mut again = View::open(&client, from(&resumed.terminal_id, 0))
        .await
        .unwrap();
    again.sees("plum").await;
    let end = v1::CloseTerminalRequest {
        terminal_id: resumed.terminal_id,
        force: true,
        ..Default::default()
    };
    client.close_terminal(end).await.unwrap();
    let end = again.ends().await.end.unwrap();
    assert_eq!(end.reason(), v1::EndReason::Stopped);
}
