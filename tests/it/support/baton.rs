//! The real program as its users run it: a server process, a daemon process, a client.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use baton::base::Secret;
use baton::client::{Client, ServerAddress};
use baton::domain::{Event, EventBody};
use baton::wire::v1;
use nix::sys::signal::Signal;
#[cfg(feature = "failpoints")]
use parking_lot::Mutex;
use tempfile::TempDir;

use super::tls::certificate;
use crate::history::{Fact, History};

/// How long anything may take that a test waits for. Generous: the machine is shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds something, or fails with `what`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        pause.tick().await;
    }
}

/// A certificate that is trusted.
struct Trust {
    file: PathBuf,
    pem: Vec<u8>,
    der: Vec<u8>,
}

/// A directory with a server, a daemon and a project, each of which can be killed and started again.
pub struct Baton {
    dir: TempDir,
    history: History,
    port: u16,
    _held_port: tokio::net::TcpSocket,
    tls: Option<Trust>,
    server_flags: Vec<String>,
    daemon_flags: Vec<String>,
    daemon_env: Vec<(String, String)>,
    daemon_dials: Option<String>,
    server: Option<Child>,
    daemon: Option<Child>,
    other: Option<Child>,
}

impl Baton {
    /// A server and a daemon with the defaults, linked.
    pub async fn start() -> Self {
        let mut baton = Self::new();
        baton.start_server().await;
        baton.start_daemon().await;
        baton
    }

