//! `baton console-link`: an address that signs one browser in.

use anyhow::Context as _;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::base::Secret;
use crate::cli::args::{ConsoleLinkArgs, Global};
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, usage};
use crate::cli::output::Out;
use crate::client::Client;
use crate::wire::time::time_from_pb;
use crate::wire::v1;

/// `baton console-link`
pub async fn run(global: &Global, out: &Out, args: ConsoleLinkArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let scope = match args.scope.as_deref() {
        Some("admin") => v1::TokenScope::Admin,
        Some("operator") => v1::TokenScope::Operator,
        Some("viewer") => v1::TokenScope::Viewer,
        _ => v1::TokenScope::Unspecified,
    };
    let base = match &args.url {
        Some(url) => checked(url)?,
        None => client.url().to_owned(),
    };
    let request = v1::CreateSignInCodeRequest {
        scope: scope.into(),
    };
    let made = client.create_sign_in_code(request).await?;
    let link = link(&base, &Secret::new(made.code));
    let expires_at = time_from_pb(made.expires_at, "expires_at")?.map(|at| at.to_string());
    let value = serde_json::json!({ "link": link.expose(), "expires_at": expires_at });
    out.show(&value, || link.expose().to_owned())?;
    if args.qr && !out.json {
        out.line(&qr(&link)?)?;
    }
    out.note("it works once, within ten minutes");
    Ok(DONE)
}

fn checked(url: &str) -> anyhow::Result<String> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['#', '?', ' ']) => Ok(url.to_owned()),
        _ => Err(usage(format!(
            "--url is {url:?}; it is like https://baton.example.com"
        ))),
    }
}

/// A code for a browser that may do as much as `client`, as a link beneath `base`.
pub(super) async fn make(client: &Client, base: &str) -> anyhow::Result<Secret> {
    let made = client
        .create_sign_in_code(v1::CreateSignInCodeRequest::default())
        .await?;
    Ok(link(base, &Secret::new(made.code)))
}

/// The fragment is the one part of an address that a browser keeps to itself.
fn link(base: &str, code: &Secret) -> Secret {
    Secret::new(format!(
        "{}/#code={}",
        base.trim_end_matches('/'),
        code.expose()
    ))
}

/// A link as a QR code of characters, for a camera in front of the terminal.
pub(super) fn qr(link: &Secret) -> anyhow::Result<String> {
    let code = QrCode::new(link.expose()).context("making a QR code of the link")?;
    // Light on dark: a terminal's ground is dark more often than not, and cameras read both.
    Ok(code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_its_code_in_the_fragment() {
        let made = link("http://localhost:7420/", &Secret::new("abc"));
        assert_eq!(made.expose(), "http://localhost:7420/#code=abc");
        assert!(qr(&made).unwrap().lines().count() > 10);
    }

    #[test]
    fn an_address_is_checked() {
        assert!(checked("https://b.example").is_ok());
        for bad in ["b.example", "https://", "ftp://x", "https://x/#y"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
