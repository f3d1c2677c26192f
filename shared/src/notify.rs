//! What systemd is told: ready, reloading, stopping, still alive. Without systemd nothing happens.

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Everything listens.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line about how things are, for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// Feeds the watchdog, when there is one, while `alive` says so: while the loops turn, not while they succeed, since
/// an outage is no reason to restart.
pub async fn watchdog(stop: CancellationToken, alive: impl Fn() -> bool) {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(interval / 3);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if alive() {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("a loop stands still; the watchdog is not fed");
        }
    }
}
