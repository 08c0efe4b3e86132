//! `chassis top`: what instances use, as a picture that moves; or once, as text.
//!
//! A new sample is asked for a second after the last was, and not before that has come. Whatever ends the command, the
//! terminal is left as it was.

mod draw;
mod keys;
mod model;
mod screen;

use std::io::Read;
use std::time::Duration;

use chassis_api::{Stats, StatsQuery};
use chassis_client::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::args::Top;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, terminal_size};
use draw::{Paper, lines};
use model::{Model, Step};
use screen::Screen;

const APART: Duration = Duration::from_secs(1);
/// A pipe has no width.
const WIDTH_OF_TEXT: usize = 160;

pub(super) async fn run(context: &Context, args: Top) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let query = super::stats::query(&client, args.name.as_deref(), &args.selector).await?;
    if args.once || !context.terminal.interactive() {
        return once(&client, &query).await;
    }
    let mut model = Model::new();
    // What cannot be had at all is said before the screen is another.
    model.sample(client.stats(&query).await?);
    live(context, &client, &query, model).await
}

/// Two samples, for rates; one picture.
async fn once(client: &Client, query: &StatsQuery) -> Result<Exit, Failure> {
    let mut model = Model::new();
    model.sample(client.stats(query).await?);
    tokio::time::sleep(APART).await;
    model.sample(client.stats(query).await?);
    let paper = Paper { width: WIDTH_OF_TEXT, height: None, colored: false };
    output::data(&(lines(&model, paper).join("\n") + "\n"))?;
    Ok(Exit::Done)
}

async fn live(
    context: &Context,
    client: &Client,
    query: &StatsQuery,
    mut model: Model,
) -> Result<Exit, Failure> {
    let mut resized = listen(SignalKind::window_change())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut screen = Screen::enter()?;
    let mut typed = keyboard();
    let mut sampling = Box::pin(sample(client, query, Instant::now() + APART));
    loop {
        let (width, height) = terminal_size();
        let paper = Paper { width, height: Some(height), colored: context.terminal.colored() };
        screen.show(&lines(&model, paper))?;
        tokio::select! {
            bytes = typed.recv() => {
                // A keyboard that has gone cannot say when to end.
                let Some(bytes) = bytes else { return Ok(Exit::Done) };
                for key in keys::keys(&bytes) {
                    if model.press(key, paper.page()) == Step::Quit {
                        return Ok(Exit::Done);
                    }
                }
            }
            (stats, begun) = &mut sampling => {
                match stats {
                    Ok(stats) => model.sample(stats),
                    // The server may be on its way back; what was there last stays in sight.
                    Err(error) => model.error = Some(error.to_string()),
                }
                sampling.set(sample(client, query, begun + APART));
            }
            _ = resized.recv() => {}
            _ = terminate.recv() => return Ok(Exit::Interrupted),
            _ = hang_up.recv() => return Ok(Exit::Interrupted),
            _ = interrupt.recv() => return Ok(Exit::Interrupted),
        }
    }
}

/// A sample, not before `at`, and when it was asked for.
async fn sample(
    client: &Client,
    query: &StatsQuery,
    at: Instant,
) -> (Result<Stats, chassis_client::Error>, Instant) {
    tokio::time::sleep_until(at).await;
    let begun = Instant::now();
    (client.stats(query).await, begun)
}

/// What is typed, read on a thread that ends with the process: nothing can call it back from its read.
fn keyboard() -> mpsc::UnboundedReceiver<Vec<u8>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 256];
        while let Ok(length @ 1..) = stdin.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|source| Failure::Io { what: "cannot listen to signals".to_owned(), source })
}
