//! For fuzzing: a zygote, or a parent, that says anything at all.

use std::os::fd::{AsFd, OwnedFd};

use super::super::message::{LONGEST, Reply, Request};
use super::*;

/// Decodes one message as either side would.
///
/// # Panics
/// Where what was understood is not understood in the same way when it is said again.
pub fn decode(message: &[u8]) {
    if let Some(request) = Request::decode(message) {
        assert_eq!(Request::decode(&request.encode()), Some(request));
        assert!(request.encode().len() < LONGEST);
    }
    if let Some(reply) = Reply::decode(message) {
        assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        assert!(reply.encode().len() < LONGEST);
    }
}

/// Lets the parent's launcher hear what a zygote says that it asked for some workers. The first byte is how many; then
/// come messages, each after a byte whose low bits are its length, and whose highest says that a descriptor goes along.
///
/// # Panics
/// Where it tells of a worker that it was not told of, or twice of one end or answer.
pub fn converse(script: &[u8]) {
    let Some((&asked, mut rest)) = script.split_first() else { return };
    let mut zygote = Hostile::new(u32::from(asked % 8));
    while let Some((&flags, message)) = rest.split_first() {
        let length = usize::from(flags & 0x7f).min(message.len());
        let (message, others) = message.split_at(length);
        rest = others;
        if !zygote.say(message, flags & 0x80 != 0) {
            break;
        }
    }
    zygote.end(rest);
}

/// The launcher, the other end of its socket, and an account of what it told its supervisor.
struct Hostile {
    launcher: ZygoteLauncher,
    socket: OwnedFd,
    /// Seats whose launch was not answered.
    awaited: Vec<u32>,
    /// Workers that were told of and did not end: seat and pid.
    running: Vec<(u32, u32)>,
}

impl Hostile {
    fn new(seats: u32) -> Self {
        let (here, there) = socket::pair().expect("two descriptors");
        let launcher = ZygoteLauncher::pretend(here, 0..seats);
        Self { launcher, socket: there, awaited: (0..seats).collect(), running: Vec::new() }
    }

    /// False once the launcher has had enough.
    fn say(&mut self, message: &[u8], with_descriptor: bool) -> bool {
        let descriptors = [self.socket.as_fd()];
        let descriptors = if with_descriptor { &descriptors[..] } else { &[] };
        socket::send(self.socket.as_fd(), message, descriptors).expect("room for a message");
        let mut events = Vec::new();
        let end = self.launcher.read_replies(&mut events);
        self.account_for(events);
        end.is_none()
    }

    /// The launcher closes the socket and reads what was said before that.
    fn end(mut self, last_words: &[u8]) {
        socket::send(self.socket.as_fd(), last_words, &[]).expect("room for a message");
        let mut events = Vec::new();
        self.launcher.read_leftovers(&mut events);
        self.account_for(events);
        assert!(self.launcher.asked.iter().all(|seat| self.awaited.contains(seat)));
        assert_eq!(self.launcher.asked.len(), self.awaited.len(), "a launch is forgotten");
    }

    fn account_for(&mut self, events: Vec<LaunchEvent>) {
        for event in events {
            match event {
                LaunchEvent::Started { seat, pid, .. } => {
                    assert!(take(&mut self.awaited, &seat), "nobody waits for a worker in seat {seat}");
                    self.running.push((seat, pid));
                }
                LaunchEvent::Failed { seat, .. } => {
                    assert!(take(&mut self.awaited, &seat), "nobody waits for a worker in seat {seat}");
                }
                LaunchEvent::Exited { seat, pid, .. } => {
                    assert!(take(&mut self.running, &(seat, pid)), "no worker {pid} in seat {seat}");
                }
                LaunchEvent::Gone => panic!("the launcher was not told to bury its zygote"),
            }
        }
    }
}
