//! The handle of one call.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use procpool_engine::{Outcome, Task};
use serde::de::DeserializeOwned;

use crate::codec;
use crate::error::{Error, Result};
use crate::panic;
use crate::task;

/// The result of a task, once there is one. Made by [`Pool::apply_async`](crate::Pool::apply_async).
///
/// It is a [`Future`] as well, for any executor. Dropping it does not cancel the task.
///
/// ```
/// let pool = procpool::Pool::new(2)?;
/// let sum = pool.apply_async(|(a, b): (u8, u8)| a + b, (1, 2))?;
/// let text = pool
///     .apply_async(|n: u32| "ab".repeat(n as usize), 2)?
///     .on_success(|text| println!("it is {text}"))
///     .on_error(|error| println!("no luck: {error}"));
/// assert_eq!(sum.get()?, 3);
/// assert_eq!(text.get()?, "abab");
/// # Ok::<(), procpool::Error>(())
/// ```
#[must_use = "dropping the handle gives its result away; the task runs all the same"]
pub struct AsyncResult<R> {
    state: State<R>,
}

enum State<R> {
    /// Nobody listens: the handle waits on the task's own slot.
    Task(Task, PhantomData<fn() -> R>),
    /// An executor listens.
    Polled(Box<(Task, Arc<Mutex<Waker>>)>),
    /// Callbacks listen: the collector takes the result, and leaves it here.
    Completion(Arc<Completion<R>>),
    /// The result was taken.
    Taken,
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = match &self.state {
            State::Task(task, _) => Some(task.ticket()),
            State::Polled(polled) => Some(polled.0.ticket()),
            State::Completion(completion) => Some(completion.ticket),
            State::Taken => None,
        };
        f.debug_struct("AsyncResult").field("task", &task).finish_non_exhaustive()
    }
}

/// What the collector does with a result when it is there.
type Callback<R> = Box<dyn FnOnce(&Result<R>) + Send>;

/// A result on its way through the collector.
struct Completion<R> {
    ticket: u64,
    progress: Mutex<Progress<R>>,
    changed: Condvar,
}

struct Progress<R> {
    /// Until it has ended.
    task: Option<Task>,
    callbacks: Vec<Callback<R>>,
    waker: Option<Waker>,
    /// Once all callbacks were called; until it is taken.
    result: Option<Result<R>>,
    /// Whether the task returned; known once all callbacks were called.
    success: Option<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes and decodes a task's outcome.
fn take<R: DeserializeOwned>(task: Task) -> Result<R> {
    match task.take() {
        Outcome::Returned(payload) => {
            let buffers = task::buffers_of(&payload);
            Ok(task::with_head(&payload, |head| codec::decode_whole(head, &buffers))?)
        }
        Outcome::Raised(payload) => {
            let buffers = task::buffers_of(&payload);
            Err(task::with_head(&payload, |head| task::read_raised(head, &buffers)))
        }
        Outcome::Failed(failure) => Err(failure.into()),
    }
}

/// As [`take`], for the collector: a panic in the result's own code is not the collector's.
fn take_unwinding<R: DeserializeOwned>(task: Task) -> Result<R> {
    let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(task)));
    taken.unwrap_or_else(|payload| {
        let message = format!("while its result was decoded in this process: {}", panic::message(&*payload));
        panic::discard(payload);
        Err(Error::Panicked { message, location: None, backtrace: None })
    })
}

