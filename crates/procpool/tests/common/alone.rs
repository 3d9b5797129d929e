//! Stories in a process of their own: this test program, run again for one test.
//!
//! A test that calls [`alone`] or [`Program::start`] is run twice: once by the test runner, and once by itself, with a
//! variable in the environment that says so. What the closure does happens in the second process only.

use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::processes::{MARK, relatives};
use super::{PATIENCE, Story, eventually, kill};

/// Lines that a program says to its test begin with this; others are the test runner's.
const SAID: &str = "@ ";

/// The variable that tells a program which of several it is.
const NUMBER: &str = "PROCPOOL_TEST_NUMBER";

/// Runs a story in a process of its own, at whose end nothing may be left. The closure must be written in the test
/// itself: its type says which test to run.
#[track_caller]
pub(crate) fn alone<F: FnOnce(&Story)>(story: F) {
    if is_second_run() {
        return story(&Story::begin());
    }
    Program::launch::<F>().expect_success();
}

fn is_second_run() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Says something to the test that started this program.
pub(crate) fn say(what: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // The test runner may have begun a line.
    writeln!(out, "\n{SAID}{what}").and_then(|()| out.flush()).unwrap();
}

/// The end of a program that its test will kill.
pub(crate) fn wait_to_be_killed() -> ! {
    std::thread::sleep(PATIENCE * 2);
    panic!("nobody killed this program");
}

/// A process with a story of its own, which the test watches from outside.
pub(crate) struct Program {
    child: Child,
    /// What it and its workers print.
    lines: Receiver<String>,
    mark: String,
}

impl Program {
    /// Starts it. In the second process this runs the closure and does not return.
    #[track_caller]
    pub(crate) fn start<F: FnOnce()>(program: F) -> Self {
        if is_second_run() {
            program();
            std::process::exit(0);
        }
        Self::launch::<F>()
    }

    /// As [`Program::start`], in a process group of its own, as a shell starts a program at a terminal.
    #[track_caller]
    pub(crate) fn start_in_own_group<F: FnOnce()>(program: F) -> Self {
        if is_second_run() {
            // Whoever runs the tests in the background may have set it to be ignored.
            // SAFETY: the default is a disposition for any signal.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
            program();
            std::process::exit(0);
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.process_group(0);
        Self::launch_as::<F>(command)
    }

    /// As [`Program::start`], one of several programs of a test, told apart by a number.
    #[track_caller]
    pub(crate) fn start_with<F: FnOnce(usize)>(number: usize, program: F) -> Self {
        if is_second_run() {
            program(std::env::var(NUMBER).unwrap().parse().unwrap());
            std::process::exit(0);
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(NUMBER, number.to_string());
        Self::launch_as::<F>(command)
    }

    /// As [`Program::start`], from another copy of this executable.
    pub(crate) fn start_copy<F: FnOnce()>(executable: &std::path::Path, program: F) -> Self {
        if is_second_run() {
            program();
            std::process::exit(0);
        }
        Self::launch_as::<F>(Command::new(executable))
    }

    fn launch<F>() -> Self {
        Self::launch_as::<F>(Command::new(std::env::current_exe().unwrap()))
    }

    fn launch_as<F>(mut command: Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (output, input) = std::io::pipe().unwrap();
        command.args([test_name::<F>(), "--exact", "--nocapture"]).env(MARK, &mark);
        command.stdin(Stdio::null()).stdout(input.try_clone().unwrap()).stderr(input);
        let child = command.spawn().unwrap();
        // It holds the writing end of the pipe.
        drop(command);
        Self { child, lines: read_lines(output), mark: format!("{MARK}={mark}") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that the program says.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> String {
        let mut others = String::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("the program said nothing more; it printed:\n{others}");
            };
            if let Some(said) = line.strip_prefix(SAID) {
                return said.to_owned();
            }
            others = others + &line + "\n";
        }
    }

    /// What it has printed and nobody has heard.
    pub(crate) fn rest(&mut self) -> String {
        let a_moment = Duration::from_secs(1);
        let lines = std::iter::from_fn(|| self.lines.recv_timeout(a_moment).ok());
        lines.map(|line| line + "\n").collect()
    }

    /// All processes that came from it, itself excluded.
    pub(crate) fn relatives(&self) -> Vec<u32> {
        let own = self.pid();
        relatives(&self.mark).into_iter().filter(|&pid| pid != own).collect()
    }

    pub(crate) fn kill(&self) {
        kill(self.pid());
    }

    /// Sends a signal to its whole process group, as the terminal does at Ctrl-C.
    pub(crate) fn signal_group(&self, signal: i32) {
        let group = i32::try_from(self.pid()).unwrap();
        assert!(group > 1);
        // SAFETY: `kill` has no precondition. The program leads a group of its own.
        assert_eq!(unsafe { libc::kill(-group, signal) }, 0, "it does not lead a group");
    }

    /// Waits until the program has ended. It has a watchdog of its own.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    #[track_caller]
    pub(crate) fn expect_success(mut self) {
        let status = self.wait();
        assert!(status.success(), "the story's process: {status}\n{}", self.rest());
    }

    /// Waits until all processes that came from it are gone, and tells how long that took.
    #[track_caller]
    pub(crate) fn wait_for_relatives(&self) -> Duration {
        eventually("all processes of the program are gone", || self.relatives().is_empty())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // After a failure nobody else will.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all that is printed, so that nobody waits for a reader; to its end, which may be long after the program's.
fn read_lines(output: PipeReader) -> Receiver<String> {
    let (line, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for read in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if line.send(String::from_utf8_lossy(&read).into_owned()).is_err() {
                return;
            }
        }
    });
    lines
}

/// The test in which a closure was written, as the test runner knows it.
fn test_name<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let test = path.split("::{{closure}}").next().unwrap();
    test.split_once("::").expect("a closure of a test").1
}
