//! `baton.v1.TerminalService`.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{caller, status};
use crate::app::App;
use crate::app::access::{Caller, Need};
use crate::app::sessions::NewSession;
use crate::app::terminals::{Item, ShownTerminal, Start, TerminalReader};
use crate::base::id::{DaemonId, TerminalId};
use crate::base::page::PageRequest;
use crate::base::{Effect, Error, Result as BaseResult};
use crate::domain::Scope;
use crate::domain::terminal::{MAX_INPUT_BYTES, Output, Screen};
use crate::wire::session::{end_to_pb, limits_from_pb};
use crate::wire::terminal::{
    optional_size_from_pb, output_to_pb, required_view, size_from_pb, size_policy_from_pb,
    size_policy_to_pb, size_to_pb,
};
use crate::wire::v1;
use crate::wire::v1::attach_request::Body as Sent;
use crate::wire::v1::terminal_service_server::{TerminalService, TerminalServiceServer};
use crate::wire::v1::watch_terminal_response::Body;
use crate::wire::{enums, field};

/// The bytes that may be unacknowledged where the viewer names no number.
const WINDOW_BYTES: u64 = 256 * 1024;
/// The most that a viewer may name.
const MAX_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Opens terminals, shows them, and types into them.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> TerminalServiceServer<Service> {
    TerminalServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

/// What a client gets.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl TerminalService for Service {
    async fn open_terminal(
        &self,
        request: Request<v1::OpenTerminalRequest>,
    ) -> Result<Response<v1::OpenTerminalResponse>, Status> {
        let caller = caller(&request)?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let new = new_terminal(request).map_err(status)?;
        let shown = self
            .app
            .open_terminal(&caller, &request_id, new)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::OpenTerminalResponse {
            terminal: Some(to_pb(&shown)),
        }))
    }

    async fn get_terminal(
        &self,
        request: Request<v1::GetTerminalRequest>,
    ) -> Result<Response<v1::GetTerminalResponse>, Status> {
        let caller = caller(&request)?;
        let id = terminal_id(&request.get_ref().terminal_id)?;
        let shown = self.app.show_terminal(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::GetTerminalResponse {
            terminal: Some(to_pb(&shown)),
        }))
    }

    async fn list_terminals(
        &self,
        request: Request<v1::ListTerminalsRequest>,
    ) -> Result<Response<v1::ListTerminalsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let daemon =
            field::optional_id(&request.daemon_id, "daemon_id", DaemonId::parse).map_err(status)?;
        let page = self
            .app
            .list_terminals(&caller, daemon, request.living, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListTerminalsResponse {
            next_page_token: page.next_token(),
            terminals: page.items.iter().map(to_pb).collect(),
        }))
    }

    async fn write_terminal(
        &self,
        request: Request<v1::WriteTerminalRequest>,
    ) -> Result<Response<v1::WriteTerminalResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = terminal_id(&request.terminal_id)?;
        let viewer = viewer_number(&request.viewer_id).map_err(status)?;
        self.app
            .write_terminal(&caller, id, viewer, request.data)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::WriteTerminalResponse {}))
    }

    async fn resize_terminal(
        &self,
        request: Request<v1::ResizeTerminalRequest>,
    ) -> Result<Response<v1::ResizeTerminalResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = terminal_id(&request.terminal_id)?;
        let viewer = viewer_number(&request.viewer_id).map_err(status)?;
        let size = optional_size_from_pb(request.size, "size").map_err(status)?;
        let policy = size_policy_from_pb(request.size_policy, "size_policy").map_err(status)?;
        let size = self
            .app
            .resize_terminal(&caller, id, viewer, size, policy)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ResizeTerminalResponse {
            size: Some(size_to_pb(size)),
        }))
    }

    async fn close_terminal(
        &self,
        request: Request<v1::CloseTerminalRequest>,
    ) -> Result<Response<v1::CloseTerminalResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = terminal_id(&request.terminal_id)?;
        let shown = self
            .app
            .close_terminal(&caller, &request.request_id, id, request.force)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::CloseTerminalResponse {
            terminal: Some(to_pb(&shown)),
        }))
    }

    type WatchTerminalStream = Answers<v1::WatchTerminalResponse>;

    async fn watch_terminal(
        &self,
        request: Request<v1::WatchTerminalRequest>,
    ) -> Result<Response<Self::WatchTerminalStream>, Status> {
        let caller = caller(&request)?;
        let view = required_view(request.into_inner().view).map_err(status)?;
        let reader = view_terminal(&self.app, &caller, view)
            .await
            .map_err(status)?;
        let shown = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(item)) => Some((Ok(item_to_pb(item)), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Response::new(Box::pin(
            shown.map(|item: BaseResult<_>| item.map_err(status)),
        )))
    }

    type AttachStream = Answers<v1::AttachResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let caller = caller(&request)?;
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|first| first.body);
        let Some(Sent::Open(open)) = first else {
            return Err(status(Error::invalid(
                "open",
                "is missing: it comes first on the stream",
            )));
        };
        if open.window_bytes > MAX_WINDOW_BYTES {
            return Err(status(Error::invalid(
                "open.window_bytes",
                format!("is above {MAX_WINDOW_BYTES}"),
            )));
        }
        let view = required_view(open.view).map_err(status)?;
        let id = TerminalId::parse_either("view.terminal_id", &view.terminal_id).map_err(status)?;
        let reader = view_terminal(&self.app, &caller, view)
            .await
            .map_err(status)?;
        let attachment = Attachment {
            app: self.app.clone(),
            caller: caller.clone(),
            id,
            reader,
            incoming,
            window: match open.window_bytes {
                0 => WINDOW_BYTES,
                bytes => bytes.into(),
            },
            acked: 0,
            shown: 0,
            held: None,
            silent: false,
            typed: BytesMut::new(),
            typing: None,
        };
        let answers = stream::unfold(Some(attachment), |attachment| async move {
            let mut attachment = attachment?;
            match attachment.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(attachment))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Response::new(Box::pin(
            answers.map(|answer: BaseResult<_>| answer.map_err(status)),
        )))
    }
}

