//! The program at the drivers of uplinks: where it does not get to, nothing is
//! different but the time that packets take.

use std::{io, os::fd::AsFd as _};

use tracing::info;

use super::{
    Hooks, HooksError, Xdp,
    links::Uplink,
    pinned,
    plan::{Kind, Place, Program},
    xdp::XDP_FLAGS_DRV_MODE,
};
use crate::proxy::chain;

impl Hooks {
    pub(super) fn at_drivers(&self) -> impl Iterator<Item = Place> {
        let wants = |(ifindex, uplink): &(&u32, &Uplink)| {
            self.config.xdp.wants(uplink) && !self.declined.contains(ifindex)
        };
        let uplinks = self.node.uplinks.iter().filter(wants);
        uplinks.map(|(ifindex, _)| Place {
            program: Program::FromWire,
            ifindex: *ifindex,
        })
    }

    pub(super) fn attach_at_driver(&mut self, place: Place) -> io::Result<()> {
        let program = self.programs[&place.program].fd.as_fd();
        pinned::attach(&self.pins(), place, program, XDP_FLAGS_DRV_MODE)?;
        self.record(place, Kind::Xdp);
        Ok(())
    }

    /// What does not work there costs nothing but time.
    pub(super) fn not_at_driver(
        &mut self,
        place: Place,
        step: &'static str,
        source: io::Error,
    ) -> Result<(), HooksError> {
        let link = self.link_name(place.ifindex);
        let is_taken = matches!(source.raw_os_error(), Some(libc::EBUSY | libc::EEXIST));
        let error = if is_taken {
            HooksError::DriverTaken { link }
        } else {
            HooksError::Driver { step, link, source }
        };
        if self.config.xdp != Xdp::Auto {
            return Err(error);
        }
        info!(error = chain(&error), "not tried again");
        self.declined.insert(place.ifindex);
        Ok(())
    }
}
