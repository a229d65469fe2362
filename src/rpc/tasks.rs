//! `baton.v1.TaskService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::App;
use crate::app::dispatch::Dispatch;
use crate::app::tasks::{ReadyFilter, Reason, ReasonKind, ShownTask, Target, TaskFilter};
use crate::base::Result as BaseResult;
use crate::base::id::{AgentId, TaskId, WorktreeId};
use crate::base::page::PageRequest;
use crate::wire::task::{
    draft_from_pb, ids, level_from_pb, target_from_pb, task_to_pb, update_from_pb,
};
use crate::wire::time::time_to_pb;
use crate::wire::v1;
use crate::wire::v1::task_service_server::{TaskService, TaskServiceServer};
use crate::wire::{enums, field};

/// Keeps what is to be done.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> TaskServiceServer<Service> {
    TaskServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

/// A task as protobuf writes it, whole.
fn whole(shown: &ShownTask) -> v1::Task {
    task_to_pb(&shown.task, shown.revision, &shown.standing, false)
}

/// A task as protobuf writes it in lists.
pub(super) fn brief(shown: &ShownTask) -> v1::Task {
    task_to_pb(&shown.task, shown.revision, &shown.standing, true)
}

fn task_id(text: &str) -> BaseResult<TaskId> {
    TaskId::parse("task_id", text)
}

fn agent_id(text: &str) -> BaseResult<Option<AgentId>> {
    field::optional_id(text, "agent_id", AgentId::parse)
}

fn target<'a>(task: &str, etag: &str, request_id: &'a str) -> BaseResult<Target<'a>> {
    Ok(Target {
        id: task_id(task)?,
        revision: field::etag(etag)?,
        request_id,
    })
}

fn reason_to_pb(reason: &Reason) -> v1::TaskReason {
    let kind = match reason.kind {
        ReasonKind::Scheduler => v1::TaskReasonKind::Scheduler,
        ReasonKind::Ready => v1::TaskReasonKind::Ready,
        ReasonKind::Status => v1::TaskReasonKind::Status,
        ReasonKind::Blocked => v1::TaskReasonKind::Blocked,
        ReasonKind::Gate => v1::TaskReasonKind::Gate,
        ReasonKind::Scheduled => v1::TaskReasonKind::Scheduled,
        ReasonKind::Assigned => v1::TaskReasonKind::Assigned,
    };
    v1::TaskReason {
        kind: kind.into(),
        message: reason.message.clone(),
        task_id: reason.task_id.map(|id| id.to_string()).unwrap_or_default(),
        agent_id: reason.agent_id.map(|id| id.to_string()).unwrap_or_default(),
        until: reason.until.map(time_to_pb),
    }
}

fn filter(request: &v1::ListTasksRequest) -> BaseResult<TaskFilter> {
    if request.priorities.len() > 64 {
        return Err(crate::base::Error::invalid(
            "priorities",
            format!("has {} entries; the most is 64", request.priorities.len()),
        ));
    }
    Ok(TaskFilter {
        statuses: enums::filter(&request.statuses, "statuses", enums::task_status_from_pb)?,
        kinds: enums::filter(&request.types, "types", enums::task_type_from_pb)?,
        priorities: request
            .priorities
            .iter()
            .map(|priority| level_from_pb(*priority, "priorities", 0))
            .collect::<BaseResult<_>>()?,
        agent_id: agent_id(&request.agent_id)?,
        unassigned: request.unassigned,
        labels: request.labels.clone().into_iter().collect(),
        parent_id: field::optional_id(&request.parent_id, "parent_id", TaskId::parse)?,
        title_contains: request.title_contains.clone(),
    })
}

fn ready_filter(request: &v1::ListReadyTasksRequest) -> BaseResult<ReadyFilter> {
    Ok(ReadyFilter {
        agent_id: agent_id(&request.agent_id)?,
        unassigned: request.unassigned,
        capabilities: (!request.capabilities.is_empty()).then(|| request.capabilities.clone()),
        kinds: enums::filter(&request.types, "types", enums::task_type_from_pb)?,
        labels: request.labels.clone().into_iter().collect(),
    })
}

