//! In between: how many at once, from where, who, how often, how much.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::Clock as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::Limited;

use super::policy::Need;
use super::reject::{Shape, reject};
use super::{Guards, MAX_HTTP_BODY_BYTES};
use crate::app::access::Caller;
use crate::base::{Code, Error, Result, Secret};
use crate::gateway::auth;
use crate::server::connection::ConnectionInfo;

/// Sheds load: with too many requests being answered, another is refused at once and not queued.
pub(super) async fn capacity(
    State(guards): State<Arc<Guards>>,
    request: Request,
    next: Next,
) -> Response {
    // Held until the answer begins: long streams are bounded by connections and their streams.
    match guards.capacity.try_acquire() {
        Ok(_held) => next.run(request).await,
        Err(_) => reject(
            Shape::of(&request),
            &Error::new(
                Code::AtCapacity,
                "the server answers as many requests as it can; try again",
            )
            .retry_after(std::time::Duration::from_secs(1)),
        ),
    }
}

/// Refuses hosts and origins that are not ours, so that a page in a browser cannot call on somebody's
/// behalf, neither by rebinding a name to this address nor from another site.
pub(super) async fn origin(
    State(guards): State<Arc<Guards>>,
    request: Request,
    next: Next,
) -> Response {
    let connection = request.extensions().get::<ConnectionInfo>();
    let local = connection.map(|info| info.local.ip().to_canonical());
    let own = connection.map(|info| Own {
        local: info.local,
        tls: info.tls.is_some(),
        hosts: &guards.hosts,
    });
    let checked = check_host(&guards.hosts, local, request.headers(), request.uri())
        .and_then(|()| check_origin(&guards.origins, own.as_ref(), request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => reject(Shape::of(&request), &error),
    }
}

/// The host must be a loopback name, one that was configured, or the very address that was dialled (an
/// address cannot be rebound).
pub(crate) fn check_host(
    hosts: &[String],
    local: Option<IpAddr>,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<()> {
    let refused = || {
        Error::new(
            Code::Forbidden,
            "the server is not known under this host name; add it to `hosts` in the configuration",
        )
    };
    let mut given = headers.get_all(HOST).iter();
    let header = given.next();
    if given.next().is_some() {
        return Err(refused());
    }
    let header = match header {
        Some(value) => Some(value.to_str().map_err(|_| refused())?),
        None => None,
    };
    let authority = uri.authority().map(http::uri::Authority::as_str);
    // With both, both must be ours: a front end may have looked at the other one.
    let mut any = false;
    for text in [header, authority].into_iter().flatten() {
        any = true;
        let name = host_name(text).ok_or_else(refused)?.to_ascii_lowercase();
        let ours = match name.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip.is_loopback() || Some(ip) == local || hosts.contains(&name)
            }
            Err(_) => name == "localhost" || hosts.contains(&name),
        };
        if !ours {
            return Err(refused());
        }
    }
    if any { Ok(()) } else { Err(refused()) }
}

/// The name in `name:port`, without the brackets of an IPv6 address.
fn host_name(text: &str) -> Option<&str> {
    if text.contains('@') {
        return None;
    }
    // What stands behind the name is a port or nothing.
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let fits = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
        return (fits && is_address).then_some(address);
    }
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    if !is_port(port) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

/// What makes an origin the server's own: where it was dialled, and what was configured. What the request
/// says of its host is not asked, since whoever rebinds a name says it too.
pub(crate) struct Own<'a> {
    /// This end of the connection.
    pub(crate) local: SocketAddr,
    /// Whether it speaks TLS.
    pub(crate) tls: bool,
    /// The configured names.
    pub(crate) hosts: &'a [String],
}

