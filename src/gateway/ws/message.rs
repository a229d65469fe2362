//! What a peer says, read: a JSON object with texts in it; and what it is told when it cannot be done.

use serde_json::{Map, Value};

use super::socket::Frame;
use crate::base::{Code, Error, Result};

/// Reads a message.
pub fn object(text: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(message)) => Ok(message),
        Ok(_) => Err(Error::invalid("message", "must be a JSON object")),
        Err(problem) => Err(Error::invalid("message", format!("is not JSON: {problem}"))),
    }
}

/// A text that must be there.
pub fn text<'a>(message: &'a Map<String, Value>, field: &str) -> Result<&'a str> {
    match message.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::invalid(field, "must be a text")),
        None => Err(Error::invalid(field, "is missing")),
    }
}

/// What is said to a message: what came of it, or the error that it was, as the dialect writes errors.
pub fn answered(done: Result<Vec<Frame>>, said: impl FnOnce(&Error) -> Value) -> Vec<Frame> {
    done.unwrap_or_else(|error| {
        note(&error);
        vec![Frame::must(said(&error))]
    })
}

/// Keeps in the log what a peer is not told of an error.
pub fn note(error: &Error) {
    if error.code() == Code::InternalError {
        tracing::error!(?error, "a message failed within");
    }
}
