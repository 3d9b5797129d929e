//! For tests and fuzzing: a launcher, and the test in the place of its zygote.

use std::os::fd::AsFd;

use super::*;
use crate::os::poll;

impl ZygoteLauncher {
    /// With a zygote that is not there, and was asked for workers in these seats.
    pub(super) fn pretend(socket: OwnedFd, asked: impl IntoIterator<Item = u32>) -> Self {
        let any = poll::eventfd().expect("a descriptor");
        let descriptors =
            Descriptors { region: any.as_fd(), parent: any.as_fd(), poke: any.as_fd(), sandbox: None };
        let zygote = Zygote {
            process: Rerun::pretend(socket),
            said_hello: false,
            fruitful: false,
            answer_by: Instant::now() + PATIENCE,
        };
        Self {
            recipe: Recipe::new(Vec::new(), &descriptors).expect("three descriptors"),
            zygote: Some(zygote),
            unsent: VecDeque::new(),
            asked: asked.into_iter().collect(),
            workers: Vec::new(),
            barren: 0,
            called_off: false,
            hopeless: None,
            generation: process::fork_generation(),
        }
    }
}
