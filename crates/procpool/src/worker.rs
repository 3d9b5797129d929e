//! A worker process of the typed crate: set up, then one call after the other.

use std::io::Write;
use std::sync::Arc;

use procpool_engine::launch::Attachment;
use procpool_engine::os::process;
use procpool_engine::{Call, Lease, Parts, Reply, Worker};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Buffers, CodecError, Encoded};
use crate::function;
use crate::panic;
use crate::task::{self, ITEM_RAISED, ITEM_RETURNED, Panic, Raised};

/// What a pool's workers do before their first task; followed by the initializer's request, if there is one.
#[derive(Serialize, serde::Deserialize)]
pub(crate) struct Setup {
    pub(crate) name: String,
    /// In bytes; the main thread's stack where there is none.
    pub(crate) stack: Option<usize>,
    pub(crate) initializer: bool,
}

/// The whole life of a worker process.
pub(crate) fn run(attachment: Attachment) -> ! {
    let code = match Worker::attach(attachment) {
        Ok(worker) => serve_on_stack(worker),
        Err(error) => {
            eprintln!("procpool: a worker could not start: {error}");
            1
        }
    };
    // Tasks may have printed without a line's end. Nothing else of the program's is run: exit handlers and
    // destructors are not this process's, it never was in `main`.
    let _ = std::io::stdout().flush();
    process::exit_now(code)
}

fn serve_on_stack(worker: Worker) -> i32 {
    let setup = worker.setup();
    let (rules, used) = match codec::decode::<Setup>(setup.head(), &Buffers::NONE) {
        Ok(decoded) => decoded,
        Err(error) => {
            worker.setup_failed(&error.to_string());
            return 1;
        }
    };
    process::set_name(&rules.name);
    let Some(stack) = rules.stack else { return serve(worker, &rules, &setup, used) };
    let builder = std::thread::Builder::new().name("procpool-worker".to_owned()).stack_size(stack);
    let thread = std::thread::scope(|scope| {
        let thread = builder.spawn_scoped(scope, || serve(worker, &rules, &setup, used));
        thread.map(|thread| thread.join().unwrap_or(1))
    });
    thread.unwrap_or_else(|error| {
        eprintln!("procpool: a worker could not have a stack of {stack} bytes: {error}");
        1
    })
}

fn serve(mut worker: Worker, rules: &Setup, setup: &Arc<Lease>, used: usize) -> i32 {
    panic::keep_panics(worker.notebook());
    if rules.initializer
        && let Err(message) = initialize(&setup.head()[used..], &task::buffers(Some(setup)))
    {
        worker.setup_failed(&message);
        return 1;
    }
    worker.ready();
    while let Some(call) = worker.next() {
        Encoded::with_spare(|out| answer(call, out));
    }
    worker.leave();
    0
}

fn initialize(request: &[u8], buffers: &Buffers) -> Result<(), String> {
    let (callable, arguments) = function::read(request)?;
    match panic::catch(|| callable.call(arguments, buffers, &mut Encoded::default())) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(Panic { message, location, backtrace }) => {
            let place = location.map(|place| format!(" at {place}")).unwrap_or_default();
            Err(format!(
                "panicked{place}: {message}{}",
                backtrace.map(|trace| format!("\n{trace}")).unwrap_or_default()
            ))
        }
    }
}

/// Runs one call and replies.
fn answer(call: Call<'_>, out: &mut Encoded) {
    let reply = {
        let buffers = task::buffers(call.lease());
        run_request(call.head(), &buffers, out)
    };
    // What the task printed is seen before its result is.
    let _ = std::io::stdout().flush();
    let buffers: Vec<&[u8]> = out.buffers.iter().map(codec::Outgoing::bytes).collect();
    call.reply(reply, &Parts { head: &out.head, tail: &[], buffers: &buffers });
}

/// Does what a request asks for, and writes what came of it.
pub(crate) fn run_request(request: &[u8], buffers: &Buffers, out: &mut Encoded) -> Reply {
    let outcome = function::read(request)
        .map_err(Raised::Argument)
        .and_then(|(callable, arguments)| run_one(|| callable.call(arguments, buffers, out)));
    let Err(raised) = outcome else { return Reply::Returned };
    out.clear();
    write_raised(&raised, out);
    Reply::Raised
}

fn run_one(call: impl FnOnce() -> Result<(), CodecError>) -> Result<(), Raised> {
    match panic::catch(call) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.is_decoding() => Err(Raised::Argument(error.to_string())),
        Ok(Err(error)) => Err(Raised::Result(error.to_string())),
        Err(panic) => Err(Raised::Panicked(panic)),
    }
}

fn write_raised(raised: &Raised, out: &mut Encoded) {
    codec::encode(raised, out).expect("strings can be encoded");
}

/// The trampoline of a single call.
pub(crate) fn call_one<A, R>(
    function: fn(),
    arguments: &[u8],
    buffers: &Buffers,
    out: &mut Encoded,
) -> Result<(), CodecError>
where
    A: DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    // SAFETY: a request names function and trampoline together, taken from the same pair of types.
    let function = unsafe { function::restore::<A, R>(function) };
    let argument = codec::decode_whole::<A>(arguments, buffers)?;
    write_result(&function(argument), out)
}

/// The trampoline of a chunk.
pub(crate) fn call_chunk<A, R>(
    function: fn(),
    arguments: &[u8],
    buffers: &Buffers,
    out: &mut Encoded,
) -> Result<(), CodecError>
where
    A: DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    // SAFETY: as in `call_one`.
    let function = unsafe { function::restore::<A, R>(function) };
    let (left, rest) = split_count(arguments);
    let mut chunk = Arguments { left, rest, buffers, reply: 0 };
    // Once round for the whole chunk, and once more after each item that has no result.
    while chunk.left > 0 {
        if let Err(raised) = run_one(|| chunk.run(function, out)) {
            out.head.truncate(chunk.reply);
            out.head.push(ITEM_RAISED);
            write_raised(&raised, out);
        }
    }
    Ok(())
}

/// The arguments of a chunk that are still to be run.
struct Arguments<'c> {
    left: u32,
    rest: &'c [u8],
    buffers: &'c Buffers,
    /// Where the present item's reply begins.
    reply: usize,
}

impl Arguments<'_> {
    /// Runs items until there are none left, or one fails.
    fn run<A, R>(&mut self, function: fn(A) -> R, out: &mut Encoded) -> Result<(), CodecError>
    where
        A: DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        while self.left > 0 {
            self.reply = out.head.len();
            // If this one cannot be decoded, nobody knows where the next begins: then none is left.
            let left = std::mem::take(&mut self.left);
            let (argument, used) = codec::decode::<A>(self.rest, self.buffers)?;
            (self.left, self.rest) = (left - 1, &self.rest[used..]);
            out.head.push(ITEM_RETURNED);
            write_result(&function(argument), out)?;
        }
        Ok(())
    }
}

/// How many arguments follow. A request too short to say has none: then its reply is too short as well.
fn split_count(arguments: &[u8]) -> (u32, &[u8]) {
    arguments.split_first_chunk::<4>().map_or((0, &[]), |(count, rest)| (u32::from_le_bytes(*count), rest))
}

fn write_result<R: Serialize + DeserializeOwned + 'static>(
    result: &R,
    out: &mut Encoded,
) -> Result<(), CodecError> {
    let start = out.head.len();
    codec::encode(result, out)?;
    codec::check_faithful::<R>(out, start)
}
