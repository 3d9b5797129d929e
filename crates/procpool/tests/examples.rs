//! The examples do what they say: run as a person runs them, and their output read.
//!
//! Nothing here says how long a program may take at most; a watchdog ends one that hangs and shows what its processes
//! were doing.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use tempfile::TempDir;

#[test]
fn terminate_early_prints_what_was_finished_and_then_its_end() {
    let run = run("terminate_early", []);
    let reports = run.reports_before_ending();
    assert!(run.took >= Duration::from_secs(2), "it ended before it terminated its pool: {run:?}");
    assert!(reports.len() >= 2, "the first two tasks had two seconds for one second of sleep: {run:?}");
    // Each of two workers sleeps for a second before each report.
    let finished_at_most = 2 * run.took.as_secs() as usize;
    assert!(reports.len() <= finished_at_most, "a task reported that cannot have been finished: {run:?}");
    assert_order(&reports);
}

#[test]
fn finish_all_prints_all_ten_in_pairs_a_second_apart() {
    let run = run("finish_all", []);
    let reports = run.reports_before_ending();
    assert!(run.took >= Duration::from_secs(5), "ten seconds of sleep for two workers: {run:?}");
    assert_eq!(reports.len(), 10, "{run:?}");
    assert_order(&reports);
    let times: Vec<DateTime> =
        reports.chunks(2).map(|pair| pair.iter().map(|report| report.time).min().unwrap()).collect();
    for pair in times.windows(2) {
        assert!(
            (pair[1] - pair[0]).get_seconds() >= 1,
            "a pair follows another in less than a second: {run:?}"
        );
    }
}

#[test]
fn digest_prints_what_one_process_prints() {
    let folder = Folder::with_files(250);
    let expected = folder.expected_output(|_| true);
    for arguments in [&[][..], &["--workers", "1"], &["--workers", "3"], &["--serial"]] {
        let run = folder.digest(arguments);
        assert!(run.status.success(), "{run:?}");
        assert_eq!(run.output, expected, "with {arguments:?}");
        assert_eq!(run.errors, "250 files, 0 lost\n");
    }
}

#[test]
fn digest_loses_the_tasks_that_crash_and_no_other() {
    for (files, lost) in [(250, 3), (100, 1), (7, 1)] {
        let folder = Folder::with_files(files);
        let run = folder.digest(&["--crash"]);
        assert!(run.status.success(), "{run:?}");
        assert_eq!(run.output, folder.expected_output(|place| place % 100 != 0), "{run:?}");

        let crashed = folder.paths().step_by(100).map(|path| path.display().to_string());
        let mut errors = run.errors.lines();
        for path in crashed {
            let line = errors.next().unwrap_or_default();
            let death =
                line.strip_prefix(&format!("lost: {path}: worker ")).unwrap_or_else(|| panic!("{run:?}"));
            let (pid, how) = death.split_once(' ').unwrap();
            assert!(pid.parse::<u32>().is_ok_and(|pid| pid > 1), "{line}");
            assert!(how.starts_with("killed by signal 11 (SIGSEGV)"), "{line}");
        }
        assert_eq!(errors.collect::<Vec<_>>(), [format!("{files} files, {lost} lost")], "{run:?}");
    }
}

/// After a death all sleepers are woken. While that went on until nobody slept, workers with nothing to do fell asleep
/// as fast as they were woken, and the supervisor did nothing else.
#[test]
fn digest_loses_no_more_where_most_workers_are_idle() {
    let folder = Folder::with_files(600);
    let run = folder.digest(&["--crash", "--workers", "100"]);
    assert!(run.status.success(), "{run:?}");
    assert_eq!(run.output, folder.expected_output(|place| place % 100 != 0));
    assert!(run.errors.ends_with("600 files, 6 lost\n"), "{}", run.errors);
}

