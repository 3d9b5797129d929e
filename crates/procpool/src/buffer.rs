//! Plain numbers that travel beside the value that holds them.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::slice;
use std::sync::Arc;

use bytemuck::Pod;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::codec::{Lease, Lent, handover};

/// A list of plain numbers, such as samples, pixels or a matrix, that is cheap to send however long it is.
///
/// A `Vec<f64>` is encoded number by number. A `Buffer<f64>` is copied once, as it is, to memory that the
/// worker shares, and the worker reads it there without another copy. It is read like a slice, and cheap to
/// clone.
///
/// ```
/// use procpool::Buffer;
///
/// let samples: Buffer<f32> = vec![0.5; 100_000].into();
/// assert_eq!(samples.len(), 100_000);
/// assert_eq!(samples.iter().sum::<f32>(), 50_000.0);
/// ```
///
/// A received buffer holds on to the shared memory that it lies in, until it and its clones are dropped: use
/// [`into_vec`](Buffer::into_vec) for what is to be kept for long.
///
/// The elements may be of any type that is [`Pod`]: the numbers, arrays of them, and one's own `#[repr(C)]`
/// structs of them. To send it, the element must also be known to serde, since to every other format a
/// `Buffer` is an ordinary sequence.
#[derive(Clone)]
pub struct Buffer<T> {
    content: Content<T>,
}

#[derive(Clone)]
enum Content<T> {
    Owned(Arc<Vec<T>>),
    /// Was checked to be a whole number of aligned `T`.
    Lent(Lent),
}

impl<T: Pod> Buffer<T> {
    /// The elements as a `Vec`. Copies them if they were received or if there are clones of this buffer.
    pub fn into_vec(self) -> Vec<T> {
        match self.content {
            Content::Owned(vec) => Arc::unwrap_or_clone(vec),
            Content::Lent(lent) => bytemuck::cast_slice(lent.bytes()).to_vec(),
        }
    }

    /// The elements, to be changed. Copies them first if they were received or if there are clones of this
    /// buffer, which keep what they have.
    pub fn to_mut(&mut self) -> &mut Vec<T> {
        if let Content::Lent(_) = self.content {
            *self = self.to_vec().into();
        }
        match &mut self.content {
            Content::Owned(vec) => Arc::make_mut(vec),
            Content::Lent(_) => unreachable!("was just made its own"),
        }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.content {
            Content::Owned(vec) => vec,
            Content::Lent(lent) => bytemuck::cast_slice(lent.bytes()),
        }
    }
}

impl<T: Pod> AsRef<[T]> for Buffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(elements: Vec<T>) -> Buffer<T> {
        Buffer { content: Content::Owned(Arc::new(elements)) }
    }
}

impl<T: Clone> From<&[T]> for Buffer<T> {
    fn from(elements: &[T]) -> Buffer<T> {
        elements.to_vec().into()
    }
}

impl<T> FromIterator<T> for Buffer<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Buffer<T> {
        Vec::from_iter(elements).into()
    }
}

impl<T> Default for Buffer<T> {
    fn default() -> Buffer<T> {
        Vec::new().into()
    }
}

impl<'a, T: Pod> IntoIterator for &'a Buffer<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}

impl<T: Pod + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Buffer<T>) -> bool {
        **self == **other
    }
}

impl<T: Pod + Eq> Eq for Buffer<T> {}

impl<T: Pod + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        write!(f, "Buffer({}) ", self.len())?;
        let mut list = f.debug_list();
        list.entries(self.iter().take(SHOWN));
        if self.len() > SHOWN { list.finish_non_exhaustive() } else { list.finish() }
    }
}

impl<T: Pod + Send + Sync> Lease for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

impl<T: Pod + Send + Sync + Serialize> Serialize for Buffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if size_of::<T>() == 0 {
            return serializer.collect_seq(self);
        }
        serializer.serialize_newtype_struct(handover::BUFFER_NAME, &Inside(self))
    }
}

