//! Putting a server together: services, routes, jobs, then one port.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use tokio::task::JoinSet;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::drain::Drain;
use super::layers::{Guards, Policy, Shape, reject};
use super::listener::Listener;
use super::options::Options;
use super::tls::{Tls, install_provider};
use super::{bind, metrics_page};
use crate::app::App;
use crate::app::access::{Access, Need};
use crate::app::idempotency::Idempotency;
use crate::app::pace::Pace;
use crate::app::system::{About, Counting, System};
use crate::base::{Code, Error, Result, SharedClock};
use crate::gateway::rest;
use crate::gateway::ws::Sockets;
use crate::gateway::{Route, Routes as HttpRoutes, auth, console};
use crate::rpc;
use crate::store::SharedStore;

/// How often old answers to repeated requests are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How often metrics and rates are tidied.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// A server being put together.
pub struct Builder {
    options: Options,
    store: SharedStore,
    clock: SharedClock,
    access: Access,
    idempotency: Idempotency,
    drain: Drain,
    policy: Policy,
    routes: RoutesBuilder,
    http: Router,
    sockets: Sockets,
    jobs: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

impl Builder {
    /// A server over `store`, without services yet.
    pub fn new(options: Options, store: SharedStore, clock: SharedClock) -> Self {
        Builder {
            access: Access::new(store.clone(), clock.clone()),
            idempotency: Idempotency::new(store.clone(), clock.clone()),
            drain: Drain::new(options.drain_deadline),
            policy: Policy::default(),
            routes: Routes::builder(),
            http: Router::new(),
            sockets: Sockets::default(),
            jobs: Vec::new(),
            options,
            store,
            clock,
        }
    }

    /// Uses these tokens instead; to be called first.
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The store.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The clock.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// The tokens.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The answers to repeated requests.
    pub fn idempotency(&self) -> &Idempotency {
        &self.idempotency
    }

    /// The shutdown, for services that have something to say when it begins.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Adds a gRPC service at its own paths. What its methods need is in [`super::layers::policy::RPCS`];
    /// a method without an entry there is not served.
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<tonic::body::Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self
    }

    /// Adds routes of plain HTTP.
    pub fn add_http(mut self, routes: HttpRoutes) -> Self {
        let (router, table) = routes.into_parts();
        self.policy.add(table);
        self.http = self.http.merge(router);
        self
    }

    /// Adds the console and the way browsers sign in.
    pub fn add_console(self) -> Self {
        let tls = self.options.tls.is_some();
        let auth = auth::routes(self.access.clone(), self.clock.clone(), tls);
        self.add_http(console::routes().merge(auth))
    }

    /// Adds the dialects of older front ends, over `app`.
    pub fn add_dialects(self, app: App) -> Self {
        let pace = Arc::new(Pace::new(self.options.relay));
        let sockets = self.sockets.clone();
        let relay = rest::relay::routes(app.clone(), sockets.clone(), pace.clone());
        let data_dir = self.options.data_dir.clone();
        let orchestrator = rest::orchestrator::routes(app, sockets, pace, data_dir);
        self.add_http(relay.merge(orchestrator))
    }

    /// Adds a job that runs as long as the server; it is stopped when the server has drained.
    pub fn add_job(
        mut self,
        name: &'static str,
        job: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.jobs.push((name, Box::pin(job)));
        self
    }

