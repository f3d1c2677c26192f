//! The warm tier in one SQLite file.
