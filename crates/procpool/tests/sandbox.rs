//! Workers in a sandbox: what is not allowed is refused, what is allowed works, and a pool's promises hold as ever.
//!
//! Where this system cannot enforce a sandbox, that it says so is all that there is to see: [`shut_in`].

mod common;

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use common::{
    Gate, PATIENCE, Program, Story, alone, eventually, is_alive, kill, say, wait_to_be_killed, workers,
};
use procpool::{Buffer, Builder, Error, Mechanism, Pool, Sandbox, SandboxError};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// A pool of workers in this sandbox; none where the system lacks what it takes.
fn shut_in(story: &Story, workers: usize, sandbox: Sandbox) -> Option<Arc<Pool>> {
    build(story, Pool::builder().workers(workers).sandbox(sandbox))
}

fn build(story: &Story, builder: Builder) -> Option<Arc<Pool>> {
    match builder.build() {
        Ok(pool) => Some(story.watch(pool)),
        Err(Error::Sandbox(missing)) if matches!(*missing, SandboxError::Missing { .. }) => {
            println!("not tested: {missing}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// 0 where it went well.
fn errno<T>(result: io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

/// The same of what libc gives back.
fn errno_of(status: impl Into<i64>) -> i32 {
    errno(if status.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) })
}

fn path_in(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

// ---- files ----

/// Task: all that can be done to files in a folder that has the files `old` and `older`; what came of it.
fn change_files(folder: PathBuf) -> Vec<(String, i32)> {
    let at = |name: &str| folder.join(name);
    let old = std::ffi::CString::new(at("old").into_os_string().into_encoded_bytes()).unwrap();
    let attempts = [
        ("write", errno(File::options().append(true).open(at("old")))),
        // SAFETY: the path ends with a NUL.
        ("truncate", errno_of(unsafe { libc::truncate(old.as_ptr(), 0) })),
        ("create", errno(File::create_new(at("new")))),
        ("create a folder", errno(fs::create_dir(at("folder")))),
        ("link", errno(fs::hard_link(at("old"), at("link")))),
        ("link by name", errno(std::os::unix::fs::symlink(at("old"), at("symlink")))),
        ("rename", errno(fs::rename(at("old"), at("renamed")))),
        ("remove", errno(fs::remove_file(at("older")))),
    ];
    attempts.map(|(what, errno)| (what.to_owned(), errno)).into()
}

fn folder_with_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(path_in(&folder, "old"), "old").unwrap();
    fs::write(path_in(&folder, "older"), "older").unwrap();
    folder
}

#[test]
fn files_outside_of_the_given_folders_cannot_be_changed() {
    let story = Story::begin();
    let (outside, inside) = (folder_with_files(), tempfile::tempdir().unwrap());
    let Some(pool) = shut_in(&story, 1, Sandbox::new().write(inside.path())) else { return };
    let attempts = pool.apply(change_files, outside.path().to_owned()).unwrap();
    assert!(attempts.iter().all(|(_, errno)| *errno == libc::EACCES), "{attempts:?}");
    assert_eq!(fs::read(path_in(&outside, "old")).unwrap(), b"old");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
}

#[test]
fn files_in_a_given_folder_can_be_changed_in_every_way() {
    let story = Story::begin();
    let inside = folder_with_files();
    let Some(pool) = shut_in(&story, 1, Sandbox::new().write(inside.path())) else { return };
    let attempts = pool.apply(change_files, inside.path().to_owned()).unwrap();
    assert!(attempts.iter().all(|(_, errno)| *errno == 0), "{attempts:?}");
}

#[test]
fn a_file_is_not_moved_out_of_a_given_folder() {
    let story = Story::begin();
    let (outside, inside) = (tempfile::tempdir().unwrap(), folder_with_files());
    let Some(pool) = shut_in(&story, 1, Sandbox::new().write(inside.path())) else { return };
    let both = (path_in(&inside, "old"), path_in(&outside, "old"));
    let errno = pool.apply(|(from, to): (PathBuf, PathBuf)| errno(fs::rename(from, to)), both).unwrap();
    assert!([libc::EACCES, libc::EXDEV].contains(&errno), "{errno}");
}

#[test]
fn a_single_file_can_be_given() {
    let story = Story::begin();
    let folder = folder_with_files();
    let Some(pool) = shut_in(&story, 1, Sandbox::new().write(path_in(&folder, "old"))) else { return };
    let append = |path: PathBuf| errno(File::options().append(true).open(path));
    assert_eq!(pool.apply(append, path_in(&folder, "old")).unwrap(), 0);
    assert_eq!(pool.apply(append, path_in(&folder, "older")).unwrap(), libc::EACCES);
}

#[test]
fn a_folder_that_takes_the_place_of_a_given_one_cannot_be_written() {
    let story = Story::begin();
    let folder = tempfile::tempdir().unwrap();
    let given = path_in(&folder, "given");
    fs::create_dir(&given).unwrap();
    let Some(pool) = shut_in(&story, 1, Sandbox::new().write(&given)) else { return };
    let create = |path: PathBuf| errno(File::create(path.join("file")));
    assert_eq!(pool.apply(create, given.clone()).unwrap(), 0);
    fs::rename(&given, path_in(&folder, "moved")).unwrap();
    fs::create_dir(&given).unwrap();
    // Also not by a worker that starts now.
    kill(workers(&pool, 1)[0]);
    eventually("there is another worker", || pool.stats().restarts == 1);
    assert_eq!(pool.apply(create, given).unwrap(), libc::EACCES);
    assert_eq!(pool.apply(create, path_in(&folder, "moved")).unwrap(), 0);
}

#[test]
fn what_a_worker_needs_goes_on_working() {
    let story = Story::begin();
    let folder = folder_with_files();
    let Some(pool) = shut_in(&story, 1, Sandbox::new()) else { return };
    let read =
        |path: PathBuf| (fs::read_to_string(&path).unwrap(), fs::read_dir(path.parent().unwrap()).is_ok());
    assert_eq!(pool.apply(read, path_in(&folder, "old")).unwrap(), ("old".to_owned(), true));
    let in_thread = |x: u64| thread::spawn(move || x + 1).join().unwrap();
    assert_eq!(pool.apply(in_thread, 1).unwrap(), 2);
    let throw_away = |_: ()| errno(File::create("/dev/null").and_then(|mut null| null.write_all(b"nothing")));
    assert_eq!(pool.apply(throw_away, ()).unwrap(), 0);
    let pair = |_: ()| errno(UnixStream::pair()) + errno(io::pipe());
    assert_eq!(pool.apply(pair, ()).unwrap(), 0);
    let large = |numbers: Buffer<u64>| numbers.iter().map(|x| x + 1).collect::<Vec<_>>();
    let sent: Vec<u64> = (0..1 << 20).collect();
    assert_eq!(pool.apply(large, sent.into()).unwrap().last(), Some(&(1 << 20)));
}

// ---- network ----

/// Task: every way to the network; what came of it.
fn open_network(port: u16) -> Vec<(String, i32)> {
    let datagram_pair = errno(UnixDatagram::pair());
    let attempts = [
        ("udp", errno(UdpSocket::bind("127.0.0.1:0"))),
        ("udp6", errno(UdpSocket::bind("[::1]:0"))),
        ("listen", errno(TcpListener::bind("127.0.0.1:0"))),
        ("connect", errno(TcpStream::connect(("127.0.0.1", port)))),
        ("unix", errno(UnixStream::connect("/run/nobody-listens-here"))),
        ("unix listen", errno(UnixListener::bind("/dev/null/no"))),
        ("unix datagrams", datagram_pair),
        // SAFETY: these calls take no pointers.
        ("netlink", errno_of(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) })),
        // SAFETY: as above.
        ("accept", errno_of(unsafe { libc::accept(0, std::ptr::null_mut(), std::ptr::null_mut()) })),
    ];
    attempts.map(|(what, errno)| (what.to_owned(), errno)).into()
}

#[test]
fn the_network_is_closed_unless_it_is_allowed() {
    let story = Story::begin();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(pool) = shut_in(&story, 1, Sandbox::new()) else { return };
    let attempts = pool.apply(open_network, port).unwrap();
    assert!(attempts.iter().all(|(_, errno)| *errno == libc::EPERM), "{attempts:?}");

    let Some(pool) = shut_in(&story, 1, Sandbox::new().network(true)) else { return };
    let attempts = pool.apply(open_network, port).unwrap();
    assert!(attempts.iter().all(|(_, errno)| *errno != libc::EPERM), "{attempts:?}");
    assert_eq!(pool.apply(|port: u16| errno(TcpStream::connect(("127.0.0.1", port))), port).unwrap(), 0);
}

// ---- programs and privileges ----

#[test]
fn programs_cannot_be_started_unless_they_are_allowed() {
    let story = Story::begin();
    let Some(pool) = shut_in(&story, 1, Sandbox::new()) else { return };
    assert_eq!(pool.apply(|_: ()| errno(Command::new("true").status()), ()).unwrap(), libc::EPERM);
}

#[test]
fn a_program_that_is_allowed_is_in_the_same_sandbox() {
    fn run((script, folder): (String, PathBuf)) -> bool {
        Command::new("sh").arg("-c").arg(script).current_dir(folder).status().unwrap().success()
    }
    let story = Story::begin();
    let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sandbox = Sandbox::new().write(inside.path()).programs(true);
    let Some(pool) = shut_in(&story, 1, sandbox) else { return };
    let run_in = |folder: &tempfile::TempDir| {
        pool.apply(run, ("echo x > file 2>/dev/null".to_owned(), folder.path().to_owned())).unwrap()
    };
    assert!(run_in(&inside));
    assert!(!run_in(&outside));
}

/// The value of a line of `/proc/<...>/status`.
fn status(path: &Path, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{} has no {name}", path.display())).trim().to_owned()
}

#[test]
fn every_thread_of_a_worker_is_shut_in() {
    fn threads(_: ()) -> Vec<[String; 3]> {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("status"));
        tasks.map(|path| ["NoNewPrivs", "Seccomp", "CapEff"].map(|name| status(&path, name))).collect()
    }
    let story = Story::begin();
    let builder = Pool::builder().workers(1).stack_size(1 << 20).sandbox(Sandbox::new());
    let Some(pool) = build(&story, builder) else { return };
    let threads = pool.apply(threads, ()).unwrap();
    // The main one, the one that watches the parent, the one with the stack.
    assert_eq!(threads.len(), 3);
    let shut_in = ["1", "2", "0000000000000000"].map(str::to_owned);
    assert!(threads.iter().all(|thread| *thread == shut_in), "{threads:?}");
}

