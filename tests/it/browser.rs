//! Browsers: gRPC-Web, signing in, the console's files; and that nobody else's page gets any of it.

use std::sync::Arc;
use std::time::Duration;

use baton::app::access::{ADMIN_TOKEN_FILE, Access};
use baton::base::clock::ManualClock;
use baton::base::{Clock as _, Code, Secret, SharedClock, SystemClock};
use baton::domain::{Scope, TokenKind};
use baton::store::SharedStore;
use baton::wire::v1;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;

use crate::serving::*;
use crate::support::baton::Baton;
use crate::support::http::{Got, ask, frames, h1};

const GET_CALLER: &str = "/baton.v1.AccessService/GetCaller";
const WEB: &str = "application/grpc-web+proto";

async fn console() -> Running {
    start_with(
        |_| {},
        SystemClock::shared(),
        |builder| builder.add_console(),
    )
    .await
}

async fn sign_in(running: &Running, scope: Option<Scope>) -> (Got, String) {
    let caller = running.access.authenticate(&running.admin).await.unwrap();
    let code = running
        .access
        .create_sign_in_code(&caller, scope)
        .await
        .unwrap();
    let body = serde_json::json!({ "code": code.code.expose() }).to_string();
    let json = [("content-type", "application/json")];
    let got = ask(running.address, Method::POST, "/auth/exchange", &json, body).await;
    let cookie = got
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    (got, cookie)
}

#[tokio::test]
async fn a_browser_calls_over_grpc_web_on_both_versions_of_http() {
    let running = console().await;
    let token = bearer(&running.admin);
    let request = frame(&v1::GetCallerRequest {});
    let headers = [
        ("content-type", WEB),
        ("x-grpc-web", "1"),
        ("authorization", token.as_str()),
    ];
    let check = |got: Got| {
        assert_eq!(got.status, 200);
        assert_eq!(got.header("content-type"), WEB);
        let (messages, trailers) = frames(got.body);
        assert_eq!(trailers.trim(), "grpc-status:0");
        let caller = v1::GetCallerResponse::decode(messages[0].clone()).unwrap();
        assert_eq!(caller.token.unwrap().name, "bootstrap");
    };
    check(
        ask(
            running.address,
            Method::POST,
            GET_CALLER,
            &headers,
            request.clone(),
        )
        .await,
    );

    let mut send = running.h2().await;
    let mut over_h2 = Request::post(format!("http://{}{GET_CALLER}", running.address));
    for (name, value) in headers {
        over_h2 = over_h2.header(name, value);
    }
    let answer = send
        .send_request(over_h2.body(Full::new(request)).unwrap())
        .await;
    check(Got::of(answer.unwrap()).await);
}

