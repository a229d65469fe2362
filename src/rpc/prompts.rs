//! `baton.v1.PromptService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::App;
use crate::app::prompts::NewRule;
use crate::base::id::{PromptId, RuleId, SessionId};
use crate::base::page::PageRequest;
use crate::wire::prompt::{answer_body_from_pb, prompt_to_pb, rule_to_pb};
use crate::wire::v1;
use crate::wire::v1::prompt_service_server::{PromptService, PromptServiceServer};
use crate::wire::{enums, field};

/// Answers what agents ask.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> PromptServiceServer<Service> {
    PromptServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

#[tonic::async_trait]
impl PromptService for Service {
    async fn get_prompt(
        &self,
        request: Request<v1::GetPromptRequest>,
    ) -> Result<Response<v1::GetPromptResponse>, Status> {
        let caller = caller(&request)?;
        let id = prompt_id(&request.get_ref().prompt_id)?;
        let (prompt, revision) = self.app.get_prompt(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::GetPromptResponse {
            prompt: Some(prompt_to_pb(&prompt, Some(revision))),
        }))
    }

    async fn list_prompts(
        &self,
        request: Request<v1::ListPromptsRequest>,
    ) -> Result<Response<v1::ListPromptsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let session = field::optional_id(&request.session_id, "session_id", SessionId::parse)
            .map_err(status)?;
        let states = enums::filter(&request.states, "states", enums::prompt_state_from_pb)
            .map_err(status)?;
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .list_prompts(&caller, session, &states, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListPromptsResponse {
            next_page_token: page.next_token(),
            prompts: page
                .items
                .iter()
                .map(|(prompt, revision)| prompt_to_pb(prompt, Some(*revision)))
                .collect(),
        }))
    }

    async fn answer_prompt(
        &self,
        request: Request<v1::AnswerPromptRequest>,
    ) -> Result<Response<v1::AnswerPromptResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = prompt_id(&request.prompt_id)?;
        let session = field::optional_id(&request.session_id, "session_id", SessionId::parse)
            .map_err(status)?;
        let body = answer_body_from_pb(request.answer).map_err(status)?;
        let (answered, revision) = self
            .app
            .answer_prompt(&caller, &request.request_id, id, session, body)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::AnswerPromptResponse {
            prompt: Some(prompt_to_pb(&answered.prompt, Some(revision))),
            rule: answered.rule.as_ref().map(rule_to_pb),
        }))
    }

    async fn list_prompt_rules(
        &self,
        request: Request<v1::ListPromptRulesRequest>,
    ) -> Result<Response<v1::ListPromptRulesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let session = field::optional_id(&request.session_id, "session_id", SessionId::parse)
            .map_err(status)?;
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let page = self
            .app
            .list_rules(&caller, session, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListPromptRulesResponse {
            next_page_token: page.next_token(),
            rules: page.items.iter().map(rule_to_pb).collect(),
        }))
    }

    async fn create_prompt_rule(
        &self,
        request: Request<v1::CreatePromptRuleRequest>,
    ) -> Result<Response<v1::CreatePromptRuleResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let rule = NewRule {
            pattern: request.pattern,
            allow: request.allow,
            session_id: field::optional_id(&request.session_id, "session_id", SessionId::parse)
                .map_err(status)?,
            directory: request.directory,
        };
        let rule = self
            .app
            .create_rule(&caller, &request.request_id, rule)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::CreatePromptRuleResponse {
            rule: Some(rule_to_pb(&rule)),
        }))
    }

    async fn delete_prompt_rule(
        &self,
        request: Request<v1::DeletePromptRuleRequest>,
    ) -> Result<Response<v1::DeletePromptRuleResponse>, Status> {
        let caller = caller(&request)?;
        let id = RuleId::parse("rule_id", &request.get_ref().rule_id).map_err(status)?;
        self.app.delete_rule(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::DeletePromptRuleResponse {}))
    }
}

fn prompt_id(text: &str) -> Result<PromptId, Status> {
    PromptId::parse("prompt_id", text).map_err(status)
}