#[test]
fn privileges_cannot_be_gained() {
    fn attempts(_: ()) -> Vec<(String, i32)> {
        let type_into = c"x".as_ptr();
        // SAFETY: the calls take numbers, and pointers to what lives here.
        let attempts = unsafe {
            [
                ("user namespace", errno_of(libc::unshare(libc::CLONE_NEWUSER))),
                ("other namespace", errno_of(libc::setns(0, 0))),
                ("io_uring", errno_of(libc::syscall(libc::SYS_io_uring_setup, 1, type_into))),
                ("typing into the terminal", errno_of(libc::ioctl(0, libc::TIOCSTI, type_into))),
                ("user", errno_of(libc::setuid(if libc::getuid() == 0 { 1 } else { 0 }))),
                ("limits of the parent", {
                    let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
                    let parent = libc::getppid();
                    errno_of(libc::prlimit(parent, libc::RLIMIT_CPU, &raw const limit, std::ptr::null_mut()))
                }),
            ]
        };
        attempts.map(|(what, errno)| (what.to_owned(), errno)).into()
    }
    let story = Story::begin();
    let Some(pool) = shut_in(&story, 1, Sandbox::new()) else { return };
    let attempts = pool.apply(attempts, ()).unwrap();
    assert!(attempts.iter().all(|(_, errno)| *errno == libc::EPERM), "{attempts:?}");
}