    /// Adds what every server has: AccessService, SystemService, and reflection.
    pub fn add_foundation(self, about: About, counting: Arc<dyn Counting>) -> Result<Self> {
        let metrics = metrics_page::recorder()?;
        let system = System::new(
            about,
            counting,
            move || metrics.render(),
            self.clock.clone(),
        );
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(crate::wire::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(Error::internal)?;
        let access = rpc::access::service(self.access.clone());
        Ok(self
            .add_service(access)
            .add_service(rpc::system::service(system))
            .add_service(reflection))
    }

    /// Checks where it may listen, reads certificates, makes the first token, and takes the ports.
    pub async fn bind(self) -> Result<Server> {
        bind::guard(&self.options)?;
        let this = self.add_liveness();
        this.take_ports().await
    }

    /// Liveness and readiness, which every server has.
    fn add_liveness(self) -> Self {
        let ready = Ready {
            access: self.access.clone(),
            drain: self.drain.clone(),
        };
        let routes = HttpRoutes::default()
            .get("/healthz", Need::Open, alive)
            .get("/readyz", Need::Open, move || ready.clone().answer());
        self.add_http(routes)
    }

    async fn take_ports(self) -> Result<Server> {
        install_provider();
        let metrics_handle = metrics_page::recorder()?;
        let bounds = self.options.connections;
        let tls = match &self.options.tls {
            Some(files) => Some(Tls::load(files, bounds.handshake_timeout)?),
            None => None,
        };
        let table = self.policy.routes().to_vec();
        let guards = Guards::new(&self.options, self.policy, self.access.clone())?;

        let reporter = HealthReporter::new();
        let health = tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(reporter.clone()),
        );
        let mut routes = self.routes;
        routes.add_service(health);
        // What is added here and not by `add_http` is in no table, and the guards let nobody in.
        let router = routes
            .routes()
            .into_axum_router()
            .merge(self.http)
            // Replaces tonic's, which answers everything with HTTP 200.
            .fallback(nothing)
            .method_not_allowed_fallback(wrong_method);
        let socket = bind::bind(self.options.listen)?;
        let listener = Listener::new(
            "main",
            socket,
            guards.around(router),
            tls.clone(),
            bounds,
            self.drain.clone(),
        );
        let metrics = match self.options.metrics_listen {
            None => None,
            Some(address) => Some(Listener::new(
                "metrics",
                bind::bind(address).map_err(|problem| {
                    let text =
                        format!("{problem}; the setting metrics_listen names another port, or off");
                    Error::new(problem.code(), text).caused_by(problem)
                })?,
                metrics_page::router(metrics_handle.clone(), address),
                None,
                bounds,
                self.drain.clone(),
            )),
        };
        self.access.bootstrap(&self.options.data_dir).await?;

        let idempotency = self.idempotency;
        let mut jobs = self.jobs;
        jobs.push(("sweep answers", Box::pin(sweep(idempotency))));
        let access = self.access;
        jobs.push(("uses of tokens", Box::pin(access.clone().keep_uses())));
        jobs.push((
            "tidy",
            Box::pin(async move {
                loop {
                    tokio::time::sleep(TIDY_EVERY).await;
                    metrics_handle.run_upkeep();
                    guards.sweep();
                }
            }),
        ));
        Ok(Server {
            address: listener.local_addr()?,
            metrics_address: metrics.as_ref().map(Listener::local_addr).transpose()?,
            routes: table,
            listener,
            metrics,
            tls,
            drain: self.drain,
            reporter,
            sockets: self.sockets,
            jobs,
            access,
        })
    }
}

/// A server that has its ports.
pub struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    routes: Vec<Route>,
    listener: Listener,
    metrics: Option<Listener>,
    tls: Option<Tls>,
    drain: Drain,
    reporter: HealthReporter,
    sockets: Sockets,
    jobs: Vec<(&'static str, BoxFuture<'static, ()>)>,
    access: Access,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All routes of plain HTTP.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Where `/metrics` is.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Begins the shutdown when told to.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Its certificates.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Serves until the drain has begun and is over.
    pub async fn serve(self) {
        let mut jobs = JoinSet::new();
        let mut names = std::collections::HashMap::new();
        for (name, job) in self.jobs {
            names.insert(jobs.spawn(job).id(), name);
        }
        let drain = self.drain.clone();
        let reporter = self.reporter;
        let sockets = self.sockets;
        let leaving = async move {
            drain.begun().await;
            reporter
                .set_service_status("", ServingStatus::NotServing)
                .await;
            sockets.close().await;
        };
        let metrics = async {
            if let Some(metrics) = self.metrics {
                metrics.serve().await;
            }
        };
        let listening = async { tokio::join!(self.listener.serve(), metrics, leaving) };
        tokio::pin!(listening);
        loop {
            tokio::select! {
                _ = &mut listening => break,
                Some(ended) = jobs.join_next_with_id() => {
                    let id = match &ended {
                        Ok((id, ())) => *id,
                        Err(problem) => problem.id(),
                    };
                    let name = names.get(&id).copied().unwrap_or("unknown");
                    match ended {
                        Ok(_) => tracing::debug!(job = name, "job ended"),
                        // A server that lost a job would be half a server: leave, and be started again.
                        Err(problem) => {
                            tracing::error!(job = name, %problem, "job failed; shutting down");
                            self.drain.begin();
                        }
                    }
                }
            }
        }
        jobs.shutdown().await;
        self.access.write_uses().await;
    }
}

async fn sweep(idempotency: Idempotency) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        match idempotency.sweep().await {
            Ok(removed) => tracing::debug!(removed, "old answers removed"),
            Err(error) => tracing::warn!(?error, "old answers cannot be removed"),
        }
    }
}

#[derive(Clone)]
struct Ready {
    access: Access,
    drain: Drain,
}

impl Ready {
    async fn answer(self) -> Response {
        if self.drain.has_begun() {
            return word(StatusCode::SERVICE_UNAVAILABLE, "draining");
        }
        match self.access.probe().await {
            Ok(()) => word(StatusCode::OK, "ready"),
            Err(error) => {
                tracing::warn!(?error, "not ready");
                word(StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        }
    }
}

async fn alive() -> Response {
    word(StatusCode::OK, "ok")
}

fn word(code: StatusCode, status: &'static str) -> Response {
    let body = serde_json::json!({ "status": status }).to_string();
    (code, [(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn nothing(request: axum::extract::Request) -> Response {
    let error = Error::new(Code::UnknownMethod, "there is nothing at this path");
    reject(Shape::of(&request), &error)
}

async fn wrong_method(request: axum::extract::Request) -> Response {
    let error = Error::new(Code::UnknownMethod, "this path does not take this method");
    let mut response = reject(Shape::of(&request), &error);
    if response.status() == StatusCode::NOT_FOUND {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    response
}
