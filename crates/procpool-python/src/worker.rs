//! A worker process: claim, decode, call, encode, reply.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use procpool_engine::launch::Attachment;
use procpool_engine::{Reply, Worker};
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::decode::Message;
use crate::encode::{Encoded, Encoder};
use crate::function::Call;
use crate::sandbox::Sandbox;

/// Functions that are kept at most, and the longest that is: a function that carries much data is not for ever.
const KEPT_FUNCTIONS: usize = 256;
const KEPT_LENGTH: usize = 64 << 10;

/// What a worker of Python needs for its tasks.
struct Interpreter<'py> {
    encoder: Encoder,
    loads: Bound<'py, PyAny>,
    /// The namespace of `sys`, where the standard output is.
    sys: Bound<'py, PyDict>,
    list: Bound<'py, PyAny>,
    map: Bound<'py, PyAny>,
    starmap: Bound<'py, PyAny>,
    /// An exception becomes bytes: `report(exception)`.
    report: Bound<'py, PyAny>,
    /// So does a result that cannot be pickled, and why: `unpicklable(exception, result)`.
    unpicklable: Bound<'py, PyAny>,
    /// By their encodings; the one that was called last comes first.
    functions: Vec<(Box<[u8]>, Py<PyAny>)>,
}

/// Serves a pool until it needs this process no more. `prepare` is called first; if it raises, the pool gives up with
/// what `prepare_failed` makes of that.
#[pyfunction]
#[pyo3(signature = (seat, descriptors, sandbox, *, prepare, prepare_failed, report, unpicklable, make_pickler, reducers, loads))]
#[allow(clippy::too_many_arguments, reason = "all by name, and given once, by the package")]
pub(crate) fn work(
    py: Python<'_>,
    seat: u32,
    descriptors: Vec<RawFd>,
    sandbox: Option<&Sandbox>,
    prepare: &Bound<'_, PyAny>,
    prepare_failed: &Bound<'_, PyAny>,
    report: Bound<'_, PyAny>,
    unpicklable: Bound<'_, PyAny>,
    make_pickler: Py<PyAny>,
    reducers: Vec<Py<PyDict>>,
    loads: Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: the package gives descriptors that it has just received or duplicated for this call alone.
    let mut owned = descriptors.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
    let mut next = || owned.next().ok_or_else(|| PyValueError::new_err("a worker's descriptor is missing"));
    let (region, parent, poke) = (next()?, next()?, next()?);
    let sandbox = sandbox.map(|sandbox| next().map(|ruleset| sandbox.confinement(ruleset))).transpose()?;
    let attachment = Attachment { seat, region, parent, poke, sandbox };
    let mut worker = Worker::attach(attachment).map_err(attach_failed)?;
    if let Err(error) = prepare.call0() {
        let message = prepare_failed.call1((error.into_value(py),))?.extract::<String>()?;
        worker.setup_failed(&message);
        worker.leave();
        return Ok(());
    }
    worker.ready();
    let builtins = py.import("builtins")?;
    let mut interpreter = Interpreter {
        encoder: Encoder::new(py, make_pickler, reducers),
        loads,
        sys: py.import("sys")?.dict(),
        list: builtins.getattr("list")?,
        map: builtins.getattr("map")?,
        starmap: py.import("itertools")?.getattr("starmap")?,
        report,
        unpicklable,
        functions: Vec::new(),
    };
    let served = interpreter.serve(py, &mut worker);
    worker.leave();
    served
}

fn attach_failed(error: io::Error) -> PyErr {
    PyRuntimeError::new_err(format!("this worker cannot reach its pool: {error}"))
}

