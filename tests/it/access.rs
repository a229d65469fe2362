//! Who may call: every RPC, every way in, and the end of what was opened.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use baton::app::access::{ADMIN_TOKEN_FILE, Access, Caller};
use baton::app::idempotency::{Begin, Idempotency, digest};
use baton::base::clock::ManualClock;
use baton::base::page::PageRequest;
use baton::base::{Clock as _, Code, Secret, SharedClock, SystemClock, Timestamp};
use baton::domain::Scope;
use baton::server::layers::Need;
use baton::server::layers::policy::RPCS;
use baton::server::{Builder, Options};
use baton::store::{Commit, SharedStore};
use baton::wire::v1;
use futures_util::FutureExt as _;
use http_body_util::Full;
use prost::Message as _;
use tonic_types::StatusExt as _;

use crate::serving::*;

fn rounds(usual: usize) -> usize {
    std::env::var("BATON_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

async fn admin(access: &Access, secret: &Secret) -> Caller {
    access.authenticate(secret).await.unwrap()
}

async fn token(running: &Running, scope: Scope) -> Secret {
    let admin = admin(&running.access, &running.admin).await;
    let made = running
        .access
        .create_token(&admin, scope.as_str(), scope, None, None)
        .await;
    made.unwrap().secret
}

#[tokio::test]
async fn every_rpc_refuses_who_has_no_business_there() {
    let running = start(|_| {}).await;
    let caller = admin(&running.access, &running.admin).await;
    let join = running
        .access
        .create_join_token(&caller, "", None)
        .await
        .unwrap()
        .secret;
    let spare = running
        .access
        .create_join_token(&caller, "", None)
        .await
        .unwrap()
        .secret;
    let spare = running.access.authenticate(&spare).await.unwrap();
    let daemon = running
        .access
        .enroll(&spare, "d", "h", &[7; 16])
        .await
        .unwrap()
        .credential;
    let tokens = [
        (Scope::Admin, running.admin.clone()),
        (Scope::Operator, token(&running, Scope::Operator).await),
        (Scope::Viewer, token(&running, Scope::Viewer).await),
        (Scope::Daemon, daemon),
        (Scope::Join, join),
    ];
    let near_miss = {
        let text = running.admin.expose();
        let last = if text.ends_with('0') { "1" } else { "0" };
        Secret::new(format!("{}{last}", &text[..text.len() - 1]))
    };
    let junk = [
        String::new(),
        "Bearer ".to_owned(),
        "Bearer junk".to_owned(),
        format!("Bearer {}", "x".repeat(5_000)),
        format!("Basic {}", running.admin.expose()),
        bearer(&near_miss),
    ];
    let mut send = running.h2().await;
    for (path, need) in RPCS {
        let mut call = async |headers: &[(&str, &str)]| {
            let request = running.request(path, headers, frame(&()));
            answer(send.send_request(request).await.unwrap()).await
        };
        if *need != Need::Open {
            let refused = call(&[]).await;
            assert_eq!(
                (refused.http, refused.code),
                (200, tonic::Code::Unauthenticated),
                "{path}"
            );
            let info = refused.status.get_details_error_info().unwrap();
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                ("UNAUTHENTICATED", "baton")
            );
            for junk in &junk {
                let refused = call(&[("authorization", junk)]).await;
                assert_eq!(
                    refused.code,
                    tonic::Code::Unauthenticated,
                    "{path} {junk:?}"
                );
            }
            for (scope, secret) in &tokens {
                let allowed = match need {
                    Need::Open | Need::Offered => true,
                    Need::Token => *scope != Scope::Join,
                    Need::Scope(needed) => scope.allows(*needed),
                };
                if !allowed {
                    let refused = call(&[("authorization", &bearer(secret))]).await;
                    assert_eq!(
                        refused.code,
                        tonic::Code::PermissionDenied,
                        "{path} {scope:?}"
                    );
                }
            }
        }
        let good = bearer(&running.admin);
        for foreign in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("host", "evil.example"),
        ] {
            let refused = call(&[("authorization", &good), foreign]).await;
            assert_eq!(
                refused.code,
                tonic::Code::PermissionDenied,
                "{path} {foreign:?}"
            );
        }
    }
}

