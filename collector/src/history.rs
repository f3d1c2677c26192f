//! One question about a series' past, answered from all tiers.
