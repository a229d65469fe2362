//! A future beside a busy one, which is polled only when it was woken.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// What stream and body keep beside their data to learn that they must end. They are polled for every piece of data, and
/// such an end, which waits for several things, costs more to poll than the data: so it is asked only after it has rung.
pub struct Woken<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    /// Whether it rang, or was never asked.
    rang: AtomicBool,
    /// Who is told.
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Woken<F> {
    /// Asked for the first time when it is first polled.
    pub fn new(future: F) -> Self {
        let bell = Arc::new(Bell {
            rang: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        Woken {
            future: Box::pin(future),
            waker: Waker::from(bell.clone()),
            bell,
        }
    }

    /// As a future's `poll`. After it was ready it must not be polled again.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Registered before the look, so that a ring in between is not missed.
        self.bell.task.register(cx.waker());
        if !self.bell.rang.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let mut own = Context::from_waker(&self.waker);
        self.future.as_mut().poll(&mut own)
    }
}

/// Waits for `main`, or for an end that comes first (then it is the error).
pub async fn until<M: Future, E: Future>(
    mut main: Pin<&mut M>,
    end: &mut Woken<E>,
) -> Result<M::Output, E::Output> {
    poll_fn(|cx| match main.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => end.poll(cx).map(Err),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn it_is_asked_only_when_it_rang_and_then_tells_whoever_waits() {
        let polls = Rc::new(Cell::new(0));
        let inner: Rc<Cell<Option<Waker>>> = Rc::default();
        let (counted, kept, mut left) = (polls.clone(), inner.clone(), 2);
        let mut woken = Woken::new(std::future::poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            kept.set(Some(cx.waker().clone()));
            left -= 1;
            if left == 0 {
                Poll::Ready("over")
            } else {
                Poll::Pending
            }
        }));
        let told = Arc::new(Bell {
            rang: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        let waker = Waker::from(told.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..5 {
            assert!(woken.poll(&mut cx).is_pending());
        }
        assert_eq!(polls.get(), 1, "it did not ring");
        inner.take().expect("its waker").wake();
        assert!(told.rang.load(Ordering::Acquire), "the task is told");
        assert_eq!(woken.poll(&mut cx), Poll::Ready("over"));
        assert_eq!(polls.get(), 2);
    }
}