#[test]
fn numbers_of_system_calls_that_would_slip_past_are_refused() {
    fn call(number: i64) -> i32 {
        // SAFETY: neither call takes an argument.
        errno_of(unsafe { libc::syscall(number) })
    }
    let story = Story::begin();
    let Some(pool) = shut_in(&story, 1, Sandbox::new()) else { return };
    assert_eq!(pool.apply(call, libc::SYS_getpid).unwrap(), 0);
    assert_eq!(pool.apply(call, 0x4000_0000 | libc::SYS_getpid).unwrap(), libc::ENOSYS);
    assert_eq!(pool.apply(call, libc::SYS_clone3).unwrap(), libc::ENOSYS);
}

#[test]
fn a_worker_cannot_signal_or_search_its_parent() {
    fn attempts(parent: i32) -> (i32, i32) {
        // SAFETY: signal 0 is none, and only asks whether one could be sent.
        let signal = errno_of(unsafe { libc::kill(parent, 0) });
        (signal, errno(fs::read(format!("/proc/{parent}/environ"))))
    }
    let story = Story::begin();
    let Some(pool) = shut_in(&story, 1, Sandbox::new()) else { return };
    let (signal, environment) = pool.apply(attempts, std::process::id().cast_signed()).unwrap();
    assert_eq!(environment, libc::EACCES);
    // SAFETY: with this flag the call takes no pointer, and only tells Landlock's version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, 1) };
    // From Linux 6.12 on.
    assert_eq!(signal, if version >= 6 { libc::EPERM } else { 0 });
}

