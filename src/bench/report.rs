//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::machine::Machine;

/// Figures of one thing under one condition, a value a round.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// What was measured, and in which unit.
    pub figure: String,
    /// Whose it is.
    pub subject: String,
    /// A value a round, in the order in which they were measured.
    pub values: Vec<f64>,
}

impl Series {
    /// The value in the middle.
    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    /// The least and the greatest.
    pub fn spread(&self) -> (f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    }
}

/// A ratio that is wanted, and what it came to.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// Its name (`P1`).
    pub name: String,
    /// What it is a ratio of, in words.
    pub what: String,
    /// The ratio of the medians.
    pub value: f64,
    /// What it must be, as a sign and a number (`≤ 1.15`).
    pub must: String,
    /// Whether it is.
    pub is_met: bool,
}

/// One condition: a scenario's point.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// The scenario.
    pub scenario: String,
    /// The condition in words (`gRPC, 100 readers, saturated`).
    pub name: String,
    /// What was measured.
    pub series: Vec<Series>,
    /// Ratios that are wanted.
    pub goals: Vec<Goal>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
}

impl Point {
    /// Nothing measured yet.
    pub fn new(scenario: &str, name: impl Into<String>) -> Self {
        Point {
            scenario: scenario.to_owned(),
            name: name.into(),
            series: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a round's value.
    pub fn add(&mut self, figure: &str, subject: &str, value: f64) {
        let known = self
            .series
            .iter_mut()
            .find(|series| series.figure == figure && series.subject == subject);
        match known {
            Some(series) => series.values.push(value),
            None => self.series.push(Series {
                figure: figure.to_owned(),
                subject: subject.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// Adds all values of a round.
    pub fn add_round(&mut self, round: &Point) {
        for series in &round.series {
            for value in &series.values {
                self.add(&series.figure, &series.subject, *value);
            }
        }
    }

    /// The median of a figure.
    pub fn median(&self, figure: &str, subject: &str) -> Option<f64> {
        let mut found = self.series.iter();
        let found = found.find(|series| series.figure == figure && series.subject == subject)?;
        Some(found.median())
    }

    /// The median of the rounds' ratios of two figures; rounds take turns, so what slows the machine slows both.
    pub fn ratio(&self, figure: &str, ours: &str, theirs: &str) -> Option<f64> {
        let of = |subject: &str| {
            let mut found = self.series.iter();
            found.find(|series| series.figure == figure && series.subject == subject)
        };
        let (ours, theirs) = (of(ours)?, of(theirs)?);
        let pairs = ours.values.iter().zip(&theirs.values);
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// A ratio that must be at most `most`.
    pub fn at_most(&mut self, name: &str, what: &str, value: Option<f64>, most: f64) {
        self.goal(name, what, value, format!("≤ {most}"), |value| {
            value <= most
        });
    }

    /// A ratio that must be at least `least`.
    pub fn at_least(&mut self, name: &str, what: &str, value: Option<f64>, least: f64) {
        self.goal(name, what, value, format!("≥ {least}"), |value| {
            value >= least
        });
    }

    /// A figure that nobody demands anything of: a ratio, say.
    pub fn say(&mut self, what: &str, value: Option<f64>) {
        let known = value.filter(|value| value.is_finite());
        self.notes.push(match known {
            Some(value) => format!("{what}: {}", short(value)),
            None => format!("{what}: not measured"),
        });
    }

    fn goal(
        &mut self,
        name: &str,
        what: &str,
        value: Option<f64>,
        must: String,
        is_met: impl FnOnce(f64) -> bool,
    ) {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            self.notes.push(format!("{name} was not measured: {what}"));
            return;
        };
        self.goals.push(Goal {
            name: name.to_owned(),
            what: what.to_owned(),
            value,
            must,
            is_met: is_met(value),
        });
    }
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The program's version.
    pub version: String,
    /// Whether it was built with optimisations.
    pub is_optimised: bool,
    /// Whether the sizes were those of a short run, which are not to be quoted.
    pub is_quick: bool,
    /// Counted rounds of each point.
    pub rounds: usize,
    /// Seconds of each round.
    pub seconds: f64,
    /// Bytes of an event's text.
    pub event_bytes: usize,
    /// The machine.
    pub machine: Machine,
    /// Hundredths of a second that the host took from this machine meanwhile.
    pub stolen: u64,
    /// What was measured.
    pub points: Vec<Point>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl Report {
    /// For people.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "baton {} ({}), {} of {}, kernel {}, {} rounds of {} s, events of {} B",
            self.version,
            if self.is_optimised {
                "optimised"
            } else {
                "NOT optimised: not to be quoted"
            },
            match self.machine.split {
                Some(split) => format!(
                    "server on processor {}, load on {}",
                    split.server, split.load
                ),
                None => "server and load on one processor".to_owned(),
            },
            self.machine.processor,
            self.machine.kernel,
            self.rounds,
            self.seconds,
            self.event_bytes,
        );
        let _ = writeln!(
            text,
            "load average at the start {:.2}; stolen by the host {} cs",
            self.machine.load_average, self.stolen
        );
        if self.is_quick {
            let _ = writeln!(
                text,
                "a short run: enough to see that it works, not to be quoted"
            );
        }
        for point in &self.points {
            text.push_str(&render(point));
        }
        for failure in &self.failures {
            let _ = writeln!(text, "\nNOT MEASURED: {failure}");
        }
        text
    }
}

/// One point as a table.
pub fn render(point: &Point) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{} · {}", point.scenario, point.name);
    let mut figures: BTreeMap<&str, Vec<&Series>> = BTreeMap::new();
    let mut order = Vec::new();
    for series in &point.series {
        let known = figures.entry(&series.figure).or_default();
        if known.is_empty() {
            order.push(series.figure.as_str());
        }
        known.push(series);
    }
    for figure in order {
        for series in &figures[figure] {
            let (least, most) = series.spread();
            let median = series.median();
            let wide = if median > 0.0 && (most - least) / median > 0.25 {
                "  (wide)"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "  {figure:<34} {:<22} {:>12}  [{} .. {}]{wide}",
                series.subject,
                short(median),
                short(least),
                short(most),
            );
        }
    }
    for goal in &point.goals {
        let _ = writeln!(
            text,
            "  {:<4} {} {}: {} (must be {})",
            goal.name,
            if goal.is_met { "met   " } else { "MISSED" },
            goal.what,
            short(goal.value),
            goal.must,
        );
    }
    for note in &point.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_rounds_that_took_turns() {
        let mut point = Point::new("x", "y");
        for (ours, theirs) in [(1.0, 2.0), (10.0, 20.0), (3.0, 2.0)] {
            point.add("cpu", "baton", ours);
            point.add("cpu", "bare", theirs);
        }
        assert_eq!(point.ratio("cpu", "baton", "bare"), Some(0.5));
        assert_eq!(point.median("cpu", "baton"), Some(3.0));
        assert_eq!(point.ratio("cpu", "baton", "node ws"), None);
        point.at_most("P", "a ratio", Some(0.5), 0.4);
        point.at_least("P", "a ratio", Some(0.5), 0.4);
        assert!(!point.goals[0].is_met && point.goals[1].is_met);
    }

    #[test]
    fn a_middle_of_two_lies_between_them() {
        assert!((median(&[4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
