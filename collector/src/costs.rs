//! What the tiers cost in a month, and what it would cost to keep and ask everything in BigQuery alone. Pure.

use crate::config::Mistakes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What BigQuery counts for a question at least, bytes (its pricing page, "on-demand compute": 10 MB for each table).
const QUESTION_BYTES_MIN: f64 = 10e6;
const TB: f64 = 1e12;
const MONTH_S: f64 = 30.0 * 86_400.0;
/// Questions of less time foretell nothing, seconds.
const SECONDS_MIN: f64 = 3_600.0;

/// `[costs]`: prices. Those given here are the ones of the reference architecture.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CostSettings {
    /// In which money.
    pub currency: String,
    /// The PostgreSQL server, a month.
    pub warm_month: f64,
    /// The Redis server, a month.
    pub hot_month: f64,
    /// Keeping a terabyte in BigQuery or an object store, a month.
    pub archive_tb_month: f64,
    /// Asking BigQuery for a terabyte.
    pub question_tb: f64,
}

impl Default for CostSettings {
    fn default() -> Self {
        Self { currency: "USD".into(), warm_month: 50.0, hot_month: 20.0, archive_tb_month: 10.0, question_tb: 5.0 }
    }
}

impl CostSettings {
    /// What can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut found = Mistakes::default();
        for (key, price) in [
            ("costs.warm_month", self.warm_month),
            ("costs.hot_month", self.hot_month),
            ("costs.archive_tb_month", self.archive_tb_month),
            ("costs.question_tb", self.question_tb),
        ] {
            found.unless((0.0..=1e9).contains(&price), key, price, "a price from 0 to 1000000000 is needed");
        }
        found
    }
}

/// Which tiers cost something by themselves.
#[derive(Clone, Debug, Default)]
pub struct Paid {
    /// Their prices.
    pub prices: CostSettings,
    /// The warm tier is a server.
    pub warm: bool,
    /// The hot tier is a server.
    pub hot: bool,
    /// The archive lies in a cloud.
    pub cold: bool,
}

/// What is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    /// Bytes in the warm tier.
    pub warm_bytes: u64,
    /// Bytes in the archive.
    pub cold_bytes: u64,
    /// Questions that were answered.
    pub questions: u64,
    /// In so many seconds.
    pub seconds: f64,
}

/// Costs of a month, rough.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Costs {
    /// In which money.
    pub currency: String,
    /// The hot tier.
    pub hot: f64,
    /// The warm tier.
    pub warm: f64,
    /// The archive.
    pub cold: f64,
    /// All of them.
    pub total: f64,
    /// Everything in BigQuery, asked there each time.
    pub all_in_bigquery: Alone,
}

/// Costs without the other tiers.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Alone {
    /// Keeping what both the warm tier and the archive hold.
    pub storage: f64,
    /// The questions of a month, as many as were asked since the start, each of 10 MB, which is the least that is
    /// counted: the real figure is higher.
    pub questions: f64,
    /// How many they are; null in the first hour after the start, which foretells nothing.
    pub questions_a_month: Option<f64>,
    /// Both.
    pub total: f64,
}

impl Paid {
    /// The costs of a month.
    #[must_use]
    pub fn costs(&self, used: &Use) -> Costs {
        let prices = &self.prices;
        let server = |paid: bool, price: f64| if paid { price } else { 0.0 };
        let kept = |bytes: u64| bytes as f64 / TB * prices.archive_tb_month;
        let (hot, warm) = (server(self.hot, prices.hot_month), server(self.warm, prices.warm_month));
        let cold = server(self.cold, kept(used.cold_bytes));
        let a_month = (used.seconds >= SECONDS_MIN).then(|| used.questions as f64 / used.seconds * MONTH_S);
        let storage = kept(used.cold_bytes.max(used.warm_bytes));
        let questions = a_month.unwrap_or(0.0) * QUESTION_BYTES_MIN / TB * prices.question_tb;
        Costs {
            currency: prices.currency.clone(),
            hot,
            warm,
            cold,
            total: hot + warm + cold,
            all_in_bigquery: Alone { storage, questions, questions_a_month: a_month, total: storage + questions },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_table_comes_out() {
        let paid = Paid { warm: true, hot: true, cold: true, ..Paid::default() };
        // A terabyte in the archive; 2,880 questions an hour: 2 million a month, 21 terabytes.
        let used =
            Use { warm_bytes: 80_000_000_000, cold_bytes: 1_000_000_000_000, questions: 2_880, seconds: 3_600.0 };
        let costs = paid.costs(&used);
        assert_eq!((costs.hot, costs.warm, costs.cold, costs.total), (20.0, 50.0, 10.0, 80.0));
        let alone = costs.all_in_bigquery;
        assert_eq!((alone.storage, alone.questions_a_month, alone.questions.round()), (10.0, Some(2_073_600.0), 104.0));
    }

    #[test]
    fn what_is_embedded_costs_nothing_and_a_start_foretells_nothing() {
        let costs = Paid::default().costs(&Use {
            cold_bytes: 5_000_000_000_000,
            questions: 10,
            seconds: 5.0,
            ..Use::default()
        });
        assert_eq!((costs.total, costs.all_in_bigquery.total), (0.0, 50.0));
    }
}
