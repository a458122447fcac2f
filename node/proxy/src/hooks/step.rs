//! The steps of a plan, taken: programs come to their places, change there and leave.

use std::{io, os::fd::AsFd as _};

use tracing::{debug, info};
use vetch_network::netns_cookie;

use super::{
    Hooks, HooksError, clsact, pinned,
    plan::{Kind, Place, Program, Step},
};

impl Hooks {
    pub(super) fn step(&mut self, step: Step) -> Result<(), HooksError> {
        if netns_cookie().map_err(HooksError::Netns)? != self.netns {
            return Err(HooksError::WrongNetns);
        }
        let (place, done, word) = match step {
            Step::Attach(place, Kind::Xdp) => (place, self.attach_at_driver(place), "attach"),
            Step::Attach(place, _) => (place, self.attach(place), "attach"),
            Step::Replace(place, kind) => (place, self.replace(place, kind), "replace"),
            Step::Detach(place, kind) => (place, self.detach(place, kind), "detach"),
        };
        let program = place.program.name();
        match done {
            Ok(()) => {
                debug!(
                    program,
                    ifindex = place.ifindex,
                    step = word,
                    "program at link"
                );
                Ok(())
            }
            // The link went meanwhile: whoever took it will say so.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                self.found.remove(&place);
                Ok(())
            }
            Err(error) if place.program == Program::FromWire => {
                self.not_at_driver(place, word, error)
            }
            Err(source) => Err(HooksError::Step {
                step: word,
                program,
                link: self.link_name(place.ifindex),
                source,
            }),
        }
    }

    fn attach(&mut self, place: Place) -> io::Result<()> {
        let dir = self.pins();
        let program = &self.programs[&place.program];
        if self.kind == Kind::Tcx {
            match pinned::attach(&dir, place, program.fd.as_fd(), 0) {
                // Before 6.6 the kernel does not know such links.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    info!("this kernel has no tcx: programs are attached as clsact filters");
                    self.kind = Kind::Clsact;
                }
                attached => return attached.map(|()| self.record(place, Kind::Tcx)),
            }
        }
        let program = &self.programs[&place.program];
        clsact::attach(&mut self.netlink, place, program.fd.as_fd())?;
        self.record(place, Kind::Clsact);
        Ok(())
    }

    fn replace(&mut self, place: Place, kind: Kind) -> io::Result<()> {
        let program = self.programs[&place.program].fd.as_fd();
        match kind {
            Kind::Tcx | Kind::Xdp => pinned::replace(&self.pins(), place, program)?,
            Kind::Clsact => clsact::replace(&mut self.netlink, place, program)?,
        }
        self.record(place, kind);
        Ok(())
    }

    fn detach(&mut self, place: Place, kind: Kind) -> io::Result<()> {
        match kind {
            Kind::Tcx | Kind::Xdp => pinned::detach(&self.pins(), place)?,
            Kind::Clsact => clsact::detach(&mut self.netlink, place)?,
        }
        if let Some(found) = self.found.get_mut(&place) {
            found.set(kind, None);
        }
        Ok(())
    }

    pub(super) fn record(&mut self, place: Place, kind: Kind) {
        let id = self.programs[&place.program].id;
        self.found.entry(place).or_default().set(kind, Some(id));
    }
}
