//! Pickles of plain values, made and read without pickle: most tasks take and give a number, a short text, or a few of
//! these, and to start pickle for one costs more than all the rest of its way.
//!
//! What is written here is what pickle would write, less frames and memo, which nothing refers to; so either side may do
//! without this file. Only exact built-in types are plain: pickle as well asks nobody how to reduce those.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

/// What every pickle of protocol 5 begins with.
const PROTOCOL: &[u8] = b"\x80\x05";
const STOP: u8 = b'.';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
/// Numbers of one and of two bytes, without a sign.
const SHORT: u8 = b'K';
const MIDDLE: u8 = b'M';
/// A number of four bytes, with a sign; and of as many as the next byte says.
const LONG: u8 = b'J';
const LONGER: u8 = 0x8a;
const FLOAT: u8 = b'G';
/// Texts and bytes whose length is the next byte.
const TEXT: u8 = 0x8c;
const BYTES: u8 = b'C';
/// Tuples of what comes before: of so many items.
const TUPLES: [u8; MOST + 1] = [b')', 0x85, 0x86, 0x87];

/// The longest tuple that is plain.
const MOST: usize = 3;

/// Appends the pickle of `object`, if it is plain; or else nothing, and says so.
pub(crate) fn write(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend(PROTOCOL);
    let is_plain = match object.cast_exact::<PyTuple>() {
        Ok(tuple) => write_tuple(tuple, out),
        Err(_) => write_item(object, out).is_some(),
    };
    if is_plain {
        out.push(STOP);
    } else {
        out.truncate(start);
    }
    is_plain
}

fn write_tuple(tuple: &Bound<'_, PyTuple>, out: &mut Vec<u8>) -> bool {
    let Some(&code) = TUPLES.get(tuple.len()) else { return false };
    for (index, item) in tuple.iter_borrowed().enumerate() {
        // The same object twice arrives as the same object: that is what the memo is for.
        let is_repeated = || tuple.iter_borrowed().take(index).any(|earlier| earlier.is(item));
        match write_item(&item, out) {
            Some(Identity::Kept) if is_repeated() => return false,
            Some(_) => {}
            None => return false,
        }
    }
    out.push(code);
    true
}

/// Whether pickle sees to it that an object which comes twice is one object again.
enum Identity {
    Kept,
    Lost,
}

/// `None` where the item is not plain; then some of it may have been written.
fn write_item(item: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<Identity> {
    if item.is_none() {
        out.push(NONE);
    } else if let Ok(flag) = item.cast_exact::<PyBool>() {
        out.push(if flag.is_true() { TRUE } else { FALSE });
    } else if let Ok(number) = item.cast_exact::<PyInt>() {
        write_number(number.extract().ok()?, out);
    } else if let Ok(number) = item.cast_exact::<PyFloat>() {
        out.push(FLOAT);
        out.extend(number.value().to_be_bytes());
    } else {
        let (code, bytes) = match item.cast_exact::<PyString>() {
            Ok(text) => (TEXT, text.to_str().ok()?.as_bytes()),
            Err(_) => (BYTES, item.cast_exact::<PyBytes>().ok()?.as_bytes()),
        };
        out.extend([code, u8::try_from(bytes.len()).ok()?]);
        out.extend(bytes);
        return Some(Identity::Kept);
    }
    Some(Identity::Lost)
}

fn write_number(number: i64, out: &mut Vec<u8>) {
    if let Ok(short) = u8::try_from(number) {
        out.extend([SHORT, short]);
    } else if let Ok(middle) = u16::try_from(number) {
        out.push(MIDDLE);
        out.extend(middle.to_le_bytes());
    } else if let Ok(long) = i32::try_from(number) {
        out.push(LONG);
        out.extend(long.to_le_bytes());
    } else {
        out.extend([LONGER, 8]);
        out.extend(number.to_le_bytes());
    }
}

/// The object of a pickle, if [`write`] could have written it. The bytes may be anything.
pub(crate) fn read<'py>(py: Python<'py>, pickle: &[u8]) -> Option<Bound<'py, PyAny>> {
    let mut reader = Reader { py, rest: pickle.strip_prefix(PROTOCOL)? };
    let mut items = [const { None }; MOST];
    for (count, tuple) in TUPLES.into_iter().enumerate() {
        let [code] = reader.take()?;
        if code == tuple && reader.rest == [STOP] {
            return Some(PyTuple::new(py, items.into_iter().take(count)).ok()?.into_any());
        }
        let item = reader.item(code)?;
        if count == 0 && reader.rest == [STOP] {
            return Some(item);
        }
        *items.get_mut(count)? = Some(item);
    }
    None
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    rest: &'a [u8],
}

impl<'py> Reader<'_, 'py> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(taken)
    }

    fn item(&mut self, code: u8) -> Option<Bound<'py, PyAny>> {
        let py = self.py;
        Some(match code {
            NONE => py.None().into_bound(py),
            TRUE | FALSE => PyBool::new(py, code == TRUE).to_owned().into_any(),
            SHORT => number(py, u8::from_le_bytes(self.take()?).into()),
            MIDDLE => number(py, u16::from_le_bytes(self.take()?).into()),
            LONG => number(py, i32::from_le_bytes(self.take()?).into()),
            LONGER if self.take()? == [8] => number(py, i64::from_le_bytes(self.take()?)),
            FLOAT => PyFloat::new(py, f64::from_be_bytes(self.take()?)).into_any(),
            TEXT => PyString::new(py, std::str::from_utf8(self.bytes()?).ok()?).into_any(),
            BYTES => PyBytes::new(py, self.bytes()?).into_any(),
            _ => return None,
        })
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let [length] = self.take()?;
        let (bytes, rest) = self.rest.split_at_checked(length.into())?;
        self.rest = rest;
        Some(bytes)
    }
}

fn number(py: Python<'_>, number: i64) -> Bound<'_, PyAny> {
    PyInt::new(py, number).into_any()
}