// ---- limits ----

#[test]
fn limits_are_errors_and_no_deaths() {
    fn allocate(bytes: usize) -> bool {
        Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
    }
    fn open_many(count: usize) -> i32 {
        let opened: io::Result<Vec<File>> = (0..count).map(|_| File::open("/dev/null")).collect();
        errno(opened)
    }
    fn write((path, bytes): (PathBuf, usize)) -> i32 {
        errno(fs::write(path, vec![7; bytes]))
    }
    let story = Story::begin();
    let inside = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new().write(inside.path()).memory(256 << 20).open_files(50).file_size(1000);
    let Some(pool) = shut_in(&story, 1, sandbox) else { return };
    assert!(pool.apply(allocate, 1 << 20).unwrap());
    assert!(!pool.apply(allocate, 512 << 20).unwrap());
    assert_eq!(pool.apply(open_many, 10).unwrap(), 0);
    assert_eq!(pool.apply(open_many, 100).unwrap(), libc::EMFILE);
    assert_eq!(pool.apply(write, (path_in(&inside, "short"), 1000)).unwrap(), 0);
    assert_eq!(pool.apply(write, (path_in(&inside, "long"), 1001)).unwrap(), libc::EFBIG);
    assert_eq!(pool.stats().restarts, 0);
    // What the pool itself writes is no file.
    assert_eq!(pool.apply(|bytes: usize| vec![7_u8; bytes], 1 << 20).unwrap().len(), 1 << 20);
}

// ---- the pool's promises ----

#[test]
fn the_initializer_runs_in_the_sandbox() {
    static CAME_OF_IT: AtomicI32 = AtomicI32::new(-1);
    fn try_to_create(path: PathBuf) {
        CAME_OF_IT.store(errno(File::create(path)), Ordering::Relaxed);
    }
    let story = Story::begin();
    let outside = tempfile::tempdir().unwrap();
    let builder = Pool::builder().workers(1).sandbox(Sandbox::new());
    let builder = builder.initializer(try_to_create, path_in(&outside, "file"));
    let Some(pool) = build(&story, builder) else { return };
    let came_of_it = pool.apply(|_: ()| CAME_OF_IT.load(Ordering::Relaxed), ()).unwrap();
    assert_eq!(came_of_it, libc::EACCES);
}

#[test]
fn a_worker_that_takes_anothers_place_is_shut_in_as_well() {
    let story = Story::begin();
    let outside = tempfile::tempdir().unwrap();
    let Some(pool) = shut_in(&story, 1, Sandbox::new()) else { return };
    for round in 0..3 {
        let create = |path: PathBuf| errno(File::create(path));
        assert_eq!(pool.apply(create, path_in(&outside, "file")).unwrap(), libc::EACCES, "round {round}");
        let death = pool.apply(|_: ()| -> () { std::process::abort() }, ()).unwrap_err();
        assert!(matches!(death, Error::WorkerDied(_)), "{death}");
    }
}

