//! What a call is to rules and people: the name of its tool, and its input with the fields that rules look at.
//!
//! Rules are written in the words of Claude Code (`Bash(git status)`, `Edit(src/**)`). The protocol tells kinds of
//! tools and leaves names and inputs to the agent, so a call whose kind and input say surely what it does gets those
//! words. A name that an agent gives is believed only where the kind agrees: it may be the name of any tool that
//! somebody plugged into the agent.

use agent_client_protocol_schema::v1::ToolKind;
use serde_json::{Map, Value};

use super::calls::kind_of;
use super::state::Call;

/// Names that rules and modes know, with the kinds that such a tool has.
const KNOWN: &[(&str, &[ToolKind])] = &[
    ("Bash", &[ToolKind::Execute]),
    ("Read", &[ToolKind::Read]),
    ("NotebookRead", &[ToolKind::Read]),
    ("Glob", &[ToolKind::Search, ToolKind::Read]),
    ("Grep", &[ToolKind::Search, ToolKind::Read]),
    ("LS", &[ToolKind::Search, ToolKind::Read]),
    ("Write", &[ToolKind::Edit]),
    ("Edit", &[ToolKind::Edit]),
    ("MultiEdit", &[ToolKind::Edit]),
    ("NotebookEdit", &[ToolKind::Edit]),
    ("WebFetch", &[ToolKind::Fetch]),
];

/// The protocol's word for a kind.
pub(super) fn word(kind: ToolKind) -> &'static str {
    match kind {
        ToolKind::Read => "read",
        ToolKind::Edit => "edit",
        ToolKind::Delete => "delete",
        ToolKind::Move => "move",
        ToolKind::Search => "search",
        ToolKind::Execute => "execute",
        ToolKind::Think => "think",
        ToolKind::Fetch => "fetch",
        ToolKind::SwitchMode => "switch_mode",
        _ => "other",
    }
}

/// The name of the tool, and its input as an object.
pub(super) fn named(call: &Call) -> (String, Value) {
    let kind = kind_of(&call.kind);
    let mut input = match serde_json::from_str::<Value>(&call.input) {
        Ok(Value::Object(input)) => input,
        Ok(Value::Null) | Err(_) => Map::new(),
        // Not an object: kept, and odd enough never to be allowed by a rule.
        Ok(other) => return (plain_name(call), other),
    };
    let tool = match KNOWN.iter().find(|(name, _)| *name == call.name) {
        Some((name, kinds)) if kinds.contains(&kind) => (*name).to_owned(),
        _ => match (kind, &call.paths[..]) {
            (ToolKind::Execute, _) if input.contains_key("command") => "Bash".to_owned(),
            (ToolKind::Read, [path]) => with_path(&mut input, "Read", path),
            (ToolKind::Edit, [path]) => with_path(&mut input, "Edit", path),
            _ => plain_name(call),
        },
    };
    if input.is_empty() && !call.title.is_empty() {
        input.insert("title".to_owned(), Value::from(call.title.clone()));
    }
    (tool, Value::Object(input))
}

/// The path is the one that the agent says the call is about, whatever its own input calls it.
fn with_path(input: &mut Map<String, Value>, tool: &str, path: &str) -> String {
    input.insert("file_path".to_owned(), Value::from(path));
    tool.to_owned()
}

fn plain_name(call: &Call) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    let name: String = call
        .name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    let kind = match call.kind.as_str() {
        "" => "other",
        kind => kind,
    };
    match name.as_str() {
        "" => kind.to_owned(),
        // A name of ours that is not what it says.
        name if KNOWN.iter().any(|(known, _)| *known == name) => format!("{kind}:{name}"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(name: &str, kind: &str, input: Value, paths: &[&str]) -> (String, Value) {
        named(&Call {
            name: name.to_owned(),
            kind: kind.to_owned(),
            input: input.to_string(),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..Call::default()
        })
    }

    #[test]
    fn rules_know_what_is_surely_meant_and_nothing_else() {
        for (name, kind, input, paths, tool) in [
            ("Bash", "execute", json!({"command": "ls"}), &[][..], "Bash"),
            (
                "run_shell_command",
                "execute",
                json!({"command": "ls"}),
                &[],
                "Bash",
            ),
            ("", "execute", json!({"command": ["ls"]}), &[], "Bash"),
            (
                "Write",
                "edit",
                json!({"file_path": "/p/x"}),
                &["/p/x"],
                "Write",
            ),
            ("replace", "edit", json!({"a": 1}), &["/p/x"], "Edit"),
            (
                "replace",
                "edit",
                json!({"a": 1}),
                &["/p/x", "/p/y"],
                "replace",
            ),
            ("", "read", json!({}), &["/p/x"], "Read"),
            ("", "read", json!({}), &[], "read"),
            // Somebody's own tool that calls itself like one that is let pass.
            (
                "Read",
                "other",
                json!({"file_path": "/p/x"}),
                &["/p/x"],
                "other:Read",
            ),
            (
                "Read",
                "execute",
                json!({"file_path": "/p/x"}),
                &[],
                "execute:Read",
            ),
            ("mcp do it!", "other", json!({}), &[], "mcp_do_it_"),
            ("", "", json!(null), &[], "other"),
            ("", "nonsense", json!([1]), &[], "nonsense"),
        ] {
            let (named, _) = call(name, kind, input.clone(), paths);
            assert_eq!(named, tool, "{name} {kind} {input}");
        }
        let (_, input) = call("", "edit", json!({"file_path": "/elsewhere"}), &["/p/x"]);
        assert_eq!(input["file_path"], "/p/x");
        let (_, input) = call("", "read", json!("text"), &["/p/x"]);
        assert_eq!(input, json!("text"));
    }
}