impl<'py> Interpreter<'py> {
    /// An error ends the process: what a signal's handler raised while there was no task.
    fn serve(&mut self, py: Python<'py>, worker: &mut Worker) -> PyResult<()> {
        loop {
            let mut interrupted = Ok(());
            let call = py.detach(|| {
                worker.next_unless(|| {
                    interrupted = crate::handle_signals();
                    interrupted.is_err()
                })
            });
            let Some(call) = call else { return interrupted };
            let result = Message::new(call.head(), call.lease()).and_then(|message| self.run(py, &message));
            let (reply, encoded, may_stay) = match result {
                Ok(result) => self.encode(&result)?,
                Err(error) => {
                    // What is no `Exception` is meant to end the process, and does so once it was reported.
                    let may_stay = error.is_instance_of::<PyException>(py);
                    let account = self.report.call1((error.into_value(py),))?;
                    (Reply::Raised, Encoded::of_bytes(account.cast::<PyBytes>()?.as_bytes()), may_stay)
                }
            };
            self.flush();
            encoded.send(py, |parts| call.reply(reply, parts));
            if !may_stay {
                return Ok(());
            }
        }
    }

    fn encode(&self, result: &Bound<'py, PyAny>) -> PyResult<(Reply, Encoded, bool)> {
        match self.encoder.encode(0, None, result) {
            Ok(encoded) => Ok((Reply::Returned, encoded, true)),
            Err(error) => {
                let account = self.unpicklable.call1((error.into_value(result.py()), result))?;
                Ok((Reply::Raised, Encoded::of_bytes(account.cast::<PyBytes>()?.as_bytes()), true))
            }
        }
    }

    /// What the task printed is seen when it has ended, not when its worker ends.
    fn flush(&self) {
        let py = self.sys.py();
        // There may be none, or a closed one: then nothing was printed that could be seen.
        if let Ok(Some(stdout)) = self.sys.get_item(intern!(py, "stdout")) {
            let _ = stdout.call_method0(intern!(py, "flush"));
        }
    }

    fn run(&mut self, py: Python<'py>, message: &Message<'_>) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function(py, message)?;
        let argument = message.object(&self.loads)?;
        match Call::from_number(message.frame.call) {
            Some(Call::One) => function.call1((argument,)),
            Some(Call::Apply) => {
                let (positional, named) = argument.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
                drop(argument);
                function.call(to_tuple(positional)?, Some(&to_dict(named)?))
            }
            Some(Call::Spread) => function.call1(to_tuple(argument)?),
            Some(Call::Map) => self.list.call1((self.map.call1((function, argument))?,)),
            Some(Call::StarMap) => self.list.call1((self.starmap.call1((function, argument))?,)),
            None => Err(PyRuntimeError::new_err("the task names no kind of call that this version knows")),
        }
    }

    fn function(&mut self, py: Python<'py>, message: &Message<'_>) -> PyResult<Bound<'py, PyAny>> {
        let encoded = message.frame.function;
        if let Some(place) = self.functions.iter().position(|(known, _)| **known == *encoded) {
            self.functions.swap(0, place);
            return Ok(self.functions[0].1.bind(py).clone());
        }
        let function = self.loads.call1((PyBytes::new(py, encoded),))?;
        if message.frame.cacheable && encoded.len() <= KEPT_LENGTH {
            if self.functions.len() >= KEPT_FUNCTIONS {
                self.functions.clear();
            }
            self.functions.insert(0, (encoded.into(), function.clone().unbind()));
        }
        Ok(function)
    }
}

/// `function(*positional)` takes any iterable.
fn to_tuple<'py>(positional: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let tuple = match positional.cast_into::<PyTuple>() {
        Ok(tuple) => return Ok(tuple),
        Err(other) => other.into_inner(),
    };
    Ok(tuple.py().get_type::<PyTuple>().call1((tuple,))?.cast_into()?)
}

/// `function(**named)` takes any mapping.
fn to_dict<'py>(named: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let named = match named.cast_into::<PyDict>() {
        Ok(named) => return Ok(named),
        Err(other) => other.into_inner(),
    };
    Ok(named.py().get_type::<PyDict>().call1((named,))?.cast_into()?)
}
