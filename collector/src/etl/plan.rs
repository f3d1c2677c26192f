//! What is to be started now. Pure.

use super::schedule::Schedule;
use super::store::{JobRun, Status, Why};
use shared::reading::Timestamp;
use std::time::Duration;

/// How often a run is begun before it is left until it is due again.
pub(super) const ATTEMPTS_MAX: u32 = 4;

/// What to do about a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Nothing now.
    Wait,
    /// It was never seen: what was due before is not caught up.
    MarkNew(Timestamp),
    /// It was begun by a clock that was ahead: nothing would be due until then. It is caught up as if it had missed some.
    MarkBack(Timestamp),
    /// Begin a run.
    Begin(Why),
}

/// How long after the end of an attempt the next one begins: 1, 5, 25 minutes.
fn pause_after(attempt: u32) -> Duration {
    Duration::from_secs(60 * 5u64.pow(attempt.clamp(1, ATTEMPTS_MAX) - 1))
}

/// Decides. `mark` is up to which planned time it was begun, `last` its newest run. However many times were missed, the
/// newest of them is begun once.
pub(super) fn decide(schedule: &Schedule, mark: Option<Timestamp>, last: Option<&JobRun>, now: Timestamp) -> Decision {
    if last.is_some_and(|run| run.status == Status::Running) {
        return Decision::Wait;
    }
    let due = schedule.last_due(now);
    match (due, mark) {
        (Some(due), None) => return Decision::MarkNew(due),
        (Some(due), Some(mark)) if due > mark => return Decision::Begin(Why::Due(due)),
        // By less the clock may have been put right while it was due; doing that again would be twice.
        (Some(due), Some(mark)) if schedule.next_after(now).is_some_and(|next| mark > next) => {
            return Decision::MarkBack(due.plus_micros(-1));
        }
        _ => {}
    }
    let Some(run) = last.filter(|run| run.attempt < ATTEMPTS_MAX) else { return Decision::Wait };
    let ended = run.finished_at.unwrap_or(run.started_at);
    let pause = match run.status {
        Status::Failed => pause_after(run.attempt),
        Status::Interrupted => Duration::ZERO,
        Status::Running | Status::Done => return Decision::Wait,
    };
    // A clock that went back doesn't hold it up for longer than the pause.
    let waited = now.since(ended);
    if waited < 0 || waited >= pause.as_micros() as i64 {
        Decision::Begin(Why::Again { due: run.due, attempt: run.attempt + 1 })
    } else {
        Decision::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etl::schedule::zone;
    use crate::etl::store::RunNo;

    const MINUTE: i64 = 60_000_000;

    fn daily() -> Schedule {
        Schedule::parse("0 2 * * *", zone("Europe/Rome").unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn run(status: Status, attempt: u32, finished: Timestamp) -> JobRun {
        JobRun {
            number: RunNo(1),
            job: "daily".into(),
            due: Some(at("2026-06-02T00:00:00Z")),
            attempt,
            owner: "a".into(),
            status,
            started_at: finished.plus_micros(-MINUTE),
            finished_at: (status != Status::Running).then_some(finished),
            steps_done: 0,
            steps: 0,
            rows: None,
            detail: None,
            error: None,
        }
    }

    #[test]
    fn a_new_job_waits_for_its_first_time() {
        let now = at("2026-06-02T10:00:00Z");
        assert_eq!(decide(&daily(), None, None, now), Decision::MarkNew(at("2026-06-02T00:00:00Z")));
        assert_eq!(decide(&daily(), Some(at("2026-06-02T00:00:00Z")), None, now), Decision::Wait);
    }

    #[test]
    fn however_many_were_missed_one_is_caught_up() {
        let decision = decide(&daily(), Some(at("2026-05-01T00:00:00Z")), None, at("2026-06-02T10:00:00Z"));
        assert_eq!(decision, Decision::Begin(Why::Due(at("2026-06-02T00:00:00Z"))));
    }

    #[test]
    fn after_a_clock_that_was_ahead_it_is_due_again_and_after_a_small_step_it_is_not_done_twice() {
        let (now, due) = (at("2026-06-02T10:00:00Z"), at("2026-06-02T00:00:00Z"));
        let back = due.plus_micros(-1);
        assert_eq!(decide(&daily(), Some(at("2028-02-29T01:00:00Z")), None, now), Decision::MarkBack(back));
        assert_eq!(decide(&daily(), Some(back), None, now), Decision::Begin(Why::Due(due)));
        let just_before = due.plus_micros(-20 * MINUTE);
        assert_eq!(decide(&daily(), Some(due), None, just_before), Decision::Wait);
    }

    #[test]
    fn what_is_running_is_left_alone_though_it_is_due_again() {
        let running = run(Status::Running, 1, at("2026-06-02T00:10:00Z"));
        let mark = Some(at("2026-06-02T00:00:00Z"));
        assert_eq!(decide(&daily(), mark, Some(&running), at("2026-06-03T10:00:00Z")), Decision::Wait);
    }

    #[test]
    fn a_failure_is_tried_again_after_growing_pauses_and_then_left() {
        let (ended, mark) = (at("2026-06-02T00:10:00Z"), Some(at("2026-06-02T00:00:00Z")));
        for (attempt, minutes) in [(1, 1), (2, 5), (3, 25)] {
            let failed = run(Status::Failed, attempt, ended);
            let ask = |after| decide(&daily(), mark, Some(&failed), ended.plus_micros(after));
            assert_eq!(ask(minutes * MINUTE - 1), Decision::Wait, "attempt {attempt}");
            let again = Decision::Begin(Why::Again { due: failed.due, attempt: attempt + 1 });
            assert_eq!(ask(minutes * MINUTE), again);
        }
        let last = run(Status::Failed, ATTEMPTS_MAX, ended);
        assert_eq!(decide(&daily(), mark, Some(&last), ended.plus_micros(600 * MINUTE)), Decision::Wait);
    }

    #[test]
    fn what_was_interrupted_goes_on_at_once_and_what_is_done_is_done() {
        let (ended, mark) = (at("2026-06-02T00:10:00Z"), Some(at("2026-06-02T00:00:00Z")));
        let interrupted = run(Status::Interrupted, 1, ended);
        let again = Decision::Begin(Why::Again { due: interrupted.due, attempt: 2 });
        assert_eq!(decide(&daily(), mark, Some(&interrupted), ended), again);
        assert_eq!(
            decide(&daily(), mark, Some(&run(Status::Done, 1, ended)), ended.plus_micros(MINUTE)),
            Decision::Wait
        );
    }

    #[test]
    fn a_year_begins_a_daily_job_once_a_day() {
        let (schedule, mut mark, mut begun) = (daily(), None, 0);
        let start = at("2026-01-01T12:00:00Z");
        for minute in (0..365 * 24 * 60).step_by(7) {
            match decide(&schedule, mark, None, start.plus_micros(minute * MINUTE)) {
                Decision::MarkNew(due) => mark = Some(due),
                Decision::Begin(Why::Due(due)) => (mark, begun) = (Some(due), begun + 1),
                other => assert_eq!(other, Decision::Wait),
            }
        }
        assert_eq!(begun, 365, "both nights in which the clock changes included");
    }
}
