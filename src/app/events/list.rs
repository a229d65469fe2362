//! One page of a session's log.

use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::base::id::SessionId;
use crate::base::page::PageRequest;
use crate::base::{Code, Error, Result};
use crate::domain::{Event, EventKind};
use crate::store::{Head, Stream};
use crate::wire;

/// How many bytes one read of the log brings at most.
const READ_BYTES: usize = 256 * 1024;
/// How many events one call looks at before it gives back a shorter page.
const SCAN_LIMIT: usize = 50_000;
/// How much an answer holds at most, in bytes; below the largest message a client takes.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// One page of a session's log.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// The events, oldest first, in their encoded form.
    pub events: Vec<wire::v1::Event>,
    /// Continue after this seq; `None` when there is nothing more now.
    pub next: Option<u64>,
    /// The log's head.
    pub head: Head,
}

impl App {
    /// Events of a session after `after_seq` and before `before_seq` (0 is no bound), of some kinds only.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of what is asked for"
    )]
    pub async fn list_events(
        &self,
        caller: &Caller,
        id: SessionId,
        log_epoch: u64,
        after_seq: u64,
        before_seq: u64,
        kinds: &[EventKind],
        page: &PageRequest,
    ) -> Result<EventPage> {
        self.require_session(caller, id).await?;
        let stream = Stream::session(id);
        let head = self
            .store()
            .head(&stream)
            .await
            .map_err(failure::from_store)?
            .ok_or_else(|| Error::not_found("session", id))?;
        check_cursor(&head, log_epoch, after_seq)?;
        let mut after = match &page.after {
            Some(seq) => {
                let seq = seq
                    .parse()
                    .map_err(|_| Error::invalid("page_token", "is not one of this list"))?;
                // What came next may have been removed since the page before.
                check_cursor(&head, log_epoch, seq)?;
                seq
            }
            None => after_seq,
        };
        let end = if before_seq == 0 {
            u64::MAX
        } else {
            before_seq
        };
        // Without a lower bound, the newest events before an upper one are wanted.
        if page.after.is_none() && before_seq > 0 && after_seq == 0 && kinds.is_empty() {
            let oldest = head.first_seq.saturating_sub(1);
            // Beyond the end there is nothing to count back from.
            after = before_seq
                .min(head.last_seq.saturating_add(1))
                .saturating_sub(1)
                .saturating_sub(page.size as u64)
                .max(oldest);
        }
        after = after.max(head.first_seq.saturating_sub(1));
        let mut events: Vec<wire::v1::Event> = Vec::new();
        let mut bytes = 0;
        let mut looked_at = 0;
        loop {
            let chunks = self
                .store()
                .read(&stream, after, READ_BYTES)
                .await
                .map_err(failure::from_store)?;
            if chunks.is_empty() {
                return Ok(EventPage {
                    events,
                    next: None,
                    head,
                });
            }
            for chunk in chunks {
                let batch = wire::EventBatch::from_encoded(chunk.bytes);
                for event in batch.events().map_err(Error::internal)? {
                    if event.seq <= after {
                        continue;
                    }
                    if event.seq >= end {
                        return Ok(EventPage {
                            events,
                            next: None,
                            head,
                        });
                    }
                    looked_at += 1;
                    let size = prost_len(&event);
                    if events.len() == page.size
                        || !events.is_empty() && bytes + size > PAGE_BYTES
                        || looked_at > SCAN_LIMIT
                    {
                        return Ok(EventPage {
                            events,
                            next: Some(after),
                            head,
                        });
                    }
                    after = event.seq;
                    if kinds.is_empty()
                        || wire::kind_of(&event).is_some_and(|kind| kinds.contains(&kind))
                    {
                        bytes += size;
                        events.push(event);
                    }
                }
            }
        }
    }

    /// One event of a session as the domain has it.
    pub async fn get_event(&self, id: SessionId, seq: u64) -> Result<Option<Event>> {
        let chunks = self
            .store()
            .read(&Stream::session(id), seq.saturating_sub(1), 1)
            .await
            .map_err(failure::from_store)?;
        for chunk in chunks {
            let events = wire::EventBatch::from_encoded(chunk.bytes)
                .events()
                .map_err(Error::internal)?;
            for event in events {
                if event.seq == seq {
                    return wire::event::event_from_pb(event).map(Some);
                }
            }
        }
        Ok(None)
    }
}

fn prost_len(event: &wire::v1::Event) -> usize {
    wire::encoded_len(event)
}

/// Where somebody who asked for what comes after a place and was refused goes on with what retention has left;
/// `None` where nothing was removed there, so that the refusal stands.
pub fn after_what_was_removed(refused: &Error, after: u64) -> Option<u64> {
    let first: u64 = refused.details().get("first")?.parse().ok()?;
    let before = first.checked_sub(1)?;
    (refused.code() == Code::OutOfRange && before > after).then_some(before)
}

/// Whether a cursor lies within a log.
pub(super) fn check_cursor(head: &Head, log_epoch: u64, after_seq: u64) -> Result<()> {
    let refuse = |problem: String| {
        Error::new(Code::OutOfRange, problem)
            .with("first", head.first_seq)
            .with("head", head.last_seq)
            .with("epoch", head.log_epoch)
    };
    if log_epoch != 0 && log_epoch != head.log_epoch {
        return Err(refuse(format!(
            "the log was made anew: its epoch is {}, not {log_epoch}; start again from the beginning",
            head.log_epoch
        )));
    }
    if after_seq > head.last_seq {
        return Err(refuse(format!(
            "after_seq {after_seq} lies in the future: the newest event is {}",
            head.last_seq
        )));
    }
    if after_seq > 0 && after_seq + 1 < head.first_seq {
        return Err(refuse(format!(
            "events up to {} were removed by retention; start again after {}",
            head.first_seq - 1,
            head.first_seq - 1
        )));
    }
    Ok(())
}
