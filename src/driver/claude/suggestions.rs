//! What the harness suggests to remember with an allow, for people to look at; nothing of it is sent back.

use serde_json::{Value, json};

use crate::base::Json;
use crate::domain::prompt::Suggestion;
use crate::domain::visible::visible_line;
use crate::driver::line::Object;

/// The most suggestions that are taken over.
const MAX_SUGGESTIONS: usize = 16;
/// The largest suggestion, in bytes.
const MAX_SUGGESTION_BYTES: usize = 8 * 1024;

/// The suggestions of a request, as they would be sent: rules and directories, each narrowed to the
/// session. A change of the permission mode is left out, since it would widen far more than what was
/// asked about, and modes are the server's to decide.
pub(super) fn of(request: &Object<'_>) -> Vec<Suggestion> {
    let offered = request.array("permission_suggestions").unwrap_or_default();
    offered
        .into_iter()
        .filter(|text| text.len() <= MAX_SUGGESTION_BYTES)
        .filter_map(Object::parse)
        .filter_map(|offer| narrowed(&offer))
        .take(MAX_SUGGESTIONS)
        .collect()
}

fn narrowed(offer: &Object<'_>) -> Option<Suggestion> {
    match offer.text_or_empty("type").as_str() {
        "addRules" if offer.text("behavior").as_deref() == Some("allow") => {
            let rules: Vec<(String, Option<String>)> = offer
                .objects("rules")?
                .iter()
                .map(|rule| Some((rule.text("toolName")?, rule.text("ruleContent"))))
                .collect::<Option<_>>()?;
            let named: Vec<String> = rules
                .iter()
                .map(|(tool, content)| match content {
                    Some(content) => format!("{tool}({content})"),
                    None => tool.clone(),
                })
                .collect();
            let rules: Vec<Value> = rules.into_iter().map(rule).collect();
            if rules.is_empty() {
                return None;
            }
            Some(suggestion(
                format!("{} for this session", named.join(", ")),
                json!({"type": "addRules", "rules": rules, "behavior": "allow", "destination": "session"}),
            ))
        }
        "addDirectories" if offer.text("destination").as_deref() == Some("session") => {
            let directories = offer.texts("directories");
            if directories.is_empty() {
                return None;
            }
            Some(suggestion(
                format!("work in {} for this session", directories.join(", ")),
                json!({"type": "addDirectories", "directories": directories, "destination": "session"}),
            ))
        }
        _ => None,
    }
}

fn rule((tool, content): (String, Option<String>)) -> Value {
    match content {
        Some(content) => json!({"toolName": tool, "ruleContent": content}),
        None => json!({"toolName": tool}),
    }
}

fn suggestion(label: String, value: Value) -> Suggestion {
    Suggestion {
        label: visible_line(&label, 200),
        value: Json::from_value(&value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_remembered_beyond_the_session() {
        let request = r#"{"permission_suggestions":[
            {"type":"addRules","rules":[{"toolName":"Bash","ruleContent":"touch:*"}],"behavior":"allow","destination":"localSettings"},
            {"type":"addRules","rules":[{"toolName":"Read"}],"behavior":"allow","destination":"userSettings"},
            {"type":"addRules","rules":[{"toolName":"Bash"}],"behavior":"deny","destination":"session"},
            {"type":"addRules","rules":[{"tool":"Bash"}],"behavior":"allow","destination":"session"},
            {"type":"replaceRules","rules":[{"toolName":"Bash"}],"behavior":"allow","destination":"session"},
            {"type":"addDirectories","directories":["/srv/x"],"destination":"session"},
            {"type":"addDirectories","directories":["/"],"destination":"projectSettings"},
            {"type":"setMode","mode":"bypassPermissions","destination":"session"},
            7]}"#;
        let suggestions = of(&Object::parse(request).unwrap());
        let labels: Vec<&str> = suggestions.iter().map(|s| s.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "Bash(touch:*) for this session",
                "Read for this session",
                "work in /srv/x for this session"
            ]
        );
        for suggestion in suggestions {
            assert_eq!(suggestion.value.to_value()["destination"], "session");
        }
    }
}
