//! Where addresses come from: what the API server was started with, then the ServiceCIDRs people have added.

use ipnet::IpNet;
use serde_json::Value;
use vetch_server::Server;
use vetch_server::status::Result;
use vetch_store::Precondition;

use super::super::ranges::Range;
use super::{Services, texts};
use crate::admission::list;

pub(super) struct Pool {
    pub(super) range: Range,
    /// Key and revision of its ServiceCIDR.
    source: Option<(String, i64)>,
}

impl Pool {
    /// An address is only given while its ServiceCIDR is as it was read: one that is being deleted gives none, so
    /// that whoever ends the deletion sees all there are.
    pub(super) fn condition(&self) -> Option<Precondition> {
        let (key, revision) = self.source.clone()?;
        Some(Precondition::At(key, revision))
    }
}

impl Services {
    /// Those of a family. `newest`: a ServiceCIDR that was written a moment ago counts, too.
    pub(super) async fn pools(
        &self,
        server: &Server,
        family: &str,
        newest: bool,
    ) -> Result<Vec<Pool>> {
        let own = self.addresses.iter().filter(|own| own.family() == family);
        let mut pools: Vec<Pool> = own
            .map(|own| Pool {
                range: own.clone(),
                source: None,
            })
            .collect();
        let row = server.row("networking.k8s.io", "servicecidrs")?;
        let prefix = vetch_server::request::storage_prefix(row);
        let cache = server.cache(row)?;
        if newest {
            cache
                .wait_for(server.store.current_revision().await?)
                .await?;
        }
        for object in cache.list(&prefix).objects {
            let networks = texts(&object.value, "/spec/cidrs").into_iter();
            let added = networks
                .filter_map(|network| network.parse::<IpNet>().ok())
                .filter(|network| is_ready(&object.value) && !self.has(network))
                .map(Range::addresses)
                .filter(|range| range.family() == family);
            pools.extend(added.map(|range| Pool {
                range,
                source: Some((object.key.clone(), object.revision)),
            }));
        }
        Ok(pools)
    }

    fn has(&self, network: &IpNet) -> bool {
        self.addresses.iter().any(|own| own.is(network))
    }
}

fn is_ready(cidr: &Value) -> bool {
    let mut conditions = list(cidr, "/status/conditions").iter();
    cidr["metadata"]["deletionTimestamp"].is_null()
        && conditions.any(|own| own["type"] == "Ready" && own["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_ready_one_gives_addresses() {
        let conditions =
            |status: &str| json!({"conditions": [{"type": "Ready", "status": status}]});
        let ready = json!({"metadata": {}, "status": conditions("True")});
        assert!(is_ready(&ready));
        assert!(!is_ready(&json!({"metadata": {}})));
        assert!(!is_ready(
            &json!({"metadata": {}, "status": conditions("False")})
        ));
        let mut going = ready;
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(!is_ready(&going));
    }
}