#[tonic::async_trait]
impl TaskService for Service {
    async fn create_task(
        &self,
        request: Request<v1::CreateTaskRequest>,
    ) -> Result<Response<v1::CreateTaskResponse>, Status> {
        let caller = caller(&request)?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let draft = draft_from_pb(request).map_err(status)?;
        let shown = self
            .app
            .create_task(&caller, &request_id, draft)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::CreateTaskResponse {
            task: Some(whole(&shown)),
        }))
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::GetTaskResponse>, Status> {
        let caller = caller(&request)?;
        let id = task_id(&request.get_ref().task_id).map_err(status)?;
        let shown = self.app.get_task(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::GetTaskResponse {
            task: Some(whole(&shown)),
            waiter_ids: ids(&self.app.tasks_waiting(&caller, id)),
        }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let filter = filter(&request).map_err(status)?;
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .list_tasks(&caller, &filter, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListTasksResponse {
            next_page_token: page.next_token(),
            tasks: page.items.iter().map(brief).collect(),
        }))
    }

    async fn list_ready_tasks(
        &self,
        request: Request<v1::ListReadyTasksRequest>,
    ) -> Result<Response<v1::ListReadyTasksResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let filter = ready_filter(&request).map_err(status)?;
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .list_ready_tasks(&caller, &filter, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListReadyTasksResponse {
            next_page_token: page.next_token(),
            tasks: page.items.iter().map(brief).collect(),
        }))
    }

    async fn update_task(
        &self,
        request: Request<v1::UpdateTaskRequest>,
    ) -> Result<Response<v1::UpdateTaskResponse>, Status> {
        let caller = caller(&request)?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let target = target(&request.task_id, &request.etag, &request_id).map_err(status)?;
        let update = update_from_pb(request).map_err(status)?;
        let shown = self
            .app
            .update_task(&caller, target, update)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::UpdateTaskResponse {
            task: Some(whole(&shown)),
        }))
    }

    async fn add_dependency(
        &self,
        request: Request<v1::AddDependencyRequest>,
    ) -> Result<Response<v1::AddDependencyResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let target =
            target(&request.task_id, &request.etag, &request.request_id).map_err(status)?;
        let on = field::required(request.on, "on").map_err(status)?;
        let on = target_from_pb(on, "on").map_err(status)?;
        let shown = self
            .app
            .add_dependency(&caller, target, on)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::AddDependencyResponse {
            task: Some(whole(&shown)),
        }))
    }

    async fn remove_dependency(
        &self,
        request: Request<v1::RemoveDependencyRequest>,
    ) -> Result<Response<v1::RemoveDependencyResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let target =
            target(&request.task_id, &request.etag, &request.request_id).map_err(status)?;
        let on = field::required(request.on, "on").map_err(status)?;
        let on = target_from_pb(on, "on").map_err(status)?;
        let shown = self
            .app
            .remove_dependency(&caller, target, on)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::RemoveDependencyResponse {
            task: Some(whole(&shown)),
        }))
    }

    async fn assign_task(
        &self,
        request: Request<v1::AssignTaskRequest>,
    ) -> Result<Response<v1::AssignTaskResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let target =
            target(&request.task_id, &request.etag, &request.request_id).map_err(status)?;
        let agent = AgentId::parse("agent_id", &request.agent_id).map_err(status)?;
        let worktree = field::optional_id(&request.worktree_id, "worktree_id", WorktreeId::parse)
            .map_err(status)?;
        let shown = self
            .app
            .assign_task(&caller, target, agent, &request.branch, worktree)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::AssignTaskResponse {
            task: Some(whole(&shown)),
        }))
    }

    async fn dispatch_task(
        &self,
        request: Request<v1::DispatchTaskRequest>,
    ) -> Result<Response<v1::DispatchTaskResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = task_id(&request.task_id).map_err(status)?;
        let how = Dispatch {
            agent: agent_id(&request.agent_id).map_err(status)?,
            note: request.note,
            checkout: enums::checkout_from_pb(request.checkout, "checkout")
                .map_err(status)?
                .unwrap_or_default(),
        };
        let dispatched = self
            .app
            .dispatch_task(&caller, &request.request_id, id, how)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::DispatchTaskResponse {
            task: Some(whole(&dispatched.task)),
            session_id: dispatched.session.to_string(),
        }))
    }

    async fn hand_off_task(
        &self,
        request: Request<v1::HandOffTaskRequest>,
    ) -> Result<Response<v1::HandOffTaskResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let target =
            target(&request.task_id, &request.etag, &request.request_id).map_err(status)?;
        let agent = agent_id(&request.agent_id).map_err(status)?;
        let shown = self
            .app
            .hand_off_task(&caller, target, &request.note, agent)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::HandOffTaskResponse {
            task: Some(whole(&shown)),
        }))
    }

    async fn complete_task(
        &self,
        request: Request<v1::CompleteTaskRequest>,
    ) -> Result<Response<v1::CompleteTaskResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let target =
            target(&request.task_id, &request.etag, &request.request_id).map_err(status)?;
        let outcome = enums::outcome_of_task_from_pb(request.outcome, "outcome")
            .map_err(status)?
            .unwrap_or_default();
        let shown = self
            .app
            .complete_task(&caller, target, &request.summary, outcome)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::CompleteTaskResponse {
            task: Some(whole(&shown)),
        }))
    }

    async fn reopen_task(
        &self,
        request: Request<v1::ReopenTaskRequest>,
    ) -> Result<Response<v1::ReopenTaskResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let target =
            target(&request.task_id, &request.etag, &request.request_id).map_err(status)?;
        let shown = self
            .app
            .reopen_task(&caller, target, &request.note, request.same_agent)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ReopenTaskResponse {
            task: Some(whole(&shown)),
        }))
    }

    async fn delete_task(
        &self,
        request: Request<v1::DeleteTaskRequest>,
    ) -> Result<Response<v1::DeleteTaskResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let target =
            target(&request.task_id, &request.etag, &request.request_id).map_err(status)?;
        self.app
            .delete_task(&caller, target, request.force)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::DeleteTaskResponse {}))
    }

    async fn explain_task(
        &self,
        request: Request<v1::ExplainTaskRequest>,
    ) -> Result<Response<v1::ExplainTaskResponse>, Status> {
        let caller = caller(&request)?;
        let id = task_id(&request.get_ref().task_id).map_err(status)?;
        let explained = self.app.explain_task(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::ExplainTaskResponse {
            task: Some(whole(&explained.shown)),
            ready: explained.ready,
            reasons: explained.reasons.iter().map(reason_to_pb).collect(),
            priority_from_ids: ids(&explained.urged_by),
            candidates: explained
                .candidates
                .iter()
                .map(|candidate| v1::TaskCandidate {
                    agent_id: candidate.agent.to_string(),
                    name: candidate.name.clone(),
                    score: candidate.score.into(),
                    eligible: candidate.obstacle.is_none(),
                    obstacle: candidate.obstacle.clone().unwrap_or_default(),
                    place: candidate.place.clone(),
                })
                .collect(),
        }))
    }
}
