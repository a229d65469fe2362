//! Text while it is being written: `stream_event` lines.

use super::step::{Step, cut};
use crate::domain::event::TransientBody;
use crate::driver::line::Object;

impl Step<'_> {
    /// A `stream_event` line. It makes nothing that is stored: the finished block comes as a line of
    /// its own.
    pub(super) fn stream_event(&mut self, line: &Object<'_>) {
        let Some(event) = line.object("event") else {
            return;
        };
        let parent = cut(&line.text_or_empty("parent_tool_use_id"), 256);
        match event.text_or_empty("type").as_str() {
            "message_start" => {
                if parent.is_empty() {
                    self.turn(None);
                }
                let id = event
                    .object("message")
                    .map(|message| message.text_or_empty("id"))
                    .unwrap_or_default();
                self.state.begin_stream(parent, cut(&id, 256));
            }
            "content_block_start" => {
                if let Some(stream) = self.state.stream(&parent) {
                    stream.block = index(&event);
                    stream.offset = 0;
                }
            }
            "content_block_delta" => self.delta(&event, &parent),
            "message_stop" => self.state.streams.retain(|stream| stream.parent != parent),
            _ => {}
        }
    }

    fn delta(&mut self, event: &Object<'_>, parent: &str) {
        let Some(delta) = event.object("delta") else {
            return;
        };
        let (text, thinking) = match delta.text_or_empty("type").as_str() {
            "text_delta" => (delta.text_or_empty("text"), false),
            "thinking_delta" => (delta.text_or_empty("thinking"), true),
            _ => return,
        };
        let Some(stream) = self.state.stream(parent).filter(|_| !text.is_empty()) else {
            return;
        };
        let block = index(event);
        if stream.block != block {
            stream.block = block;
            stream.offset = 0;
        }
        let offset = stream.offset;
        stream.offset = offset.saturating_add(text.len() as u64);
        let message_id = stream.message_id.clone();
        self.transient(TransientBody::MessageDelta {
            message_id,
            block,
            offset,
            text,
            thinking,
        });
    }
}

fn index(event: &Object<'_>) -> u32 {
    u32::try_from(event.number("index").unwrap_or(0)).unwrap_or(u32::MAX)
}
