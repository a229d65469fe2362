//! The real Claude Code behind Baton: a place with the CLI and a stand-in for its model, and a session there.

use std::path::{Path, PathBuf};

use baton::base::id::SessionId;
use baton::client::{FollowOptions, Followed};
use baton::domain::event::{Role, TransientBody};
use baton::domain::{Block, ContentRef, Event, EventBody};
use baton::wire::v1;
use serde_json::Value;

use super::baton::{Baton, PATIENCE, eventually};
use super::model_api::ModelApi;
use crate::claude_cli::claude_program;

/// Baton with a daemon that finds the real CLI, whose model is the stand-in.
pub struct Place {
    pub baton: Baton,
    pub api: ModelApi,
}

impl Place {
    /// With nothing in the CLI's own configuration.
    pub async fn new() -> Place {
        Self::with_settings(&Value::Null).await
    }

    /// With these settings of the CLI's own.
    pub async fn with_settings(settings: &Value) -> Place {
        Self::with(settings, |baton, _, _| baton).await
    }

    /// With these settings, and what `more` does to Baton before it starts; it is given the directory in which the
    /// daemon looks for programs first, and the URL of the model.
    pub async fn with(settings: &Value, more: impl FnOnce(Baton, &Path, &str) -> Baton) -> Place {
        let api = ModelApi::start();
        let baton = Baton::new();
        // The CLI is found by its name, as on a user's machine, and nothing of this machine's own
        // installation or settings is.
        let programs = baton.dir().join("bin");
        std::fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(claude_program(), programs.join("claude")).unwrap();
        let mut path = vec![programs.clone()];
        path.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        let path = std::env::join_paths(path).unwrap().into_string().unwrap();
        let config = baton.dir().join("config");
        std::fs::create_dir(&config).unwrap();
        if settings.is_object() {
            std::fs::write(config.join("settings.json"), settings.to_string()).unwrap();
        }
        let mut baton = baton.daemon_env("PATH", path);
        for (name, value) in [
            ("ANTHROPIC_BASE_URL", api.base_url()),
            ("ANTHROPIC_API_KEY", "stub-key-of-no-account".to_owned()),
            ("CLAUDE_CONFIG_DIR", config.to_string_lossy().into_owned()),
            ("CLAUDE_CODE_MAX_RETRIES", "1".to_owned()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
            ("DISABLE_TELEMETRY", "1".to_owned()),
            ("DISABLE_ERROR_REPORTING", "1".to_owned()),
        ] {
            baton = baton
                .daemon_env(name, value)
                .daemon_flags(&["--pass-env", name]);
        }
        let mut baton = more(baton, &programs, &api.base_url());
        baton.start_server().await;
        baton.start_daemon().await;
        Place { baton, api }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.baton.project().join(name)
    }

    pub async fn session(&self, input: &str) -> Talk<'_> {
        let session = self.baton.session("claude-code", input).await;
        assert_eq!(session.harness, "claude-code");
        Talk {
            place: self,
            id: session.id,
        }
    }

    /// A session of another harness.
    pub async fn session_of(&self, harness: &str, input: &str) -> Talk<'_> {
        self.talk(self.baton.session(harness, input).await)
    }

    /// A session of another id, made by a call.
    pub fn talk(&self, session: v1::Session) -> Talk<'_> {
        Talk {
            place: self,
            id: session.id,
        }
    }

    /// What the model was sent last.
    pub fn last_request(&self) -> Value {
        let requests = self.api.requests();
        let sent = requests
            .iter()
            .rev()
            .find(|request| request.path == "/v1/messages");
        sent.expect("a request").body.clone()
    }
}

/// One session.
pub struct Talk<'a> {
    pub place: &'a Place,
    pub id: String,
}

/// The end of a turn.
#[derive(Debug)]
pub struct Turn {
    pub is_error: bool,
    pub reason: String,
    pub text: String,
    pub api_status: u32,
    pub inputs: usize,
}

impl Talk<'_> {
    pub async fn events(&self) -> Vec<Event> {
        self.place.baton.events(&self.id).await
    }

    pub async fn say(&self, text: &str) {
        self.place.baton.say(&self.id, text).await;
    }

    pub async fn record(&self) -> v1::Session {
        self.place.baton.record(&self.id).await
    }

    /// Waits for the end of the session's `number`th turn, from 1, which must be the last so far.
    pub async fn turn(&self, number: usize) -> Turn {
        let what = format!("the end of turn {number}");
        let turns = eventually(&what, || async {
            let turns = turns(&self.events().await);
            (turns.len() >= number).then_some(turns)
        })
        .await;
        assert_eq!(turns.len(), number, "{turns:?}");
        turns.into_iter().last().unwrap()
    }

    pub async fn prompt(&self) -> v1::Prompt {
        self.place.baton.prompt(&self.id).await
    }

    pub async fn answer(&self, prompt: &v1::Prompt, answer: v1::answer_prompt_request::Answer) {
        self.place.baton.answer(prompt, answer).await;
    }

    pub async fn decide(&self, prompt: &v1::Prompt, decision: v1::Decision) {
        self.place.baton.decide(prompt, decision).await;
    }

    /// Waits until a piece of text arrives live: the model is in the midst of its answer.
    pub async fn streaming(&self) {
        let id: SessionId = self.id.parse().unwrap();
        let client = self.place.baton.client();
        let mut follow = client.follow(
            id,
            FollowOptions {
                transients: true,
                ..FollowOptions::default()
            },
        );
        let live = async {
            loop {
                if let Followed::Transient(transient) = follow.next().await.unwrap()
                    && let TransientBody::MessageDelta { text, .. } = transient.body
                    && text.contains("chunk")
                {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, live)
            .await
            .expect("live text");
    }

    /// The agent's process id, which every `Started` event must agree on.
    pub async fn pid(&self) -> u32 {
        let mut pids: Vec<u32> = self
            .events()
            .await
            .iter()
            .filter_map(|event| match event.body {
                EventBody::Started { pid, .. } => Some(pid),
                _ => None,
            })
            .collect();
        pids.dedup();
        assert_eq!(pids.len(), 1, "one process: {pids:?}");
        pids[0]
    }

    pub async fn end(&self) {
        self.place.baton.end(&self.id).await;
    }

    /// What the agent said, message by message.
    pub async fn said(&self) -> Vec<String> {
        said(&self.events().await)
    }

    pub async fn content(&self, reference: &ContentRef) -> Vec<u8> {
        self.place.baton.content(&self.id, reference).await
    }
}

pub fn turns(events: &[Event]) -> Vec<Turn> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::TurnEnded {
                is_error,
                reason,
                text,
                api_status,
                input_ids,
                ..
            } => Some(Turn {
                is_error: *is_error,
                reason: reason.clone(),
                text: text.clone(),
                api_status: *api_status,
                inputs: input_ids.len(),
            }),
            _ => None,
        })
        .collect()
}

/// What the agent said, message by message.
pub fn said(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Message {
                role: Role::Agent,
                blocks,
                ..
            } => Some(
                blocks
                    .iter()
                    .filter_map(|block| match block {
                        Block::Text(text) => Some(text.as_str()),
                        _ => None,
                    })
                    .collect::<String>(),
            ),
            _ => None,
        })
        .collect()
}

pub fn is_alive(pid: u32) -> bool {
    let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
    String::from_utf8_lossy(&line.unwrap_or_default()).contains("--input-format")
}
