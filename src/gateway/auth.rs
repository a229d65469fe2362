//! How a browser signs in and out: a code becomes a cookie.
//!
//! The cookie holds a token and is read by nobody but the browser: no script sees it (`HttpOnly`), no other
//! site's request carries it (`SameSite=Strict`), and the server's layers take it only from a page of its own.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::Routes;
use super::fail::{self, Dialect};
use crate::app::access::{Access, Caller, Minted, Need};
use crate::base::{Error, Result, Secret, SharedClock};

/// The cookie's name.
pub const COOKIE: &str = "baton_session";

/// The path where a code is exchanged; open to everybody.
pub const EXCHANGE: &str = "/auth/exchange";
/// The path that tells who calls.
pub const CALLER: &str = "/auth/caller";
/// The path where a browser signs out.
pub const SIGN_OUT: &str = "/auth/sign-out";

#[derive(Clone)]
struct Auth {
    access: Access,
    clock: SharedClock,
    /// Whether this port speaks TLS.
    tls: bool,
}

/// The routes. With `tls`, browsers are told never to send the cookie in clear text.
pub fn routes(access: Access, clock: SharedClock, tls: bool) -> Routes {
    Routes::default()
        // The exchange is how a browser comes to a token.
        .post(EXCHANGE, Need::Open, exchange)
        .get(CALLER, Need::Token, caller)
        .post(SIGN_OUT, Need::Token, sign_out)
        .with_state(Auth { access, clock, tls })
}

#[derive(Deserialize)]
struct Exchange {
    code: String,
}

#[derive(Serialize)]
struct ShownCaller {
    token_id: String,
    name: String,
    scope: &'static str,
    expires_at: Option<String>,
}

async fn exchange(State(auth): State<Auth>, headers: HeaderMap, body: Bytes) -> Response {
    let made = async {
        let code = code(&headers, &body)?;
        auth.access.exchange(&code).await
    };
    match made.await {
        Ok(minted) => done(auth.cookie(&headers, &minted)),
        Err(error) => fail::respond(Dialect::Own, &error),
    }
}

pub(super) fn code(headers: &HeaderMap, body: &[u8]) -> Result<Secret> {
    // A page of another site can send a form, but not this type, without asking first.
    let is_json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        return Err(Error::invalid("content-type", "must be application/json"));
    }
    // What was wrong is not quoted: it may be the code.
    let exchange: Exchange = serde_json::from_slice(body)
        .map_err(|_| Error::invalid("body", "must be a JSON object with a text `code`"))?;
    Ok(Secret::new(exchange.code))
}

impl Auth {
    fn cookie(&self, headers: &HeaderMap, minted: &Minted) -> String {
        let lives = minted
            .token
            .expires_at
            .map(|at| at.saturating_since(self.clock.now()).as_secs())
            .unwrap_or(crate::app::access::BROWSER_TTL.as_secs());
        let secret = minted.secret.expose();
        format!(
            "{COOKIE}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={lives}{}",
            self.secure(headers)
        )
    }

    /// The end of a cookie. Behind a front end that encrypts, the page's origin says so; the layers have
    /// checked it.
    fn secure(&self, headers: &HeaderMap) -> &'static str {
        let encrypted_before = headers
            .get(ORIGIN)
            .is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
        if self.tls || encrypted_before {
            "; Secure"
        } else {
            ""
        }
    }
}

async fn caller(Extension(caller): Extension<Caller>) -> Response {
    let shown = ShownCaller {
        token_id: caller.token_id.to_string(),
        name: caller.name,
        scope: caller.scope.as_str(),
        expires_at: caller.expires_at.map(|at| at.to_string()),
    };
    let mut response = Json(shown).into_response();
    no_store(&mut response);
    response
}

async fn sign_out(
    State(auth): State<Auth>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    match auth.access.sign_out(&caller).await {
        Ok(()) => done(format!(
            "{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0{}",
            auth.secure(&headers)
        )),
        Err(error) => fail::respond(Dialect::Own, &error),
    }
}

fn done(cookie: String) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    match HeaderValue::try_from(cookie) {
        Ok(mut value) => {
            value.set_sensitive(true);
            response.headers_mut().insert(SET_COOKIE, value);
        }
        Err(problem) => return fail::respond(Dialect::Own, &Error::internal(problem)),
    }
    no_store(&mut response);
    response
}

fn no_store(response: &mut Response) {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, value);
}
