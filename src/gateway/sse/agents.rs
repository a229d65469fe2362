//! What all agents do, as one stream: `session_event` for what happens in their sessions, `notification` for what
//! waits for a person.

use axum::response::Response;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Source, Stream, last_event_id, piece};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::events::{AgentsItem, AgentsReader, Position};
use crate::base::{Error, Result};
use crate::domain::{Event, Prompt, SessionAgent};
use crate::gateway::views::iso;
use crate::gateway::views::orchestrator as view;

/// What a reader of all agents wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Everything.
    All,
    /// What happens in sessions: the older orchestrator has two words for it.
    Agents,
    /// The other.
    Sessions,
    /// What waits for a person.
    Notifications,
}

impl Category {
    /// Reads a category; none is all of them.
    pub fn parse(word: Option<&str>) -> Result<Self> {
        match word {
            None | Some("all") => Ok(Category::All),
            Some("agents") => Ok(Category::Agents),
            Some("sessions") => Ok(Category::Sessions),
            Some("notifications") => Ok(Category::Notifications),
            Some(_) => Err(Error::invalid(
                "category",
                "must be all, agents, sessions or notifications",
            )),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Category::All => "all",
            Category::Agents => "agents",
            Category::Sessions => "sessions",
            Category::Notifications => "notifications",
        }
    }
}

/// The stream of all agents that the caller sees: what comes from now on, or everything after `Last-Event-ID` or, for
/// a program that cannot send the header, `after`. It has no end of its own.
pub async fn agents(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    after: Option<&str>,
    category: Category,
) -> Result<Response> {
    let after = match last_event_id(headers)? {
        Some(text) => Some(Position::parse("Last-Event-ID", text)?),
        None => after
            .map(|text| Position::parse("after", text))
            .transpose()?,
    };
    let reader = app.follow_agents(caller, after).await?;
    let now = iso(app.clock().now());
    let mut hello = String::new();
    let connected = json!({ "timestamp": now, "category": category.as_str() });
    piece(None, "connected", &connected, &mut hello);
    let reader = Box::new(reader);
    let source = Source::Agents { reader, category };
    Ok(Stream::new(app, source, &hello).response())
}

/// What comes next; empty if it is nothing that this reader wants.
pub(super) async fn next(reader: &mut AgentsReader, category: Category) -> Result<String> {
    let mut text = String::new();
    match reader.next().await? {
        AgentsItem::Events(agent, events) if category != Category::Notifications => {
            let told: Vec<Value> = events
                .iter()
                .filter_map(|event| session_event(&agent, event))
                .collect();
            let position = reader.position().map(|position| position.to_string());
            let last = told.len().saturating_sub(1);
            for (at, data) in told.iter().enumerate() {
                // All of them are before that place, and only the last is at it.
                let id = position.as_deref().filter(|_| at == last);
                piece(id, "session_event", data, &mut text);
            }
        }
        AgentsItem::Asked(agent, prompt) => {
            let position = reader.position().map(|position| position.to_string());
            let data = notification(&agent, &prompt);
            piece(position.as_deref(), "notification", &data, &mut text);
        }
        AgentsItem::Truncated(session, oldest) => {
            let data = json!({ "sessionId": session.to_string(), "oldest": oldest });
            piece(None, "truncated", &data, &mut text);
        }
        AgentsItem::Events(..) => {}
    }
    Ok(text)
}

/// An event as an overview has it: of a tool, its name will do.
fn session_event(agent: &SessionAgent, event: &Event) -> Option<Value> {
    let (_, mut data) = view::event(event)?;
    data["agentId"] = agent.id.to_string().into();
    data["agentRole"] = agent.role.as_str().into();
    if let Some(fields) = data.as_object_mut()
        && let Some(tool) = fields.remove("tool")
        && let Some(name) = tool.get("name")
    {
        fields.insert("tool".to_owned(), name.clone());
    }
    Some(data)
}

fn notification(agent: &SessionAgent, prompt: &Prompt) -> Value {
    let mut data = view::prompt(prompt);
    data["type"] = "prompt".into();
    data["title"] = "An agent asks".into();
    data["message"] = view::asked(prompt).into();
    data["agentId"] = agent.id.to_string().into();
    data["agentRole"] = agent.role.as_str().into();
    data
}
