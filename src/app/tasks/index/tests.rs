use proptest::prelude::*;

use super::*;
use crate::app::tasks::page::{ReadyFilter, TaskFilter};
use crate::base::id::{AssignmentId, SessionId};
use crate::domain::Actor;
use crate::domain::task::{Draft, Outcome, Update};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn id(n: u128) -> TaskId {
    // A millisecond each, so that order by time is order by number.
    TaskId::from_bits(n << 80)
}

fn by() -> Actor {
    Actor::server()
}

fn task(n: u128, priority: u8, on: &[(Relation, u128)]) -> Task {
    let draft = Draft {
        title: format!("task {n}"),
        priority,
        dependencies: on
            .iter()
            .map(|(relation, n)| On::Task {
                relation: *relation,
                id: id(*n),
            })
            .collect(),
        ..Draft::default()
    };
    Task::new(id(n), draft, &by(), NOW)
}

fn close(task: &mut Task) {
    task.complete("", Outcome::Closed, &by(), NOW).unwrap();
}

fn ready(index: &Index) -> Vec<TaskId> {
    let all = ReadyFilter::default();
    let (found, _) = index.list_ready(&all, |_| true, None, 1_000);
    found.ids
}

/// Everything that the index holds and does not derive from the moment.
pub(in crate::app::tasks) type Picture = (
    BTreeMap<TaskId, Entry>,
    BTreeMap<TaskId, Vec<(Relation, TaskId)>>,
    Vec<(u8, TaskId)>,
    Vec<(Option<AgentId>, u8, TaskId)>,
    Vec<(Timestamp, TaskId)>,
    Vec<(Status, TaskId)>,
    Vec<(AgentId, TaskId)>,
    Vec<(u64, TaskId)>,
);

pub(in crate::app::tasks) fn picture(index: &Index) -> Picture {
    let referrers = index.referrers.iter().map(|(id, list)| {
        let mut list = list.clone();
        list.sort_unstable();
        (*id, list)
    });
    (
        index.entries.clone(),
        referrers.collect(),
        index.ready.iter().copied().collect(),
        index.ready_of.iter().copied().collect(),
        index.asleep.iter().copied().collect(),
        index.by_status.iter().copied().collect(),
        index.by_holder.iter().copied().collect(),
        index.by_label.iter().copied().collect(),
    )
}

fn loaded<'a>(tasks: impl Iterator<Item = &'a (Task, u64)>, now: Timestamp) -> Index {
    let mut index = Index::default();
    index.tick(now);
    for (task, revision) in tasks {
        index.put(task, *revision);
    }
    index
}

#[test]
fn a_task_is_ready_when_nothing_it_waits_for_is_open() {
    let mut index = Index::default();
    let mut first = task(1, 3, &[]);
    let second = task(2, 3, &[(Relation::Blocks, 1)]);
    // In whatever order they come.
    index.put(&second, 2);
    assert_eq!(ready(&index), [id(2)]);
    index.put(&first, 1);
    assert_eq!(ready(&index), [id(1)]);
    assert!(index.is_blocked(&second, NOW));
    close(&mut first);
    index.put(&first, 3);
    assert_eq!(ready(&index), [id(2)]);
    first.reopen("", None, &by(), NOW).unwrap();
    index.put(&first, 4);
    assert_eq!(ready(&index), [id(1)]);
    index.remove(id(1));
    assert_eq!(ready(&index), [id(2)]);
}

#[test]
fn a_parent_waits_for_its_children_and_makes_them_urgent() {
    let mut index = Index::default();
    let parent = task(1, 1, &[]);
    let mut child = task(2, 4, &[(Relation::ParentChild, 1)]);
    index.put(&parent, 1);
    index.put(&child, 2);
    assert_eq!(ready(&index), [id(2)]);
    assert_eq!(index.get(id(2)).unwrap().effective, 1);
    assert_eq!(index.urged_by(id(2), 9), [id(1)]);
    close(&mut child);
    index.put(&child, 3);
    assert_eq!(ready(&index), [id(1)]);
}

