//! Who may use the routes of plain HTTP: every one that the program's server has, from its own table.

use baton::app::access::Need;
use baton::base::id::SessionId;
use baton::base::{Clock as _, Secret, SystemClock};
use baton::domain::Scope;
use baton::gateway::Route;
use baton::server::{Options, compose};
use http::Method;

use crate::serving::*;
use crate::support::http::{Got, Ws, ask};

/// What everybody may have: liveness, the exchange of a code, and the console's files. Anything else that is to
/// be open has to be named here.
const OPEN: &[&str] = &[
    "/healthz",
    "/readyz",
    "/auth/exchange",
    "/assets/{*path}",
    "/",
    "/sessions",
    "/sessions/{id}",
    "/prompts",
    "/terminals",
    "/agents",
    "/agents/{id}",
    "/tasks",
    "/tasks/{id}",
    "/worktrees",
    "/worktrees/{id}",
    "/budgets",
    "/budgets/{id}",
    "/machines",
    "/access",
    "/settings",
    "/new",
    "/favicon.ico",
    "/favicon.svg",
    "/manifest.webmanifest",
];

/// The orchestrator's dialect: every route of it, and the least scope that it asks for; none for the one that has a
/// word for everybody.
const ORCHESTRATOR: &[(Method, &str, Option<Scope>)] = &[
    (Method::GET, "/api/health", None),
    (Method::GET, "/api/agents", Some(Scope::Viewer)),
    (Method::POST, "/api/agents", Some(Scope::Operator)),
    (Method::GET, "/api/agents/{id}", Some(Scope::Viewer)),
    (Method::PATCH, "/api/agents/{id}", Some(Scope::Operator)),
    (Method::DELETE, "/api/agents/{id}", Some(Scope::Operator)),
    (Method::GET, "/api/agents/{id}/status", Some(Scope::Viewer)),
    (
        Method::POST,
        "/api/agents/{id}/start",
        Some(Scope::Operator),
    ),
    (Method::POST, "/api/agents/{id}/stop", Some(Scope::Operator)),
    (
        Method::POST,
        "/api/agents/{id}/resume",
        Some(Scope::Operator),
    ),
    (
        Method::POST,
        "/api/agents/{id}/input",
        Some(Scope::Operator),
    ),
    (
        Method::POST,
        "/api/agents/{id}/interrupt",
        Some(Scope::Operator),
    ),
    (Method::GET, "/api/agents/{id}/stream", Some(Scope::Viewer)),
    (Method::GET, "/api/sessions", Some(Scope::Viewer)),
    (
        Method::GET,
        "/api/sessions/latest-messages",
        Some(Scope::Viewer),
    ),
    (
        Method::POST,
        "/api/sessions/stop-all",
        Some(Scope::Operator),
    ),
    (Method::GET, "/api/sessions/{id}", Some(Scope::Viewer)),
    (
        Method::GET,
        "/api/sessions/{id}/messages",
        Some(Scope::Viewer),
    ),
    (
        Method::GET,
        "/api/sessions/{id}/stream",
        Some(Scope::Viewer),
    ),
    (Method::GET, "/api/worktrees", Some(Scope::Viewer)),
    (Method::POST, "/api/worktrees", Some(Scope::Operator)),
    (Method::GET, "/api/worktrees/{path}", Some(Scope::Viewer)),
    (
        Method::DELETE,
        "/api/worktrees/{path}",
        Some(Scope::Operator),
    ),
    (Method::GET, "/api/tasks", Some(Scope::Viewer)),
    (Method::POST, "/api/tasks", Some(Scope::Operator)),
    (Method::GET, "/api/tasks/unassigned", Some(Scope::Viewer)),
    (Method::GET, "/api/tasks/ready", Some(Scope::Viewer)),
    (Method::GET, "/api/tasks/{id}", Some(Scope::Viewer)),
    (Method::PATCH, "/api/tasks/{id}", Some(Scope::Operator)),
    (Method::DELETE, "/api/tasks/{id}", Some(Scope::Operator)),
    (
        Method::POST,
        "/api/tasks/{id}/assign",
        Some(Scope::Operator),
    ),
    (Method::POST, "/api/tasks/{id}/start", Some(Scope::Operator)),
    (
        Method::POST,
        "/api/tasks/{id}/dispatch",
        Some(Scope::Operator),
    ),
    (Method::GET, "/api/scheduler/status", Some(Scope::Viewer)),
    (Method::POST, "/api/scheduler/pause", Some(Scope::Operator)),
    (Method::POST, "/api/scheduler/resume", Some(Scope::Operator)),
    (
        Method::POST,
        "/api/tasks/{id}/complete",
        Some(Scope::Operator),
    ),
    (
        Method::POST,
        "/api/tasks/{id}/reopen",
        Some(Scope::Operator),
    ),
    (
        Method::POST,
        "/api/tasks/{id}/handoff",
        Some(Scope::Operator),
    ),
    (
        Method::GET,
        "/api/tasks/{id}/dependencies",
        Some(Scope::Viewer),
    ),
    (
        Method::POST,
        "/api/tasks/{id}/dependencies",
        Some(Scope::Operator),
    ),
    (
        Method::DELETE,
        "/api/tasks/{id}/dependencies/{other}",
        Some(Scope::Operator),
    ),
    (Method::GET, "/api/events/stream", Some(Scope::Viewer)),
    (Method::GET, "/ws", Some(Scope::Viewer)),
    (Method::GET, "/ws/events", Some(Scope::Viewer)),
];

