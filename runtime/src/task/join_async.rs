//! Joining a task in `async` code. The word that names a waiting task or thread names the future's [`WakerSlot`] instead.

use super::join_word::SetWaiter;
use super::spawn::JoinHandle;
use super::waker_slot::WakerSlot;
use crate::error::JoinError;
use crate::primitive::Arc;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for a task's end; what awaiting a [`JoinHandle`] makes. Dropping it detaches the task, as dropping the handle does.
#[must_use = "a future does nothing until it is polled"]
pub struct JoinFuture<T> {
    /// None: it was ready.
    handle: Option<JoinHandle<T>>,
    waiting: Option<Waiting>,
}

/// A token that was published in the join word.
struct Waiting {
    slot: Arc<WakerSlot>,
    token: usize,
}

impl<T> IntoFuture for JoinHandle<T> {
    type Output = Result<T, JoinError>;
    type IntoFuture = JoinFuture<T>;

    /// For `async` code: on any executor, of this runtime ([`block_on`](crate::block_on)) or another.
    fn into_future(self) -> JoinFuture<T> {
        JoinFuture {
            handle: Some(self),
            waiting: None,
        }
    }
}

impl<T> Future for JoinFuture<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let handle = this.handle.as_ref().expect("a JoinFuture is ready once");
        if !handle.is_finished() {
            match &this.waiting {
                Some(waiting) => {
                    if waiting.slot.register(context.waker()) {
                        return Poll::Pending;
                    }
                }
                None => {
                    let slot = WakerSlot::new(context.waker().clone());
                    let token = WakerSlot::token(&slot);
                    match handle.word().set_waiter(token) {
                        SetWaiter::Waiting => {
                            this.waiting = Some(Waiting { slot, token });
                            return Poll::Pending;
                        }
                        // SAFETY: it was not published, so it is ours.
                        SetWaiter::Done => drop(unsafe { WakerSlot::from_token(token) }),
                    }
                }
            }
        }
        this.waiting = None; // the finisher has the token
        let handle = this.handle.take().expect("borrowed above");
        Poll::Ready(handle.take())
    }
}

impl<T> Drop for JoinFuture<T> {
    fn drop(&mut self) {
        if let (Some(handle), Some(waiting)) = (&self.handle, &self.waiting)
            && handle.word().clear_waiter(waiting.token)
        {
            // SAFETY: the finisher did not get it, so it is ours.
            drop(unsafe { WakerSlot::from_token(waiting.token) });
        }
    }
}

// Nothing points into it.
impl<T> Unpin for JoinFuture<T> {}

impl<T> fmt::Debug for JoinFuture<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JoinFuture")
            .field("handle", &self.handle)
            .finish()
    }
}
