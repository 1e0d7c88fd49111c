//! The process's limit of open files. Each connection is one; when none is left, nothing can be opened
//! any more: no connection to Slack, no page of the admin port.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process opens in addition to the connections of its webhook port: the admin port, Slack's port, the
/// store, the queue, requests it makes.
const RESERVED: usize = 512;

/// Raises the limit of this process as far as the system allows. Login shells and containers often begin
/// with 1024, because old programs cannot handle more.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = limit.current, "cannot raise the limit of open files");
    }
}

/// How many connections the webhook port may have: `wanted`, which is `limits.connections`, or what
/// the limit of open files leaves for it. Then a warning names the fix.
pub fn connections_within_limit(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let accepted = fitting(limit, wanted);
    if accepted < wanted {
        let needed = wanted.saturating_add(RESERVED);
        tracing::warn!(
            "the limit of open files is {limit}, but limits.connections = {wanted} needs {needed}: only {accepted} \
             connections are accepted; raise the limit (LimitNOFILE= in systemd, ulimits.nofile in Compose, ulimit -Hn \
             in a shell) or lower limits.connections"
        );
    }
    accepted
}

fn fitting(limit: usize, wanted: usize) -> usize {
    let room = limit.saturating_sub(RESERVED).max(limit / 4).max(1);
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        for (limit, wanted, expected) in [
            (usize::MAX, 4096, 4096),
            (65_536, 4096, 4096),
            (4608, 4096, 4096),
            (4607, 4096, 4095),
            (1024, 4096, 512),
            (256, 4096, 64),
            (0, 4096, 1),
            (1024, 100, 100),
        ] {
            assert_eq!(fitting(limit, wanted), expected, "{limit} {wanted}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_the_systems() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
