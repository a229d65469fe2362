//! What a request says, field by field, and what is wrong with it in the request's own names.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use serde_json::{Map, Value};

use super::call::Refused;

use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Result};

/// The fields of a body. One that is null is as good as absent, unless a handler says otherwise; one that nobody
/// asks for is passed over.
pub(super) struct Fields(Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> std::result::Result<Self, Refused> {
        let body = Bytes::from_request(request, state).await;
        let body =
            body.map_err(|problem| Error::invalid("body", format!("cannot be read: {problem}")))?;
        Ok(Fields::read(&body)?)
    }
}

impl Fields {
    /// Reads a body; none at all is an object without fields.
    fn read(body: &[u8]) -> Result<Self> {
        if body.is_empty() {
            return Ok(Fields(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Fields(map)),
            Ok(_) => Err(Error::invalid("body", "must be a JSON object")),
            Err(problem) => Err(Error::invalid("body", format!("is not JSON: {problem}"))),
        }
    }

    /// All that was said, to tell one request from another.
    pub(super) fn whole(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// An object within.
    pub(super) fn within(&self, name: &str) -> Result<Option<Fields>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields(map.clone()))),
            Some(_) => Err(Error::invalid(name, "must be an object")),
        }
    }

    /// The objects of a list.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<Fields>>> {
        let wrong = || Error::invalid(name, "must be a list of objects");
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::Object(map) => Ok(Fields(map.clone())),
                    _ => Err(wrong()),
                })
                .collect::<Result<_>>()
                .map(Some),
            Some(_) => Err(wrong()),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there, be it null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::invalid(name, "must be a text")),
        }
    }

    /// A text that must be there and say something.
    pub(super) fn required(&self, name: &str) -> Result<&str> {
        match self.text(name)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(missing(name)),
        }
    }

    /// A text with one of several names: the first that is there.
    pub(super) fn either(&self, names: &[&str]) -> Result<Option<&str>> {
        for name in names {
            if let Some(text) = self.text(name)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Yes or no.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Error::invalid(name, "must be true or false")),
        }
    }

    /// A whole number that is not negative.
    pub(super) fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<Option<T>> {
        let wrong = || Error::invalid(name, "must be a whole number that is not negative");
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let number = value.as_u64().ok_or_else(wrong)?;
                let number = T::try_from(number);
                number
                    .map(Some)
                    .map_err(|_| Error::invalid(name, "is too large"))
            }
        }
    }

    /// A number that is not negative.
    pub(super) fn amount(&self, name: &str) -> Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(amount) if amount.is_finite() && amount >= 0.0 => Ok(Some(amount)),
                _ => Err(Error::invalid(
                    name,
                    "must be a number that is not negative",
                )),
            },
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let wrong = || Error::invalid(name, "must be a list of texts");
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect::<Result<_>>()
                .map(Some),
            Some(_) => Err(wrong()),
        }
    }

    /// An object of texts.
    pub(super) fn map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>> {
        let wrong = || Error::invalid(name, "must be an object of texts");
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => map
                .iter()
                .map(|(key, value)| {
                    let value = value.as_str().ok_or_else(wrong)?;
                    Ok((key.clone(), value.to_owned()))
                })
                .collect::<Result<_>>()
                .map(Some),
            Some(_) => Err(wrong()),
        }
    }

    /// The name of the request, which makes a repeat harmless.
    pub(super) fn request_id(&self) -> Result<&str> {
        Ok(self.text("requestId")?.unwrap_or_default())
    }

    /// The revision that was read.
    pub(super) fn etag(&self) -> Result<Option<u64>> {
        self.text("etag")?.map(etag).transpose()
    }
}

fn etag(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| Error::invalid("etag", "is not one that this server gave"))
}

pub(super) fn missing(name: &str) -> Error {
    Error::new(Code::InvalidInput, format!("{name} is required"))
}

/// The fields of a query.
pub(super) struct Asked(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, Refused> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(pairs)) => Ok(Asked(pairs)),
            Err(_) => Err(Error::invalid("query", "cannot be read").into()),
        }
    }
}

impl Asked {
    /// A text; an empty one is as good as absent. Given twice, nobody knows which is meant.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        let mut found = self.0.iter().filter(|(key, _)| key == name);
        let first = found.next().map(|(_, value)| value.as_str());
        match found.next() {
            Some(_) => Err(Error::invalid(name, "is given twice")),
            None => Ok(first.filter(|text| !text.is_empty())),
        }
    }

    /// Yes or no; no if it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        match self.text(name)? {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(Error::invalid(name, "must be true or false")),
        }
    }

    /// The words of a list with commas.
    pub(super) fn words(&self, name: &str) -> Result<Vec<&str>> {
        let text = self.text(name)?.unwrap_or_default();
        Ok(text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect())
    }

    /// Which part of a list is wanted: `limit` and `pageToken`.
    pub(super) fn page(&self) -> Result<PageRequest> {
        let size = match self.text("limit")? {
            None => MAX_PAGE_SIZE,
            Some(text) => match text.parse() {
                Ok(size) if (1..=MAX_PAGE_SIZE).contains(&size) => size,
                _ => {
                    return Err(Error::invalid(
                        "limit",
                        format!("must be a number from 1 to {MAX_PAGE_SIZE}"),
                    ));
                }
            },
        };
        let token = self.text("pageToken")?.unwrap_or_default();
        let mut page = PageRequest::parse(1, token)
            .map_err(|_| Error::invalid("pageToken", "is not one that this server gave"))?;
        page.size = size;
        Ok(page)
    }

    /// The revision that was read.
    pub(super) fn etag(&self) -> Result<Option<u64>> {
        self.text("etag")?.map(etag).transpose()
    }
}
