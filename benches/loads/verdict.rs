//! What must come of a load, what came of it, and whether that holds.

use serde::Serialize;
use std::fmt;

/// One thing that must hold.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What is looked at, with its unit.
    pub what: String,
    /// What was measured.
    pub measured: f64,
    /// `>=`, `<=` or `=`.
    pub relation: &'static str,
    /// The bar.
    pub bar: f64,
    /// Whether it holds.
    pub holds: bool,
}

impl Check {
    /// At least so much.
    pub fn least(what: &str, measured: f64, bar: f64) -> Check {
        Check { what: what.into(), measured, relation: ">=", bar, holds: measured >= bar }
    }

    /// At most so much.
    pub fn most(what: &str, measured: f64, bar: f64) -> Check {
        Check { what: what.into(), measured, relation: "<=", bar, holds: measured <= bar }
    }

    /// Exactly so much.
    pub fn equal(what: &str, measured: f64, bar: f64) -> Check {
        Check { what: what.into(), measured, relation: "=", bar, holds: measured == bar }
    }
}

/// What came of a load.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Its name.
    pub id: String,
    /// What it was, in words.
    pub load: String,
    /// What had to hold.
    pub checks: Vec<Check>,
    /// What else was seen, with its unit.
    pub seen: Vec<(String, f64)>,
    /// What the reader should know.
    pub notes: Vec<String>,
    /// How long it took in all, in seconds.
    pub seconds: f64,
    /// How its loads were made.
    pub commands: Vec<String>,
}

impl Verdict {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} ({:.0} s)", self.id, self.load, self.seconds)?;
        for Check { what, measured, relation, bar, holds } in &self.checks {
            let word = if *holds { "holds" } else { "NO" };
            writeln!(f, "  {word:5}  {what}: {} (must be {relation} {})", Figure(*measured), Figure(*bar))?;
        }
        for (what, value) in &self.seen {
            writeln!(f, "         {what}: {}", Figure(*value))?;
        }
        for note in &self.notes {
            writeln!(f, "         {note}")?;
        }
        Ok(())
    }
}

/// A number with as many digits as say something.
struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            0.0 => write!(f, "0"),
            size if size < 0.1 => write!(f, "{:.6}", self.0),
            size if size < 100.0 && self.0.fract() != 0.0 => write!(f, "{:.2}", self.0),
            _ => write!(f, "{:.0}", self.0),
        }
    }
}
