//! `baton scheduler`: what gives ready tasks to agents by itself.

use serde_json::json;

use crate::cli::args::{Global, SchedulerAction, SchedulerArgs};
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::style::{Tone, visible_line};
use crate::cli::output::{Out, json};
use crate::wire::v1;

/// `baton scheduler`
pub async fn run(global: &Global, out: &Out, args: SchedulerArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let scheduler = match args.action.unwrap_or(SchedulerAction::Show) {
        SchedulerAction::Show => {
            let request = v1::GetSchedulerRequest {};
            client.get_scheduler(request).await?.scheduler
        }
        SchedulerAction::Pause { reason } => {
            let request = v1::PauseSchedulerRequest {
                reason: reason.unwrap_or_default(),
            };
            client.pause_scheduler(request).await?.scheduler
        }
        SchedulerAction::Resume => {
            let request = v1::ResumeSchedulerRequest {};
            client.resume_scheduler(request).await?.scheduler
        }
    };
    let scheduler = scheduler.unwrap_or_default();
    let value = json!({
        "paused": scheduler.paused,
        "reason": scheduler.reason,
        "changed_by": json::actor(scheduler.changed_by.as_ref()),
        "changed_at": json::time(scheduler.changed_at),
        "looked_at": json::time(scheduler.looked_at),
        "running": scheduler.running,
        "max_running": scheduler.max_running,
        "escalated_task_ids": scheduler.escalated_task_ids,
    });
    out.show(&value, || {
        let (tone, word) = match scheduler.paused {
            true => (Tone::Warn, "paused"),
            false => (Tone::Good, "works"),
        };
        let mut lines = vec![format!(
            "{}, {} of at most {} agents run",
            out.style.paint(tone, word),
            scheduler.running,
            scheduler.max_running
        )];
        if !scheduler.reason.is_empty() {
            lines.push(format!("  {}", visible_line(&scheduler.reason)));
        }
        for task in &scheduler.escalated_task_ids {
            lines.push(format!("  {task} needs a person: baton tasks why {task}"));
        }
        lines.join("\n")
    })?;
    Ok(DONE)
}
