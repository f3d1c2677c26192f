//! How good the forecasts are on public data: the inflow of ten districts, hour by hour, and the first two weeks of the
//! Battle of the Water Demand Forecasting (WDSA/CCWI 2024).
//!
//! `cargo run --release --example bwdf_score -- inflow_lps.csv.gz`
//!
//! PI1 is the mean absolute error of the first day, PI2 its greatest error, PI3 the mean absolute error of the six days
//! after it; in L/s, averaged over districts and weeks.
#![allow(clippy::unwrap_used)] // a program for people who look at its output

use collector::analytics::forecast::{Score, forecast, score};
use collector::rollup::Sample;
use flate2::read::GzDecoder;
use jiff::tz::TimeZone;
use shared::reading::Timestamp;
use std::fs::File;

/// Mondays at midnight in Rome.
const ORIGINS: [&str; 2] = ["2022-07-24T22:00:00Z", "2022-10-30T23:00:00Z"];

fn main() {
    let path = std::env::args().nth(1).expect("the file inflow_lps.csv.gz as argument");
    let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut reader = csv::Reader::from_reader(GzDecoder::new(file));
    let districts = reader.headers().unwrap().len() - 1;
    let mut series = vec![Vec::new(); districts];
    for row in reader.records() {
        let row = row.unwrap();
        let at: Timestamp = row[0].parse().unwrap();
        for (n, hours) in series.iter_mut().enumerate() {
            if let Ok(value) = row[n + 1].parse() {
                hours.push(Sample { at, value });
            }
        }
    }
    let zone = TimeZone::get("Europe/Rome").unwrap();
    let (mut sums, mut weeks, mut day, mut week) = ([0.0; 3], 0.0, Score::default(), Score::default());
    for hours in &series {
        for origin in ORIGINS {
            let points = forecast(hours, origin.parse().unwrap(), &zone);
            let Some(scores) = score(&points, hours) else { continue };
            let (first, all) = (scores.day, scores.week);
            let worst = points[..24].iter().filter_map(|point| {
                let seen = hours.iter().find(|hour| hour.at == point.at)?;
                Some((seen.value - point.value).abs())
            });
            let rest = (all.off - first.off) / f64::from(all.hours - first.hours);
            let indicators = [first.mae().unwrap(), worst.fold(0.0, f64::max), rest];
            sums.iter_mut().zip(indicators).for_each(|(sum, indicator)| *sum += indicator);
            weeks += 1.0;
            day.add(&first);
            week.add(&all);
        }
    }
    let [pi1, pi2, pi3] = sums.map(|sum| sum / weeks);
    println!("PI1 {pi1:.3}  PI2 {pi2:.3}  PI3 {pi3:.3}   of {weeks} weeks of districts");
    for (name, score) in [("first day", day), ("whole week", week)] {
        let share = |within: u32| 100.0 * f64::from(within) / f64::from(score.hours);
        println!(
            "{name}: within the 50 % interval {:.1} %, within the 90 % {:.1} %",
            share(score.within50),
            share(score.within90)
        );
    }
}
