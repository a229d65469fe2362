//! Where the command line meets the rooms that do the work in this process: server, daemon, runner, demo
//! agent, store. Each function is one call; nothing else in `cli` names those rooms.

use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::{DaemonArgs, Global, ServeArgs, StoreAction};
use super::connection;
use super::exit::{DONE, FAILED, usage};
use super::output::Out;
pub use crate::app::access::ADMIN_TOKEN_FILE as TOKEN_FILE;
use crate::app::access::ADMIN_TOKEN_FILE;
use crate::app::search::Search;
use crate::base::{Secret, SystemClock};
use crate::daemon::harness::demo;
use crate::server::config::{Config, FlagValues};
use crate::server::{self, Ended, Options, Server};
use crate::store::local::{self, LocalStore};

/// A server that runs in this process.
pub struct Running {
    /// Its address, as a client on this machine reaches it.
    pub url: String,
    /// Its address as another machine reaches it; `None` if it listens on loopback only, or cannot tell.
    pub public_url: Option<String>,
    /// A token that opens everything.
    pub admin: Secret,
    /// Ends when the server has ended, whatever the reason.
    pub ended: BoxFuture<'static, anyhow::Result<()>>,
    /// Asks it to end.
    pub stop: Box<dyn FnOnce() + Send>,
}

/// How long a daemon that was asked to end may take.
pub const DAEMON_STOP: Duration = Duration::from_secs(15);

/// The smallest spool: with less, an agent would wait for the server every few lines.
const LEAST_SPOOL_BYTES: u64 = 1 << 20;

/// The store's directory within the data directory.
pub fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// Makes a directory that only its owner may enter. One that is there already is closed to all others; one of
/// somebody else is refused.
fn make_private(dir: &Path) -> anyhow::Result<()> {
    let before = std::fs::metadata(dir).map(|meta| meta.permissions().mode());
    crate::daemon::paths::make_private(dir)?;
    if before.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(
            dir = %dir.display(),
            "others could enter this directory; from now on only its owner can"
        );
    }
    Ok(())
}

fn configure(global: &Global, args: &ServeArgs) -> anyhow::Result<Config> {
    Ok(Config::load(&FlagValues {
        config: args.config.clone(),
        listen: args.listen.clone(),
        insecure: args.insecure,
        tls_cert: args.tls_cert.clone(),
        tls_key: args.tls_key.clone(),
        metrics_listen: args.metrics_listen.clone(),
        data_dir: global.data_dir.clone(),
        durability: args.durability.clone(),
        grace: args.grace.clone(),
        prompt_expiry: args.prompt_expiry.clone(),
        hosts: args.hosts.clone(),
        origins: args.origins.clone(),
        max_sessions: args.max_sessions.clone(),
        drain_deadline: args.drain_deadline.clone(),
        log_format: args.log_format.clone(),
        log_level: args.log_level.clone(),
        set: args.set.clone(),
    })?)
}

/// Opens the store and puts the server together.
async fn compose(options: Options) -> anyhow::Result<(server::Builder, crate::app::App)> {
    #[cfg(feature = "failpoints")]
    super::fault::arm()?;
    make_private(&options.data_dir)?;
    let local = local::Options {
        durability: options.durability,
        cache_bytes: options.cache_bytes,
        ..local::Options::new(store_dir(&options.data_dir))
    };
    // Opening reads what is on disk, which may take a while.
    let store = tokio::task::spawn_blocking(move || LocalStore::open(local))
        .await?
        .map_err(crate::app::failure::from_store_at_start)?;
    // A file that may not grow is to be an error of its write, not the end of the process: once this signal
    // has a handler, the write answers EFBIG, and the store says that it is full.
    let _handled = signal(SignalKind::from_raw(Signal::SIGXFSZ as i32))?;
    let store = Arc::new(store);
    let every = options.compaction_every;
    let search = Search::open(&options.data_dir.join("search.db"))?;
    let (builder, app) =
        server::compose(options, store.clone(), SystemClock::shared(), search).await?;
    Ok((builder.add_job("compaction", compact(store, every)), app))
}

