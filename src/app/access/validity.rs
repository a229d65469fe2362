//! The end of a token, for what was opened with it.
//!
//! A token may have opened thousands of streams, and most of them are silent. So none looks after its token by itself: one
//! job looks after all tokens that something was opened with, and a stream sleeps until it is told or its token expires.
//! Most tokens never change, so the job asks which did and looks at no other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Access, Caller, Inner};
use crate::app::{failure, records};
use crate::base::id::TokenId;
use crate::base::{Code, Error, Result, Timestamp};
use crate::store;

/// The shortest wait between two looks, so that clocks that disagree do not make a busy loop.
const LEAST_WAIT: Duration = Duration::from_millis(20);
/// After so many tokens the job lets others go first; so many changes it asks for at once.
const AT_ONCE: usize = 64;

/// A token, and the one that it was made with.
type Pair = (TokenId, Option<TokenId>);

/// The tokens that something was opened with.
#[derive(Default)]
pub(super) struct Watched {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What pairs have opened; who goes just goes.
    ends: HashMap<Pair, Opened>,
    /// Whether there is a job.
    has_job: bool,
}

/// What a pair has opened.
#[derive(Default)]
struct Opened {
    /// Where it waits for its end.
    end: watch::Sender<Option<Error>>,
    /// When the pair is to be looked at again, as far as is known.
    until: Option<Timestamp>,
}

impl Watched {
    /// Those that somebody waits for, with when they are to be looked at again. Empty: there is nobody, and the job is over.
    fn pairs(&self) -> Vec<(Pair, Option<Timestamp>)> {
        let mut state = self.state.lock();
        state
            .ends
            .retain(|_, opened| opened.end.receiver_count() > 0);
        state.has_job = !state.ends.is_empty();
        let ends = state.ends.iter();
        ends.map(|(pair, opened)| (*pair, opened.until)).collect()
    }

    fn look_again(&self, pair: Pair, at: Option<Timestamp>) {
        if let Some(opened) = self.state.lock().ends.get_mut(&pair) {
            opened.until = at;
        }
    }

    fn end(&self, pair: Pair, error: Error) {
        if let Some(opened) = self.state.lock().ends.remove(&pair) {
            opened.end.send_replace(Some(error));
        }
    }
}