#[test]
fn deaths_time_limits_and_the_end_are_as_ever_and_nothing_is_left() {
    fn sleep_for_ever(_: ()) {
        thread::sleep(PATIENCE * 2);
    }
    alone(|story| {
        let Some(pool) = shut_in(story, 2, Sandbox::new()) else { return };
        let gate = Gate::closed();
        let (lost, other) = (pool.apply_async(sleep_for_ever, ()).unwrap(), gate.submit(&pool));
        eventually("both run", || pool.stats().running == 2);
        let late =
            pool.options().timeout(Duration::from_millis(100)).apply_async(sleep_for_ever, ()).unwrap();
        let running = workers(&pool, 2);
        assert!(lost.cancel_running());
        assert!(matches!(lost.get(), Err(Error::Cancelled)));
        assert!(matches!(late.get(), Err(Error::TimedOut { .. })));
        gate.open();
        assert_eq!(other.get().unwrap(), 1);
        assert_eq!(pool.map(|x: u64| x * x, 0..1000).unwrap().len(), 1000);
        let endless = pool.apply_async(sleep_for_ever, ()).unwrap();
        eventually("it runs", || pool.stats().running == 1);
        pool.terminate();
        assert!(matches!(endless.get(), Err(Error::Terminated)));
        pool.join().unwrap();
        assert!(running.into_iter().all(|pid| !is_alive(pid)));
    });
}

#[test]
fn workers_in_a_sandbox_end_with_a_parent_that_is_killed() {
    let mut program = Program::start(|| {
        match Pool::builder().workers(2).sandbox(Sandbox::new()).build() {
            Ok(pool) => {
                eventually("the workers are there", || pool.stats().workers.len() == 2);
                say("ready");
                std::mem::forget(pool);
            }
            Err(error) => say(error),
        }
        wait_to_be_killed();
    });
    let said = program.hear();
    assert!(said == "ready" || said.contains("this system has no"), "{said}");
    program.kill();
    program.wait_for_relatives();
}

// ---- pools of workers ----

#[test]
fn a_pool_of_a_workers_own_needs_programs_and_says_so() {
    fn nested(_: ()) -> String {
        match Pool::new(1) {
            Ok(pool) => pool.apply(|x: u64| x + 1, 1).unwrap().to_string(),
            Err(error) => error.to_string(),
        }
    }
    let story = Story::begin();
    let Some(pool) = shut_in(&story, 1, Sandbox::new()) else { return };
    let refused = pool.apply(nested, ()).unwrap();
    assert!(refused.contains("a sandbox that forbids programs"), "{refused}");
    let Some(pool) = shut_in(&story, 1, Sandbox::new().programs(true)) else { return };
    assert_eq!(pool.apply(nested, ()).unwrap(), "2");
}

#[test]
fn a_pool_of_a_workers_own_is_in_its_sandbox_and_in_another() {
    fn create(path: PathBuf) -> i32 {
        errno(File::create(path.join("file")))
    }
    fn nested([outer, inner]: [PathBuf; 2]) -> [i32; 3] {
        let plain = Pool::new(1).unwrap();
        // It gives away more than it has, which does not help.
        let sandbox = Sandbox::new().write(&inner).write(outer.parent().unwrap());
        let shut_in = Pool::builder().workers(1).sandbox(sandbox).build().unwrap();
        let above = outer.parent().unwrap().to_owned();
        [
            plain.apply(create, outer).unwrap(),
            shut_in.apply(create, inner).unwrap(),
            shut_in.apply(create, above).unwrap(),
        ]
    }
    let story = Story::begin();
    let above = tempfile::tempdir().unwrap();
    let (outer, inner) = (path_in(&above, "outer"), path_in(&above, "outer/inner"));
    fs::create_dir_all(&inner).unwrap();
    let Some(pool) = shut_in(&story, 1, Sandbox::new().write(&outer).programs(true)) else { return };
    assert_eq!(pool.apply(nested, [outer, inner]).unwrap(), [0, 0, libc::EACCES]);
}

// ---- what is missing ----

/// Runs this in a thread in which a system call, or that call with this first argument, ends so.
fn where_call_fails<T: Send>(
    call: i64,
    argument: Option<u64>,
    errno: i32,
    run: impl FnOnce() -> T + Send,
) -> T {
    let is = |value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).unwrap();
    let rules = argument.map(|value| SeccompRule::new(vec![is(value)]).unwrap());
    let rules = [(call, rules.into_iter().collect())].into();
    let refusal = SeccompAction::Errno(errno.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            seccompiler::apply_filter(&filter).unwrap();
            run()
        });
        thread.join().unwrap()
    })
}

