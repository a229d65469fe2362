//! Text while it is being written: what a session has open right now, and how much of it somebody was sent.
//!
//! Both ends of a link keep one for each session: the daemon, so that a server that was restarted gets the
//! text so far, and the server, so that a reader who joins in the middle does. Every piece says where in its
//! block it stands, so a piece that comes twice adds nothing, and a text whose beginning nobody has any more
//! says so by its first offset. Nothing here is ever owed: the finished text comes as an event.

use std::collections::{BTreeMap, HashMap};

use super::content::{Block as ContentBlock, ceil_char};
use super::event::{EventBody, TransientBody};

/// The most text that is kept of a session, in bytes. Beyond it the oldest block goes; of a single block its
/// beginning.
pub const LIVE_BYTES: usize = 256 * 1024;

/// Which block: the harness's id of the message, and the block's number in it.
type Key = (String, u32);

/// What is being written in one session.
#[derive(Clone, Debug, Default)]
pub struct LiveText {
    blocks: BTreeMap<Key, Block>,
    bytes: usize,
    /// Grows with everything that begins anew.
    born: u64,
    progress: Option<(u64, String)>,
}

#[derive(Clone, Debug)]
struct Block {
    born: u64,
    /// Where the text starts in the block; above 0 when its beginning is not known any more.
    start: u64,
    text: String,
    thinking: bool,
}

impl Block {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.text.len() as u64)
    }

    /// Whether the finished `said` can be what this is the beginning of, or a stretch of.
    fn is_said_by(&self, said: &ContentBlock) -> bool {
        let (whole, thinking) = match said {
            ContentBlock::Text(text) => (text.as_str(), false),
            ContentBlock::Thinking(text) => (text.as_str(), true),
            // Its kind is not known here, and only its head is.
            ContentBlock::Content(content) => (content.head.as_str(), self.thinking),
        };
        if thinking != self.thinking {
            return false;
        }
        let from = usize::try_from(self.start).unwrap_or(usize::MAX);
        match whole.get(from..) {
            Some(rest) => {
                rest.starts_with(&self.text)
                    || matches!(said, ContentBlock::Content(_)) && self.text.starts_with(rest)
            }
            None => matches!(said, ContentBlock::Content(_)),
        }
    }
}

/// What somebody was sent of a [`LiveText`].
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Which life of the block, and up to where.
    blocks: HashMap<Key, (u64, u64)>,
    progress: u64,
}

impl LiveText {
    /// Takes a piece. One that is there already changes nothing. Says whether text was dropped: what was before the piece was
    /// lost on its way, or too much waited.
    pub fn add(&mut self, body: TransientBody) -> bool {
        match body {
            TransientBody::MessageDelta {
                message_id,
                block,
                offset,
                text,
                thinking,
            } => self.piece((message_id, block), offset, text, thinking),
            TransientBody::Progress { text } => {
                self.born += 1;
                self.progress = Some((self.born, text));
                false
            }
        }
    }

    fn piece(&mut self, key: Key, offset: u64, piece: String, thinking: bool) -> bool {
        // No text is that long. Its end could not be told, and so not when all of it is sent.
        if offset.checked_add(piece.len() as u64).is_none() {
            return true;
        }
        let Some(block) = self.blocks.get_mut(&key) else {
            return self.begin(key, offset, piece, thinking);
        };
        let within = offset
            .checked_sub(block.start)
            .and_then(|at| usize::try_from(at).ok())
            .filter(|at| block.text.is_char_boundary(*at));
        let Some(at) = within else {
            // It lies beyond the end, so something was lost before it; or it has more of the beginning.
            let piece_end = offset.saturating_add(piece.len() as u64);
            let is_lost = offset > block.end();
            if is_lost || piece_end >= block.end() {
                return self.begin(key, offset, piece, thinking) || is_lost;
            }
            return false;
        };
        let known = (block.text.len() - at).min(piece.len());
        if block.text.as_bytes()[at..at + known] == piece.as_bytes()[..known] {
            let new = piece.get(known..).unwrap_or_default();
            block.text.push_str(new);
            self.bytes += new.len();
        } else {
            // The block was begun anew.
            let (start, mut text) = (block.start, block.text[..at].to_owned());
            text.push_str(&piece);
            return self.begin(key, start, text, thinking);
        }
        self.fit()
    }

    fn begin(&mut self, key: Key, start: u64, text: String, thinking: bool) -> bool {
        self.drop_block(&key);
        self.born += 1;
        self.bytes += text.len();
        let block = Block {
            born: self.born,
            start,
            text,
            thinking,
        };
        self.blocks.insert(key, block);
        self.fit()
    }

    /// Drops the oldest until the rest fits; whether there was something to drop.
    fn fit(&mut self) -> bool {
        let is_full = self.bytes > LIVE_BYTES;
        while self.bytes > LIVE_BYTES {
            let oldest = self.blocks.iter().min_by_key(|(_, block)| block.born);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            if self.blocks.len() > 1 {
                self.drop_block(&key);
            } else if let Some(block) = self.blocks.get_mut(&key) {
                // Half of it, so that not every further piece moves the whole text.
                let cut = block.text.len().saturating_sub(LIVE_BYTES / 2);
                let cut = ceil_char(&block.text, cut);
                block.text.drain(..cut);
                block.start = block.start.saturating_add(cut as u64);
                self.bytes -= cut;
            }
        }
        is_full
    }

