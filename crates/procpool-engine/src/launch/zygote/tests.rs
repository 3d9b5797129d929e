use super::*;

#[test]
#[cfg_attr(miri, ignore)]
fn a_zygote_that_hangs_when_the_pool_ends_is_ended_and_not_replaced() {
    let (here, _there) = socket::pair().unwrap();
    let mut launcher = ZygoteLauncher::pretend(here, [0, 1]);
    launcher.zygote.as_mut().unwrap().said_hello = true;
    launcher.unsent.push_back(2);
    launcher.call_off();
    let mut failed = Vec::new();
    while failed.len() < 3 {
        let events = launcher.events();
        failed.extend(events.into_iter().filter_map(|event| match event {
            LaunchEvent::Failed { seat, .. } => Some(seat),
            _ => None,
        }));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(failed, [2, 0, 1]);
    assert!(launcher.zygote.is_none());
}
