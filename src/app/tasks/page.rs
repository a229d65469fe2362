//! Pages of tasks, found in the index. A call looks at a bounded number of entries; where that ends before the page
//! is full, the page is shorter, and where the next begins names a moment and no task, so that it tells nothing of
//! tasks that are not the caller's to see.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::index::{Entry, Index, label_hash, word_hash};
use crate::base::id::{AgentId, TaskId};
use crate::base::page::PageRequest;
use crate::base::{Error, Result};
use crate::domain::task::{LEVELS, MAX_CAPABILITIES, Status, Type};
use crate::domain::{Task, field};

/// How many entries one call looks at before it gives back a shorter page.
const SCAN_LIMIT: usize = 10_000;
/// The longest text that titles are searched for, in bytes.
const MAX_TEXT_BYTES: usize = 200;

/// Which tasks are wanted of all.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Only in these; empty is all.
    pub statuses: Vec<Status>,
    /// Only of these; empty is all.
    pub kinds: Vec<Type>,
    /// Only with these priorities of their own; empty is all.
    pub priorities: Vec<u8>,
    /// Only those that this agent has.
    pub agent_id: Option<AgentId>,
    /// Only those that nobody has.
    pub unassigned: bool,
    /// Only with these labels.
    pub labels: BTreeMap<String, String>,
    /// Only children of this one.
    pub parent_id: Option<TaskId>,
    /// Only with this in the title, in whatever case; empty is all.
    pub title_contains: String,
}

impl TaskFilter {
    /// Whether it can be looked for.
    pub(super) fn check(&self) -> Result<()> {
        field::labels("labels", &self.labels)?;
        field::text("title_contains", &self.title_contains, MAX_TEXT_BYTES)?;
        if let Some(odd) = self.priorities.iter().find(|p| !LEVELS.contains(p)) {
            return Err(Error::invalid(
                "priorities",
                format!("has {odd}; they are 1 to 5"),
            ));
        }
        if self.unassigned && self.agent_id.is_some() {
            return Err(Error::invalid(
                "unassigned",
                "goes without agent_id: what an agent has is assigned",
            ));
        }
        Ok(())
    }

    /// Whether a record fits, as far as the index cannot tell for sure.
    pub(super) fn fits(&self, task: &Task) -> bool {
        has_labels(task, &self.labels)
    }
}

/// Which tasks are wanted of those that could be begun.
#[derive(Clone, Debug, Default)]
pub struct ReadyFilter {
    /// Only those that this agent has; with `unassigned`, then those that nobody has.
    pub agent_id: Option<AgentId>,
    /// Only those that nobody has.
    pub unassigned: bool,
    /// Only those that need nothing else; `None` is all.
    pub capabilities: Option<Vec<String>>,
    /// Only of these; empty is all.
    pub kinds: Vec<Type>,
    /// Only with these labels.
    pub labels: BTreeMap<String, String>,
}

impl ReadyFilter {
    /// Whether it can be looked for.
    pub(super) fn check(&self) -> Result<()> {
        field::labels("labels", &self.labels)?;
        let capabilities = self.capabilities.as_deref().unwrap_or_default();
        if capabilities.len() > 8 * MAX_CAPABILITIES {
            return Err(Error::invalid(
                "capabilities",
                format!(
                    "has {} entries; the most is {}",
                    capabilities.len(),
                    8 * MAX_CAPABILITIES
                ),
            ));
        }
        for (index, word) in capabilities.iter().enumerate() {
            field::word(&format!("capabilities[{index}]"), word)?;
        }
        Ok(())
    }

    /// Whether a record fits, as far as the index cannot tell for sure.
    pub(super) fn fits(&self, task: &Task) -> bool {
        let able = |word: &String| match &self.capabilities {
            None => true,
            Some(capabilities) => capabilities.contains(word),
        };
        has_labels(task, &self.labels) && task.required_capabilities.iter().all(able)
    }

    /// The parts of the list, one after the other.
    fn parts(&self) -> Vec<Part> {
        match (self.agent_id, self.unassigned) {
            (None, false) => vec![Part::All],
            (None, true) => vec![Part::Of(None)],
            (Some(agent), false) => vec![Part::Of(Some(agent))],
            (Some(agent), true) => vec![Part::Of(Some(agent)), Part::Of(None)],
        }
    }
}

