//! What parent and zygote say to each other.
//!
//! A message is one byte that says which, and then as many 64-bit little-endian numbers as that one has. Whatever
//! else arrives decodes to `None`: neither side trusts the other to speak sense.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::ExitStatus;
use crate::sandbox::Rules;

/// Longer than any message, so that one which is too long is seen to be.
pub(super) const LONGEST: usize = 96;

/// What the parent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Always the first, and there before the zygote is: the program that it should be, and what its workers may do.
    /// Brings along the region's, the parent's and the poke descriptor, in this order, and with rules the ruleset.
    Setup(Identity, Option<Rules>),
    /// A worker for this seat.
    Launch { seat: u32 },
}

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Always the first: this is a zygote.
    Hello,
    /// Instead of `Hello`: this would be a zygote, but for that.
    Refused(Obstacle),
    /// A worker sits there. Sent by the worker itself, with its pidfd, before it does anything else.
    Started { seat: u32, pid: u32 },
    /// There is no worker, because of that.
    Failed { seat: u32, obstacle: Obstacle },
    /// That worker is dead and reaped.
    Exited { seat: u32, pid: u32, status: ExitStatus },
}

/// What stands in a zygote's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It runs another program than its parent.
    OtherProgram,
    /// The descriptors did not arrive with the first message.
    NoDescriptors,
    /// It has so many threads, and only a process with one may fork.
    Threads(u32),
    /// A system call failed with this errno.
    System(i32),
}

impl Obstacle {
    pub(super) fn of(error: &io::Error) -> Self {
        Self::System(error.raw_os_error().unwrap_or_default())
    }

    /// The same, for the person who reads it.
    pub(super) fn to_error(self) -> io::Error {
        let refused = |text: String| io::Error::new(io::ErrorKind::Unsupported, text);
        match self {
            Self::OtherProgram => refused(
                "the process that should become procpool's zygote runs another program than this one: \
                 standard input of a program started by this one was passed on to it"
                    .into(),
            ),
            Self::NoDescriptors => io::Error::other(
                "procpool's zygote did not get the pool's descriptors: it is out of them (see `ulimit -n`)",
            ),
            Self::Threads(count) => refused(format!(
                "procpool's zygote has {count} threads, and only a process with one may fork: something starts \
                 threads before procpool's hook or before procpool::init() runs, such as a preloaded library or a \
                 constructor"
            )),
            Self::System(errno) => {
                let cause = io::Error::from_raw_os_error(errno);
                io::Error::new(cause.kind(), format!("procpool's zygote cannot start a worker: {cause}"))
            }
        }
    }

    fn fields(self) -> [u64; 2] {
        match self {
            Self::OtherProgram => [0, 0],
            Self::NoDescriptors => [1, 0],
            Self::Threads(count) => [2, count.into()],
            Self::System(errno) => [3, unsigned(errno)],
        }
    }

    fn from_fields(which: u64, detail: u64) -> Option<Self> {
        match which {
            0 => Some(Self::OtherProgram),
            1 => Some(Self::NoDescriptors),
            2 => Some(Self::Threads(narrow(detail)?)),
            3 => Some(Self::System(signed(detail)?)),
            _ => None,
        }
    }
}

/// Which file this process runs: the offsets that say which function to call hold for that file only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: u64,
}

impl Identity {
    /// Of the file that was executed, which may have been replaced or deleted since: `/proc/self/exe` still leads to
    /// it.
    pub(super) fn of_this_program() -> io::Result<Self> {
        let file = fs::metadata("/proc/self/exe")?;
        let modified = file.mtime().wrapping_mul(1_000_000_000).wrapping_add(file.mtime_nsec());
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: modified.cast_unsigned(),
        })
    }
}

const SETUP: u8 = 1;
const LAUNCH: u8 = 2;
const HELLO: u8 = 3;
const REFUSED: u8 = 4;
const STARTED: u8 = 5;
const FAILED: u8 = 6;
const EXITED: u8 = 7;

impl Request {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Setup(Identity { device, inode, size, modified }, rules) => {
                let rules = rules.into_iter().flat_map(Rules::encode);
                encode(SETUP, &[device, inode, size, modified].into_iter().chain(rules).collect::<Vec<_>>())
            }
            Self::Launch { seat } => encode(LAUNCH, &[seat.into()]),
        }
    }

    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let (kind, fields) = decode(message)?;
        match (kind, fields.as_slice()) {
            (SETUP, &[device, inode, size, modified, ref rules @ ..]) => {
                let rules = match <[u64; 4]>::try_from(rules) {
                    Ok(rules) => Some(Rules::decode(rules)?),
                    Err(_) if rules.is_empty() => None,
                    Err(_) => return None,
                };
                Some(Self::Setup(Identity { device, inode, size, modified }, rules))
            }
            (LAUNCH, &[seat]) => Some(Self::Launch { seat: narrow(seat)? }),
            _ => None,
        }
    }
}