/// Gives the disk space of what was deleted back, now and then, beside everything else.
async fn compact(store: Arc<LocalStore>, every: Duration) {
    let compaction = local::compact::Compaction::default();
    #[cfg(feature = "failpoints")]
    let (every, compaction) = match super::fault::compact_every() {
        Some(every) => (
            every,
            local::compact::Compaction {
                min_live: 1.0,
                seal_active: true,
            },
        ),
        None => (every, compaction),
    };
    loop {
        tokio::time::sleep(every).await;
        let store = store.clone();
        let done =
            tokio::task::spawn_blocking(move || store.compact(&compaction, &mut |_| {})).await;
        match done {
            Ok(Ok(done)) => tracing::debug!(freed_bytes = done.freed_bytes, "compacted"),
            Ok(Err(error)) => tracing::warn!(%error, "compaction failed; it is tried again"),
            Err(error) => tracing::error!(%error, "compaction panicked"),
        }
    }
}

fn url_of(server: &Server) -> String {
    let scheme = if server.tls().is_some() {
        "https"
    } else {
        "http"
    };
    let mut address = server.address();
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{scheme}://{address}")
}

/// The server's address for other machines: by its configured name, else by the address they dial.
fn public_url_of(server: &Server, hosts: &[String]) -> Option<String> {
    let address = server.address();
    if address.ip().to_canonical().is_loopback() {
        return None;
    }
    let scheme = if server.tls().is_some() {
        "https"
    } else {
        "http"
    };
    if let Some(host) = hosts.first() {
        return Some(format!("{scheme}://{host}:{}", address.port()));
    }
    let ip = if address.ip().is_unspecified() {
        outward_address()?
    } else {
        address.ip()
    };
    let address = std::net::SocketAddr::new(ip, address.port());
    Some(format!("{scheme}://{address}"))
}

