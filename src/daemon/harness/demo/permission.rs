//! What the agent must ask before it does it, and what an answer means.

use serde_json::{Value, json};

/// The modes a host may set.
pub const MODES: [&str; 6] = [
    "acceptEdits",
    "auto",
    "bypassPermissions",
    "default",
    "dontAsk",
    "plan",
];

/// Text for a tool that was stopped by an interrupt.
pub const REJECTED: &str = "The user doesn't want to proceed with this tool use. The tool use was rejected \
(eg. if it was a file edit, the new_string was NOT written to the file). STOP what you are doing and wait \
for the user to tell you how to proceed.";

/// Why an ask fails when nobody can answer any more.
pub const STREAM_CLOSED: &str =
    "AbortError: Tool permission stream closed before response received";

const MALFORMED: &str = "The canUseTool callback returned an invalid permission result. Expected {behavior: \
'allow', updatedInput?: object} or {behavior: 'deny', message: string}.";

/// What an answer to an ask says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go on.
    Allow {
        /// With this input instead of the one asked about.
        input: Option<Value>,
        /// And with these changes of what is asked from now on.
        updates: Vec<Value>,
    },
    /// Do not.
    Deny {
        /// What the tool's caller is told.
        message: String,
        /// End the turn, too.
        interrupt: bool,
    },
    /// There was no usable answer: the tool is refused, the turn goes on.
    Failed(String),
}

impl Verdict {
    /// What the `response` of a `control_response` says.
    pub fn of(response: &Value) -> Verdict {
        if response["subtype"] == "error" {
            let error = response["error"].as_str().unwrap_or("unknown error");
            return Verdict::failed(&format!("Error: {error}"));
        }
        let body = &response["response"];
        match body["behavior"].as_str() {
            Some("allow") => {
                let input = match &body["updatedInput"] {
                    Value::Null => None,
                    Value::Object(_) => Some(body["updatedInput"].clone()),
                    _ => return Verdict::Failed(MALFORMED.to_owned()),
                };
                let updates = body["updatedPermissions"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                Verdict::Allow { input, updates }
            }
            Some("deny") => match body["message"].as_str() {
                Some(message) => Verdict::Deny {
                    message: message.to_owned(),
                    interrupt: body["interrupt"] == true,
                },
                None => Verdict::Failed(MALFORMED.to_owned()),
            },
            _ => Verdict::Failed(MALFORMED.to_owned()),
        }
    }

    /// The verdict where the asking itself failed.
    pub fn failed(reason: &str) -> Verdict {
        Verdict::Failed(format!("Tool permission request failed: {reason}"))
    }
}

/// What is to be done about a call before it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    /// Run it.
    Allowed,
    /// Refuse it, with this reason.
    Refused(String),
    /// Ask.
    Ask,
}

/// The mode and the rules of a session. Rules last as long as the process, whatever destination they
/// name: the demo agent writes no settings.
#[derive(Debug)]
pub struct Permissions {
    mode: String,
    may_bypass: bool,
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq)]
struct Rule {
    tool: String,
    content: Option<String>,
    allow: bool,
}

/// The most rules a session holds; what comes later is not remembered, so it is asked about.
const RULES_MAX: usize = 1_000;

impl Permissions {
    /// The permissions at start; `None` if there is no such mode.
    pub fn new(mode: &str) -> Option<Permissions> {
        MODES.contains(&mode).then(|| Permissions {
            mode: mode.to_owned(),
            may_bypass: mode == "bypassPermissions",
            rules: Vec::new(),
        })
    }

    /// The mode.
    pub fn mode(&self) -> &str {
        &self.mode
    }

    /// Sets the mode; the error is the code and the text for the host.
    pub fn set_mode(&mut self, mode: &str) -> Result<(), (&'static str, String)> {
        if !MODES.contains(&mode) {
            return Err((
                "invalid_mode",
                format!(
                    "Cannot set permission mode: must be one of {}",
                    MODES.join(", ")
                ),
            ));
        }
        if mode == "bypassPermissions" && !self.may_bypass {
            return Err((
                "bypass_not_launched",
                "Cannot set permission mode to bypassPermissions: the session was not started with it"
                    .to_owned(),
            ));
        }
        mode.clone_into(&mut self.mode);
        Ok(())
    }

    /// Takes over the changes that came with an answer; true if the mode changed.
    pub fn update(&mut self, updates: &[Value]) -> bool {
        let before = self.mode.clone();
        for update in updates {
            match update["type"].as_str() {
                Some("setMode") => {
                    // A mode that cannot be set leaves the old one; the host sees it in the next line.
                    let _ = self.set_mode(update["mode"].as_str().unwrap_or_default());
                }
                Some("addRules") => {
                    for rule in rules_of(update) {
                        if self.rules.len() < RULES_MAX && !self.rules.contains(&rule) {
                            self.rules.push(rule);
                        }
                    }
                }
                Some("removeRules") => {
                    let gone = rules_of(update);
                    self.rules.retain(|rule| !gone.contains(rule));
                }
                _ => {}
            }
        }
        before != self.mode
    }

