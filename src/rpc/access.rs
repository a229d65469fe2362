//! `baton.v1.AccessService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::access::Access;
use crate::base::Error;
use crate::base::id::TokenId;
use crate::base::page::PageRequest;
use crate::wire::enums::{required as required_enum, scope_from_pb, scope_to_pb};
use crate::wire::time::{duration_from_pb, time_to_pb};
use crate::wire::token::{narrowing_from_pb, token_to_pb};
use crate::wire::v1;
use crate::wire::v1::access_service_server::{AccessService, AccessServiceServer};

/// Makes and revokes tokens.
#[derive(Clone)]
pub struct Service {
    access: Access,
}

/// The service over `access`.
pub fn service(access: Access) -> AccessServiceServer<Service> {
    AccessServiceServer::new(Service { access })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

#[tonic::async_trait]
impl AccessService for Service {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let made = async {
            let scope = required_enum(scope_from_pb(request.scope, "scope"), "scope")?;
            let ttl = duration_from_pb(request.ttl, "ttl")?;
            let narrowing = request
                .narrowing
                .map(|narrowing| narrowing_from_pb(narrowing, "narrowing"))
                .transpose()?;
            self.access
                .create_token(&caller, &request.name, scope, ttl, narrowing)
                .await
        };
        let minted = made.await.map_err(status)?;
        Ok(Response::new(v1::CreateTokenResponse {
            token: Some(token_to_pb(&minted.token)),
            secret: minted.secret.expose().to_owned(),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self.access.list_tokens(&page).await.map_err(status)?;
        Ok(Response::new(v1::ListTokensResponse {
            next_page_token: page.next_token(),
            tokens: page.items.iter().map(token_to_pb).collect(),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let id = TokenId::parse("token_id", &request.into_inner().token_id).map_err(status)?;
        let token = self.access.revoke(id).await.map_err(status)?;
        Ok(Response::new(v1::RevokeTokenResponse {
            token: Some(token_to_pb(&token)),
        }))
    }

    async fn get_caller(
        &self,
        request: Request<v1::GetCallerRequest>,
    ) -> Result<Response<v1::GetCallerResponse>, Status> {
        let caller = caller(&request)?;
        let token = self.access.token(caller.token_id).await.map_err(status)?;
        Ok(Response::new(v1::GetCallerResponse {
            token: Some(token_to_pb(&token)),
        }))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let made = async {
            let ttl = duration_from_pb(request.ttl, "ttl")?;
            self.access
                .create_join_token(&caller, &request.name, ttl)
                .await
        };
        let minted = made.await.map_err(|error: Error| status(error))?;
        Ok(Response::new(v1::CreateJoinTokenResponse {
            token: Some(token_to_pb(&minted.token)),
            secret: minted.secret.expose().to_owned(),
        }))
    }

    async fn create_sign_in_code(
        &self,
        request: Request<v1::CreateSignInCodeRequest>,
    ) -> Result<Response<v1::CreateSignInCodeResponse>, Status> {
        let caller = caller(&request)?;
        let scope = scope_from_pb(request.into_inner().scope, "scope").map_err(status)?;
        let made = self.access.create_sign_in_code(&caller, scope).await;
        let made = made.map_err(status)?;
        Ok(Response::new(v1::CreateSignInCodeResponse {
            code: made.code.expose().to_owned(),
            expires_at: Some(time_to_pb(made.expires_at)),
            scope: scope_to_pb(made.scope).into(),
        }))
    }
}