#[test]
fn urgency_is_inherited_however_far_and_lost_again() {
    let mut index = Index::default();
    // 4 waits for 3 waits for 2 waits for 1.
    for n in 1..=4_u128 {
        let on: Vec<_> = (n > 1)
            .then(|| (Relation::Blocks, n - 1))
            .into_iter()
            .collect();
        index.put(&task(n, 4, &on), n as u64);
    }
    index.put(&task(9, 3, &[]), 9);
    assert_eq!(ready(&index), [id(9), id(1)]);
    let mut last = task(4, 1, &[(Relation::Blocks, 3)]);
    index.put(&last, 10);
    assert_eq!(ready(&index), [id(1), id(9)]);
    assert_eq!(index.urged_by(id(1), 9), [id(2), id(3), id(4)]);
    close(&mut last);
    index.put(&last, 11);
    assert_eq!(ready(&index), [id(9), id(1)]);
    assert_eq!(index.urged_by(id(1), 9), []);
}

#[test]
fn time_wakes_what_is_scheduled() {
    let mut index = Index::default();
    index.tick(NOW);
    let at = |millis: i64| Timestamp::from_millis(1_000_000 + millis);
    let mut scheduled = task(1, 3, &[]);
    scheduled.scheduled_for = Some(at(10));
    let mut gated = task(2, 3, &[(Relation::Blocks, 1)]);
    gated
        .depend(On::Gate(Gate::Timer { until: at(20) }), &by(), NOW)
        .unwrap();
    index.put(&scheduled, 1);
    index.put(&gated, 2);
    assert_eq!(ready(&index), []);
    index.tick(at(9));
    assert_eq!(ready(&index), []);
    index.tick(at(10));
    assert_eq!(ready(&index), [id(1)]);
    close(&mut scheduled);
    index.put(&scheduled, 3);
    assert_eq!(ready(&index), []);
    index.tick(at(20));
    assert_eq!(ready(&index), [id(2)]);
    assert!(index.asleep.is_empty());
}

#[test]
fn a_circle_is_found_and_named() {
    let mut index = Index::default();
    index.put(&task(1, 3, &[]), 1);
    index.put(&task(2, 3, &[(Relation::Blocks, 1)]), 2);
    index.put(&task(3, 3, &[(Relation::Blocks, 2)]), 3);
    assert_eq!(
        index.cycle(id(1), id(3), &[]),
        Some(vec![id(1), id(3), id(2)])
    );
    assert_eq!(index.cycle(id(1), id(1), &[]), Some(vec![id(1)]));
    assert_eq!(index.cycle(id(3), id(1), &[]), None);
    // What is being committed counts, until it is given back.
    let reserved = Reserved {
        waits: vec![(id(1), id(9))],
        ..Reserved::default()
    };
    index.reserve(&reserved);
    assert!(index.cycle(id(9), id(2), &[]).is_some());
    index.give_back(&reserved);
    assert!(index.cycle(id(9), id(2), &[]).is_none());
    assert!(index.cycle(id(9), id(2), &[(id(1), id(9))]).is_some());
}

#[test]
fn what_comes_late_changes_nothing() {
    let mut index = Index::default();
    let mut one = task(1, 3, &[]);
    index.put(&one, 5);
    one.priority = 1;
    index.put(&one, 4);
    assert_eq!(index.get(id(1)).unwrap().priority, 3);
    index.remove(id(1));
    index.put(&one, 6);
    assert!(index.get(id(1)).is_none());
    assert!(ready(&index).is_empty());
}

