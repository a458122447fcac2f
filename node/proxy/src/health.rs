//! Whether this node's service proxy is well: `/healthz` and `/livez`, as
//! kube-proxy 1.36 answers them on port 10256.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State as Shared,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;

pub mod node_ports;
pub mod serve;

/// A change that has waited this long has been forgotten: twice kube-proxy's
/// period of full syncs, as there.
const STALLED: Duration = Duration::from_secs(60);

/// The taint of a node that the cluster autoscaler is about to take away.
pub const DELETION_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// What the two paths and the health checks of node ports answer from.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug)]
struct State {
    /// When the maps last held all that was known.
    updated: Option<Timestamp>,
    /// Since when a change has been waiting to be written.
    pending: Option<Instant>,
    /// Load balancers may send traffic to this node.
    eligible: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            updated: None,
            pending: None,
            eligible: true,
        })))
    }
}

impl Health {
    pub fn change_waits(&self, now: Instant) {
        self.state(|state| {
            state.pending.get_or_insert(now);
        });
    }

    pub fn in_sync(&self, now: Timestamp) {
        self.state(|state| {
            state.pending = None;
            state.updated = Some(now);
        });
    }

    pub fn set_eligible(&self, eligible: bool) {
        self.state(|state| state.eligible = eligible);
    }

    /// A proxy that is starting is well: nothing has waited yet.
    pub fn is_well(&self, now: Instant) -> bool {
        self.state(|state| {
            state
                .pending
                .is_none_or(|since| now.duration_since(since) < STALLED)
        })
    }

    /// Whether load balancers should send traffic here.
    fn healthz(&self, now: Instant, time: Timestamp) -> (StatusCode, String) {
        let State {
            updated, eligible, ..
        } = self.state(|state| *state);
        let body = format!(
            r#"{{"lastUpdated": "{}","currentTime": "{time}", "nodeEligible": {eligible}}}"#,
            said(updated)
        );
        (status(self.is_well(now) && eligible), body)
    }

    /// Whether the proxy should go on living; a node that is to be deleted
    /// is no reason to restart it.
    fn livez(&self, now: Instant, time: Timestamp) -> (StatusCode, String) {
        let updated = self.state(|state| state.updated);
        let body = format!(
            r#"{{"lastUpdated": "{}","currentTime": "{time}"}}"#,
            said(updated)
        );
        (status(self.is_well(now)), body)
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The two paths.
pub fn router(health: Health) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(|Shared(health): Shared<Health>| async move {
                json(health.healthz(Instant::now(), Timestamp::now()))
            }),
        )
        .route(
            "/livez",
            get(|Shared(health): Shared<Health>| async move {
                json(health.livez(Instant::now(), Timestamp::now()))
            }),
        )
        .with_state(health)
}

fn status(well: bool) -> StatusCode {
    if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn said(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "never".into(), |time| time.to_string())
}

fn json(answer: (StatusCode, String)) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (answer.0, headers, answer.1).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_until_a_change_is_forgotten() {
        let (health, start) = (Health::default(), Instant::now());
        let time = Timestamp::UNIX_EPOCH;
        assert_eq!(
            health.healthz(start, time),
            (
                StatusCode::OK,
                r#"{"lastUpdated": "never","currentTime": "1970-01-01T00:00:00Z", "nodeEligible": true}"#.into()
            )
        );
        health.change_waits(start);
        health.change_waits(start + Duration::from_secs(50));
        assert!(health.is_well(start + Duration::from_secs(59)));
        let late = start + STALLED;
        assert_eq!(
            health.healthz(late, time).0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(health.livez(late, time).0, StatusCode::SERVICE_UNAVAILABLE);
        health.in_sync(time);
        assert_eq!(
            health.livez(late, time),
            (
                StatusCode::OK,
                r#"{"lastUpdated": "1970-01-01T00:00:00Z","currentTime": "1970-01-01T00:00:00Z"}"#
                    .into()
            )
        );
    }

    #[test]
    fn a_node_that_is_to_go_gets_no_traffic_and_lives_on() {
        let (health, now) = (Health::default(), Instant::now());
        health.set_eligible(false);
        let time = Timestamp::UNIX_EPOCH;
        let (status, body) = health.healthz(now, time);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.ends_with(r#""nodeEligible": false}"#), "{body}");
        assert_eq!(health.livez(now, time).0, StatusCode::OK);
    }
}
