//! `attach`, `send`, `interrupt`, `end`, `suspend`, `set`, `resume`, `fork`, `delete`: what is done to one session.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::{request_id, text};
use crate::cli::args::{
    AttachArgs, DeleteArgs, EndArgs, ForkArgs, Global, ResumeArgs, SendArgs, SetArgs,
};
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, FAILED, usage};
use crate::cli::output::style::visible_line;
use crate::cli::output::{Out, json};
use crate::cli::session_view::{Settings, has_person, watch};
use crate::cli::{resolve, terminal_view};
use crate::client::Client;
use crate::wire::enums::permission_mode_to_pb;
use crate::wire::v1;

/// A word for a session's state, for people.
pub fn state(session: &v1::Session) -> String {
    let word = |name: &str, prefix| name.strip_prefix(prefix).unwrap_or(name).to_lowercase();
    let lifecycle = word(session.lifecycle().as_str_name(), "LIFECYCLE_");
    let mut text = match session.lifecycle() {
        v1::Lifecycle::Running => match session.activity() {
            v1::Activity::AwaitingInput => "idle".to_owned(),
            v1::Activity::AwaitingPrompt => "asks".to_owned(),
            v1::Activity::Working => "working".to_owned(),
            _ => lifecycle,
        },
        v1::Lifecycle::Ended => match &session.end {
            Some(end) => word(end.reason().as_str_name(), "END_REASON_"),
            None => lifecycle,
        },
        _ => lifecycle,
    };
    let is_over = matches!(
        session.lifecycle(),
        v1::Lifecycle::Ended | v1::Lifecycle::Suspended
    );
    if !session.attached && !is_over {
        text.push_str(" (detached)");
    }
    text
}

fn shown(out: &Out, session: Option<&v1::Session>) -> anyhow::Result<u8> {
    if let Some(session) = session {
        out.show(&json::session(session), || {
            format!("{} {}", session.id, state(session))
        })?;
    }
    Ok(DONE)
}

/// `baton attach`
pub async fn attach(global: &Global, out: &Out, args: AttachArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let id = super::terminal::session_id(&client, &args.session).await?;
    let session = client
        .get_session(v1::GetSessionRequest {
            session_id: id.to_string(),
        })
        .await?
        .session
        .unwrap_or_default();
    if session.mode() == v1::SessionMode::Interactive {
        let settings = terminal_view::Settings {
            key: args.detach_key,
            tail: args.tail,
        };
        return terminal_view::attach(&client, out, &session.terminal_id, settings).await;
    }
    out.note(&format!(
        "{} {} in {}",
        session.id,
        visible_line(&session.title),
        visible_line(&session.cwd)
    ));
    let settings = Settings {
        interactive: has_person(out),
        ..Settings::default()
    };
    watch(&client, out, id, settings).await
}

/// `baton send`
pub async fn send(global: &Global, out: &Out, args: SendArgs) -> anyhow::Result<u8> {
    let text = text(&args.text)?;
    let client = connect(global).await?;
    let id = resolve::session(&client, &args.session).await?;
    let delivery = if args.steer {
        v1::Delivery::Steer
    } else {
        v1::Delivery::Queue
    };
    let input = client
        .send_input(v1::SendInputRequest {
            request_id: request_id(),
            session_id: id.to_string(),
            text,
            delivery: delivery.into(),
        })
        .await?
        .input
        .unwrap_or_default();
    out.show(&json::input(&input), || match input.state() {
        v1::InputState::Queued => format!("{} queued at place {}", input.id, input.position),
        state => {
            let name = state.as_str_name();
            let name = name.strip_prefix("INPUT_STATE_").unwrap_or(name);
            format!("{} {}", input.id, name.to_lowercase())
        }
    })?;
    Ok(DONE)
}

/// `baton interrupt`
pub async fn interrupt(global: &Global, out: &Out, typed: &str) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let id = resolve::session(&client, typed).await?;
    let response = client
        .interrupt_turn(v1::InterruptTurnRequest {
            request_id: request_id(),
            session_id: id.to_string(),
        })
        .await?;
    shown(out, response.session.as_ref())
}

/// `baton end`
pub async fn end(global: &Global, out: &Out, args: EndArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let id = resolve::session(&client, &args.session).await?;
    let response = client
        .end_session(v1::EndSessionRequest {
            request_id: request_id(),
            session_id: id.to_string(),
            force: args.force,
        })
        .await?;
    shown(out, response.session.as_ref())
}