/// The work for a page is as much for many tasks as for few.
#[test]
fn the_work_for_a_page_does_not_grow_with_the_number_of_tasks() {
    let mut costs = Vec::new();
    for count in [1_000_u128, 20_000] {
        let agent = AgentId::from_bits(7);
        let mut index = Index::default();
        for n in 1..=count {
            let on: Vec<_> = match n % 10 {
                // Chains of five, and children.
                1..=4 => vec![(Relation::Blocks, n - 1)],
                5..=7 if n > 10 => vec![(Relation::ParentChild, n - n % 10)],
                _ => vec![],
            };
            let on: Vec<_> = on.into_iter().filter(|(_, n)| *n > 0).collect();
            let mut task = task(n, (n % 5) as u8 + 1, &on);
            if n % 100 == 3 {
                task.labels = [("team".to_owned(), "red".to_owned())].into();
            }
            if n % 50 == 9 {
                task.assign(AssignmentId::from_bits(n), agent, "", None, &by(), NOW)
                    .unwrap();
            }
            if n % 3 == 0 && n % 10 > 7 {
                close(&mut task);
            }
            index.put(&task, n as u64);
        }
        let mut cost = |what: &'static str, work: &mut dyn FnMut(&mut Index)| {
            index.visited.set(0);
            work(&mut index);
            let visited = index.visited.get();
            assert!(visited <= 700, "{what} looks at {visited} of {count}");
            visited
        };
        let list = |index: &Index, filter: TaskFilter, before| {
            let found = index.list(&filter, |_| true, before, 50);
            assert!(!found.ids.is_empty());
        };
        let middle = Some(id(count / 2));
        let label = [("team".to_owned(), "red".to_owned())];
        let filters = [
            TaskFilter::default(),
            TaskFilter {
                statuses: vec![Status::Closed, Status::Open],
                ..TaskFilter::default()
            },
            TaskFilter {
                agent_id: Some(agent),
                ..TaskFilter::default()
            },
            TaskFilter {
                labels: label.into(),
                ..TaskFilter::default()
            },
        ];
        let mut seen = Vec::new();
        for filter in filters {
            seen.push(cost("a list", &mut |index| {
                list(index, filter.clone(), None);
                list(index, filter.clone(), middle);
            }));
        }
        for filter in [
            ReadyFilter::default(),
            ReadyFilter {
                agent_id: Some(agent),
                unassigned: true,
                ..ReadyFilter::default()
            },
        ] {
            seen.push(cost("what is ready", &mut |index| {
                let (first, _) = index.list_ready(&filter, |_| true, None, 50);
                assert_eq!(first.ids.len(), 50);
                index.list_ready(&filter, |_| true, first.next, 50);
            }));
        }
        seen.push(cost("closing one that others wait for", &mut |index| {
            let mut first = task(11, 2, &[(Relation::Blocks, 10)]);
            close(&mut first);
            index.put(&first, 1_000_000);
        }));
        seen.push(cost("looking for a circle", &mut |index| {
            assert!(index.cycle(id(20), id(24), &[]).is_some());
            assert!(index.cycle(id(24), id(34), &[]).is_none());
        }));
        costs.push(seen);
    }
    assert_eq!(costs[0].len(), costs[1].len());
}

#[test]
fn pages_follow_one_another_without_gap_and_double() {
    let mut index = Index::default();
    for n in 1..=500_u128 {
        let mut task = task(n, (n % 5) as u8 + 1, &[]);
        if n % 2 == 0 {
            task.labels = [("even".to_owned(), String::new())].into();
        }
        index.put(&task, n as u64);
    }
    for labels in [BTreeMap::new(), [("even".to_owned(), String::new())].into()] {
        let filter = ReadyFilter {
            labels: labels.clone(),
            ..ReadyFilter::default()
        };
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let (found, _) = index.list_ready(&filter, |_| true, from, 7);
            all.extend(found.ids);
            from = found.next;
            if from.is_none() {
                break;
            }
        }
        let mut expected: Vec<_> = (1..=500_u128)
            .filter(|n| labels.is_empty() || n % 2 == 0)
            .map(|n| (n % 5, id(n)))
            .collect();
        expected.sort_unstable();
        let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
        assert_eq!(all, expected);
        let filter = TaskFilter {
            labels,
            ..TaskFilter::default()
        };
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let found = index.list(&filter, |_| true, before, 7);
            all.extend(found.ids);
            before = found.next;
            if before.is_none() {
                break;
            }
        }
        let mut expected = expected;
        expected.sort_unstable();
        expected.reverse();
        assert_eq!(all, expected);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Make(u8),
    Depend(usize, usize, bool),
    Undepend(usize, usize),
    Priority(usize, u8),
    Close(usize),
    Reopen(usize),
    Defer(usize),
    Assign(usize, u8),
    Start(usize, u8),
    Release(usize),
    Schedule(usize, i64),
    Gate(usize),
    Pass(u64),
    Delete(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..12_usize;
    prop_oneof![
        3 => (1..6_u8).prop_map(Op::Make),
        5 => (at.clone(), at.clone(), any::<bool>()).prop_map(|(a, b, c)| Op::Depend(a, b, c)),
        1 => (at.clone(), at.clone()).prop_map(|(a, b)| Op::Undepend(a, b)),
        2 => (at.clone(), 1..6_u8).prop_map(|(a, b)| Op::Priority(a, b)),
        2 => at.clone().prop_map(Op::Close),
        1 => at.clone().prop_map(Op::Reopen),
        1 => at.clone().prop_map(Op::Defer),
        1 => (at.clone(), 0..3_u8).prop_map(|(a, b)| Op::Assign(a, b)),
        1 => (at.clone(), 0..3_u8).prop_map(|(a, b)| Op::Start(a, b)),
        1 => at.clone().prop_map(Op::Release),
        1 => (at.clone(), 0..50_i64).prop_map(|(a, b)| Op::Schedule(a, b)),
        1 => at.clone().prop_map(Op::Gate),
        2 => (0..20_u64).prop_map(Op::Pass),
        1 => at.prop_map(Op::Delete),
    ]
}

