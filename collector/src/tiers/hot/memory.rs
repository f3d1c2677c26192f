//! The hot tier in this process's memory.