#[tokio::test]
async fn a_refusal_over_grpc_web_is_a_status_in_headers() {
    let running = console().await;
    let request = frame(&v1::GetCallerRequest {});
    let web = ("content-type", WEB);
    let evil = ("origin", "http://evil.example");
    let foreign = ("host", "evil.example");
    let token = bearer(&running.admin);
    let bearer = ("authorization", token.as_str());
    let unread = Bytes::from_static(b"\0\0\0\0\x01\xff");
    for (path, headers, body, status) in [
        (GET_CALLER, &[web] as &[_], &request, "16"),
        (GET_CALLER, &[web, bearer, evil], &request, "7"),
        (GET_CALLER, &[web, bearer, foreign], &request, "7"),
        (
            "/baton.v1.AccessService/Nothing",
            &[web, bearer],
            &request,
            "12",
        ),
        ("/api/sessions", &[web, bearer], &request, "12"),
        (GET_CALLER, &[web, bearer], &unread, "3"),
    ] {
        let got = ask(running.address, Method::POST, path, headers, body.clone()).await;
        let what = format!("{path} {headers:?}");
        assert_eq!(got.status, 200, "{what}");
        assert_eq!(got.header("content-type"), WEB, "{what}");
        assert_eq!(got.header("grpc-status"), status, "{what}");
        assert!(got.body.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_watch_over_grpc_web_ends_with_its_token_in_a_frame_a_browser_reads() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let client = baton.client();
    let made = client
        .create_token(v1::CreateTokenRequest {
            name: "tab".to_owned(),
            scope: v1::TokenScope::Viewer.into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let address = baton.url().trim_start_matches("http://").parse().unwrap();
    let watch = v1::WatchRequest {
        scopes: vec![v1::Scope {
            scope: Some(v1::scope::Scope::All(v1::AllScope::default())),
        }],
        ..Default::default()
    };
    let token = format!("Bearer {}", made.secret);
    let request = Request::post("/baton.v1.EventService/Watch")
        .header("host", "localhost")
        .header("content-type", WEB)
        .header("authorization", token)
        .body(Full::new(frame(&watch)))
        .unwrap();
    let mut response = h1(address).await.send_request(request).await.unwrap();
    // It has begun before it ends.
    let first = soon("the first frame", response.frame())
        .await
        .unwrap()
        .unwrap();
    let mut all = bytes::BytesMut::from(&first.into_data().unwrap()[..]);
    let id = made.token.unwrap().id;
    client
        .revoke_token(v1::RevokeTokenRequest { token_id: id })
        .await
        .unwrap();
    let rest = soon("the end", response.into_body().collect())
        .await
        .unwrap();
    all.extend_from_slice(&rest.to_bytes());
    let (messages, trailers) = frames(all.freeze());
    assert!(!messages.is_empty());
    assert!(trailers.contains("grpc-status:16"), "{trailers}");
}

#[tokio::test]
async fn a_code_becomes_a_cookie_once_and_signing_out_ends_it() {
    let running = console().await;
    let own = format!("http://{}", running.address);
    let (got, cookie) = sign_in(&running, Some(Scope::Operator)).await;
    assert_eq!((got.status, got.body.len()), (204, 0));
    let set = got.header("set-cookie");
    assert!(
        set.starts_with("baton_session=bt_")
            && set.contains("; HttpOnly; SameSite=Strict; Path=/; Max-Age=25"),
        "attributes"
    );
    assert_eq!(got.header("cache-control"), "no-store");

    let page = [
        ("cookie", cookie.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    let got = ask(running.address, Method::GET, "/auth/caller", &page, "").await;
    assert_eq!(got.status, 200);
    let caller = got.json();
    assert_eq!(caller["scope"], "operator");
    assert_eq!(caller["name"], "bootstrap (browser)");
    assert!(caller["token_id"].as_str().unwrap().starts_with("tok_"));
    assert!(caller["expires_at"].as_str().unwrap().ends_with('Z'));

    // It is a token as any other: listed, with its kind.
    let id = caller["token_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        running.access.token(id).await.unwrap().kind,
        TokenKind::Browser
    );

    let page = [("cookie", cookie.as_str()), ("origin", own.as_str())];
    let web = [page[0], page[1], ("content-type", WEB)];
    let request = frame(&v1::GetCallerRequest {});
    let got = ask(
        running.address,
        Method::POST,
        GET_CALLER,
        &web,
        request.clone(),
    )
    .await;
    assert_eq!(frames(got.body).1.trim(), "grpc-status:0");

    let got = ask(running.address, Method::POST, "/auth/sign-out", &page, "").await;
    assert_eq!(got.status, 204);
    assert!(got.header("set-cookie").starts_with("baton_session=; "));
    assert!(got.header("set-cookie").contains("Max-Age=0"));
    let got = ask(running.address, Method::POST, GET_CALLER, &web, request).await;
    assert_eq!(got.header("grpc-status"), "16");
    let got = ask(running.address, Method::GET, "/auth/caller", &page, "").await;
    assert_eq!(got.status, 401);
}

#[tokio::test]
async fn behind_a_front_end_that_encrypts_the_cookie_stays_encrypted() {
    let origins = |options: &mut baton::server::Options| {
        options.origins = vec!["https://b.example".to_owned()];
    };
    let running = start_with(origins, SystemClock::shared(), |it| it.add_console()).await;
    let caller = running.access.authenticate(&running.admin).await.unwrap();
    let code = running.access.create_sign_in_code(&caller, None).await;
    let body = serde_json::json!({ "code": code.unwrap().code.expose() }).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("origin", "https://b.example"),
    ];
    let got = ask(
        running.address,
        Method::POST,
        "/auth/exchange",
        &headers,
        body,
    )
    .await;
    assert!(got.header("set-cookie").ends_with("; Secure"));
}

#[tokio::test]
async fn a_cookie_opens_nothing_for_a_page_of_somebody_else() {
    let running = console().await;
    let (_, cookie) = sign_in(&running, None).await;
    let own = format!("http://{}", running.address);
    let port = running.address.port();
    let neighbour = format!("http://localhost:{}", port.wrapping_add(1));
    let rebound = format!("evil.example:{port}");
    let rebound_origin = format!("http://evil.example:{port}");
    let cookie = ("cookie", cookie.as_str());
    let site = |name| ("sec-fetch-site", name);
    for (path, method) in [
        ("/auth/caller", Method::GET),
        ("/auth/sign-out", Method::POST),
        (GET_CALLER, Method::POST),
    ] {
        for headers in [
            &[cookie] as &[_],
            &[cookie, site("cross-site")],
            &[cookie, site("same-site")],
            &[cookie, site("none")],
            &[cookie, ("origin", "http://evil.example")],
            &[cookie, ("origin", "null")],
            &[cookie, ("origin", neighbour.as_str())],
            &[cookie, ("origin", neighbour.as_str()), site("same-site")],
            &[cookie, ("origin", own.as_str()), site("cross-site")],
            &[cookie, ("host", rebound.as_str()), site("same-origin")],
            &[
                cookie,
                ("host", rebound.as_str()),
                ("origin", rebound_origin.as_str()),
                site("same-origin"),
            ],
        ] {
            let got = ask(running.address, method.clone(), path, headers, "").await;
            assert_eq!(got.status, 403, "{path} {headers:?}");
        }
    }
    // A sign-in from elsewhere neither.
    let json = ("content-type", "application/json");
    for headers in [
        &[json, ("origin", "http://evil.example")],
        &[json, ("host", "evil.example")],
    ] {
        let got = ask(
            running.address,
            Method::POST,
            "/auth/exchange",
            headers,
            "{}",
        )
        .await;
        assert_eq!(got.status, 403, "{headers:?}");
    }
    // And it is still signed in: nothing of all this did anything.
    let page = [cookie, site("same-origin")];
    let got = ask(running.address, Method::GET, "/auth/caller", &page, "").await;
    assert_eq!(got.status, 200);
}

#[tokio::test]
async fn what_is_no_code_signs_nobody_in() {
    let running = console().await;
    let json = [("content-type", "application/json")];
    for (body, status) in [
        ("", 400),
        ("[]", 400),
        ("{}", 400),
        (r#"{"code":7}"#, 400),
        (r#"{"code":""}"#, 401),
        (r#"{"code":"AAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#, 401),
        (r#"{"code":"../../../../../../../../../"}"#, 401),
    ] {
        let got = ask(running.address, Method::POST, "/auth/exchange", &json, body).await;
        assert_eq!(got.status, status, "{body}");
        assert_eq!(got.header("set-cookie"), "", "{body}");
    }
    let form = [("content-type", "text/plain")];
    let got = ask(
        running.address,
        Method::POST,
        "/auth/exchange",
        &form,
        r#"{"code":"x"}"#,
    )
    .await;
    assert_eq!(got.status, 400);
    let got = ask(running.address, Method::GET, "/auth/exchange", &[], "").await;
    assert_eq!(got.status, 405);
    // A bearer token is not signed out by accident.
    let token = bearer(&running.admin);
    let admin = [("authorization", token.as_str())];
    let got = ask(running.address, Method::POST, "/auth/sign-out", &admin, "").await;
    assert_eq!(got.status, 409);
    assert!(running.access.authenticate(&running.admin).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_who_have_the_same_code_signs_in() {
    let running = console().await;
    let caller = running.access.authenticate(&running.admin).await.unwrap();
    for round in 0..20 {
        let code = running
            .access
            .create_sign_in_code(&caller, None)
            .await
            .unwrap()
            .code;
        let tries: Vec<_> = (0..4)
            .map(|_| {
                let (access, code) = (running.access.clone(), code.clone());
                tokio::spawn(async move { access.exchange(&code).await.is_ok() })
            })
            .collect();
        let mut won = 0;
        for attempt in tries {
            won += usize::from(attempt.await.unwrap());
        }
        assert_eq!(won, 1, "round {round}");
    }
}

fn bare() -> (Access, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let store: SharedStore = baton::store::memory::shared(SystemClock::shared());
    let shared: SharedClock = clock.clone();
    (Access::new(store, shared), clock)
}

#[tokio::test]
async fn a_browser_gets_no_more_than_who_let_it_in_and_not_for_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (access, clock) = bare();
    let file = access.bootstrap(dir.path()).await.unwrap().unwrap();
    let secret = Secret::new(std::fs::read_to_string(&file).unwrap().trim());
    let admin = access.authenticate(&secret).await.unwrap();
    let hour = Some(Duration::from_secs(3_600));
    let viewer = access
        .create_token(&admin, "v", Scope::Viewer, hour, None)
        .await
        .unwrap();
    let viewer_id = viewer.token.id;
    let viewer = access.authenticate(&viewer.secret).await.unwrap();
    for more in [Scope::Operator, Scope::Admin] {
        let refused = access
            .create_sign_in_code(&viewer, Some(more))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Forbidden);
    }

    let code = access.create_sign_in_code(&viewer, None).await.unwrap();
    let browser = access.exchange(&code.code).await.unwrap();
    assert_eq!(browser.token.scope, Scope::Viewer);
    assert_eq!(browser.token.expires_at, viewer.expires_at);
    // A phone that the browser lets in depends on the same token as the browser.
    let browser_caller = access.authenticate(&browser.secret).await.unwrap();
    let code = access
        .create_sign_in_code(&browser_caller, None)
        .await
        .unwrap();
    let phone = access.exchange(&code.code).await.unwrap();
    access.sign_out(&browser_caller).await.unwrap();
    assert!(access.authenticate(&browser.secret).await.is_err());
    let phone_caller = access.authenticate(&phone.secret).await.unwrap();
    access.revoke(viewer_id).await.unwrap();
    assert!(access.authenticate(&phone.secret).await.is_err());
    let ended = access.watch_validity(&phone_caller).await;
    assert_eq!(ended.code(), Code::Unauthenticated);

    // A code ends by itself, and so does the token.
    let late = access.create_sign_in_code(&admin, None).await.unwrap();
    clock.advance(Duration::from_secs(600));
    assert!(access.exchange(&late.code).await.is_err());
    let code = access.create_sign_in_code(&admin, None).await.unwrap();
    let browser = access.exchange(&code.code).await.unwrap();
    clock.advance(Duration::from_secs(30 * 86_400 - 1));
    assert!(access.authenticate(&browser.secret).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert!(access.authenticate(&browser.secret).await.is_err());
}

#[tokio::test]
async fn an_admins_browser_does_not_keep_the_owner_of_the_machine_out() {
    let dir = tempfile::tempdir().unwrap();
    let (access, _) = bare();
    let file = access.bootstrap(dir.path()).await.unwrap().unwrap();
    assert!(file.ends_with(ADMIN_TOKEN_FILE));
    let secret = Secret::new(std::fs::read_to_string(&file).unwrap().trim());
    let admin = access.authenticate(&secret).await.unwrap();
    let code = access.create_sign_in_code(&admin, None).await.unwrap();
    let browser = access.exchange(&code.code).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(access.bootstrap(dir.path()).await.unwrap().is_some());
    assert!(access.authenticate(&secret).await.is_err());
    assert!(access.authenticate(&browser.secret).await.is_err());
}

#[tokio::test]
async fn the_console_is_served_at_its_own_paths_with_a_strict_policy() {
    let running = console().await;
    for path in [
        "/",
        "/sessions",
        "/sessions/ses_x",
        "/prompts",
        "/terminals",
        "/agents",
        "/agents/agt_x",
        "/tasks",
        "/tasks/tsk_x",
        "/worktrees",
        "/worktrees/wkt_x",
        "/budgets",
        "/budgets/bgt_x",
        "/tasks/scheduler",
        "/machines",
        "/access",
        "/settings",
        "/new",
    ] {
        let got = ask(running.address, Method::GET, path, &[], "").await;
        assert_eq!(got.status, 200, "{path}");
        assert_eq!(
            got.header("content-type"),
            "text/html; charset=utf-8",
            "{path}"
        );
        let policy = got.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(
                policy.split("; ").any(|given| given == part),
                "{path}: {policy}"
            );
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert_eq!(got.header("referrer-policy"), "no-referrer");
        assert_eq!(got.header("cache-control"), "no-cache");
        let tag = got.header("etag").to_owned();
        let again = ask(
            running.address,
            Method::GET,
            path,
            &[("if-none-match", &tag)],
            "",
        )
        .await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
    }
    for path in [
        "/nothing",
        "/sessions/a/b",
        "/assets/none.js",
        "/assets/../index.html",
        "/index.html",
        "/api",
        "/apis",
    ] {
        let got = ask(running.address, Method::GET, path, &[], "").await;
        assert_eq!(got.status, 404, "{path}");
        assert_eq!(got.header("content-type"), "application/json", "{path}");
    }
    let rebound = [("host", "evil.example")];
    assert_eq!(
        ask(running.address, Method::GET, "/", &rebound, "")
            .await
            .status,
        403
    );
    assert_eq!(
        ask(running.address, Method::POST, "/", &[], "")
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn a_link_from_the_command_line_signs_a_browser_in() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let run = |arguments: &[&str]| {
        let output = baton.cli(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let link = run(&["console-link", "--scope", "viewer"]);
    let (base, code) = link.trim().split_once("/#code=").unwrap();
    assert_eq!(base, baton.url());
    let address = baton.url().trim_start_matches("http://").parse().unwrap();
    let json = [("content-type", "application/json")];
    let body = serde_json::json!({ "code": code }).to_string();
    let got = ask(address, Method::POST, "/auth/exchange", &json, body.clone()).await;
    assert_eq!(got.status, 204);
    let again = ask(address, Method::POST, "/auth/exchange", &json, body).await;
    assert_eq!(again.status, 401);
    // Neither the code nor the cookie is in the log.
    let cookie = got.header("set-cookie").to_owned();
    let secret = cookie.split(['=', ';']).nth(1).unwrap();
    let log = baton.logged("server.log");
    assert!(!log.contains(code) && !log.contains(secret));
    let elsewhere = run(&["console-link", "--url", "https://b.example", "--json"]);
    assert!(elsewhere.contains("https://b.example/#code="));
    assert!(run(&["console-link", "--qr"]).lines().count() > 10);
}
