//! Messages while they are written: chunks go out live, and as one event when something else begins.

use agent_client_protocol_schema::v1::{
    ContentBlock, ContentChunk, EmbeddedResource, EmbeddedResourceResource,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::state::Said;
use super::step::{Step, cut};
use super::turns::MAX_RESULT_BYTES;
use crate::domain::content::{MAX_INLINE_TEXT_BYTES, floor_char};
use crate::domain::event::{Role, TransientBody};
use crate::domain::{Block, EventBody};

/// The longest text that is gathered; a longer one goes on in the next event, in bytes.
const MAX_SAID_BYTES: usize = MAX_INLINE_TEXT_BYTES;
/// The longest id of a message that is kept, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Who says a chunk, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    Agent,
    Thought,
    User,
}

impl Step<'_> {
    /// A piece of a message.
    pub(super) fn chunk(&mut self, voice: Voice, chunk: ContentChunk) {
        let id = chunk.message_id.map(|id| id.0.to_string());
        let id = cut(&id.unwrap_or_default(), MAX_ID_BYTES);
        let text = match chunk.content {
            ContentBlock::Text(text) => text.text,
            other => {
                self.flush();
                let mut budget = Self::budget();
                let block = self.block(other, &mut budget);
                return self.message(voice, id, block);
            }
        };
        if text.is_empty() {
            return;
        }
        let same = self.state.said.as_ref().is_some_and(|said| {
            said.message_id == id
                && said.thinking == (voice == Voice::Thought)
                && said.by_user == (voice == Voice::User)
        });
        if !same {
            self.flush();
        }
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let said = match self.state.said.take() {
                Some(said) => said,
                None => self.begin_said(voice, id.clone()),
            };
            let said = self.state.said.insert(said);
            let room = MAX_SAID_BYTES.saturating_sub(said.text.len());
            let (now, later) = rest.split_at(floor_char(rest, room));
            let offset = said.text.len() as u64;
            said.text.push_str(now);
            let live = TransientBody::MessageDelta {
                message_id: said.message_id.clone(),
                block: said.block,
                offset,
                text: now.to_owned(),
                thinking: said.thinking,
            };
            let is_agents = !said.by_user;
            if is_agents && !now.is_empty() {
                self.transient(live);
            }
            rest = later;
            if !rest.is_empty() {
                self.flush();
            }
        }
    }

    fn begin_said(&mut self, voice: Voice, message_id: String) -> Said {
        self.state.blocks = self.state.blocks.wrapping_add(1);
        Said {
            by_user: voice == Voice::User,
            thinking: voice == Voice::Thought,
            message_id,
            block: self.state.blocks,
            text: String::new(),
        }
    }

    /// Tells the message that was being written, if there is one.
    pub(super) fn flush(&mut self) {
        let Some(said) = self.state.said.take() else {
            return;
        };
        let voice = match (said.by_user, said.thinking) {
            (true, _) => Voice::User,
            (false, true) => Voice::Thought,
            (false, false) => Voice::Agent,
        };
        if voice == Voice::Agent
            && let Some(turn) = &mut self.state.turn
        {
            turn.last_said = cut(&said.text, MAX_RESULT_BYTES);
        }
        let block = match said.thinking {
            true => Block::Thinking(said.text),
            false => Block::Text(said.text),
        };
        self.message(voice, said.message_id, block);
    }

    fn message(&mut self, voice: Voice, message_id: String, block: Block) {
        self.event(EventBody::Message {
            role: match voice {
                Voice::User => Role::User,
                Voice::Agent | Voice::Thought => Role::Agent,
            },
            blocks: vec![block],
            message_id,
            parent_call_id: String::new(),
        });
    }

    /// A part of a message or of a tool's result.
    pub(super) fn block(&mut self, block: ContentBlock, budget: &mut usize) -> Block {
        let bytes = |step: &mut Self, data: &str, media_type: &str| {
            let media_type = match is_media_type(media_type) {
                true => media_type,
                false => "application/octet-stream",
            };
            match STANDARD.decode(data) {
                Ok(bytes) => Block::Content(step.content(&bytes, media_type)),
                Err(_) => Block::Content(step.content(data.as_bytes(), "text/plain")),
            }
        };
        match block {
            ContentBlock::Text(text) => self.text_block(text.text, false, budget),
            ContentBlock::Image(image) => bytes(self, &image.data, &image.mime_type),
            ContentBlock::Audio(audio) => bytes(self, &audio.data, &audio.mime_type),
            ContentBlock::ResourceLink(link) => {
                self.text_block(format!("{} ({})", link.name, link.uri), false, budget)
            }
            ContentBlock::Resource(EmbeddedResource { resource, .. }) => match resource {
                EmbeddedResourceResource::TextResourceContents(text) => {
                    self.text_block(format!("{}:\n{}", text.uri, text.text), false, budget)
                }
                EmbeddedResourceResource::BlobResourceContents(blob) => {
                    bytes(self, &blob.blob, &blob.mime_type.unwrap_or_default())
                }
                _ => self.text_block("(a resource of an unknown kind)".to_owned(), false, budget),
            },
            _ => self.text_block("(content of an unknown kind)".to_owned(), false, budget),
        }
    }
}

fn is_media_type(name: &str) -> bool {
    name.len() <= 100
        && name.contains('/')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/-+.".contains(&b))
}
