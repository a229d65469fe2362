//! Talking with an agent, whether it runs with its protocol or in a terminal.

use bytes::Bytes;

use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::{AgentId, SessionId, TerminalId};
use crate::base::{Error, Result};
use crate::domain::session::Mode;
use crate::domain::{Delivery, Session};

/// What ends a line that is typed.
const ENTER: &[u8] = b"\r";
/// What interrupts an agent in a terminal.
const ESCAPE: &[u8] = b"\x1b";

impl App {
    /// Gives an agent text: an input of its session, or typed into its terminal and sent off. `NO_SESSION`: it is idle.
    pub async fn tell_agent(
        &self,
        caller: &Caller,
        request_id: &str,
        id: AgentId,
        text: String,
    ) -> Result<SessionId> {
        let session = self.session_to_talk_to(caller, id).await?;
        match session.mode {
            Mode::Headless => {
                self.send_input(caller, request_id, session.id, text, Delivery::Queue)
                    .await?;
            }
            Mode::Interactive => {
                if text.is_empty() {
                    return Err(Error::invalid("text", "is missing"));
                }
                let terminal = TerminalId::of(session.id);
                self.write_terminal(caller, terminal, None, Bytes::from(text))
                    .await?;
                // By itself: at the end of a longer write it would be taken for a part of what is pasted.
                self.write_terminal(caller, terminal, None, Bytes::from_static(ENTER))
                    .await?;
            }
        }
        Ok(session.id)
    }

    /// Interrupts what an agent does now; in a terminal, with the key that does it there. `NO_SESSION`: it is idle.
    pub async fn interrupt_agent(
        &self,
        caller: &Caller,
        request_id: &str,
        id: AgentId,
    ) -> Result<SessionId> {
        let session = self.session_to_talk_to(caller, id).await?;
        match session.mode {
            Mode::Headless => self.interrupt_turn(caller, request_id, session.id).await?,
            Mode::Interactive => {
                let key = Bytes::from_static(ESCAPE);
                self.write_terminal(caller, TerminalId::of(session.id), None, key)
                    .await?;
            }
        }
        Ok(session.id)
    }

    async fn session_to_talk_to(&self, caller: &Caller, id: AgentId) -> Result<Session> {
        let session = self.running_session(caller, id).await?;
        Ok(self.get_session(caller, session).await?.0)
    }
}
