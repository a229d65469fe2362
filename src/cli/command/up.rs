//! `baton up`: server, store and local daemon in one tree of processes.
//!
//! The server runs in this process and the daemon in a child of its own, so that neither takes the other
//! down, and agents, which belong to the daemon's runners, outlive both.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::daemons::JOIN_TOKEN_VARIABLE;
use super::{console_link, request_id, run as run_command};
use crate::base::{Code, Error, Secret};
use crate::cli::args::{Global, RunArgs, ServeArgs, UpArgs};
use crate::cli::connection::{data_dir, write_client_file};
use crate::cli::exit::{DONE, FAILED};
use crate::cli::output::Out;
use crate::cli::output::style::Tone;
use crate::cli::wiring;
use crate::client::{Client, ServerAddress};
use crate::wire::v1;

/// How long the local daemon may take to link.
const LINK_DEADLINE: Duration = Duration::from_secs(30);
const LINK_POLL: Duration = Duration::from_millis(100);
/// A daemon that ends by itself is started again, but not faster than this.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

/// What agents need of the environment to reach their provider as they do in this terminal.
const AGENT_ENV: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
];

/// `baton up`
pub async fn run(global: &Global, out: &Out, args: UpArgs) -> anyhow::Result<u8> {
    let dir = data_dir(global)?;
    let serve = ServeArgs {
        listen: args.listen.clone(),
        metrics_listen: args.metrics_listen.clone(),
        ..ServeArgs::default()
    };
    let server_global = Global {
        data_dir: Some(dir.clone()),
        ..global.clone()
    };
    let mut server = wiring::start_server(&server_global, serve).await?;
    write_client_file(&dir, &server.url, &server.admin)?;
    let client =
        Client::connect(ServerAddress::new(&server.url).with_token(server.admin.clone())).await?;
    // Caught before there is a daemon, which must not outlive its server. Once it is caught, nothing tells
    // that a signal was ignored.
    let stays = hangup_was_ignored();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut daemon = start_daemon(&client, &dir, &server.url, &args).await?;
    wait_for_link(&client, &mut daemon).await?;
    let links = Links {
        here: console_link::make(&client, &server.url).await?,
        phone: match &server.public_url {
            Some(url) => Some(console_link::make(&client, url).await?),
            None => None,
        },
    };
    announce(out, &server.url, &links)?;

    let demo = demo_session(global, out, &dir, &server.url, &args);
    tokio::pin!(demo);
    let mut watching = args.demo;
    let code = loop {
        tokio::select! {
            ended = &mut server.ended => {
                ended?;
                break FAILED;
            }
            status = daemon.wait() => {
                let status = status?;
                out.note(&format!("the local daemon ended ({status}); starting it again"));
                tokio::time::sleep(RESTART_PAUSE).await;
                daemon = start_daemon(&client, &dir, &server.url, &args).await?;
            }
            // While the demo is watched, Ctrl-C is its own: once interrupts, twice detaches.
            done = &mut demo, if watching => {
                done?;
                watching = false;
                out.note("server and daemon go on; Ctrl-C ends them");
            }
            interrupted = tokio::signal::ctrl_c(), if !watching => {
                interrupted?;
                break DONE;
            }
            _ = terminate.recv() => break DONE,
            // The terminal is closed: an end like Ctrl-C, unless `nohup` asked to outlive it.
            _ = hangup.recv(), if !stays => break DONE,
        }
    };
    out.note("ending; agents that run go on and are found again at the next start");
    stop_daemon(daemon).await?;
    (server.stop)();
    if code == DONE {
        server.ended.await?;
    }
    Ok(code)
}

/// Whether this process was started to outlive its terminal. The system tells by the signals that are
/// ignored; where it does not tell (not Linux), the answer is no.
fn hangup_was_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

/// Starts `baton daemon` as a child. It is given a fresh join token, which it uses only if it is not
/// enrolled yet.
async fn start_daemon(
    client: &Client,
    dir: &Path,
    url: &str,
    args: &UpArgs,
) -> anyhow::Result<Child> {
    let join = client
        .create_join_token(v1::CreateJoinTokenRequest {
            name: String::new(),
            ttl: None,
        })
        .await?;
    let program = std::env::current_exe().context("finding this program")?;
    Command::new(program)
        .args(daemon_arguments(dir, url, args, |name| {
            std::env::var_os(name).is_some()
        })?)
        .env(JOIN_TOKEN_VARIABLE, Secret::new(join.secret).expose())
        .env_remove(crate::cli::connection::TOKEN_VARIABLE)
        .stdin(Stdio::null())
        // A Ctrl-C at the terminal is for this process, which ends the daemon in order.
        .process_group(0)
        // Should this command fail half-way, no daemon is left behind; its agents are its runners' and live on.
        .kill_on_drop(true)
        .spawn()
        .context("starting the local daemon")
}

fn daemon_arguments(
    dir: &Path,
    url: &str,
    args: &UpArgs,
    is_set: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = vec!["daemon".into(), "--server".into(), url.into()];
    arguments.push("--data-dir".into());
    arguments.push(dir.join("daemon").into());
    // Caller and machine are the same person's.
    arguments.push("--allow-commands".into());
    for name in AGENT_ENV {
        if is_set(name) {
            arguments.push("--pass-env".into());
            arguments.push((*name).into());
        }
    }
    let roots = if args.roots.is_empty() {
        default_roots()?
    } else {
        args.roots.clone()
    };
    for root in roots {
        arguments.push("--root".into());
        arguments.push(std::path::absolute(root)?.into());
    }
    Ok(arguments)
}

