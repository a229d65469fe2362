//! Triggers on the wire.

use super::enums;
use crate::base::{Error, Result};
use crate::domain::trigger::{Occasion, Schedule, TaskEvents, Trigger};
use crate::wire::v1;
use crate::wire::v1::trigger::On;

/// A trigger as protobuf writes it.
pub fn trigger_to_pb(trigger: &Trigger) -> v1::Trigger {
    let on = match &trigger.on {
        Occasion::Cron(schedule) => On::Cron(v1::CronTrigger {
            schedule: schedule.cron.clone(),
            time_zone: schedule.time_zone.clone(),
        }),
        Occasion::Event(of) => On::Event(v1::TaskTrigger {
            event: enums::task_event_to_pb(of.event).into(),
            labels: of.labels.clone().into_iter().collect(),
        }),
    };
    v1::Trigger {
        on: Some(on),
        input: trigger.input.clone(),
    }
}

/// Triggers of an agent's settings from the wire.
pub fn triggers_from_pb(triggers: Vec<v1::Trigger>) -> Result<Vec<Trigger>> {
    let one = |(index, trigger): (usize, v1::Trigger)| {
        let at = format!("settings.triggers[{index}]");
        let Some(on) = trigger.on else {
            return Err(Error::invalid(&at, "says neither a time nor an event"));
        };
        Ok(Trigger {
            on: match on {
                On::Cron(cron) => Occasion::Cron(Schedule {
                    cron: cron.schedule,
                    time_zone: cron.time_zone,
                }),
                On::Event(of) => {
                    let at = format!("{at}.event.event");
                    Occasion::Event(TaskEvents {
                        event: enums::required(enums::task_event_from_pb(of.event, &at), &at)?,
                        labels: of.labels.into_iter().collect(),
                    })
                }
            },
            input: trigger.input,
        })
    };
    triggers.into_iter().enumerate().map(one).collect()
}
