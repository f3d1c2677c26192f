//! Taking in: what gateways send is checked, put on disk, and acknowledged.

pub mod aside;
pub mod catalogues;
pub mod check;
pub mod item;
pub mod ledger;
pub mod sessions;
