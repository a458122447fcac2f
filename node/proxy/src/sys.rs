//! The calls to the kernel that aya 0.14 has no door for: mapping an array,
//! replacing the program of a link, running one that is attached nowhere, and
//! links at an interface by its number.

#![expect(
    unsafe_code,
    reason = "bpf(2), mmap(2) and addresses of packet(7) have no safe wrapper"
)]

use std::{
    ffi::CString,
    io,
    ops::Deref,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// The values of an array map with BPF_F_MMAPABLE (5.5), or the pages of a ring
/// buffer (5.8), as words.
#[derive(Debug)]
pub struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the mapping is valid until drop, and atomics are for sharing.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// `len` in words; the kernel refuses more than the map has.
    pub fn map(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Self::new(map, libc::PROT_READ | libc::PROT_WRITE, 0, len)
    }

    /// What is only to be loaded from; a store would end the process. `offset`
    /// is in bytes.
    pub fn map_to_read(map: BorrowedFd<'_>, offset: usize, len: usize) -> io::Result<Self> {
        Self::new(map, libc::PROT_READ, offset, len)
    }

    fn new(
        map: BorrowedFd<'_>,
        access: libc::c_int,
        offset: usize,
        len: usize,
    ) -> io::Result<Self> {
        // SAFETY: a new shared mapping at an address of the kernel's choice
        // touches nothing of ours; failure is checked below.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<u64>(),
                access,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                offset.cast_signed() as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start, len })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `new` made it `len` words long, page-aligned and readable
        // until drop; others write it only by aligned words too.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no borrow outlives self.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<u64>()) };
    }
}

const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;
/// Attach types (5.9, 6.6).
pub const BPF_XDP: u32 = 37;
pub const BPF_TCX_INGRESS: u32 = 46;
pub const BPF_TCX_EGRESS: u32 = 47;

