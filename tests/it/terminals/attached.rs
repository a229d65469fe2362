//! `baton attach` in a PTY of its own, driven as a person drives it.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::Arc;

use baton::wire::v1;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use parking_lot::Mutex;
use rustix::termios::{Winsize, tcsetwinsize};

use super::{View, from};
use crate::support::baton::{Baton, eventually};

/// A person at a terminal of theirs, in which a command runs.
pub struct Person {
    child: Child,
    terminal: OwnedFd,
    keyboard: std::fs::File,
    before: Termios,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Person {
    /// Runs `baton` with arguments in a new terminal.
    pub fn runs(baton: &Baton, arguments: &[&str]) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let person_size = Winsize {
            ws_row: 33,
            ws_col: 99,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, person_size).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = baton
            .cli(arguments)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let mut shows = std::fs::File::from(master.try_clone().unwrap());
        let seen = screen.clone();
        // Ends with the terminal.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = shows.read(&mut buffer) {
                seen.lock().extend_from_slice(&buffer[..count]);
            }
        });
        Person {
            child,
            terminal: slave,
            keyboard: std::fs::File::from(master),
            before,
            screen,
        }
    }

    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock()).into_owned()
    }

    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub async fn sees(&self, text: &str) {
        eventually(&format!("{text:?} on the screen"), || async {
            self.screen().contains(text).then_some(())
        })
        .await;
    }

    /// Waits until the command has made the terminal raw.
    pub async fn is_raw(&self) {
        eventually("raw mode", || async {
            let now = tcgetattr(self.terminal.as_fd()).unwrap();
            (!now.local_flags.contains(LocalFlags::ICANON)).then_some(())
        })
        .await;
    }

    /// Waits until the command has ended, and checks that the terminal is as it was.
    pub async fn is_back(&mut self) -> Option<i32> {
        let code = crate::support::baton::ended(&mut self.child).await;
        let now = tcgetattr(self.terminal.as_fd()).unwrap();
        assert_eq!(now.local_flags, self.before.local_flags);
        assert_eq!(now.input_flags, self.before.input_flags);
        assert_eq!(now.output_flags, self.before.output_flags);
        code
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attach_types_shows_resizes_and_gives_the_terminal_back() {
    let baton = Baton::start().await;
    let id = baton.terminal(None).await;
    baton.terminal_runs(&id).await;
    let mut person = Person::runs(&baton, &["attach", &id]);
    person.is_raw().await;
    person.types("stty size; echo he''llo\r");
    person.sees("33 99").await;
    person.sees("hello").await;
    let size = Winsize {
        ws_row: 20,
        ws_col: 77,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&person.terminal, size).unwrap();
    // The kernel tells only the foreground group of a controlling terminal, which this one has not.
    let command = Pid::from_raw(person.child.id() as i32);
    kill(command, Signal::SIGWINCH).unwrap();
    eventually("the size went on", || async {
        let size = baton.shown(&id).await.size.unwrap();
        (size == v1::TerminalSize { cols: 77, rows: 20 }).then_some(())
    })
    .await;
    // Whatever the program switched on is switched off again.
    person.types("printf '\\033[?2004h\\033[?1049h'; echo swit''ched\r");
    person.sees("switched").await;
    person.types("\x1c");
    assert_eq!(person.is_back().await, Some(0));
    let screen = person.screen();
    let left = screen.rfind("switched").unwrap();
    assert!(
        screen[left..].contains("\x1b[?2004l\x1b[?1049l"),
        "{screen:?}"
    );
    assert!(screen.contains("detached"), "{screen:?}");
    // The program lives on, shows what it showed to whoever comes next, and is not asked anew by it.
    baton.types(&id, "printf 'ask\\033[c'; echo do''ne\r").await;
    // It is shown before anybody comes: whoever sees it happen may be asked.
    let client = baton.client();
    let mut early = View::open(&client, from(&id, 0)).await.unwrap();
    early.sees("done").await;
    drop(early);
    let mut again = Person::runs(&baton, &["attach", "--detach-key", "ctrl-a", &id]);
    again.is_raw().await;
    again.sees("done").await;
    again.sees("hello").await;
    assert!(
        !again.screen().contains("ask\x1b[c"),
        "{:?}",
        again.screen()
    );
    again.types("exit 7\r");
    assert_eq!(again.is_back().await, Some(1));
    again.sees("exit code 7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attach_outlives_a_server_and_gives_the_terminal_back_when_it_is_told_to_end() {
    let mut baton = Baton::start().await;
    let id = baton.terminal(None).await;
    baton.terminal_runs(&id).await;
    let mut person = Person::runs(&baton, &["attach", &id]);
    person.is_raw().await;
    person.types("echo be''fore\r");
    person.sees("before").await;
    baton.kill_server();
    person.sees("trying again").await;
    baton.start_server().await;
    baton.daemon_is_linked().await;
    eventually("keys arrive again", || {
        person.types("echo af''ter\r");
        let screen = person.screen();
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            screen.contains("after\r\n").then_some(())
        }
    })
    .await;
    assert_eq!(
        person.screen().matches("before\r\n").count(),
        1,
        "nothing twice"
    );
    kill(Pid::from_raw(person.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(person.is_back().await, Some(1));
}
