//! Days that an archive should have and hasn't.

use crate::tiers::Day;

/// Days that are named.
const NAMED: usize = 3;

/// Where, how many, the first of them, and what may be done.
#[must_use]
pub fn words(place: &str, days: &[Day]) -> String {
    let named: Vec<String> = days.iter().take(NAMED).map(Day::to_string).collect();
    let more = if days.len() > NAMED { ", …" } else { "" };
    let count = if days.len() == 1 { "1 day".to_owned() } else { format!("{} days", days.len()) };
    format!(
        "{place} doesn't have {count} that were archived there ({}{more}): is it mounted, and is it what [cold] should name? \
         If files were lost, put them back from a copy; what the database still has, daily_sync archives again",
        named.join(", ")
    )
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
}