#[test]
fn digest_goes_on_after_a_file_that_cannot_be_read() {
    let folder = Folder::with_files(20);
    let closed = folder.paths().nth(3).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&closed).is_ok() {
        eprintln!("nothing to see: this user may read everything");
        return;
    }
    for arguments in [&[][..], &["--serial"]] {
        let run = folder.digest(arguments);
        assert_eq!(run.status.code(), Some(1), "{run:?}");
        assert_eq!(run.output, folder.expected_output(|place| place != 3), "{run:?}");
        assert!(run.errors.contains(&format!("digest: {}: Permission denied", closed.display())), "{run:?}");
        assert!(run.errors.contains("1 files or folders could not be read"), "{run:?}");
    }
}

#[test]
fn digest_says_which_folder_it_cannot_read() {
    let run = run("digest", [OsStr::new("/proc/no such folder")]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert_eq!(run.output, "");
    assert!(run.errors.starts_with("digest: /proc/no such folder: No such file or directory"), "{run:?}");
}

#[test]
fn digest_says_how_many_workers_a_pool_can_have() {
    for workers in ["0", "100000"] {
        let run = run("digest", ["--workers", workers, "/proc/no such folder"].map(OsStr::new));
        assert_eq!(run.status.code(), Some(1), "{run:?}");
        assert_eq!(run.errors, format!("digest: a pool has 1 to 1024 workers, not {workers}\n"));
    }
}

#[test]
fn digest_refuses_what_it_does_not_understand() {
    let cases: [(&[&str], &str); 6] = [
        (&[], "which folder?"),
        (&["--workers"], "--workers is followed by a number, not by ``"),
        (&["--workers", "-1"], "--workers is followed by a number, not by `-1`"),
        (&["--crush", "/proc/no such folder"], "there is no option --crush"),
        (&["one", "two"], "only one folder at a time"),
        (
            &["--serial", "--crash", "."],
            "--serial is without workers, so neither --crash nor --workers go with it",
        ),
    ];
    for (arguments, message) in cases {
        let run = run("digest", arguments.iter().map(OsStr::new));
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert_eq!(run.errors, format!("digest: {message}; see digest --help\n"));
    }
}

#[test]
fn futures_awaits_one_several_the_first_and_a_panic() {
    let run = run("futures", []);
    run.assert_clean();
    assert_eq!(
        run.output,
        "below a thousand there are 168 primes\n\
         below a hundred thousand there are 9592 primes, counted in 10 parts\n\
         the quick task found 25; the other was stopped: true\n\
         a panic is awaited like any result: there are no numbers in 7..7\n"
    );
}

#[test]
fn named_tasks_are_called_by_workers_and_by_main() {
    let run = run("named_tasks", []);
    run.assert_clean();
    assert_eq!(
        run.output,
        "a field of 3 by 4 has an area of 12\n\
         computed here, it is the same: 12\n\
         without vowels: prcss, pl\n"
    );
}

#[test]
fn numbers_come_back_as_they_should() {
    let run = run("numbers", []);
    run.assert_clean();
    assert_eq!(
        run.output,
        "the sums of the columns: [0.0, 250000.0, 500000.0, 750000.0]\n\
         the first row, halved: [0.0, 0.5, 1.0, 1.5]\n\
         the sum of its last column: 375000\n"
    );
}

/// A program that has ended.
#[derive(Debug)]
struct Run {
    output: String,
    errors: String,
    status: ExitStatus,
    took: Duration,
}

/// A line of the programs that print a number and the time.
#[derive(Debug)]
struct Report {
    number: usize,
    time: DateTime,
}

impl Run {
    fn assert_clean(&self) {
        assert!(self.status.success(), "{self:?}");
        assert_eq!(self.errors, "", "{self:?}");
    }

    /// What the program printed before its last line, which must be `ending`.
    fn reports_before_ending(&self) -> Vec<Report> {
        self.assert_clean();
        let reports = self.output.strip_suffix("ending\n").unwrap_or_else(|| panic!("no ending: {self:?}"));
        reports.lines().map(Report::read).collect()
    }
}

impl Report {
    /// Reads such as `0------>Thu Jul 20 20:18:43 2017`.
    fn read(line: &str) -> Self {
        let (number, time) = line.split_once("------>").unwrap_or_else(|| panic!("no report: {line}"));
        assert_eq!(time.len(), "Thu Jul 20 20:18:43 2017".len(), "{line}");
        let time = DateTime::strptime("%a %b %e %H:%M:%S %Y", time).unwrap();
        Self { number: number.parse().unwrap(), time }
    }
}

/// Two workers take the tasks in order, so they end in pairs; which of a pair is first, or comes alone before the end, is
/// not said.
fn assert_order(reports: &[Report]) {
    let numbers: Vec<usize> = reports.iter().map(|report| report.number).collect();
    let in_pairs = numbers.iter().zip(0..).all(|(number, place)| number / 2 == place / 2);
    let once = numbers.iter().collect::<HashSet<_>>().len() == numbers.len();
    assert!(in_pairs && once, "not in pairs: {reports:?}");
}

/// A folder with generated files. Some have names that are hard to print or to send, and some things lie between them
/// that are not to be digested.
struct Folder {
    folder: TempDir,
    /// The content of each file, in the order of their paths.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Folder {
    fn with_files(count: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let mut files = BTreeMap::new();
        for number in 0..count {
            let name = match number {
                0 => OsStr::from_bytes(b"not \xff text").to_owned(),
                1 => "two\nlines".into(),
                2 => r"back\slash".into(),
                _ => format!("file {number}").into(),
            };
            let path = folder.path().join(format!("{}/{}", number % 3, number % 7)).join(name);
            // From nothing to more than is read at once.
            let size = if number % 50 == 49 { 300_000 } else { number };
            let content = vec![number as u8; size];
            write(&path, &content);
            files.insert(path, content);
        }
        write(&folder.path().join("0/target/debug/program"), b"built");
        write(&folder.path().join(".git/HEAD"), b"ref: refs/heads/main");
        symlink(folder.path().join("0"), folder.path().join("link to a folder")).unwrap();
        symlink("/dev/null", folder.path().join("0/link to a file")).unwrap();
        Self { folder, files }
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.keys().cloned()
    }

    fn digest(&self, arguments: &[&str]) -> Run {
        let arguments = arguments.iter().map(OsStr::new);
        run("digest", arguments.chain([self.folder.path().as_os_str()]))
    }

    /// The lines of those files, told by their places in order, that are `included`.
    fn expected_output(&self, included: impl Fn(usize) -> bool) -> String {
        let files = self.files.iter().enumerate().filter(|&(place, _)| included(place));
        files.map(|(_, (path, content))| expected_line(path, content)).collect()
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A line of `b3sum`, which marks names that it had to escape.
fn expected_line(path: &Path, content: &[u8]) -> String {
    let (digest, name) = (blake3::hash(content), path.to_string_lossy());
    if name.contains(['\\', '\n']) {
        format!("\\{digest}  {}\n", name.replace('\\', r"\\").replace('\n', r"\n"))
    } else {
        format!("{digest}  {name}\n")
    }
}

/// Runs an example to its end, and until no process of its own holds its output any more.
fn run<'a>(example: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Run {
    const WATCHDOG: Duration = Duration::from_secs(150);
    let begin = Instant::now();
    let mut command = Command::new(program(example));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(WATCHDOG) else { give_up(example, pid) };
    let output = output.unwrap();
    Run {
        output: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
        status: output.status,
        took: begin.elapsed(),
    }
}

/// Cargo puts examples beside the folder of the tests.
fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(example);
    assert!(
        program.exists(),
        "{} is not there: `cargo test` builds it, and so does `cargo build --examples`",
        program.display()
    );
    program
}

fn give_up(example: &str, pid: u32) -> ! {
    let processes = Command::new("ps").args(["-e", "-L", "-o", "pid,ppid,stat,wchan:24,args"]).output();
    let processes = processes.map_or_else(
        |error| format!("no `ps`: {error}"),
        |ps| {
            String::from_utf8_lossy(&ps.stdout)
                .lines()
                .filter(|line| line.contains(example))
                .collect::<Vec<_>>()
                .join("\n")
        },
    );
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    panic!("{example}, process {pid}, or a process that it started does not end:\n{processes}");
}
