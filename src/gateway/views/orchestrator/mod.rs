//! The orchestrator's dialect: what it shows of agents, sessions, worktrees, tasks and events. In camelCase; what
//! is not known is left out.

mod agent;
mod event;
mod prompt;
mod session;
mod task;
mod worktree;

pub use agent::agent;
pub use event::{event, signal};
pub use prompt::{asked, prompt};
pub use session::{lifecycles, session, status};
pub use task::{dependencies, task};
pub use worktree::worktree;

use serde_json::{Map, Value};

use crate::base::{Timestamp, id};

/// An object being filled.
#[derive(Default)]
struct Shown(Map<String, Value>);

impl Shown {
    fn put(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// What is there.
    fn some(&mut self, key: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.put(key, value);
        }
        self
    }

    /// A text that is not empty.
    fn text(&mut self, key: &str, text: &str) -> &mut Self {
        self.some(key, (!text.is_empty()).then_some(text))
    }

    /// A time, where there is one.
    fn time(&mut self, key: &str, time: Option<Timestamp>) -> &mut Self {
        self.some(key, time.map(super::iso))
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// Ids as texts.
fn ids<T: std::fmt::Display>(ids: &[T]) -> Value {
    ids.iter().map(T::to_string).collect()
}

/// A place in the log of a session, as streams over several sessions name it.
pub fn event_id(session: id::SessionId, seq: u64) -> String {
    format!("{session}:{seq}")
}
