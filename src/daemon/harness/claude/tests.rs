//! How the programs are started.

use std::path::PathBuf;

use super::{ClaudeCode, ClaudeOptions, Demo};
use crate::base::id::SessionId;
use crate::daemon::harness::HarnessKind;
use crate::domain::PermissionMode;
use crate::domain::command::StartCommand;
use crate::domain::session::Mode;

fn start() -> StartCommand {
    StartCommand {
        harness: "claude-code".to_owned(),
        cwd: "/home/dev/project".to_owned(),
        model: String::new(),
        permission_mode: PermissionMode::Ask,
        mode: Mode::Headless,
        argv: Vec::new(),
        env_names: Vec::new(),
        provider_session_id: String::new(),
        fork: false,
        one_shot: false,
        replaces: None,
        terminal: None,
        instructions: String::new(),
    }
}

#[test]
fn a_harness_is_started_with_flags_that_carry_their_values() {
    let program = std::env::current_exe().unwrap();
    let claude = ClaudeCode::new(ClaudeOptions {
        program: Some(program.clone()),
        ..ClaudeOptions::default()
    });
    let demo = Demo::new(program, Some(PathBuf::from("/srv/demo")));
    let launch =
        |kind: &dyn HarnessKind, start: &StartCommand| kind.launch(SessionId::from_bits(7), start);
    let with = |change: fn(&mut StartCommand)| {
        let mut start = start();
        change(&mut start);
        start
    };
    for mode in [
        PermissionMode::Deny,
        PermissionMode::Ask,
        PermissionMode::AutoSafe,
        PermissionMode::Auto,
    ] {
        let mut start = with(|start| {
            start.model = "opus".to_owned();
            start.provider_session_id = "0a-b_c".to_owned();
            start.fork = true;
        });
        start.permission_mode = mode;
        for argv in [
            launch(&claude, &start).unwrap().argv,
            launch(&demo, &start).unwrap().argv,
        ] {
            let tail = &argv[argv.len() - 4..];
            assert_eq!(
                tail,
                [
                    "--permission-mode=default",
                    "--model=opus",
                    "--resume=0a-b_c",
                    "--fork-session"
                ]
            );
            assert!(
                !argv
                    .iter()
                    .any(|flag| flag.contains("bypass") || flag.contains("dangerously"))
            );
        }
    }
    let argv = launch(&claude, &start()).unwrap().argv;
    for flag in [
        "-p",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        "--permission-prompt-tool=stdio",
        "--include-partial-messages",
        "--replay-user-messages",
    ] {
        assert!(argv.iter().any(|given| given == flag), "{flag}");
    }
    for bad in [
        with(|start| start.model = "--dangerously-skip-permissions x".to_owned()),
        with(|start| start.model = "a\u{0}".to_owned()),
        with(|start| start.provider_session_id = "../x".to_owned()),
        with(|start| start.provider_session_id = "-x".to_owned()),
        with(|start| start.fork = true),
    ] {
        let mut in_terminal = bad.clone();
        in_terminal.mode = Mode::Interactive;
        assert!(
            launch(&claude, &bad).is_err()
                && launch(&claude, &in_terminal).is_err()
                && launch(&demo, &bad).is_err(),
            "{bad:?}"
        );
    }
    // In a terminal the conversation has its id before it begins, and the mode is told.
    let interactive = with(|start| start.mode = Mode::Interactive);
    assert!(launch(&demo, &interactive).is_err());
    let begun = launch(&claude, &interactive).unwrap();
    let [_, mode, id] = &begun.argv[..] else {
        panic!("{:?}", begun.argv);
    };
    assert_eq!(mode, "--permission-mode=manual");
    let id = id.strip_prefix("--session-id=").unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
    assert!(begun.env.iter().any(|(name, _)| name == "TERM"));
    let branch = with(|start| {
        start.mode = Mode::Interactive;
        start.provider_session_id = "0a-b_c".to_owned();
        start.fork = true;
    });
    let branch = launch(&claude, &branch).unwrap().argv;
    let own = format!("--session-id={id}");
    assert_eq!(branch[2..], ["--resume=0a-b_c", "--fork-session", &own]);
    assert!(demo.probe().available && demo.probe().unavailable_reason.is_empty());
    assert!(!ClaudeCode::new(ClaudeOptions::default()).probe().available);
}
