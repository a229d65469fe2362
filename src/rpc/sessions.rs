//! `baton.v1.SessionService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::sessions::{NewOptions, NewSession, Resume, SessionFilter, Shown};
use crate::base::Error;
use crate::base::id::{AgentId, DaemonId, InputId, SessionId};
use crate::base::page::PageRequest;
use crate::wire::agent::role_filter;
use crate::wire::enums;
use crate::wire::field;
use crate::wire::input::input_to_pb;
use crate::wire::session::{limits_from_pb, session_to_pb};
use crate::wire::v1;
use crate::wire::v1::session_service_server::{SessionService, SessionServiceServer};

/// Creates, steers and ends sessions.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> SessionServiceServer<Service> {
    SessionServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

impl Service {
    async fn show(&self, caller: &Caller, id: SessionId) -> Result<v1::Session, Status> {
        let shown = self.app.show_session(caller, id).await.map_err(status)?;
        Ok(to_pb(&shown))
    }
}

/// A session as it is shown.
pub(super) fn to_pb(shown: &Shown) -> v1::Session {
    let head = shown
        .head
        .map(|head| (head.log_epoch, head.first_seq, head.last_seq));
    session_to_pb(&shown.session, head, shown.revision)
}

fn new_session(request: v1::CreateSessionRequest) -> Result<NewSession, Error> {
    Ok(NewSession {
        task: None,
        input: request.input,
        cwd: request.cwd,
        harness: request.harness,
        model: request.model,
        permission_mode: enums::permission_mode_from_pb(
            request.permission_mode,
            "permission_mode",
        )?,
        mode: enums::mode_from_pb(request.mode, "mode")?.unwrap_or_default(),
        one_shot: request.one_shot,
        daemon_id: field::optional_id(&request.daemon_id, "daemon_id", DaemonId::parse)?,
        selector: request.selector.into_iter().collect(),
        env_names: request.env_names,
        limits: limits_from_pb(request.limits, "limits")?,
        title: request.title,
        labels: request.labels.into_iter().collect(),
        argv: request.argv,
        screen: Default::default(),
    })
}

