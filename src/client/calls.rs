//! One method a unary RPC.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::address::ServerAddress;
use super::failure::{connect_error, error_of};
use super::follow::{Follow, FollowOptions};
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::wire::v1;

/// How long a unary call may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest answer: a page of a thousand events of the largest size would be more, so servers end
/// pages earlier.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
/// The largest request: an input of 1 MiB and what is around it.
const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// A channel that shows the token with every call.
pub type Transport = InterceptedService<Channel, Bearer>;

/// Adds the token to a call.
#[derive(Clone)]
pub struct Bearer {
    header: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.header {
            request
                .metadata_mut()
                .insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// A client of one server. Cloning it is cheap; clones share the connection, which is made anew when lost.
#[derive(Clone)]
pub struct Client {
    url: String,
    transport: Transport,
    deadline: Duration,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident $service:ident ($request:ident) -> $response:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$response> {
                    let mut service = self.$service();
                    self.bounded(service.$name(self.request(request))).await
                }
            )*
        }
    };
}

calls! {
    /// Makes a worktree.
    create_worktree worktrees(CreateWorktreeRequest) -> CreateWorktreeResponse;
    /// One worktree.
    get_worktree worktrees(GetWorktreeRequest) -> GetWorktreeResponse;
    /// A page of worktrees.
    list_worktrees worktrees(ListWorktreesRequest) -> ListWorktreesResponse;
    /// Merges a worktree's branch.
    merge_worktree worktrees(MergeWorktreeRequest) -> MergeWorktreeResponse;
    /// Removes a worktree.
    delete_worktree worktrees(DeleteWorktreeRequest) -> DeleteWorktreeResponse;
    /// How a worktree differs from its target.
    get_worktree_diff worktrees(GetWorktreeDiffRequest) -> GetWorktreeDiffResponse;
    /// Removes worktrees that can be removed without loss.
    prune_worktrees worktrees(PruneWorktreesRequest) -> PruneWorktreesResponse;
    /// What removals have kept.
    list_recoverable worktrees(ListRecoverableRequest) -> ListRecoverableResponse;
    /// Makes a worktree of what a removal has kept.
    recover_worktree worktrees(RecoverWorktreeRequest) -> RecoverWorktreeResponse;
    /// Creates a session.
    create_session sessions(CreateSessionRequest) -> CreateSessionResponse;
    /// One session.
    get_session sessions(GetSessionRequest) -> GetSessionResponse;
    /// A page of sessions.
    list_sessions sessions(ListSessionsRequest) -> ListSessionsResponse;
    /// Sends text to an agent.
    send_input sessions(SendInputRequest) -> SendInputResponse;
    /// Interrupts the running turn.
    interrupt_turn sessions(InterruptTurnRequest) -> InterruptTurnResponse;
    /// Stops the process, to be resumed later.
    suspend_session sessions(SuspendSessionRequest) -> SuspendSessionResponse;
    /// Continues a conversation in a new session.
    resume_session sessions(ResumeSessionRequest) -> ResumeSessionResponse;
    /// Branches a conversation off.
    fork_session sessions(ForkSessionRequest) -> ForkSessionResponse;
    /// A page of a session's inputs.
    list_inputs sessions(ListInputsRequest) -> ListInputsResponse;
    /// Changes a queued input.
    update_input sessions(UpdateInputRequest) -> UpdateInputResponse;
    /// Moves a queued input.
    move_input sessions(MoveInputRequest) -> MoveInputResponse;
    /// Takes a queued input back.
    withdraw_input sessions(WithdrawInputRequest) -> WithdrawInputResponse;
    /// Ends a session.
    end_session sessions(EndSessionRequest) -> EndSessionResponse;
    /// Changes model or permission mode.
    set_session_options sessions(SetSessionOptionsRequest) -> SetSessionOptionsResponse;
    /// Deletes an ended session.
    delete_session sessions(DeleteSessionRequest) -> DeleteSessionResponse;
    /// A page of a session's log.
    list_events events(ListEventsRequest) -> ListEventsResponse;
    /// Searches transcripts.
    search_events events(SearchEventsRequest) -> SearchEventsResponse;
    /// One prompt.
    get_prompt prompts(GetPromptRequest) -> GetPromptResponse;
    /// A page of prompts.
    list_prompts prompts(ListPromptsRequest) -> ListPromptsResponse;
    /// Answers a prompt.
    answer_prompt prompts(AnswerPromptRequest) -> AnswerPromptResponse;
    /// A page of rules.
    list_prompt_rules prompts(ListPromptRulesRequest) -> ListPromptRulesResponse;
    /// Creates a rule.
    create_prompt_rule prompts(CreatePromptRuleRequest) -> CreatePromptRuleResponse;
    /// Deletes a rule.
    delete_prompt_rule prompts(DeletePromptRuleRequest) -> DeletePromptRuleResponse;
    /// Sets the limits of something.
    set_budget budgets(SetBudgetRequest) -> SetBudgetResponse;
    /// One budget.
    get_budget budgets(GetBudgetRequest) -> GetBudgetResponse;
    /// A page of budgets.
    list_budgets budgets(ListBudgetsRequest) -> ListBudgetsResponse;
    /// What was spent.
    get_usage budgets(GetUsageRequest) -> GetUsageResponse;
    /// Makes an agent.
    create_agent agents(CreateAgentRequest) -> CreateAgentResponse;
    /// One agent.
    get_agent agents(GetAgentRequest) -> GetAgentResponse;
    /// A page of agents.
    list_agents agents(ListAgentsRequest) -> ListAgentsResponse;
    /// Changes an agent.
    update_agent agents(UpdateAgentRequest) -> UpdateAgentResponse;
    /// Deletes an agent.
    delete_agent agents(DeleteAgentRequest) -> DeleteAgentResponse;
    /// Starts a session of an agent.
    start_agent agents(StartAgentRequest) -> StartAgentResponse;
    /// Ends an agent's session.
    stop_agent agents(StopAgentRequest) -> StopAgentResponse;
    /// Continues a conversation of an agent.
    resume_agent agents(ResumeAgentRequest) -> ResumeAgentResponse;
    /// What an agent does.
    get_agent_status agents(GetAgentStatusRequest) -> GetAgentStatusResponse;
    /// One daemon.
    get_daemon daemons(GetDaemonRequest) -> GetDaemonResponse;
    /// A page of daemons.
    list_daemons daemons(ListDaemonsRequest) -> ListDaemonsResponse;
    /// Takes a daemon out of service, or back.
    drain_daemon daemons(DrainDaemonRequest) -> DrainDaemonResponse;
    /// Forgets a daemon.
    remove_daemon daemons(RemoveDaemonRequest) -> RemoveDaemonResponse;
    /// Lists a directory on a daemon's machine.
    list_directory daemons(ListDirectoryRequest) -> ListDirectoryResponse;
    /// Creates a task.
    create_task tasks(CreateTaskRequest) -> CreateTaskResponse;
    /// One task.
    get_task tasks(GetTaskRequest) -> GetTaskResponse;
    /// A page of tasks.
    list_tasks tasks(ListTasksRequest) -> ListTasksResponse;
    /// A page of tasks that could be begun.
    list_ready_tasks tasks(ListReadyTasksRequest) -> ListReadyTasksResponse;
    /// Changes a task.
    update_task tasks(UpdateTaskRequest) -> UpdateTaskResponse;
    /// Adds a dependency.
    add_dependency tasks(AddDependencyRequest) -> AddDependencyResponse;
    /// Removes a dependency.
    remove_dependency tasks(RemoveDependencyRequest) -> RemoveDependencyResponse;
    /// Gives a task to an agent.
    assign_task tasks(AssignTaskRequest) -> AssignTaskResponse;
    /// Lets an agent begin a task.
    dispatch_task tasks(DispatchTaskRequest) -> DispatchTaskResponse;
    /// Hands a task on.
    hand_off_task tasks(HandOffTaskRequest) -> HandOffTaskResponse;
    /// Completes a task.
    complete_task tasks(CompleteTaskRequest) -> CompleteTaskResponse;
    /// Opens a task again.
    reopen_task tasks(ReopenTaskRequest) -> ReopenTaskResponse;
    /// Deletes a task.
    delete_task tasks(DeleteTaskRequest) -> DeleteTaskResponse;
    /// Why a task is ready, or not.
    explain_task tasks(ExplainTaskRequest) -> ExplainTaskResponse;
    /// What the scheduler does.
    get_scheduler scheduler(GetSchedulerRequest) -> GetSchedulerResponse;
    /// Pauses the scheduler.
    pause_scheduler scheduler(PauseSchedulerRequest) -> PauseSchedulerResponse;
    /// Lets the scheduler work.
    resume_scheduler scheduler(ResumeSchedulerRequest) -> ResumeSchedulerResponse;
    /// Makes a token.
    create_token access(CreateTokenRequest) -> CreateTokenResponse;
    /// A page of tokens.
    list_tokens access(ListTokensRequest) -> ListTokensResponse;
    /// Revokes a token.
    revoke_token access(RevokeTokenRequest) -> RevokeTokenResponse;
    /// Who the caller is.
    get_caller access(GetCallerRequest) -> GetCallerResponse;
    /// Makes a token with which one daemon enrols.
    create_join_token access(CreateJoinTokenRequest) -> CreateJoinTokenResponse;
    /// Makes a code with which a browser signs in.
    create_sign_in_code access(CreateSignInCodeRequest) -> CreateSignInCodeResponse;
    /// About the server.
    get_server_info system(GetServerInfoRequest) -> GetServerInfoResponse;
    /// The server's metrics.
    get_metrics system(GetMetricsRequest) -> GetMetricsResponse;
}

