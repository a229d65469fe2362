//! JSON-RPC 2.0, one message a line.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::line::{Object, string};

/// The longest id of a request that is answered, in bytes.
const MAX_ID_BYTES: usize = 512;

/// "The method does not exist."
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
/// "The parameters are wrong."
pub(super) const INVALID_PARAMS: i64 = -32602;
/// What an agent answers when somebody has to sign in first.
pub(super) const AUTH_REQUIRED: i64 = -32000;
/// "The request was cancelled."
pub(super) const CANCELLED: i64 = -32800;

/// A message of an agent.
#[derive(Debug)]
pub(super) enum Message<'a> {
    /// It wants an answer.
    Request {
        /// Its id as it came, to be given back.
        id: &'a str,
        method: String,
        params: &'a str,
    },
    /// It wants none.
    Notification { method: String, params: &'a str },
    /// It answers a request of ours.
    Response {
        /// The request's id; a number is given as its text.
        id: String,
        result: Result<&'a str, Failure>,
    },
}

/// An error that an agent answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: i64,
    pub(super) message: String,
}

/// Reads a message; `None` if the object is none.
pub(super) fn read<'a>(line: &Object<'a>) -> Option<Message<'a>> {
    let method = line.text("method").filter(|method| !method.is_empty());
    let params = line.raw("params").unwrap_or("{}");
    let id = line.raw("id").filter(|id| {
        let plain =
            id.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
        plain && id.len() <= MAX_ID_BYTES
    });
    match (method, id) {
        (Some(method), Some(id)) => Some(Message::Request { id, method, params }),
        // With an id that cannot be given back it is no request that could be answered.
        (Some(_), None) if line.raw("id").is_some() => None,
        (Some(method), None) => Some(Message::Notification { method, params }),
        (None, Some(id)) => {
            let result = match line.object("error") {
                Some(error) => Err(Failure {
                    code: error.float("code").unwrap_or(0.0) as i64,
                    message: error.text_or_empty("message"),
                }),
                None => Ok(line.raw("result").unwrap_or("{}")),
            };
            Some(Message::Response {
                id: string(id).unwrap_or_else(|| id.to_owned()),
                result,
            })
        }
        (None, None) => None,
    }
}

/// A request of ours.
pub(super) fn request(id: &str, method: &str, params: &impl Serialize) -> Bytes {
    let (id, method) = (Value::from(id), Value::from(method));
    let params = json(params);
    line(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#
    ))
}

/// A notification of ours.
pub(super) fn notification(method: &str, params: &impl Serialize) -> Bytes {
    let (method, params) = (Value::from(method), json(params));
    line(format!(
        r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#
    ))
}

/// The answer to a request; `id` is its id as it came.
pub(super) fn response(id: &str, result: &impl Serialize) -> Bytes {
    let result = json(result);
    line(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#
    ))
}

/// An error as the answer to a request.
pub(super) fn error(id: &str, code: i64, message: &str) -> Bytes {
    let message = Value::from(message);
    line(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#
    ))
}

/// The types of the protocol have nothing that JSON cannot say; `null` is refused by the agent, should one ever.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn line(mut text: String) -> Bytes {
    text.push('\n');
    Bytes::from(text)
}