#[tonic::async_trait]
impl SessionService for Service {
    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let caller = caller(&request)?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let new = new_session(request).map_err(status)?;
        let session = self
            .app
            .create_session(&caller, &request_id, new)
            .await
            .map_err(status)?;
        let session = Some(self.show(&caller, session.id).await?);
        Ok(Response::new(v1::CreateSessionResponse { session }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let caller = caller(&request)?;
        let id = session_id(&request.get_ref().session_id)?;
        let session = Some(self.show(&caller, id).await?);
        Ok(Response::new(v1::GetSessionResponse { session }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let filter = SessionFilter {
            daemon_id: field::optional_id(&request.daemon_id, "daemon_id", DaemonId::parse)
                .map_err(status)?,
            lifecycles: enums::filter(&request.lifecycles, "lifecycles", enums::lifecycle_from_pb)
                .map_err(status)?,
            harness: request.harness,
            labels: request.labels.into_iter().collect(),
            resumable: request.resumable,
            cwd: request.cwd,
            mode: None,
            agent_id: field::optional_id(&request.agent_id, "agent_id", AgentId::parse)
                .map_err(status)?,
            role: role_filter(request.role).map_err(status)?,
        };
        let page = self
            .app
            .list_sessions(&caller, &filter, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListSessionsResponse {
            next_page_token: page.next_token(),
            sessions: page.items.iter().map(to_pb).collect(),
        }))
    }

    async fn send_input(
        &self,
        request: Request<v1::SendInputRequest>,
    ) -> Result<Response<v1::SendInputResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = session_id(&request.session_id)?;
        let delivery = enums::delivery_from_pb(request.delivery, "delivery")
            .map_err(status)?
            .unwrap_or_default();
        let (input, revision) = self
            .app
            .send_input(&caller, &request.request_id, id, request.text, delivery)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::SendInputResponse {
            input: Some(input_to_pb(&input, revision)),
        }))
    }

    async fn interrupt_turn(
        &self,
        request: Request<v1::InterruptTurnRequest>,
    ) -> Result<Response<v1::InterruptTurnResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = session_id(&request.session_id)?;
        self.app
            .interrupt_turn(&caller, &request.request_id, id)
            .await
            .map_err(status)?;
        let session = Some(self.show(&caller, id).await?);
        Ok(Response::new(v1::InterruptTurnResponse { session }))
    }

    async fn suspend_session(
        &self,
        request: Request<v1::SuspendSessionRequest>,
    ) -> Result<Response<v1::SuspendSessionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = session_id(&request.session_id)?;
        self.app
            .suspend_session(&caller, &request.request_id, id)
            .await
            .map_err(status)?;
        let session = Some(self.show(&caller, id).await?);
        Ok(Response::new(v1::SuspendSessionResponse { session }))
    }

    async fn resume_session(
        &self,
        request: Request<v1::ResumeSessionRequest>,
    ) -> Result<Response<v1::ResumeSessionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = session_id(&request.session_id)?;
        let resume = Resume {
            task: None,
            input: request.input,
            force: request.force,
            permission_mode: enums::permission_mode_from_pb(
                request.permission_mode,
                "permission_mode",
            )
            .map_err(status)?,
            model: request.model,
        };
        let session = self
            .app
            .resume_session(&caller, &request.request_id, id, resume)
            .await
            .map_err(status)?;
        let session = Some(self.show(&caller, session.id).await?);
        Ok(Response::new(v1::ResumeSessionResponse { session }))
    }

    async fn fork_session(
        &self,
        request: Request<v1::ForkSessionRequest>,
    ) -> Result<Response<v1::ForkSessionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = session_id(&request.session_id)?;
        let session = self
            .app
            .fork_session(&caller, &request.request_id, id, request.input)
            .await
            .map_err(status)?;
        let session = Some(self.show(&caller, session.id).await?);
        Ok(Response::new(v1::ForkSessionResponse { session }))
    }

    async fn list_inputs(
        &self,
        request: Request<v1::ListInputsRequest>,
    ) -> Result<Response<v1::ListInputsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = session_id(&request.session_id)?;
        let states =
            enums::filter(&request.states, "states", enums::input_state_from_pb).map_err(status)?;
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .list_inputs(&caller, id, &states, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListInputsResponse {
            next_page_token: page.next_token(),
            inputs: inputs_to_pb(&page.items),
        }))
    }

    async fn update_input(
        &self,
        request: Request<v1::UpdateInputRequest>,
    ) -> Result<Response<v1::UpdateInputResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let session = session_id(&request.session_id)?;
        let id = input_id(&request.input_id)?;
        let revision = field::etag(&request.etag).map_err(status)?;
        let (input, revision) = self
            .app
            .update_input(&caller, session, id, request.text, revision)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::UpdateInputResponse {
            input: Some(input_to_pb(&input, revision)),
        }))
    }

    async fn move_input(
        &self,
        request: Request<v1::MoveInputRequest>,
    ) -> Result<Response<v1::MoveInputResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let session = session_id(&request.session_id)?;
        let id = input_id(&request.input_id)?;
        let queue = self
            .app
            .move_input(&caller, session, id, request.position)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::MoveInputResponse {
            inputs: inputs_to_pb(&queue),
        }))
    }

    async fn withdraw_input(
        &self,
        request: Request<v1::WithdrawInputRequest>,
    ) -> Result<Response<v1::WithdrawInputResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let session = session_id(&request.session_id)?;
        let id = input_id(&request.input_id)?;
        let (input, revision) = self
            .app
            .withdraw_input(&caller, session, id)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::WithdrawInputResponse {
            input: Some(input_to_pb(&input, revision)),
        }))
    }

    async fn end_session(
        &self,
        request: Request<v1::EndSessionRequest>,
    ) -> Result<Response<v1::EndSessionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = session_id(&request.session_id)?;
        self.app
            .end_session(&caller, &request.request_id, id, request.force)
            .await
            .map_err(status)?;
        let session = Some(self.show(&caller, id).await?);
        Ok(Response::new(v1::EndSessionResponse { session }))
    }

    async fn set_session_options(
        &self,
        request: Request<v1::SetSessionOptionsRequest>,
    ) -> Result<Response<v1::SetSessionOptionsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = session_id(&request.session_id)?;
        let new = NewOptions {
            model: request.model,
            permission_mode: enums::permission_mode_from_pb(
                request.permission_mode,
                "permission_mode",
            )
            .map_err(status)?,
        };
        self.app
            .set_session_options(&caller, &request.request_id, id, new)
            .await
            .map_err(status)?;
        let session = Some(self.show(&caller, id).await?);
        Ok(Response::new(v1::SetSessionOptionsResponse { session }))
    }

    async fn delete_session(
        &self,
        request: Request<v1::DeleteSessionRequest>,
    ) -> Result<Response<v1::DeleteSessionResponse>, Status> {
        let caller = caller(&request)?;
        let id = session_id(&request.get_ref().session_id)?;
        self.app.delete_session(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::DeleteSessionResponse {}))
    }
}

fn session_id(text: &str) -> Result<SessionId, Status> {
    SessionId::parse("session_id", text).map_err(status)
}

fn input_id(text: &str) -> Result<InputId, Status> {
    InputId::parse("input_id", text).map_err(status)
}

fn inputs_to_pb(inputs: &[(crate::domain::Input, u64)]) -> Vec<v1::Input> {
    inputs
        .iter()
        .map(|(input, revision)| input_to_pb(input, *revision))
        .collect()
}