/// What the codec, or another format, finds inside the newtype struct.
struct Inside<'a, T>(&'a Buffer<T>);

impl<T: Pod + Send + Sync + Serialize> Serialize for Inside<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lend = || match &self.0.content {
            Content::Owned(vec) => Lent::whole(Arc::<Vec<T>>::clone(vec)),
            Content::Lent(lent) => lent.clone(),
        };
        if handover::offer(lend) { serializer.serialize_unit() } else { serializer.collect_seq(self.0) }
    }
}

impl<'de, T: Pod + Deserialize<'de>> Deserialize<'de> for Buffer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Buffer<T>, D::Error> {
        if size_of::<T>() == 0 {
            return Vec::deserialize(deserializer).map(Buffer::from);
        }
        deserializer.deserialize_newtype_struct(handover::BUFFER_NAME, Receiver(PhantomData))
    }
}

/// Builds a buffer from what the codec delivers, or from another format's sequence.
struct Receiver<T>(PhantomData<T>);

impl<'de, T: Pod + Deserialize<'de>> Visitor<'de> for Receiver<T> {
    type Value = Buffer<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a buffer of `{}`", std::any::type_name::<T>())
    }

    /// The codec delivered it out of band.
    fn visit_unit<E: serde::de::Error>(self) -> Result<Buffer<T>, E> {
        let Some(lent) = handover::collect() else {
            return Err(E::invalid_type(serde::de::Unexpected::Unit, &self));
        };
        match bytemuck::try_cast_slice::<u8, T>(lent.bytes()) {
            Ok(_) => Ok(Buffer { content: Content::Lent(lent) }),
            Err(_) => self.visit_bytes(lent.bytes()),
        }
    }

    /// In band, or not where such a `T` can lie.
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Buffer<T>, E> {
        if !bytes.len().is_multiple_of(size_of::<T>()) {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Buffer<T>, D::Error> {
        Vec::deserialize(deserializer).map(Buffer::from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Buffer<T>, A::Error> {
        Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(elements)).map(Buffer::from)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::value::{Error, SeqDeserializer};

    use super::Buffer;

    #[test]
    fn to_another_format_a_buffer_is_an_ordinary_sequence() {
        let numbers: Vec<u32> = (0..2000).collect();
        let buffer = Buffer::from(numbers.clone());
        let bytes = postcard::to_stdvec(&buffer).unwrap();
        assert_eq!(bytes, postcard::to_stdvec(&numbers).unwrap());
        assert_eq!(postcard::from_bytes::<Buffer<u32>>(&bytes).unwrap(), buffer);
        let from_a_sequence = SeqDeserializer::<_, Error>::new(numbers.into_iter());
        assert_eq!(Buffer::<u32>::deserialize(from_a_sequence).unwrap(), buffer);
    }

    #[test]
    fn a_vec_goes_in_and_out_without_a_copy() {
        let numbers = vec![1_u64, 2, 3];
        let place = numbers.as_ptr();
        let back = Buffer::from(numbers).into_vec();
        assert_eq!(back.as_ptr(), place);
    }

    #[test]
    fn a_change_does_not_reach_the_clones() {
        let mut buffer = Buffer::from([1_i16, 2, 3].as_slice());
        let clone = buffer.clone();
        buffer.to_mut().push(4);
        assert_eq!((&*buffer, &*clone), ([1, 2, 3, 4].as_slice(), [1, 2, 3].as_slice()));
    }

    #[test]
    fn debug_shows_the_length_and_the_first_elements() {
        let short: Buffer<u8> = [1, 2].into_iter().collect();
        assert_eq!(format!("{short:?}"), "Buffer(2) [1, 2]");
        let long = Buffer::from(vec![0_u8; 1_000_000]);
        assert_eq!(format!("{long:?}"), "Buffer(1000000) [0, 0, 0, 0, 0, 0, ..]");
    }
}
