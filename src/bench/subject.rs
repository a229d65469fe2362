//! The servers that are measured: Baton, and what it is held against.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::address::Address;
use super::certificate::Certificate;
use super::machine::Machine;
use super::plan::Plan;
use super::process::{Process, Voice};
use crate::base::Secret;
use crate::client::{Client, ServerAddress};
use crate::wire::v1;

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// This program.
    Baton,
    /// The same messages over the same libraries, without Baton.
    Bare,
    /// The older design under Node, without a store.
    Node,
}

impl Kind {
    /// As a table shows it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Baton => "baton",
            Kind::Bare => "bare",
            Kind::Node => "node ws",
        }
    }
}

/// A server under test.
#[derive(Debug)]
pub struct Subject {
    /// Whose it is.
    pub kind: Kind,
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: Address,
    /// What opens it; only Baton asks for it.
    pub token: Option<Secret>,
    /// Baton's data directory.
    dir: Option<TempDir>,
}

/// Options of a server under test that are not the product's defaults, each because the load comes from one caller.
const OPEN: &[&str] = &[
    // One caller makes all calls.
    "rate.requests_per_second=1000000",
    "rate.burst=1000000",
    // Ten thousand of each are connected at a time.
    "connections.max=100000",
    "max_sessions=100000",
    "requests.max=100000",
    // The search index is made beside the relay and costs several times as much as the event itself: it has its own figure.
    "search.every=1h",
];

#[derive(Deserialize)]
struct Ready {
    port: u16,
}

impl Subject {
    /// Starts one.
    pub fn start(kind: Kind, plan: &Plan, machine: &Machine) -> anyhow::Result<Self> {
        Subject::with_tls(kind, plan, machine, None)
    }

    /// The same with TLS, where there is a certificate. The older design has none.
    pub fn with_tls(
        kind: Kind,
        plan: &Plan,
        machine: &Machine,
        certificate: Option<&Certificate>,
    ) -> anyhow::Result<Self> {
        match kind {
            Kind::Baton => Subject::serving(plan, machine, data_dir(plan)?, &[], certificate),
            Kind::Bare => {
                let mut command = Command::new(&plan.program);
                command.arg("bench-bare");
                if let Some(certificate) = certificate {
                    certificate.give(&mut command);
                }
                let mut subject = Subject::speaking(kind, machine, command)?;
                subject.address.trust = certificate.map(|it| it.trust.clone());
                Ok(subject)
            }
            Kind::Node => {
                let mut command = Command::new("node");
                command.arg(relay(plan)?);
                Subject::speaking(kind, machine, command)
            }
        }
    }

    /// Baton with a data directory of its own, and with options (`key=value`).
    pub fn baton(
        plan: &Plan,
        machine: &Machine,
        dir: TempDir,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        Subject::serving(plan, machine, dir, options, None)
    }

    fn serving(
        plan: &Plan,
        machine: &Machine,
        dir: TempDir,
        options: &[&str],
        certificate: Option<&Certificate>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(&plan.program);
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            // What it counts is asked for by a call, so that no other port must be free.
            .args(["--metrics-listen", "off"])
            .args(["--log-level", "warn", "--data-dir"])
            .arg(dir.path());
        if let Some(certificate) = certificate {
            certificate.give(&mut command);
        }
        for option in OPEN.iter().chain(options) {
            command.args(["--set", option]);
        }
        // Whoever measures has a configuration of their own, which is not what is measured.
        command.env("BATON_CONFIG", "/dev/null");
        let (process, port) = Process::start(machine, command, Voice::Err, |line| {
            let (_, url) = line.split_once("listening on ")?;
            let (_, port) = url.trim().rsplit_once(':')?;
            port.parse().ok()
        })?;
        let file = dir.path().join(plan.token_file);
        let token = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        Ok(Subject {
            kind: Kind::Baton,
            process,
            address: Address {
                port,
                trust: certificate.map(|it| it.trust.clone()),
            },
            token: Some(Secret::new(token.trim())),
            dir: Some(dir),
        })
    }

    /// What Baton has counted under a name without labels; 0 if nothing yet.
    pub async fn counted(client: &Client, name: &str) -> anyhow::Result<f64> {
        let page = client.get_metrics(v1::GetMetricsRequest {}).await?.text;
        let value = page.lines().find_map(|line| {
            let (found, value) = line.split_once(' ')?;
            (found == name).then(|| value.trim().parse())
        });
        Ok(value.transpose()?.unwrap_or_default())
    }

    /// One of the older design under Bun, with SQLite: `normal` or `full`; `batch` gathers what comes in one turn.
    pub fn older(plan: &Plan, machine: &Machine, store: &str, batch: bool) -> anyhow::Result<Self> {
        let dir = data_dir(plan)?;
        let relay = relay(plan)?;
        let bun = relay.with_file_name("node_modules/.bin/bun");
        let mut command = Command::new(bun);
        command.arg(&relay).args(["--store", store, "--db"]);
        command.arg(dir.path().join("relay.db"));
        if batch {
            command.arg("--batch");
        }
        let mut subject = Subject::speaking(Kind::Node, machine, command)?;
        subject.dir = Some(dir);
        Ok(subject)
    }

    fn speaking(kind: Kind, machine: &Machine, command: Command) -> anyhow::Result<Self> {
        let (process, ready) = Process::start(machine, command, Voice::Out, |line| {
            serde_json::from_str::<Ready>(line).ok()
        })?;
        Ok(Subject {
            kind,
            process,
            address: Address::clear(ready.port),
            token: None,
            dir: None,
        })
    }

    /// The value of the authorization header that opens it.
    pub fn bearer(&self) -> Option<String> {
        let token = self.token.as_ref()?;
        Some(format!("Bearer {}", token.expose()))
    }

    /// Baton's client, connected.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let mut address = ServerAddress::new(self.address.url());
        address.ca = self.address.trust.as_ref().map(|it| it.pem.clone().into());
        if let Some(token) = &self.token {
            address = address.with_token(token.clone());
        }
        Ok(Client::connect(address).await?)
    }

    /// Ends it in order; the directory, to start another in.
    pub fn stop(self) -> anyhow::Result<Option<TempDir>> {
        self.process.stop()?;
        Ok(self.dir)
    }

    /// Kills it; the directory, to start another in.
    pub fn kill(self) -> anyhow::Result<Option<TempDir>> {
        self.process.kill()?;
        Ok(self.dir)
    }

    /// Its data directory.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_ref().map(TempDir::path)
    }
}

/// A directory on the disk that is measured.
pub fn data_dir(plan: &Plan) -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("baton-bench-");
    let dir = match &plan.dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    };
    dir.context("making a directory for the store")
}

fn relay(plan: &Plan) -> anyhow::Result<PathBuf> {
    let dir = plan.baselines.as_ref();
    Ok(dir
        .context("the older design is not there")?
        .join("relay.mjs"))
}
