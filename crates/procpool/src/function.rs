//! Which function: how a `fn(A) -> R` is named in a request, and called in a worker.
//!
//! A worker is this same program (the zygote compares the executables), so a function is its distance from the start
//! of the program's text, and so is the *trampoline*, the code that decodes an `A`, calls the function and encodes
//! an `R`: it is compiled for each pair of types, and named by the parent, so that the types always fit. What was
//! registered with [`macro@crate::task`], for these types, goes by its name instead.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::OnceLock;

use linkme::distributed_slice;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Buffers, CodecError, Encoded};
use crate::error::{Error, Result};
use crate::worker;

/// A function whose types only its trampoline knows.
type Erased = fn();

/// Decodes arguments from a head, calls, and encodes what came of it.
pub(crate) type Trampoline = fn(Erased, &[u8], &Buffers, &mut Encoded) -> std::result::Result<(), CodecError>;

/// Whether a request has one argument, or a chunk of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    Chunk,
}

/// A function of this program together with the code to call it.
#[derive(Clone, Copy)]
pub(crate) struct Callable {
    function: Erased,
    trampoline: Trampoline,
}

/// The functions of this program that are known by name.
#[distributed_slice]
pub static TASKS: [NamedTask];

/// A function registered with [`macro@crate::task`].
pub struct NamedTask {
    name: &'static str,
    function: Erased,
    /// Functions with the same code may have one address, whatever their types.
    types: TypeId,
    one: Trampoline,
    chunk: Trampoline,
}

impl std::fmt::Debug for NamedTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NamedTask").field(&self.name).finish()
    }
}

impl NamedTask {
    /// An entry of [`TASKS`].
    pub const fn new<A, R>(name: &'static str, function: fn(A) -> R) -> Self
    where
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let (one, chunk) = (worker::call_one::<A, R> as Trampoline, worker::call_chunk::<A, R> as Trampoline);
        Self { name, function: erase(function), types: TypeId::of::<fn(A) -> R>(), one, chunk }
    }
}

const fn erase<A, R>(function: fn(A) -> R) -> Erased {
    // SAFETY: function pointers have one size; it is called only after `restore` with the same types.
    unsafe { std::mem::transmute::<fn(A) -> R, Erased>(function) }
}

/// # Safety
/// `function` was erased from a `fn(A) -> R` with these types.
pub(crate) unsafe fn restore<A, R>(function: Erased) -> fn(A) -> R {
    // SAFETY: by the caller's promise.
    unsafe { std::mem::transmute::<Erased, fn(A) -> R>(function) }
}

const BY_OFFSET: u8 = 0;
const BY_NAME_ONE: u8 = 1;
const BY_NAME_CHUNK: u8 = 2;

/// What begins a request: writes which function is to be called.
pub(crate) fn write<A, R>(function: fn(A) -> R, shape: Shape, head: &mut Vec<u8>) -> Result<()>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    let function = erase(function);
    if let Some(name) = name_of(function, TypeId::of::<fn(A) -> R>()) {
        head.push(if shape == Shape::One { BY_NAME_ONE } else { BY_NAME_CHUNK });
        head.push(name.len() as u8);
        head.extend_from_slice(name.as_bytes());
        return Ok(());
    }
    let trampoline: Trampoline = match shape {
        Shape::One => worker::call_one::<A, R>,
        Shape::Chunk => worker::call_chunk::<A, R>,
    };
    let text = Text::of_program();
    let foreign = || Error::NotInExecutable { function: std::any::type_name::<fn(A) -> R>() };
    let function = text.offset(function as usize).ok_or_else(foreign)?;
    let trampoline = text.offset(trampoline as usize).ok_or_else(foreign)?;
    head.push(BY_OFFSET);
    head.extend_from_slice(&trampoline.to_le_bytes());
    head.extend_from_slice(&function.to_le_bytes());
    Ok(())
}

/// Which function a request is about, of which this is the beginning; `None` where it makes no sense.
pub(crate) fn describe(head: &[u8]) -> Option<String> {
    let (&kind, rest) = head.split_first()?;
    if kind != BY_OFFSET {
        let (&length, rest) = rest.split_first()?;
        return String::from_utf8(rest.get(..length.into())?.to_vec()).ok();
    }
    let offset = u32::from_le_bytes(*rest.get(4..)?.first_chunk::<4>()?);
    let text = Text::of_program();
    let address = text.address(offset)? - text.loaded_at;
    Some(format!("the function at {address:#x}"))
}

