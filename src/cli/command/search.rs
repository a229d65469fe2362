//! `baton search`: words in transcripts.

use crate::cli::args::{Global, SearchArgs};
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::style::{Tone, visible_line};
use crate::cli::output::{Out, json};
use crate::cli::resolve;
use crate::wire::enums::event_kind_to_pb;
use crate::wire::v1;

/// `baton search`
pub async fn run(global: &Global, out: &Out, args: SearchArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let session_id = match &args.session {
        Some(typed) => resolve::session(&client, typed).await?.to_string(),
        None => String::new(),
    };
    let mut found = 0;
    let mut page_token = String::new();
    while found < args.limit {
        let page = client
            .search_events(v1::SearchEventsRequest {
                query: query(&args.words),
                session_id: session_id.clone(),
                kinds: args
                    .kinds
                    .iter()
                    .map(|kind| event_kind_to_pb(*kind).into())
                    .collect(),
                page_size: i32::try_from((args.limit - found).min(500)).unwrap_or(500),
                page_token,
            })
            .await?;
        found += page.hits.len();
        for hit in &page.hits {
            out.show(&json::hit(hit), || {
                let place = format!("{}:{}", resolve::short(&hit.session_id), hit.seq);
                format!(
                    "{}  {}",
                    out.style.paint(Tone::Name, &place),
                    marked(out, &hit.snippet)
                )
            })?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if found == 0 {
        out.note("nothing was found");
    }
    Ok(DONE)
}

/// The words as one query; what the shell kept together stays together.
fn query(words: &[String]) -> String {
    words
        .iter()
        .map(|word| {
            let is_phrase = word.contains(char::is_whitespace) && !word.contains('"');
            if words.len() > 1 && is_phrase {
                format!("\"{word}\"")
            } else {
                word.clone()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// The snippet with the words that were found made strong.
fn marked(out: &Out, snippet: &str) -> String {
    let mut text = String::new();
    for (number, part) in visible_line(snippet).split('‹').enumerate() {
        match part.split_once('›') {
            Some((word, rest)) if number > 0 => {
                text.push_str(&out.style.paint(Tone::Strong, word));
                text.push_str(rest);
            }
            _ => text.push_str(part),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::style::Style;

    #[test]
    fn what_the_shell_kept_together_is_a_phrase() {
        let words =
            |words: &[&str]| query(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["a", "b c"]), "a \"b c\"");
        assert_eq!(words(&["a b"]), "a b");
        assert_eq!(words(&["\"a b\"", "c*"]), "\"a b\" c*");
    }

    #[test]
    fn found_words_are_marked() {
        let (mut out, _) = Out::memory(false);
        out.style = Style::new(true);
        assert_eq!(marked(&out, "a ‹b› c"), "a \x1b[1mb\x1b[0m c");
        assert_eq!(marked(&out, "a › ‹b"), "a › b");
    }
}
