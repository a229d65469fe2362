//! Operations: begun with the record, done by the daemon, finished with the record.

use std::time::Duration;

use crate::app::App;
use crate::app::access::Caller;
use crate::app::idempotency::{Begin, digest};
use crate::app::{failure, records};
use crate::base::id::{CommandId, WorktreeId};
use crate::base::{Code, Error, Result};
use crate::domain::Worktree;
use crate::domain::worktree::order::COMMAND_TIME;
use crate::domain::worktree::{Kind, Operation, Order, OrderBody, Outcome};
use crate::store::{self, Commit, Expect};

/// How long a daemon may take for git itself, and for waiting its turn in a repository.
const GIT_TIME: Duration = Duration::from_secs(20 * 60);
/// How long a merge may wait for those before it.
const MERGE_QUEUE: Duration = Duration::from_secs(60 * 60);
/// How long a look may take.
pub(super) const LOOK_TIME: Duration = Duration::from_secs(120);
/// How often a change of a record is tried when others change it too.
const ATTEMPTS: usize = 8;

/// How long a daemon may take for an order.
fn time_for(body: &OrderBody) -> Duration {
    match body {
        OrderBody::Create(create) => GIT_TIME + create.setup_time.unwrap_or(COMMAND_TIME),
        OrderBody::Merge(merge) => {
            GIT_TIME + MERGE_QUEUE + merge.test_time.unwrap_or(COMMAND_TIME) * 4
        }
        OrderBody::Delete(_) | OrderBody::Plan(_) => GIT_TIME,
        OrderBody::Look | OrderBody::Diff { .. } | OrderBody::ListRecoverable { .. } => LOOK_TIME,
    }
}

/// What came of an operation, and the record after it.
pub(super) struct Done {
    pub(super) worktree: Worktree,
    pub(super) revision: u64,
    pub(super) result: Result<Outcome>,
}