/// The same by looking at everything.
struct Naive<'a>(&'a BTreeMap<TaskId, (Task, u64)>);

impl Naive<'_> {
    fn awaited(&self, id: TaskId) -> BTreeSet<TaskId> {
        let mut all = BTreeSet::new();
        for (task, _) in self.0.values() {
            for dependency in &task.dependencies {
                let On::Task { relation, id: to } = dependency.on else {
                    continue;
                };
                if let Some((waiter, awaited)) = relation.waits(task.id, to)
                    && waiter == id
                {
                    all.insert(awaited);
                }
            }
        }
        all
    }

    fn reaches(&self, from: TaskId, to: TaskId) -> bool {
        from == to
            || self
                .awaited(from)
                .into_iter()
                .any(|next| self.reaches(next, to))
    }

    fn effective(&self, id: TaskId) -> u8 {
        let own = self.0[&id].0.priority;
        let waiters = self.0.keys().filter(|w| self.awaited(**w).contains(&id));
        waiters
            .filter(|w| self.0[w].0.status != Status::Closed)
            .map(|w| self.effective(*w))
            .fold(own, u8::min)
    }

    fn ready(&self, now: Timestamp) -> Vec<TaskId> {
        let mut all: Vec<_> = self
            .0
            .values()
            .map(|(task, _)| task)
            .filter(|task| {
                task.status.is_active()
                    && task
                        .living()
                        .is_none_or(|a| a.state == AssignmentState::Assigned)
                    && task.closed_gates(now).next().is_none()
                    && task.scheduled_for.is_none_or(|at| at <= now)
                    && self
                        .awaited(task.id)
                        .iter()
                        .all(|id| self.0[id].0.status == Status::Closed)
            })
            .map(|task| (self.effective(task.id), task.id))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }
}