impl<R: DeserializeOwned + 'static> AsyncResult<R> {
    pub(crate) fn new(task: Task) -> Self {
        Self { state: State::Task(task, PhantomData) }
    }

    /// Waits for the result and takes it.
    ///
    /// # Errors
    /// Whatever became of the task instead: see [`Error`].
    ///
    /// # Panics
    /// If the result was taken already, by [`AsyncResult::get_timeout`] or as a future.
    pub fn get(mut self) -> Result<R> {
        self.take_within(None)
    }

    /// As [`AsyncResult::get`], but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::NotReady`] when the time was over first: then the handle can still be used.
    ///
    /// # Panics
    /// If the result was taken already.
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<R> {
        self.take_within(Some(timeout))
    }

    fn take_within(&mut self, timeout: Option<Duration>) -> Result<R> {
        if !self.wait_within(timeout) {
            return Err(Error::NotReady);
        }
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Task(task, _) => take(task),
            State::Polled(polled) => take(polled.0),
            State::Completion(completion) => {
                lock(&completion.progress).result.take().expect("the handle is the only one that takes")
            }
            State::Taken => panic!("the result of this task was taken already"),
        }
    }

    /// Waits until the task has ended, and its callbacks were called.
    pub fn wait(&self) {
        self.wait_within(None);
    }

    /// As [`AsyncResult::wait`], for at most `timeout`. True when the task has ended.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_within(Some(timeout))
    }

    fn wait_within(&self, timeout: Option<Duration>) -> bool {
        match &self.state {
            State::Task(task, _) => task.wait(timeout),
            State::Polled(polled) => polled.0.wait(timeout),
            State::Completion(completion) => completion.wait(timeout),
            State::Taken => true,
        }
    }

    /// Whether the task has ended, and its callbacks were called.
    pub fn is_ready(&self) -> bool {
        self.wait_within(Some(Duration::ZERO))
    }

    /// Whether the task ended with a result; `None` while it has not ended, or when the result was taken.
    pub fn is_successful(&self) -> Option<bool> {
        match &self.state {
            State::Task(task, _) => task.returned(),
            State::Polled(polled) => polled.0.returned(),
            State::Completion(completion) => lock(&completion.progress).success,
            State::Taken => None,
        }
    }

    /// Cancels the task if no worker has it yet. True when it was cancelled now.
    pub fn cancel(&self) -> bool {
        self.with_task(Task::cancel)
    }

    /// Cancels the task, also while it runs: then the worker that runs it is killed, and no other. True when it was
    /// cancelled now; false when it had ended, or was cancelled before.
    pub fn cancel_running(&self) -> bool {
        self.with_task(Task::cancel_running)
    }

    fn with_task(&self, action: impl FnOnce(&Task) -> bool) -> bool {
        match &self.state {
            State::Task(task, _) => action(task),
            State::Polled(polled) => action(&polled.0),
            State::Completion(completion) => lock(&completion.progress).task.as_ref().is_some_and(action),
            State::Taken => false,
        }
    }
}

impl<R: DeserializeOwned + Send + 'static> AsyncResult<R> {
    /// Calls `callback` with the result when there is one, before [`AsyncResult::get`] gives it. It is called on a
    /// thread of the pool's, so it must not block for long; or at once, if the result is there already.
    pub fn on_success(self, callback: impl FnOnce(&R) + Send + 'static) -> Self {
        self.on_end(Box::new(|result| {
            if let Ok(value) = result {
                callback(value);
            }
        }))
    }

    /// Calls `callback` with what became of the task instead of a result; otherwise as [`AsyncResult::on_success`].
    pub fn on_error(self, callback: impl FnOnce(&Error) + Send + 'static) -> Self {
        self.on_end(Box::new(|result| {
            if let Err(error) = result {
                callback(error);
            }
        }))
    }

    fn on_end(self, callback: Callback<R>) -> Self {
        let completion = match self.state {
            State::Completion(completion) => completion,
            State::Task(task, _) => Completion::begin(task),
            State::Polled(polled) => Completion::begin(polled.0),
            State::Taken => return Self { state: State::Taken },
        };
        completion.add(callback);
        Self { state: State::Completion(completion) }
    }
}