    fn drop_block(&mut self, key: &Key) {
        if let Some(block) = self.blocks.remove(key) {
            self.bytes -= block.text.len();
        }
    }

    /// An event says what was being written: it is no longer live.
    pub fn finished(&mut self, body: &EventBody) {
        match body {
            EventBody::TurnEnded { .. } | EventBody::Ended { .. } => self.clear(),
            EventBody::Message {
                message_id, blocks, ..
            } => {
                for said in blocks {
                    self.said(message_id, said);
                }
            }
            _ => {}
        }
    }

    /// A part of a message is finished. It is told from the parts behind it by its text: a short part may never
    /// have been here, while the next is here before the event of the first is stored.
    fn said(&mut self, message_id: &str, said: &ContentBlock) {
        let mut of_message = self.blocks.iter().filter(|((id, _), _)| id == message_id);
        let Some((last, _)) = of_message.find(|(_, block)| block.is_said_by(said)) else {
            return;
        };
        // Parts come in order: whatever is before this one is finished too.
        let last = last.clone();
        let done: Vec<Key> = self
            .blocks
            .range((last.0.clone(), 0)..=last)
            .map(|(key, _)| key.clone())
            .collect();
        for key in done {
            self.drop_block(&key);
        }
    }

    /// Nothing is being written any more.
    pub fn clear(&mut self) {
        *self = LiveText {
            born: self.born,
            ..LiveText::default()
        };
    }

