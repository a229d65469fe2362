//! Who may call what. A path that is not in the table is not served.

use axum::extract::MatchedPath;
use http::{Method, Request};

pub use crate::app::access::Need;
use crate::domain::Scope;
use crate::gateway::Route;

const ADMIN: Need = Need::Scope(Scope::Admin);
const OPERATOR: Need = Need::Scope(Scope::Operator);
const VIEWER: Need = Need::Scope(Scope::Viewer);

/// Every RPC and what it needs. A test compares it with the descriptors.
#[rustfmt::skip]
pub const RPCS: &[(&str, Need)] = &[
    ("/baton.v1.AccessService/CreateToken", ADMIN),
    ("/baton.v1.AccessService/ListTokens", ADMIN),
    ("/baton.v1.AccessService/RevokeToken", ADMIN),
    ("/baton.v1.AccessService/GetCaller", Need::Token),
    ("/baton.v1.AccessService/CreateJoinToken", ADMIN),
    // Nobody lends more than they have, and what is lent ends with it.
    ("/baton.v1.AccessService/CreateSignInCode", VIEWER),

    ("/baton.v1.AgentService/CreateAgent", OPERATOR),
    ("/baton.v1.AgentService/GetAgent", VIEWER),
    ("/baton.v1.AgentService/ListAgents", VIEWER),
    ("/baton.v1.AgentService/UpdateAgent", OPERATOR),
    ("/baton.v1.AgentService/DeleteAgent", OPERATOR),
    ("/baton.v1.AgentService/StartAgent", OPERATOR),
    ("/baton.v1.AgentService/StopAgent", OPERATOR),
    ("/baton.v1.AgentService/ResumeAgent", OPERATOR),
    ("/baton.v1.AgentService/GetAgentStatus", VIEWER),

    ("/baton.v1.BudgetService/SetBudget", OPERATOR),
    ("/baton.v1.BudgetService/GetBudget", VIEWER),
    ("/baton.v1.BudgetService/ListBudgets", VIEWER),
    ("/baton.v1.BudgetService/GetUsage", VIEWER),

    ("/baton.v1.DaemonService/GetDaemon", VIEWER),
    ("/baton.v1.DaemonService/ListDaemons", VIEWER),
    ("/baton.v1.DaemonService/DrainDaemon", ADMIN),
    ("/baton.v1.DaemonService/RemoveDaemon", ADMIN),
    // It shows what is on a machine, which is more than sessions show.
    ("/baton.v1.DaemonService/ListDirectory", OPERATOR),

    ("/baton.v1.EventService/ListEvents", VIEWER),
    ("/baton.v1.EventService/Watch", VIEWER),
    ("/baton.v1.EventService/SearchEvents", VIEWER),
    ("/baton.v1.EventService/GetContent", VIEWER),

    ("/baton.v1.PromptService/GetPrompt", VIEWER),
    ("/baton.v1.PromptService/ListPrompts", VIEWER),
    ("/baton.v1.PromptService/AnswerPrompt", OPERATOR),
    ("/baton.v1.PromptService/ListPromptRules", VIEWER),
    ("/baton.v1.PromptService/CreatePromptRule", OPERATOR),
    ("/baton.v1.PromptService/DeletePromptRule", OPERATOR),

    ("/baton.v1.SessionService/CreateSession", OPERATOR),
    ("/baton.v1.SessionService/GetSession", VIEWER),
    ("/baton.v1.SessionService/ListSessions", VIEWER),
    ("/baton.v1.SessionService/SendInput", OPERATOR),
    ("/baton.v1.SessionService/InterruptTurn", OPERATOR),
    ("/baton.v1.SessionService/SuspendSession", OPERATOR),
    ("/baton.v1.SessionService/ResumeSession", OPERATOR),
    ("/baton.v1.SessionService/ForkSession", OPERATOR),
    ("/baton.v1.SessionService/ListInputs", VIEWER),
    ("/baton.v1.SessionService/UpdateInput", OPERATOR),
    ("/baton.v1.SessionService/MoveInput", OPERATOR),
    ("/baton.v1.SessionService/WithdrawInput", OPERATOR),
    ("/baton.v1.SessionService/EndSession", OPERATOR),
    ("/baton.v1.SessionService/SetSessionOptions", OPERATOR),
    ("/baton.v1.SessionService/DeleteSession", OPERATOR),

    ("/baton.v1.WorktreeService/CreateWorktree", OPERATOR),
    ("/baton.v1.WorktreeService/GetWorktree", VIEWER),
    ("/baton.v1.WorktreeService/ListWorktrees", VIEWER),
    ("/baton.v1.WorktreeService/MergeWorktree", OPERATOR),
    ("/baton.v1.WorktreeService/DeleteWorktree", OPERATOR),
    ("/baton.v1.WorktreeService/GetWorktreeDiff", VIEWER),
    ("/baton.v1.WorktreeService/PruneWorktrees", OPERATOR),
    ("/baton.v1.WorktreeService/ListRecoverable", VIEWER),
    ("/baton.v1.WorktreeService/RecoverWorktree", OPERATOR),

    ("/baton.v1.SystemService/GetServerInfo", Need::Token),
    ("/baton.v1.SystemService/GetMetrics", VIEWER),

    ("/baton.v1.TerminalService/OpenTerminal", OPERATOR),
    ("/baton.v1.TerminalService/GetTerminal", VIEWER),
    ("/baton.v1.TerminalService/ListTerminals", VIEWER),
    ("/baton.v1.TerminalService/WriteTerminal", OPERATOR),
    ("/baton.v1.TerminalService/ResizeTerminal", OPERATOR),
    ("/baton.v1.TerminalService/CloseTerminal", OPERATOR),
    ("/baton.v1.TerminalService/WatchTerminal", VIEWER),
    // Input on it is an operator's; it looks at each.
    ("/baton.v1.TerminalService/Attach", VIEWER),
    ("/baton.v1.TaskService/CreateTask", OPERATOR),
    ("/baton.v1.TaskService/GetTask", VIEWER),
    ("/baton.v1.TaskService/ListTasks", VIEWER),
    ("/baton.v1.TaskService/ListReadyTasks", VIEWER),
    ("/baton.v1.TaskService/UpdateTask", OPERATOR),
    ("/baton.v1.TaskService/AddDependency", OPERATOR),
    ("/baton.v1.TaskService/RemoveDependency", OPERATOR),
    ("/baton.v1.TaskService/AssignTask", OPERATOR),
    ("/baton.v1.TaskService/DispatchTask", OPERATOR),
    ("/baton.v1.TaskService/HandOffTask", OPERATOR),
    ("/baton.v1.TaskService/CompleteTask", OPERATOR),
    ("/baton.v1.TaskService/ReopenTask", OPERATOR),
    ("/baton.v1.TaskService/DeleteTask", OPERATOR),
    ("/baton.v1.TaskService/ExplainTask", VIEWER),
    ("/baton.v1.SchedulerService/GetScheduler", VIEWER),
    ("/baton.v1.SchedulerService/PauseScheduler", OPERATOR),
    ("/baton.v1.SchedulerService/ResumeScheduler", OPERATOR),

    ("/baton.link.v1.LinkService/Enroll", Need::Scope(Scope::Join)),
    ("/baton.link.v1.LinkService/Connect", Need::Scope(Scope::Daemon)),

    ("/grpc.health.v1.Health/Check", Need::Open),
    ("/grpc.health.v1.Health/Watch", Need::Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", VIEWER),
];

/// The table with the HTTP routes that were added to it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    routes: Vec<Route>,
}

