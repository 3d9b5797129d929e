//! Objects become payloads, by pickle's protocol 5 with its buffers out of band.
//!
//! `frame` says how a message lies in its payload.
//! Picklers are kept and used again: to make one costs as much as to pickle a small object.

use std::sync::{Mutex, PoisonError};

use procpool_engine::Parts;
use pyo3::buffer::PyBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::{calls, frame, plain};

/// Pieces of a pickle that are longer than this are not copied on their way into shared memory.
const PIECE: usize = 8 << 10;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a pickler writes: pieces of its stream, and buffers that go beside it.
#[pyclass(frozen, module = "procpool._procpool")]
#[derive(Default)]
pub(crate) struct Sink {
    pieces: Mutex<Vec<Py<PyAny>>>,
    buffers: Mutex<Vec<PyBuffer<u8>>>,
}

#[pymethods]
impl Sink {
    /// The pickler's `write`.
    fn write(&self, piece: Py<PyAny>) {
        lock(&self.pieces).push(piece);
    }

    /// The pickler's `buffer_callback`. True keeps the buffer in the stream.
    fn keep(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let raw = buffer.call_method0(intern!(buffer.py(), "raw"))?;
        let view = PyBuffer::get(&raw)?;
        let is_empty = view.len_bytes() == 0;
        if !is_empty {
            lock(&self.buffers).push(view);
        }
        Ok(is_empty)
    }
}

impl Sink {
    fn clear(&self) {
        lock(&self.pieces).clear();
        lock(&self.buffers).clear();
    }
}

/// What was written to a sink: pieces of the stream, and buffers that go beside it.
type Written = (Vec<Py<PyAny>>, Vec<PyBuffer<u8>>);

/// One pickler, to be used by one thread at a time.
struct Pickler {
    sink: Py<Sink>,
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
}

/// Makes payloads of objects.
pub(crate) struct Encoder {
    /// Called with a sink, it gives a pickler that writes there.
    make: Py<PyAny>,
    tables: Tables,
    idle: Mutex<Vec<Pickler>>,
}

/// How types are reduced that do not know it themselves: the tables that the program registers with, and the one that
/// the picklers use, which is made anew whenever one of these has changed.
struct Tables {
    sources: Vec<Py<PyDict>>,
    merged: Py<PyDict>,
    /// What the sources were when they were merged. The objects are held by `merged`, so an address is an identity.
    seen: Mutex<Vec<(usize, usize)>>,
}

impl Tables {
    fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        let entries = || {
            let all = self.sources.iter().flat_map(|source| source.bind(py).iter());
            all.map(|(key, value)| (key.as_ptr() as usize, value.as_ptr() as usize))
        };
        let mut seen = lock(&self.seen);
        if entries().eq(seen.iter().copied()) {
            return Ok(());
        }
        *seen = entries().collect();
        let merged = self.merged.bind(py);
        let kept = merged.copy()?;
        merged.clear();
        self.sources.iter().try_for_each(|source| merged.update(source.bind(py).as_mapping()))?;
        drop(kept);
        Ok(())
    }
}

/// An object on its way: pieces that lie in the program's memory until [`Encoded::parts`] are copied.
pub(crate) struct Encoded {
    head: Vec<u8>,
    tail: Vec<Piece>,
    buffers: Vec<PyBuffer<u8>>,
}

/// A large piece of a pickle.
enum Piece {
    Bytes(Py<PyBytes>),
    Buffer(PyBuffer<u8>),
}

impl Encoder {
    /// `make` is called with a [`Sink`] and a table, and gives a pickler that writes to the one and uses the other;
    /// `sources` are the tables that the program registers reducers in.
    pub(crate) fn new(py: Python<'_>, make: Py<PyAny>, sources: Vec<Py<PyDict>>) -> Self {
        let tables = Tables { sources, merged: PyDict::new(py).unbind(), seen: Mutex::default() };
        Self { make, tables, idle: Mutex::default() }
    }

