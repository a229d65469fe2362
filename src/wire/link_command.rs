//! Commands on the wire.

use super::field::{optional_id, required, text};
use super::prompt::{prompt_answer_from_pb, prompt_answer_to_pb};
use super::terminal::{optional_size_from_pb, size_to_pb};
use super::time::{time_from_pb, time_to_pb};
use super::{enums, link_v1 as pb};
use crate::base::Result;
use crate::base::id::{CommandId, InputId, PromptId, SessionId};
use crate::domain::agent::MAX_STANDING_BYTES;
use crate::domain::command::StartCommand;
use crate::domain::field;
use crate::domain::input::MAX_INPUT_BYTES;
use crate::domain::{Command, CommandBody};

/// The longest name in a command (model, harness, a harness's own id), in bytes.
const MAX_NAME_BYTES: usize = 1_024;

/// A command as protobuf writes it.
pub fn command_to_pb(command: &Command) -> pb::Command {
    use pb::command::Body;
    let body = match &command.body {
        CommandBody::Start(start) => Body::Start(start_to_pb(start)),
        CommandBody::Input {
            input_id,
            text,
            steer,
        } => Body::Input(pb::InputCommand {
            input_id: input_id.to_string(),
            text: text.clone(),
            steer: *steer,
        }),
        CommandBody::Interrupt => Body::Interrupt(pb::InterruptCommand {}),
        CommandBody::Answer {
            prompt_id,
            request_key,
            answer,
        } => Body::Answer(pb::AnswerCommand {
            prompt_id: prompt_id.to_string(),
            request_key: request_key.clone(),
            answer: Some(prompt_answer_to_pb(answer)),
        }),
        CommandBody::End {
            force,
            reason,
            suspend,
            message,
        } => Body::End(pb::EndCommand {
            force: *force,
            reason: enums::end_reason_to_pb(*reason).into(),
            suspend: *suspend,
            message: message.clone(),
        }),
        CommandBody::Options {
            model,
            permission_mode,
        } => Body::Options(pb::OptionsCommand {
            model: model.clone(),
            permission_mode: permission_mode
                .map_or(0, |mode| enums::permission_mode_to_pb(mode).into()),
        }),
        CommandBody::CancelInput { input_id } => Body::CancelInput(pb::CancelInputCommand {
            input_id: input_id.to_string(),
        }),
    };
    pb::Command {
        id: command.id.to_string(),
        session_id: command.session_id.to_string(),
        deadline: command.deadline.map(time_to_pb),
        body: Some(body),
    }
}

/// A command from the wire.
pub fn command_from_pb(command: pb::Command) -> Result<Command> {
    use pb::command::Body;
    let body = match required(command.body, "command.body")? {
        Body::Start(start) => CommandBody::Start(Box::new(start_from_pb(start)?)),
        Body::Input(input) => CommandBody::Input {
            input_id: InputId::parse("input.input_id", &input.input_id)?,
            text: text(input.text, "input.text", MAX_INPUT_BYTES)?,
            steer: input.steer,
        },
        Body::Interrupt(_) => CommandBody::Interrupt,
        Body::Answer(answer) => CommandBody::Answer {
            prompt_id: PromptId::parse("answer.prompt_id", &answer.prompt_id)?,
            request_key: text(answer.request_key, "answer.request_key", MAX_NAME_BYTES)?,
            answer: prompt_answer_from_pb(required(answer.answer, "answer.answer")?)?,
        },
        Body::End(end) => CommandBody::End {
            force: end.force,
            reason: enums::required(
                enums::end_reason_from_pb(end.reason, "end.reason"),
                "end.reason",
            )?,
            suspend: end.suspend,
            message: text(end.message, "end.message", 4 * 1024)?,
        },
        Body::Options(options) => CommandBody::Options {
            model: match options.model {
                Some(model) => Some(text(model, "options.model", MAX_NAME_BYTES)?),
                None => None,
            },
            permission_mode: enums::permission_mode_from_pb(
                options.permission_mode,
                "options.permission_mode",
            )?,
        },
        Body::CancelInput(cancel) => CommandBody::CancelInput {
            input_id: InputId::parse("cancel_input.input_id", &cancel.input_id)?,
        },
    };
    Ok(Command {
        id: CommandId::parse("command.id", &command.id)?,
        session_id: SessionId::parse("command.session_id", &command.session_id)?,
        deadline: time_from_pb(command.deadline, "command.deadline")?,
        body,
    })
}

fn start_to_pb(start: &StartCommand) -> pb::StartCommand {
    pb::StartCommand {
        harness: start.harness.clone(),
        cwd: start.cwd.clone(),
        model: start.model.clone(),
        permission_mode: enums::permission_mode_to_pb(start.permission_mode).into(),
        mode: enums::mode_to_pb(start.mode).into(),
        argv: start.argv.clone(),
        env_names: start.env_names.clone(),
        provider_session_id: start.provider_session_id.clone(),
        fork: start.fork,
        one_shot: start.one_shot,
        replaces_session_id: start.replaces.map(|id| id.to_string()).unwrap_or_default(),
        terminal_size: start.terminal.map(size_to_pb),
        instructions: start.instructions.clone(),
    }
}

fn start_from_pb(start: pb::StartCommand) -> Result<StartCommand> {
    field::argv("start.argv", &start.argv)?;
    field::env_names("start.env_names", &start.env_names)?;
    Ok(StartCommand {
        harness: text(start.harness, "start.harness", MAX_NAME_BYTES)?,
        cwd: text(start.cwd, "start.cwd", field::MAX_PATH_BYTES)?,
        model: text(start.model, "start.model", MAX_NAME_BYTES)?,
        permission_mode: enums::required(
            enums::permission_mode_from_pb(start.permission_mode, "start.permission_mode"),
            "start.permission_mode",
        )?,
        mode: enums::required(enums::mode_from_pb(start.mode, "start.mode"), "start.mode")?,
        argv: start.argv,
        env_names: start.env_names,
        provider_session_id: text(
            start.provider_session_id,
            "start.provider_session_id",
            MAX_NAME_BYTES,
        )?,
        fork: start.fork,
        one_shot: start.one_shot,
        replaces: optional_id(
            &start.replaces_session_id,
            "start.replaces_session_id",
            SessionId::parse,
        )?,
        terminal: optional_size_from_pb(start.terminal_size, "start.terminal_size")?,
        instructions: text(start.instructions, "start.instructions", MAX_STANDING_BYTES)?,
    })
}