/// A viewer that types, on one stream.
struct Attachment {
    app: App,
    caller: Caller,
    id: TerminalId,
    reader: TerminalReader,
    incoming: Streaming<v1::AttachRequest>,
    /// How many bytes may be unacknowledged.
    window: u64,
    /// The viewer consumed everything before this offset.
    acked: u64,
    /// It was sent everything before this one.
    shown: u64,
    /// What the window has no room for yet.
    held: Option<Output>,
    /// Whether the viewer will say no more.
    silent: bool,
    /// What is to be typed next; at most [`MAX_INPUT_BYTES`] beyond one message.
    typed: BytesMut,
    /// What is being typed now: one piece at a time, so that it stays in order.
    typing: Option<BoxFuture<'static, BaseResult<()>>>,
}

impl Attachment {
    /// What the viewer is sent next; `None` when it is over.
    async fn next(&mut self) -> BaseResult<Option<v1::AttachResponse>> {
        loop {
            self.type_on();
            let room = self
                .window
                .saturating_sub(self.shown - self.acked.min(self.shown));
            if room > 0
                && let Some(held) = self.held.take()
            {
                return Ok(Some(self.show(Item::Output(held), room)));
            }
            tokio::select! {
                // What was typed goes first: a flood must not keep ctrl-c waiting.
                biased;
                done = async {
                    match &mut self.typing {
                        Some(typing) => typing.await,
                        None => std::future::pending().await,
                    }
                } => {
                    self.typing = None;
                    if let Err(error) = done {
                        self.typed.clear();
                        return Ok(Some(refused(&error)));
                    }
                }
                message = self.incoming.message(), if !self.silent && self.typed.len() < MAX_INPUT_BYTES => {
                    match message {
                        Ok(Some(message)) => {
                            if let Some(answer) = self.take(message)? {
                                return Ok(Some(answer));
                            }
                        }
                        // It has said all: it only looks from now on, as fast as it reads.
                        Ok(None) => (self.silent, self.window) = (true, u64::MAX),
                        // The viewer has gone.
                        Err(_) => return Ok(None),
                    }
                }
                item = self.reader.next(), if room > 0 => {
                    let Some(item) = item? else { return Ok(None) };
                    return Ok(Some(self.show(item, room)));
                }
            }
        }
    }

    fn take(&mut self, message: v1::AttachRequest) -> BaseResult<Option<v1::AttachResponse>> {
        match message.body {
            Some(Sent::Input(data)) => {
                if let Err(error) = Need::Scope(Scope::Operator).admit(&self.caller) {
                    return Ok(Some(refused(&error)));
                }
                if data.len() > MAX_INPUT_BYTES {
                    let large =
                        Error::invalid("input", format!("has more than {MAX_INPUT_BYTES} bytes"));
                    return Ok(Some(refused(&large)));
                }
                self.typed.extend_from_slice(&data);
            }
            Some(Sent::Size(size)) => {
                let size = size_from_pb(size, "size")?;
                if Need::Scope(Scope::Operator).admit(&self.caller).is_ok() {
                    self.reader.viewer().resize(size);
                }
            }
            Some(Sent::AckOffset(offset)) => self.acked = self.acked.max(offset),
            Some(Sent::Open(_)) => return Err(Error::invalid("open", "came twice")),
            // A newer client says something that this server does not know.
            None => {}
        }
        Ok(None)
    }

