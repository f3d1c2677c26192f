//! Regular work on what is stored: the scheduler and its jobs.
//!
//! * `schedule`: when a job is due, in a time zone with its doubled and missing hours (pure)
//! * `store`: what is kept of runs, and what keeps collectors from doing one thing twice (a trait of the warm tier)
//! * `archive`: a day on its way from the warm tier into the archive
//! * `ledger`: of each archive day whether the archive has what the warm tier has (another one)
//! * `lost`: what was archived and can't be read from the archive any more
//! * `plan`: what is to be started now (pure)
//! * `scheduler`: starts, watches, writes down
//! * `jobs`: the jobs themselves

pub mod archive;
pub mod jobs;
pub mod ledger;
pub mod lost;
mod plan;
pub mod schedule;
mod scheduler;
pub mod store;

pub use scheduler::{Job, JobError, Now, Outcome, Pace, Planned, Progress, RunRefused, Scheduler};