impl Policy {
    /// Adds routes of plain HTTP.
    pub fn add(&mut self, routes: Vec<Route>) {
        self.routes.extend(routes);
    }

    /// The routes of plain HTTP.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The entry for a request, which the router has matched: its name for metrics (never with an id in it),
    /// and what it needs.
    pub fn find<B>(&self, request: &Request<B>) -> Option<(&'static str, Need)> {
        let path = request.uri().path();
        if let Some(entry) = RPCS.iter().find(|(entry, _)| *entry == path) {
            return Some(*entry);
        }
        let matched = request.extensions().get::<MatchedPath>()?;
        self.route(request.method(), matched.as_str())
    }

    fn route(&self, method: &Method, matched: &str) -> Option<(&'static str, Need)> {
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let mut here = self.routes.iter().filter(|route| route.path == matched);
        // A method that the path does not take is refused further in, to whom may come so far.
        let first = here.clone().next()?;
        let route = here.find(|route| route.method == *method).unwrap_or(first);
        Some((route.path, route.need))
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn every_rpc_has_an_entry_and_every_entry_an_rpc() {
        let mut pool = DescriptorPool::decode(crate::wire::DESCRIPTORS).unwrap();
        for more in [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ] {
            pool.decode_file_descriptor_set(more).unwrap();
        }
        let paths: Vec<String> = pool
            .services()
            .filter(|service| {
                // Spoken between a daemon and its runners, over their own socket.
                service.package_name() != "baton.runner.v1"
            })
            .flat_map(|service| {
                let name = service.full_name().to_owned();
                service
                    .methods()
                    .map(move |method| format!("/{name}/{}", method.name()))
                    .collect::<Vec<_>>()
            })
            .collect();
        for path in &paths {
            let ours = path.starts_with("/baton.");
            if ours || path.contains("Health/Check") || path.contains("Health/Watch") {
                let known = RPCS.iter().any(|(entry, _)| entry == path);
                assert!(known, "{path} has no policy");
            }
        }
        for (path, _) in RPCS {
            assert!(paths.iter().any(|known| known == path), "{path} is no RPC");
        }
    }

    #[test]
    fn only_liveness_is_open() {
        let open: Vec<&str> = RPCS
            .iter()
            .filter(|(_, need)| *need == Need::Open)
            .map(|(path, _)| *path)
            .collect();
        assert_eq!(
            open,
            [
                "/grpc.health.v1.Health/Check",
                "/grpc.health.v1.Health/Watch"
            ]
        );
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        let mut policy = Policy::default();
        let route = |method, path, need| Route { method, path, need };
        policy.add(vec![
            route(Method::GET, "/api/x/{id}", VIEWER),
            route(Method::POST, "/api/x/{id}", ADMIN),
        ]);
        let needs = |method| policy.route(&method, "/api/x/{id}").map(|found| found.1);
        assert_eq!(needs(Method::GET), Some(VIEWER));
        assert_eq!(needs(Method::HEAD), Some(VIEWER));
        assert_eq!(needs(Method::POST), Some(ADMIN));
        assert_eq!(needs(Method::DELETE), Some(VIEWER));
        assert_eq!(policy.route(&Method::GET, "/api/x"), None);
        // The router has not matched these, or not as a route of ours.
        let find = |path: &str| policy.find(&Request::get(path).body(()).unwrap());
        assert_eq!(find("/api/x/1"), None);
        assert_eq!(find("/baton.v1.AccessService/CreateToken/"), None);
        let create = "/baton.v1.AccessService/CreateToken";
        assert_eq!(find(create), Some((create, ADMIN)));
    }
}