    fn type_on(&mut self) {
        if self.typing.is_some() || self.typed.is_empty() {
            return;
        }
        let piece = self.typed.len().min(MAX_INPUT_BYTES);
        let data: Bytes = self.typed.split_to(piece).freeze();
        let (app, caller, id) = (self.app.clone(), self.caller.clone(), self.id);
        let viewer = self.reader.viewer().number();
        self.typing = Some(Box::pin(async move {
            app.write_terminal(&caller, id, Some(viewer), data).await
        }));
    }

    /// Shows what the window has room for, and holds back the rest.
    fn show(&mut self, mut item: Item, room: u64) -> v1::AttachResponse {
        match &mut item {
            Item::Started { offset, .. } | Item::Truncated(offset) => {
                (self.acked, self.shown) = (self.acked.max(*offset), *offset);
            }
            Item::Output(output) => {
                let most = usize::try_from(room).unwrap_or(usize::MAX);
                if output.data.len() > most {
                    let rest = output.data.split_off(most);
                    self.held = Some(Output {
                        offset: output.end(),
                        data: rest,
                    });
                }
                self.shown = output.end();
            }
            _ => {}
        }
        v1::AttachResponse {
            body: Some(v1::attach_response::Body::Shown(item_to_pb(item))),
        }
    }
}

fn refused(error: &Error) -> v1::AttachResponse {
    v1::AttachResponse {
        body: Some(v1::attach_response::Body::InputRefused(v1::InputRefused {
            code: error.code().to_string(),
            message: error.message().to_owned(),
            maybe_typed: error.effect() == Effect::MaybeDone,
        })),
    }
}

/// Begins to show a terminal. The size of a caller who may only look does not count.
async fn view_terminal(
    app: &App,
    caller: &Caller,
    view: v1::TerminalView,
) -> BaseResult<TerminalReader> {
    let id = TerminalId::parse_either("view.terminal_id", &view.terminal_id)?;
    let size = optional_size_from_pb(view.size, "view.size")?
        .filter(|_| Need::Scope(Scope::Operator).admit(caller).is_ok());
    let start = match view.tail {
        Some(most) => Start::Tail(most),
        None => Start::At(view.offset),
    };
    app.watch_terminal(caller, id, start, size).await
}

fn new_terminal(request: v1::OpenTerminalRequest) -> BaseResult<NewSession> {
    Ok(NewSession {
        harness: request.harness,
        cwd: request.cwd,
        argv: request.argv,
        screen: Screen {
            size: optional_size_from_pb(request.size, "size")?.unwrap_or_default(),
            policy: size_policy_from_pb(request.size_policy, "size_policy")?.unwrap_or_default(),
        },
        model: request.model,
        permission_mode: enums::permission_mode_from_pb(
            request.permission_mode,
            "permission_mode",
        )?,
        daemon_id: field::optional_id(&request.daemon_id, "daemon_id", DaemonId::parse)?,
        selector: request.selector.into_iter().collect(),
        env_names: request.env_names,
        title: request.title,
        labels: request.labels.into_iter().collect(),
        limits: limits_from_pb(request.limits, "limits")?,
        ..NewSession::default()
    })
}

fn to_pb(shown: &ShownTerminal) -> v1::Terminal {
    v1::Terminal {
        id: TerminalId::of(shown.session.session.id).to_string(),
        session: Some(super::sessions::to_pb(&shown.session)),
        size: Some(size_to_pb(shown.screen.size)),
        size_policy: size_policy_to_pb(shown.screen.policy).into(),
        oldest_offset: shown.extent.oldest_offset,
        next_offset: shown.extent.next_offset,
        viewers: u32::try_from(shown.viewers).unwrap_or(u32::MAX),
    }
}

fn item_to_pb(item: Item) -> v1::WatchTerminalResponse {
    let body = match item {
        Item::Started {
            viewer,
            size,
            offset,
            extent,
        } => Body::Started(v1::TerminalStarted {
            viewer_id: viewer.to_string(),
            size: Some(size_to_pb(size)),
            offset,
            oldest_offset: extent.oldest_offset,
            next_offset: extent.next_offset,
        }),
        Item::Output(output) => Body::Output(output_to_pb(&output)),
        Item::Size(size) => Body::Size(size_to_pb(size)),
        Item::Truncated(oldest_offset) => Body::Truncated(v1::TerminalTruncated { oldest_offset }),
        Item::Progress(next_offset) => Body::Progress(v1::TerminalProgress { next_offset }),
        Item::Exit { end, lifecycle } => Body::Exit(v1::TerminalExit {
            end: end.as_ref().map(end_to_pb),
            lifecycle: enums::lifecycle_to_pb(lifecycle).into(),
        }),
    };
    v1::WatchTerminalResponse { body: Some(body) }
}

fn terminal_id(text: &str) -> Result<TerminalId, Status> {
    TerminalId::parse_either("terminal_id", text).map_err(status)
}

fn viewer_number(text: &str) -> BaseResult<Option<u64>> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| Error::invalid("viewer_id", "is not the id of a viewer")),
    }
}