impl Own<'_> {
    /// Whether pages of this origin come from this very port.
    pub(super) fn is(&self, origin: &str) -> bool {
        let (scheme, port) = if self.tls {
            ("https://", 443)
        } else {
            ("http://", 80)
        };
        let Some(authority) = origin.strip_prefix(scheme) else {
            return false;
        };
        let Some(name) = host_name(authority) else {
            return false;
        };
        // An origin leaves out the port that its scheme implies.
        let port = match authority.rsplit_once(':') {
            Some((_, digits)) if !digits.contains(']') => digits.parse().ok(),
            _ => Some(port),
        };
        if port != Some(self.local.port()) {
            return false;
        }
        let local = self.local.ip().to_canonical();
        match name.parse::<IpAddr>() {
            // Loopback is a machine's own: from elsewhere, it is not this one's.
            Ok(ip) if ip.to_canonical().is_loopback() => local.is_loopback(),
            Ok(ip) => ip.to_canonical() == local || self.hosts.iter().any(|host| host == name),
            Err(_) if name == "localhost" => local.is_loopback(),
            Err(_) => self.hosts.iter().any(|host| host == name),
        }
    }
}

/// An origin, if there is one, must be configured or the server's own; it is never compared with the host.
pub(crate) fn check_origin(
    origins: &[String],
    own: Option<&Own<'_>>,
    headers: &HeaderMap,
) -> Result<()> {
    let known = headers.get_all(ORIGIN).iter().all(|value| {
        value.to_str().is_ok_and(|text| {
            let text = text.to_ascii_lowercase();
            origins.contains(&text) || own.is_some_and(|own| own.is(&text))
        })
    });
    if known {
        return Ok(());
    }
    Err(Error::new(
        Code::Forbidden,
        "pages of this origin may not call; add it to `origins` in the configuration if they should",
    ))
}

