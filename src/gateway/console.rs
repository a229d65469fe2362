//! The console's files: what `web/` was built to, embedded in the program.
//!
//! They hold nothing secret and are open to everybody. The paths that the console itself understands all
//! get its one page; a path that nobody knows stays not found.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, LazyLock, OnceLock};

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::response::Response;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};

use super::Routes;
use super::fail::{self, Dialect};
use crate::app::access::Need;
use crate::base::{Code, Error};

static DIST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/web/dist");

/// The paths that get the console's page.
const PAGES: &[&str] = &[
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
];
/// Files beside the page; each is there if the build made it.
const FILES: &[&str] = &["/favicon.ico", "/favicon.svg", "/manifest.webmanifest"];
/// What the build names by its content, and which therefore never changes.
const ASSETS: &str = "/assets";
const ASSET: &str = "/assets/{*path}";

/// Scripts, styles and requests of our own only, nothing inline, no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Smaller files are sent as they are.
const COMPRESS_FROM_BYTES: usize = 1_024;

/// The routes; all are open.
pub fn routes() -> Routes {
    let mut routes = Routes::default().get(ASSET, Need::Open, asset);
    for page in PAGES {
        routes = routes.get(page, Need::Open, page_of_all);
    }
    for file in FILES {
        routes = routes.get(file, Need::Open, move |headers| serve(file, headers));
    }
    routes
}

async fn page_of_all(headers: HeaderMap) -> Response {
    serve("/index.html", headers).await
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&format!("{ASSETS}/{path}"), headers).await
}

/// One embedded file.
struct File {
    bytes: &'static [u8],
    kind: &'static str,
    etag: String,
    /// Made when it is first asked for; `None` where it does not pay.
    gzip: OnceLock<Option<Bytes>>,
}

/// The files by their path, with its leading slash.
static FILES_BY_PATH: LazyLock<HashMap<String, Arc<File>>> = LazyLock::new(|| {
    let mut files = HashMap::new();
    collect(&DIST, &mut files);
    files
});

fn collect(dir: &Dir<'static>, files: &mut HashMap<String, Arc<File>>) {
    for file in dir.files() {
        let path = format!("/{}", file.path().to_string_lossy());
        let bytes = file.contents();
        let digest = Sha256::digest(bytes);
        let etag = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
        let kind = kind(&path);
        let gzip = OnceLock::new();
        files.insert(
            path,
            Arc::new(File {
                bytes,
                kind,
                etag,
                gzip,
            }),
        );
    }
    for dir in dir.dirs() {
        collect(dir, files);
    }
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

impl File {
    fn compressed(&self) -> Option<Bytes> {
        let made = self.gzip.get_or_init(|| {
            let text = self.kind.starts_with("text/")
                || self.kind.starts_with("application/")
                || self.kind == "image/svg+xml";
            if !text || self.bytes.len() < COMPRESS_FROM_BYTES {
                return None;
            }
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(self.bytes).ok()?;
            let packed = encoder.finish().ok()?;
            (packed.len() < self.bytes.len()).then(|| Bytes::from(packed))
        });
        made.clone()
    }
}

async fn serve(path: &str, headers: HeaderMap) -> Response {
    let Some(file) = FILES_BY_PATH.get(path).cloned() else {
        let error = Error::new(Code::NotFound, "there is nothing at this path");
        return fail::respond(Dialect::Own, &error);
    };
    let packed = if accepts_gzip(&headers) {
        let file = file.clone();
        // The first time it takes a moment; a failed one is sent as it is.
        tokio::task::spawn_blocking(move || file.compressed())
            .await
            .unwrap_or_default()
    } else {
        None
    };
    let etag = match &packed {
        Some(_) => format!("\"{}-gz\"", file.etag),
        None => format!("\"{}\"", file.etag),
    };
    let unchanged = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let is_packed = packed.is_some();
        let body = packed.unwrap_or(Bytes::from_static(file.bytes));
        let mut response = Response::new(Body::from(body));
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
        if is_packed {
            fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    let fields = response.headers_mut();
    let lasts = if path.starts_with(ASSETS) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(lasts));
    fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        fields.insert(ETAG, etag);
    }
    fields.insert(CONTENT_SECURITY_POLICY, POLICY);
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    fields.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    fields.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// Whether gzip is among what is accepted, and not with a weight of zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|choice| {
            let mut parts = choice.split(';').map(str::trim);
            let named = parts.next() == Some("gzip");
            let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            named && !refused
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_there_and_asks_for_nothing_the_policy_forbids() {
        let page = FILES_BY_PATH
            .get("/index.html")
            .expect("web/dist has its page");
        let text = std::str::from_utf8(page.bytes).unwrap();
        assert!(
            !text.contains("<style") && !text.contains(" style="),
            "inline style"
        );
        for script in text.split("<script").skip(1) {
            let tag = script.split('>').next().unwrap();
            assert!(tag.contains("src=\"/assets/"), "inline script: {tag}");
        }
        for away in ["http://", "https://", "src=\"//", "href=\"//"] {
            assert!(!text.contains(away), "{away}");
        }
    }

    #[test]
    fn gzip_is_taken_when_it_is_offered() {
        let accepts = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, text.parse().unwrap());
            accepts_gzip(&headers)
        };
        assert!(accepts("br, gzip;q=0.8") && accepts("gzip"));
        assert!(!accepts("br") && !accepts("gzip;q=0") && !accepts("x-gzip-y"));
    }
}
