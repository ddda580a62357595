//! `sekisho demo`: four universities on one machine.
//!
//! Osaka and Kyushu send to Hokkaido's broker, Hokkaido sends on to Tokyo, everything else is
//! refused. Each site is a `sekisho run` of its own with a CA of its own, by the files of
//! `compose/sites/`.

mod attempt;
mod children;
mod client;
mod flows;
mod refusals;
mod report;
mod rotation;
mod sites;

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    cli::{self, DemoArgs},
    output,
};

/// How long SVIDs rotate and policies reload under load.
const ROTATION_TIME: Duration = Duration::from_secs(4);

/// Runs the scenario. Exit code 0 only if every expectation held.
pub(crate) fn demo(args: &DemoArgs) -> u8 {
    match play(args) {
        Ok(true) => cli::OK,
        Ok(false) => cli::FAILED,
        Err(error) => {
            output::complain(format_args!("the demo could not be played: {error:#}"));
            cli::FAILED
        }
    }
}

fn play(args: &DemoArgs) -> anyhow::Result<bool> {
    let show = Show { json: args.json };
    show.title("Four sites, each a process and a CA of its own");
    let sites =
        sites::Sites::start(children::Children::guarded()?).context("starting the four sites")?;
    for site in sites.all() {
        show.line(format_args!("  {:<9} {}", site.name, site.describe()));
    }

    show.title("What is allowed");
    let mut flows = Vec::new();
    for plan in flows::plans(&sites) {
        let bar = show.bar(&plan.title(), args.duration * 2);
        let flow = flows::measure(&sites, &plan, args.duration, &bar)?;
        bar.finish_and_clear();
        show.line(report::flow_line(&flow));
        flows.push(flow);
    }

    show.title("What is refused (and allowed, once only that defect is gone)");
    for plan in refusals::plans(&sites)? {
        let flow = attempt::try_both(&sites, plan)?;
        show.line(report::flow_line(&flow));
        flows.push(flow);
    }

    show.title("SVIDs rotate and policies reload, under load");
    let bar = show.bar("100 connections", ROTATION_TIME);
    let rotation = rotation::run(&sites, ROTATION_TIME, &bar)?;
    bar.finish_and_clear();
    show.line(report::rotation_line(&rotation));

    let outcome = report::Outcome {
        ok: flows.iter().all(report::Flow::held) && rotation.held(),
        flows,
        rotation,
        lines: sites
            .all()
            .iter()
            .map(|site| (site.name, site.configuration_lines()))
            .collect(),
    };
    if args.json {
        output::json(&outcome.json());
    } else {
        output::line(outcome.tables());
    }
    if args.keep {
        keep(&sites, &show)?;
    }
    Ok(outcome.ok)
}

fn keep(sites: &sites::Sites, show: &Show) -> anyhow::Result<()> {
    // Before it is said that Ctrl-C ends them.
    let signal = sites.children.next_signal();
    for line in sites.how_to_use() {
        show.line(line);
    }
    signal.recv().context("waiting for Ctrl-C")
}

/// What is shown while the scenario plays: nothing on standard output with `--json`.
struct Show {
    json: bool,
}

impl Show {
    fn title(&self, text: &str) {
        if !self.json {
            let text = output::paint(text, output::Colour::Bold, output::colour_out());
            output::line(format_args!("\n{text}"));
        }
    }

    fn line(&self, text: impl std::fmt::Display) {
        if self.json {
            output::complain(text);
        } else {
            output::line(text);
        }
    }

    /// A bar on standard error, where that is a terminal.
    fn bar(&self, name: &str, time: Duration) -> ProgressBar {
        let length = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("  {prefix} {wide_bar} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar
    }
}
