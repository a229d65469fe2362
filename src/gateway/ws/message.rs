//! What a peer says, read: a JSON object with texts in it.

use serde_json::{Map, Value};

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

/// Keeps in the log what a peer is not told of an error.
pub fn note(error: &Error) {
    if error.code() == Code::InternalError {
        tracing::error!(?error, "a message failed within");
    }
}
