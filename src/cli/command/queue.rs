//! `baton queue`: the inputs that wait for an agent.

use super::text;
use crate::cli::args::{Global, QueueAction, QueueArgs};
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::style::Tone;
use crate::cli::output::table::Table;
use crate::cli::output::{Out, json};
use crate::cli::resolve;
use crate::client::Client;
use crate::wire::v1;

/// `baton queue`
pub async fn run(global: &Global, out: &Out, args: QueueArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let session = resolve::session(&client, &args.session).await?;
    let session_id = session.to_string();
    match args.action.unwrap_or(QueueAction::List { all: false }) {
        QueueAction::List { all } => {
            if !all {
                return show(out, &queued(&client, session_id).await?);
            }
            let page = client
                .list_inputs(v1::ListInputsRequest {
                    session_id,
                    states: Vec::new(),
                    page_size: 1_000,
                    page_token: String::new(),
                })
                .await?;
            show(out, &page.inputs)
        }
        QueueAction::Edit { input, text: new } => {
            let new = text(&new)?;
            let id = resolve::input(&client, session, &input).await?;
            client
                .update_input(v1::UpdateInputRequest {
                    session_id: session_id.clone(),
                    input_id: id.to_string(),
                    text: new,
                    etag: String::new(),
                })
                .await?;
            show(out, &queued(&client, session_id).await?)
        }
        QueueAction::Move { input, position } => {
            let id = resolve::input(&client, session, &input).await?;
            let response = client
                .move_input(v1::MoveInputRequest {
                    session_id,
                    input_id: id.to_string(),
                    position,
                })
                .await?;
            show(out, &response.inputs)
        }
        QueueAction::Withdraw { input } => {
            let id = resolve::input(&client, session, &input).await?;
            client
                .withdraw_input(v1::WithdrawInputRequest {
                    session_id: session_id.clone(),
                    input_id: id.to_string(),
                })
                .await?;
            out.note(&format!("{id} is withdrawn"));
            show(out, &queued(&client, session_id).await?)
        }
    }
}

/// What waits now, in order.
async fn queued(client: &Client, session_id: String) -> anyhow::Result<Vec<v1::Input>> {
    let page = client
        .list_inputs(v1::ListInputsRequest {
            session_id,
            states: vec![v1::InputState::Queued.into()],
            page_size: 1_000,
            page_token: String::new(),
        })
        .await?;
    Ok(page.inputs)
}

fn show(out: &Out, inputs: &[v1::Input]) -> anyhow::Result<u8> {
    if out.json {
        for input in inputs {
            out.value(&json::input(input))?;
        }
    } else if inputs.is_empty() {
        out.note("nothing waits");
    } else {
        let mut table = Table::new(&["#", "ID", "STATE", "FROM", "TEXT"]);
        for input in inputs {
            let state = input.state().as_str_name();
            let position = match input.position {
                0 => String::new(),
                position => position.to_string(),
            };
            let from = input.actor.as_ref().map(|actor| actor.name.clone());
            let state = state.strip_prefix("INPUT_STATE_").unwrap_or(state);
            table.row([
                (Tone::Plain, position),
                (Tone::Name, resolve::short(&input.id).to_owned()),
                (Tone::Dim, state.to_lowercase()),
                (Tone::Dim, from.unwrap_or_default()),
                (Tone::Plain, input.text.clone()),
            ]);
        }
        out.line(&table.render(out.style, out.width))?;
    }
    Ok(DONE)
}