#[tokio::test]
async fn the_routes_of_the_orchestrators_dialect_ask_for_what_is_listed_here() {
    let running = whole().await;
    // What the relay's dialect has beneath the same paths.
    let relays = ["spawn", "spawned", "{id}/info", "{id}/resume", "{id}/ws"];
    let is_ours = |route: &&Route| {
        let of_relay = route.path.strip_prefix("/api/sessions/");
        let of_relay = of_relay.is_some_and(|rest| relays.contains(&rest));
        let roots = [
            "/api/health",
            "/api/agents",
            "/api/sessions",
            "/api/worktrees",
            "/api/tasks",
            "/api/scheduler",
            "/api/events",
            "/ws",
        ];
        !of_relay && roots.iter().any(|root| route.path.starts_with(root))
    };
    let name = |method: &Method, path: &str, need: Need| format!("{method} {path} {need:?}");
    let mut there: Vec<String> = running
        .routes
        .iter()
        .filter(is_ours)
        .map(|route| name(&route.method, route.path, route.need))
        .collect();
    let mut listed: Vec<String> = ORCHESTRATOR
        .iter()
        .map(|(method, path, scope)| {
            let need = scope.map_or(Need::Offered, Need::Scope);
            name(method, path, need)
        })
        .collect();
    there.sort();
    listed.sort();
    assert_eq!(there, listed);
}

/// The server as the program puts it together.
async fn whole() -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut options = Options::local(data.path()).unwrap();
    options.rate.burst = 100_000;
    let store = baton::store::memory::shared(SystemClock::shared());
    let search = baton::app::search::Search::in_memory().unwrap();
    let (builder, _) = compose(options, store, SystemClock::shared(), search)
        .await
        .unwrap();
    serve(builder, data).await
}

/// A path of the route: with an id that a session could have where one belongs. A stream that has no end is asked for
/// what it does not have, so that it answers.
fn path(route: &Route) -> String {
    if route.path == "/api/events/stream" {
        return format!("{}?category=none", route.path);
    }
    let id = SessionId::generate(SystemClock.now()).to_string();
    let mut parts = Vec::new();
    for part in route.path.split('/') {
        parts.push(if part.starts_with('{') { &id } else { part });
    }
    parts.join("/")
}

struct Callers {
    cookie: String,
    tokens: Vec<(Scope, Secret)>,
}

