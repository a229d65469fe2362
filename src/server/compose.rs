//! The whole server, put together: the app over an open store, its services, its background jobs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tonic::Extensions;

use super::{Builder, Options, gauges};
use crate::app::access::{Access, Caller};
use crate::app::retention::Retention;
use crate::app::search::{self, Search};
use crate::app::system::{About, Counting, Counts};
use crate::app::{App, budgets, dispatch, failure, sessions};
use crate::base::id::DaemonId;
use crate::base::{Code, Error, Result, SharedClock};
use crate::domain::input::{MAX_INPUT_BYTES, MAX_QUEUED_INPUTS};
use crate::domain::link::{PROTOCOL_MAX, PROTOCOL_MIN};
use crate::rpc::link::{Enrolled, Gate};
use crate::store::SharedStore;
use crate::{relay, rpc};

/// How long daemons that are asked to come back wait at least.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

/// Puts a server together over an open store. Sessions that were living when the last server stopped are
/// taken up again before anything is served.
pub async fn compose(
    options: Options,
    store: SharedStore,
    clock: SharedClock,
    search: Search,
) -> Result<(Builder, App)> {
    let session_options = sessions::Options {
        grace: options.grace,
        limits: options.limits.clone(),
        prompt_expiry: options.prompt_expiry,
        max_living: options.max_sessions,
        scrollback_bytes: options.scrollback_bytes,
        prices: options.prices.clone(),
    };
    let retention = Retention {
        max_age: options.retention.max_age,
        max_session_bytes: options.retention.max_session_bytes,
    };
    let dispatch_options = options.scheduler;
    let retention_every = options.retention.every;
    let prune_every = options.prune_every;
    let search_every = options.search_every;
    let links = relay::Options {
        gather: options.gather,
        ..relay::Options::default()
    };
    let about = About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: [
            "sessions",
            "events",
            "prompts",
            "daemons",
            "worktrees",
            "search",
            "terminals",
            "access",
            "narrowing",
            "tasks",
            "scheduler",
            "budgets",
        ]
        .map(str::to_owned)
        .to_vec(),
        max_request_bytes: rpc::MAX_MESSAGE_BYTES as u64,
        max_input_bytes: MAX_INPUT_BYTES as u64,
        max_queued_inputs: MAX_QUEUED_INPUTS,
        grace: options.grace,
        link_protocol_min: PROTOCOL_MIN,
        link_protocol_max: PROTOCOL_MAX,
    };
    let drain_deadline = options.drain_deadline;
    let builder = Builder::new(options, store.clone(), clock.clone());
    let app = App::new(
        store,
        clock,
        builder.access().clone(),
        links,
        search,
        session_options,
        dispatch_options,
    )
    .await?;
    app.nobody_is_linked().await?;
    app.sessions().start().await?;

    let drain = builder.drain().clone();
    let draining = {
        let app = app.clone();
        async move {
            drain.begun().await;
            app.relay()
                .drain_all(
                    COME_BACK_AFTER,
                    "the server is shutting down",
                    drain_deadline / 2,
                )
                .await;
        }
    };
    let counting = Arc::new(Counter { app: app.clone() });
    let builder = builder
        .add_foundation(about, counting)?
        .add_console()
        .add_dialects(app.clone())
        .add_service(rpc::sessions::service(app.clone()))
        .add_service(rpc::events::service(app.clone()))
        .add_service(rpc::prompts::service(app.clone()))
        .add_service(rpc::terminals::service(app.clone()))
        .add_service(rpc::daemons::service(app.clone()))
        .add_service(rpc::agents::service(app.clone()))
        .add_service(rpc::tasks::service(app.clone()))
        .add_service(rpc::worktrees::service(app.clone()))
        .add_service(rpc::scheduler::service(app.clone()))
        .add_service(rpc::budgets::service(app.clone()))
        .add_service(rpc::link::LinkRpc::service(
            app.relay().clone(),
            Arc::new(LinkGate {
                access: app.access().clone(),
            }),
        ))
        .add_job(
            "search",
            search::run_indexer(app.clone(), search_every, CancellationToken::new()),
        )
        .add_job("gauges", gauges::run(app.clone()))
        .add_job("budgets", budgets::run_keeper(app.clone()))
        .add_job("retention", retain(app.clone(), retention, retention_every))
        .add_job("pruning", prune(app.clone(), prune_every))
        .add_job("scheduler", dispatch::run(app.clone()))
        .add_job("draining", draining);
    Ok((builder, app))
}

/// Ends what a server that has drained still has under way, and closes its store.
pub async fn close(app: App) -> Result<()> {
    app.dispatching().stop().await;
    app.finish().await;
    app.sessions().stop().await;
    app.tasks().stop().await;
    app.store().close().await.map_err(failure::from_store)
}

/// Who may link: daemons by their credential, new ones by a join token.
struct LinkGate {
    access: Access,
}

impl LinkGate {
    fn caller(extensions: &Extensions) -> Result<Caller> {
        extensions
            .get::<Caller>()
            .cloned()
            .ok_or_else(|| Error::new(Code::Unauthenticated, "the request has no token"))
    }
}

impl Gate for LinkGate {
    fn daemon(&self, extensions: &Extensions) -> Result<DaemonId> {
        Self::caller(extensions)?.daemon()
    }

    fn enroll(
        &self,
        extensions: &Extensions,
        name: String,
        hostname: String,
        nonce: Vec<u8>,
    ) -> BoxFuture<'_, Result<Enrolled>> {
        let caller = Self::caller(extensions);
        Box::pin(async move {
            let enrolled = self
                .access
                .enroll(&caller?, &name, &hostname, &nonce)
                .await?;
            Ok(Enrolled {
                daemon_id: enrolled.daemon_id,
                name: enrolled.name,
                credential: enrolled.credential,
            })
        })
    }
}

async fn retain(app: App, retention: Retention, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match app.retain(retention).await {
            Ok(removed) => tracing::debug!(?removed, "retention"),
            Err(error) => tracing::warn!(?error, "retention failed; it is tried again"),
        }
        if let Err(error) = app.forget_gone_tasks().await {
            tracing::warn!(
                ?error,
                "deleted tasks are remembered for longer; it is tried again"
            );
        }
        if let Err(error) = app.forget_gone().await {
            tracing::warn!(
                ?error,
                "deleted sessions are remembered for longer; it is tried again"
            );
        }
    }
}

async fn prune(app: App, every: Option<Duration>) {
    let Some(every) = every else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = app.prune_everywhere().await {
            tracing::warn!(?error, "worktrees are not pruned; it is tried again");
        }
    }
}

struct Counter {
    app: App,
}

impl Counting for Counter {
    fn counts<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<Counts>> {
        Box::pin(async move {
            Ok(Counts {
                linked_daemons: u32::try_from(self.app.relay().linked()).unwrap_or(u32::MAX),
                living_sessions: self.app.count_living(caller, None).await?,
                pending_prompts: self.app.count_pending_prompts(caller).await?,
            })
        })
    }
}
