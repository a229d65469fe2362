//! The orchestrator's second socket: which records change, by channels.
//!
//! What is told is what a record is now, not every step that it took. A message that is not understood changes
//! nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};
use serde_json::{Map, Value, json};

use super::message;
use super::socket::{Frame, Talk as Talking};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::events::{Change, ChangeBatch, Changed, Tables};
use crate::app::pace::Pace;
use crate::base::id::{AgentId, PromptId, SessionId, TaskId, WorktreeId};
use crate::base::{Code, Error, Result};
use crate::gateway::views::orchestrator as view;

/// The most channels that one message names.
const MAX_NAMED: usize = 50;

/// What may be listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Tasks,
    Agents,
    Sessions,
    Prompts,
    Worktrees,
}

impl Channel {
    const ALL: [Channel; 5] = [
        Channel::Tasks,
        Channel::Agents,
        Channel::Sessions,
        Channel::Prompts,
        Channel::Worktrees,
    ];

    /// The channels that a word names; none if it names none that is served.
    fn named(word: &str) -> &'static [Channel] {
        match word {
            "tasks" => &[Channel::Tasks],
            "agents" => &[Channel::Agents],
            "sessions" => &[Channel::Sessions],
            // What agents ask people is what is in their inbox.
            "prompts" | "inbox" => &[Channel::Prompts],
            "worktrees" => &[Channel::Worktrees],
            "*" => &Channel::ALL,
            _ => &[],
        }
    }

    const fn element(self) -> &'static str {
        match self {
            Channel::Tasks => "task",
            Channel::Agents => "agent",
            Channel::Sessions => "session",
            Channel::Prompts => "prompt",
            Channel::Worktrees => "worktree",
        }
    }

    /// The tables that its records are followed in.
    const fn tables(self) -> Tables {
        match self {
            Channel::Tasks => Tables::Tasks(None),
            Channel::Agents | Channel::Sessions | Channel::Prompts | Channel::Worktrees => {
                Tables::All
            }
        }
    }

    /// Of which channel a record is that is gone, by its id.
    fn of_id(id: &str) -> Option<Channel> {
        let (prefix, _) = id.split_once('_')?;
        Some(match prefix {
            TaskId::PREFIX => Channel::Tasks,
            AgentId::PREFIX => Channel::Agents,
            SessionId::PREFIX => Channel::Sessions,
            PromptId::PREFIX => Channel::Prompts,
            WorktreeId::PREFIX => Channel::Worktrees,
            _ => return None,
        })
    }
}

/// What is said on one socket.
pub struct Talk {
    app: App,
    pace: Arc<Pace>,
    caller: Caller,
    /// The words that were subscribed to, in their order.
    words: Vec<String>,
    /// Which records `feeds` follow.
    follows: Vec<Tables>,
    feeds: SelectAll<BoxStream<'static, Result<ChangeBatch>>>,
    /// What is to be told yet; one at a time, so that what waits to be written stays small.
    changes: VecDeque<Change>,
}

impl Talk {
    /// Listens to nothing yet.
    pub fn new(app: App, pace: Arc<Pace>, caller: Caller) -> Self {
        Talk {
            app,
            pace,
            caller,
            words: Vec::new(),
            follows: Vec::new(),
            feeds: SelectAll::new(),
            changes: VecDeque::new(),
        }
    }

    fn hears(&self, channel: Channel) -> bool {
        self.words
            .iter()
            .any(|word| Channel::named(word).contains(&channel))
    }

    async fn obey(&mut self, heard: &str) -> Result<Vec<Frame>> {
        let message = &message::object(heard)?;
        self.pace.message(&self.caller)?;
        match message::text(message, "type")? {
            "ping" => Ok(vec![Frame::must(json!({ "type": "pong" }))]),
            "subscribe" => self.subscribe(message).await,
            "unsubscribe" => self.unsubscribe(message),
            other => Err(Error::new(
                Code::UnknownMethod,
                format!("there is no message of the type {other:?}"),
            )),
        }
    }

    async fn subscribe(&mut self, message: &Map<String, Value>) -> Result<Vec<Frame>> {
        let words = channels(message)?;
        let after =
            match message.get("lastEventId") {
                None | Some(Value::Null) => None,
                Some(value) => Some(value.as_u64().ok_or_else(|| {
                    Error::invalid("lastEventId", "must be the number of an event")
                })?),
            };
        let (served, unknown): (Vec<&str>, Vec<&str>) = words
            .into_iter()
            .partition(|word| !Channel::named(word).is_empty());
        if !served.is_empty() {
            let known = self.words.iter().map(String::as_str);
            let channels = known.chain(served.iter().copied()).flat_map(Channel::named);
            let channels: Vec<Channel> = channels.copied().collect();
            self.listen(&channels, after).await?;
        }
        for word in &served {
            if !self.words.iter().any(|known| known == word) {
                self.words.push((*word).to_owned());
            }
        }
        let mut frames = Vec::new();
        if !unknown.is_empty() {
            let error = Error::invalid(
                "channels",
                format!("names what is not served: {}", unknown.join(", ")),
            );
            frames.push(Frame::must(said(&error)));
        }
        if !served.is_empty() || unknown.is_empty() {
            frames.push(Frame::must(
                json!({ "type": "subscribed", "channels": served }),
            ));
        }
        Ok(frames)
    }

