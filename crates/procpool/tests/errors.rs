//! What goes wrong in a task is told where its result is asked for: what happened, where, to whom.

mod common;

use common::{Story, eventually, workers};
use procpool::{Error, Pool, WorkerDeath};
use serde::de::Error as _;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn square(x: u64) -> u64 {
    x * x
}

#[track_caller]
fn death(error: &Error) -> &WorkerDeath {
    match error {
        Error::WorkerDied(death) => death,
        other => panic!("{other}"),
    }
}

// ---- panics ----

#[test]
fn a_panic_tells_its_message_and_its_place() {
    fn divide((a, b): (u32, u32)) -> u32 {
        assert!(b != 0, "cannot divide {a} by nothing");
        a / b
    }
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).env("RUST_BACKTRACE", "0"));
    let error = pool.apply(divide, (7, 0)).unwrap_err();
    let Error::Panicked { message, location, backtrace } = &error else { panic!("{error}") };
    assert_eq!(message, "cannot divide 7 by nothing");
    assert!(location.as_ref().unwrap().contains("tests/errors.rs:"), "{location:?}");
    assert_eq!(*backtrace, None);
    let text = error.to_string();
    assert!(
        text.starts_with("the task panicked at ") && text.ends_with(": cannot divide 7 by nothing"),
        "{text}"
    );
}

#[test]
fn a_panic_tells_its_backtrace_where_that_is_asked_for() {
    #[inline(never)]
    fn a_function_with_a_name(_: ()) {
        panic!("look where I came from");
    }
    let story = Story::begin();
    let pool = story.build(Pool::builder().workers(1).env("RUST_BACKTRACE", "1"));
    let error = pool.apply(a_function_with_a_name, ()).unwrap_err();
    let Error::Panicked { backtrace: Some(trace), .. } = &error else { panic!("{error}") };
    assert!(trace.contains("a_function_with_a_name"), "{trace}");
    assert!(error.to_string().contains("a_function_with_a_name"));
}

