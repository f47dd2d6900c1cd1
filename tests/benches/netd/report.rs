//! What was measured: rows, for people as a table and for programs as JSON.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Values of one thing, in no order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds a time, in milliseconds.
    pub(crate) fn add(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1000.0);
    }

    /// Adds a value.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that so many in a hundred do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len().max(1) - 1) * percent / 100;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    /// Each over the other's of the same number.
    fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    fn p50(&self) -> f64 {
        self.percentile(50)
    }

    fn p95(&self) -> f64 {
        self.percentile(95)
    }

    fn cell(&self) -> String {
        match self.len() {
            1 => number(self.p50()),
            _ => format!("{} ({})", number(self.p50()), number(self.p95())),
        }
    }

    fn json(&self) -> Value {
        json!({"p50": self.p50(), "p95": self.p95(), "samples": self.len()})
    }
}

impl From<f64> for Samples {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

/// A time of the machine with three digits, a count with all of them.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A promise: a value and its limit.
struct Budget {
    text: String,
    value: f64,
    met: bool,
}

/// One line of the table.
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    ours: Samples,
    peer: Option<(&'static str, Samples)>,
    /// Whether each sample of ours was taken together with the peer's of the same number.
    paired: bool,
    budgets: Vec<Budget>,
}

impl Row {
    /// A row of our own figures.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, ours: Samples) -> Self {
        Self { what: what.into(), unit, ours, peer: None, paired: false, budgets: Vec::new() }
    }

    /// The same, done by somebody else.
    pub(crate) fn beside(mut self, name: &'static str, peer: Samples) -> Self {
        self.peer = Some((name, peer));
        self
    }

    /// The same, done by somebody else, by short turns with ours: the ratio is the median of those of
    /// each pair, since what the machine did meanwhile it did to both.
    pub(crate) fn beside_by_turns(mut self, name: &'static str, peer: Samples) -> Self {
        self.peer = Some((name, peer));
        self.paired = true;
        self
    }

    /// Ours over the peer's, at the median and at the 95th percentile.
    pub(crate) fn ratios(&self) -> Option<(f64, f64)> {
        let (_, peer) = self.peer.as_ref()?;
        let late = self.ours.p95() / peer.p95();
        let p50 = match self.paired {
            true => self.ours.over(peer).p50(),
            false => self.ours.p50() / peer.p50(),
        };
        Some((p50, late))
    }

    /// The median may be so much, in the row's unit.
    pub(crate) fn at_most(self, limit: f64) -> Self {
        let (value, unit) = (self.ours.p50(), self.unit);
        self.promise(format!("≤ {limit} {unit}"), value, value <= limit)
    }

    /// The value that so many in a hundred do not exceed may be so much, in the row's unit.
    pub(crate) fn at_most_of(self, percent: usize, limit: f64) -> Self {
        let (value, unit) = (self.ours.percentile(percent), self.unit);
        self.promise(format!("p{percent} ≤ {limit} {unit}"), value, value <= limit)
    }

    /// The median may be so many times the peer's.
    pub(crate) fn at_most_times(self, limit: f64) -> Self {
        let value = self.ratios().map_or(f64::NAN, |ratios| ratios.0);
        self.promise(format!("≤ {limit} ×"), value, value <= limit)
    }

    /// The 95th percentile may be so many times the peer's.
    pub(crate) fn at_most_times_late(self, limit: f64) -> Self {
        let value = self.ratios().map_or(f64::NAN, |ratios| ratios.1);
        self.promise(format!("p95 ≤ {limit} ×"), value, value <= limit)
    }

    /// The median is to be so many times the peer's.
    pub(crate) fn at_least_times(self, limit: f64) -> Self {
        let value = self.ratios().map_or(f64::NAN, |ratios| ratios.0);
        self.promise(format!("≥ {limit} ×"), value, value >= limit)
    }

    /// It is to take a part of the peer's time.
    pub(crate) fn times_faster(self, limit: f64) -> Self {
        let value = self.ratios().map_or(f64::NAN, |ratios| 1.0 / ratios.0);
        self.promise(format!("{limit} × faster"), value, value >= limit)
    }

    /// The ratio may have grown so much since an earlier row's.
    pub(crate) fn grown_at_most(self, since: f64, limit: f64) -> Self {
        let value = self.ratios().map_or(f64::NAN, |ratios| ratios.0 / since);
        self.promise(format!("grown ≤ {limit} ×"), value, value <= limit)
    }

    fn promise(mut self, text: String, value: f64, met: bool) -> Self {
        self.budgets.push(Budget { text, value, met });
        self
    }

    fn cells(&self) -> [String; 7] {
        let (name, peer, ratio) = match (&self.peer, self.ratios()) {
            (Some((name, peer)), Some((p50, p95))) => {
                let ratio = match (peer.len(), p50 < 0.2) {
                    (1, _) => number(p50),
                    (_, true) => format!("1/{} (1/{})", number(1.0 / p50), number(1.0 / p95)),
                    (_, false) => format!("{} ({})", number(p50), number(p95)),
                };
                ((*name).to_owned(), peer.cell(), ratio)
            }
            _ => Default::default(),
        };
        let budgets: Vec<_> = self.budgets.iter().map(|budget| budget.text.as_str()).collect();
        let verdicts: Vec<_> = self
            .budgets
            .iter()
            .map(|budget| match budget.met {
                true => "met".to_owned(),
                false => format!("MISSED: {}", number(budget.value)),
            })
            .collect();
        [
            self.what.clone(),
            format!("{} {}", self.ours.cell(), self.unit),
            peer,
            name,
            ratio,
            budgets.join(", "),
            verdicts.join(", "),
        ]
    }

    fn json(&self) -> Value {
        let budgets: Vec<_> = self
            .budgets
            .iter()
            .map(|b| json!({"budget": b.text, "value": b.value, "met": b.met}))
            .collect();
        json!({
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours.json(),
            "peer": self.peer.as_ref().map(|(name, peer)| {
                let mut peer = peer.json();
                peer["name"] = json!(name);
                peer
            }),
            "ratio": self.ratios().map(|(p50, p95)| json!({"p50": p50, "p95": p95})),
            "budgets": budgets,
        })
    }
}

/// All rows of a run.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Adds a row.
    pub(crate) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a sentence below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The table.
    pub(crate) fn print(&self) {
        const HEAD: [&str; 7] =
            ["what", "netd p50 (p95)", "peer p50 (p95)", "peer", "ratio", "budget", ""];
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: [usize; 7] = std::array::from_fn(|column| {
            lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0)
        });
        println!();
        for cells in &lines {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                line += &format!("{cell:<width$}  ");
            }
            println!("{}", line.trim_end());
        }
        println!("\n{}", machine());
        for note in &self.notes {
            println!("{note}");
        }
    }

    /// The JSON, into cargo's target directory.
    pub(crate) fn write(&self) -> Result<()> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("a directory")?;
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let document = json!({"machine": machine(), "rows": rows, "notes": self.notes});
        let path = target.join("bench.json");
        fs::write(&path, format!("{document:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Kernel, processors and load: what figures depend on.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load: Vec<_> = read("/proc/loadavg").split(' ').take(3).map(str::to_owned).collect();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("Linux {}, {cpus} processors, load {}", kernel.trim(), load.join(" "))
}
