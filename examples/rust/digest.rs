//! Digests every file below a folder with BLAKE3, in worker processes, and prints what `b3sum` prints.
//!
//! With `--crash` one task in a hundred ends its worker with a segmentation fault. That costs these tasks and no
//! other, and the error of each says which worker died of what.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::ProgressBar;
use procpool::Pool;

const HELP: &str = "\
Usage: digest FOLDER [--workers N] [--crash | --serial]

Prints the BLAKE3 digest of every regular file below FOLDER, in the order of the files' paths. What is below folders
named `target` or `.git` is left out.

  --workers N  so many worker processes; by default one for each CPU
  --crash      one task in a hundred, the first among them, crashes its worker
  --serial     digest in this process, without workers

The exit status is 1 when files could not be read or, without --crash, were lost.";

fn main() -> ExitCode {
    let request = match Request::from_arguments(env::args_os().skip(1)) {
        Ok(request) => request,
        Err(message) => {
            eprintln!("digest: {message}; see digest --help");
            return ExitCode::from(2);
        }
    };
    if request.help {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run(&request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("digest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(request: &Request) -> Result<(), Box<dyn Error>> {
    let mut report = Report::default();
    if request.serial {
        let files = report.files_below(&request.folder);
        report.print(&files, tasks(&files, request.crash).map(|task| Ok(digest(task))))?;
    } else {
        let pool = request.pool()?;
        let files = report.files_below(&request.folder);
        report.print(&files, pool.imap(digest, tasks(&files, request.crash)))?;
        pool.close();
        pool.join()?;
    }
    report.conclude(request.crash)
}

/// The task: the digest of a file, or why it could not be read. That is an answer as well, and no error of the pool's.
fn digest((path, crash): (OsString, bool)) -> Result<String, String> {
    if crash {
        crash_for_real();
    }
    let hash = || io::Result::Ok(blake3::Hasher::new().update_reader(File::open(path)?)?.finalize());
    hash().map(|hash| hash.to_hex().to_string()).map_err(|error| error.to_string())
}

fn crash_for_real() {
    let nowhere: *mut u8 = std::ptr::without_provenance_mut(8);
    // SAFETY: none, and that is the purpose: it is the bug that a task may have. Linux maps nothing at the lowest
    // addresses, so that the write reaches no memory and the kernel ends the process with SIGSEGV.
    unsafe { nowhere.write_volatile(0) };
}

/// What the workers are given: each file, and whether its task is one of those that crash.
fn tasks(files: &[PathBuf], crash: bool) -> impl Iterator<Item = (OsString, bool)> {
    // A path need not be text, and as a `PathBuf` only text can be sent.
    files.iter().enumerate().map(move |(place, file)| (file.into(), crash && place % 100 == 0))
}

/// What is known of the files at the end.
#[derive(Default)]
struct Report {
    files: usize,
    unreadable: usize,
    /// Each file whose task was lost, and how.
    lost: Vec<String>,
}

impl Report {
    /// All regular files below a folder, in the order of their paths.
    fn files_below(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            if let Err(error) = list(&folder, &mut folders, &mut files) {
                self.cannot_read(&folder, &error.to_string());
            }
        }
        files.sort();
        self.files = files.len();
        files
    }

    /// Prints the results as they come, under a progress bar where standard error is a terminal.
    fn print(
        &mut self,
        files: &[PathBuf],
        results: impl Iterator<Item = procpool::Result<Result<String, String>>>,
    ) -> Result<(), Box<dyn Error>> {
        let progress = ProgressBar::new(files.len() as u64);
        for (file, result) in files.iter().zip(results) {
            match result {
                Ok(Ok(digest)) => progress.suspend(|| print_digest(&digest, file))?,
                Ok(Err(error)) => progress.suspend(|| self.cannot_read(file, &error)),
                Err(procpool::Error::WorkerDied(death)) => {
                    self.lost.push(format!("{}: {death}", file.display()));
                }
                Err(error) => return Err(error.into()),
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(())
    }

    fn cannot_read(&mut self, path: &Path, error: &str) {
        eprintln!("digest: {}: {error}", path.display());
        self.unreadable += 1;
    }

    /// Names the files that were lost, and says whether the run was a success.
    fn conclude(self, losses_expected: bool) -> Result<(), Box<dyn Error>> {
        for lost in &self.lost {
            eprintln!("lost: {lost}");
        }
        eprintln!("{} files, {} lost", self.files, self.lost.len());
        if self.unreadable > 0 {
            return Err(format!("{} files or folders could not be read", self.unreadable).into());
        }
        if !self.lost.is_empty() && !losses_expected {
            return Err("not all files were digested".into());
        }
        Ok(())
    }
}

/// Adds the files and the folders in a folder to those that are known.
fn list(folder: &Path, folders: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && entry.file_name() != "target" && entry.file_name() != ".git" {
            folders.push(entry.path());
        }
    }
    Ok(())
}

/// As `b3sum` does, so that `b3sum --check` can read it: a name with a line's end in it must not look like two lines.
fn print_digest(digest: &str, file: &Path) -> io::Result<()> {
    let name = file.display().to_string();
    let escaped = name.replace('\\', r"\\").replace('\n', r"\n").replace('\r', r"\r");
    let mark = if escaped == name { "" } else { r"\" };
    writeln!(io::stdout(), "{mark}{digest}  {escaped}")
}

/// What is asked for on the command line.
#[derive(Default)]
struct Request {
    folder: PathBuf,
    workers: Option<usize>,
    crash: bool,
    serial: bool,
    help: bool,
}

impl Request {
    fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut request = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--crash") => request.crash = true,
                Some("--serial") => request.serial = true,
                Some("--help" | "-h") => request.help = true,
                Some("--workers") => request.workers = Some(number(arguments.next())?),
                Some(option) if option.starts_with('-') => {
                    return Err(format!("there is no option {option}"));
                }
                _ if request.folder.as_os_str().is_empty() => request.folder = argument.into(),
                _ => return Err("only one folder at a time".to_owned()),
            }
        }
        if request.folder.as_os_str().is_empty() && !request.help {
            return Err("which folder?".to_owned());
        }
        if request.serial && (request.crash || request.workers.is_some()) {
            return Err("--serial is without workers, so neither --crash nor --workers go with it".to_owned());
        }
        Ok(request)
    }

    fn pool(&self) -> procpool::Result<Pool> {
        let builder = Pool::builder().name("digest");
        match self.workers {
            Some(workers) => builder.workers(workers).build(),
            None => builder.build(),
        }
    }
}

fn number(argument: Option<OsString>) -> Result<usize, String> {
    let text = argument.unwrap_or_default().to_string_lossy().into_owned();
    text.parse().map_err(|_| format!("--workers is followed by a number, not by `{text}`"))
}
