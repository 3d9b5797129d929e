//! A pool of threads fed by one channel: what one writes by hand when a crash need not be survived.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Threads {
    /// Emptied only to let the threads end.
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        let (jobs, queue) = unbounded::<Job>();
        let start =
            |queue: Receiver<Job>| thread::Builder::new().spawn(move || queue.iter().for_each(|job| job()));
        let threads = (0..count).map(|_| start(queue.clone())).collect::<io::Result<_>>()?;
        Ok(Threads { jobs: Some(jobs), threads })
    }

    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let jobs = self.jobs.as_ref().expect("the channel is open until the pool is dropped");
        jobs.send(Box::new(job)).expect("the threads listen until the pool is dropped");
    }
}

impl Drop for Threads {
    /// Lets the threads finish what was spawned, then waits for them.
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
