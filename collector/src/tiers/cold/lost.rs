//! Days that an archive should have and hasn't, or can't read.

use crate::tiers::{Day, Proof};

/// Days that are named.
const NAMED: usize = 3;

/// What of the archive isn't what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The days that lie there, ascending.
    pub days: Vec<Day>,
    /// Where, why, and what may be done.
    pub why: String,
}

/// Where, how many, the first of them, and what may be done.
#[must_use]
pub fn words(place: &str, days: &[Day]) -> String {
    let count = counted(days.len() as u64);
    format!(
        "{place} doesn't have {count} that were archived there ({}): is it mounted, and is it what [cold] should name? \
         If files were lost, put them back from a copy; what the database still has, daily_sync archives again",
        some(days)
    )
}

/// Of a day that isn't what was archived: what was, what is there, and what may be done.
#[must_use]
pub fn other_words(place: &str, archived: Proof, there: Proof) -> String {
    let readings = if archived.rows == there.rows {
        format!("{} readings, but others", there.rows)
    } else {
        format!("{} readings instead of {}", there.rows, archived.rows)
    };
    format!(
        "what {place} has of it isn't what was archived there ({readings}): is that an older copy? Put the newest one back; \
         what came late for the day stays in the database until then"
    )
}

/// So many days.
#[must_use]
pub fn counted(days: u64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

/// What is damaged, of which days, and which of them are nowhere else.
#[must_use]
pub fn damage_words(damage: &Damage, is_here: impl Fn(Day) -> bool) -> String {
    let gone: Vec<Day> = damage.days.iter().filter(|day| !is_here(**day)).copied().collect();
    let database = if gone.is_empty() {
        "the database still has all of it".to_owned()
    } else {
        format!("the database doesn't have {} any more", some(&gone))
    };
    format!("{} ({}; {database})", damage.why, some(&damage.days))
}

/// The first of them, by name.
#[must_use]
pub fn some(days: &[Day]) -> String {
    let named: Vec<String> = days.iter().take(NAMED).map(Day::to_string).collect();
    let more = if days.len() > NAMED { ", …" } else { "" };
    named.join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_days_are_named() {
        let said = words("/srv/cold", &[Day(20_000)]);
        assert!(said.starts_with("/srv/cold doesn't have 1 day that") && said.contains("(2024-10-04)"), "{said}");
        let days: Vec<Day> = (20_000..20_090).map(Day).collect();
        let said = words("/srv/cold", &days);
        assert!(said.contains("90 days") && said.contains("(2024-10-04, 2024-10-05, 2024-10-06, …)"), "{said}");
    }

    #[test]
    fn of_what_is_damaged_it_is_said_what_is_nowhere_else() {
        let damage = Damage { days: [20_000, 20_001].map(Day).into(), why: "x is damaged".into() };
        assert_eq!(
            damage_words(&damage, |_| true),
            "x is damaged (2024-10-04, 2024-10-05; the database still has all of it)"
        );
        let said = damage_words(&damage, |day| day == Day(20_000));
        assert_eq!(said, "x is damaged (2024-10-04, 2024-10-05; the database doesn't have 2024-10-05 any more)");
    }
}