calls! {
    /// Opens a terminal.
    open_terminal terminals(OpenTerminalRequest) -> OpenTerminalResponse;
    /// One terminal.
    get_terminal terminals(GetTerminalRequest) -> GetTerminalResponse;
    /// A page of terminals.
    list_terminals terminals(ListTerminalsRequest) -> ListTerminalsResponse;
    /// Types into a terminal.
    write_terminal terminals(WriteTerminalRequest) -> WriteTerminalResponse;
    /// Changes a terminal's size.
    resize_terminal terminals(ResizeTerminalRequest) -> ResizeTerminalResponse;
    /// Ends a terminal.
    close_terminal terminals(CloseTerminalRequest) -> CloseTerminalResponse;
}

macro_rules! services {
    ($($name:ident $module:ident $client:ident;)*) => {
        impl Client {
            $(
                #[doc = concat!("The generated client [`v1::", stringify!($module), "::", stringify!($client), "`].")]
                pub fn $name(&self) -> v1::$module::$client<Transport> {
                    v1::$module::$client::new(self.transport.clone())
                        .max_decoding_message_size(MAX_RESPONSE_BYTES)
                        .max_encoding_message_size(MAX_REQUEST_BYTES)
                }
            )*
        }
    };
}

services! {
    sessions session_service_client SessionServiceClient;
    events event_service_client EventServiceClient;
    prompts prompt_service_client PromptServiceClient;
    terminals terminal_service_client TerminalServiceClient;
    agents agent_service_client AgentServiceClient;
    budgets budget_service_client BudgetServiceClient;
    scheduler scheduler_service_client SchedulerServiceClient;
    daemons daemon_service_client DaemonServiceClient;
    tasks task_service_client TaskServiceClient;
    worktrees worktree_service_client WorktreeServiceClient;
    access access_service_client AccessServiceClient;
    system system_service_client SystemServiceClient;
}

