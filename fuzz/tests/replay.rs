//! Every input that once led somewhere new is read again, by the same targets, without a fuzzer.

use std::fs;
use std::path::Path;

/// Of the inputs that are kept, so that reading them takes no time.
const LONGEST: u64 = 4 << 10;

#[test]
fn whatever_was_kept_does_no_harm() {
    for (name, target) in procpool_fuzz::TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs: Vec<_> =
            fs::read_dir(&corpus).expect(name).map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "no inputs for {name}");
        for input in &inputs {
            let data = fs::read(input).unwrap();
            assert!(data.len() as u64 <= LONGEST, "{} is long: minimise it", input.display());
            let harmed = std::panic::catch_unwind(|| target(&data)).is_err();
            assert!(!harmed, "{name} with {}", input.display());
        }
        println!("{name}: {} inputs", inputs.len());
    }
}

#[test]
fn a_request_by_name_reaches_its_task() {
    let head = [&[1, 3][..], b"add", &[2, 3]].concat();
    let request = procpool::fuzzing::Message { head, area: Vec::new() };
    let (returned, reply) = request.answer().unwrap();
    assert_eq!((returned, reply.take::<u64>(true).unwrap()), (true, 5));
}
