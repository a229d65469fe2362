//! Looking at prompts.

use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::app::records;
use crate::app::sight::Sight;
use crate::base::id::{PromptId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result};
use crate::domain::Prompt;
use crate::domain::prompt::PromptState;

/// How many records one call looks at before it gives back a shorter page.
const SCAN_LIMIT: usize = 10_000;

/// Which prompts are wanted.
struct Wanted<'a> {
    session: Option<SessionId>,
    states: &'a [PromptState],
    sight: Sight<'a>,
}

impl Wanted<'_> {
    fn state(&self, state: PromptState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// Whether prompts of this session are wanted and the caller's to see.
    async fn of(&mut self, session: SessionId) -> Result<bool> {
        Ok(self.session.is_none_or(|id| id == session) && self.sight.sees(session).await?)
    }
}

impl App {
    /// One prompt, with its revision. NOT_FOUND: there is none, or it is not the caller's to see.
    pub async fn get_prompt(&self, caller: &Caller, id: PromptId) -> Result<(Prompt, u64)> {
        let missing = || Error::not_found("prompt", id);
        let (prompt, revision) = self.prompt_record(id).await?.ok_or_else(missing)?;
        if !self.sees(caller, prompt.session_id).await? {
            return Err(missing());
        }
        Ok((prompt, revision))
    }

    /// A prompt's record with its revision, whoever asks; `None` if there is none.
    pub(super) async fn prompt_record(&self, id: PromptId) -> Result<Option<(Prompt, u64)>> {
        records::get(self.store().as_ref(), &records::prompt_key(id)).await
    }

    /// Prompts that the caller sees: those that wait first, oldest first; then the others, newest first.
    pub async fn list_prompts(
        &self,
        caller: &Caller,
        session: Option<SessionId>,
        states: &[PromptState],
        page: &PageRequest,
    ) -> Result<Page<(Prompt, u64)>> {
        let mut wanted = Wanted {
            session,
            states,
            sight: Sight::of(self, caller),
        };
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
            if wanted.state(PromptState::Pending) {
                let next = self
                    .waiting(&mut wanted, after, page.size, &mut items)
                    .await?;
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
        // A shorter page would tell a narrowed caller of the prompts that were looked at in vain.
        let limit = match caller.narrowing {
            Some(_) => usize::MAX,
            None => SCAN_LIMIT,
        };
        let next = self
            .settled(&mut wanted, resume, limit, page.size, &mut items)
            .await?;
        Ok(Page { items, next })
    }

    async fn waiting(
        &self,
        wanted: &mut Wanted<'_>,
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
                let session = std::str::from_utf8(&mark.value).map_err(Error::internal)?;
                if !wanted.of(session.parse().map_err(Error::internal)?).await? {
                    continue;
                }
                let id = mark.key.trim_start_matches(records::PENDING_PROMPTS);
                let id: PromptId = id.parse().map_err(Error::internal)?;
                if items.len() == size {
                    return Ok(items.last().map(|(prompt, _)| prompt.id));
                }
                items.extend(self.prompt_record(id).await?);
            }
            match marks.last() {
                Some(last) if marks.len() == 200 => after = Some(last.key.clone()),
                _ => return Ok(None),
            }
        }
    }

    /// Adds settled prompts; the key to go on with, if there are more.
    async fn settled(
        &self,
        wanted: &mut Wanted<'_>,
        before: Option<PromptId>,
        limit: usize,
        size: usize,
        items: &mut Vec<(Prompt, u64)>,
    ) -> Result<Option<String>> {
        let mut before = before.map(records::prompt_key);
        // That there is more, and where it begins, is said of what was given only.
        let mut given = String::from("o/");
        let mut looked_at = 0;
        loop {
            let page = self
                .store()
                .scan_back(records::PROMPTS, before.as_deref(), 200)
                .await
                .map_err(failure::from_store)?;
            for record in &page {
                let prompt: Prompt = records::decode(record)?;
                before = Some(record.key.clone());
                looked_at += 1;
                if prompt.state == PromptState::Pending
                    || !wanted.state(prompt.state)
                    || !wanted.of(prompt.session_id).await?
                {
                    continue;
                }
                if items.len() >= size {
                    return Ok(Some(given));
                }
                given = format!("o/{}", prompt.id);
                items.push((prompt, record.revision));
            }
            if page.len() < 200 {
                return Ok(None);
            }
            if looked_at >= limit {
                let key = before.as_deref().unwrap_or_default();
                let id = key.trim_start_matches(records::PROMPTS);
                return Ok(Some(format!("o/{id}")));
            }
        }
    }
}