impl Access {
    /// Completes with the error to end with when the caller's token is revoked or expires: at once when it
    /// was revoked here, otherwise within 30 s. While the store cannot be read, the token counts as valid.
    pub fn watch_validity(&self, caller: &Caller) -> impl Future<Output = Error> + Send + 'static {
        let access = self.clone();
        let pair = (caller.token_id, caller.made_with);
        async move {
            let mut end = access.end_of(pair);
            loop {
                // What was over before the job knew of it, or has expired. Boxed: it is done at once, and this waits for days.
                let until = match Box::pin(access.check(pair.0, pair.1)).await {
                    Err(error) if error.code() == Code::Unauthenticated => return error,
                    Err(error) => {
                        tracing::warn!(%error, "cannot look at a token");
                        let now = access.inner.clock.now();
                        Some(now.saturating_add(access.inner.recheck_every))
                    }
                    Ok(until) => until,
                };
                // For the job too: this one's timer stands still while the machine sleeps.
                access.inner.watched.look_again(pair, until);
                tokio::select! {
                    told = end.wait_for(Option::is_some) => {
                        // Its sender lives in `access` until it has told.
                        let told = told.ok().and_then(|error| error.clone());
                        return told.unwrap_or_else(|| Error::internal("a token is watched by nobody"));
                    }
                    () = access.expiry(until) => {}
                }
            }
        }
    }

    /// Waits until a token that expires has done so.
    async fn expiry(&self, at: Option<Timestamp>) {
        match at {
            Some(at) => {
                let wait = at.saturating_since(self.inner.clock.now()).max(LEAST_WAIT);
                tokio::time::sleep(wait).await;
            }
            None => std::future::pending().await,
        }
    }

    fn end_of(&self, pair: Pair) -> watch::Receiver<Option<Error>> {
        let mut state = self.inner.watched.state.lock();
        if !state.ends.contains_key(&pair) {
            // The first look is at what is stored: the job does not look at what changed before it knew of the pair.
            let mut cache = self.inner.cache.lock();
            [Some(pair.0), pair.1]
                .into_iter()
                .flatten()
                .for_each(|id| cache.remove(id));
        }
        let end = state.ends.entry(pair).or_default().end.subscribe();
        if !std::mem::replace(&mut state.has_job, true) {
            let revocations = self.inner.revocations.subscribe();
            // Who waits looks at the store once, after this: so nothing is missed.
            let through = *self.inner.store.watch_revision().borrow();
            tokio::spawn(look_after(
                Arc::downgrade(&self.inner),
                revocations,
                through,
            ));
        }
        end
    }

    /// Looks at the tokens that have changed since a revision or may have expired, of those that something was opened with.
    /// Answers with the revision to look from next; `None` if something was opened with none any more.
    async fn look(&self, since: u64) -> Option<u64> {
        let pairs = self.inner.watched.pairs();
        if pairs.is_empty() {
            return None;
        }
        let through = *self.inner.store.watch_revision().borrow();
        let changed = match self.changed(since).await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(%error, "cannot look at tokens again");
                return Some(since);
            }
        };
        let (mut next, now) = (through, self.inner.clock.now());
        for (at, (pair, until)) in pairs.iter().enumerate() {
            if at % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            if !changed.has(*pair) && until.is_none_or(|until| now < until) {
                // An open stream is a use too, however long it lasts.
                self.inner.uses.note(pair.0, now);
                continue;
            }
            match self.check(pair.0, pair.1).await {
                Err(error) if error.code() == Code::Unauthenticated => {
                    self.inner.watched.end(*pair, error);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot look at a token again");
                    next = since;
                }
                Ok(until) => self.inner.watched.look_again(*pair, until),
            }
        }
        Some(next)
    }

    /// The tokens whose records have changed since a revision, or are gone since; they are read anew from now on.
    async fn changed(&self, mut since: u64) -> Result<Changed> {
        let mut changed = HashSet::new();
        loop {
            let page = self.inner.store.changes(records::TOKENS, since, AT_ONCE);
            let page = match page.await {
                Ok(page) => page,
                Err(store::Error::Forgotten { .. }) => {
                    self.inner.cache.lock().clear();
                    return Ok(Changed::Any);
                }
                Err(error) => return Err(failure::from_store(error)),
            };
            let Some(last) = page.last() else {
                return Ok(Changed::These(changed));
            };
            since = last.revision;
            let ids = page.iter().filter_map(|change| {
                let id = change.key.strip_prefix(records::TOKENS)?;
                TokenId::parse("token", id).ok()
            });
            for id in ids {
                // Whoever changed it may not have said so.
                self.inner.cache.lock().remove(id);
                changed.insert(id);
            }
        }
    }
}

/// Which tokens may be other than they were.
enum Changed {
    These(HashSet<TokenId>),
    Any,
}

impl Changed {
    /// Whether a pair is to be looked at: either of it may have ended what it opened.
    fn has(&self, (own, maker): Pair) -> bool {
        match self {
            Changed::These(ids) => {
                ids.contains(&own) || maker.is_some_and(|maker| ids.contains(&maker))
            }
            Changed::Any => true,
        }
    }
}

