//! Every task in a few words, in memory, so that no page, no cycle check and no change of what is blocked reads
//! all of them: made from the store's records at the start, kept up with every commit. The records are the truth.
//!
//! **Who waits for whom** is one relation: a task with a dependency `blocks` waits for the other, and a parent
//! waits for its children. A task is blocked while one of those it waits for is not closed, or a gate is. Its
//! effective priority is the highest of its own and those of all that wait for it and are not closed. Both are
//! brought up to date from the task that changed outwards, as far as something changes.
//!
//! What only time changes (schedules, timers) is in order of time in `asleep`, and looked at when it is due.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::base::Timestamp;
use crate::base::id::{AgentId, SessionId, TaskId};
use crate::domain::Task;
use crate::domain::task::{AssignmentState, Gate, On, Relation, Status, Type};

/// How many deleted tasks are remembered, so that a change that is applied late does not bring one back. Far more
/// than changes can be under way.
const MAX_GONE: usize = 16_384;

/// What is known of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Revision of the record that this is of.
    pub revision: u64,
    pub status: Status,
    pub kind: Type,
    /// Its own.
    pub priority: u8,
    /// The highest of its own and those of what waits for it.
    pub effective: u8,
    /// Whether it is in the ready sets.
    ready: bool,
    /// Whether its agent has begun.
    started: bool,
    /// Whether it waits for a gate that time does not open.
    gated: bool,
    /// Who has it.
    pub holder: Option<AgentId>,
    /// The session in which it was worked on last.
    worked_in: Option<SessionId>,
    /// When time keeps it no longer.
    wakes_at: Option<Timestamp>,
    pub title: Box<str>,
    pub directory: Box<str>,
    /// Hashes of `key=value`, sorted.
    labels: Box<[u64]>,
    /// Hashes of the required capabilities, sorted.
    needs: Box<[u64]>,
    /// Its dependencies on tasks.
    links: Box<[(Relation, TaskId)]>,
}

impl Entry {
    fn of(task: &Task, revision: u64) -> Self {
        let mut labels: Vec<u64> = task.labels.iter().map(label_hash).collect();
        labels.sort_unstable();
        let mut needs: Vec<u64> = task.required_capabilities.iter().map(word_hash).collect();
        needs.sort_unstable();
        let holder = task.living();
        Entry {
            revision,
            status: task.status,
            kind: task.kind,
            priority: task.priority,
            effective: task.priority,
            ready: false,
            started: holder.is_some_and(|holder| holder.state == AssignmentState::InProgress),
            gated: task.dependencies.iter().any(|dependency| {
                matches!(
                    dependency.on,
                    On::Gate(Gate::Approval { .. } | Gate::External { .. })
                )
            }),
            holder: holder.map(|holder| holder.agent_id),
            worked_in: task
                .assignments
                .last()
                .and_then(|last| last.session_ids.last().copied()),
            wakes_at: task.wakes_at(),
            title: task.title.as_str().into(),
            directory: task.directory.as_str().into(),
            labels: labels.into(),
            needs: needs.into(),
            links: task
                .dependencies
                .iter()
                .filter_map(|dependency| match dependency.on {
                    On::Task { relation, id } => Some((relation, id)),
                    On::Gate(_) => None,
                })
                .collect(),
        }
    }

    /// Whether everything that is needed is among the sorted hashes of what there is.
    pub(super) fn needs_only(&self, capabilities: &[u64]) -> bool {
        self.needs
            .iter()
            .all(|need| capabilities.binary_search(need).is_ok())
    }

    /// Whether it has every one of these labels, by their hashes.
    pub(super) fn has_labels(&self, labels: &[u64]) -> bool {
        labels
            .iter()
            .all(|label| self.labels.binary_search(label).is_ok())
    }

    fn is_closed(&self) -> bool {
        self.status == Status::Closed
    }
}

