//! `baton.v1.SystemService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::system::System;
use crate::wire::time::duration_to_pb;
use crate::wire::v1;
use crate::wire::v1::system_service_server::{SystemService, SystemServiceServer};

/// Tells about the server.
#[derive(Clone)]
pub struct Service {
    system: System,
}

/// The service over `system`.
pub fn service(system: System) -> SystemServiceServer<Service> {
    SystemServiceServer::new(Service { system })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

#[tonic::async_trait]
impl SystemService for Service {
    async fn get_server_info(
        &self,
        request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let caller = caller(&request)?;
        let info = self.system.info(&caller).await.map_err(status)?;
        Ok(Response::new(v1::GetServerInfoResponse {
            version: info.about.version,
            capabilities: info.about.capabilities,
            linked_daemons: info.counts.linked_daemons,
            living_sessions: info.counts.living_sessions,
            pending_prompts: info.counts.pending_prompts,
            uptime: Some(duration_to_pb(info.uptime)),
            max_request_bytes: info.about.max_request_bytes,
            max_input_bytes: info.about.max_input_bytes,
            max_queued_inputs: info.about.max_queued_inputs,
            grace: Some(duration_to_pb(info.about.grace)),
            link_protocol_min: info.about.link_protocol_min,
            link_protocol_max: info.about.link_protocol_max,
        }))
    }

    async fn get_metrics(
        &self,
        request: Request<v1::GetMetricsRequest>,
    ) -> Result<Response<v1::GetMetricsResponse>, Status> {
        let text = self.system.metrics(&caller(&request)?).map_err(status)?;
        Ok(Response::new(v1::GetMetricsResponse { text }))
    }
}
