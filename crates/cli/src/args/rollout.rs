//! Flags of `chassis rollout`.

use clap::{Args, Subcommand};

use super::{Output, Wait};

#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Show how far the present revision is, and wait for its end
    Status(RolloutStatusArgs),
    /// List the revisions of an agent
    History(RolloutHistory),
    /// Go back to an earlier revision
    Undo(RolloutUndoArgs),
    /// Replace no further instance for now
    Pause {
        #[command(flatten)]
        target: AgentTarget,
    },
    /// Go on with a rollout that was paused
    Resume {
        #[command(flatten)]
        target: AgentTarget,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AgentTarget {
    /// An agent: `data-collector`, `agent data-collector`, `collector/data-collector`
    #[arg(value_name = "[agent] NAME", num_args = 1..=2, required = true)]
    pub(crate) target: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutStatusArgs {
    #[command(flatten)]
    pub(crate) target: AgentTarget,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutHistory {
    #[command(flatten)]
    pub(crate) target: AgentTarget,
    /// Show the definition of this revision, as YAML
    #[arg(long, value_name = "N")]
    pub(crate) revision: Option<u64>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutUndoArgs {
    #[command(flatten)]
    pub(crate) target: AgentTarget,
    /// Revision to go back to [default: the last other one that was complete]
    #[arg(long, value_name = "N")]
    pub(crate) to_revision: Option<u64>,
    /// Show what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}
