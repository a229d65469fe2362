//! The background job that keeps the index up to the logs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::index::Doc;
use super::text::text_of;
use crate::app::App;
use crate::app::failure;
use crate::app::records;
use crate::base::{Error, Result};
use crate::store::{self, Chunk, Stream};
use crate::wire::{EventBatch, event::event_from_pb};

/// How many bytes of a log are indexed as one.
const BATCH_BYTES: usize = 512 * 1024;
/// How many sessions are looked at before the revision is noted.
const SESSIONS: usize = 200;
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Indexes until told to stop: what has changed, before the start too, is gathered for `every`, unless somebody searches.
pub async fn run(app: App, every: Duration, stop: CancellationToken) {
    let mut wake = app.store().watch_revision();
    let mut pause = every;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = app.search().wanted.notified() => {}
        }
        wake.mark_unchanged();
        if let Err(error) = catch_up(&app).await {
            tracing::error!(?error, "the search index fell behind; it is tried again");
            pause = AFTER_FAILURE;
            continue;
        }
        pause = every;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wake.changed() => if changed.is_err() { return },
        }
    }
}

async fn catch_up(app: &App) -> Result<()> {
    let newest = *app.store().watch_revision().borrow();
    let mut through = app.search().make(|index| index.through()).await?;
    if through > newest {
        // The store was restored from a backup, or is another: what the index says is not true of it.
        app.search().make(|index| index.clear()).await?;
        through = 0;
    }
    loop {
        // Every append changes its session's record, if a second later, so the records that changed name the logs that grew.
        let changes = app
            .store()
            .changes(records::SESSIONS, through, SESSIONS)
            .await
            .map_err(failure::from_store)?;
        let Some(last) = changes.last().map(|change| change.revision) else {
            break;
        };
        for change in changes {
            let id = change
                .key
                .strip_prefix(records::SESSIONS)
                .unwrap_or_default()
                .to_owned();
            match change.value {
                Some(_) => index_session(app, id).await?,
                None => {
                    app.search()
                        .make(move |index| index.forget(&id, None))
                        .await?
                }
            }
        }
        through = last;
        note(app, through).await?;
    }
    note(app, newest.max(through)).await
}

async fn note(app: &App, through: u64) -> Result<()> {
    app.search()
        .make(move |index| index.set_through(through))
        .await?;
    app.search().through.send_replace(through);
    Ok(())
}

async fn index_session(app: &App, id: String) -> Result<()> {
    let Some(stream) = Stream::new(&id) else {
        return Ok(());
    };
    let session = id.clone();
    let mut after = app
        .search()
        .make(move |index| index.progress(&session))
        .await?;
    loop {
        let chunks = match app.store().read(&stream, after, BATCH_BYTES).await {
            Ok(chunks) => chunks,
            Err(store::Error::Truncated { head, .. }) => {
                let session = id.clone();
                app.search()
                    .make(move |index| index.forget(&session, Some(head.first_seq)))
                    .await?;
                after = head.first_seq.saturating_sub(1);
                continue;
            }
            Err(store::Error::Future { .. }) => {
                // The log was made anew and is shorter: index it from its beginning.
                let session = id.clone();
                app.search()
                    .make(move |index| index.forget(&session, None))
                    .await?;
                after = 0;
                continue;
            }
            Err(store::Error::NoStream { .. } | store::Error::Corrupt { .. }) => return Ok(()),
            Err(error) => return Err(failure::from_store(error)),
        };
        let Some(last) = chunks.last() else {
            return Ok(());
        };
        after = last.last_seq;
        let docs = app.search().aside(move || docs(chunks)).await??;
        let session = id.clone();
        app.search()
            .make(move |index| index.add(&session, &docs, after))
            .await?;
    }
}

/// The texts of a part of a log.
fn docs(chunks: Vec<Chunk>) -> Result<Vec<Doc>> {
    let mut docs = Vec::new();
    for chunk in chunks {
        let events = EventBatch::from_encoded(chunk.bytes)
            .events()
            .map_err(Error::internal)?;
        for event in events {
            // An event of a newer version that this one cannot read has no text to it.
            let Ok(event) = event_from_pb(event) else {
                continue;
            };
            if let Some(text) = text_of(&event) {
                docs.push(Doc {
                    seq: event.seq,
                    time: event.time,
                    kind: event.body.kind(),
                    text,
                });
            }
        }
    }
    Ok(docs)
}
