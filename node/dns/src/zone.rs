//! The cluster's domain, and the records that are about itself.

use hickory_proto::{
    ProtoError,
    rr::{
        Name, RData, Record,
        rdata::{NS, SOA},
    },
};

/// Of what the cluster says: CoreDNS' default.
pub const TTL: u32 = 5;
/// Of the version of the specification, which does not change: as in its example.
pub const VERSION_TTL: u32 = 28_800;

/// As CoreDNS has them; nobody transfers this zone.
const REFRESH: i32 = 7200;
const RETRY: i32 = 1800;
const EXPIRE: i32 = 86_400;

#[derive(Clone, Debug)]
pub struct Zone {
    pub name: Name,
    server: Name,
    mailbox: Name,
}

impl Zone {
    /// `domain` such as `cluster.local`, with a dot at its end or without.
    pub fn new(domain: &str) -> Result<Self, ProtoError> {
        let mut name = Name::from_ascii(domain)?.to_lowercase();
        name.set_fqdn(true);
        Ok(Self {
            server: name.prepend_label("dns")?.prepend_label("ns")?,
            mailbox: name.prepend_label("hostmaster")?,
            name,
        })
    }

    /// For the authority section: `owner` is the zone, or one of reverse names.
    pub fn soa(&self, owner: Name, serial: u32) -> Record {
        let data = SOA::new(
            self.server.clone(),
            self.mailbox.clone(),
            serial,
            REFRESH,
            RETRY,
            EXPIRE,
            TTL,
        );
        Record::from_rdata(owner, TTL, RData::SOA(data))
    }

    pub fn name_server(&self, owner: Name) -> Record {
        Record::from_rdata(owner, TTL, RData::NS(NS(self.server.clone())))
    }

    pub fn server(&self) -> &Name {
        &self.server
    }

    /// `labels` below the zone, the nearest to it last; `None` for a name that is
    /// too long.
    pub fn below(&self, labels: &[&str]) -> Option<Name> {
        let labels = labels.iter().map(|label| label.as_bytes());
        let name = Name::from_labels(labels.chain(self.name.iter())).ok()?;
        Some(name)
    }
}