fn has_labels(task: &Task, labels: &BTreeMap<String, String>) -> bool {
    labels
        .iter()
        .all(|(key, value)| task.labels.get(key) == Some(value))
}

/// A part of the list of what could be begun.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// All of it.
    All,
    /// What an agent, or nobody, has.
    Of(Option<AgentId>),
}

/// Ids of a page, and where the next begins.
#[derive(Debug)]
pub(super) struct Found<K> {
    pub ids: Vec<TaskId>,
    pub next: Option<K>,
}

impl<K> Default for Found<K> {
    fn default() -> Self {
        Found {
            ids: Vec::new(),
            next: None,
        }
    }
}

/// A place in the list of what could be begun: its part, urgency, and the task after which it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    part: usize,
    effective: u8,
    after: TaskId,
}

impl Place {
    /// The place behind a task that was given.
    pub(super) fn behind(part: usize, effective: u8, after: TaskId) -> Self {
        Place {
            part,
            effective,
            after,
        }
    }

    /// As a page's key.
    pub(super) fn key(self) -> String {
        format!("{}/{}/{}", self.part, self.effective, self.after)
    }

    /// The place that a page begins at; `None` is the beginning.
    pub(super) fn of(page: &PageRequest) -> Result<Option<Self>> {
        let Some(key) = &page.after else {
            return Ok(None);
        };
        let mut parts = key.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default();
        let (part, effective, after) = (next().parse(), next().parse(), next().parse());
        match (part, effective, after) {
            (Ok(part), Ok(effective), Ok(after)) if part < 2 => Ok(Some(Place {
                part,
                effective,
                after,
            })),
            _ => Err(Error::invalid("page_token", "is not one of this list")),
        }
    }
}

/// The last id of the same millisecond.
fn last_of_its_time(id: TaskId) -> TaskId {
    TaskId::from_bits(id.bits() | ((1 << 80) - 1))
}

const FIRST: TaskId = TaskId::from_bits(0);
const LAST: TaskId = TaskId::from_bits(u128::MAX);

impl Index {
    /// Tasks before one, newest first.
    pub(super) fn list(
        &self,
        filter: &TaskFilter,
        sees: impl Fn(&str) -> bool,
        before: Option<TaskId>,
        size: usize,
    ) -> Found<TaskId> {
        let labels: Vec<u64> = filter.labels.iter().map(label_hash).collect();
        let wanted = filter.title_contains.to_lowercase();
        let fits = |entry: &Entry| {
            (filter.statuses.is_empty() || filter.statuses.contains(&entry.status))
                && (filter.kinds.is_empty() || filter.kinds.contains(&entry.kind))
                && (filter.priorities.is_empty() || filter.priorities.contains(&entry.priority))
                && filter
                    .agent_id
                    .is_none_or(|agent| entry.holder == Some(agent))
                && (!filter.unassigned || entry.holder.is_none())
                && entry.has_labels(&labels)
                && (wanted.is_empty() || entry.title.to_lowercase().contains(&wanted))
                && sees(&entry.directory)
        };
        let mut found = Found::default();
        let mut newer: Option<TaskId> = None;
        let among = self.among(filter, &labels, before);
        for (looked_at, id) in among.enumerate() {
            if looked_at >= SCAN_LIMIT
                && let Some(newer) = newer.map(TaskId::first_of_its_time)
                && id < newer
            {
                found.next = Some(newer);
                return found;
            }
            newer = Some(id);
            self.visited.set(self.visited.get() + 1);
            if !self.get(id).is_some_and(fits) {
                continue;
            }
            // That there is another page, and where it begins, is said of what the caller sees only.
            if found.ids.len() == size {
                found.next = found.ids.last().copied();
                return found;
            }
            found.ids.push(id);
        }
        found
    }