impl<R: DeserializeOwned + 'static> Completion<R> {
    fn wait(&self, timeout: Option<Duration>) -> bool {
        if let Some(task) = self.unheard_task() {
            return self.complete_here(task, timeout);
        }
        let deadline = timeout.and_then(|span| Instant::now().checked_add(span));
        let mut progress = lock(&self.progress);
        while progress.success.is_none() {
            progress = match deadline {
                None => self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// The task, where the collector does not come to serve it: it is in the callback that waits here, or in the process
    /// that this one is a fork of.
    fn unheard_task(&self) -> Option<Task> {
        lock(&self.progress).task.take_if(|task| task.is_unheard_here())
    }

    /// Does what the collector would do. False where the time is over first.
    fn complete_here(&self, task: Task, timeout: Option<Duration>) -> bool {
        let has_ended = task.wait(timeout);
        if has_ended {
            self.complete_with(task);
        } else {
            lock(&self.progress).task = Some(task);
        }
        has_ended
    }

    /// Collector: the task has ended.
    fn complete(&self) {
        let Some(task) = lock(&self.progress).task.take() else { return };
        self.complete_with(task);
    }

    fn complete_with(&self, task: Task) {
        let result = take_unwinding::<R>(task);
        loop {
            let mut progress = lock(&self.progress);
            let callbacks = std::mem::take(&mut progress.callbacks);
            if callbacks.is_empty() {
                progress.success = Some(result.is_ok());
                progress.result = Some(result);
                let waker = progress.waker.take();
                drop(progress);
                self.changed.notify_all();
                // Without the lock: whoever is woken may look at once, in here.
                waker.into_iter().for_each(Waker::wake);
                return;
            }
            drop(progress);
            callbacks.into_iter().for_each(|callback| call(callback, &result));
        }
    }
}

impl<R: DeserializeOwned + Send + 'static> Completion<R> {
    fn begin(task: Task) -> Arc<Self> {
        let progress =
            Progress { task: None, callbacks: Vec::new(), waker: None, result: None, success: None };
        let completion =
            Arc::new(Self { ticket: task.ticket(), progress: Mutex::new(progress), changed: Condvar::new() });
        let listener = completion.clone();
        let mut progress = lock(&completion.progress);
        // The listener may be called at once, on the collector's thread; it waits for the lock.
        let unheard = task.listen(move || listener.complete());
        progress.task = Some(task);
        drop(progress);
        if let Some(listener) = unheard {
            listener();
        }
        completion
    }

    fn add(&self, callback: Callback<R>) {
        let mut progress = lock(&self.progress);
        match progress.result.take() {
            None => progress.callbacks.push(callback),
            Some(result) => {
                drop(progress);
                call(callback, &result);
                lock(&self.progress).result = Some(result);
            }
        }
    }
}

fn call<R>(callback: Callback<R>, result: &Result<R>) {
    // A callback that panics has been reported by the panic hook; the result is there all the same.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(result)))
        .unwrap_or_else(panic::discard);
}

impl<R: DeserializeOwned + 'static> Future for AsyncResult<R> {
    type Output = Result<R>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.listen(context.waker());
        // After the registration: an end that came before it is seen here.
        if self.is_ready() { Poll::Ready(self.take_within(None)) } else { Poll::Pending }
    }
}

impl<R> AsyncResult<R> {
    /// Sees to it that the waker is woken when the task has ended.
    fn listen(&mut self, waker: &Waker) {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Task(task, _) => {
                let shared = Arc::new(Mutex::new(waker.clone()));
                let listener = shared.clone();
                // The task has ended where it is given back, and whoever polls looks after that.
                let _ = task.listen(move || {
                    // Without the lock: whoever is woken may poll at once, in here.
                    let waker = lock(&listener).clone();
                    waker.wake();
                });
                self.state = State::Polled(Box::new((task, shared)));
            }
            State::Polled(polled) => {
                lock(&polled.1).clone_from(waker);
                self.state = State::Polled(polled);
            }
            State::Completion(completion) => {
                lock(&completion.progress).waker = Some(waker.clone());
                self.state = State::Completion(completion);
            }
            State::Taken => {}
        }
    }
}

// The result is only ever held by value or behind a lock; nothing points into the handle.
impl<R> Unpin for AsyncResult<R> {}