    /// Whether nothing is being written.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.progress.is_none()
    }

    /// How many bytes of text it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next piece that was not sent yet, and notes it as sent.
    pub fn next(&self, sent: &mut Sent) -> Option<TransientBody> {
        sent.blocks.retain(|key, _| self.blocks.contains_key(key));
        for (key, block) in &self.blocks {
            let from = match sent.blocks.get(key) {
                Some((born, through)) if *born == block.born => (*through).max(block.start),
                _ => block.start,
            };
            let at = usize::try_from(from - block.start).unwrap_or(usize::MAX);
            let rest = block.text.get(at..).unwrap_or_default();
            if rest.is_empty() {
                continue;
            }
            sent.blocks.insert(key.clone(), (block.born, block.end()));
            return Some(TransientBody::MessageDelta {
                message_id: key.0.clone(),
                block: key.1,
                offset: from,
                text: rest.to_owned(),
                thinking: block.thinking,
            });
        }
        let (born, note) = self.progress.as_ref()?;
        (*born > sent.progress).then(|| {
            sent.progress = *born;
            TransientBody::Progress { text: note.clone() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::content::ContentRef;
    use crate::domain::event::Role;

    fn delta(block: u32, offset: u64, text: &str) -> TransientBody {
        TransientBody::MessageDelta {
            message_id: "m".to_owned(),
            block,
            offset,
            text: text.to_owned(),
            thinking: false,
        }
    }

    fn message(said: ContentBlock) -> EventBody {
        EventBody::Message {
            role: Role::Agent,
            blocks: vec![said],
            message_id: "m".to_owned(),
            parent_call_id: String::new(),
        }
    }

    fn live(pieces: &[(u64, &str)]) -> LiveText {
        let mut live = LiveText::default();
        for (offset, text) in pieces {
            live.add(delta(0, *offset, text));
        }
        live
    }

    fn sent(live: &LiveText, sent: &mut Sent) -> Vec<(u64, String)> {
        std::iter::from_fn(|| live.next(sent))
            .filter_map(|body| match body {
                TransientBody::MessageDelta { offset, text, .. } => Some((offset, text)),
                TransientBody::Progress { .. } => None,
            })
            .collect()
    }

    fn all(live: &LiveText) -> Vec<(u64, String)> {
        sent(live, &mut Sent::default())
    }

    #[test]
    fn who_joins_late_gets_the_text_so_far_and_then_the_rest() {
        let mut live = live(&[(0, "one "), (4, "two ")]);
        let mut reader = Sent::default();
        assert_eq!(sent(&live, &mut reader), [(0, "one two ".to_owned())]);
        live.add(delta(0, 8, "three"));
        assert_eq!(sent(&live, &mut reader), [(8, "three".to_owned())]);
        assert_eq!(sent(&live, &mut reader), []);
    }

    #[test]
    fn what_comes_again_adds_only_what_is_new() {
        let mut live = live(&[(0, "one "), (4, "two ")]);
        let mut reader = Sent::default();
        sent(&live, &mut reader);
        assert!(!live.add(delta(0, 0, "one")));
        live.add(delta(0, 2, "e two th"));
        live.add(delta(0, 0, "one two three"));
        assert_eq!(sent(&live, &mut reader), [(8, "three".to_owned())]);
        assert_eq!(all(&live), [(0, "one two three".to_owned())]);
        assert_eq!(live.bytes(), 13);
    }

    #[test]
    fn a_piece_beyond_all_numbers_is_not_taken() {
        let mut live = live(&[(0, "so far")]);
        live.add(delta(1, u64::MAX - 2, "what no text is long enough for"));
        live.add(delta(1, u64::MAX, "x"));
        let mut reader = Sent::default();
        assert_eq!(sent(&live, &mut reader), [(0, "so far".to_owned())]);
        assert!(live.next(&mut reader).is_none(), "and it comes to an end");
    }

    #[test]
    fn a_block_that_begins_anew_replaces_the_old_text() {
        let mut live = live(&[(0, "one two")]);
        let mut reader = Sent::default();
        sent(&live, &mut reader);
        live.add(delta(0, 0, "once"));
        assert_eq!(sent(&live, &mut reader), [(0, "once".to_owned())]);
        assert_eq!(live.bytes(), 4);
    }

    #[test]
    fn a_text_without_its_beginning_says_so_and_gets_it_when_somebody_has_it() {
        let mut live = live(&[(4, "two ")]);
        assert_eq!(all(&live), [(4, "two ".to_owned())]);
        live.add(delta(0, 8, "three"));
        assert_eq!(all(&live), [(4, "two three".to_owned())]);
        // Older pieces alone do not replace what is newer.
        live.add(delta(0, 0, "one "));
        assert_eq!(all(&live), [(4, "two three".to_owned())]);
        live.add(delta(0, 0, "one two three"));
        assert_eq!(all(&live), [(0, "one two three".to_owned())]);
        // After a hole, what is there is marked with its place and nothing is joined across it.
        assert!(live.add(delta(0, 20, "five")), "what was there is dropped");
        assert_eq!(all(&live), [(20, "five".to_owned())]);
    }

    #[test]
    fn it_is_bounded_and_a_long_block_keeps_its_end() {
        let mut live = LiveText::default();
        let mut reader = Sent::default();
        let (mut offset, mut got) = (0, 0);
        let mut has_dropped = false;
        for _ in 0..1_000 {
            // Three bytes a character, so that a cut may fall into one.
            let piece = "\u{20ac}".repeat(333);
            let is_dropped = live.add(delta(0, offset, &piece));
            has_dropped |= is_dropped;
            offset += piece.len() as u64;
            assert!(live.bytes() <= LIVE_BYTES);
            for (from, text) in sent(&live, &mut reader) {
                assert_eq!(from, got, "who keeps up misses nothing");
                got = from + text.len() as u64;
            }
        }
        assert_eq!(got, offset);
        assert!(has_dropped);
        let [(start, text)] = &all(&live)[..] else {
            panic!("one block");
        };
        assert!(*start > 0 && text.len() >= LIVE_BYTES / 2 - 3);
        assert_eq!(start + text.len() as u64, offset);
        live.add(delta(1, 0, &"x".repeat(LIVE_BYTES)));
        assert_eq!(all(&live).len(), 1, "the oldest block went");
    }

    #[test]
    fn what_an_event_says_is_no_longer_live() {
        let mut live = live(&[(0, "one")]);
        live.add(delta(1, 0, "two"));
        live.finished(&message(ContentBlock::Text("one".to_owned())));
        assert_eq!(all(&live), [(0, "two".to_owned())]);
        live.add(TransientBody::Progress {
            text: "compiling".to_owned(),
        });
        assert!(!live.is_empty());
        live.clear();
        assert!(live.is_empty() && live.bytes() == 0);
    }

    #[test]
    fn a_part_that_never_was_live_takes_nothing_of_the_next_with_it() {
        let mut live = LiveText::default();
        live.add(delta(1, 0, "two "));
        live.finished(&message(ContentBlock::Text("one".to_owned())));
        live.add(delta(1, 4, "three"));
        assert_eq!(all(&live), [(0, "two three".to_owned())]);
        // What is finished goes with what was before it, and another message's text stays.
        live.add(delta(0, 0, "never finished"));
        live.add(TransientBody::MessageDelta {
            message_id: "n".to_owned(),
            block: 0,
            offset: 0,
            text: "another".to_owned(),
            thinking: false,
        });
        live.finished(&message(ContentBlock::Thinking("two three".to_owned())));
        assert_eq!(all(&live).len(), 3);
        live.finished(&message(ContentBlock::Text("two three four".to_owned())));
        assert_eq!(all(&live), [(0, "another".to_owned())]);
    }

    #[test]
    fn a_long_part_is_known_by_what_is_left_of_it() {
        let whole = "y".repeat(10) + &"x".repeat(LIVE_BYTES);
        for said in [
            ContentBlock::Text(whole.clone()),
            ContentBlock::Content(ContentRef::of(whole.as_bytes(), "text/plain")),
        ] {
            for start in [0, 5, whole.len() - 7] {
                let mut live = live(&[(start as u64, &whole[start..start + 7])]);
                live.finished(&message(said.clone()));
                assert!(live.is_empty(), "from {start}");
            }
            let mut live = live(&[(0, "x")]);
            live.finished(&message(said));
            assert!(!live.is_empty(), "another text");
        }
    }
}
