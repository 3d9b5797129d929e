//! The director: plays scenes in processes of their own, watches them from outside, and adds up what came of them.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::adversary::Refusal;
use crate::adversary::memory::{CAGE, Cage};
use crate::processes::{self, MARK};
use crate::scene::{Scene, TALLY, When};
use crate::verdict::Tally;
use crate::{PLAY, orphans};

/// How long one scene is, at most.
const LONGEST: f64 = 20.0;

/// How long after its time a scene may take, its own watchdog included.
const PATIENCE: Duration = Duration::from_secs(120);

/// What processes of a scene may take to be gone after it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(10);

/// Plays all scenes in turn until the time is over: half of it storms, the rest for the others.
pub(crate) fn run_all(seconds: f64, seed: u64) -> ExitCode {
    let mut scenes: Vec<String> = Vec::new();
    for refusal in Refusal::ALL {
        for when in ["without", "losing"] {
            scenes.extend(["storm".to_owned(), "orphans".to_owned(), format!("{when}-{refusal}")]);
        }
    }
    // Short runs begin anywhere, so that many of them see everything.
    scenes[..].rotate_left(3 * (seed as usize % (Refusal::ALL.len() * 2)));
    run(&scenes.iter().map(String::as_str).collect::<Vec<_>>(), seconds, seed)
}

/// Plays these scenes in turn until the time is over; stops at a violation.
pub(crate) fn run(scenes: &[&str], seconds: f64, seed: u64) -> ExitCode {
    println!("chaos: seed {seed}, {seconds} seconds");
    let began = Instant::now();
    let deadline = began + Duration::from_secs_f64(seconds);
    let cage = Cage::make();
    if let Err(error) = &cage {
        println!("no cgroup with a memory limit can be made here ({error}): the OOM killer is left out");
    }
    let mut total = Tally::default();
    let mut sound = true;
    for (round, scene) in scenes.iter().cycle().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64();
        if left < 0.1 || !sound {
            break;
        }
        let share = if *scene == "storm" { 0.5 } else { 0.2 };
        let span = (seconds * share).min(LONGEST * share * 2.0).min(left).max(0.5);
        let Round { ok, tally, output } = play_apart(scene, span, seed + round as u64, cage.as_ref().ok());
        println!("{scene} {span:.1} s, seed {}: {tally}", seed + round as u64);
        if !ok {
            println!("{output}");
            println!(
                "to see it again: procpool-chaos --seconds {span:.1} --seed {} {scene}",
                seed + round as u64
            );
        }
        sound &= ok;
        total.merge(tally);
    }
    if let Ok(cage) = &cage {
        total.add("oom-kills", cage.kills());
        cage.remove();
    }
    println!("seed {seed}, {:.0} s: {total}", began.elapsed().as_secs_f64());
    println!("{} violations", total.get("violations"));
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays one scene in this process.
pub(crate) fn play(scene: &str, seconds: f64, seed: u64) -> ExitCode {
    let refusal = match scene.split_once('-') {
        None if scene == "storm" => None,
        Some((when @ ("without" | "losing"), name)) => {
            let Some(refusal) = Refusal::by_name(name) else { return unknown(scene) };
            Some((refusal, if when == "without" { When::Always } else { When::Later }))
        }
        _ => return unknown(scene),
    };
    Scene { seed, seconds, refusal }.play()
}

fn unknown(scene: &str) -> ExitCode {
    println!("violation: there is no scene {scene}");
    ExitCode::from(2)
}

/// What came of a scene.
pub(crate) struct Round {
    pub(crate) ok: bool,
    pub(crate) tally: Tally,
    pub(crate) output: String,
}

fn play_apart(scene: &str, seconds: f64, seed: u64, cage: Option<&Cage>) -> Round {
    if scene == "orphans" {
        return orphans::run(seconds, seed, cage);
    }
    let mut actor = Actor::start(scene, seconds, seed, cage);
    let ended = actor.wait(Duration::from_secs_f64(seconds) + PATIENCE);
    if !ended {
        actor.kill();
    }
    let mut output = actor.output();
    let tally = output.lines().find_map(|line| line.strip_prefix(TALLY)).map(Tally::parse);
    let status = actor.status();
    let mut ok = ended && status.as_ref().is_ok_and(ExitStatus::success) && tally.is_some();
    let mut tally = tally.unwrap_or_default();
    if !ok && tally.get("violations") == 0 {
        output += &format!("violation: the scene did not come to its end: {status:?}\n");
        tally.add("violations", 1);
    }
    let left = actor.relatives_after(FAREWELL);
    if !left.is_empty() {
        output += &format!("violation: processes are left: {left:?}\n");
        tally.add("violations", 1);
        ok = false;
    }
    Round { ok, tally, output }
}

/// A process that plays a scene.
pub(crate) struct Actor {
    child: Child,
    output: File,
    mark: String,
}

impl Actor {
    pub(crate) fn start(scene: &str, seconds: f64, seed: u64, cage: Option<&Cage>) -> Self {
        let output = anonymous_file();
        let mark = format!("chaos-{}-{seed}-{}", std::process::id(), fastrand::u64(..));
        let mut command = Command::new("/proc/self/exe");
        command.args([scene, "--seconds", &seconds.to_string(), "--seed", &seed.to_string()]);
        command.env(PLAY, "1").env(MARK, &mark).stdin(Stdio::null());
        let copy = || Stdio::from(output.try_clone().expect("the director has descriptors"));
        command.stdout(copy()).stderr(copy());
        if let Some(cage) = cage {
            command.env(CAGE, cage.folder());
        }
        // SAFETY: `signal` may be called after a fork.
        unsafe {
            command.pre_exec(|| {
                // A shell's background job ignores these, and so would whoever is to be killed by them.
                for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("the director may start programs");
        Self { child, output, mark: format!("{MARK}={mark}") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// False if it has not ended in time.
    pub(crate) fn wait(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, which it has.
    fn status(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait()
    }

    /// All that it and its workers have printed.
    pub(crate) fn output(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = self.output.rewind().and_then(|()| self.output.read_to_end(&mut bytes));
        read.expect("the file is in memory");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The processes that came from it and live.
    pub(crate) fn relatives(&self) -> Vec<u32> {
        processes::relatives(&self.mark)
    }

    /// Those that are left when the time is over; they are killed then.
    pub(crate) fn relatives_after(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        while !self.relatives().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let left = self.relatives();
        let describe = |pid: &u32| format!("{pid} {} {:?}", processes::name(*pid), processes::state(*pid));
        let described = left.iter().map(describe).collect();
        left.into_iter().for_each(processes::kill);
        described
    }
}

fn anonymous_file() -> File {
    // SAFETY: the name is a C string; the descriptor that comes back is nobody else's.
    unsafe {
        let descriptor = libc::memfd_create(c"chaos-output".as_ptr(), libc::MFD_CLOEXEC);
        assert!(descriptor >= 0, "no memory for the output");
        File::from_raw_fd(descriptor)
    }
}
