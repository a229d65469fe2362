//! Pages of a list.

use super::error::{Error, Result};

/// How many items a page has when the caller does not say.
pub const DEFAULT_PAGE_SIZE: usize = 50;
/// The most items a page may have.
pub const MAX_PAGE_SIZE: usize = 1_000;
/// The longest page token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 1_024;

/// What part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// At most this many items, 1 to [`MAX_PAGE_SIZE`].
    pub size: usize,
    /// Continue after this key; `None` starts at the beginning. Opaque to callers.
    pub after: Option<String>,
}

impl PageRequest {
    /// Checks what a caller sent: a size of 0 is the default, above the maximum is an error, and a
    /// token must be one that [`PageRequest::token`] made.
    pub fn parse(page_size: i32, page_token: &str) -> Result<Self> {
        let size = match page_size {
            0 => DEFAULT_PAGE_SIZE,
            n if n < 0 => return Err(Error::invalid("page_size", "must not be negative")),
            n if n as usize > MAX_PAGE_SIZE => {
                return Err(Error::invalid(
                    "page_size",
                    format!("is {n}; the most is {MAX_PAGE_SIZE}"),
                ));
            }
            n => n as usize,
        };
        let after = if page_token.is_empty() {
            None
        } else {
            Some(Self::read_token(page_token)?)
        };
        Ok(PageRequest { size, after })
    }

    /// The token that continues after `key`.
    pub fn token(key: &str) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key)
    }

    fn read_token(token: &str) -> Result<String> {
        use base64::Engine as _;
        let bad = || {
            Error::invalid(
                "page_token",
                "is not one this server gave out; start again without a token",
            )
        };
        if token.len() > MAX_TOKEN_BYTES {
            return Err(bad());
        }
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| bad())?;
        String::from_utf8(bytes).map_err(|_| bad())
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// The key to continue after; `None` when this was the last page.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The token for the next page; empty when this was the last one.
    pub fn next_token(&self) -> String {
        self.next
            .as_deref()
            .map(PageRequest::token)
            .unwrap_or_default()
    }

    /// The same page with every item converted.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next: self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_its_key() {
        let token = PageRequest::token("ses_1/2");
        assert_eq!(
            PageRequest::parse(0, &token).unwrap().after.as_deref(),
            Some("ses_1/2")
        );
    }

    #[test]
    fn sizes_and_tokens_are_checked() {
        assert!(PageRequest::parse(-1, "").is_err());
        assert!(PageRequest::parse(1_001, "").is_err());
        assert!(PageRequest::parse(1_000, "").is_ok());
        assert!(PageRequest::parse(1, "%%%").is_err());
        assert!(PageRequest::parse(1, &"A".repeat(5_000)).is_err());
    }
}
