//! `baton.v1.AgentService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::App;
use crate::app::agents::{AgentFilter, ResumeAgent, ShownAgent, StartAgent};
use crate::app::triggers::TriggerState;
use crate::base::Error;
use crate::base::id::{AgentId, SessionId};
use crate::base::page::PageRequest;
use crate::wire::agent::{
    agent_to_pb, merged_settings, role_filter, settings_from_pb, trigger_to_pb,
};
use crate::wire::time::time_to_pb;
use crate::wire::v1;
use crate::wire::v1::agent_service_server::{AgentService, AgentServiceServer};
use crate::wire::{enums, field};

/// Sessions of a status, where nobody says how many.
const DEFAULT_HISTORY: usize = 20;
/// The most sessions of a status.
const MAX_HISTORY: usize = 100;

/// Keeps agents and runs them.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> AgentServiceServer<Service> {
    AgentServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

/// An agent as it is shown.
pub(super) fn to_pb(shown: &ShownAgent) -> v1::Agent {
    agent_to_pb(&shown.agent, shown.active, shown.revision)
}

#[tonic::async_trait]
impl AgentService for Service {
    async fn create_agent(
        &self,
        request: Request<v1::CreateAgentRequest>,
    ) -> Result<Response<v1::CreateAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let settings = settings_from_pb(request.settings).map_err(status)?;
        let shown = self
            .app
            .create_agent(&caller, &request.request_id, settings)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::CreateAgentResponse {
            agent: Some(to_pb(&shown)),
        }))
    }

    async fn get_agent(
        &self,
        request: Request<v1::GetAgentRequest>,
    ) -> Result<Response<v1::GetAgentResponse>, Status> {
        let caller = caller(&request)?;
        let id = agent_id(&request.get_ref().agent_id)?;
        let shown = self.app.get_agent(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::GetAgentResponse {
            agent: Some(to_pb(&shown)),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let filter = AgentFilter {
            role: role_filter(request.role).map_err(status)?,
            name: request.name,
            labels: request.labels.into_iter().collect(),
            active: request.active,
        };
        let page = self
            .app
            .list_agents(&caller, &filter, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListAgentsResponse {
            next_page_token: page.next_token(),
            agents: page.items.iter().map(to_pb).collect(),
        }))
    }

    async fn update_agent(
        &self,
        request: Request<v1::UpdateAgentRequest>,
    ) -> Result<Response<v1::UpdateAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = agent_id(&request.agent_id)?;
        let expected = field::etag(&request.etag).map_err(status)?;
        let paths = request.update_mask.unwrap_or_default().paths;
        let settings = request.settings;
        let detail = format!("{settings:?}{paths:?}");
        let shown = self
            .app
            .update_agent(&caller, &request.request_id, id, expected, &detail, |now| {
                merged_settings(now, settings.clone(), &paths)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(v1::UpdateAgentResponse {
            agent: Some(to_pb(&shown)),
        }))
    }

    async fn delete_agent(
        &self,
        request: Request<v1::DeleteAgentRequest>,
    ) -> Result<Response<v1::DeleteAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = agent_id(&request.agent_id)?;
        let expected = field::etag(&request.etag).map_err(status)?;
        self.app
            .delete_agent(&caller, &request.request_id, id, expected)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::DeleteAgentResponse {}))
    }

    async fn start_agent(
        &self,
        request: Request<v1::StartAgentRequest>,
    ) -> Result<Response<v1::StartAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = agent_id(&request.agent_id)?;
        let start = StartAgent {
            input: request.input,
            cwd: request.cwd,
            mode: enums::mode_from_pb(request.mode, "mode").map_err(status)?,
            force: request.force,
            ..StartAgent::default()
        };
        let session = self
            .app
            .start_agent(&caller, &request.request_id, id, start)
            .await
            .map_err(status)?;
        let session = Some(self.session(&caller, session.id).await?);
        Ok(Response::new(v1::StartAgentResponse { session }))
    }

    async fn stop_agent(
        &self,
        request: Request<v1::StopAgentRequest>,
    ) -> Result<Response<v1::StopAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = agent_id(&request.agent_id)?;
        let stopped = self
            .app
            .stop_agent(&caller, &request.request_id, id, request.force)
            .await
            .map_err(status)?;
        let session = match stopped {
            Some(session) => Some(self.session(&caller, session).await?),
            None => None,
        };
        Ok(Response::new(v1::StopAgentResponse { session }))
    }

    async fn resume_agent(
        &self,
        request: Request<v1::ResumeAgentRequest>,
    ) -> Result<Response<v1::ResumeAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = agent_id(&request.agent_id)?;
        let resume = ResumeAgent {
            session_id: field::optional_id(&request.session_id, "session_id", SessionId::parse)
                .map_err(status)?,
            provider_session_id: request.provider_session_id,
            input: request.input,
            force: request.force,
            unchecked: !request.check_ready_queue.unwrap_or(true),
            ..ResumeAgent::default()
        };
        let resumed = self
            .app
            .resume_agent(&caller, &request.request_id, id, resume)
            .await
            .map_err(status)?;
        let session = Some(self.session(&caller, resumed.session.id).await?);
        let ready = resumed.ready;
        Ok(Response::new(v1::ResumeAgentResponse {
            session,
            ready_check: Some(v1::ReadyCheck {
                checked: ready.checked,
                tasks: ready.tasks.iter().map(super::tasks::brief).collect(),
                process_first: ready.process_first,
            }),
        }))
    }

    async fn get_agent_status(
        &self,
        request: Request<v1::GetAgentStatusRequest>,
    ) -> Result<Response<v1::GetAgentStatusResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = agent_id(&request.agent_id)?;
        let history = history(request.history).map_err(status)?;
        let agent = self
            .app
            .agent_status(&caller, id, history)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::GetAgentStatusResponse {
            agent: Some(to_pb(&agent.shown)),
            active: agent.active.as_ref().map(super::sessions::to_pb),
            history: agent.history.iter().map(super::sessions::to_pb).collect(),
            triggers: agent.triggers.iter().map(trigger_state).collect(),
        }))
    }
}

impl Service {
    async fn session(
        &self,
        caller: &crate::app::access::Caller,
        id: SessionId,
    ) -> Result<v1::Session, Status> {
        let shown = self.app.show_session(caller, id).await.map_err(status)?;
        Ok(super::sessions::to_pb(&shown))
    }
}

fn trigger_state(state: &TriggerState) -> v1::TriggerState {
    v1::TriggerState {
        trigger: Some(trigger_to_pb(&state.trigger)),
        next_at: state.next_at.map(time_to_pb),
        fired_at: state.fired_at.map(time_to_pb),
        tasks: u32::try_from(state.tasks).unwrap_or(u32::MAX),
        obstacle: state.obstacle.clone().unwrap_or_default(),
    }
}

fn history(asked: i32) -> Result<usize, Error> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_HISTORY),
        Ok(n) if n <= MAX_HISTORY => Ok(n),
        _ => Err(Error::invalid(
            "history",
            format!("is {asked}; it goes from 1 to {MAX_HISTORY}"),
        )),
    }
}

fn agent_id(text: &str) -> Result<AgentId, Status> {
    AgentId::parse("agent_id", text).map_err(status)
}
