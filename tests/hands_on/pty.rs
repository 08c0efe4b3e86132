//! A terminal with nobody in front of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use chassis_testkit::{SOON, eventually};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::Ground;

pub(crate) struct Pty {
    keyboard: File,
    inner: OwnedFd,
    screen: Arc<Mutex<String>>,
}

impl Pty {
    pub(crate) fn open(rows: u16, columns: u16) -> Pty {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let outer = openpt(flags).unwrap();
        grantpt(&outer).unwrap();
        unlockpt(&outer).unwrap();
        let inner = ioctl_tiocgptpeer(&outer, flags).unwrap();
        let mut reader = File::from(outer.try_clone().unwrap());
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        let pty = Pty { keyboard: File::from(outer), inner, screen };
        pty.resize(rows, columns);
        pty
    }

    /// As somebody who pulls at the window.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.inner, size).unwrap();
    }

    pub(crate) fn type_in(&self, keys: &[u8]) {
        (&self.keyboard).write_all(keys).unwrap();
    }

    /// Waits until the screen shows this, and clears it up to there.
    #[track_caller]
    pub(crate) fn until(&self, wanted: &str) {
        eventually(SOON, || {
            let mut screen = self.screen.lock().unwrap();
            let at = screen.find(wanted);
            let at = at.ok_or_else(|| format!("the screen shows {screen:?}, not {wanted:?}"))?;
            screen.drain(..at + wanted.len());
            Ok::<(), String>(())
        });
    }

    /// Whether it is a terminal in which lines are edited, as a shell leaves it.
    pub(crate) fn is_cooked(&self) -> bool {
        tcgetattr(&self.inner)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Runs chassis with this as its controlling terminal.
    pub(crate) fn spawn(&self, ground: &Ground, args: &[&str]) -> (Child, Pid) {
        let chassis = ground.chassis.command(args);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(chassis.get_program()).args(chassis.get_args());
        for (name, value) in chassis.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let end = || Stdio::from(self.inner.try_clone().unwrap());
        command.env("TERM", "xterm").current_dir(ground.chassis.home());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }
}
