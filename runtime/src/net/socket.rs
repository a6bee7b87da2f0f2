//! The system calls that std has no nonblocking form of: accept and connect without a second call to set the flag.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: libc::c_int = 65_535;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Lets as many connections wait as the system allows; std asks for 128.
pub(super) fn widen_backlog(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: validity: the descriptor is open, borrowed from the listener. aliasing: no memory is passed.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) }).map(drop)
}

/// `accept4(2)` with the flags set at once.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub(super) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let mut storage = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: validity: the descriptor is open; the storage holds any address and `length` says its size. aliasing:
    // locals.
    let fd = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            storage.as_mut_ptr().cast(),
            &raw mut length,
            flags,
        )
    };
    let fd = check(fd)?;
    // SAFETY: validity: a new descriptor that nobody else owns.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: validity: zeroed, so initialised whatever the kernel wrote.
    Ok((stream, to_std(unsafe { storage.assume_init_ref() })?))
}

/// std's accept, and a second call for the flag.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub(super) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, address) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((stream, address))
}

/// Begins to connect; the stream becomes writable when that has come to an end.
pub(super) fn start_connect(address: &SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let stream = new_stream(family)?;
    let (storage, length) = from_std(address);
    // SAFETY: validity: the descriptor is open, the address is `length` bytes of `storage`. aliasing: a local.
    let result = unsafe { libc::connect(stream.as_raw_fd(), (&raw const storage).cast(), length) };
    match check(result) {
        Ok(_) => Ok(stream),
        Err(error) => match error.raw_os_error() {
            // EINTR: the attempt goes on in the background, as POSIX says.
            Some(libc::EINPROGRESS | libc::EINTR) => Ok(stream),
            _ => Err(error),
        },
    }
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn new_stream(family: libc::c_int) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: validity: no memory is passed. aliasing: none.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: validity: a new descriptor that nobody else owns.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn new_stream(family: libc::c_int) -> io::Result<TcpStream> {
    // SAFETY: validity: no memory is passed. aliasing: none.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })?;
    // SAFETY: validity: a new descriptor that nobody else owns.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: validity: the descriptor is open. aliasing: no memory is passed.
    check(unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn to_std(storage: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    let place = std::ptr::from_ref(storage);
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: validity: the family says that a sockaddr_in lies there, and storage is aligned for it.
            // aliasing: shared borrow.
            let v4 = unsafe { &*place.cast::<libc::sockaddr_in>() };
            let ip = std::net::Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Ok(SocketAddr::V4(std::net::SocketAddrV4::new(
                ip,
                u16::from_be(v4.sin_port),
            )))
        }
        libc::AF_INET6 => {
            // SAFETY: validity: the family says that a sockaddr_in6 lies there, and storage is aligned for it.
            // aliasing: shared borrow.
            let v6 = unsafe { &*place.cast::<libc::sockaddr_in6>() };
            let ip = std::net::Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Ok(SocketAddr::V6(std::net::SocketAddrV6::new(
                ip,
                port,
                v6.sin6_flowinfo,
                v6.sin6_scope_id,
            )))
        }
        family => Err(io::Error::other(format!(
            "a peer of address family {family} on a TCP socket"
        ))),
    }
}

fn from_std(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: validity: all zeroes is a storage of unspecified family. aliasing: a value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let place = &raw mut storage;
    let length = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: validity: all zeroes is a valid sockaddr_in. aliasing: a value.
            let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            // SAFETY: validity: storage holds and aligns any address. aliasing: a local.
            unsafe { place.cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: validity: all zeroes is a valid sockaddr_in6. aliasing: a value.
            let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_flowinfo = v6.flowinfo();
            raw.sin6_scope_id = v6.scope_id();
            // SAFETY: validity: storage holds and aligns any address. aliasing: a local.
            unsafe { place.cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}