    fn unsubscribe(&mut self, message: &Map<String, Value>) -> Result<Vec<Frame>> {
        let words = channels(message)?;
        self.words.retain(|word| !words.contains(&word.as_str()));
        if self.words.is_empty() {
            self.hush();
        }
        Ok(vec![Frame::must(
            json!({ "type": "unsubscribed", "channels": words }),
        )])
    }

    /// Follows the records of channels from now on, or after the event of a number. A commit may have changed several
    /// of them under one number: those of that one come again. If it fails, it goes on as it was.
    async fn listen(&mut self, channels: &[Channel], after: Option<u64>) -> Result<()> {
        let from = match after {
            Some(number) => number.saturating_sub(1),
            None => self.app.newest_revision(),
        };
        let mut begun = Vec::new();
        for tables in [Tables::Tasks(None), Tables::All] {
            let is_wanted = channels.iter().any(|channel| channel.tables() == tables);
            if is_wanted && (after.is_some() || !self.follows.contains(&tables)) {
                let reader = self.app.follow_changes(&self.caller, tables, from);
                begun.push((tables, reader.await?));
            }
        }
        if after.is_some() {
            self.hush();
        }
        for (tables, reader) in begun {
            self.follows.push(tables);
            self.feeds.push(reader.into_stream());
        }
        Ok(())
    }

    /// Follows nothing any more.
    fn hush(&mut self) {
        self.feeds = SelectAll::new();
        self.follows.clear();
        self.changes.clear();
    }

    /// A change as it is told; `None` for one that nobody here listens to.
    fn told(&self, change: &Change) -> Option<Frame> {
        let (channel, id, record) = match &change.changed {
            Changed::Task(shown) => {
                let task = view::task(shown, false);
                (Channel::Tasks, shown.task.id.to_string(), task)
            }
            Changed::Agent(shown) => {
                let agent = view::agent(shown);
                (Channel::Agents, shown.agent.id.to_string(), agent)
            }
            Changed::Session(shown) => {
                let session = view::session(&shown.session, None, None);
                (Channel::Sessions, shown.session.id.to_string(), session)
            }
            Changed::Prompt(prompt) => (
                Channel::Prompts,
                prompt.id.to_string(),
                view::prompt(prompt),
            ),
            Changed::Worktree(shown) => {
                let worktree = view::worktree(shown);
                (Channel::Worktrees, shown.worktree.id.to_string(), worktree)
            }
            Changed::Deleted(id) => (Channel::of_id(id)?, id.clone(), Value::Null),
            Changed::Daemon(_) => return None,
        };
        let what = match record {
            Value::Null => "deleted",
            _ => "updated",
        };
        self.hears(channel).then(|| {
            let mut said = json!({
                "type": "event",
                "event": {
                    "id": change.revision,
                    "elementId": id,
                    "elementType": channel.element(),
                    "eventType": what,
                    "oldValue": null,
                },
            });
            // The macro would copy the record.
            said["event"]["newValue"] = record;
            Frame::must(said)
        })
    }
}

/// The channels that a message names.
fn channels(message: &Map<String, Value>) -> Result<Vec<&str>> {
    let wrong = || Error::invalid("channels", "must be a list of texts");
    let Some(Value::Array(words)) = message.get("channels") else {
        return Err(wrong());
    };
    if words.len() > MAX_NAMED {
        return Err(Error::invalid(
            "channels",
            format!("names {}; the most is {MAX_NAMED}", words.len()),
        ));
    }
    words
        .iter()
        .map(|word| word.as_str().ok_or_else(wrong))
        .collect()
}

fn said(error: &Error) -> Value {
    json!({ "type": "error", "code": error.code().as_str(), "message": error.message() })
}

impl Talking for Talk {
    async fn next(&mut self) -> Result<Vec<Frame>> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                match self.told(&change) {
                    Some(frame) => return Ok(vec![frame]),
                    None => continue,
                }
            }
            match self.feeds.next().await {
                Some(Ok(ChangeBatch::Changes(changes))) => self.changes.extend(changes),
                // It was away for longer than deletions are remembered: everything comes again.
                Some(Ok(ChangeBatch::Truncated(through))) => {
                    return Ok(vec![Frame::must(
                        json!({ "type": "truncated", "through": through }),
                    )]);
                }
                Some(Ok(ChangeBatch::Started(_) | ChangeBatch::Progress(_))) => {}
                Some(Err(error)) => return Err(error),
                None => std::future::pending().await,
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Vec<Frame> {
        message::answered(self.obey(text).await, said)
    }

    fn heartbeat(&self) -> Option<Value> {
        None
    }

    fn error(&self, error: &Error) -> Value {
        said(error)
    }

    fn is_over(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::DaemonId;

    #[test]
    fn what_is_gone_is_told_by_its_id_to_the_channel_that_it_was_of() {
        for (id, channel) in [
            (SessionId::from_bits(1).to_string(), Some(Channel::Sessions)),
            (AgentId::from_bits(1).to_string(), Some(Channel::Agents)),
            (TaskId::from_bits(1).to_string(), Some(Channel::Tasks)),
            (PromptId::from_bits(1).to_string(), Some(Channel::Prompts)),
            (
                WorktreeId::from_bits(1).to_string(),
                Some(Channel::Worktrees),
            ),
            (DaemonId::from_bits(1).to_string(), None),
            ("x".to_owned(), None),
        ] {
            assert_eq!(Channel::of_id(&id), channel, "{id}");
        }
        for channel in Channel::ALL {
            assert!(Channel::named("*").contains(&channel));
        }
    }
}