proptest! {
    /// Whatever happens to tasks, the index says what looking at all of them says, and is the one that a start
    /// makes of the records.
    #[test]
    fn the_index_is_what_looking_at_everything_says(
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let mut tasks: BTreeMap<TaskId, (Task, u64)> = BTreeMap::new();
        let mut index = Index::default();
        let mut now = NOW;
        index.tick(now);
        for (revision, op) in (1_u64..).zip(ops) {
            let pick = |at: usize| tasks.keys().nth(at % tasks.len().max(1)).copied();
            let mut changed: Option<Task> = None;
            let mut with = |at: usize, change: &mut dyn FnMut(&mut Task)| {
                changed = pick(at).map(|id| tasks[&id].0.clone());
                changed.iter_mut().for_each(change);
            };
            match op {
                Op::Make(priority) => {
                    let n = u128::from(revision);
                    changed = Some(task(n, priority, &[]));
                }
                Op::Depend(from, to, parent) => {
                    let Some(to) = pick(to) else { continue };
                    let relation = if parent { Relation::ParentChild } else { Relation::Blocks };
                    let Some(from_id) = pick(from) else { continue };
                    let (waiter, awaited) = relation.waits(from_id, to).unwrap();
                    let circle = Naive(&tasks).reaches(awaited, waiter);
                    prop_assert_eq!(index.cycle(waiter, awaited, &[]).is_some(), circle);
                    if circle {
                        continue;
                    }
                    with(from, &mut |task| {
                        let _ = task.depend(On::Task { relation, id: to }, &by(), now);
                    });
                }
                Op::Undepend(from, at) => with(from, &mut |task| {
                    if !task.dependencies.is_empty() {
                        let on = task.dependencies[at % task.dependencies.len()].on.clone();
                        task.undepend(&on, &by(), now).unwrap();
                    }
                }),
                Op::Priority(at, priority) => with(at, &mut |task| {
                    let update = Update { priority: Some(priority), ..Update::default() };
                    task.update(update, &by(), now).unwrap();
                }),
                Op::Close(at) => with(at, &mut |task| {
                    let _ = task.complete("", Outcome::Closed, &by(), now);
                }),
                Op::Reopen(at) => with(at, &mut |task| {
                    let _ = task.reopen("", None, &by(), now);
                }),
                Op::Defer(at) => with(at, &mut |task| {
                    let status = match task.status {
                        Status::Deferred => Status::Open,
                        _ => Status::Deferred,
                    };
                    let update = Update { status: Some(status), ..Update::default() };
                    let _ = task.update(update, &by(), now);
                }),
                Op::Assign(at, agent) => with(at, &mut |task| {
                    let (id, agent) = (AssignmentId::from_bits(1), AgentId::from_bits(agent.into()));
                    let _ = task.assign(id, agent, "", None, &by(), now);
                }),
                Op::Start(at, agent) => with(at, &mut |task| {
                    let (id, agent) = (AssignmentId::from_bits(1), AgentId::from_bits(agent.into()));
                    let _ = task.start(id, agent, SessionId::from_bits(1), &by(), now);
                }),
                Op::Release(at) => with(at, &mut |task| {
                    let _ = task.release("", &by(), now);
                }),
                Op::Schedule(at, millis) => with(at, &mut |task| {
                    let at = now.saturating_add(std::time::Duration::from_millis(millis as u64));
                    let update = Update { scheduled_for: Some(Some(at)), ..Update::default() };
                    task.update(update, &by(), now).unwrap();
                }),
                Op::Gate(at) => with(at, &mut |task| {
                    let gate = On::Gate(Gate::External { name: "x".to_owned() });
                    if task.undepend(&gate, &by(), now).is_err() {
                        let _ = task.depend(gate, &by(), now);
                    }
                }),
                Op::Pass(millis) => {
                    now = now.saturating_add(std::time::Duration::from_millis(millis));
                    index.tick(now);
                }
                Op::Delete(at) => {
                    let Some(gone) = pick(at) else { continue };
                    for referrer in index.referrers(gone) {
                        let (task, at) = tasks.get_mut(&referrer).unwrap();
                        task.dependencies.retain(
                            |d| !matches!(d.on, On::Task { id, .. } if id == gone),
                        );
                        *at = revision;
                        index.put(task, revision);
                    }
                    tasks.remove(&gone);
                    index.remove(gone);
                }
            }
            if let Some(task) = changed {
                index.put(&task, revision);
                tasks.insert(task.id, (task, revision));
            }
            let naive = Naive(&tasks);
            prop_assert_eq!(ready(&index), naive.ready(now));
            for id in tasks.keys() {
                prop_assert_eq!(index.get(*id).unwrap().effective, naive.effective(*id));
            }
        }
        let fresh = loaded(tasks.values(), now);
        prop_assert_eq!(picture(&fresh), picture(&index));
        // In the other order too.
        let fresh = loaded(tasks.values().rev(), now);
        prop_assert_eq!(picture(&fresh), picture(&index));
    }
}
