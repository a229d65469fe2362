//! `baton.v1.BudgetService`.

use tonic::{Request, Response, Status};

use super::{caller, status};
use crate::app::App;
use crate::app::budgets::{ShownBudget, UsageFilter, UsageRow};
use crate::base::id::{AgentId, SessionId, TaskId};
use crate::base::page::PageRequest;
use crate::domain::spending::{Day, UsageBy};
use crate::wire::budget::{
    allowance_from_pb, allowance_to_pb, budget_id, period_from_pb, scope_from_pb, scope_to_pb,
    spent_to_pb,
};
use crate::wire::common::actor_to_pb;
use crate::wire::field::optional_id;
use crate::wire::time::time_to_pb;
use crate::wire::v1;
use crate::wire::v1::budget_service_server::{BudgetService, BudgetServiceServer};
use crate::wire::{enums, field};

/// Keeps budgets and says what was spent.
pub struct Service {
    app: App,
}

/// The service, to be routed.
pub fn service(app: App) -> BudgetServiceServer<Service> {
    BudgetServiceServer::new(Service { app })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(super::MAX_MESSAGE_BYTES)
}

fn to_pb(shown: &ShownBudget) -> v1::Budget {
    let budget = &shown.budget;
    v1::Budget {
        id: budget.id.to_string(),
        scope: Some(scope_to_pb(budget.scope)),
        period: enums::budget_period_to_pb(budget.period).into(),
        soft: Some(allowance_to_pb(&budget.soft)),
        hard: Some(allowance_to_pb(&budget.hard)),
        spent: Some(spent_to_pb(&shown.spent)),
        state: enums::budget_state_to_pb(shown.state).into(),
        warning: shown.warning.clone().unwrap_or_default(),
        prompt_id: shown.prompt.map(|id| id.to_string()).unwrap_or_default(),
        stopped: shown.stopped,
        next_period_at: shown.next_period.map(time_to_pb),
        created_by: Some(actor_to_pb(&budget.created_by)),
        created_at: Some(time_to_pb(budget.created_at)),
        updated_at: Some(time_to_pb(budget.updated_at)),
        etag: field::etag_of(shown.revision),
    }
}

fn row_to_pb(by: UsageBy, row: UsageRow) -> v1::UsageRow {
    let mut pb = v1::UsageRow {
        spent: Some(spent_to_pb(&row.spent)),
        ..Default::default()
    };
    let key = match by {
        UsageBy::Day => &mut pb.day,
        UsageBy::Session => &mut pb.session_id,
        UsageBy::Agent => &mut pb.agent_id,
        UsageBy::Task => &mut pb.task_id,
        UsageBy::Model => &mut pb.model,
    };
    *key = row.key;
    pb
}

fn day(field: &str, text: &str) -> Result<Option<Day>, Status> {
    match text {
        "" => Ok(None),
        text => Day::parse(field, text).map(Some).map_err(status),
    }
}

#[tonic::async_trait]
impl BudgetService for Service {
    async fn set_budget(
        &self,
        request: Request<v1::SetBudgetRequest>,
    ) -> Result<Response<v1::SetBudgetResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let of = (
            scope_from_pb(request.scope).map_err(status)?,
            period_from_pb(request.period).map_err(status)?,
        );
        let limits = (
            allowance_from_pb(request.soft),
            allowance_from_pb(request.hard),
        );
        let expected = field::etag(&request.etag).map_err(status)?;
        let shown = self
            .app
            .set_budget(&caller, &request.request_id, of, limits, expected)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::SetBudgetResponse {
            budget: shown.as_ref().map(to_pb),
        }))
    }

    async fn get_budget(
        &self,
        request: Request<v1::GetBudgetRequest>,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        let caller = caller(&request)?;
        let id = budget_id(&request.get_ref().budget_id).map_err(status)?;
        let shown = self.app.get_budget(&caller, id).await.map_err(status)?;
        Ok(Response::new(v1::GetBudgetResponse {
            budget: Some(to_pb(&shown)),
        }))
    }

    async fn list_budgets(
        &self,
        request: Request<v1::ListBudgetsRequest>,
    ) -> Result<Response<v1::ListBudgetsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let session =
            optional_id(&request.session_id, "session_id", SessionId::parse).map_err(status)?;
        let page = self
            .app
            .list_budgets(&caller, session, &page)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListBudgetsResponse {
            next_page_token: page.next_token(),
            budgets: page.items.iter().map(to_pb).collect(),
        }))
    }

    async fn get_usage(
        &self,
        request: Request<v1::GetUsageRequest>,
    ) -> Result<Response<v1::GetUsageResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let by = enums::usage_by_from_pb(request.group_by, "group_by")
            .map_err(status)?
            .unwrap_or_default();
        let filter = UsageFilter {
            from: day("from_day", &request.from_day)?,
            to: day("to_day", &request.to_day)?,
            session: optional_id(&request.session_id, "session_id", SessionId::parse)
                .map_err(status)?,
            agent: optional_id(&request.agent_id, "agent_id", AgentId::parse).map_err(status)?,
            task: optional_id(&request.task_id, "task_id", TaskId::parse).map_err(status)?,
        };
        let page = PageRequest::parse(request.page_size, &request.page_token).map_err(status)?;
        let used = self
            .app
            .usage(&caller, by, filter, &page)
            .await
            .map_err(status)?;
        let prices = self.app.budgets().prices();
        Ok(Response::new(v1::GetUsageResponse {
            next_page_token: used.rows.next_token(),
            total: Some(spent_to_pb(&used.total)),
            prices: format!("{}, {}", prices.source, prices.date),
            rows: used
                .rows
                .items
                .into_iter()
                .map(|row| row_to_pb(by, row))
                .collect(),
        }))
    }
}
