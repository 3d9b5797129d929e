use proptest::prelude::*;

use super::*;

fn state() -> impl Strategy<Value = State> {
    prop::sample::select(vec![
        State::Free,
        State::Ready,
        State::Claimed,
        State::Doomed,
        State::Done,
        State::Cancelled,
        State::Lost,
    ])
}

fn word_of(state: State, seat: u32, ticket: Ticket) -> Word {
    Word(AtomicU64::new(Snapshot::pack(state, seat, ticket).0))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_is_what_is_read(state in state(), seat in 0..4096_u32, ticket in 1..1_u64 << 48) {
        let seen = word_of(state, seat, ticket).read();
        prop_assert_eq!(seen.state(), Some(state));
        prop_assert_eq!(seen.seat(), seat);
        prop_assert_eq!(seen.ticket(), ticket);
        prop_assert_eq!(seen.tag(), ticket as u32);
        prop_assert!(seen.is_for(ticket));
        prop_assert!(!seen.is_for(ticket ^ 1));
    }

    /// *I4*: whatever a worker scribbled, reading it says something or nothing, and never more than was asked.
    #[test]
    fn rubbish_is_read_as_rubbish(word: u64) {
        let seen = Word(AtomicU64::new(word)).read();
        prop_assert!(seen.seat() < 4096);
        prop_assert_eq!(seen.state().is_none(), word >> 60 > 6);
    }

    /// The table in the module's documentation, row by row: nobody else may, and nothing else changes.
    #[test]
    fn a_state_changes_only_as_the_table_says(
        state in state(),
        seat in 0..4096_u32,
        ticket in 1..1_u64 << 48,
        is_mine: bool,
    ) {
        let asked = if is_mine { ticket } else { ticket ^ 1 };
        let with = |change: &dyn Fn(&Word) -> bool| {
            let word = word_of(state, seat, ticket);
            let changed = change(&word);
            let seen = word.read();
            prop_assert_eq!(changed, seen.state() != Some(state));
            prop_assert!(seen.is_for(ticket));
            Ok(changed)
        };
        let claimed = with(&|word| word.claim(word.read(), seat))?;
        prop_assert_eq!(claimed, state == State::Ready);
        let finished = with(&|word| word.finish(asked, seat))?;
        prop_assert_eq!(finished, state == State::Claimed && is_mine);
        let by_another = with(&|word| word.finish(asked, seat ^ 1))?;
        prop_assert!(!by_another);
        let doomed = with(&|word| word.doom(asked).is_some())?;
        prop_assert_eq!(doomed, state == State::Claimed && is_mine);
        let cancelled = with(&|word| word.cancel(asked))?;
        prop_assert_eq!(cancelled, state == State::Ready && seat == 0 && is_mine);
    }
}

#[test]
fn a_claim_that_comes_too_late_changes_nothing() {
    let word = Word::new();
    word.publish(1);
    let seen = word.read();
    assert!(word.cancel(1));
    word.release();
    word.publish(2);
    assert!(!word.claim(seen, 5));
    assert_eq!(word.read().state(), Some(State::Ready));
    assert!(word.read().is_for(2));
}

#[test]
fn whoever_registered_is_told_by_every_end_until_the_slot_is_used_again() {
    let event = Event::new();
    assert!(!event.end());
    event.listen();
    event.wait();
    assert!(event.is_awaited());
    assert!(event.end());
    assert!(event.end());
    event.reset();
    assert!(!event.is_awaited());
    assert!(!event.end());
}

#[test]
fn an_end_changes_the_word_under_a_sleeper_also_when_it_is_repeated() {
    let event = Event::new();
    event.end();
    let seen = event.wait();
    event.end();
    // Would sleep for as long as it takes if the word were what it was.
    event.sleep(seen, None);
}