impl Reply {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Hello => encode(HELLO, &[]),
            Self::Refused(obstacle) => encode(REFUSED, &obstacle.fields()),
            Self::Started { seat, pid } => encode(STARTED, &[seat.into(), pid.into()]),
            Self::Failed { seat, obstacle } => {
                let [which, detail] = obstacle.fields();
                encode(FAILED, &[seat.into(), which, detail])
            }
            Self::Exited { seat, pid, status } => {
                let (how, code) = match status {
                    ExitStatus::Exited(code) => (0, code),
                    ExitStatus::Signaled(signal) => (1, signal),
                    ExitStatus::Unknown => (2, 0),
                };
                encode(EXITED, &[seat.into(), pid.into(), how, unsigned(code)])
            }
        }
    }
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let (kind, fields) = decode(message)?;
        match (kind, fields.as_slice()) {
            (HELLO, &[]) => Some(Self::Hello),
            (REFUSED, &[which, detail]) => Some(Self::Refused(Obstacle::from_fields(which, detail)?)),
            (STARTED, &[seat, pid]) => Some(Self::Started { seat: narrow(seat)?, pid: narrow(pid)? }),
            (FAILED, &[seat, which, detail]) => {
                Some(Self::Failed { seat: narrow(seat)?, obstacle: Obstacle::from_fields(which, detail)? })
            }
            (EXITED, &[seat, pid, how, code]) => {
                let status = match how {
                    0 => ExitStatus::Exited(signed(code)?),
                    1 => ExitStatus::Signaled(signed(code)?),
                    2 => ExitStatus::Unknown,
                    _ => return None,
                };
                Some(Self::Exited { seat: narrow(seat)?, pid: narrow(pid)?, status })
            }
            _ => None,
        }
    }
}

fn encode(kind: u8, fields: &[u64]) -> Vec<u8> {
    let fields = fields.iter().flat_map(|field| field.to_le_bytes());
    std::iter::once(kind).chain(fields).collect()
}

fn decode(message: &[u8]) -> Option<(u8, Vec<u64>)> {
    let (&kind, rest) = message.split_first()?;
    let (fields, []) = rest.as_chunks::<8>() else { return None };
    Some((kind, fields.iter().map(|field| u64::from_le_bytes(*field)).collect()))
}

fn narrow(field: u64) -> Option<u32> {
    u32::try_from(field).ok()
}

fn signed(field: u64) -> Option<i32> {
    narrow(field).map(u32::cast_signed)
}

fn unsigned(number: i32) -> u64 {
    number.cast_unsigned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: [Reply; 8] = [
        Reply::Hello,
        Reply::Refused(Obstacle::OtherProgram),
        Reply::Refused(Obstacle::NoDescriptors),
        Reply::Failed { seat: 3, obstacle: Obstacle::Threads(2) },
        Reply::Failed { seat: u32::MAX, obstacle: Obstacle::System(11) },
        Reply::Started { seat: 0, pid: 4_194_304 },
        Reply::Exited { seat: 1, pid: 2, status: ExitStatus::Signaled(9) },
        Reply::Exited { seat: 1, pid: 2, status: ExitStatus::Exited(-1) },
    ];

    #[test]
    fn what_is_said_is_what_is_heard() {
        for reply in REPLIES {
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
            assert!(reply.encode().len() < LONGEST);
        }
        let identity = Identity::of_this_program().unwrap();
        let rules = Rules::decode([1, u64::MAX, 2, 3]);
        assert!(rules.is_some());
        for request in
            [Request::Setup(identity, None), Request::Setup(identity, rules), Request::Launch { seat: 7 }]
        {
            assert_eq!(Request::decode(&request.encode()), Some(request));
            assert!(request.encode().len() < LONGEST);
        }
    }

    #[test]
    fn a_message_cut_short_or_drawn_out_says_nothing() {
        for reply in REPLIES {
            let message = reply.encode();
            for length in 0..message.len() {
                assert_eq!(Reply::decode(&message[..length]), None, "{length} bytes of {reply:?}");
            }
            assert_eq!(Reply::decode(&[&message[..], &[0]].concat()), None);
            assert_eq!(Reply::decode(&[&message[..], &[0; 8]].concat()), None);
        }
    }

    #[test]
    fn a_number_out_of_range_says_nothing() {
        assert_eq!(Reply::decode(&encode(STARTED, &[1 << 32, 5])), None);
        assert_eq!(Reply::decode(&encode(EXITED, &[1, 5, 9, 0])), None);
        assert_eq!(Reply::decode(&encode(REFUSED, &[77, 0])), None);
        assert_eq!(Reply::decode(&encode(LAUNCH, &[1])), None);
        assert_eq!(Request::decode(&encode(LAUNCH, &[u64::MAX])), None);
    }
}
