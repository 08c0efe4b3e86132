//! Waits until what was asked for is so, shows how far it is, and says why when it does not get there.
//!
//! Nothing is shown of what is quickly done. On a terminal one line moves; in a pipe a line is printed when there is
//! something new, at most once a second.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use chassis_api::{Phase, Progress, ProgressQuery, ProgressState, Scope};
use chassis_client::Client;
use futures_util::StreamExt;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Interval, MissedTickBehavior};

use crate::args::Wait;
use crate::failure::Failure;
use crate::output::{Terminal, clean, count};

const FRAME: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(1);

/// The state of what is deleted.
pub(crate) const GONE: &str = "gone";

/// What instances are waited for.
#[derive(Debug)]
pub(crate) struct Goal {
    /// What moves: `data-collector`.
    pub(crate) what: String,
    /// What they are in the end: `running`, `stopped`, `gone`.
    pub(crate) state: &'static str,
}

/// Waits until all scopes are as wanted, and returns how that looks. Says why if they cannot be.
pub(crate) async fn wait(
    client: &Client,
    terminal: Terminal,
    scopes: Vec<Scope>,
    goal: &Goal,
    options: &Wait,
) -> Result<Progress, Failure> {
    let mut stream = client.progress(&ProgressQuery { scopes }).await?;
    let mut view = View::new(terminal, goal);
    let mut last: Option<Progress> = None;
    let timeout = tokio::time::sleep(options.timeout.unsigned_abs());
    tokio::pin!(timeout);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        tokio::select! {
            next = stream.next() => {
                let progress = next.ok_or_else(|| cut_off(goal))??;
                match progress.state {
                    ProgressState::Working => {
                        view.update(&progress);
                        last = Some(progress);
                    }
                    ProgressState::Done => return Ok(progress),
                    ProgressState::Stuck => {
                        view.clear();
                        return Err(Failure::Failed(stuck(goal, &progress)));
                    }
                }
            }
            () = view.tick() => {}
            () = &mut timeout => {
                view.clear();
                return Err(Failure::TimedOut(timed_out(goal, options, last.as_ref())));
            }
            Ok(()) = &mut interrupt => {
                view.clear();
                return Err(Failure::Interrupted(
                    "not waiting any longer; the change itself goes on, and `chassis ps` shows how far it is".to_owned(),
                ));
            }
        }
    }
}

/// One line that moves, or lines that come now and then.
struct View {
    goal: String,
    state: &'static str,
    ticks: Interval,
    text: String,
    shown: Shown,
}

enum Shown {
    Nowhere,
    Bar(ProgressBar),
    Lines { terminal: Terminal, printed: String, at: Instant },
}

impl View {
    fn new(terminal: Terminal, goal: &Goal) -> View {
        let shown = if terminal.quiet() {
            Shown::Nowhere
        } else if terminal.moving() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::default_spinner());
            Shown::Bar(bar)
        } else {
            Shown::Lines { terminal, printed: String::new(), at: Instant::now() }
        };
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + FRAME, FRAME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        View { goal: goal.what.clone(), state: goal.state, ticks, text: String::new(), shown }
    }

    fn update(&mut self, progress: &Progress) {
        self.text = describe(&self.goal, self.state, progress);
    }

    /// Draws what is new when it is time to.
    async fn tick(&mut self) {
        self.ticks.tick().await;
        match &mut self.shown {
            Shown::Nowhere => {}
            Shown::Bar(bar) => {
                bar.set_message(self.text.clone());
                bar.tick();
            }
            Shown::Lines { terminal, printed, at } => {
                if *printed != self.text && at.elapsed() >= LINE {
                    terminal.say(&self.text);
                    printed.clone_from(&self.text);
                    *at = Instant::now();
                }
            }
        }
    }

    fn clear(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.clear();
    }
}

fn describe(what: &str, state: &str, progress: &Progress) -> String {
    let mut text = format!("{what}: {}", so_far(state, progress));
    for pull in &progress.pulls {
        let _ = write!(text, ", pulling {} {}/{} layers", pull.image, pull.layers_done, pull.layers);
        if pull.bytes_total > 0 {
            let _ = write!(text, " {} of {}", HumanBytes(pull.bytes_done), HumanBytes(pull.bytes_total));
        }
    }
    if !progress.stuck.is_empty() {
        let _ = write!(text, ", {} stuck", progress.stuck.len());
    }
    text
}

/// What is gone is not counted any more.
fn so_far(state: &str, progress: &Progress) -> String {
    match state {
        GONE => format!("{} left", count(progress.total, "instance")),
        state if progress.held > 0 => {
            let held = count(progress.held, "instance");
            format!("{}/{} {state} as wanted, {held} as before", progress.ready, progress.total)
        }
        state => format!("{}/{} {state}", progress.ready, progress.total),
    }
}

fn stuck(goal: &Goal, progress: &Progress) -> String {
    let mut text = format!("{}: {}", goal.what, so_far(goal.state, progress));
    text.push_str(&list_stuck(progress));
    // The server names the first few.
    let more = progress.total.saturating_sub(progress.ready) as usize;
    if let Some(more) = more.checked_sub(progress.stuck.len()).filter(|more| *more > 0) {
        let _ = write!(text, "\n  and {}", count(more as u64, "more instance"));
    }
    for fleet in &progress.fleets {
        let _ = write!(text, "\n  fleet {}: {}", fleet.fleet, clean(&fleet.message));
    }
    text.push_str(
        if !progress.stuck.is_empty() && progress.stuck.iter().all(|stuck| stuck.phase == Phase::Failed) {
            "\nits restart policy does not start it again; `chassis start` does"
        } else {
            "\nchassis keeps trying; `chassis ps` shows when"
        },
    );
    text
}

fn list_stuck(progress: &Progress) -> String {
    let mut text = String::new();
    for stuck in &progress.stuck {
        let name = stuck.instance.short_name();
        let message = clean(&stuck.message);
        let _ = write!(text, "\n  {name}: {message}\n    see `chassis describe {name}`");
    }
    text
}

fn timed_out(goal: &Goal, options: &Wait, last: Option<&Progress>) -> String {
    let state = match last {
        Some(progress) => {
            let missing = progress.total.saturating_sub(progress.ready);
            format!("{} not {}{}", count(missing, "instance"), goal.state, list_stuck(progress))
        }
        None => "no news of it".to_owned(),
    };
    format!(
        "{} did not get there within {:#}: {state}\nthe change itself goes on; `chassis ps` shows how far it is",
        goal.what, options.timeout
    )
}

fn cut_off(goal: &Goal) -> Failure {
    Failure::Failed(format!(
        "the server ended while {} was being waited for; the change is kept, and `chassis ps` shows how far it is",
        goal.what
    ))
}