impl Client {
    /// Connects. [`Code::Unavailable`]: nobody answers there.
    pub async fn connect(address: ServerAddress) -> Result<Self> {
        let channel = address
            .endpoint()?
            .connect()
            .await
            .map_err(|error| connect_error(&address.url, &error))?;
        Self::over(address, channel)
    }

    /// The same, connecting with the first call.
    pub fn lazy(address: ServerAddress) -> Result<Self> {
        let channel = address.endpoint()?.connect_lazy();
        Self::over(address, channel)
    }

    fn over(address: ServerAddress, channel: Channel) -> Result<Self> {
        let header = match &address.token {
            None => None,
            Some(token) => {
                let mut header: MetadataValue<Ascii> =
                    format!("Bearer {}", token.expose()).parse().map_err(|_| {
                        Error::new(
                            Code::InvalidInput,
                            "the token has characters that no token has",
                        )
                    })?;
                // So that no layer below shows it.
                header.set_sensitive(true);
                Some(header)
            }
        };
        Ok(Client {
            url: address.url,
            transport: InterceptedService::new(channel, Bearer { header }),
            deadline: DEADLINE,
        })
    }

    /// The same client with another deadline for unary calls.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Follows a session's log, over restarts of the server.
    pub fn follow(&self, session: SessionId, options: FollowOptions) -> Follow {
        Follow::new(self.clone(), session, options)
    }

    /// Reads large content piece by piece.
    pub async fn content(
        &self,
        request: v1::GetContentRequest,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut service = self.events();
        let mut stream = self.bounded(service.get_content(request)).await?;
        while let Some(piece) = stream
            .message()
            .await
            .map_err(|status| error_of(&self.url, &status))?
        {
            each(&piece.data)?;
        }
        Ok(())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// Waits for an answer, or for its first part where it is a stream.
    pub(super) async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T> {
        let begun = tokio::time::Instant::now();
        match tokio::time::timeout(self.deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            // The channel knows the deadline too, and names its end a cancellation.
            Ok(Err(status))
                if status.code() == tonic::Code::Cancelled && begun.elapsed() >= self.deadline =>
            {
                Err(self.too_late())
            }
            Ok(Err(status)) => Err(error_of(&self.url, &status)),
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> Error {
        Error::new(
            Code::Timeout,
            format!(
                "the server at {} did not answer within {:?}",
                self.url, self.deadline
            ),
        )
        .maybe_done()
    }
}