async fn callers(running: &Running) -> Callers {
    let access = &running.access;
    let admin = access.authenticate(&running.admin).await.unwrap();
    let code = access.create_sign_in_code(&admin, None).await.unwrap();
    let browser = access.exchange(&code.code).await.unwrap();
    let mut tokens = vec![(Scope::Admin, running.admin.clone())];
    for scope in [Scope::Operator, Scope::Viewer] {
        let made = access.create_token(&admin, "it", scope, None, None).await;
        tokens.push((scope, made.unwrap().secret));
    }
    let join = async || {
        let made = access.create_join_token(&admin, "", None).await;
        made.unwrap().secret
    };
    let spare = access.authenticate(&join().await).await.unwrap();
    let enrolled = access.enroll(&spare, "d", "h", &[7; 16]).await.unwrap();
    tokens.push((Scope::Daemon, enrolled.credential));
    tokens.push((Scope::Join, join().await));
    Callers {
        cookie: format!("baton_session={}", browser.secret.expose()),
        tokens,
    }
}

/// Asks for a route; where a socket could be opened, by a handshake too. Both must come to the same.
async fn request(running: &Running, route: &Route, headers: &[(&'static str, &str)]) -> Got {
    let path = path(route);
    let got = ask(running.address, route.method.clone(), &path, headers, "").await;
    let names_host = headers.iter().any(|(name, _)| *name == "host");
    if route.method == Method::GET && got.status >= 400 && !names_host {
        let handshake = Ws::open(running.address, &path, headers).await;
        let status = handshake.err().map(|(status, _)| status);
        if matches!(got.status, 401 | 403) {
            assert_eq!(status, Some(got.status), "{path} {headers:?}");
        }
    }
    got
}

fn code(got: &Got) -> String {
    let body: serde_json::Value = serde_json::from_slice(&got.body).unwrap_or_default();
    let own = body["error"]["code"].as_str();
    own.or(body["code"].as_str()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_route_refuses_who_has_no_business_there() {
    let running = whole().await;
    let Callers { cookie, tokens } = callers(&running).await;
    let port = running.address.port();
    let own = format!("http://127.0.0.1:{port}");
    let neighbour = format!("http://127.0.0.1:{}", port.wrapping_add(1));
    let rebound = format!("evil.example:{port}");
    let rebound_origin = format!("http://{rebound}");
    let good = bearer(&running.admin);
    let near_miss = format!("{}x", &good[..good.len() - 1]);
    let (good, cookie) = (
        ("authorization", good.as_str()),
        ("cookie", cookie.as_str()),
    );
    let site = |name| ("sec-fetch-site", name);
    let origin = |name| ("origin", name);
    let mut guarded = 0;
    for route in &running.routes {
        let refused = async |headers: &[(&'static str, &str)], status: u16| {
            let got = request(&running, route, headers).await;
            let what = format!("{} {} {headers:?}", route.method, route.path);
            assert_eq!(got.status, status, "{what}");
            assert_eq!(got.header("content-type"), "application/json", "{what}");
            let word = if status == 401 {
                "UNAUTHENTICATED"
            } else {
                "FORBIDDEN"
            };
            assert_eq!(code(&got), word, "{what}");
        };
        // Whoever may read it: not a page of somebody else, and not under another name.
        for stranger in [
            origin("http://evil.example"),
            origin("null"),
            origin(&neighbour),
            ("host", &rebound),
        ] {
            refused(&[good, stranger], 403).await;
            refused(&[cookie, stranger], 403).await;
            refused(&[cookie, stranger, site("same-origin")], 403).await;
        }
        refused(&[cookie, ("host", &rebound), origin(&rebound_origin)], 403).await;
        if route.need == Need::Offered {
            // Everybody has a word; who shows a token that is none is refused all the same.
            for headers in [&[][..], &[cookie], &[cookie, site("cross-site")]] {
                let got = request(&running, route, headers).await;
                assert_eq!(got.json(), serde_json::json!({ "status": "ok" }));
            }
            for junk in ["", "Bearer ", "Bearer junk", &near_miss] {
                refused(&[("authorization", junk)], 401).await;
                refused(&[("authorization", junk), cookie, origin(&own)], 401).await;
            }
            for (scope, secret) in &tokens {
                let token = bearer(secret);
                let got = request(&running, route, &[("authorization", &token)]).await;
                let more = got.json()["services"].is_object();
                assert_eq!(more, scope.allows(Scope::Viewer), "{scope:?}");
            }
            continue;
        }
        if route.need == Need::Open {
            assert!(OPEN.contains(&route.path), "{} is open to all", route.path);
            continue;
        }
        guarded += 1;
        refused(&[], 401).await;
        refused(&[origin(&own), site("same-origin")], 401).await;
        let long = format!("Bearer {}", "x".repeat(5_000));
        for junk in [
            "",
            "Bearer ",
            "Bearer junk",
            "Basic eDp4",
            &near_miss,
            &long,
        ] {
            refused(&[("authorization", junk)], 401).await;
            // A token that is none is not made good by a cookie.
            refused(&[("authorization", junk), cookie, origin(&own)], 401).await;
        }
        let unknown = [("cookie", "baton_session=junk"), origin(&own)];
        refused(&unknown, 401).await;
        // A cookie that comes along with what is not a request of the console's.
        refused(&[cookie], 403).await;
        for name in ["cross-site", "same-site", "none"] {
            refused(&[cookie, site(name)], 403).await;
            refused(&[cookie, origin(&own), site(name)], 403).await;
        }
        for (scope, secret) in &tokens {
            let allowed = match route.need {
                Need::Open | Need::Offered => true,
                Need::Token => *scope != Scope::Join,
                Need::Scope(needed) => scope.allows(needed),
            };
            let token = bearer(secret);
            if !allowed {
                refused(&[("authorization", &token)], 403).await;
                continue;
            }
            // All this was asked of the route itself and not of a path beside it.
            let stream = route.path.ends_with("/stream");
            let got = request(&running, route, &[("authorization", &token)]).await;
            let what = format!(
                "{} {} as {scope:?}: {}",
                route.method, route.path, got.status
            );
            assert!(!matches!(got.status, 401 | 403 | 405), "{what}");
            assert!(stream || code(&got) != "UNKNOWN_METHOD", "{what}");
        }
    }
    assert!(guarded >= 10, "{guarded}");
    let open = running.routes.iter().filter(|it| it.need == Need::Open);
    assert_eq!(open.count(), OPEN.len(), "what is open is there, once");
}

#[tokio::test]
async fn what_is_in_no_table_is_not_there_for_anybody() {
    let running = whole().await;
    let good = bearer(&running.admin);
    for path in [
        "/api",
        "/api/nothing",
        "/api/sessions/",
        "/api/sessions/x/y",
        "/api/agents/",
        "/api/agents/x/y",
        "/api/worktrees/",
        "/api/worktrees/x/y",
        "/api/tasks/x/y",
        "/ws/",
        "/ws/events/",
        "/api/events",
        "/api/daemon",
        "/auth",
        "/auth/caller/",
        "/healthz/x",
        "/assets",
    ] {
        for headers in [&[] as &[_], &[("authorization", good.as_str())]] {
            let got = ask(running.address, Method::GET, path, headers, "").await;
            assert_eq!(
                (got.status, code(&got)),
                (404, "UNKNOWN_METHOD".to_owned()),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_refused_after_the_caller_was_asked_for() {
    let running = whole().await;
    let good = bearer(&running.admin);
    for route in &running.routes {
        let others = [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ];
        for other in others {
            let taken = |it: &Route| it.path == route.path && it.method == other;
            if running.routes.iter().any(taken) {
                continue;
            }
            let path = path(route);
            let bare = ask(running.address, other.clone(), &path, &[], "").await;
            let is_open = matches!(route.need, Need::Open | Need::Offered);
            let expected = if is_open { 405 } else { 401 };
            assert_eq!(bare.status, expected, "{other} {path}");
            if matches!(route.need, Need::Scope(scope) if !Scope::Admin.allows(scope)) {
                continue;
            }
            let auth = [("authorization", good.as_str())];
            let got = ask(running.address, other.clone(), &path, &auth, "").await;
            assert_eq!(got.status, 405, "{other} {path}");
        }
    }
}