#[repr(C)]
struct ObjPath {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct GetNextKey {
    map_fd: u32,
    pad: u32,
    key: u64,
    next_key: u64,
}

/// The head of the arm for `BPF_PROG_TEST_RUN`.
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The arm of `BPF_LINK_CREATE` for tcx; XDP's is its head.
#[repr(C)]
struct InterfaceCreate {
    prog_fd: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    pad: u32,
    expected_revision: u64,
}

/// As of 6.6.
#[repr(C)]
struct ProgQuery {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The head of `struct bpf_link_info`, with the arm for cgroup links.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkInfo {
    kind: u32,
    pub id: u32,
    pub program_id: u32,
    pad: u32,
    /// 0 once the cgroup is gone.
    pub cgroup_id: u64,
    attach_type: u32,
    pad_end: u32,
}

impl LinkInfo {
    /// The interface, 0 once it is gone, and the attach type of a link to one.
    pub fn interface(&self) -> Option<(u32, u32)> {
        // The arm for tcx is these two, where others have one number; XDP's is
        // the first.
        let arm = self.cgroup_id.to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = arm;
        let interface = u32::from_ne_bytes([a, b, c, d]);
        match self.kind {
            BPF_LINK_TYPE_TCX => Some((interface, u32::from_ne_bytes([e, f, g, h]))),
            BPF_LINK_TYPE_XDP => Some((interface, BPF_XDP)),
            _ => None,
        }
    }
}

/// A program at an interface of the calling thread's network namespace: by tcx
/// behind those that are there (6.6), by XDP if there is none (5.9).
pub fn link_attach(
    program: impl AsFd,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = InterfaceCreate {
        prog_fd: raw(&program),
        ifindex,
        attach_type,
        flags,
        relative_fd: 0,
        pad: 0,
        expected_revision: 0,
    };
    new_fd(bpf(BPF_LINK_CREATE, &mut attr)?)
}

/// The most programs that the kernel takes at one place (BPF_MPROG_MAX).
const MOST_PROGRAMS: usize = 64;

/// The numbers of the tcx links at an interface; 0 for programs without one.
pub fn tcx_links(ifindex: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let (mut programs, mut links) = ([0_u32; MOST_PROGRAMS], [0_u32; MOST_PROGRAMS]);
    let mut attr = ProgQuery {
        ifindex,
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: programs.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        pad: 0,
        prog_attach_flags: 0,
        link_ids: links.as_mut_ptr() as u64,
        link_attach_flags: 0,
        revision: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    Ok(links.into_iter().take(attr.count as usize).collect())
}

pub fn obj_pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjPath {
        pathname: path.as_ptr() as u64,
        bpf_fd: raw(&object),
        file_flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(|_| ())
}

/// Opens what is pinned at `path`.
pub fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjPath {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    new_fd(bpf(BPF_OBJ_GET, &mut attr)?)
}

/// What a command that makes a descriptor returned.
fn new_fd(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program in the link's place at one instant (5.7).
pub fn link_update(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link_fd: raw(&link),
        new_prog_fd: raw(&program),
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(|_| ())
}

/// Runs a program of the kind that packets pass, once, with a packet of zeros.
pub fn run_program(program: BorrowedFd<'_>) -> io::Result<()> {
    // The least that an Ethernet frame has.
    let frame = [0_u8; 60];
    let mut attr = TestRun {
        prog_fd: raw(&program),
        retval: 0,
        data_size_in: frame.len() as u32,
        data_size_out: 0,
        data_in: frame.as_ptr() as u64,
        data_out: 0,
        repeat: 1,
        duration: 0,
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr).map(|_| ())
}

#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// Takes the program from its place, whoever holds the link (5.9).
pub fn link_detach(link: impl AsFd) -> io::Result<()> {
    let mut attr = LinkDetach {
        link_fd: raw(&link),
    };
    bpf(BPF_LINK_DETACH, &mut attr).map(|_| ())
}

pub fn link_info(link: impl AsFd) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attr = InfoByFd {
        bpf_fd: raw(&link),
        info_len: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// How many keys a map has, without a look at its values. At most `max`: a key
/// removed in between makes the kernel start over.
pub fn count_keys(map: BorrowedFd<'_>, key_size: u32, max: u32) -> io::Result<u32> {
    let (mut key, mut next) = (vec![0_u8; key_size as usize], vec![0_u8; key_size as usize]);
    let mut count = 0;
    while count < max {
        let mut attr = GetNextKey {
            map_fd: raw(&map),
            pad: 0,
            key: if count == 0 { 0 } else { key.as_ptr() as u64 },
            next_key: next.as_mut_ptr() as u64,
        };
        match bpf(BPF_MAP_GET_NEXT_KEY, &mut attr) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            result => result?,
        };
        count += 1;
        std::mem::swap(&mut key, &mut next);
    }
    Ok(count)
}

/// What the kernel holds for a map or program, in bytes, if it says so.
pub fn memlock(fd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let value = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(value.and_then(|value| value.trim().parse().ok()))
}

/// Gives the heap's free pages back, those between pages in use too. glibc by
/// itself gives back only what is free at an end: what a list of tens of
/// thousands of objects took would stay ours.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and touches nothing in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

pub fn page_size() -> usize {
    // SAFETY: the call has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // Linux always knows it.
    usize::try_from(size).unwrap_or(4096)
}

/// The clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Goes on while the machine sleeps.
pub fn boottime_ns() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes the one structure during the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn raw(fd: &impl AsFd) -> u32 {
    // Descriptors are never negative.
    fd.as_fd().as_raw_fd().unsigned_abs()
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the command's part of union bpf_attr with its true
    // size; pointers inside it are alive in the callers' frames.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Sends whole frames (packet(7)).
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PacketSocket {
    /// In the calling thread's network namespace. Receives nothing.
    pub fn open() -> io::Result<Self> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        Ok(Self(socket))
    }

    /// Receives the frames of one protocol that come by one interface.
    pub fn listen(protocol: u16, interface: u32) -> io::Result<Self> {
        let socket = Self::open()?;
        let at = place(protocol.to_be_bytes(), interface);
        // SAFETY: the kernel reads the address, with its true length, during the call.
        let bound = unsafe {
            libc::bind(
                socket.0.as_raw_fd(),
                (&raw const at).cast(),
                size_of_val(&at) as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }

    /// A frame with its Ethernet header; as much as fits. Never waits.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        use nix::sys::socket::{MsgFlags, recv};
        Ok(recv(self.0.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT)?)
    }

    /// `frame` begins with its Ethernet header. Never waits.
    pub fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        let protocol = frame
            .get(12..14)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let to = place(protocol, interface);
        // SAFETY: the kernel reads the frame and the address, each with its
        // true length, during the call.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of_val(&to) as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// A protocol, in network order, at an interface.
fn place(protocol: [u8; 2], interface: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: u16::from_ne_bytes(protocol),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
