//! `baton.v1.DaemonService`.

use super::{caller, status};
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::app::daemons::ShownDaemon;
use crate::base::id::DaemonId;
use crate::base::page::PageRequest;
use crate::domain::daemon::DirectoryQuery;
use crate::wire::daemon::{daemon_to_pb, directory_to_pb};
use crate::wire::v1;
use crate::wire::v1::daemon_service_server::{DaemonService, DaemonServiceServer};

/// Looks at daemons and takes them out of service.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> DaemonServiceServer<Service> {
    DaemonServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

/// A daemon as it is shown.
pub(super) fn to_pb(shown: &ShownDaemon) -> v1::Daemon {
    daemon_to_pb(&shown.daemon, shown.living, shown.revision)
}

#[tonic::async_trait]
impl DaemonService for Service {
    async fn get_daemon(
        &self,
        request: Request<v1::GetDaemonRequest>,
    ) -> Result<Response<v1::GetDaemonResponse>, Status> {
        let caller = caller(&request)?;
        let id = daemon_id(&request.get_ref().daemon_id)?;
        let shown = self.app.show_daemon(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::GetDaemonResponse {
            daemon: Some(to_pb(&shown)),
        }))
    }

    async fn list_daemons(
        &self,
        request: Request<v1::ListDaemonsRequest>,
    ) -> Result<Response<v1::ListDaemonsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .list_daemons(&caller, request.attached_only, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListDaemonsResponse {
            next_page_token: page.next_token(),
            daemons: page.items.iter().map(to_pb).collect(),
        }))
    }

    async fn drain_daemon(
        &self,
        request: Request<v1::DrainDaemonRequest>,
    ) -> Result<Response<v1::DrainDaemonResponse>, Status> {
        let id = daemon_id(&request.get_ref().daemon_id)?;
        let shown = self
            .app
            .drain_daemon(id, request.get_ref().undo)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::DrainDaemonResponse {
            daemon: Some(to_pb(&shown)),
        }))
    }

    async fn remove_daemon(
        &self,
        request: Request<v1::RemoveDaemonRequest>,
    ) -> Result<Response<v1::RemoveDaemonResponse>, Status> {
        let id = daemon_id(&request.get_ref().daemon_id)?;
        self.app
            .remove_daemon(id, request.get_ref().force)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::RemoveDaemonResponse {}))
    }

    async fn list_directory(
        &self,
        request: Request<v1::ListDirectoryRequest>,
    ) -> Result<Response<v1::ListDirectoryResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = daemon_id(&request.daemon_id)?;
        let query = DirectoryQuery {
            path: request.path,
            hidden: request.hidden,
            brief: request.brief,
        };
        let directory = self
            .app
            .list_directory(&caller, id, query)
            .await
            .map_err(status)?;
        Ok(Response::new(directory_to_pb(directory)))
    }
}

fn daemon_id(text: &str) -> Result<DaemonId, Status> {
    DaemonId::parse("daemon_id", text).map_err(status)
}