/// What a label is known by.
pub(super) fn label_hash((key, value): (&String, &String)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

/// What a capability is known by.
pub(super) fn word_hash(word: &String) -> u64 {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    hasher.finish()
}

/// All tasks.
#[derive(Default)]
pub(super) struct Index {
    pub(super) entries: BTreeMap<TaskId, Entry>,
    /// Who has a dependency on a task, in order: the other end of every link.
    referrers: HashMap<TaskId, Vec<(Relation, TaskId)>>,
    pub(super) by_status: BTreeSet<(Status, TaskId)>,
    pub(super) by_holder: BTreeSet<(AgentId, TaskId)>,
    pub(super) by_label: BTreeSet<(u64, TaskId)>,
    /// What could be begun, by urgency and age.
    pub(super) ready: BTreeSet<(u8, TaskId)>,
    /// The same by who has it.
    pub(super) ready_of: BTreeSet<(Option<AgentId>, u8, TaskId)>,
    /// What time may make ready.
    asleep: BTreeSet<(Timestamp, TaskId)>,
    /// Deleted ones, for a while.
    gone: HashSet<TaskId>,
    gone_order: VecDeque<TaskId>,
    /// The task that a session works on, or worked on last.
    worked_in: HashMap<SessionId, TaskId>,
    /// Edges (who waits, for whom) that are being committed.
    coming: Vec<(TaskId, TaskId)>,
    /// Links (from, to) that are being committed.
    coming_links: Vec<(TaskId, TaskId)>,
    /// Tasks that are being deleted.
    going: Vec<TaskId>,
    /// The latest time that was asked for.
    now: Timestamp,
    /// Entries that were looked at, for tests that prove how much work there is.
    pub(super) visited: Cell<u64>,
}

impl Index {
    fn look(&self, id: TaskId) -> Option<&Entry> {
        self.visited.set(self.visited.get() + 1);
        self.entries.get(&id)
    }

    /// One task.
    pub(super) fn get(&self, id: TaskId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// Whether what a commit made of a task is in here.
    pub(super) fn knows(&self, id: TaskId, revision: u64) -> bool {
        match self.entries.get(&id) {
            Some(entry) => entry.revision >= revision,
            None => self.gone.contains(&id),
        }
    }

    /// The task that a session works on, or worked on last.
    pub(super) fn task_in(&self, session: SessionId) -> Option<TaskId> {
        self.worked_in.get(&session).copied()
    }

    /// Whether a task is there, and not about to be deleted.
    pub(super) fn stands(&self, id: TaskId) -> bool {
        self.entries.contains_key(&id) && !self.going.contains(&id)
    }

    /// What waits for a task.
    pub(super) fn waiters(&self, id: TaskId) -> impl Iterator<Item = TaskId> {
        let referring = self.referrers.get(&id).into_iter().flatten();
        let blocked = referring
            .filter(|(relation, _)| *relation == Relation::Blocks)
            .map(|(_, from)| *from);
        let links = self
            .entries
            .get(&id)
            .into_iter()
            .flat_map(|e| e.links.iter());
        let parent = links
            .filter(|(relation, _)| *relation == Relation::ParentChild)
            .map(|(_, to)| *to);
        blocked.chain(parent)
    }

    /// What a task waits for.
    pub(super) fn awaited(&self, id: TaskId) -> impl Iterator<Item = TaskId> {
        let links = self
            .entries
            .get(&id)
            .into_iter()
            .flat_map(|e| e.links.iter());
        let blockers = links
            .filter(|(relation, _)| *relation == Relation::Blocks)
            .map(|(_, to)| *to);
        blockers.chain(self.children(id))
    }

    /// A task's children.
    pub(super) fn children(&self, id: TaskId) -> impl Iterator<Item = TaskId> {
        self.referrers
            .get(&id)
            .into_iter()
            .flatten()
            .filter(|(relation, _)| *relation == Relation::ParentChild)
            .map(|(_, from)| *from)
    }

    /// Everything that has a dependency on a task, each once.
    pub(super) fn referrers(&self, id: TaskId) -> BTreeSet<TaskId> {
        let known = self.referrers.get(&id).into_iter().flatten();
        let known = known.map(|(_, from)| *from);
        let coming = self.coming_links.iter();
        let coming = coming.filter(|(_, to)| *to == id).map(|(from, _)| *from);
        known.chain(coming).collect()
    }

    /// How many dependencies there are on a task.
    pub(super) fn count_referrers(&self, id: TaskId) -> usize {
        let coming = self.coming_links.iter().filter(|(_, to)| *to == id);
        self.referrers.get(&id).map_or(0, Vec::len) + coming.count()
    }

    /// The tasks that a task waits for and that are not closed.
    pub(super) fn open_awaited(&self, id: TaskId) -> impl Iterator<Item = TaskId> {
        self.awaited(id)
            .filter(|other| self.look(*other).is_some_and(|entry| !entry.is_closed()))
    }

    /// Whether a task is open or in progress and waits for tasks or gates.
    pub(super) fn is_blocked(&self, task: &Task, now: Timestamp) -> bool {
        task.status.is_active()
            && (task.closed_gates(now).next().is_some()
                || self.open_awaited(task.id).next().is_some())
    }

    /// Whether a task could be begun now; to be asked after [`Index::tick`].
    pub(super) fn is_ready(&self, id: TaskId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.ready)
    }

    /// Notes a task as a commit left it. What is older than what is known is ignored.
    pub(super) fn put(&mut self, task: &Task, revision: u64) {
        let id = task.id;
        if self.gone.contains(&id) {
            return;
        }
        let mut entry = Entry::of(task, revision);
        let before = self.entries.remove(&id);
        if let Some(before) = before {
            if before.revision >= revision {
                self.entries.insert(id, before);
                return;
            }
            entry.effective = before.effective;
            self.delist(id, &before);
            let lost = self.unlink(id, &before, &entry);
            let turned = before.is_closed() != entry.is_closed();
            self.enlist(id, entry);
            self.settle(id, turned, lost);
        } else {
            self.link_new(id, &entry, &[]);
            self.enlist(id, entry);
            self.settle(id, true, Vec::new());
        }
    }

    /// Notes that a task is deleted.
    pub(super) fn remove(&mut self, id: TaskId) {
        if self.gone.insert(id) {
            self.gone_order.push_back(id);
            if self.gone_order.len() > MAX_GONE
                && let Some(old) = self.gone_order.pop_front()
            {
                self.gone.remove(&old);
            }
        }
        let waiters: Vec<TaskId> = self.waiters(id).collect();
        let awaited: Vec<TaskId> = self.awaited(id).collect();
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        self.delist(id, &entry);
        for (relation, to) in entry.links.iter() {
            self.unrefer(*to, (*relation, id));
        }
        // Links of others to it go with their own records.
        for waiter in waiters {
            self.judge(waiter);
        }
        self.urge(awaited);
    }

    /// Wakes what time has made ready.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some((at, id)) = self.asleep.first().copied()
            && at <= self.now
        {
            self.asleep.pop_first();
            self.judge(id);
        }
    }

    /// Who would wait in a circle if `waiter` waited for `awaited`: from `waiter` over `awaited` back to it. Also
    /// counts edges that are only about to be.
    pub(super) fn cycle(
        &self,
        waiter: TaskId,
        awaited: TaskId,
        also: &[(TaskId, TaskId)],
    ) -> Option<Vec<TaskId>> {
        let mut came_from: HashMap<TaskId, TaskId> = HashMap::new();
        let mut todo = vec![awaited];
        let mut seen = HashSet::from([awaited]);
        while let Some(at) = todo.pop() {
            if at == waiter {
                let mut path = Vec::new();
                let mut step = at;
                while step != awaited {
                    step = came_from.get(&step).copied().unwrap_or(awaited);
                    path.push(step);
                }
                path.push(waiter);
                path.reverse();
                return Some(path);
            }
            self.visited.set(self.visited.get() + 1);
            let coming = self.coming.iter().chain(also);
            let coming = coming.filter(|(from, _)| *from == at);
            let next: Vec<TaskId> = self
                .awaited(at)
                .chain(coming.map(|(_, to)| *to))
                .filter(|to| seen.insert(*to))
                .collect();
            for to in next {
                came_from.insert(to, at);
                todo.push(to);
            }
        }
        None
    }

    /// Whom a task has its effective priority from, the nearest first, at most `most`; nobody if it is its own.
    pub(super) fn urged_by(&self, id: TaskId, most: usize) -> Vec<TaskId> {
        let mut path = Vec::new();
        let mut at = id;
        while path.len() < most
            && let Some(entry) = self.entries.get(&at)
            && entry.effective < entry.priority
        {
            let urgent = self.waiters(at).find(|waiter| {
                self.entries
                    .get(waiter)
                    .is_some_and(|w| !w.is_closed() && w.effective == entry.effective)
            });
            match urgent {
                Some(waiter) => path.push(waiter),
                None => break,
            }
            at = path[path.len() - 1];
        }
        path
    }

    /// Keeps a place for what is being committed: others judge as if it were there.
    pub(super) fn reserve(&mut self, reserved: &Reserved) {
        self.coming.extend(&reserved.waits);
        self.coming_links.extend(&reserved.links);
        self.going.extend(reserved.deletes);
    }

    /// Gives it back, once it is committed and applied, or refused.
    pub(super) fn give_back(&mut self, reserved: &Reserved) {
        for edge in &reserved.waits {
            take_one(&mut self.coming, edge);
        }
        for link in &reserved.links {
            take_one(&mut self.coming_links, link);
        }
        if let Some(id) = reserved.deletes {
            take_one(&mut self.going, &id);
        }
    }

    /// Whether a task is being deleted.
    pub(super) fn is_going(&self, id: TaskId) -> bool {
        self.going.contains(&id)
    }

    fn enlist(&mut self, id: TaskId, entry: Entry) {
        self.by_status.insert((entry.status, id));
        if let Some(holder) = entry.holder {
            self.by_holder.insert((holder, id));
        }
        for label in entry.labels.iter() {
            self.by_label.insert((*label, id));
        }
        if let Some(session) = entry.worked_in {
            let known = self.worked_in.entry(session).or_insert(id);
            // A session may have done one task and begun with another.
            if entry.holder.is_some() {
                *known = id;
            }
        }
        self.entries.insert(id, entry);
    }

    fn delist(&mut self, id: TaskId, entry: &Entry) {
        self.by_status.remove(&(entry.status, id));
        if let Some(holder) = entry.holder {
            self.by_holder.remove(&(holder, id));
        }
        for label in entry.labels.iter() {
            self.by_label.remove(&(*label, id));
        }
        if let Some(session) = entry.worked_in
            && self.worked_in.get(&session) == Some(&id)
        {
            self.worked_in.remove(&session);
        }
        if entry.ready {
            self.ready.remove(&(entry.effective, id));
            self.ready_of.remove(&(entry.holder, entry.effective, id));
        }
        if let Some(at) = entry.wakes_at {
            self.asleep.remove(&(at, id));
        }
    }

    /// Brings the other ends of links up to date; the tasks that were waited for, or waited, by links that are
    /// gone or new.
    fn unlink(&mut self, id: TaskId, before: &Entry, after: &Entry) -> Vec<TaskId> {
        let mut touched = Vec::new();
        for link in before.links.iter().filter(|l| !after.links.contains(l)) {
            self.unrefer(link.1, (link.0, id));
            if link.0.is_blocking() {
                touched.push(link.1);
            }
        }
        touched.extend(self.link_new(id, after, &before.links));
        touched
    }

    fn link_new(&mut self, id: TaskId, entry: &Entry, known: &[(Relation, TaskId)]) -> Vec<TaskId> {
        let mut touched = Vec::new();
        for link in entry.links.iter().filter(|link| !known.contains(link)) {
            // In order, so that what is named of them is the same after a restart.
            let referrers = self.referrers.entry(link.1).or_default();
            if let Err(at) = referrers.binary_search(&(link.0, id)) {
                referrers.insert(at, (link.0, id));
            }
            if link.0.is_blocking() {
                touched.push(link.1);
            }
        }
        touched
    }

    fn unrefer(&mut self, to: TaskId, referrer: (Relation, TaskId)) {
        if let Some(known) = self.referrers.get_mut(&to) {
            known.retain(|known| *known != referrer);
            if known.is_empty() {
                self.referrers.remove(&to);
            }
        }
    }

    /// Brings up to date what follows from a change of a task: itself, what waits for it if it was `turned` (is
    /// closed now, or no longer, or is new), and what it waits for. `touched` are the other ends of links that
    /// came or went.
    fn settle(&mut self, id: TaskId, turned: bool, touched: Vec<TaskId>) {
        let mut urged = vec![id];
        urged.extend(self.awaited(id));
        urged.extend(&touched);
        self.urge(urged);
        self.judge(id);
        let mut waiting = touched;
        if turned {
            waiting.extend(self.waiters(id));
        }
        for other in waiting {
            self.judge(other);
        }
    }

    /// Brings effective priorities up to date, from these tasks to what they wait for, as far as one changes.
    fn urge(&mut self, from: Vec<TaskId>) {
        let mut todo = VecDeque::from(from);
        // Where nothing waits in a circle this ends by itself; a store that was changed by other hands may have one.
        let mut most = 8 * self.entries.len() + 8 * todo.len();
        while let Some(id) = todo.pop_front() {
            let Some(entry) = self.look(id) else { continue };
            let (own, before) = (entry.priority, entry.effective);
            let after = self
                .waiters(id)
                .filter_map(|waiter| self.look(waiter))
                .filter(|waiter| !waiter.is_closed())
                .map(|waiter| waiter.effective)
                .fold(own, u8::min);
            if after == before {
                continue;
            }
            if most == 0 {
                tracing::error!(%id, "tasks wait in a circle; their effective priority may be wrong");
                return;
            }
            most -= 1;
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.effective = after;
                if entry.ready {
                    let holder = entry.holder;
                    self.ready.remove(&(before, id));
                    self.ready_of.remove(&(holder, before, id));
                    self.ready.insert((after, id));
                    self.ready_of.insert((holder, after, id));
                }
            }
            todo.extend(self.awaited(id).collect::<Vec<_>>());
        }
    }

    /// Decides whether a task is ready.
    fn judge(&mut self, id: TaskId) {
        let Some(entry) = self.look(id) else { return };
        let could = entry.status.is_active() && !entry.started && !entry.gated;
        let wakes_at = entry.wakes_at.filter(|at| *at > self.now);
        let (was, holder, effective) = (entry.ready, entry.holder, entry.effective);
        let is_free = could && self.open_awaited(id).next().is_none();
        let ready = is_free && wakes_at.is_none();
        if let Some(at) = wakes_at {
            if is_free {
                self.asleep.insert((at, id));
            } else {
                self.asleep.remove(&(at, id));
            }
        }
        if was != ready {
            if ready {
                self.ready.insert((effective, id));
                self.ready_of.insert((holder, effective, id));
            } else {
                self.ready.remove(&(effective, id));
                self.ready_of.remove(&(holder, effective, id));
            }
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.ready = ready;
            }
        }
    }
}

/// What a commit under way will add or remove.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved {
    /// Who waits, for whom.
    pub waits: Vec<(TaskId, TaskId)>,
    /// Links, of whatever kind: from, to.
    pub links: Vec<(TaskId, TaskId)>,
    /// The task that is deleted.
    pub deletes: Option<TaskId>,
}

fn take_one<T: PartialEq>(list: &mut Vec<T>, item: &T) {
    if let Some(at) = list.iter().position(|known| known == item) {
        list.swap_remove(at);
    }
}

#[cfg(test)]
pub(super) mod tests;