/// `baton set`
pub async fn set(global: &Global, out: &Out, args: SetArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let id = resolve::session(&client, &args.session).await?;
    let response = client
        .set_session_options(v1::SetSessionOptionsRequest {
            request_id: request_id(),
            session_id: id.to_string(),
            model: args.model.clone(),
            permission_mode: args
                .permission_mode
                .map(|mode| permission_mode_to_pb(mode).into())
                .unwrap_or_default(),
        })
        .await?;
    let session = crate::wire::field::required(response.session, "session")?;
    out.show(&json::session(&session), || {
        let model = args.model.as_deref().map(|model| match model {
            "" => "the default model".to_owned(),
            model => format!("model {}", visible_line(model)),
        });
        let mode = args
            .permission_mode
            .map(|mode| format!("permission mode {}", mode.as_str()));
        let asked: Vec<String> = [model, mode].into_iter().flatten().collect();
        // The log says when the agent has it.
        format!("{} is told: {}", session.id, asked.join(", "))
    })?;
    Ok(DONE)
}

/// `baton delete`
pub async fn delete(global: &Global, out: &Out, args: DeleteArgs) -> anyhow::Result<u8> {
    let may_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !args.yes && !may_ask {
        return Err(usage(
            "deleting takes a session's whole log away; say --yes where nobody can be asked",
        ));
    }
    let client = connect(global).await?;
    let id = resolve::session(&client, &args.session).await?;
    if !args.yes {
        let session = client
            .get_session(v1::GetSessionRequest {
                session_id: id.to_string(),
            })
            .await?
            .session
            .unwrap_or_default();
        let question = format!(
            "delete {id} ({}) and its whole log? [y/N] ",
            visible_line(&session.title)
        );
        if !confirmed(&question)? {
            out.note("nothing was deleted");
            return Ok(FAILED);
        }
    }
    client
        .delete_session(v1::DeleteSessionRequest {
            session_id: id.to_string(),
        })
        .await?;
    out.show(&serde_json::json!({ "deleted": id.to_string() }), || {
        format!("{id} is deleted")
    })?;
    Ok(DONE)
}

/// Whether somebody at the terminal says yes.
fn confirmed(question: &str) -> anyhow::Result<bool> {
    let mut terminal = std::io::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(
        line.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// `baton suspend`
pub async fn suspend(global: &Global, out: &Out, typed: &str) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let id = resolve::session(&client, typed).await?;
    let response = client
        .suspend_session(v1::SuspendSessionRequest {
            request_id: request_id(),
            session_id: id.to_string(),
        })
        .await?;
    shown(out, response.session.as_ref())
}

/// `baton resume`
pub async fn resume(global: &Global, out: &Out, args: ResumeArgs) -> anyhow::Result<u8> {
    let input = args.text.as_deref().map(text).transpose()?;
    let client = connect(global).await?;
    let id = resolve::session(&client, &args.session).await?;
    let response = client
        .resume_session(v1::ResumeSessionRequest {
            request_id: request_id(),
            session_id: id.to_string(),
            input: input.clone().unwrap_or_default(),
            force: args.force,
            permission_mode: args
                .permission_mode
                .map(|mode| permission_mode_to_pb(mode).into())
                .unwrap_or_default(),
            model: args.model.unwrap_or_default(),
        })
        .await?;
    begun(&client, out, response.session, args.follow, input.is_some()).await
}

/// `baton fork`
pub async fn fork(global: &Global, out: &Out, args: ForkArgs) -> anyhow::Result<u8> {
    let input = args.text.as_deref().map(text).transpose()?;
    let client = connect(global).await?;
    let id = resolve::session(&client, &args.session).await?;
    let response = client
        .fork_session(v1::ForkSessionRequest {
            request_id: request_id(),
            session_id: id.to_string(),
            input: input.clone().unwrap_or_default(),
        })
        .await?;
    begun(&client, out, response.session, args.follow, input.is_some()).await
}

/// A new session: says its id and follows it if asked to. Without anybody to type, following ends when
/// the agent has nothing to do, if it was given something.
pub async fn begun(
    client: &Client,
    out: &Out,
    session: Option<v1::Session>,
    follow: bool,
    has_input: bool,
) -> anyhow::Result<u8> {
    let session = crate::wire::field::required(session, "session")?;
    if !follow {
        out.show(&json::session(&session), || session.id.clone())?;
        return Ok(DONE);
    }
    if out.json {
        out.value(&serde_json::json!({ "type": "session", "session": json::session(&session) }))?;
    }
    out.note(&out.style.paint(
        crate::cli::output::style::Tone::Dim,
        &format!(
            "{} · {} in {}",
            session.id,
            session.harness,
            visible_line(&session.cwd)
        ),
    ));
    let interactive = has_person(out);
    let settings = Settings {
        interactive,
        until_idle: !interactive && has_input,
        one_shot: session.one_shot,
        ..Settings::default()
    };
    watch(client, out, session.id.parse()?, settings).await
}