#[tokio::test]
async fn plain_http_refuses_in_its_own_form() {
    let running =
        start(|options| options.origins = vec!["https://console.example".to_owned()]).await;
    let mut send = running.h2().await;
    let port = running.address.port();
    let mut get = async |uri: String, origin: Option<&str>| {
        let mut request = http::Request::get(uri);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let request = request.body(Full::default()).unwrap();
        answer(send.send_request(request).await.unwrap()).await
    };
    let rebound = get(format!("http://evil.example:{port}/healthz"), None).await;
    assert_eq!(rebound.http, 403);
    assert!(String::from_utf8_lossy(&rebound.body).contains("\"FORBIDDEN\""));
    let local = format!("http://localhost:{port}/healthz");
    let itself = format!("http://localhost:{port}");
    assert_eq!(get(local.clone(), Some(&itself)).await.http, 200);
    for other in [
        format!("https://localhost:{port}"),
        "http://localhost".to_owned(),
        format!("http://127.0.0.1.evil.example:{port}"),
    ] {
        assert_eq!(
            get(local.clone(), Some(&other)).await.http,
            403,
            "{other} is not this port"
        );
    }
    assert_eq!(
        get(local.clone(), Some("https://console.example"))
            .await
            .http,
        200
    );
    assert_eq!(get(local, None).await.http, 200);
}

#[tokio::test]
async fn a_revocation_ends_a_live_stream() {
    let running = start(|_| {}).await;
    let secret = token(&running, Scope::Viewer).await;
    let mut live = open_live(&running, &secret).await;
    let mut other = open_live(&running, &running.admin).await;
    let id = running.access.authenticate(&secret).await.unwrap().token_id;

    let request = v1::RevokeTokenRequest {
        token_id: id.to_string(),
    };
    let mut send = running.h2().await;
    let request = running.request(
        "/baton.v1.AccessService/RevokeToken",
        &[("authorization", &bearer(&running.admin))],
        frame(&request),
    );
    let revoked = answer(send.send_request(request).await.unwrap()).await;
    assert_eq!(revoked.code, tonic::Code::Ok);

    assert_eq!(live.status().await.code(), tonic::Code::Unauthenticated);
    let refused = running
        .call(REFLECT, &[("authorization", &bearer(&secret))])
        .await;
    assert_eq!(refused.code, tonic::Code::Unauthenticated);
    // Nobody else's stream ends.
    other.send.send_data(list_services(0), false).unwrap();
    other.hear().await;
}

#[tokio::test]
async fn an_expired_token_ends_its_streams_and_opens_nothing() {
    let clock = Arc::new(ManualClock::new(SystemClockNow::now()));
    let running = {
        let shared: SharedClock = clock.clone();
        start_with(|_| {}, shared, |builder| builder).await
    };
    let admin = admin(&running.access, &running.admin).await;
    let made = running
        .access
        .create_token(
            &admin,
            "short",
            Scope::Viewer,
            Some(Duration::from_secs(60)),
            None,
        )
        .await
        .unwrap();
    let mut live = open_live(&running, &made.secret).await;
    clock.advance(Duration::from_secs(59));
    assert!(running.access.authenticate(&made.secret).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(live.status().await.code(), tonic::Code::Unauthenticated);
    let refused = running.access.authenticate(&made.secret).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

struct SystemClockNow;

impl SystemClockNow {
    fn now() -> Timestamp {
        use baton::base::Clock as _;
        SystemClock.now()
    }
}

fn bare() -> (Access, SharedStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SystemClockNow::now()));
    let store: SharedStore = baton::store::memory::shared(baton::base::SystemClock::shared());
    (Access::new(store.clone(), clock.clone()), store, clock)
}