    /// Whether a call may run.
    pub fn ruling(&self, tool: &str, input: &Value) -> Ruling {
        // These two are questions to a person; no rule can answer them.
        if matches!(tool, "AskUserQuestion" | "ExitPlanMode") {
            return Ruling::Ask;
        }
        let mut matching = self
            .rules
            .iter()
            .filter(|rule| rule.matches(tool, input))
            .peekable();
        if matching.peek().is_some() {
            return if matching.all(|rule| rule.allow) {
                Ruling::Allowed
            } else {
                Ruling::Refused(format!("Permission to use {tool} has been denied."))
            };
        }
        match (self.mode.as_str(), tool) {
            // Neither changes anything.
            (_, "TodoWrite" | "Read") => Ruling::Allowed,
            ("bypassPermissions", _) | ("acceptEdits", "Write" | "Edit") => Ruling::Allowed,
            ("dontAsk", _) => Ruling::Refused(format!(
                "Permission to use {tool} has been denied because nothing is asked in this mode."
            )),
            _ => Ruling::Ask,
        }
    }
}

impl Rule {
    fn matches(&self, tool: &str, input: &Value) -> bool {
        if self.tool != tool {
            return false;
        }
        let subject = input["command"]
            .as_str()
            .or(input["file_path"].as_str())
            .unwrap_or_default();
        match self.content.as_deref() {
            None => true,
            Some(content) => match content.strip_suffix(":*").or(content.strip_suffix(" *")) {
                Some(prefix) => subject
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')),
                None => content == subject,
            },
        }
    }
}

fn rules_of(update: &Value) -> Vec<Rule> {
    let allow = match update["behavior"].as_str() {
        Some("allow") => true,
        Some("deny") => false,
        // `ask` is what happens without a rule.
        _ => return Vec::new(),
    };
    let rules = update["rules"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    rules
        .iter()
        .filter_map(|rule| {
            Some(Rule {
                tool: rule["toolName"].as_str()?.to_owned(),
                content: rule["ruleContent"].as_str().map(str::to_owned),
                allow,
            })
        })
        .collect()
}

/// What a person might allow for good along with this call.
pub fn suggestions(tool: &str, input: &Value) -> Value {
    match tool {
        "Bash" => {
            let command = input["command"].as_str().unwrap_or_default();
            let word = command.split_whitespace().next().unwrap_or_default();
            json!([{
                "type": "addRules",
                "rules": [{ "toolName": "Bash", "ruleContent": format!("{word}:*") }],
                "behavior": "allow",
                "destination": "session",
            }])
        }
        "Write" | "Edit" => json!([{
            "type": "setMode",
            "mode": "acceptEdits",
            "destination": "session",
        }]),
        _ => json!([]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: Value) -> Verdict {
        Verdict::of(&json!({ "subtype": "success", "response": body }))
    }

    #[test]
    fn answers_are_read_strictly() {
        assert!(matches!(
            answer(json!({ "behavior": "allow" })),
            Verdict::Allow { input: None, .. }
        ));
        for malformed in [
            json!({ "behaviour": "allow" }),
            json!({ "behavior": "allow", "updatedInput": "x" }),
            json!({ "behavior": "deny" }),
            json!(null),
        ] {
            assert!(matches!(answer(malformed), Verdict::Failed(_)));
        }
    }

    #[test]
    fn a_rule_covers_its_command_and_no_other() {
        let mut permissions = Permissions::new("default").expect("a mode");
        let bash = |command: &str| json!({ "command": command });
        let update = suggestions("Bash", &bash("touch a"));
        assert!(!permissions.update(update.as_array().expect("a list")));
        assert_eq!(
            permissions.ruling("Bash", &bash("touch b")),
            Ruling::Allowed
        );
        assert_eq!(permissions.ruling("Bash", &bash("touchy b")), Ruling::Ask);
        assert_eq!(
            permissions.ruling("Write", &json!({ "file_path": "touch" })),
            Ruling::Ask
        );
    }

    #[test]
    fn questions_are_asked_in_every_mode_and_bypass_must_be_launched() {
        let mut permissions = Permissions::new("acceptEdits").expect("a mode");
        assert_eq!(permissions.ruling("Edit", &json!({})), Ruling::Allowed);
        assert_eq!(
            permissions.ruling("AskUserQuestion", &json!({})),
            Ruling::Ask
        );
        assert!(permissions.set_mode("bypassPermissions").is_err());
        assert!(permissions.set_mode("nonsense").is_err());
        assert_eq!(permissions.mode(), "acceptEdits");
        assert!(Permissions::new("nonsense").is_none());
    }
}