    /// The message of `call`, `function` and `object`.
    pub(crate) fn encode(
        &self,
        call: u8,
        function: Option<&crate::function::Function>,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<Encoded> {
        let py = object.py();
        let name = function.map_or(&[][..], |function| function.data.as_bytes(py));
        let cacheable = function.is_some_and(|function| function.cacheable);
        let mut head = frame::begin(call, cacheable, [].into_iter(), name);
        if plain::write(object, &mut head) {
            return Ok(Encoded { head, tail: Vec::new(), buffers: Vec::new() });
        }
        let (pieces, buffers) = self.pickle(object)?;
        if !buffers.is_empty() {
            let lengths = buffers.iter().map(|buffer| buffer.len_bytes());
            head = frame::begin(call, cacheable, lengths, name);
        }
        let mut tail = Vec::new();
        for piece in pieces {
            let piece = Piece::of(piece.bind(py))?;
            let bytes = piece.bytes(py);
            if bytes.len() <= PIECE && tail.is_empty() {
                head.extend(bytes);
            } else {
                tail.push(piece);
            }
        }
        Ok(Encoded { head, tail, buffers })
    }

    fn pickle(&self, object: &Bound<'_, PyAny>) -> PyResult<Written> {
        let py = object.py();
        self.tables.refresh(py)?;
        // Out of the list while it is used: an object's own `__reduce__` may come here again.
        let idle = lock(&self.idle).pop();
        let pickler = idle.map_or_else(|| self.make_pickler(py), Ok)?;
        let dumped = calls::call(pickler.dump.bind(py), (object,));
        calls::call(pickler.clear_memo.bind(py), ())?;
        let sink = pickler.sink.get();
        let written = (std::mem::take(&mut *lock(&sink.pieces)), std::mem::take(&mut *lock(&sink.buffers)));
        sink.clear();
        // Its memo does not shrink, and the whole of it is cleared each time: after a long pickle a new one is cheaper.
        if written.0.iter().map(|piece| piece.bind(py).len().unwrap_or(0)).sum::<usize>() <= PIECE {
            lock(&self.idle).push(pickler);
        }
        dumped.map(|_| written)
    }

    fn make_pickler(&self, py: Python<'_>) -> PyResult<Pickler> {
        let sink = Py::new(py, Sink::default())?;
        let pickler = calls::call(self.make.bind(py), (&sink, &self.tables.merged))?;
        let [dump, clear_memo] =
            [intern!(py, "dump"), intern!(py, "clear_memo")].map(|name| pickler.getattr(name));
        Ok(Pickler { sink, dump: dump?.unbind(), clear_memo: clear_memo?.unbind() })
    }
}

impl Piece {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self::Bytes(bytes.clone().unbind())),
            Err(_) => PyBuffer::get(object).map(Self::Buffer),
        }
    }

    fn bytes<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(py),
            Self::Buffer(buffer) => view(buffer),
        }
    }
}

fn view(buffer: &PyBuffer<u8>) -> &[u8] {
    // SAFETY: a contiguous buffer, as pickle's are, which is exported, and so neither moved nor freed, while `buffer`
    // lives. Another thread of the program may write to it meanwhile, as in every use of Python's buffers: then that
    // program's data is torn, but every byte is a valid `u8`.
    unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) }
}

impl Encoded {
    /// A message that is bytes already.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let mut head = frame::begin(0, false, [].into_iter(), &[]);
        head.extend(bytes);
        Self { head, tail: Vec::new(), buffers: Vec::new() }
    }

    /// All bytes that will be copied.
    pub(crate) fn length(&self, py: Python<'_>) -> usize {
        let tail = self.tail.iter().map(|piece| piece.bytes(py).len());
        let buffers = self.buffers.iter().map(|buffer| buffer.len_bytes());
        self.head.len() + tail.chain(buffers).sum::<usize>()
    }

    /// Calls `send` with the parts, in the end without the interpreter's lock if there is much to copy.
    pub(crate) fn send<R: Send>(&self, py: Python<'_>, send: impl FnOnce(&Parts<'_>) -> R + Send) -> R {
        if self.tail.is_empty() && self.buffers.is_empty() {
            return send(&Parts { head: &self.head, tail: &[], buffers: &[] });
        }
        let tail: Vec<&[u8]> = self.tail.iter().map(|piece| piece.bytes(py)).collect();
        let buffers: Vec<&[u8]> = self.buffers.iter().map(view).collect();
        let parts = Parts { head: &self.head, tail: &tail, buffers: &buffers };
        if self.length(py) < 1 << 20 { send(&parts) } else { py.detach(|| send(&parts)) }
    }
}