/// The job: looks at once when a token was revoked, and now and then for what it was not told. It ends when nobody waits for
/// anything; the next who waits begins another.
async fn look_after(inner: Weak<Inner>, mut revocations: watch::Receiver<u64>, mut through: u64) {
    loop {
        let Some(access) = inner.upgrade().map(|inner| Access { inner }) else {
            return;
        };
        // Marked as seen before the look, so that a revocation during it causes another.
        revocations.borrow_and_update();
        let Some(next) = access.look(through).await else {
            return;
        };
        through = next;
        let wait = access.inner.recheck_every;
        drop(access);
        tokio::select! {
            changed = revocations.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait.max(LEAST_WAIT)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::base::{Secret, SystemClock};
    use crate::domain::Scope;
    use crate::store::{Commit, memory};

    async fn first_admin() -> (Access, Caller) {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = SystemClock::shared();
        let access = Access::new(memory::shared(clock.clone()), clock);
        let file = access.bootstrap(dir.path()).await.expect("stored");
        let secret = std::fs::read_to_string(file.expect("a file")).expect("readable");
        let secret = Secret::new(secret.trim());
        let caller = access.authenticate(&secret).await.expect("the admin");
        (access, caller)
    }

    async fn viewer(access: &Access, admin: &Caller) -> Caller {
        let minted = access.create_token(admin, "viewer", Scope::Viewer, None, None);
        let minted = minted.await.expect("made");
        let caller = access.authenticate(&minted.secret).await;
        caller.expect("the viewer")
    }

    fn wait(access: &Access, caller: &Caller) -> BoxFuture<'static, Error> {
        let mut end = access.watch_validity(caller).boxed();
        assert!((&mut end).now_or_never().is_none(), "the token is valid");
        end
    }

    fn watched(access: &Access) -> (usize, bool) {
        let state = access.inner.watched.state.lock();
        (state.ends.len(), state.has_job)
    }

    #[tokio::test(start_paused = true)]
    async fn one_job_tells_all_who_wait_for_the_end_of_a_token() {
        let (access, admin) = first_admin().await;
        let (revoked, other) = (viewer(&access, &admin).await, viewer(&access, &admin).await);
        let ends: Vec<_> = (0..100).map(|_| wait(&access, &revoked)).collect();
        let mut others = wait(&access, &other);
        assert_eq!(watched(&access), (2, true));
        access.revoke(revoked.token_id).await.expect("revoked");
        for end in ends {
            assert_eq!(end.await.code(), Code::Unauthenticated);
        }
        assert!((&mut others).now_or_never().is_none());
        assert_eq!(watched(&access), (1, true));
        // Who goes is missed at the next look; then the job ends, and begins anew with the next who waits.
        drop(others);
        tokio::time::sleep(2 * access.inner.recheck_every).await;
        assert_eq!(watched(&access), (0, false));
        let end = wait(&access, &other);
        assert_eq!(watched(&access), (1, true));
        access.revoke(other.token_id).await.expect("revoked");
        assert_eq!(end.await.code(), Code::Unauthenticated);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_went_without_a_word_ends_what_it_opened() {
        let (access, admin) = first_admin().await;
        let (gone, other) = (viewer(&access, &admin).await, viewer(&access, &admin).await);
        let (end, mut others) = (wait(&access, &gone), wait(&access, &other));
        let commit = Commit {
            ops: vec![records::remove(records::token_key(gone.token_id))],
            ..Commit::default()
        };
        access.inner.store.commit(commit).await.expect("stored");
        let told = tokio::time::timeout(Duration::from_secs(30), end).await;
        let told = told.expect("it is noticed within 30 s");
        assert_eq!(told.code(), Code::Unauthenticated);
        assert!((&mut others).now_or_never().is_none());
    }

    #[tokio::test]
    async fn nothing_is_opened_with_a_token_that_went_without_a_word_before() {
        let (access, admin) = first_admin().await;
        let gone = viewer(&access, &admin).await;
        let commit = Commit {
            ops: vec![records::remove(records::token_key(gone.token_id))],
            ..Commit::default()
        };
        access.inner.store.commit(commit).await.expect("stored");
        let told = access.watch_validity(&gone).now_or_never();
        assert_eq!(told.map(|told| told.code()), Some(Code::Unauthenticated));
    }
}