/// Worker: finds the function that a request begins with. Gives it and the rest of the head.
///
/// # Errors
/// What is wrong with the request.
pub(crate) fn read(head: &[u8]) -> std::result::Result<(Callable, &[u8]), String> {
    let damaged = || "the request is damaged".to_owned();
    let (&kind, rest) = head.split_first().ok_or_else(damaged)?;
    if kind != BY_OFFSET {
        let (&length, rest) = rest.split_first().ok_or_else(damaged)?;
        let (name, rest) = rest.split_at_checked(length.into()).ok_or_else(damaged)?;
        let name = std::str::from_utf8(name).map_err(|_| damaged())?;
        let task = TASKS.iter().find(|task| task.name == name);
        let task =
            task.ok_or_else(|| format!("no task named `{name}` is registered in the worker's program"))?;
        let trampoline = if kind == BY_NAME_CHUNK { task.chunk } else { task.one };
        return Ok((Callable { function: task.function, trampoline }, rest));
    }
    let (trampoline, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let (function, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let text = Text::of_program();
    let trampoline = text.address(u32::from_le_bytes(*trampoline)).ok_or_else(damaged)?;
    let function = text.address(u32::from_le_bytes(*function)).ok_or_else(damaged)?;
    // SAFETY: the parent took both offsets from function pointers of these types; this process runs the same
    // executable, which the zygote made sure of before it forked, and both addresses lie in its text.
    let callable = unsafe {
        Callable {
            function: std::mem::transmute::<usize, Erased>(function),
            trampoline: std::mem::transmute::<usize, Trampoline>(trampoline),
        }
    };
    Ok((callable, rest))
}

/// Whether a request names its function by its place in the program.
#[cfg(feature = "fuzzing")]
pub(crate) fn is_by_offset(head: &[u8]) -> bool {
    head.first() == Some(&BY_OFFSET)
}

impl Callable {
    pub(crate) fn call(
        self,
        arguments: &[u8],
        buffers: &Buffers,
        out: &mut Encoded,
    ) -> std::result::Result<(), CodecError> {
        (self.trampoline)(self.function, arguments, buffers, out)
    }
}

/// The name of a registered function that has these types.
fn name_of(function: Erased, types: TypeId) -> Option<&'static str> {
    static NAMES: OnceLock<HashMap<(usize, TypeId), &'static str>> = OnceLock::new();
    if TASKS.is_empty() {
        return None;
    }
    let names = NAMES.get_or_init(|| {
        let usable = TASKS.iter().filter(|task| is_usable(task.name));
        usable.map(|task| ((task.function as usize, task.types), task.name)).collect()
    });
    names.get(&(function as usize, types)).copied()
}

/// Whether a function can go by this name; else it goes by offset. A name's length travels as one byte, and of several
/// functions with one name none is meant.
fn is_usable(name: &str) -> bool {
    name.len() <= usize::from(u8::MAX) && TASKS.iter().filter(|task| task.name == name).count() == 1
}

/// Where this program's code lies in this process.
#[derive(Clone, Copy, Debug)]
struct Text {
    start: usize,
    end: usize,
    /// Where the program's address 0 is.
    loaded_at: usize,
}

impl Text {
    fn of_program() -> Self {
        static TEXT: OnceLock<Text> = OnceLock::new();
        *TEXT.get_or_init(find_text)
    }

    fn offset(self, address: usize) -> Option<u32> {
        (self.start..self.end).contains(&address).then(|| u32::try_from(address - self.start).ok())?
    }

    fn address(self, offset: u32) -> Option<usize> {
        let address = self.start.checked_add(offset as usize)?;
        (address < self.end).then_some(address)
    }
}

/// Asks the dynamic linker for the executable segments of the main program: the first object that it lists.
fn find_text() -> Text {
    // SAFETY: to be called by `dl_iterate_phdr` alone, with a `Text` as its last argument.
    unsafe extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        found: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: libc passes a valid description of an object, and `found` is the `Text` given below.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Text>()) };
        // SAFETY: the object has so many program headers, for as long as it is loaded: always, for the program.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        found.loaded_at = info.dlpi_addr as usize;
        for header in
            headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0)
        {
            let start = info.dlpi_addr as usize + header.p_vaddr as usize;
            found.start = found.start.min(start);
            found.end = found.end.max(start + header.p_memsz as usize);
        }
        1
    }
    let mut text = Text { start: usize::MAX, end: 0, loaded_at: 0 };
    // SAFETY: the callback takes what this call passes on, and does not outlive it.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut text).cast()) };
    text
}
