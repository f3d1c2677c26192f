//! Regular work on what is stored: the scheduler and its jobs.
//!
//! * `schedule`: when a job is due, in a time zone with its doubled and missing hours (pure)
//! * `store`: what is kept of runs, and what keeps collectors from doing one thing twice (a trait of the warm tier)
//! * `plan`: what is to be started now (pure)
//! * `scheduler`: starts, watches, writes down
//! * `jobs`: the jobs themselves

pub mod jobs;
mod plan;
pub mod schedule;
mod scheduler;
pub mod store;

pub use scheduler::{Job, JobError, Now, Outcome, Pace, Planned, Progress, RunRefused, Scheduler};