/// Finds out who calls and whether they may.
pub(super) async fn authenticate(
    State(guards): State<Arc<Guards>>,
    mut request: Request,
    next: Next,
) -> Response {
    let shape = Shape::of(&request);
    let need = match guards.policy.find(&request) {
        Some((_, need)) => need,
        None => {
            let error = Error::new(Code::UnknownMethod, "there is nothing at this path");
            return reject(shape, &error);
        }
    };
    // From here on nothing can log it by accident.
    let presented = take(request.headers_mut(), AUTHORIZATION);
    let cookies = take(request.headers_mut(), COOKIE);
    if need == Need::Open {
        return next.run(request).await;
    }
    // Who shows a token means it, whatever cookies came along.
    let cookie = if presented.is_empty() {
        session_cookie(&cookies)
    } else {
        Ok(None)
    };
    let text = match cookie {
        Ok(Some(text)) => check_page(request.method(), request.headers()).map(|()| text),
        Ok(None) => bearer(&presented),
        Err(error) => Err(error),
    };
    let entered = async {
        let text = text?;
        let caller = guards.access.authenticate(&text).await?;
        need.admit(&caller)?;
        Ok::<Caller, Error>(caller)
    };
    let caller = match entered.await {
        Ok(caller) => caller,
        // Nobody shows a cookie, it comes along by itself: one that does not count is none.
        Err(error)
            if need == Need::Offered
                && presented.is_empty()
                && matches!(error.code(), Code::Unauthenticated | Code::Forbidden) =>
        {
            return next.run(request).await;
        }
        Err(error) => {
            metrics::counter!("baton_refused_total", "code" => error.code().as_str()).increment(1);
            return reject(shape, &error);
        }
    };
    tracing::Span::current().record("caller", tracing::field::display(caller.token_id));
    if let Some(connection) = request.extensions().get::<ConnectionInfo>() {
        connection.note_authenticated();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn take(headers: &mut HeaderMap, name: http::HeaderName) -> Vec<HeaderValue> {
    let values = headers.get_all(&name).iter().cloned().collect();
    headers.remove(name);
    values
}

/// The token that a browser keeps; `None` if there is none.
pub(super) fn session_cookie(cookies: &[HeaderValue]) -> Result<Option<Secret>> {
    let mut found = cookies
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == auth::COOKIE)
        .map(|(_, value)| value);
    let first = found.next();
    if found.next().is_some() {
        return Err(Error::new(
            Code::Unauthenticated,
            "there is more than one session cookie",
        ));
    }
    Ok(first.map(Secret::new))
}

/// A cookie comes along by itself, so it counts only where the browser says that a page of ours asks: with
/// the page's origin, which was checked before, or (it leaves that out when it reads) by saying so.
fn check_page(method: &Method, headers: &HeaderMap) -> Result<()> {
    let site = headers.get("sec-fetch-site");
    let same = site.is_some_and(|site| site.as_bytes() == b"same-origin");
    let named = headers.contains_key(ORIGIN) && (site.is_none() || same);
    let reads = matches!(*method, Method::GET | Method::HEAD) && same;
    if named || reads {
        return Ok(());
    }
    Err(Error::new(
        Code::Forbidden,
        "a cookie is taken only from a page of this server: the request has neither its Origin nor \
         Sec-Fetch-Site: same-origin; programs send a token in the authorization header",
    ))
}

pub(super) fn bearer(presented: &[HeaderValue]) -> Result<Secret> {
    let refused = |why: &str| Error::new(Code::Unauthenticated, why);
    let [value] = presented else {
        return Err(refused(match presented {
            [] => "this needs a token: send it as `authorization: Bearer …`",
            _ => "there is more than one authorization header",
        }));
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| Secret::new(token.trim()))
        .ok_or_else(|| refused("the authorization header must be `Bearer` and a token"))
}

/// Keeps each caller to its rate.
pub(super) async fn rate(
    State(guards): State<Arc<Guards>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(caller) = request.extensions().get::<Caller>() else {
        return next.run(request).await;
    };
    match guards.rate.check_key(&caller.token_id) {
        Ok(()) => next.run(request).await,
        Err(not_yet) => {
            let wait = not_yet.wait_time_from(guards.rate.clock().now());
            let error = Error::new(
                Code::RateLimited,
                "this token calls too often; wait and repeat",
            )
            .retry_after(wait);
            metrics::counter!("baton_refused_total", "code" => error.code().as_str()).increment(1);
            reject(Shape::of(&request), &error)
        }
    }
}

/// Bounds the bodies of plain HTTP. A gRPC message has its bound in its service's codec, since a stream of
/// them has no length.
pub(super) async fn body(request: Request, next: Next) -> Response {
    let shape = Shape::of(&request);
    if shape == Shape::Grpc {
        return next.run(request).await;
    }
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_HTTP_BODY_BYTES as u64) {
        let error = Error::invalid(
            "body",
            format!("is larger than the {MAX_HTTP_BODY_BYTES} bytes allowed"),
        );
        return reject(shape, &error);
    }
    next.run(request.map(|inner| Body::new(Limited::new(inner, MAX_HTTP_BODY_BYTES))))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str, hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, text.parse().unwrap());
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let local = Some("192.0.2.7".parse().unwrap());
        check_host(&hosts, local, &headers, &Uri::from_static("/")).is_ok()
    }

    #[test]
    fn behind_a_name_stands_a_port_or_nothing() {
        for odd in [
            "127.0.0.1://localhost:7420/x",
            "localhost:7420:7420",
            "localhost:+80",
            "[::1]:80/x",
            "localhost:evil.example",
            "[localhost]:80",
        ] {
            assert!(!host(odd, &[]), "{odd}");
        }
    }

    #[test]
    fn only_our_names_are_hosts() {
        for ours in [
            "localhost",
            "LOCALHOST:7420",
            "127.0.0.1:1",
            "[::1]:9",
            "192.0.2.7:80",
            "b.example.:7420",
        ] {
            assert!(host(ours, &["b.example"]), "{ours}");
        }
        for other in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil",
            "192.0.2.8",
            "[::2]",
            "",
            ":80",
            "[::1]evil",
        ] {
            assert!(!host(other, &["b.example"]), "{other}");
        }
    }

    #[test]
    fn an_authority_counts_as_much_as_the_header() {
        let mut headers = HeaderMap::new();
        let evil = Uri::from_static("http://evil.example/x");
        assert!(check_host(&[], None, &headers, &evil).is_err());
        assert!(check_host(&[], None, &headers, &Uri::from_static("http://localhost/x")).is_ok());
        assert!(check_host(&[], None, &headers, &Uri::from_static("/x")).is_err());
        headers.insert(HOST, "localhost".parse().unwrap());
        assert!(check_host(&[], None, &headers, &evil).is_err());
    }

    #[test]
    fn an_origin_is_never_compared_with_the_host() {
        let mut headers = HeaderMap::new();
        let check = |origins: &[String], headers: &_| check_origin(origins, None, headers);
        assert!(check(&[], &headers).is_ok());
        headers.insert(HOST, "localhost:7420".parse().unwrap());
        headers.insert(ORIGIN, "http://localhost:7420".parse().unwrap());
        assert!(check(&[], &headers).is_err());
        assert!(check(&["http://localhost:7420".to_owned()], &headers).is_ok());
        headers.append(ORIGIN, "http://evil.example".parse().unwrap());
        assert!(check(&["http://localhost:7420".to_owned()], &headers).is_err());
        headers.insert(ORIGIN, "null".parse().unwrap());
        assert!(check(&["http://localhost:7420".to_owned()], &headers).is_err());
    }

    #[test]
    fn an_own_origin_is_this_very_port_and_no_other() {
        let hosts = ["b.example".to_owned()];
        let own = |local: &str, tls: bool, origin: &str| {
            let local = local.parse().unwrap();
            let hosts = &hosts;
            Own { local, tls, hosts }.is(origin)
        };
        let (loopback, lan) = ("127.0.0.1:7420", "192.0.2.7:7420");
        for yes in [
            "http://localhost:7420",
            "http://127.0.0.1:7420",
            "http://[::1]:7420",
            "http://b.example:7420",
        ] {
            assert!(own(loopback, false, yes), "{yes}");
        }
        assert!(own(lan, false, "http://192.0.2.7:7420"));
        assert!(own("192.0.2.7:443", true, "https://b.example"));
        assert!(own("[::ffff:127.0.0.1]:80", false, "http://localhost"));
        for no in [
            "http://localhost:7421",
            "http://localhost",
            "https://localhost:7420",
            "http://evil.example:7420",
            "http://localhost.evil.example:7420",
            "http://192.0.2.8:7420",
            "http://x@localhost:7420",
            "http://",
            "null",
            "",
        ] {
            assert!(!own(loopback, false, no), "{no}");
        }
        // Another machine's loopback is not this one's.
        assert!(!own(lan, false, "http://localhost:7420"));
        assert!(!own(lan, false, "http://127.0.0.1:7420"));
    }

    #[test]
    fn a_cookie_counts_only_from_a_page_of_ours() {
        let check = |method: Method, fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, value.parse().unwrap());
            }
            check_page(&method, &headers).is_ok()
        };
        let origin = ("origin", "http://localhost:7420");
        assert!(check(Method::POST, &[origin]));
        assert!(check(
            Method::POST,
            &[origin, ("sec-fetch-site", "same-origin")]
        ));
        assert!(check(Method::GET, &[("sec-fetch-site", "same-origin")]));
        for site in ["cross-site", "same-site", "none", "same-origin, cross-site"] {
            assert!(!check(Method::GET, &[("sec-fetch-site", site)]), "{site}");
            assert!(
                !check(Method::POST, &[origin, ("sec-fetch-site", site)]),
                "{site}"
            );
        }
        assert!(!check(Method::GET, &[]));
        assert!(!check(Method::POST, &[("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn the_session_cookie_is_one_among_others() {
        let read = |texts: &[&str]| {
            let values: Vec<HeaderValue> = texts.iter().map(|t| t.parse().unwrap()).collect();
            session_cookie(&values).map(|found| found.map(|secret| secret.expose().to_owned()))
        };
        assert_eq!(read(&["a=b; baton_session=x;c=d"]).unwrap().unwrap(), "x");
        assert_eq!(read(&["a=b", "xbaton_session=y"]).unwrap(), None);
        assert!(read(&["baton_session=x; baton_session=y"]).is_err());
        assert!(read(&["baton_session=x", "baton_session=x"]).is_err());
    }

    #[test]
    fn a_bearer_token_comes_once() {
        let value = |text: &str| http::HeaderValue::from_str(text).unwrap();
        assert_eq!(bearer(&[value("bearer x")]).unwrap().expose(), "x");
        assert!(bearer(&[]).is_err());
        assert!(bearer(&[value("Bearer x"), value("Bearer y")]).is_err());
        assert!(bearer(&[value("Basic x")]).is_err());
        assert!(bearer(&[value("x")]).is_err());
    }
}
