//! `baton.v1.EventService`.

use std::pin::Pin;

use futures_util::stream::{self, SelectAll, Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::events::{
    Change, ChangeBatch, Changed, ChangesReader, Cursor, Item, Reader, ReaderOptions, Tables,
};
use crate::base::id::{DaemonId, SessionId, TaskId};
use crate::base::page::PageRequest;
use crate::base::{Error, Result as BaseResult};
use crate::wire::prompt::prompt_to_pb;
use crate::wire::time::time_to_pb;
use crate::wire::transient::transient_to_pb;
use crate::wire::v1;
use crate::wire::v1::event_service_server::{EventService, EventServiceServer};
use crate::wire::v1::scope::Scope as ScopeKind;
use crate::wire::v1::watch_response::Body;
use crate::wire::{enums, field};

/// The most scopes one watch follows.
const MAX_SCOPES: usize = 100;

/// Reads the logs of sessions.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> EventServiceServer<Service> {
    EventServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

impl Service {
    async fn follow(
        &self,
        caller: &Caller,
        index: u32,
        scope: v1::Scope,
        options: &ReaderOptions,
    ) -> BaseResult<Followed> {
        let name = format!("scopes[{index}]");
        match scope.scope {
            Some(ScopeKind::Session(scope)) => {
                let id =
                    SessionId::parse(&format!("{name}.session.session_id"), &scope.session_id)?;
                let cursor = Cursor {
                    log_epoch: scope.log_epoch,
                    after_seq: scope.after_seq,
                    tail: scope.tail,
                };
                let reader = self
                    .app
                    .read_session(caller, id, cursor, options.clone())
                    .await?;
                Ok(follow_session(index, reader))
            }
            Some(ScopeKind::Daemon(scope)) => {
                let id = DaemonId::parse(&format!("{name}.daemon.daemon_id"), &scope.daemon_id)?;
                let reader = self
                    .app
                    .follow_changes(caller, Tables::Daemon(id), 0)
                    .await?;
                Ok(follow_changes(index, reader))
            }
            Some(ScopeKind::Prompts(scope)) => {
                let reader = self
                    .app
                    .follow_changes(caller, Tables::Prompts, scope.from_revision)
                    .await?;
                Ok(follow_changes(index, reader))
            }
            Some(ScopeKind::All(scope)) => {
                let reader = self
                    .app
                    .follow_changes(caller, Tables::All, scope.from_revision)
                    .await?;
                Ok(follow_changes(index, reader))
            }
            Some(ScopeKind::Task(scope)) => {
                let id = field::optional_id(
                    &scope.task_id,
                    &format!("{name}.task.task_id"),
                    TaskId::parse,
                )?;
                let reader = self
                    .app
                    .follow_changes(caller, Tables::Tasks(id), scope.from_revision)
                    .await?;
                Ok(follow_changes(index, reader))
            }
            None => Err(Error::invalid(
                &name,
                "is empty, or of a kind that this version does not know",
            )),
        }
    }
}

/// What one scope of a watch gives.
type Followed = Pin<Box<dyn Stream<Item = BaseResult<v1::WatchResponse>> + Send>>;

/// What a client gets.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn follow_session(scope: u32, reader: Reader) -> Followed {
    // A reader is large, and a pointer is moved from item to item in its place.
    Box::pin(stream::unfold(
        Some(Box::new(reader)),
        move |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(item) => Some((Ok(item_to_pb(scope, item)), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        },
    ))
}

fn follow_changes(scope: u32, reader: ChangesReader) -> Followed {
    Box::pin(stream::unfold(Some(reader), move |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(batch) => Some((Ok(changes_to_pb(scope, batch)), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

fn item_to_pb(scope: u32, item: Item) -> v1::WatchResponse {
    let body = match item {
        Item::Started {
            log_epoch,
            first,
            head,
        } => Body::Started(v1::WatchStarted {
            log_epoch,
            head,
            first,
        }),
        Item::Events(batch) => Body::Events(batch),
        Item::Transient(transient) => Body::Transient(transient_to_pb(&transient)),
        Item::Progress(through) => Body::Progress(v1::WatchProgress { through }),
        Item::Truncated { oldest, log_epoch } => Body::Truncated(v1::WatchTruncated {
            oldest_seq: oldest,
            log_epoch,
        }),
    };
    v1::WatchResponse {
        scope,
        body: Some(body),
    }
}

fn changes_to_pb(scope: u32, batch: ChangeBatch) -> v1::WatchResponse {
    let body = match batch {
        ChangeBatch::Started(head) => Body::Started(v1::WatchStarted {
            log_epoch: 0,
            head,
            first: 0,
        }),
        ChangeBatch::Truncated(through) => Body::Truncated(v1::WatchTruncated {
            oldest_seq: through,
            log_epoch: 0,
        }),
        ChangeBatch::Changes(changes) => Body::Changes(v1::ChangeBatch {
            changes: changes.iter().map(change_to_pb).collect(),
        }),
        ChangeBatch::Progress(through) => Body::Progress(v1::WatchProgress { through }),
    };
    v1::WatchResponse {
        scope,
        body: Some(body),
    }
}

fn change_to_pb(change: &Change) -> v1::Change {
    use crate::wire::v1::change::Record;
    let record = match &change.changed {
        Changed::Session(shown) => Record::Session(super::sessions::to_pb(shown)),
        Changed::Prompt(prompt) => Record::Prompt(prompt_to_pb(prompt, Some(change.revision))),
        Changed::Daemon(shown) => Record::Daemon(super::daemons::to_pb(shown)),
        Changed::Agent(shown) => Record::Agent(super::agents::to_pb(shown)),
        Changed::Worktree(shown) => Record::Worktree(super::worktrees::to_pb(shown)),
        Changed::Task(shown) => Record::Task(super::tasks::brief(shown)),
        Changed::Deleted(id) => Record::DeletedId(id.clone()),
    };
    v1::Change {
        revision: change.revision,
        record: Some(record),
    }
}

#[tonic::async_trait]
impl EventService for Service {
    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = SessionId::parse("session_id", &request.session_id).map_err(status)?;
        let kinds =
            enums::filter(&request.kinds, "kinds", enums::event_kind_from_pb).map_err(status)?;
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .list_events(
                &caller,
                id,
                request.log_epoch,
                request.after_seq,
                request.before_seq,
                &kinds,
                &page,
            )
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListEventsResponse {
            events: page.events,
            next_page_token: page
                .next
                .map(|seq| PageRequest::token(&seq.to_string()))
                .unwrap_or_default(),
            first_seq: page.head.first_seq,
            head_seq: page.head.last_seq,
            log_epoch: page.head.log_epoch,
        }))
    }

    type WatchStream = Answers<v1::WatchResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        if request.scopes.is_empty() || request.scopes.len() > MAX_SCOPES {
            return Err(status(Error::invalid(
                "scopes",
                format!(
                    "has {} entries; 1 to {MAX_SCOPES} are allowed",
                    request.scopes.len()
                ),
            )));
        }
        let options = ReaderOptions {
            kinds: enums::filter(&request.kinds, "kinds", enums::event_kind_from_pb)
                .map_err(status)?,
            conflate: request.conflate,
            transients: request.transients,
        };
        let mut followed = Vec::with_capacity(request.scopes.len());
        for (index, scope) in (0u32..).zip(request.scopes) {
            let scope = self.follow(&caller, index, scope, &options).await;
            followed.push(scope.map_err(status)?);
        }
        // Most watches have one scope, and need nobody who chooses between several.
        let followed: Followed = match followed.len() {
            1 => followed.remove(0),
            _ => Box::pin(SelectAll::from_iter(followed)),
        };
        // The first refusal ends the whole watch: a client would not notice the end of one scope of many.
        let stream = followed.scan(false, |over, item| {
            let item = (!*over).then_some(item);
            *over |= matches!(item, Some(Err(_)));
            std::future::ready(item.map(|item| item.map_err(status)))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn search_events(
        &self,
        request: Request<v1::SearchEventsRequest>,
    ) -> Result<Response<v1::SearchEventsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let session = field::optional_id(&request.session_id, "session_id", SessionId::parse)
            .map_err(status)?;
        let kinds =
            enums::filter(&request.kinds, "kinds", enums::event_kind_from_pb).map_err(status)?;
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .search_events(&caller, &request.query, session, &kinds, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::SearchEventsResponse {
            next_page_token: page.next_token(),
            hits: page
                .items
                .into_iter()
                .map(|hit| v1::SearchHit {
                    session_id: hit.session_id.to_string(),
                    seq: hit.seq,
                    time: Some(time_to_pb(hit.time)),
                    kind: enums::event_kind_to_pb(hit.kind).into(),
                    snippet: hit.snippet,
                })
                .collect(),
        }))
    }

    type GetContentStream = Answers<v1::GetContentResponse>;

    async fn get_content(
        &self,
        request: Request<v1::GetContentRequest>,
    ) -> Result<Response<Self::GetContentStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = SessionId::parse("session_id", &request.session_id).map_err(status)?;
        let size = self
            .app
            .find_content(&caller, id, &request.sha256)
            .await
            .map_err(status)?;
        if request.offset > size {
            return Err(status(Error::invalid(
                "offset",
                format!("lies beyond the content's {size} bytes"),
            )));
        }
        let app = self.app.clone();
        let pieces = stream::unfold(Some(request.offset), move |offset| {
            let (app, sha256) = (app.clone(), request.sha256.clone());
            async move {
                let offset = offset?;
                match app.read_content(&sha256, offset).await {
                    Ok(data) if data.is_empty() => None,
                    Ok(data) => {
                        let next = offset + data.len() as u64;
                        Some((Ok(v1::GetContentResponse { data }), Some(next)))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        Ok(Response::new(Box::pin(
            pieces.map(|piece: BaseResult<_>| piece.map_err(status)),
        )))
    }
}
