// SPDX-License-Identifier: Apache-2.0
//! The daemon as a process: how it starts, is refused, stops, and survives being killed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest that a start may take here.
const START: Duration = Duration::from_secs(30);

/// A daemon that said READY; killed when it is dropped.
struct Daemon(Child);

impl Daemon {
    fn start(dir: &Path) -> Self {
        let notify = dir.join("notify");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket.set_read_timeout(Some(START)).unwrap();
        let child = command(dir).env("NOTIFY_SOCKET", &notify).stderr(Stdio::piped()).spawn().unwrap();
        let daemon = Self(child);
        let mut buffer = [0; 256];
        let n = socket.recv(&mut buffer).expect("READY");
        assert_eq!(&buffer[..n], b"READY=1\n");
        daemon
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for the end: the exit code and what was logged.
    fn wait(mut self) -> (Option<i32>, String) {
        let code = self.0.wait().unwrap().code();
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (code, log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything beneath `dir`, whatever the machine's own configuration says.
fn command(dir: &Path) -> Command {
    // With fewer files than a daemon may need: it has to help itself.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 128; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_continuity")]);
    fs::write(dir.join("empty.toml"), "").unwrap();
    command.args(["daemon", "--config"]).arg(dir.join("empty.toml")).arg("--root").arg(dir.join("root"));
    command.arg("--snapshots-address").arg(dir.join("run/s.sock")).arg("--address").arg(dir.join("run/c.sock"));
    command.env_remove("NOTIFY_SOCKET").env_remove("CONTINUITY_LOG");
    command
}

fn with_config(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_continuity"));
    command.args(["daemon", "--config"]).arg(config).env_remove("NOTIFY_SOCKET");
    command
}

fn refused(output: Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_daemon_is_ready_private_alone_and_stops_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path());
    for socket in ["run/s.sock", "run/c.sock"] {
        let mode = fs::metadata(dir.path().join(socket)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{socket}");
    }

    let message = refused(command(dir.path()).output().unwrap());
    let root = dir.path().join("root").canonicalize().unwrap();
    assert!(message.contains(&format!("{} is in use by process {}", root.display(), daemon.0.id())), "{message}");
    // Another root, but a socket that is served.
    let config = dir.path().join("other.toml");
    let line = |key: &str, path: &str| format!("{key} = {:?}\n", dir.path().join(path));
    let text = line("root", "other") + &line("snapshots_address", "run/s.sock") + &line("address", "other.sock");
    fs::write(&config, text).unwrap();
    let message = refused(with_config(&config).output().unwrap());
    assert!(message.contains("s.sock: another process serves this socket"), "{message}");

    daemon.signal(Signal::TERM);
    let (code, log) = daemon.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("SIGTERM: stopping"), "{log}");
    assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 0);
}

#[test]
fn a_daemon_takes_all_the_files_it_may_and_silent_clients_do_not_delay_its_stop() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path());
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.0.id())).unwrap();
    let files: Vec<_> = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split(' ').collect();
    let files: Vec<_> = files.into_iter().filter(|word| !word.is_empty()).collect();
    assert_eq!(files[3], files[4], "soft and hard");
    let silent = ["run/s.sock", "run/c.sock"].map(|socket| UnixStream::connect(dir.path().join(socket)).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}: {log}", began.elapsed());
    drop(silent);
}

#[test]
fn a_killed_daemon_is_followed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path());
    daemon.signal(Signal::KILL);
    daemon.wait();
    assert!(dir.path().join("run/s.sock").exists());
    let daemon = Daemon::start(dir.path());
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait().0, Some(0));
}

#[test]
fn flags_go_before_the_configuration_and_a_mistake_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    fs::write(&config, "log_levl = \"info\"\n").unwrap();
    let message = refused(with_config(&config).output().unwrap());
    assert!(message.contains("c.toml, line 1 (log_levl = \"info\"): unknown field `log_levl`"), "{message}");

    // A configuration that could not start, but for its flags.
    fs::write(&config, "root = '/proc/no'\naddress = '/proc/no/c'\nsnapshots_address = '/proc/no/s'\n").unwrap();
    let message = refused(with_config(&config).output().unwrap());
    assert!(message.contains("/proc/no"), "{message}");
    let sockets = [dir.path().join("c.sock"), dir.path().join("s.sock")];
    let mut command = with_config(&config);
    command.arg("--root").arg(dir.path().join("root"));
    command.arg("--address").arg(&sockets[0]).arg("--snapshots-address").arg(&sockets[1]);
    let daemon = Daemon(command.stderr(Stdio::piped()).spawn().unwrap());
    let begin = Instant::now();
    while begin.elapsed() < START && !sockets.iter().all(|socket| socket.exists()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.wait();
    assert_eq!(code, Some(0), "{log}");
}
