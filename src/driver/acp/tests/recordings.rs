//! What real agents wrote, read from beginning to end.

use super::rig::*;
use crate::domain::CommandBody;

const CLAUDE: &str = include_str!("../../../../tests/fixtures/acp/claude.txt");
const OPENCODE: &str = include_str!("../../../../tests/fixtures/acp/opencode.txt");

/// Plays a recording of one process; gives what was told.
fn played(recording: &str, resumes: &str) -> Vec<String> {
    let mut start = start();
    start.provider_session_id = resumes.to_owned();
    let mut rig = Rig::of(&start);
    for line in recording.lines() {
        let (way, text) = line.split_once(' ').unwrap_or((line, ""));
        match way {
            "out" if text.contains("$PROMPT") => {
                let text = text.replace("$PROMPT", &rig.running());
                rig.line(&text);
            }
            "out" => rig.line(text),
            "err" => rig.feed(crate::driver::RecordBody::Stderr {
                data: text.as_bytes().to_vec().into(),
                continues: false,
            }),
            "prompt" => {
                rig.input(text);
            }
            "answer" => {
                let prompt = rig.prompts().pop().unwrap();
                let sent = rig.answer(&prompt, allow()).unwrap();
                assert_eq!(sent[0]["result"]["outcome"]["optionId"], text);
            }
            "cancel" => {
                let sent = rig.does(CommandBody::Interrupt).unwrap();
                assert_eq!(sent[0]["method"], "session/cancel");
                assert_eq!(sent[1]["result"]["outcome"]["outcome"], "cancelled");
            }
            _ => {}
        }
    }
    rig.exits(Some(0));
    rig.told()
}

fn processes(recording: &str) -> Vec<&str> {
    recording.split("spawn\n").skip(1).collect()
}

#[test]
fn the_adapter_for_claude_is_told_turn_by_turn() {
    let processes = processes(CLAUDE);
    let told = played(processes[0], "");
    let expected = [
        "started",
        "notice _auth/status_update",
        "started 5ff06c3b-0447-4388-a9e5-bebad00ca012 0.100.0",
        "AwaitingInput",
        "Working",
        "input applied",
        "turn",
        "notice available_commands_update",
        "notice session_info_update Stub title",
        "Agent: hello over acp",
        "end false end_turn hello over acp",
        "AwaitingInput",
        "Working",
        "input applied",
        "turn",
        r#"Bash {"command":"mkfifo allowed-once","description":"Run a command"}"#,
        "asks Bash: mkfifo allowed-once",
        "AwaitingPrompt",
        "Working",
        "done (Bash completed with no output)",
        "Agent: tool said: (Bash completed with no output)",
        "end false end_turn tool said: (Bash completed with no output)",
        "AwaitingInput",
        "Working",
        "input applied",
        "turn",
        r#"Write {"file_path":"/srv/proj/written.txt","content":"some text"}"#,
        "asks Write: /srv/proj/written.txt",
        "AwaitingPrompt",
        "Working",
    ];
    assert_eq!(told[..expected.len()], expected, "{told:#?}");
    let rest = &told[expected.len()..];
    assert!(
        rest[0].starts_with("done File created successfully")
            && rest[0].contains("+++ /srv/proj/written.txt\n@@ -0,0 +1,1 @@\n+some text"),
        "{rest:#?}"
    );
    let from = rest
        .iter()
        .position(|word| word.starts_with("notice elicitation"))
        .unwrap();
    assert_eq!(
        rest[from],
        r#"notice elicitation/create Baton does not offer "elicitation/create""#
    );
    let from = rest
        .iter()
        .position(|word| word.contains("mknod never"))
        .unwrap();
    assert_eq!(
        rest[from..],
        [
            r#"Bash {"command":"mknod never p","description":"Run a command"}"#,
            "asks Bash: mknod never p",
            "AwaitingPrompt",
            "withdrawn the turn was cancelled",
            "Working",
            "failed ```\nTool permission request failed: Error: Tool use aborted\n```",
            "end true cancelled",
            "AwaitingInput",
        ]
    );
}

#[test]
fn an_old_conversation_that_is_loaded_is_not_told_again() {
    let id = "5ff06c3b-0447-4388-a9e5-bebad00ca012";
    let told = played(processes(CLAUDE)[1], id);
    assert_eq!(
        told,
        [
            format!("started {id}"),
            format!("started {id} 0.100.0"),
            "AwaitingInput".to_owned(),
            "Working".to_owned(),
            "input applied".to_owned(),
            "turn".to_owned(),
            "Agent: after the load".to_owned(),
            "end false end_turn after the load".to_owned(),
            "AwaitingInput".to_owned(),
        ]
    );
}

#[test]
fn opencode_asks_by_kinds_and_rules_still_know_what_is_meant() {
    let told = played(processes(OPENCODE)[0], "");
    let of = |what: &str| -> Vec<&str> {
        told.iter()
            .filter(|word| word.starts_with(what))
            .map(String::as_str)
            .collect()
    };
    assert_eq!(
        of("asks"),
        [
            "asks Bash: mkfifo allowed-once",
            "asks Edit: /srv/proj/written.txt"
        ]
    );
    assert_eq!(of("Bash").len(), 1, "{told:#?}");
    assert_eq!(of("done (no output)").len(), 1, "{told:#?}");
    assert!(of("done Wrote file")[0].contains("+some text"), "{told:#?}");
    assert_eq!(of("end false end_turn").len(), 3, "{told:#?}");
    // Files are the agent's own business.
    assert_eq!(of("notice fs/write_text_file").len(), 1);
}
