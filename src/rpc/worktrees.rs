//! `baton.v1.WorktreeService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::App;
use crate::app::worktrees::{Pruned, ShownWorktree, WorktreeFilter};
use crate::base::id::{DaemonId, WorktreeId};
use crate::base::page::PageRequest;
use crate::domain::worktree::Delete;
use crate::wire::field::{etag, optional_id};
use crate::wire::v1;
use crate::wire::v1::worktree_service_server::{WorktreeService, WorktreeServiceServer};
use crate::wire::worktree::{
    create_from_pb, diff_bytes, diff_to_pb, grace_from_pb, merge_from_pb, recoverable_to_pb,
    report_to_pb, worktree_to_pb,
};

/// Makes, shows, merges and removes worktrees.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> WorktreeServiceServer<Service> {
    WorktreeServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

pub(super) fn to_pb(shown: &ShownWorktree) -> v1::Worktree {
    worktree_to_pb(
        &shown.worktree,
        shown.state,
        shown.session_ids.clone(),
        shown.revision,
    )
}

fn pruned_to_pb(pruned: Pruned) -> v1::PrunedWorktree {
    v1::PrunedWorktree {
        worktree_id: pruned.worktree_id.to_string(),
        path: pruned.path,
        reason: pruned.reason,
        size_bytes: pruned.size_bytes,
        removed: pruned.removed,
        failure: pruned.failure,
    }
}

fn worktree_id(text: &str) -> Result<WorktreeId, Status> {
    WorktreeId::parse("worktree_id", text).map_err(status)
}

fn daemon_id(text: &str) -> Result<Option<DaemonId>, Status> {
    optional_id(text, "daemon_id", DaemonId::parse).map_err(status)
}

#[tonic::async_trait]
impl WorktreeService for Service {
    async fn create_worktree(
        &self,
        request: Request<v1::CreateWorktreeRequest>,
    ) -> Result<Response<v1::CreateWorktreeResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let daemon = daemon_id(&request.daemon_id)?;
        let request_id = request.request_id.clone();
        let create = create_from_pb(request).map_err(status)?;
        let shown = self
            .app
            .create_worktree(&caller, &request_id, daemon, create)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::CreateWorktreeResponse {
            worktree: Some(to_pb(&shown)),
        }))
    }

    async fn get_worktree(
        &self,
        request: Request<v1::GetWorktreeRequest>,
    ) -> Result<Response<v1::GetWorktreeResponse>, Status> {
        let caller = caller(&request)?;
        let id = worktree_id(&request.get_ref().worktree_id)?;
        let shown = self.app.get_worktree(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::GetWorktreeResponse {
            worktree: Some(to_pb(&shown)),
        }))
    }

    async fn list_worktrees(
        &self,
        request: Request<v1::ListWorktreesRequest>,
    ) -> Result<Response<v1::ListWorktreesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let filter = WorktreeFilter {
            daemon_id: daemon_id(&request.daemon_id)?,
            repository: request.repository,
            all: request.all,
        };
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .list_worktrees(&caller, &filter, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListWorktreesResponse {
            next_page_token: page.next_token(),
            worktrees: page.items.iter().map(to_pb).collect(),
        }))
    }

    async fn merge_worktree(
        &self,
        request: Request<v1::MergeWorktreeRequest>,
    ) -> Result<Response<v1::MergeWorktreeResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = worktree_id(&request.worktree_id)?;
        let etag = etag(&request.etag).map_err(status)?;
        let request_id = request.request_id.clone();
        let merge = merge_from_pb(request).map_err(status)?;
        let (shown, report) = self
            .app
            .merge_worktree(&caller, &request_id, id, etag, merge)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::MergeWorktreeResponse {
            worktree: Some(to_pb(&shown)),
            report: Some(report_to_pb(&report)),
        }))
    }

    async fn delete_worktree(
        &self,
        request: Request<v1::DeleteWorktreeRequest>,
    ) -> Result<Response<v1::DeleteWorktreeResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = worktree_id(&request.worktree_id)?;
        let etag = etag(&request.etag).map_err(status)?;
        let delete = Delete {
            force: request.force,
            delete_branch: request.delete_branch,
        };
        let (shown, branch_deleted) = self
            .app
            .delete_worktree(&caller, &request.request_id, id, etag, delete)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::DeleteWorktreeResponse {
            worktree: Some(to_pb(&shown)),
            branch_deleted,
        }))
    }

    async fn get_worktree_diff(
        &self,
        request: Request<v1::GetWorktreeDiffRequest>,
    ) -> Result<Response<v1::GetWorktreeDiffResponse>, Status> {
        let caller = caller(&request)?;
        let id = worktree_id(&request.get_ref().worktree_id)?;
        let max_bytes = diff_bytes(request.get_ref().max_bytes).map_err(status)?;
        let diff = self
            .app
            .worktree_diff(&caller, id, max_bytes)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::GetWorktreeDiffResponse {
            diff: Some(diff_to_pb(&diff)),
        }))
    }

    async fn prune_worktrees(
        &self,
        request: Request<v1::PruneWorktreesRequest>,
    ) -> Result<Response<v1::PruneWorktreesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let daemon = daemon_id(&request.daemon_id)?;
        let grace = grace_from_pb(request.grace).map_err(status)?;
        let pruned = self
            .app
            .prune_worktrees(&caller, daemon, request.repository, request.dry_run, grace)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::PruneWorktreesResponse {
            pruned: pruned.into_iter().map(pruned_to_pb).collect(),
        }))
    }

    async fn list_recoverable(
        &self,
        request: Request<v1::ListRecoverableRequest>,
    ) -> Result<Response<v1::ListRecoverableResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let daemon = daemon_id(&request.daemon_id)?;
        let found = self
            .app
            .list_recoverable(&caller, daemon, request.repository)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListRecoverableResponse {
            recoverable: found.iter().map(recoverable_to_pb).collect(),
        }))
    }

    async fn recover_worktree(
        &self,
        request: Request<v1::RecoverWorktreeRequest>,
    ) -> Result<Response<v1::RecoverWorktreeResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let daemon = daemon_id(&request.daemon_id)?;
        let shown = self
            .app
            .recover_worktree(
                &caller,
                &request.request_id,
                daemon,
                request.repository,
                request.recover_ref,
                request.branch,
            )
            .await
            .map_err(status)?;
        Ok(Response::new(v1::RecoverWorktreeResponse {
            worktree: Some(to_pb(&shown)),
        }))
    }
}
