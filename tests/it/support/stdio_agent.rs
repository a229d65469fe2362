//! An agent driven over stdio: lines of JSON in, lines of JSON out, with a deadline on every wait.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a test waits for one thing. Generous: it is only ever reached by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that speaks the stream-json protocol over a pair of pipes.
pub struct StdioAgent {
    stdin: Option<Box<dyn Write + Send>>,
    output: Receiver<Output>,
    running: Running,
    /// All that was said both ways, for the report of a failure.
    transcript: Vec<String>,
    requests: u32,
    /// How many of stdout and stderr have not ended.
    open: u32,
}

enum Output {
    Line(String),
    Noise(String),
    /// Stdout has ended.
    Closed,
    /// Stderr has ended.
    Quiet,
}

enum Running {
    Process(Child),
    Thread(Option<std::thread::JoinHandle<i32>>),
}

/// A permission or a question that the agent asks its host.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What an answer must name.
    pub request_id: String,
    /// The tool that wants to run.
    pub tool: String,
    /// What it would be called with.
    pub input: Value,
    /// The whole request.
    pub request: Value,
}

impl StdioAgent {
    /// Starts a program; its stdio is taken over.
    pub fn spawn(command: &mut Command) -> StdioAgent {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|problem| panic!("cannot start {command:?}: {problem}"));
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        Self::over(stdin, stdout, stderr, Running::Process(child))
    }

    /// Runs an agent inside this process, over pipes of the system.
    pub fn threaded<R>(run: R) -> StdioAgent
    where
        R: FnOnce(std::io::PipeReader, std::io::PipeWriter, std::io::PipeWriter) -> i32
            + Send
            + 'static,
    {
        let (agent_in, stdin) = std::io::pipe().expect("a pipe");
        let (stdout, agent_out) = std::io::pipe().expect("a pipe");
        let (stderr, agent_err) = std::io::pipe().expect("a pipe");
        let thread = std::thread::spawn(move || run(agent_in, agent_out, agent_err));
        Self::over(stdin, stdout, stderr, Running::Thread(Some(thread)))
    }

    fn over(
        stdin: impl Write + Send + 'static,
        stdout: impl Read + Send + 'static,
        stderr: impl Read + Send + 'static,
        running: Running,
    ) -> StdioAgent {
        let (lines, output) = sync_channel(65_536);
        let noise = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if lines.send(Output::Line(line)).is_err() {
                    return;
                }
            }
            let _ = lines.send(Output::Closed);
        });
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if noise.send(Output::Noise(line)).is_err() {
                    return;
                }
            }
            let _ = noise.send(Output::Quiet);
        });
        StdioAgent {
            stdin: Some(Box::new(stdin)),
            output,
            running,
            transcript: Vec::new(),
            requests: 0,
            open: 2,
        }
    }

    /// The agent's process id; `None` for one that runs in a thread.
    pub fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Process(child) => Some(child.id()),
            Running::Thread(_) => None,
        }
    }

    /// Sends one line, whatever it is.
    pub fn send_line(&mut self, line: &str) {
        self.transcript.push(format!("in  {line}"));
        let stdin = self.stdin.as_mut().expect("stdin is still open");
        // A failed write means that the agent has ended, which the next wait reports with everything said.
        let _ = stdin
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| stdin.flush());
    }

    /// Sends one value as a line.
    pub fn send(&mut self, value: Value) {
        self.send_line(&value.to_string());
    }

    /// Sends a message of a person.
    pub fn user(&mut self, text: &str) {
        self.send(json!({ "type": "user", "message": { "role": "user", "content": text } }));
    }

    /// Sends a message of a person, under an id.
    pub fn user_as(&mut self, uuid: &str, text: &str) {
        self.send(json!({
            "type": "user",
            "message": { "role": "user", "content": text },
            "uuid": uuid,
        }));
    }

    /// Sends a control request and waits for its answer (`response`, with `subtype` and so on). Lines in
    /// between are lost to later waits, so use [`Self::request`] where they matter.
    pub fn control(&mut self, request: Value) -> Value {
        let id = self.request(request);
        self.response(&id)
    }

    /// Sends a control request; gives its id.
    pub fn request(&mut self, request: Value) -> String {
        self.requests += 1;
        let id = format!("req-{}", self.requests);
        self.send(json!({ "type": "control_request", "request_id": id, "request": request }));
        id
    }

    /// Waits for the answer to a control request.
    pub fn response(&mut self, id: &str) -> Value {
        let line = self.wait_for(&format!("the response to {id}"), |line| {
            line["type"] == "control_response" && line["response"]["request_id"] == id
        });
        line["response"].clone()
    }

    /// Answers an ask.
    pub fn answer(&mut self, ask: &Ask, body: Value) {
        self.send(json!({
            "type": "control_response",
            "response": { "subtype": "success", "request_id": ask.request_id, "response": body },
        }));
    }

    /// Answers an ask with an error.
    pub fn answer_error(&mut self, ask: &Ask, error: &str) {
        self.send(json!({
            "type": "control_response",
            "response": { "subtype": "error", "request_id": ask.request_id, "error": error },
        }));
    }

    /// Waits for the next ask.
    pub fn ask(&mut self) -> Ask {
        let line = self.wait_for("an ask", |line| {
            line["type"] == "control_request" && line["request"]["subtype"] == "can_use_tool"
        });
        Ask {
            request_id: line["request_id"].as_str().unwrap_or_default().to_owned(),
            tool: line["request"]["tool_name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            input: line["request"]["input"].clone(),
            request: line["request"].clone(),
        }
    }

    /// Waits for the end of a turn.
    pub fn result(&mut self) -> Value {
        self.wait_for("a result", |line| line["type"] == "result")
    }

    /// All lines up to and with the first that satisfies `wanted`.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut lines = Vec::new();
        self.wait_for(what, |line| {
            lines.push(line.clone());
            wanted(line)
        });
        lines
    }

    /// All lines up to and with the next result.
    pub fn turn(&mut self) -> Vec<Value> {
        self.until("a result", |line| line["type"] == "result")
    }

    /// Waits for a line that satisfies `wanted`; lines before it are dropped. Panics with everything
    /// said so far if the line does not come.
    pub fn wait_for(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.receive(deadline) {
                Ok(Output::Line(line)) => match serde_json::from_str::<Value>(&line) {
                    Ok(value) if wanted(&value) => return value,
                    Ok(_) => {}
                    Err(problem) => self.give_up(&format!("a line is not JSON: {problem}")),
                },
                Ok(Output::Noise(_) | Output::Quiet) => {}
                Ok(Output::Closed) => {
                    self.give_up(&format!("the agent closed stdout before {what}"))
                }
                Err(_) => self.give_up(&format!("no line in time: {what}")),
            }
        }
    }

    /// Waits for a line on stderr that contains `text`.
    pub fn wait_for_stderr(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.receive(deadline) {
                Ok(Output::Noise(line)) if line.contains(text) => return,
                Ok(_) => {}
                Err(_) => self.give_up(&format!("nothing on stderr with {text:?}")),
            }
        }
    }

    /// Closes stdin.
    pub fn close_stdin(&mut self) {
        self.transcript.push("in  (closed)".to_owned());
        self.stdin = None;
    }

    /// Closes stdin, takes what is still said, and gives the exit code with those lines.
    pub fn finish(mut self) -> (i32, Vec<Value>) {
        self.close_stdin();
        self.wait_exit()
    }

    /// Waits for the agent to end by itself; gives the exit code and the lines it still said.
    pub fn wait_exit(&mut self) -> (i32, Vec<Value>) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while self.open > 0 {
            match self.receive(deadline) {
                Ok(Output::Line(line)) => match serde_json::from_str(&line) {
                    Ok(value) => lines.push(value),
                    Err(problem) => self.give_up(&format!("a line is not JSON: {problem}")),
                },
                Ok(_) => {}
                Err(_) => self.give_up("the agent did not end"),
            }
        }
        let code = match &mut self.running {
            Running::Process(child) => child.wait().expect("a child").code().unwrap_or(-1),
            Running::Thread(thread) => match thread.take().map(|thread| thread.join()) {
                Some(Ok(code)) => code,
                _ => panic!("the agent panicked"),
            },
        };
        (code, lines)
    }

    /// Everything said so far, both ways.
    pub fn transcript(&self) -> String {
        self.transcript.join("\n")
    }

    fn receive(&mut self, deadline: Instant) -> Result<Output, RecvTimeoutError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let output = self.output.recv_timeout(left)?;
        self.transcript.push(match &output {
            Output::Line(line) => format!("out {}", line.chars().take(4_000).collect::<String>()),
            Output::Noise(line) => format!("err {line}"),
            Output::Closed => "out (closed)".to_owned(),
            Output::Quiet => "err (closed)".to_owned(),
        });
        if matches!(output, Output::Closed | Output::Quiet) {
            self.open -= 1;
        }
        Ok(output)
    }

    fn give_up(&self, problem: &str) -> ! {
        panic!("{problem}\n{}", self.transcript());
    }
}

impl Drop for StdioAgent {
    fn drop(&mut self) {
        self.stdin = None;
        if let Running::Process(child) = &mut self.running {
            // It has had its chance to end by itself; a failing test must not leave it behind.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The command of an agent in an environment of its own: nothing of the caller's but the search path,
/// and a home, a configuration folder and a temporary folder beneath `home`.
pub fn clean_command(program: &Path, home: &Path, cwd: &Path) -> Command {
    let mut command = Command::new(program);
    let temporary = home.join("tmp");
    let configuration = home.join("config");
    for folder in [&temporary, &configuration] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("TMPDIR", temporary)
        .env("CLAUDE_CONFIG_DIR", configuration)
        .current_dir(cwd);
    command
}
