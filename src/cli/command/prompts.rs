//! `baton prompts`: what agents ask.

use crate::base::{Clock as _, SystemClock};
use crate::cli::args::{Global, PromptsArgs};
use crate::cli::ask::Asking;
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::style::Tone;
use crate::cli::output::table::Table;
use crate::cli::output::{Out, event, json};
use crate::cli::{resolve, value};
use crate::wire::prompt::prompt_from_pb;
use crate::wire::v1;

/// `baton prompts`
pub async fn run(global: &Global, out: &Out, args: PromptsArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    if let Some(typed) = &args.prompt {
        let id = resolve::prompt(&client, typed).await?;
        let response = client
            .get_prompt(v1::GetPromptRequest {
                prompt_id: id.to_string(),
            })
            .await?;
        let pb = crate::wire::field::required(response.prompt, "prompt")?;
        if out.json {
            out.value(&json::prompt(&pb))?;
            return Ok(DONE);
        }
        let prompt = prompt_from_pb(pb)?;
        out.line(&format!("{} of {}", prompt.id, prompt.session_id))?;
        out.line(&Asking::new(prompt.clone()).everything(out.style))?;
        if let Some(answer) = &prompt.answer {
            out.line(&event::answered(answer))?;
        }
        return Ok(DONE);
    }
    let session_id = match &args.session {
        Some(typed) => resolve::session(&client, typed).await?.to_string(),
        None => String::new(),
    };
    let states = if args.all {
        Vec::new()
    } else {
        vec![v1::PromptState::Pending.into()]
    };
    let page = client
        .list_prompts(v1::ListPromptsRequest {
            session_id,
            states,
            page_size: 500,
            page_token: String::new(),
        })
        .await?;
    if out.json {
        for prompt in &page.prompts {
            out.value(&json::prompt(prompt))?;
        }
        return Ok(DONE);
    }
    if page.prompts.is_empty() {
        out.note("nobody asks anything");
        return Ok(DONE);
    }
    let now = SystemClock.now();
    let mut table = Table::new(&["ID", "SESSION", "KIND", "STATE", "AGE", "WHAT"]);
    for pb in page.prompts {
        let word = |name: &str, prefix| name.strip_prefix(prefix).unwrap_or(name).to_lowercase();
        let kind = word(pb.kind().as_str_name(), "PROMPT_KIND_");
        let state = word(pb.state().as_str_name(), "PROMPT_STATE_");
        let waits = pb.state() == v1::PromptState::Pending;
        let prompt = prompt_from_pb(pb)?;
        let (id, session) = (prompt.id.to_string(), prompt.session_id.to_string());
        let asked = event::asked(&prompt);
        // The id has a column of its own.
        let asked = asked
            .split_once("] ")
            .map_or(asked.as_str(), |(_, text)| text);
        table.row([
            (Tone::Name, resolve::short(&id).to_owned()),
            (Tone::Dim, resolve::short(&session).to_owned()),
            (Tone::Plain, kind),
            (if waits { Tone::Warn } else { Tone::Dim }, state),
            (Tone::Dim, value::ago(now, prompt.requested_at)),
            (Tone::Plain, asked.to_owned()),
        ]);
    }
    out.line(&table.render(out.style, out.width))?;
    if !page.next_page_token.is_empty() {
        out.note("there are more");
    }
    Ok(DONE)
}