impl App {
    /// Does something to a worktree that is there, once for each `request_id`. `check` may refuse it.
    #[expect(
        clippy::too_many_arguments,
        reason = "two callers, which name each of them"
    )]
    pub(super) async fn operate(
        &self,
        caller: &Caller,
        method: &str,
        request_id: &str,
        id: WorktreeId,
        etag: Option<u64>,
        kind: Kind,
        body: OrderBody,
    ) -> Result<Done> {
        self.worktree_record(caller, id).await?;
        let request = digest(format!("{id} {etag:?} {body:?}").as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, method, request_id, request)
            .await?;
        let fresh = match begun {
            Begin::Repeat(answer) => {
                let operation = std::str::from_utf8(&answer).map_err(Error::internal)?;
                return self.drive(id, operation.parse()?).await;
            }
            Begin::Fresh(fresh) => fresh,
        };
        let now = self.clock().now();
        let operation = CommandId::generate(now);
        let _driven = self.worktrees().drive(operation);
        for _ in 0..ATTEMPTS {
            let (worktree, revision) = self.worktree_record(caller, id).await?;
            let (mut worktree, revision) = self.settle_worktree(worktree, revision).await?;
            if etag.is_some_and(|etag| etag != revision) {
                return Err(Error::new(
                    Code::Stale,
                    "the worktree changed since it was read; read it again",
                ));
            }
            self.worktree_daemon(worktree.daemon_id).await?;
            if kind == Kind::Delete {
                self.nobody_lives_in(&worktree).await?;
            }
            let operation = Operation {
                id: operation,
                kind,
                body: body.clone(),
                since: now,
            };
            worktree.begin(operation.clone(), now)?;
            let mut ops = vec![records::put(
                records::worktree_key(id),
                &worktree,
                Expect::Revision(revision),
            )?];
            ops.extend(fresh.op(operation.id.to_string().as_bytes()));
            let commit = Commit {
                ops,
                ..Commit::default()
            };
            match self.store().commit(commit).await {
                Ok(_) => {
                    drop(fresh);
                    return self.drive(id, operation.id).await;
                }
                Err(store::Error::Stale { .. }) => {}
                Err(error) => return Err(failure::from_store(error)),
            }
        }
        Err(too_fast())
    }

    /// Has an operation done that is stored with its record, or tells what came of it.
    pub(super) async fn drive(&self, id: WorktreeId, operation: CommandId) -> Result<Done> {
        let taking_up = self.worktrees().taking_up.read().await;
        let _driven = self.worktrees().drive(operation);
        let (worktree, revision) = self.any_worktree(id).await?;
        drop(taking_up);
        let under_way = worktree
            .operation
            .as_ref()
            .filter(|under_way| under_way.id == operation);
        let Some(under_way) = under_way else {
            let finished = worktree.finished.as_ref();
            let result = finished
                .filter(|finished| finished.id == operation)
                .map(|finished| finished.result.result())
                .ok_or_else(|| {
                    Error::state("what came of this is not known any more; look at the worktree")
                })?;
            return Ok(Done {
                worktree,
                revision,
                result,
            });
        };
        let body = under_way.body.clone();
        let time = time_for(&body);
        let order = Order {
            worktree_id: Some(id),
            operation_id: Some(operation),
            body,
        };
        let answer = self
            .relay()
            .order(worktree.daemon_id, order, time)
            .await
            .map_err(Error::maybe_done)?;
        let (worktree, revision) = self
            .change_worktree(id, |worktree, now| {
                worktree.finish(operation, &answer.result, now);
            })
            .await?;
        Ok(Done {
            worktree,
            revision,
            result: answer.result,
        })
    }

    /// Finds out what became of an operation that nobody is about any more: the server was restarted, or the
    /// link was lost. While its daemon is away, or works on it, it stays as it is.
    pub(super) async fn settle_worktree(
        &self,
        worktree: Worktree,
        revision: u64,
    ) -> Result<(Worktree, u64)> {
        let Some(operation) = &worktree.operation else {
            return Ok((worktree, revision));
        };
        let (id, operation) = (worktree.id, operation.id);
        if self.worktrees().is_driven(operation) {
            return Ok((worktree, revision));
        }
        let order = Order {
            worktree_id: Some(id),
            operation_id: Some(operation),
            body: OrderBody::Look,
        };
        let looked = self
            .relay()
            .order(worktree.daemon_id, order, LOOK_TIME)
            .await;
        let Ok(Outcome::Looked(looked)) = looked.and_then(|answer| answer.result) else {
            return Ok((worktree, revision));
        };
        if looked.busy {
            return Ok((worktree, revision));
        }
        let _nobody_takes_it_up = self.worktrees().taking_up.write().await;
        if looked.finished.is_none() && self.worktrees().is_driven(operation) {
            // It was taken up while the daemon looked.
            return Ok((worktree, revision));
        }
        let result = match &looked.finished {
            Some(kept) => kept.result(),
            None => Err(Error::new(
                Code::Unavailable,
                "the daemon was never told of this; ask for it again",
            )),
        };
        self.change_worktree(id, |worktree, now| {
            worktree.finish(operation, &result, now);
            if let Some(look) = &looked.look {
                worktree.saw(look.clone(), now);
            }
        })
        .await
    }

    /// Changes a worktree's record; repeats when somebody else changed it meanwhile.
    pub(super) async fn change_worktree(
        &self,
        id: WorktreeId,
        change: impl Fn(&mut Worktree, crate::base::Timestamp),
    ) -> Result<(Worktree, u64)> {
        for _ in 0..ATTEMPTS {
            let (mut worktree, revision) = self.any_worktree(id).await?;
            let before = worktree.clone();
            change(&mut worktree, self.clock().now());
            if worktree == before {
                return Ok((worktree, revision));
            }
            let op = records::put(
                records::worktree_key(id),
                &worktree,
                Expect::Revision(revision),
            )?;
            let commit = Commit {
                ops: vec![op],
                ..Commit::default()
            };
            match self.store().commit(commit).await {
                Ok(_) => return self.any_worktree(id).await,
                Err(store::Error::Stale { .. }) => {}
                Err(error) => return Err(failure::from_store(error)),
            }
        }
        Err(too_fast())
    }

    async fn any_worktree(&self, id: WorktreeId) -> Result<(Worktree, u64)> {
        records::get(self.store().as_ref(), &records::worktree_key(id))
            .await?
            .ok_or_else(|| Error::not_found("worktree", id))
    }

    /// Asks a daemon something that changes nothing.
    pub(super) async fn ask_worktrees(
        &self,
        daemon: crate::base::id::DaemonId,
        worktree_id: Option<WorktreeId>,
        body: OrderBody,
    ) -> Result<Outcome> {
        self.worktree_daemon(daemon).await?;
        let time = time_for(&body);
        let order = Order {
            worktree_id,
            operation_id: None,
            body,
        };
        self.relay().order(daemon, order, time).await?.result
    }
}

/// An answer of a daemon that does not fit what it was asked.
pub(super) fn unfit() -> Error {
    Error::internal("a daemon answered something that it was not asked")
}

fn too_fast() -> Error {
    Error::new(
        Code::Stale,
        "the worktree's record changes too fast; try again",
    )
}
