//! Who may call what. A path that is not in the table is not served.

use crate::app::access::Caller;
use crate::base::Result;
use crate::domain::Scope;

/// What a path asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: liveness.
    Open,
    /// Any token but a join token.
    Token,
    /// A token whose scope allows this one.
    Scope(Scope),
}

impl Need {
    /// [`Code::Forbidden`](crate::base::Code::Forbidden) unless the caller may.
    pub fn admit(self, caller: &Caller) -> Result<()> {
        match self {
            Need::Open => Ok(()),
            Need::Token if caller.scope != Scope::Join => Ok(()),
            Need::Token => caller.require(Scope::Viewer),
            Need::Scope(needed) => caller.require(needed),
        }
    }
}

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

    ("/baton.v1.SystemService/GetServerInfo", Need::Token),
    ("/baton.v1.SystemService/GetMetrics", VIEWER),

    ("/baton.link.v1.LinkService/Enroll", Need::Scope(Scope::Join)),
    ("/baton.link.v1.LinkService/Connect", Need::Scope(Scope::Daemon)),

    ("/grpc.health.v1.Health/Check", Need::Open),
    ("/grpc.health.v1.Health/Watch", Need::Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", VIEWER),
];

/// The open paths of plain HTTP.
const HTTP: &[(&str, Need)] = &[("/healthz", Need::Open), ("/readyz", Need::Open)];

/// The table with the HTTP routes that were added to it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    beneath: Vec<(&'static str, Need)>,
}

impl Policy {
    /// Adds everything at and beneath a path of plain HTTP.
    pub fn add_beneath(&mut self, path: &'static str, need: Need) {
        self.beneath.push((path, need));
        // The longest first, since it is the nearest.
        self.beneath
            .sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    }

    /// The entry for a path: its name for metrics (never with an id in it), and what it needs.
    pub fn find(&self, path: &str) -> Option<(&'static str, Need)> {
        let exact = RPCS.iter().chain(HTTP).find(|(entry, _)| *entry == path);
        exact.copied().or_else(|| {
            self.beneath.iter().copied().find(|(entry, _)| {
                path.strip_prefix(entry)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        })
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
        let policy = Policy::default();
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
                assert!(policy.find(path).is_some(), "{path} has no policy");
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
        policy.add_beneath("/api", VIEWER);
        policy.add_beneath("/api/admin", ADMIN);
        assert_eq!(policy.find("/api/x"), Some(("/api", VIEWER)));
        assert_eq!(policy.find("/api/admin/x"), Some(("/api/admin", ADMIN)));
        assert_eq!(policy.find("/apix"), None);
        assert_eq!(policy.find("/baton.v1.AccessService/CreateToken/"), None);
        assert_eq!(policy.find("/healthz/x"), None);
    }
}