/// The address this machine has on the way out. Nothing is sent: the kernel only looks for the way.
fn outward_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    // An address for documentation, which nobody has.
    socket.connect(("192.0.2.1", 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// Starts the server in this process and returns when it listens.
pub async fn start_server(global: &Global, args: ServeArgs) -> anyhow::Result<Running> {
    let config = configure(global, &args)?;
    server::logging::init(&config.options.log)?;
    let token_file = config.options.data_dir.join(ADMIN_TOKEN_FILE);
    let hosts = config.options.hosts.clone();
    let (builder, app) = compose(config.options).await?;
    let server = builder.bind().await?;
    let url = url_of(&server);
    let public_url = public_url_of(&server, &hosts);
    let drain = server.drain().clone();
    let serving = tokio::spawn(server.serve());
    let admin = connection::read_token(&token_file)
        .with_context(|| format!("reading the first token from {}", token_file.display()))?;
    Ok(Running {
        url,
        public_url,
        admin,
        ended: Box::pin(async move {
            serving.await?;
            server::close(app).await?;
            Ok(())
        }),
        stop: Box::new(move || drain.begin()),
    })
}

/// `baton serve`: the server until it ends.
pub async fn serve(global: &Global, out: &Out, args: ServeArgs) -> anyhow::Result<u8> {
    let config = configure(global, &args)?;
    if args.print_config {
        print!("{}", config.render());
        return Ok(DONE);
    }
    server::logging::init(&config.options.log)?;
    let token_file = config.options.data_dir.join(ADMIN_TOKEN_FILE);
    let (builder, app) = compose(config.options).await?;
    let ended = server::run(builder, |server| {
        out.note(&format!("listening on {}", url_of(server)));
        if token_file.exists() {
            out.note(&format!("the first token is in {}", token_file.display()));
        }
    })
    .await?;
    match ended {
        Ended::Drained => {
            server::close(app).await?;
            Ok(DONE)
        }
        Ended::Forced => Ok(FAILED),
    }
}

/// `baton daemon`: the daemon until it ends. `join_token` enrols it, if it is not enrolled yet.
pub async fn daemon(
    global: &Global,
    args: DaemonArgs,
    join_token: Option<Secret>,
) -> anyhow::Result<u8> {
    let log = server::options::Log {
        format: match args.log_format.as_deref() {
            Some(format) => server::options::LogFormat::parse(format).map_err(usage)?,
            None => server::options::LogFormat::Auto,
        },
        level: args.log_level.unwrap_or_else(|| "info".to_owned()),
    };
    server::logging::init(&log)?;
    #[cfg(feature = "failpoints")]
    super::fault::arm()?;
    let state_dir = match &global.data_dir {
        Some(dir) => dir.clone(),
        None => connection::default_data_dir()?.join("daemon"),
    };
    make_private(&state_dir)?;
    let address = crate::daemon::link::ServerAddress {
        uri: global
            .server
            .clone()
            .unwrap_or_else(|| crate::client::DEFAULT_URL.to_owned()),
        ca: global.ca_file.clone(),
    };
    let mut options = crate::daemon::Options::new(state_dir, address);
    options.join_token = join_token;
    options.name = args.name.unwrap_or_default();
    options.labels = args.labels.into_iter().collect();
    options.policy.roots = args.roots;
    options.policy.harnesses = args.harnesses;
    options.policy.allow_commands = args.allow_commands;
    if let Some(mode) = args.max_permission_mode {
        options.policy.max_permission_mode = mode;
    }
    options.policy.env_names = args.env_names;
    options.policy.env_always = args.pass_env;
    if let Some(most) = args.max_sessions {
        options.policy.max_sessions = most;
    }
    if let Some(after) = args.orphan_after {
        options.orphan_after = after;
    }
    if let Some(bytes) = args.spool_size {
        if bytes < LEAST_SPOOL_BYTES {
            return Err(usage("--spool-size is 1MiB or more"));
        }
        options.spool_bytes = bytes;
    }
    options.worktrees.root = args.worktree_root;
    options.worktrees.disk_budget = args.worktree_budget;
    if let Some(grace) = args.worktree_grace {
        options.worktrees.grace = grace;
    }
    if let Some(program) = args.claude_program {
        // Agents run in other directories than the daemon.
        let program = std::path::absolute(&program).context("finding --claude-program")?;
        options.claude_program = Some(program);
    }
    options.acp_agents = args.acp_agents;
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let running = crate::daemon::run(options, shutdown);
    tokio::pin!(running);
    loop {
        tokio::select! {
            ended = &mut running => {
                ended?;
                return Ok(DONE);
            }
            _ = terminate.recv() => told.cancel(),
            _ = interrupt.recv() => told.cancel(),
            // Its terminal is gone, or somebody expects it to read something again. Neither is a reason to end.
            _ = hangup.recv() => tracing::info!("SIGHUP: the daemon goes on, and has nothing to read again"),
        }
    }
}

/// `baton runner`: holds one agent process.
pub fn runner(arguments: &[String]) -> anyhow::Result<u8> {
    let [flag, dir] = arguments else {
        return Err(usage(
            "the runner takes --dir DIR, and is started by the daemon",
        ));
    };
    if flag != "--dir" {
        return Err(usage(
            "the runner takes --dir DIR, and is started by the daemon",
        ));
    }
    #[cfg(feature = "failpoints")]
    super::fault::arm()?;
    let code = crate::daemon::runner::run(Path::new(dir));
    Ok(if code == std::process::ExitCode::SUCCESS {
        DONE
    } else {
        FAILED
    })
}

/// `baton demo-agent`: the scripted agent, on standard input and output.
pub fn demo_agent(arguments: &[String]) -> anyhow::Result<u8> {
    let cwd = std::env::current_dir().context("finding the working directory")?;
    let home = std::env::var_os(demo::HOME_VARIABLE)
        .map_or_else(demo::DemoOptions::default_home, PathBuf::from);
    let mut options = demo::DemoOptions::new(cwd, home);
    for argument in arguments {
        // It is started with a real agent's flags and knows only some of them.
        match argument.split_once('=') {
            Some(("--resume", id)) => options.resume = Some(id.to_owned()),
            Some(("--session-id", id)) => options.session_id = Some(id.to_owned()),
            Some(("--model", model)) => options.model = Some(model.to_owned()),
            Some(("--permission-mode", mode)) => options.permission_mode = Some(mode.to_owned()),
            _ if argument == "--fork-session" => options.fork_session = true,
            _ => {}
        }
    }
    let stdin = BufReader::new(std::io::stdin());
    let code = demo::run(options, stdin, std::io::stdout());
    #[expect(
        clippy::disallowed_methods,
        reason = "its reader may still wait for input, and nothing is left to be put away"
    )]
    std::process::exit(code);
}

/// `baton store …`: works on the store in `data_dir`, with progress on standard error.
pub async fn store(out: &Out, data_dir: &Path, action: StoreAction) -> anyhow::Result<u8> {
    let dir = store_dir(data_dir);
    let json = out.json;
    tokio::task::spawn_blocking(move || super::upkeep::run(&dir, action, json)).await?
}