/// Where agents may run unless it is said: in the home directory, and where `up` was started.
fn default_roots() -> anyhow::Result<Vec<std::path::PathBuf>> {
    let home = etcetera::home_dir().context("finding the home directory")?;
    let here = std::env::current_dir().context("finding the working directory")?;
    let mut roots = vec![home];
    // The top of the machine is never a root by itself.
    if !here.starts_with(&roots[0]) && here.parent().is_some() {
        roots.push(here);
    }
    Ok(roots)
}

/// Waits until a daemon is linked, or the child has ended.
async fn wait_for_link(client: &Client, daemon: &mut Child) -> anyhow::Result<()> {
    let deadline = Instant::now() + LINK_DEADLINE;
    loop {
        let page = client
            .list_daemons(v1::ListDaemonsRequest {
                attached_only: true,
                ..Default::default()
            })
            .await?;
        if !page.daemons.is_empty() {
            return Ok(());
        }
        if let Some(status) = daemon.try_wait()? {
            return Err(Error::new(
                Code::NoDaemon,
                format!("the local daemon ended at once ({status}); what it wrote above says why"),
            )
            .into());
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                Code::NoDaemon,
                format!(
                    "the local daemon did not link within {} s",
                    LINK_DEADLINE.as_secs()
                ),
            )
            .into());
        }
        tokio::time::sleep(LINK_POLL).await;
    }
}

/// Addresses that sign a browser in, each once.
struct Links {
    here: Secret,
    /// For another machine, if one can reach this.
    phone: Option<Secret>,
}

fn announce(out: &Out, url: &str, links: &Links) -> anyhow::Result<()> {
    let value = serde_json::json!({
        "ready": true,
        "url": url,
        "link": links.here.expose(),
        "public_link": links.phone.as_ref().map(Secret::expose),
    });
    let phone = match &links.phone {
        Some(link) if out.width > 0 => format!(
            "\n\n  on a phone:\n    {}\n\n{}",
            link.expose(),
            console_link::qr(link)?
        ),
        Some(link) => format!("\n\n  on a phone:\n    {}", link.expose()),
        None => String::new(),
    };
    out.show(&value, || {
        let name = |text: &str| out.style.paint(Tone::Name, text);
        format!(
            "baton is up at {}\n\n  in a browser (once, within ten minutes; `baton console-link` makes another):\n    {}{phone}\n\n  in another terminal:\n    {}   start an agent here and follow it\n    {}                 what runs\n    {}            what agents ask\n    {}       how another machine joins\n\n  Ctrl-C ends it; agents that run go on.",
            name(url),
            name(links.here.expose()),
            name("baton run \"what to do\""),
            name("baton ps"),
            name("baton prompts"),
            name("baton daemons join"),
        )
    })
}

async fn demo_session(
    global: &Global,
    out: &Out,
    dir: &Path,
    url: &str,
    args: &UpArgs,
) -> anyhow::Result<u8> {
    if !args.demo {
        return Ok(DONE);
    }
    let global = Global {
        server: Some(url.to_owned()),
        data_dir: Some(dir.to_owned()),
        ..global.clone()
    };
    let args = RunArgs {
        cwd: demo_directory(&args.roots)?,
        harness: Some("demo".to_owned()),
        follow: true,
        title: Some("A first look".to_owned()),
        labels: vec![("demo".to_owned(), request_id())],
        text: Some("Show me what you can do".to_owned()),
        ..RunArgs::default()
    };
    run_command::run(&global, out, args).await
}

/// Where the demo runs: here, unless `--root` leaves this place out; then in the first root.
fn demo_directory(roots: &[std::path::PathBuf]) -> anyhow::Result<Option<std::path::PathBuf>> {
    let here = std::env::current_dir().context("finding the working directory")?;
    for root in roots {
        let root = std::fs::canonicalize(root)
            .with_context(|| format!("looking at the root {}", root.display()))?;
        if here.starts_with(&root) {
            return Ok(None);
        }
    }
    Ok(roots.first().cloned())
}

/// Asks the daemon to end; after a while it is killed. Its agents go on either way.
async fn stop_daemon(mut daemon: Child) -> anyhow::Result<()> {
    if let Some(pid) = daemon.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended this moment.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        );
    }
    if tokio::time::timeout(wiring::DAEMON_STOP, daemon.wait())
        .await
        .is_err()
    {
        daemon.kill().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_told_everything_but_secrets() {
        let args = UpArgs {
            listen: None,
            demo: false,
            roots: vec!["/srv".into()],
            metrics_listen: None,
        };
        let arguments =
            daemon_arguments(Path::new("/d"), "http://127.0.0.1:1", &args, |_| false).unwrap();
        assert_eq!(
            arguments,
            [
                "daemon",
                "--server",
                "http://127.0.0.1:1",
                "--data-dir",
                "/d/daemon",
                "--allow-commands",
                "--root",
                "/srv"
            ]
        );
        // And the command line takes them.
        use clap::Parser as _;
        let line = std::iter::once(OsString::from("baton")).chain(arguments);
        assert!(crate::cli::args::Args::try_parse_from(line).is_ok());
    }
}
