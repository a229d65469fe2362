//! Looking at prompts.

use crate::app::App;
use crate::app::failure;
use crate::app::records;
use crate::base::id::{PromptId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result};
use crate::domain::Prompt;
use crate::domain::prompt::PromptState;

/// How many records one call looks at before it gives back a shorter page.
const SCAN_LIMIT: usize = 10_000;

impl App {
    /// One prompt, with its revision.
    pub async fn get_prompt(&self, id: PromptId) -> Result<(Prompt, u64)> {
        records::get(self.store().as_ref(), &records::prompt_key(id))
            .await?
            .ok_or_else(|| Error::not_found("prompt", id))
    }

    /// Prompts: those that wait first, oldest first; then the others, newest first.
    pub async fn list_prompts(
        &self,
        session: Option<SessionId>,
        states: &[PromptState],
        page: &PageRequest,
    ) -> Result<Page<(Prompt, u64)>> {
        let wanted = |state: PromptState| states.is_empty() || states.contains(&state);
        // A page's key says which part of the list it is in: `w/` those that wait, `o/` the others.
        let (part, after) = match page.after.as_deref() {
            None => ("w", None),
            Some(key) => match key.split_once('/') {
                Some((part @ ("w" | "o"), "")) => (part, None),
                Some((part @ ("w" | "o"), id)) => (part, Some(id.parse::<PromptId>()?)),
                _ => return Err(Error::invalid("page_token", "is not one of this list")),
            },
        };
        let mut items = Vec::new();
        let mut resume = after;
        if part == "w" {
            if wanted(PromptState::Pending) {
                let next = self.waiting(session, after, page.size, &mut items).await?;
                if let Some(id) = next {
                    return Ok(Page {
                        items,
                        next: Some(format!("w/{id}")),
                    });
                }
            }
            resume = None;
        }
        if !states.is_empty() && states == [PromptState::Pending] {
            return Ok(Page { items, next: None });
        }
        let next = self
            .settled(session, states, resume, page.size, &mut items)
            .await?;
        Ok(Page {
            items,
            next: next.map(|id| format!("o/{id}")),
        })
    }

    async fn waiting(
        &self,
        session: Option<SessionId>,
        after: Option<PromptId>,
        size: usize,
        items: &mut Vec<(Prompt, u64)>,
    ) -> Result<Option<PromptId>> {
        let mut after = after.map(records::pending_prompt_key);
        loop {
            let marks = self
                .store()
                .scan(records::PENDING_PROMPTS, after.as_deref(), 200)
                .await
                .map_err(failure::from_store)?;
            for mark in &marks {
                if session.is_some_and(|id| mark.value.as_ref() != id.to_string().as_bytes()) {
                    continue;
                }
                let id = mark.key.trim_start_matches(records::PENDING_PROMPTS);
                let id: PromptId = id.parse().map_err(Error::internal)?;
                if items.len() == size {
                    return Ok(items.last().map(|(prompt, _)| prompt.id));
                }
                if let Some(found) =
                    records::get(self.store().as_ref(), &records::prompt_key(id)).await?
                {
                    items.push(found);
                }
            }
            match marks.last() {
                Some(last) if marks.len() == 200 => after = Some(last.key.clone()),
                _ => return Ok(None),
            }
        }
    }

    async fn settled(
        &self,
        session: Option<SessionId>,
        states: &[PromptState],
        before: Option<PromptId>,
        size: usize,
        items: &mut Vec<(Prompt, u64)>,
    ) -> Result<Option<PromptId>> {
        let mut before = before.map(records::prompt_key);
        let mut looked_at = 0;
        loop {
            let page = self
                .store()
                .scan_back(records::PROMPTS, before.as_deref(), 200)
                .await
                .map_err(failure::from_store)?;
            for record in &page {
                if items.len() >= size {
                    let key = before.as_deref().unwrap_or_default();
                    return Ok(key.trim_start_matches(records::PROMPTS).parse().ok());
                }
                let prompt: Prompt = records::decode(record)?;
                let fits = prompt.state != PromptState::Pending
                    && session.is_none_or(|id| id == prompt.session_id)
                    && (states.is_empty() || states.contains(&prompt.state));
                before = Some(record.key.clone());
                looked_at += 1;
                if fits {
                    items.push((prompt, record.revision));
                }
            }
            if page.len() < 200 {
                return Ok(None);
            }
            if looked_at >= SCAN_LIMIT {
                let key = before.as_deref().unwrap_or_default();
                return Ok(key.trim_start_matches(records::PROMPTS).parse().ok());
            }
        }
    }
}
