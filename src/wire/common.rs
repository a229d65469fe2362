//! Actors, content, blocks and usage on the wire.

use super::enums;
use super::field::required;
use crate::base::{Error, Result};
use crate::domain::content::{MAX_CONTENT_BYTES, is_sha256};
use crate::domain::{Actor, Block, ContentRef, Usage};
use crate::wire::v1;

/// An actor as protobuf writes it.
pub fn actor_to_pb(actor: &Actor) -> v1::Actor {
    v1::Actor {
        kind: enums::actor_kind_to_pb(actor.kind).into(),
        id: actor.id.clone(),
        name: actor.name.clone(),
    }
}

/// An actor from the wire.
pub fn actor_from_pb(actor: v1::Actor) -> Result<Actor> {
    Ok(Actor {
        kind: enums::required(
            enums::actor_kind_from_pb(actor.kind, "actor.kind"),
            "actor.kind",
        )?,
        id: actor.id,
        name: actor.name,
    })
}

/// A reference to content as protobuf writes it.
pub fn content_to_pb(content: &ContentRef) -> v1::ContentRef {
    v1::ContentRef {
        sha256: content.sha256.clone(),
        size_bytes: content.size_bytes,
        media_type: content.media_type.clone(),
        head: content.head.clone(),
        tail: content.tail.clone(),
    }
}

/// A reference to content from the wire; its hash and size must be possible ones.
pub fn content_from_pb(content: v1::ContentRef) -> Result<ContentRef> {
    if !is_sha256(&content.sha256) {
        return Err(Error::invalid(
            "content.sha256",
            "is not 64 lower-case hex digits",
        ));
    }
    if content.size_bytes > MAX_CONTENT_BYTES {
        return Err(Error::invalid(
            "content.size_bytes",
            format!("is {}; the most is {MAX_CONTENT_BYTES}", content.size_bytes),
        ));
    }
    Ok(ContentRef {
        sha256: content.sha256,
        size_bytes: content.size_bytes,
        media_type: content.media_type,
        head: content.head,
        tail: content.tail,
    })
}

/// A block as protobuf writes it.
pub fn block_to_pb(block: &Block) -> v1::Block {
    use v1::block::Kind;
    v1::Block {
        kind: Some(match block {
            Block::Text(text) => Kind::Text(text.clone()),
            Block::Thinking(text) => Kind::Thinking(text.clone()),
            Block::Content(content) => Kind::Content(content_to_pb(content)),
        }),
    }
}

/// A block from the wire.
pub fn block_from_pb(block: v1::Block) -> Result<Block> {
    use v1::block::Kind;
    Ok(match required(block.kind, "blocks.kind")? {
        Kind::Text(text) => Block::Text(text),
        Kind::Thinking(text) => Block::Thinking(text),
        Kind::Content(content) => Block::Content(content_from_pb(content)?),
    })
}

pub(super) fn blocks_to_pb(blocks: &[Block]) -> Vec<v1::Block> {
    blocks.iter().map(block_to_pb).collect()
}

pub(super) fn blocks_from_pb(blocks: Vec<v1::Block>) -> Result<Vec<Block>> {
    blocks.into_iter().map(block_from_pb).collect()
}

/// Usage as protobuf writes it.
pub fn usage_to_pb(usage: &Usage) -> v1::Usage {
    v1::Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_tokens: usage.cache_read_tokens,
        cache_write_tokens: usage.cache_write_tokens,
        cost_micro_usd: usage.cost_micro_usd,
    }
}

/// Usage from the wire; absent is none.
pub fn usage_from_pb(usage: Option<v1::Usage>) -> Usage {
    let usage = usage.unwrap_or_default();
    Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_tokens: usage.cache_read_tokens,
        cache_write_tokens: usage.cache_write_tokens,
        cost_micro_usd: usage.cost_micro_usd,
    }
}
