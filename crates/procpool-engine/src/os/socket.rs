//! Two ends of a socket between parent and zygote, over which messages and descriptors travel.
//!
//! `SOCK_SEQPACKET`: a message arrives whole or not at all, and the end of the other side is seen. Nothing here ever
//! waits: what cannot be done now is `WouldBlock`, and whoever wants to wait polls.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};

/// The most descriptors that one message brings along.
const MOST_DESCRIPTORS: usize = 4;

/// The length of an ancillary buffer for that many.
const ANCILLARY: usize = cmsg_space!(ScmRights(MOST_DESCRIPTORS));

/// Creates two connected ends that started programs do not inherit.
///
/// # Errors
/// `EMFILE` or `ENFILE` where there are no descriptors left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((above_standard(one)?, above_standard(other)?))
}

/// In a program that closed a standard stream, a new descriptor may get that stream's number, and with it whatever is
/// printed.
fn above_standard(socket: OwnedFd) -> io::Result<OwnedFd> {
    if socket.as_raw_fd() > 2 {
        return Ok(socket);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&socket, 3)?)
}

/// Whether `descriptor` is an end of such a pair.
///
/// # Errors
/// If that cannot be found out, as in a sandbox that forbids the question.
pub fn is_socket(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    match socket_type(descriptor) {
        Ok(SocketType::SEQPACKET) => Ok(socket_domain(descriptor)? == AddressFamily::UNIX),
        Ok(_) | Err(Errno::NOTSOCK | Errno::BADF) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sends one message, and copies of the descriptors with it.
///
/// # Errors
/// `WouldBlock` when the other side has not yet read what was sent before; `EPIPE` or `ECONNRESET` when it is gone;
/// `ETOOMANYREFS` when too many descriptors are under way.
pub fn send(socket: BorrowedFd<'_>, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); ANCILLARY];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "more descriptors than one message can bring",
        ));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry(|| rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, flags))?;
    Ok(())
}

/// What [`receive`] brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer are the message. Zero: the other side is gone, there will be no more.
    pub length: usize,
    /// The descriptors that came with it, close-on-exec. Fewer than were sent if this process is out of descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives one message, if one is there.
///
/// # Errors
/// `WouldBlock` if none is; `InvalidData` if it was longer than `buffer`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); ANCILLARY];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message =
        retry(|| rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags))?;
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the message is longer than any that is known",
        ));
    }
    Ok(Received { length: message.bytes, descriptors })
}

/// Ends the connection for both sides, also where a forked child of this process still holds a copy of this end.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // The only error is that it has ended already.
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    rustix::io::retry_on_intr(&mut call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (here, there) = pair().unwrap();
        send(here.as_fd(), b"one", &[here.as_fd(), there.as_fd()]).unwrap();
        send(here.as_fd(), b"two", &[]).unwrap();
        let mut buffer = [0; 8];
        let first = receive(there.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..first.length], first.descriptors.len()), (&b"one"[..], 2));
        let second = receive(there.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..second.length], second.descriptors.len()), (&b"two"[..], 0));
        let none = receive(there.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_end_is_seen_although_a_copy_of_the_other_end_is_open() {
        let (here, there) = pair().unwrap();
        let _copy = here.try_clone().unwrap();
        shut_down(here.as_fd());
        assert_eq!(receive(there.as_fd(), &mut [0; 8]).unwrap().length, 0);
    }

    #[test]
    fn a_message_that_is_too_long_is_an_error() {
        let (here, there) = pair().unwrap();
        send(here.as_fd(), &[7; 100], &[]).unwrap();
        assert_eq!(receive(there.as_fd(), &mut [0; 8]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn only_a_seqpacket_socket_is_taken_for_one() {
        assert!(is_socket(pair().unwrap().0.as_fd()).unwrap());
        assert!(!is_socket(std::fs::File::open("/dev/null").unwrap().as_fd()).unwrap());
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!is_socket(stream.as_fd()).unwrap());
    }
}