/// What is missing, and how that is said.
fn missing(call: i64, argument: Option<u64>, errno: i32) -> (Mechanism, String) {
    let built = where_call_fails(call, argument, errno, || {
        Pool::builder().workers(1).sandbox(Sandbox::new()).build()
    });
    let Err(Error::Sandbox(error)) = built else { panic!("{built:?}") };
    let SandboxError::Missing { mechanism, .. } = *error else { panic!("{error}") };
    (mechanism, error.to_string())
}

#[test]
fn a_kernel_without_landlock_is_an_error_that_says_what_to_do() {
    let (mechanism, text) = missing(libc::SYS_landlock_create_ruleset, None, libc::ENOSYS);
    assert_eq!(mechanism, Mechanism::Landlock);
    assert!(text.contains("Linux 6.2") && text.contains("not implemented"), "{text}");
    // Built in, and not switched on.
    let (mechanism, text) = missing(libc::SYS_landlock_create_ruleset, None, libc::EOPNOTSUPP);
    assert_eq!(mechanism, Mechanism::Landlock);
    assert!(text.contains("lsm="), "{text}");
}

#[test]
fn an_old_landlock_is_an_error_that_says_which() {
    // Without an error this call's result is 0: a version before all others.
    let (mechanism, text) = missing(libc::SYS_landlock_create_ruleset, None, 0);
    assert_eq!(mechanism, Mechanism::Landlock);
    assert!(text.contains("its version here is 0, and 3 is needed"), "{text}");
}

#[test]
fn a_kernel_without_seccomp_is_an_error() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let (mechanism, text) = missing(libc::SYS_seccomp, None, errno);
        assert_eq!(mechanism, Mechanism::Seccomp);
        assert!(text.contains("CONFIG_SECCOMP_FILTER"), "{text}");
    }
}

#[test]
fn a_kernel_that_lets_nobody_forgo_privileges_is_an_error() {
    let ask = libc::PR_GET_NO_NEW_PRIVS as u64;
    let (mechanism, _) = missing(libc::SYS_prctl, Some(ask), libc::EINVAL);
    assert_eq!(mechanism, Mechanism::NoNewPrivileges);
}

#[test]
fn a_folder_that_is_not_there_is_an_error_with_its_name() {
    let built = Pool::builder().sandbox(Sandbox::new().write("/nowhere/at/all")).build();
    let Err(Error::Sandbox(error)) = built else { panic!("{built:?}") };
    match &*error {
        SandboxError::Path { path, error } => {
            assert_eq!((path.to_str(), error.kind()), (Some("/nowhere/at/all"), io::ErrorKind::NotFound));
        }
        SandboxError::Missing { .. } => {}
        other => panic!("{other}"),
    }
}

/// A pool whose workers cannot enter.
fn shut_out(story: &Story) -> Option<Arc<Pool>> {
    where_call_fails(libc::SYS_landlock_restrict_self, None, libc::E2BIG, || {
        shut_in(story, 2, Sandbox::new())
    })
}

fn expect_that_nobody_entered(pool: &Pool) {
    let error = pool.apply(|x: u64| x, 1).unwrap_err();
    let Error::Sandbox(error) = error else { panic!("{error}") };
    assert!(matches!(*error, SandboxError::NotEntered { .. }), "{error}");
    assert!(error.to_string().contains("Argument list too long"), "{error}");
}

#[test]
fn a_worker_that_cannot_enter_runs_nothing_and_the_pool_says_so() {
    let story = Story::begin();
    let Some(pool) = shut_out(&story) else { return };
    expect_that_nobody_entered(&pool);
}

/// The next worker tries again, and says why it cannot.
#[cfg(feature = "faults")]
#[test]
fn a_worker_that_dies_while_it_says_that_it_cannot_enter_leaves_that_to_the_next() {
    use procpool_engine::Point;
    let story = Story::begin();
    for &point in Point::STAYS_OUT {
        let Some(pool) = shut_out(&story) else { return };
        pool.arm(point, 2);
        expect_that_nobody_entered(&pool);
    }
}
