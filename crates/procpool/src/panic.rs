//! What a panic in a task says: caught by the hook, before anything unwinds.
//!
//! The hook keeps message, place and backtrace for the task's error, and leaves them as the worker's last words as
//! well, so that a program built with `panic = "abort"` tells as much: then it is the worker's death that tells it.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::OnceLock;

use procpool_engine::Notebook;

use crate::task::Panic;

/// Where last words go; there in workers only.
static NOTEBOOK: OnceLock<Notebook> = OnceLock::new();

thread_local! {
    /// Whether this thread runs a task, whose panics are the task's and not for standard error.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    /// The panics of the present task, those that it caught itself included.
    static PANICS: RefCell<Vec<Panic>> = const { RefCell::new(Vec::new()) };
}

/// A task that panics over and over, and catches it, is remembered by its first panics.
const REMEMBERED: usize = 4;

/// Worker: from now on panics of tasks are kept, not printed. Other threads' panics go to the hook that was there.
pub(crate) fn keep_panics(notebook: Notebook) {
    let _ = NOTEBOOK.set(notebook);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(
        move |info| if IN_TASK.get() { keep(describe(info)) } else { before(info) },
    ));
}

/// A panic that cannot unwind comes as a second one, and what it was about is in the first: so all are written down.
fn keep(panic: Panic) {
    PANICS.with_borrow_mut(|panics| {
        panics.truncate(REMEMBERED - 1);
        panics.push(panic);
        let words: Vec<String> = panics.iter().map(last_words).collect();
        write_note(&words.join("; then "));
    });
}

fn last_words(panic: &Panic) -> String {
    let place = panic.location.as_deref().unwrap_or("an unknown place");
    format!("panicked at {place}: {}", panic.message)
}

fn write_note(text: &str) {
    if let Some(notebook) = NOTEBOOK.get() {
        notebook.write(text);
    }
}

fn describe(info: &PanicHookInfo<'_>) -> Panic {
    // Captured only where RUST_BACKTRACE or RUST_LIB_BACKTRACE ask for it.
    let backtrace = Backtrace::capture();
    Panic {
        message: message(info.payload()),
        location: info.location().map(ToString::to_string),
        backtrace: (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
    }
}

/// What a panic said, by what it carries.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a value that is no text (`panic_any`)".to_owned())
}

/// Drops what a panic carried, which may itself panic when it is dropped.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
}

/// Calls `action`; a panic in it comes back as a value.
pub(crate) fn catch<R>(action: impl FnOnce() -> R) -> Result<R, Panic> {
    let outer = IN_TASK.replace(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(action));
    IN_TASK.set(outer);
    let panics = PANICS.take();
    if !panics.is_empty() {
        // It was survived: the worker's death, should it come, is about something else.
        write_note("");
    }
    result.map_err(|payload| {
        let message = message(&*payload);
        // Without a panic of these words the task had set a hook of its own, or unwound without one.
        let kept = panics.into_iter().rev().find(|panic| panic.message == message);
        discard(payload);
        kept.unwrap_or(Panic { message, ..Panic::default() })
    })
}