async fn first_admin(access: &Access, dir: &std::path::Path) -> (Caller, Secret) {
    let file = access.bootstrap(dir).await.unwrap().unwrap();
    let secret = Secret::new(std::fs::read_to_string(file).unwrap().trim());
    (admin(access, &secret).await, secret)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_join_token_makes_one_daemon_however_many_try() {
    let dir = tempfile::tempdir().unwrap();
    let (access, _, _) = bare();
    let (admin, _) = first_admin(&access, dir.path()).await;
    for round in 0..rounds(50) {
        let join = access
            .create_join_token(&admin, &format!("machine {round}"), None)
            .await
            .unwrap();
        let caller = access.authenticate(&join.secret).await.unwrap();
        let tries: Vec<_> = (0..2_u8)
            .map(|n| {
                let (access, caller) = (access.clone(), caller.clone());
                tokio::spawn(async move { access.enroll(&caller, "", "host", &[n; 16]).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for attempt in tries {
            outcomes.push(attempt.await.unwrap());
        }
        let (made, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), 1, "round {round}");
        assert_eq!(
            refused[0].as_ref().unwrap_err().code(),
            Code::Unauthenticated
        );
        let made = made.into_iter().next().unwrap().unwrap();
        let daemon = access.authenticate(&made.credential).await.unwrap();
        assert_eq!(
            (daemon.scope, daemon.daemon_id),
            (Scope::Daemon, Some(made.daemon_id))
        );
    }
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_and_the_first_credential_dies() {
    let dir = tempfile::tempdir().unwrap();
    let (access, _, clock) = bare();
    let (admin, _) = first_admin(&access, dir.path()).await;
    let join = access
        .create_join_token(&admin, "", None)
        .await
        .unwrap()
        .secret;
    let caller = access.authenticate(&join).await.unwrap();
    let first = access
        .enroll(&caller, "", "laptop", &[1; 32])
        .await
        .unwrap();
    assert_eq!(first.name, "laptop");
    // A used join token still names its caller, but to anybody without the nonce it is spent.
    let caller = access.authenticate(&join).await.unwrap();
    assert_eq!(
        access
            .enroll(&caller, "", "laptop", &[2; 32])
            .await
            .unwrap_err()
            .code(),
        Code::Unauthenticated
    );
    let again = access
        .enroll(&caller, "", "laptop", &[1; 32])
        .await
        .unwrap();
    assert_eq!(
        (again.daemon_id, &again.name),
        (first.daemon_id, &first.name)
    );
    assert!(access.authenticate(&first.credential).await.is_err());
    assert!(access.authenticate(&again.credential).await.is_ok());

    // Once it is revoked for good, or expired, it repeats nothing.
    clock.advance(Duration::from_secs(3_600));
    assert!(access.authenticate(&join).await.is_err());
    assert!(
        access
            .enroll(&caller, "", "laptop", &[1; 32])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_name_belongs_to_one_daemon_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (access, _, _) = bare();
    let (admin, _) = first_admin(&access, dir.path()).await;
    let mut joins = Vec::new();
    for _ in 0..2 {
        let join = access.create_join_token(&admin, "", None).await.unwrap();
        joins.push(access.authenticate(&join.secret).await.unwrap());
    }
    let first = access
        .enroll(&joins[0], "mill", "h", &[1; 16])
        .await
        .unwrap();
    let taken = access
        .enroll(&joins[1], "mill", "h", &[2; 16])
        .await
        .unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    access
        .remove_daemon(first.daemon_id, Commit::default())
        .await
        .unwrap();
    assert!(access.authenticate(&first.credential).await.is_err());
    // The refused join token is as good as before.
    assert!(
        access
            .enroll(&joins[1], "mill", "h", &[2; 16])
            .await
            .is_ok()
    );
    let gone = access
        .remove_daemon(first.daemon_id, Commit::default())
        .await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let (access, _, _) = bare();
    let (admin, _) = first_admin(&access, dir.path()).await;
    let made = access
        .create_token(&admin, "op", Scope::Operator, None, None)
        .await
        .unwrap();
    let operator = access.authenticate(&made.secret).await.unwrap();
    let code = |made: baton::base::Result<_>| {
        made.map(|_: baton::app::access::Minted| ())
            .unwrap_err()
            .code()
    };
    assert_eq!(
        code(
            access
                .create_token(&operator, "x", Scope::Admin, None, None)
                .await
        ),
        Code::Forbidden
    );
    assert_eq!(
        code(access.create_join_token(&operator, "x", None).await),
        Code::Forbidden
    );
    assert_eq!(
        code(
            access
                .create_token(&admin, "x", Scope::Daemon, None, None)
                .await
        ),
        Code::InvalidInput
    );
    assert_eq!(
        code(
            access
                .create_token(&admin, "", Scope::Viewer, None, None)
                .await
        ),
        Code::InvalidInput
    );
    assert_eq!(
        code(
            access
                .create_token(&admin, "a\u{202e}b", Scope::Viewer, None, None)
                .await
        ),
        Code::InvalidInput
    );
    let zero = Some(Duration::ZERO);
    assert_eq!(
        code(
            access
                .create_token(&admin, "x", Scope::Viewer, zero, None)
                .await
        ),
        Code::InvalidInput
    );
    // Nothing of it was stored.
    let page = access
        .list_tokens(&PageRequest::parse(0, "").unwrap())
        .await
        .unwrap();
    assert_eq!(page.items.len(), 2);
}

/// When a token was last used is known at once, kept over a restart, and costs a request no write.
#[tokio::test]
async fn the_last_use_of_a_token_is_shown_and_no_request_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (access, store, clock) = bare();
    let (caller, _) = first_admin(&access, dir.path()).await;
    let mut made = Vec::new();
    for name in ["used", "idle"] {
        let minted = access.create_token(&caller, name, Scope::Viewer, None, None);
        made.push(minted.await.unwrap());
    }
    let [used, idle] = [made.remove(0), made.remove(0)];
    let before = *store.watch_revision().borrow();
    let mut last = Timestamp::EPOCH;
    for _ in 0..1_000 {
        clock.advance(Duration::from_millis(10));
        last = clock.now();
        access.authenticate(&used.secret).await.unwrap();
    }
    assert_eq!(
        *store.watch_revision().borrow(),
        before,
        "a use was written"
    );
    let shown = |access: Access| async move {
        let page = PageRequest::parse(0, "").unwrap();
        let all = access.list_tokens(&page).await.unwrap().items;
        let of = |name: &str| {
            all.iter()
                .find(|token| token.name == name)
                .unwrap()
                .last_used_at
        };
        (of("used"), of("idle"))
    };
    assert_eq!(shown(access.clone()).await, (Some(last), None));
    // Whoever starts over the same store knows what was written and nothing else.
    let restarted = || Access::new(store.clone(), clock.clone());
    assert_eq!(shown(restarted()).await, (None, None));
    access.write_uses().await;
    assert_eq!(shown(restarted()).await, (Some(last), None));
    // A page that begins after the first token has the uses of its own tokens.
    let mut seen = Vec::new();
    let mut page = PageRequest::parse(1, "").unwrap();
    loop {
        let found = restarted().list_tokens(&page).await.unwrap();
        seen.extend(found.items.iter().map(|t| (t.name.clone(), t.last_used_at)));
        match found.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert!(seen.contains(&("used".to_owned(), Some(last))), "{seen:?}");
    assert!(seen.contains(&("idle".to_owned(), None)), "{seen:?}");
    // An open stream uses its token as long as it is open, and what is revoked keeps its last use.
    let caller = access.authenticate(&idle.secret).await.unwrap();
    clock.advance(Duration::from_secs(60));
    assert!(access.watch_validity(&caller).now_or_never().is_none());
    let at = clock.now();
    clock.advance(Duration::from_secs(60));
    let revoked = access.revoke(idle.token.id).await.unwrap();
    assert_eq!(revoked.last_used_at, Some(at));
}

#[tokio::test]
async fn the_first_token_is_in_a_file_of_its_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let (access, _, _) = bare();
    let (admin, secret) = first_admin(&access, dir.path()).await;
    let file = dir.path().join(ADMIN_TOKEN_FILE);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // A restart keeps it.
    assert_eq!(first_admin(&access, dir.path()).await.1, secret);
    // Without the file there is a new one, and the old one is dead.
    std::fs::remove_file(&file).unwrap();
    let (_, renewed) = first_admin(&access, dir.path()).await;
    assert_ne!(renewed, secret);
    assert!(access.authenticate(&secret).await.is_err());
    // With an admin of somebody's making, a file that was taken away stays away.
    access
        .create_token(&admin, "me", Scope::Admin, None, None)
        .await
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(access.bootstrap(dir.path()).await.unwrap().is_none());
    assert!(!file.exists());
}

#[tokio::test]
async fn a_caller_that_calls_too_often_is_told_when_to_come_back() {
    let running = start(|options| {
        options.rate.per_second = 1;
        options.rate.burst = 2;
    })
    .await;
    let good = bearer(&running.admin);
    let path = "/baton.v1.AccessService/GetCaller";
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(running.call(path, &[("authorization", &good)]).await);
    }
    assert_eq!(codes[1].code, tonic::Code::Ok);
    assert_eq!(codes[2].code, tonic::Code::ResourceExhausted);
    let retry = codes[2].status.get_details_retry_info().unwrap();
    assert!(retry.retry_delay.unwrap() > Duration::ZERO);
    // Another caller has its own rate.
    let other = bearer(&token(&running, Scope::Viewer).await);
    assert_eq!(
        running.call(path, &[("authorization", &other)]).await.code,
        tonic::Code::Ok
    );
}

#[tokio::test]
async fn a_deadline_of_the_callers_ends_a_stream() {
    let running = start(|_| {}).await;
    let headers = [("grpc-timeout", "200m")];
    let watched = running.call("/grpc.health.v1.Health/Watch", &headers).await;
    assert_eq!(watched.code, tonic::Code::DeadlineExceeded);
    let bad = running.call(HEALTH, &[("grpc-timeout", "soon")]).await;
    assert_eq!(bad.code, tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn the_services_answer() {
    let running = start(|_| {}).await;
    let good = bearer(&running.admin);
    let auth = [("authorization", good.as_str())];
    let told = running
        .call("/baton.v1.SystemService/GetServerInfo", &auth)
        .await;
    let info = v1::GetServerInfoResponse::decode(&told.body[5..]).unwrap();
    assert_eq!((info.version.as_str(), info.living_sessions), ("1.2.3", 3));
    let told = running
        .call("/baton.v1.SystemService/GetMetrics", &auth)
        .await;
    let metrics = v1::GetMetricsResponse::decode(&told.body[5..])
        .unwrap()
        .text;
    assert!(
        metrics.contains("baton_requests_total{rpc=\"/baton.v1.SystemService/GetServerInfo\""),
        "{metrics}"
    );
    let caller = admin(&running.access, &running.admin).await;
    assert!(!metrics.contains(&caller.token_id.to_string()));
    let told = running
        .call("/baton.v1.AccessService/GetCaller", &auth)
        .await;
    let token = v1::GetCallerResponse::decode(&told.body[5..])
        .unwrap()
        .token
        .unwrap();
    assert_eq!(token.id, caller.token_id.to_string());
}

#[tokio::test]
async fn nothing_listens_beyond_loopback_in_clear_text() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::local(dir.path()).unwrap();
    options.listen = "0.0.0.0:0".parse().unwrap();
    let store: SharedStore = baton::store::memory::shared(baton::base::SystemClock::shared());
    let refused = Builder::new(options, store, SystemClock::shared())
        .bind()
        .await;
    assert_eq!(refused.err().unwrap().code(), Code::InvalidInput);
    assert!(!dir.path().join(ADMIN_TOKEN_FILE).exists());
}

#[tokio::test]
async fn a_repeated_request_gets_its_first_answer_for_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let (access, store, clock) = bare();
    let (admin, _) = first_admin(&access, dir.path()).await;
    let answers = Idempotency::new(store.clone(), clock.clone());
    let begin = async |digest| answers.begin(&admin, "Do", "r-1", digest).await;
    let (one, two) = (digest(b"one"), digest(b"two"));

    let Begin::Fresh(fresh) = begin(one).await.unwrap() else {
        panic!()
    };
    let commit = |op| Commit {
        ops: vec![op],
        ..Commit::default()
    };
    // The same request at the same time waits, and gets the answer of the first.
    let mut racing = Box::pin(begin(one));
    assert!(
        futures_util::future::poll_immediate(&mut racing)
            .await
            .is_none()
    );
    store
        .commit(commit(fresh.op(b"first").unwrap()))
        .await
        .unwrap();
    assert!(
        futures_util::future::poll_immediate(&mut racing)
            .await
            .is_none()
    );
    drop(fresh);
    assert!(matches!(racing.await.unwrap(), Begin::Repeat(answer) if answer == "first"));
    assert!(matches!(begin(one).await.unwrap(), Begin::Repeat(answer) if answer == "first"));
    assert_eq!(begin(two).await.unwrap_err().code(), Code::InvalidInput);
    assert!(matches!(
        answers.begin(&admin, "Other", "r-1", two).await.unwrap(),
        Begin::Fresh(_)
    ));

    clock.advance(Duration::from_secs(24 * 3_600 - 1));
    assert_eq!(answers.sweep().await.unwrap(), 0);
    clock.advance(Duration::from_secs(1));
    let Begin::Fresh(anew) = begin(two).await.unwrap() else {
        panic!()
    };
    store
        .commit(commit(anew.op(b"third").unwrap()))
        .await
        .unwrap();
    drop(anew);
    assert_eq!(answers.sweep().await.unwrap(), 0);
    clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(answers.sweep().await.unwrap(), 1);
    // Without an id there is nothing to keep.
    // One that failed leaves the way free.
    drop(begin(one).await.unwrap());
    assert!(matches!(begin(one).await.unwrap(), Begin::Fresh(_)));
    let Begin::Fresh(nameless) = answers.begin(&admin, "Do", "", one).await.unwrap() else {
        panic!()
    };
    assert!(nameless.op(b"x").is_none());
    assert!(answers.begin(&admin, "Do", "a b", one).await.is_err());
}
