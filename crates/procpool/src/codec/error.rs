//! What can be wrong with a value, said so that its author knows what to change.

use std::fmt::Display;

use thiserror::Error;

/// A value that could not be sent; or bytes that arrived and are no such value.
#[derive(Debug, Error)]
#[error("cannot {side} a value of type `{type_name}`: {fault}")]
pub struct CodecError {
    side: &'static str,
    type_name: &'static str,
    fault: Fault,
}

impl CodecError {
    pub(super) fn encode<T: ?Sized>(fault: Fault) -> CodecError {
        CodecError { side: "encode", type_name: std::any::type_name::<T>(), fault }
    }

    pub(super) fn decode<T: ?Sized>(fault: Fault) -> CodecError {
        CodecError { side: "decode", type_name: std::any::type_name::<T>(), fault }
    }

    /// Whether it was bytes that arrived, and not a value that was to be sent.
    pub(crate) fn is_decoding(&self) -> bool {
        self.side == "decode"
    }
}

/// What stopped serde. Boxed, since it passes through every `Result` on the way of every number.
#[derive(Debug, Error)]
#[error(transparent)]
pub(super) struct Fault(Box<Reason>);

#[derive(Debug, Error)]
pub(super) enum Reason {
    #[error(
        "it is nested {0} levels deep; send it flat, as a list of nodes that refer to one another by index"
    )]
    TooDeep(u32),

    #[error(
        "the length of a sequence or map is not known before it is written, as with serde's `flatten` or \
         `collect_seq` over a filtered iterator; send a struct without `flatten`, or collect into a `Vec` first"
    )]
    UnknownLength,

    #[error(
        "the field `{0}` was left out by `skip_serializing_if`, and the receiver could not tell that it is missing; \
         remove the attribute, or send the value as another type (serde's `into` and `from`)"
    )]
    SkippedField(&'static str),

    #[error(
        "it asks the encoding what comes next, as serde's `untagged`, `tag` and `flatten` and types like \
         `serde_json::Value` do, and the encoding does not say; remove the attribute, or send the value as text"
    )]
    NotSelfDescribing,

    #[error(
        "it does not arrive as it was sent ({0}); look for serde's `skip_serializing`, `skip_deserializing`, `skip` \
         on an enum's variant, `untagged` or `tag`, or for a `Serialize` and a `Deserialize` that do not fit one \
         another"
    )]
    Unfaithful(String),

    #[error("a sequence or map of {0} elements is longer than the data")]
    TooLong(usize),

    #[error("{0} elements of a sequence or map were left unread")]
    UnreadElements(usize),

    #[error("{0} bytes are left over")]
    TrailingBytes(usize),

    #[error(
        "it refers to {length} bytes at {offset} of {area} bytes of buffers, which is not the place of a buffer"
    )]
    BufferOutOfBounds { offset: usize, length: usize, area: usize },

    #[error("the data is damaged, or its `Serialize` and `Deserialize` do not fit one another: {0}")]
    Format(postcard::Error),

    /// What the type's own `Serialize` or `Deserialize` said.
    #[error("{0}")]
    Said(String),
}

impl From<Reason> for Fault {
    #[cold]
    fn from(reason: Reason) -> Fault {
        Fault(Box::new(reason))
    }
}

impl From<postcard::Error> for Fault {
    #[cold]
    fn from(error: postcard::Error) -> Fault {
        Reason::Format(error).into()
    }
}

impl serde::ser::Error for Fault {
    #[cold]
    fn custom<M: Display>(message: M) -> Fault {
        Reason::Said(message.to_string()).into()
    }
}

impl serde::de::Error for Fault {
    #[cold]
    fn custom<M: Display>(message: M) -> Fault {
        Reason::Said(message.to_string()).into()
    }
}
