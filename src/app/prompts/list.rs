//! Looking at prompts.

use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::app::records;
use crate::app::sessions::index;
use crate::app::sight::Sight;
use crate::base::id::{PromptId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result};
use crate::domain::Prompt;
use crate::domain::prompt::PromptState;
use crate::store::Record;

/// How many records one call looks at before it gives back a shorter page.
const SCAN_LIMIT: usize = 10_000;
/// How many records are read at once.
const CHUNK: usize = 200;

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

    /// Whether prompts of this session are the caller's to see.
    async fn sees(&mut self, session: SessionId) -> Result<bool> {
        self.sight.sees(session).await
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
        if let Some(session) = session
            && !wanted.sees(session).await?
        {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        }
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
        let next = self
            .settled(&mut wanted, resume, page.size, &mut items)
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
        // Of one session, only what is open of it is read; beside what waits, answers on their way are.
        let prefix = match wanted.session {
            Some(session) => index::open_prompt_prefix(session),
            None => records::PENDING_PROMPTS.to_owned(),
        };
        let mut after = after.map(|id| format!("{prefix}{id}"));
        loop {
            let marks = self
                .store()
                .scan(&prefix, after.as_deref(), CHUNK)
                .await
                .map_err(failure::from_store)?;
            for mark in &marks {
                let session = match wanted.session {
                    Some(session) => session,
                    None => std::str::from_utf8(&mark.value)
                        .map_err(Error::internal)?
                        .parse()
                        .map_err(Error::internal)?,
                };
                if !wanted.sees(session).await? {
                    continue;
                }
                let id = mark.key.strip_prefix(&prefix).unwrap_or_default();
                let id: PromptId = id.parse().map_err(Error::internal)?;
                let found = self.prompt_record(id).await?;
                let Some(found) = found.filter(|(prompt, _)| prompt.state == PromptState::Pending)
                else {
                    continue;
                };
                if items.len() == size {
                    return Ok(items.last().map(|(prompt, _)| prompt.id));
                }
                items.push(found);
            }
            match marks.last() {
                Some(last) if marks.len() == CHUNK => after = Some(last.key.clone()),
                _ => return Ok(None),
            }
        }
    }

    /// Adds settled prompts; the key to go on with, if there are more.
    async fn settled(
        &self,
        wanted: &mut Wanted<'_>,
        before: Option<PromptId>,
        size: usize,
        items: &mut Vec<(Prompt, u64)>,
    ) -> Result<Option<String>> {
        // That there is more, and where it begins, is said of what was given.
        let mut given = String::from("o/");
        let mut looked_at = 0;
        let mut before = before;
        loop {
            let page = self.before(wanted.session, before).await?;
            for (id, record) in &page {
                let last = before.replace(*id);
                // Where one call has looked at enough, the next goes on with an earlier millisecond: the key
                // says when, and names no prompt that is not the caller's to see.
                if looked_at >= SCAN_LIMIT
                    && let Some(last) = last.map(PromptId::first_of_its_time)
                    && *id < last
                {
                    return Ok(Some(format!("o/{last}")));
                }
                looked_at += 1;
                let Some(record) = record else { continue };
                let prompt: Prompt = records::decode(record)?;
                if prompt.state == PromptState::Pending
                    || !wanted.state(prompt.state)
                    || !wanted.sees(prompt.session_id).await?
                {
                    continue;
                }
                if items.len() >= size {
                    return Ok(Some(given));
                }
                given = format!("o/{}", prompt.id);
                items.push((prompt, record.revision));
            }
            if page.len() < CHUNK {
                return Ok(None);
            }
        }
    }

    /// The next prompts before one, newest first: of all, or by the marks of one session. One that was deleted
    /// meanwhile has no record.
    async fn before(
        &self,
        session: Option<SessionId>,
        before: Option<PromptId>,
    ) -> Result<Vec<(PromptId, Option<Record>)>> {
        let prefix = match session {
            Some(session) => records::session_prompt_prefix(session),
            None => records::PROMPTS.to_owned(),
        };
        let key = before.map(|id| format!("{prefix}{id}"));
        let found = self
            .store()
            .scan_back(&prefix, key.as_deref(), CHUNK)
            .await
            .map_err(failure::from_store)?;
        let mut page = Vec::with_capacity(found.len());
        for record in found {
            let id = record.key.strip_prefix(&prefix).unwrap_or_default();
            let id: PromptId = id.parse().map_err(Error::internal)?;
            let record = match session {
                Some(_) => self
                    .store()
                    .get(&records::prompt_key(id))
                    .await
                    .map_err(failure::from_store)?,
                None => Some(record),
            };
            page.push((id, record));
        }
        Ok(page)
    }
}
