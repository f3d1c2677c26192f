//! File descriptors: as many as this process may have, and what of them is for the API.

use crate::api::Connections;
use crate::config::Config;
use rustix::process::{Resource, getrlimit, setrlimit};

/// The API has this part of all descriptors at most: gateways, tiers and files have the rest.
const PART: usize = 4;
/// What files, tiers and jobs take.
const OTHERS: usize = 200;
/// With fewer than these nobody could look anything up.
const API_MIN: usize = 16;

/// Takes as many as the system gives.
pub(super) fn raise() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "no more file descriptors can be had");
    }
}

/// How many connections the API may have, so that gateways find room.
pub(super) fn for_api(config: &Config) -> Connections {
    let all = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
    let connections = fitting(Connections::default(), all);
    let needed = config.ingest.connections_max.saturating_add(connections.most + OTHERS);
    if needed > all {
        tracing::warn!(
            "this process may have {all} file descriptors, and {needed} may be needed; raise LimitNOFILE of its unit, or \
             lower [ingest] connections_max"
        );
    }
    connections
}

fn fitting(wanted: Connections, descriptors: usize) -> Connections {
    Connections { most: wanted.most.min((descriptors / PART).max(API_MIN)), ..wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_leaves_most_descriptors_to_others() {
        let most = |descriptors| fitting(Connections::default(), descriptors).most;
        assert_eq!((most(1 << 20), most(1_024), most(10)), (2_000, 256, API_MIN));
    }

    #[test]
    fn as_many_are_taken_as_the_system_gives() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