    /// Nothing started yet.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("bt").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("project")).unwrap();
        // The server takes its port again and again. A socket that is bound and does not listen keeps it from all
        // who are given any free port, connections too, and not from a listener that asks for this one.
        let held_port = tokio::net::TcpSocket::new_v4().unwrap();
        held_port.set_reuseaddr(true).unwrap();
        held_port
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .unwrap();
        let port = held_port.local_addr().unwrap().port();
        Baton {
            dir,
            history: History::in_memory("baton"),
            port,
            _held_port: held_port,
            tls: None,
            server_flags: Vec::new(),
            daemon_flags: Vec::new(),
            daemon_env: Vec::new(),
            daemon_dials: None,
            server: None,
            daemon: None,
            other: None,
        }
    }

    /// A server and a daemon with the defaults, linked, and a history of what happens to them.
    pub async fn start_with(history: History) -> Self {
        let mut baton = Self::new().with_history(history);
        baton.start_server().await;
        baton.start_daemon().await;
        baton
    }

    /// Notes in this history what is killed and started.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Where to note what happens.
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// Makes the server speak TLS, with a certificate that all others trust.
    #[must_use]
    pub fn with_tls(self) -> Self {
        let (files, der) = certificate(self.dir.path());
        let [cert, key] = [&files.cert, &files.key].map(|file| file.to_string_lossy());
        let mut this = self.server_flags(&["--tls-cert", &cert, "--tls-key", &key]);
        let pem = std::fs::read(&files.cert).unwrap();
        let file = files.cert;
        this.tls = Some(Trust { file, pem, der });
        this
    }

    /// The certificate to trust, where the server has one.
    pub fn trusted(&self) -> &[u8] {
        self.tls.as_ref().map_or(&[], |tls| &tls.der)
    }

    /// Adds flags of `baton serve`.
    #[must_use]
    pub fn server_flags(mut self, flags: &[&str]) -> Self {
        self.server_flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Adds flags of `baton daemon`.
    #[must_use]
    pub fn daemon_flags(mut self, flags: &[&str]) -> Self {
        self.daemon_flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Lets daemons dial this URL, behind which the server is.
    #[must_use]
    pub fn daemon_dials(mut self, url: &str) -> Self {
        self.daemon_dials = Some(url.to_owned());
        self
    }

    /// Sets a variable of the daemon's environment.
    #[must_use]
    pub fn daemon_env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.daemon_env.push((name.to_owned(), value.into()));
        self
    }

    /// The whole directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory in which sessions run.
    pub fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// The server's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The server's address.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The server's address, for whoever connects by themselves.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The first token.
    pub fn admin(&self) -> Secret {
        let text = std::fs::read_to_string(self.data_dir().join("admin.token")).unwrap();
        Secret::new(text.trim())
    }

    /// `baton` with a clean environment whose home is this directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        // So that a whole run of the tests can be made with a slow place in the server.
        if let Some(fault) = std::env::var_os("BATON_FAULT") {
            command.env("BATON_FAULT", fault);
        }
        if let Some(tls) = &self.tls {
            command.env("BATON_CA_FILE", &tls.file);
        }
        command
    }

    /// `baton` as a client of this server.
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .env("BATON_SERVER", self.url())
            .env("BATON_TOKEN", self.admin().expose())
            .current_dir(self.project());
        command
    }

    fn log(&self, name: &str) -> Stdio {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(name))
            .unwrap();
        Stdio::from(file)
    }

    /// What a process has logged so far: `server.log` or `daemon.log`.
    pub fn logged(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// What a failed test needs to be understood: who still runs, and the end of what each has logged.
    fn tell(&mut self) {
        let processes = [
            ("server", &mut self.server),
            ("daemon", &mut self.daemon),
            ("other", &mut self.other),
        ];
        for (name, process) in processes {
            let state = match process.as_mut().map(Child::try_wait) {
                None => "is not started".to_owned(),
                Some(Ok(None)) => "runs".to_owned(),
                Some(Ok(Some(status))) => format!("has ended: {status}"),
                Some(Err(error)) => format!("cannot be asked: {error}"),
            };
            let log = self.dir.path().join(format!("{name}.log"));
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the {name} {state}; the end of its log:\n{end}");
        }
    }

    /// Starts the server and waits until it answers.
    pub async fn start_server(&mut self) {
        self.spawn_server();
        self.server_answers().await;
        self.history.note("test", Fact::started("server"));
    }

    /// Waits until the server answers.
    pub async fn server_answers(&self) {
        eventually("the server answers", || async {
            // It writes the first token when it starts for the first time.
            let known = self.data_dir().join("admin.token").exists();
            if !known {
                return None;
            }
            let listed = self.client().list_daemons(Default::default()).await;
            listed.is_ok().then_some(())
        })
        .await;
    }

    /// Starts the server and waits for nothing.
    pub fn spawn_server(&mut self) {
        self.spawn_server_with(&[]);
    }

    /// Starts the server with variables in its environment, and waits for nothing.
    pub fn spawn_server_with(&mut self, variables: &[(&str, &str)]) {
        let listen = format!("127.0.0.1:{}", self.port);
        let data = self.data_dir();
        let mut command = self.command(&["serve", "--listen", &listen]);
        if !self
            .server_flags
            .iter()
            .any(|flag| flag == "--metrics-listen")
        {
            command.args(["--metrics-listen", "off"]);
        }
        command
            .arg("--data-dir")
            .arg(data)
            .args(&self.server_flags)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(self.log("server.log"));
        self.server = Some(command.spawn().unwrap());
    }

    /// Starts the daemon and waits until it is linked. The first time it joins.
    pub async fn start_daemon(&mut self) {
        let joined = self.dir.path().join("daemon").join("credential").exists();
        self.join_daemon(!joined, &[]).await;
    }

    /// Starts the daemon with a fresh join token, although it has joined before, and waits until it is linked.
    pub async fn start_daemon_anew(&mut self) {
        self.join_daemon(true, &[]).await;
    }

    /// Starts a daemon that has joined before, if none runs, and waits for nothing.
    #[cfg(feature = "failpoints")]
    pub async fn spawn_daemon_again(&mut self) {
        if self.daemon.is_none() {
            self.daemon = Some(self.spawn_daemon("daemon", false, &[]).await);
        }
    }

    /// Starts a daemon that has joined before with variables in its environment, and waits until it is linked.
    #[cfg(feature = "failpoints")]
    pub async fn start_daemon_with(&mut self, variables: &[(&str, &str)]) {
        self.join_daemon(false, variables).await;
    }

    /// Starts a daemon that has joined before with variables in its environment, and waits for nothing.
    #[cfg(feature = "failpoints")]
    pub async fn spawn_daemon_with(&mut self, variables: &[(&str, &str)]) {
        self.daemon = Some(self.spawn_daemon("daemon", false, variables).await);
    }

    /// Waits until a daemon is linked to the server that runs now.
    pub async fn daemon_is_linked(&self) {
        self.linked(true, "a daemon is linked").await;
    }

    /// Waits until the server knows that no daemon is linked.
    pub async fn daemon_is_away(&self) {
        self.linked(false, "the daemon is away").await;
    }

    async fn linked(&self, is_linked: bool, what: &str) {
        let client = self.client();
        eventually(what, || async {
            let daemons = daemons(&client).await;
            let linked = daemons.iter().any(|daemon| daemon.attached);
            (linked == is_linked).then_some(())
        })
        .await;
    }

    async fn join_daemon(&mut self, join: bool, variables: &[(&str, &str)]) {
        let client = self.client();
        let before = self.newest_epoch(&client).await;
        self.daemon = Some(self.spawn_daemon("daemon", join, variables).await);
        eventually("the daemon is linked", || async {
            (self.newest_epoch(&client).await > before).then_some(())
        })
        .await;
        self.history.note("test", Fact::started("daemon"));
    }

    /// Starts a second daemon, with a state of its own, and waits until it is linked. Its id.
    pub async fn start_other_daemon(&mut self) -> String {
        let client = self.client();
        let known = daemons(&client).await;
        self.other = Some(self.spawn_daemon("other", true, &[]).await);
        eventually("the other daemon is linked", || async {
            let mut new = daemons(&client).await;
            new.retain(|daemon| !known.iter().any(|known| known.id == daemon.id));
            new.pop().map(|daemon| daemon.id)
        })
        .await
    }

    async fn spawn_daemon(&self, name: &str, join: bool, variables: &[(&str, &str)]) -> Child {
        let state = self.dir.path().join(name);
        let url = self.daemon_dials.clone().unwrap_or_else(|| self.url());
        let mut command = self.command(&["daemon", "--server", &url]);
        command
            .arg("--data-dir")
            .arg(&state)
            .arg("--root")
            .arg(self.project())
            .arg("--allow-commands")
            .args(&self.daemon_flags)
            .envs(self.daemon_env.iter().cloned())
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(self.log(&format!("{name}.log")));
        if name != "daemon" {
            // The first one has the host's name, which is then taken.
            command.args(["--name", name]);
        }
        if join {
            let join = self
                .client()
                .create_join_token(v1::CreateJoinTokenRequest::default())
                .await
                .unwrap();
            command.env("BATON_JOIN_TOKEN", join.secret);
        }
        command.spawn().unwrap()
    }

    async fn newest_epoch(&self, client: &Client) -> u64 {
        daemons(client)
            .await
            .iter()
            .map(|daemon| daemon.link_epoch)
            .max()
            .unwrap_or(0)
    }

    /// Sends the server a signal.
    pub fn signal_server(&self, signal: Signal) {
        send(self.server.as_ref(), signal);
    }

    /// Sends the daemon a signal.
    pub fn signal_daemon(&self, signal: Signal) {
        send(self.daemon.as_ref(), signal);
    }

    /// A variable of the daemon's environment, as it was started.
    pub fn daemon_variable(&self, name: &str) -> String {
        let pid = self.daemon.as_ref().expect("it runs").id();
        let text = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name);
        found.expect("it is set").1.to_owned()
    }

    /// How much memory the server has now, in bytes.
    pub fn server_memory(&self) -> u64 {
        let pid = self.server.as_ref().map_or(0, Child::id);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        kib.map_or(0, |kib: u64| kib * 1024)
    }

    /// Kills the server with SIGKILL.
    pub fn kill_server(&mut self) {
        if kill(&mut self.server) {
            self.history.note("test", Fact::killed("server"));
        }
    }

    /// Kills the daemon with SIGKILL; its runners live on.
    pub fn kill_daemon(&mut self) {
        if kill(&mut self.daemon) {
            self.history.note("test", Fact::killed("daemon"));
        }
    }

    /// Waits until the daemon ends by itself; its exit code.
    pub async fn daemon_ends(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        loop {
            let child = self.daemon.as_mut()?;
            if let Some(status) = child.try_wait().unwrap() {
                self.daemon = None;
                return status.code();
            }
            assert!(Instant::now() < deadline, "the daemon does not end");
            pause.tick().await;
        }
    }

    /// Whether a runner of this directory lives.
    pub fn has_runner(&self) -> bool {
        let marker = self.dir.path().join("daemon").join("sessions");
        let marker = marker.to_string_lossy().into_owned();
        std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .any(|line| line.contains("runner") && line.contains(&marker))
    }

    /// Stops the daemon in its tracks: what it is sent from now on it does not read. It can only be killed.
    pub fn freeze_daemon(&mut self) {
        let child = self.daemon.as_ref().expect("it was started");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    }

    /// The server's process, which is expected to end by itself.
    #[cfg(feature = "failpoints")]
    pub fn server_process(&mut self) -> Dying {
        Dying(Mutex::new(self.server.take().expect("it was started")))
    }

    /// The daemon's process, which is expected to end by itself.
    #[cfg(feature = "failpoints")]
    pub fn daemon_process(&mut self) -> Dying {
        Dying(Mutex::new(self.daemon.take().expect("it was started")))
    }

    /// Asks the server to end, and waits for it. Its exit code.
    pub async fn stop_server(&mut self) -> Option<i32> {
        let mut child = self.server.take()?;
        send(Some(&child), Signal::SIGTERM);
        ended(&mut child).await
    }

    /// A client with the first token.
    pub fn client(&self) -> Client {
        let mut server = ServerAddress::new(self.url()).with_token(self.admin());
        server.ca = self.tls.as_ref().map(|tls| tls.pem.clone());
        Client::lazy(server).unwrap()
    }

    /// A new session in the project.
    pub async fn session(&self, harness: &str, input: &str) -> v1::Session {
        self.client()
            .create_session(v1::CreateSessionRequest {
                harness: harness.to_owned(),
                input: input.to_owned(),
                cwd: self.project().to_string_lossy().into_owned(),
                ..Default::default()
            })
            .await
            .unwrap()
            .session
            .unwrap()
    }

    /// The whole log of a session, checked to be gapless from 1.
    pub async fn events(&self, session: &str) -> Vec<Event> {
        let events = self.kept(session).await;
        if let Some(first) = events.first() {
            assert_eq!(first.seq, 1, "the log of {session} lacks its beginning");
        }
        events
    }

    /// What retention has left of a session's log, checked to be without a gap.
    pub async fn kept(&self, session: &str) -> Vec<Event> {
        let client = self.client();
        let mut events = Vec::new();
        let mut token = String::new();
        loop {
            let page = client
                .list_events(v1::ListEventsRequest {
                    session_id: session.to_owned(),
                    page_size: 1000,
                    page_token: token,
                    ..Default::default()
                })
                .await
                .unwrap();
            for event in page.events {
                events.push(baton::wire::event::event_from_pb(event).unwrap());
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        for pair in events.windows(2) {
            let (one, next) = (pair[0].seq, pair[1].seq);
            assert_eq!(one + 1, next, "the log of {session} has a gap");
        }
        events
    }

    /// Waits until a session's log has an event that `is` accepts; the index it was found at.
    pub async fn wait_for(
        &self,
        session: &str,
        what: &str,
        is: impl Fn(&EventBody) -> bool,
    ) -> Event {
        eventually(what, || async {
            self.events(session)
                .await
                .into_iter()
                .find(|event| is(&event.body))
        })
        .await
    }

    /// The prompts of a session that wait.
    pub async fn pending(&self, session: &str) -> Vec<v1::Prompt> {
        self.client()
            .list_prompts(v1::ListPromptsRequest {
                session_id: session.to_owned(),
                states: vec![v1::PromptState::Pending.into()],
                ..Default::default()
            })
            .await
            .unwrap()
            .prompts
    }
}

/// A process that is expected to end by itself.
#[cfg(feature = "failpoints")]
pub struct Dying(Mutex<Child>);

#[cfg(feature = "failpoints")]
impl Dying {
    /// Waits for its end; the signal that ended it, if one did.
    pub async fn ends(&self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        let ended = eventually("the process ends", || async {
            self.0.lock().try_wait().unwrap()
        });
        ended.await.signal()
    }
}

#[cfg(feature = "failpoints")]
impl Drop for Dying {
    fn drop(&mut self) {
        let _ = self.0.lock().kill();
    }
}

impl Drop for Baton {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        kill(&mut self.daemon);
        kill(&mut self.other);
        kill(&mut self.server);
        // Runners outlive the daemon on purpose; a test's end is theirs. They are known by the directory
        // they were started with, which is this test's own.
        let marker = self.dir.path().to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&marker) {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// Waits for the end of a process; its exit code. The clients of this test go on meanwhile: a server that
/// ends waits for them.
pub async fn ended(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < deadline, "it ends within {PATIENCE:?}");
        pause.tick().await;
    }
}

fn send(child: Option<&Child>, signal: Signal) {
    let pid = child.expect("it runs").id();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// The daemons that are linked.
async fn daemons(client: &Client) -> Vec<v1::Daemon> {
    let request = v1::ListDaemonsRequest {
        attached_only: true,
        ..Default::default()
    };
    let listed = client.list_daemons(request).await;
    listed.map(|page| page.daemons).unwrap_or_default()
}

/// Kills a process; whether it was alive.
fn kill(child: &mut Option<Child>) -> bool {
    let Some(mut child) = child.take() else {
        return false;
    };
    let lived = matches!(child.try_wait(), Ok(None));
    let _ = child.kill();
    let _ = child.wait();
    lived
}
