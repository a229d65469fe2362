//! `baton.v1.SchedulerService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::App;
use crate::app::dispatch::Scheduler;
use crate::wire::common::actor_to_pb;
use crate::wire::time::time_to_pb;
use crate::wire::v1;
use crate::wire::v1::scheduler_service_server::{SchedulerService, SchedulerServiceServer};

/// Says what the scheduler does.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> SchedulerServiceServer<Service> {
    SchedulerServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

fn to_pb(scheduler: &Scheduler) -> v1::Scheduler {
    let switch = scheduler.switch.as_ref();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::Scheduler {
        paused: scheduler.paused,
        reason: switch
            .map(|switch| switch.reason.clone())
            .unwrap_or_default(),
        changed_by: switch.map(|switch| actor_to_pb(&switch.by)),
        changed_at: switch.map(|switch| time_to_pb(switch.at)),
        looked_at: scheduler.looked_at.map(time_to_pb),
        running: number(scheduler.running),
        max_running: number(scheduler.max_running),
        escalated_task_ids: crate::wire::task::ids(&scheduler.escalated),
    }
}

#[tonic::async_trait]
impl SchedulerService for Service {
    async fn get_scheduler(
        &self,
        request: Request<v1::GetSchedulerRequest>,
    ) -> Result<Response<v1::GetSchedulerResponse>, Status> {
        let caller = caller(&request)?;
        let scheduler = self.app.get_scheduler(&caller).await.map_err(status)?;
        Ok(Response::new(v1::GetSchedulerResponse {
            scheduler: Some(to_pb(&scheduler)),
        }))
    }

    async fn pause_scheduler(
        &self,
        request: Request<v1::PauseSchedulerRequest>,
    ) -> Result<Response<v1::PauseSchedulerResponse>, Status> {
        let caller = caller(&request)?;
        let reason = request.into_inner().reason;
        let scheduler = self
            .app
            .switch_scheduler(&caller, true, reason)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::PauseSchedulerResponse {
            scheduler: Some(to_pb(&scheduler)),
        }))
    }

    async fn resume_scheduler(
        &self,
        request: Request<v1::ResumeSchedulerRequest>,
    ) -> Result<Response<v1::ResumeSchedulerResponse>, Status> {
        let caller = caller(&request)?;
        let scheduler = self
            .app
            .switch_scheduler(&caller, false, String::new())
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ResumeSchedulerResponse {
            scheduler: Some(to_pb(&scheduler)),
        }))
    }
}