#[test]
fn a_panic_with_any_value_is_told() {
    let story = Story::begin();
    let pool = story.pool(1);
    let message = |panic: fn(())| match pool.apply(panic, ()) {
        Err(Error::Panicked { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(message(|_| panic!("text")), "text");
    assert_eq!(message(|_| panic!("{} {}", "formatted", "text")), "formatted text");
    assert_eq!(message(|_| std::panic::panic_any("owned text".to_owned())), "owned text");
    assert_eq!(message(|_| std::panic::panic_any(7)), "a value that is no text (`panic_any`)");
    assert_eq!(message(|_| std::panic::resume_unwind(Box::new("resumed"))), "resumed");
    assert_eq!(message(|_| std::thread::spawn(|| panic!("below")).join().unwrap()).lines().count(), 1);
}

#[test]
fn a_worker_goes_on_after_a_panic() {
    let story = Story::begin();
    let pool = story.pool(1);
    let worker = workers(&pool, 1);
    for _ in 0..100 {
        assert!(matches!(pool.apply(|_: ()| -> u8 { panic!() }, ()), Err(Error::Panicked { .. })));
    }
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
    assert_eq!(workers(&pool, 1), worker);
    // A worker counts a task after it has told of its end.
    eventually("all are counted", || pool.stats().done == 1);
    assert_eq!((pool.stats().failed, pool.stats().restarts), (100, 0));
}

#[test]
fn one_items_panic_does_not_cost_the_others_of_its_chunk() {
    fn odd(x: u32) -> u32 {
        assert!(x % 2 == 1, "{x} is even");
        x
    }
    let story = Story::begin();
    let pool = story.pool(2);
    let each = pool.options().chunk_size(5).map_async(odd, 0..20).unwrap().get_each();
    for (end, x) in each.into_iter().zip(0..) {
        match end {
            Ok(value) => assert!(value == x && x % 2 == 1),
            Err(Error::Panicked { message, .. }) => assert_eq!(message, format!("{x} is even")),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_panic_that_the_task_caught_is_nobodys_business() {
    fn catch(text: String) -> bool {
        std::panic::catch_unwind(|| panic!("{text}")).is_err()
    }
    fn resume(_: ()) {
        std::panic::resume_unwind(Box::new("second"));
    }
    let story = Story::begin();
    let pool = story.pool(1);
    assert!(pool.apply(catch, "first".to_owned()).unwrap());
    let error = pool.apply(resume, ()).unwrap_err();
    assert!(matches!(&error, Error::Panicked { message, .. } if message == "second"), "{error}");

    assert!(pool.apply(catch, "third".to_owned()).unwrap());
    assert!(pool.map(catch, ["fourth".to_owned()]).unwrap()[0]);
    let error = pool.apply(|_: ()| -> u8 { std::process::abort() }, ()).unwrap_err();
    assert_eq!(death(&error).note, None, "the worker's death had nothing to do with it");
}

#[test]
fn a_panic_in_one_item_is_not_told_with_a_later_death() {
    let story = Story::begin();
    let pool = story.pool(1);
    let each =
        pool.map_async(|x: u8| -> u8 { if x == 0 { panic!("old") } else { x } }, [0, 1]).unwrap().get_each();
    assert!(matches!(each[..], [Err(Error::Panicked { .. }), Ok(1)]));
    let error = pool.apply(|_: ()| -> u8 { std::process::abort() }, ()).unwrap_err();
    assert_eq!(death(&error).note, None);
}

#[test]
fn a_panic_that_cannot_unwind_is_told_with_the_workers_death() {
    extern "C" fn no_way_out() {
        panic!("at the wall");
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let error = pool.apply(|_: ()| no_way_out(), ()).unwrap_err();
    let death = death(&error);
    assert_eq!(death.signal_name(), Some("SIGABRT"));
    let note = death.note.as_ref().unwrap();
    assert!(note.contains("at the wall") && note.contains("tests/errors.rs:"), "{note}");
    assert!(error.to_string().contains("at the wall"), "{error}");
}

#[test]
fn a_panic_while_a_panic_unwinds_is_told_with_the_workers_death() {
    struct Worse;
    impl Drop for Worse {
        fn drop(&mut self) {
            panic!("the second");
        }
    }
    fn panic_twice(_: ()) {
        let _worse = Worse;
        panic!("the first");
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let error = pool.apply(panic_twice, ()).unwrap_err();
    let note = death(&error).note.as_ref().unwrap();
    assert!(note.contains("the first") && note.contains("the second"), "{note}");
}

// ---- deaths ----

#[test]
fn a_death_by_a_signal_tells_its_name_the_process_and_the_task() {
    fn raise(signal: i32) -> u32 {
        // SAFETY: ends this process, or does nothing.
        unsafe { libc::raise(signal) };
        std::process::id()
    }
    let story = Story::begin();
    let pool = story.pool(1);
    for (number, name) in [
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGBUS, "SIGBUS"),
    ] {
        let worker = pool.apply(raise, 0).unwrap();
        let handle = pool.apply_async(raise, number).unwrap();
        let shown = format!("{handle:?}");
        let error = handle.get().unwrap_err();
        let death = death(&error);
        assert_eq!((death.signal, death.signal_name(), death.code), (Some(number), Some(name), None));
        assert_eq!(death.pid, worker);
        assert!(shown.contains(&format!("task: Some({})", death.task.unwrap())), "{shown}: {death:?}");
        let text = error.to_string();
        for part in [name, &worker.to_string(), &format!("task {}", death.task.unwrap()), "retries"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn a_death_by_exit_tells_its_status() {
    fn exit(status: i32) {
        std::process::exit(status);
    }
    let story = Story::begin();
    let pool = story.pool(1);
    for status in [0, 1, 3, 255] {
        let error = pool.apply(exit, status).unwrap_err();
        let death = death(&error);
        assert_eq!((death.code, death.signal, death.signal_name()), (Some(status), None, None));
        assert!(error.to_string().contains(&format!("exited with status {status}")), "{error}");
    }
}

#[test]
fn a_crash_costs_one_task() {
    fn survive(x: u64) -> u64 {
        if x == 50 { std::process::abort() } else { x }
    }
    let story = Story::begin();
    let pool = story.pool(2);
    let handles: Vec<_> = (0..100).map(|x| pool.apply_async(survive, x).unwrap()).collect();
    let ends: Vec<_> = handles.into_iter().map(procpool::AsyncResult::get).collect();
    let lost: Vec<usize> = (0..100).filter(|&x| ends[x].is_err()).collect();
    assert_eq!(lost, [50]);
}

// ---- encoding ----

/// Fails where it is told to.
#[derive(Debug)]
struct Difficult {
    /// In the process that is not this one; 0 for everywhere.
    elsewhere_than: u32,
    encodes: bool,
    decodes: bool,
}

impl Serialize for Difficult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.encodes && self.elsewhere_than != std::process::id() {
            return Err(S::Error::custom("it does not want to go"));
        }
        (self.elsewhere_than, self.encodes, self.decodes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Difficult {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (elsewhere_than, encodes, decodes) = <(u32, bool, bool)>::deserialize(deserializer)?;
        if !decodes && elsewhere_than != std::process::id() {
            return Err(D::Error::custom("it does not want to come"));
        }
        Ok(Self { elsewhere_than, encodes, decodes })
    }
}

#[test]
fn an_argument_that_cannot_be_encoded_is_refused_with_its_type_and_the_side() {
    let story = Story::begin();
    let pool = story.pool(1);
    let argument = Difficult { elsewhere_than: 0, encodes: false, decodes: true };
    let error = pool.apply(|_: Difficult| (), argument).unwrap_err();
    assert!(matches!(error, Error::Codec(_)));
    assert_eq!(
        error.to_string(),
        "cannot encode a value of type `errors::Difficult`: it does not want to go"
    );
    assert_eq!(pool.stats().accepted, 0);
}

#[test]
fn an_argument_that_cannot_be_decoded_is_told_with_its_type_and_the_side() {
    let story = Story::begin();
    let pool = story.pool(1);
    let argument = Difficult { elsewhere_than: std::process::id(), encodes: true, decodes: false };
    let error = pool.apply(|_: Difficult| (), argument).unwrap_err();
    let Error::Argument { message } = &error else { panic!("{error}") };
    assert_eq!(message, "cannot decode a value of type `errors::Difficult`: it does not want to come");
    assert!(error.to_string().contains(message));
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

#[test]
fn a_result_that_cannot_be_encoded_is_told_with_its_type_and_the_side() {
    fn make(_: ()) -> Difficult {
        Difficult { elsewhere_than: 0, encodes: false, decodes: true }
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let error = pool.apply(make, ()).unwrap_err();
    let Error::ResultNotSent { message } = &error else { panic!("{error}") };
    assert_eq!(message, "cannot encode a value of type `errors::Difficult`: it does not want to go");
    assert!(error.to_string().contains(message));
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

#[test]
fn a_result_that_cannot_be_decoded_is_told_with_its_type_and_the_side() {
    fn make(_: ()) -> Difficult {
        Difficult { elsewhere_than: std::process::id(), encodes: true, decodes: false }
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let error = pool.apply(make, ()).unwrap_err();
    assert!(matches!(error, Error::Codec(_)));
    assert_eq!(
        error.to_string(),
        "cannot decode a value of type `errors::Difficult`: it does not want to come"
    );
    let each = pool.map_async(|x: u8| if x == 1 { Some(make(())) } else { None }, [0, 1]).unwrap().get_each();
    assert!(matches!(each[..], [Ok(None), Err(Error::Codec(_))]), "{each:?}");
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

#[derive(Debug, Serialize, Deserialize)]
struct Nested(Option<Box<Nested>>);

impl Nested {
    fn of_depth(depth: u32) -> Self {
        (0..depth).fold(Self(None), |inner, _| Self(Some(Box::new(inner))))
    }
}

#[test]
fn what_is_nested_too_deep_ends_in_an_error_on_either_side() {
    let story = Story::begin();
    let pool = story.pool(1);
    let error = pool.apply(|_: Nested| (), Nested::of_depth(3000)).unwrap_err();
    assert!(matches!(error, Error::Codec(_)) && error.to_string().contains("levels deep"), "{error}");
    let error = pool.apply(Nested::of_depth, 3000).unwrap_err();
    assert!(
        matches!(error, Error::ResultNotSent { .. }) && error.to_string().contains("levels deep"),
        "{error}"
    );
    drop(pool.apply(|nested: Nested| nested, Nested::of_depth(100)).unwrap());
}

/// A sequence that says it has more elements than it has.
#[derive(Debug, Deserialize)]
struct Boaster(Vec<u8>);

impl Serialize for Boaster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut elements = serializer.serialize_seq(Some(1 << 60))?;
        self.0.iter().try_for_each(|element| elements.serialize_element(element))?;
        elements.end()
    }
}

#[test]
fn a_length_that_is_not_true_ends_in_an_error() {
    let story = Story::begin();
    let pool = story.pool(1);
    let error = pool.apply(|_: Boaster| (), Boaster(vec![1, 2, 3])).unwrap_err();
    assert!(matches!(error, Error::Codec(_) | Error::Argument { .. }), "{error}");
    let error = pool.apply(|_: ()| Boaster(vec![1, 2, 3]), ()).unwrap_err();
    assert!(matches!(error, Error::Codec(_) | Error::ResultNotSent { .. }), "{error}");
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

/// Panics where it is told to.
#[derive(Debug, PartialEq)]
struct Touchy {
    when: Touch,
    /// The process in which it keeps quiet.
    calm_in: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Touch {
    Encoded,
    Decoded,
    Dropped,
}

impl Touchy {
    fn flinch(&self, when: Touch) {
        assert!(self.when != when || self.calm_in == std::process::id(), "do not touch me");
    }
}

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.flinch(Touch::Encoded);
        (self.when, self.calm_in).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (when, calm_in) = <(Touch, u32)>::deserialize(deserializer)?;
        let touchy = Self { when, calm_in };
        touchy.flinch(Touch::Decoded);
        Ok(touchy)
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.flinch(Touch::Dropped);
        }
    }
}

#[test]
fn a_panic_of_an_arguments_own_code_in_the_worker_is_the_tasks() {
    let story = Story::begin();
    let pool = story.pool(1);
    for when in [Touch::Decoded, Touch::Dropped] {
        let argument = Touchy { when, calm_in: std::process::id() };
        let error = pool.apply(drop::<Touchy>, argument).unwrap_err();
        assert!(matches!(&error, Error::Panicked { message, .. } if message == "do not touch me"), "{error}");
    }
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

#[test]
fn a_panic_of_a_results_own_code_does_not_stop_the_pool() {
    fn make(when: Touch) -> Touchy {
        Touchy { when, calm_in: std::process::id() }
    }
    let story = Story::begin();
    let pool = story.pool(1);
    let got = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.apply(make, Touch::Decoded)));
    assert!(!matches!(got, Ok(Ok(_))), "it could not be decoded here");
    // Where callbacks wait for it, it is decoded by a thread of the pool's.
    let heard = pool.apply_async(make, Touch::Decoded).unwrap().on_success(|_| {});
    let got = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| heard.get()));
    assert!(!matches!(got, Ok(Ok(_))), "it could not be decoded there");
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

// ---- the type itself ----

#[test]
fn errors_can_be_shared_and_asked_for_their_cause() {
    fn check<T: std::error::Error + Clone + Send + Sync + 'static>() {}
    check::<Error>();
    let story = Story::begin();
    let pool = story.pool(1);
    let argument = Difficult { elsewhere_than: 0, encodes: false, decodes: true };
    let error: Box<dyn std::error::Error> = Box::new(pool.apply(|_: Difficult| (), argument).unwrap_err());
    assert!(error.source().is_some() || error.to_string().contains("does not want to go"));
}
