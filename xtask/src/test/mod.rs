//! `cargo xtask test`: everything that can be tested on this machine, step by step.
//!
//! Every step runs, whatever the others did. A step that lacks something is *skipped* with the reason; the names of skipped
//! steps are also written to `target/skipped-steps`, one per line, which continuous integration compares with the committed
//! `.ci/expected-skips`: nothing goes untested in silence.

mod real;
mod steps;

use crate::{install::Missing, paths};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

/// How the steps against real servers begin.
const REAL: &str = "real-";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only show the steps
    #[arg(long)]
    list: bool,
    /// Only the steps whose name begins so (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only the steps that test against real servers (the same as --only real-)
    #[arg(long)]
    real: bool,
}

struct Step {
    name: String,
    what: &'static str,
    run: Box<dyn Fn() -> Result<Remark>>,
}

/// What the closing table adds to a step's `ok`; mostly nothing.
type Remark = String;

enum Outcome {
    Ok(Remark),
    Failed(String),
    Skipped(String),
}

struct Done {
    name: String,
    outcome: Outcome,
    time: Duration,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut steps = steps::all();
    let only: Vec<&str> = options.only.iter().map(String::as_str).chain(options.real.then_some(REAL)).collect();
    if !only.is_empty() {
        for wanted in &only {
            if !steps.iter().any(|step| step.name.starts_with(wanted)) {
                bail!("no step {wanted}: `cargo xtask test --list` shows them");
            }
        }
        steps.retain(|step| only.iter().any(|wanted| step.name.starts_with(wanted)));
    }
    if options.list {
        for step in &steps {
            println!("{:14} {}", step.name, step.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let done: Vec<Done> = steps.iter().map(run_step).collect();
    let skipped: String = done.iter().filter(|step| is_skipped(step)).map(|step| format!("{}\n", step.name)).collect();
    let list = paths::target().join("skipped-steps");
    fs::create_dir_all(paths::target())?;
    fs::write(&list, skipped).with_context(|| list.display().to_string())?;
    print!("\n{}", table(&done));
    let failed = done.iter().any(|step| matches!(step.outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run_step(step: &Step) -> Done {
    println!("\n== {}", step.name);
    let start = Instant::now();
    let outcome = match (step.run)() {
        Ok(remark) => Outcome::Ok(remark),
        Err(error) => match error.downcast_ref::<Missing>() {
            Some(Missing(what)) => Outcome::Skipped(what.lines().next().unwrap_or_default().to_owned()),
            None => Outcome::Failed(format!("{error:#}")),
        },
    };
    match &outcome {
        Outcome::Ok(_) => {}
        Outcome::Failed(why) => println!("FAILED: {why}"),
        Outcome::Skipped(why) => println!("skipped: {why}"),
    }
    Done { name: step.name.clone(), outcome, time: start.elapsed() }
}

fn is_skipped(step: &Done) -> bool {
    matches!(step.outcome, Outcome::Skipped(_))
}

/// One line per step with its time in seconds, and the closing line.
fn table(done: &[Done]) -> String {
    let mut text = String::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for step in done {
        let outcome = match &step.outcome {
            Outcome::Ok(remark) => {
                passed += 1;
                if remark.is_empty() { "ok".to_owned() } else { format!("ok ({remark})") }
            }
            Outcome::Failed(_) => {
                failed += 1;
                "FAILED".to_owned()
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                format!("skipped ({why})")
            }
        };
        text += &format!("{:8.1} s  {}: {outcome}\n", step.time.as_secs_f64(), step.name);
    }
    let total: Duration = done.iter().map(|step| step.time).sum();
    text + &format!("{:8.1} s  in total\n\n{passed} passed, {failed} failed, {skipped} skipped\n", total.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::missing;

    fn step(name: &str, run: fn() -> Result<Remark>) -> Step {
        Step { name: name.to_owned(), what: "", run: Box::new(run) }
    }

    #[test]
    fn the_table_counts_each_kind_of_end_and_shows_why_a_step_was_skipped() {
        let steps = [
            step("a", || Ok(String::new())),
            step("a2", || Ok("x at the second try".to_owned())),
            step("b", || bail!("broken")),
            // Also when a caller has wrapped it.
            step("c", || Err(missing("qemu\nmore")).context("while testing")),
        ];
        let mut done: Vec<Done> = steps.iter().map(run_step).collect();
        for step in &mut done {
            step.time = Duration::from_millis(1500);
        }
        assert_eq!(
            table(&done),
            "     1.5 s  a: ok\n     1.5 s  a2: ok (x at the second try)\n     1.5 s  b: FAILED\n     \
             1.5 s  c: skipped (qemu)\n     6.0 s  in total\n\n2 passed, 1 failed, 1 skipped\n"
        );
    }

    #[test]
    fn no_step_has_the_name_of_another() {
        let mut names: Vec<String> = steps::all().into_iter().map(|step| step.name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
