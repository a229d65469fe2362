//! What the command line takes and refuses.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(std::iter::once("baton").chain(line.split_whitespace()))
}

fn command(line: &str) -> Command {
    parse(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .command
}

#[test]
fn the_definition_holds_together() {
    Args::command().debug_assert();
}

#[test]
fn run_takes_text_or_argv() {
    let Command::Run(run) = command("run --harness demo -f --label a=b --env TOKEN hello") else {
        panic!();
    };
    assert_eq!(run.text.as_deref(), Some("hello"));
    assert!(run.follow && run.argv.is_empty());
    assert_eq!(run.labels, [("a".to_owned(), "b".to_owned())]);
    let Command::Run(run) = command("run --harness command -- make -j 4 --json") else {
        panic!();
    };
    assert_eq!(run.argv, ["make", "-j", "4", "--json"]);
    assert_eq!(run.text, None);
    // The later of the two wins.
    let Command::Run(run) = command("run -f --no-follow x") else {
        panic!()
    };
    assert!(run.no_follow && !run.follow);
}

#[test]
fn answers_are_one_thing_or_the_other() {
    let Command::Answer(answer) = command("answer X --deny") else {
        panic!()
    };
    assert_eq!(answer.deny.as_deref(), Some(""));
    let Command::Answer(answer) = command("answer X --deny never --interrupt") else {
        panic!()
    };
    assert_eq!(answer.deny.as_deref(), Some("never"));
    let Command::Answer(answer) = command("answer X --option 1=Red --option Green") else {
        panic!()
    };
    assert_eq!(answer.option, ["1=Red", "Green"]);
    for bad in [
        "answer",
        "answer X --allow --deny",
        "answer X --allow --option A",
        "answer X --input {}",
        "answer X --allow --pattern P",
        "answer X --allow --remember forever",
        "answer X --allow --interrupt",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn json_and_server_go_anywhere() {
    for line in [
        "--json --server http://h:1 ps",
        "ps --json --server http://h:1",
    ] {
        let args = parse(line).unwrap();
        assert!(args.global.json);
        assert_eq!(args.global.server.as_deref(), Some("http://h:1"));
    }
}

#[test]
fn no_option_takes_a_token() {
    fn walk(command: &clap::Command) {
        for argument in command.get_arguments() {
            let name = argument.get_long().unwrap_or_default();
            assert!(!matches!(name, "token" | "join-token" | "secret"), "{name}");
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&Args::command());
}

#[test]
fn subcommands_default_to_list() {
    assert!(matches!(
        command("queue X"),
        Command::Queue(QueueArgs { action: None, .. })
    ));
    assert!(matches!(
        command("rules"),
        Command::Rules(RulesArgs { action: None })
    ));
    assert!(matches!(
        command("daemons"),
        Command::Daemons(DaemonsArgs { action: None })
    ));
    assert!(parse("rules add Bash").is_err());
    assert!(parse("rules add Bash --allow --deny").is_err());
    assert!(parse("rules add Bash(ls:*) --allow").is_ok());
}

#[test]
fn kinds_are_a_list_and_checked() {
    let Command::Logs(logs) = command("logs X --kinds message,turn_ended -f") else {
        panic!()
    };
    assert_eq!(logs.kinds, [EventKind::Message, EventKind::TurnEnded]);
    assert!(parse("logs X --kinds nonsense").is_err());
}

#[test]
fn usage_errors_exit_with_two() {
    assert_eq!(parse("nonsense").unwrap_err().exit_code(), 2);
    assert_eq!(parse("--help").unwrap_err().exit_code(), 0);
}

#[test]
fn inner_commands_are_hidden_and_take_anything() {
    let Command::Runner(inner) = command("runner --spec x -v") else {
        panic!()
    };
    assert_eq!(inner.rest, ["--spec", "x", "-v"]);
    let help = Args::command().render_help().to_string();
    assert!(!help.contains("demo-agent"));
}
