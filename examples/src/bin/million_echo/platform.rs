//! What the load needs of the system beyond plain sockets, one version a system: [`die_with_parent`],
//! [`nonblocking_socket`] and [`choose_port_at_connect`].
//!
//! Linux has all of it. Elsewhere the program compiles, and says at the start that it needs Linux: the limits and memory
//! figures come from /proc, and the source addresses from all of 127.0.0.0/8 being local.

#[cfg(target_os = "linux")]
pub(crate) use linux::{choose_port_at_connect, die_with_parent, nonblocking_socket};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{choose_port_at_connect, die_with_parent, nonblocking_socket};

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::AsRawFd;

    use rustix::process::{Signal, set_parent_process_death_signal};
    use socket2::{Domain, Socket, Type};

    /// In a child: the kernel ends it when the main process dies, even by SIGKILL.
    pub(crate) fn die_with_parent() -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    }

    /// A TCP socket that does not block, in one call.
    pub(crate) fn nonblocking_socket() -> io::Result<Socket> {
        Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)
    }

    /// Lets the kernel choose the port at `connect`, when it knows the target: then only (source, target) pairs must
    /// differ. A port chosen at `bind` would have to be free for all targets at once.
    pub(crate) fn choose_port_at_connect(socket: &Socket) -> io::Result<()> {
        let on: libc::c_int = 1;
        // SAFETY: validity: the descriptor is open, and the pointer and length describe `on`, which outlives the call.
        //         aliasing: the kernel only reads it.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::io;

    use socket2::{Domain, Socket, Type};

    /// Nothing but the pipe on standard input ends a child here.
    pub(crate) fn die_with_parent() -> io::Result<()> {
        Ok(())
    }

    /// A TCP socket that does not block.
    pub(crate) fn nonblocking_socket() -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// The port is chosen at `bind`, and has to be free for all targets.
    pub(crate) fn choose_port_at_connect(_: &Socket) -> io::Result<()> {
        Ok(())
    }
}
