//! The program under load: many callers, who send tasks in all ways to pools that come and go.

mod calls;
mod errand;
mod pools;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

pub(crate) use errand::{Conduct, last_words};
pub(crate) use pools::{NUMBER, NumberedPool, Pools};

use calls::Caller;

/// How many threads call.
const CALLERS: u64 = 8;

/// How long a caller waits who found no pool that takes tasks.
const PAUSE: Duration = Duration::from_millis(5);

/// Starts the callers, and whoever makes and ends pools; they go on until `over`.
pub(crate) fn start<'s>(
    scope: &'s Scope<'s, '_>,
    pools: &'s Pools<'_>,
    mut rng: fastrand::Rng,
    gorge: bool,
    over: &'s AtomicBool,
) {
    for number in 0..CALLERS {
        let caller = Caller::new(pools, rng.fork(), gorge);
        spawn(scope, format!("caller-{number}"), move || call_until(caller, over));
    }
    spawn(scope, "host".to_owned(), move || pools.come_and_go(rng, over));
}

fn call_until(mut caller: Caller<'_, '_>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        if !caller.call() {
            std::thread::sleep(PAUSE);
        }
    }
}

fn spawn<'s>(scope: &'s Scope<'s, '_>, name: String, body: impl FnOnce() + Send + 's) {
    std::thread::Builder::new()
        .name(name)
        .spawn_scoped(scope, body)
        .expect("nobody has taken the threads yet");
}