    /// The fewest tasks known that those that fit are among, newest first.
    fn among<'a>(
        &'a self,
        filter: &TaskFilter,
        labels: &[u64],
        before: Option<TaskId>,
    ) -> Box<dyn Iterator<Item = TaskId> + 'a> {
        // Everything is before the last id there could be.
        let before = before.unwrap_or(LAST);
        if let Some(parent) = filter.parent_id {
            let mut children: Vec<TaskId> =
                self.children(parent).filter(|id| *id < before).collect();
            children.sort_unstable();
            return Box::new(children.into_iter().rev());
        }
        if let Some(agent) = filter.agent_id {
            let range = (agent, FIRST)..(agent, before);
            return Box::new(self.by_holder.range(range).rev().map(|(_, id)| *id));
        }
        if let Some(label) = labels.first() {
            let range = (*label, FIRST)..(*label, before);
            return Box::new(self.by_label.range(range).rev().map(|(_, id)| *id));
        }
        if !filter.statuses.is_empty() {
            let mut statuses = filter.statuses.clone();
            statuses.sort_unstable();
            statuses.dedup();
            let mut ranges: Vec<_> = statuses
                .into_iter()
                .map(|status| {
                    let range = (status, FIRST)..(status, before);
                    let mut range = self.by_status.range(range).rev().map(|(_, id)| *id);
                    (range.next(), range)
                })
                .collect();
            return Box::new(std::iter::from_fn(move || {
                let newest = ranges.iter_mut().max_by_key(|(head, _)| *head)?;
                let next = newest.1.next();
                std::mem::replace(&mut newest.0, next)
            }));
        }
        Box::new(self.entries.range(..before).rev().map(|(id, _)| *id))
    }

    /// Tasks that could be begun, after a place: the most urgent first, then the oldest. To be asked after
    /// [`Index::tick`].
    pub(super) fn list_ready(
        &self,
        filter: &ReadyFilter,
        sees: impl Fn(&str) -> bool,
        from: Option<Place>,
        size: usize,
    ) -> (Found<Place>, Vec<Place>) {
        let labels: Vec<u64> = filter.labels.iter().map(label_hash).collect();
        let capabilities = filter.capabilities.as_ref().map(|words| {
            let mut hashes: Vec<u64> = words.iter().map(word_hash).collect();
            hashes.sort_unstable();
            hashes
        });
        let fits = |entry: &Entry| {
            (filter.kinds.is_empty() || filter.kinds.contains(&entry.kind))
                && entry.has_labels(&labels)
                && capabilities
                    .as_ref()
                    .is_none_or(|capabilities| entry.needs_only(capabilities))
                && sees(&entry.directory)
        };
        let mut found = Found::default();
        let mut places: Vec<Place> = Vec::new();
        let mut looked_at = 0;
        let mut last: Option<Place> = None;
        for (part, of) in filter.parts().into_iter().enumerate() {
            if from.is_some_and(|from| part < from.part) {
                continue;
            }
            let from = from.filter(|from| from.part == part);
            for (effective, id) in self.part(of, from) {
                if looked_at >= SCAN_LIMIT
                    && let Some(last) = last
                {
                    let end = last_of_its_time(last.after);
                    if last.part != part || last.effective != effective || id > end {
                        found.next = Some(Place { after: end, ..last });
                        return (found, places);
                    }
                }
                looked_at += 1;
                let place = Place::behind(part, effective, id);
                last = Some(place);
                self.visited.set(self.visited.get() + 1);
                if !self.get(id).is_some_and(fits) {
                    continue;
                }
                if found.ids.len() == size {
                    found.next = places.last().copied();
                    return (found, places);
                }
                found.ids.push(id);
                places.push(place);
            }
        }
        (found, places)
    }

    fn part(&self, part: Part, from: Option<Place>) -> Box<dyn Iterator<Item = (u8, TaskId)> + '_> {
        let from = from.map_or((0, FIRST), |from| (from.effective, from.after));
        match part {
            Part::All => {
                let range = (Bound::Excluded(from), Bound::Unbounded);
                Box::new(self.ready.range(range).copied())
            }
            Part::Of(holder) => {
                let from = Bound::Excluded((holder, from.0, from.1));
                let to = Bound::Included((holder, u8::MAX, LAST));
                let range = self.ready_of.range((from, to));
                Box::new(range.map(|(_, effective, id)| (*effective, *id)))
            }
        }
    }

    /// Tasks that are not closed, after one, oldest first, at most `size`.
    pub(super) fn open_after(&self, after: Option<TaskId>, size: usize) -> Vec<TaskId> {
        let mut found = Vec::new();
        for status in Status::ALL {
            if status == Status::Closed {
                continue;
            }
            let from = match after {
                Some(after) => Bound::Excluded((status, after)),
                None => Bound::Included((status, FIRST)),
            };
            let range = (from, Bound::Included((status, LAST)));
            found.extend(self.by_status.range(range).take(size).map(|(_, id)| *id));
        }
        found.sort_unstable();
        found.truncate(size);
        found
    }
}
