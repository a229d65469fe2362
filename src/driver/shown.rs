//! What a prompt shows of an input that is too large to be shown whole.

use serde_json::{Map, Value, json};

use super::line::{Object, string};
use super::step::cut;
use crate::base::Json;
use crate::domain::ContentRef;
use crate::domain::policy::SHOWN_IN_PART;

/// The largest input that a prompt shows whole, in bytes.
pub(super) const MAX_SHOWN_INPUT_BYTES: usize = 96 * 1024;
/// How much a prompt shows of one long text in a larger input, in bytes.
const MAX_SHOWN_TEXT_BYTES: usize = 8 * 1024;

/// The input as a prompt shows it if it is large: every long text is cut, so that rules still see its
/// fields; the whole is kept beside the event.
pub(super) fn cut_input(whole: &ContentRef, fields: &Object<'_>) -> Json {
    let mut shown = Map::new();
    let mut size = 0;
    for (key, raw) in fields.fields() {
        let value = match string(raw) {
            Some(text) if text.len() > MAX_SHOWN_TEXT_BYTES => {
                let kept = cut(&text, MAX_SHOWN_TEXT_BYTES);
                Value::String(format!("{kept} ({}{SHOWN_IN_PART}", text.len()))
            }
            _ if raw.len() > MAX_SHOWN_TEXT_BYTES => {
                Value::String(format!("({} bytes of JSON, not shown)", raw.len()))
            }
            Some(text) => Value::String(text),
            None => serde_json::from_str(raw).unwrap_or_default(),
        };
        size += key.len() + MAX_SHOWN_TEXT_BYTES.min(raw.len());
        if size > MAX_SHOWN_INPUT_BYTES {
            break;
        }
        shown.insert(key.to_owned(), value);
    }
    let reference = json!({
        "sha256": whole.sha256,
        "size_bytes": whole.size_bytes,
        "media_type": whole.media_type,
    });
    shown.insert("content".to_owned(), reference);
    Json::from_value(&Value::Object(shown))
}
