//! Sessions as a test handles them: started, talked to, answered, looked at.

use std::time::{Duration, Instant};

use baton::client::Client;
use baton::domain::{ContentRef, Event, EventBody};
use baton::wire::status::error_from_status;
use baton::wire::v1;

use super::baton::{Baton, PATIENCE, eventually};

/// An allow and nothing else.
pub fn allowed() -> v1::Decision {
    v1::Decision {
        allow: true,
        ..Default::default()
    }
}

/// A deny with a word why.
pub fn denied(message: &str) -> v1::Decision {
    v1::Decision {
        message: message.to_owned(),
        ..Default::default()
    }
}

/// How many events `is` accepts.
pub fn count(events: &[Event], is: impl Fn(&EventBody) -> bool) -> usize {
    events.iter().filter(|event| is(&event.body)).count()
}

/// How many turns have ended.
pub fn ended_turns(events: &[Event]) -> usize {
    count(events, |body| matches!(body, EventBody::TurnEnded { .. }))
}

impl Baton {
    /// Asks for a session of the demo agent in the project.
    pub fn demo(&self, input: &str) -> v1::CreateSessionRequest {
        v1::CreateSessionRequest {
            harness: "demo".to_owned(),
            input: input.to_owned(),
            cwd: self.project().to_string_lossy().into_owned(),
            ..Default::default()
        }
    }

    /// Asks for a session of a shell script in the project.
    pub fn shell(&self, script: &str) -> v1::CreateSessionRequest {
        v1::CreateSessionRequest {
            harness: "command".to_owned(),
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..self.demo("")
        }
    }

    /// Makes a session; its id.
    pub async fn create(&self, request: v1::CreateSessionRequest) -> String {
        let made = self.client().create_session(request).await.unwrap();
        made.session.unwrap().id
    }

    /// A session's record.
    pub async fn record(&self, id: &str) -> v1::Session {
        let request = v1::GetSessionRequest {
            session_id: id.to_owned(),
        };
        let answer = self.client().get_session(request).await.unwrap();
        answer.session.unwrap()
    }

    /// Waits until a session's record is as `is` wants it.
    pub async fn record_is(
        &self,
        id: &str,
        what: &str,
        is: impl Fn(&v1::Session) -> bool,
    ) -> v1::Session {
        eventually(what, || async { Some(self.record(id).await).filter(&is) }).await
    }

    /// Waits until a session's lifecycle is this.
    pub async fn reaches(&self, id: &str, lifecycle: v1::Lifecycle) -> v1::Session {
        self.record_is(id, &format!("{lifecycle:?}"), |session| {
            session.lifecycle() == lifecycle
        })
        .await
    }

    /// Waits until so many turns have ended; the whole log.
    pub async fn turns(&self, id: &str, count: usize) -> Vec<Event> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        loop {
            let events = self.events(id).await;
            if ended_turns(&events) >= count {
                return events;
            }
            if Instant::now() >= deadline {
                let last = &events[events.len().saturating_sub(20)..];
                let session = self.record(id).await;
                panic!("{count} turns end: not within {PATIENCE:?}: {session:#?}, {last:#?}");
            }
            pause.tick().await;
        }
    }

    /// Sends an input.
    pub async fn say(&self, id: &str, text: &str) -> v1::Input {
        self.send(id, text, v1::Delivery::Queue).await
    }

    /// Sends an input that is delivered like this.
    pub async fn send(&self, id: &str, text: &str, delivery: v1::Delivery) -> v1::Input {
        let request = v1::SendInputRequest {
            session_id: id.to_owned(),
            text: text.to_owned(),
            delivery: delivery.into(),
            ..Default::default()
        };
        let sent = self.client().send_input(request).await.unwrap();
        sent.input.unwrap()
    }

    /// Waits until a prompt of a session waits.
    pub async fn prompt(&self, id: &str) -> v1::Prompt {
        eventually("a prompt", || async { self.pending(id).await.pop() }).await
    }

    /// Answers a prompt.
    pub async fn answer(
        &self,
        prompt: &v1::Prompt,
        answer: v1::answer_prompt_request::Answer,
    ) -> v1::AnswerPromptResponse {
        let request = v1::AnswerPromptRequest {
            prompt_id: prompt.id.clone(),
            session_id: prompt.session_id.clone(),
            answer: Some(answer),
            ..Default::default()
        };
        self.client().answer_prompt(request).await.unwrap()
    }

    /// Allows or denies a prompt.
    pub async fn decide(
        &self,
        prompt: &v1::Prompt,
        decision: v1::Decision,
    ) -> v1::AnswerPromptResponse {
        let answer = v1::answer_prompt_request::Answer::Decision(decision);
        self.answer(prompt, answer).await
    }

    /// Ends a session and waits for its end.
    pub async fn end(&self, id: &str) {
        let request = v1::EndSessionRequest {
            session_id: id.to_owned(),
            ..Default::default()
        };
        self.client().end_session(request).await.unwrap();
        self.wait_for(id, "the session ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    }

    /// Large content of a session.
    pub async fn content(&self, id: &str, reference: &ContentRef) -> Vec<u8> {
        let mut bytes = Vec::new();
        let request = v1::GetContentRequest {
            session_id: id.to_owned(),
            sha256: reference.sha256.clone(),
            offset: 0,
        };
        let pieces = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        self.client().content(request, pieces).await.unwrap();
        bytes
    }
}

/// Watches one session's log from a place.
pub async fn watch(
    client: &Client,
    id: &str,
    log_epoch: u64,
    after_seq: u64,
) -> baton::base::Result<tonic::Streaming<v1::WatchResponse>> {
    let request = v1::WatchRequest {
        scopes: vec![v1::Scope {
            scope: Some(v1::scope::Scope::Session(v1::SessionScope {
                session_id: id.to_owned(),
                log_epoch,
                after_seq,
                tail: false,
            })),
        }],
        ..Default::default()
    };
    let opened = client.events().watch(request).await;
    opened
        .map(tonic::Response::into_inner)
        .map_err(|status| error_from_status(&status))
}
